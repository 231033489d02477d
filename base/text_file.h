// Reading a text that people write: a workload, a schedule.
#pragma once

#include <cstddef>
#include <string>

#include "base/error.h"

namespace base {

// The whole of a file, or of a pipe up to its end. `what` is what errors call it: "workload". kTooBig beyond
// `bytes_max`; kIo for a directory; kNotFound.
Result<std::string> ReadTextFile(const std::string& what, const std::string& path, size_t bytes_max);

}  // namespace base
