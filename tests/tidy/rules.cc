#include "tests/tidy/rules.h"

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <string_view>

#include "base/error.h"

namespace tidy {
namespace {

// The rooms whose headers each room may include, beside its own.
const std::map<std::string, std::set<std::string>>& Arrows() {
  static const std::map<std::string, std::set<std::string>> arrows = {
      {"base", {}},
      {"mm", {"base"}},
      {"proto", {"base"}},
      {"workload", {"base", "mm", "proto"}},
      {"ckpt", {"base", "mm", "proto"}},
      {"restore", {"base", "mm", "proto", "ckpt"}},
      {"live", {"base", "mm", "proto", "workload", "ckpt", "restore"}},
      {"cli", {"base", "mm", "proto", "workload", "ckpt", "restore", "live"}},
  };
  return arrows;
}

// Adds a finding for each match of `pattern` in `code`, which has the lines of `source`.
void FindAll(Findings& findings, const Source& source, const std::string& code, const std::regex& pattern,
             const std::string& what) {
  for (std::sregex_iterator it(code.begin(), code.end(), pattern), none; it != none; ++it) {
    findings.push_back({source.path, LineOf(code, static_cast<size_t>(it->position())),
                        base::Format("%s: %s", it->str().c_str(), what.c_str())});
  }
}

bool IsOneOf(const std::string& word, const std::vector<std::string>& words) {
  return std::ranges::find(words, word) != words.end();
}

}  // namespace

Findings CheckIncludes(const Source& source) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*(["<])([^">]+)[">])");
  Findings findings;
  const std::string room = source.room();
  size_t number = 0;
  for (const std::string& line : Lines(source.text)) {
    ++number;
    std::smatch match;
    if (!std::regex_search(line, match, kInclude)) continue;
    const std::string header = match[2];
    const std::string target = header.substr(0, header.find('/'));
    const auto wrong = [&](const std::string& why) {
      findings.push_back({source.path, number, base::Format("includes %s: %s", header.c_str(), why.c_str())});
    };
    if (room == "mm" && (target == "google" || header.ends_with(".pb.h"))) {
      wrong("protobuf stays out of mm/");
    } else if (target == "tests" || target == "bench") {
      wrong("the product does not depend on its tests");
    } else if (IsOneOf(target, Rooms()) && target != room) {
      if (!Arrows().at(room).contains(target)) wrong("no arrow leads from " + room + "/ to " + target + "/");
      if (room == "restore" && target == "ckpt" && header != "ckpt/source.h") {
        wrong("of ckpt/, restore/ includes source.h alone");
      }
    } else if (match[1] == "\"" && header.find('/') == std::string::npos) {
      wrong("headers of ours are named by their path from the top");
    }
  }
  return findings;
}

Findings CheckPrinting(const Source& source) {
  static const std::regex kPrints(
      R"(\bstd::(cout|cerr|clog)\b|\b(printf|vprintf|fprintf|vfprintf|puts|fputs|putchar|fputc|perror|dprintf)\s*\(|\b(stdout|stderr|STDOUT_FILENO|STDERR_FILENO)\b)");
  Findings findings;
  if (source.room() == "cli" || source.path == "base/check.cc") return findings;
  FindAll(findings, source, CodeOnly(source.text), kPrints, "only cli/ prints; return a base::Error instead");
  return findings;
}

Findings CheckHeader(const Source& source) {
  Findings findings;
  if (!source.text.starts_with("// ")) {
    findings.push_back({source.path, 1, "a header opens with a comment that says what it is"});
  }
  if (source.text.find("\n#pragma once\n") == std::string::npos) {
    findings.push_back({source.path, 0, "no #pragma once"});
  }
  return findings;
}

Findings CheckFileLength(const Source& source) {
  const size_t lines = Lines(source.text).size();
  if (lines < kFileLinesMax) return {};
  return {{source.path, lines, base::Format("%zu lines: split it below %zu", lines, kFileLinesMax)}};
}

