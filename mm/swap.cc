#include "mm/swap.h"

#include <algorithm>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/planted.h"
#include "mm/reclaim.h"
#include "mm/rmap.h"

namespace mm {
namespace {

SwapArea& AreaOf(Machine& machine) {
  CHECK_MSG(machine.swap != nullptr, "a swap entry where no swap area is in use");
  return *machine.swap;
}

PageSpan SpanOf(Machine& machine, Pfn pfn) { return PageSpan(machine.frames.bytes(pfn), kPageSize); }

// The page's part of entering the swap cache.
void Insert(Machine& machine, Pfn pfn, SwpEntry slot) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && !page.swapcache());
  page.flags |= PG_swapcache;
  page.slot = slot;
  machine.frames.get_page(pfn);
}

}  // namespace

// ---- the area ----

SwpEntry SwapArea::Take(Pfn pfn) {
  if (closed_) return kNoSlot;
  SwpEntry slot;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else if (high_water() < slots_) {
    slot = high_water();
    counts_.push_back(0);
    cache_.push_back(kNoPfn);
  } else {
    return kNoSlot;
  }
  cache_[slot] = pfn;
  return slot;
}

SwpEntry SwapArea::TakeForUser() {
  const SwpEntry slot = Take(kNoPfn);
  if (slot != kNoSlot) AddUser(slot);
  return slot;
}

void SwapArea::DropUser(SwpEntry slot) {
  CHECK(counts_.at(slot) > 0);
  --counts_[slot];
  FreeIfUnused(slot);
}

void SwapArea::SetCached(SwpEntry slot, Pfn pfn) {
  CHECK((cache_.at(slot) == kNoPfn) != (pfn == kNoPfn));
  cache_[slot] = pfn;
  FreeIfUnused(slot);
}

void SwapArea::FreeIfUnused(SwpEntry slot) {
  if (counts_[slot] == 0 && cache_[slot] == kNoPfn) free_.push_back(slot);
}

// ---- users ----

void swap_duplicate(Machine& machine, SwpEntry entry) {
  if (Planted(Bug::kSwapCountOffByOne) && machine.swap->count(entry) > 0) return;
  AreaOf(machine).AddUser(entry);
}

void swap_free(Machine& machine, SwpEntry entry) { AreaOf(machine).DropUser(entry); }

void free_swap_and_cache(Machine& machine, SwpEntry entry) {
  SwapArea& area = AreaOf(machine);
  const Pfn pfn = area.cached(entry);
  area.DropUser(entry);
  if (pfn == kNoPfn || area.count(entry) > 0) return;
  Page& page = machine.frames.at(pfn);
  if (page.mapcount > 0 && !vm_swap_full(machine)) return;
  if ((page.flags & PG_writeback) != 0 || !trylock_page(page)) return;
  machine.frames.get_page(pfn);
  delete_from_swap_cache(machine, pfn);
  page.flags |= PG_dirty;
  unlock_page(page);
  machine.frames.put_page(pfn);
}

bool vm_swap_full(const Machine& machine) {
  return machine.swap != nullptr && uint64_t{machine.swap->nr_free()} * 2 < machine.swap->nr_slots();
}

// ---- the swap cache ----

Pfn lookup_swap_cache(Machine& machine, SwpEntry entry) {
  const Pfn pfn = AreaOf(machine).cached(entry);
  if (pfn != kNoPfn) machine.frames.get_page(pfn);
  return pfn;
}

bool add_to_swap(Machine& machine, Pfn pfn) {
  if (machine.swap == nullptr) return false;
  CHECK(PageAnon(machine.frames.at(pfn)));
  const SwpEntry slot = machine.swap->Take(pfn);
  if (slot == kNoSlot) return false;
  Insert(machine, pfn, slot);
  machine.frames.at(pfn).flags |= PG_dirty;
  return true;
}

void delete_from_swap_cache(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && page.swapcache() && page.count > 1);
  const SwpEntry slot = page.slot;
  page.flags &= ~PG_swapcache;
  page.slot = kNoSlot;
  AreaOf(machine).SetCached(slot, kNoPfn);
  machine.frames.put_page(pfn);
}

SysResult<Pfn> read_swap_cache(Machine& machine, SwpEntry entry, bool* major) {
  SwapArea& area = AreaOf(machine);
  if (!area.valid(entry)) return Err(EINVAL);
  Pfn pfn = lookup_swap_cache(machine, entry);
  if (pfn != kNoPfn) return pfn;
  // The slot must not go while memory is made free for its page.
  area.AddUser(entry);
  pfn = alloc_page(machine, Fill::kUninitialized);
  if (pfn != kNoPfn) {
    Page& page = machine.frames.at(pfn);
    page.mapping_word = kAnonMapping;
    page.flags |= PG_swapbacked;
    lock_page(page);
    Insert(machine, pfn, entry);
    area.SetCached(entry, pfn);
    machine.frames.lru_add(pfn);
    if (area.device().ReadPage(entry, SpanOf(machine, pfn))) page.flags |= PG_uptodate;
    ++machine.vmstat.pswpin;
    unlock_page(page);
    *major = true;
  }
  area.DropUser(entry);
  if (pfn == kNoPfn) return Err(ENOMEM);
  return pfn;
}

