// ckpt restore: the round trip, and what a changed file does to it.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;

class RestoreCommand : public Commands {};

TEST_F(RestoreCommand, RoundTrip) {
  Image("base.img");
  const Outcome outcome = Ckpt({"restore", "base.img", "--validate"});
  EXPECT_TRUE(Good(outcome));
  EXPECT_EQ(outcome.out, "base.img: 2 processes, 6 pages restored\n");
  ASSERT_TRUE(Good(Ckpt({"restore", "base.img", "-o", "again.img"})));
  EXPECT_TRUE(Good(Ckpt({"diff", "again.img", "small.textproto@base"})));
}

TEST_F(RestoreCommand, ResumeEndsAsTheUninterruptedRun) {
  Image("base.img");
  ASSERT_TRUE(
      Good(Ckpt({"restore", "base.img", "--validate", "--resume", "small.textproto", "-o", "end.img"})));
  EXPECT_TRUE(Good(Ckpt({"diff", "end.img", "small.textproto@end"})));
  const Outcome at =
      Ckpt({"restore", "base.img", "--resume", "small.textproto", "--at", "later", "-o", "later.img"});
  ASSERT_TRUE(Good(at));
  EXPECT_TRUE(at.out.find("4 steps resumed") != std::string::npos) << at;
  EXPECT_TRUE(Good(Ckpt({"diff", "later.img", "small.textproto@later"})));
}

TEST_F(RestoreCommand, AnImageCanBeWrittenOverItself) {
  Image("base.img");
  ASSERT_TRUE(Good(Ckpt({"restore", "base.img", "--resume", "small.textproto", "-o", "base.img"})));
  EXPECT_TRUE(Good(Ckpt({"diff", "base.img", "small.textproto@end"})));
}

TEST_F(RestoreCommand, ALabelThatIsBehindUs) {
  Image("later.img", "later");
  for (const char* label : {"base", "later"}) {
    const Outcome outcome =
        Ckpt({"restore", "later.img", "--resume", "small.textproto", "--at", label, "-o", "out.img"});
    EXPECT_TRUE(Refused(outcome, 2, label)) << "exit 0 would say that out.img was written";
  }
  EXPECT_FALSE(Exists("out.img"));
}

TEST_F(RestoreCommand, TheWrongWorkload) {
  Image("base.img");
  std::string other = kSmall;
  other.replace(other.find("0x11"), 4, "0x12");
  Write("other.textproto", other);
  Write("short.textproto", "step { checkpoint { label: \"base\" } }\n");
  for (const char* name : {"other.textproto", "short.textproto"}) {
    EXPECT_TRUE(Refused(Ckpt({"restore", "base.img", "--resume", name, "-o", "out.img"}), 2, name))
        << "nothing was restored";
  }
  // What comes after the checkpoint may differ.
  std::string tail = kSmall;
  tail.replace(tail.find("text {}"), 7, "zeros {}");
  Write("tail.textproto", tail);
  EXPECT_TRUE(Good(Ckpt({"restore", "base.img", "--resume", "tail.textproto"})));
  const Outcome label =
      Ckpt({"restore", "base.img", "--resume", "small.textproto", "--at", "nope", "-o", "out.img"});
  EXPECT_TRUE(Refused(label, 2, "base, later, end"));
  EXPECT_FALSE(Exists("out.img"));
}

