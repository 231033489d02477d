// The page cache: lookups, reading, writing, writeback.
#include <algorithm>
#include <cstring>

#include "mm/fault.h"
#include "mm/file.h"
#include "mm/machine.h"
#include "mm/planted.h"

namespace mm {
namespace {

PageSpan SpanOf(Machine& machine, Pfn pfn) { return PageSpan(machine.frames.bytes(pfn), kPageSize); }

bool InCacheAt(const Page& page, const Mapping& mapping, Pgoff index) {
  return FileMapping(page) == &mapping && page.index == index;
}

void ClearPageDirty(Machine& machine, Page& page) {
  if (!page.dirty()) return;
  page.flags &= ~PG_dirty;
  --machine.vmstat.nr_dirty;
}

// One dirty page to disk. Requires: a reference is held.
SysResult<void> LockAndWrite(Machine& machine, File& file, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  lock_page(page);
  SysResult<void> written;
  wait_on_page_writeback(page);
  // Unless it was truncated while we waited for the lock.
  if (FileMapping(page) == &file.mapping) written = writepage(machine, file, pfn);
  unlock_page(machine.frames, page);
  wait_on_page_writeback(page);
  return written;
}

// A write at `offset` behind the end of the file makes the bytes between part of it: they read as zero,
// whatever a shared mapping has stored there.
void ZeroGap(Machine& machine, File& file, uint64_t offset) {
  const uint64_t old_size = file.i_size;
  if (offset <= old_size || old_size % kPageSize == 0) return;
  const uint64_t end = std::min(offset, base::PageAlignUp(old_size));
  const size_t from = old_size % kPageSize;
  zero_cached(machine, file, old_size / kPageSize, from, from + (end - old_size));
}

}  // namespace

SysResult<void> writepage(Machine& machine, File& file, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && FileMapping(page) == &file.mapping);
  if (page_mkclean(machine, pfn)) set_page_dirty(machine, pfn);
  if (!page.dirty()) return {};
  const uint64_t start = page.index * kPageSize;
  if (file.i_size < start + kPageSize) {
    const uint64_t keep = file.i_size > start ? file.i_size - start : 0;
    std::memset(machine.frames.bytes(pfn) + keep, 0, kPageSize - keep);
  }
  racy_change(&page.flags, "PG_dirty");
  ClearPageDirty(machine, page);
  set_page_writeback(machine, pfn);
  if (page_host_discards(machine.frames)) page.flags |= PG_private;  // writing makes buffer heads
  uses(machine.frames.bytes(pfn), false);
  uses(file.disk(), true);
  const SysResult<void> written = file.disk()->WritePage(page.index, SpanOf(machine, pfn));
  end_of_io([&machine, pfn] { end_page_writeback(machine, pfn); });
  if (written) {
    ++machine.vmstat.pgpgout;
    page.flags &= ~PG_error;
  } else {
    page.flags |= PG_error;
    set_page_dirty(machine, pfn);
  }
  return written;
}

void zero_cached(Machine& machine, File& file, Pgoff index, size_t from, size_t to) {
  Pfn pfn = kNoPfn;
  do {
    if (shmem_zero_swapped(machine, file.mapping, index, from, to)) return;
    pfn = find_lock_page(machine, file.mapping, index);
    // Reclaim may have been faster.
  } while (pfn == kNoPfn && shmem_is_swapped(file.mapping, index));
  if (pfn == kNoPfn) return;
  uses(machine.frames.bytes(pfn), true);
  std::memset(machine.frames.bytes(pfn) + from, 0, to - from);
  unlock_page(machine.frames, machine.frames.at(pfn));
  machine.frames.put_page(pfn);
}

void set_page_writeback(Machine& machine, Pfn pfn) {
  machine.frames.at(pfn).flags |= PG_writeback;
  uses(&machine.nr_writeback, true);
  ++machine.nr_writeback;
}

void end_page_writeback(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  racy_change(&page.flags, "PG_writeback");
  CHECK((page.flags & PG_writeback) != 0);
  page.flags &= ~PG_writeback;
  uses(&machine.nr_writeback, true);
  --machine.nr_writeback;
  page_make_volatile(machine.frames, pfn, 1);
}

