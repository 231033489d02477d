// Reclaim: what happens when memory is short (spec B12; 2.6.34 mm/vmscan.c).
//
// Pages that were not used lately are unmapped, written where they differ from their file or slot, and
// freed: from the tail of the inactive lists, which are filled from the active ones. Work is done by whoever
// asks for a page. Locks are only tried, so that it may run wherever a page may be asked for; with several
// CPUs it sleeps for the end of writes that are under way: their pages are the next to be free.
#pragma once

#include <cstdint>

#include "mm/frames.h"
#include "mm/types.h"

namespace mm {

class Machine;

// How reclaim looks at a machine, and what it remembers.
struct ReclaimState {
  // By how many scanned and how many turned out to be in use, for anonymous [0] and file pages [1]: which
  // of the two are worth looking at (zone_reclaim_stat).
  uint64_t recent_scanned[2] = {};
  uint64_t recent_rotated[2] = {};
  // How much anonymous pages weigh against files': 0 to 100 (vm.swappiness).
  uint32_t swappiness = 60;
  // After an attempt that freed nothing, so many allocations go without another.
  uint32_t pause = 0;
  uint32_t pause_next = 0;
  // The CPUs that are at it, a bit each.
  uint32_t running = 0;
};

// Watermarks, in frames: below `low` an allocation makes memory free until there are `high`.
struct Watermarks {
  uint32_t low;
  uint32_t high;
};
Watermarks watermarks(const Frames& frames);

// A frame as Frames::alloc_page gives it, after reclaim where memory is short; kNoPfn: there is none, and
// nothing that could be freed. May sleep.
Pfn alloc_page(Machine& machine, Fill fill);

// Frees up to `pages` pages, and answers how many; scans the lists at most once over at each priority. May
// sleep.
uint64_t try_to_free_pages(Machine& machine, uint64_t pages);

// congestion_wait: sleeps until the writes that are under way, if any, have come to their end. One CPU has
// none.
void congestion_wait(Machine& machine, Where where = Where::current());

// Reclaims this very page, used lately or not (MADV_PAGEOUT's reclaim_pages), if it is one that can be had.
// false: it cannot, though some of its ptes may be gone.
bool reclaim_page(Machine& machine, Pfn pfn);

// The page was used: inactive pages that are used twice become active.
void mark_page_accessed(Machine& machine, Pfn pfn);
// Puts a page of a file's cache on its inactive list (lru_cache_add).
void lru_cache_add_file(Machine& machine, Pfn pfn, bool swapbacked);

}  // namespace mm
