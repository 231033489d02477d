// Where images go, and that a failed one leaves nothing behind.
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;

class Checkpoint : public Commands {
 protected:
  // No temporary file of a dump is left.
  void NothingLeft() const {
    for (const std::string& name : Names()) EXPECT_FALSE(name.find(".ckpt-") != std::string::npos) << name;
  }
};

TEST_F(Checkpoint, OneLabel) {
  const Outcome outcome = Ckpt({"run", "small.textproto", "--at", "base", "-o", "base.img"});
  ASSERT_TRUE(Good(outcome));
  EXPECT_TRUE(outcome.out.starts_with("checkpoint 'base' -> base.img\n")) << outcome;
  struct stat status;
  ASSERT_EQ(stat(Path("base.img").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_EQ(Names(), (Args{"base.img", "small.textproto"}));
}

TEST_F(Checkpoint, EachLabelHasItsImage) {
  ASSERT_TRUE(Good(Ckpt({"run", "small.textproto", "-o", "{label}.img"})));
  EXPECT_EQ(Names(), (Args{"base.img", "later.img", "small.textproto"}));
  ASSERT_TRUE(Good(Ckpt({"run", "small.textproto", "--at", "later", "-o", "one.img"})));
  EXPECT_TRUE(Read("one.img") == Read("later.img"));
}

TEST_F(Checkpoint, EveryLabelMarkIsReplaced) {
  ASSERT_TRUE(Good(Ckpt({"run", "small.textproto", "--at", "base", "-o", "{label}-{label}.img"})));
  EXPECT_EQ(Names(), (Args{"base-base.img", "small.textproto"}));
}

TEST_F(Checkpoint, TheEndIsALabel) {
  ASSERT_TRUE(Good(Ckpt({"run", "small.textproto", "--at", "end", "-o", "end.img"})));
  EXPECT_TRUE(Good(Ckpt({"diff", "end.img", "small.textproto@end"})));
}

TEST_F(Checkpoint, SeveralLabelsNeedAChoice) {
  const Outcome outcome = Ckpt({"run", "small.textproto", "-o", "x.img"});
  EXPECT_TRUE(Refused(outcome, 2, "--at"));
  EXPECT_TRUE(Refused(outcome, 2, "{label}"));
  EXPECT_TRUE(
      Refused(Ckpt({"run", "small.textproto", "--at", "nope", "-o", "x.img"}), 2, "base, later, end"));
  Write("none.textproto", "step { map { region: \"m\" length: \"4KiB\" } }\n");
  EXPECT_TRUE(Refused(Ckpt({"run", "none.textproto", "-o", "x.img"}), 2, "--at end"));
  EXPECT_EQ(Names(), (Args{"none.textproto", "small.textproto"}));
}

TEST_F(Checkpoint, PlacesWhereNoImageCanBe) {
  std::filesystem::create_directory(Path("folder"));
  std::filesystem::create_symlink("nowhere/file", Path("dangling"));
  std::filesystem::create_symlink("loop", Path("loop"));
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  const Args before = Names();
  for (const std::string& place :
       Args{"folder", "folder/", "missing/x.img", "small.textproto/x", "dangling", "loop", "fifo",
            "/dev/null", "/dev/full", "/proc/x", std::string(300, 'x')}) {
    EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--at", "base", "-o", place}), 2, place));
  }
  EXPECT_EQ(Names(), before);
}

// Before the run, whose last step takes longer than any test may, and before the restart says anything.
TEST_F(Checkpoint, PlacesAreLookedAtFirst) {
  Image("base.img");
  Write("slow.textproto",
        "step { map { region: \"m\" length: \"64MiB\" } }\n"
        "step { repeat { times: 1000000 step { store { region: \"m\" } } } }\n"
        "step { checkpoint { label: \"base\" } }\n");
  std::filesystem::create_directory(Path("folder"));
  Write("folder/old", "old");
  const Args before = Names();
  const Args run = {"run", "slow.textproto", "-o"};
  const Args end = {"run", "slow.textproto", "--at", "end", "-o"};
  const Args again = {"restore", "base.img", "-o"};
  const Args resume = {"restore", "base.img", "--resume", "small.textproto", "-o"};
  for (Args line : {run, end, again, resume}) {
    line.emplace_back();
    line.back() = "missing/x.img";
    EXPECT_TRUE(Refused(Ckpt(line), 2, "missing/x.img: cannot create a file in missing: No such file"));
    line.back() = "folder";
    EXPECT_TRUE(Refused(Ckpt(line), 2,
                        "folder: cannot create: it is a directory; expected a new name or a regular file"));
    if (geteuid() == 0) continue;  // root may write anywhere
    std::filesystem::permissions(Path("folder"), std::filesystem::perms::owner_read);
    line.back() = "folder/new";
    EXPECT_TRUE(Refused(Ckpt(line), 2, "folder/new: cannot create a file in folder: Permission denied"));
    std::filesystem::permissions(Path("folder"), std::filesystem::perms::owner_all);
  }
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "-o", "{label}/x.img"}), 2, "base/x.img"));
  EXPECT_EQ(Names(), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(Path("folder")), {}), 1);
}

// The workload would be lost.
TEST_F(Checkpoint, NeverOverTheWorkload) {
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--at", "base", "-o", "small.textproto"}), 2));
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--at", "base", "-o", "./small.textproto"}), 2));
  Image("base.img");
  EXPECT_EQ(Ckpt({"restore", "base.img", "--resume", "small.textproto", "-o", "small.textproto"}).exit_code,
            2);
  EXPECT_TRUE(Read("small.textproto") == kSmall);
}

