// Pagemap: which pages of a live process are there, and of what kind: PAGEMAP_SCAN (Linux 6.7), and the
// entries of /proc/PID/pagemap where that is missing.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace live {

// Categories of a page, as PAGEMAP_SCAN has them.
inline constexpr uint64_t kPageIsFile = uint64_t{1} << 2;     // not anonymous: of a file or a shared object
inline constexpr uint64_t kPageIsPresent = uint64_t{1} << 3;  // in a page table
inline constexpr uint64_t kPageIsSwapped = uint64_t{1} << 4;
inline constexpr uint64_t kPageIsPfnzero = uint64_t{1} << 5;  // the zero page

// Consecutive pages of the same categories.
struct PageRegion {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t categories = 0;
  friend bool operator==(const PageRegion&, const PageRegion&) = default;
};

class Pagemap {
 public:
  enum class Interface : uint8_t {
    kScan,
    kEntries,  // knows nothing of the zero page: it looks like an anonymous one
  };
  // What this kernel has.
  static Interface Supported();

  // Of a process that the caller may trace. kNotFound where there is none, kIo where that is not allowed.
  static base::Result<Pagemap> Open(pid_t pid, Interface interface);

  Interface interface() const { return interface_; }
  // Appends the pages of [start, end) that are present or swapped, ascending, with the four categories above.
  // With kEntries the range is read entry by entry, 8 bytes a page: ask for what is mapped.
  base::Result<void> Scan(uint64_t start, uint64_t end, std::vector<PageRegion>* pages) const;

 private:
  Pagemap(base::Fd fd, Interface interface) : fd_(std::move(fd)), interface_(interface) {}
  base::Result<void> ReadEntries(uint64_t start, uint64_t end, std::vector<PageRegion>* pages) const;

  base::Fd fd_;
  Interface interface_;
};

}  // namespace live
