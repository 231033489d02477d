// Frames: the model's physical memory. One arena of bytes and one mem_map of Page, both reserved at
// once and backed by the operating system as they are touched.
//
// Frames that were never used are known to be zero and are handed out in ascending order; freed
// ones go on a list, last freed first reused, so that runs repeat exactly.
//
// Invariants:
//   F1  kZeroPfn is all zero bytes, is never free and never the target of a writable pte.
//   F2  A frame is on the free list, or above the high-water mark, exactly when its count is 0.
#pragma once

#include <span>
#include <vector>

#include "mm/lru.h"
#include "mm/page.h"
#include "mm/sync.h"
#include "mm/types.h"

namespace mm {

class DiscardedPages;
class Host;

// Without, what asks for a host costs nothing: for a benchmark of what it costs (CKPT_NO_HINTS).
#ifdef CKPT_NO_HINTS
inline constexpr bool kMayHaveHost = false;
#else
inline constexpr bool kMayHaveHost = true;
#endif

enum class Fill : uint8_t { kZero, kUninitialized };

// Gives the memory behind a page of an arena back to the operating system. Private memory reads as zero
// afterwards.
void GiveBackPage(std::byte* page);

class Frames {
 public:
  // `frame_count` includes the zero page. Requires: 2 <= frame_count < 2^32 - 1. Nothing but reserved()
  // may be called unless that answers true.
  explicit Frames(uint64_t frame_count);
  ~Frames();
  // Whether the operating system gave the address space.
  bool reserved() const { return mem_map_ != nullptr && arena_ != nullptr; }
  Frames(const Frames&) = delete;
  Frames& operator=(const Frames&) = delete;

  // A frame with count 1, mapcount 0, no mapping and no flags; kNoPfn when none is free. Frees none: that is
  // alloc_page() of reclaim.h, which faults and system calls use.
  Pfn alloc_page(Fill fill, Where where = Where::current());
  // Fill a page, and bring the frame that the next fault will take into the cache meanwhile: a fault
  // waits for memory much longer than it works.
  void clear_page(Pfn pfn);
  void copy_page(Pfn to, Pfn from);
  // Begins to fetch what copy_page will read first of a page that is likely to be copied next.
  void prefetch_source(Pfn from) const {
    for (size_t line = 0; line < kPrefetchBytes; line += kLineSize)
      __builtin_prefetch(arena_bytes(from) + line);
  }
  void get_page(Pfn pfn, Where where = Where::current()) {
    Page& page = at(pfn);
    racy_change(&page.count, "page count", where);
    CHECK(page.count > 0);
    ++page.count;
  }
  // A reference to a page that may be on its way to the free list; false: it is.
  bool get_page_unless_zero(Pfn pfn, Where where = Where::current()) {
    Page& page = at(pfn);
    racy_change(&page.count, "page count", where);
    if (page.count == 0) return false;
    ++page.count;
    return true;
  }
  // Drops one reference; the last one frees the frame.
  void put_page(Pfn pfn, Where where = Where::current()) {
    Page& page = at(pfn);
    racy_change(&page.count, "page count", where);
    CHECK(page.count > 0);
    if (--page.count == 0) Free(pfn, page);
  }

  Page& at(Pfn pfn) { return mem_map_[Check(pfn)]; }
  const Page& at(Pfn pfn) const { return mem_map_[Check(pfn)]; }
  Pfn pfn_of(const Page& page) const { return Pfn{static_cast<uint32_t>(&page - mem_map_)}; }
  // A page's bytes, for the kernel to use: an access, which the host backs or pages in. Good until the next
  // scheduling point. CHECK: the page is stable (INV-G11, INV-V11).
  std::byte* bytes(Pfn pfn) { return hosted() ? HostedBytes(pfn) : arena_bytes(pfn); }
  // The same without an access: nothing changes. Zeros where a page is gone.
  const std::byte* bytes(Pfn pfn) const { return hosted() ? PeekBytes(pfn) : arena_bytes(pfn); }
  // Where the bytes are while the frame is resident.
  std::byte* arena_bytes(Pfn pfn) const { return arena_ + size_t{Check(pfn)} * kPageSize; }

