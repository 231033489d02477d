// A zram swap device of the running kernel, made for one benchmark and removed after it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"

namespace bench {

// The program's --swap: whether benchmarks may make swap devices.
extern bool g_may_swap;

class Zram {
 public:
  // kUnsupported with the reason: not allowed (no --swap), not root, no zram, no mkswap.
  static base::Result<std::optional<Zram>> Make(uint64_t bytes);
  Zram(Zram&& other) noexcept : number_(other.number_) { other.number_ = -1; }
  Zram& operator=(Zram&&) = delete;
  ~Zram();

 private:
  explicit Zram(int number) : number_(number) {}
  int number_;  // of /dev/zramN; -1: moved away
};

}  // namespace bench
