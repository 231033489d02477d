// The property test: mm/ and the naive model agree on random cases, for every switch and preset.
//
//   CKPT_LONG=1     runs for minutes instead of seconds
//   CKPT_SEED=N     runs only the case that was drawn from seed N, with every call printed, at the
//                   length of CKPT_STEPS (a failure prints both); CKPT_PRESET=k18, CKPT_SWITCH=name=value,
//                   CKPT_SMALL=1 or CKPT_TIGHT=1, and CKPT_HOST=1 say under which semantics, in how much
//                   memory, and whether a host underneath has less; CKPT_SOFT_DIRTY=1: with the checks of
//                   soft_dirty_test.cc
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "tests/property/cases.h"

namespace property {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr uint64_t kFixedSeed = 20100501;

milliseconds Budget(int short_ms) { return milliseconds(LongRun() ? short_ms * 20 : short_ms); }

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
  options.host = std::getenv("CKPT_HOST") != nullptr;
  options.soft_dirty = std::getenv("CKPT_SOFT_DIRTY") != nullptr;
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
      RunFor(Budget(250), options, name);
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
