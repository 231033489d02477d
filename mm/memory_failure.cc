#include "mm/memory_failure.h"

#include <algorithm>
#include <vector>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/rmap.h"

namespace mm {
namespace {

// Every pte of the page, by a look at all page tables: this is no place to trust what is cached.
std::vector<PteAddr> PtesOf(Machine& machine, Pfn pfn) {
  std::vector<PteAddr> found;
  std::vector<const MmStruct*> seen;
  for (const auto& [pid, process] : machine.processes()) {
    MmStruct& mm = *process->mm;
    if (std::ranges::find(seen, &mm) != seen.end()) continue;
    seen.push_back(&mm);
    mm.pgtable.walk(0, TASK_SIZE, [&](Vaddr addr, const Pte& pte) {
      if (pte_present(pte) && vm_normal_page(pte) == pfn) found.push_back({&mm, addr});
    });
  }
  return found;
}

}  // namespace

SysResult<void> memory_failure(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  if (page.count == 0 || (page.flags & (PG_reserved | PG_writeback)) != 0) return Err(EBUSY);
  const bool cached = page.swapcache() || FileMapping(page) != nullptr;
  if (page.count != page.mapcount + (cached ? 1 : 0)) return Err(EBUSY);
  // Who else names its slot would find bytes there that were never written.
  if (page.swapcache() && page.dirty() && page_swapcount(machine, page) > 0) return Err(EBUSY);
  const std::vector<PteAddr> ptes = PtesOf(machine, pfn);
  if (std::ranges::any_of(ptes, [](const PteAddr& at) { return at.mm->page_table_lock.held(); }) ||
      !trylock_page(page)) {
    return Err(EBUSY);
  }
  machine.frames.get_page(pfn);
  for (const PteAddr at : ptes) {
    Pte* pte = at.mm->pgtable.find(at.addr);
    set_pte(*pte, hwpoison_entry_to_pte(pfn));
    --(PageAnon(page) ? at.mm->anon_rss : at.mm->file_rss);
    page_remove_rmap(machine, pfn, *at.mm, at.addr);
    machine.frames.put_page(pfn);
  }
  // Users of its slot find the bytes there, as far as they were written.
  if (page.swapcache()) delete_from_swap_cache(machine, pfn);
  if (FileMapping(page) != nullptr) remove_from_page_cache(machine, pfn);
  if ((page.flags & PG_lru) != 0) machine.frames.lru_del(pfn);
  page.flags |= PG_hwpoison;  // and our reference is kept for ever
  unlock_page(page);
  return {};
}

}  // namespace mm
