#include "mm/fault.h"

#include <mutex>

#include "mm/machine.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {
namespace {

uint64_t maybe_mkwrite(const Vma& vma) { return (vma.flags & VM_WRITE) != 0 ? kPteWrite : 0; }
uint64_t ProtBits(const Vma& vma) { return (vma.flags & VM_ACCESS_FLAGS) == 0 ? kPteProtnone : 0; }

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
};

VmFault DoAnonymousPage(const Fault& f) {
  if (!f.is_write() && f.machine().sem().anon_read_fault != AnonReadFault::kNewPage) {
    std::lock_guard guard(f.mm.page_table_lock);
    if (!pte_none(*f.entry)) return VM_FAULT_MINOR;
    const uint64_t bits = kPteYoung | ProtBits(f.vma);
    if (f.machine().sem().anon_read_fault == AnonReadFault::kZeroPage) {
      *f.entry = mk_pte(kZeroPfn, bits | kPteSpecial);
    } else {
      f.frames().get_page(kZeroPfn);
      page_add_file_rmap(f.machine(), kZeroPfn);
      ++f.mm.file_rss;
      *f.entry = mk_pte(kZeroPfn, bits);
    }
    return VM_FAULT_MINOR;
  }
  // Allocated before the lock is taken: an allocation may sleep.
  const Pfn pfn = f.frames().alloc_page(Fill::kZero);
  if (pfn == kNoPfn) return VM_FAULT_OOM;
  f.vma.anon_vma = true;
  f.frames().at(pfn).flags |= PG_uptodate;
  std::lock_guard guard(f.mm.page_table_lock);
  if (!pte_none(*f.entry)) {
    f.frames().put_page(pfn);
    return VM_FAULT_MINOR;
  }
  ++f.mm.anon_rss;
  page_add_new_anon_rmap(f.machine(), pfn, f.vma, f.addr);
  const uint64_t written = f.is_write() ? kPteDirty | maybe_mkwrite(f.vma) : 0;
  *f.entry = mk_pte(pfn, kPteYoung | written | ProtBits(f.vma));
  return VM_FAULT_MINOR;
}

// filemap_fault, shmem_fault: the file's page at `index`, with a reference and, for TruncateRace::kPageLock,
// locked. kNoPfn with the fault bits where there is none.
Pfn FilePage(const Fault& f, Pgoff index, VmFault* result) {
  File& file = *f.vma.file;
  const bool page_lock = f.machine().sem().truncate_race == TruncateRace::kPageLock;
  for (;;) {
    if (index >= file.size_pages()) {
      *result = VM_FAULT_SIGBUS;
      return kNoPfn;
    }
    bool major = false;
    const SysResult<Pfn> read = read_cache_page(f.machine(), file, index, &major);
    if (!read) {
      *result = read.error().err == ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
      return kNoPfn;
    }
    if (major) *result |= VM_FAULT_MAJOR;
    if (!page_lock) return *read;
    f.frames().put_page(*read);
    const Pfn pfn = find_lock_page(f.machine(), file.mapping, index);
    if (pfn == kNoPfn) continue;  // it was truncated or dropped meanwhile: look again
    if (index < file.size_pages()) return pfn;
    unlock_page(f.frames().at(pfn));
    f.frames().put_page(pfn);
  }
}

// Installs `pfn`, whose reference becomes the pte's, if the pte is still as the fault found it.
bool InstallFilePage(const Fault& f, Pfn pfn, bool anon) {
  if (*f.entry != f.orig) return false;
  uint64_t bits = kPteYoung | ProtBits(f.vma);
  if (f.is_write()) bits |= kPteDirty | maybe_mkwrite(f.vma);
  if (!f.is_write() && f.vma.is_shared() && !vma_wants_writenotify(f.vma)) bits |= maybe_mkwrite(f.vma);
  if (anon) {
    ++f.mm.anon_rss;
    page_add_new_anon_rmap(f.machine(), pfn, f.vma, f.addr);
  } else {
    ++f.mm.file_rss;
    page_add_file_rmap(f.machine(), pfn);
  }
  *f.entry = mk_pte(pfn, bits);
  return true;
}

// The copy that a write fault on a private mapping makes before it maps anything (early COW).
Pfn EarlyCow(const Fault& f, Pfn page) {
  const Pfn copy = f.frames().alloc_page(Fill::kUninitialized);
  if (copy == kNoPfn) return kNoPfn;
  f.frames().copy_page(copy, page);
  f.frames().at(copy).flags |= PG_uptodate;
  f.vma.anon_vma = true;
  return copy;
}

