// The property test can fail: each bug of mm/planted.h is found by the same driver, within a known
// number of steps, and without a bug the same cases pass.
//
// The hunts are repeated with contents alone: no Validate(), no look at what counts as modified, only what a
// process could see itself.
#include "mm/planted.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "mm/machine.h"
#include "mm/rmap.h"
#include "tests/planted/child.h"
#include "tests/property/driver.h"

namespace property {
namespace {

constexpr size_t kSteps = 150;
constexpr uint64_t kFirstSeed = 1;
constexpr uint64_t kCases = 40;  // 6000 steps, in which a bug must be found unless it has more

// What a child says before it ends.
struct Report {
  bool found = false;
  bool aborted = false;
  uint64_t seed = 0;
  size_t step = 0;
  uint64_t steps_total = 0;
  char what[160] = {};
};

Report Finished(Report report) {
  report.seed = CurrentProgress().seed;
  report.steps_total = CurrentProgress().steps_total;
  return report;
}

void OnAbort(int) {
  Report report;
  report.found = report.aborted = true;
  report.step = CurrentProgress().step;
  planted::SendAndExit(Finished(report));
}

struct Planted {
  mm::Bug bug = mm::Bug::kNone;
  const char* name = "";
  const char* change = nullptr;  // the switch under which it can be seen
  bool soft_dirty = false;       // tracked
  uint64_t cases = kCases;
};
constexpr Planted kPlanted[] = {
    {mm::Bug::kCowWritesInPlace, "CowWritesInPlace"},
    {mm::Bug::kZeroPageWritable, "ZeroPageWritable"},
    {mm::Bug::kTruncateSkipsZap, "TruncateSkipsZap"},
    {mm::Bug::kForkForgetsRefcount, "ForkForgetsRefcount"},
    // By default a page is dirty, or out of the swap cache, before its pte can be.
    {mm::Bug::kDirtyPteDropped, "DirtyPteDropped", "reuse_rule=mapcount_keep_slot"},
    {mm::Bug::kSwapCountOffByOne, "SwapCountOffByOne"},
    {mm::Bug::kChainEntryLeftBehind, "ChainEntryLeftBehind"},
    {mm::Bug::kNonlinearOffsetLost, "NonlinearOffsetLost"},
    {mm::Bug::kSwapinNotSoftDirty, "SwapinNotSoftDirty", nullptr, true},
    // Few calls of mprotect meet a page that is clean just then.
    {mm::Bug::kMprotectNotSoftDirty, "MprotectNotSoftDirty", nullptr, true, 50 * kCases},
};

// Cases until one fails.
Report Hunt(const Planted& hunted, Checks checks) {
  Options options;
  options.checks = checks;
  options.soft_dirty = hunted.soft_dirty;
  if (hunted.change != nullptr) CHECK(mm::SetSwitch(options.semantics, hunted.change));
  return planted::RunInChild(hunted.bug, OnAbort, [&] {
    Report report;
    for (uint64_t seed = kFirstSeed; seed < kFirstSeed + hunted.cases && !report.found; ++seed) {
      const std::optional<Failure> failure = RunCase(MakeCase(seed, kSteps), options);
      if (!failure) continue;
      report.found = true;
      report.step = failure->step;
      std::strncpy(report.what, failure->what.c_str(), sizeof report.what - 1);
    }
    return Finished(report);
  });
}

void PrintTo(const Planted& planted, std::ostream* out) { *out << planted.name; }

class PlantedBug : public testing::TestWithParam<Planted> {
 protected:
  void Find(Checks checks) {
    const Report report = Hunt(GetParam(), checks);
    ASSERT_TRUE(report.found) << "not in " << GetParam().cases << " cases of " << kSteps << " steps";
    std::printf("%s: after %llu steps, in step %zu of the case of seed %llu: %s\n", GetParam().name,
                static_cast<unsigned long long>(report.steps_total), report.step,
                static_cast<unsigned long long>(report.seed), report.aborted ? "a CHECK" : report.what);
  }
};

TEST_P(PlantedBug, IsFound) { Find(Checks::kAll); }
TEST_P(PlantedBug, IsFoundByContentsAlone) { Find(Checks::kContentsOnly); }

INSTANTIATE_TEST_SUITE_P(Each, PlantedBug, testing::ValuesIn(kPlanted),
                         [](const testing::TestParamInfo<Planted>& test) { return test.param.name; });

// A page that nobody used between two looks was not referenced. No content shows this bug: reclaim finds
// nothing to take.
TEST(PlantedBugs, ReferencedNotCleared) {
  for (const mm::Bug bug : {mm::Bug::kNone, mm::Bug::kReferencedNotCleared}) {
    mm::g_planted_bug = bug;
    const auto machine = mm::Machine::Create({}).value();
    mm::Process& process = machine->spawn(1, "p");
    const mm::Vaddr addr =
        mm::sys_mmap(*process.mm, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0)
            .value();
    ASSERT_EQ(machine->touch(process, addr, 1, mm::Write::kYes).outcome, mm::Outcome::kOk);
    const mm::Pfn pfn = mm::pte_pfn(*process.mm->pgtable.find(addr));
    EXPECT_EQ(mm::page_referenced(*machine, pfn, mm::PageIs::kUnlocked), 1);
    EXPECT_EQ(mm::page_referenced(*machine, pfn, mm::PageIs::kUnlocked), bug == mm::Bug::kNone ? 0 : 1);
    ASSERT_EQ(machine->touch(process, addr, 1, mm::Write::kNo).outcome, mm::Outcome::kOk);
    EXPECT_EQ(mm::page_referenced(*machine, pfn, mm::PageIs::kUnlocked), 1);
  }
  mm::g_planted_bug = mm::Bug::kNone;
}

TEST(PlantedBugs, SameCasesPassWithoutABug) {
  for (const bool soft_dirty : {false, true}) {
    const Report report = Hunt({.soft_dirty = soft_dirty}, Checks::kAll);
    EXPECT_FALSE(report.found) << "step " << report.step << " of seed " << report.seed << ": " << report.what;
    EXPECT_EQ(report.steps_total, kCases * kSteps);
  }
}

}  // namespace
}  // namespace property
