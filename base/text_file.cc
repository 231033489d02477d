#include "base/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/units.h"

namespace base {
namespace {

Result<std::string> ReadAll(int fd, const std::string& name, size_t bytes_max) {
  struct stat st;
  if (fstat(fd, &st) != 0) return FailErrno(errno, "read %s", name.c_str());
  if (S_ISDIR(st.st_mode)) {
    return Fail(Code::kIo, "read %s: it is a directory; expected a file", name.c_str());
  }
  // Opening must not wait for the other end of a FIFO; reading from a pipe waits for its writer.
  if (!S_ISREG(st.st_mode)) (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FailErrno(errno, "read %s", name.c_str());
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > bytes_max) {
      return Fail(Code::kTooBig, "read %s: it is larger than %s", name.c_str(),
                  FormatSize(bytes_max).c_str());
    }
  }
}

}  // namespace

Result<std::string> ReadTextFile(const std::string& what, const std::string& path, size_t bytes_max) {
  const std::string name = what + " '" + Printable(path) + "'";
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FailErrno(errno, "open %s", name.c_str());
  Result<std::string> text = ReadAll(fd, name, bytes_max);
  close(fd);
  return text;
}

}  // namespace base
