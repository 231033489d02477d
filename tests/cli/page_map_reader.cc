#include "tests/cli/page_map_reader.h"

#include <algorithm>
#include <regex>
#include <set>

#include "base/error.h"

namespace cli_test {
namespace {

uint64_t PagesIn(const std::string& tooltip) {
  const std::vector<Match> pages = Find(tooltip, "(\\d+) pages?[,:]");
  return pages.size() == 1 ? std::stoull(pages[0].groups[1]) : 0;
}

std::string WrongAttributes(const std::string& text) {
  static const std::regex kAll("( [a-z][\\w-]*(:[a-z]+)?=\"[^\"<]*\")*");
  if (!std::regex_match(text, kAll)) return "attributes:" + text;
  std::set<std::string> names;
  for (const Match& match : Find(text, " ([\\w:-]+)=\"")) {
    if (!names.insert(match.groups[1]).second) return "twice: " + match.groups[1];
  }
  return "";
}

}  // namespace

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

std::vector<Match> Find(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::vector<Match> matches;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), none; it != none; ++it) {
    Match match;
    for (const auto& group : *it) match.groups.push_back(group.str());
    matches.push_back(std::move(match));
  }
  return matches;
}

std::vector<Drawn> Cells(const std::string& svg) {
  std::vector<Drawn> cells;
  for (const Match& match :
       Find(svg,
            "<rect x=\"(\\d+)\" y=\"(\\d+)\" width=\"(\\d+)\" height=\"14\" fill=\"(#\\w+)\""
            "(?: fill-opacity=\"([^\"]*)\")?><title>([^<]*)</title></rect>")) {
    const std::vector<std::string>& g = match.groups;
    cells.push_back(
        {std::stoull(g[1]), std::stoull(g[2]), std::stoull(g[3]), g[4], g[5], g[6], PagesIn(g[6])});
  }
  return cells;
}

std::vector<Drawn> Folds(const std::string& svg) {
  std::vector<Drawn> folds;
  for (const Match& match :
       Find(svg, "<g><title>([^<]*)</title><rect x=\"(\\d+)\" y=\"(\\d+)\" width=\"(\\d+)\"")) {
    const std::vector<std::string>& g = match.groups;
    folds.push_back({std::stoull(g[2]), std::stoull(g[3]), std::stoull(g[4]), "", "", g[1], PagesIn(g[1])});
  }
  return folds;
}

uint64_t PagesOf(const std::vector<Drawn>& drawn) {
  uint64_t pages = 0;
  for (const Drawn& one : drawn) pages += one.pages;
  return pages;
}

uint64_t CellCount(const std::vector<Drawn>& cells) {
  uint64_t count = 0;
  for (const Drawn& one : cells) count += one.width / 12;
  return count;
}

std::string CellsOfText(const std::string& text) {
  const size_t start = text.find("\n\n") + 2;
  return std::regex_replace(text.substr(start, text.find("\n\n", start) - start), std::regex("<[^>]*>"), "");
}

uint64_t LegendOfText(const std::string& text) {
  uint64_t pages = 0;
  for (const Match& match : Find(text, "\n[^\n]+  +(\\d+) pages?  +[\\d.]+ \\w*B(?=\n)")) {
    pages += std::stoull(match.groups[1]);
  }
  return pages;
}

uint64_t LegendOfSvg(const std::string& svg) {
  uint64_t pages = 0;
  for (const Match& match : Find(svg, "text-anchor=\"end\">(\\d+) pages?</text>")) {
    pages += std::stoull(match.groups[1]);
  }
  return pages;
}

std::string WrongCharacters(const std::string& text) {
  static const std::regex kEntity("&(amp|lt|gt|quot|#39);");
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 && byte != '\n') return base::Format("control %02x", byte);
    if (byte == '&' && !std::regex_search(text.begin() + static_cast<ptrdiff_t>(i), text.end(), kEntity,
                                          std::regex_constants::match_continuous)) {
      return "a bare &";
    }
    size_t more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc2 ? 1 : 0;
    if (more == 0 && byte >= 0x80) return "not UTF-8";
    for (; more > 0; --more) {
      if (++i >= text.size() || (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return "not UTF-8";
    }
  }
  return "";
}

std::string WrongXml(const std::string& xml) {
  const std::string head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  if (!xml.starts_with(head)) return "no declaration";
  if (const std::string wrong = WrongCharacters(xml); !wrong.empty()) return wrong;
  std::vector<std::string> open;
  size_t roots = 0;
  for (size_t i = head.size(); i < xml.size();) {
    if (xml[i] != '<') {
      if (open.empty() && xml[i] != '\n') return "text outside";
      ++i;
      continue;
    }
    const size_t end = xml.find('>', i);
    if (end == std::string::npos) return "an open tag";
    std::string tag = xml.substr(i + 1, end - i - 1);
    i = end + 1;
    if (tag.starts_with("/")) {
      if (open.empty() || open.back() != tag.substr(1)) return "closes " + tag;
      open.pop_back();
      continue;
    }
    if (open.empty() && ++roots > 1) return "two roots";
    const bool empty = tag.ends_with("/");
    if (empty) tag.pop_back();
    const size_t name = std::min(tag.find(' '), tag.size());
    if (!std::regex_match(tag.substr(0, name), std::regex("[a-z]+"))) return "tag " + tag;
    if (const std::string wrong = WrongAttributes(tag.substr(name)); !wrong.empty()) return wrong;
    if (!empty) open.push_back(tag.substr(0, name));
  }
  return roots == 1 && open.empty() ? "" : "does not end";
}

}  // namespace cli_test
