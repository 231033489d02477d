#include "cli/image_map.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/units.h"
#include "cli/print.h"
#include "mm/pte.h"

namespace cli {
namespace {

using base::kPageSize;
using ckpt_pb::PageRun;

// Runs of looks by page number, put behind each other with what is absent between them.
class RowMaker {
 public:
  explicit RowMaker(MapRow& row) : row_(row), next_(row.start / kPageSize) {}

  // Pages before the row, or before those that were added, are left out.
  void Add(uint64_t first, uint64_t count, PageLook look) {
    const uint64_t end = first + count;
    if (end <= next_) return;
    first = std::max(first, next_);
    Put(first - next_, PageLook::kAbsent);
    Put(end - first, look);
    next_ = end;
  }
  void End(uint64_t end) {
    if (end > next_) Put(end - next_, PageLook::kAbsent);
  }

 private:
  void Put(uint64_t count, PageLook look) {
    if (count == 0) return;
    if (!row_.runs.empty() && row_.runs.back().look == look) {
      row_.runs.back().count += count;
    } else {
      row_.runs.push_back({count, look});
    }
  }

  MapRow& row_;
  uint64_t next_;
};

struct Piece {
  uint64_t first;
  uint64_t count;
  PageLook look;
};
// By mm or object, ascending.
using Pieces = std::map<uint32_t, std::vector<Piece>>;

base::Result<Pieces> StoredPieces(const image::Reader& image) {
  // Which pages a later run shares: from number to end.
  std::map<uint64_t, uint64_t> shared;
  TRY_VOID(image.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    for (const PageRun& run : chunk.run()) {
      if (run.kind() != PageRun::SAME) continue;
      uint64_t& end = shared[run.stored()];
      end = std::max<uint64_t>(end, run.stored() + run.count());
    }
    return {};
  }));
  Pieces pieces;
  const auto add_pages = [&](const PageRun& run, uint64_t first_number) {
    std::vector<Piece>& out = pieces[run.objref()];
    uint64_t done = 0;
    while (done < run.count()) {
      const uint64_t number = first_number + done;
      auto after = shared.upper_bound(number);
      const bool inside = after != shared.begin() && std::prev(after)->second > number;
      uint64_t stop = first_number + run.count();
      if (inside) stop = std::min(stop, std::prev(after)->second);
      if (!inside && after != shared.end()) stop = std::min(stop, after->first);
      out.push_back({run.first() + done, stop - number, inside ? PageLook::kShared : PageLook::kModified});
      done = stop - first_number;
    }
  };
  uint64_t next = 0;
  TRY_VOID(image.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    for (const PageRun& run : chunk.run()) {
      const uint64_t number = next;
      if (image::IsNumbered(run)) next += run.count();
      if (run.owner() != PageRun::MM && run.owner() != PageRun::SHMEM) continue;
      if (run.kind() == PageRun::STORED || run.kind() == PageRun::COPY) add_pages(run, number);
      if (run.kind() == PageRun::SAME)
        pieces[run.objref()].push_back({run.first(), run.count(), PageLook::kShared});
      if (run.kind() == PageRun::ZERO)
        pieces[run.objref()].push_back({run.first(), run.count(), PageLook::kZero});
    }
    return {};
  }));
  return pieces;
}

// What the page tables of a guest say.
Pieces GuestPieces(const ckpt_pb::Guest& guest) {
  std::vector<uint32_t> mapped(guest.high_water(), 0);
  std::vector<bool> anonymous(guest.high_water(), false);
  uint64_t frame = 0;
  for (int i = 0; i < std::min(guest.page_pfn_size(), guest.page_owner_size()); ++i) {
    frame += guest.page_pfn(i);
    if (frame < anonymous.size()) anonymous[frame] = guest.page_owner(i) == 1;
  }
  const auto frame_of = [&](uint64_t word) -> uint64_t {
    const uint64_t pfn = word >> mm::kPtePayloadShift;
    return mm::pte_present(mm::Pte{word}) && pfn > 0 && pfn < mapped.size() ? pfn : 0;
  };
  for (const ckpt_pb::GuestMm& mm : guest.mm()) {
    for (const uint64_t word : mm.pte()) {
      if (const uint64_t pfn = frame_of(word); pfn != 0) ++mapped[pfn];
    }
  }
  const auto look_of = [&](uint64_t word) {
    if (mm::pte_swap(mm::Pte{word})) return PageLook::kSwapped;
    if (!mm::pte_present(mm::Pte{word})) return PageLook::kAbsent;
    const uint64_t pfn = frame_of(word);
    if (pfn == 0) return PageLook::kZero;
    if (!anonymous[pfn]) return PageLook::kClean;
    return mapped[pfn] > 1 ? PageLook::kShared : PageLook::kModified;
  };
  Pieces pieces;
  std::map<uint32_t, uint64_t> last;
  for (const ckpt_pb::GuestMm& mm : guest.mm()) {
    uint64_t& page = last[mm.objref()];
    for (int i = 0; i < std::min(mm.pte_size(), mm.pte_page_size()); ++i) {
      page += mm.pte_page(i);
      pieces[mm.objref()].push_back({page, 1, look_of(mm.pte(i))});
    }
  }
  return pieces;
}

