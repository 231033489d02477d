#include "proto/file_calls.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <utility>

namespace image {
namespace {

FileCalls g_system;
FileCalls* g_calls = &g_system;

}  // namespace

int FileCalls::Open(const char* path, int flags, mode_t mode) { return open(path, flags, mode); }
int FileCalls::MakeTemporary(char* pattern) { return mkostemp(pattern, O_CLOEXEC); }
int FileCalls::Lock(int fd, int operation) { return flock(fd, operation); }
ssize_t FileCalls::Write(int fd, const char* bytes, size_t count) { return write(fd, bytes, count); }
int FileCalls::Sync(int fd) { return fsync(fd); }
int FileCalls::Duplicate(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 0); }
int FileCalls::Close(int fd) { return close(fd); }
int FileCalls::Rename(const char* from, const char* to) { return rename(from, to); }
int FileCalls::Unlink(const char* path) { return unlink(path); }

FileCalls& Calls() { return *g_calls; }

ReplacedCalls::ReplacedCalls(FileCalls& calls) : before_(std::exchange(g_calls, &calls)) {}
ReplacedCalls::~ReplacedCalls() { g_calls = before_; }

}  // namespace image
