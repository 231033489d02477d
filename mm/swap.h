// Swap: a device of slots of one page, how many users each slot has, and the swap cache.
//
// A slot's users are the swap ptes and shmem entries that name it (swap_count). A page in the swap
// cache (PG_swapcache, page.slot) stands for its slot: who faults on an entry of that slot gets this
// very page. A slot is free when it has neither users nor a page.
//
// Invariants, recounted by Validate():
//   INV-M9  swap_count = swap ptes + shmem entries that name the slot.
//   SW1     A page has PG_swapcache exactly when its slot's cache entry names it.
//   SW2     nr_free is a recount of the free slots.
//   SW3     A clean page of the swap cache equals its slot (deep only).
// Locks: swap_lock of the machine guards the slots and which page stands for which.
// Slot 0 is the header, and never handed out. Reads and writes are whole pages and done at once.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.h"
#include "mm/disk.h"
#include "mm/page.h"
#include "mm/types.h"

namespace mm {

class Machine;
struct Mapping;

// A swap entry: the slot. 0: none.
using SwpEntry = uint32_t;
inline constexpr SwpEntry kNoSlot = 0;
// The largest swap space a machine can have, in bytes.
inline constexpr uint64_t kSwapMax = uint64_t{1} << 40;

class SwapDevice {
 public:
  virtual ~SwapDevice() = default;
  // EIO when the medium fails; what `page` holds then is undefined.
  virtual SysResult<void> ReadPage(SwpEntry slot, PageSpan page) = 0;
  // EIO: the slot's bytes are undefined.
  virtual SysResult<void> WritePage(SwpEntry slot, ConstPageSpan page) = 0;
  // The slot's own bytes, to be filled by the caller: how a restart puts pages straight into swap.
  virtual PageSpan PlacePage(SwpEntry slot) = 0;
  // The slot's bytes are not needed any more: their room is given back, as far as the medium can.
  virtual void DropPage(SwpEntry slot) = 0;
};

// Slots in memory of this process.
// kNoMemory when the system gives no address space for them.
base::Result<std::unique_ptr<SwapDevice>> MakeMemorySwap(uint64_t slots);
// Slots in a nameless file in `folder`, whose room is taken at once. The folder is made if it is missing.
// kIo (no room, no permission).
base::Result<std::unique_ptr<SwapDevice>> MakeFileSwap(const std::string& folder, uint64_t slots);

// One swap area (swap_info_struct). The machine has at most one.
class SwapArea {
 public:
  // `slots` includes the header. Requires: 2 <= slots <= 2^32 - 1.
  SwapArea(std::unique_ptr<SwapDevice> device, uint64_t slots)
      : device_(std::move(device)), slots_(static_cast<uint32_t>(slots)) {
    CHECK(slots >= 2 && slots <= ~uint32_t{0});
    counts_.push_back(0);
    cache_.push_back(kNoPfn);
  }
  SwapDevice& device() const { return *device_; }
  uint32_t slots() const { return slots_; }
  // Usable slots, and those of them that are free.
  uint32_t nr_slots() const { return slots_ - 1; }
  uint32_t nr_free() const { return closed_ ? 0 : nr_unused(); }
  uint32_t nr_unused() const { return static_cast<uint32_t>(free_.size()) + (slots_ - high_water()); }
  // Slots at and above this one were never used.
  uint32_t high_water() const { return static_cast<uint32_t>(counts_.size()); }

  // A slot in use below high_water().
  bool valid(SwpEntry slot) const {
    return slot != kNoSlot && slot < high_water() && (counts_[slot] > 0 || cache_[slot] != kNoPfn);
  }
  uint32_t count(SwpEntry slot) const { return counts_.at(slot); }
  Pfn cached(SwpEntry slot) const { return cache_.at(slot); }

  // A free slot with no user yet and `pfn` as its page, or kNoSlot when the area is full.
  SwpEntry Take(Pfn pfn);
  // A free slot that has one user and no page: how a restart fills swap. kNoSlot when the area is full.
  SwpEntry TakeForUser();
  // While it is closed, Take() answers kNoSlot (swapoff is at work).
  void set_closed(bool closed) { closed_ = closed; }
  bool closed() const { return closed_; }
  void AddUser(SwpEntry slot) { ++counts_.at(slot); }
  void DropUser(SwpEntry slot);
  void SetCached(SwpEntry slot, Pfn pfn);  // kNoPfn: takes it out

