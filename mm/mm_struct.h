// MmStruct: one process address space (mm_struct): its vmas (what the process asked for) and its
// page table (what is true at present; a cache that faults rebuild).
//
// The word "address space" is left to the file's side of things in this tree, as in the kernel,
// where struct address_space is a file's mapping.
//
// Invariants, checked by Validate():
//   A1  vmas are page-aligned, ascending, disjoint, below TASK_SIZE; map_count and total_vm are a
//       recount of them.
//   A2  Every pte that is not none lies inside a vma; nr_ptes is a recount of the leaf tables.
//   A3  anon_rss + file_rss are a recount of present ptes, by what their pages are.
//   A4  A writable pte stands only in a vma with VM_WRITE, and for a private vma only on an
//       anonymous page with mapcount 1 (INV-M5, INV-M8).
//   A5  A present file page in a linear vma has that vma's file and linear index.
//   A6  A soft-dirty entry stands only in a private vma, names an anonymous page or a slot, and only once
//       clear_soft_dirty() was called. From then on each writable pte of a private vma is soft-dirty.
//
// Locks: mmap_sem guards the vmas; page_table_lock the page table and the counters.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mm/page_table.h"
#include "mm/sync.h"
#include "mm/types.h"
#include "mm/vma.h"

namespace mm {

class Machine;

struct AuxvEntry {
  uint64_t type;
  uint64_t value;
  friend bool operator==(const AuxvEntry&, const AuxvEntry&) = default;
};

// The bounds that execve sets and that prctl(PR_SET_MM) could change.
struct MmLayout {
  Vaddr start_code = 0, end_code = 0;
  Vaddr start_data = 0, end_data = 0;
  Vaddr start_brk = 0, brk = 0;
  Vaddr start_stack = 0;
  Vaddr arg_start = 0, arg_end = 0;
  Vaddr env_start = 0, env_end = 0;
  friend bool operator==(const MmLayout&, const MmLayout&) = default;
};

class MmStruct {
 public:
  using VmaMap = std::map<Vaddr, std::unique_ptr<Vma>>;  // by start

  explicit MmStruct(Machine& owner) : machine(owner) {}
  ~MmStruct();  // Requires: exit_mmap() was called, or there are no vmas.
  MmStruct(const MmStruct&) = delete;
  MmStruct& operator=(const MmStruct&) = delete;

  // The first vma that ends above `addr` (it may begin above it too), or nullptr.
  Vma* find_vma(Vaddr addr);
  // The vma that holds `addr`, or nullptr.
  Vma* vma_at(Vaddr addr) {
    Vma* vma = find_vma(addr);
    return vma != nullptr && vma->start <= addr ? vma : nullptr;
  }
  const VmaMap& vmas() const { return vmas_; }
  size_t map_count() const { return vmas_.size(); }

  Machine& machine;
  MmapSem mmap_sem;
  PageTableLock page_table_lock;
  PageTable pgtable;
  uint64_t total_vm = 0;  // pages covered by vmas
  uint64_t anon_rss = 0;  // present anonymous pages
  uint64_t file_rss = 0;  // present file pages
  uint64_t min_flt = 0, maj_flt = 0;
  MmLayout layout;
  uint64_t def_flags = 0;  // VM_LOCKED after mlockall(MCL_FUTURE)
  unsigned word_bytes = 8;
  std::vector<AuxvEntry> auxv;
  FilePtr exe_file;
  // What the image that writes are tracked since (Machine::tracked_by) calls the address space that pages
  // which are not soft-dirty are those of: this one, or the one that it was forked from. 0: there is none.
  uint32_t tracked_objref = 0;
  uint32_t nr_aio = 0;  // outstanding aio contexts (io_setup); a checkpoint refuses them

  // ---- used by mmap.cc and its neighbours; others go through the calls below ----

