// The differences between the model, which has the rules of Linux 2.6.34, and today's kernel that are known
// and wanted. A call that falls under one of them is no finding; what comes behind it is not compared, as the
// two go separate ways from there. Nothing else is excused.
//
// For each there is a workload, tests/oracle/known/ID.textproto, which shows that it is really there.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "live/maps.h"
#include "mm/machine.h"
#include "workload/calls.h"

namespace live {

// A call that both sides have done, and what is known of it.
struct Situation {
  const mm::Process& process;
  const workload::Call& call;
  const workload::Answer& kernel;
  // The call shows or clears what a shared mapping may have written behind the end of its file.
  bool tail_touched;
  // The kernel's vmas now.
  const std::function<std::vector<LiveVma>()>& kernel_vmas;
};

struct KnownDifference {
  std::string_view id;
  std::string_view reason;
  // The first kernel, major * 1000 + minor, that differs: older ones may agree with the model.
  unsigned since;
  // Whether a call is a case of it, however it ended.
  bool (*covers)(const Situation& situation);
  // Whether it is why a page of a file with such bytes (Situation::tail_touched) differs: `addr` is the first
  // byte that does. nullptr: never.
  bool (*covers_byte)(const mm::Vma& vma, uint64_t addr) = nullptr;
};

std::span<const KnownDifference> KnownDifferences();
// major * 1000 + minor of the kernel that runs here; 0: it does not say.
unsigned RunningKernel();
// The one that this is a case of; nullptr: none.
const KnownDifference* FindKnownDifference(const Situation& situation);
const KnownDifference* FindKnownDifference(const mm::Vma& vma, uint64_t addr);

}  // namespace live
