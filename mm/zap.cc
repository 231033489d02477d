// Taking ptes away: munmap, exit and truncate (B9), and page_mkclean for writeback.
#include <algorithm>
#include <mutex>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/rmap.h"

namespace mm {
namespace {

void ZapPresent(Vma& vma, Pte& entry, const ZapDetails* details) {
  MmStruct& mm = *vma.mm;
  Machine& machine = mm.machine;
  const Pte pte = entry;
  const Pfn pfn = vm_normal_page(pte);
  if (pfn == kNoPfn) {  // the zero page, or a raw frame
    if (details == nullptr) entry = {};
    return;
  }
  const Page& page = machine.frames.at(pfn);
  if (details != nullptr && FileMapping(page) != details->check_mapping) return;  // a private copy stays
  entry = {};
  if (PageAnon(page)) {
    --mm.anon_rss;
  } else {
    if (pte_dirty(pte)) set_page_dirty(machine, pfn);
    --mm.file_rss;
  }
  page_remove_rmap(machine, pfn);
  machine.frames.put_page(pfn);
}

// The addresses of pages [first, end) of its file in `vma`; empty where they do not meet.
std::pair<Vaddr, Vaddr> RangeInVma(const Vma& vma, Pgoff first, Pgoff end) {
  const Pgoff vma_end = vma.pgoff + vma.pages();
  const Pgoff low = std::max(first, vma.pgoff);
  const Pgoff high = std::min(end, vma_end);
  if (low >= high) return {0, 0};
  return {vma.start + (low - vma.pgoff) * kPageSize, vma.start + (high - vma.pgoff) * kPageSize};
}

}  // namespace

void zap_page_range(Vma& vma, Vaddr start, Vaddr end, const ZapDetails* details) {
  std::lock_guard guard(vma.mm->page_table_lock);
  vma.mm->pgtable.walk(start, end, [&](Vaddr, Pte& pte) {
    if (pte_present(pte)) {
      ZapPresent(vma, pte, details);
    } else if (details == nullptr) {
      pte = {};
    }
  });
}

void unmap_mapping_range(Machine&, Mapping& mapping, Pgoff first, Pgoff end, EvenCows even_cows) {
  CHECK(mapping.i_shared_sem.held());
  const ZapDetails keep_cows{.check_mapping = &mapping};
  const ZapDetails* details = even_cows == EvenCows::kYes ? nullptr : &keep_cows;
  for (const std::list<Vma*>* vmas : {&mapping.i_mmap, &mapping.i_mmap_shared}) {
    for (Vma* vma : *vmas) {
      const auto [start, stop] = RangeInVma(*vma, first, end);
      if (start < stop) zap_page_range(*vma, start, stop, details);
    }
  }
}

bool page_mkclean(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  Mapping* mapping = FileMapping(page);
  if (mapping == nullptr || page.mapcount == 0) return false;
  bool dirty = false;
  std::lock_guard guard(mapping->i_shared_sem);
  for (Vma* vma : mapping->i_mmap_shared) {
    const auto [addr, end] = RangeInVma(*vma, page.index, page.index + 1);
    if (addr == end) continue;
    std::lock_guard table_guard(vma->mm->page_table_lock);
    Pte* pte = vma->mm->pgtable.find(addr);
    if (pte == nullptr || !pte_present(*pte) || vm_normal_page(*pte) != pfn) continue;
    dirty = dirty || pte_dirty(*pte);
    *pte = pte_clear_bits(*pte, kPteDirty | kPteWrite);
  }
  return dirty;
}

}  // namespace mm
