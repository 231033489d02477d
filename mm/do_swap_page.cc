// A fault on a swap entry (spec B6).
#include "mm/fault_paths.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {
namespace {

// Maps the locked page where its entry stood. Requires: page_table_lock held, and the entry unchanged. True
// when a write has still to break COW.
bool MapSwapped(const Fault& f, Pfn pfn, SwpEntry entry) {
  Machine& machine = f.machine();
  uint64_t bits = kPteYoung | ProtBits(f.vma);
  if (pte_swp_soft_dirty(f.orig) && !Planted(Bug::kSwapinNotSoftDirty)) bits |= kPteSoftDirty;
  bool write_left = f.is_write();
  // Before the new pte is counted and the entry given up: both are this fault's own.
  if (f.is_write() && reuse_swap_page(machine, pfn)) {
    bits |= f.dirty_bits() | maybe_mkwrite(f.vma);
    write_left = false;
    note_forced_write(f, f.frames().at(pfn));
  }
  page_check_writable(f.frames(), pfn, mk_pte(pfn, bits), 2);
  ++f.mm.anon_rss;
  f.frames().get_page(pfn);
  page_add_anon_rmap(machine, pfn, f.vma, f.addr);
  page_confirm_writable(f.frames(), pfn, mk_pte(pfn, bits));
  set_pte(*f.entry, mk_pte(pfn, bits));
  swap_free(machine, entry);
  if ((f.vma.flags & VM_LOCKED) != 0) f.frames().at(pfn).flags |= PG_mlocked;
  if (vm_swap_full(machine) || (f.vma.flags & VM_LOCKED) != 0) try_to_free_swap(machine, pfn);
  return write_left;
}

// What it means that the entry's page could not be had: nothing, where the entry has changed meanwhile; or
// where its slot, which nobody used then, is used now: the entry has gone, and come back for another page.
VmFault NotRead(const Fault& f, SwpEntry entry, int err) {
  Guard guard(f.mm.page_table_lock);
  if (*f.entry != f.orig) return VM_FAULT_MINOR;
  if (err != EINVAL) return VM_FAULT_OOM;
  Guard swap_guard(f.machine().swap_lock);
  const SwapArea* swap = f.machine().swap.get();
  return swap != nullptr && swap->valid(entry) ? VM_FAULT_MINOR : VM_FAULT_SIGBUS;
}

}  // namespace

VmFault DoSwapPage(const Fault& f) {
  Machine& machine = f.machine();
  const SwpEntry entry = pte_to_swp_entry(f.orig);
  bool major = false;
  const SysResult<Pfn> read = read_swap_cache(machine, entry, &major, fault_lookup(machine));
  VmFault result = major ? VM_FAULT_MAJOR : VM_FAULT_MINOR;
  if (!read) return NotRead(f, entry, read.error().err);
  const Pfn pfn = *read;
  Page& page = f.frames().at(pfn);
  lock_page(page);
  // Until it was locked the page could leave the swap cache, and its slot could come to hold something else.
  if ((!page.swapcache() || page.slot != entry) && !Planted(Bug::kSwapinNoCacheRecheck)) {
    if (!Planted(Bug::kSwapinKeepsPageLock)) unlock_page(f.frames(), page);
    machine.frames.put_page(pfn);
    return result;
  }
  f.mm.page_table_lock.lock();
  bool write_left = false;
  if (*f.entry == f.orig || Planted(Bug::kSwapinNoRecheck)) {
    if (page.uptodate()) {
      write_left = MapSwapped(f, pfn, entry);
    } else {
      result |= VM_FAULT_SIGBUS;
    }
  }
  f.mm.page_table_lock.unlock();
  // A page that could not be read is of no use to anybody: the next fault tries the device again.
  if (!page.uptodate()) remove_swap_mapping(machine, pfn);
  unlock_page(f.frames(), page);
  page_cache_release(machine.frames, pfn);
  if (!write_left) return result;
  f.mm.page_table_lock.lock();
  if (!pte_present(*f.entry) || vm_normal_page(*f.entry) != pfn) {
    f.mm.page_table_lock.unlock();
    return result;
  }
  return result | DoWpPage({f.mm, f.vma, f.addr, f.write, f.entry, *f.entry});
}

}  // namespace mm
