// A zram swap device of the running kernel, made for one run and removed after it: for the oracle and for
// benchmarks.
#pragma once

#include <cstdint>

#include "base/error.h"

namespace live {

class Zram {
 public:
  // In use as swap, before any other. kUnsupported with the reason: not root, or a kernel without zram.
  static base::Result<Zram> Make(uint64_t bytes);
  Zram(Zram&& other) noexcept : number_(other.number_) { other.number_ = -1; }
  Zram& operator=(Zram&&) = delete;
  // Takes it away: swapoff, and the device. kIo: it stays; the words say how to get rid of it.
  base::Result<void> Remove();
  ~Zram();  // Remove(), if that was not done

 private:
  explicit Zram(int number) : number_(number) {}
  int number_;  // of /dev/zramN; -1: moved away
};

}  // namespace live
