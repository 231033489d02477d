// Images through pipes: "-o -" writes one to standard output.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <csignal>
#include <thread>

#include "base/fd.h"
#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;

class Pipes : public Commands {
 protected:
  // A shell's command line, with "ckpt" in its path.
  Outcome Shell(const std::string& line) const {
    return Execute({"sh", "-c", line},
                   {.folder = Path(""), .path = std::filesystem::path(CKPT_PROGRAM).parent_path()});
  }
  void WriteBig() const {
    Write("big.textproto",
          "step { map { region: \"m\" length: \"2MiB\" } }\n"
          "step { store { region: \"m\" fill { random { seed: 1 } } } }\n"
          "step { checkpoint { label: \"base\" } }\n");
  }
};

TEST_F(Pipes, TheImageIsTheSameBytes) {
  Image("base.img");
  const Outcome run = Ckpt({"run", "small.textproto", "--at", "base", "-o", "-"});
  EXPECT_EQ(run.exit_code, 0) << run;
  EXPECT_TRUE(run.out == Read("base.img"));
  EXPECT_TRUE(run.err.starts_with("checkpoint 'base' -> standard output\npages mapped ")) << run;
  const Outcome quiet = Ckpt({"run", "small.textproto", "--at", "base", "-q", "-o", "-", "--threads", "1"});
  EXPECT_TRUE(Good(quiet));
  EXPECT_TRUE(quiet.out == Read("base.img"));
  EXPECT_EQ(Names(), (Args{"base.img", "small.textproto"}));
}

TEST_F(Pipes, OfARestart) {
  Image("base.img");
  Image("end.img", "end");
  ASSERT_TRUE(Good(Ckpt({"restore", "base.img", "-q", "-o", "again.img"})));
  const Outcome again = Ckpt({"restore", "base.img", "-o", "-"});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_TRUE(again.out == Read("again.img"));
  EXPECT_TRUE(again.err.starts_with("base.img: 2 processes, ")) << again;
  const Outcome resumed = Ckpt({"restore", "base.img", "--resume", "small.textproto", "-q", "-o", "-"});
  EXPECT_TRUE(Good(resumed));
  Write("resumed.img", resumed.out);
  EXPECT_TRUE(Good(Ckpt({"diff", "resumed.img", "end.img"})));
}

// Nothing but the image goes to standard output.
TEST_F(Pipes, WhatElseIsPrintedGoesToStandardError) {
  Image("base.img");
  for (const char* option : {"--text-dump", "--stats", "--validate"}) {
    const Outcome run = Ckpt({"run", "small.textproto", "--at", "base", "-o", "-", option});
    EXPECT_EQ(run.exit_code, 0) << run;
    EXPECT_TRUE(run.out == Read("base.img")) << option;
    EXPECT_NE(run.err, "") << option;
  }
  for (const Args& line : {Args{"run", "small.textproto", "--at", "base"}, Args{"restore", "base.img"}}) {
    Args json = line;
    json.insert(json.end(), {"--json", "-o", "-"});
    EXPECT_TRUE(Refused(Ckpt(json), 2, "-o - writes the image to standard output, and --json prints there"));
  }
  // The next command prints where it did.
  EXPECT_TRUE(Good(Ckpt({"verify", "base.img"})));
}

TEST_F(Pipes, ARedirectedFile) {
  Image("base.img");
  ASSERT_TRUE(Good(Shell("ckpt run small.textproto --at base -q -o - > x.img")));
  EXPECT_TRUE(Read("x.img") == Read("base.img"));
  ASSERT_TRUE(Good(Shell("ckpt run small.textproto --at base -q -o - | cat > y.img")));
  EXPECT_TRUE(Read("y.img") == Read("base.img"));
  EXPECT_TRUE(Good(Shell("ckpt restore base.img -q -o - > /dev/null")));
}

