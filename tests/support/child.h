// Runs a test's code in a child of its own: what ends there by _exit or a signal, and what it mounts or
// limits, is the child's alone.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "base/check.h"

namespace support {

// A child that runs `body` and exits with what that returns.
inline pid_t Fork(const std::function<int()>& body) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(body());
  return child;
}

// Its exit code; -1 if it ended by a signal.
inline int WaitFor(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) != child) CHECK(errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

inline int InChild(const std::function<int()>& body) { return WaitFor(Fork(body)); }

}  // namespace support
