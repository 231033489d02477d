#include "restore/guest.h"

#include <algorithm>
#include <cinttypes>
#include <set>

#include "base/units.h"
#include "mm/validate.h"

namespace restore {
namespace {

using base::Code;
using base::Fail;
using base::kPageSize;
using ckpt_pb::PageRun;
using mm::Pfn;

// Nobody holds a bit lock or waits for a disk while a guest is saved; the lists set the others themselves.
constexpr uint32_t kRestFlags = mm::PG_uptodate | mm::PG_dirty | mm::PG_swapcache | mm::PG_referenced |
                                mm::PG_active | mm::PG_lru | mm::PG_swapbacked | mm::PG_anon | mm::PG_direct |
                                mm::PG_ksm | mm::PG_hwpoison | mm::PG_key_dirty | mm::PG_discarded |
                                mm::PG_writable | mm::PG_private | mm::PG_error | mm::PG_mlocked;
constexpr uint64_t kPteBits = (uint64_t{1} << 9) - 1;
constexpr uint32_t kCountMax = 1u << 30;
constexpr uint64_t kLeavesMax = uint64_t{1} << 20;  // page tables are 4 KiB each
constexpr int kReclaimNumbers = 7;
constexpr int kHostStats = 8;

std::unexpected<base::Error> Corrupt(const std::string& what) {
  return Fail(Code::kCorrupt, "guest: %s", what.c_str());
}

// What a state is after a restart.
mm::PageState AfterRestart(uint64_t code) {
  using enum mm::PageState;
  const auto state = static_cast<mm::PageState>(code % 8);
  const bool dropped = code >= 8;
  switch (mm::UsageOf(state)) {
    case mm::Usage::kStable: return state;
    case mm::Usage::kUnused: return dropped ? Uz : state;
    case mm::Usage::kVolatile:
    case mm::Usage::kPotentiallyVolatile: return dropped ? Vz : Sr;
  }
  return state;
}

}  // namespace

GuestBuilder::~GuestBuilder() {
  if (!finished_) Forget();
}

base::Result<std::map<uint32_t, mm::FileId>> GuestBuilder::FileIds(const ckpt_pb::Guest& guest) {
  std::map<uint32_t, mm::FileId> ids;
  std::set<uint32_t> taken;
  for (const ckpt_pb::GuestFile& file : guest.file()) {
    const auto [place, first] = ids.emplace(file.objref(), mm::FileId{file.id()});
    if (first ? file.id() == 0 || !taken.insert(file.id()).second : place->second != mm::FileId{file.id()})
      return Corrupt(base::Format("two files have id %u, or one has none", file.id()));
  }
  return ids;
}

base::Result<Pfn> GuestBuilder::Used(uint64_t number, const char* what) const {
  if (number == 0 || number >= used_.size() || !used_[number])
    return Corrupt(base::Format("%s names frame %" PRIu64 ", which is not in use", what, number));
  return Pfn{static_cast<uint32_t>(number)};
}

base::Result<mm::MmStruct*> GuestBuilder::MmOf(uint32_t objref) const {
  const auto found = mms_.find(objref);
  if (found == mms_.end()) return Corrupt(base::Format("no mm has objref %u", objref));
  return found->second.get();
}

base::Result<mm::Vma*> GuestBuilder::VmaOf(uint32_t mm, uint64_t start, const mm::File& file) const {
  const mm::MmStruct& here = *TRY(MmOf(mm));
  const auto vma = here.vmas().find(start);
  if (vma == here.vmas().end() || vma->second->file.get() != &file)
    return Corrupt(
        base::Format("file '%s' has no vma at %#" PRIx64, base::Printable(file.name()).c_str(), start));
  return vma->second.get();
}

base::Result<void> GuestBuilder::CheckColumns() const {
  const ckpt_pb::Guest& g = guest_;
  const int pages = g.page_pfn_size();
  const bool even =
      g.page_flags_size() == pages && g.page_count_size() == pages && g.page_owner_size() == pages &&
      g.page_index_size() == pages && g.page_slot_size() == pages && g.page_chain_size() == pages &&
      g.chain_mm_size() == g.chain_page_size() && g.pin_pfn_size() == g.pin_count_size() &&
      g.slot_count_size() == g.slot_page_size() && g.discarded_cpu_size() == g.discarded_cpu_pfn_size();
  if (!even) return Corrupt("columns of different lengths");
  if (g.high_water() == 0 || g.high_water() > machine_.frames.frame_count())
    return Corrupt(base::Format("%u of %u frames were used", g.high_water(), machine_.frames.frame_count()));
  const bool host = machine_.host != nullptr;
  if (g.vmstat_size() != static_cast<int>(mm::VmStatNames().size()) || g.reclaim_size() != kReclaimNumbers ||
      g.host_stat_size() != (host ? kHostStats : 0) || (!host && g.state_run_size() > 0)) {
    return Corrupt("counters that this machine has not");
  }
  return {};
}

base::Result<void> GuestBuilder::Build() {
  TRY_VOID(CheckColumns());
  TRY_VOID(BuildStates());
  TRY_VOID(BuildFree());
  TRY_VOID(BuildSwap());
  TRY_VOID(BuildPages());
  for (const ckpt_pb::GuestMm& mm : guest_.mm()) TRY_VOID(BuildMm(mm));
  for (const ckpt_pb::GuestFile& file : guest_.file()) TRY_VOID(BuildFile(file));
  for (const auto& [objref, file] : files_) TRY_VOID(BuildOrder(*file));
  TRY_VOID(BuildLists());
  TRY_VOID(BuildDiscarded());
  return BuildCounters();
}

base::Result<void> GuestBuilder::BuildStates() {
  uint64_t frame = 0;
  for (const uint64_t run : guest_.state_run()) {
    const uint64_t count = run / 16;
    if (count == 0 || count > machine_.frames.frame_count() - frame)
      return Corrupt("states of more frames than there are");
    const mm::PageState state = AfterRestart(run % 16);
    for (const uint64_t end = frame + count; frame < end; ++frame) {
      const Pfn pfn{static_cast<uint32_t>(frame)};
      const bool preserved = state == mm::PageState::Sp;
      if (preserved) preserved_.push_back(pfn);
      machine_.host->restore_state(pfn, preserved ? mm::PageState::Sr : state);
    }
  }
  return {};
}

base::Result<void> GuestBuilder::BuildFree() {
  used_.assign(guest_.high_water(), false);
  std::vector<bool> seen(guest_.high_water(), false);
  std::vector<Pfn> free;
  free.reserve(static_cast<size_t>(guest_.free_size()));
  for (const uint32_t frame : guest_.free()) {
    if (frame == 0 || frame >= seen.size() || seen[frame])
      return Corrupt(base::Format("frame %u is free twice, or is none", frame));
    seen[frame] = true;
    free.push_back(Pfn{frame});
  }
  machine_.frames.restore_free(guest_.high_water(), free);
  uint64_t frame = 0;
  for (const uint32_t step : guest_.page_pfn()) {
    frame += step;
    if (step == 0 || frame >= seen.size() || seen[frame])
      return Corrupt(base::Format("frame %" PRIu64 " is in use, and free or none", frame));
    seen[frame] = used_[frame] = true;
  }
  const auto lost = std::find(seen.begin() + 1, seen.end(), false);
  if (lost != seen.end())
    return Corrupt(base::Format("frame %td is neither in use nor free", lost - seen.begin()));
  return {};
}

base::Result<void> GuestBuilder::BuildSwap() {
  if (guest_.slot_count_size() == 0 && guest_.slot_free_size() == 0) return {};
  if (machine_.swap == nullptr || static_cast<uint64_t>(guest_.slot_count_size()) >= machine_.swap->slots())
    return Corrupt("more swap slots than there are");
  std::vector<uint32_t> counts = {0};
  std::vector<Pfn> cache = {mm::kNoPfn};
  std::vector<bool> unused = {false};
  for (int i = 0; i < guest_.slot_count_size(); ++i) {
    const uint32_t page = guest_.slot_page(i);
    counts.push_back(guest_.slot_count(i));
    cache.push_back(page == 0 ? mm::kNoPfn : TRY(Used(page - 1, "a swap slot")));
    unused.push_back(counts.back() == 0 && page == 0);
    if (counts.back() > kCountMax) return Corrupt("a swap slot of too many users");
  }
  std::vector<mm::SwpEntry> free;
  for (const uint32_t slot : guest_.slot_free()) {
    if (slot >= unused.size() || !unused[slot])
      return Corrupt(base::Format("swap slot %u is free twice, or in use", slot));
    unused[slot] = false;
    free.push_back(slot);
  }
  if (std::ranges::find(unused, true) != unused.end())
    return Corrupt("a swap slot is neither free nor in use");
  machine_.swap->restore(std::move(counts), std::move(cache), std::move(free));
  return {};
}

base::Result<void> GuestBuilder::BuildChain(mm::Page& page, int first, int end) {
  // Each is added in front of those before it.
  for (int i = end; i-- > first;) {
    const uint64_t number = guest_.chain_page(i);
    if (number >= mm::TASK_SIZE / kPageSize) return Corrupt("a pte chain leaves user space");
    mm::pte_chain_add(machine_.pte_chains, page, {TRY(MmOf(guest_.chain_mm(i))), number * kPageSize});
  }
  return {};
}

base::Result<void> GuestBuilder::BuildPage(int at, Pfn pfn) {
  mm::Page& page = machine_.frames.at(pfn);
  const uint32_t flags = guest_.page_flags(at);
  const uint32_t owner = guest_.page_owner(at);
  const auto frame = static_cast<uint32_t>(pfn);
  if ((flags & ~kRestFlags) != 0) return Corrupt(base::Format("page %u has flags %#x", frame, flags));
  if (guest_.page_count(at) > kCountMax)
    return Corrupt(base::Format("page %u has too many references", frame));
  if (owner > 1) {
    const auto file = files_.find(owner - 1);
    if (file == files_.end()) return Corrupt(base::Format("page %u is of no file", frame));
    page.mapping_word = reinterpret_cast<uint64_t>(&file->second->mapping);
  } else {
    page.mapping_word = owner == 1 ? mm::kAnonMapping : 0;
  }
  if ((flags & mm::PG_swapcache) != 0 &&
      (machine_.swap == nullptr || guest_.page_slot(at) >= machine_.swap->high_water())) {
    return Corrupt(base::Format("page %u is of no swap slot", frame));
  }
  if ((flags & mm::PG_lru) != 0) ++listed_;
  page.flags = flags & ~(mm::PG_lru | mm::PG_direct);
  page.count = static_cast<int32_t>(guest_.page_count(at));
  page.index = guest_.page_index(at);
  page.slot = guest_.page_slot(at);
  page.lru_prev = page.lru_next = mm::kNoPfn;
  return {};
}

base::Result<void> GuestBuilder::BuildPages() {
  uint64_t frame = 0;
  uint64_t chain = 0;
  for (int i = 0; i < guest_.page_pfn_size(); ++i) {
    frame += guest_.page_pfn(i);
    const Pfn pfn{static_cast<uint32_t>(frame)};
    TRY_VOID(BuildPage(i, pfn));
    const uint64_t end = chain + guest_.page_chain(i);
    if (end > static_cast<uint64_t>(guest_.chain_mm_size())) return Corrupt("a pte chain that is too long");
    TRY_VOID(BuildChain(machine_.frames.at(pfn), static_cast<int>(chain), static_cast<int>(end)));
    chain = end;
  }
  if (chain != static_cast<uint64_t>(guest_.chain_mm_size())) return Corrupt("a pte chain of no page");
  return {};
}

base::Result<void> GuestBuilder::BuildPte(mm::MmStruct& mm, mm::Vaddr addr, mm::Pte pte) {
  mm::Pte* entry = addr < mm::TASK_SIZE ? mm.pgtable.find(addr) : nullptr;
  const auto bad = [&](const char* what) {
    return Corrupt(base::Format("pte %#" PRIx64 " at %#" PRIx64 " %s", pte.word, addr, what));
  };
  if (entry == nullptr || !mm::pte_none(*entry)) return bad("is in no page table, or there twice");
  if ((pte.word & ((uint64_t{1} << mm::kPtePayloadShift) - 1) & ~kPteBits) != 0 || mm::pte_none(pte) ||
      pte.word >> mm::kPtePayloadShift > uint64_t{1} << mm::PTE_FILE_MAX_BITS) {
    return bad("is none that this version knows");
  }
  const uint64_t payload = pte.word >> mm::kPtePayloadShift;
  if (mm::pte_present(pte)) {
    if (mm::pte_special(pte) != (payload == 0))
      return bad("maps the zero page as another, or another as that");
    if (payload != 0) {
      mm::Page& page = machine_.frames.at(TRY(Used(payload, "a pte")));
      ++page.mapcount;
      ++(mm::PageAnon(page) ? mm.anon_rss : mm.file_rss);
    }
  } else if (mm::pte_swap(pte)) {
    if (machine_.swap == nullptr || payload >= machine_.swap->high_water() ||
        !machine_.swap->valid(static_cast<uint32_t>(payload)))
      return bad("names a swap slot that is not in use");
  } else if (mm::pte_hwpoison(pte)) {
    (void)TRY(Used(payload, "a poisoned pte"));
  } else if (!mm::pte_file(pte)) {
    return bad("is nothing");
  }
  *entry = pte;
  return {};
}

base::Result<void> GuestBuilder::BuildMm(const ckpt_pb::GuestMm& in) {
  mm::MmStruct& mm = *TRY(MmOf(in.objref()));
  if (in.pte_size() != in.pte_page_size()) return Corrupt("a page table of uneven columns");
  leaves_ += static_cast<uint64_t>(in.leaf_size());
  if (leaves_ > kLeavesMax) return Fail(Code::kTooBig, "guest: over %" PRIu64 " page tables", kLeavesMax);
  mm.min_flt = in.min_flt();
  mm.maj_flt = in.maj_flt();
  mm.nr_aio = in.nr_aio();
  uint64_t& leaf = leaf_[in.objref()];
  for (const uint64_t step : in.leaf()) {
    if (step > mm::TASK_SIZE >> 21 || (leaf += step) > mm::TASK_SIZE >> 21)
      return Corrupt("a page table behind user space");
    (void)mm.pgtable.alloc(leaf << 21);
  }
  uint64_t& page = page_[in.objref()];
  for (int i = 0; i < in.pte_size(); ++i) {
    if (in.pte_page(i) > mm::TASK_SIZE / kPageSize) return Corrupt("a pte behind user space");
    page += in.pte_page(i);
    TRY_VOID(BuildPte(mm, page * kPageSize, mm::Pte{in.pte(i)}));
  }
  return {};
}

base::Result<void> GuestBuilder::BuildFile(const ckpt_pb::GuestFile& in) {
  const auto found = files_.find(in.objref());
  if (found == files_.end()) return Corrupt(base::Format("no file has objref %u", in.objref()));
  mm::File& file = *found->second;
  if (in.cache_index_size() != in.cache_pfn_size() || in.swapped_index_size() != in.swapped_slot_size() ||
      in.private_mm_size() != in.private_start_size() || in.shared_mm_size() != in.shared_start_size() ||
      in.nonlinear_mm_size() != in.nonlinear_start_size()) {
    return Corrupt("a file of uneven columns");
  }
  file.mapping.truncate_count = in.truncate_count();
  file.mapping.mlocked = in.mlocked();
  file.swapfile = in.swapfile();
  for (int i = 0; i < in.cache_index_size(); ++i) {
    const Pfn pfn = TRY(Used(in.cache_pfn(i), "a page cache"));
    const mm::Page& page = machine_.frames.at(pfn);
    if (mm::FileMapping(page) != &file.mapping || page.index != in.cache_index(i) ||
        !file.mapping.pages.emplace(in.cache_index(i), pfn).second) {
      return Corrupt(base::Format("page %u is not the file's that has it cached", in.cache_pfn(i)));
    }
  }
  for (int i = 0; i < in.swapped_index_size(); ++i) {
    if (machine_.swap == nullptr || !machine_.swap->valid(in.swapped_slot(i)) ||
        !file.mapping.swapped.emplace(in.swapped_index(i), in.swapped_slot(i)).second) {
      return Corrupt(
          base::Format("an object's page is in swap slot %u, which is not in use", in.swapped_slot(i)));
    }
  }
  Order& order = orders_[&file];
  for (int i = 0; i < in.private_mm_size(); ++i)
    order.vmas[0].push_back(TRY(VmaOf(in.private_mm(i), in.private_start(i), file)));
  for (int i = 0; i < in.shared_mm_size(); ++i)
    order.vmas[1].push_back(TRY(VmaOf(in.shared_mm(i), in.shared_start(i), file)));
  for (int i = 0; i < in.nonlinear_mm_size(); ++i)
    order.vmas[2].push_back(TRY(VmaOf(in.nonlinear_mm(i), in.nonlinear_start(i), file)));
  return {};
}

// The vmas of a file are found in the order in which they were mapped.
base::Result<void> GuestBuilder::BuildOrder(mm::File& file) {
  mm::Mapping& mapping = file.mapping;
  const Order& order = orders_[&file];
  mm::VmaTree* trees[] = {&mapping.i_mmap, &mapping.i_mmap_shared};
  for (size_t kind = 0; kind < 2; ++kind) {
    const std::set<mm::Vma*> once(order.vmas[kind].begin(), order.vmas[kind].end());
    const bool all = once.size() == order.vmas[kind].size() && once.size() == trees[kind]->size() &&
                     std::ranges::all_of(once, [&](mm::Vma* vma) { return trees[kind]->contains(*vma); });
    if (!all) return Corrupt("the order of a file's vmas does not name each once");
    for (mm::Vma* vma : order.vmas[kind]) {
      trees[kind]->erase(*vma);
      trees[kind]->insert(*vma);
    }
  }
  const auto sorted = [](std::vector<mm::Vma*> vmas) {
    std::ranges::sort(vmas);
    return vmas;
  };
  if (sorted(order.vmas[2]) != sorted(mapping.i_mmap_nonlinear))
    return Corrupt("the order of a file's non-linear vmas does not name each once");
  mapping.i_mmap_nonlinear = order.vmas[2];
  return {};
}

base::Result<void> GuestBuilder::BuildLru(const google::protobuf::RepeatedField<uint32_t>& list,
                                          mm::Lru lru) {
  for (int i = list.size(); i-- > 0;) {
    const Pfn pfn = TRY(Used(list[i], "a list of reclaim"));
    const mm::Page& page = machine_.frames.at(pfn);
    if ((page.flags & (mm::PG_lru | mm::PG_discarded)) != 0 || page.count == 0 || mm::page_lru(page) != lru)
      return Corrupt(base::Format("page %u cannot be on that list of reclaim", list[i]));
    machine_.frames.lru_add(pfn);
    --listed_;
  }
  return {};
}

base::Result<void> GuestBuilder::BuildLists() {
  TRY_VOID(BuildLru(guest_.lru_inactive_anon(), mm::Lru::kInactiveAnon));
  TRY_VOID(BuildLru(guest_.lru_active_anon(), mm::Lru::kActiveAnon));
  TRY_VOID(BuildLru(guest_.lru_inactive_file(), mm::Lru::kInactiveFile));
  TRY_VOID(BuildLru(guest_.lru_active_file(), mm::Lru::kActiveFile));
  if (listed_ != 0) return Corrupt("pages that say they are on a list of reclaim, and are not");
  for (int i = 0; i < guest_.pin_pfn_size(); ++i) {
    const Pfn pfn = TRY(Used(guest_.pin_pfn(i), "a pin"));
    if (guest_.pin_count(i) > kCountMax) return Corrupt("a page that is pinned too often");
    machine_.pins[pfn] = static_cast<int32_t>(guest_.pin_count(i));
  }
  return {};
}

base::Result<void> GuestBuilder::BuildDiscarded() {
  if (machine_.discarded == nullptr) return {};
  std::vector<bool> seen(used_.size(), false);
  const auto take = [&](uint32_t frame) -> base::Result<Pfn> {
    const Pfn pfn = TRY(Used(frame, "a list of discarded pages"));
    const mm::Page& page = machine_.frames.at(pfn);
    if (page.count != 0 || (page.flags & mm::PG_discarded) == 0 || seen[frame])
      return Corrupt(base::Format("frame %u is on a list of discarded pages, and is none", frame));
    seen[frame] = true;
    return pfn;
  };
  std::vector<std::vector<Pfn>> on_cpu(mm::NR_CPUS);
  for (int i = 0; i < guest_.discarded_cpu_size(); ++i) {
    if (guest_.discarded_cpu(i) >= mm::NR_CPUS) return Corrupt("a list of no CPU");
    on_cpu[guest_.discarded_cpu(i)].push_back(TRY(take(guest_.discarded_cpu_pfn(i))));
  }
  std::vector<Pfn> list;
  std::vector<Pfn> sign_off;
  for (const uint32_t frame : guest_.discarded()) list.push_back(TRY(take(frame)));
  for (const uint32_t frame : guest_.sign_off()) sign_off.push_back(TRY(take(frame)));
  for (unsigned cpu = 0; cpu < mm::NR_CPUS; ++cpu)
    machine_.discarded->restore_list(cpu, std::move(on_cpu[cpu]));
  machine_.discarded->restore_lists(std::move(list), std::move(sign_off), guest_.sign_off_mask());
  machine_.discarded->restore_cpus(guest_.dead_cpus(), guest_.tickless_cpus());
  return {};
}

base::Result<void> GuestBuilder::BuildCounters() {
  int i = 0;
  for (const mm::VmStatName& counter : mm::VmStatNames()) machine_.vmstat.*counter.value = guest_.vmstat(i++);
  mm::ReclaimState& reclaim = machine_.reclaim;
  reclaim.recent_scanned[0] = guest_.reclaim(0);
  reclaim.recent_scanned[1] = guest_.reclaim(1);
  reclaim.recent_rotated[0] = guest_.reclaim(2);
  reclaim.recent_rotated[1] = guest_.reclaim(3);
  reclaim.swappiness = static_cast<uint32_t>(std::min<uint64_t>(guest_.reclaim(4), 100));
  reclaim.pause = static_cast<uint32_t>(guest_.reclaim(5));
  reclaim.pause_next = static_cast<uint32_t>(guest_.reclaim(6));
  for (const auto& [objref, file] : files_) {
    if (static_cast<uint32_t>(file->id()) >= guest_.next_file())
      return Corrupt("the next file has an old id");
  }
  machine_.set_next_file(mm::FileId{guest_.next_file()});
  return {};
}

base::Result<std::byte*> GuestBuilder::Place(PageRun::Owner owner, uint64_t page) {
  if (owner == PageRun::SLOT) {
    const auto slot = static_cast<uint32_t>(page);
    if (machine_.swap == nullptr || page >= machine_.swap->high_water() || !machine_.swap->valid(slot))
      return Corrupt(base::Format("bytes of swap slot %" PRIu64 ", which is not in use", page));
    return machine_.swap->device().PlacePage(slot).data();
  }
  const Pfn pfn{static_cast<uint32_t>(page)};
  if (machine_.host != nullptr && mm::ResidenceOf(machine_.host->state(pfn)) != mm::Residence::kResident)
    return Corrupt(base::Format("bytes of frame %" PRIu64 ", which has none", page));
  return machine_.frames.arena_bytes(pfn);
}

base::Result<void> GuestBuilder::Finish(uint64_t host_bytes) {
  if (machine_.host != nullptr) {
    for (const Pfn pfn : preserved_) machine_.host->move(mm::HostMove::kPageOut, pfn);
    if (host_bytes != 0) {
      if (machine_.host->resident() > host_bytes / kPageSize)
        return Corrupt("more is resident than the host has");
      machine_.resize_host(host_bytes);
    }
    const auto& position = guest_.host_position();
    if (!machine_.host->restore_position({position.data(), static_cast<size_t>(position.size())}))
      return Corrupt("the host looks where nothing is");
    const auto& s = guest_.host_stat();
    machine_.host->restore_stat({s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]});
  }
  if (const auto broken = mm::Validate(machine_, mm::Depth::kDeep))
    return Corrupt(base::Format("it breaks %s", broken->c_str()));
  finished_ = true;
  return {};
}

// Nothing is mapped, cached or counted any more.
void GuestBuilder::Forget() {
  for (const auto& [objref, mm] : mms_) {
    mm->pgtable.walk(0, mm::TASK_SIZE, [](mm::Vaddr, mm::Pte& pte) { pte = {}; });
    mm->anon_rss = mm->file_rss = 0;
  }
  for (const auto& [objref, file] : files_) {
    file->mapping.pages.clear();
    file->mapping.swapped.clear();
  }
}

}  // namespace restore
