#include "tests/property/cases.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sstream>

#include "base/error.h"

namespace property {

void showValue(const Case& test, std::ostream& out) {
  out << "a case of seed " << test.seed << " with " << test.ops.size() << " ops";
}

namespace {

void OnDeath(int signal) {
  char line[128];
  const Progress& at = CurrentProgress();
  const int length = std::snprintf(line, sizeof line, "died in step %zu: CKPT_SEED=%llu CKPT_STEPS=%zu\n",
                                   at.step, static_cast<unsigned long long>(at.seed), at.step + 1);
  if (write(STDERR_FILENO, line, static_cast<size_t>(length)) < 0) _exit(2);
  std::signal(signal, SIG_DFL);
}

// Cases drawn from RapidCheck's random numbers; a failing one gets smaller by leaving ops out, and
// then by making their words smaller.
rc::Gen<Case> Cases(size_t steps) {
  return rc::Gen<Case>([steps](const rc::Random& random, int) {
    const Case test = MakeCase(rc::Random(random).next(), steps);
    const auto with = [seed = test.seed](std::vector<Op> ops) { return Case{seed, std::move(ops)}; };
    return rc::shrinkable::map(
        rc::shrinkable::shrinkRecur(test.ops,
                                    [](const std::vector<Op>& ops) { return rc::shrink::removeChunks(ops); }),
        with);
  });
}

}  // namespace

bool LongRun() {
  const char* value = std::getenv("CKPT_LONG");
  return value != nullptr && std::string_view(value) == "1";
}

void CatchDeath() {
  std::signal(SIGABRT, OnDeath);
#ifndef __SANITIZE_ADDRESS__  // which has more to say of a crash
  std::signal(SIGSEGV, OnDeath);
#endif
}

uint64_t FreshSeed() {
  if (const char* given = std::getenv("CKPT_SEED")) return std::strtoull(given, nullptr, 0);
  return (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
}

bool RunCases(uint64_t seed, int count, size_t steps, const Options& options) {
  Case failed;
  rc::detail::TestParams params;
  params.seed = seed;
  params.maxSuccess = count;
  const rc::detail::TestResult result = rc::detail::checkTestable(
      [&] {
        const Case test = *Cases(steps);
        const std::optional<Failure> failure = RunCase(test, options);
        if (failure) failed = test;
        if (failure) RC_FAIL(base::Format("after step %zu: %s", failure->step, failure->what.c_str()));
      },
      rc::detail::TestMetadata{}, params);
  if (result.is<rc::detail::SuccessResult>()) return true;
  std::ostringstream text;
  rc::detail::printResultMessage(result, text);
  ADD_FAILURE() << "RapidCheck seed " << seed << "\n"
                << text.str() << "\nwhole case: CKPT_SEED=" << failed.seed << " CKPT_STEPS=" << steps
                << "; the smallest failing case:";
  Options traced = options;
  traced.trace = true;
  if (!failed.ops.empty()) RunCase(failed, traced);
  return false;
}

}  // namespace property
