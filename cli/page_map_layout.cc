#include "cli/page_map_layout.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace cli {
namespace {

constexpr uint64_t kPagesMax = (uint64_t{1} << 52) - 1;

constexpr std::array<size_t, kPageLooks> kRanks = [] {
  std::array<size_t, kPageLooks> ranks{};
  for (size_t rank = 0; rank < kPageLooks; ++rank) ranks[Index(kLooksByInterest[rank])] = rank;
  return ranks;
}();

void AddRuns(Strip& strip, const std::vector<MapRun>& runs, LookCounts& counts, uint64_t& room) {
  for (const MapRun& run : runs) {
    CHECK(Index(run.look) < kPageLooks);
    const uint64_t count = std::min(run.count, room);
    if (count == 0) continue;
    room -= count;
    counts[Index(run.look)] += count;
    if (!strip.runs.empty() && strip.runs.back().look == run.look) {
      strip.runs.back().count += count;
    } else {
      strip.runs.push_back({count, run.look});
    }
  }
}

// Which rows are shown, by their numbers: the `count` that have most pages which are not absent, then those
// that have most pages, then the first.
std::vector<bool> ChooseRows(const std::vector<MapRow>& rows, size_t count) {
  if (rows.size() <= count) return std::vector<bool>(rows.size(), true);
  struct Weight {
    uint64_t present = 0;
    uint64_t pages = 0;
  };
  std::vector<Weight> weights(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const MapRun& run : rows[i].runs) {
      const uint64_t pages = std::min(run.count, kPagesMax - weights[i].pages);
      weights[i].pages += pages;
      if (run.look != PageLook::kAbsent) weights[i].present += pages;
    }
  }
  std::vector<size_t> order(rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(),
                   [&](size_t a, size_t b) {
                     if (weights[a].present != weights[b].present)
                       return weights[a].present > weights[b].present;
                     if (weights[a].pages != weights[b].pages) return weights[a].pages > weights[b].pages;
                     return a < b;
                   });
  std::vector<bool> chosen(rows.size(), false);
  for (size_t i = 0; i < count; ++i) chosen[order[i]] = true;
  return chosen;
}

bool IsFold(const Block& block, const Sizes& sizes) {
  return block.look == PageLook::kAbsent && block.cells >= sizes.line_cells;
}

void Fill(Block& block, PageLook look, uint64_t pages) {
  if (block.pages == 0 || kRanks[Index(look)] < kRanks[Index(block.look)]) block.look = look;
  block.pages += pages;
  block.counts[Index(look)] += pages;
}

// Cuts a row into cells of one size.
class Cutter {
 public:
  Cutter(uint64_t cell_pages, const Sizes& sizes, uint64_t& room)
      : cell_pages_(cell_pages), sizes_(sizes), room_(room) {}

  // Takes the cells off the room; false if there are too many.
  bool Cut(const Strip& strip) {
    Block cell{.cells = 1};  // that is not yet full
    for (const MapRun& run : strip.runs) {
      uint64_t left = run.count;
      if (cell.pages != 0) {
        const uint64_t part = std::min(left, cell_pages_ - cell.pages);
        Fill(cell, run.look, part);
        left -= part;
        if (cell.pages == cell_pages_ && !Add(std::exchange(cell, {.cells = 1}))) return false;
      }
      if (const uint64_t cells = left / cell_pages_; cells != 0) {
        Block whole{.cells = cells};
        Fill(whole, run.look, cells * cell_pages_);
        if (!Add(whole)) return false;
      }
      if (left % cell_pages_ != 0) Fill(cell, run.look, left % cell_pages_);
    }
    if (cell.pages != 0 && !Add(cell)) return false;
    return PayForLast();
  }

  std::vector<Block> Take() { return std::move(blocks_); }

 private:
  bool PayForLast() {
    if (blocks_.empty()) return true;
    const uint64_t cost = IsFold(blocks_.back(), sizes_) ? sizes_.fold_cells : blocks_.back().cells;
    if (cost > room_) return false;
    room_ -= cost;
    return true;
  }

  bool Add(Block block) {
    block.first = page_;
    page_ += block.pages;
    if (!blocks_.empty() && blocks_.back().look == block.look && IsUniform(blocks_.back()) &&
        IsUniform(block)) {
      Block& last = blocks_.back();
      last.cells += block.cells;
      last.pages += block.pages;
      last.counts[Index(last.look)] += block.pages;
      return true;
    }
    if (!PayForLast()) return false;
    blocks_.push_back(block);
    return true;
  }

