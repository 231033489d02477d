// The system calls of a file, counted, and made to fail, to write less or to be the last: for tests of what
// each of them leaves behind.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "proto/file_calls.h"

namespace fixture {

class FaultyCalls : public image::FileCalls {
 public:
  struct Call {
    uint64_t number;  // from 1
    std::string name;
  };
  // Before each call is made: 0, or the errno that it fails with. A close that fails closes all the same.
  std::function<int(const Call&)> before = [](const Call&) { return 0; };
  // No write takes more.
  size_t write_max = ~size_t{0};

  const std::vector<std::string>& names() const { return names_; }
  uint64_t count() const { return names_.size(); }

  // The power stops: what was written and never synced is lost, though its name may have reached the disk.
  [[noreturn]] void PowerOff(int exit_code) const {
    for (const auto& [fd, synced] : written_) {
      if (!synced && ftruncate(fd, 0) != 0) _exit(1);
    }
    _exit(exit_code);
  }

  int Open(const char* path, int flags, mode_t mode) override {
    return Fails("open") ? -1 : FileCalls::Open(path, flags, mode);
  }
  int MakeTemporary(char* pattern) override {
    return Fails("mkostemp") ? -1 : FileCalls::MakeTemporary(pattern);
  }
  int Lock(int fd, int operation) override { return Fails("flock") ? -1 : FileCalls::Lock(fd, operation); }
  ssize_t Write(int fd, const char* bytes, size_t count) override {
    if (Fails("write")) return -1;
    written_[fd] = false;
    return FileCalls::Write(fd, bytes, std::min(count, write_max));
  }
  int Sync(int fd) override {
    if (Fails("fsync")) return -1;
    if (written_.contains(fd)) written_[fd] = true;
    return FileCalls::Sync(fd);
  }
  int Duplicate(int fd) override {
    if (Fails("dup")) return -1;
    const int other = FileCalls::Duplicate(fd);
    if (written_.contains(fd)) written_[other] = written_[fd];
    return other;
  }
  int Close(int fd) override {
    const bool fails = Fails("close");
    const int error = errno;
    written_.erase(fd);
    const int result = FileCalls::Close(fd);
    if (!fails) return result;
    errno = error;
    return -1;
  }
  int Rename(const char* from, const char* to) override {
    return Fails("rename") ? -1 : FileCalls::Rename(from, to);
  }
  int Unlink(const char* path) override { return Fails("unlink") ? -1 : FileCalls::Unlink(path); }

 private:
  bool Fails(const char* name) {
    names_.emplace_back(name);
    const int error = before({count(), name});
    errno = error;
    return error != 0;
  }

  std::vector<std::string> names_;
  std::map<int, bool> written_;  // Open descriptors that were written to, and whether all of it was synced.
};

}  // namespace fixture
