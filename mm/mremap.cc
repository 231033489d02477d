// mremap: grow, shrink, move.
#include <sys/mman.h>

#include <algorithm>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/mm_struct.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {
namespace {

// move_soft_dirty_pte: what stands at the new address was not there before.
Pte MoveSoftDirtyPte(const Machine& machine, Pte pte) {
  if (!machine.tracks_soft_dirty) return pte;
  const Pfn pfn = pte_present(pte) ? vm_normal_page(pte) : kNoPfn;
  const bool anon = pte_swap(pte) || (pfn != kNoPfn && PageAnon(machine.frames.at(pfn)));
  return anon ? pte_mksoft_dirty(pte) : pte;
}

// Moves the ptes of [old_addr, old_addr + length) to new_addr. The destination holds none.
void MovePageTables(Vma& vma, Vaddr old_addr, Vaddr new_addr, uint64_t length) {
  MmStruct& mm = *vma.mm;
  // A truncate that looks at one vma before and at the other after the move would miss what moves.
  const MaybeGuard file_guard(Planted(Bug::kMoveWithoutFileLock) ? nullptr : shared_sem(vma));
  Guard guard(mm.page_table_lock);
  const uint64_t lost = Planted(Bug::kMoveLosesPage) ? kPageSize : 0;
  mm.pgtable.walk(old_addr + lost, old_addr + length, [&](Vaddr addr, Pte& pte) {
    Pte* to = mm.pgtable.alloc(addr - old_addr + new_addr);
    CHECK(pte_none(*to));
    const Pte moved = ptep_get_and_clear(pte);
    set_pte(*to, MoveSoftDirtyPte(mm.machine, moved));
    const Pfn pfn = pte_present(moved) ? vm_normal_page(moved) : kNoPfn;
    if (pfn != kNoPfn) page_move_rmap(mm.machine, pfn, mm, addr, addr - old_addr + new_addr);
  });
}

// move_vma: a new vma for [addr, addr + old_length) of `vma` at new_addr, grown to new_length.
SysResult<Vaddr> MoveVma(MmStruct& mm, Vma* vma, Vaddr addr, uint64_t old_length, uint64_t new_length,
                         Vaddr new_addr) {
  MapRequest request{.start = new_addr,
                     .end = new_addr + new_length,
                     .vm_flags = vma->flags,
                     .pgoff = linear_page_index(*vma, addr),
                     .file = vma->file};
  // An anonymous vma without pages starts afresh, so that it can merge where it lands.
  if (vma->file == nullptr && !vma->anon_vma) request.pgoff = new_addr / kPageSize;
  const bool anon_vma = vma->anon_vma;
  const bool locked = (vma->flags & VM_LOCKED) != 0;
  Vma* moved = SYS_TRY(map_region(mm, std::move(request)));
  moved->anon_vma = moved->anon_vma || anon_vma;
  if (old_length > 0) {
    MovePageTables(*moved, addr, new_addr, old_length);
    do_munmap(mm, addr, addr + old_length);
  }
  if (locked) (void)make_pages_present(mm, new_addr + old_length, new_addr + new_length);
  return new_addr;
}

// vma_to_resize: the vma that holds the whole old range, if it may become `new_length` long.
SysResult<Vma*> VmaToResize(MmStruct& mm, Vaddr addr, uint64_t old_length, uint64_t new_length) {
  Vma* vma = mm.vma_at(addr);
  if (vma == nullptr || old_length > vma->end - addr || vma->special != Special::kNone) return Err(EFAULT);
  if (old_length == 0 && !vma->is_shared()) return Err(EINVAL);
  if (new_length > old_length && (vma->flags & (VM_DONTEXPAND | VM_PFNMAP)) != 0) return Err(EFAULT);
  return vma;
}

SysResult<Vaddr> MremapTo(MmStruct& mm, Vaddr addr, uint64_t old_length, uint64_t new_length,
                          Vaddr new_addr) {
  if (!base::IsPageAligned(new_addr) || new_addr > TASK_SIZE || new_length > TASK_SIZE - new_addr)
    return Err(EINVAL);
  if (new_addr <= addr && new_addr + new_length > addr) return Err(EINVAL);
  if (addr <= new_addr && addr + old_length > new_addr) return Err(EINVAL);
  // What can be refused is refused before anything is unmapped.
  SYS_TRY(VmaToResize(mm, addr, std::min(old_length, new_length), new_length));
  do_munmap(mm, new_addr, new_addr + new_length);
  if (old_length > new_length) {
    do_munmap(mm, addr + new_length, addr + old_length);
    old_length = new_length;
  }
  return MoveVma(mm, mm.vma_at(addr), addr, old_length, new_length, new_addr);
}

}  // namespace

SysResult<Vaddr> sys_mremap(MmStruct& mm, Vaddr addr, uint64_t old_length, uint64_t new_length, int flags,
                            Vaddr new_addr) {
  const bool may_move = (flags & MREMAP_MAYMOVE) != 0;
  const bool fixed = (flags & MREMAP_FIXED) != 0;
  if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0 || (fixed && !may_move)) return Err(EINVAL);
  if (!base::IsPageAligned(addr) || new_length == 0) return Err(EINVAL);
  if (addr > TASK_SIZE || old_length > TASK_SIZE - addr || new_length > TASK_SIZE) return Err(EINVAL);
  old_length = base::PageAlignUp(old_length);
  new_length = base::PageAlignUp(new_length);
  Guard guard(mm.mmap_sem);
  if (fixed) return MremapTo(mm, addr, old_length, new_length, new_addr);

  const Vma* first = mm.vma_at(addr);
  if (first == nullptr || first->special != Special::kNone) return Err(EFAULT);
  if (old_length >= new_length) {
    do_munmap(mm, addr + new_length, addr + old_length);
    return addr;
  }
  Vma* vma = SYS_TRY(VmaToResize(mm, addr, old_length, new_length));
  // In place, when the vma ends where the old range does and the room behind it is free.
  if (old_length > 0 && addr + old_length == vma->end && new_length <= TASK_SIZE - addr) {
    const Vma* next = mm.next_vma(vma);
    if (next == nullptr || next->start >= addr + new_length) {
      mm.adjust_vma(vma, vma->start, addr + new_length, vma->pgoff);
      const bool locked = (vma->flags & VM_LOCKED) != 0;
      vma_merge_around(mm, vma->start, vma->end);
      if (locked) (void)make_pages_present(mm, addr + old_length, addr + new_length);
      return addr;
    }
  }
  if (!may_move) return Err(ENOMEM);
  const Vaddr target = SYS_TRY(get_unmapped_area(mm, 0, new_length));
  return MoveVma(mm, vma, addr, old_length, new_length, target);
}

}  // namespace mm
