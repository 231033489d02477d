// File: an inode with its Mapping (the kernel's struct address_space): size, disk, page cache, and
// the vmas that map it. Shared anonymous memory is a File of kind kShmem, as in the kernel.
//
// Invariants, checked by Validate():
//   C1  A page is in at most one page cache, at the index that the page itself names.
//   C2  No cached page lies at or past the end of the file, once a truncate has completed (INV-M4).
//   C3  i_mmap holds exactly the private vmas that map the file, i_mmap_shared the shared ones.
//   C4  A clean up-to-date cached page of a regular file equals its page on disk.
//
// Locks: i_mutex serialises what changes the size or the bytes by call (truncate, write, hole punch);
// invalidate_lock keeps pages from coming in; i_shared_sem guards the vma lists; tree_lock the cache; the
// page lock a cached page's place in it (cpu.h has the order).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "mm/disk.h"
#include "mm/page.h"
#include "mm/sync.h"
#include "mm/types.h"
#include "mm/vma_tree.h"

namespace mm {

class File;
class Machine;
struct Vma;

enum class FileId : uint32_t {};

struct Mapping {
  File* host = nullptr;
  absl::btree_map<Pgoff, Pfn> pages;         // the page cache
  absl::btree_map<Pgoff, uint32_t> swapped;  // kShmem: pages whose bytes are in a swap slot
  VmaTree i_mmap;                            // private vmas
  VmaTree i_mmap_shared;                     // shared ones, the non-linear among them
  std::vector<Vma*> i_mmap_nonlinear;        // the non-linear ones, in the order they became that
  InvalidateLock invalidate_lock;            // reading: pages come in; writing: a hole punch, and none does
  SharedSem i_shared_sem;
  Lock<LockClass::kTreeLock> tree_lock;  // pages, swapped
  uint64_t truncate_count = 0;           // 2.6.11's guard of faults against truncates
  bool mlocked = false;                  // page hinting: a vma of it was locked; for good (seed 001)
};

enum class FileKind : uint8_t { kRegular, kShmem, kDevZero };

class File {
 public:
  // `disk` is null for kShmem and kDevZero, and only for them.
  File(FileId id, std::string name, FileKind kind, uint64_t size, std::unique_ptr<Disk> disk)
      : id_(id), name_(std::move(name)), kind_(kind), i_size(size), disk_(std::move(disk)) {
    CHECK((disk_ != nullptr) == (kind == FileKind::kRegular));
    mapping.host = this;
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  FileId id() const { return id_; }
  const std::string& name() const { return name_; }
  FileKind kind() const { return kind_; }
  Disk* disk() { return disk_.get(); }
  const Disk* disk() const { return disk_.get(); }
  uint64_t i_size_read(Where where = Where::current()) const {
    racy_read(&i_size, "i_size", where);
    return i_size;
  }
  void i_size_write(uint64_t size, Where where = Where::current()) {
    racy_change(&i_size, "i_size", where);
    i_size = size;
  }
  uint64_t size_pages(Where where = Where::current()) const { return base::PagesFor(i_size_read(where)); }
  // Has vm_ops with a fault method. A private mapping of /dev/zero has a file and no vm_ops (C20).
  bool has_fault() const { return kind_ != FileKind::kDevZero; }

 private:
  FileId id_;
  std::string name_;
  FileKind kind_;

 public:
  InodeMutex i_mutex;
  uint64_t i_size;  // bytes; read without a lock: i_size_read()
  Mapping mapping;
  bool deleted = false;   // unlinked: lives on while it is mapped
  bool swapfile = false;  // in use as swap: shrinking it is ETXTBSY

 private:
  std::unique_ptr<Disk> disk_;
};

using FilePtr = std::shared_ptr<File>;

// ---- page cache (filemap.cc) ----

// The cached page with a reference taken, or kNoPfn. It is stable until the reference is dropped, and a page
// that the host has discarded is taken out of the cache first (A7); not with CacheLookup::kNoDiscard.
Pfn find_get_page(Machine& machine, Mapping& mapping, Pgoff index, CacheLookup lookup = CacheLookup::kStable,
                  Where where = Where::current());
// The first cached page of [*next, end) with a reference, or kNoPfn; *next is the index behind it then.
Pfn find_get_next_page(Machine& machine, Mapping& mapping, Pgoff* next, Pgoff end,
                       CacheLookup lookup = CacheLookup::kStable);
// Whether no page of [first, end) is cached or, of an object, in swap.
bool holds_nothing(Mapping& mapping, Pgoff first, Pgoff end);
// The same as find_get_page, locked, and still in the cache at that index.
Pfn find_lock_page(Machine& machine, Mapping& mapping, Pgoff index,
                   CacheLookup lookup = CacheLookup::kStable);
// Puts a locked page that is in no cache into this one; the cache takes a reference of its own. false: the
// cache, or swap, has a page of that index already.
bool add_to_page_cache(Machine& machine, Mapping& mapping, Pgoff index, Pfn pfn);
// Takes a locked page out of its cache and drops the cache's reference. The mapping word becomes 0
// even while the page is mapped (truncate_complete_page).
void remove_from_page_cache(Machine& machine, Pfn pfn);
// The same if nobody but the cache and the caller knows of the page and it is clean (INV-M14): looked at
// where no lookup can come between.
bool remove_mapping(Machine& machine, Pfn pfn);
// The same for a page that the host has discarded (page_discard): PG_discarded is set and stays so.
void discard_from_page_cache(Machine& machine, Pfn pfn);
// Takes a locked page of an object out of its cache, and has the object name `slot` for it instead; false
// when somebody but the cache and the caller knows of the page.
bool shmem_to_swap(Machine& machine, Pfn pfn, uint32_t slot);
// The other way: the locked, new page stands in the cache for the slot that the object named, which is the
// caller's then. 0: it names none.
uint32_t shmem_from_swap(Machine& machine, Mapping& mapping, Pgoff index, Pfn pfn);
bool shmem_is_swapped(Mapping& mapping, Pgoff index);
// The first page of the object that is in swap; ~0: none.
Pgoff shmem_first_swapped(Mapping& mapping);
// Takes a locked page that lies behind the end of the file, and that nobody maps, out of its cache: a reader
// brought it in while the file was cut.
void drop_past_eof(Machine& machine, File& file, Pfn pfn);
// Sets PG_writeback, at the beginning of a write, and clears it at its end: both count it (NR_WRITEBACK).
void set_page_writeback(Machine& machine, Pfn pfn);
void end_page_writeback(Machine& machine, Pfn pfn);
// The page with a reference, up to date, read from disk (or made, for shmem) if it is not cached.
// ENOMEM or EIO. Does not look at i_size. *major is set when the disk was read.
SysResult<Pfn> read_cache_page(Machine& machine, File& file, Pgoff index, bool* major = nullptr,
                               CacheLookup lookup = CacheLookup::kStable);
void set_page_dirty(Machine& machine, Pfn pfn, Where where = Where::current());

// read(2), write(2) at an offset. read stops at the end of the file. write extends it, stops at
// `limit` (RLIMIT_FSIZE) and answers EFBIG with SIGXFSZ when it could write nothing. On ENOMEM or EIO
// in the middle the bytes before it are written: the count says how many, the error comes only when
// it is none. /dev/zero reads zeros and swallows writes.
SysResult<uint64_t> generic_file_read(Machine& machine, File& file, uint64_t offset,
                                      std::span<std::byte> out);
SysResult<uint64_t> generic_file_write(Machine& machine, File& file, uint64_t offset,
                                       std::span<const std::byte> in, uint64_t limit);
// Zeroes bytes [from, to) of page `index`, if it is cached or an object's in swap; what is only on disk
// stays.
void zero_cached(Machine& machine, File& file, Pgoff index, size_t from, size_t to);
// Writes a locked page of the file's cache to its disk, if it is dirty. EIO leaves it dirty.
SysResult<void> writepage(Machine& machine, File& file, Pfn pfn);
// Writes back the dirty cached pages of [first, end): ptes are made clean and read-only first
// (page_mkclean), the part of the last page behind the end of the file is zeroed, then the page goes
// to disk. EIO leaves the failed page dirty and goes on; the first error is the answer.
SysResult<void> filemap_fdatawrite_range(Machine& machine, File& file, Pgoff first, Pgoff end);
// All of the file, and then the disk's Sync().
SysResult<void> vfs_fsync(Machine& machine, File& file);

// ---- size changes (truncate.cc) ----

// truncate(2): B8. An error changes nothing, but for EIO of a medium that had said it could. `limit` is
// RLIMIT_FSIZE: growing beyond it is EFBIG with SIGXFSZ and changes nothing. Shrinking a swap file is
// ETXTBSY.
SysResult<void> vmtruncate(Machine& machine, File& file, uint64_t size, uint64_t limit);
// fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE). EINVAL for length 0. After an error the whole
// pages of the range are as they were; parts of pages at its edges may be zero.
SysResult<void> punch_hole(Machine& machine, File& file, uint64_t offset, uint64_t length);
// Drops what is cached of [first, end) and neither dirty, locked, under writeback nor mapped.
void invalidate_mapping_pages(Machine& machine, Mapping& mapping, Pgoff first, Pgoff end);
// The last reference to a file is gone: its cache goes.
void evict_inode(Machine& machine, File& file);

}  // namespace mm
