// How hard Compression::kAuto compresses: as hard as leaves the disk with something to write.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>

namespace image {

class Pace {
 public:
  // A level of zstd, 0 for none.
  int level() const { return kLevels[step_.load(std::memory_order_relaxed)]; }

  // Called by the one who writes, for each chunk: how long it waited for it, and how long it took to write.
  void Wrote(std::chrono::nanoseconds waited, std::chrono::nanoseconds wrote) {
    late_ = waited > wrote ? late_ + 1 : 0;
    early_ = waited * 4 < wrote ? early_ + 1 : 0;
    const size_t step = step_.load(std::memory_order_relaxed);
    if (late_ >= kPatience && step > 0) Move(step - 1);
    if (early_ >= kPatience && step + 1 < kLevels.size()) Move(step + 1);
  }

 private:
  // Those that differ in speed by about a half.
  static constexpr std::array kLevels = {0, -7, -3, -1, 1, 3, 5, 7};
  static constexpr int kPatience = 4;

  void Move(size_t step) {
    step_.store(step, std::memory_order_relaxed);
    late_ = early_ = 0;
  }

  std::atomic<size_t> step_{4};
  int late_ = 0;
  int early_ = 0;
};

}  // namespace image