  // Links a vma into the set and its file's lists. Requires: it overlaps no other.
  Vma* insert_vma(std::unique_ptr<Vma> vma);
  // Unlinks; the caller has unmapped its pages.
  std::unique_ptr<Vma> remove_vma(Vma* vma);
  // Moves the bounds of a linked vma; pgoff follows `start`.
  void adjust_vma(Vma* vma, Vaddr start, Vaddr end, Pgoff pgoff);
  // A vma without a file begins at `start`, unless it has grown as far already: faults of several threads can
  // get here at once, as mmap_sem is held for reading only.
  void grow_down(Vma& vma, Vaddr start);
  // `vma` up to `upper`, which takes over from there. At once for who looks through the file or the page's
  // chain.
  Vma* split_vma_at(Vma* vma, std::unique_ptr<Vma> upper);
  // `low` takes over from `high`, its neighbour, which is the caller's to destroy when it holds no lock.
  std::unique_ptr<Vma> join_vmas(Vma* low, Vma* high);
  // Changes what reclaim looks at: under page_table_lock.
  void set_vma_flags(Vma& vma, uint64_t flags);
  // Sets VM_NONLINEAR, for good. Requires: a shared vma of a file.
  void make_nonlinear(Vma& vma);
  Vma* next_vma(const Vma* vma);
  Vma* prev_vma(const Vma* vma);

 private:
  static void Link(Vma& vma);
  static void Unlink(Vma& vma);
  static void MarkLocked(const Vma& vma);
  void SetBounds(Vma& vma, Vaddr start, Vaddr end, Pgoff pgoff);

