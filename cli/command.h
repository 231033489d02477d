// What the subcommands share: exit codes, the options that several of them take, and how one is
// registered. One file a subcommand; cli/ is the only code that prints.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "proto/chunk.h"
#include "proto/pipeline.h"
#include "proto/writer.h"

namespace cli {

// As diff(1) has them.
inline constexpr int kExitGood = 0;
inline constexpr int kExitNo = 1;       // "the answer is no": different, damaged, an expectation not met
inline constexpr int kExitTrouble = 2;  // anything that kept the command from answering

// The command line: ckpt without its process. What it prints goes to stdout, which is flushed, and stderr;
// the exit code comes back.
int Main(int argc, char** argv);

// The subcommand that the command line names stores its body here; Main runs it.
using Action = std::function<int()>;

void AddRun(CLI::App& app, Action& action);
void AddRestore(CLI::App& app, Action& action);
void AddDiff(CLI::App& app, Action& action);
void AddShow(CLI::App& app, Action& action);
void AddVerify(CLI::App& app, Action& action);

// A flag that takes no value, and options whose values must not be empty (an unset shell variable).
void AddFlag(CLI::App& command, const std::string& names, bool& flag, const std::string& help);
CLI::Option* AddText(CLI::App& command, const std::string& names, std::string& text, const std::string& help);
CLI::Option* AddTexts(CLI::App& command, const std::string& names, std::vector<std::string>& texts,
                      const std::string& help);

// A check of an option: decimal digits alone (the parser takes 010 for 8).
CLI::Validator WholeNumber(uint64_t min, uint64_t max);

// --level, --threads, --no-sync of the commands that write an image.
struct ImageOptions {
  int level = 1;
  unsigned threads = 0;
  bool no_sync = false;
};
void AddImageOptions(CLI::App& command, ImageOptions& options);
image::WriteOptions WriteOptionsOf(const ImageOptions& options);

}  // namespace cli
