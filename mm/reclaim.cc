#include "mm/reclaim.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "mm/file.h"
#include "mm/machine.h"
#include "mm/rmap.h"
#include "mm/swap.h"

namespace mm {
namespace {

constexpr unsigned DEF_PRIORITY = 12;
constexpr uint64_t SWAP_CLUSTER_MAX = 32;
constexpr uint32_t kPauseMax = 1u << 16;

bool IsAnonList(const Page& page) { return (page.flags & PG_swapbacked) != 0; }

// The page to the head of the list that its flags name from now on.
void Putback(Machine& machine, Pfn pfn, uint32_t active) { machine.frames.lru_move(pfn, PG_active, active); }

enum class References : uint8_t { kReclaim, kReclaimClean, kKeep, kActivate };

// page_check_references.
References CheckReferences(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  uses(&page.flags, true);
  const bool referenced_page = (page.flags & PG_referenced) != 0;
  page.flags &= ~PG_referenced;
  const int referenced_ptes = page_referenced(machine, pfn, PageIs::kLocked);
  if (referenced_ptes > 0) {
    if (PageAnon(page)) return References::kActivate;
    // A page that was read once through a mapping gets one more round.
    page.flags |= PG_referenced;
    return referenced_page ? References::kActivate : References::kKeep;
  }
  return referenced_page ? References::kReclaimClean : References::kReclaim;
}

enum class Fate : uint8_t { kFreed, kKeep, kActivate };

// Writes a dirty page to where it belongs. Requires: locked, not mapped.
bool Pageout(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  if (page.swapcache()) return swap_writepage(machine, pfn).has_value();
  File& file = *FileMapping(page)->host;
  return file.disk() != nullptr && writepage(machine, file, pfn).has_value();
}

// __remove_mapping (INV-M14).
bool RemoveMapping(Machine& machine, Pfn pfn) {
  return machine.frames.at(pfn).swapcache() ? remove_swap_mapping(machine, pfn)
                                            : remove_mapping(machine, pfn);
}

// shrink_page_list, for one page that is locked and referenced by us.
enum class Look : uint8_t { kReferences, kNot };
Fate ShrinkPage(Machine& machine, Pfn pfn, Look look) {
  Page& page = machine.frames.at(pfn);
  uses(&page.flags, false);
  if ((page.flags & PG_discarded) != 0) return Fate::kFreed;  // with our reference, the last
  if ((page.flags & PG_writeback) != 0 || page.mapping_word == 0) return Fate::kKeep;
  const References references =
      look == Look::kReferences ? CheckReferences(machine, pfn) : References::kReclaim;
  if (references == References::kActivate) return Fate::kActivate;
  if (references == References::kKeep) return Fate::kKeep;
  if (PageAnon(page) && !page.swapcache()) {
    // Nobody's any more: another CPU has just taken it out of the swap cache, and holds the last reference.
    if (page.mapcount == 0) return Fate::kKeep;
    if (!add_to_swap(machine, pfn)) return Fate::kActivate;
  }
  if (page_mapped(page)) {
    const SwapResult unmapped = try_to_unmap(machine, pfn);
    // INV-M10; a fault that takes no page lock may have mapped it again.
    CHECK(unmapped != SwapResult::SWAP_SUCCESS ||
          machine.sem().truncate_race == TruncateRace::kTruncateCount || !page_mapped(page));
    if (unmapped == SwapResult::SWAP_FAIL) {
      try_to_free_swap(machine, pfn);  // a locked page needs no slot
      return Fate::kActivate;
    }
    if (unmapped == SwapResult::SWAP_AGAIN) return Fate::kKeep;
  }
  const Mapping* mapping = FileMapping(page);
  if (mapping != nullptr && mapping->host->kind() == FileKind::kShmem) {
    // Cache, isolation; anybody else would go on using a page that is no longer the object's.
    uses(&page.count, false);
    if (page.count != 2) return Fate::kKeep;
    if (!page_make_stable(machine.frames, pfn)) {
      page_discard_locked(machine, pfn);
      return Fate::kFreed;
    }
    return shmem_writepage(machine, pfn) ? Fate::kFreed : Fate::kActivate;
  }
  if (page.dirty()) {
    if (references == References::kReclaimClean) return Fate::kKeep;
    if (page.swapcache() && page_swapcount(machine, page) == 0 && page.count == 2) {
      return try_to_free_swap(machine, pfn) ? Fate::kFreed : Fate::kKeep;  // nobody wants its bytes
    }
    if (!Pageout(machine, pfn)) return Fate::kActivate;
  }
  return RemoveMapping(machine, pfn) ? Fate::kFreed : Fate::kKeep;
}

// One page from the tail of an inactive list, whose reference is given back; true if its frame is free.
bool ShrinkTail(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  const size_t kind = IsAnonList(page) ? 0 : 1;
  ++machine.vmstat.pgscan;
  ++machine.reclaim.recent_scanned[kind];
  if (!trylock_page(page)) {
    Putback(machine, pfn, 0);
    machine.frames.put_page(pfn);
    return false;
  }
  const Fate fate = ShrinkPage(machine, pfn, Look::kReferences);
  unlock_page(machine.frames, page);
  if (fate == Fate::kFreed) {
    ++machine.vmstat.pgsteal;
    machine.frames.put_page(pfn);
    return true;
  }
  if (fate == Fate::kActivate) {
    // No room to write to: the slot is of use to others.
    if (page.swapcache() && vm_swap_full(machine) && trylock_page(page)) {
      try_to_free_swap(machine, pfn);
      unlock_page(machine.frames, page);
    }
    ++machine.vmstat.pgactivate;
    ++machine.reclaim.recent_rotated[kind];
  }
  Putback(machine, pfn, fate == Fate::kActivate ? PG_active : 0);
  machine.frames.put_page(pfn);
  return false;
}

Lru ListOf(size_t kind, bool active) {
  if (kind == 0) return active ? Lru::kActiveAnon : Lru::kInactiveAnon;
  return active ? Lru::kActiveFile : Lru::kInactiveFile;
}

// Buffer heads go when a page becomes inactive (max_buffer_heads is 0 with page hinting: A6.7).
void try_to_release_page(Page& page) {
  uses(&page.flags, true);
  page.flags &= ~PG_private;
}

// shrink_active_list: pages from the tail become inactive; what that clears, a later look finds set again.
void ShrinkActive(Machine& machine, size_t kind, uint64_t pages) {
  const LruLists& lru = machine.frames.lru();
  std::vector<Pfn> moved;  // isolated, by our references, when they are tried (A6.6)
  const auto release = [&] {
    pagevec_make_volatile(machine.frames, moved);
    for (const Pfn pfn : moved) machine.frames.put_page(pfn);
    moved.clear();
  };
  for (; pages > 0 && lru.size(ListOf(kind, true)) > 0; --pages) {
    const Pfn pfn = machine.frames.lru_get_tail(ListOf(kind, true));
    if (pfn == kNoPfn) break;
    ++machine.vmstat.pgrefill;
    ++machine.reclaim.recent_scanned[kind];
    if (page_referenced(machine, pfn, PageIs::kUnlocked) > 0) ++machine.reclaim.recent_rotated[kind];
    ++machine.vmstat.pgdeactivate;
    Putback(machine, pfn, 0);
    if (!page_host_discards(machine.frames)) {
      machine.frames.put_page(pfn);
      continue;
    }
    try_to_release_page(machine.frames.at(pfn));
    moved.push_back(pfn);
    if (moved.size() == PAGEVEC_SIZE) release();
  }
  release();
}

// inactive_anon_is_low, inactive_file_is_low.
bool InactiveIsLow(const Machine& machine, size_t kind) {
  const LruLists& lru = machine.frames.lru();
  const uint64_t active = lru.size(ListOf(kind, true));
  const uint64_t inactive = lru.size(ListOf(kind, false));
  if (kind == 1) return active > inactive;
  const uint64_t gib = uint64_t{machine.frames.frame_count()} >> (30 - kPageShift);
  const uint64_t ratio = gib == 0 ? 1 : static_cast<uint64_t>(std::sqrt(10.0 * static_cast<double>(gib)));
  return inactive * ratio < active;
}

bool CanSwap(const Machine& machine) { return machine.swap != nullptr && machine.swap->nr_free() > 0; }

// get_scan_ratio: how many of 100 pages to scan are anonymous.
uint64_t AnonPercent(Machine& machine) {
  if (!CanSwap(machine)) return 0;
  ReclaimState& state = machine.reclaim;
  const LruLists& lru = machine.frames.lru();
  for (size_t kind : {size_t{0}, size_t{1}}) {
    const uint64_t all = lru.size(ListOf(kind, true)) + lru.size(ListOf(kind, false));
    if (state.recent_scanned[kind] <= all / 4) continue;
    state.recent_scanned[kind] /= 2;
    state.recent_rotated[kind] /= 2;
  }
  const uint64_t anon =
      (state.swappiness + 1) * (state.recent_scanned[0] + 1) / (state.recent_rotated[0] + 1);
  const uint64_t file =
      (200 - state.swappiness + 1) * (state.recent_scanned[1] + 1) / (state.recent_rotated[1] + 1);
  return 100 * anon / (anon + file + 1);
}

uint64_t ShrinkKind(Machine& machine, size_t kind, uint64_t scan, uint64_t wanted) {
  uint64_t freed = 0;
  for (; scan > 0 && freed < wanted; --scan) {
    if (InactiveIsLow(machine, kind)) ShrinkActive(machine, kind, std::min(scan, SWAP_CLUSTER_MAX));
    const Pfn pfn = machine.frames.lru_get_tail(ListOf(kind, false));
    if (pfn == kNoPfn) break;
    if (ShrinkTail(machine, pfn)) ++freed;
    if (kind == 0 && !CanSwap(machine)) break;
  }
  return freed;
}

// shrink_zone.
uint64_t ShrinkLists(Machine& machine, unsigned priority, uint64_t wanted) {
  const LruLists& lru = machine.frames.lru();
  const uint64_t anon_percent = AnonPercent(machine);
  uint64_t freed = 0;
  for (const size_t kind : {size_t{1}, size_t{0}}) {
    const uint64_t all = lru.size(ListOf(kind, true)) + lru.size(ListOf(kind, false));
    const uint64_t percent = kind == 0 ? anon_percent : 100 - anon_percent;
    const uint64_t scan = priority == 0 ? (percent > 0 ? all : 0) : (all >> priority) * percent / 100;
    // Small lists are not passed over.
    const uint64_t at_least = percent > 0 ? std::min(all, SWAP_CLUSTER_MAX) : 0;
    if (freed < wanted) freed += ShrinkKind(machine, kind, std::max(scan, at_least), wanted - freed);
  }
  return freed;
}

// PF_MEMALLOC: reclaim that needs memory takes what is there.
bool is_reclaiming(const ReclaimState& state) { return (state.running & (1u << smp_processor_id())) != 0; }

Pfn alloc_page_slow(Machine& machine, Fill fill) {
  ReclaimState& state = machine.reclaim;
  const Watermarks marks = watermarks(machine.frames);
  for (;;) {
    const uint32_t nr_free = machine.frames.nr_free();
    const bool reclaims = !is_reclaiming(state) && (nr_free == 0 || state.pause == 0);
    uint64_t freed = 0;
    if (reclaims) {
      ++machine.vmstat.allocstall;
      freed = try_to_free_pages(machine, marks.high - std::min(nr_free, marks.low));
      state.pause_next = freed > 0 ? 0 : std::min(std::max(state.pause_next * 2, 1u), kPauseMax);
      if (freed == 0) state.pause = state.pause_next;
    } else if (state.pause > 0) {
      --state.pause;
    }
    const Pfn pfn = machine.frames.alloc_page(fill);
    if (pfn == kNoPfn && machine.discarded != nullptr && machine.discarded->wait() > 0) continue;
    // What was free, or was freed here, others may have taken: that is no reason to give up.
    if (pfn != kNoPfn || is_reclaiming(state) || (reclaims && freed == 0)) return pfn;
  }
}

}  // namespace

void congestion_wait(Machine& machine, Where where) {
  if (!smp()) return;
  might_sleep(where);
  const auto none_left = [](const void* count) { return *static_cast<const uint64_t*>(count) == 0; };
  t_cpus->Point({OpKind::kWait, "nr_writeback", &machine.nr_writeback, none_left, where});
}

Watermarks watermarks(const Frames& frames) {
  const uint32_t low = std::max<uint32_t>(frames.frame_count() / 256, 1);
  return {.low = low, .high = low + std::max<uint32_t>(low / 2, 1)};
}

Pfn alloc_page(Machine& machine, Fill fill) {
  might_sleep();
  if (machine.frames.nr_free() > watermarks(machine.frames).low) [[likely]] {
    const Pfn pfn = machine.frames.alloc_page(fill);
    // Other CPUs may have been faster.
    if (pfn != kNoPfn) [[likely]]
      return pfn;
  }
  return alloc_page_slow(machine, fill);
}

uint64_t try_to_free_pages(Machine& machine, uint64_t pages) {
  if (is_reclaiming(machine.reclaim)) return 0;
  const uint32_t own = 1u << smp_processor_id();
  machine.reclaim.running |= own;
  uint64_t freed = 0;
  for (unsigned priority = DEF_PRIORITY + 1; priority-- > 0 && freed < pages;) {
    if (machine.discarded != nullptr) {
      const uint64_t released = machine.discarded->shrink();
      if (machine.sem().discard_free == DiscardFree::kIpiLists) freed += released;
    }
    if (freed < pages) freed += ShrinkLists(machine, priority, pages - freed);
    if (freed < pages && priority < DEF_PRIORITY - 2) congestion_wait(machine);
  }
  machine.reclaim.running &= ~own;
  return freed;
}

bool reclaim_page(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  if (!machine.frames.get_page_unless_zero(pfn)) return false;
  Fate fate = Fate::kKeep;
  if ((page.flags & PG_lru) != 0 && !is_reclaiming(machine.reclaim) && trylock_page(page)) {
    fate = ShrinkPage(machine, pfn, Look::kNot);
    unlock_page(machine.frames, page);
  }
  machine.frames.put_page(pfn);
  return fate == Fate::kFreed;
}

void mark_page_accessed(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  uses(&page.flags, true);
  if ((page.flags & (PG_active | PG_referenced | PG_lru)) == (PG_referenced | PG_lru)) {
    page.flags &= ~PG_referenced;
    Putback(machine, pfn, PG_active);
    ++machine.vmstat.pgactivate;
  } else {
    page.flags |= PG_referenced;
  }
}

void lru_cache_add_file(Machine& machine, Pfn pfn, bool swapbacked) {
  Page& page = machine.frames.at(pfn);
  if ((page.flags & PG_lru) != 0) return;
  if (swapbacked) page.flags |= PG_swapbacked;
  machine.frames.lru_add(pfn);
}

}  // namespace mm
