// The session in README.md: its commands are run, and what they print is compared.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <sstream>
#include <string>

#include "tests/support/support.h"

namespace {

std::string RunInShell(const std::string& folder, const std::string& command) {
  const std::string program = CKPT_PROGRAM;
  const std::string source = CKPT_SOURCE_DIR;
  const std::string line = "cd '" + folder + "' && PATH='" + program.substr(0, program.rfind('/')) +
                           "':\"$PATH\" && " + "ln -sfn '" + source + "/workload' workload && { " + command +
                           "; } 2>&1";
  FILE* pipe = popen(line.c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::string output;
  std::array<char, 4096> buffer;
  size_t got = 0;
  while ((got = fread(buffer.data(), 1, buffer.size(), pipe)) > 0) output.append(buffer.data(), got);
  pclose(pipe);
  return output;
}

TEST(Readme, TheSessionPrintsWhatItSays) {
  const std::string readme = support::ReadFile(std::string(CKPT_SOURCE_DIR) + "/README.md");
  const size_t start = readme.find("```\n$ ");
  const size_t end = readme.find("\n```", start + 4);
  ASSERT_NE(start, std::string::npos);
  ASSERT_NE(end, std::string::npos);
  std::istringstream session(readme.substr(start + 4, end - start - 3));

  const support::TempDir folder;
  std::string command;
  std::string expected;
  int commands = 0;
  const auto check = [&] {
    if (command.empty()) return;
    ++commands;
    EXPECT_EQ(RunInShell(folder.path(), command), expected) << command;
  };
  for (std::string line; std::getline(session, line);) {
    if (!line.starts_with("$ ")) {
      expected += line + "\n";
      continue;
    }
    check();
    command = line.substr(2);
    expected.clear();
  }
  check();
  EXPECT_GE(commands, 7);
}

}  // namespace
