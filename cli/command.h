// What the subcommands share: exit codes, the options that several of them take, and how one is
// registered. One file a subcommand; cli/ is the only code that prints.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace CLI {
class App;
}

namespace cli {

// As diff(1) has them.
inline constexpr int kExitGood = 0;
inline constexpr int kExitNo = 1;       // "the answer is no": different, damaged, an expectation not met
inline constexpr int kExitTrouble = 2;  // anything that kept the command from answering

// The command line: ckpt without its process. What it prints goes to stdout, which is flushed, and stderr;
// the exit code comes back.
int Main(int argc, char** argv);

// What a subcommand does; Main runs the one that the command line names.
using Action = std::function<int()>;

// The options and arguments of one subcommand, as CLI11 parses them; command.cc alone reads its headers,
// which take longer to compile than the rest of a command. `names` are "-o,--output", or "IMAGE" for an
// argument. What the references name is written while the command line is parsed, and must live until then.
class Command {
 public:
  // `action` is where the body of the subcommand that was named goes.
  Command(CLI::App& app, Action& action) : app_(app), action_(action) {}

  Command Add(const std::string& name, const std::string& description) const;
  // A flag that takes no value.
  void Flag(const std::string& names, bool& flag, const std::string& help) const;
  // Values must not be empty (an unset shell variable).
  void Text(const std::string& names, std::string& text, const std::string& help) const;
  // A text that `parse` takes; what it says otherwise is the error.
  void Parsed(const std::string& names, const std::string& form, std::string& text,
              std::function<base::Result<void>(const std::string&)> parse, const std::string& help) const;
  void Choice(const std::string& names, std::string& text, const std::vector<std::string>& choices,
              const std::string& help) const;
  // That must be there, once, or once or more often.
  void Required(const std::string& name, std::string& text, const std::string& help) const;
  void Required(const std::string& name, std::vector<std::string>& texts, const std::string& help) const;
  // That may be there, any number of times.
  void Optional(const std::string& name, std::vector<std::string>& texts, const std::string& help) const;
  // Decimal digits alone (the parser takes 010 for 8), from `min` to `max`. --help shows what `number` holds
  // before.
  void Number(const std::string& names, int& number, uint64_t min, uint64_t max,
              const std::string& help) const;
  void Number(const std::string& names, unsigned& number, uint64_t min, uint64_t max,
              const std::string& help) const;
  void Number(const std::string& names, std::optional<unsigned>& number, uint64_t min, uint64_t max,
              const std::string& help) const;
  void Number(const std::string& names, std::optional<uint64_t>& number, uint64_t min, uint64_t max,
              const std::string& help) const;
  // Two options that do not go together.
  void Excludes(const std::string& name, const std::string& other) const;
  void Does(Action body) const;

 private:
  CLI::App& app_;
  Action& action_;
};

void AddRun(const Command& ckpt);
void AddRestore(const Command& ckpt);
void AddDiff(const Command& ckpt);
void AddShow(const Command& ckpt);
void AddVerify(const Command& ckpt);
void AddMerge(const Command& ckpt);
void AddOracle(const Command& ckpt);

}  // namespace cli
