// What a step asks of the kernel, call by call, with the model's answer: for who asks a real kernel the same
// and compares (live/oracle.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/error.h"
#include "mm/machine.h"

namespace workload {

// How a call ended: well, with an errno, or with a signal. A load or store that failed has the signal, or for
// want of memory ENOMEM, and where; a write that RLIMIT_FSIZE stopped has EFBIG and SIGXFSZ.
struct Answer {
  int err = 0;
  int sig = 0;
  uint64_t value = 0;  // an address, a count of bytes; or the address that could not be accessed
  bool ok() const { return err == 0 && sig == 0; }
  friend bool operator==(const Answer&, const Answer&) = default;
};

struct Call {
  enum class Op : uint8_t {
    kMmap,            // addr, length, prot, flags, -, offset; `file`
    kMunmap,          // addr, length
    kMprotect,        // addr, length, prot
    kMremap,          // addr, old length, new length, flags, new addr
    kBrk,             // the break as it was, the one that is wanted; the answer is the new one
    kMadvise,         // addr, length, advice
    kMsync,           // addr, length, flags
    kRemapFilePages,  // addr, length, prot, page, flags
    kMlock,           // addr, length
    kMunlock,         // addr, length
    kMlockall,        // flags
    kMunlockall,
    kFork,     // pid of the child
    kCloneVm,  // the same
    kExit,
    kExec,
    kSetrlimit,     // RLIMIT_FSIZE, RLIMIT_STACK
    kLoad,          // addr, length; `bytes`
    kStore,         // addr, length; `bytes`
    kTouch,         // addr, length, whether by writing
    kGetUserPages,  // addr, length, whether for writing, whether by force; `bytes`
    kPread,         // offset, length; `file`, `bytes`
    kPwrite,        // the same
    kFtruncate,     // size; `file`
    kPunchHole,     // offset, length; `file`
    kFsync,         // `file`
    kUnlink,        // `file`
    kCreate,        // `file`, that is there now
  };
  Op op;
  std::array<uint64_t, 6> args{};
  const mm::File* file = nullptr;
  std::span<const std::byte> bytes =
      {};  // what was stored, or what was loaded; only for as long as the call is told
  Answer answer = {};
};

// "mmap"
const char* CallName(Call::Op op);

// Whom an Executor tells of each call, when the model has answered.
class CallObserver {
 public:
  virtual ~CallObserver() = default;
  virtual void Called(mm::Pid pid, const Call& call) = 0;
  // The step is done, and what it expects not yet looked at. An error ends the run.
  virtual base::Result<void> StepDone(const std::string& where) = 0;
};

}  // namespace workload
