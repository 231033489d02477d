// The rules of manual pages and of docs/scenarios.md (rules.h).
#include <stdio.h>

#include <algorithm>
#include <map>
#include <memory>
#include <regex>
#include <set>

#include "base/check.h"
#include "base/error.h"
#include "tests/tidy/rules.h"

namespace tidy {
namespace {

std::string FileName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// What a shell command writes to its standard output.
std::string Output(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "re"), pclose);
  CHECK(pipe != nullptr);
  std::string text;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe.get())) > 0;) text.append(buffer, n);
  return text;
}

std::string Quoted(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

// The fields of a row "| a | b |" of a table, without the blanks around them; none for another line.
std::vector<std::string> Fields(const std::string& line) {
  std::vector<std::string> fields;
  if (!line.starts_with("| ")) return fields;
  for (size_t start = 1; start < line.size();) {
    const size_t end = line.find('|', start);
    if (end == std::string::npos) break;
    std::string field = line.substr(start, end - start);
    field.erase(0, std::min(field.find_first_not_of(' '), field.size()));
    field.erase(field.find_last_not_of(' ') + 1);
    fields.push_back(field);
    start = end + 1;
  }
  return fields;
}

std::set<std::string> Words(const std::string& field) {
  std::set<std::string> words;
  for (size_t start = 0; start < field.size();) {
    const size_t end = std::min(field.find(", ", start), field.size());
    words.insert(field.substr(start, end - start));
    start = end + 2;
  }
  words.erase("-");
  return words;
}

// What a scenario can wait for.
const std::set<std::string>& Waits() {
  static const std::set<std::string> waits = {"a second CPU", "hinting", "image hardening", "live"};
  return waits;
}

// The folders of tests/ that have a test with this id in its name.
std::set<std::string> FoldersWith(const std::string& id, const std::vector<TestName>& tests) {
  std::set<std::string> folders;
  for (const TestName& test : tests) {
    if (!NameHasId(test.name, id) && !NameHasId(test.suite, id)) continue;
    const size_t start = test.path.find('/') + 1;
    folders.insert(test.path.substr(start, test.path.rfind('/') - start));
  }
  return folders;
}

// One row: id, what it shows, tests, waits for.
void CheckRow(Findings& findings, const Source& doc, size_t line, const std::vector<std::string>& fields,
              const std::vector<TestName>& tests) {
  const auto wrong = [&](const std::string& what) {
    findings.push_back({doc.path, line, fields[0] + ": " + what});
  };
  if (fields.size() != 4) return wrong("a row has four fields");
  const std::set<std::string> named = Words(fields[2]);
  const std::set<std::string> waits = Words(fields[3]);
  const std::set<std::string> found = FoldersWith(fields[0], tests);
  for (const std::string& folder : named) {
    if (!found.contains(folder)) wrong("no test with this id in its name under tests/" + folder);
  }
  for (const std::string& folder : found) {
    if (!named.contains(folder)) wrong("tests/" + folder + " has a test of it, which the row does not say");
  }
  for (const std::string& wait : waits) {
    if (!Waits().contains(wait)) wrong("nothing that one can wait for: '" + wait + "'");
  }
  if (named.empty() && waits.empty()) wrong("has no tests and waits for nothing");
}

}  // namespace

Findings CheckManPages(const std::vector<Source>& cli_sources, const std::vector<Source>& pages) {
  static const std::regex kSubcommand(R"re(ckpt\.Add\(\s*"([\w-]+)")re");
  std::set<std::string> wanted = {"ckpt.1", "ckpt-image.5", "ckpt-workload.5"};
  for (const Source& source : cli_sources) {
    const std::string& text = source.text;
    for (std::sregex_iterator it(text.begin(), text.end(), kSubcommand), none; it != none; ++it) {
      wanted.insert("ckpt-" + (*it)[1].str() + ".1");
    }
  }
  Findings findings;
  std::set<std::string> there;
  for (const Source& page : pages) {
    there.insert(FileName(page.path));
    if (!wanted.contains(FileName(page.path))) {
      findings.push_back({page.path, 0, "describes no subcommand that there is"});
    }
  }
  for (const std::string& name : wanted) {
    if (!there.contains(name)) findings.push_back({"man/" + name, 0, "is not there"});
  }
  return findings;
}

