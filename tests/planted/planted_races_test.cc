// The search through interleavings finds what it is for: each bug of mm/planted.h that needs two CPUs is
// found in its race, within the bound of the races' own test.
//
// A planted bug may end in a CHECK of the model outside of the run, so each hunt is a child process; an abort
// there counts as found.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "mm/planted.h"
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

int g_report_fd = -1;
uint64_t g_schedules = 0;

void Send(const Found& found) {
  if (write(g_report_fd, &found, sizeof found) != sizeof found) _exit(2);
}

void OnAbort(int) {
  Found found;
  found.found = found.aborted = true;
  found.schedules = g_schedules;
  Send(found);
  _exit(0);
}

// The child's whole life.
[[noreturn]] void HuntInChild(mm::Bug bug, const Spec& spec) {
  std::signal(SIGABRT, OnAbort);
  if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(2);
  mm::g_planted_bug = bug;
  const mm::MakeRace make = Maker(spec);
  mm::ExploreOptions options;
  options.cpus = static_cast<unsigned>(spec.cpus.size());
  options.preemptions = kBound;
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
  Send(found);
  _exit(0);
}

Found Hunt(mm::Bug bug, const Spec& spec) {
  int fds[2];
  CHECK(pipe(fds) == 0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    close(fds[0]);
    g_report_fd = fds[1];
    HuntInChild(bug, spec);
  }
  close(fds[1]);
  Found found;
  ssize_t got = 0;
  do {
    got = read(fds[0], &found, sizeof found);
  } while (got < 0 && errno == EINTR);
  close(fds[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_EQ(got, static_cast<ssize_t>(sizeof found)) << "the child ended with status " << status;
  return found;
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
