// Size changes of a file and what they take with them: spec B8, B9.
#include <algorithm>
#include <cstring>

#include "mm/fault.h"
#include "mm/file.h"
#include "mm/machine.h"
#include "mm/planted.h"

namespace mm {
namespace {

// Takes pages [first, end) out of the cache. A page that is still mapped is unmapped first, its
// private copies kept (even_cows = 0). Requires: i_shared_sem is free.
void truncate_inode_pages_range(Machine& machine, File& file, Pgoff first, Pgoff end) {
  for (;;) {
    // Again after each page: reclaim moves pages to swap, and faults move them back.
    shmem_truncate_swap(machine, file.mapping, first, end);
    Pgoff next = first;
    const Pfn pfn = find_get_next_page(machine, file.mapping, &next, end);
    if (pfn == kNoPfn) {
      if (holds_nothing(file.mapping, first, end)) return;
      continue;
    }
    Page& page = machine.frames.at(pfn);
    lock_page(page);
    wait_on_page_writeback(page);
    if (FileMapping(page) == &file.mapping) {
      const Pgoff index = page.index;
      racy_read(&page.mapcount, "mapcount");
      if (page.mapcount > 0) {
        Guard guard(file.mapping.i_shared_sem);
        unmap_mapping_range(machine, file.mapping, index, index + 1, EvenCows::kNo);
      }
      remove_from_page_cache(machine, pfn);
    }
    unlock_page(machine.frames, page);
    machine.frames.put_page(pfn);
  }
}

void BumpTruncateCount(File& file) {
  racy_change(&file.mapping.truncate_count, "truncate_count");
  ++file.mapping.truncate_count;
}

void UnmapFrom(Machine& machine, File& file, Pgoff first, EvenCows even_cows) {
  Guard guard(file.mapping.i_shared_sem);
  BumpTruncateCount(file);
  unmap_mapping_range(machine, file.mapping, first, ~Pgoff{0}, even_cows);
}

SysResult<void> Extend(Machine& machine, File& file, uint64_t size, uint64_t limit) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 62;  // s_maxbytes
  if (size > limit) return Err(EFBIG, SIGXFSZ);
  if (size > kMaxBytes) return Err(EFBIG);
  if (file.disk() != nullptr) SYS_TRY_VOID(file.disk()->CanTruncate(size));
  uses(file.disk(), true);
  if (file.disk() != nullptr) SYS_TRY_VOID(file.disk()->Truncate(size));
  // What a shared mapping stored behind the old end must not become part of the file.
  if (file.i_size % kPageSize != 0) {
    const size_t tail_end = size / kPageSize == file.i_size / kPageSize ? size % kPageSize : kPageSize;
    zero_cached(machine, file, file.i_size / kPageSize, file.i_size % kPageSize, tail_end);
  }
  file.i_size_write(size);
  return {};
}

// Zeroes bytes [from, to), which lie in one page, through the cache.
SysResult<void> ZeroPart(Machine& machine, File& file, uint64_t from, uint64_t to) {
  if (from >= to) return {};
  const Pfn pfn = SYS_TRY(read_cache_page(machine, file, from / kPageSize));
  uses(machine.frames.bytes(pfn), true);
  std::memset(machine.frames.bytes(pfn) + from % kPageSize, 0, to - from);
  if (file.disk() != nullptr) set_page_dirty(machine, pfn);
  machine.frames.put_page(pfn);
  return {};
}

}  // namespace

