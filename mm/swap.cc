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

// The page's part of entering the swap cache. Requires: swap_lock is held.
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
  Guard guard(machine.swap_lock);
  if (Planted(Bug::kSwapCountOffByOne) && machine.swap->count(entry) > 0) return;
  AreaOf(machine).AddUser(entry);
}

void swap_free(Machine& machine, SwpEntry entry) {
  Guard guard(machine.swap_lock);
  AreaOf(machine).DropUser(entry);
}

namespace {

// One user less; the cached page with a reference where that was the last.
Pfn DropLastUser(Machine& machine, SwpEntry entry) {
  Guard guard(machine.swap_lock);
  SwapArea& area = AreaOf(machine);
  const Pfn pfn = area.cached(entry);
  area.DropUser(entry);
  if (pfn == kNoPfn || area.count(entry) > 0) return kNoPfn;
  machine.frames.get_page(pfn);
  return pfn;
}

}  // namespace

void free_swap_and_cache(Machine& machine, SwpEntry entry) {
  const Pfn pfn = DropLastUser(machine, entry);
  if (pfn == kNoPfn) return;
  Page& page = machine.frames.at(pfn);
  racy_read(&page.mapcount, "mapcount");
  if ((page.mapcount == 0 || vm_swap_full(machine)) && trylock_page(page)) {
    if (page.swapcache() && page.slot == entry) try_to_free_swap(machine, pfn);
    unlock_page(machine.frames, page);
  }
  machine.frames.put_page(pfn);
}

bool vm_swap_full(const Machine& machine) {
  return machine.swap != nullptr && uint64_t{machine.swap->nr_free()} * 2 < machine.swap->nr_slots();
}

// ---- the swap cache ----

Pfn lookup_swap_cache(Machine& machine, SwpEntry entry, CacheLookup lookup) {
  Pfn pfn = kNoPfn;
  {
    Guard guard(machine.swap_lock);
    if (machine.swap == nullptr || !machine.swap->valid(entry)) return kNoPfn;
    pfn = machine.swap->cached(entry);
    if (pfn == kNoPfn) return kNoPfn;
    machine.frames.get_page(pfn);
  }
  if (lookup == CacheLookup::kNoDiscard || page_make_stable(machine.frames, pfn)) return pfn;
  page_discard(machine, pfn);
  return kNoPfn;
}

bool add_to_swap(Machine& machine, Pfn pfn) {
  CHECK(PageAnon(machine.frames.at(pfn)));
  Guard guard(machine.swap_lock);
  if (machine.swap == nullptr) return false;
  const SwpEntry slot = machine.swap->Take(pfn);
  if (slot == kNoSlot) return false;
  Insert(machine, pfn, slot);
  machine.frames.at(pfn).flags |= PG_dirty;
  return true;
}

namespace {

// Requires: swap_lock is held. The cache's reference is the caller's from then on.
void Remove(Machine& machine, Page& page) {
  CHECK(page.locked() && page.swapcache() && page.count > 1);
  uses(&page.flags, true);
  const SwpEntry slot = page.slot;
  page.flags &= ~PG_swapcache;
  page.slot = kNoSlot;
  AreaOf(machine).SetCached(slot, kNoPfn);
}

}  // namespace

void delete_from_swap_cache(Machine& machine, Pfn pfn) {
  page_begin_removal(machine.frames, pfn);
  {
    Guard guard(machine.swap_lock);
    Remove(machine, machine.frames.at(pfn));
  }
  page_end_removal(machine.frames, pfn);
  machine.frames.put_page(pfn);
}

void discard_from_swap_cache(Machine& machine, Pfn pfn) {
  {
    Guard guard(machine.swap_lock);
    Remove(machine, machine.frames.at(pfn));
  }
  machine.frames.put_page(pfn);
}

bool remove_swap_mapping(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  {
    Guard guard(machine.swap_lock);
    uses(&page.count, false);
    uses(&page.flags, false);
    if (page.count != 2 || page.dirty() || (page.flags & PG_writeback) != 0) return false;
    Remove(machine, page);
  }
  page_end_removal(machine.frames, pfn);
  machine.frames.put_page(pfn);
  return true;
}

