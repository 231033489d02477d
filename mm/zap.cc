// Taking ptes away: munmap, exit and truncate (B9), and page_mkclean for writeback.
#include <algorithm>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {
namespace {

// Whether details keep this page where it is.
bool Keeps(const ZapDetails& details, const Page& page) {
  uses(&page.mapping_word, false);
  if (details.check_mapping != nullptr && FileMapping(page) != details.check_mapping) return true;
  return details.nonlinear && (page.index < details.first || page.index >= details.end);
}

void ZapPresent(Vma& vma, Vaddr addr, Pte& entry, const ZapDetails* details) {
  MmStruct& mm = *vma.mm;
  Machine& machine = mm.machine;
  const Pfn pfn = vm_normal_page(entry);
  if (pfn == kNoPfn) {  // the zero page, or a raw frame
    if (details == nullptr) ptep_get_and_clear(entry);
    return;
  }
  const Page& page = machine.frames.at(pfn);
  if (details != nullptr && Keeps(*details, page)) return;
  const Pte pte = ptep_get_and_clear(entry);
  if (details != nullptr && details->nonlinear && page.index != linear_page_index(vma, addr)) {
    set_pte(entry, pgoff_to_pte(page.index));
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

PteList ChainOf(Page& page) {
  pte_chain_lock(page);
  PteList entries = pte_chain_entries(page);
  pte_chain_unlock(page);
  return entries;
}

// The storage key's change bit, once nobody can write the page any more.
bool ClearKey(Page& page) {
  const bool changed = (page.flags & PG_key_dirty) != 0;
  page.flags &= ~PG_key_dirty;
  return changed;
}

}  // namespace

void zap_page_range(Vma& vma, Vaddr start, Vaddr end, const ZapDetails* details) {
  Guard guard(vma.mm->page_table_lock);
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
  const Pte old = ptep_get_and_clear(entry);
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
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  Mapping* mapping = FileMapping(page);
  if (mapping == nullptr || page.mapcount == 0) return false;
  bool dirty = false;
  // false: there is nothing to clean.
  const auto clean = [&](Pte* pte) {
    if (pte == nullptr || !pte_present(*pte) || vm_normal_page(*pte) != pfn) return false;
    if (!pte_write(*pte) && !pte_dirty(*pte)) return false;
    const Pte old = ptep_get_and_clear(*pte);  // and nobody sets its dirty bit from now on
    dirty = dirty || pte_dirty(old);
    set_pte(*pte, pte_clear_bits(old, kPteDirty | kPteWrite));
    return true;
  };
  Guard guard(mapping->i_shared_sem);
  if (page_is_chained(page)) {  // at a non-linear position somewhere: the chain knows where
    // While i_shared_sem is held no vma of the file goes, and so none of these address spaces. But a fork may
    // copy a pte just before it is cleaned; the copy is on the chain by then.
    for (bool again = true; again;) {
      again = false;
      for (const PteAddr at : ChainOf(page)) {
        Guard table_guard(at.mm->page_table_lock);
        again = (clean(at.mm->pgtable.find(at.addr)) && !Planted(Bug::kMkcleanChainOnce)) || again;
      }
    }
    return ClearKey(page) || dirty;
  }
  for (Vma* vma : mapping->i_mmap_shared.overlapping(page.index, page.index + 1)) {
    Guard table_guard(vma->mm->page_table_lock);
    clean(vma->mm->pgtable.find(RangeInVma(*vma, page.index, page.index + 1).first));
  }
  return ClearKey(page) || dirty;
}

}  // namespace mm
