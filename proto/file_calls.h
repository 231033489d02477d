// The system calls by which a file comes to its place, a virtual each, so that a test can have one of them
// fail, write less than it is asked to, or be the last one that is made. Each returns what the system's
// returns, and sets errno.
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace image {

class FileCalls {
 public:
  virtual ~FileCalls() = default;
  virtual int Open(const char* path, int flags, mode_t mode);
  virtual int MakeTemporary(char* pattern);  // mkostemp, with O_CLOEXEC
  virtual int Lock(int fd, int operation);   // flock
  virtual ssize_t Write(int fd, const char* bytes, size_t count);
  virtual int Sync(int fd);       // fsync
  virtual int Duplicate(int fd);  // F_DUPFD_CLOEXEC
  virtual int Close(int fd);
  virtual int Rename(const char* from, const char* to);
  virtual int Unlink(const char* path);
};

// Those that files make: the system's, unless a test has others. A file keeps to those that it was created
// with.
FileCalls& Calls();

// Others, as long as it lives; they must outlive it. For tests, on a thread that has no other beside it.
class ReplacedCalls {
 public:
  explicit ReplacedCalls(FileCalls& calls);
  ~ReplacedCalls();
  ReplacedCalls(const ReplacedCalls&) = delete;
  ReplacedCalls& operator=(const ReplacedCalls&) = delete;

 private:
  FileCalls* before_;
};

}  // namespace image
