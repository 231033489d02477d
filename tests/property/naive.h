// A naive model of Linux memory, which the real one (mm/) is compared with after every step.
//
// It is written from the rules of Linux, not from mm/*.cc, and knows nothing of frames, page tables,
// faults or sharing: a process is a map from page number to what is mapped there, a private page that
// was written has bytes of its own, fork copies all of them, a file is a map of pages and a size.
// What it answers is what a program can see: outcomes, errnos, contents, and which private pages were
// changed since their file (or zero).
//
// Two things are not predicted but told to it (as arguments): the address that a mapping without
// MAP_FIXED gets, and where the real model's vma ends, since whether two neighbours were merged decides
// if mremap can treat them as one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

namespace naive {

inline constexpr uint64_t kPage = 4096;
using PageBytes = std::array<std::byte, kPage>;

// What changes with the switches of mm/semantics.h.
struct Rules {
  bool cow_survives_truncate = false;
  bool punch_zaps_cow = false;
  bool remap_installs = false;       // remap_file_pages maps at once, and refuses what lies past the end
  bool anon_read_allocates = false;  // a read of untouched anonymous memory makes a page of its own
};

enum class Outcome : uint8_t { kOk, kSigsegv, kSigbus, kOom };

// A file, or an object of shared memory. Bytes behind `size` in the last page belong to no file, but
// mappings see them: they are kept here until a writeback or an extension zeroes them.
struct Object {
  uint32_t id = 0;    // the real model's FileId
  bool disk = false;  // has a medium: writeback does something
  uint64_t size = 0;
  std::map<uint64_t, PageBytes> pages;  // absent: zeros

  uint64_t size_pages() const { return (size + kPage - 1) / kPage; }
  const PageBytes& page(uint64_t index) const;
  // Zeroes [from, to) where there are pages.
  void Zero(uint64_t from, uint64_t to);
};
using ObjectPtr = std::shared_ptr<Object>;

// One mapped page of a process.
struct Page {
  int prot = 0;
  bool shared = false;
  bool grows_down = false;
  bool dont_fork = false;
  ObjectPtr object;  // null: anonymous
  bool locked = false;
  bool nonlinear = false;  // of the whole mapping: some page of it was remapped
  uint64_t index = 0;      // of the object's page
  uint64_t linear = 0;     // what index was when it was mapped
  // The bytes of a private page that was written; null: the file's, or zeros. Never shared between two
  // pages: the pointer only keeps the map's nodes small.
  std::shared_ptr<PageBytes> copy;
  bool bad_pte = false;  // populate_nonblock=file_pte left an entry that no fault can use

  bool past_end() const { return object != nullptr && index >= object->size_pages(); }
  // Requires: !past_end() or there is a copy.
  const PageBytes& bytes() const;
};

struct Memory {
  std::map<uint64_t, Page> pages;  // by page number
  uint64_t start_brk = 0;
  uint64_t brk = 0;
};
using MemoryPtr = std::shared_ptr<Memory>;

struct MapCall {
  uint64_t addr = 0;  // what was asked for with MAP_FIXED; otherwise what the real model chose
  uint64_t length = 0;
  int prot = 0;
  bool shared = false;
  bool fixed = false;
  bool grows_down = false;
  bool populate = false;
  ObjectPtr object;      // null: anonymous, or a private /dev/zero
  bool is_file = false;  // there is a file, if only /dev/zero
  uint64_t offset = 0;
};

struct RemapCall {
  uint64_t addr = 0;
  uint64_t old_length = 0;
  uint64_t new_length = 0;
  bool may_move = false;
  bool fixed = false;
  uint64_t new_addr = 0;  // with fixed what was asked for, otherwise the real model's answer (0: an error)
  uint64_t vma_end = 0;   // of the real vma that holds addr; 0: there is none
};

struct RemapFileCall {
  uint64_t addr = 0;
  uint64_t length = 0;
  int prot = 0;
  uint64_t index = 0;
  uint64_t vma_start = 0;  // of the real vma that holds addr; both 0: there is none
  uint64_t vma_end = 0;
};

// How far a load or a store got.
struct Access {
  Outcome outcome = Outcome::kOk;
  uint64_t addr = 0;  // the first address that failed
};

// A write's answer: bytes, or an errno.
struct Written {
  uint64_t count = 0;
  int err = 0;
};

// Calls answer an errno; 0 is success. An error changes nothing unless it says so.
class Model {
 public:
  explicit Model(Rules rules) : rules_(rules) {}

  // Every address space that is alive; the driver adds and removes.
  std::set<MemoryPtr> memories;

  int Map(Memory& memory, const MapCall& call);
  int Unmap(Memory& memory, uint64_t addr, uint64_t length);
  // A hole is ENOMEM; what lies before it is changed.
  int Protect(Memory& memory, uint64_t addr, uint64_t length, int prot);
  int Remap(Memory& memory, const RemapCall& call);
  uint64_t Brk(Memory& memory, uint64_t brk);
  // Holes are ENOMEM, after the rest was done.
  int DontNeed(Memory& memory, uint64_t addr, uint64_t length);
  int DontFork(Memory& memory, uint64_t addr, uint64_t length, bool dont_fork);
  int Sync(Memory& memory, uint64_t addr, uint64_t length);
  // mlock brings pages in, as MAP_POPULATE does; ENOMEM where it cannot, or at a hole.
  int Lock(Memory& memory, uint64_t addr, uint64_t length, bool lock);
  // remap_file_pages of [addr, addr + length) in the mapping [start, end) that the real model has there.
  int RemapFilePages(Memory& memory, const RemapFileCall& call);
  MemoryPtr Fork(const Memory& parent);

  Access Load(Memory& memory, uint64_t addr, std::span<std::byte> out);
  Access Store(Memory& memory, uint64_t addr, std::span<const std::byte> in);
  // Faults in every page of the range and copies nothing.
  Access TouchRange(Memory& memory, uint64_t addr, uint64_t length, bool write);
  // get_user_pages of one page, and a byte written through it. EFAULT or ENOMEM.
  int Gup(Memory& memory, uint64_t addr, bool write, bool force, std::byte value);

  // EFBIG beyond `limit`.
  int Truncate(Object& object, uint64_t size, uint64_t limit);
  int PunchHole(Object& object, uint64_t offset, uint64_t length);
  void WriteBack(Object& object, uint64_t first, uint64_t end);
  uint64_t ReadFile(const Object& object, uint64_t offset, std::span<std::byte> out) const;
  Written WriteFile(Object& object, uint64_t offset, std::span<const std::byte> in, uint64_t limit);

 private:
  Outcome Touch(Page& page, bool write) const;
  Page* Find(Memory& memory, uint64_t addr);
  static bool ExpandStack(Memory& memory, uint64_t page_number);
  Outcome Fault(Memory& memory, uint64_t addr, bool write, std::byte** bytes);
  template <class Visit>
  bool ForEach(Memory& memory, uint64_t addr, uint64_t length, Visit&& visit);
  void Populate(Memory& memory, uint64_t addr, uint64_t end);
  int RemapMoved(Memory& memory, const RemapCall& call, uint64_t old_length, uint64_t new_length);
  void DropPages(Object& object, uint64_t first, uint64_t end, bool drop_copies);

  Rules rules_;
};

}  // namespace naive
