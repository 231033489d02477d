// Runs ckpt as a shell would, and as a hostile one would: with limits, closed or full output, ignored
// signals, and a deadline, so that a command that hangs is a failure and not a stuck test.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace cli_test {

enum class Output {
  kCaptured,
  kClosed,      // as after >&-
  kFull,        // /dev/full
  kBrokenPipe,  // a pipe without a reader
};

struct Options {
  std::filesystem::path folder = {};  // where the command runs; empty: here
  Output out = Output::kCaptured;
  Output err = Output::kCaptured;
  std::vector<std::pair<int, rlim_t>> limits = {};  // RLIMIT_FSIZE and the like
  std::vector<int> ignored = {};                    // signals, as nohup(1) ignores SIGHUP
  std::string input = {};  // standard input: a pipe that says this, slowly; empty: /dev/null
  std::string path = {};   // put in front of $PATH
};

struct Outcome {
  int exit_code = -1;  // -1: it ended by `signal`
  int signal = 0;
  bool hung = false;  // killed at the deadline
  std::string out;
  std::string err;
};

// For the messages of a failed test.
std::ostream& operator<<(std::ostream& stream, const Outcome& outcome);

class Process {
 public:
  explicit Process(const std::vector<std::string>& argv, const Options& options = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Requires: Wait was not called.
  void Send(int signal) const;
  // Whether it still runs. What it printed is kept for Wait.
  bool Running();
  // Waits until it has a handler for the signal: a machine that is busy takes its time with a start. False if
  // it ends before.
  bool WaitUntilItCatches(int signal);
  Outcome Wait();

 private:
  // Takes what is there to read; false once both outputs are at their end.
  bool Drain(int timeout_ms);

  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  int status_ = 0;
  bool reaped_ = false;
  Outcome outcome_;
};

Outcome Execute(const std::vector<std::string>& argv, const Options& options = {});
// With the program in front of `args`.
Outcome Ckpt(std::vector<std::string> args, const Options& options = {});
std::vector<std::string> CkptArgv(std::vector<std::string> args);

}  // namespace cli_test
