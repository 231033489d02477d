#include "mm/rmap.h"

#include "mm/machine.h"

namespace mm {

void page_add_new_anon_rmap(Machine& machine, Pfn pfn, const Vma& vma, Vaddr addr) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.mapcount == 0 && page.mapping_word == 0);
  page.mapping_word = kAnonMapping;
  page.index = linear_page_index(vma, addr);
  page.mapcount = 1;
}

void page_add_file_rmap(Machine& machine, Pfn pfn) {
  if (machine.frames.at(pfn).mapcount++ == 0) ++machine.vmstat.nr_mapped;
}

void page_dup_rmap(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.mapcount > 0);
  ++page.mapcount;
}

void page_remove_rmap(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.mapcount > 0);
  if (--page.mapcount == 0 && !PageAnon(page)) --machine.vmstat.nr_mapped;
}

}  // namespace mm
