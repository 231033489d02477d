// The model's locks, taken where the sources take them. With one CPU a lock that would have to wait can never
// be given: taking a held one, or giving back a free one, is a CHECK. With several (cpu.h) the CPU waits, and
// also a release by another CPU than the holder's, an order other than LockClass has it, and a sleep under
// a spin lock are found. A trylock answers, which is how the sources' "somebody else holds it" paths run.
//
// Guards take them for a block: Guard, ReadGuard (a semaphore, for reading), TryGuard (which says whether it
// could). The innermost locks (LockClass) are held for a moment only, with no scheduling point inside: lock
// and unlock are one point.
#pragma once

#include <cstdint>
#include <utility>

#include "base/check.h"
#include "mm/cpu.h"

namespace mm {

template <LockClass kClass>
class Lock {
 public:
  void lock(Where where = Where::current()) { Take(where, false); }
  // Another lock of the class is held (the parent's, in fork).
  void lock_nested(Where where = Where::current()) { Take(where, true); }
  bool try_lock(Where where = Where::current()) {
    if (smp()) [[unlikely]]
      t_cpus->Point({OpKind::kTrylock, LockName(kClass), this, nullptr, where});
    if (held_) return false;
    held_ = true;
    if (smp()) [[unlikely]]
      t_cpus->Acquired(kClass, this, where);
    return true;
  }
  void unlock(Where where = Where::current()) {
    if (smp()) [[unlikely]] {
      if (!IsInnermost(kClass)) t_cpus->Point({OpKind::kUnlock, LockName(kClass), this, nullptr, where});
      t_cpus->Released(kClass, this, where);
    }
    CHECK(held_);
    held_ = false;
  }
  bool held() const { return held_; }

 private:
  void Take(Where where, bool nested) {
    if (smp()) [[unlikely]]
      Wait(where, nested);
    CHECK(!held_);
    held_ = true;
  }
  [[gnu::noinline]] void Wait(Where where, bool nested) {
    t_cpus->CheckOrder(kClass, where, nested);
    const auto is_free = [](const void* lock) { return !static_cast<const Lock*>(lock)->held_; };
    t_cpus->Point({OpKind::kLock, LockName(kClass), this, is_free, where, IsInnermost(kClass)});
    t_cpus->Acquired(kClass, this, where);
  }

  bool held_ = false;
};

// page_table_lock, and the innermost ones: spin locks.
using PageTableLock = Lock<LockClass::kPageTableLock>;
// i_shared_sem, i_mutex: sleeping locks.
using SharedSem = Lock<LockClass::kISharedSem>;
using InodeMutex = Lock<LockClass::kInodeMutex>;

// mmap_sem, and the freezer: several readers or one writer.
template <LockClass kClass>
class RwSemaphore {
 public:
  void lock(Where where = Where::current()) { TakeWrite(where, false); }
  void lock_nested(Where where = Where::current()) { TakeWrite(where, true); }
  void unlock(Where where = Where::current()) {
    Leave(where);
    CHECK(holders_ == -1);
    holders_ = 0;
  }
  void lock_shared(Where where = Where::current()) {
    if (smp()) [[unlikely]] {
      t_cpus->CheckOrder(kClass, where, false);
      const auto no_writer = [](const void* sem) {
        return static_cast<const RwSemaphore*>(sem)->holders_ >= 0;
      };
      t_cpus->Point({OpKind::kLock, LockName(kClass), this, no_writer, where});
      t_cpus->Acquired(kClass, this, where);
    }
    CHECK(holders_ >= 0);
    ++holders_;
  }
  void unlock_shared(Where where = Where::current()) {
    Leave(where);
    CHECK(holders_ > 0);
    --holders_;
  }
  bool held() const { return holders_ != 0; }

