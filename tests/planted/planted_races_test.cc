// The search through interleavings finds what it is for: each bug of mm/planted.h that needs two CPUs is
// found in its race, within the bound of the races' own test.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "mm/planted.h"
#include "tests/planted/child.h"
#include "tests/races/race_world.h"

namespace races {
namespace {

constexpr unsigned kBound = 3;

struct Found {
  bool found = false;
  bool aborted = false;
  uint64_t schedules = 0;  // with those whose rest was known
  char what[160] = {};
};

uint64_t g_schedules = 0;

void OnAbort(int) {
  Found found;
  found.found = found.aborted = true;
  found.schedules = g_schedules;
  planted::SendAndExit(found);
}

Found Hunt(mm::Bug bug, const Spec& spec) {
  return planted::RunInChild(bug, OnAbort, [&] {
    const mm::MakeRace make = Maker(spec);
    mm::ExploreOptions options;
    options.cpus = static_cast<unsigned>(spec.cpus.size());
    options.preemptions = kBound;
    options.host_moves = spec.host_moves;
    const mm::Explored explored = mm::ExploreAll(
        [&] {
          ++g_schedules;
          return make();
        },
        options);
    Found found;
    found.found = explored.failure.has_value();
    found.schedules = g_schedules;
    if (explored.failure) std::strncpy(found.what, explored.failure->what.c_str(), sizeof found.what - 1);
    return found;
  });
}

struct Planted {
  mm::Bug bug;
  const char* name;
  const char* race;
};
constexpr Planted kPlanted[] = {
    {mm::Bug::kAnonFaultNoRecheck, "AnonFaultNoRecheck", "fault_against_fault_anonymous"},
    {mm::Bug::kFileFaultNoRecheck, "FileFaultNoRecheck", "fault_against_fault_private_file"},
    {mm::Bug::kSwapinNoRecheck, "SwapinNoRecheck", "M23_swapin_against_swapin"},
    {mm::Bug::kCowNoRecheck, "CowNoRecheck", "cow_break_by_two_threads"},
    {mm::Bug::kSwapinNoCacheRecheck, "SwapinNoCacheRecheck", "M23_swapin_of_a_slot_that_is_used_again"},
    {mm::Bug::kSwapinKeepsPageLock, "SwapinKeepsPageLock", "M23_swapin_store_against_store"},
    {mm::Bug::kReuseWithoutPageLock, "ReuseWithoutPageLock", "M18_contended_page_lock_wait"},
    {mm::Bug::kRmapBeforePte, "RmapBeforePte", "M27_cow_order_after_pte"},
    {mm::Bug::kTruncateSizeLast, "TruncateSizeLast", "M06_load_against_truncate"},
    {mm::Bug::kTruncateOnePass, "TruncateOnePass", "M05_store_against_truncate"},
    {mm::Bug::kFaultIgnoresSize, "FaultIgnoresSize", "M06_shared_load_against_truncate"},
    {mm::Bug::kTruncateCountIgnored, "TruncateCountIgnored", "M06_load_against_truncate_k18"},
    {mm::Bug::kForkWithoutLock, "ForkWithoutLock", "fork_against_swap_out"},
    {mm::Bug::kMoveWithoutFileLock, "MoveWithoutFileLock", "truncate_against_mremap_into_a_vma"},
    {mm::Bug::kMlockFlagLast, "MlockFlagLast", "unmap_against_mlock"},
    {mm::Bug::kDirtyBeforePte, "DirtyBeforePte", "fsync_against_store"},
    {mm::Bug::kMkcleanChainOnce, "MkcleanChainOnce", "nonlinear_fork_against_fsync"},
    {mm::Bug::kStackGrowsTwice, "StackGrowsTwice", "stack_growth_by_two_threads"},
    {mm::Bug::kSlotUserLate, "SlotUserLate", "shmem_reclaim_against_store"},
    {mm::Bug::kPunchMediumOnce, "PunchMediumOnce", "punch_against_fsync"},
    {mm::Bug::kConvertSeenEarly, "ConvertSeenEarly", "O12_conversion_without_memory_against_another_k18"},
    {mm::Bug::kInstallAfterTruncate, "InstallAfterTruncate", "O10_conversion_against_truncate_k18"},
    {mm::Bug::kRemovesUsedPage, "RemovesUsedPage", "drop_caches_against_store_k18"},
    {mm::Bug::kSwapoffOnePass, "SwapoffOnePass", "swapoff_against_fork"},
    // Page hinting, with two moves of the host.
    {mm::Bug::kNoDiscardList, "NoDiscardList", "G64_discard_fault_against_reuse_sign_off"},
    {mm::Bug::kHandlerEnablesFirst, "HandlerEnablesFirst", "G64_discard_fault_against_reuse_ipi_lists"},
    {mm::Bug::kUnmapLooksWithoutLock, "UnmapLooksWithoutLock",
     "G51_fault_without_page_lock_against_discard_fault"},
    {mm::Bug::kDiscardedNotLookedAt, "DiscardedNotLookedAt",
     "G51_fault_without_page_lock_against_discard_fault"},
    {mm::Bug::kMakeStableNoWait, "MakeStableNoWait", "G31_read_against_read"},
    {mm::Bug::kOffsetByOne, "OffsetByOne", "G31_read_against_read"},
    {mm::Bug::kBitsBeforeCounts, "BitsBeforeCounts", "G36_read_against_write"},
    {mm::Bug::kWritableNotConfirmed, "WritableNotConfirmed", "G78_last_unmap_against_a_writable_pte_key"},
    {mm::Bug::kWritableResetWhileMapped, "WritableResetWhileMapped",
     "G78_last_unmap_against_a_writable_pte_key"},
    {mm::Bug::kKeyClearedFirst, "KeyClearedFirst", "G84_last_unmap_of_a_changed_page_key"},
    {mm::Bug::kCopiesUnstable, "CopiesUnstable", "G53_cow_break_against_discard_fault"},
    {mm::Bug::kSlotFreedUnstable, "SlotFreedUnstable", "G96_swapin_that_frees_the_slot_against_load"},
};

void PrintTo(const Planted& planted, std::ostream* out) { *out << planted.name; }

class PlantedRace : public testing::TestWithParam<Planted> {};

TEST_P(PlantedRace, IsFound) {
  const Found found = Hunt(GetParam().bug, FindRace(GetParam().race));
  ASSERT_TRUE(found.found) << "not in " << found.schedules << " schedules of " << GetParam().race;
  std::printf("%s: after %llu schedules of %s: %s\n", GetParam().name,
              static_cast<unsigned long long>(found.schedules), GetParam().race,
              found.aborted ? "a CHECK" : found.what);
}

INSTANTIATE_TEST_SUITE_P(Each, PlantedRace, testing::ValuesIn(kPlanted),
                         [](const testing::TestParamInfo<Planted>& test) { return test.param.name; });

TEST(PlantedRaces, HoldWithoutABug) {
  for (const char* race : {"fault_against_fault_anonymous", "fork_against_swap_out", "fsync_against_store"}) {
    const Found found = Hunt(mm::Bug::kNone, FindRace(race));
    EXPECT_FALSE(found.found) << race << ": " << found.what;
  }
}

}  // namespace
}  // namespace races
