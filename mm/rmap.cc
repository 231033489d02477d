#include "mm/rmap.h"

#include <mutex>

#include "mm/machine.h"
#include "mm/planted.h"

namespace mm {
namespace {

bool Chained(const Page& page) { return (page.flags & PG_anon) != 0; }

uint64_t& MappedCount(Machine& machine, const Page& page) {
  return PageAnon(page) ? machine.vmstat.nr_anon_pages : machine.vmstat.nr_mapped;
}

// Private vmas before shared ones, each kind in the order of the seed's list.
template <class Visit>
void ForEachVmaOf(const Mapping& mapping, Pgoff index, Visit&& visit) {
  for (const VmaTree* tree : {&mapping.i_mmap, &mapping.i_mmap_shared}) {
    for (Vma* vma : tree->overlapping(index, index + 1)) {
      if (!visit(*vma)) return;
    }
  }
}

bool ClearYoung(Pte& pte) {
  if (!pte_young(pte)) return false;
  if (!Planted(Bug::kReferencedNotCleared)) pte = pte_clear_bits(pte, kPteYoung);
  return true;
}

int page_referenced_obj_one(Machine& machine, Vma& vma, Pfn pfn) {
  std::unique_lock guard(vma.mm->page_table_lock, std::try_to_lock);
  if (!guard.owns_lock()) return 1;
  Vaddr addr;
  Pte* pte = find_pte(vma, machine, pfn, &addr);
  return pte != nullptr && ClearYoung(*pte) ? 1 : 0;
}

int page_referenced_obj(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  if (page.mapcount == 0) return 0;
  Mapping* mapping = FileMapping(page);
  CHECK(mapping != nullptr && !page.swapcache());
  std::unique_lock guard(mapping->i_shared_sem, std::try_to_lock);
  if (!guard.owns_lock()) return 1;
  int referenced = 0;
  ForEachVmaOf(*mapping, page.index, [&](Vma& vma) {
    referenced += page_referenced_obj_one(machine, vma, pfn);
    return true;
  });
  return referenced;
}

// Removes one pte of the page, under its page_table_lock. `left` stays in its place.
void UnmapPte(Machine& machine, MmStruct& mm, Vaddr addr, Pte& entry, Pfn pfn, Pte left) {
  const Pte old = entry;
  entry = left;
  if (pte_dirty(old) && !Planted(Bug::kDirtyPteDropped)) set_page_dirty(machine, pfn);
  --(PageAnon(machine.frames.at(pfn)) ? mm.anon_rss : mm.file_rss);
  page_remove_rmap(machine, pfn, mm, addr);
  machine.frames.put_page(pfn);
}

SwapResult try_to_unmap_obj_one(Machine& machine, Vma& vma, Pfn pfn) {
  std::unique_lock guard(vma.mm->page_table_lock, std::try_to_lock);
  if (!guard.owns_lock()) return SwapResult::SWAP_AGAIN;
  Vaddr addr;
  Pte* pte = find_pte(vma, machine, pfn, &addr);
  if (pte == nullptr) return SwapResult::SWAP_AGAIN;
  if ((vma.flags & (VM_LOCKED | VM_RESERVED)) != 0) return SwapResult::SWAP_FAIL;
  UnmapPte(machine, *vma.mm, addr, *pte, pfn, {});
  return SwapResult::SWAP_AGAIN;
}

SwapResult try_to_unmap_obj(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  Mapping* mapping = FileMapping(page);
  CHECK(mapping != nullptr && !page.swapcache());
  SwapResult result = SwapResult::SWAP_AGAIN;
  std::unique_lock guard(mapping->i_shared_sem, std::try_to_lock);
  if (!guard.owns_lock()) return result;
  ForEachVmaOf(*mapping, page.index, [&](Vma& vma) {
    result = try_to_unmap_obj_one(machine, vma, pfn);
    return result != SwapResult::SWAP_FAIL && page.mapcount > 0;
  });
  return result;
}

// What a pte of the page leaves behind: its slot, or its place in the file where the address does not say it.
Pte Remainder(Machine& machine, const Page& page, const Vma& vma, Vaddr addr) {
  if (page.swapcache()) {
    swap_duplicate(machine, page.slot);
    return swp_entry_to_pte(page.slot);
  }
  CHECK_MSG(FileMapping(page) != nullptr, "an anonymous page is unmapped without a slot");
  if (page.index == linear_page_index(vma, addr) || Planted(Bug::kNonlinearOffsetLost)) return {};
  return pgoff_to_pte(page.index);
}

// One entry of the chain.
SwapResult try_to_unmap_one(Machine& machine, Pfn pfn, PteAddr at) {
  std::unique_lock guard(at.mm->page_table_lock, std::try_to_lock);
  if (!guard.owns_lock()) return SwapResult::SWAP_AGAIN;
  const Vma* vma = at.mm->vma_at(at.addr);
  Pte* pte = at.mm->pgtable.find(at.addr);
  CHECK(pte != nullptr && pte_present(*pte) && vm_normal_page(*pte) == pfn);
  if (vma == nullptr || (vma->flags & (VM_LOCKED | VM_RESERVED)) != 0) return SwapResult::SWAP_FAIL;
  UnmapPte(machine, *at.mm, at.addr, *pte, pfn, Remainder(machine, machine.frames.at(pfn), *vma, at.addr));
  return SwapResult::SWAP_SUCCESS;
}

SwapResult try_to_unmap_chain(Machine& machine, Pfn pfn) {
  absl::InlinedVector<PteAddr, 8> entries;
  pte_chain_for_each(machine.frames.at(pfn), [&](PteAddr at) { entries.push_back(at); });
  SwapResult result = SwapResult::SWAP_SUCCESS;
  for (const PteAddr at : entries) {
    switch (try_to_unmap_one(machine, pfn, at)) {
      case SwapResult::SWAP_SUCCESS: break;
      case SwapResult::SWAP_AGAIN: result = SwapResult::SWAP_AGAIN; break;
      case SwapResult::SWAP_FAIL: return SwapResult::SWAP_FAIL;
    }
  }
  return result;
}

// Takes what a conversion did back: the ptes are the file's to find again.
void Unconvert(Machine& machine, Page& page) {
  absl::InlinedVector<PteAddr, 8> entries;
  pte_chain_for_each(page, [&](PteAddr at) { entries.push_back(at); });
  for (const PteAddr at : entries) pte_chain_remove(machine.pte_chains, page, at);
  page.flags &= ~PG_anon;
}

}  // namespace

void page_add_new_anon_rmap(Machine& machine, Pfn pfn, const Vma& vma, Vaddr addr) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.mapcount == 0 && page.mapping_word == 0);
  page.mapping_word = kAnonMapping;
  page.flags |= PG_swapbacked | PG_active;
  machine.frames.lru_add(pfn);
  page_add_anon_rmap(machine, pfn, vma, addr);
}

