// The model's basic words: addresses, page numbers, and how its system calls and faults answer.
#pragma once

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <expected>

#include "base/units.h"

namespace mm {

using base::kPageShift;
using base::kPageSize;

using Vaddr = uint64_t;  // A virtual address of a modelled process.
using Pgoff = uint64_t;  // A page index inside a file or object.
using Pid = uint32_t;

// A frame's number. It indexes mem_map and the arena; frames are never named by host address.
enum class Pfn : uint32_t {};
inline constexpr Pfn kZeroPfn{0};         // ZERO_PAGE: always zero, never freed, never written.
inline constexpr Pfn kNoPfn{0xffffffff};  // "No page": a failed allocation, a lookup that missed.

// The end of user space (47 bits, less the guard page), as on x86-64.
inline constexpr Vaddr TASK_SIZE = 0x7ffffffff000;

// How a system call of the model fails: the errno, and the signal that comes with it (SIGXFSZ).
struct SysError {
  int err = 0;
  int sig = 0;
  friend bool operator==(const SysError&, const SysError&) = default;
};
template <class T>
using SysResult = std::expected<T, SysError>;
inline std::unexpected<SysError> Err(int err, int sig = 0) { return std::unexpected(SysError{err, sig}); }

// What handle_mm_fault answers: a set of bits, as in 2.6.34. VM_FAULT_MINOR is the absence of bits.
using VmFault = unsigned;
inline constexpr VmFault VM_FAULT_MINOR = 0;
inline constexpr VmFault VM_FAULT_OOM = 0x01;
inline constexpr VmFault VM_FAULT_SIGBUS = 0x02;
inline constexpr VmFault VM_FAULT_MAJOR = 0x04;
inline constexpr VmFault VM_FAULT_WRITE = 0x08;  // The fault broke COW or allowed writing in place.
inline constexpr VmFault VM_FAULT_ERROR = VM_FAULT_OOM | VM_FAULT_SIGBUS;

// How a load, a store or a whole workload step of a process ends.
enum class Outcome : uint8_t { kOk, kSigsegv, kSigbus, kOom };

enum class Write : uint8_t { kNo, kYes };
enum class Force : uint8_t { kNo, kYes };

}  // namespace mm

// TRY for SysResult in mm/: return the system call's error from this function.
#define SYS_TRY(...)                               \
  ({                                               \
    auto sys_result_ = (__VA_ARGS__);              \
    if (!sys_result_) [[unlikely]]                 \
      return std::unexpected(sys_result_.error()); \
    *std::move(sys_result_);                       \
  })
#define SYS_TRY_VOID(...)                               \
  do {                                                  \
    auto sys_void_result_ = (__VA_ARGS__);              \
    if (!sys_void_result_) [[unlikely]]                 \
      return std::unexpected(sys_void_result_.error()); \
  } while (false)