namespace {

// Keeps a slot in use while memory is made free for its page; false: nobody uses it.
bool HoldSlot(Machine& machine, SwpEntry entry) {
  Guard guard(machine.swap_lock);
  if (machine.swap == nullptr || !machine.swap->valid(entry)) return false;
  machine.swap->AddUser(entry);
  return true;
}

// A new page, locked, as the slot's; kNoPfn with *again set when somebody else was first.
Pfn NewSwapCachePage(Machine& machine, SwpEntry entry, bool* again) {
  const Pfn pfn = alloc_page(machine, Fill::kUninitialized);
  if (pfn == kNoPfn) return kNoPfn;
  Page& page = machine.frames.at(pfn);
  lock_page(page);
  {
    Guard guard(machine.swap_lock);
    *again = machine.swap->cached(entry) != kNoPfn;
    if (!*again) {
      page.mapping_word = kAnonMapping;
      page.flags |= PG_swapbacked;
      Insert(machine, pfn, entry);
      machine.swap->SetCached(entry, pfn);
    }
  }
  if (!*again) {
    machine.frames.lru_add(pfn);
    return pfn;
  }
  unlock_page(machine.frames, page);
  machine.frames.put_page(pfn);
  return kNoPfn;
}

}  // namespace

SysResult<Pfn> read_swap_cache(Machine& machine, SwpEntry entry, bool* major, CacheLookup lookup) {
  for (;;) {
    const Pfn cached = lookup_swap_cache(machine, entry, lookup);
    if (cached != kNoPfn) return cached;
    if (!HoldSlot(machine, entry)) return Err(EINVAL);
    bool again = false;
    const Pfn pfn = NewSwapCachePage(machine, entry, &again);
    if (pfn != kNoPfn) {
      Page& page = machine.frames.at(pfn);
      if (machine.swap->device().ReadPage(entry, SpanOf(machine, pfn))) page.flags |= PG_uptodate;
      ++machine.vmstat.pswpin;
      unlock_page(machine.frames, page);
      *major = true;
    }
    swap_free(machine, entry);
    if (pfn != kNoPfn) return pfn;
    if (!again) return Err(ENOMEM);
  }
}

uint32_t page_swapcount(const Machine& machine, const Page& page) {
  if (page.swapcache()) racy_read(&machine.swap_lock, "swap count");
  return page.swapcache() ? machine.swap->count(page.slot) : 0;
}

bool reuse_swap_page(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  if (Planted(Bug::kCowWritesInPlace)) return true;
  if ((page.flags & PG_ksm) != 0) return false;
  const ReuseRule rule = machine.sem().reuse_rule;
  racy_read(&page.mapcount, "mapcount");
  const auto swapcount = static_cast<int32_t>(page_swapcount(machine, page));
  // It leaves the swap cache, and the slot, which may hold the only copy, goes; or it stays, and is written
  // in there.
  const auto is_there = [&] {
    const bool asks = page.swapcache() && machine.sem().reuse_discarded == ReuseDiscarded::kStableFirst;
    return !asks || page_make_stable(machine.frames, pfn);
  };
  if (rule == ReuseRule::kCount) {
    // can_share_swap_page: a page of the swap cache whose slot has no user but the entry at hand.
    if (!page.swapcache()) return page.count == 1;
    return page.count == 2 && swapcount + page.mapcount <= 1 && is_there();
  }
  if (page.mapcount + swapcount > 1 || !is_there()) return false;
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
  // The slot may hold the only copy: then it is kept.
  if (!Planted(Bug::kSlotFreedUnstable) && !page_make_stable(machine.frames, pfn)) return false;
  delete_from_swap_cache(machine, pfn);
  page.flags |= PG_dirty;
  return true;
}

void free_page_and_swap_cache(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  uses(&page.mapcount, false);
  if (page.swapcache() && page.mapcount == 0 && trylock_page(page)) {
    try_to_free_swap(machine, pfn);
    unlock_page(machine.frames, page);
  }
  // An unmap tries to make the page volatile too, until 2009 (A6.5).
  fault_lookup(machine) == CacheLookup::kStable ? page_cache_release(machine.frames, pfn)
                                                : machine.frames.put_page(pfn);
}