// What the command still reads would be written over.
TEST_F(Pipes, NotIntoWhatIsRead) {
  Image("base.img");
  const std::string image = Read("base.img");
  EXPECT_TRUE(Refused(Shell("ckpt restore base.img -o - 1<> base.img"), 2,
                      "-o -: standard output goes to the image itself"));
  EXPECT_TRUE(Refused(Shell("ckpt restore base.img -o - --resume small.textproto 1<> small.textproto"), 2,
                      "-o -: standard output goes to the workload itself"));
  EXPECT_TRUE(Refused(Shell("ckpt run small.textproto --at base -o - 1<> small.textproto"), 2,
                      "-o -: standard output goes to the workload itself"));
  EXPECT_TRUE(Read("base.img") == image);
  EXPECT_TRUE(Read("small.textproto") == kSmall);
}

TEST_F(Pipes, OneImageIsOne) {
  EXPECT_TRUE(
      Refused(Ckpt({"run", "small.textproto", "-o", "-"}), 2, "has 2 checkpoints: pick one with --at"));
  // A file of that name has a folder in front of it.
  ASSERT_TRUE(Good(Ckpt({"run", "small.textproto", "--at", "base", "-o", "./-"})));
  EXPECT_TRUE(Exists("-"));
}

TEST_F(Pipes, APlaceThatTakesNothingIsOneError) {
  Image("base.img");
  const struct {
    Output out;
    const char* says;
  } outputs[] = {
      {Output::kFull, "standard output: cannot write at offset 0: No space left on device"},
      {Output::kBrokenPipe, "standard output: cannot write at offset 0: Broken pipe"},
      {Output::kClosed, "standard output: cannot write: it is not open for writing"},
  };
  for (const auto& [out, says] : outputs) {
    EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--at", "base", "-o", "-"}, {.out = out}), 2, says));
    const Outcome again = Ckpt({"restore", "base.img", "-q", "-o", "-"}, {.out = out});
    EXPECT_TRUE(Refused(again, 2, says));
  }
  WriteBig();
  const Outcome full = Execute({"sh", "-c", CkptArgv({}).front() + " run big.textproto -o - > cut.img"},
                               {.folder = Path(""), .limits = {{RLIMIT_FSIZE, 500'000}}});
  EXPECT_TRUE(Refused(full, 2, "standard output: cannot write at offset "));
  EXPECT_EQ(Ckpt({"verify", "cut.img"}).exit_code, 1) << "what has arrived is no image";
}

TEST_F(Pipes, AReaderThatGoesAwayIsOneError) {
  WriteBig();
  const Outcome cut =
      Shell("{ ckpt run big.textproto -q -o -; echo $? > status; } | head -c 100000 > cut.img");
  EXPECT_TRUE(OneLine(cut.err, ": Broken pipe"));
  EXPECT_EQ(Read("status"), "2\n");
  EXPECT_TRUE(Refused(Ckpt({"verify", "cut.img"}), 1, "cut.img: incomplete"));
}

TEST_F(Pipes, NoImageOnATerminal) {
  const base::Fd terminal(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(terminal.is_open() && grantpt(terminal.get()) == 0 && unlockpt(terminal.get()) == 0);
  const std::string name = ptsname(terminal.get());
  EXPECT_TRUE(
      Refused(Shell("ckpt run small.textproto --at base -o - > " + name), 2,
              "standard output: cannot write an image to a terminal: send it to a file or through a"));
}

// A reader that does not read: the command waits, and Ctrl-C ends it.
TEST_F(Pipes, ASlowReaderIsWaitedForAndASignalEndsThat) {
  WriteBig();
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  for (const char* threads : {"1", "2"}) {
    const base::Fd reader(open(Path("fifo").c_str(), O_RDWR | O_CLOEXEC));
    Process process(
        {"sh", "-c",
         "exec " + CkptArgv({}).front() + " run big.textproto -o - --threads " + threads + " > fifo"},
        {.folder = Path("")});
    ASSERT_TRUE(process.WaitUntilItCatches(SIGINT));
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    ASSERT_TRUE(process.Running());
    process.Send(SIGINT);
    const Outcome outcome = process.Wait();
    EXPECT_EQ(outcome.signal, SIGINT) << outcome;
    EXPECT_TRUE(OneLine(outcome.err, "interrupted"));
  }
}

}  // namespace
}  // namespace cli_test
