#include "tests/tidy/tree.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <regex>

#include "tests/support/support.h"

namespace tidy {
namespace {

namespace fs = std::filesystem;

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// Blanks [from, to) of `text` but for its line ends.
void Blank(std::string& text, size_t from, size_t to) {
  for (size_t i = from; i < std::min(to, text.size()); ++i) {
    if (text[i] != '\n') text[i] = ' ';
  }
}

// The end of the constant whose opening quote stands at `quote`.
size_t EndOfQuoted(std::string_view text, size_t quote) {
  for (size_t i = quote + 1; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == text[quote]) {
      return i + 1;
    }
  }
  return text.size();
}

// The end of R"delimiter(...)delimiter", whose quote stands at `quote`.
size_t EndOfRaw(std::string_view text, size_t quote) {
  const size_t paren = text.find('(', quote);
  if (paren == std::string_view::npos) return text.size();
  const std::string close = ")" + std::string(text.substr(quote + 1, paren - quote - 1)) + "\"";
  const size_t end = text.find(close, paren);
  return end == std::string_view::npos ? text.size() : end + close.size();
}

// Preprocessor lines, with those that they continue on, made blank.
void BlankPreprocessor(std::string& code) {
  bool continued = false;
  for (size_t start = 0; start < code.size();) {
    const size_t end = std::min(code.find('\n', start), code.size());
    const size_t first = code.find_first_not_of(" \t", start);
    if (continued || (first < end && code[first] == '#')) {
      continued = end > start && code[end - 1] == '\\';
      Blank(code, start, end);
    }
    start = end + 1;
  }
}

// What a statement that a brace follows is: its text from the last ; { or } on.
enum class Scope { kNamespace, kType, kFunction, kOther };

Scope ScopeOf(const std::string& statement) {
  static const std::regex kNamespaceWords(R"(^\s*(inline\s+)?(namespace|extern)\b)");
  static const std::regex kTypeWords(
      R"(^\s*((public|private|protected)\s*:\s*)*(template\s*<[^()]*>\s*)?(typedef\s+)?(class|struct|union|enum)\b)");
  if (std::regex_search(statement, kNamespaceWords)) return Scope::kNamespace;
  if (std::regex_search(statement, kTypeWords)) return Scope::kType;
  return statement.find('(') != std::string::npos ? Scope::kFunction : Scope::kOther;
}

// Whether the brace behind `statement` opens a member's value in a constructor's list: "X() : a" {1}.
bool IsInitializer(const std::string& statement) {
  static const std::regex kList(R"(\)\s*(noexcept\s*)?:[^:])");
  const size_t last = statement.find_last_not_of(" \n");
  return last != std::string::npos && IsWord(statement[last]) && std::regex_search(statement, kList);
}

// The word before the first parenthesis that is not inside template arguments.
std::string NameOf(const std::string& statement) {
  int angle = 0;
  for (size_t i = 0; i < statement.size(); ++i) {
    if (statement[i] == '<') ++angle;
    if (statement[i] == '>' && angle > 0) --angle;
    if (statement[i] != '(' || angle > 0) continue;
    size_t end = i;
    while (end > 0 && statement[end - 1] == ' ') --end;
    size_t begin = end;
    while (begin > 0 && IsWord(statement[begin - 1])) --begin;
    return statement.substr(begin, end - begin);
  }
  return {};
}

// The offset behind the brace that closes the one at `open`.
size_t CloseOf(const std::string& code, size_t open) {
  int depth = 0;
  for (size_t i = open; i < code.size(); ++i) {
    if (code[i] == '{') ++depth;
    if (code[i] == '}' && --depth == 0) return i + 1;
  }
  return code.size();
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Findings& findings) {
  for (const Finding& finding : findings) {
    out << finding.path;
    if (finding.line > 0) out << ":" << finding.line;
    out << ": " << finding.what << "\n";
  }
  return out;
}

void Append(Findings& to, Findings from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

std::string Source::name() const { return fs::path(path).stem().string(); }

const std::vector<std::string>& Rooms() {
  static const std::vector<std::string> rooms = {"base",    "mm",       "proto", "ckpt",
                                                 "restore", "workload", "live",  "cli"};
  return rooms;
}

std::string Root() { return CKPT_SOURCE_DIR; }

Source ReadSource(const std::string& path) { return {path, support::ReadFile(fs::path(Root()) / path)}; }

std::vector<Source> Files(const std::vector<std::string>& folders, const std::vector<std::string>& endings) {
  std::vector<std::string> paths;
  for (const std::string& folder : folders) {
    if (!fs::is_directory(fs::path(Root()) / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(Root()) / folder)) {
      const std::string path = entry.path().string();
      const bool wanted =
          std::ranges::any_of(endings, [&](const std::string& ending) { return path.ends_with(ending); });
      if (entry.is_regular_file() && wanted) paths.push_back(fs::relative(path, Root()).string());
    }
  }
  std::ranges::sort(paths);
  std::vector<Source> sources;
  for (const std::string& path : paths) sources.push_back(ReadSource(path));
  return sources;
}

std::vector<std::string> Lines(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    lines.emplace_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

size_t LineOf(std::string_view text, size_t offset) {
  return 1 + static_cast<size_t>(std::ranges::count(text.substr(0, offset), '\n'));
}

std::string CodeOnly(std::string_view text) {
  std::string code(text);
  for (size_t i = 0; i < text.size();) {
    size_t end = i + 1;
    if (text.substr(i, 2) == "//") {
      end = std::min(text.find('\n', i), text.size());
      Blank(code, i, end);
    } else if (text.substr(i, 2) == "/*") {
      const size_t close = text.find("*/", i + 2);
      end = close == std::string_view::npos ? text.size() : close + 2;
      Blank(code, i, end);
    } else if (text[i] == '"') {
      const bool raw = i > 0 && text[i - 1] == 'R';
      end = raw ? EndOfRaw(text, i) : EndOfQuoted(text, i);
      Blank(code, i + 1, end - 1);
    } else if (text[i] == '\'' && (i == 0 || !IsWord(text[i - 1]))) {
      end = EndOfQuoted(text, i);
      Blank(code, i + 1, end - 1);
    }
    i = end;
  }
  return code;
}

std::vector<Function> Functions(const Source& source) {
  std::string code = CodeOnly(source.text);
  BlankPreprocessor(code);
  std::vector<Function> functions;
  std::string statement;
  size_t start = 0;  // of the statement's first word
  int parens = 0;
  for (size_t i = 0; i < code.size(); ++i) {
    const char c = code[i];
    if (statement.find_first_not_of(" \n") == std::string::npos) {
      statement.clear();
      start = i;
    }
    if (c == '(') ++parens;
    if (c == ')' && parens > 0) --parens;
    if (parens > 0 || (c != ';' && c != '{' && c != '}')) {
      statement += c;
      continue;
    }
    if (c != '{') {
      statement.clear();
      continue;
    }
    if (IsInitializer(statement)) {
      i = CloseOf(code, i) - 1;
      statement += "{}";
      continue;
    }
    const Scope scope = ScopeOf(statement);
    if (scope == Scope::kFunction || scope == Scope::kOther) {
      const size_t end = CloseOf(code, i);
      if (scope == Scope::kFunction) {
        functions.push_back(
            {NameOf(statement), LineOf(code, start), LineOf(code, end - 1), code.substr(i, end - i)});
      }
      i = end - 1;
    }
    statement.clear();
  }
  return functions;
}

std::vector<TestName> Tests(const Source& source) {
  static const std::regex kTest(
      R"(\b(?:TEST|TEST_F|TEST_P|RC_GTEST_PROP|RC_GTEST_FIXTURE_PROP|INSTANTIATE_TEST_SUITE_P)\(\s*(\w+)\s*,\s*(\w+))");
  std::vector<TestName> tests;
  const std::string code = CodeOnly(source.text);
  for (std::sregex_iterator it(code.begin(), code.end(), kTest), none; it != none; ++it) {
    tests.push_back({source.path, (*it)[1], (*it)[2]});
  }
  // Each race is a value of one test with parameters, and its name is a string.
  static const std::regex kRace(R"re("([GMOCA]\d\d[a-z]?_\w+)")re");
  if (!source.path.starts_with("tests/races/")) return tests;
  for (std::sregex_iterator it(source.text.begin(), source.text.end(), kRace), none; it != none; ++it) {
    tests.push_back({source.path, "Races", (*it)[1]});
  }
  return tests;
}

}  // namespace tidy
