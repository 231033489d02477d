// What an image keeps of a run, so that it can go on: ckpt_pb::ExecutorState, as bytes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"
#include "proto/workload.pb.h"
#include "workload/session.h"

namespace workload {

// The state before step `next_step` of the top level.
std::string SaveState(const Session& session, size_t next_step);

// What the bytes say, checked against the script: kCorrupt if they cannot be read, kChanged if the script is
// not the one that was running.
base::Result<ckpt_pb::ExecutorState> ReadState(std::string_view state, const Script& script);

// Gives the session its processes and regions back, and answers the next step. The bytes come from
// outside: kCorrupt if they break a rule, kChanged if the session's script is not the one that was
// running. Requires: the session has its machine, and no processes yet.
base::Result<size_t> LoadState(std::string_view state, Session& session);

}  // namespace workload
