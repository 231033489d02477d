#include "mm/soft_dirty.h"

#include "mm/fault.h"
#include "mm/machine.h"

namespace mm {
namespace {

bool IsPinned(const Machine& machine, Pfn pfn) { return machine.pins.contains(pfn); }

// Whether somebody may write, without a fault, the page that an access would find by the entry. While an
// entry names its slot, a pinned page of the swap cache stays there.
bool LeadsToPinned(Machine& machine, Pte pte) {
  if (machine.pins.empty()) return false;
  if (pte_present(pte)) return vm_normal_page(pte) != kNoPfn && IsPinned(machine, pte_pfn(pte));
  Guard guard(machine.swap_lock);
  return IsPinned(machine, machine.swap->cached(pte_to_swp_entry(pte)));
}

bool IsAnon(const Machine& machine, Pte pte) {
  const Pfn pfn = vm_normal_page(pte);
  return pfn != kNoPfn && PageAnon(machine.frames.at(pfn));
}

// clear_soft_dirty of the kernel, for one entry. Requires: page_table_lock is held.
void ClearSoftDirtyPte(Machine& machine, Pte& pte) {
  if (!pte_present(pte) && !pte_swap(pte)) return;
  if (LeadsToPinned(machine, pte)) {
    if (pte_swap(pte) || IsAnon(machine, pte)) ptep_set_bits(pte, kPteSoftDirty);
    return;
  }
  // The dirty bit stays: it is about the page and its slot.
  const uint64_t bits = kPteSoftDirty | (pte_present(pte) ? kPteWrite : 0);
  if ((pte.word & bits) != 0) ptep_clear_bits(pte, bits);
}

void ClearMm(MmStruct& mm) {
  Guard guard(mm.page_table_lock);
  for (const auto& [start, vma] : mm.vmas()) {
    if (vma->is_shared()) continue;
    mm.pgtable.walk(start, vma->end, [&](Vaddr, Pte& pte) { ClearSoftDirtyPte(mm.machine, pte); });
  }
  mm.soft_dirty_cleared = true;
}

}  // namespace

void clear_soft_dirty(Machine& machine) {
  CHECK(!smp() || machine.freezer.held());
  machine.tracks_soft_dirty = true;
  // Of several processes with one address space, the later ones find nothing left to clear.
  for (const auto& [pid, process] : machine.processes()) ClearMm(*process->mm);
}

bool soft_dirty(MmStruct& mm, Vaddr addr) {
  const Machine& machine = mm.machine;
  if (!machine.tracks_soft_dirty) return true;
  Guard guard(mm.page_table_lock);
  const Pte* entry = mm.pgtable.find(base::PageAlignDown(addr));
  if (entry == nullptr) return true;
  if (pte_swap(*entry)) return pte_swp_soft_dirty(*entry);
  return !pte_present(*entry) || !IsAnon(machine, *entry) || pte_soft_dirty(*entry);
}

}  // namespace mm