void page_add_anon_rmap(Machine& machine, Pfn pfn, const Vma& vma, Vaddr addr) {
  Page& page = machine.frames.at(pfn);
  CHECK(PageAnon(page));
  page.flags |= PG_anon;
  pte_chain_add(machine.pte_chains, page, {vma.mm, addr});
  if (page.mapcount++ > 0) return;
  page.index = linear_page_index(vma, addr);
  ++machine.vmstat.nr_anon_pages;
}

void page_add_file_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr addr) {
  Page& page = machine.frames.at(pfn);
  if ((page.flags & PG_reserved) == 0) CHECK(FileMapping(page) != nullptr && !page.swapcache());
  if (Chained(page)) pte_chain_add(machine.pte_chains, page, {&mm, addr});
  if (page.mapcount++ == 0) ++machine.vmstat.nr_mapped;
}

void page_dup_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr addr) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.mapcount > 0);
  if (Chained(page)) pte_chain_add(machine.pte_chains, page, {&mm, addr});
  ++page.mapcount;
}

void page_remove_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr addr) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.mapcount > 0);
  // An entry that is not there: the page is being converted, and the scan had not come to this pte.
  if (Chained(page) && !Planted(Bug::kChainEntryLeftBehind)) {
    pte_chain_remove(machine.pte_chains, page, {&mm, addr});
  }
  if (--page.mapcount > 0) return;
  --MappedCount(machine, page);
  if ((page.flags & PG_key_dirty) != 0) {  // page_test_and_clear_dirty
    page.flags &= ~PG_key_dirty;
    set_page_dirty(machine, pfn);
  }
}

