// The examples of the manual pages work: each "$ command" of man/ is run, with the example workloads
// beside it and ckpt in the path, and ends with 0, or as the text in front of it says.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <sstream>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

struct Example {
  std::string command;
  int exit_code;
};

std::string Unescaped(const std::string& roff) {
  return std::regex_replace(std::regex_replace(roff, std::regex(R"(\\e)"), "\\"), std::regex(R"(\\-)"), "-");
}

// The commands of the EXAMPLES section. "the exit status is N" is said of the last command of the
// display that follows.
std::vector<Example> ExamplesOf(const std::string& page) {
  std::vector<Example> examples;
  std::istringstream lines(page);
  std::string line;
  std::string text;
  bool inside = false;
  bool display = false;
  const auto close_display = [&] {
    std::smatch said;
    static const std::regex kStatus("the exit status is ([0-9])");
    if (!examples.empty() && std::regex_search(text, said, kStatus)) {
      examples.back().exit_code = std::stoi(said[1]);
    }
    text.clear();
  };
  while (std::getline(lines, line)) {
    if (line.starts_with(".Sh ")) inside = line == ".Sh EXAMPLES";
    if (!inside) continue;
    if (line.starts_with(".Dl $ ")) {
      examples.push_back({Unescaped(line.substr(6)), 0});
      close_display();
    } else if (line.starts_with(".Bd -literal")) {
      display = true;
    } else if (line.starts_with(".Ed")) {
      display = false;
      close_display();
    } else if (display && line.starts_with("$ ")) {
      examples.push_back({Unescaped(line.substr(2)), 0});
    } else if (!display) {
      text += line + " ";
    }
  }
  return examples;
}

class ManPage : public Commands, public testing::WithParamInterface<std::string> {};

TEST_P(ManPage, ItsExamplesWork) {
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_SOURCE_DIR "/workload/examples")) {
    std::filesystem::copy(entry.path(), Path(entry.path().filename()));
  }
  const std::vector<Example> examples = ExamplesOf(support::ReadFile(CKPT_SOURCE_DIR "/man/" + GetParam()));
  EXPECT_FALSE(examples.empty());
  for (const Example& example : examples) {
    const Outcome outcome =
        Execute({"sh", "-c", example.command},
                {.folder = Path(""), .path = std::filesystem::path(CKPT_PROGRAM).parent_path()});
    EXPECT_EQ(outcome.exit_code, example.exit_code) << example.command << "\n" << outcome;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ManPage,
                         testing::Values("ckpt.1", "ckpt-run.1", "ckpt-restore.1", "ckpt-diff.1",
                                         "ckpt-show.1", "ckpt-verify.1", "ckpt-oracle.1", "ckpt-merge.1",
                                         "ckpt-image.5"),
                         [](const auto& page) {
                           std::string name = page.param;
                           std::ranges::replace_if(name, [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

TEST(ManPages, TheListAboveIsComplete) {
  size_t pages = 0;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_SOURCE_DIR "/man")) {
    if (entry.path().filename() != "ckpt-workload.5") ++pages;  // workload/ has a test of that one
  }
  EXPECT_EQ(pages, 9u);
}

TEST(ManPages, ExamplesAreFound) {
  const std::vector<Example> examples = ExamplesOf(
      ".Sh DESCRIPTION\n.Dl $ not this\n.Sh EXAMPLES\nOne; the exit status is 1:\n.Pp\n.Dl $ one \\-x\n"
      "Two:\n.Bd -literal\n$ two\nits output\n$ three\n.Ed\n.Sh SEE ALSO\n");
  ASSERT_EQ(examples.size(), 3u);
  EXPECT_EQ(examples[0].command, "one -x");
  EXPECT_EQ(examples[0].exit_code, 1);
  EXPECT_EQ(examples[2].command, "three");
  EXPECT_EQ(examples[2].exit_code, 0);
}

}  // namespace
}  // namespace cli_test
