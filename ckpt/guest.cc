#include "ckpt/guest.h"

#include <algorithm>
#include <cstring>

#include "base/units.h"

namespace ckpt {
namespace {

using ckpt_pb::Guest;
using ckpt_pb::PageRun;
using mm::Machine;
using mm::Pfn;

uint32_t Number(Pfn pfn) { return static_cast<uint32_t>(pfn); }

// Puts parts together, and hands each on before it is too long for a section.
class Describer {
 public:
  Describer(const Machine& machine, const GuestNames& names, const GuestPart& part)
      : machine_(machine), names_(names), hand_on_(part) {}

  base::Result<void> Run() {
    AddOnce();
    TRY_VOID(AddPins());
    TRY_VOID(AddStates());
    TRY_VOID(AddPages());
    TRY_VOID(AddLists());
    TRY_VOID(AddSwap());
    // In the order of the objrefs: the same guest makes the same bytes.
    std::map<uint32_t, mm::MmStruct*> mms;
    std::map<uint32_t, const mm::File*> files;
    for (const auto& [mm, objref] : names_.mms) mms.emplace(objref, mm);
    for (const auto& [file, objref] : names_.files) files.emplace(objref, file);
    for (const auto& [objref, mm] : mms) TRY_VOID(AddMm(*mm, objref));
    for (const auto& [objref, file] : files) TRY_VOID(AddFile(*file, objref));
    return Flush();
  }

 private:
  // Numbers of a part: each takes at most ten bytes.
  static constexpr uint64_t kNumbersMax = 90'000;

  base::Result<void> Flush() {
    TRY_VOID(hand_on_(part_));
    part_.Clear();
    numbers_ = 0;
    return {};
  }
  base::Result<void> Spend(uint64_t numbers) {
    numbers_ += numbers;
    return numbers_ < kNumbersMax ? base::Result<void>{} : Flush();
  }
  // The list's next numbers, in parts.
  template <class Range, class Add>
  base::Result<void> AddAll(const Range& range, Add&& add) {
    for (const auto& item : range) {
      add(item);
      TRY_VOID(Spend(1));
    }
    return {};
  }

  void AddOnce();
  base::Result<void> AddPins();
  base::Result<void> AddStates();
  base::Result<void> AddPages();
  base::Result<void> AddPage(const mm::Page& page);
  base::Result<void> AddLists();
  base::Result<void> AddLru(mm::Lru list, void (Guest::*add)(uint32_t));
  base::Result<void> AddSwap();
  base::Result<void> AddMm(mm::MmStruct& mm, uint32_t objref);
  base::Result<void> AddFile(const mm::File& file, uint32_t objref);