SysResult<void> swap_writepage(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && page.swapcache());
  racy_change(&page.flags, "PG_dirty");
  page.flags &= ~PG_dirty;
  set_page_writeback(machine, pfn);
  uses(machine.frames.bytes(pfn), false);
  const SysResult<void> written = AreaOf(machine).device().WritePage(page.slot, SpanOf(machine, pfn));
  end_of_io([&machine, pfn] { end_page_writeback(machine, pfn); });
  if (!written) page.flags |= PG_dirty;
  if (written) ++machine.vmstat.pswpout;
  return written;
}

// ---- shmem ----

namespace {

// A slot with the object as its user: as soon as the object names it, anybody may give it back.
SwpEntry TakeSlot(Machine& machine, Pfn pfn) {
  Guard guard(machine.swap_lock);
  const SwpEntry slot = machine.swap == nullptr ? kNoSlot : machine.swap->Take(pfn);
  if (slot != kNoSlot && !Planted(Bug::kSlotUserLate)) machine.swap->AddUser(slot);
  return slot;
}

}  // namespace

bool shmem_writepage(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && page.mapcount == 0 && FileMapping(page) != nullptr);
  const SwpEntry slot = TakeSlot(machine, pfn);
  if (slot == kNoSlot) return false;
  uses(machine.frames.bytes(pfn), false);
  bool moved = machine.swap->device().WritePage(slot, SpanOf(machine, pfn)).has_value();
  if (moved) {
    ++machine.vmstat.pswpout;
    moved = shmem_to_swap(machine, pfn, slot);
  }
  Guard guard(machine.swap_lock);
  if (moved && Planted(Bug::kSlotUserLate)) machine.swap->AddUser(slot);
  if (!moved && !Planted(Bug::kSlotUserLate)) machine.swap->DropUser(slot);
  machine.swap->SetCached(slot, kNoPfn);
  return moved;
}

SysResult<Pfn> shmem_swapin(Machine& machine, Mapping& mapping, Pgoff index) {
  if (!shmem_is_swapped(mapping, index)) return kNoPfn;
  const Pfn pfn = alloc_page(machine, Fill::kUninitialized);
  if (pfn == kNoPfn) return Err(ENOMEM);
  Page& page = machine.frames.at(pfn);
  lock_page(page);
  const SwpEntry slot = shmem_from_swap(machine, mapping, index, pfn);
  SysResult<void> read;
  if (slot != kNoSlot) {
    read = AreaOf(machine).device().ReadPage(slot, SpanOf(machine, pfn));
    if (read) {
      ++machine.vmstat.pswpin;
      swap_free(machine, slot);
      page.flags |= PG_uptodate;
      set_page_dirty(machine, pfn);
    } else {
      (void)shmem_to_swap(machine, pfn, slot);
    }
  }
  unlock_page(machine.frames, page);
  if (slot != kNoSlot && read) return pfn;
  machine.frames.put_page(pfn);
  if (slot == kNoSlot) return kNoPfn;  // somebody else was first
  return std::unexpected(read.error());
}

bool shmem_zero_swapped(Machine& machine, Mapping& mapping, Pgoff index, size_t from, size_t to) {
  Guard guard(mapping.tree_lock);
  const auto found = mapping.swapped.find(index);
  if (found == mapping.swapped.end()) return false;
  PageBytes bytes;
  SwapDevice& device = AreaOf(machine).device();
  if (!device.ReadPage(found->second, bytes)) return true;
  std::fill(bytes.begin() + static_cast<ptrdiff_t>(from), bytes.begin() + static_cast<ptrdiff_t>(to),
            std::byte{0});
  (void)device.WritePage(found->second, bytes);
  return true;
}

void shmem_truncate_swap(Machine& machine, Mapping& mapping, Pgoff first, Pgoff end) {
  if (mapping.host->kind() != FileKind::kShmem) return;
  Guard guard(mapping.tree_lock);
  const auto from = mapping.swapped.lower_bound(first);
  auto to = from;
  for (; to != mapping.swapped.end() && to->first < end; ++to) swap_free(machine, to->second);
  mapping.swapped.erase(from, to);
}

}  // namespace mm
