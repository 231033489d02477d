#include "mm/memory_failure.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <vector>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/rmap.h"

namespace mm {
namespace {

std::vector<std::shared_ptr<MmStruct>> AllMms(const Machine& machine) {
  std::vector<std::shared_ptr<MmStruct>> mms;
  for (const auto& [pid, process] : machine.processes()) {
    if (std::ranges::find(mms, process->mm) == mms.end()) mms.push_back(process->mm);
  }
  return mms;
}

// Whether all who know of the page are known here: ptes, the cache that it is in, and us.
bool IsOurs(const Machine& machine, const Page& page) {
  uses(&page.count, false);
  uses(&page.flags, false);
  if ((page.flags & (PG_reserved | PG_writeback)) != 0) return false;
  const bool cached = page.swapcache() || FileMapping(page) != nullptr;
  if (page.count != page.mapcount + (cached ? 2 : 1)) return false;
  // Who else names its slot would find bytes there that were never written.
  return !page.swapcache() || !page.dirty() || page_swapcount(machine, page) == 0;
}

// Every pte of the page in `mm`, by a look at the whole page table: this is no place to trust what is cached.
void Poison(Machine& machine, MmStruct& mm, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  Guard guard(mm.page_table_lock);
  mm.pgtable.walk(0, TASK_SIZE, [&](Vaddr addr, Pte& pte) {
    if (!pte_present(pte) || vm_normal_page(pte) != pfn) return;
    set_pte(pte, hwpoison_entry_to_pte(pfn));
    --(PageAnon(page) ? mm.anon_rss : mm.file_rss);
    page_remove_rmap(machine, pfn, mm, addr);
    machine.frames.put_page(pfn);
  });
}

// Requires: the page is locked, so that nobody maps it anew. Address spaces go to `seen`: the last reference
// to one may be ours by the end, and it is not taken apart under a lock.
void TakeAway(Machine& machine, Pfn pfn, std::vector<std::shared_ptr<MmStruct>>* seen) {
  Page& page = machine.frames.at(pfn);
  for (;;) {
    const size_t first = seen->size();
    std::ranges::copy(AllMms(machine), std::back_inserter(*seen));
    for (size_t i = first; i < seen->size(); ++i) Poison(machine, *(*seen)[i], pfn);
    racy_read(&page.mapcount, "mapcount");
    if (page.mapcount == 0) break;
    cpu_relax();  // an address space that a fork makes, or an exit unmaps, is in no process
  }
  // Users of its slot find the bytes there, as far as they were written.
  if (page.swapcache()) delete_from_swap_cache(machine, pfn);
  if (FileMapping(page) != nullptr) remove_from_page_cache(machine, pfn);
  machine.frames.lru_del(pfn);
  page.flags |= PG_hwpoison;
}

}  // namespace

SysResult<void> memory_failure(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  const auto is_held = [](const auto& mm) { return mm->page_table_lock.held(); };
  if (!smp() && std::ranges::any_of(AllMms(machine), is_held)) return Err(EBUSY);
  if (!machine.frames.get_page_unless_zero(pfn)) return Err(EBUSY);
  SysResult<void> result = Err(EBUSY);
  std::vector<std::shared_ptr<MmStruct>> seen;
  if (trylock_page(page)) {
    if (IsOurs(machine, page)) {
      TakeAway(machine, pfn, &seen);
      result = {};
    }
    unlock_page(machine.frames, page);
  }
  if (!result) machine.frames.put_page(pfn);  // and otherwise our reference is kept for ever
  return result;
}

}  // namespace mm