// __do_fault: a missing page of a file or object, at page `index` of it. With TruncateRace::kPageLock
// the cache page stays locked until the pte is set, so that a truncate waits for us, or we see it.
VmFault DoFault(const Fault& f, Pgoff index) {
  const bool page_lock = f.machine().sem().truncate_race == TruncateRace::kPageLock;
  const bool anon = f.is_write() && !f.vma.is_shared();
  Mapping& mapping = f.vma.file->mapping;
  for (;;) {
    VmFault result = VM_FAULT_MINOR;
    const uint64_t sequence = mapping.truncate_count;
    const Pfn cached = FilePage(f, index, &result);
    if (cached == kNoPfn) return result;
    const Pfn page = anon ? EarlyCow(f, cached) : cached;
    if (!anon && f.is_write()) set_page_dirty(f.machine(), page);  // page_mkwrite
    f.machine().points.Reach(Point::kFaultAfterLookup);
    bool retry = false;
    bool installed = false;
    if (page != kNoPfn) {
      std::lock_guard guard(f.mm.page_table_lock);
      retry = !page_lock && mapping.truncate_count != sequence;
      installed = !retry && InstallFilePage(f, page, anon);
    }
    if (page_lock) unlock_page(f.frames().at(cached));
    if (page == kNoPfn || !installed) f.frames().put_page(page == kNoPfn ? cached : page);
    if (page == kNoPfn) return VM_FAULT_OOM;
    if (anon) f.frames().put_page(cached);
    if (!retry) return result | (anon ? VM_FAULT_WRITE : 0);
  }
}

// A pte_file entry: the page index is in the entry, not in the address.
VmFault DoFilePage(const Fault& f) {
  const bool populate = f.machine().sem().linear_file_pte == LinearFilePte::kPopulate;
  if ((f.vma.flags & VM_NONLINEAR) == 0 && !populate) return VM_FAULT_OOM;  // a bad pte
  if (f.vma.file == nullptr) return VM_FAULT_OOM;
  // 2.6.11: a private write falls back to the linear page.
  const bool linear = (f.vma.flags & VM_NONLINEAR) == 0 && f.is_write() && !f.vma.is_shared();
  return DoFault(f, linear ? linear_page_index(f.vma, f.addr) : pte_to_pgoff(f.orig)) | VM_FAULT_MAJOR;
}

// May the page behind a write-protected pte be written in place? B7.
bool ReuseSwapPage(Machine& machine, const Page& page) {
  if (Planted(Bug::kCowWritesInPlace)) return true;
  return machine.sem().reuse_rule == ReuseRule::kMapcount ? page.mapcount == 1 : page.count == 1;
}

// do_wp_page's end: the copy that breaks COW. `old_page` is kNoPfn for the zero page and raw frames.
VmFault CowBreak(const Fault& f, Pfn old_page) {
  Machine& machine = f.machine();
  Frames& frames = f.frames();
  if (old_page != kNoPfn) frames.get_page(old_page);
  const Pfn source = pte_pfn(f.orig);
  const Pfn copy = frames.alloc_page(source == kZeroPfn ? Fill::kZero : Fill::kUninitialized);
  if (copy == kNoPfn) {
    if (old_page != kNoPfn) frames.put_page(old_page);
    return VM_FAULT_OOM;
  }
  f.vma.anon_vma = true;
  if (source != kZeroPfn) frames.copy_page(copy, source);
  frames.at(copy).flags |= PG_uptodate;
  machine.points.Reach(Point::kWpBeforeRevalidate);

  const auto drop_old_rmap = [&] {
    if (old_page == kNoPfn) return;
    if (!PageAnon(frames.at(old_page))) {
      --f.mm.file_rss;
      ++f.mm.anon_rss;
    }
    page_remove_rmap(machine, old_page);
  };
  f.mm.page_table_lock.lock();
  const bool won = *f.entry == f.orig;
  if (won) {
    if (machine.sem().cow_rmap_order == CowRmapOrder::kBeforePte) {
      drop_old_rmap();
      machine.points.Reach(Point::kCowBetweenPteAndRmap);
    }
    if (old_page == kNoPfn) ++f.mm.anon_rss;
    page_add_new_anon_rmap(machine, copy, f.vma, f.addr);
    *f.entry = mk_pte(copy, kPteYoung | kPteDirty | maybe_mkwrite(f.vma) | ProtBits(f.vma));
    if (machine.sem().cow_rmap_order == CowRmapOrder::kAfterPte) {
      machine.points.Reach(Point::kCowBetweenPteAndRmap);
      drop_old_rmap();
    }
  }
  f.mm.page_table_lock.unlock();
  if (won && old_page != kNoPfn) frames.put_page(old_page);  // the pte's reference
  if (!won) frames.put_page(copy);
  if (old_page != kNoPfn) frames.put_page(old_page);  // ours
  return won ? VM_FAULT_WRITE : VM_FAULT_MINOR;
}

