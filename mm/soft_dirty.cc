#include "mm/soft_dirty.h"

#include <algorithm>

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
}

}  // namespace

void clear_soft_dirty(Machine& machine) {
  CHECK(!smp() || machine.freezer.held());
  machine.tracks_soft_dirty = true;
  // Of several processes with one address space, the later ones find nothing left to clear.
  for (const auto& [pid, process] : machine.processes()) ClearMm(*process->mm);
}

bool soft_dirty(MmStruct& mm, Vaddr addr) {
  return next_soft_dirty_run(mm, base::PageAlignDown(addr), base::PageAlignDown(addr) + base::kPageSize)
      .soft_dirty;
}

SoftDirtyRun next_soft_dirty_run(MmStruct& mm, Vaddr start, Vaddr end) {
  const Machine& machine = mm.machine;
  const uint64_t all = (end - start) / base::kPageSize;
  if (!machine.tracks_soft_dirty) return {all, true};
  Guard guard(mm.page_table_lock);
  // What is no modified page is soft-dirty, pages without a table too.
  const auto is_soft_dirty = [&](const Pte& pte) {
    if (pte_swap(pte)) return pte_swp_soft_dirty(pte);
    return !pte_present(pte) || !IsAnon(machine, pte) || pte_soft_dirty(pte);
  };
  bool soft_dirty = true;
  Vaddr addr = start;
  while (addr < end) {
    Vaddr leaf = addr;
    const Pte* pte = mm.pgtable.next_leaf(&leaf, end);
    if ((pte == nullptr || leaf > addr) && !soft_dirty) break;
    if (pte == nullptr) return {all, soft_dirty};
    addr = leaf;
    const Vaddr stop = std::min(PageTable::LeafEnd(addr), end);
    for (; addr < stop; addr += base::kPageSize, ++pte) {
      if (addr == start) soft_dirty = is_soft_dirty(*pte);
      if (is_soft_dirty(*pte) != soft_dirty) return {(addr - start) / base::kPageSize, soft_dirty};
    }
  }
  return {(addr - start) / base::kPageSize, soft_dirty};
}

}  // namespace mm
