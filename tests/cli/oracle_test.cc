// ckpt oracle from outside: what it prints, exit codes, wrong command lines, Ctrl-C.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

class OracleCommand : public Commands {
 protected:
  OracleCommand() {
    Write("differs.textproto",
          "machine { semantics: 'hole_punch_cow=zapped' }\n"
          "file { name: 'f' size: '8k' }\n"
          "step { map { region: 'r' addr: '0x10000000' file: 'f' fixed: true } }\n"
          "step { store { region: 'r' length: '4' fill { byte: 65 } } }\n"
          "step { punch_hole { file: 'f' length: '4k' } }\n");
    Write("known.textproto",
          "step { map { region: 'r' addr: '0x10000000' length: '8k' fixed: true } }\n"
          "step { mlock { addr: '0x10000000' length: '16k' } expect { outcome: 'ENOMEM' } }\n");
  }
};

TEST_F(OracleCommand, AWorkloadAgrees) {
  const Outcome outcome = Ckpt({"oracle", "small.textproto"});
  EXPECT_TRUE(Good(outcome));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_TRUE(outcome.out.starts_with("small.textproto: the model and the kernel agree: ")) << outcome;
  EXPECT_TRUE(Good(Ckpt({"oracle", "-q", "small.textproto", "small.textproto"})));
  EXPECT_EQ(Ckpt({"oracle", "-q", "small.textproto"}).out, "");
}

TEST_F(OracleCommand, ADifferenceShowsBothSides) {
  const Outcome outcome = Ckpt({"oracle", "small.textproto", "differs.textproto"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.out.find("differs.textproto:5: step punch_hole: process 1: page 0x10000000\n"
                             "  the model:\n    at 0x10000000: 00 00 00 00 00 00 00 00\n"
                             "  the kernel:\n    at 0x10000000: 41 41 41 41 00 00 00 00\n"),
            std::string::npos)
      << outcome;
  const auto json = ParseJson(Ckpt({"oracle", "--json", "small.textproto", "differs.textproto"}).out);
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[0]["agrees"], true);
  EXPECT_EQ(json[1]["agrees"], false);
  EXPECT_EQ(json[1]["difference"]["what"], "process 1: page 0x10000000");
}

