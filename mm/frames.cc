#include "mm/frames.h"

#include <sys/mman.h>

#include <cstring>

#include "mm/discard.h"
#include "mm/host.h"

namespace mm {
namespace {

constexpr size_t kHugePageSize = size_t{2} << 20;

// Address space for `bytes` bytes, without memory behind it until it is touched.
void* Reserve(size_t bytes) {
  void* place =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return nullptr;
  // Huge pages make the host's part of a first touch cheap; not of a machine that one of them would hold as
  // a whole. Advice only: any answer is fine.
  if (bytes > kHugePageSize) (void)madvise(place, bytes, MADV_HUGEPAGE);
  return place;
}

// Memory that a small machine gave back: the next one of that size takes it, so that a search through
// thousands of machines does not wait for the system each time. One of this thread.
struct Backing {
  Backing() = default;
  Backing(const Backing&) = delete;
  Backing& operator=(const Backing&) = delete;
  ~Backing() { Release(); }

  static constexpr uint32_t kFramesMax = 256;
  void Release();

  uint32_t frames = 0;  // 0: none
  Page* mem_map = nullptr;
  std::byte* arena = nullptr;
};
thread_local Backing t_backing;

Page FreshPage(int32_t count, Pfn next) {
  return {.flags = 0,
          .count = count,
          .mapcount = 0,
          .lru_next = next,
          .mapping_word = 0,
          .index = 0,
          .rmap = 0,
          .rmap_addr = 0,
          .lru_prev = kNoPfn,
          .slot = 0};
}

size_t ArenaBytes(uint32_t frames) {
  return (size_t{frames} * kPageSize + kHugePageSize - 1) / kHugePageSize * kHugePageSize;
}

void Unmap(uint32_t frames, Page* mem_map, std::byte* arena) {
  if (mem_map != nullptr) munmap(mem_map, size_t{frames} * sizeof(Page));
  if (arena != nullptr) munmap(arena, ArenaBytes(frames));
}

void Backing::Release() {
  if (frames > 0) Unmap(frames, mem_map, arena);
  frames = 0;
}

}  // namespace

Frames::Frames(uint64_t frame_count) : frame_count_(static_cast<uint32_t>(frame_count)) {
  CHECK(frame_count >= 2 && frame_count < static_cast<uint32_t>(kNoPfn));
  if (t_backing.frames == frame_count_) {
    mem_map_ = t_backing.mem_map;
    arena_ = t_backing.arena;
    t_backing.frames = 0;
  } else {
    mem_map_ = static_cast<Page*>(Reserve(size_t{frame_count_} * sizeof(Page)));
    arena_ = static_cast<std::byte*>(Reserve(ArenaBytes(frame_count_)));
  }
  if (!reserved()) return;
  Page& zero = mem_map_[0];
  zero.flags = PG_reserved | PG_uptodate;
  zero.count = 1;
}

Frames::~Frames() {
  if (!reserved() || frame_count_ > Backing::kFramesMax) {
    Unmap(frame_count_, mem_map_, arena_);
    return;
  }
  // As new: zero, but for what was never touched.
  std::memset(static_cast<void*>(mem_map_), 0, size_t{fresh_} * sizeof(Page));
  std::memset(arena_, 0, size_t{fresh_} * kPageSize);
  t_backing.Release();
  t_backing.frames = frame_count_;
  t_backing.mem_map = mem_map_;
  t_backing.arena = arena_;
}

void Frames::clear_page(Pfn pfn) {
  std::byte* page = bytes(pfn);
  const std::byte* next = NextFree(page);
  for (size_t line = 0; line < kPageSize; line += kLineSize) {
    __builtin_prefetch(next + line, 1);
    std::memset(page + line, 0, kLineSize);
  }
}

void Frames::copy_page(Pfn to, Pfn from) {
  std::byte* page = bytes(to);
  const std::byte* source = bytes(from);
  const std::byte* next = NextFree(page);
  for (size_t line = 0; line < kPageSize; line += kLineSize) {
    __builtin_prefetch(next + line, 1);
    std::memcpy(page + line, source + line, kLineSize);
  }
}

void Frames::lru_move(Pfn pfn, uint32_t clear, uint32_t set, Where where) {
  Guard guard(lru_lock, where);
  Page& page = at(pfn);
  const bool listed = (page.flags & PG_lru) != 0;
  if (listed) lru_.del(mem_map_, pfn);
  page.flags = (page.flags & ~clear) | set;
  if ((page.flags & PG_discarded) != 0) {
    page.flags &= ~PG_active;  // INV-D10
    return;
  }
  if (listed) lru_.add(mem_map_, pfn);
}

Pfn Frames::lru_get_tail(Lru list, Where where) {
  Guard guard(lru_lock, where);
  for (;;) {
    const Pfn pfn = lru_.tail(list);
    if (pfn == kNoPfn || get_page_unless_zero(pfn)) return pfn;
    lru_.del(mem_map_, pfn);
  }
}

Pfn Frames::alloc_page(Fill fill, Where where) {
  Pfn pfn = kNoPfn;
  const bool used = Take(&pfn, where);
  if (pfn == kNoPfn) return kNoPfn;
  page_set_stable(*this, pfn);
  if (used && fill == Fill::kZero) clear_page(pfn);
  return pfn;
}

// false: the frame is fresh, and zero.
bool Frames::Take(Pfn* taken, Where where) {
  Guard guard(zone_lock_, where);
  Pfn pfn;
  const bool used = free_head_ != kNoPfn;
  if (free_head_ != kNoPfn) {
    pfn = free_head_;
    free_head_ = at(pfn).lru_next;
    --nr_free_;
    if (free_head_ != kNoPfn) __builtin_prefetch(&at(free_head_), 1);
  } else if (fresh_ < frame_count_) {
    pfn = Pfn{fresh_++};
  } else {
    return used;
  }
  Page& page = at(pfn);
  CHECK(page.count == 0);
  page = FreshPage(1, kNoPfn);
  *taken = pfn;
  return used;
}

void Frames::Free(Pfn pfn, Page& page) {
  if ((page.flags & PG_lru) != 0) lru_del(pfn);
  CHECK_MSG(page.mapcount == 0 && !page.locked() && pfn != kZeroPfn && FileMapping(page) == nullptr &&
                page.rmap == 0 && !page.swapcache(),
            base::Format("free of page %u in use", static_cast<uint32_t>(pfn)));
  if ((page.flags & PG_discarded) != 0) {
    page = FreshPage(0, kNoPfn);
    page.flags = PG_discarded;
    return discarded_->add(pfn);
  }
  page_set_unused(*this, pfn);
  ToFreeList(pfn, page, FreeAs::kHot);
}

void Frames::ToFreeList(Pfn pfn, Page& page, FreeAs as) {
  Guard guard(zone_lock_);
  const bool last = as == FreeAs::kCold || free_head_ == kNoPfn;
  page = FreshPage(0, last ? kNoPfn : free_head_);
  if (last && free_head_ != kNoPfn) {
    at(free_tail_).lru_next = pfn;
  } else {
    free_head_ = pfn;
  }
  if (last) free_tail_ = pfn;
  ++nr_free_;
}

std::vector<Pfn> Frames::free_list() const {
  std::vector<Pfn> free;
  for (Pfn pfn = free_head_; pfn != kNoPfn; pfn = at(pfn).lru_next) free.push_back(pfn);
  return free;
}

void Frames::restore_free(uint32_t high_water, std::span<const Pfn> free) {
  CHECK(fresh_ == 1 && high_water >= 1 && high_water <= frame_count_);
  fresh_ = high_water;
  nr_free_ = static_cast<uint32_t>(free.size());
  for (size_t i = free.size(); i-- > 0;) {
    CHECK(at(free[i]).count == 0);
    if (free_tail_ == kNoPfn) free_tail_ = free[i];
    at(free[i]) = FreshPage(0, free_head_);
    free_head_ = free[i];
  }
}

// ---- with a host ----

void GiveBackPage(std::byte* page) {
  if (madvise(page, kPageSize, MADV_DONTNEED) != 0) std::memset(page, 0, kPageSize);
}

void Frames::set_host(Host* host, DiscardedPages* discarded) {
  CHECK(kMayHaveHost && fresh_ == 1);  // before the first frame is used
  host_ = host;
  discarded_ = discarded;
  host_discards_ = host != nullptr && host->discards();
  // Memory is given back by the page.
  if (host != nullptr) (void)madvise(arena_, ArenaBytes(frame_count_), MADV_NOHUGEPAGE);
}

std::byte* Frames::HostedBytes(Pfn pfn) {
  const Access access = host_->access(pfn, Write::kNo);
  // INV-V11: what the kernel touches it has made stable.
  CHECK_MSG(access == Access::kData && UsageOf(host_->state(pfn)) == Usage::kStable,
            base::Format("the kernel touches page %u, which is %s", static_cast<uint32_t>(pfn),
                         PageStateName(host_->state(pfn))));
  return arena_bytes(pfn);
}

const std::byte* Frames::PeekBytes(Pfn pfn) const { return host_->peek(pfn); }

void Frames::free_discarded(Pfn pfn) {
  Page& page = at(pfn);
  CHECK(page.count == 0 && (page.flags & PG_discarded) != 0);
  page.flags &= ~PG_discarded;
  page_set_unused(*this, pfn);
  ToFreeList(pfn, page, FreeAs::kCold);
}

}  // namespace mm
