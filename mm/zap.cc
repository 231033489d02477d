// Taking ptes away: munmap, exit and truncate (B9), and page_mkclean for writeback.
#include <algorithm>
#include <mutex>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/rmap.h"

namespace mm {
namespace {

// Whether details keep this page where it is.
bool Keeps(const ZapDetails& details, const Page& page) {
  if (details.check_mapping != nullptr && FileMapping(page) != details.check_mapping) return true;
  return details.nonlinear && (page.index < details.first || page.index >= details.end);
}

void ZapPresent(Vma& vma, Vaddr addr, Pte& entry, const ZapDetails* details) {
  MmStruct& mm = *vma.mm;
  Machine& machine = mm.machine;
  const Pte pte = entry;
  const Pfn pfn = vm_normal_page(pte);
  if (pfn == kNoPfn) {  // the zero page, or a raw frame
    if (details == nullptr) entry = {};
    return;
  }
  const Page& page = machine.frames.at(pfn);
  if (details != nullptr && Keeps(*details, page)) return;
  entry = {};
  if (details != nullptr && details->nonlinear && page.index != linear_page_index(vma, addr)) {
    entry = pgoff_to_pte(page.index);
  }
  if (PageAnon(page)) {
    --mm.anon_rss;
  } else {
    if (pte_dirty(pte)) set_page_dirty(machine, pfn);
    if (pte_young(pte)) mark_page_accessed(machine, pfn);
    --mm.file_rss;
  }
  page_remove_rmap(machine, pfn, mm, addr);
  free_page_and_swap_cache(machine, pfn);
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
  vma.mm->pgtable.walk(start, end, [&](Vaddr addr, Pte& pte) {
    if (pte_present(pte)) {
      ZapPresent(vma, addr, pte, details);
    } else if (details == nullptr) {
      zap_pte(vma, addr, pte);
    }
  });
}

void zap_pte(Vma& vma, Vaddr addr, Pte& entry) {
  if (pte_present(entry)) return ZapPresent(vma, addr, entry, nullptr);
  const Pte old = entry;
  entry = {};
  if (pte_swap(old)) free_swap_and_cache(vma.mm->machine, pte_to_swp_entry(old));
}

void unmap_mapping_range(Machine&, Mapping& mapping, Pgoff first, Pgoff end, EvenCows even_cows) {
  CHECK(mapping.i_shared_sem.held());
  const ZapDetails keep_cows{.check_mapping = &mapping};
  const ZapDetails* details = even_cows == EvenCows::kYes ? nullptr : &keep_cows;
  for (const VmaTree* vmas : {&mapping.i_mmap, &mapping.i_mmap_shared}) {
    for (Vma* vma : vmas->overlapping(first, end)) {
      if ((vma->flags & VM_NONLINEAR) != 0) continue;
      const auto [start, stop] = RangeInVma(*vma, first, end);
      zap_page_range(*vma, start, stop, details);
    }
  }
  // Any address of a non-linear vma may map the range.
  const ZapDetails nonlinear{.check_mapping = even_cows == EvenCows::kYes ? nullptr : &mapping,
                             .nonlinear = true,
                             .first = first,
                             .end = end};
  for (Vma* vma : mapping.i_mmap_nonlinear) zap_page_range(*vma, vma->start, vma->end, &nonlinear);
}

bool page_mkclean(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  Mapping* mapping = FileMapping(page);
  if (mapping == nullptr || page.mapcount == 0) return false;
  bool dirty = false;
  const auto clean = [&](Pte* pte) {
    if (pte == nullptr || !pte_present(*pte) || vm_normal_page(*pte) != pfn) return;
    dirty = dirty || pte_dirty(*pte);
    *pte = pte_clear_bits(*pte, kPteDirty | kPteWrite);
  };
  if ((page.flags & PG_anon) != 0) {  // at a non-linear position somewhere: the chain knows where
    pte_chain_for_each(page, [&](PteAddr at) {
      std::lock_guard table_guard(at.mm->page_table_lock);
      clean(at.mm->pgtable.find(at.addr));
    });
    return dirty;
  }
  std::lock_guard guard(mapping->i_shared_sem);
  for (Vma* vma : mapping->i_mmap_shared.overlapping(page.index, page.index + 1)) {
    std::lock_guard table_guard(vma->mm->page_table_lock);
    clean(vma->mm->pgtable.find(RangeInVma(*vma, page.index, page.index + 1).first));
  }
  return dirty;
}

}  // namespace mm
