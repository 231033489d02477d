// The property test of soft-dirty tracking: the cases of property_test.cc, with clear_soft_dirty() at random
// moments (soft_dirty.h).
//
//   CKPT_LONG=1   runs for minutes instead of seconds
//   CKPT_SEED=N   the seed of the cases, which is printed, instead of a fresh one. A case that fails prints
//   its
//                 own; Property.OneSeed runs it, with CKPT_SOFT_DIRTY=1 beside the machine's variables
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/property/cases.h"

namespace property {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct Config {
  const char* name;
  const char* preset = "";  // or none: the defaults
  const char* change = "";  // a switch on top of it, or none
  Memory memory = Memory::kAmple;
  bool host = false;
};

std::vector<Config> Configs() {
  return {
      {"Defaults"},
      {"Tight", "", "", Memory::kTight},
      {"ReadsMakePages", "", "anon_read_fault=new_page"},
      {"HintingByPage", "gph2009"},
      {"HintingByPageTight", "gph2009", "", Memory::kTight, true},
      {"HintingByPteTight", "", "hints=writable", Memory::kTight, true},
      {"HintingBaseTight", "", "hints=base", Memory::kTight, true},
  };
}

std::string Variables(const Config& config) {
  std::string text = "CKPT_SOFT_DIRTY=1";
  if (*config.preset != 0) text += std::string(" CKPT_PRESET=") + config.preset;
  if (*config.change != 0) text += std::string(" CKPT_SWITCH=") + config.change;
  if (config.memory == Memory::kTight) text += " CKPT_TIGHT=1";
  if (config.host) text += " CKPT_HOST=1";
  return text;
}
void PrintTo(const Config& config, std::ostream* out) { *out << Variables(config); }

class SoftDirtyProperty : public testing::TestWithParam<Config> {
 protected:
  void SetUp() override { CatchDeath(); }
};

TEST_P(SoftDirtyProperty, WhatIsCleanIsUnchanged) {
  const Config& config = GetParam();
  Options options{.memory = config.memory, .host = config.host, .soft_dirty = true};
  if (*config.preset != 0) options.semantics = mm::Generation(config.preset).value();
  if (*config.change != 0) {
    ASSERT_TRUE(mm::SetSwitch(options.semantics, config.change));
  }
  const char* given = std::getenv("CKPT_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : FreshSeed();
  const Clock::time_point end = Clock::now() + milliseconds(LongRun() ? 40'000 : 1'500);
  const Progress before = CurrentProgress();
  uint64_t cases = 0;
  for (; Clock::now() < end; ++cases) {
    ASSERT_TRUE(RunCases(seed + cases, 1, kSteps, options)) << "with " << Variables(config);
  }
  const uint64_t clears = CurrentProgress().clears - before.clears;
  const uint64_t clean = CurrentProgress().clean - before.clean;
  const uint64_t soft_dirty = CurrentProgress().soft_dirty - before.soft_dirty;
  std::printf(
      "%s: CKPT_SEED=%llu, %llu cases, cleared %llu times; of pages asked about, %llu clean, %llu not\n",
      config.name, static_cast<unsigned long long>(seed), static_cast<unsigned long long>(cases),
      static_cast<unsigned long long>(clears), static_cast<unsigned long long>(clean),
      static_cast<unsigned long long>(soft_dirty));
  EXPECT_GT(clears, cases);
  EXPECT_GT(clean, clears) << "to call all pages soft-dirty is no answer";
  EXPECT_GT(soft_dirty, clears);
}

INSTANTIATE_TEST_SUITE_P(Each, SoftDirtyProperty, testing::ValuesIn(Configs()),
                         [](const auto& test) { return test.param.name; });

// Kernels of old, as far as they have the rules that this rests on: two writers never have one page.
TEST(SoftDirtyProperties, EachGeneration) {
  CatchDeath();
  for (const std::string_view name : mm::GenerationNames()) {
    const Options options{.semantics = mm::Generation(name).value(), .soft_dirty = true};
    const uint64_t seed = FreshSeed();
    EXPECT_TRUE(RunCases(seed, LongRun() ? 200 : 8, kSteps, options))
        << "with CKPT_SOFT_DIRTY=1 CKPT_PRESET=" << name;
    std::printf("%.*s: seed %llu\n", static_cast<int>(name.size()), name.data(),
                static_cast<unsigned long long>(seed));
  }
}

TEST(SoftDirtyProperties, EachSwitchAlone) {
  CatchDeath();
  const uint64_t seed = FreshSeed();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  for (const mm::Switch& row : mm::Switches()) {
    for (const std::string_view value : row.values.subspan(1)) {
      Options options{.soft_dirty = true};
      const std::string name = std::string(row.name) + "=" + std::string(value);
      ASSERT_TRUE(mm::SetSwitch(options.semantics, name));
      EXPECT_TRUE(RunCases(seed, LongRun() ? 50 : 2, kSteps, options))
          << "with CKPT_SOFT_DIRTY=1 CKPT_SWITCH=" << name;
    }
  }
}

}  // namespace
}  // namespace property