// The image would take the place of the file, and the report would go where nobody reads it.
TEST_F(Checkpoint, NeverOverItsOwnOutput) {
  Image("base.img");
  const std::string ckpt = CkptArgv({}).front();
  for (const std::string command : {"run small.textproto --at base", "restore base.img"}) {
    for (const char* place : {"/dev/stdout", "/proc/self/fd/1", "log", "./log"}) {
      const Outcome outcome =
          Execute({"sh", "-c", ckpt + " " + command + " -o " + place + " > log"}, {.folder = Path("")});
      EXPECT_TRUE(Refused(outcome, 2, "'" + std::string(place) + "' is where standard output goes"));
      EXPECT_EQ(Read("log"), "");
    }
    const Outcome errors =
        Execute({"sh", "-c", ckpt + " " + command + " -o /dev/stderr 2> log"}, {.folder = Path("")});
    EXPECT_EQ(errors.exit_code, 2) << errors;
    EXPECT_TRUE(OneLine(Read("log"), "'/dev/stderr' is where standard error goes"));
    EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--at", "base", "-o", "/dev/stdout"}), 2,
                        "/dev/stdout: cannot create: it is a pipe; expected a new name or a regular file"));
  }
}

TEST_F(Checkpoint, ASymbolicLinkIsFollowed) {
  std::filesystem::create_directory(Path("folder"));
  Write("folder/real.img", "old");
  std::filesystem::create_symlink("folder/real.img", Path("link.img"));
  Image("link.img");
  EXPECT_TRUE(std::filesystem::is_symlink(Path("link.img")));
  EXPECT_TRUE(Good(Ckpt({"verify", "folder/real.img"})));
}

TEST_F(Checkpoint, AnOldImageIsReplacedWhole) {
  Write("x.img", "old");
  Image("x.img");
  EXPECT_TRUE(Good(Ckpt({"verify", "x.img"})));
  Image("y.img");
  EXPECT_TRUE(Read("x.img") == Read("y.img"));
}

// As a full disk does: the write fails in the middle.
TEST_F(Checkpoint, AFailedWriteLeavesTheOldImage) {
  Write("big.textproto",
        "step { map { region: \"m\" length: \"1MiB\" } }\nstep { store { region: \"m\" } }\n"
        "step { checkpoint { label: \"base\" } }\n");
  Image("whole.img", "base", "big.textproto");
  Write("x.img", "old");
  const Args before = Names();
  const size_t size = Read("whole.img").size();
  for (const rlim_t limit : {size_t{0}, size_t{1}, size_t{44}, size_t{4096}, size_t{500'000}, size - 1}) {
    const Options limited = {.limits = {{RLIMIT_FSIZE, limit}}};
    EXPECT_TRUE(Refused(Ckpt({"run", "big.textproto", "-o", "x.img"}, limited), 2, "x.img")) << limit;
    EXPECT_TRUE(Refused(Ckpt({"run", "big.textproto", "--json", "-o", "new.img"}, limited), 2, "new.img"))
        << limit;
    const Outcome again = Ckpt({"restore", "whole.img", "-q", "-o", "x.img"}, limited);
    EXPECT_TRUE(Refused(again, 2, "x.img")) << limit;
    EXPECT_EQ(Names(), before) << limit;
    EXPECT_EQ(Read("x.img"), "old");
  }
  EXPECT_TRUE(Good(Ckpt({"run", "big.textproto", "-o", "x.img"}, {.limits = {{RLIMIT_FSIZE, size}}})));
}

TEST_F(Checkpoint, TheBytesDoNotDependOnTheThreads) {
  std::string first;
  for (const char* compress : {"zstd", "zstd:5", "none"}) {
    for (const char* threads : {"1", "2", "4", "0", "12"}) {
      ASSERT_TRUE(Good(Ckpt({"run", CKPT_SOURCE_DIR "/workload/examples/forkstorm.textproto", "--no-sync",
                             "--threads", threads, "--compress", compress, "-o", "x.img"})));
      if (first.empty()) first = Read("x.img");
      EXPECT_TRUE(Read("x.img") == first) << threads;
    }
    first.clear();
  }
  NothingLeft();
}

TEST_F(Checkpoint, Json) {
  const Outcome outcome = Ckpt({"run", "small.textproto", "--json", "-o", "{label}.img"});
  ASSERT_TRUE(Good(outcome));
  const nlohmann::json json = ParseJson(outcome.out);
  EXPECT_EQ(json["workload"], "small.textproto");
  EXPECT_EQ(json["steps"], 11);
  EXPECT_EQ(json["finished"], true);
  ASSERT_EQ(json["checkpoints"].size(), 2u);
  const nlohmann::json& base = json["checkpoints"][0];
  EXPECT_EQ(base["label"], "base");
  EXPECT_EQ(base["image"], "base.img");
  EXPECT_THAT(base["digest"].get<std::string>(), testing::MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(base["bytes"], Read("base.img").size());
  // m and a, in two processes: m's last page and three of a are one page in both.
  EXPECT_EQ(base["totals"], (nlohmann::json{{"mapped", 64},
                                            {"present", 10},
                                            {"clean", 0},
                                            {"zero", 0},
                                            {"modified", 10},
                                            {"shared", 4},
                                            {"stored", 6},
                                            {"zero_filled", 0},
                                            {"repeated", 0},
                                            {"in_parent", 0},
                                            {"disk", 0}}));
}

}  // namespace
}  // namespace cli_test
