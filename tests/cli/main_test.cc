// Command lines: what is wrong with one is said in one line, and nothing is done.
#include <gtest/gtest.h>

#include <set>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;

const char* const kSubcommands[] = {"run", "restore", "diff", "show", "verify"};

class CommandLine : public Commands {};

TEST_F(CommandLine, WrongOnesAreOneLineAndExit2) {
  const Args lines[] = {
      {},
      {"bogus"},
      {"--bogus"},
      {"--json"},
      {"run"},
      {"restore"},
      {"show"},
      {"verify"},
      {"diff"},
      {"diff", "a"},
      {"diff", "a", "b", "c"},
      {"show", "a", "b"},
      {"run", "small.textproto", "extra"},
      {"run", "--bogus", "small.textproto"},
      {"run", "small.textproto", "-o"},
      {"run", "small.textproto", "--at"},
      {"run", "small.textproto", "--compress"},
      {"run", "small.textproto", "--compress", "zstd:0"},
      {"run", "small.textproto", "--compress", "zstd:20"},
      {"run", "small.textproto", "--compress", "x"},
      {"run", "small.textproto", "--threads", "-1"},
      {"run", "small.textproto", "--threads", "13"},
      {"run", "small.textproto", "--threads", "99999999999999999999"},
      {"restore", "a", "--compress", "zstd:99"},
      {"restore", "a", "--at", "base"},
      {"run", "small.textproto", "run", "small.textproto"},
  };
  for (const Args& line : lines) {
    const Outcome outcome = Ckpt(line);
    EXPECT_TRUE(Refused(outcome, 2)) << testing::PrintToString(line);
  }
  EXPECT_EQ(Names(), Args{"small.textproto"});
}

// Each line names the command, the word that is wrong, and where to read on.
TEST_F(CommandLine, SaysWhatIsWrong) {
  const std::string commands = ": there are run, restore, diff, show and verify; try 'ckpt --help'";
  const std::string run = "; try 'ckpt run --help'";
  const struct {
    Args line;
    std::string says;
  } mistakes[] = {
      {{}, "the command is missing" + commands},
      {{""}, "the command is empty" + commands},
      {{"bogus"}, "there is no command 'bogus'" + commands},
      {{"--json"}, "there is no option '--json' before a command" + commands},
      {{"run"}, "run: WORKLOAD is missing" + run},
      {{"run", ""}, "run: WORKLOAD: it is empty" + run},
      {{"run", "a", "--bogus"}, "run: there is no option '--bogus'" + run},
      {{"run", "a", "-qx"}, "run: there is no option '-x'" + run},
      {{"run", "a", "b", "c"}, "run: 'b' is one argument too many" + run},
      {{"run", "a", "run", "c"}, "run: 'run' is one argument too many" + run},
      {{"run", "a", "--at"}, "run: --at needs a value behind it" + run},
      {{"run", "a", "-o"}, "run: --output needs a value behind it" + run},
      {{"run", "a", "--at", "x", "--at", "y"}, "run: --at is given more than once" + run},
      {{"run", "a", "--json=5"}, "run: --json takes no value" + run},
      {{"run", "a", "--compress", "x"},
       "run: --compress: 'x': expected none, zstd, zstd:LEVEL or auto" + run},
      {{"run", "a", "--compress", "zstd:0"},
       "run: --compress: 'zstd:0': the level is a whole number from 1 to 19" + run},
      {{"run", "a", "--compress", "zstd:1x"},
       "run: --compress: 'zstd:1x': the level is a whole number from 1 to 19" + run},
      {{"run", "a", "--compress", ""}, "run: --compress: '': expected none, zstd, zstd:LEVEL or auto" + run},
      {{"run", "a", "--threads", "-1"}, "run: --threads: '-1' is not a whole number from 0 to 12" + run},
      {{"run", "a", "--threads", "0x10"}, "run: --threads: '0x10' is not a whole number from 0 to 12" + run},
      {{"run", "a", "--json", "--text-dump"}, "run: --text-dump and --json do not go together" + run},
      {{"restore"}, "restore: IMAGE is missing; try 'ckpt restore --help'"},
      {{"restore", "a", "--disk"}, "restore: --disk needs a value behind it; try 'ckpt restore --help'"},
      {{"diff", "a"}, "diff: B is missing; try 'ckpt diff --help'"},
      {{"diff", "a", "b", "c"}, "diff: 'c' is one argument too many; try 'ckpt diff --help'"},
      {{"show", "--compress", "none", "a"}, "show: there is no option '--compress'; try 'ckpt show --help'"},
      {{"verify", "--quiet"}, "verify: IMAGE is missing; try 'ckpt verify --help'"},
  };
  for (const auto& [line, says] : mistakes) {
    const Outcome outcome = Ckpt(line);
    EXPECT_EQ(outcome.exit_code, 2) << outcome;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err, "ckpt: " + says + "\n");
  }
}

TEST_F(CommandLine, SaysWhichWordIsWrong) {
  EXPECT_TRUE(Refused(Ckpt({"bogus"}), 2, "bogus"));
  EXPECT_TRUE(Refused(Ckpt({"--bogus"}), 2, "--bogus"));
  EXPECT_TRUE(Refused(Ckpt({"run", "--bogus", "small.textproto"}), 2, "--bogus"));
  EXPECT_TRUE(Refused(Ckpt({"show", "one", "two"}), 2, "two"));
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--compress", "zstd:99"}), 2, "--compress"));
  EXPECT_TRUE(Refused(Ckpt({"run"}), 2, "WORKLOAD"));
  EXPECT_TRUE(Refused(Ckpt({"run"}), 2, "'ckpt run --help'"));
  EXPECT_TRUE(Refused(Ckpt({}), 2, "'ckpt --help'"));
}