TEST_F(RestoreCommand, AFailedExpectationIsExit1) {
  Image("base.img");
  std::string text = kSmall;
  text.replace(text.find("equals { byte: 0xaa }"), 21, "equals { byte: 0xab }");
  Write("expects.textproto", text);
  const Outcome outcome = Ckpt({"restore", "base.img", "--resume", "expects.textproto", "-o", "out.img"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_TRUE(OneLine(outcome.err, "expects.textproto:11: step load: "));
  EXPECT_FALSE(Exists("out.img"));
}

TEST_F(RestoreCommand, Json) {
  Image("base.img");
  const Outcome outcome =
      Ckpt({"restore", "base.img", "--json", "--resume", "small.textproto", "-o", "end.img", "--no-sync"});
  ASSERT_TRUE(Good(outcome));
  nlohmann::json json = ParseJson(outcome.out);
  EXPECT_THAT(json["digest"].get<std::string>(), testing::MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(json["checkpoints"].size(), 1u);
  EXPECT_EQ(json["checkpoints"][0]["label"], "end");
  EXPECT_EQ(json["checkpoints"][0]["bytes"], Read("end.img").size());
  json.erase("digest");
  json.erase("checkpoints");
  EXPECT_EQ(json, (nlohmann::json{{"image", "base.img"},
                                  {"pages", 6},
                                  {"dropped", 0},
                                  {"notices", nlohmann::json::array()},
                                  {"resumed_steps", 4}}));
}

// A hole is kept as a range all the way: page by page 1 TiB would take minutes.
TEST_F(RestoreCommand, AHugeHole) {
  Write("hole.textproto",
        "file { name: \"f\" generator: \"random\" size: \"1TiB\" }\n"
        "step { map { region: \"m\" file: \"f\" shared: true } }\n"
        "step { punch_hole { file: \"f\" offset: \"4KiB\" length: \"1TiB\" } }\n"
        "step { store { region: \"m\" offset: \"1GiB\" length: \"4KiB\" fill { byte: 0xaa } } }\n"
        "step { checkpoint { label: \"base\" } }\n"
        "step { load { region: \"m\" offset: \"1GiB\" length: \"4KiB\" equals { byte: 0xaa } } }\n"
        "step { load { region: \"m\" offset: \"2GiB\" length: \"4KiB\" equals { zeros {} } } }\n");
  Image("hole.img", "base", "hole.textproto");
  EXPECT_EQ(ParseJson(Ckpt({"show", "--json", "hole.img"}).out)["totals"]["disk"], (1 << 28) - 1);
  EXPECT_TRUE(Good(Ckpt({"verify", "hole.img"})));
  EXPECT_TRUE(
      Good(Ckpt({"restore", "hole.img", "--validate", "--resume", "hole.textproto", "-o", "end.img"})));
  const Outcome same = Ckpt({"diff", "hole.img", "hole.textproto@base"});
  EXPECT_TRUE(Good(same));
  EXPECT_EQ(same.out, "same: 268435456 pages compared\n");
  EXPECT_TRUE(Good(Ckpt({"diff", "end.img", "hole.textproto@end"})));
  const Outcome dump = Ckpt({"restore", "hole.img", "--text-dump"});
  EXPECT_NE(dump.out.find("  disk 1-262144 zeros\n  disk 262144 "), std::string::npos) << dump;
}

TEST_F(RestoreCommand, JsonWithTextDumpIsRefused) {
  Image("base.img");
  EXPECT_TRUE(Refused(Ckpt({"restore", "base.img", "--json", "--text-dump"}), 2, "--text-dump"));
}

// A real file, mapped privately, its last page written.
class RealFile : public Commands {
 protected:
  RealFile() {
    Write("data", std::string(32768, 'd'));
    Write("w.textproto", "file { name: \"f\" real: \"" + Path("data") +
                             "\" }\n"
                             "step { map { region: \"m\" file: \"f\" } }\n"
                             "step { store { region: \"m\" offset: \"28KiB\" fill { byte: 0xaa } } }\n"
                             "step { checkpoint { label: \"base\" } }\n"
                             "step { load { region: \"m\" length: \"4KiB\" equals { byte: 100 } } }\n"
                             "step { load { region: \"m\" offset: \"28KiB\" equals { byte: 0xaa } } }\n");
    Image("a.img", "base", "w.textproto");
  }

  // One notice that names the file, beside exit 0.
  testing::AssertionResult Noticed(const Outcome& outcome) const {
    if (outcome.exit_code != 0) return testing::AssertionFailure() << outcome;
    const testing::AssertionResult line = OneLine(outcome.err, Path("data"));
    if (!line) return line;
    return OneLine(outcome.err, "ckpt: notice: ");
  }

  void SetTime(const std::string& name, time_t seconds) const {
    const timespec times[2] = {{seconds, 0}, {seconds, 0}};
    ASSERT_EQ(utimensat(AT_FDCWD, Path(name).c_str(), times, 0), 0);
  }
};

TEST_F(RealFile, AsRecorded) { EXPECT_TRUE(Good(Ckpt({"restore", "a.img", "--resume", "w.textproto"}))); }

TEST_F(RealFile, ExtendedIsANotice) {
  std::filesystem::resize_file(Path("data"), 40000);
  const Outcome outcome = Ckpt({"restore", "a.img"});
  EXPECT_TRUE(Noticed(outcome));
  EXPECT_TRUE(OneLine(
      outcome.err, "data' was extended by 7232 bytes since the checkpoint, from 32768 bytes to 40000 bytes"));
  EXPECT_TRUE(Noticed(Ckpt({"restore", "a.img", "-q"})));
  EXPECT_TRUE(Noticed(Ckpt({"restore", "a.img", "--resume", "w.textproto"})));
  const Outcome json = Ckpt({"restore", "a.img", "--json"});
  EXPECT_TRUE(Noticed(json));
  const nlohmann::json notices = ParseJson(json.out)["notices"];
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_NE(json.err.find(notices[0].get<std::string>()), std::string::npos);
}

TEST_F(RealFile, CutWithinItsLastPageIsANotice) {
  std::filesystem::resize_file(Path("data"), 29000);
  const Outcome outcome = Ckpt({"restore", "a.img", "--resume", "w.textproto"});
  EXPECT_TRUE(Noticed(outcome));
  EXPECT_TRUE(OneLine(outcome.err,
                      "data' was cut by 3768 bytes since the checkpoint, from 32768 bytes to 29000 bytes"));
}

TEST_F(RealFile, CutBelowAModifiedPageIsRefusedUnlessDropped) {
  std::filesystem::resize_file(Path("data"), 16384);
  const Outcome refused = Ckpt({"restore", "a.img", "-o", "out.img"});
  EXPECT_TRUE(Refused(refused, 2, "--drop-past-eof"));
  EXPECT_TRUE(Refused(refused, 2, "a.img"));
  EXPECT_TRUE(Refused(refused, 2, "is page 7 of file '" + Path("data") + "', which was cut by 16384 bytes"));
  EXPECT_TRUE(Refused(Ckpt({"restore", "a.img", "--accept-changed"}), 2, "--drop-past-eof"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "a.img", "w.textproto@base"}), 2, "--drop-past-eof"));
  EXPECT_FALSE(Exists("out.img"));
  const Outcome dropped = Ckpt({"restore", "a.img", "--drop-past-eof"});
  EXPECT_TRUE(Noticed(dropped));
  EXPECT_EQ(dropped.out, "a.img: 1 process, 0 pages restored, 1 dropped past the end of their files\n");
  const nlohmann::json json = ParseJson(Ckpt({"restore", "a.img", "--drop-past-eof", "--json"}).out);
  EXPECT_EQ(json["pages"], 0);
  EXPECT_EQ(json["dropped"], 1);
  // The access that the rest of the workload makes is beyond the end now.
  const Outcome resumed = Ckpt({"restore", "a.img", "--drop-past-eof", "--resume", "w.textproto"});
  EXPECT_EQ(resumed.exit_code, 1);
  EXPECT_NE(resumed.err.find("w.textproto:6: step load: expected ok, got SIGBUS"), std::string::npos)
      << resumed;
}

// A file of the workload is known by its place in the folder.
TEST_F(RealFile, InADiskFolder) {
  const Args run = {"run",  "small.textproto", "-q", "--no-sync", "--disk", "disk", "--at", "base", "-o",
                    "x.img"};
  ASSERT_TRUE(Good(Ckpt(run)));
  std::filesystem::resize_file(Path("disk/f"), 65537);
  const Outcome extended = Ckpt({"restore", "x.img", "--disk", "disk"});
  EXPECT_EQ(extended.exit_code, 0);
  EXPECT_TRUE(OneLine(extended.err,
                      "notice: file 'disk/f' was extended by 1 byte since the checkpoint, from 65536 bytes"));
  std::filesystem::resize_file(Path("disk/f"), 4096);
  const Outcome cut = Ckpt({"restore", "x.img", "--disk", "disk"});
  EXPECT_TRUE(Refused(cut, 2, "is page 15 of file 'disk/f', which was cut by 61440 bytes"));
  EXPECT_TRUE(Refused(cut, 2, "restore 'x.img': "));
}

TEST_F(RealFile, SameSizeOtherMtimeIsRefusedUnlessAccepted) {
  SetTime("data", 1'000'000'000);
  const Outcome refused = Ckpt({"restore", "a.img", "-o", "out.img"});
  EXPECT_TRUE(Refused(refused, 2, "--accept-changed"));
  EXPECT_TRUE(Refused(refused, 2, "mtime 1000000000.000000000"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "a.img", "w.textproto@base"}), 2, "--accept-changed"));
  EXPECT_FALSE(Exists("out.img"));
  EXPECT_TRUE(
      Noticed(Ckpt({"restore", "a.img", "--accept-changed", "--resume", "w.textproto", "-o", "out.img"})));
  EXPECT_TRUE(Good(Ckpt({"restore", "out.img"}))) << "the new image records what it was accepted as";
}

