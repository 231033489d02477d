// Reverse-map counts: how many ptes name a page, and how many pages are mapped at all.
//
// Invariants (recounted by Validate): mapcount is the number of present ptes; nr_mapped the number
// of file pages with mapcount > 0; an anonymous page gets its mapping word and linear index here.
#pragma once

#include "mm/types.h"
#include "mm/vma.h"

namespace mm {

class Machine;

// A pte of a new anonymous page is about to be installed. Requires: mapcount 0.
void page_add_new_anon_rmap(Machine& machine, Pfn pfn, const Vma& vma, Vaddr addr);
// A pte of a file page is about to be installed.
void page_add_file_rmap(Machine& machine, Pfn pfn);
// fork: one more pte of a page that is mapped already.
void page_dup_rmap(Machine& machine, Pfn pfn);
// A pte of the page went. The caller drops the reference that the pte held.
void page_remove_rmap(Machine& machine, Pfn pfn);

}  // namespace mm