Findings CheckFunctionLength(const Source& source) {
  Findings findings;
  for (const Function& function : Functions(source)) {
    if (function.lines() < kFunctionLinesMax) continue;
    findings.push_back({source.path, function.first_line,
                        base::Format("%s has %zu lines: split it below %zu", function.name.c_str(),
                                     function.lines(), kFunctionLinesMax)});
  }
  return findings;
}

Findings CheckNotes(const Source& source) {
  // Put together here, so that this file keeps its own rule.
  static const std::regex kNote(
      "\\b(TO"
      "DO|FIX"
      "ME|X"
      "XX)\\b");
  Findings findings;
  FindAll(findings, source, source.text, kNote, "do it, or open an issue");
  return findings;
}

Findings CheckSkips(const Source& source) {
  static const std::regex kSkip(R"(\bDISABLED_|\bGTEST_SKIP\b)");
  Findings findings;
  const std::vector<std::string> lines = Lines(source.text);
  const std::vector<std::string> code = Lines(CodeOnly(source.text));
  for (size_t i = 0; i < lines.size(); ++i) {
    if (!std::regex_search(code[i], kSkip)) continue;
    const bool beside = lines[i].find("//") != std::string::npos;
    const bool above = i > 0 && lines[i - 1].find("//") != std::string::npos;
    const bool printed = code[i].find("<< \"") != std::string::npos;
    if (!beside && !above && !printed) {
      findings.push_back({source.path, i + 1, "a test that does not run says why"});
    }
  }
  return findings;
}

Findings CheckTested(const std::vector<Source>& sources, const std::vector<Source>& tests,
                     const std::vector<TestedBy>& elsewhere) {
  std::string includes;
  std::set<std::string> paths;
  for (const Source& test : tests) {
    includes += test.text;
    paths.insert(test.path);
  }
  Findings findings;
  for (const Source& source : sources) {
    const std::string header = source.path.substr(0, source.path.size() - 3) + ".h";
    const std::string own = "tests/" + source.room() + "/" + source.name() + "_test.cc";
    if (includes.find("#include \"" + header + "\"") != std::string::npos || paths.contains(own)) continue;
    const auto row = std::ranges::find(elsewhere, source.path, &TestedBy::source);
    if (row != elsewhere.end() && paths.contains(row->test)) continue;
    findings.push_back(
        {source.path, 0, "no test: " + own + " is not there, nor does a test include " + header});
  }
  for (const TestedBy& row : elsewhere) {
    if (std::ranges::find(sources, row.source, &Source::path) == sources.end()) {
      findings.push_back({row.source, 0, "said to be tested by " + row.test + ", and is not there"});
    }
  }
  return findings;
}

Findings CheckSwitchReaders(const Source& semantics, const std::vector<Source>& mm_sources) {
  // {"name", offsetof(Semantics, name), ... "reader"}
  static const std::regex kRow(R"re(\{"(\w+)",\s*offsetof\([^{}]*?"(\w+)"\s*\})re");
  std::vector<Function> functions;
  for (const Source& source : mm_sources) {
    for (Function& function : Functions(source)) functions.push_back(std::move(function));
  }
  Findings findings;
  const std::string& text = semantics.text;
  size_t rows = 0;
  for (std::sregex_iterator it(text.begin(), text.end(), kRow), none; it != none; ++it, ++rows) {
    const std::string name = (*it)[1];
    const std::string reader = (*it)[2];
    const std::regex word("\\b" + name + "\\b");
    const bool reads = std::ranges::any_of(functions, [&](const Function& function) {
      return function.name == reader && std::regex_search(function.body, word);
    });
    if (reads) continue;
    findings.push_back(
        {semantics.path, LineOf(text, static_cast<size_t>(it->position())),
         base::Format("switch %s: no function %s in mm/ reads it", name.c_str(), reader.c_str())});
  }
  if (rows == 0) findings.push_back({semantics.path, 0, "no table of switches found"});
  return findings;
}

Findings CheckRoomsDocumented(const Source& doc, const std::vector<std::string>& folders) {
  Findings findings;
  for (const std::string& folder : folders) {
    if (doc.text.find("| `" + folder + "/` |") == std::string::npos) {
      findings.push_back({doc.path, 0, "no row for " + folder + "/"});
    }
  }
  return findings;
}

}  // namespace tidy
