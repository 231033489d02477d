#include "mm/smaps.h"

#include "mm/fault.h"
#include "mm/machine.h"

namespace mm {
namespace {

void AddPresent(const Page& page, Pte pte, Smaps& s) {
  ++s.rss;
  s.pss_bytes += kPageSize / static_cast<uint64_t>(page.mapcount);
  if (PageAnon(page)) ++s.anonymous;
  if (pte_young(pte) || (page.flags & PG_referenced) != 0) ++s.referenced;
  const bool dirty = pte_dirty(pte) || page.dirty();
  if (page.mapcount > 1) {
    ++(dirty ? s.shared_dirty : s.shared_clean);
  } else {
    ++(dirty ? s.private_dirty : s.private_clean);
  }
}

// Pages of the object that are in swap, as far as the vma shows them linearly, and no copy lies over them.
uint64_t SwappedOfObject(Vma& vma) {
  if (vma.file == nullptr || vma.file->mapping.swapped.empty()) return 0;
  const auto& swapped = vma.file->mapping.swapped;
  uint64_t count = 0;
  for (auto at = swapped.lower_bound(vma.pgoff); at != swapped.end() && at->first < vma.pgoff + vma.pages();
       ++at) {
    const Pte* pte = vma.mm->pgtable.find(vma.start + (at->first - vma.pgoff) * kPageSize);
    if (vma.is_shared() || pte == nullptr || pte_none(*pte)) ++count;
  }
  return count;
}

}  // namespace

Smaps SmapsOf(Vma& vma) {
  Machine& machine = vma.mm->machine;
  Smaps s;
  vma.mm->pgtable.walk(vma.start, vma.end, [&](Vaddr, const Pte& pte) {
    if (pte_swap(pte)) {
      ++s.swap;
      s.swap_pss_bytes += kPageSize / machine.swap->count(pte_to_swp_entry(pte));
    }
    const Pfn pfn = pte_present(pte) ? vm_normal_page(pte) : kNoPfn;
    if (pfn != kNoPfn) AddPresent(machine.frames.at(pfn), pte, s);
  });
  s.swap += SwappedOfObject(vma);
  if ((vma.flags & VM_LOCKED) != 0) s.locked_pss_bytes = s.pss_bytes;
  return s;
}

}  // namespace mm
