#include "proto/temporary.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

namespace image {
namespace {

constexpr std::string_view kMark = ".ckpt-";
constexpr std::string_view kPattern = "XXXXXX";
constexpr size_t kNameBytesMax = 200;  // of NAME in a temporary name: the whole is below NAME_MAX
constexpr int kAttempts = 100;

std::string Prefix(const std::string& name) {
  return "." + name.substr(0, kNameBytesMax) + std::string(kMark);
}

bool IsRandomPart(std::string_view text) {
  return text.size() == kPattern.size() && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
         });
}

bool IsOurs(const struct stat& status) {
  return S_ISREG(status.st_mode) && status.st_uid == geteuid() && (status.st_mode & 077) == 0;
}

// T2.
void RemoveIfStray(FileCalls& calls, const std::string& path) {
  struct stat named;
  if (lstat(path.c_str(), &named) != 0 || !IsOurs(named)) return;
  // NFS wants a file that is open for writing under an exclusive lock.
  const int fd = calls.Open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
  if (fd < 0) return;
  struct stat locked;
  if (calls.Lock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &locked) == 0 && lstat(path.c_str(), &named) == 0 &&
      IsOurs(locked) && named.st_ino == locked.st_ino && named.st_dev == locked.st_dev) {
    calls.Unlink(path.c_str());
  }
  calls.Close(fd);
}

// T1; false where T3 holds. Without waiting: who has the lock of a file that is as new as this removes it.
bool LockNew(FileCalls& calls, int fd) {
  while (calls.Lock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EINTR) return errno != EWOULDBLOCK;
  }
  struct stat status;
  return fstat(fd, &status) != 0 || status.st_nlink > 0;
}

}  // namespace

bool IsTemporaryName(std::string_view name) {
  const size_t mark = name.rfind(kMark);
  return name.starts_with('.') && mark != std::string_view::npos && mark > 0 &&
         IsRandomPart(name.substr(mark + kMark.size()));
}

base::Result<Temporary> MakeTemporary(FileCalls& calls, const std::string& folder, const std::string& name) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Temporary made{.path = folder + "/" + Prefix(name) + std::string(kPattern)};
    made.fd = calls.MakeTemporary(made.path.data());
    if (made.fd < 0) return base::FailErrno(errno, "cannot create a file in %s", folder.c_str());
    if (LockNew(calls, made.fd)) return made;
    calls.Close(made.fd);
  }
  return base::Fail(base::Code::kIo, "cannot create a file in %s: another process removes each at once",
                    folder.c_str());
}

void RemoveStrays(FileCalls& calls, const std::string& folder, const std::string& name) {
  const std::unique_ptr<DIR, int (*)(DIR*)> names(opendir(folder.c_str()), closedir);
  if (names == nullptr) return;
  const std::string prefix = Prefix(name);
  std::vector<std::string> strays;
  while (const dirent* entry = readdir(names.get())) {
    const std::string_view found = entry->d_name;
    if (found.starts_with(prefix) && IsRandomPart(found.substr(prefix.size()))) strays.emplace_back(found);
  }
  for (const std::string& stray : strays) RemoveIfStray(calls, folder + "/" + stray);
}

}  // namespace image
