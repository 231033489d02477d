// Non-linear mappings: remap_file_pages (spec B10; seed 003's mm/fremap.c).
#include <sys/mman.h>

#include "mm/fault.h"
#include "mm/fault_paths.h"
#include "mm/machine.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {
namespace {

// RemapPopulate::kInstall: filemap_populate of 2.6.18. `nonblock`: only what is cached is mapped.
SysResult<void> InstallRange(Vma& vma, Vaddr addr, Vaddr end, Pgoff pgoff, bool nonblock) {
  Machine& machine = vma.mm->machine;
  File& file = *vma.file;
  if (pgoff + (end - addr) / kPageSize > file.size_pages()) return Err(EINVAL);
  for (; addr < end; addr += kPageSize, ++pgoff) {
    SysResult<Pfn> pfn =
        nonblock ? find_get_page(machine, file.mapping, pgoff) : read_cache_page(machine, file, pgoff);
    if (!pfn) return Err(ENOMEM);
    if (*pfn == kNoPfn) {
      install_file_pte(vma, addr, pgoff);
      continue;
    }
    if (const SysResult<void> installed = install_page(vma, addr, *pfn); !installed) {
      // A page that we brought in behind a truncate must not stay.
      lock_page(machine.frames.at(*pfn));
      drop_past_eof(machine, file, *pfn);
      unlock_page(machine.frames, machine.frames.at(*pfn));
      machine.frames.put_page(*pfn);
      return installed;
    }
  }
  return {};
}

}  // namespace

SysResult<void> install_page(Vma& vma, Vaddr addr, Pfn pfn) {
  MmStruct& mm = *vma.mm;
  Machine& machine = mm.machine;
  Page& page = machine.frames.at(pfn);
  const bool seen_early = Planted(Bug::kConvertSeenEarly) && page_is_chained(page);
  if (!seen_early && page.index != linear_page_index(vma, addr)) {
    // Whether it is on a chain is not asked before: who converts it just now may have to take that back.
    lock_page(page);
    const SysResult<void> converted =
        page_is_chained(page) ? SysResult<void>() : page_convert_anon(machine, pfn);
    unlock_page(machine.frames, page);
    SYS_TRY_VOID(converted);
  }
  Guard guard(mm.page_table_lock);
  // A truncate may have taken the page, with its lock, before us (O10).
  const bool is_there = FileMapping(page) == &vma.file->mapping && page.index < vma.file->size_pages();
  if (!is_there && !Planted(Bug::kInstallAfterTruncate)) return Err(EINVAL);
  // With its lock but without its page lock: a discard handler may be at work on it.
  if (page_host_discards(machine.frames) && page_is_discarded(page)) return Err(EINVAL);
  Pte* entry = mm.pgtable.alloc(addr);
  zap_pte(vma, addr, *entry);
  const Pte pte = mk_pte(pfn, ProtBits(vma) | (vma_wants_writenotify(vma) ? 0 : maybe_mkwrite(vma)));
  page_check_writable(machine.frames, pfn, pte, 2);
  ++mm.file_rss;
  page_add_file_rmap(machine, pfn, mm, addr);
  page_confirm_writable(machine.frames, pfn, pte);
  set_pte(*entry, pte);
  return {};
}

void install_file_pte(Vma& vma, Vaddr addr, Pgoff pgoff) {
  Guard guard(vma.mm->page_table_lock);
  Pte* entry = vma.mm->pgtable.alloc(addr);
  zap_pte(vma, addr, *entry);
  set_pte(*entry, pgoff_to_pte(pgoff));
}

SysResult<void> sys_remap_file_pages(MmStruct& mm, Vaddr addr, uint64_t length, int prot, Pgoff pgoff,
                                     int flags) {
  if (prot != 0) return Err(EINVAL);
  addr = base::PageAlignDown(addr);
  length = base::PageAlignDown(length);
  if (length == 0 || addr + length <= addr) return Err(EINVAL);
  const uint64_t pages = length / kPageSize;
  if (pgoff + pages < pgoff || (pgoff + pages - 1) >> PTE_FILE_MAX_BITS != 0) return Err(EINVAL);
  const Vaddr end = addr + length;
  Guard guard(mm.mmap_sem);
  Vma* vma = mm.vma_at(addr);
  if (vma == nullptr || !vma->is_shared() || !vma->has_fault() || end > vma->end) return Err(EINVAL);
  if (!may_grow_page_table(mm, addr, pages)) return Err(ENOMEM);
  const bool nonblock = (flags & MAP_NONBLOCK) != 0;
  const bool linear = pgoff == linear_page_index(*vma, addr);
  if (linear && (vma->flags & VM_NONLINEAR) == 0) return {};  // it is so already
  mm.make_nonlinear(*vma);
  if (mm.machine.sem().remap_populate == RemapPopulate::kInstall) {
    return InstallRange(*vma, addr, end, pgoff, nonblock);
  }
  for (uint64_t i = 0; i < pages; ++i) install_file_pte(*vma, addr + i * kPageSize, pgoff + i);
  if (!nonblock) (void)make_pages_present(mm, addr, end);
  return {};
}

}  // namespace mm
