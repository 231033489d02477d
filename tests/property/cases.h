// Many random cases from one seed, and what is said of the first that fails.
#pragma once

#include "tests/property/driver.h"

namespace property {

inline constexpr size_t kSteps = 150;  // of a case

// CKPT_LONG=1.
bool LongRun();
// CKPT_SEED where it is set.
uint64_t FreshSeed();
// A CHECK of the model, or a crash, ends the process before anyone can say which case it was: from here on
// it is said on the way.
void CatchDeath();

// Runs `count` cases from `seed`; false after the first that fails, which is a failure of the running test,
// with its seed and the calls of the smallest case that fails like it.
bool RunCases(uint64_t seed, int count, size_t steps, const Options& options);

}  // namespace property
