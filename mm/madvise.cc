// madvise, msync, and MAP_POPULATE.
#include <sys/mman.h>

#include <algorithm>
#include <mutex>
#include <shared_mutex>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/mm_struct.h"

namespace mm {
namespace {

SysResult<void> AdviseVma(MmStruct& mm, Vma* vma, Vaddr start, Vaddr end, int advice) {
  if (advice == MADV_DONTNEED) {
    if ((vma->flags & (VM_LOCKED | VM_HUGETLB | VM_PFNMAP)) != 0) return Err(EINVAL);
    zap_page_range(*vma, start, end, nullptr);
    return {};
  }
  if (advice == MADV_NORMAL) return {};
  if (vma->start < start) vma = split_vma(mm, vma, start);
  if (vma->end > end) split_vma(mm, vma, end);
  if (advice == MADV_DONTFORK) vma->flags |= VM_DONTCOPY;
  if (advice == MADV_DOFORK) vma->flags &= ~VM_DONTCOPY;
  return {};
}

// Calls visit(vma, start, stop) for each piece of [addr, end) that is mapped; true if there was a hole.
template <class Visit>
SysResult<bool> ForEachPiece(MmStruct& mm, Vaddr addr, Vaddr end, Visit&& visit) {
  bool hole = false;
  Vaddr next = addr;
  while (next < end) {
    Vma* vma = mm.find_vma(next);
    if (vma == nullptr || vma->start >= end) return true;
    hole = hole || vma->start > next;
    const Vaddr start = std::max(next, vma->start);
    const Vaddr stop = std::min(vma->end, end);
    SYS_TRY_VOID(visit(vma, start, stop));
    next = stop;
  }
  return hole;
}

// 2.6.11's filemap_populate with nonblock: what is not cached gets a file pte.
void InstallFilePtes(Vma& vma, Vaddr start, Vaddr end) {
  Machine& machine = vma.mm->machine;
  for (Vaddr addr = start; addr < end; addr += kPageSize) {
    const Pgoff index = linear_page_index(vma, addr);
    if (index >= vma.file->size_pages() || index >> PTE_FILE_MAX_BITS != 0) return;
    const Pfn cached = find_get_page(machine, vma.file->mapping, index);
    if (cached != kNoPfn) {
      machine.frames.put_page(cached);
      handle_mm_fault(*vma.mm, vma, addr, Write::kNo);
      continue;
    }
    std::lock_guard guard(vma.mm->page_table_lock);
    Pte* pte = vma.mm->pgtable.alloc(addr);
    if (pte_none(*pte)) *pte = pgoff_to_pte(index);
  }
}

}  // namespace

SysResult<void> sys_madvise(MmStruct& mm, Vaddr addr, uint64_t length, int advice) {
  if (advice != MADV_DONTNEED && advice != MADV_DONTFORK && advice != MADV_DOFORK && advice != MADV_NORMAL) {
    return Err(EINVAL);
  }
  if (!base::IsPageAligned(addr) || addr > TASK_SIZE || length > TASK_SIZE - addr) return Err(EINVAL);
  if (length == 0) return {};
  const Vaddr end = addr + base::PageAlignUp(length);
  std::unique_lock guard(mm.mmap_sem);
  const SysResult<bool> hole = ForEachPiece(mm, addr, end, [&](Vma* vma, Vaddr start, Vaddr stop) {
    return AdviseVma(mm, vma, start, stop, advice);
  });
  if (advice != MADV_DONTNEED) vma_merge_around(mm, addr, end);
  if (!hole) return std::unexpected(hole.error());
  return *hole ? SysResult<void>(Err(ENOMEM)) : SysResult<void>();
}

SysResult<void> sys_msync(MmStruct& mm, Vaddr addr, uint64_t length, int flags) {
  if (!base::IsPageAligned(addr) || addr > TASK_SIZE || length > TASK_SIZE - addr) return Err(EINVAL);
  if ((flags & ~(MS_SYNC | MS_ASYNC | MS_INVALIDATE)) != 0 ||
      (flags & (MS_SYNC | MS_ASYNC)) == (MS_SYNC | MS_ASYNC)) {
    return Err(EINVAL);
  }
  std::shared_lock guard(mm.mmap_sem);
  const auto write_back = [&](Vma* vma, Vaddr start, Vaddr stop) -> SysResult<void> {
    if ((flags & MS_SYNC) == 0 || !vma->is_shared() || vma->file == nullptr) return {};
    return filemap_fdatawrite_range(mm.machine, *vma->file, linear_page_index(*vma, start),
                                    linear_page_index(*vma, start) + (stop - start) / kPageSize);
  };
  const bool hole = SYS_TRY(ForEachPiece(mm, addr, addr + base::PageAlignUp(length), write_back));
  return hole ? SysResult<void>(Err(ENOMEM)) : SysResult<void>();
}

void populate_range(MmStruct& mm, Vaddr start, Vaddr end, int map_flags) {
  const bool nonblock = (map_flags & MAP_NONBLOCK) != 0;
  if (nonblock && mm.machine.sem().populate_nonblock == PopulateNonblock::kNoop) return;
  (void)ForEachPiece(mm, start, end, [&](Vma* vma, Vaddr from, Vaddr to) -> SysResult<void> {
    if (nonblock) {
      if (vma->is_shared() && vma->has_fault()) InstallFilePtes(*vma, from, to);
      return {};
    }
    if ((vma->flags & VM_ACCESS_FLAGS) == 0) return {};
    // As make_pages_present: a writable private mapping gets its own pages at once.
    const Write write = (vma->flags & (VM_WRITE | VM_SHARED)) == VM_WRITE ? Write::kYes : Write::kNo;
    for (Vaddr addr = from; addr < to; addr += kPageSize) {
      if ((handle_mm_fault(mm, *vma, addr, write) & VM_FAULT_ERROR) != 0) return Err(EFAULT);
    }
    return {};
  });
}

}  // namespace mm
