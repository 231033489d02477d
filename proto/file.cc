#include "proto/file.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <utility>

#include "base/check.h"
#include "base/fd.h"
#include "base/file_kind.h"
#include "proto/format.h"
#include "proto/spool.h"
#include "proto/temporary.h"

namespace image {
namespace {

using base::Code;
using base::Fail;
using base::FailErrno;

base::Result<std::string> CheckRegular(const std::string& path, const struct stat& status) {
  if (S_ISREG(status.st_mode)) return path;
  return Fail(Code::kInvalid, "%s: cannot create: it is %s; expected a new name or a regular file",
              path.c_str(), base::FileKindName(status.st_mode));
}

constexpr int kStandardInput = 0;
constexpr int kStandardOutput = 1;
constexpr int kPollMs = 100;

// Where a file called `path` really is: a symbolic link is followed, a new name stays as it is.
base::Result<std::string> Resolve(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return path;
    return FailErrno(errno, "%s: cannot create", path.c_str());
  }
  if (S_ISLNK(status.st_mode)) {
    // /dev/stdout may lead to a pipe, which has no path to follow.
    if (stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) return CheckRegular(path, status);
    char* real = realpath(path.c_str(), nullptr);
    if (real == nullptr) return FailErrno(errno, "%s: cannot follow this symbolic link", path.c_str());
    std::string resolved(real);
    free(real);
    return Resolve(resolved);
  }
  return CheckRegular(path, status);
}

}  // namespace

// A file that is not there yet, with the place where it goes.
base::Result<std::unique_ptr<OutputFile>> OutputFile::Place(const std::string& path) {
  if (path.empty()) return Fail(Code::kInvalid, "cannot create an image without a name");
  std::unique_ptr<OutputFile> file(new OutputFile);
  file->shown_ = path;
  file->path_ = TRY(Resolve(path));
  const size_t slash = file->path_.rfind('/');
  file->name_ = slash == std::string::npos ? file->path_ : file->path_.substr(slash + 1);
  file->folder_ = slash == std::string::npos ? "." : slash == 0 ? "/" : file->path_.substr(0, slash);
  if (file->name_.empty() || file->name_.size() > NAME_MAX) {
    return Fail(Code::kInvalid, "%s: cannot create: not the name of a file", path.c_str());
  }
  if (IsTemporaryName(file->name_)) {
    return Fail(Code::kInvalid, "%s: cannot create: temporary files have such names; name another file",
                path.c_str());
  }
  return file;
}

base::Result<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path) {
  std::unique_ptr<OutputFile> file = TRY(Place(path));
  // First: a disk that a killed writer has filled has room again.
  RemoveStrays(file->calls_, file->folder_, file->name_);
  auto temporary = MakeTemporary(file->calls_, file->folder_, file->name_);
  if (!temporary) return std::unexpected(temporary.error().In(path));
  file->fd_ = temporary->fd;
  file->temporary_ = std::move(temporary->path);
  return file;
}

base::Result<void> OutputFile::Check(const std::string& path) {
  const std::unique_ptr<OutputFile> file = TRY(Place(path));
  file->fd_ = file->calls_.Open(file->folder_.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (file->fd_ >= 0) return {};
  (void)TRY(Create(path));  // Not every file system has files without a name.
  return {};
}

base::Result<void> OutputFile::CheckStandardOutput() {
  struct stat status;
  const int mode = fcntl(kStandardOutput, F_GETFL);
  if (mode < 0 || fstat(kStandardOutput, &status) != 0)
    return FailErrno(errno, "standard output: cannot write");
  if ((mode & O_ACCMODE) == O_RDONLY)
    return Fail(Code::kInvalid, "standard output: cannot write: it is not open for writing");
  if (isatty(kStandardOutput) == 0) return {};
  return Fail(Code::kInvalid,
              "standard output: cannot write an image to a terminal: send it to a file or through a pipe");
}

base::Result<std::unique_ptr<OutputFile>> OutputFile::StandardOutput(const std::atomic<bool>* stop) {
  TRY_VOID(CheckStandardOutput());
  std::unique_ptr<OutputFile> file(new OutputFile);
  file->shown_ = "standard output";
  file->stop_ = stop;
  struct stat status;
  file->waits_ = fstat(kStandardOutput, &status) == 0 && !S_ISREG(status.st_mode);
  file->fd_ = file->calls_.Duplicate(kStandardOutput);
  if (file->fd_ < 0) return FailErrno(errno, "standard output: cannot write");
  return file;
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) calls_.Unlink(temporary_.c_str());  // T1: before the lock goes.
  if (fd_ >= 0) calls_.Close(fd_);
}

