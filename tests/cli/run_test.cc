// ckpt run: mistakes are reported at their place, expectations at their step.
#include <gtest/gtest.h>

#include <sstream>

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
      {"file { name: \"f\" real: \"/no/such\" }\nstep { exit {} }\n", "bad.textproto:1:18: "},
      {"step { exec { path: \"/no/such\" } }\n", "bad.textproto:1:15: "},
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

// The names that stand in front of the numbers, one a line.
std::vector<std::string> NamesOf(const std::string& counters) {
  std::vector<std::string> names;
  std::istringstream lines(counters);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_THAT(line, testing::MatchesRegex("[A-Za-z_]+ [0-9]+"));
    names.push_back(line.substr(0, line.find(' ')));
  }
  return names;
}

const std::vector<std::string> kCounters = {
    "nr_free_pages", "nr_inactive_anon", "nr_active_anon", "nr_inactive_file", "nr_active_file",
    "nr_anon_pages", "nr_mapped",        "nr_dirty",       "pgpgin",           "pgpgout",
    "pswpin",        "pswpout",          "pgactivate",     "pgdeactivate",     "pgfault",
    "pgmajfault",    "pgrefill",         "pgscan",         "pgsteal",          "allocstall"};

TEST_F(RunCommand, StatsAreTheCountersByName) {
  const Outcome outcome = Ckpt({"run", "small.textproto", "--stats"});
  ASSERT_TRUE(Good(outcome));
  EXPECT_EQ(NamesOf(outcome.out), kCounters);
  EXPECT_EQ(outcome.out, Ckpt({"run", "small.textproto", "--stats", "-q"}).out);
  // "a" has 5 pages left, and the page of "f" that was written is a private copy.
  EXPECT_THAT(outcome.out, testing::HasSubstr("\nnr_anon_pages 6\n"));
  EXPECT_THAT(outcome.out, testing::HasSubstr("\npswpout 0\n"));
  const Outcome dump = Ckpt({"run", "small.textproto", "--stats", "--text-dump"});
  EXPECT_TRUE(dump.out.starts_with("memory ")) << dump;
  EXPECT_TRUE(dump.out.ends_with("\n" + outcome.out)) << dump;
}

TEST_F(RunCommand, StatsOfSwap) {
  Write("w.textproto",
        "machine { memory: \"1MiB\" swap: \"8MiB\" }\nstep { map { region: \"m\" length: \"64k\" } }\n"
        "step { store { region: \"m\" } }\nstep { reclaim {} }\nstep { checkpoint { label: \"a\" } }\n"
        "step { swapoff {} }\n");
  const Outcome outcome = Ckpt({"run", "w.textproto", "--stats", "--at", "a"});
  ASSERT_TRUE(Good(outcome));
  std::vector<std::string> names = kCounters;
  names.insert(names.end(), {"SwapTotal", "SwapFree"});
  EXPECT_EQ(NamesOf(outcome.out), names);
  EXPECT_THAT(outcome.out, testing::HasSubstr("\nnr_anon_pages 0\n"));
  EXPECT_THAT(outcome.out, testing::HasSubstr("\npswpin 0\npswpout 16\n"));
  EXPECT_THAT(outcome.out, testing::HasSubstr("\nSwapTotal 8192\nSwapFree 8128\n"));
  const Outcome end = Ckpt({"run", "w.textproto", "--stats"});
  ASSERT_TRUE(Good(end));
  EXPECT_EQ(NamesOf(end.out), kCounters) << "swap is off";
  EXPECT_THAT(end.out, testing::HasSubstr("\npswpin 16\npswpout 16\n"));
}

TEST_F(RunCommand, StatsOfPageHinting) {
  Write("h.textproto",
        "machine { memory: \"4MiB\" host: \"256k\" }\nfile { name: \"f\" size: \"1MiB\" generator: "
        "\"random\" }\n"
        "step { map { region: \"f\" file: \"f\" shared: true prot: \"r--\" } }\nstep { load { region: \"f\" "
        "} }\n"
        "step { load { region: \"f\" } }\n");
  const Outcome off = Ckpt({"run", "h.textproto", "--stats", "--validate"});
  ASSERT_TRUE(Good(off));
  EXPECT_THAT(off.out, testing::HasSubstr("\ndiscard_faults 0\n"));
  EXPECT_THAT(off.out, testing::HasSubstr("\nhost_discarded 0\n"));
  EXPECT_THAT(off.out, testing::Not(testing::HasSubstr("\nhost_paged_out 0\n")));
  for (const char* hints : {"base", "writable"}) {
    const Outcome on = Ckpt({"run", "h.textproto", "--stats", "--validate", "--hints", hints});
    ASSERT_TRUE(Good(on)) << hints;
    EXPECT_THAT(on.out, testing::HasSubstr("\nhost_paged_out 0\n")) << "clean pages of a file need no paging";
    EXPECT_THAT(on.out, testing::Not(testing::HasSubstr("\ndiscard_faults 0\n")));
  }
  const Outcome wrong = Ckpt({"run", "h.textproto", "--hints", "some"});
  EXPECT_EQ(wrong.exit_code, 2) << wrong;
}

// The paging store of a host that has room for the whole machine takes no room on a disk.
TEST_F(RunCommand, PageHintingOfALargeMachineWithItsFilesOnADisk) {
  Write("large.textproto",
        "machine { memory: \"1TiB\" semantics: \"hints=writable\" }\n"
        "step { map { region: \"a\" length: \"64k\" } }\nstep { store { region: \"a\" } }\n");
  EXPECT_TRUE(Good(Ckpt({"run", "large.textproto", "--disk", "d"})));
}

TEST_F(RunCommand, StatsAsJson) {
  const nlohmann::json json = ParseJson(Ckpt({"run", "small.textproto", "--stats", "--json"}).out);
  ASSERT_TRUE(json["vmstat"].is_object());
  EXPECT_EQ(json["vmstat"].size(), kCounters.size());
  for (const std::string& name : kCounters) EXPECT_TRUE(json["vmstat"][name].is_number()) << name;
  EXPECT_EQ(json["vmstat"]["nr_anon_pages"], 6);
  EXPECT_EQ(json["steps"], 11);
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
