// Executor: runs a workload on a machine of the model, step by step.
//
// The same script gives the same machine after each step, always: processes get the pids 1, 2, 3, ...
// in the order in which they are made, and every random choice has a seed of its own (the step's, or
// one derived from the workload's seed, the step and the round of its repeat). So a run that goes on
// from an image ends like one that was never interrupted.
//
// Files that `exec` names by path are read from the system and never written, with or without a disk
// folder.
//
// On a machine with several CPUs the same holds for the same script, seed and number of CPUs.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "mm/machine.h"
#include "mm/sched.h"
#include "workload/calls.h"
#include "workload/elf_exec.h"
#include "workload/script.h"
#include "workload/step_result.h"

namespace workload {

enum class Next : uint8_t { kGoOn, kStop };

struct CheckpointRequest {
  std::string label;
  std::vector<mm::Pid> pids;  // ascending; empty only for the label "end" when all have exited
  std::string state;          // opaque: what Resume needs to go on after this step
};
// Reached by each checkpoint step, and after the last step with the label kEndLabel and all processes
// that are alive. An error ends the run, unless it has the name that the step expects (EBUSY, ENOSYS).
using CheckpointFn = std::function<base::Result<Next>(mm::Machine&, const CheckpointRequest&)>;

struct Options {
  // Files of the workload are kept in this folder; empty: in memory, over what they are made from.
  std::string disk_dir = {};
  // Looked at between steps and inside long ones: true ends the run with kInterrupted.
  const std::atomic<bool>* stop = nullptr;
  // Called now and then while a step runs, and between steps: for showing that it goes on.
  std::function<void()> busy = nullptr;
  // Called after every step that was done, those inside a repeat too; `where` is "FILE:LINE: step OP".
  // An error ends the run.
  std::function<base::Result<void>(mm::Machine&, const std::string& where)> after_step = nullptr;
  // Called when no step is under way, with the last one that was done: after every step where there is one
  // CPU, after every stretch up to a barrier where there are several. An error ends the run.
  std::function<base::Result<void>(mm::Machine&, const std::string& where)> at_rest = nullptr;

  // Told of each call that a step makes. Requires: one CPU.
  CallObserver* observer = nullptr;

  // The switch `hints` of the machine, over what the script says; empty: that.
  std::string hints = {};

  // How many virtual CPUs; 0: as the script says. With several, steps of different processes run at the same
  // time (together.h), and who goes on when follows from `schedule_seed`, or from `schedule`, which must
  // outlive the run.
  unsigned cpus = 0;
  uint64_t schedule_seed = 1;
  const mm::Schedule* schedule = nullptr;
};

// How many CPUs the machine of such a run has.
unsigned CpuCount(const Script& script, const Options& options);

struct Session;

class Executor {
 public:
  // The machine with its files and processes, before the first step. `script` must outlive the
  // executor. Errors of a file are "PATH:LINE:COLUMN: file 'NAME': ...", as Script's are.
  static base::Result<std::unique_ptr<Executor>> Start(const Script& script, Options options);

  // Goes on with a machine that was restored from an image whose checkpoint gave `state`. kChanged if
  // the script is not the one that made it (machine, files, processes and the steps up to there count;
  // later steps may differ), kCorrupt if the state is damaged or does not fit the machine. A process
  // that the image does not hold is unknown to the steps that follow. Counts are no longer checked.
  static base::Result<std::unique_ptr<Executor>> Resume(const Script& script,
                                                        std::unique_ptr<mm::Machine> machine,
                                                        std::string_view state, Options options);
  // How many steps of the top level lie behind the checkpoint that gave `state`. Refuses another script as
  // Resume does, without a machine.
  static base::Result<size_t> ResumesAt(const Script& script, std::string_view state);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Runs to the end of the script, or until `checkpoint` answers kStop; then the next Run goes on
  // behind that checkpoint. kExpectation: "FILE:LINE: step store: expected SIGBUS, got ok". After an
  // error the machine is as the failing step left it, and the run cannot go on. Where the CPUs themselves
  // failed ("FILE:LINE: steps up to here: deadlock: ..."; kExpectation, or kNoMemory) there is no machine any
  // more: only ScheduleText and the counts of steps are left.
  base::Result<void> Run(const CheckpointFn& checkpoint);

  // Does one step that is not in the script, whatever it ends with: its `expect` is not looked at. `number`
  // takes the place of the step's in the script, from which seeds derive. Errors as Run's, with "step OP".
  // Requires: one CPU; the step has passed the checks of a script, and names nothing that is not there.
  base::Result<StepResult> Do(const ckpt_pb::Step& step, uint64_t number);

  // Requires, as TakeMachine and the look-ups below: the CPUs did not fail.
  mm::Machine& machine();
  // The machine outlives the executor; nothing else may be called after that.
  std::unique_ptr<mm::Machine> TakeMachine();

  // With several CPUs: what ran when, as --schedule reads it; after a failure up to there. Empty with one.
  // kTooBig for a run of more stretches than are kept.
  base::Result<std::string> ScheduleText() const;

  // Whether all steps are done, and how far the run is: steps of the top level.
  bool finished() const { return finished_; }
  size_t steps_done() const { return next_step_; }
  size_t steps_total() const { return script_.steps().size(); }

  // A process that is alive, by its name in the script; nullptr if there is none.
  mm::Process* FindProcess(std::string_view name);
  // A region of such a process as it is now; kNotFound without the process, kInvalid without the
  // region.
  base::Result<Region> FindRegion(std::string_view process, const std::string& region);

 private:
  Executor(const Script& script, Options options);
  base::Result<void> MakeMachine();
  base::Result<StepResult> DoStep(const ScriptStep& step, uint64_t round_seed, const std::string& round,
                                  mm::Pid* pid);
  base::Result<void> RunStep(const ScriptStep& step, uint64_t round_seed, const std::string& round);
  base::Result<void> RunRepeat(const ScriptStep& step, uint64_t round_seed, const std::string& round);
  // The steps from here to the next barrier or checkpoint, on several CPUs.
  base::Result<void> RunStretch();
  base::Result<void> RunTogether(size_t end);
  base::Result<Next> RunCheckpoint(const ScriptStep& step, const CheckpointFn& checkpoint);
  base::Result<void> CheckExpectation(const ScriptStep& step, const StepResult& result,
                                      const std::string& round, mm::Process* process);
  std::string Where(const ScriptStep& step, const std::string& round) const;
  // Where, for what the step reads and cannot: with the column too, as mistakes of the file have it.
  std::string InputWhere(const ScriptStep& step, const std::string& round) const;

  const Script& script_;
  Options options_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<mm::Scheduler> scheduler_;
  std::unique_ptr<mm::Cpus> cpus_;  // null: one
  size_t next_step_ = 0;
  bool finished_ = false;
  bool resumed_ = false;
  std::string failure_details_;  // lines behind the first, of a run that the CPUs ended
};

}  // namespace workload
