// Reads pictures of memories back (cli/page_map.h): what is drawn where, what the legends say, and whether an
// SVG is XML.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cli_test {

std::vector<std::string> Lines(const std::string& text);

// All matches of a regular expression, each with its groups.
struct Match {
  std::vector<std::string> groups;
};
std::vector<Match> Find(const std::string& text, const std::string& pattern);

// A rectangle of cells or a fold of an SVG.
struct Drawn {
  uint64_t x = 0;
  uint64_t y = 0;
  uint64_t width = 0;
  std::string fill;
  std::string opacity;
  std::string tooltip;
  uint64_t pages = 0;
};
std::vector<Drawn> Cells(const std::string& svg);
std::vector<Drawn> Folds(const std::string& svg);
uint64_t PagesOf(const std::vector<Drawn>& drawn);
uint64_t CellCount(const std::vector<Drawn>& cells);

// The rows of a text, without their folds.
std::string CellsOfText(const std::string& text);

// The sums of the pages of the legends.
uint64_t LegendOfText(const std::string& text);
uint64_t LegendOfSvg(const std::string& svg);

// What is wrong with an XML document, of what a writer could do wrong; "" for nothing.
std::string WrongXml(const std::string& xml);
// The same of its characters only.
std::string WrongCharacters(const std::string& text);

}  // namespace cli_test
