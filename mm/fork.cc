// fork and exit of an address space: copy_page_range, exit_mmap.
#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/mm_struct.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {
namespace {

// What the discard handler, which is at work on the page of a pte, will leave of it (A9).
Pte PteOfDiscarded(Machine& machine, const Vma& vma, Vaddr addr, Pte source) {
  const Page& page = machine.frames.at(pte_pfn(source));
  if (PageAnon(page)) {
    // RemovalFlag::kTransient: a page that merely left the swap cache is taken for discarded, and its slot is
    // none any more.
    if (page.slot != kNoSlot) swap_duplicate(machine, page.slot);
    const Pte left = swp_entry_to_pte(page.slot);
    return pte_soft_dirty(source) ? pte_swp_mksoft_dirty(left) : left;
  }
  const bool linear = page.index == linear_page_index(vma, addr);
  const bool keeps = machine.sem().discard_nonlinear == DiscardNonlinear::kFilePte;
  return linear || !keeps ? Pte{} : pgoff_to_pte(page.index);
}

// copy_one_pte. `source` may lose its write bit.
Pte CopyOnePte(MmStruct& parent, MmStruct& child, const Vma& vma, Vaddr addr, Pte& source) {
  Machine& machine = parent.machine;
  if (pte_swap(source)) swap_duplicate(machine, pte_to_swp_entry(source));
  if (!pte_present(source)) return source;
  if (page_host_discards(machine.frames) && vm_normal_page(source) != kNoPfn &&
      page_is_discarded(machine.frames.at(pte_pfn(source)))) {
    return PteOfDiscarded(machine, vma, addr, source);
  }
  if (is_cow_mapping(vma.flags)) ptep_clear_bits(source, kPteWrite);  // ptep_set_wrprotect
  Pte pte = source;
  if (vma.is_shared()) pte = pte_clear_bits(pte, kPteDirty);
  pte = pte_clear_bits(pte, kPteYoung);
  const Pfn pfn = vm_normal_page(pte);
  if (pfn == kNoPfn) return pte;
  if (!Planted(Bug::kForkForgetsRefcount)) machine.frames.get_page(pfn);
  page_dup_rmap(machine, pfn, child, addr);
  ++(PageAnon(machine.frames.at(pfn)) ? child.anon_rss : child.file_rss);
  return pte;
}

void CopyPageRange(MmStruct& parent, MmStruct& child, const Vma& vma) {
  // What faults can refill is not copied (2.6.34).
  if ((vma.flags & (VM_HUGETLB | VM_NONLINEAR | VM_PFNMAP | VM_INSERTPAGE)) == 0 && !vma.anon_vma) return;
  MaybeGuard parent_guard(Planted(Bug::kForkWithoutLock) ? nullptr : &parent.page_table_lock);
  NestedGuard child_guard(child.page_table_lock);
  parent.pgtable.walk(vma.start, vma.end, [&](Vaddr addr, Pte& pte) {
    Pte* copy = child.pgtable.alloc(addr);
    set_pte(*copy, CopyOnePte(parent, child, vma, addr, pte));
  });
}

}  // namespace

SysResult<std::unique_ptr<MmStruct>> dup_mm(MmStruct& parent) {
  auto child = std::make_unique<MmStruct>(parent.machine);
  Guard parent_guard(parent.mmap_sem);
  NestedGuard child_guard(child->mmap_sem);
  child->layout = parent.layout;
  child->word_bytes = parent.word_bytes;
  child->auxv = parent.auxv;
  child->tracked_objref = parent.tracked_objref;
  child->exe_file = parent.exe_file;
  for (const auto& [start, vma] : parent.vmas()) {
    if ((vma->flags & VM_DONTCOPY) != 0 && !Planted(Bug::kForkCopiesDontfork)) continue;
    auto copy = std::make_unique<Vma>(*vma);
    copy->flags &= ~VM_LOCKED;  // memory locks are not inherited
    Vma* linked = child->insert_vma(std::move(copy));
    CopyPageRange(parent, *child, *linked);
  }
  return child;
}

void exit_mmap(MmStruct& mm) {
  Guard guard(mm.mmap_sem);
  do_munmap(mm, 0, TASK_SIZE);
  CHECK(mm.anon_rss == 0 && mm.file_rss == 0 && mm.pgtable.nr_ptes() == 0);
  mm.exe_file = nullptr;
}

}  // namespace mm
