// mmap, munmap, brk, stack growth; splitting and merging of vmas.
#include <sys/mman.h>

#include <algorithm>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/mm_struct.h"
#include "mm/planted.h"

namespace mm {
namespace {

// Below the stack's largest extent and its gap, as mmap_base() places it.
constexpr Vaddr kMmapBase = TASK_SIZE - (Vaddr{136} << 20);
constexpr Vaddr kMmapMin = 0x10000;  // mmap_min_addr

// Two vmas whose touching edges may be joined: alike in all but their bounds, and their offsets follow.
bool CanMerge(const Vma& low, const Vma& high) {
  if (low.end != high.start || low.flags != high.flags || low.file != high.file) return false;
  if (low.special != Special::kNone || high.special != Special::kNone) return false;
  return low.pgoff + low.pages() == high.pgoff;
}

Vma* MergeWithNext(MmStruct& mm, Vma* vma) {
  Vma* next = mm.next_vma(vma);
  if (next == nullptr || !CanMerge(*vma, *next)) return nullptr;
  vma->anon_vma = vma->anon_vma || next->anon_vma;
  mm.join_vmas(vma, next);
  return vma;
}

bool RangeIsValid(Vaddr addr, uint64_t length) {
  return length != 0 && addr <= TASK_SIZE && length <= TASK_SIZE - addr;
}

// The vma flags' share of sys_mmap's checks on files, and the vma's file.
SysResult<FilePtr> BackingFile(MmStruct& mm, uint64_t length, int flags, FilePtr file) {
  if ((flags & MAP_ANONYMOUS) == 0) {
    if (file == nullptr) return Err(EBADF);
    // A shared mapping of /dev/zero is a new shmem object, as in the kernel.
    if (file->kind() == FileKind::kDevZero && (flags & MAP_SHARED) != 0) {
      return mm.machine.create_shmem("/dev/zero", length);
    }
    return file;
  }
  if ((flags & MAP_SHARED) != 0) return mm.machine.create_shmem("shm", length);
  return FilePtr{};
}

}  // namespace

uint64_t calc_vm_flags(int prot, int flags) {
  uint64_t vm = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
  if ((prot & PROT_READ) != 0) vm |= VM_READ;
  if ((prot & PROT_WRITE) != 0) vm |= VM_WRITE;
  if ((prot & PROT_EXEC) != 0) vm |= VM_EXEC;
  if ((flags & MAP_SHARED) != 0) vm |= VM_SHARED | VM_MAYSHARE;
  if ((flags & MAP_GROWSDOWN) != 0) vm |= VM_GROWSDOWN;
  if ((flags & MAP_DENYWRITE) != 0) vm |= VM_DENYWRITE;
  if ((flags & MAP_NORESERVE) != 0) vm |= VM_NORESERVE;
  if ((flags & MAP_LOCKED) != 0) vm |= VM_LOCKED;
  return vm;
}

SysResult<Vma*> map_region(MmStruct& mm, MapRequest request) {
  if (request.start >= request.end || request.end > TASK_SIZE) return Err(ENOMEM);
  const Vma* next = mm.find_vma(request.start);
  if (next != nullptr && next->start < request.end) return Err(ENOMEM);
  auto vma = std::make_unique<Vma>();
  vma->start = request.start;
  vma->end = request.end;
  vma->flags = request.vm_flags;
  vma->pgoff = request.pgoff;
  vma->file = std::move(request.file);
  vma->special = request.special;
  Vma* linked = mm.insert_vma(std::move(vma));
  Vma* before = mm.prev_vma(linked);
  if (before != nullptr && MergeWithNext(mm, before) != nullptr) linked = before;
  MergeWithNext(mm, linked);
  return linked;
}

SysResult<Vaddr> get_unmapped_area(MmStruct& mm, Vaddr hint, uint64_t length) {
  if (length > TASK_SIZE) return Err(ENOMEM);
  hint = base::PageAlignDown(hint);
  if (hint >= kMmapMin && RangeIsValid(hint, length)) {
    const Vma* next = mm.find_vma(hint);
    if (next == nullptr || hint + length <= next->start) return hint;
  }
  // Top down: below each vma in turn, from the highest.
  Vaddr top = kMmapBase;
  for (auto it = mm.vmas().rbegin(); it != mm.vmas().rend(); ++it) {
    const Vma& vma = *it->second;
    const Vaddr bottom = std::max(vma.end, kMmapMin);
    if (bottom <= top && top - bottom >= length) return top - length;
    top = std::min(top, vma.start);
  }
  if (top >= kMmapMin && top - kMmapMin >= length) return top - length;
  return Err(ENOMEM);
}

SysResult<Vaddr> sys_mmap(MmStruct& mm, Vaddr addr, uint64_t length, int prot, int flags, FilePtr file,
                          uint64_t offset) {
  const bool shared = (flags & MAP_SHARED) != 0;
  if (length == 0 || shared == ((flags & MAP_PRIVATE) != 0) || !base::IsPageAligned(offset))
    return Err(EINVAL);
  if (length > TASK_SIZE) return Err(ENOMEM);
  length = base::PageAlignUp(length);
  if (offset + length < offset) return Err(EOVERFLOW);
  Guard guard(mm.mmap_sem);
  if ((flags & MAP_FIXED) != 0) {
    if (!base::IsPageAligned(addr)) return Err(EINVAL);
    if (!RangeIsValid(addr, length)) return Err(ENOMEM);
  } else {
    addr = SYS_TRY(get_unmapped_area(mm, addr, length));
  }
  const bool anonymous = (flags & MAP_ANONYMOUS) != 0;
  FilePtr backing = SYS_TRY(BackingFile(mm, length, flags, std::move(file)));
  if ((flags & MAP_GROWSDOWN) != 0 && (shared || !anonymous)) return Err(EINVAL);
  if ((flags & MAP_FIXED) != 0) do_munmap(mm, addr, addr + length);
  MapRequest request{.start = addr,
                     .end = addr + length,
                     .vm_flags = calc_vm_flags(prot, flags) | mm.def_flags,
                     .pgoff = 0,
                     .file = std::move(backing)};
  if (!anonymous) {
    request.pgoff = offset / kPageSize;
  } else if (!shared) {
    request.pgoff = addr / kPageSize;
  }
  SYS_TRY(map_region(mm, std::move(request)));
  if ((flags & MAP_POPULATE) != 0) populate_range(mm, addr, addr + length, flags);
  // Locked memory is brought in; what cannot be is left out.
  if (((calc_vm_flags(prot, flags) | mm.def_flags) & VM_LOCKED) != 0) {
    (void)make_pages_present(mm, addr, addr + length);
  }
  return addr;
}

Vma* split_vma(MmStruct& mm, Vma* vma, Vaddr addr) {
  CHECK(vma->start < addr && addr < vma->end && base::IsPageAligned(addr));
  auto upper = std::make_unique<Vma>();
  upper->start = addr;
  upper->end = vma->end;
  upper->flags = vma->flags;
  upper->pgoff = linear_page_index(*vma, addr);
  upper->file = vma->file;
  upper->special = vma->special;
  upper->anon_vma = vma->anon_vma;
  return mm.split_vma_at(vma, std::move(upper));
}

void vma_merge_around(MmStruct& mm, Vaddr start, Vaddr end) {
  Vma* vma = mm.find_vma(start);
  if (vma == nullptr) return;
  if (Vma* before = mm.prev_vma(vma)) vma = before;
  while (vma != nullptr && vma->end <= end) {
    if (MergeWithNext(mm, vma) == nullptr) vma = mm.next_vma(vma);
  }
}

void do_munmap(MmStruct& mm, Vaddr start, Vaddr end) {
  Vma* vma = mm.find_vma(start);
  if (start >= end || vma == nullptr || vma->start >= end) return;
  if (vma->start < start) vma = split_vma(mm, vma, start);
  while (vma != nullptr && vma->start < end) {
    if (vma->end > end) split_vma(mm, vma, end);
    Vma* next = mm.next_vma(vma);
    zap_page_range(*vma, vma->start, vma->end, nullptr);
    const FilePtr keep_until_unlinked = mm.remove_vma(vma)->file;
    vma = next;
  }
  // Leaf tables between the neighbours hold nothing now.
  Vma* above = mm.find_vma(end);
  Vaddr floor = 0;
  const Vma* below = nullptr;
  if (above != nullptr) {
    below = mm.prev_vma(above);
  } else if (!mm.vmas().empty()) {
    below = mm.vmas().rbegin()->second.get();
  }
  if (below != nullptr) floor = below->end;
  Guard guard(mm.page_table_lock);
  mm.pgtable.free_pgtables(floor, above != nullptr ? above->start : Vaddr{1} << 48);
}

SysResult<void> sys_munmap(MmStruct& mm, Vaddr addr, uint64_t length) {
  if (!base::IsPageAligned(addr) || addr > TASK_SIZE || length == 0 || length > TASK_SIZE - addr)
    return Err(EINVAL);
  Guard guard(mm.mmap_sem);
  do_munmap(mm, addr, addr + base::PageAlignUp(length));
  return {};
}

Vaddr sys_brk(MmStruct& mm, Vaddr brk) {
  Guard guard(mm.mmap_sem);
  const Vaddr old_brk = mm.layout.brk;
  if (brk < mm.layout.start_brk || brk > TASK_SIZE) return old_brk;
  const Vaddr old_end = base::PageAlignUp(old_brk);
  const Vaddr new_end = base::PageAlignUp(brk);
  if (new_end < old_end) do_munmap(mm, new_end, old_end);
  if (new_end > old_end) {
    // A page stays free between the heap and what lies above it.
    const Vma* above = mm.find_vma(old_end);
    if (above != nullptr && above->start < new_end + kPageSize) return old_brk;
    MapRequest request{
        .start = old_end,
        .end = new_end,
        .vm_flags = calc_vm_flags(PROT_READ | PROT_WRITE, MAP_PRIVATE) | VM_ACCOUNT | mm.def_flags,
        .pgoff = old_end / kPageSize,
        .file = nullptr};
    if (!map_region(mm, std::move(request))) return old_brk;
    if ((mm.def_flags & VM_LOCKED) != 0) (void)make_pages_present(mm, old_end, new_end);
  }
  return mm.layout.brk = brk;
}

SysResult<void> expand_stack(Vma& vma, Vaddr addr, uint64_t limit) {
  constexpr Vaddr kStackGap = kPageSize;
  MmStruct& mm = *vma.mm;
  CHECK((vma.flags & VM_GROWSDOWN) != 0);
  addr = base::PageAlignDown(addr);
  if (addr >= vma.start) return {};
  const Vma* below = mm.prev_vma(&vma);
  if (addr < kMmapMin || vma.end - addr > limit) return Err(ENOMEM);
  if (below != nullptr && addr < below->end + kStackGap) return Err(ENOMEM);
  const uint64_t grow = (vma.start - addr) / kPageSize;
  if (grow > vma.pgoff) return Err(ENOMEM);
  if (Planted(Bug::kStackGrowsTwice)) {
    mm.adjust_vma(&vma, addr, vma.end, vma.pgoff - grow);
  } else {
    mm.grow_down(vma, addr);
  }
  return {};
}

}  // namespace mm
