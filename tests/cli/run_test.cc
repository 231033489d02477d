// ckpt run: mistakes are reported at their place, expectations at their step.
#include <gtest/gtest.h>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

class RunCommand : public Commands {};

TEST_F(RunCommand, MistakesNameLineAndColumn) {
  const struct {
    const char* text;
    const char* says;
  } mistakes[] = {
      {"step { load { region: \"m\" } }\n", "bad.textproto:1:15: "},
      {"\n\nsteps {}\n", "bad.textproto:3:1: "},
      {"step { map { region: \"m\" length: \"1XB\" } }\n", "bad.textproto:1:26: "},
      {"step { checkpoint { label: \"a\" } }\nstep { checkpoint { label: \"a\" } }\n",
       "bad.textproto:2:21: "},
      {"step { checkpoint { label: \"../a\" } }\n", "bad.textproto:1:21: "},
      {"step { checkpoint { label: \"end\" } }\n", "bad.textproto:1:21: "},
      {"step { checkpoint { label: \"\\033[31m\" } }\n", "bad.textproto:1:21: "},
      {"step { checkpoint { label: \"\x1b[31m\" } }\n", "bad.textproto:1:21: "},
      {"\x1b[31m { }\n", "bad.textproto:1:1: "},
      {"step {", "bad.textproto:1:7: "},
      {"", "bad.textproto:1:1: "},
      {"# nothing\n", "bad.textproto:"},
      {"step { exec { path: \"bin/sh\" } }\n", "bad.textproto:1:15: "},
      {"file { name: \"f\" real: \"etc/passwd\" }\nstep { fsync { file: \"f\" } }\n", "bad.textproto:1:18: "},
      {"machine { memory: \"1k\" }\nstep { map { region: \"m\" length: \"4k\" } }\n", "bad.textproto:1:"},
      {"step { process: \"x\" exit {} }\n", "bad.textproto:1:8: "},
  };
  for (const auto& [text, says] : mistakes) {
    Write("bad.textproto", text);
    EXPECT_TRUE(Refused(Ckpt({"run", "bad.textproto"}), 2, says)) << text;
    EXPECT_TRUE(Refused(Ckpt({"run", "bad.textproto", "-o", "x.img", "--at", "end"}), 2, says)) << text;
  }
  EXPECT_FALSE(Exists("x.img"));
}

TEST_F(RunCommand, FailedExpectationsNameTheirLine) {
  const struct {
    const char* text;
    const char* says;
  } failures[] = {
      {"step { map { region: \"m\" length: \"0\" } }\n", "w.textproto:1: step map: expected ok, got EINVAL"},
      {"step { map { region: \"m\" length: \"4k\" } expect { outcome: \"EINVAL\" } }\n",
       "w.textproto:1: step map: expected EINVAL, got ok"},
      {"step { map { region: \"m\" length: \"4k\" } }\n\nstep { touch { region: \"m\" }\n  expect { rss: 5 } "
       "}\n",
       "expected rss 5, got "},
      {"step { map { region: \"m\" length: \"4k\" } }\nstep { load { region: \"m\" equals { byte: 1 } } }\n",
       "w.textproto:2: step load: "},
      {"machine { memory: \"64KiB\" }\nstep { map { region: \"m\" length: \"1MiB\" } }\nstep { store { "
       "region: \"m\" } }\n",
       "w.textproto:3: step store: expected ok, got OOM"},
      {"step { map { region: \"m\" length: \"4k\" prot: \"r--\" } }\nstep { store { region: \"m\" } }\n",
       "w.textproto:2: step store: expected ok, got SIGSEGV"},
  };
  for (const auto& [text, says] : failures) {
    Write("w.textproto", text);
    EXPECT_TRUE(Refused(Ckpt({"run", "w.textproto"}), 1, says)) << text;
    EXPECT_TRUE(Refused(Ckpt({"run", "w.textproto", "--json", "--at", "end", "-o", "x.img"}), 1, says))
        << text;
    EXPECT_EQ(Ckpt({"diff", "w.textproto@end", "w.textproto@end"}).exit_code, 2)
        << "diff's 1 means different";
  }
  EXPECT_FALSE(Exists("x.img"));
}

// Images of checkpoints that were reached stay; no others appear.
TEST_F(RunCommand, AFailureAfterACheckpointKeepsItsImage) {
  Write("w.textproto",
        "step { map { region: \"m\" length: \"4k\" } }\nstep { checkpoint { label: \"a\" } }\n"
        "step { load { region: \"m\" equals { byte: 1 } } }\nstep { checkpoint { label: \"b\" } }\n");
  EXPECT_EQ(Ckpt({"run", "w.textproto", "-o", "{label}.img"}).exit_code, 1);
  EXPECT_TRUE(Good(Ckpt({"verify", "a.img"})));
  EXPECT_FALSE(Exists("b.img"));
}

TEST_F(RunCommand, WithoutImages) {
  const Outcome outcome = Ckpt({"run", "small.textproto"});
  EXPECT_TRUE(Good(outcome));
  EXPECT_EQ(outcome.out, "small.textproto: 11 steps, as expected\n");
  const nlohmann::json json = ParseJson(Ckpt({"run", "small.textproto", "--json", "--at", "base"}).out);
  EXPECT_EQ(json, (nlohmann::json{{"workload", "small.textproto"},
                                  {"steps", 7},
                                  {"finished", false},
                                  {"checkpoints", nlohmann::json::array()}}));
  EXPECT_EQ(Names(), std::vector<std::string>{"small.textproto"});
}

TEST_F(RunCommand, ValidateAndTextDump) {
  const Outcome dump = Ckpt({"run", "small.textproto", "--validate", "--text-dump"});
  EXPECT_TRUE(Good(dump));
  EXPECT_TRUE(dump.out.starts_with("memory 16777216 ")) << dump;
  EXPECT_EQ(dump.out, Ckpt({"run", "small.textproto", "--text-dump"}).out);
}

// What --json prints is JSON and nothing else.
TEST_F(RunCommand, JsonWithTextDumpIsRefused) {
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--json", "--text-dump"}), 2, "--text-dump"));
}

TEST_F(RunCommand, DiskKeepsTheFiles) {
  EXPECT_TRUE(Good(
      Ckpt({"run", "small.textproto", "-q", "--no-sync", "--disk", "disk", "--at", "base", "-o", "x.img"})));
  EXPECT_EQ(Read("disk/f").size(), 65536u);
  EXPECT_TRUE(Refused(Ckpt({"restore", "x.img"}), 2, "--disk"));
  EXPECT_TRUE(Good(Ckpt({"restore", "x.img", "--disk", "disk"})));
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--disk", "disk"}), 2, "disk/f"))
      << "its files are there already";
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--disk", "small.textproto"}), 2, "small.textproto"));
}

}  // namespace
}  // namespace cli_test
