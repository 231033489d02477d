// Random workloads for the oracle, and a difference cut down to the few steps that show it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/error.h"
#include "live/oracle.h"
#include "proto/workload.pb.h"

namespace live {

struct RandomOptions {
  uint64_t steps = 0;            // in all; 0: no end
  uint64_t seed = 1;             // the first sequence's; the others follow from it
  std::chrono::seconds time{0};  // 0: no end
  bool pageout = false;          // MADV_PAGEOUT too: of use where there is swap
  bool shrink = true;            // a difference to the fewest steps that show it
  const std::atomic<bool>* stop = nullptr;
  std::function<void(uint64_t steps)> progress = nullptr;
};

struct RandomReport {
  uint64_t steps = 0;
  uint64_t sequences = 0;
  // Sequences that ended early, as they came to a known difference: how many, by id.
  std::map<std::string, uint64_t, std::less<>> known;
  std::optional<Difference> difference;
  // The shortest workload found that shows the difference; without one the last sequence. Its steps expect
  // what the model answered.
  ckpt_pb::Workload workload;
};

// Runs random sequences of steps until one differs, or the options say to stop. Errors: trouble.
base::Result<RandomReport> RunRandom(Oracle& oracle, const RandomOptions& options);

// Runs a workload's steps in their order, whatever they end with: those of processes and files that are not
// there are left out. Nothing: the two agree, or differ in a known way. What the model ended each step with
// that was done is put into its `expect`.
base::Result<std::optional<Difference>> RunSteps(Oracle& oracle, ckpt_pb::Workload& workload);

// The fewest steps, and the simplest, that still differ. Requires: the workload does.
base::Result<ckpt_pb::Workload> Shrink(Oracle& oracle, const ckpt_pb::Workload& workload,
                                       const std::atomic<bool>* stop);

// The workload as a file, with both sides' values as a comment at the top.
std::string FoundText(const ckpt_pb::Workload& workload, const Difference& difference);

}  // namespace live
