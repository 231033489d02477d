// madvise and msync.
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/mm_struct.h"
#include "mm/pieces.h"
#include "mm/planted.h"

namespace mm {
namespace {

// Reclaims the pages that nobody else maps.
void Pageout(Vma& vma, Vaddr start, Vaddr end) {
  Machine& machine = vma.mm->machine;
  std::vector<Pfn> pages;
  {
    Guard guard(vma.mm->page_table_lock);
    vma.mm->pgtable.walk(start, end, [&](Vaddr, const Pte& pte) {
      if (!pte_present(pte) || vm_normal_page(pte) == kNoPfn) return;
      if (machine.frames.at(pte_pfn(pte)).mapcount == 1) pages.push_back(pte_pfn(pte));
    });
  }
  for (const Pfn pfn : pages) reclaim_page(machine, pfn);
}

SysResult<void> AdviseVma(MmStruct& mm, Vma* vma, Vaddr start, Vaddr end, int advice) {
  if (advice == MADV_DONTNEED) {
    if ((vma->flags & (VM_LOCKED | VM_HUGETLB | VM_PFNMAP)) != 0) return Err(EINVAL);
    if (Planted(Bug::kDontneedLeavesPage)) end -= kPageSize;
    // A non-linear mapping keeps its offsets.
    const ZapDetails nonlinear{.nonlinear = true};
    zap_page_range(*vma, start, end, (vma->flags & VM_NONLINEAR) != 0 ? &nonlinear : nullptr);
    return {};
  }
  if (advice == MADV_PAGEOUT) {
    if ((vma->flags & (VM_LOCKED | VM_HUGETLB | VM_PFNMAP)) != 0) return Err(EINVAL);
    Pageout(*vma, start, end);
    return {};
  }
  if (advice == MADV_NORMAL) return {};
  const uint64_t flags = advice == MADV_DONTFORK ? vma->flags | VM_DONTCOPY : vma->flags & ~VM_DONTCOPY;
  if (flags == vma->flags) return {};
  if (vma->start < start) vma = split_vma(mm, vma, start);
  if (vma->end > end) split_vma(mm, vma, end);
  mm.set_vma_flags(*vma, flags);
  vma_merge_around(mm, start, end);
  return {};
}

SysResult<void> Advise(MmStruct& mm, Vaddr addr, Vaddr end, int advice) {
  const SysResult<bool> hole = ForEachPiece(mm, addr, end, [&](Vma* vma, Vaddr start, Vaddr stop) {
    return AdviseVma(mm, vma, start, stop, advice);
  });
  if (!hole) return std::unexpected(hole.error());
  return *hole ? SysResult<void>(Err(ENOMEM)) : SysResult<void>();
}

}  // namespace

SysResult<void> sys_madvise(MmStruct& mm, Vaddr addr, uint64_t length, int advice) {
  static constexpr int kKnown[] = {MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK, MADV_NORMAL, MADV_PAGEOUT};
  if (std::ranges::find(kKnown, advice) == std::end(kKnown)) return Err(EINVAL);
  if (!base::IsPageAligned(addr) || addr > TASK_SIZE || length > TASK_SIZE - addr) return Err(EINVAL);
  if (length == 0) return {};
  const Vaddr end = addr + base::PageAlignUp(length);
  // What changes no vma runs beside faults (madvise_need_mmap_write).
  if (advice == MADV_DONTNEED || advice == MADV_PAGEOUT) {
    ReadGuard guard(mm.mmap_sem);
    return Advise(mm, addr, end, advice);
  }
  Guard guard(mm.mmap_sem);
  return Advise(mm, addr, end, advice);
}

SysResult<void> sys_msync(MmStruct& mm, Vaddr addr, uint64_t length, int flags) {
  if (!base::IsPageAligned(addr) || addr > TASK_SIZE || length > TASK_SIZE - addr) return Err(EINVAL);
  if ((flags & ~(MS_SYNC | MS_ASYNC | MS_INVALIDATE)) != 0 ||
      (flags & (MS_SYNC | MS_ASYNC)) == (MS_SYNC | MS_ASYNC)) {
    return Err(EINVAL);
  }
  ReadGuard guard(mm.mmap_sem);
  const auto write_back = [&](Vma* vma, Vaddr start, Vaddr stop) -> SysResult<void> {
    if ((flags & MS_SYNC) == 0 || !vma->is_shared() || vma->file == nullptr) return {};
    // Any page of the file may be behind a non-linear address.
    if ((vma->flags & VM_NONLINEAR) != 0)
      return filemap_fdatawrite_range(mm.machine, *vma->file, 0, ~Pgoff{0});
    return filemap_fdatawrite_range(mm.machine, *vma->file, linear_page_index(*vma, start),
                                    linear_page_index(*vma, start) + (stop - start) / kPageSize);
  };
  const bool hole = SYS_TRY(ForEachPiece(mm, addr, addr + base::PageAlignUp(length), write_back));
  return hole ? SysResult<void>(Err(ENOMEM)) : SysResult<void>();
}

}  // namespace mm
