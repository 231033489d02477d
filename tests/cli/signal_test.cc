// Ctrl-C and its like: the command ends by the signal, soon, and leaves nothing half-written.
#include <gtest/gtest.h>

#include <csignal>
#include <ctime>

#include <chrono>
#include <thread>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;
using std::chrono::milliseconds;

class Signals : public Commands {
 protected:
  Signals() {
    Write("steps.textproto",
          "step { map { region: \"m\" length: \"64MiB\" } }\n"
          "step { repeat { times: 1000000 step { store { region: \"m\" } } } }\n"
          "step { checkpoint { label: \"base\" } }\n");
    Write("step.textproto",
          "step { map { region: \"m\" length: \"64MiB\" } }\n"
          "step { store { region: \"m\" stride: \"64\" pattern { random { count: 4000000000 } } } }\n"
          "step { checkpoint { label: \"base\" } }\n");
    Write("dump.textproto",
          "step { map { region: \"m\" length: \"48MiB\" } }\n"
          "step { store { region: \"m\" fill { text {} } } }\n"
          "step { checkpoint { label: \"base\" } }\n");
    Write("old.img", "old");
  }

  bool Dumping() const {
    for (const std::string& name : Names()) {
      if (name.find(".ckpt-") != std::string::npos) return true;
    }
    return false;
  }

  // Sends the signal, and checks how the command ends.
  void EndsBy(Process& process, int signal, const std::string& says = "interrupted",
              milliseconds within = milliseconds(10'000)) const {
    const auto sent = std::chrono::steady_clock::now();
    process.Send(signal);
    const Outcome outcome = process.Wait();
    EXPECT_LT(std::chrono::steady_clock::now() - sent, within);
    EXPECT_EQ(outcome.signal, signal) << outcome;
    EXPECT_TRUE(OneLine(outcome.err, says));
    EXPECT_FALSE(Dumping()) << "a temporary file is left";
    EXPECT_EQ(Read("old.img"), "old");
  }

  const Options here_ = {.folder = Path("")};
  const int signals_[3] = {SIGINT, SIGTERM, SIGHUP};
};

TEST_F(Signals, WhileStepsRun) {
  for (const char* workload : {"steps.textproto", "step.textproto"}) {
    for (const int signal : signals_) {
      Process process(CkptArgv({"run", workload, "-o", "old.img"}), here_);
      ASSERT_TRUE(process.WaitUntilItCatches(signal));
      std::this_thread::sleep_for(milliseconds(200));
      ASSERT_TRUE(process.Running());
      EndsBy(process, signal, workload);
    }
  }
}

TEST_F(Signals, WhileAnImageIsWritten) {
  for (const int signal : signals_) {
    Process process(
        CkptArgv({"run", "dump.textproto", "-o", "old.img", "--compress", "zstd:19", "--threads", "1"}),
        here_);
    while (!Dumping() && process.Running()) std::this_thread::sleep_for(milliseconds(1));
    ASSERT_TRUE(process.Running());
    EndsBy(process, signal);
  }
}

// Each thread has a chunk under way, of which one alone takes half a second at this level, and others wait.
TEST_F(Signals, WhileAllThreadsCompress) {
  Process process(
      CkptArgv({"run", "dump.textproto", "-o", "old.img", "--compress", "zstd:19", "--threads", "12"}),
      here_);
  while (!Dumping() && process.Running()) std::this_thread::sleep_for(milliseconds(1));
  std::this_thread::sleep_for(milliseconds(300));
  ASSERT_TRUE(process.Running());
  EndsBy(process, SIGINT, "interrupted", milliseconds(2500));
}

// The second one does not wait for anything, and takes the temporary file along as well.
TEST_F(Signals, Twice) {
  Process process(
      CkptArgv({"run", "dump.textproto", "-o", "old.img", "--compress", "zstd:19", "--threads", "1"}), here_);
  while (!Dumping() && process.Running()) std::this_thread::sleep_for(milliseconds(1));
  ASSERT_TRUE(process.Running());
  process.Send(SIGINT);
  std::this_thread::sleep_for(std::chrono::microseconds(500));
  process.Send(SIGINT);
  const Outcome outcome = process.Wait();
  EXPECT_TRUE(outcome.signal == SIGINT || outcome.exit_code == 130) << outcome;
  EXPECT_FALSE(Dumping()) << "a temporary file is left";
  EXPECT_EQ(Read("old.img"), "old");
}

TEST_F(Signals, WhileImagesAreRead) {
  Image("big.img", "base", "dump.textproto");
  Args verify = {"verify", "-q"};
  verify.resize(300, "big.img");
  for (const Args& line : {verify, Args{"diff", "big.img", "step.textproto@base"}}) {
    Process process(CkptArgv(line), here_);
    ASSERT_TRUE(process.WaitUntilItCatches(SIGINT)) << line.front();
    std::this_thread::sleep_for(milliseconds(200));
    ASSERT_TRUE(process.Running()) << line.front();
    EndsBy(process, SIGINT);
  }
}

// nohup(1) and a shell's background jobs: a signal that is ignored at the start stays ignored.
TEST_F(Signals, IgnoredOnesStayIgnored) {
  for (const int signal : signals_) {
    Options options = here_;
    options.ignored = {signal};
    Process process(CkptArgv({"run", "dump.textproto", "-q"}), options);
    std::this_thread::sleep_for(milliseconds(30));
    ASSERT_TRUE(process.Running());
    while (process.Running()) {
      process.Send(signal);
      std::this_thread::sleep_for(milliseconds(5));
    }
    EXPECT_TRUE(Good(process.Wait()));
  }
}

}  // namespace
}  // namespace cli_test
