#include "mm/rmap.h"

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
  if (!Planted(Bug::kReferencedNotCleared)) ptep_clear_bits(pte, kPteYoung);
  return true;
}

int page_referenced_obj_one(Machine& machine, Vma& vma, Pfn pfn) {
  TryGuard guard(vma.mm->page_table_lock);
  if (!guard) return 1;
  Vaddr addr;
  Pte* pte = find_pte(vma, machine, pfn, &addr);
  return pte != nullptr && ClearYoung(*pte) ? 1 : 0;
}

int page_referenced_obj(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  if (page.mapcount == 0) return 0;
  Mapping* mapping = FileMapping(page);
  if (mapping == nullptr) return 0;  // truncated, and mapped still
  CHECK(!page.swapcache());
  TryGuard guard(mapping->i_shared_sem);
  if (!guard) return 1;
  int referenced = 0;
  ForEachVmaOf(*mapping, page.index, [&](Vma& vma) {
    referenced += page_referenced_obj_one(machine, vma, pfn);
    return true;
  });
  return referenced;
}

// page_test_and_clear_dirty: whether a page that is not mapped any more was changed, by its storage key. With
// a host underneath it is made stable between the look and the clearing: a page that is volatile and clean is
// the host's to drop (A13). The caller's reference, of a mapping that is not counted any more, keeps it
// stable until it is dirty.
bool TestAndClearKey(Machine& machine, Page& page) {
  if ((page.flags & PG_key_dirty) == 0 || (PageAnon(page) && !page.swapcache())) return false;
  if (page_host_discards(machine.frames)) {
    const Pfn pfn = machine.frames.pfn_of(page);
    if (Planted(Bug::kKeyClearedFirst)) page.flags &= ~PG_key_dirty;
    CHECK_MSG(page_make_stable(machine.frames, pfn), "INV-G7: a changed page was discarded");
    racy_change(page_state_object(page), kPageStateName);
  }
  page.flags &= ~PG_key_dirty;
  return true;
}

// What follows once the last mapping of a page went.
struct LastUnmap {
  bool unmapped = false;
  bool dirty = false;
};
void AfterLastUnmap(Machine& machine, Pfn pfn, LastUnmap last) {
  if (!last.unmapped) return;
  if (last.dirty) set_page_dirty(machine, pfn);
  page_reset_writable(machine.frames, pfn);
}

// page_remove_rmap under the chain lock.
LastUnmap RemoveRmap(Machine& machine, Page& page, MmStruct& mm, Vaddr addr) {
  CHECK(page.mapcount > 0);
  uses(&page.mapcount, true);
  // An entry that is not there: the page is being converted, and the scan had not come to this pte.
  if (Chained(page) && !Planted(Bug::kChainEntryLeftBehind)) {
    pte_chain_remove(machine.pte_chains, page, {&mm, addr});
  }
  if (--page.mapcount > 0) return {};
  --MappedCount(machine, page);
  return {.unmapped = true, .dirty = TestAndClearKey(machine, page)};
}

// Removes one pte of the page, under its page_table_lock. `left` stays in its place; a swap entry is
// soft-dirty if the pte was.
enum class ChainLock : uint8_t { kFree, kHeld };
void UnmapPte(Machine& machine, PteAddr at, Pte& entry, Pfn pfn, Pte left, ChainLock chain) {
  Page& page = machine.frames.at(pfn);
  const Pte old = ptep_get_and_clear(entry);
  if (pte_swap(left) && pte_soft_dirty(old)) left = pte_swp_mksoft_dirty(left);
  if (!pte_none(left)) set_pte(entry, left);
  if (pte_dirty(old) && !Planted(Bug::kDirtyPteDropped)) set_page_dirty(machine, pfn);
  --(PageAnon(page) ? at.mm->anon_rss : at.mm->file_rss);
  if (chain == ChainLock::kFree) {
    page_remove_rmap(machine, pfn, *at.mm, at.addr);
  } else {
    AfterLastUnmap(machine, pfn, RemoveRmap(machine, page, *at.mm, at.addr));
  }
  machine.frames.put_page(pfn);
}

SwapResult try_to_unmap_obj_one(Machine& machine, Vma& vma, Pfn pfn) {
  TryGuard guard(vma.mm->page_table_lock);
  if (!guard) return SwapResult::SWAP_AGAIN;
  Vaddr addr;
  Pte* pte = find_pte(vma, machine, pfn, &addr);
  if (pte == nullptr) return SwapResult::SWAP_AGAIN;
  if ((vma.flags & (VM_LOCKED | VM_RESERVED)) != 0) return SwapResult::SWAP_FAIL;
  UnmapPte(machine, {vma.mm, addr}, *pte, pfn, {}, ChainLock::kFree);
  return SwapResult::SWAP_AGAIN;
}

