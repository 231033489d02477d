// The page cache: lookups, reading, writing, writeback.
#include <algorithm>
#include <cstring>

#include "mm/fault.h"
#include "mm/file.h"
#include "mm/machine.h"

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
  // Unless it was truncated while we waited for the lock.
  if (FileMapping(page) == &file.mapping) written = writepage(machine, file, pfn);
  unlock_page(page);
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
  ClearPageDirty(machine, page);
  page.flags |= PG_writeback;
  const SysResult<void> written = file.disk()->WritePage(page.index, SpanOf(machine, pfn));
  page.flags &= ~PG_writeback;
  if (written) {
    ++machine.vmstat.pgpgout;
  } else {
    set_page_dirty(machine, pfn);
  }
  return written;
}

void zero_cached(Machine& machine, File& file, Pgoff index, size_t from, size_t to) {
  if (file.mapping.swapped.contains(index)) return shmem_zero_swapped(machine, file.mapping, index, from, to);
  const Pfn pfn = find_get_page(machine, file.mapping, index);
  if (pfn == kNoPfn) return;
  std::memset(machine.frames.bytes(pfn) + from, 0, to - from);
  machine.frames.put_page(pfn);
}

Pfn find_get_page(Machine& machine, Mapping& mapping, Pgoff index) {
  const auto found = mapping.pages.find(index);
  if (found == mapping.pages.end()) return kNoPfn;
  machine.frames.get_page(found->second);
  return found->second;
}

Pfn find_lock_page(Machine& machine, Mapping& mapping, Pgoff index) {
  for (;;) {
    const Pfn pfn = find_get_page(machine, mapping, index);
    if (pfn == kNoPfn) return kNoPfn;
    machine.points.Reach(Point::kFaultBeforePageLock);
    lock_page(machine.frames.at(pfn));
    if (InCacheAt(machine.frames.at(pfn), mapping, index)) return pfn;
    unlock_page(machine.frames.at(pfn));
    machine.frames.put_page(pfn);
  }
}

void add_to_page_cache(Machine& machine, Mapping& mapping, Pgoff index, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  CHECK(page.locked() && page.mapping_word == 0);
  machine.frames.get_page(pfn);
  page.mapping_word = reinterpret_cast<uint64_t>(&mapping);
  page.index = index;
  CHECK(mapping.pages.emplace(index, pfn).second);
  lru_cache_add_file(machine, pfn, mapping.host->kind() == FileKind::kShmem);
}

void remove_from_page_cache(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  Mapping* mapping = FileMapping(page);
  CHECK(page.locked() && mapping != nullptr);
  ClearPageDirty(machine, page);
  CHECK(mapping->pages.erase(page.index) == 1);
  page.mapping_word = 0;
  machine.frames.put_page(pfn);
}

void set_page_dirty(Machine& machine, Pfn pfn) {
  Page& page = machine.frames.at(pfn);
  if (page.dirty()) return;
  page.flags |= PG_dirty;
  const Mapping* mapping = FileMapping(page);
  if (mapping != nullptr) ++machine.vmstat.nr_dirty;
}

SysResult<Pfn> read_cache_page(Machine& machine, File& file, Pgoff index, bool* major) {
  const Pfn cached = find_get_page(machine, file.mapping, index);
  if (cached != kNoPfn) return cached;
  if (file.mapping.swapped.contains(index)) {
    if (major != nullptr) *major = true;
    return shmem_swapin(machine, file.mapping, index);
  }
  const Pfn pfn = alloc_page(machine, file.disk() == nullptr ? Fill::kZero : Fill::kUninitialized);
  if (pfn == kNoPfn) return Err(ENOMEM);
  if (file.disk() != nullptr) {
    const SysResult<void> read = file.disk()->ReadPage(index, SpanOf(machine, pfn));
    if (!read) {
      machine.frames.put_page(pfn);
      return std::unexpected(read.error());
    }
    ++machine.vmstat.pgpgin;
    if (major != nullptr) *major = true;
  }
  Page& page = machine.frames.at(pfn);
  lock_page(page);
  add_to_page_cache(machine, file.mapping, index, pfn);
  page.flags |= PG_uptodate;
  unlock_page(page);
  return pfn;
}

