#include "tests/cli/cli.h"

#include <algorithm>
#include <filesystem>

namespace cli_test {

const char kSmall[] = R"(name: "small"
machine { memory: "16MiB" }
file { name: "f" size: "64KiB" generator: "random" seed: 5 }
step { map { region: "m" file: "f" } }
step { store { region: "m" offset: "60KiB" fill { byte: 0xaa } } }
step { map { region: "a" length: "64KiB" } }
step { store { region: "a" length: "16KiB" fill { random { seed: 3 } } } }
step { fork { child: "kid" } }
step { process: "kid" store { region: "a" length: "4KiB" fill { byte: 0x11 } } }
step { checkpoint { label: "base" } }
step { load { region: "m" offset: "60KiB" equals { byte: 0xaa } } }
step { store { region: "a" offset: "32KiB" length: "4KiB" fill { text {} } } }
step { process: "kid" exit {} }
step { checkpoint { label: "later" } }
)";

Commands::Commands() { Write("small.textproto", kSmall); }

Outcome Commands::Ckpt(std::vector<std::string> args, Options options) const {
  options.folder = folder_.path();
  return cli_test::Ckpt(std::move(args), options);
}

void Commands::Image(const std::string& name, const std::string& label, const std::string& workload) const {
  const Outcome outcome = Ckpt({"run", workload, "-q", "--no-sync", "--at", label, "-o", name});
  EXPECT_TRUE(Good(outcome)) << outcome;
}

void Commands::Write(const std::string& name, const std::string& bytes) const {
  support::WriteFile(folder_ / name, bytes);
}

std::string Commands::Read(const std::string& name) const { return support::ReadFile(folder_ / name); }

bool Commands::Exists(const std::string& name) const { return std::filesystem::exists(folder_ / name); }

std::vector<std::string> Commands::Names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

testing::AssertionResult OneLine(const std::string& text, const std::string& says) {
  if (!text.starts_with("ckpt: ")) return testing::AssertionFailure() << "no error line: " << text;
  if (!text.ends_with('\n') || std::ranges::count(text, '\n') != 1) {
    return testing::AssertionFailure() << "not exactly one line: " << text;
  }
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::any_of(text.begin(), text.end() - 1, control)) {
    return testing::AssertionFailure() << "control characters: " << testing::PrintToString(text);
  }
  if (text.find(says) == std::string::npos) {
    return testing::AssertionFailure() << "does not say '" << says << "': " << text;
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult Refused(const Outcome& outcome, int exit_code, const std::string& says) {
  if (outcome.hung || outcome.exit_code != exit_code) {
    return testing::AssertionFailure() << "expected exit " << exit_code << ", got " << outcome;
  }
  if (!outcome.out.empty()) return testing::AssertionFailure() << "prints a result: " << outcome;
  return OneLine(outcome.err, says);
}

testing::AssertionResult Good(const Outcome& outcome) {
  if (outcome.exit_code == 0 && outcome.err.empty()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "expected exit 0 and no errors, got " << outcome;
}

nlohmann::json ParseJson(const std::string& text) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << "not JSON: " << text;
  return json.is_discarded() ? nlohmann::json() : json;
}

}  // namespace cli_test
