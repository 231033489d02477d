#include "mm/lru.h"

namespace mm {
namespace {

Page& At(Page* mem_map, Pfn pfn) { return mem_map[static_cast<uint32_t>(pfn)]; }

}  // namespace

void LruLists::add(Page* mem_map, Pfn pfn) {
  Page& page = At(mem_map, pfn);
  CHECK((page.flags & PG_lru) == 0);
  page.flags |= PG_lru;
  List& list = ListOf(page);
  page.lru_prev = kNoPfn;
  page.lru_next = list.head;
  if (list.head != kNoPfn) {
    At(mem_map, list.head).lru_prev = pfn;
  } else {
    list.tail = pfn;
  }
  list.head = pfn;
  ++list.size;
}

void LruLists::del(Page* mem_map, Pfn pfn) {
  Page& page = At(mem_map, pfn);
  CHECK((page.flags & PG_lru) != 0);
  List& list = ListOf(page);
  if (page.lru_prev != kNoPfn) {
    At(mem_map, page.lru_prev).lru_next = page.lru_next;
  } else {
    list.head = page.lru_next;
  }
  if (page.lru_next != kNoPfn) {
    At(mem_map, page.lru_next).lru_prev = page.lru_prev;
  } else {
    list.tail = page.lru_prev;
  }
  page.flags &= ~PG_lru;
  page.lru_prev = page.lru_next = kNoPfn;
  --list.size;
}

}  // namespace mm
