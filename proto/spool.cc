#include "proto/spool.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proto/file_calls.h"

namespace image {
namespace {

using base::Code;
using base::Fail;
using base::FailErrno;

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr int kPollMs = 100;

struct Place {
  base::Fd fd;
  std::string name;  // for messages
};

base::Result<Place> MakePlace() {
  const char* given = getenv("TMPDIR");
  const std::string folder = given != nullptr && *given != '\0' ? given : "/tmp";
  Place place{.fd = base::Fd(Calls().Open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)),
              .name = "in " + folder + " (TMPDIR can name another folder)"};
  if (place.fd.is_open()) return place;
  place = {.fd = base::Fd(memfd_create("ckpt", MFD_CLOEXEC)), .name = "in memory"};
  if (place.fd.is_open()) return place;
  return FailErrno(errno, "cannot keep what a pipe gives in %s or in memory", folder.c_str());
}

base::Result<void> WaitForBytes(int fd, const std::atomic<bool>* stop) {
  for (;;) {
    if (stop != nullptr && stop->load()) return Fail(Code::kInterrupted, "interrupted");
    pollfd writer = {.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = poll(&writer, 1, kPollMs);
    if (ready > 0) return {};
    if (ready == 0) continue;
    if (errno != EINTR) return FailErrno(errno, "cannot wait for the pipe");
    if (stop == nullptr) return Fail(Code::kInterrupted, "interrupted");
  }
}

base::Result<void> Keep(const Place& place, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = Calls().Write(place.fd.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FailErrno(errno, "cannot keep what the pipe gives %s", place.name.c_str());
    if (count == 0) return Fail(Code::kIo, "cannot keep what the pipe gives %s", place.name.c_str());
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return {};
}

}  // namespace

base::Result<base::Fd> Spool(int fd, const std::atomic<bool>* stop) {
  Place place = TRY(MakePlace());
  std::vector<char> buffer(kBufferBytes);
  for (uint64_t offset = 0;;) {
    TRY_VOID(WaitForBytes(fd, stop));
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count == 0) return std::move(place.fd);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) return FailErrno(errno, "cannot read at offset %" PRIu64, offset);
    TRY_VOID(Keep(place, std::string_view(buffer.data(), static_cast<size_t>(count))));
    offset += static_cast<uint64_t>(count);
  }
}

}  // namespace image
