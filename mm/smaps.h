// Smaps: what /proc/PID/smaps says of a vma (fs/proc/task_mmu.c), in pages unless said otherwise.
#pragma once

#include <cstdint>

#include "mm/vma.h"

namespace mm {

struct Smaps {
  uint64_t rss = 0;           // present pages; the zero page does not count
  uint64_t pss_bytes = 0;     // each page divided by how many ptes name it, rounded down
  uint64_t shared_clean = 0;  // of rss: pages that several ptes name
  uint64_t shared_dirty = 0;
  uint64_t private_clean = 0;  // of rss: the others
  uint64_t private_dirty = 0;
  uint64_t referenced = 0;  // of rss: young, or PG_referenced
  uint64_t anonymous = 0;   // of rss: not a file's or object's own
  uint64_t swap = 0;        // swap entries, and an object's pages that are in swap and mapped nowhere
  uint64_t swap_pss_bytes = 0;
  uint64_t locked_pss_bytes = 0;  // pss of a VM_LOCKED vma
};
Smaps SmapsOf(Vma& vma);

}  // namespace mm