  // Free slots below high_water(), the one that is used next as the last.
  const std::vector<SwpEntry>& free_slots() const { return free_; }
  // What a saved machine had (restart). Requires: no slot was used yet; both vectors are of the same size,
  // from 1 (the header) to slots(); `free` names the unused slots, each once.
  void restore(std::vector<uint32_t> counts, std::vector<Pfn> cache, std::vector<SwpEntry> free) {
    CHECK(high_water() == 1 && !counts.empty() && counts.size() == cache.size() && counts.size() <= slots_);
    counts_ = std::move(counts);
    cache_ = std::move(cache);
    free_ = std::move(free);
  }

 private:
  void FreeIfUnused(SwpEntry slot);

  std::unique_ptr<SwapDevice> device_;
  uint32_t slots_;
  std::vector<uint32_t> counts_;
  std::vector<Pfn> cache_;
  bool closed_ = false;
  std::vector<SwpEntry> free_;  // freed slots, last freed first reused
};

// ---- users of a slot ----

// One more swap pte or shmem entry names the slot.
void swap_duplicate(Machine& machine, SwpEntry entry);
// One less. A page in the swap cache stays there.
void swap_free(Machine& machine, SwpEntry entry);
// One less; and where that was the last, a page in the swap cache that nobody maps goes too.
void free_swap_and_cache(Machine& machine, SwpEntry entry);
// More than half of the slots are in use: swap-ins give their slots back.
bool vm_swap_full(const Machine& machine);

// ---- the swap cache ----

// The cached page with a reference taken, or kNoPfn. Stable, unless `lookup` says that it may be discarded.
Pfn lookup_swap_cache(Machine& machine, SwpEntry entry, CacheLookup lookup = CacheLookup::kStable);
// Gives a locked anonymous page a slot and puts it into the swap cache, dirty. false: swap is full, or
// there is none.
bool add_to_swap(Machine& machine, Pfn pfn);
// Takes a locked page out of the swap cache and drops the cache's reference: the caller has one.
void delete_from_swap_cache(Machine& machine, Pfn pfn);
// The same for a page that the host has discarded (page_discard): PG_discarded is set and stays so.
void discard_from_swap_cache(Machine& machine, Pfn pfn);
// The same as remove_mapping() of file.h for a page of the swap cache.
bool remove_swap_mapping(Machine& machine, Pfn pfn);
// The slot's page with a reference: the cached one, or read from the device into a new page of the cache
// (*major). ENOMEM. A page that could not be read comes back without PG_uptodate.
SysResult<Pfn> read_swap_cache(Machine& machine, SwpEntry entry, bool* major,
                               CacheLookup lookup = CacheLookup::kStable);
// Users of the slot of a page in the swap cache.
uint32_t page_swapcount(const Machine& machine, const Page& page);
// B7: may a write fault write this locked page in place? A page that is its only user's leaves the swap
// cache and becomes dirty (but for ReuseRule::kMapcountKeepSlot).
bool reuse_swap_page(Machine& machine, Pfn pfn);
// Takes a locked page that no entry names any more out of the swap cache, dirty; false if it cannot be.
bool try_to_free_swap(Machine& machine, Pfn pfn);
// Drops a reference to a page that was unmapped: its slot goes with the last mapping.
void free_page_and_swap_cache(Machine& machine, Pfn pfn);
// Writes a locked page of the swap cache to its slot. EIO leaves it dirty.
SysResult<void> swap_writepage(Machine& machine, Pfn pfn);

// ---- shmem ----

// Writes a locked, unmapped page of a shmem object to a slot and takes it out of the object's cache: the
// object names the slot instead. false: there is no slot, or the device failed, and nothing changed.
bool shmem_writepage(Machine& machine, Pfn pfn);
// The bytes of a swapped page of an object, in its cache again; kNoPfn if it is not in swap (any more).
// ENOMEM, EIO.
SysResult<Pfn> shmem_swapin(Machine& machine, Mapping& mapping, Pgoff index);
// Zeroes bytes [from, to) of a swapped page of an object, in its slot; false: it is not in swap. A slot that
// cannot be read or written is left.
bool shmem_zero_swapped(Machine& machine, Mapping& mapping, Pgoff index, size_t from, size_t to);
// Frees the slots of pages [first, end) of an object.
void shmem_truncate_swap(Machine& machine, Mapping& mapping, Pgoff first, Pgoff end);

// ---- system calls ----

// swapon(2). EBUSY when there is an area already.
SysResult<void> sys_swapon(Machine& machine, std::unique_ptr<SwapDevice> device, uint64_t slots);
// swapoff(2): brings every swapped page back. EINVAL without an area; ENOMEM or EIO leaves the area in use
// with what could not be brought back.
SysResult<void> sys_swapoff(Machine& machine);

}  // namespace mm