TEST_F(OracleCommand, AKnownDifferenceIsANotice) {
  const Outcome outcome = Ckpt({"oracle", "known.textproto"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_NE(
      outcome.err.find("ckpt: notice: known.textproto:2: step mlock: known difference mlock_over_a_hole ("),
      std::string::npos)
      << outcome;
  EXPECT_EQ(ParseJson(Ckpt({"oracle", "--json", "known.textproto"}).out)[0]["known_difference"],
            "mlock_over_a_hole");
}

TEST_F(OracleCommand, RandomSteps) {
  const Outcome outcome = Ckpt({"oracle", "--random", "1000", "--seed", "3"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_TRUE(outcome.out.starts_with("seed 3: 1000 random steps in ")) << outcome;
  const auto json = ParseJson(Ckpt({"oracle", "--random", "500", "--json"}).out);
  EXPECT_EQ(json[0]["steps"], 500);
  EXPECT_TRUE(json[0]["seed"].is_number());
  EXPECT_EQ(Names(), Commands::Names()) << "nothing is left where there is nothing to show";
}

TEST_F(OracleCommand, WithSwap) {
  const Outcome outcome = Ckpt({"oracle", "--swap", "--random", "2000", "--seed", "4"});
  if (outcome.err.find("by root") != std::string::npos || outcome.err.find("no zram") != std::string::npos)
    GTEST_SKIP() << "this machine gives no swap: " << outcome.err;
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

// Nothing of it needs a privilege.
TEST_F(OracleCommand, NeedsNoRoot) {
  if (geteuid() != 0) GTEST_SKIP() << "all of these tests run without root already";
  const Outcome outcome =
      Execute({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
               "--bounding-set=-all", CKPT_PROGRAM, "oracle", "--random", "1000", "--save", "/nowhere"},
              {});
  // The folder of the build may not be theirs to read; then there is nothing to see.
  if (outcome.err.find("setpriv: ") != std::string::npos) GTEST_SKIP() << outcome.err;
  EXPECT_NE(outcome.err.find("--save '/nowhere'"), std::string::npos) << outcome;
  const Outcome runs = Execute({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                "--inh-caps=-all", "--bounding-set=-all", CKPT_PROGRAM, "oracle", "--random",
                                "1000", "--save", "/tmp/ckpt-oracle-differs.textproto"},
                               {});
  EXPECT_EQ(runs.exit_code, 0) << runs;
  // Who may lock nearly nothing is told so, and not that the model is wrong.
  const Outcome locks =
      Execute({"prlimit", "--memlock=65536:65536", "setpriv", "--reuid=65534", "--regid=65534",
               "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", CKPT_PROGRAM, "oracle", "--random",
               "5000", "--seed", "1", "--save", "/tmp/ckpt-oracle-differs.textproto"},
              {});
  EXPECT_EQ(locks.exit_code, 2) << locks;
  EXPECT_NE(locks.err.find("RLIMIT_MEMLOCK is 64.0 KiB"), std::string::npos) << locks;
}

TEST_F(OracleCommand, WrongCommandLines) {
  EXPECT_TRUE(Refused(Ckpt({"oracle"}), 2, "nothing to compare"));
  EXPECT_TRUE(Refused(Ckpt({"oracle", "--random", "10", "small.textproto"}), 2, "give one of them"));
  EXPECT_TRUE(Refused(Ckpt({"oracle", "--seed", "1", "small.textproto"}), 2, "go with --random"));
  EXPECT_TRUE(Refused(Ckpt({"oracle", "--random", "0"}), 2, "--random"));
  EXPECT_TRUE(Refused(Ckpt({"oracle", "--random", "x"}), 2, "--random"));
  EXPECT_TRUE(Refused(Ckpt({"oracle", "missing.textproto"}), 2, "missing.textproto"));
  EXPECT_TRUE(Refused(Ckpt({"oracle", "."}), 2, "directory"));
  EXPECT_TRUE(Refused(Ckpt({"oracle", "--scratch", "/nowhere", "differs.textproto"}), 2, "/nowhere"));
  EXPECT_TRUE(Refused(Ckpt({"oracle", "--random", "10", "--save", "/nowhere/x"}), 2, "--save '/nowhere/x'"));
  Write("image", "CKPTIMG");
  EXPECT_EQ(Ckpt({"oracle", "image"}).exit_code, 2);
  Write("empty.textproto", "");
  EXPECT_TRUE(Refused(Ckpt({"oracle", "empty.textproto"}), 2, "without steps"));
  Write("unmet.textproto", "step { map { region: 'r' length: '4k' } expect { outcome: 'EINVAL' } }\n");
  EXPECT_TRUE(Refused(Ckpt({"oracle", "unmet.textproto"}), 1, "expected EINVAL, got ok"));
}

TEST_F(OracleCommand, CtrlCEndsRandomSteps) {
  Process process({CKPT_PROGRAM, "oracle", "--minutes", "10", "--seed", "1"}, {.folder = Path("")});
  ASSERT_TRUE(process.WaitUntilItCatches(SIGINT));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  process.Send(SIGINT);
  const Outcome outcome = process.Wait();
  EXPECT_EQ(outcome.signal, SIGINT) << outcome;
  EXPECT_TRUE(OneLine(outcome.err, "interrupted")) << outcome;
  EXPECT_TRUE(outcome.out.starts_with("seed 1: ")) << outcome;
}

// A terminal sends the signal to all that belongs to the command; timeout does too.
TEST_F(OracleCommand, CtrlCAtATerminalIsNoDifference) {
  const Outcome outcome =
      Execute({"timeout", "-s", "INT", "2", CKPT_PROGRAM, "oracle", "--minutes", "10", "--seed", "1"},
              {.folder = Path("")});
  EXPECT_TRUE(OneLine(outcome.err, "interrupted")) << outcome;
  EXPECT_EQ(outcome.out.find("the kernel"), std::string::npos) << outcome;
}

// What came of one workload says nothing of the next.
TEST_F(OracleCommand, EachWorkloadForItself) {
  Write("broken.textproto",
        "file { name: 'f' real: '/nowhere' }\nstep { touch { addr: '0' length: '1' } }\n");
  for (const char* first : {"known.textproto", "differs.textproto"}) {
    const Outcome outcome = Ckpt({"oracle", first, "broken.textproto"});
    EXPECT_EQ(outcome.exit_code, 2) << outcome;
    EXPECT_NE(outcome.err.find("/nowhere"), std::string::npos) << outcome;
  }
}

TEST_F(OracleCommand, CtrlCEndsAWorkload) {
  Write("long.textproto",
        "step { map { region: 'm' length: '1MiB' } }\n"
        "step { repeat { times: 1000000 step { store { region: 'm' } } } }\n");
  Process process({CKPT_PROGRAM, "oracle", "long.textproto"}, {.folder = Path("")});
  ASSERT_TRUE(process.WaitUntilItCatches(SIGTERM));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  process.Send(SIGTERM);
  const Outcome outcome = process.Wait();
  EXPECT_EQ(outcome.signal, SIGTERM) << outcome;
  EXPECT_TRUE(OneLine(outcome.err, "interrupted")) << outcome;
}

}  // namespace
}  // namespace cli_test