// Until a pipe has room for PIPE_BUF bytes, or is broken.
base::Result<void> OutputFile::WaitForReader() const {
  for (;;) {
    if (stop_ != nullptr && stop_->load()) return Fail(Code::kInterrupted, "%s: interrupted", shown_.c_str());
    pollfd reader = {.fd = fd_, .events = POLLOUT, .revents = 0};
    const int ready = poll(&reader, 1, kPollMs);
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return FailErrno(errno, "%s: cannot wait for room", shown_.c_str());
  }
}

base::Result<void> OutputFile::Append(std::string_view bytes) {
  while (!bytes.empty()) {
    // As much as never waits in the write itself, where nobody polls `stop_`.
    if (waits_) TRY_VOID(WaitForReader());
    const ssize_t count =
        calls_.Write(fd_, bytes.data(), std::min<size_t>(bytes.size(), waits_ ? PIPE_BUF : ~size_t{0}));
    if (count < 0) {
      if (errno == EINTR || (waits_ && errno == EAGAIN)) continue;
      return FailErrno(errno, "%s: cannot write at offset %" PRIu64, shown_.c_str(), offset_);
    }
    if (count == 0) return Fail(Code::kIo, "%s: cannot write at offset %" PRIu64, shown_.c_str(), offset_);
    offset_ += static_cast<uint64_t>(count);
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return {};
}

// 0, or why it failed.
int OutputFile::SyncAll(int fd) {
  while (calls_.Sync(fd) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

base::Result<void> OutputFile::Publish(Sync sync) {
  CHECK(fd_ >= 0);
  const bool is_stream = temporary_.empty();
  if (const int error = sync == Sync::kYes ? SyncAll(fd_) : 0; error != 0) {
    // What standard output goes to may have nothing to sync: a pipe, /dev/null.
    if (!is_stream || (error != EINVAL && error != EROFS))
      return FailErrno(error, "%s: cannot sync", shown_.c_str());
  }
  if (!is_stream) return Rename(sync);
  if (calls_.Close(std::exchange(fd_, -1)) == 0) return {};
  return FailErrno(errno, "%s: cannot close", shown_.c_str());
}

base::Result<void> OutputFile::Rename(Sync sync) {
  // What a network file system could not write it may say when the file is closed. The duplicate keeps the
  // lock.
  const base::Fd lock(calls_.Duplicate(fd_));
  if (!lock.is_open()) return FailErrno(errno, "%s: cannot close", shown_.c_str());
  if (calls_.Close(std::exchange(fd_, -1)) != 0) return FailErrno(errno, "%s: cannot close", shown_.c_str());
  if (calls_.Rename(temporary_.c_str(), path_.c_str()) != 0) {
    return FailErrno(errno, "%s: cannot rename %s to it", shown_.c_str(), temporary_.c_str());
  }
  temporary_.clear();
  return sync == Sync::kYes ? SyncFolder() : base::Result<void>{};
}

base::Result<void> OutputFile::SyncFolder() {
  const base::Fd folder(calls_.Open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  if (!folder.is_open())
    return FailErrno(errno, "%s: written, but cannot open %s to sync it", shown_.c_str(), folder_.c_str());
  const int error = SyncAll(folder.get());
  // Some file systems cannot sync a folder, and say so with EINVAL.
  if (error == 0 || error == EINVAL) return {};
  return FailErrno(error, "%s: written, but cannot sync %s", shown_.c_str(), folder_.c_str());
}

namespace {

base::Result<base::Fd> OpenInput(const std::string& path) {
  if (path == kStandardStream) {
    base::Fd fd(fcntl(kStandardInput, F_DUPFD_CLOEXEC, 0));
    if (!fd.is_open()) return FailErrno(errno, "cannot read");
    return fd;
  }
  // O_NONBLOCK: the writer of a pipe is waited for where a signal ends that.
  base::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (fd.is_open()) return fd;
  const int error = errno;
  struct stat status;
  if (error == ENXIO && stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode))
    return Fail(Code::kInvalid, "it is a socket; expected an image: a regular file or a pipe");
  return FailErrno(error, "cannot open");
}

enum class InputKind { kInPlace, kStream, kNone };

InputKind KindOf(const std::string& path, int fd, mode_t mode) {
  const bool is_standard = path == kStandardStream;
  if (S_ISREG(mode))
    return is_standard && lseek(fd, 0, SEEK_CUR) != 0 ? InputKind::kStream : InputKind::kInPlace;
  return S_ISFIFO(mode) || (is_standard && S_ISSOCK(mode)) ? InputKind::kStream : InputKind::kNone;
}

}  // namespace

std::string InputName(const std::string& path) { return path == kStandardStream ? "standard input" : path; }

base::Result<std::unique_ptr<InputFile>> InputFile::Open(const std::string& path,
                                                         const std::atomic<bool>* stop) {
  auto opened = OpenInput(path);
  if (!opened) return std::unexpected(opened.error());
  base::Fd fd = *std::move(opened);
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return FailErrno(errno, "cannot stat");
  const InputKind kind = KindOf(path, fd.get(), status.st_mode);
  if (kind == InputKind::kNone) {
    return Fail(Code::kInvalid, "it is %s; expected an image: a regular file or a pipe",
                isatty(fd.get()) == 1 ? "a terminal" : base::FileKindName(status.st_mode));
  }
  if (kind == InputKind::kStream) {
    fd = TRY(Spool(fd.get(), stop));
    if (fstat(fd.get(), &status) != 0) return FailErrno(errno, "cannot stat");
  }
  std::unique_ptr<InputFile> file(new InputFile(std::move(fd), static_cast<uint64_t>(status.st_size)));
  file->mtime_ns_ = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  return file;
}

InputFile::~InputFile() = default;

base::Result<void> InputFile::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset) {
    return Fail(Code::kIncomplete, "incomplete: %zu bytes at offset %" PRIu64 " are behind its end",
                out.size(), offset);
  }
  while (!out.empty()) {
    const ssize_t count = pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      return FailErrno(errno, "cannot read at offset %" PRIu64, offset);
    }
    if (count == 0) return Fail(Code::kIncomplete, "incomplete: it became shorter while it was read");
    offset += static_cast<uint64_t>(count);
    out = out.subspan(static_cast<size_t>(count));
  }
  return {};
}

