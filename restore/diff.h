// Diff of two memories: their processes and vmas, and what a load at each address would give, page
// by page. Where pages are (present, clean, in a cache) is not compared.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "ckpt/source.h"

namespace restore {

struct Difference {
  enum class Kind : uint8_t {
    kProcess,  // in one memory only, or another parent or name
    kLayout,   // break, stack and other bounds, auxv, limits
    kVma,      // [start, end) is mapped in one only, or otherwise
    kContent,  // pages of [start, end) read differently
  };
  Kind kind;
  uint32_t pid = 0;
  uint64_t start = 0;
  uint64_t end = 0;
  std::string what;  // for people
};

struct DiffReport {
  std::vector<Difference> differences;  // at most `differences_max`, by process and address
  uint64_t difference_count = 0;        // all of them
  uint64_t pages_compared = 0;          // pages mapped in both
  uint64_t pages_different = 0;
  bool same() const { return difference_count == 0; }
};

struct DiffOptions {
  size_t differences_max = 1000;
  // Told now and then how many pages of the vmas that both have were compared.
  std::function<void(uint64_t pages)> progress = nullptr;
  const std::atomic<bool>* stop = nullptr;  // Polled: kInterrupted once it is true.
};

// Both sources are prepared. kIo where a file cannot be read.
base::Result<DiffReport> Diff(ckpt::MemorySource& a, ckpt::MemorySource& b, const DiffOptions& options);

}  // namespace restore
