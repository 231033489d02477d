// The oracle can find: each planted bug that a process could see is found by random steps within 100,000 of
// them.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "live/oracle.h"
#include "live/random_oracle.h"
#include "mm/planted.h"
#include "tests/planted/child.h"

namespace live {
namespace {

constexpr uint64_t kStepsMax = 100'000;

struct Found {
  bool found = false;
  bool aborted = false;  // a CHECK of the model, on the way
  uint64_t steps = 0;
  char what[160] = {};
};

uint64_t g_steps = 0;

void OnAbort(int) {
  Found found;
  found.found = found.aborted = true;
  found.steps = g_steps;
  planted::SendAndExit(found);
}

Found Hunt(mm::Bug bug, uint64_t steps) {
  return planted::RunInChild(bug, OnAbort, [&] {
    Found found;
    const auto oracle = Oracle::Create({});
    if (!oracle) return found;
    const auto report = RunRandom(
        **oracle,
        {.steps = steps, .seed = 1, .shrink = false, .progress = [](uint64_t done) { g_steps = done; }});
    if (!report) std::strncpy(found.what, report.error().what.c_str(), sizeof found.what - 1);
    if (!report || !report->difference) return found;
    found.found = true;
    found.steps = report->steps;
    std::strncpy(found.what, report->difference->what.c_str(), sizeof found.what - 1);
    return found;
  });
}

struct Planted {
  mm::Bug bug;
  const char* name;
  bool may_abort = false;  // the model may find out by itself, before there is anything to compare
};
constexpr Planted kPlanted[] = {
    {mm::Bug::kCowWritesInPlace, "CowWritesInPlace"},
    {mm::Bug::kZeroPageWritable, "ZeroPageWritable"},
    {mm::Bug::kTruncateSkipsZap, "TruncateSkipsZap"},
    {mm::Bug::kForkForgetsRefcount, "ForkForgetsRefcount", true},
    {mm::Bug::kMprotectKeepsWrite, "MprotectKeepsWrite"},
    {mm::Bug::kMoveLosesPage, "MoveLosesPage"},
    {mm::Bug::kDontneedLeavesPage, "DontneedLeavesPage"},
    {mm::Bug::kTailNotZeroed, "TailNotZeroed"},
    {mm::Bug::kForkCopiesDontfork, "ForkCopiesDontfork"},
    {mm::Bug::kSwapCountOffByOne, "SwapCountOffByOne", true},
    {mm::Bug::kNonlinearOffsetLost, "NonlinearOffsetLost"},
};

class PlantedOracle : public testing::TestWithParam<Planted> {};

TEST_P(PlantedOracle, IsFound) {
  const Found found = Hunt(GetParam().bug, kStepsMax);
  EXPECT_TRUE(found.found) << found.what;
  EXPECT_TRUE(!found.aborted || GetParam().may_abort);
  std::printf("%s: found after %llu steps%s: %s\n", GetParam().name,
              static_cast<unsigned long long>(found.steps), found.aborted ? " (a CHECK)" : "", found.what);
}

INSTANTIATE_TEST_SUITE_P(Each, PlantedOracle, testing::ValuesIn(kPlanted),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(PlantedOracle, WithoutABugNothingIsFound) {
  const Found found = Hunt(mm::Bug::kNone, 20'000);
  EXPECT_FALSE(found.found) << found.what;
  EXPECT_STREQ(found.what, "");
}

}  // namespace
}  // namespace live