// A write to a present, write-protected pte: B5. Requires: page_table_lock is held; it is released.
VmFault DoWpPage(const Fault& f) {
  Machine& machine = f.machine();
  const bool shared_writable = (f.vma.flags & (VM_WRITE | VM_SHARED)) == (VM_WRITE | VM_SHARED);
  const Pfn old_page = vm_normal_page(f.orig);
  bool reuse = false;
  if (old_page == kNoPfn) {
    reuse = shared_writable || (Planted(Bug::kZeroPageWritable) && pte_pfn(f.orig) == kZeroPfn);
  } else if (PageAnon(f.frames().at(old_page))) {
    Page& page = f.frames().at(old_page);
    lock_page(page);
    reuse = ReuseSwapPage(machine, page);
    unlock_page(page);
  } else if (shared_writable) {
    set_page_dirty(machine, old_page);
    reuse = true;
  }
  if (reuse) {
    *f.entry = pte_set(f.orig, kPteYoung | kPteDirty | maybe_mkwrite(f.vma));
    f.mm.page_table_lock.unlock();
    return VM_FAULT_WRITE;
  }
  f.mm.page_table_lock.unlock();
  return CowBreak(f, old_page);
}

// "[vdso]" and its like: pages of the kernel's own, which the model keeps empty.
VmFault DoSpecialFault(const Fault& f) {
  if (f.is_write()) return VM_FAULT_SIGBUS;
  std::lock_guard guard(f.mm.page_table_lock);
  *f.entry = mk_pte(kZeroPfn, kPteYoung | kPteSpecial);
  return VM_FAULT_MINOR;
}

VmFault HandlePteFault(const Fault& f) {
  if (!pte_present(f.orig)) {
    if (pte_none(f.orig)) {
      if (f.vma.special != Special::kNone) return DoSpecialFault(f);
      return f.vma.has_fault() ? DoFault(f, linear_page_index(f.vma, f.addr)) : DoAnonymousPage(f);
    }
    if (pte_file(f.orig)) return DoFilePage(f);
    return VM_FAULT_SIGBUS;  // A swap entry where no swap area is in use: a bad entry (2.6.34).
  }
  f.mm.page_table_lock.lock();
  if (*f.entry != f.orig) {
    f.mm.page_table_lock.unlock();
    return VM_FAULT_MINOR;
  }
  if (f.is_write() && !pte_write(f.orig)) return DoWpPage(f);
  *f.entry = pte_set(f.orig, kPteYoung | (f.is_write() ? kPteDirty : 0));
  f.mm.page_table_lock.unlock();
  return VM_FAULT_MINOR;
}

}  // namespace

VmFault handle_mm_fault(MmStruct& mm, Vma& vma, Vaddr addr, Write write) {
  CHECK(vma.start <= addr && addr < vma.end);
  ++mm.machine.vmstat.pgfault;
  const Vaddr page_addr = base::PageAlignDown(addr);
  Pte* entry = mm.pgtable.alloc(page_addr);
  const VmFault result = HandlePteFault({mm, vma, page_addr, write, entry, *entry});
  if ((result & VM_FAULT_MAJOR) != 0) {
    ++mm.maj_flt;
    ++mm.machine.vmstat.pgmajfault;
  } else {
    ++mm.min_flt;
  }
  return result;
}

void install_anon_page(Vma& vma, Vaddr addr, Pfn pfn, Shared share) {
  MmStruct& mm = *vma.mm;
  CHECK(vma.start <= addr && addr < vma.end && !vma.is_shared());
  vma.anon_vma = true;
  std::lock_guard guard(mm.page_table_lock);
  Pte* entry = mm.pgtable.alloc(addr);
  CHECK(pte_none(*entry));
  Page& page = mm.machine.frames.at(pfn);
  ++mm.anon_rss;
  if (share == Shared::kYes) {
    page_dup_rmap(mm.machine, pfn);
  } else {
    page.flags |= PG_uptodate;
    page_add_new_anon_rmap(mm.machine, pfn, vma, addr);
  }
  *entry = mk_pte(pfn, kPteYoung | kPteDirty | ProtBits(vma));
}

void make_writable(Vma& vma) {
  if (vma.is_shared() || (vma.flags & VM_WRITE) == 0) return;
  const Frames& frames = vma.mm->machine.frames;
  std::lock_guard guard(vma.mm->page_table_lock);
  vma.mm->pgtable.walk(vma.start, vma.end, [&](Vaddr, Pte& pte) {
    if (!pte_present(pte) || vm_normal_page(pte) == kNoPfn) return;
    const Page& page = frames.at(pte_pfn(pte));
    if (PageAnon(page) && page.mapcount == 1 && pte_dirty(pte)) pte = pte_set(pte, kPteWrite);
  });
}

}  // namespace mm
