// Soft-dirty tracking beside the naive model (mm/soft_dirty.h): cleared at random moments, and judged after
// each step by the bytes that the naive model has. For the driver's own files only.
//
// What must hold of the modified pages of private mappings:
//   at the clear     all are clean, but for those that are pinned
//   from then on     a clean one was a modified page then, at the same address, and had the same bytes
//   after each step  that writes nothing (reclaim, swapoff, fork, mprotect ...), what was clean before still
//   is
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "tests/property/world.h"

namespace property {

class SoftDirtyCheck {
 public:
  explicit SoftDirtyCheck(World& world) : world_(world) {}

  // Before a step, whose words say whether this is a moment to clear.
  std::optional<std::string> Before(const Op& op);
  std::optional<std::string> After(const Op& op);

  struct Stat {
    uint64_t clears = 0;
    uint64_t clean = 0;  // answers, after steps
    uint64_t soft_dirty = 0;
  };
  const Stat& stat() const { return stat_; }

 private:
  using Pages = std::map<uint64_t, naive::PageBytes>;  // modified pages by page number
  // An address space since the last clear. A fork's copy begins with its parent's.
  struct Since {
    std::shared_ptr<const Pages> then = std::make_shared<Pages>();
    std::set<uint64_t> clean;  // after the last step
  };

  std::optional<std::string> Clear();
  bool IsPinned(mm::MmStruct& mm, mm::Vaddr addr) const;
  std::optional<std::string> CheckMemory(const Proc& proc, Since& since, bool writes);
  Since& SinceOf(const Proc& proc);

  World& world_;
  Stat stat_;
  std::map<naive::MemoryPtr, Since> since_;
};

}  // namespace property
