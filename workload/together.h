// Together: a stretch of a workload's steps on several virtual CPUs, up to the next barrier or checkpoint.
//
// Each process does its own steps in their order. A fork or clone_vm stands in the order of both: it waits
// until an earlier process of the child's name has done its steps, and the child's steps wait for it. A CPU
// that is free takes the process that has waited longest; a step runs to its end on that CPU. Everything else
// is up to the scheduler.
//
// Internal to workload/: executor.h is the way in.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "mm/cpu.h"
#include "workload/script.h"

namespace workload {

// One execution of one step, with what tells the rounds of its repeats apart.
struct StepRun {
  const ScriptStep* step = nullptr;
  uint64_t round_seed = 0;
  std::string round;  // " (round 2 of 5)"
};

// The processes in whose order a step stands: its own, and the one that it makes.
std::vector<std::string> ProcessesOf(const ckpt_pb::Step& step, const std::string& first_process);

// Where one process is among the steps: those that are not its own are passed over.
class Cursor {
 public:
  // Steps [first, end) of `steps`, which must outlive it.
  Cursor(const std::vector<ScriptStep>& steps, size_t first, size_t end, uint64_t seed, std::string process,
         const std::string& first_process);
  bool at_end() const { return frames_.empty(); }
  // Requires: not at the end.
  StepRun Now() const;
  void Advance();
  // Whether both stand at the same execution of the same step.
  bool SamePlace(const Cursor& other) const;

 private:
  struct Frame {
    const std::vector<ScriptStep>* steps;
    size_t index;
    size_t end;
    uint64_t round;  // from 0
    uint64_t times;
    uint64_t number;  // of the repeat
    uint64_t seed;    // of the round
  };
  bool Concerns(const ScriptStep& step) const;
  void Settle();
  static uint64_t RoundSeed(uint64_t outer, uint64_t number, uint64_t round);

  std::vector<Frame> frames_;
  std::string process_;
  std::string first_process_;
};

class Together {
 public:
  using Do = std::function<base::Result<void>(const StepRun&)>;
  Together(const Script& script, size_t first, size_t end);

  // One CPU's part: takes steps and does them, until none is left or one has failed.
  void RunCpu(const Do& step);
  // The first error of a step.
  const std::optional<base::Error>& error() const { return error_; }

 private:
  struct Lane {
    Cursor cursor;
    bool busy = false;
    uint64_t waits_since = 0;
  };
  using Lanes = std::map<std::string, Lane, std::less<>>;

  Lane* FindRunnable();
  bool IsRunnable(const std::string& process, const Lane& lane);
  bool AllDone() const;
  std::vector<Lane*> Involved(const Lane& lane);

  std::string first_process_;
  Lanes lanes_;
  uint64_t clock_ = 0;
  std::optional<base::Error> error_;
};

}  // namespace workload