SysResult<void> vmtruncate(Machine& machine, File& file, uint64_t size, uint64_t limit) {
  if (file.kind() == FileKind::kDevZero) return Err(EINVAL);
  Guard mutex(file.i_mutex);
  if (size >= file.i_size)
    return size == file.i_size ? SysResult<void>{} : Extend(machine, file, size, limit);

  if (file.swapfile) return Err(ETXTBSY);
  if (file.disk() != nullptr) SYS_TRY_VOID(file.disk()->CanTruncate(size));
  const Pgoff first_gone = base::PagesFor(size);
  const EvenCows even_cows =
      machine.sem().cow_survives_truncate == CowSurvivesTruncate::kYes || Planted(Bug::kTruncateSkipsZap)
          ? EvenCows::kNo
          : EvenCows::kYes;
  if (!Planted(Bug::kTruncateSizeLast))
    file.i_size_write(size);  // Before any unmapping: a fault that looks now must not map what goes (INV-M4).
  UnmapFrom(machine, file, first_gone, even_cows);
  if (size % kPageSize != 0 && !Planted(Bug::kTailNotZeroed))
    zero_cached(machine, file, size / kPageSize, size % kPageSize, kPageSize);
  truncate_inode_pages_range(machine, file, first_gone, ~Pgoff{0});
  if (machine.sem().truncate_passes == TruncatePasses::kTwo && !Planted(Bug::kTruncateOnePass)) {
    UnmapFrom(machine, file, first_gone, even_cows);
  }
  if (Planted(Bug::kTruncateSizeLast)) file.i_size_write(size);
  // Last: until now a fault that had seen the old size could still read the old bytes.
  uses(file.disk(), true);
  if (file.disk() != nullptr) SYS_TRY_VOID(file.disk()->Truncate(size));
  return {};
}

SysResult<void> punch_hole(Machine& machine, File& file, uint64_t offset, uint64_t length) {
  if (length == 0 || offset + length < offset) return Err(EINVAL);
  if (file.kind() == FileKind::kDevZero) return Err(ENODEV);
  if (file.swapfile) return Err(ETXTBSY);
  Guard mutex(file.i_mutex);
  if (offset >= file.i_size) return {};
  const uint64_t end = std::min(offset + length, base::PageAlignUp(file.i_size));
  if (offset >= end) return {};
  const Pgoff first = base::PagesFor(offset);
  const Pgoff last = end / kPageSize;
  if (first > last) return ZeroPart(machine, file, offset, end);  // inside one page
  SYS_TRY_VOID(ZeroPart(machine, file, offset, first * kPageSize));
  SYS_TRY_VOID(ZeroPart(machine, file, last * kPageSize, end));
  // Once the cache has dropped a page, nobody may read it in again before the medium has forgotten it. 2.6.34
  // punches no holes into files on disks; this is the invalidate_lock of later kernels.
  Guard invalidate(file.mapping.invalidate_lock);
  // The medium before the cache: if it fails, the pages between are as they were.
  uses(file.disk(), true);
  if (file.disk() != nullptr) SYS_TRY_VOID(file.disk()->PunchHole(first, last));
  {
    Guard guard(file.mapping.i_shared_sem);
    BumpTruncateCount(file);
    unmap_mapping_range(
        machine, file.mapping, first, last,
        machine.sem().hole_punch_cow == HolePunchCow::kZapped ? EvenCows::kYes : EvenCows::kNo);
  }
  truncate_inode_pages_range(machine, file, first, last);
  // And after it: until then a dirty page could still be written back.
  uses(file.disk(), true);
  if (smp() && file.disk() != nullptr && !Planted(Bug::kPunchMediumOnce))
    SYS_TRY_VOID(file.disk()->PunchHole(first, last));
  return {};
}

void evict_inode(Machine& machine, File& file) {
  CHECK_MSG(file.mapping.i_mmap.empty() && file.mapping.i_mmap_shared.empty(),
            "a file that nobody holds is still mapped");
  truncate_inode_pages_range(machine, file, 0, ~Pgoff{0});
}

void invalidate_mapping_pages(Machine& machine, Mapping& mapping, Pgoff first, Pgoff end) {
  Pgoff next = first;
  for (;;) {
    const Pfn pfn = find_get_next_page(machine, mapping, &next, end);
    if (pfn == kNoPfn) return;
    Page& page = machine.frames.at(pfn);
    if (trylock_page(page)) {
      if (FileMapping(page) == &mapping && page.mapcount == 0) remove_mapping(machine, pfn);
      unlock_page(machine.frames, page);
    }
    machine.frames.put_page(pfn);
  }
}

}  // namespace mm