namespace {

// The first cached page of [first, end), with a reference.
Pfn GetFirstPage(Machine& machine, Mapping& mapping, Pgoff first, Pgoff end, Pgoff* index, Where where) {
  Guard guard(mapping.tree_lock, where);
  const auto found = mapping.pages.lower_bound(first);
  if (found == mapping.pages.end() || found->first >= end) return kNoPfn;
  machine.frames.get_page(found->second);
  *index = found->first;
  return found->second;
}

}  // namespace

Pfn find_get_page(Machine& machine, Mapping& mapping, Pgoff index, CacheLookup lookup, Where where) {
  Pgoff at;
  const Pfn pfn = GetFirstPage(machine, mapping, index, index + 1, &at, where);
  if (pfn == kNoPfn || lookup == CacheLookup::kNoDiscard || page_make_stable(machine.frames, pfn)) return pfn;
  page_discard(machine, pfn);
  return kNoPfn;
}

Pfn find_get_next_page(Machine& machine, Mapping& mapping, Pgoff* next, Pgoff end, CacheLookup lookup) {
  for (;;) {
    Pgoff index;
    const Pfn pfn = GetFirstPage(machine, mapping, *next, end, &index, Where::current());
    if (pfn == kNoPfn) return kNoPfn;
    *next = index + 1;
    if (lookup == CacheLookup::kNoDiscard || page_make_stable(machine.frames, pfn)) return pfn;
    page_discard(machine, pfn);
  }
}

bool holds_nothing(Mapping& mapping, Pgoff first, Pgoff end) {
  Guard guard(mapping.tree_lock);
  const auto page = mapping.pages.lower_bound(first);
  const auto slot = mapping.swapped.lower_bound(first);
  return (page == mapping.pages.end() || page->first >= end) &&
         (slot == mapping.swapped.end() || slot->first >= end);
}

Pfn find_lock_page(Machine& machine, Mapping& mapping, Pgoff index, CacheLookup lookup) {
  for (;;) {
    const Pfn pfn = find_get_page(machine, mapping, index, lookup);
    if (pfn == kNoPfn) return kNoPfn;
    lock_page(machine.frames.at(pfn));
    if (InCacheAt(machine.frames.at(pfn), mapping, index)) return pfn;
    unlock_page(machine.frames, machine.frames.at(pfn));
    machine.frames.put_page(pfn);
  }
}

namespace {

// Requires: tree_lock is held, and the cache has no page at `index`.
void InsertPage(Machine& machine, Mapping& mapping, Pgoff index, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && page.mapping_word == 0);
  CHECK(mapping.pages.emplace(index, pfn).second);
  machine.frames.get_page(pfn);
  page.mapping_word = reinterpret_cast<uint64_t>(&mapping);
  page.index = index;
}

// Requires: tree_lock is held, and the page locked. The cache's reference is the caller's from then on.
void delete_from_page_cache(Machine& machine, Mapping& mapping, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && FileMapping(page) == &mapping);
  uses(&page.flags, true);
  uses(&page.mapping_word, true);
  ClearPageDirty(machine, page);
  CHECK(mapping.pages.erase(page.index) == 1);
  page.flags &= ~PG_private;
  page.mapping_word = 0;
}

}  // namespace

bool add_to_page_cache(Machine& machine, Mapping& mapping, Pgoff index, Pfn pfn) {
  {
    Guard guard(mapping.tree_lock);
    if (mapping.swapped.contains(index) || mapping.pages.contains(index)) return false;
    InsertPage(machine, mapping, index, pfn);
  }
  lru_cache_add_file(machine, pfn, mapping.host->kind() == FileKind::kShmem);
  return true;
}

void remove_from_page_cache(Machine& machine, Pfn pfn) {
  Mapping* mapping = FileMapping(machine.frames.at(pfn));
  CHECK(mapping != nullptr);
  page_begin_removal(machine.frames, pfn);
  {
    Guard guard(mapping->tree_lock);
    delete_from_page_cache(machine, *mapping, pfn);
  }
  page_end_removal(machine.frames, pfn);
  machine.frames.put_page(pfn);
}

