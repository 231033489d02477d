// mprotect: B-rules of change_protection. Private ptes lose their write bit, and get it back by a
// write fault that finds the page exclusive; which makes them soft-dirty, too.
#include <sys/mman.h>

#include <algorithm>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/mm_struct.h"
#include "mm/planted.h"

namespace mm {
namespace {

// can_change_pte_writable of later kernels, without the look at soft-dirty: for Bug::kMprotectNotSoftDirty.
bool MayWriteAtOnce(const Vma& vma, Pte pte) {
  const Pfn pfn = vm_normal_page(pte);
  if (vma.is_shared() || (vma.flags & VM_WRITE) == 0 || pfn == kNoPfn || !pte_dirty(pte)) return false;
  const Page& page = vma.mm->machine.frames.at(pfn);
  return PageAnon(page) && page.mapcount == 1 && page_swapcount(vma.mm->machine, page) == 0;
}

void ChangeProtection(Vma& vma) {
  const uint64_t protnone = (vma.flags & VM_ACCESS_FLAGS) == 0 ? kPteProtnone : 0;
  const bool shared_write = vma.is_shared() && (vma.flags & VM_WRITE) != 0 && !vma_wants_writenotify(vma);
  Guard guard(vma.mm->page_table_lock);
  vma.mm->pgtable.walk(vma.start, vma.end, [&](Vaddr, Pte& pte) {
    if (!pte_present(pte)) return;
    const Pte old = ptep_get_and_clear(pte);  // ptep_modify_prot_start
    uint64_t write = shared_write || (vma_wants_writenotify(vma) && pte_dirty(old)) ? kPteWrite : 0;
    if (Planted(Bug::kMprotectKeepsWrite)) write = old.word & kPteWrite;
    if (Planted(Bug::kMprotectNotSoftDirty) && MayWriteAtOnce(vma, old)) write = kPteWrite;
    const Pte changed = pte_set(pte_clear_bits(old, kPteWrite | kPteProtnone), protnone | write);
    if (const Pfn pfn = vm_normal_page(changed); pfn != kNoPfn) {
      page_check_writable(vma.mm->machine.frames, pfn, changed, 1);
    }
    set_pte(pte, changed);
  });
}

SysResult<void> MprotectFixup(MmStruct& mm, Vma* vma, Vaddr start, Vaddr end, uint64_t flags) {
  if (flags == vma->flags) return {};
  if (vma->start < start) vma = split_vma(mm, vma, start);
  if (vma->end > end) split_vma(mm, vma, end);
  mm.set_vma_flags(*vma, flags);
  ChangeProtection(*vma);
  vma_merge_around(mm, start, end);
  return {};
}

}  // namespace

SysResult<void> sys_mprotect(MmStruct& mm, Vaddr addr, uint64_t length, int prot) {
  if (!base::IsPageAligned(addr)) return Err(EINVAL);
  if ((prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0) return Err(EINVAL);
  if (length == 0) return {};
  if (addr > TASK_SIZE || length > TASK_SIZE - addr) return Err(ENOMEM);
  const Vaddr end = addr + base::PageAlignUp(length);
  const uint64_t access = calc_vm_flags(prot, 0) & VM_ACCESS_FLAGS;
  Guard guard(mm.mmap_sem);
  SysResult<void> result;
  Vaddr next = addr;
  while (next < end) {
    Vma* vma = mm.find_vma(next);
    if (vma == nullptr || vma->start > next) {
      result = Err(ENOMEM);
      break;
    }
    // Each access bit needs its MAY bit, four places higher.
    if (vma->special != Special::kNone || ((access & ~(vma->flags >> 4)) & VM_ACCESS_FLAGS) != 0) {
      result = Err(EACCES);
      break;
    }
    const Vaddr stop = std::min(vma->end, end);
    result = MprotectFixup(mm, vma, next, stop, (vma->flags & ~VM_ACCESS_FLAGS) | access);
    if (!result) break;
    next = stop;
  }
  return result;
}

}  // namespace mm
