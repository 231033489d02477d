#include "cli/command.h"

#include <CLI/CLI.hpp>
#include <charconv>

#include "cli/print.h"

namespace cli {
namespace {

constexpr char kDescription[] =
    "Checkpoint and restart process memory, saving only what the process changed.\n"
    "Exit codes: 0 good; 1 the answer is no (different, damaged, expectation not met); 2 trouble.";

constexpr char kCommands[] = "run, restore, diff, show and verify";

std::string Quoted(const std::string& word) { return "'" + base::Printable(word) + "'"; }

// What is wrong with the first word of the command line: it must be a command, or an option of ckpt itself.
// Empty if nothing is.
std::string WrongFirstWord(const CLI::App& app, const std::string& word) {
  const auto named =
      app.get_subcommands([&](const CLI::App* command) { return command->get_name() == word; });
  if (!named.empty() || word == "-h" || word == "--help" || word == "--version") return "";
  const std::string what = word.empty() ? "the command is empty"
                           : word.starts_with('-')
                               ? "there is no option " + Quoted(word) + " before a command"
                               : "there is no command " + Quoted(word);
  return what + ": there are " + kCommands;
}

// In our words what the parser says in its own. `command` is the one that the command line names.
std::string Mistake(const CLI::App& command, const CLI::ParseError& error) {
  const std::string said = base::Printable(error.what(), 4096);
  const std::string first = said.substr(0, said.find_first_of(": "));
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    const std::vector<std::string> extra = command.remaining(true);
    const std::string word = extra.empty() ? "" : extra.front();
    if (word.starts_with('-')) return "there is no option " + Quoted(word);
    return Quoted(word) + " is one argument too many";
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    return command.get_parent() == nullptr ? std::string("the command is missing: there are ") + kCommands
                                           : first + " is missing";
  }
  if (dynamic_cast<const CLI::ExcludesError*>(&error) != nullptr) {
    return first + " and " + said.substr(said.rfind(' ') + 1) + " do not go together";
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) == nullptr) return said;
  if (said.ends_with("flag override")) return "--" + first + " takes no value";
  return first + (said.ends_with(" missing") ? " needs a value behind it" : " is given more than once");
}

CLI::Validator NotEmpty() {
  return {[](std::string& value) { return std::string(value.empty() ? "it is empty" : ""); }, "", ""};
}

CLI::Validator WholeNumber(uint64_t min, uint64_t max) {
  const auto check = [=](std::string& value) {
    uint64_t number = 0;
    const char* end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, number);
    const bool good = error == std::errc() && stop == end && number >= min && number <= max &&
                      (value.size() == 1 || value.front() != '0');
    return good ? std::string()
                : base::Format("%s is not a whole number from %llu to %llu", Quoted(value).c_str(),
                               static_cast<unsigned long long>(min), static_cast<unsigned long long>(max));
  };
  return {check,
          base::Format("%llu to %llu", static_cast<unsigned long long>(min),
                       static_cast<unsigned long long>(max)),
          ""};
}

}  // namespace

int Main(int argc, char** argv) {
  PrintTo(stdout);
  CLI::App app(kDescription, "ckpt");
  app.set_version_flag("--version", "ckpt " CKPT_VERSION);
  app.require_subcommand(1);
  Action action;
  const Command ckpt(app, action);
  AddRun(ckpt);
  AddRestore(ckpt);
  AddDiff(ckpt);
  AddShow(ckpt);
  AddVerify(ckpt);
  AddMerge(ckpt);
  AddOracle(ckpt);
  if (const std::string wrong = argc > 1 ? WrongFirstWord(app, argv[1]) : ""; !wrong.empty()) {
    return PrintError({base::Code::kInvalid, wrong + "; try 'ckpt --help'"});
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error), Finish(kExitGood);
    if (app.get_subcommands().empty()) {
      return PrintError({base::Code::kInvalid, Mistake(app, error) + "; try 'ckpt --help'"});
    }
    const CLI::App& command = *app.get_subcommands().front();
    const std::string& name = command.get_name();
    return PrintError(
        {base::Code::kInvalid, name + ": " + Mistake(command, error) + "; try 'ckpt " + name + " --help'"});
  }
  return Finish(action());
}

Command Command::Add(const std::string& name, const std::string& description) const {
  return {*app_.add_subcommand(name, description), action_};
}

void Command::Flag(const std::string& names, bool& flag, const std::string& help) const {
  app_.add_flag(names, flag, help)->disable_flag_override();
}

void Command::Text(const std::string& names, std::string& text, const std::string& help) const {
  app_.add_option(names, text, help)->check(NotEmpty());
}

void Command::Parsed(const std::string& names, const std::string& form, std::string& text,
                     std::function<base::Result<void>(const std::string&)> parse,
                     const std::string& help) const {
  const auto check = [parse = std::move(parse)](const std::string& value) -> std::string {
    const base::Result<void> parsed = parse(value);
    return parsed ? "" : Quoted(value) + ": " + parsed.error().what;
  };
  app_.add_option(names, text, help)->check({check, "", ""})->option_text(form);
}

void Command::Choice(const std::string& names, std::string& text, const std::vector<std::string>& choices,
                     const std::string& help) const {
  app_.add_option(names, text, help)->check(NotEmpty())->check(CLI::IsMember(choices));
}

void Command::Required(const std::string& name, std::string& text, const std::string& help) const {
  app_.add_option(name, text, help)->check(NotEmpty())->required();
}

void Command::Required(const std::string& name, std::vector<std::string>& texts,
                       const std::string& help) const {
  app_.add_option(name, texts, help)->check(NotEmpty())->required();
}

void Command::Optional(const std::string& name, std::vector<std::string>& texts,
                       const std::string& help) const {
  app_.add_option(name, texts, help)->check(NotEmpty());
}

void Command::Number(const std::string& names, int& number, uint64_t min, uint64_t max,
                     const std::string& help) const {
  app_.add_option(names, number, help)->check(WholeNumber(min, max))->capture_default_str();
}

void Command::Number(const std::string& names, unsigned& number, uint64_t min, uint64_t max,
                     const std::string& help) const {
  app_.add_option(names, number, help)->check(WholeNumber(min, max))->capture_default_str();
}

void Command::Number(const std::string& names, std::optional<unsigned>& number, uint64_t min, uint64_t max,
                     const std::string& help) const {
  app_.add_option(names, number, help)->check(WholeNumber(min, max))->option_text("NUMBER");
}

void Command::Number(const std::string& names, std::optional<uint64_t>& number, uint64_t min, uint64_t max,
                     const std::string& help) const {
  app_.add_option(names, number, help)->check(WholeNumber(min, max))->option_text("NUMBER");
}

void Command::Excludes(const std::string& name, const std::string& other) const {
  app_.get_option(name)->excludes(app_.get_option(other));
}

void Command::Does(Action body) const {
  app_.callback([&action = action_, body = std::move(body)] { action = body; });
}

}  // namespace cli