SwapResult try_to_unmap_obj(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  Mapping* mapping = FileMapping(page);
  CHECK(mapping != nullptr && !page.swapcache());
  SwapResult result = SwapResult::SWAP_AGAIN;
  TryGuard guard(mapping->i_shared_sem);
  if (!guard) return result;
  ForEachVmaOf(*mapping, page.index, [&](Vma& vma) {
    result = try_to_unmap_obj_one(machine, vma, pfn);
    racy_read(&page.mapcount, "mapcount");
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

// One entry of the chain, whose lock is held: so the entry's pte and its address space are there.
SwapResult try_to_unmap_one(Machine& machine, Pfn pfn, PteAddr at) {
  TryGuard guard(at.mm->page_table_lock);
  if (!guard) return SwapResult::SWAP_AGAIN;
  const Vma* vma = at.mm->vma_at(at.addr);
  Pte* pte = at.mm->pgtable.find(at.addr);
  CHECK(pte != nullptr && pte_present(*pte) && vm_normal_page(*pte) == pfn);
  if (vma == nullptr || (vma->flags & (VM_LOCKED | VM_RESERVED)) != 0) return SwapResult::SWAP_FAIL;
  UnmapPte(machine, at, *pte, pfn, Remainder(machine, machine.frames.at(pfn), *vma, at.addr),
           ChainLock::kHeld);
  return SwapResult::SWAP_SUCCESS;
}

SwapResult try_to_unmap_chain(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  pte_chain_lock(page);
  SwapResult result = SwapResult::SWAP_SUCCESS;
  for (const PteAddr at : pte_chain_entries(page)) {
    const SwapResult one = try_to_unmap_one(machine, pfn, at);
    if (one != SwapResult::SWAP_SUCCESS) result = one;
    if (one == SwapResult::SWAP_FAIL) break;
  }
  pte_chain_unlock(page);
  return result;
}

// Takes what a conversion did back: the ptes are the file's to find again.
void Unconvert(Machine& machine, Page& page) {
  pte_chain_lock(page);
  for (const PteAddr at : pte_chain_entries(page)) pte_chain_remove(machine.pte_chains, page, at);
  page.flags &= ~PG_anon;
  pte_chain_unlock(page);
}

// PG_anon for a page that has it not; false: there is nothing to put on its chain.
bool BeginConversion(Page& page) {
  pte_chain_lock(page);
  const bool was_chained = Chained(page);
  page.flags |= PG_anon;
  const bool mapped = page.mapcount > 0;
  pte_chain_unlock(page);
  return !was_chained && mapped;
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
  pte_chain_lock(page);
  page.flags |= PG_anon;
  pte_chain_add(machine.pte_chains, page, {vma.mm, addr});
  uses(&page.mapcount, true);
  if (page.mapcount++ == 0) {
    page.index = linear_page_index(vma, addr);
    ++machine.vmstat.nr_anon_pages;
  }
  pte_chain_unlock(page);
}

void page_add_file_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr addr) {
  Page& page = machine.frames.at(pfn);
  if ((page.flags & PG_reserved) == 0) CHECK(FileMapping(page) != nullptr && !page.swapcache());
  pte_chain_lock(page);
  if (Chained(page)) pte_chain_add(machine.pte_chains, page, {&mm, addr});
  uses(&page.mapcount, true);
  if (page.mapcount++ == 0) ++machine.vmstat.nr_mapped;
  pte_chain_unlock(page);
  if (fault_lookup(machine) == CacheLookup::kStable) page_make_volatile(machine.frames, pfn, 1);
}

void page_dup_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr addr) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.mapcount > 0);
  pte_chain_lock(page);
  if (Chained(page)) pte_chain_add(machine.pte_chains, page, {&mm, addr});
  uses(&page.mapcount, true);
  ++page.mapcount;
  pte_chain_unlock(page);
}

void page_remove_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr addr) {
  Page& page = machine.frames.at(pfn);
  pte_chain_lock(page);
  const LastUnmap last = RemoveRmap(machine, page, mm, addr);
  pte_chain_unlock(page);
  AfterLastUnmap(machine, pfn, last);
  if (fault_lookup(machine) == CacheLookup::kStable) page_make_volatile(machine.frames, pfn, 1);
}

void page_move_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr from, Vaddr to) {
  Page& page = machine.frames.at(pfn);
  pte_chain_lock(page);
  // Not on it: a conversion that ran out of memory left it out (ConvertEnomem::kAsPosted).
  if (Chained(page) && pte_chain_remove(machine.pte_chains, page, {&mm, from})) {
    pte_chain_add(machine.pte_chains, page, {&mm, to});
  }
  pte_chain_unlock(page);
}

bool page_mapped(const Page& page) {
  racy_read(&page.mapcount, "mapcount");
  return Chained(page) ? !pte_chain_empty(page) : page.mapcount > 0;
}

Pte* find_pte(Vma& vma, const Machine& machine, Pfn pfn, Vaddr* addr) {
  const Page& page = machine.frames.at(pfn);
  if (page.index < vma.pgoff || page.index - vma.pgoff >= vma.pages()) return nullptr;
  *addr = vma.start + (page.index - vma.pgoff) * kPageSize;
  Pte* pte = vma.mm->pgtable.find(*addr);
  if (pte == nullptr || !pte_present(*pte) || vm_normal_page(*pte) != pfn) return nullptr;
  return pte;
}

