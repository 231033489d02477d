// Page faults: handle_mm_fault and what it dispatches to (spec B2-B6), and the page-table work that
// truncate, munmap and writeback do (B8, B9).
//
// Every path re-validates the pte under page_table_lock before it installs anything; the loser of a
// race frees what it prepared and answers success, and the access is tried again (INV-M7).
#pragma once

#include "mm/mm_struct.h"
#include "mm/swap.h"
#include "mm/types.h"

namespace mm {

// Requires: mmap_sem held; vma holds addr; the vma allows the access, or the caller forces it.
VmFault handle_mm_fault(MmStruct& mm, Vma& vma, Vaddr addr, Write write);

// Page tables are memory too, though not of the machine's frames: whether those of `mm` may come to hold
// `pages` more entries at `addr`. As many as memory and swap can fill, twice over, always may.
bool may_grow_page_table(MmStruct& mm, Vaddr addr, uint64_t pages);

// What zap_page_range may leave behind: B9.
struct ZapDetails {
  Mapping* check_mapping = nullptr;  // only pages of this mapping go (even_cows = 0)
  // A non-linear vma: only pages of [first, end) of the file go, and leave a file pte where the address does
  // not say their index.
  bool nonlinear = false;
  Pgoff first = 0;
  Pgoff end = ~Pgoff{0};
};
// Removes the ptes of [start, end) of `vma`; with details, keeps private copies, swap and file entries.
void zap_page_range(Vma& vma, Vaddr start, Vaddr end, const ZapDetails* details);

enum class EvenCows : uint8_t { kNo, kYes };
// Unmaps pages [first, end) of a file from every vma that maps them; private copies too if kYes.
// Requires: i_shared_sem held.
void unmap_mapping_range(Machine& machine, Mapping& mapping, Pgoff first, Pgoff end, EvenCows even_cows);

// Removes one pte, whatever it is (zap_pte). Requires: page_table_lock held.
void zap_pte(Vma& vma, Vaddr addr, Pte& entry);

// Clears dirty and write bits of every pte of a cached page, so that the next write is noticed;
// true if one was dirty. Requires: the page is locked.
bool page_mkclean(Machine& machine, Pfn pfn);

// The struct page behind a pte of `vma`: kNoPfn for special ptes (the zero page, raw frames).
inline Pfn vm_normal_page(Pte pte) { return pte_special(pte) ? kNoPfn : pte_pfn(pte); }

// Puts a new anonymous page at `addr`, whose pte must be none: how a restart fills private memory
// (it needs no backing page first, and works under any protection). The caller's reference becomes
// the mapping's. kYes: one more mapping of a page that was installed before. The pte is read-only, so
// that a page can come to be shared at any time; a write finds out whether it is (or make_writable).
enum class Shared : uint8_t { kNo, kYes };
void install_anon_page(Vma& vma, Vaddr addr, Pfn pfn, Shared share);
// The same for a page whose bytes are in a swap slot, one of whose users is the entry from now on.
void install_swap_entry(Vma& vma, Vaddr addr, SwpEntry entry);
// Lets the ptes of anonymous pages that are not shared be written without a fault, where VM_WRITE is set; but
// not those that are not soft-dirty, on a machine that tracks that: their next write is to be noticed.
void make_writable(Vma& vma);

}  // namespace mm
