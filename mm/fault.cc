#include "mm/fault.h"

#include "mm/fault_paths.h"
#include "mm/planted.h"
#include "mm/rmap.h"

namespace mm {
namespace {

VmFault DoAnonymousPage(const Fault& f) {
  if (!f.is_write() && f.machine().sem().anon_read_fault != AnonReadFault::kNewPage) {
    Guard guard(f.mm.page_table_lock);
    if (!pte_none(*f.entry)) return VM_FAULT_MINOR;
    const uint64_t bits = kPteYoung | ProtBits(f.vma);
    if (f.machine().sem().anon_read_fault == AnonReadFault::kZeroPage) {
      set_pte(*f.entry, mk_pte(kZeroPfn, bits | kPteSpecial));
    } else {
      f.frames().get_page(kZeroPfn);
      page_add_file_rmap(f.machine(), kZeroPfn, f.mm, f.addr);
      ++f.mm.file_rss;
      set_pte(*f.entry, mk_pte(kZeroPfn, bits));
    }
    return VM_FAULT_MINOR;
  }
  // Allocated before the lock is taken: an allocation may sleep.
  const Pfn pfn = alloc_page(f.machine(), Fill::kZero);
  if (pfn == kNoPfn) return VM_FAULT_OOM;
  f.vma.anon_vma = true;
  f.frames().at(pfn).flags |= PG_uptodate;
  Guard guard(f.mm.page_table_lock);
  if (!pte_none(*f.entry) && !Planted(Bug::kAnonFaultNoRecheck)) {
    f.frames().put_page(pfn);
    return VM_FAULT_MINOR;
  }
  const uint64_t written = f.is_write() ? f.dirty_bits() | maybe_mkwrite(f.vma) : f.soft_dirty_bit();
  const Pte pte = mk_pte(pfn, kPteYoung | written | ProtBits(f.vma));
  page_check_writable(f.frames(), pfn, pte, 2);
  ++f.mm.anon_rss;
  page_add_new_anon_rmap(f.machine(), pfn, f.vma, f.addr);
  set_pte(*f.entry, pte);
  return VM_FAULT_MINOR;
}

// filemap_fault, shmem_fault: the file's page at `index`, with a reference and, for TruncateRace::kPageLock,
// locked. kNoPfn with the fault bits where there is none.
Pfn FilePage(const Fault& f, Pgoff index, VmFault* result) {
  File& file = *f.vma.file;
  const bool page_lock = f.machine().sem().truncate_race == TruncateRace::kPageLock;
  const CacheLookup lookup = fault_lookup(f.machine());
  for (;;) {
    if (index >= file.size_pages()) {
      *result = VM_FAULT_SIGBUS;
      return kNoPfn;
    }
    bool major = false;
    const SysResult<Pfn> read = read_cache_page(f.machine(), file, index, &major, lookup);
    if (!read) {
      *result = read.error().err == ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
      return kNoPfn;
    }
    if (major) *result |= VM_FAULT_MAJOR;
    if (!page_lock) return *read;
    f.frames().put_page(*read);
    const Pfn pfn = find_lock_page(f.machine(), file.mapping, index, lookup);
    if (pfn == kNoPfn) continue;  // it was truncated or dropped meanwhile: look again
    if (Planted(Bug::kFaultIgnoresSize) || index < file.size_pages()) return pfn;
    drop_past_eof(f.machine(), file, pfn);
    unlock_page(f.frames(), f.frames().at(pfn));
    f.frames().put_page(pfn);
  }
}

// Installs `pfn`, whose reference becomes the pte's, if the pte is still as the fault found it.
bool InstallFilePage(const Fault& f, Pfn pfn, bool anon) {
  if (*f.entry != f.orig && !Planted(Bug::kFileFaultNoRecheck)) return false;
  const bool looks = page_host_discards(f.frames()) && !Planted(Bug::kDiscardedNotLookedAt);
  if (looks && page_is_discarded(f.frames().at(pfn))) return false;
  uint64_t bits = kPteYoung | ProtBits(f.vma);
  if (f.is_write()) bits |= f.dirty_bits() | maybe_mkwrite(f.vma);
  if (!f.is_write() && f.vma.is_shared() && !vma_wants_writenotify(f.vma)) bits |= maybe_mkwrite(f.vma);
  const Pte pte = mk_pte(pfn, bits);
  page_check_writable(f.frames(), pfn, pte, 2);
  if (anon) {
    ++f.mm.anon_rss;
    page_add_new_anon_rmap(f.machine(), pfn, f.vma, f.addr);
  } else {
    ++f.mm.file_rss;
    page_add_file_rmap(f.machine(), pfn, f.mm, f.addr);
  }
  page_confirm_writable(f.frames(), pfn, pte);
  set_pte(*f.entry, pte);
  return true;
}

// The copy that a write fault on a private mapping makes before it maps anything (early COW).
Pfn EarlyCow(const Fault& f, Pfn page) {
  const Pfn copy = alloc_page(f.machine(), Fill::kUninitialized);
  if (copy == kNoPfn) return kNoPfn;
  uses(f.frames().bytes(page), false);
  f.frames().copy_page(copy, page);
  f.frames().at(copy).flags |= PG_uptodate;
  f.vma.anon_vma = true;
  return copy;
}

// A page that is about to be mapped where its index does not say: its ptes go on a chain.
VmFault ConvertForNonlinear(Machine& machine, Pfn pfn, bool is_locked) {
  Page& page = machine.frames.at(pfn);
  // Under the page lock: who converts it just now may run out of memory, and take that back.
  if (!is_locked) lock_page(page);
  const SysResult<void> converted =
      page_is_chained(page) ? SysResult<void>() : page_convert_anon(machine, pfn);
  if (!is_locked) unlock_page(machine.frames, page);
  return converted ? 0 : VM_FAULT_OOM;
}

// A page that a truncate raced with must not stay behind the end of the file.
void DropIfPastEof(const Fault& f, Pfn pfn) {
  Page& page = f.frames().at(pfn);
  lock_page(page);
  drop_past_eof(f.machine(), *f.vma.file, pfn);
  unlock_page(f.frames(), page);
}

// __do_fault: a missing page of a file or object, at page `index` of it. With TruncateRace::kPageLock
// the cache page stays locked until the pte is set, so that a truncate waits for us, or we see it.
VmFault DoFault(const Fault& f, Pgoff index) {
  const bool page_lock = f.machine().sem().truncate_race == TruncateRace::kPageLock;
  const bool anon = f.is_write() && !f.vma.is_shared();
  Mapping& mapping = f.vma.file->mapping;
  for (;;) {
    VmFault result = VM_FAULT_MINOR;
    racy_read(&mapping.truncate_count, "truncate_count");
    const uint64_t sequence = mapping.truncate_count;
    const Pfn cached = FilePage(f, index, &result);
    if (cached == kNoPfn) return result;
    const bool dirties = !anon && f.is_write();  // page_mkwrite
    const bool needed = anon || dirties || (f.vma.flags & VM_LOCKED) != 0;
    if (needed && !page_make_stable(f.frames(), cached)) {
      if (page_lock) unlock_page(f.frames(), f.frames().at(cached));
      page_discard(f.machine(), cached);
      continue;
    }
    const Pfn page = anon ? EarlyCow(f, cached) : cached;
    if (dirties) {
      set_page_dirty(f.machine(), page);
      if (!page_lock) f.frames().get_page(page);
    }
    bool retry = false;
    bool installed = false;
    VmFault failed = page == kNoPfn ? VM_FAULT_OOM : 0;
    if (failed == 0 && !anon && index != linear_page_index(f.vma, f.addr)) {
      failed = ConvertForNonlinear(f.machine(), page, page_lock);
    }
    if (failed == 0) {
      Guard guard(f.mm.page_table_lock);
      uses(&mapping.truncate_count, false);
      retry = !page_lock && mapping.truncate_count != sequence && !Planted(Bug::kTruncateCountIgnored);
      installed = !retry && InstallFilePage(f, page, anon);
    }
    if (page_lock) {
      // A minor fault changes no state. Others try with a reference of their own, for the pte's may go as
      // soon as the page is unlocked; the posted patch has none.
      const bool tries = installed && !anon && (dirties || (result & VM_FAULT_MAJOR) != 0);
      if (tries && page_host_discards(f.frames())) f.frames().get_page(cached);
      unlock_page_nocheck(f.frames().at(cached));
      if (tries && page_host_discards(f.frames())) page_cache_release(f.frames(), cached);
    } else if (retry) {
      DropIfPastEof(f, cached);
    }
    const bool discarded = !installed && (f.frames().at(cached).flags & PG_discarded) != 0;
    if (!installed) f.frames().put_page(page == kNoPfn ? cached : page);
    if (discarded) cpu_relax();  // until its handler has taken it out of the cache
    if (dirties && !page_lock) {
      installed ? DirtyAfterPte(f.machine(), page) : f.frames().put_page(page);
    }
    if (failed != 0) return failed;
    if (anon) page_cache_release(f.frames(), cached);
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

// "[vdso]" and its like: pages of the kernel's own, which the model keeps empty.
VmFault DoSpecialFault(const Fault& f) {
  if (f.is_write()) return VM_FAULT_SIGBUS;
  Guard guard(f.mm.page_table_lock);
  if (pte_none(*f.entry)) set_pte(*f.entry, mk_pte(kZeroPfn, kPteYoung | kPteSpecial));
  return VM_FAULT_MINOR;
}

VmFault HandlePteFault(const Fault& f) {
  if (!pte_present(f.orig)) {
    if (pte_none(f.orig)) {
      if (f.vma.special != Special::kNone) return DoSpecialFault(f);
      return f.vma.has_fault() ? DoFault(f, linear_page_index(f.vma, f.addr)) : DoAnonymousPage(f);
    }
    if (pte_file(f.orig)) return DoFilePage(f);
    return pte_swap(f.orig) ? DoSwapPage(f) : VM_FAULT_SIGBUS;  // VM_FAULT_HWPOISON
  }
  f.mm.page_table_lock.lock();
  if (*f.entry != f.orig) {
    f.mm.page_table_lock.unlock();
    return VM_FAULT_MINOR;
  }
  if (f.is_write() && !pte_write(f.orig)) return DoWpPage(f);
  ptep_set_bits(*f.entry, kPteYoung | (f.is_write() ? f.machine().pte_dirty_bit() : 0));
  f.mm.page_table_lock.unlock();
  return VM_FAULT_MINOR;
}

}  // namespace

bool may_grow_page_table(MmStruct& mm, Vaddr addr, uint64_t pages) {
  constexpr uint64_t kLeafPages = 512;
  const uint64_t slots = mm.machine.config().swap_bytes / kPageSize;
  const uint64_t most = 2 * (mm.machine.frames.frame_count() + slots) + kLeafPages;
  const uint64_t more = pages / kLeafPages + 2;
  if (mm.pgtable.nr_ptes() + more <= most) return true;
  return pages == 1 && mm.pgtable.find(addr) != nullptr;
}

VmFault handle_mm_fault(MmStruct& mm, Vma& vma, Vaddr addr, Write write) {
  CHECK(vma.start <= addr && addr < vma.end);
  ++mm.machine.vmstat.pgfault;
  const Vaddr page_addr = base::PageAlignDown(addr);
  Pte* entry = mm.pgtable.find(page_addr);
  if (entry == nullptr) {
    if (!may_grow_page_table(mm, page_addr, 1)) return VM_FAULT_OOM;
    entry = mm.pgtable.alloc(page_addr);
  }
  const VmFault result = HandlePteFault({mm, vma, page_addr, write, entry, pte_read(*entry)});
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
  Guard guard(mm.page_table_lock);
  Pte* entry = mm.pgtable.alloc(addr);
  CHECK(pte_none(*entry));
  Page& page = mm.machine.frames.at(pfn);
  ++mm.anon_rss;
  if (share == Shared::kYes) {
    page_dup_rmap(mm.machine, pfn, mm, addr);
  } else {
    page.flags |= PG_uptodate;
    page_add_new_anon_rmap(mm.machine, pfn, vma, addr);
  }
  const uint64_t dirty = mm.machine.pte_dirty_bit() | mm.machine.pte_soft_dirty_bit();
  set_pte(*entry, mk_pte(pfn, kPteYoung | dirty | ProtBits(vma)));
}

void install_swap_entry(Vma& vma, Vaddr addr, SwpEntry entry) {
  CHECK(vma.start <= addr && addr < vma.end && !vma.is_shared());
  vma.anon_vma = true;
  Guard guard(vma.mm->page_table_lock);
  Pte* pte = vma.mm->pgtable.alloc(addr);
  CHECK(pte_none(*pte));
  set_pte(*pte, pte_set(swp_entry_to_pte(entry), vma.mm->machine.pte_soft_dirty_bit()));
}

void make_writable(Vma& vma) {
  if (vma.is_shared() || (vma.flags & VM_WRITE) == 0) return;
  const Frames& frames = vma.mm->machine.frames;
  const uint64_t soft_dirty = vma.mm->machine.pte_soft_dirty_bit();
  Guard guard(vma.mm->page_table_lock);
  vma.mm->pgtable.walk(vma.start, vma.end, [&](Vaddr, Pte& pte) {
    if (!pte_present(pte) || vm_normal_page(pte) == kNoPfn || (~pte.word & soft_dirty) != 0) return;
    const Page& page = frames.at(pte_pfn(pte));
    const bool alone = page.mapcount == 1 && page_swapcount(vma.mm->machine, page) == 0;
    if (!PageAnon(page) || !alone || !(pte_dirty(pte) || vma.mm->machine.key_dirty())) return;
    page_check_writable(vma.mm->machine.frames, pte_pfn(pte), pte_set(pte, kPteWrite), 1);
    ptep_set_bits(pte, kPteWrite);
  });
}

}  // namespace mm