void discard_from_page_cache(Machine& machine, Pfn pfn) {
  Mapping* mapping = FileMapping(machine.frames.at(pfn));
  {
    Guard guard(mapping->tree_lock);
    delete_from_page_cache(machine, *mapping, pfn);
  }
  machine.frames.put_page(pfn);
}

bool remove_mapping(Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  Mapping* mapping = FileMapping(page);
  CHECK(page.locked() && mapping != nullptr);
  {
    Guard guard(mapping->tree_lock);
    uses(&page.count, false);
    uses(&page.flags, false);
    const bool used = page.count != 2 && !Planted(Bug::kRemovesUsedPage);
    if (used || page.dirty() || (page.flags & PG_writeback) != 0) return false;
    delete_from_page_cache(machine, *mapping, pfn);
  }
  page_end_removal(machine.frames, pfn);
  machine.frames.put_page(pfn);
  return true;
}

bool shmem_to_swap(Machine& machine, Pfn pfn, SwpEntry slot) {
  const Page& page = machine.frames.at(pfn);
  Mapping* mapping = FileMapping(page);
  {
    Guard guard(mapping->tree_lock);
    uses(&page.count, false);
    if (page.uptodate() && page.count != 2) return false;
    CHECK(mapping->swapped.emplace(page.index, slot).second);
    delete_from_page_cache(machine, *mapping, pfn);
  }
  machine.frames.put_page(pfn);
  return true;
}

SwpEntry shmem_from_swap(Machine& machine, Mapping& mapping, Pgoff index, Pfn pfn) {
  SwpEntry slot = kNoSlot;
  {
    Guard guard(mapping.tree_lock);
    const auto found = mapping.swapped.find(index);
    if (found == mapping.swapped.end()) return kNoSlot;
    slot = found->second;
    mapping.swapped.erase(found);
    InsertPage(machine, mapping, index, pfn);
  }
  lru_cache_add_file(machine, pfn, true);
  return slot;
}

bool shmem_is_swapped(Mapping& mapping, Pgoff index) {
  if (mapping.host->kind() != FileKind::kShmem) return false;
  Guard guard(mapping.tree_lock);
  return mapping.swapped.contains(index);
}

Pgoff shmem_first_swapped(Mapping& mapping) {
  Guard guard(mapping.tree_lock);
  return mapping.swapped.empty() ? ~Pgoff{0} : mapping.swapped.begin()->first;
}

void drop_past_eof(Machine& machine, File& file, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked());
  if (FileMapping(page) != &file.mapping || page.index < file.size_pages()) return;
  wait_on_page_writeback(page);
  if (page.mapcount == 0) remove_from_page_cache(machine, pfn);
}

void set_page_dirty(Machine& machine, Pfn pfn, Where where) {
  Page& page = machine.frames.at(pfn);
  racy_change(&page.flags, "PG_dirty", where);
  if (page.dirty()) return;
  if (page_host_discards(machine.frames)) [[unlikely]]
    CHECK_MSG(UsageOf(machine.host->state(pfn)) == Usage::kStable,
              "INV-V5: a page that is not stable gets dirty");
  page.flags |= PG_dirty;
  const Mapping* mapping = FileMapping(page);
  if (mapping != nullptr) ++machine.vmstat.nr_dirty;
}

