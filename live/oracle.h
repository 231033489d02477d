// Oracle: the running kernel does what the model does, and both are compared.
//
// After each step the oracle compares how each call ended, the vmas, the bytes of every page that the kernel
// has in memory, which private pages are modified (the model's get_dirty_page against PAGEMAP_SCAN), and the
// files (of more than 1 MiB their sizes). Comparing brings no page in; now and then, at checkpoints and at
// the end, everything that is mapped is read as well, which does, and all files.
//
// What the kernel does by itself is not compared: which clean pages are in memory, and what reclaim and swap
// do.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "live/compare.h"
#include "live/known_differences.h"
#include "live/real_machine.h"
#include "mm/machine.h"
#include "workload/calls.h"

namespace live {

struct OracleOptions {
  RealOptions real;
  bool excuse = true;  // known differences; if not, they are differences like others
  const std::atomic<bool>* stop = nullptr;
  uint64_t every = 1;  // steps from one comparison to the next; at least 1
  uint64_t everything =
      64;  // comparisons from one that reads all that is mapped to the next; 0: the last alone
};

class Oracle final : public workload::CallObserver {
 public:
  // kUnsupported, kIo: this system lets no oracle work; the words say what is missing.
  static base::Result<std::unique_ptr<Oracle>> Create(OracleOptions options);

  // Forgets what came of the last run.
  void Clear();
  // A new run, on a machine of one CPU that outlives it: real processes and files for those of the machine.
  base::Result<void> Begin(mm::Machine& machine);
  void Called(mm::Pid pid, const workload::Call& call) override;
  // kExpectation: the run is over, as the two differ; difference() or known() says how. Another code is
  // trouble.
  base::Result<void> StepDone(const std::string& where) override;
  // Compares everything: at a checkpoint, and after the last step. As StepDone.
  base::Result<void> CompareAll(const std::string& where);

  // Ends the processes, and takes swap away that was made for them. kIo: swap stays, and how to get rid of
  // it.
  base::Result<void> Close();

  const std::optional<Difference>& difference() const { return difference_; }
  // The known difference that ended the run.
  const KnownDifference* known() const { return known_; }
  uint64_t steps() const { return steps_; }
  uint64_t comparisons() const { return comparisons_; }

 private:
  explicit Oracle(OracleOptions options) : options_(std::move(options)) {}
  base::Result<void> Answered(mm::Pid pid, const workload::Call& call, const workload::Answer& kernel,
                              std::span<const std::byte> bytes);
  base::Result<void> Compare(Depth depth, const std::string& where);
  bool TouchesTail(const workload::Call& call);
  void NoteTails(const mm::Process& process, const workload::Call& call);
  base::Result<void> Settle(base::Result<void> done, const std::string& where);

  OracleOptions options_;
  std::unique_ptr<RealMachine> real_;
  std::unique_ptr<Comparer> comparer_;
  mm::Machine* machine_ = nullptr;
  base::Result<void> called_;  // what came of the calls of this step
  // Files with bytes behind their end that a shared mapping wrote: the model and the kernel may make them
  // zero at different times. And their sizes, as they were before this call.
  std::map<mm::FileId, uint64_t> tails_;
  bool flags_changed_ = true;  // a call may have changed flags of vmas since they were compared
  std::optional<Difference> difference_;
  const KnownDifference* known_ = nullptr;
  uint64_t steps_ = 0;  // of all runs
  uint64_t comparisons_ = 0;
};

// "munmap(0x1000, 0x2000)"
std::string CallText(const workload::Call& call);
// "ok", "ENOMEM", "SIGBUS at 0x7000", "0x7f12000"
std::string AnswerText(const workload::Answer& answer);

}  // namespace live
