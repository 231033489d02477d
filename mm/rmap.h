// The reverse map: from a page to the ptes that name it (seed 003; spec B13).
//
// A file's page has only a count: its ptes are found by walking the vmas that map that index of the file
// (object-based rmap). A page with PG_anon has its ptes on a chain (pte_chain.h): anonymous pages, and a
// file's page that was once installed at a non-linear position (page_convert_anon), which no walk of the
// vmas finds.
//
// Invariants (recounted by Validate): mapcount is the number of present ptes; nr_mapped the number of file
// pages with mapcount > 0, nr_anon_pages of anonymous ones (together the seed's nr_mapped, INV-M13); the
// chain of a PG_anon page names exactly its present ptes (INV-M12).
#pragma once

#include "mm/pte.h"
#include "mm/types.h"
#include "mm/vma.h"

namespace mm {

class Machine;

// A pte of a new anonymous page is about to be installed: the page becomes anonymous and goes on the active
// list. Requires: mapcount 0, no mapping.
void page_add_new_anon_rmap(Machine& machine, Pfn pfn, const Vma& vma, Vaddr addr);
// A pte of a page that came back from swap is about to be installed.
void page_add_anon_rmap(Machine& machine, Pfn pfn, const Vma& vma, Vaddr addr);
// A pte of a file page is about to be installed. CHECK (the seed's BUG): the page has no mapping, or is in
// the swap cache (O13).
void page_add_file_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr addr);
// fork: one more pte of a page that is mapped already.
void page_dup_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr addr);
// A pte of the page went. The caller drops the reference that the pte held.
void page_remove_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr addr);
// mremap: a pte moved.
void page_move_rmap(Machine& machine, Pfn pfn, MmStruct& mm, Vaddr from, Vaddr to);

// Whether the reverse map knows of a pte. As published, a conversion that ran out of memory makes it answer
// false while ptes exist (O12).
bool page_mapped(const Page& page);

// The pte of a file page in `vma`, and its address; nullptr when the page is not mapped there: outside the
// vma, no table, not present, or another page.
Pte* find_pte(Vma& vma, const Machine& machine, Pfn pfn, Vaddr* addr);

// How often the page was referenced since the last call: PG_referenced and young ptes, which are cleared. Of
// a page that is found through its file's vmas, a lock that somebody holds counts as a reference; a chain is
// walked without locks.
enum class PageIs : uint8_t { kLocked, kUnlocked };
int page_referenced(Machine& machine, Pfn pfn, PageIs page_is);

enum class SwapResult : uint8_t { SWAP_SUCCESS, SWAP_AGAIN, SWAP_FAIL };
// Removes every pte of a locked page, as far as the locks can be had: an anonymous page leaves swap
// entries, a file's page at a non-linear position file entries, else nothing. Dirty ptes dirty the page.
//   SUCCESS  no pte is left (INV-M10)
//   AGAIN    somebody held a lock; what could be unmapped is
//   FAIL     a vma is VM_LOCKED or VM_RESERVED; earlier ones are unmapped, later ones are not
// Requires: an anonymous page is in the swap cache.
SwapResult try_to_unmap(Machine& machine, Pfn pfn);

// Removes every pte of a locked page that the host has discarded, whatever locks have to be waited for, and
// out of VM_LOCKED vmas too. What they leave is what try_to_unmap leaves. Requires: no spin lock is held.
void page_unmap_all(Machine& machine, Pfn pfn);

// Puts the ptes of a locked file page on a chain, before a pte at a non-linear position joins them. Does
// nothing when that was done before, or when a truncate has taken the page out of its file. ENOMEM when the
// chain cannot grow: the page is as it was (Semantics::convert_enomem).
SysResult<void> page_convert_anon(Machine& machine, Pfn pfn);

}  // namespace mm