uint32_t page_swapcount(const Machine& machine, const Page& page) {
  return page.swapcache() ? machine.swap->count(page.slot) : 0;
}

bool reuse_swap_page(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  if (Planted(Bug::kCowWritesInPlace)) return true;
  if ((page.flags & PG_ksm) != 0) return false;
  const ReuseRule rule = machine.sem().reuse_rule;
  const auto swapcount = static_cast<int32_t>(page_swapcount(machine, page));
  if (rule == ReuseRule::kCount) {
    // can_share_swap_page: a page of the swap cache whose slot has no user but the entry at hand.
    if (!page.swapcache()) return page.count == 1;
    return page.count == 2 && swapcount + page.mapcount <= 1;
  }
  if (page.mapcount + swapcount > 1) return false;
  if (page.swapcache() && (page.flags & PG_writeback) == 0 && rule == ReuseRule::kMapcount) {
    // In do_swap_page the slot still has the entry as its user: it goes with swap_free.
    delete_from_swap_cache(machine, pfn);
    page.flags |= PG_dirty;
  }
  return true;
}

bool try_to_free_swap(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  if (!page.swapcache() || (page.flags & PG_writeback) != 0 || page_swapcount(machine, page) > 0)
    return false;
  delete_from_swap_cache(machine, pfn);
  page.flags |= PG_dirty;
  return true;
}

void free_page_and_swap_cache(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  if (page.swapcache() && page.mapcount == 0 && trylock_page(page)) {
    try_to_free_swap(machine, pfn);
    unlock_page(page);
  }
  machine.frames.put_page(pfn);
}

SysResult<void> swap_writepage(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && page.swapcache());
  page.flags = (page.flags & ~PG_dirty) | PG_writeback;
  const SysResult<void> written = AreaOf(machine).device().WritePage(page.slot, SpanOf(machine, pfn));
  page.flags &= ~PG_writeback;
  if (!written) page.flags |= PG_dirty;
  if (written) ++machine.vmstat.pswpout;
  return written;
}

// ---- shmem ----

bool shmem_writepage(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  Mapping* mapping = FileMapping(page);
  CHECK(page.locked() && page.mapcount == 0 && mapping != nullptr);
  if (machine.swap == nullptr) return false;
  const SwpEntry slot = machine.swap->Take(pfn);
  if (slot == kNoSlot) return false;
  const bool written = machine.swap->device().WritePage(slot, SpanOf(machine, pfn)).has_value();
  if (written) {
    ++machine.vmstat.pswpout;
    machine.swap->AddUser(slot);
    CHECK(mapping->swapped.emplace(page.index, slot).second);
    remove_from_page_cache(machine, pfn);
  }
  machine.swap->SetCached(slot, kNoPfn);
  return written;
}

SysResult<Pfn> shmem_swapin(Machine& machine, Mapping& mapping, Pgoff index) {
  const auto found = mapping.swapped.find(index);
  CHECK(found != mapping.swapped.end());
  const SwpEntry slot = found->second;
  const Pfn pfn = alloc_page(machine, Fill::kUninitialized);
  if (pfn == kNoPfn) return Err(ENOMEM);
  if (const auto read = AreaOf(machine).device().ReadPage(slot, SpanOf(machine, pfn)); !read) {
    machine.frames.put_page(pfn);
    return std::unexpected(read.error());
  }
  ++machine.vmstat.pswpin;
  mapping.swapped.erase(index);
  swap_free(machine, slot);
  Page& page = machine.frames.at(pfn);
  lock_page(page);
  add_to_page_cache(machine, mapping, index, pfn);
  page.flags |= PG_uptodate;
  set_page_dirty(machine, pfn);
  unlock_page(page);
  return pfn;
}

void shmem_zero_swapped(Machine& machine, Mapping& mapping, Pgoff index, size_t from, size_t to) {
  PageBytes bytes;
  SwapDevice& device = AreaOf(machine).device();
  const SwpEntry slot = mapping.swapped.at(index);
  if (!device.ReadPage(slot, bytes)) return;
  std::fill(bytes.begin() + static_cast<ptrdiff_t>(from), bytes.begin() + static_cast<ptrdiff_t>(to),
            std::byte{0});
  (void)device.WritePage(slot, bytes);
}

void shmem_truncate_swap(Machine& machine, Mapping& mapping, Pgoff first, Pgoff end) {
  const auto from = mapping.swapped.lower_bound(first);
  auto to = from;
  for (; to != mapping.swapped.end() && to->first < end; ++to) swap_free(machine, to->second);
  mapping.swapped.erase(from, to);
}

}  // namespace mm
