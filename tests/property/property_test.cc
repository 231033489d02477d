// The property test: mm/ and the naive model agree on random cases, for every switch and preset.
//
//   CKPT_LONG=1     runs for minutes instead of seconds
//   CKPT_SEED=N     runs only the case that was drawn from seed N, with every call printed, at the
//                   length of CKPT_STEPS (a failure prints both); CKPT_PRESET=k18, CKPT_SWITCH=name=value
//                   and CKPT_SMALL=1 or CKPT_TIGHT=1 say under which semantics and in how much memory
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sstream>

#include "base/error.h"
#include "tests/property/driver.h"

namespace property {

void showValue(const Case& test, std::ostream& out) {
  out << "a case of seed " << test.seed << " with " << test.ops.size() << " ops";
}

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kSteps = 150;
constexpr uint64_t kFixedSeed = 20100501;

bool LongRun() {
  const char* value = std::getenv("CKPT_LONG");
  return value != nullptr && std::string_view(value) == "1";
}

milliseconds Budget(int short_ms) { return milliseconds(LongRun() ? short_ms * 20 : short_ms); }

// A CHECK of the model, or a crash, ends the process before anyone can say which case it was: say it on
// the way.
void OnDeath(int signal) {
  char line[128];
  const Progress& at = CurrentProgress();
  const int length = std::snprintf(line, sizeof line, "died in step %zu: CKPT_SEED=%llu CKPT_STEPS=%zu\n",
                                   at.step, static_cast<unsigned long long>(at.seed), at.step + 1);
  if (write(STDERR_FILENO, line, static_cast<size_t>(length)) < 0) _exit(2);
  std::signal(signal, SIG_DFL);
}

void CatchDeath() {
  std::signal(SIGABRT, OnDeath);
#ifndef __SANITIZE_ADDRESS__  // which has more to say of a crash
  std::signal(SIGSEGV, OnDeath);
#endif
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

// Runs `count` cases from `seed`; false after the first that fails, with its calls printed.
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

uint64_t FreshSeed() { return (uint64_t{std::random_device{}()} << 32) | std::random_device{}(); }

// Runs cases from a fresh seed until the time is over.
void RunFor(milliseconds budget, const Options& options, std::string_view name) {
  constexpr int kBatch = 10;
  const Clock::time_point end = Clock::now() + budget;
  const uint64_t seed = FreshSeed();
  const uint64_t steps_before = CurrentProgress().steps_total;
  const uint64_t discarded_before = CurrentProgress().discarded;
  const uint64_t faults_before = CurrentProgress().discard_faults;
  uint64_t batches = 0;
  while (Clock::now() < end) {
    if (!RunCases(seed + batches, kBatch, kSteps, options)) return;
    ++batches;
  }
  std::printf("%.*s: seed %llu, %llu cases, %llu steps\n", static_cast<int>(name.size()), name.data(),
              static_cast<unsigned long long>(seed), static_cast<unsigned long long>(batches * kBatch),
              static_cast<unsigned long long>(CurrentProgress().steps_total - steps_before));
  if (options.semantics.hints == mm::Hints::kOff) return;
  std::printf("  %llu pages discarded, %llu discard faults\n",
              static_cast<unsigned long long>(CurrentProgress().discarded - discarded_before),
              static_cast<unsigned long long>(CurrentProgress().discard_faults - faults_before));
}

class Property : public testing::Test {
 protected:
  void SetUp() override { CatchDeath(); }
};

TEST_F(Property, OneSeed) {
  const char* seed = std::getenv("CKPT_SEED");
  const char* steps = std::getenv("CKPT_STEPS");
  if (seed == nullptr) GTEST_SKIP() << "for one case by hand: CKPT_SEED and CKPT_STEPS";
  Options options;
  if (const char* preset = std::getenv("CKPT_PRESET")) options.semantics = mm::Generation(preset).value();
  if (const char* change = std::getenv("CKPT_SWITCH")) {
    ASSERT_TRUE(mm::SetSwitch(options.semantics, change));
  }
  if (std::getenv("CKPT_SMALL") != nullptr) options.memory = Memory::kSmall;
  if (std::getenv("CKPT_TIGHT") != nullptr) options.memory = Memory::kTight;
  options.trace = true;
  const Case test =
      MakeCase(std::strtoull(seed, nullptr, 0), steps != nullptr ? std::strtoull(steps, nullptr, 0) : kSteps);
  const std::optional<Failure> failure = RunCase(test, options);
  if (failure) FAIL() << "after step " << failure->step << ": " << failure->what;
}

TEST_F(Property, FixedSeed) { EXPECT_TRUE(RunCases(kFixedSeed, LongRun() ? 2000 : 100, kSteps, {})); }

TEST_F(Property, FreshSeed) { RunFor(Budget(5000), {}, "defaults"); }

TEST_F(Property, LongCases) { EXPECT_TRUE(RunCases(FreshSeed(), LongRun() ? 80 : 4, 2000, {})); }

// A step that makes room by writing out the last page of a file, and has memory left when it ends.
TEST_F(Property, SmallMemoryThatAStepFreesAgain) {
  EXPECT_FALSE(RunCase(MakeCase(6887843121899575781u, kSteps), {.memory = Memory::kSmall}));
}

// Every step that allocates may fail: nothing may be lost, counted twice or left locked.
TEST_F(Property, SmallMemory) { RunFor(Budget(3000), {.memory = Memory::kSmall}, "small memory"); }

// Less memory than the processes use: every page may be in swap at any step, and nothing may show it.
TEST_F(Property, TightMemory) { RunFor(Budget(5000), {.memory = Memory::kTight}, "tight memory"); }

TEST_F(Property, EachSwitchAlone) {
  for (const mm::Switch& row : mm::Switches()) {
    for (const std::string_view value : row.values.subspan(1)) {
      Options options;
      const std::string name = std::string(row.name) + "=" + std::string(value);
      ASSERT_TRUE(mm::SetSwitch(options.semantics, name));
      RunFor(Budget(500), options, name);
      if (HasFailure()) FAIL() << "with CKPT_SWITCH=" << name;
    }
  }
}

TEST_F(Property, EachGeneration) {
  for (const std::string_view name : mm::GenerationNames()) {
    RunFor(Budget(500), {.semantics = mm::Generation(name).value()}, name);
    if (HasFailure()) FAIL() << "with CKPT_PRESET=" << name;
  }
}

}  // namespace
}  // namespace property
