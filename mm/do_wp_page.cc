// Breaking COW: a write to a page that is write-protected (spec B5, B7).
#include "mm/fault_paths.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {
namespace {

// Begins to fetch the frame that a program writing in ascending order copies next: the entry before was
// written, the one behind is still to be. Memory answers while this fault ends and the next begins.
// Requires: page_table_lock is held.
void PrefetchNext(const Fault& f) {
  const bool one_leaf = PageTable::LeafEnd(f.addr - kPageSize) == PageTable::LeafEnd(f.addr + kPageSize);
  if (!one_leaf || !pte_write(f.entry[-1])) return;
  const Pte next = f.entry[1];
  if (!pte_present(next) || pte_write(next) || vm_normal_page(next) == kNoPfn) return;
  f.frames().prefetch_source(pte_pfn(next));
}

// do_wp_page's end: the copy that breaks COW. `old_page`, to which the caller took a reference that is given
// back here, is kNoPfn for the zero page and raw frames.
VmFault CowBreak(const Fault& f, Pfn old_page) {
  Machine& machine = f.machine();
  Frames& frames = f.frames();
  const Pfn source = pte_pfn(f.orig);
  const Pfn copy = alloc_page(machine, source == kZeroPfn ? Fill::kZero : Fill::kUninitialized);
  if (copy == kNoPfn) {
    if (old_page != kNoPfn) frames.put_page(old_page);
    return VM_FAULT_OOM;
  }
  f.vma.anon_vma = true;
  if (source != kZeroPfn) {
    uses(frames.arena_bytes(source), false);
    frames.copy_page(copy, source);
  }
  frames.at(copy).flags |= PG_uptodate;

  const auto drop_old_rmap = [&] {
    if (old_page == kNoPfn) return;
    if (!PageAnon(frames.at(old_page))) {
      --f.mm.file_rss;
      ++f.mm.anon_rss;
    }
    page_remove_rmap(machine, old_page, f.mm, f.addr);
  };
  f.mm.page_table_lock.lock();
  PrefetchNext(f);
  const bool won = *f.entry == f.orig || Planted(Bug::kCowNoRecheck);
  const CowRmapOrder order =
      Planted(Bug::kRmapBeforePte) ? CowRmapOrder::kBeforePte : machine.sem().cow_rmap_order;
  if (won) {
    if (order == CowRmapOrder::kBeforePte) drop_old_rmap();
    if (old_page == kNoPfn) ++f.mm.anon_rss;
    const uint64_t bits = kPteYoung | f.dirty_bits() | maybe_mkwrite(f.vma) | ProtBits(f.vma);
    page_check_writable(frames, copy, mk_pte(copy, bits), 2);
    ptep_get_and_clear(*f.entry);  // ptep_clear_flush: nobody goes on with the old page
    page_add_new_anon_rmap(machine, copy, f.vma, f.addr);
    set_pte(*f.entry, mk_pte(copy, bits));
    if (order == CowRmapOrder::kAfterPte) drop_old_rmap();
  }
  f.mm.page_table_lock.unlock();
  if (won && old_page != kNoPfn) frames.put_page(old_page);  // the pte's reference
  if (!won) frames.put_page(copy);
  if (old_page != kNoPfn) {
    page_make_volatile(frames, old_page, 2);
    free_page_and_swap_cache(machine, old_page);  // ours
  }
  return won ? VM_FAULT_WRITE : VM_FAULT_MINOR;
}

// The page lock, which decides on reuse. Requires: page_table_lock is held. Where somebody holds the page
// lock, page_table_lock is given up while we wait.
enum class Locked : uint8_t { kYes, kCopyInstead, kPteChanged, kNotAsked };
Locked LockForReuse(const Fault& f, Pfn pfn) {
  Page& page = f.frames().at(pfn);
  if (trylock_page(page)) return Locked::kYes;
  if (Planted(Bug::kReuseWithoutPageLock))
    return page.mapcount > 1 ? Locked::kCopyInstead : Locked::kNotAsked;
  if (f.machine().sem().wp_contended == WpContended::kCopy) return Locked::kCopyInstead;
  f.frames().get_page(pfn);
  f.mm.page_table_lock.unlock();
  lock_page(page);
  f.mm.page_table_lock.lock();
  const bool same = *f.entry == f.orig;
  if (!same) unlock_page(f.frames(), page);
  f.frames().put_page(pfn);
  return same ? Locked::kYes : Locked::kPteChanged;
}

// The host has discarded the page that the fault is about, to which there is a reference: the next fault
// finds what is left. Requires: page_table_lock is held; it is released.
VmFault Discarded(const Fault& f, Pfn pfn) {
  f.mm.page_table_lock.unlock();
  page_discard(f.machine(), pfn);
  return VM_FAULT_MINOR;
}

}  // namespace

void DirtyAfterPte(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  if (!Planted(Bug::kDirtyBeforePte)) {
    lock_page(page);
    set_page_dirty(machine, pfn);
    unlock_page(machine.frames, page);
  }
  machine.frames.put_page(pfn);
}

VmFault DoWpPage(const Fault& f) {
  Machine& machine = f.machine();
  const bool shared_writable = (f.vma.flags & (VM_WRITE | VM_SHARED)) == (VM_WRITE | VM_SHARED);
  const Pfn old_page = vm_normal_page(f.orig);
  bool reuse = false;
  Pfn dirty_page = kNoPfn;
  if (old_page == kNoPfn) {
    reuse = shared_writable || (Planted(Bug::kZeroPageWritable) && pte_pfn(f.orig) == kZeroPfn);
  } else if (PageAnon(f.frames().at(old_page))) {
    const Locked locked = LockForReuse(f, old_page);
    if (locked == Locked::kPteChanged) {
      f.mm.page_table_lock.unlock();
      return VM_FAULT_MINOR;
    }
    if (locked == Locked::kNotAsked) reuse = true;
    if (locked == Locked::kYes) {
      Page& page = f.frames().at(old_page);
      reuse = reuse_swap_page(machine, old_page);
      if (reuse) note_forced_write(f, page);
      // What is written from here on is not volatile in between, not even in the swap cache.
      reuse ? unlock_page_nocheck(page) : unlock_page(f.frames(), page);
    }
  } else if (shared_writable) {
    if (Planted(Bug::kDirtyBeforePte)) set_page_dirty(machine, old_page);
    dirty_page = old_page;
    f.frames().get_page(dirty_page);
    reuse = true;
  }
  if (dirty_page != kNoPfn && !page_make_stable(f.frames(), dirty_page)) return Discarded(f, dirty_page);
  if (reuse) {
    const uint64_t bits = kPteYoung | f.dirty_bits() | maybe_mkwrite(f.vma);
    if (old_page != kNoPfn) page_check_writable(f.frames(), old_page, pte_set(f.orig, bits), 1);
    ptep_set_bits(*f.entry, bits);
    f.mm.page_table_lock.unlock();
    if (dirty_page != kNoPfn) DirtyAfterPte(machine, dirty_page);
    return VM_FAULT_WRITE;
  }
  if (old_page != kNoPfn) {
    f.frames().get_page(old_page);
    const bool stable = Planted(Bug::kCopiesUnstable) || page_make_stable(f.frames(), old_page);
    if (!stable) return Discarded(f, old_page);
  }
  f.mm.page_table_lock.unlock();
  return CowBreak(f, old_page);
}

}  // namespace mm
