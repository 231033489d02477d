// follow_page, get_user_pages and get_dirty_page: reading a page table without faulting, and the
// question that a checkpoint asks of each address (seed 004; spec B11, C4).
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "mm/mm_struct.h"
#include "mm/types.h"

namespace mm {

inline constexpr unsigned FOLL_WRITE = 0x01;   // the pte must be writable
inline constexpr unsigned FOLL_TOUCH = 0x02;   // mark accessed
inline constexpr unsigned FOLL_GET = 0x04;     // take a reference
inline constexpr unsigned FOLL_DUMP = 0x08;    // EFAULT on a hole that would read as zero
inline constexpr unsigned FOLL_FORCE = 0x10;   // get_user_pages only: MAY bits suffice
inline constexpr unsigned FOLL_DIRTY = 0x20;   // EFAULT on a missing page of a file, too
inline constexpr unsigned FOLL_ANON = 0x1000;  // before 2.6.32: the zero page where there is no page table

// The page at an address as the page table has it: a page, nothing (NULL: fault it in), or EFAULT.
struct Followed {
  enum class Kind : uint8_t { kPage, kNull, kEfault } kind;
  Pfn pfn = kNoPfn;
  friend bool operator==(const Followed&, const Followed&) = default;
};
// Requires: mmap_sem held; vma holds addr.
Followed follow_page(Vma& vma, Vaddr addr, unsigned flags);

// The page that `addr` of a private vma was changed to since its file (or zero), with a reference
// taken, or kNoPfn: clean. Never faults in or allocates for a clean answer, but for the published
// variants that Semantics can select. kNoMemory, kFault as the seed's -ENOMEM and -EFAULT.
// CHECK (the seed's BUG_ON): the vma is shared. Requires: mmap_sem held.
base::Result<Pfn> get_dirty_page(Vma& vma, Vaddr addr);

// Consecutive addresses that get_dirty_page would answer with a page.
struct DirtyRun {
  Vaddr start = 0;
  uint64_t pages = 0;   // 0: none up to the end
  bool shared = false;  // with Cut::kAtShared: all of them are mapped more than once; else none is
};
// kAtShared: a run also ends where pages that are mapped once and pages that are mapped more often meet.
enum class Cut : uint8_t { kNo, kAtShared };
// The next run of modified pages of `vma` in [addr, end), at most `pages_max` long. The same answers
// as get_dirty_page with the default lookup, at a few nanoseconds a page: absent tables are skipped,
// no reference is taken. A swap entry is a modified page that is not brought in, and so is a poisoned one,
// which nobody can read. Requires: the default dump_lookup; as get_dirty_page.
DirtyRun next_dirty_run(Vma& vma, Vaddr addr, Vaddr end, uint64_t pages_max, Cut cut = Cut::kNo);

// Whether a checkpoint may go by next_dirty_run and read swapped-out pages where they are; with the published
// rules it asks get_dirty_page for one page after the other, which brings them in.
bool dump_reads_slots(const Machine& machine);

// Whether a present pte of `vma` names a page that a checkpoint must save.
bool page_is_modified(const Vma& vma, Pte pte);

// The mapping that a page belongs to for reclaim and I/O: the swapper space for swap cache pages,
// even anonymous ones, the file's for file pages, nullptr for other anonymous pages.
const Mapping* page_mapping(const Machine& machine, const Page& page);

// RLIMIT_STACK of who asks for the pages of another process.
inline constexpr uint64_t kStackLimit = uint64_t{8} << 20;
// get_user_pages: faults in `count` pages from `addr` on and takes a reference on each; a pin that
// unpin_user_pages gives back. Stops at the first that cannot be had and answers those before it;
// an error only if there are none: EFAULT or ENOMEM. Who writes into a page calls set_page_dirty before it is
// given back: a forced write leaves no other trace where the dirty bit is the page's.
// A stack grows down to `addr`, as for a fault (find_extend_vma).
SysResult<std::vector<Pfn>> get_user_pages(MmStruct& mm, Vaddr addr, uint64_t count, Write write, Force force,
                                           uint64_t stack_limit = kStackLimit);
void unpin_user_pages(Machine& machine, std::vector<Pfn>& pages);

}  // namespace mm
