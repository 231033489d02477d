// The layout of a picture of a memory (page_map.h): which rows it has, how many pages are in a cell, and
// which cells are on which line. The same for SVG and for text, but for its sizes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/page_map.h"

namespace cli {

// A cell shows the first of these that it has.
inline constexpr std::array<PageLook, kPageLooks> kLooksByInterest = {
    PageLook::kModified, PageLook::kShared, PageLook::kSwapped, PageLook::kVz,    PageLook::kPr,
    PageLook::kVr,       PageLook::kSp,     PageLook::kSr,      PageLook::kSz,    PageLook::kClean,
    PageLook::kZero,     PageLook::kUr,     PageLook::kUz,      PageLook::kAbsent};

// By PageLook.
using LookCounts = std::array<uint64_t, kPageLooks>;
constexpr size_t Index(PageLook look) { return static_cast<size_t>(look); }

// "1 page", "2 pages".
std::string PageCount(uint64_t count);

// A row of the picture before it is cut into cells: no run is empty or looks like the one before.
struct Strip {
  std::string name;  // as it came
  uint64_t start = 0;
  bool joined = false;  // of several rows: it has no addresses
  std::vector<MapRun> runs;
};

struct Strips {
  std::vector<Strip> strips;
  LookCounts counts{};
};

// The rows of a picture that has at most `rows_max`; what is too much is joined, or cut off at the end.
Strips MakeStrips(const std::vector<MapRow>& rows, size_t rows_max);

struct Sizes {
  uint64_t line_cells;
  uint64_t cells_max;  // Requires: not below the number of rows.
  uint64_t fold_cells;
};

// One cell, or several whose pages all look the same; only the last cell of a row has fewer pages than
// others.
struct Block {
  uint64_t first = 0;  // page of the row
  uint64_t pages = 0;
  uint64_t cells = 0;
  PageLook look = PageLook::kAbsent;
  LookCounts counts{};
};

inline bool IsUniform(const Block& block) { return block.counts[Index(block.look)] == block.pages; }

// Neighbouring cells of a line that are drawn the same way, or a fold.
struct Piece {
  Block block;
  uint64_t column = 0;
  unsigned shade = 0;  // 0 to 4: how much of it looks like that
  bool fold = false;
};
using Line = std::vector<Piece>;

struct PictureRow {
  std::string name;
  uint64_t start = 0;
  bool joined = false;
  std::vector<Line> lines;
};

struct Picture {
  uint64_t cell_pages = 1;
  LookCounts counts{};
  std::vector<PictureRow> rows;
  uint64_t folded_pages = 0;
};

// Chooses the pages of a cell, and places all cells.
Picture Layout(const Strips& strips, const Sizes& sizes);

}  // namespace cli
