// A hunt for a planted bug, in a child process: the bug may end in a CHECK of the model where no hunt looks,
// and that counts as found. What the child has to say comes back through a pipe, as plain bytes.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <type_traits>

#include "base/check.h"
#include "mm/planted.h"

namespace planted {

// In the child: where it reports to.
inline int g_report_fd = -1;

// The child's last words; for its handler of SIGABRT, too.
template <class Report>
[[noreturn]] void SendAndExit(const Report& report) {
  static_assert(std::is_trivially_copyable_v<Report>);
  _exit(write(g_report_fd, &report, sizeof report) == sizeof report ? 0 : 2);
}

// What `hunt` reports when it runs in a child with the bug; `on_abort`, which ends in SendAndExit, is its
// handler of SIGABRT. A child that dies without a word (a crash) fails the test: a bug is found by a check,
// not by luck.
template <class Hunt>
auto RunInChild(mm::Bug bug, void (*on_abort)(int), Hunt&& hunt) {
  int fds[2];
  CHECK(pipe(fds) == 0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    close(fds[0]);
    g_report_fd = fds[1];
    std::signal(SIGABRT, on_abort);
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(2);
    mm::g_planted_bug = bug;
    SendAndExit(hunt());
  }
  close(fds[1]);
  decltype(hunt()) report;
  ssize_t got = 0;
  do {
    got = read(fds[0], &report, sizeof report);
  } while (got < 0 && errno == EINTR);
  close(fds[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_EQ(got, static_cast<ssize_t>(sizeof report)) << "the child ended with status " << status;
  return report;
}

}  // namespace planted
