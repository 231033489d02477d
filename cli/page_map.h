// A picture of a memory: what its pages are, a row for every vma, drawn as SVG or as text for a terminal.
// Data in, a string out; nothing of images or of the model is known here.
//
// A cell stands for a page, or for a block of 2^n pages of its row, counted from the row's start. n is the
// same in the whole picture, which says it, and the smallest with which the cells are not too many: 4096 in
// SVG, 32 lines of them in text. Where rows are small, each has a line of its own on top of that.
//
// A cell whose pages look different shows the first look that it has of this order:
//   modified, shared, swapped, Vz, Pr, Vr, Sp, Sr, Sz, clean, zero, Ur, Uz, absent
// so that one modified page among millions is seen. In SVG the cell is the paler, the fewer of its pages look
// like that; the legend counts pages, not cells.
//
// Invariants:
//   1. The counts of the legend add up to the pages of all rows.
//   2. Every page is in one cell, but for those of a fold: a stretch of cells with only absent pages that
//      would fill a line is one mark with its size.
//   3. There are at most 128 rows (SVG) or 32 (text). Of more, those stay that have most pages which are not
//      absent; the others are one row at the end, "... N more vmas (M pages)", with all their pages.
//   4. Time and space are linear in runs, rows and bytes of names, whatever the counts are.
//   5. What came from outside, titles and names, is shown with \xNN for bytes that are not UTF-8, and for
//      controls, those of the writing direction too. It cannot write to a terminal or leave its XML element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cli {

// What a page is shown as. The last eight are the states of page hinting: what the guest says of the page
// (stable, unused, volatile, potentially volatile) and where the host has its bytes (resident, preserved,
// zero).
enum class PageLook : uint8_t {
  kAbsent,
  kClean,
  kModified,
  kShared,
  kZero,
  kSwapped,
  kSr,
  kSp,
  kSz,
  kUr,
  kUz,
  kVr,
  kVz,
  kPr,
};
inline constexpr size_t kPageLooks = 14;

// Consecutive pages. Neighbours may have the same look, and none may be in a run.
struct MapRun {
  uint64_t count = 0;
  PageLook look = PageLook::kAbsent;
};

// A vma, or the memory of a guest. `start` is the address of its first page.
struct MapRow {
  std::string name;
  uint64_t start = 0;
  std::vector<MapRun> runs;
};

// Pages after the first 2^52 - 1 are not shown: no 64-bit address space has more.
struct PageMap {
  std::string title;
  std::vector<MapRow> rows;
};

// A document of its own: SVG 1.1 in UTF-8, of 1.2 MB at most, with the pages of each piece as its tooltip.
std::string MapSvg(const PageMap& map);

// Rows of at most `columns` columns, which are taken to be 40 at least and 400 at most; a character is taken
// to be one column wide. The legend is not cut; it needs 70 columns at most. A look has a letter, and with
// `colour`, for a terminal that has 256 colours, a background too, but for absent pages, which have none.
std::string MapText(const PageMap& map, unsigned columns, bool colour);

}  // namespace cli