namespace {

// A cached page that somebody may be reading from disk just now: waits for it. false: it is gone, or could
// not be read.
bool WaitUptodate(Machine& machine, Mapping& mapping, Pgoff index, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  uses(&page.flags, false);
  if (page.uptodate()) return true;
  lock_page(page);
  const bool usable = InCacheAt(page, mapping, index) && page.uptodate();
  unlock_page(machine.frames, page);
  return usable;
}

// A new page of the file, locked and in the cache; kNoPfn with *again set when somebody else was first.
Pfn NewCachePage(Machine& machine, File& file, Pgoff index, bool* again) {
  const Pfn pfn = alloc_page(machine, file.disk() == nullptr ? Fill::kZero : Fill::kUninitialized);
  if (pfn == kNoPfn) return kNoPfn;
  lock_page(machine.frames.at(pfn));
  if (add_to_page_cache(machine, file.mapping, index, pfn)) return pfn;
  *again = true;
  unlock_page(machine.frames, machine.frames.at(pfn));
  machine.frames.put_page(pfn);
  return kNoPfn;
}

// readpage. What lies behind the end of the file is zero, whatever the disk still holds of it.
SysResult<void> ReadFromDisk(Machine& machine, File& file, Pgoff index, Pfn pfn) {
  const uint64_t size = file.i_size_read();
  const uint64_t start = index * kPageSize;
  std::byte* bytes = machine.frames.bytes(pfn);
  uses(file.disk(), false);
  if (start < size) SYS_TRY_VOID(file.disk()->ReadPage(index, SpanOf(machine, pfn)));
  const size_t valid = size <= start ? 0 : std::min<uint64_t>(size - start, kPageSize);
  std::memset(bytes + valid, 0, kPageSize - valid);
  return {};
}

// A page that is not cached: from swap, from disk, or made. kNoPfn: somebody else was first.
SysResult<Pfn> BringIn(Machine& machine, File& file, Pgoff index, bool* major) {
  ReadGuard guard(file.mapping.invalidate_lock);
  if (file.kind() == FileKind::kShmem) {
    const SysResult<Pfn> swapped = shmem_swapin(machine, file.mapping, index);
    if (!swapped) return swapped;
    if (*swapped != kNoPfn) {
      if (major != nullptr) *major = true;
      return swapped;
    }
  }
  bool again = false;
  const Pfn pfn = NewCachePage(machine, file, index, &again);
  if (again) return kNoPfn;
  if (pfn == kNoPfn) return Err(ENOMEM);
  Page& page = machine.frames.at(pfn);
  if (file.disk() != nullptr) {
    if (const SysResult<void> read = ReadFromDisk(machine, file, index, pfn); !read) {
      remove_from_page_cache(machine, pfn);
      unlock_page(machine.frames, page);
      machine.frames.put_page(pfn);
      return std::unexpected(read.error());
    }
    ++machine.vmstat.pgpgin;
    if (major != nullptr) *major = true;
  }
  page.flags |= PG_uptodate;
  unlock_page(machine.frames, page);
  return pfn;
}

}  // namespace

SysResult<Pfn> read_cache_page(Machine& machine, File& file, Pgoff index, bool* major, CacheLookup lookup) {
  for (;;) {
    const Pfn cached = find_get_page(machine, file.mapping, index, lookup);
    if (cached != kNoPfn) {
      if (WaitUptodate(machine, file.mapping, index, cached)) return cached;
      machine.frames.put_page(cached);
      continue;
    }
    const Pfn pfn = SYS_TRY(BringIn(machine, file, index, major));
    if (pfn != kNoPfn) return pfn;
  }
}

SysResult<uint64_t> generic_file_read(Machine& machine, File& file, uint64_t offset,
                                      std::span<std::byte> out) {
  if (file.kind() == FileKind::kDevZero) {
    std::ranges::fill(out, std::byte{0});
    return out.size();
  }
  const uint64_t size = file.i_size_read();
  if (offset >= size) return 0;
  uint64_t length = std::min<uint64_t>(out.size(), size - offset);
  uint64_t done = 0;
  while (done < length) {
    const uint64_t at = offset + done;
    const size_t in_page = at % kPageSize;
    size_t piece = std::min<uint64_t>(kPageSize - in_page, length - done);
    const SysResult<Pfn> pfn = read_cache_page(machine, file, at / kPageSize);
    if (!pfn) {
      if (done > 0) return done;
      return std::unexpected(pfn.error());
    }
    // Again, now that the page is there: a truncate may have been faster.
    const uint64_t now = file.i_size_read();
    if (now < offset + length) {
      length = now > offset ? now - offset : 0;
      if (at >= now) {
        lock_page(machine.frames.at(*pfn));
        drop_past_eof(machine, file, *pfn);
        unlock_page(machine.frames, machine.frames.at(*pfn));
        machine.frames.put_page(*pfn);
        return std::min(done, length);
      }
      piece = std::min<uint64_t>(piece, now - at);
    }
    uses(machine.frames.bytes(*pfn), false);
    std::memcpy(out.data() + done, machine.frames.bytes(*pfn) + in_page, piece);
    mark_page_accessed(machine, *pfn);
    page_cache_release(machine.frames, *pfn);
    done += piece;
  }
  return done;
}

