// The names by which a workload says how a step ends: "ok", the signals of a fault, and the errno
// names of system calls.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "mm/types.h"

namespace workload {

inline constexpr std::string_view kOk = "ok";

// Whether `name` can stand in `expect { outcome }`.
bool IsOutcome(std::string_view name);
// All of them, for an error message.
std::string OutcomeNames();

// "EINVAL"; "errno 123" for one that the model has no name for.
std::string ErrnoName(int error_number);
// "ok", "SIGSEGV", "SIGBUS" or "OOM".
std::string_view OutcomeName(mm::Outcome outcome);
// A failed system call: the signal where there is one ("SIGXFSZ"), else the errno.
std::string OutcomeName(mm::SysError error);
// An exec or a checkpoint that was refused: the errno's name, or "" for a code that is not an
// outcome of the workload but trouble of the tool.
std::string OutcomeName(const base::Error& error);

}  // namespace workload