  // The host underneath, and where frames go that it has discarded; nullptr: there is none.
  void set_host(Host* host, DiscardedPages* discarded);
  Host* host() const { return host_; }
  bool hosted() const { return kMayHaveHost && host_ != nullptr; }
  bool host_discards() const { return kMayHaveHost && host_discards_; }
  // The end of a frame that was put off (discard.h). Requires: count 0, and not on the free list.
  void free_discarded(Pfn pfn);

  // A page is on a list from lru_add to lru_del, or until its frame is freed.
  void lru_add(Pfn pfn, Where where = Where::current()) {
    Guard guard(lru_lock, where);
    if ((at(pfn).flags & PG_discarded) == 0) lru_.add(mem_map_, pfn);  // INV-D10
  }
  void lru_del(Pfn pfn, Where where = Where::current()) {
    Guard guard(lru_lock, where);
    if ((at(pfn).flags & PG_lru) != 0) lru_.del(mem_map_, pfn);
  }
  // To the head of the list that its flags name once those of `clear` are cleared and those of `set` set. A
  // page that left its list meanwhile stays off.
  void lru_move(Pfn pfn, uint32_t clear, uint32_t set, Where where = Where::current());
  // The page at the tail of a list, with a reference, or kNoPfn. Pages that are about to be freed leave the
  // list.
  Pfn lru_get_tail(Lru list, Where where = Where::current());
  const LruLists& lru() const { return lru_; }
  Lock<LockClass::kLruLock> lru_lock;

  uint32_t frame_count() const { return frame_count_; }
  uint32_t nr_free() const { return nr_free_ + (frame_count_ - fresh_); }
  // Frames at and above this one were never allocated.
  uint32_t high_water() const { return fresh_; }
  // Those below it that are free, in the order in which they will be used again.
  std::vector<Pfn> free_list() const;
  // What a saved machine had (restart). Requires: no frame was used yet; `free` names frames of count 0 below
  // `high_water`, each once, and that is at most frame_count().
  void restore_free(uint32_t high_water, std::span<const Pfn> free);

 private:
  static constexpr size_t kLineSize = 64;  // of the processor's caches
  // What a core can have under way at once, less what the fault itself waits for: more would hold it up.
  static constexpr size_t kPrefetchBytes = 12 * kLineSize;
  uint32_t Check(Pfn pfn) const {
    const auto number = static_cast<uint32_t>(pfn);
    CHECK(number < frame_count_);
    return number;
  }
  bool Take(Pfn* taken, Where where);
  void Free(Pfn pfn, Page& page);
  // The bytes of the frame that is handed out next; `otherwise` where that is a fresh one.
  const std::byte* NextFree(const std::byte* otherwise) const {
    return free_head_ == kNoPfn ? otherwise : arena_bytes(free_head_);
  }
  std::byte* HostedBytes(Pfn pfn);
  const std::byte* PeekBytes(Pfn pfn) const;
  // Which end: what the host has discarded is cold, and used again last (free_cold_page).
  enum class FreeAs : uint8_t { kHot, kCold };
  void ToFreeList(Pfn pfn, Page& page, FreeAs as);

  Lock<LockClass::kZoneLock> zone_lock_;
  uint32_t frame_count_;
  uint32_t fresh_ = 1;
  uint32_t nr_free_ = 0;
  Pfn free_head_ = kNoPfn;
  Pfn free_tail_ = kNoPfn;
  LruLists lru_;
  Page* mem_map_;
  std::byte* arena_;
  Host* host_ = nullptr;
  DiscardedPages* discarded_ = nullptr;
  bool host_discards_ = false;
};

}  // namespace mm
