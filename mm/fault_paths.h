// What the fault paths of handle_mm_fault share; internal to fault.cc, do_wp_page.cc and do_swap_page.cc.
#pragma once

#include "mm/fault.h"
#include "mm/machine.h"

namespace mm {

inline uint64_t maybe_mkwrite(const Vma& vma) { return (vma.flags & VM_WRITE) != 0 ? kPteWrite : 0; }
inline uint64_t ProtBits(const Vma& vma) { return (vma.flags & VM_ACCESS_FLAGS) == 0 ? kPteProtnone : 0; }

// One fault on its way through: what every path needs.
struct Fault {
  MmStruct& mm;
  Vma& vma;
  Vaddr addr;  // page-aligned
  Write write;
  Pte* entry;
  Pte orig;  // what the entry held when the fault began

  Machine& machine() const { return mm.machine; }
  Frames& frames() const { return mm.machine.frames; }
  bool is_write() const { return write == Write::kYes; }
  // What an anonymous page's new pte begins with (pte_mksoft_dirty): its page was not there before.
  uint64_t soft_dirty_bit() const { return vma.is_shared() ? 0 : machine().pte_soft_dirty_bit(); }
  // What the pte is given for the write (pte_mkdirty).
  uint64_t dirty_bits() const { return machine().pte_dirty_bit() | soft_dirty_bit(); }
};

// A page that is reused in place and stays in the swap cache. After a forced write no writable pte says that
// it is changed (page_check_writable): it is dirty before it can be volatile. Requires: the page is locked.
inline void note_forced_write(const Fault& f, Page& page) {
  const bool forced = (f.vma.flags & VM_WRITE) == 0;
  if (forced && page.swapcache() && page_host_discards(f.frames())) page.flags |= PG_dirty;
}

// A write to a present, write-protected pte: B5. Requires: page_table_lock is held; it is released.
VmFault DoWpPage(const Fault& f);
// A page of a file whose pte was just made dirty becomes dirty; the reference is given back. With the page
// lock, and not before the pte: writeback, which holds it from cleaning the ptes until it has cleaned the
// page, would come between, and clean the page for good.
void DirtyAfterPte(Machine& machine, Pfn pfn);
// A swap entry: B6.
VmFault DoSwapPage(const Fault& f);

}  // namespace mm
