// --cpus, --seed, --schedule and --save-schedule: how a run spreads over virtual CPUs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/checkpoint.h"
#include "cli/command.h"
#include "mm/sched.h"
#include "workload/executor.h"

namespace cli {

class CpuOptions {
 public:
  void AddTo(const Command& command);
  // Whether any of them was given.
  bool given() const;

  // Before anything runs: reads the schedule, if there is one, and refuses options that contradict each other
  // or the workload, and a place where no schedule can be written. That must not be a file of `used`.
  base::Result<void> Prepare(const workload::Script& script, std::vector<UsedFile> used);
  // What the executor needs. Requires: Prepare. This must outlive the run.
  void Apply(workload::Options& options) const;
  // After a run that ended with `ran`: saves its schedule, if that is wanted. Returns `ran`, if that is an
  // error, or what went wrong with the saving.
  base::Result<void> Keep(const workload::Executor& executor, base::Result<void> ran);
  // After the error line of a run that failed: its schedule on standard error, if it was not saved, and why.
  void ShowFailed() const;

 private:
  base::Result<void> ReadSchedule();
  base::Result<void> Save(const base::Result<std::string>& text) const;

  std::optional<unsigned> cpus_;
  std::optional<uint64_t> seed_;
  std::string schedule_path_;
  std::string save_path_;
  mm::Schedule schedule_;
  std::string unsaved_;   // of a failed run: the schedule
  std::string not_kept_;  // and why it is not where it should be
};

}  // namespace cli