void page_move_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr from, Vaddr to) {
  Page& page = machine.frames.at(pfn);
  if (!Chained(page)) return;
  // Not on it: a conversion that ran out of memory left it out (ConvertEnomem::kAsPosted).
  if (pte_chain_remove(machine.pte_chains, page, {&mm, from})) {
    pte_chain_add(machine.pte_chains, page, {&mm, to});
  }
}

bool page_mapped(const Page& page) { return Chained(page) ? !pte_chain_empty(page) : page.mapcount > 0; }

Pte* find_pte(Vma& vma, const Machine& machine, Pfn pfn, Vaddr* addr) {
  const Page& page = machine.frames.at(pfn);
  if (page.index < vma.pgoff || page.index - vma.pgoff >= vma.pages()) return nullptr;
  *addr = vma.start + (page.index - vma.pgoff) * kPageSize;
  Pte* pte = vma.mm->pgtable.find(*addr);
  if (pte == nullptr || !pte_present(*pte) || vm_normal_page(*pte) != pfn) return nullptr;
  return pte;
}

int page_referenced(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  int referenced = 0;
  if ((page.flags & PG_referenced) != 0) {
    page.flags &= ~PG_referenced;
    ++referenced;
  }
  if (!Chained(page)) return referenced + page_referenced_obj(machine, pfn);
  pte_chain_for_each(page, [&](PteAddr at) {
    Pte* pte = at.mm->pgtable.find(at.addr);
    if (pte != nullptr && ClearYoung(*pte)) ++referenced;
  });
  return referenced;
}

SwapResult try_to_unmap(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && page.mapping_word != 0);
  const SwapResult result = Chained(page) ? try_to_unmap_chain(machine, pfn) : try_to_unmap_obj(machine, pfn);
  return page_mapped(page) ? result : SwapResult::SWAP_SUCCESS;
}

SysResult<void> page_convert_anon(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  Mapping* mapping = FileMapping(page);
  if (mapping == nullptr) return {};  // a truncate won the page lock
  std::lock_guard guard(mapping->i_shared_sem);
  if (Chained(page)) return {};
  page.flags |= PG_anon;
  if (page.mapcount == 0) return {};
  machine.points.Reach(Point::kConvertBeforeScan);
  PteChain* spare = nullptr;
  SysResult<void> result;
  ForEachVmaOf(*mapping, page.index, [&](Vma& vma) {
    if (spare == nullptr) spare = machine.pte_chains.TryAlloc();
    if (spare == nullptr) {
      result = Err(ENOMEM);
      return false;
    }
    std::lock_guard table_guard(vma.mm->page_table_lock);
    Vaddr addr;
    if (find_pte(vma, machine, pfn, &addr) == nullptr) return true;
    // A fork may have put this one on the chain already.
    pte_chain_remove(machine.pte_chains, page, {vma.mm, addr});
    pte_chain_add(machine.pte_chains, page, {vma.mm, addr}, &spare);
    return true;
  });
  if (spare != nullptr) machine.pte_chains.Free(spare);
  if (!result && machine.sem().convert_enomem == ConvertEnomem::kRolledBack) Unconvert(machine, page);
  return result;
}

}  // namespace mm
