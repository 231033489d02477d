// What can be known of a workload before it runs. Errors are "PATH:LINE:COLUMN: ...", kInvalid.
//
// The names are followed step by step the way a run makes and drops them: a fork makes a process
// with the regions of its parent, an exit drops one, an exec replaces the regions, an unlink frees a
// file's name. A step that is expected to fail makes nothing. The body of a repeat is followed
// twice, so that what one round leaves behind is seen by the next.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "workload/located.h"

namespace workload {

struct ScriptNames {
  std::vector<std::string> processes;  // before the first step; never empty
  std::vector<std::string> labels;     // of the checkpoint steps
};

// Requires: `workload` is a ckpt_pb::Workload that passed CheckTexts.
base::Result<ScriptNames> CheckWorkload(const Located& workload);

// The fields of one step by themselves, without names: what must be there, what goes together,
// numbers in range. Requires: `step` is a ckpt_pb::Step that passed CheckTexts.
base::Result<void> CheckStepFields(const Located& step);

// A name of a process, region, file or label: letters, digits, '_', '-' and '.', not first; at most
// 64. `field` is where it stands.
base::Result<void> CheckName(const Located& located, const char* field, const std::string& name);

// What a file is made from. Requires: `file` is a ckpt_pb::Workload::File.
base::Result<void> CheckFileSpec(const Located& file);

}  // namespace workload