// An unset variable of a script is not "the default".
TEST_F(CommandLine, EmptyValuesAreRefused) {
  Image("base.img");
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--at", "base", "-o", ""}), 2));
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--at", ""}), 2));
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--disk", ""}), 2));
  EXPECT_TRUE(Refused(Ckpt({"restore", "base.img", "-o", ""}), 2));
  EXPECT_TRUE(Refused(Ckpt({"restore", "base.img", "--resume", ""}), 2));
  for (const char* command : {"run", "restore", "show", "verify"}) {
    EXPECT_TRUE(Refused(Ckpt({command, ""}), 2, "it is empty")) << command;
  }
  EXPECT_TRUE(Refused(Ckpt({"verify", "base.img", ""}), 2, "it is empty"));
  EXPECT_TRUE(Refused(Ckpt({""}), 2, "the command is empty"));
}

TEST_F(CommandLine, FlagsTakeNoValue) {
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--json=5"}), 2, "json"));
}

TEST_F(CommandLine, ControlCharactersDoNotReachTheTerminal) {
  const std::string esc = "x\x1b[31my";
  const std::string lines = "a\nb";
  for (const std::string& bad : {esc, lines}) {
    const Args all[] = {
        {bad},
        {"run", bad},
        {"restore", bad},
        {"show", bad},
        {"verify", bad},
        {"diff", bad, "small.textproto@base"},
        {"diff", bad + "@base", "small.textproto@base"},
        {"run", "small.textproto", bad},
        {"run", "small.textproto", "--compress", bad},
        {"run", "small.textproto", "--at", bad},
        {"run", "small.textproto", "--" + bad},
        {"run", "small.textproto", "--at", "base", "-o", bad + "/x"},
        {"run", "small.textproto", "--disk", bad + "/x"},
    };
    for (const Args& line : all) EXPECT_TRUE(Refused(Ckpt(line), 2)) << testing::PrintToString(line);
  }
}

TEST_F(CommandLine, ResultsShowControlCharactersOfNamesAsText) {
  const std::string esc = "x\x1b[31my";
  Write(esc + ".textproto", kSmall);
  const auto clean = [](const Outcome& outcome) {
    return outcome.out.find('\x1b') == std::string::npos && outcome.err.find('\x1b') == std::string::npos;
  };
  const Args lines[] = {{"run", esc + ".textproto"},
                        {"run", esc + ".textproto", "--at", "base", "-o", esc + ".img"},
                        {"show", "--files", "--vmas", "--pages", esc + ".img"},
                        {"show", "--json", esc + ".img"},
                        {"verify", esc + ".img"},
                        {"diff", esc + ".img", esc + ".textproto@base"},
                        {"restore", esc + ".img", "--resume", esc + ".textproto"}};
  for (const Args& line : lines) {
    const Outcome outcome = Ckpt(line);
    EXPECT_TRUE(Good(outcome)) << testing::PrintToString(line);
    EXPECT_TRUE(clean(outcome)) << testing::PrintToString(line);
  }
  Write(esc + ".img", Read(esc + ".img").substr(0, 300));
  for (const char* command : {"show", "restore"}) EXPECT_TRUE(Refused(Ckpt({command, esc + ".img"}), 2));
  EXPECT_TRUE(Refused(Ckpt({"verify", esc + ".img"}), 1));
}

TEST_F(CommandLine, Help) {
  const Outcome help = Ckpt({"--help"});
  EXPECT_TRUE(Good(help)) << help;
  for (const char* command : kSubcommands) {
    EXPECT_NE(help.out.find(std::string("\n  ") + command), std::string::npos) << help;
    const Outcome one = Ckpt({command, "--help"});
    EXPECT_TRUE(Good(one));
    EXPECT_NE(one.out.find(std::string("Usage: ckpt ") + command), std::string::npos) << one;
    EXPECT_EQ(Ckpt({command, "-h"}).out, one.out);
  }
}

// Each option of a subcommand's help is in its manual page, and the other way round.
TEST_F(CommandLine, HelpAndManualPageNameTheSameOptions) {
  const auto options = [](const std::string& text, const std::string& mark) {
    std::set<std::string> found;
    for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
      const size_t start = at + mark.size();
      const size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz-", start);
      if (end > start) found.insert(text.substr(start, end - start));
    }
    return found;
  };
  for (const char* command : kSubcommands) {
    const std::string page = support::ReadFile(std::string(CKPT_SOURCE_DIR "/man/ckpt-") + command + ".1");
    ASSERT_FALSE(page.empty()) << command;
    std::set<std::string> in_page = options(page, ".It Fl -");
    in_page.merge(options(page, " , Fl -"));
    std::set<std::string> in_help = options(Ckpt({command, "--help"}).out, "--");
    in_help.erase("help");
    in_page.erase("help");
    EXPECT_EQ(in_page, in_help) << command;
  }
}

TEST_F(CommandLine, Version) {
  const Outcome version = Ckpt({"--version"});
  EXPECT_TRUE(Good(version)) << version;
  EXPECT_THAT(version.out, testing::MatchesRegex("ckpt [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

}  // namespace
}  // namespace cli_test
