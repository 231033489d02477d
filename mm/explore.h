// The search through the interleavings of a race on virtual CPUs: all of them up to a bound of preemptions,
// or as many as wanted at random.
//
// A preemption is a switch away from a CPU that could go on; an interrupt that is taken while something else
// could run counts as one, a move of the host does not. Switches away from a CPU that waits or has ended are
// free. So the bound limits how often a schedule is unkind, not how long it is (Musuvathi and Qadeer, PLDI
// 2007).
//
// Pruning (happens-before hashing with the remaining budget). Two operations on one object depend on each
// other unless both only look (Op, uses()). A prefix of a run is summed up by a hash for each CPU over its
// operations and, for each, the operations that it depends on. Prefixes with equal hashes differ only in the
// order of operations that can be exchanged, so they lead to the same state of the machine, the same CPUs are
// about to do the same, and what can follow within a budget of preemptions depends on nothing else but which
// CPU ran last. So a prefix is not followed again when one with the same hashes and the same last CPU was,
// with as many preemptions left or more. That keeps the bound exact, where partial-order reduction by sleep
// or persistent sets would have to add back what the bound cuts. It is sound as far as cpu.h's rule for the
// code between two points holds, and up to a collision of 64-bit hashes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "mm/cpu.h"
#include "mm/sched.h"

namespace mm {

// A race: what the CPUs do, on a machine of its own. Made anew for each schedule, always the same.
class Race {
 public:
  virtual ~Race() = default;
  // What CPU `cpu` does.
  virtual void Run(unsigned cpu) = 0;
  // After all have ended, on no CPU: what is wrong, or nothing.
  virtual std::optional<std::string> Check() = 0;
  // A hash of the state that the run ended in, for tests that compare searches.
  virtual uint64_t State() { return 0; }
  // Whether the host underneath may do something to the page that `object` stands for (page_state_object);
  // and does it.
  virtual bool HostMay(const void* object) { return object == nullptr; }
  virtual void HostMove(const void* object) { (void)object; }
};
using MakeRace = std::function<std::unique_ptr<Race>()>;

struct ExploreOptions {
  unsigned cpus = 2;
  unsigned preemptions = 3;    // exhaustive: the bound
  bool prune = true;           // exhaustive
  bool keep_states = false;    // fill Explored::states
  uint64_t schedules_max = 0;  // stop after so many; 0: exhaustive goes to its end. Required for the others
  uint64_t seed = 1;           // of the others
  unsigned pct_depth = 3;
  uint64_t points_max = 100'000;  // of one run
  unsigned ticks = 0;             // timer ticks that may come, on each CPU
  std::function<void()> tick = nullptr;
  unsigned host_moves = 0;  // moves of the host, each before somebody looks at or changes that page's state
};

struct Explored {
  uint64_t schedules = 0;  // that were run to their end, each an interleaving of its own (exhaustive)
  uint64_t pruned = 0;     // whose rest was known
  uint64_t points_longest = 0;
  bool complete = false;  // exhaustive: nothing is left within the bound
  std::optional<Failure> failure;
  std::string schedule;  // of the failure, as FormatSchedule() has it
  std::set<uint64_t> states;

  // "12345 schedules (678 pruned), longest 90 points"; with the failure and its schedule, if any.
  std::string Report() const;
};

// Every interleaving with at most options.preemptions preemptions. Ends at the first failure.
Explored ExploreAll(const MakeRace& make, const ExploreOptions& options);
// options.schedules_max of them, random or by PCT priorities, each from a seed that follows from
// options.seed.
Explored ExploreRandom(const MakeRace& make, const ExploreOptions& options);
Explored ExplorePct(const MakeRace& make, const ExploreOptions& options);
// One run by `scheduler`.
Explored RunOnce(const MakeRace& make, const ExploreOptions& options, Scheduler& scheduler);

}  // namespace mm