  VmaMap vmas_;
  Vma* mmap_cache_ = nullptr;  // the vma that find_vma answered last
};

// ---- system calls on an address space (mmap.cc, mprotect.cc, mremap.cc, madvise.cc) ----
//
// prot and flags are the PROT_, MAP_, MREMAP_ and MADV_ values of <sys/mman.h>. Each takes mmap_sem
// itself. An error leaves the address space as it was, unless said otherwise.

// mmap(2). `offset` in bytes, page-aligned. Without MAP_FIXED a free range is chosen, top down from
// below the stack. Shared without a file makes a shmem object of `length`. MAP_POPULATE faults the
// range in (errors of that step are ignored, as in the kernel).
SysResult<Vaddr> sys_mmap(MmStruct& mm, Vaddr addr, uint64_t length, int prot, int flags, FilePtr file,
                          uint64_t offset);
SysResult<void> sys_munmap(MmStruct& mm, Vaddr addr, uint64_t length);
// ENOMEM for a hole in the range: what lies before it is changed, as in the kernel.
SysResult<void> sys_mprotect(MmStruct& mm, Vaddr addr, uint64_t length, int prot);
SysResult<Vaddr> sys_mremap(MmStruct& mm, Vaddr addr, uint64_t old_length, uint64_t new_length, int flags,
                            Vaddr new_addr);
// brk(2): the new break, or the old one where the new cannot be had.
Vaddr sys_brk(MmStruct& mm, Vaddr brk);
// MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK, MADV_NORMAL, MADV_PAGEOUT (of today's kernel: reclaims the pages
// that only this address space maps); EINVAL for others. ENOMEM for holes, after doing
// the rest.
SysResult<void> sys_madvise(MmStruct& mm, Vaddr addr, uint64_t length, int advice);
// mlock(2), munlock(2): VM_LOCKED pages are not reclaimed, and are brought in at once. There is no
// RLIMIT_MEMLOCK. ENOMEM for a hole: what lies before it is locked; or when a page cannot be brought in, as
// where the protection allows no access.
SysResult<void> sys_mlock(MmStruct& mm, Vaddr addr, uint64_t length);
SysResult<void> sys_munlock(MmStruct& mm, Vaddr addr, uint64_t length);
// mlockall(2) with MCL_CURRENT, MCL_FUTURE or both; munlockall(2). EINVAL for other flags.
SysResult<void> sys_mlockall(MmStruct& mm, int flags);
SysResult<void> sys_munlockall(MmStruct& mm);
// remap_file_pages(2) (spec B10): pages [pgoff, ...) of the vma's file at `addr`. `flags` may be
// MAP_NONBLOCK: what is not cached is left as a file pte. EINVAL: prot is not 0, an empty or wrapping
// range, an offset that no file pte holds, not all inside one shared vma of a file. ENOMEM: more page tables
// than the machine may have. With RemapPopulate::kInstall also EINVAL for what lies past the end of the file,
// ENOMEM or EINVAL for a page that cannot be had; what lies before it is remapped.
SysResult<void> sys_remap_file_pages(MmStruct& mm, Vaddr addr, uint64_t length, int prot, Pgoff pgoff,
                                     int flags);
// msync(2) with MS_SYNC (writes back) or MS_ASYNC (nothing to do). ENOMEM for holes, after doing the rest.
SysResult<void> sys_msync(MmStruct& mm, Vaddr addr, uint64_t length, int flags);

// The mapping at the bottom of sys_mmap, for callers that bring VM_ flags (exec, restore): the range
// must be free. `special` maps have no file and no faults of their own.
struct MapRequest {
  Vaddr start = 0;
  Vaddr end = 0;
  uint64_t vm_flags = 0;
  Pgoff pgoff = 0;
  FilePtr file;
  Special special = Special::kNone;
};
// Merges with neighbours when it can. ENOMEM when the range is not free or leaves user space.
SysResult<Vma*> map_region(MmStruct& mm, MapRequest request);
// VM_ flags as mmap computes them from prot, MAP_ flags and whether there is a file.
uint64_t calc_vm_flags(int prot, int flags);
// expand_stack: a growsdown vma grows to hold `addr`, within `limit` bytes of stack (RLIMIT_STACK)
// and with a page of gap to the vma below. ENOMEM otherwise.
SysResult<void> expand_stack(Vma& vma, Vaddr addr, uint64_t limit);

// Shared by munmap, mremap, exec and exit: unmaps [start, end), splitting vmas at the edges.
// Requires: mmap_sem held for writing.
void do_munmap(MmStruct& mm, Vaddr start, Vaddr end);
// Splits `vma` at `addr` (inside it) and returns the upper part. Requires: as do_munmap.
Vma* split_vma(MmStruct& mm, Vma* vma, Vaddr addr);
// Merges neighbours that are alike and meet in [start, end]. Callers name what they changed, as the kernel
// looks at no other neighbours. Requires: as do_munmap.
void vma_merge_around(MmStruct& mm, Vaddr start, Vaddr end);
// A free range of `length` bytes, or ENOMEM. Top down from mmap_base; `hint` is taken if it is free.
SysResult<Vaddr> get_unmapped_area(MmStruct& mm, Vaddr hint, uint64_t length);
// MAP_POPULATE, and 2.6.11's filemap_populate with MAP_NONBLOCK.
void populate_range(MmStruct& mm, Vaddr start, Vaddr end, int map_flags);
// Faults [start, end) in (make_pages_present), as far as it can be had; false: not all of it. kYes: for
// writing where that breaks COW, as mlock and MAP_POPULATE do. kNo: what is missing, for reading, as a
// restart does.
enum class BreakCow : uint8_t { kNo, kYes };
bool make_pages_present(MmStruct& mm, Vaddr start, Vaddr end, BreakCow break_cow = BreakCow::kYes);
// Page hinting: what is mapped of [start, end) by VM_LOCKED vmas becomes stable, or is unmapped if the host
// has discarded it. Part of mlock: also where pages could not be brought in, or may not be touched.
void make_locked_pages_stable(MmStruct& mm, Vaddr start, Vaddr end);
// Maps a page of the vma's file, to which the caller has a reference, at `addr`, instead of whatever is there
// (install_page). EINVAL when a truncate took the page away; ENOMEM when the reverse map cannot grow. The
// reference becomes the pte's; after an error the caller still has it, and the pte is as it was.
SysResult<void> install_page(Vma& vma, Vaddr addr, Pfn pfn);
// Puts a file pte at `addr`, instead of whatever is there.
void install_file_pte(Vma& vma, Vaddr addr, Pgoff pgoff);

// fork: a new address space with the same vmas and, COW, the same pages (fork.cc). ENOMEM leaves
// the parent with its private pages write-protected, as in the kernel, and otherwise as it was.
SysResult<std::unique_ptr<MmStruct>> dup_mm(MmStruct& parent);
// exit: unmaps everything.
void exit_mmap(MmStruct& mm);

}  // namespace mm