  uint64_t cell_pages_;
  const Sizes& sizes_;
  uint64_t& room_;
  uint64_t page_ = 0;
  std::vector<Block> blocks_;
};

// The first of the block's cells that go on a line; they are taken off the block.
Block Split(Block& block, uint64_t cells, uint64_t cell_pages) {
  if (cells >= block.cells) return std::exchange(block, {});
  Block part = block;
  part.cells = cells;
  part.pages = cells * cell_pages;
  part.counts[Index(part.look)] = part.pages;
  block.cells -= part.cells;
  block.first += part.pages;
  block.pages -= part.pages;
  block.counts[Index(block.look)] -= part.pages;
  return part;
}

void AddPiece(Line& line, const Block& block, uint64_t column) {
  const auto shade = static_cast<unsigned>(block.counts[Index(block.look)] * 4 / block.pages);
  if (line.empty() || line.back().fold || line.back().block.look != block.look ||
      line.back().shade != shade) {
    line.push_back({.block = block, .column = column, .shade = shade});
    return;
  }
  Block& last = line.back().block;
  last.cells += block.cells;
  last.pages += block.pages;
  for (size_t i = 0; i < kPageLooks; ++i) last.counts[i] += block.counts[i];
}

std::vector<Line> Place(std::vector<Block> blocks, uint64_t cell_pages, const Sizes& sizes) {
  std::vector<Line> lines(1);
  uint64_t column = 0;
  for (Block& block : blocks) {
    const bool fold = IsFold(block, sizes);
    while (block.cells != 0) {
      if (column + (fold ? sizes.fold_cells : 1) > sizes.line_cells) {
        lines.emplace_back();
        column = 0;
      }
      if (fold) {
        lines.back().push_back(
            {.block = std::exchange(block, {}), .column = column, .shade = 4, .fold = true});
        column += sizes.fold_cells;
      } else {
        const Block part = Split(block, sizes.line_cells - column, cell_pages);
        AddPiece(lines.back(), part, column);
        column += part.cells;
      }
    }
  }
  return lines;
}

// The cells of all rows at this size; none if they are too many.
std::vector<std::vector<Block>> CutAll(const std::vector<Strip>& strips, uint64_t cell_pages,
                                       const Sizes& sizes) {
  std::vector<std::vector<Block>> rows;
  uint64_t room = sizes.cells_max;
  for (const Strip& strip : strips) {
    Cutter cutter(cell_pages, sizes, room);
    if (!cutter.Cut(strip)) return {};
    rows.push_back(cutter.Take());
  }
  return rows;
}

}  // namespace

std::string PageCount(uint64_t count) {
  return base::Format("%llu %s", static_cast<unsigned long long>(count), count == 1 ? "page" : "pages");
}

Strips MakeStrips(const std::vector<MapRow>& rows, size_t rows_max) {
  const bool join = rows.size() > rows_max;
  const std::vector<bool> chosen = ChooseRows(rows, join ? rows_max - 1 : rows_max);
  Strips result;
  Strip rest;
  rest.joined = true;
  uint64_t room = kPagesMax;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (chosen[i]) result.strips.push_back({rows[i].name, rows[i].start, false, {}});
    AddRuns(chosen[i] ? result.strips.back() : rest, rows[i].runs, result.counts, room);
  }
  if (!join) return result;
  uint64_t pages = 0;
  for (const MapRun& run : rest.runs) pages += run.count;
  rest.name =
      base::Format("... %zu more vmas (%s)", rows.size() - result.strips.size(), PageCount(pages).c_str());
  result.strips.push_back(std::move(rest));
  return result;
}

Picture Layout(const Strips& strips, const Sizes& sizes) {
  Picture picture;
  picture.counts = strips.counts;
  std::vector<std::vector<Block>> rows = CutAll(strips.strips, 1, sizes);
  while (rows.size() != strips.strips.size()) {
    picture.cell_pages *= 2;
    rows = CutAll(strips.strips, picture.cell_pages, sizes);
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const Strip& strip = strips.strips[i];
    for (const Block& block : rows[i]) picture.folded_pages += IsFold(block, sizes) ? block.pages : 0;
    picture.rows.push_back({.name = strip.name,
                            .start = strip.start,
                            .joined = strip.joined,
                            .lines = Place(std::move(rows[i]), picture.cell_pages, sizes)});
  }
  return picture;
}

}  // namespace cli