int page_referenced(Machine& machine, Pfn pfn, PageIs page_is) {
  Page& page = machine.frames.at(pfn);
  int referenced = 0;
  uses(&page.flags, true);
  if ((page.flags & PG_referenced) != 0) {
    page.flags &= ~PG_referenced;
    ++referenced;
  }
  if (!page_is_chained(page)) {
    // The page lock keeps its mapping.
    const bool locked_here = page_is == PageIs::kUnlocked;
    if (locked_here && !trylock_page(page)) return referenced + 1;
    if (!Chained(page)) referenced += page_referenced_obj(machine, pfn);
    if (locked_here) unlock_page(machine.frames, page);
    return referenced;
  }
  pte_chain_lock(page);
  pte_chain_for_each(page, [&](PteAddr at) {
    Pte* pte = at.mm->pgtable.find(at.addr);
    if (pte != nullptr && ClearYoung(*pte)) ++referenced;
  });
  pte_chain_unlock(page);
  return referenced;
}

SwapResult try_to_unmap(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && page.mapping_word != 0);
  const SwapResult result =
      page_is_chained(page) ? try_to_unmap_chain(machine, pfn) : try_to_unmap_obj(machine, pfn);
  return page_mapped(page) ? result : SwapResult::SWAP_SUCCESS;
}

namespace {

// page_unmap_all for one vma. The lock is waited for: another CPU may be about to install a pte under it.
void UnmapAllOne(Machine& machine, Vma& vma, Pfn pfn) {
  Vaddr addr;
  if (Planted(Bug::kUnmapLooksWithoutLock) && find_pte(vma, machine, pfn, &addr) == nullptr) return;
  Guard guard(vma.mm->page_table_lock);
  Pte* pte = find_pte(vma, machine, pfn, &addr);
  if (pte == nullptr) return;
  if ((vma.flags & VM_LOCKED) != 0 && machine.sem().mlock_discard == MlockDiscard::kRefused) return;
  UnmapPte(machine, {vma.mm, addr}, *pte, pfn, {}, ChainLock::kFree);
}

// The same for each entry of the chain whose page_table_lock is free; true: there was one that was not.
bool UnmapAllChain(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  bool again = false;
  pte_chain_lock(page);
  absl::InlinedVector<PteAddr, 8> entries;
  pte_chain_for_each(page, [&](PteAddr at) { entries.push_back(at); });
  for (const PteAddr at : entries) {
    TryGuard guard(at.mm->page_table_lock);
    const Vma* vma = guard ? at.mm->vma_at(at.addr) : nullptr;
    if (vma == nullptr) {
      again = true;  // held, or the vma is about to be gone
      continue;
    }
    if ((vma->flags & VM_LOCKED) != 0 && machine.sem().mlock_discard == MlockDiscard::kRefused) continue;
    Pte left = Remainder(machine, page, *vma, at.addr);
    if (pte_file(left) && machine.sem().discard_nonlinear == DiscardNonlinear::kNone) left = {};
    Pte* pte = at.mm->pgtable.find(at.addr);
    CHECK(pte != nullptr && pte_present(*pte) && vm_normal_page(*pte) == pfn);
    UnmapPte(machine, at, *pte, pfn, left, ChainLock::kHeld);
  }
  pte_chain_unlock(page);
  return again;
}

}  // namespace

void page_unmap_all(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  if (page_is_chained(page)) {
    while (UnmapAllChain(machine, pfn)) cpu_relax();
    return;
  }
  Mapping* mapping = FileMapping(page);
  racy_read(&page.mapcount, "mapcount");
  if (mapping == nullptr) return;
  Guard guard(mapping->i_shared_sem);
  ForEachVmaOf(*mapping, page.index, [&](Vma& vma) {
    UnmapAllOne(machine, vma, pfn);
    return true;
  });
}

SysResult<void> page_convert_anon(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  Mapping* mapping = FileMapping(page);
  if (mapping == nullptr) return {};  // a truncate won the page lock
  Guard guard(mapping->i_shared_sem);
  if (!BeginConversion(page)) return {};
  PteChain* spare = nullptr;
  SysResult<void> result;
  ForEachVmaOf(*mapping, page.index, [&](Vma& vma) {
    if (spare == nullptr) spare = machine.pte_chains.TryAlloc();
    if (spare == nullptr) {
      result = Err(ENOMEM);
      return false;
    }
    Guard table_guard(vma.mm->page_table_lock);
    Vaddr addr;
    if (find_pte(vma, machine, pfn, &addr) == nullptr) return true;
    // A fork may have put this one on the chain already.
    pte_chain_lock(page);
    pte_chain_remove(machine.pte_chains, page, {vma.mm, addr});
    pte_chain_add(machine.pte_chains, page, {vma.mm, addr}, &spare);
    pte_chain_unlock(page);
    return true;
  });
  if (spare != nullptr) machine.pte_chains.Free(spare);
  if (!result && machine.sem().convert_enomem == ConvertEnomem::kRolledBack) Unconvert(machine, page);
  return result;
}

}  // namespace mm