 private:
  void TakeWrite(Where where, bool nested) {
    if (smp()) [[unlikely]] {
      t_cpus->CheckOrder(kClass, where, nested);
      const auto is_free = [](const void* sem) {
        return static_cast<const RwSemaphore*>(sem)->holders_ == 0;
      };
      t_cpus->Point({OpKind::kLock, LockName(kClass), this, is_free, where});
      t_cpus->Acquired(kClass, this, where);
    }
    CHECK(holders_ == 0);
    holders_ = -1;
  }
  void Leave(Where where) {
    if (smp()) [[unlikely]] {
      t_cpus->Point({OpKind::kUnlock, LockName(kClass), this, nullptr, where});
      t_cpus->Released(kClass, this, where);
    }
  }

  int32_t holders_ = 0;  // -1: a writer
};
using MmapSem = RwSemaphore<LockClass::kMmapSem>;
using Freezer = RwSemaphore<LockClass::kFreezer>;
using InvalidateLock = RwSemaphore<LockClass::kInvalidate>;

template <class L>
class [[nodiscard]] Guard {
 public:
  explicit Guard(L& lock, Where where = Where::current()) : lock_(lock), where_(where) { lock_.lock(where_); }
  ~Guard() { lock_.unlock(where_); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  L& lock_;
  Where where_;
};

// That can be given back before the block ends.
template <class L>
class [[nodiscard]] UnlockableGuard {
 public:
  explicit UnlockableGuard(L& lock, Where where = Where::current()) : lock_(&lock), where_(where) {
    lock_->lock(where_);
  }
  ~UnlockableGuard() { Unlock(); }
  UnlockableGuard(const UnlockableGuard&) = delete;
  UnlockableGuard& operator=(const UnlockableGuard&) = delete;
  void Unlock() {
    if (L* lock = std::exchange(lock_, nullptr); lock != nullptr) lock->unlock(where_);
  }

 private:
  L* lock_;
  Where where_;
};

// Of a lock that may not be there.
template <class L>
class [[nodiscard]] MaybeGuard {
 public:
  explicit MaybeGuard(L* lock, Where where = Where::current()) : lock_(lock), where_(where) {
    if (lock_ != nullptr) lock_->lock(where_);
  }
  ~MaybeGuard() {
    if (lock_ != nullptr) lock_->unlock(where_);
  }
  MaybeGuard(const MaybeGuard&) = delete;
  MaybeGuard& operator=(const MaybeGuard&) = delete;

 private:
  L* lock_;
  Where where_;
};

// Another lock of the same class is held.
template <class L>
class [[nodiscard]] NestedGuard {
 public:
  explicit NestedGuard(L& lock, Where where = Where::current()) : lock_(lock), where_(where) {
    lock_.lock_nested(where_);
  }
  ~NestedGuard() { lock_.unlock(where_); }
  NestedGuard(const NestedGuard&) = delete;
  NestedGuard& operator=(const NestedGuard&) = delete;

 private:
  L& lock_;
  Where where_;
};

template <class L>
class [[nodiscard]] ReadGuard {
 public:
  explicit ReadGuard(L& lock, Where where = Where::current()) : lock_(lock), where_(where) {
    lock_.lock_shared(where_);
  }
  ~ReadGuard() { lock_.unlock_shared(where_); }
  ReadGuard(const ReadGuard&) = delete;
  ReadGuard& operator=(const ReadGuard&) = delete;

 private:
  L& lock_;
  Where where_;
};

template <class L>
class [[nodiscard]] TryGuard {
 public:
  explicit TryGuard(L& lock, Where where = Where::current())
      : lock_(lock), where_(where), held_(lock_.try_lock(where_)) {}
  ~TryGuard() {
    if (held_) lock_.unlock(where_);
  }
  TryGuard(const TryGuard&) = delete;
  TryGuard& operator=(const TryGuard&) = delete;
  explicit operator bool() const { return held_; }

 private:
  L& lock_;
  Where where_;
  bool held_;
};

}  // namespace mm
