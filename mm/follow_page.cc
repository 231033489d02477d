#include "mm/follow_page.h"

#include <algorithm>

#include "mm/fault.h"
#include "mm/machine.h"

namespace mm {
namespace {

constexpr Followed kNullPage{Followed::Kind::kNull, kNoPfn};
constexpr Followed kEfault{Followed::Kind::kEfault, kNoPfn};

Followed NoPageTable(const Vma& vma, unsigned flags) {
  if ((flags & FOLL_DUMP) != 0 && !vma.has_fault()) return kEfault;
  // vm_ops, not vm_file: a private mapping of /dev/zero has the one without the other.
  if ((flags & FOLL_DIRTY) != 0 && vma.has_fault()) return kEfault;
  return kNullPage;
}

unsigned LookupFlags(DumpLookup lookup) {
  switch (lookup) {
    case DumpLookup::kDumpDirty: return FOLL_GET | FOLL_DUMP | FOLL_DIRTY;
    case DumpLookup::kDumpOnly: return FOLL_GET | FOLL_DUMP;
    case DumpLookup::kFollAnon: return FOLL_GET | FOLL_ANON;
  }
  return 0;
}

// Whether more than one pte or swap entry names what `pte` does.
bool IsShared(const Machine& machine, Pte pte) {
  uint64_t users = 0;
  Pfn pfn = kNoPfn;
  if (pte_present(pte)) pfn = pte_pfn(pte);
  if (pte_swap(pte)) {
    users = machine.swap->count(pte_to_swp_entry(pte));
    pfn = machine.swap->cached(pte_to_swp_entry(pte));
  }
  if (pfn == kNoPfn) return users > 1;
  const Page& page = machine.frames.at(pfn);
  if (pte_present(pte) && page.swapcache()) users = machine.swap->count(page.slot);
  return users + static_cast<uint64_t>(page.mapcount) > 1;
}

// page_is_modified, for a vma that has a file or not.
inline bool IsModified(const Machine& machine, bool has_file, Pfn pfn) {
  if (pfn == kNoPfn || pfn == kZeroPfn) return false;
  if (!has_file) return true;
  const Page& page = machine.frames.at(pfn);
  if (machine.sem().dirty_rule == DirtyRule::kPageMapping) return page_mapping(machine, page) == nullptr;
  return FileMapping(page) == nullptr;
}

// Whether who asks for the page needs its bytes, or needs it to stay: not a dump of a page that it will find
// to be clean (C40).
bool MustBeStable(const Vma& vma, Pfn pfn, unsigned flags) {
  Machine& machine = vma.mm->machine;
  if (!page_host_discards(machine.frames) || pfn == kZeroPfn) return false;
  if ((flags & FOLL_DUMP) != 0) return IsModified(machine, vma.file != nullptr, pfn);
  if ((vma.flags & VM_LOCKED) != 0) {
    machine.frames.at(pfn).flags |= PG_mlocked;
    return true;
  }
  return (flags & FOLL_GET) != 0;
}

}  // namespace

const Mapping* page_mapping(const Machine& machine, const Page& page) {
  if ((page.flags & PG_swapcache) != 0) return &machine.swapper_space;
  return FileMapping(page);
}

Followed follow_page(Vma& vma, Vaddr addr, unsigned flags) {
  UnlockableGuard guard(vma.mm->page_table_lock);
  Machine& machine = vma.mm->machine;
  Pte* entry = vma.mm->pgtable.find(addr);
  if (entry == nullptr) {
    if ((flags & FOLL_ANON) != 0) {
      if ((flags & FOLL_GET) != 0) machine.frames.get_page(kZeroPfn);
      return {Followed::Kind::kPage, kZeroPfn};
    }
    return NoPageTable(vma, flags);
  }
  const Pte pte = *entry;
  if (pte_none(pte)) return NoPageTable(vma, flags);
  if (!pte_present(pte)) return (flags & FOLL_DIRTY) != 0 && pte_file(pte) ? kEfault : kNullPage;
  if ((flags & FOLL_WRITE) != 0 && !pte_write(pte)) return kNullPage;
  Pfn pfn = vm_normal_page(pte);
  if (pfn == kNoPfn) {
    // The zero page has a struct page, a raw frame has none; a dump wants neither.
    if ((flags & FOLL_DUMP) != 0 || pte_pfn(pte) != kZeroPfn) return kEfault;
    pfn = kZeroPfn;
  }
  if ((flags & FOLL_GET) != 0) machine.frames.get_page(pfn);
  if (MustBeStable(vma, pfn, flags) && !page_make_stable(machine.frames, pfn)) {
    // page_discard consumes a reference, which FOLL_GET has taken.
    const bool takes = machine.sem().locked_discard_ref == LockedDiscardRef::kTaken;
    if ((flags & FOLL_GET) == 0 && takes) machine.frames.get_page(pfn);
    guard.Unlock();
    page_discard(machine, pfn);
    return kNullPage;
  }
  if ((flags & FOLL_TOUCH) != 0) {
    if ((flags & FOLL_WRITE) != 0 && !pte_dirty(pte) && !machine.frames.at(pfn).dirty())
      set_page_dirty(machine, pfn);
    ptep_set_bits(*entry, kPteYoung);
  }
  return {Followed::Kind::kPage, pfn};
}

bool dump_reads_slots(const Machine& machine) {
  return machine.sem().swap_dump == SwapDump::kReadSlot &&
         machine.sem().dump_lookup == DumpLookup::kDumpDirty;
}

bool page_is_modified(const Vma& vma, Pte pte) {
  return IsModified(vma.mm->machine, vma.file != nullptr, vm_normal_page(pte));
}

base::Result<Pfn> get_dirty_page(Vma& vma, Vaddr addr) {
  CHECK((vma.flags & (VM_SHARED | VM_MAYSHARE)) == 0);  // the seed's BUG_ON
  Machine& machine = vma.mm->machine;
  const unsigned flags = LookupFlags(machine.sem().dump_lookup);
  Followed followed = follow_page(vma, addr, flags);
  while (followed.kind == Followed::Kind::kNull) {
    const VmFault fault = handle_mm_fault(*vma.mm, vma, addr, Write::kNo);
    if ((fault & VM_FAULT_OOM) != 0) {
      return base::Fail(base::Code::kNoMemory, "page at %#llx: no memory to bring it in",
                        static_cast<unsigned long long>(addr));
    }
    if ((fault & VM_FAULT_SIGBUS) != 0) {
      return base::Fail(base::Code::kFault, "page at %#llx: it cannot be brought in (SIGBUS)",
                        static_cast<unsigned long long>(addr));
    }
    followed = follow_page(vma, addr, flags);
  }
  if (followed.kind == Followed::Kind::kEfault) return kNoPfn;
  // The page, not the pte: reclaim may have taken that meanwhile.
  if (IsModified(machine, vma.file != nullptr, followed.pfn)) return followed.pfn;
  machine.frames.put_page(followed.pfn);
  return kNoPfn;
}

DirtyRun next_dirty_run(Vma& vma, Vaddr addr, Vaddr end, uint64_t pages_max, Cut cut) {
  CHECK((vma.flags & (VM_SHARED | VM_MAYSHARE)) == 0);
  // So many entries ahead of the one that is looked at, its Page is fetched.
  constexpr Vaddr kAhead = 16;
  PageTable& table = vma.mm->pgtable;
  Guard guard(vma.mm->page_table_lock);
  const Machine& machine = vma.mm->machine;
  const Frames& frames = machine.frames;
  const bool has_file = vma.file != nullptr;
  const bool looks_at_pages = has_file || cut == Cut::kAtShared;
  DirtyRun run;
  while (addr < end) {
    const Vaddr from = addr;
    const Pte* pte = table.next_leaf(&addr, end);
    if (run.pages > 0 && (pte == nullptr || addr != from)) return run;
    if (pte == nullptr) return run;
    const Vaddr stop = std::min(PageTable::LeafEnd(addr), end);
    for (; addr < stop; addr += kPageSize, ++pte) {
      if (looks_at_pages && addr + kAhead * kPageSize < stop && pte_present(pte[kAhead])) {
        __builtin_prefetch(&frames.at(pte_pfn(pte[kAhead])));
      }
      const bool modified = pte_present(*pte) ? IsModified(machine, has_file, vm_normal_page(*pte))
                                              : pte_swap(*pte) || pte_hwpoison(*pte);
      if (!modified && run.pages > 0) return run;
      if (!modified) continue;
      const bool shared = cut == Cut::kAtShared && IsShared(machine, *pte);
      if (run.pages == 0) {
        run.start = addr;
        run.shared = shared;
      } else if (shared != run.shared) {
        return run;
      }
      if (++run.pages == pages_max) return run;
    }
  }
  return run;
}

namespace {

// find_extend_vma: the vma that holds `addr`, or a stack that grows down to it.
Vma* FindExtendVma(MmStruct& mm, Vaddr addr, uint64_t stack_limit) {
  Vma* vma = mm.find_vma(addr);
  if (vma == nullptr || vma->start <= addr) return vma;
  if ((vma->flags & VM_GROWSDOWN) == 0 || !expand_stack(*vma, addr, stack_limit)) return nullptr;
  return vma;
}

}  // namespace

SysResult<std::vector<Pfn>> get_user_pages(MmStruct& mm, Vaddr addr, uint64_t count, Write write, Force force,
                                           uint64_t stack_limit) {
  Machine& machine = mm.machine;
  std::vector<Pfn> pages;
  const auto stop = [&](int err) -> SysResult<std::vector<Pfn>> {
    if (pages.empty()) return Err(err);
    return std::move(pages);
  };
  addr = base::PageAlignDown(addr);
  for (uint64_t i = 0; i < count; ++i, addr += kPageSize) {
    Vma* vma = FindExtendVma(mm, addr, stack_limit);
    if (vma == nullptr || (vma->flags & (VM_IO | VM_PFNMAP)) != 0) return stop(EFAULT);
    uint64_t wanted = write == Write::kYes ? VM_WRITE | VM_MAYWRITE : VM_READ | VM_MAYREAD;
    wanted &= force == Force::kYes ? VM_MAYREAD | VM_MAYWRITE : VM_READ | VM_WRITE;
    if ((vma->flags & wanted) == 0) return stop(EFAULT);
    // A forced write needs a private mapping, or one that may be written anyway.
    if (write == Write::kYes && vma->is_shared() && (vma->flags & VM_WRITE) == 0) return stop(EFAULT);
    unsigned flags = FOLL_GET | FOLL_TOUCH | (write == Write::kYes ? FOLL_WRITE : 0);
    Followed followed = follow_page(*vma, addr, flags);
    while (followed.kind == Followed::Kind::kNull) {
      const VmFault fault = handle_mm_fault(mm, *vma, addr, write);
      if ((fault & VM_FAULT_OOM) != 0) return stop(ENOMEM);
      if ((fault & VM_FAULT_SIGBUS) != 0) return stop(EFAULT);
      // COW is broken, but the pte stays read-only under this protection: stop asking for the bit.
      if ((fault & VM_FAULT_WRITE) != 0 && (vma->flags & VM_WRITE) == 0) flags &= ~FOLL_WRITE;
      followed = follow_page(*vma, addr, flags);
    }
    if (followed.kind == Followed::Kind::kEfault) return stop(EFAULT);
    ++machine.pins[followed.pfn];
    pages.push_back(followed.pfn);
  }
  return pages;
}

void unpin_user_pages(Machine& machine, std::vector<Pfn>& pages) {
  for (const Pfn pfn : pages) {
    const auto pin = machine.pins.find(pfn);
    CHECK(pin != machine.pins.end() && pin->second > 0);
    if (--pin->second == 0) machine.pins.erase(pin);
    machine.frames.put_page(pfn);
  }
  pages.clear();
}

}  // namespace mm
