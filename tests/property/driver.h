// The driver of the property test: random system calls, loads and stores, run on mm::Machine and on the
// naive model at once. After each step it compares outcomes, the contents of every mapped page and of
// every file, what is mapped where, and which private pages count as modified; and it runs
// mm::Validate.
//
// A case is a list of ops, and an op is a kind and a few random words. What an op does is worked out
// from the words and from the state at its turn, so that any list of ops is a good case: a failing one
// is made smaller by leaving ops out. Small words pick simple things.
//
// The kinds that a case uses and how often are drawn anew for each case (swarm testing): a case without
// munmap, or with little but fork and store, reaches states that an even mixture hardly ever does.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mm/semantics.h"

namespace property {

enum class Kind : uint8_t {
  kStore,
  kLoad,
  kTouch,
  kMmap,
  kMunmap,
  kMprotect,
  kMremap,
  kBrk,
  kMadvise,
  kFork,
  kCloneVm,
  kSpawn,
  kExit,
  kRead,
  kWrite,
  kTruncate,
  kPunchHole,
  kMsync,
  kFsync,
  kDropCache,
  kGup,
  kPin,
  kUnpin,
  kLimit,
  kDirtyScan,
  kMlock,
  kMunlock,
  kRemapFilePages,
  kReclaim,
  kPageOut,
  kSwapoff,
  kCount,
};

struct Op {
  Kind kind = Kind::kStore;
  std::array<uint32_t, 24> words{};
};

struct Case {
  uint64_t seed = 0;  // of the file contents; MakeCase draws the ops from it, too
  std::vector<Op> ops;
};

Case MakeCase(uint64_t seed, size_t steps);

// What is checked after each step.
enum class Checks : uint8_t { kAll, kContentsOnly };  // kContentsOnly: what the process could see itself
// kSmall runs out of frames: from the step on at which none is free, only Validate() is checked. An OOM
// while frames are free is a difference there, too.
// kTight has less memory than the processes use, and swap: outcomes and contents are those of kAmple.
enum class Memory : uint8_t { kAmple, kSmall, kTight };

struct Options {
  mm::Semantics semantics = {};
  Checks checks = Checks::kAll;
  Memory memory = Memory::kAmple;
  // A host underneath that is short of memory, also where there are no hints (it pages then) and in
  // Memory::kTight. Otherwise there is one where semantics.hints is on, short of memory in Memory::kAmple.
  bool host = false;
  bool soft_dirty = false;  // clear_soft_dirty() at random moments, and what soft_dirty() says (soft_dirty.h)
  uint32_t validate_every = 1;  // steps from one mm::Validate to the next; after the last step there is one
  bool trace = false;           // print each call to standard error before it is made
};

struct Failure {
  size_t step = 0;  // of the op that it was found after
  std::string what;
};

// Runs a case to its end or its first failure. A CHECK of the model aborts the process.
std::optional<Failure> RunCase(const Case& test, const Options& options);

// Where the running case is, for whoever dies in it.
struct Progress {
  uint64_t seed = 0;
  size_t step = 0;
  uint64_t steps_total = 0;  // of all cases
  uint64_t host_steps = 0;   // and what hosts did between them: at most one before each step
  uint64_t discarded = 0;    // pages that a host took for good
  uint64_t discard_faults = 0;
  uint64_t paged_out = 0;  // pages that a host wrote to its paging store
  // Of soft-dirty tracking: how often it was cleared, and what modified pages were said to be after steps.
  uint64_t clears = 0;
  uint64_t clean = 0;
  uint64_t soft_dirty = 0;
};
const Progress& CurrentProgress();

}  // namespace property
