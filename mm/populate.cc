// MAP_POPULATE, and what brings locked memory in.
#include <sys/mman.h>

#include <vector>

#include "mm/fault.h"
#include "mm/follow_page.h"
#include "mm/machine.h"
#include "mm/pieces.h"

namespace mm {
namespace {

// 2.6.11's filemap_populate with nonblock: what is not cached gets a file pte.
void InstallFilePtes(Vma& vma, Vaddr start, Vaddr end) {
  Machine& machine = vma.mm->machine;
  for (Vaddr addr = start; addr < end; addr += kPageSize) {
    const Pgoff index = linear_page_index(vma, addr);
    if (index >= vma.file->size_pages() || index >> PTE_FILE_MAX_BITS != 0) return;
    const Pfn cached = find_get_page(machine, vma.file->mapping, index, CacheLookup::kNoDiscard);
    if (cached != kNoPfn) {
      machine.frames.put_page(cached);
      handle_mm_fault(*vma.mm, vma, addr, Write::kNo);
      continue;
    }
    Guard guard(vma.mm->page_table_lock);
    Pte* pte = vma.mm->pgtable.alloc(addr);
    if (pte_none(*pte)) set_pte(*pte, pgoff_to_pte(index));
  }
}

// make_pages_present of a piece of one vma: a writable private mapping gets its own pages at once.
SysResult<void> BringIn(Vma& vma, Vaddr start, Vaddr end, BreakCow break_cow) {
  // Locked pages are made stable; one that the host had discarded is brought in again (seed 001).
  const bool stabilises = (vma.flags & VM_LOCKED) != 0 && page_host_discards(vma.mm->machine.frames);
  if (vma.special != Special::kNone) return {};
  if ((vma.flags & VM_ACCESS_FLAGS) == 0) return Err(EFAULT);
  const bool breaks = break_cow == BreakCow::kYes && (vma.flags & (VM_WRITE | VM_SHARED)) == VM_WRITE;
  const Write write = breaks ? Write::kYes : Write::kNo;
  constexpr int kTriesMax = 100;
  for (Vaddr addr = start; addr < end; addr += kPageSize) {
    // Making room may undo what a fault began with; then it is taken again.
    for (int tries = 0; tries < kTriesMax; ++tries) {
      if ((handle_mm_fault(*vma.mm, vma, addr, write) & VM_FAULT_ERROR) != 0) return Err(EFAULT);
      const Pte pte = pte_read(*vma.mm->pgtable.find(addr));
      if (!pte_present(pte) || (write == Write::kYes && !pte_write(pte))) continue;
      if (!stabilises || follow_page(vma, addr, 0).kind == Followed::Kind::kPage) break;
    }
  }
  return {};
}

}  // namespace

void populate_range(MmStruct& mm, Vaddr start, Vaddr end, int map_flags) {
  const bool nonblock = (map_flags & MAP_NONBLOCK) != 0;
  if (nonblock && mm.machine.sem().populate_nonblock == PopulateNonblock::kNoop) return;
  (void)ForEachPiece(mm, start, end, [&](Vma* vma, Vaddr from, Vaddr to) -> SysResult<void> {
    if (!nonblock) return BringIn(*vma, from, to, BreakCow::kYes);
    if (vma->is_shared() && vma->has_fault()) InstallFilePtes(*vma, from, to);
    return {};
  });
}

void make_locked_pages_stable(MmStruct& mm, Vaddr start, Vaddr end) {
  if (!page_host_discards(mm.machine.frames)) return;
  (void)ForEachPiece(mm, start, end, [&](Vma* vma, Vaddr from, Vaddr to) -> SysResult<void> {
    if ((vma->flags & VM_LOCKED) == 0 || vma->special != Special::kNone) return {};
    std::vector<Vaddr> mapped;
    {
      Guard guard(mm.page_table_lock);
      mm.pgtable.walk(from, to, [&](Vaddr addr, const Pte& pte) {
        if (pte_present(pte)) mapped.push_back(addr);
      });
    }
    for (const Vaddr addr : mapped) (void)follow_page(*vma, addr, 0);
    return {};
  });
}

bool make_pages_present(MmStruct& mm, Vaddr start, Vaddr end, BreakCow break_cow) {
  const SysResult<bool> hole = ForEachPiece(
      mm, start, end, [&](Vma* vma, Vaddr from, Vaddr to) { return BringIn(*vma, from, to, break_cow); });
  return hole && !*hole;
}

}  // namespace mm
