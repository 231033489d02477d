// How a step ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"

namespace workload {

struct StepResult {
  std::string outcome{kOkOutcome};
  std::string detail;             // more for people: where it failed
  std::optional<uint64_t> at;     // where an access ended early, as Expect.at counts
  std::optional<uint64_t> bytes;  // moved by read or write
  uint64_t bytes_wanted = 0;      // and what was asked
  // A program that is not there or is none: bad input, unless the step expects an outcome by name.
  std::optional<base::Error> input_error;
  std::string mismatch;  // a check of bytes that failed, in words

  static constexpr const char* kOkOutcome = "ok";
  bool ok() const { return outcome == kOkOutcome; }
};

}  // namespace workload
