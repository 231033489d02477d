// What becomes of a page that the host has discarded (spec A9, A10, A15).
#include <algorithm>
#include <cstring>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {

void page_discard(Machine& machine, Pfn pfn) {
  might_sleep();
  Page& page = machine.frames.at(pfn);
  lock_page(page);
  page_discard_locked(machine, pfn);
  unlock_page(machine.frames, page);
  machine.frames.put_page(pfn);
}

void page_discard_locked(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  racy_change(page_discarded_object(page), "PG_discarded");
  if ((page.flags & PG_discarded) != 0) return;  // somebody else was first
  CHECK_MSG((page.flags & (PG_dirty | PG_writeback | PG_private)) == 0,
            base::Format("page %u was discarded, and is needed", static_cast<uint32_t>(pfn)));
  page.flags |= PG_discarded;
  page_unmap_all(machine, pfn);
  CHECK_MSG(page.mapcount == 0, "a discarded page is mapped");
  machine.frames.lru_del(pfn);
  if (page.swapcache()) {
    discard_from_swap_cache(machine, pfn);
  } else if (FileMapping(page) != nullptr) {
    discard_from_page_cache(machine, pfn);
  }
}

void page_begin_removal(Frames& frames, Pfn pfn) {
  if (!page_host_discards(frames) || frames.host()->sem().removal_flag != RemovalFlag::kTransient) return;
  Page& page = frames.at(pfn);
  racy_change(page_discarded_object(page), "PG_discarded");
  page.flags |= PG_discarded;
}

void page_end_removal(Frames& frames, Pfn pfn) {
  if (!page_host_discards(frames)) return;
  Page& page = frames.at(pfn);
  const bool discarded = page_discarded(frames, pfn);
  if (discarded == ((page.flags & PG_discarded) != 0)) return;
  racy_change(page_discarded_object(page), "PG_discarded");
  page.flags = discarded ? page.flags | PG_discarded : page.flags & ~PG_discarded;
}

CacheLookup fault_lookup(const Machine& machine) {
  return machine.sem().minor_fault_states == MinorFaultStates::kNone ? CacheLookup::kNoDiscard
                                                                     : CacheLookup::kStable;
}

SysResult<void> read_page_content(const Machine& machine, Pfn pfn, std::span<std::byte, kPageSize> out) {
  const Page& page = machine.frames.at(pfn);
  if (machine.host != nullptr && IsDiscarded(machine.host->state(pfn))) {
    if (page.swapcache()) return machine.swap->device().ReadPage(page.slot, out);
    const Mapping* mapping = FileMapping(page);
    if (mapping != nullptr && mapping->host->disk() != nullptr) {
      SYS_TRY_VOID(mapping->host->disk()->ReadPage(page.index, out));
      const uint64_t start = page.index * kPageSize;
      const uint64_t size = mapping->host->i_size;
      const size_t valid = size > start ? std::min<uint64_t>(size - start, kPageSize) : 0;
      std::memset(out.data() + valid, 0, kPageSize - valid);
      return {};
    }
  }
  std::memcpy(out.data(), machine.frames.bytes(pfn), kPageSize);
  return {};
}

namespace {

// The page that `addr` has now, with a reference, or kNoPfn.
Pfn PageAt(MmStruct& mm, Vaddr addr) {
  ReadGuard mmap_guard(mm.mmap_sem);
  Guard guard(mm.page_table_lock);
  const Pte* pte = mm.pgtable.find(addr);
  if (pte == nullptr || !pte_present(*pte)) return kNoPfn;
  const Pfn pfn = vm_normal_page(*pte);
  if (pfn != kNoPfn) mm.machine.frames.get_page(pfn);
  return pfn;
}

// The page of a frame, with a reference, or kNoPfn: it is on its way to the free list. Interrupts were off
// since the fault (INV-D9).
Pfn PageOfFrame(Frames& frames, Pfn pfn) {
  if (Planted(Bug::kHandlerEnablesFirst)) local_irq_enable();
  const bool got = frames.get_page_unless_zero(pfn);
  if (!Planted(Bug::kHandlerEnablesFirst)) local_irq_enable();
  return got ? pfn : kNoPfn;
}

}  // namespace

void do_discard_fault(Machine& machine, MmStruct& mm, Vaddr addr, Pfn pfn) {
  if (machine.sem().discard_address == DiscardAddress::kVirtual) {
    const Pfn page = PageAt(mm, addr);
    if (page == kNoPfn) return;
    return page_discarded(machine.frames, page) ? page_discard(machine, page) : machine.frames.put_page(page);
  }
  if (smp()) t_cpus->DisableIrqs();  // by the hardware
  if (const Pfn page = PageOfFrame(machine.frames, pfn); page != kNoPfn) page_discard(machine, page);
}

}  // namespace mm
