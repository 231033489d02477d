// swapon and swapoff.
#include <algorithm>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {
namespace {

// unuse_pte: the page, which is locked and up to date, where its entry stands.
void UnusePte(Vma& vma, Vaddr addr, Pte& entry, Pfn pfn) {
  Machine& machine = vma.mm->machine;
  const SwpEntry slot = pte_to_swp_entry(entry);
  ++vma.mm->anon_rss;
  machine.frames.get_page(pfn);
  page_add_anon_rmap(machine, pfn, vma, addr);
  // Old: nobody asked for it just now.
  const uint64_t soft_dirty = pte_swp_soft_dirty(entry) ? kPteSoftDirty : 0;
  set_pte(entry, mk_pte(pfn, soft_dirty | ((vma.flags & VM_ACCESS_FLAGS) == 0 ? kPteProtnone : 0)));
  swap_free(machine, slot);
}

// One swap pte back into memory, unless somebody was faster. Requires: mmap_sem is held.
SysResult<void> UnuseEntry(Vma& vma, Vaddr addr) {
  Machine& machine = vma.mm->machine;
  Pte* entry = vma.mm->pgtable.find(addr);
  const Pte orig = pte_read(*entry);
  if (!pte_swap(orig)) return {};
  const SwpEntry slot = pte_to_swp_entry(orig);
  bool major = false;
  const SysResult<Pfn> read = read_swap_cache(machine, slot, &major);
  if (!read)
    return pte_read(*entry) == orig ? SysResult<void>(std::unexpected(read.error())) : SysResult<void>();
  const Pfn pfn = *read;
  Page& page = machine.frames.at(pfn);
  lock_page(page);
  SysResult<void> result;
  if (page.swapcache() && page.slot == slot) {
    CHECK(page_make_stable(machine.frames, pfn));  // it is, since it was looked up
    if (page.uptodate()) {
      Guard guard(vma.mm->page_table_lock);
      if (*entry == orig) UnusePte(vma, addr, *entry, pfn);
    } else {
      remove_swap_mapping(machine, pfn);
      result = Err(EIO);
    }
    if (page.swapcache()) try_to_free_swap(machine, pfn);
  }
  unlock_page(machine.frames, page);
  machine.frames.put_page(pfn);
  return result;
}

// The addresses of the swap entries of `mm`.
std::vector<Vaddr> SwapPtes(MmStruct& mm) {
  std::vector<Vaddr> found;
  Guard guard(mm.page_table_lock);
  mm.pgtable.walk(0, TASK_SIZE, [&](Vaddr addr, const Pte& pte) {
    if (pte_swap(pte)) found.push_back(addr);
  });
  return found;
}

SysResult<void> UnuseMm(MmStruct& mm) {
  ReadGuard guard(mm.mmap_sem);
  for (const Vaddr addr : SwapPtes(mm)) {
    SYS_TRY_VOID(UnuseEntry(*mm.vma_at(addr), addr));
  }
  return {};
}

SysResult<void> UnuseShmem(Machine& machine, File& file) {
  for (;;) {
    const Pgoff index = shmem_first_swapped(file.mapping);
    if (index == ~Pgoff{0}) return {};
    const Pfn pfn = SYS_TRY(shmem_swapin(machine, file.mapping, index));
    if (pfn != kNoPfn) machine.frames.put_page(pfn);
  }
}

// Pages of the swap cache that no entry names any more give their slots back.
void EmptyCache(Machine& machine) {
  for (SwpEntry slot = 1; slot < machine.swap->high_water(); ++slot) {
    const Pfn pfn = lookup_swap_cache(machine, slot);
    if (pfn == kNoPfn) continue;
    lock_page(machine.frames.at(pfn));
    wait_on_page_writeback(machine.frames.at(pfn));
    if (machine.frames.at(pfn).swapcache()) try_to_free_swap(machine, pfn);
    unlock_page(machine.frames, machine.frames.at(pfn));
    machine.frames.put_page(pfn);
  }
}

SysResult<void> TryToUnuse(Machine& machine) {
  // In the order of the processes, so that the same run takes the same frames. They may come and go
  // meanwhile.
  std::vector<std::shared_ptr<MmStruct>> mms;
  for (const auto& [pid, process] : machine.processes()) {
    if (std::ranges::find(mms, process->mm) == mms.end()) mms.push_back(process->mm);
  }
  // First those that hold memory for nobody: pages that the host has discarded keep their slots until
  // somebody looks (A12), and reclaim does not while nothing can go to swap.
  EmptyCache(machine);
  for (const auto& mm : mms) SYS_TRY_VOID(UnuseMm(*mm));
  for (const FilePtr& file : machine.files()) SYS_TRY_VOID(UnuseShmem(machine, *file));
  EmptyCache(machine);
  return {};
}

bool IsEmpty(Machine& machine) {
  Guard guard(machine.swap_lock);
  return machine.swap->nr_unused() == machine.swap->nr_slots();
}

}  // namespace

SysResult<void> sys_swapon(Machine& machine, std::unique_ptr<SwapDevice> device, uint64_t slots) {
  Guard guard(machine.swap_lock);
  if (machine.swap != nullptr) return Err(EBUSY);
  machine.swap = std::make_unique<SwapArea>(std::move(device), slots);
  return {};
}

SysResult<void> sys_swapoff(Machine& machine) {
  {
    Guard guard(machine.swap_lock);
    // Not there, or another CPU is about to take it away.
    if (machine.swap == nullptr || machine.swap->closed()) return Err(EINVAL);
    machine.swap->set_closed(true);  // nothing goes to swap while it is emptied
  }
  SysResult<void> emptied = TryToUnuse(machine);
  // A fork may have copied entries behind us, or a fault be about to give its slot back; and a page that the
  // host has discarded leaves entries.
  while (emptied && !IsEmpty(machine) && !Planted(Bug::kSwapoffOnePass)) {
    CHECK(smp() || page_host_discards(machine.frames));
    cpu_relax();
    emptied = TryToUnuse(machine);
  }
  Guard guard(machine.swap_lock);
  machine.swap->set_closed(false);
  if (emptied) machine.swap = nullptr;
  return emptied;
}

}  // namespace mm