  const Machine& machine_;
  const GuestNames& names_;
  const GuestPart& hand_on_;
  Guest part_;
  uint64_t numbers_ = 0;
};

void Describer::AddOnce() {
  part_.set_high_water(machine_.frames.high_water());
  part_.set_next_file(static_cast<uint32_t>(machine_.next_file()));
  for (const mm::VmStatName& counter : mm::VmStatNames()) part_.add_vmstat(machine_.vmstat.*counter.value);
  const mm::ReclaimState& reclaim = machine_.reclaim;
  for (const uint64_t value :
       {reclaim.recent_scanned[0], reclaim.recent_scanned[1], reclaim.recent_rotated[0],
        reclaim.recent_rotated[1], uint64_t{reclaim.swappiness}, uint64_t{reclaim.pause},
        uint64_t{reclaim.pause_next}}) {
    part_.add_reclaim(value);
  }
  if (machine_.host == nullptr) return;
  for (const uint32_t number : machine_.host->position()) part_.add_host_position(number);
  const mm::HostStat& stat = machine_.host->stat();
  for (const uint64_t value : {stat.requests, stat.transitions, stat.backed, stat.paged_out, stat.paged_in,
                               stat.discarded, stat.taken_unused, stat.discard_faults}) {
    part_.add_host_stat(value);
  }
  part_.set_sign_off_mask(machine_.discarded->sign_off_mask());
  part_.set_dead_cpus(machine_.discarded->dead_cpus());
  part_.set_tickless_cpus(machine_.discarded->tickless_cpus());
}

base::Result<void> Describer::AddPins() {
  for (const auto& [pfn, count] : machine_.pins) {
    part_.add_pin_pfn(Number(pfn));
    part_.add_pin_count(static_cast<uint32_t>(count));
    TRY_VOID(Spend(2));
  }
  return {};
}

base::Result<void> Describer::AddStates() {
  if (machine_.host == nullptr) return {};
  const mm::Host& host = *machine_.host;
  const auto code = [&](uint32_t frame) {
    return static_cast<uint64_t>(host.state(Pfn{frame})) + (guest_drops(machine_, Pfn{frame}) ? 8 : 0);
  };
  for (uint32_t first = 0; first < host.known();) {
    uint32_t end = first + 1;
    while (end < host.known() && code(end) == code(first)) ++end;
    part_.add_state_run((end - first) * uint64_t{16} + code(first));
    TRY_VOID(Spend(1));
    first = end;
  }
  return {};
}

base::Result<void> Describer::AddPage(const mm::Page& page) {
  part_.add_page_flags(page.flags);
  part_.add_page_count(static_cast<uint32_t>(page.count));
  const mm::Mapping* mapping = mm::FileMapping(page);
  part_.add_page_owner(mapping != nullptr ? names_.files.at(mapping->host) + 1 : mm::PageAnon(page) ? 1 : 0);
  part_.add_page_index(page.index);
  part_.add_page_slot(page.slot);
  const mm::PteList chain = (page.flags & mm::PG_anon) != 0 ? mm::pte_chain_entries(page) : mm::PteList();
  part_.add_page_chain(static_cast<uint32_t>(chain.size()));
  TRY_VOID(Spend(7));
  for (const mm::PteAddr at : chain) {
    part_.add_chain_mm(names_.mms.at(at.mm));
    part_.add_chain_page(at.addr / base::kPageSize);
    TRY_VOID(Spend(2));
  }
  return {};
}

base::Result<void> Describer::AddPages() {
  uint32_t last = 0;
  for (uint32_t frame = 1; frame < machine_.frames.high_water(); ++frame) {
    const mm::Page& page = machine_.frames.at(Pfn{frame});
    if (page.count == 0 && page.flags == 0) continue;
    part_.add_page_pfn(frame - last);
    last = frame;
    TRY_VOID(AddPage(page));
  }
  return {};
}

base::Result<void> Describer::AddLru(mm::Lru list, void (Guest::*add)(uint32_t)) {
  const mm::LruLists& lists = machine_.frames.lru();
  for (Pfn pfn = lists.head(list); pfn != mm::kNoPfn; pfn = machine_.frames.at(pfn).lru_next) {
    (part_.*add)(Number(pfn));
    TRY_VOID(Spend(1));
  }
  return {};
}

base::Result<void> Describer::AddLists() {
  TRY_VOID(AddAll(machine_.frames.free_list(), [&](Pfn pfn) { part_.add_free(Number(pfn)); }));
  TRY_VOID(AddLru(mm::Lru::kInactiveAnon, &Guest::add_lru_inactive_anon));
  TRY_VOID(AddLru(mm::Lru::kActiveAnon, &Guest::add_lru_active_anon));
  TRY_VOID(AddLru(mm::Lru::kInactiveFile, &Guest::add_lru_inactive_file));
  TRY_VOID(AddLru(mm::Lru::kActiveFile, &Guest::add_lru_active_file));
  if (machine_.discarded == nullptr) return {};
  const mm::DiscardedPages& discarded = *machine_.discarded;
  for (unsigned cpu = 0; cpu < mm::NR_CPUS; ++cpu) {
    TRY_VOID(AddAll(discarded.on_cpu(cpu), [&](Pfn pfn) {
      part_.add_discarded_cpu(cpu);
      part_.add_discarded_cpu_pfn(Number(pfn));
    }));
  }
  TRY_VOID(AddAll(discarded.list(), [&](Pfn pfn) { part_.add_discarded(Number(pfn)); }));
  return AddAll(discarded.sign_off(), [&](Pfn pfn) { part_.add_sign_off(Number(pfn)); });
}

base::Result<void> Describer::AddSwap() {
  if (machine_.swap == nullptr) return {};
  const mm::SwapArea& swap = *machine_.swap;
  for (mm::SwpEntry slot = 1; slot < swap.high_water(); ++slot) {
    part_.add_slot_count(swap.count(slot));
    part_.add_slot_page(swap.cached(slot) == mm::kNoPfn ? 0 : Number(swap.cached(slot)) + 1);
    TRY_VOID(Spend(2));
  }
  return AddAll(swap.free_slots(), [&](mm::SwpEntry slot) { part_.add_slot_free(slot); });
}

base::Result<void> Describer::AddMm(mm::MmStruct& mm, uint32_t objref) {
  ckpt_pb::GuestMm* out = nullptr;
  uint64_t last_leaf = 0;
  uint64_t last_page = 0;
  const auto begin = [&] {
    if (out != nullptr && part_.mm_size() > 0) return;
    out = part_.add_mm();
    out->set_objref(objref);
    out->set_min_flt(mm.min_flt);
    out->set_maj_flt(mm.maj_flt);
    out->set_nr_aio(mm.nr_aio);
  };
  begin();
  mm::Vaddr addr = 0;
  while (const mm::Pte* pte = mm.pgtable.next_leaf(&addr, mm::TASK_SIZE)) {
    begin();
    const mm::Vaddr end = mm::PageTable::LeafEnd(addr);
    const uint64_t leaf = (end - 1) >> 21;
    out->add_leaf(leaf - last_leaf);
    last_leaf = leaf;
    uint64_t entries = 1;
    for (; addr < end; addr += base::kPageSize, ++pte) {
      if (mm::pte_none(*pte)) continue;
      out->add_pte_page(addr / base::kPageSize - last_page);
      last_page = addr / base::kPageSize;
      out->add_pte(mm::pte_clear_soft_dirty(*pte).word);
      entries += 2;
    }
    TRY_VOID(Spend(entries));
  }
  return {};
}

base::Result<void> Describer::AddFile(const mm::File& file, uint32_t objref) {
  ckpt_pb::GuestFile* out = nullptr;
  const auto begin = [&] {
    if (out != nullptr && part_.file_size() > 0) return out;
    out = part_.add_file();
    out->set_objref(objref);
    out->set_id(static_cast<uint32_t>(file.id()));
    out->set_truncate_count(file.mapping.truncate_count);
    out->set_mlocked(file.mapping.mlocked);
    out->set_swapfile(file.swapfile);
    return out;
  };
  begin();
  TRY_VOID(AddAll(file.mapping.pages, [&](const auto& entry) {
    begin()->add_cache_index(entry.first);
    out->add_cache_pfn(Number(entry.second));
  }));
  TRY_VOID(AddAll(file.mapping.swapped, [&](const auto& entry) {
    begin()->add_swapped_index(entry.first);
    out->add_swapped_slot(entry.second);
  }));
  TRY_VOID(AddAll(file.mapping.i_mmap.all(), [&](const mm::Vma* vma) {
    begin()->add_private_mm(names_.mms.at(vma->mm));
    out->add_private_start(vma->start);
  }));
  TRY_VOID(AddAll(file.mapping.i_mmap_shared.all(), [&](const mm::Vma* vma) {
    begin()->add_shared_mm(names_.mms.at(vma->mm));
    out->add_shared_start(vma->start);
  }));
  return AddAll(file.mapping.i_mmap_nonlinear, [&](const mm::Vma* vma) {
    begin()->add_nonlinear_mm(names_.mms.at(vma->mm));
    out->add_nonlinear_start(vma->start);
  });
}

bool IsZero(const std::byte* page) {
  return page[0] == std::byte{0} && std::memcmp(page, page + 1, base::kPageSize - 1) == 0;
}

void AddPageTo(std::vector<PageRun>& runs, PageRun::Owner owner, uint64_t page) {
  if (!runs.empty() && runs.back().owner() == owner && runs.back().first() + runs.back().count() == page) {
    runs.back().set_count(runs.back().count() + 1);
    return;
  }
  PageRun& run = runs.emplace_back();
  run.set_owner(owner);
  run.set_first(page);
  run.set_count(1);
  run.set_kind(PageRun::STORED);
}

}  // namespace

base::Result<void> DescribeGuest(const Machine& machine, const GuestNames& names, const GuestPart& part) {
  return Describer(machine, names, part).Run();
}

bool guest_drops(const Machine& machine, Pfn pfn) {
  const mm::Host* host = machine.host.get();
  if (host == nullptr || !host->discards()) return false;
  switch (mm::UsageOf(host->state(pfn))) {
    case mm::Usage::kStable: return false;
    case mm::Usage::kUnused: return true;
    case mm::Usage::kVolatile:
      return mm::IsDiscarded(host->state(pfn)) || host->may_move(mm::HostMove::kDiscardVolatile, pfn);
    case mm::Usage::kPotentiallyVolatile: return host->may_move(mm::HostMove::kDiscardClean, pfn);
  }
  return false;
}

std::vector<PageRun> GuestRuns(const Machine& machine) {
  std::vector<PageRun> runs;
  for (uint32_t frame = 1; frame < machine.frames.high_water(); ++frame) {
    if (guest_drops(machine, Pfn{frame})) continue;
    if (!IsZero(machine.frames.bytes(Pfn{frame}))) AddPageTo(runs, PageRun::FRAME, frame);
  }
  if (machine.swap == nullptr) return runs;
  for (mm::SwpEntry slot = 1; slot < machine.swap->high_water(); ++slot) {
    if (machine.swap->valid(slot)) AddPageTo(runs, PageRun::SLOT, slot);
  }
  return runs;
}

base::Result<void> ReadGuestPage(const Machine& machine, PageRun::Owner owner, uint64_t page,
                                 std::span<std::byte> out) {
  const auto number = static_cast<uint32_t>(page);
  if (owner == PageRun::FRAME) {
    std::memcpy(out.data(), machine.frames.bytes(Pfn{number}), base::kPageSize);
    return {};
  }
  const auto read = machine.swap->device().ReadPage(number, mm::PageSpan(out.data(), base::kPageSize));
  return read ? base::Result<void>{} : base::FailErrno(read.error().err, "read swap slot %u", number);
}

}  // namespace ckpt