TEST_F(RealFile, AnotherInodeIsRefusedUnlessAccepted) {
  std::filesystem::copy(Path("data"), Path("other"));
  std::filesystem::rename(Path("other"), Path("data"));
  EXPECT_TRUE(Refused(Ckpt({"restore", "a.img"}), 2, "--accept-changed"));
  std::filesystem::resize_file(Path("data"), 40000);
  EXPECT_TRUE(Refused(Ckpt({"restore", "a.img"}), 2, "--accept-changed"));
  EXPECT_TRUE(Noticed(Ckpt({"restore", "a.img", "--accept-changed", "--resume", "w.textproto"})));
}

TEST_F(RealFile, GoneIsRefused) {
  std::filesystem::remove(Path("data"));
  EXPECT_TRUE(Refused(Ckpt({"restore", "a.img"}), 2, Path("data")));
  EXPECT_TRUE(Refused(Ckpt({"restore", "a.img", "--accept-changed", "--drop-past-eof"}), 2, "No such file"));
  EXPECT_TRUE(Good(Ckpt({"show", "--files", "a.img"}))) << "what an image holds needs no other file";
  EXPECT_TRUE(Good(Ckpt({"verify", "a.img"})));
  ASSERT_EQ(mkfifo(Path("data").c_str(), 0600), 0);
  EXPECT_TRUE(Refused(Ckpt({"restore", "a.img", "--accept-changed"}), 2, "it is a pipe, not a regular file"));
}

TEST_F(RealFile, IsNeverWritten) {
  Write("writes.textproto", "file { name: \"f\" real: \"" + Path("data") +
                                "\" }\n"
                                "step { map { region: \"m\" file: \"f\" shared: true } }\n"
                                "step { store { region: \"m\" } }\n"
                                "step { truncate { file: \"f\" size: \"4KiB\" } }\n"
                                "step { write { file: \"f\" length: \"64KiB\" } }\n"
                                "step { fsync { file: \"f\" } }\n"
                                "step { checkpoint { label: \"base\" } }\n");
  Image("b.img", "base", "writes.textproto");
  EXPECT_EQ(Read("data"), std::string(32768, 'd'));
  EXPECT_TRUE(Good(Ckpt({"diff", "b.img", "writes.textproto@base"})));
}

}  // namespace
}  // namespace cli_test