SysResult<uint64_t> generic_file_read(Machine& machine, File& file, uint64_t offset,
                                      std::span<std::byte> out) {
  if (file.kind() == FileKind::kDevZero) {
    std::ranges::fill(out, std::byte{0});
    return out.size();
  }
  if (offset >= file.i_size) return 0;
  const uint64_t length = std::min<uint64_t>(out.size(), file.i_size - offset);
  uint64_t done = 0;
  while (done < length) {
    const uint64_t at = offset + done;
    const size_t in_page = at % kPageSize;
    const size_t piece = std::min<uint64_t>(kPageSize - in_page, length - done);
    const SysResult<Pfn> pfn = read_cache_page(machine, file, at / kPageSize);
    if (!pfn) {
      if (done > 0) return done;
      return std::unexpected(pfn.error());
    }
    std::memcpy(out.data() + done, machine.frames.bytes(*pfn) + in_page, piece);
    mark_page_accessed(machine, *pfn);
    machine.frames.put_page(*pfn);
    done += piece;
  }
  return done;
}

SysResult<uint64_t> generic_file_write(Machine& machine, File& file, uint64_t offset,
                                       std::span<const std::byte> in, uint64_t limit) {
  if (file.kind() == FileKind::kDevZero) return in.size();
  if (in.empty()) return 0;
  if (offset >= limit) return Err(EFBIG, SIGXFSZ);
  const uint64_t length = std::min<uint64_t>(in.size(), limit - offset);
  const bool grows = file.disk() != nullptr && offset + length > file.i_size;
  // The medium learns the new length at once, as an inode does; the pages follow at writeback.
  if (grows) SYS_TRY_VOID(file.disk()->Truncate(offset + length));
  ZeroGap(machine, file, offset);
  uint64_t done = 0;
  while (done < length) {
    const uint64_t at = offset + done;
    const size_t in_page = at % kPageSize;
    const size_t piece = std::min<uint64_t>(kPageSize - in_page, length - done);
    const SysResult<Pfn> pfn = read_cache_page(machine, file, at / kPageSize);
    if (!pfn) {
      if (grows) (void)file.disk()->Truncate(file.i_size);
      if (done == 0) return std::unexpected(pfn.error());
      return done;
    }
    std::memcpy(machine.frames.bytes(*pfn) + in_page, in.data() + done, piece);
    set_page_dirty(machine, *pfn);
    mark_page_accessed(machine, *pfn);
    machine.frames.put_page(*pfn);
    done += piece;
    file.i_size = std::max(file.i_size, offset + done);
  }
  return done;
}

SysResult<void> filemap_fdatawrite_range(Machine& machine, File& file, Pgoff first, Pgoff end) {
  if (file.disk() == nullptr) return {};
  SysResult<void> result;
  Pgoff next = first;
  for (;;) {
    const auto found = file.mapping.pages.lower_bound(next);
    if (found == file.mapping.pages.end() || found->first >= end) return result;
    const Pfn pfn = found->second;
    next = found->first + 1;
    machine.frames.get_page(pfn);
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

void evict_inode(Machine& machine, File& file) {
  shmem_truncate_swap(machine, file.mapping, 0, ~Pgoff{0});
  while (!file.mapping.pages.empty()) {
    const Pfn pfn = file.mapping.pages.begin()->second;
    Page& page = machine.frames.at(pfn);
    CHECK_MSG(page.mapcount == 0, "a page of a file that nobody holds is still mapped");
    lock_page(page);
    machine.frames.get_page(pfn);
    remove_from_page_cache(machine, pfn);
    unlock_page(page);
    machine.frames.put_page(pfn);
  }
}

}  // namespace mm
