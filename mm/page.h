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
#include "mm/cpu.h"
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
inline constexpr uint32_t PG_chainlock = 1u << 15;  // pte_chain_lock
inline constexpr uint32_t PG_key_dirty = 1u << 14;  // the change bit of its storage key (s390)
// Of page hinting (page_states.h):
inline constexpr uint32_t PG_state_change = 1u << 16;  // a bit lock: its state is being changed
inline constexpr uint32_t PG_discarded = 1u << 17;     // taken out because the host had discarded it
inline constexpr uint32_t PG_writable = 1u << 18;      // some pte was writable since it was last unmapped
inline constexpr uint32_t PG_private = 1u << 19;       // it has buffer heads: it was written by a call
inline constexpr uint32_t PG_error = 1u << 20;         // its last write to disk failed
inline constexpr uint32_t PG_mlocked = 1u << 21;       // it was brought in for a VM_LOCKED vma: for good

// A lookup in a cache: the page that it answers is stable, and stays so until its reference is dropped; or it
// may be volatile, even discarded, and is not to be read (find_get_page_nodiscard).
enum class CacheLookup : uint8_t { kStable, kNoDiscard };

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

// The locks that are bits of a page: as those of sync.h.
template <uint32_t kBit, LockClass kClass>
class PageBitLock {
 public:
  static bool try_lock(Page& page, Where where) {
    if (smp()) [[unlikely]]
      t_cpus->Point({OpKind::kTrylock, LockName(kClass), Object(page), nullptr, where});
    if ((page.flags & kBit) != 0) return false;
    page.flags |= kBit;
    if (smp()) [[unlikely]]
      t_cpus->Acquired(kClass, Object(page), where);
    return true;
  }
  static void lock(Page& page, Where where) {
    if (smp()) [[unlikely]]
      Wait(page, where);
    CHECK((page.flags & kBit) == 0);
    page.flags |= kBit;
  }
  static void unlock(Page& page, Where where) {
    if (smp()) [[unlikely]] {
      t_cpus->Point({OpKind::kUnlock, LockName(kClass), Object(page), nullptr, where});
      t_cpus->Released(kClass, Object(page), where);
    }
    CHECK((page.flags & kBit) != 0);
    page.flags &= ~kBit;
  }

  // Until nobody holds it; it is not taken.
  static void wait(Page& page, Where where) {
    const auto is_free = [](const void* object) { return IsFree(object); };
    if (smp()) [[unlikely]]
      t_cpus->Point({OpKind::kWait, LockName(kClass), Object(page), is_free, where});
    CHECK((page.flags & kBit) == 0);
  }

 private:
  static bool IsFree(const void* object) {
    const char* flags = static_cast<const char*>(object) - kOffset;
    return (*reinterpret_cast<const uint32_t*>(flags) & kBit) == 0;
  }
  // Another address for each bit: they are not in each other's way. The one at 1 is PG_anon's as well.
  static constexpr ptrdiff_t kOffset = kClass == LockClass::kPageLock   ? 0
                                       : kClass == LockClass::kPteChain ? 1
                                                                        : 2;
  static const void* Object(const Page& page) { return reinterpret_cast<const char*>(&page.flags) + kOffset; }
  [[gnu::noinline]] static void Wait(Page& page, Where where) {
    t_cpus->CheckOrder(kClass, where, false);
    const auto is_free = [](const void* object) { return IsFree(object); };
    t_cpus->Point({OpKind::kLock, LockName(kClass), Object(page), is_free, where});
    t_cpus->Acquired(kClass, Object(page), where);
  }
};
using PageLock = PageBitLock<PG_locked, LockClass::kPageLock>;
using PteChainLock = PageBitLock<PG_chainlock, LockClass::kPteChain>;
using StateChangeLock = PageBitLock<PG_state_change, LockClass::kStateChange>;

inline bool trylock_page(Page& page, Where where = Where::current()) {
  return PageLock::try_lock(page, where);
}
// Sleeps until nobody has the page lock.
inline void lock_page(Page& page, Where where = Where::current()) { PageLock::lock(page, where); }
// unlock_page() is in page_states.h: it may make the page volatile.
// Guards the chain, and with it mapcount and PG_anon.
inline void pte_chain_lock(Page& page, Where where = Where::current()) { PteChainLock::lock(page, where); }
inline void pte_chain_unlock(Page& page, Where where = Where::current()) {
  PteChainLock::unlock(page, where);
}

// Names for scheduling points: what is said of the page to its host, and PG_writable.
inline constexpr const char* kPageStateName = "page state";
inline const void* page_state_object(const Page& page) {
  return reinterpret_cast<const char*>(&page.flags) + 3;
}
inline const void* page_writable_object(const Page& page) {
  return reinterpret_cast<const char*>(&page.count) + 1;
}
inline const void* page_discarded_object(const Page& page) {
  return reinterpret_cast<const char*>(&page.count) + 2;
}

// PG_anon without the chain lock.
inline bool page_is_chained(const Page& page, Where where = Where::current()) {
  racy_read(reinterpret_cast<const char*>(&page.flags) + 1, "PG_anon", where);
  return (page.flags & PG_anon) != 0;
}

// Sleeps until the write of the page that is under way, if any, has come to its end.
inline void wait_on_page_writeback(Page& page, Where where = Where::current()) {
  if (!smp()) return;
  might_sleep(where);
  const auto is_done = [](const void* flags) {
    return (*static_cast<const uint32_t*>(flags) & PG_writeback) == 0;
  };
  t_cpus->Point({OpKind::kWait, "writeback", &page.flags, is_done, where});
}

}  // namespace mm