Findings CheckManReferences(const std::vector<Source>& pages) {
  static const std::regex kReference(R"(^\.Xr (ckpt[\w-]*) (\d))");
  std::set<std::string> there;
  for (const Source& page : pages) there.insert(FileName(page.path));
  Findings findings;
  for (const Source& page : pages) {
    size_t number = 0;
    for (const std::string& line : Lines(page.text)) {
      ++number;
      std::smatch match;
      if (!std::regex_search(line, match, kReference)) continue;
      const std::string name = match[1].str() + "." + match[2].str();
      if (!there.contains(name))
        findings.push_back({page.path, number, "refers to " + name + ", which is not there"});
    }
  }
  return findings;
}

Findings CheckManLint(const std::string& path) {
  Findings findings;
  for (const std::string& line : Lines(Output("mandoc -Tlint -Wall " + Quoted(path) + " 2>&1"))) {
    if (line.find("referenced manual not found") != std::string::npos) continue;
    if (line.find("outdated mandoc.db") != std::string::npos) continue;
    findings.push_back({path, 0, line});
  }
  return findings;
}

std::vector<std::string> ScenarioIds() {
  struct Range {
    char letter;
    int first, last;
  };
  // As the specification numbers them; it leaves gaps between its sections.
  static constexpr Range kRanges[] = {{'G', 1, 37}, {'G', 40, 57}, {'G', 60, 71}, {'G', 75, 98},
                                      {'M', 1, 27}, {'O', 1, 15},  {'C', 1, 40},  {'A', 1, 8}};
  std::vector<std::string> ids;
  for (const Range& range : kRanges) {
    for (int i = range.first; i <= range.last; ++i) {
      ids.push_back(base::Format("%c%02d", range.letter, i));
      if (ids.back() == "G69") ids.emplace_back("G69b");
    }
  }
  return ids;
}

bool NameHasId(const std::string& name, const std::string& id) {
  for (size_t at = name.find(id); at != std::string::npos; at = name.find(id, at + 1)) {
    const char before = at == 0 ? '_' : name[at - 1];
    const char after = at + id.size() == name.size() ? '_' : name[at + id.size()];
    const bool starts = before == '_' || (before >= 'a' && before <= 'z');
    const bool ends = after == '_' || (after >= 'A' && after <= 'Z');
    if (starts && ends) return true;
  }
  return false;
}

Findings CheckScenarios(const Source& doc, const std::vector<std::string>& ids,
                        const std::vector<Source>& test_sources) {
  static const std::regex kId(R"(^[GMOCA]\d\d[a-z]?$)");
  std::vector<TestName> tests;
  for (const Source& source : test_sources) {
    for (TestName& test : Tests(source)) tests.push_back(std::move(test));
  }
  Findings findings;
  std::map<std::string, int> rows;
  size_t number = 0;
  for (const std::string& line : Lines(doc.text)) {
    ++number;
    const std::vector<std::string> fields = Fields(line);
    if (fields.empty() || !std::regex_match(fields[0], kId)) continue;
    if (++rows[fields[0]] > 1) findings.push_back({doc.path, number, fields[0] + ": stands here twice"});
    if (std::ranges::find(ids, fields[0]) == ids.end()) {
      findings.push_back({doc.path, number, fields[0] + ": no scenario has this id"});
    }
    CheckRow(findings, doc, number, fields, tests);
  }
  for (const std::string& id : ids) {
    if (!rows.contains(id)) findings.push_back({doc.path, 0, id + ": has no row"});
  }
  return findings;
}

}  // namespace tidy