namespace {

// write_begin: the page, locked, and in the cache.
SysResult<Pfn> PageForWrite(Machine& machine, File& file, Pgoff index) {
  for (;;) {
    const Pfn pfn = SYS_TRY(read_cache_page(machine, file, index));
    lock_page(machine.frames.at(pfn));
    if (InCacheAt(machine.frames.at(pfn), file.mapping, index)) return pfn;
    unlock_page(machine.frames, machine.frames.at(pfn));
    machine.frames.put_page(pfn);
  }
}

}  // namespace

SysResult<uint64_t> generic_file_write(Machine& machine, File& file, uint64_t offset,
                                       std::span<const std::byte> in, uint64_t limit) {
  if (file.kind() == FileKind::kDevZero) return in.size();
  if (in.empty()) return 0;
  if (offset >= limit) return Err(EFBIG, SIGXFSZ);
  Guard guard(file.i_mutex);
  const uint64_t length = std::min<uint64_t>(in.size(), limit - offset);
  const bool grows = file.disk() != nullptr && offset + length > file.i_size;
  // The medium learns the new length at once, as an inode does; the pages follow at writeback.
  uses(file.disk(), true);
  if (grows) SYS_TRY_VOID(file.disk()->Truncate(offset + length));
  ZeroGap(machine, file, offset);
  uint64_t done = 0;
  while (done < length) {
    const uint64_t at = offset + done;
    const size_t in_page = at % kPageSize;
    const size_t piece = std::min<uint64_t>(kPageSize - in_page, length - done);
    const SysResult<Pfn> pfn = PageForWrite(machine, file, at / kPageSize);
    if (!pfn) {
      if (grows) (void)file.disk()->Truncate(file.i_size);
      if (done == 0) return std::unexpected(pfn.error());
      return done;
    }
    uses(machine.frames.bytes(*pfn), true);
    std::memcpy(machine.frames.bytes(*pfn) + in_page, in.data() + done, piece);
    set_page_dirty(machine, *pfn);
    if (page_host_discards(machine.frames)) machine.frames.at(*pfn).flags |= PG_private;
    done += piece;
    // Before the page is unlocked: who locks it then finds it inside the file.
    if (offset + done > file.i_size) file.i_size_write(offset + done);
    unlock_page(machine.frames, machine.frames.at(*pfn));
    mark_page_accessed(machine, *pfn);
    page_cache_release(machine.frames, *pfn);
  }
  return done;
}

SysResult<void> filemap_fdatawrite_range(Machine& machine, File& file, Pgoff first, Pgoff end) {
  if (file.disk() == nullptr) return {};
  SysResult<void> result;
  Pgoff next = first;
  for (;;) {
    // What is written is dirty, and so stable; the states of the other pages are not its concern.
    const Pfn pfn = find_get_next_page(machine, file.mapping, &next, end, CacheLookup::kNoDiscard);
    if (pfn == kNoPfn) return result;
    const SysResult<void> written = LockAndWrite(machine, file, pfn);
    machine.frames.put_page(pfn);
    if (!written && result) result = written;
  }
}

SysResult<void> vfs_fsync(Machine& machine, File& file) {
  SYS_TRY_VOID(filemap_fdatawrite_range(machine, file, 0, ~Pgoff{0}));
  if (file.disk() != nullptr) SYS_TRY_VOID(file.disk()->Sync());
  return {};
}

}  // namespace mm
