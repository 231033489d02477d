// Soft-dirty write tracking: which modified pages may have been written since a moment, without a look at
// their bytes (Documentation/admin-guide/mm/soft-dirty.rst). clear_soft_dirty() is that moment; soft_dirty()
// asks about one page. A machine that never saw the first is as if there were no such thing.
//
// How: clearing takes the write bit of each pte along, so that the next store faults, and whatever lets a pte
// be written again makes it soft-dirty (INV A6, mm_struct.h). The bit goes where the page goes: into the swap
// entry and back, through swapoff, and into a fork's copy. An anonymous page that comes to an address begins
// with it: a first touch, a broken COW, a restart's page, and what mremap moved there.
//
// The promise is one-sided. "Not soft-dirty" is sure: the address holds the same modified page as at the last
// clear_soft_dirty(), with the same bytes. "Soft-dirty" may be wrong: a store of what was there already,
// mlock or MAP_POPULATE (which break COW beforehand), a page that was only moved.
//
// A fork's copy was not there at the moment: of it, the promise is about the address space that it was copied
// from, at the same address. MmStruct::tracked_objref says which one that was; a pid does not, since one that
// is free is given again.
//
// Where we are stricter than the kernel: a page that is pinned (get_user_pages, direct I/O) at the moment
// stays soft-dirty, and as writable as it was, in every pte and swap entry that leads to it. Who has pinned
// it may write to it without a fault, at any time until it is unpinned, and the kernel then calls the page
// clean. Pins are not told apart here: those for reading count too.
//
// No vma has VM_SOFTDIRTY: in the kernel it says that a whole mapping is new, also where nothing was touched
// yet. Here only modified pages are asked about, and what is new has new ones.
#pragma once

#include "mm/types.h"

namespace mm {

class Machine;
class MmStruct;

// What writing 4 to clear_refs does, for every address space of the machine: nothing is soft-dirty any more
// but what is pinned, and the next store to each private page faults. From the first call on the machine
// tracks (Machine::tracks_soft_dirty); tracked_by is the caller's to set. Requires: no process is in the
// middle of a call or an access. On virtual CPUs the caller has frozen them (Machine::freezer); reclaim may
// be at work.
void clear_soft_dirty(Machine& machine);

// Whether the page at `addr` may have been written since the last clear_soft_dirty(), or has come there. True
// for all that was never cleared, and for all that is no modified page: what is clean to a checkpoint has its
// bytes elsewhere, where nobody tracks them; and nobody knows what a poisoned page held.
// Takes page_table_lock.
bool soft_dirty(MmStruct& mm, Vaddr addr);

// The first pages of [start, end), which lies in one private vma, of which soft_dirty() says the same.
struct SoftDirtyRun {
  uint64_t pages = 0;
  bool soft_dirty = true;
};
SoftDirtyRun next_soft_dirty_run(MmStruct& mm, Vaddr start, Vaddr end);

}  // namespace mm
