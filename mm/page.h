// Page: what the model knows of one frame (struct page), and the mem_map entry's flags.
//
// What a page *is* follows from its mapping alone: a file's (or object's) own page when `mapping`
// names one, anonymous when it is kAnonMapping, neither when it is 0 (a cache page that a truncate
// took out while it was still mapped). PG_anon, in the sense of seed 003 ("tracked by a pte
// chain"), never decides that: it is set on anonymous pages, and on a file's page that was installed at a
// non-linear position. A page in the swap cache belongs to its slot as well (swap.h).
//
// Invariants, recounted by Validate():
//   P1  count = references of the page cache or swap cache (1 if cached) + present ptes + pins, and 1
//       for a poisoned page.
//   P2  mapcount = present ptes that name the page; the special zero pte counts for nothing.
//   P3  count == 0 exactly for free frames.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "mm/types.h"

namespace mm {

struct Mapping;

// Page flags, spelled as the kernel spells them.
inline constexpr uint32_t PG_locked = 1u << 0;
inline constexpr uint32_t PG_uptodate = 1u << 1;
inline constexpr uint32_t PG_dirty = 1u << 2;
inline constexpr uint32_t PG_writeback = 1u << 3;
inline constexpr uint32_t PG_reserved = 1u << 4;
inline constexpr uint32_t PG_swapcache = 1u << 5;
inline constexpr uint32_t PG_referenced = 1u << 6;
inline constexpr uint32_t PG_active = 1u << 7;  // on an active list, if on one
inline constexpr uint32_t PG_lru = 1u << 8;
inline constexpr uint32_t PG_swapbacked = 1u << 9;  // reclaim writes it to swap: anonymous and shmem pages
inline constexpr uint32_t PG_anon = 1u << 10;       // seed 003: its ptes are on a chain
inline constexpr uint32_t PG_direct = 1u << 11;     // the chain is one pte, named in the page itself
inline constexpr uint32_t PG_ksm = 1u << 12;       // merged with pages of equal bytes: never written in place
inline constexpr uint32_t PG_hwpoison = 1u << 13;  // the memory behind it failed
inline constexpr uint32_t PG_key_dirty = 1u << 14;  // the change bit of its storage key (s390)

struct alignas(64) Page {
  uint32_t flags;
  int32_t count;          // _count: references
  int32_t mapcount;       // present ptes (the kernel's _mapcount + 1)
  Pfn lru_next;           // towards the tail of its LRU list; of a free frame: the free list's link
  uint64_t mapping_word;  // 0, kAnonMapping, or a Mapping*
  Pgoff index;            // in the mapping; for an anonymous page the linear index of its vma
  uint64_t rmap;          // PG_anon: the pte chain (pte_chain.h); 0: no pte
  Vaddr rmap_addr;        // with PG_direct
  Pfn lru_prev;           // towards the head
  uint32_t slot;          // with PG_swapcache: the swap slot (page_private)

  bool locked() const { return (flags & PG_locked) != 0; }
  bool dirty() const { return (flags & PG_dirty) != 0; }
  bool uptodate() const { return (flags & PG_uptodate) != 0; }
  bool swapcache() const { return (flags & PG_swapcache) != 0; }
};
static_assert(sizeof(Page) <= 64, "page metadata is at most 64 bytes a page");

// The mapping word of an anonymous page (PAGE_MAPPING_ANON).
inline constexpr uint64_t kAnonMapping = 1;

// PageAnon(): the page was made by an anonymous fault, a COW break or a swap-in.
inline bool PageAnon(const Page& page) { return page.mapping_word == kAnonMapping; }

// The file or object that the page belongs to; nullptr for anonymous and truncated pages. Swap
// cache pages belong to their slot, not to a file: see page_mapping() in follow_page.h.
inline Mapping* FileMapping(const Page& page) {
  return page.mapping_word > kAnonMapping ? reinterpret_cast<Mapping*>(page.mapping_word) : nullptr;
}

inline bool trylock_page(Page& page) {
  if (page.locked()) return false;
  page.flags |= PG_locked;
  return true;
}
// Requires: nobody holds the page lock (there is one CPU; see sync.h).
inline void lock_page(Page& page) { CHECK(trylock_page(page)); }
inline void unlock_page(Page& page) {
  CHECK(page.locked());
  page.flags &= ~PG_locked;
}

}  // namespace mm
