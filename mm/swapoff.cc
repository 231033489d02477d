// swapon and swapoff.
#include <set>

#include "mm/fault.h"
#include "mm/machine.h"
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
  entry = mk_pte(pfn, (vma.flags & VM_ACCESS_FLAGS) == 0 ? kPteProtnone : 0);
  swap_free(machine, slot);
}

// One swap pte back into memory.
SysResult<void> UnuseEntry(Vma& vma, Vaddr addr) {
  Machine& machine = vma.mm->machine;
  Pte* entry = vma.mm->pgtable.find(addr);
  bool major = false;
  const Pfn pfn = SYS_TRY(read_swap_cache(machine, pte_to_swp_entry(*entry), &major));
  Page& page = machine.frames.at(pfn);
  lock_page(page);
  const bool uptodate = page.uptodate();
  if (uptodate) {
    vma.mm->page_table_lock.lock();
    UnusePte(vma, addr, *entry, pfn);
    vma.mm->page_table_lock.unlock();
    try_to_free_swap(machine, pfn);
  } else if (page.count == 2) {
    delete_from_swap_cache(machine, pfn);
  }
  unlock_page(page);
  machine.frames.put_page(pfn);
  return uptodate ? SysResult<void>{} : Err(EIO);
}

// The addresses of the swap entries of `mm`.
std::vector<Vaddr> SwapPtes(MmStruct& mm) {
  std::vector<Vaddr> found;
  mm.pgtable.walk(0, TASK_SIZE, [&](Vaddr addr, const Pte& pte) {
    if (pte_swap(pte)) found.push_back(addr);
  });
  return found;
}

SysResult<void> UnuseMm(MmStruct& mm) {
  for (const Vaddr addr : SwapPtes(mm)) {
    SYS_TRY_VOID(UnuseEntry(*mm.vma_at(addr), addr));
  }
  return {};
}

SysResult<void> UnuseShmem(Machine& machine, File& file) {
  while (!file.mapping.swapped.empty()) {
    const Pfn pfn = SYS_TRY(shmem_swapin(machine, file.mapping, file.mapping.swapped.begin()->first));
    machine.frames.put_page(pfn);
  }
  return {};
}

// Pages of the swap cache that no entry names any more give their slots back.
void EmptyCache(Machine& machine) {
  for (SwpEntry slot = 1; slot < machine.swap->high_water(); ++slot) {
    const Pfn pfn = machine.swap->cached(slot);
    if (pfn == kNoPfn || machine.swap->count(slot) > 0) continue;
    machine.frames.get_page(pfn);
    lock_page(machine.frames.at(pfn));
    try_to_free_swap(machine, pfn);
    unlock_page(machine.frames.at(pfn));
    machine.frames.put_page(pfn);
  }
}

SysResult<void> TryToUnuse(Machine& machine) {
  // In the order of the processes, so that the same run takes the same frames.
  std::set<const MmStruct*> done;
  for (const auto& [pid, process] : machine.processes()) {
    if (done.insert(process->mm.get()).second) SYS_TRY_VOID(UnuseMm(*process->mm));
  }
  for (const FilePtr& file : machine.files()) SYS_TRY_VOID(UnuseShmem(machine, *file));
  EmptyCache(machine);
  return {};
}

}  // namespace

SysResult<void> sys_swapon(Machine& machine, std::unique_ptr<SwapDevice> device, uint64_t slots) {
  if (machine.swap != nullptr) return Err(EBUSY);
  machine.swap = std::make_unique<SwapArea>(std::move(device), slots);
  return {};
}

SysResult<void> sys_swapoff(Machine& machine) {
  if (machine.swap == nullptr) return Err(EINVAL);
  // Nothing goes to swap while it is emptied.
  machine.swap->set_closed(true);
  SysResult<void> emptied = TryToUnuse(machine);
  machine.swap->set_closed(false);
  if (!emptied) return emptied;
  CHECK(machine.swap->nr_unused() == machine.swap->nr_slots());
  machine.swap = nullptr;
  return {};
}

}  // namespace mm
