// The model's locks, taken where the sources take them. The model has one CPU, so a lock that would
// have to wait can never be given: taking a held one, or giving back a free one, is a CHECK. A
// trylock answers, which is how the sources' "somebody else holds it" paths run.
//
// Lock order, outermost first: mmap_sem, i_shared_sem, page lock (PG_locked, page.h),
// page_table_lock. The types fit std::lock_guard, std::unique_lock and std::shared_lock.
#pragma once

#include <cstdint>

#include "base/check.h"

namespace mm {

class SpinLock {
 public:
  void lock() {
    CHECK(!held_);
    held_ = true;
  }
  bool try_lock() {
    if (held_) return false;
    held_ = true;
    return true;
  }
  void unlock() {
    CHECK(held_);
    held_ = false;
  }
  bool held() const { return held_; }

 private:
  bool held_ = false;
};

// i_shared_sem: a sleeping lock; the same rules with one CPU.
using Semaphore = SpinLock;

// mmap_sem: several readers or one writer.
class RwSemaphore {
 public:
  void lock() {
    CHECK(holders_ == 0);
    holders_ = -1;
  }
  void unlock() {
    CHECK(holders_ == -1);
    holders_ = 0;
  }
  void lock_shared() {
    CHECK(holders_ >= 0);
    ++holders_;
  }
  void unlock_shared() {
    CHECK(holders_ > 0);
    --holders_;
  }
  bool held() const { return holders_ != 0; }

 private:
  int32_t holders_ = 0;  // -1: a writer
};

}  // namespace mm