MapRow FramesRow(const ckpt_pb::Guest& guest) {
  constexpr PageLook kLooks[] = {PageLook::kSr, PageLook::kSp, PageLook::kSz, PageLook::kUr,
                                 PageLook::kUz, PageLook::kVr, PageLook::kVz, PageLook::kPr};
  MapRow row{.name = "frames of the guest", .start = 0, .runs = {}};
  RowMaker maker(row);
  uint64_t first = 0;
  for (const uint64_t run : guest.state_run()) {
    maker.Add(first, run / 16, kLooks[run % 8]);
    first += run / 16;
  }
  return row;
}

// Pages of a vma: its own, or those of the shared object that it maps.
void AddVmaRow(const image::Reader& image, const Pieces& pieces, const ckpt_pb::Vma& vma,
               const std::string& who, uint32_t mm, PageMap& map) {
  const bool guest = image.machine().scope() == ckpt_pb::Machine::MACHINE;
  const bool object = !guest && vma.kind() == ckpt_pb::Vma::SHM_ANON;
  const std::string name = VmaFileName(image, vma);
  MapRow& row = map.rows.emplace_back();
  row.name = base::Format("%s %llx-%llx %s%s%s", who.c_str(), static_cast<unsigned long long>(vma.start()),
                          static_cast<unsigned long long>(vma.end()), Perms(vma.flags()).c_str(),
                          name.empty() ? "" : " ", name.c_str());
  row.start = vma.start();
  RowMaker maker(row);
  const uint64_t end = vma.end() / kPageSize;
  const auto found = pieces.find(object ? vma.file_objref() : mm);
  if (found != pieces.end()) {
    // Where page 0 of the pieces lies.
    const uint64_t shift = object ? vma.start() / kPageSize - vma.pgoff() : 0;
    const uint64_t begin = vma.start() / kPageSize - shift;
    auto at = std::ranges::partition_point(
        found->second, [&](const Piece& piece) { return piece.first + piece.count <= begin; });
    for (; at != found->second.end() && at->first + shift < end; ++at)
      maker.Add(at->first + shift, std::min(at->count, end - at->first - shift), at->look);
  }
  maker.End(end);
}

}  // namespace

std::string Perms(uint64_t vm_flags) {
  std::string text;
  text += (vm_flags & 0x1) != 0 ? 'r' : '-';
  text += (vm_flags & 0x2) != 0 ? 'w' : '-';
  text += (vm_flags & 0x4) != 0 ? 'x' : '-';
  text += (vm_flags & 0x8) != 0 ? 's' : 'p';
  return text;
}

std::string VmaFileName(const image::Reader& image, const ckpt_pb::Vma& vma) {
  if (vma.kind() == ckpt_pb::Vma::VDSO) return "[vdso]";
  for (const ckpt_pb::File& file : image.files().file()) {
    if (file.objref() == vma.file_objref()) return file.name() + (file.deleted() ? " (deleted)" : "");
  }
  return "";
}

base::Result<PageMap> MapOf(const image::Reader& image) {
  const bool guest = image.machine().scope() == ckpt_pb::Machine::MACHINE;
  PageMap map;
  map.title = base::Format(
      "%s: checkpoint '%s' of %s", image::InputName(image.path()).c_str(), image.machine().label().c_str(),
      guest ? "a whole guest"
            : Count(static_cast<uint64_t>(image.processes().process_size()), "process", "processes").c_str());
  const Pieces pieces = guest ? GuestPieces(image.guest()) : TRY(StoredPieces(image));
  if (guest && image.guest().state_run_size() > 0) map.rows.push_back(FramesRow(image.guest()));
  std::map<uint32_t, std::string> pids;
  for (const ckpt_pb::Process& process : image.processes().process()) {
    std::string& who = pids[process.mm_objref()];
    who += (who.empty() ? "" : ",") + std::to_string(process.pid());
  }
  for (const ckpt_pb::Mm& mm : image.processes().mm()) {
    for (const ckpt_pb::Vma& vma : image.vmas(mm.objref()).vma())
      AddVmaRow(image, pieces, vma, pids[mm.objref()], mm.objref(), map);
  }
  return map;
}

}  // namespace cli