base::Result<std::string> InputFile::ReadAt(uint64_t offset, uint64_t count) const {
  if (offset > size_ || count > size_ - offset) {
    return Fail(Code::kIncomplete, "incomplete: %" PRIu64 " bytes at offset %" PRIu64 " are behind its end",
                count, offset);
  }
  std::string bytes(count, '\0');
  TRY_VOID(ReadAt(offset, std::as_writable_bytes(std::span(bytes))));
  return bytes;
}

bool IsImageFile(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  const auto file = InputFile::Open(path);
  return file && (*file)->size() >= kSkippableHeaderBytes + kEnvelopeMagic.size() && (*file)->ReadEnds();
}

base::Result<InputFile::Ends> InputFile::ReadEnds() const {
  const uint64_t tail_bytes = std::min<uint64_t>(size_, kFooterBytes);
  Ends ends{.head = TRY(ReadAt(0, std::min<uint64_t>(size_, kEnvelopeBytesMax))),
            .tail = TRY(ReadAt(size_ - tail_bytes, tail_bytes))};
  char byte;
  if (size_ == 0 && pread(fd_.get(), &byte, 1, 0) != 0) {
    return Fail(Code::kInvalid, "not a ckpt image (a file without a size, as those of /proc are)");
  }
  if (IsImage(ends.head, ends.tail)) return ends;
  return Fail(Code::kInvalid, "not a ckpt image (no \"CKPTIMG\" at its start)");
}

}  // namespace image
