// --cpus, --seed, --schedule and --save-schedule: how a run spreads over virtual CPUs.
#pragma once

#include <optional>
#include <string>

#include "cli/command.h"
#include "mm/sched.h"
#include "workload/executor.h"

namespace cli {

class CpuOptions {
 public:
  void AddTo(CLI::App& command);
  // Reads the schedule, if there is one, and sets what the executor needs. kInvalid for options that
  // contradict each other. This must outlive the run.
  base::Result<void> Apply(workload::Options& options);
  // After the run, well ended or not: saves the schedule, if that is wanted. kTooBig if it was not kept.
  base::Result<void> Keep(const workload::Executor& executor);
  // After the error line of a run that did not go as expected: its schedule on standard error, if it was not
  // saved.
  void ShowFailed() const;

 private:
  // How else one comes to the same run: "--seed 1 gives the same run again".
  std::string SameRunAgain() const;

  std::optional<unsigned> cpus_;
  std::optional<uint64_t> seed_;
  std::string schedule_path_;
  std::string save_path_;
  mm::Schedule schedule_;
  std::string kept_;      // the text of the run's schedule
  std::string not_kept_;  // why there is none
};

}  // namespace cli
