// mlock, munlock, mlockall, munlockall.
#include <sys/mman.h>

#include <algorithm>

#include "mm/machine.h"
#include "mm/pieces.h"
#include "mm/planted.h"

namespace mm {
namespace {

// false: it was that already.
bool SetLocked(MmStruct& mm, Vma* vma, Vaddr start, Vaddr end, bool locked) {
  const uint64_t flags = locked ? vma->flags | VM_LOCKED : vma->flags & ~VM_LOCKED;
  if (flags == vma->flags) return false;
  if (vma->start < start) vma = split_vma(mm, vma, start);
  if (vma->end > end) split_vma(mm, vma, end);
  mm.set_vma_flags(*vma, flags);
  return true;
}

// do_mlock: up to the first hole.
SysResult<void> DoMlock(MmStruct& mm, Vaddr addr, uint64_t length, bool locked) {
  const uint64_t in_page = addr % kPageSize;
  addr -= in_page;
  if (addr > TASK_SIZE || length > TASK_SIZE - addr - in_page) return Err(length == 0 ? EINVAL : ENOMEM);
  const Vaddr end = addr + base::PageAlignUp(length + in_page);
  if (end == addr) return {};
  Guard guard(mm.mmap_sem);
  if (Planted(Bug::kMlockFlagLast)) (void)make_pages_present(mm, addr, end);
  Vaddr next = addr;
  while (next < end) {
    Vma* vma = mm.vma_at(next);
    if (vma == nullptr) break;
    const Vaddr stop = std::min(vma->end, end);
    if (SetLocked(mm, vma, next, stop, locked)) vma_merge_around(mm, next, stop);
    next = stop;
  }
  const bool present =
      !locked || addr == next || Planted(Bug::kMlockFlagLast) || make_pages_present(mm, addr, next);
  if (locked) make_locked_pages_stable(mm, addr, next);
  return next == end && present ? SysResult<void>{} : Err(ENOMEM);
}

void LockAll(MmStruct& mm, bool locked) {
  for (const auto& [start, vma] : mm.vmas()) {
    if (vma->special != Special::kNone) continue;
    mm.set_vma_flags(*vma, locked ? vma->flags | VM_LOCKED : vma->flags & ~VM_LOCKED);
  }
  vma_merge_around(mm, 0, TASK_SIZE);
}

}  // namespace

SysResult<void> sys_mlock(MmStruct& mm, Vaddr addr, uint64_t length) {
  return DoMlock(mm, addr, length, true);
}

SysResult<void> sys_munlock(MmStruct& mm, Vaddr addr, uint64_t length) {
  return DoMlock(mm, addr, length, false);
}

SysResult<void> sys_mlockall(MmStruct& mm, int flags) {
  if (flags == 0 || (flags & ~(MCL_CURRENT | MCL_FUTURE)) != 0) return Err(EINVAL);
  Guard guard(mm.mmap_sem);
  mm.def_flags = (flags & MCL_FUTURE) != 0 ? mm.def_flags | VM_LOCKED : mm.def_flags & ~VM_LOCKED;
  if ((flags & MCL_CURRENT) == 0) return {};
  LockAll(mm, true);
  // What cannot be brought in is left out, as in the kernel.
  for (const auto& [start, vma] : mm.vmas()) {
    if (mm.machine.frames.nr_free() == 0) break;
    (void)make_pages_present(mm, vma->start, vma->end);
  }
  make_locked_pages_stable(mm, 0, TASK_SIZE);
  return {};
}

SysResult<void> sys_munlockall(MmStruct& mm) {
  Guard guard(mm.mmap_sem);
  mm.def_flags &= ~VM_LOCKED;
  LockAll(mm, false);
  return {};
}

}  // namespace mm
