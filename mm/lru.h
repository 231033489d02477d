// LruLists: the pages that reclaim can look at, by how recently they were used: an active and an inactive
// list of those that are written to swap (anonymous and shmem), and of files' pages (2.6.34).
//
// Doubly linked through the mem_map: a list is two frame numbers and a count. Head: latest; reclaim takes
// from the tail.
//
// Invariant LR1, recounted by Validate(): a page with PG_lru stands in the list that its flags
// PG_swapbacked and PG_active name, and in no other; a page without stands in none.
#pragma once

#include <array>
#include <cstdint>

#include "mm/page.h"
#include "mm/types.h"

namespace mm {

enum class Lru : uint8_t { kInactiveAnon, kActiveAnon, kInactiveFile, kActiveFile, kCount };

inline Lru page_lru(const Page& page) {
  const bool active = (page.flags & PG_active) != 0;
  if ((page.flags & PG_swapbacked) != 0) return active ? Lru::kActiveAnon : Lru::kInactiveAnon;
  return active ? Lru::kActiveFile : Lru::kInactiveFile;
}

class LruLists {
 public:
  // To the head of the list that its flags name. Requires: it is on none.
  void add(Page* mem_map, Pfn pfn);
  // Requires: it is on one, and its flags have not changed since add().
  void del(Page* mem_map, Pfn pfn);
  uint64_t size(Lru list) const { return lists_[static_cast<size_t>(list)].size; }
  Pfn head(Lru list) const { return lists_[static_cast<size_t>(list)].head; }
  Pfn tail(Lru list) const { return lists_[static_cast<size_t>(list)].tail; }

 private:
  struct List {
    Pfn head = kNoPfn;
    Pfn tail = kNoPfn;
    uint64_t size = 0;
  };
  List& ListOf(const Page& page) { return lists_[static_cast<size_t>(page_lru(page))]; }
  std::array<List, static_cast<size_t>(Lru::kCount)> lists_;
};

}  // namespace mm
