// Steps on memory that is short: swap, reclaim, locked memory, non-linear mappings.
#include <gmock/gmock.h>

#include "tests/support/support.h"
#include "tests/workload/run.h"

namespace workload {
namespace {

// Each is a workload that must run to its end, with Validate after every step.
struct Good {
  const char* name;
  const char* text;
};
void PrintTo(const Good& good, std::ostream* out) { *out << good.name; }
class MemoryStepTest : public testing::TestWithParam<Good> {};

TEST_P(MemoryStepTest, Runs) { EXPECT_EQ(ErrorOf(GetParam().text), ""); }

const Good kSteps[] = {
    {"more_than_the_memory", R"(
machine { memory: "256k" swap: "2MiB" }
step { map { region: "a" length: "1MiB" } }
step { store { region: "a" fill { random { seed: 1 } } } expect { modified: 256 } }
step { load { region: "a" equals { random { seed: 1 } } } }
step { reclaim {} expect { rss: 0 swap: 256 } }
step { load { region: "a" length: "16k" equals { random { seed: 1 } } } expect { anon_rss: 4 swap: 252 } }
step { unmap { region: "a" } expect { rss: 0 swap: 0 } }
)"},
    {"a_host_with_little_memory", R"(
machine { memory: "4MiB" host: "256k" semantics: "hints=writable" }
file { name: "f" size: "1MiB" generator: "random" seed: 7 }
step { map { region: "f" file: "f" shared: true prot: "r--" } }
step { load { region: "f" } }
step { map { region: "a" length: "1MiB" } }
step { store { region: "a" fill { random { seed: 1 } } } expect { modified: 256 } }
step { host_take {} }
step { load { region: "a" equals { random { seed: 1 } } } }
step { load { region: "f" } }
)"},
    {"a_host_without_hints", R"(
machine { memory: "4MiB" host: "256k" }
step { host_take { pages: 3 } }
step { map { region: "a" length: "1MiB" } }
step { store { region: "a" fill { random { seed: 1 } } } }
step { load { region: "a" equals { random { seed: 1 } } } }
)"},
    {"no_host", "step { host_take {} expect { outcome: \"EINVAL\" } }"},
    {"swap_is_full", R"(
machine { memory: "256k" swap: "256k" }
step { map { region: "a" length: "1MiB" } }
step { store { region: "a" } expect { outcome: "OOM" } }
step { madvise { region: "a" advice: DONTNEED } expect { rss: 0 swap: 0 } }
step { store { region: "a" length: "384k" } }
)"},
    {"without_swap_only_files_are_reclaimed", R"(
file { name: "f" size: "64k" generator: "text" seed: 1 }
step { map { region: "a" length: "64k" } }
step { store { region: "a" fill { byte: 1 } } }
step { map { region: "m" file: "f" } }
step { load { region: "m" } expect { file_rss: 16 } }
step { reclaim {} expect { anon_rss: 16 file_rss: 0 file { name: "f" cached: 0 } } }
step { load { region: "m" equals { text { seed: 1 } } } }
)"},
    {"reclaim_so_many", R"(
machine { swap: "1MiB" }
step { map { region: "a" length: "64k" } }
step { store { region: "a" fill { byte: 1 } } }
step { reclaim { pages: 5 } expect { anon_rss: 11 swap: 5 } }
step { reclaim { pages: 1 } expect { anon_rss: 10 swap: 6 } }
step { reclaim { pages: 100 } expect { anon_rss: 0 swap: 16 } }
step { reclaim {} expect { swap: 16 } }
step { load { region: "a" equals { byte: 1 } } }
)"},
    {"fork_and_cow_of_swapped_pages", R"(
machine { swap: "1MiB" }
step { map { region: "a" length: "64k" } }
step { store { region: "a" fill { byte: 1 } } }
step { reclaim {} expect { swap: 16 } }
step { fork { child: "c" } expect { swap: 16 } }
step { process: "c" store { region: "a" length: "32k" fill { byte: 2 } } expect { swap: 8 anon_rss: 8 } }
step { load { region: "a" equals { byte: 1 } } expect { swap: 0 } }
step { process: "c" load { region: "a" length: "32k" equals { byte: 2 } } }
step { process: "c" load { region: "a" offset: "32k" equals { byte: 1 } } }
)"},
    {"shared_memory_has_no_swap_entries", R"(
machine { swap: "1MiB" }
step { map { region: "a" length: "64k" shared: true } }
step { store { region: "a" fill { byte: 1 } } }
step { reclaim {} expect { rss: 0 swap: 0 } }
step { fork { child: "c" } }
step { process: "c" load { region: "a" equals { byte: 1 } } }
)"},
    {"pageout", R"(
machine { swap: "1MiB" }
file { name: "f" size: "64k" generator: "text" seed: 1 }
step { map { region: "a" length: "64k" } }
step { store { region: "a" fill { byte: 1 } } }
step { madvise { region: "a" offset: "16k" length: "16k" advice: PAGEOUT } expect { anon_rss: 12 swap: 4 } }
step { fork { child: "c" } }
step { madvise { region: "a" advice: PAGEOUT } expect { anon_rss: 12 } }
step { process: "c" exit {} }
step { madvise { region: "a" advice: PAGEOUT } expect { anon_rss: 0 swap: 16 } }
step { load { region: "a" equals { byte: 1 } } }
step { map { region: "m" file: "f" } }
step { touch { region: "m" } }
step { madvise { region: "m" advice: PAGEOUT } expect { file_rss: 0 file { name: "f" cached: 0 } } }
step { mlock { region: "m" } }
step { madvise { region: "m" advice: PAGEOUT } expect { outcome: "EINVAL" anon_rss: 32 } }
)"},
    {"mlock", R"(
machine { swap: "1MiB" }
step { map { region: "a" length: "64k" } expect { locked: 0 } }
step { mlock { region: "a" offset: "16k" length: "16k" } expect { locked: 4 vmas: 3 anon_rss: 4 } }
step { store { region: "a" } }
step { reclaim {} expect { anon_rss: 4 swap: 12 } }
step { munlock { region: "a" } expect { locked: 0 vmas: 1 } }
step { reclaim {} expect { anon_rss: 0 swap: 16 } }
step { mlock { region: "a" } expect { locked: 16 anon_rss: 16 swap: 0 } }
step { fork { child: "c" } }
step { process: "c" touch { region: "a" } expect { locked: 0 } }
step { mlock { addr: "0x1000" length: "4k" } expect { outcome: "ENOMEM" } }
step { munlock { addr: "0x1000" length: "4k" } expect { outcome: "ENOMEM" } }
)"},
    {"mlock_without_enough_memory", R"(
machine { memory: "128k" }
step { map { region: "a" length: "1MiB" } }
step { mlock { region: "a" } expect { outcome: "ENOMEM" locked: 256 } }
)"},
    {"mlockall", R"(
step { map { region: "a" length: "64k" } }
step { mlockall { future: true } expect { locked: 0 rss: 0 } }
step { map { region: "b" length: "32k" } expect { locked: 8 anon_rss: 8 } }
step { mlockall { current: true } expect { locked: 24 anon_rss: 24 } }
step { map { region: "c" length: "32k" } expect { locked: 24 anon_rss: 24 } }
step { munlockall {} expect { locked: 0 anon_rss: 24 } }
step { mlockall { current: true future: true } expect { locked: 32 } }
step { mlockall {} expect { outcome: "EINVAL" locked: 32 } }
)"},
    {"swapoff_and_swapon", R"(
machine { memory: "256k" swap: "1MiB" }
step { map { region: "a" length: "512k" } }
step { store { region: "a" fill { random { seed: 1 } } } }
step { swapon {} expect { outcome: "EBUSY" } }
step { swapoff {} expect { outcome: "ENOMEM" } }
step { load { region: "a" equals { random { seed: 1 } } } }
step { unmap { region: "a" offset: "128k" } }
step { swapoff {} expect { swap: 0 anon_rss: 32 } }
step { swapoff {} expect { outcome: "EINVAL" } }
step { reclaim {} expect { anon_rss: 32 } }
step { swapon {} }
step { reclaim {} expect { anon_rss: 0 swap: 32 } }
step { load { region: "a" length: "128k" equals { random { seed: 1 } } } }
)"},
    {"a_machine_without_swap", R"(
step { swapoff {} expect { outcome: "EINVAL" } }
step { swapon {} expect { outcome: "EINVAL" } }
)"},
    {"drop_caches", R"(
file { name: "f" size: "64k" generator: "text" seed: 1 }
step { read { file: "f" } expect { file { name: "f" cached: 16 } } }
step { write { file: "f" length: "4k" fill { byte: 1 } } }
step { map { region: "m" file: "f" offset: "4k" length: "8k" } }
step { touch { region: "m" } }
step { map { region: "shm" length: "64k" shared: true } }
step { store { region: "shm" fill { byte: 7 } } }
step { drop_caches {} expect { file_rss: 18 file { name: "f" cached: 3 } } }
step { fsync { file: "f" } }
step { drop_caches {} expect { file { name: "f" cached: 2 } } }
step { read { file: "f" length: "4k" equals { byte: 1 } } }
step { read { file: "f" offset: "4k" equals { text { seed: 1 } } } }
step { load { region: "shm" equals { byte: 7 } } }
)"},
};
INSTANTIATE_TEST_SUITE_P(All, MemoryStepTest, testing::ValuesIn(kSteps),
                         [](const auto& param) { return std::string(param.param.name); });

const Good kRemaps[] = {
    {"blocks", R"(
file { name: "f" size: "256k" generator: "counter" seed: 1 }
step { map { region: "w" file: "f" length: "32k" shared: true } }
step { remap_file_pages { region: "w" length: "8k" page: 62 } expect { vmas: 1 file_rss: 2 } }
step { load { region: "w" length: "8k" equals { counter { seed: 1 } shift: "248k" } } }
step { load { region: "w" offset: "8k" equals { counter { seed: 1 } } } }
step { remap_file_pages { region: "w" offset: "8k" length: "8k" page: 8 nonblock: true } expect { file_rss: 6 } }
step { load { region: "w" offset: "8k" length: "8k" equals { counter { seed: 1 } shift: "24k" } } }
step { store { region: "w" offset: "12k" length: "4k" fill { byte: 9 } } }
step { read { file: "f" offset: "36k" length: "4k" equals { byte: 9 } } }
step { reclaim {} expect { rss: 0 } }
step { load { region: "w" length: "8k" equals { counter { seed: 1 } shift: "248k" } } }
step { load { region: "w" offset: "12k" length: "4k" equals { byte: 9 } } }
step { remap_file_pages { region: "w" page: 0 } }
step { load { region: "w" equals { counter { seed: 1 } } } }
)"},
    {"refusals", R"(
file { name: "f" size: "64k" generator: "counter" seed: 1 }
step { map { region: "w" file: "f" shared: true } }
step { map { region: "p" file: "f" } }
step { map { region: "a" length: "16k" } }
step { remap_file_pages { region: "w" page: 1 prot: "rw-" } expect { outcome: "EINVAL" } }
step { remap_file_pages { region: "w" length: "4k" page: 1 prot: "---" } }
step { remap_file_pages { region: "w" length: "0" page: 1 } expect { outcome: "EINVAL" } }
step { remap_file_pages { region: "w" length: "4k" page: 18446744073709551615 } expect { outcome: "EINVAL" } }
step { remap_file_pages { region: "w" length: "4k" page: 70368744177664 } expect { outcome: "EINVAL" } }
step { remap_file_pages { region: "p" page: 1 } expect { outcome: "EINVAL" } }
step { remap_file_pages { region: "a" page: 1 } expect { outcome: "EINVAL" } }
step { remap_file_pages { addr: "0x1000" length: "4k" page: 1 } expect { outcome: "EINVAL" } }
step { load { region: "w" length: "4k" equals { counter { seed: 1 } shift: "4k" } } }
)"},
    {"behind_the_end", R"(
file { name: "f" size: "64k" generator: "counter" seed: 1 }
step { map { region: "w" file: "f" shared: true } }
step { remap_file_pages { region: "w" length: "4k" page: 100 } }
step { load { region: "w" length: "1" } expect { outcome: "SIGBUS" at: "0" } }
step { truncate { file: "f" size: "1MiB" } }
step { load { region: "w" length: "4k" equals { zeros {} } } }
)"},
};
INSTANTIATE_TEST_SUITE_P(RemapFilePages, MemoryStepTest, testing::ValuesIn(kRemaps),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(SwapTest, CountsAreNamedWhenTheyDiffer) {
  const std::string text =
      "machine { swap: '64k' }\n"
      "step { map { region: 'a' length: '8k' } }\n"
      "step { mlock { region: 'a' } expect { ";
  EXPECT_EQ(ErrorOf(text + "locked: 2 swap: 0 } }"), "");
  EXPECT_EQ(ErrorOf(text + "locked: 3 } }"), "w:3: step mlock: expected locked 3, got 2");
  EXPECT_EQ(ErrorOf(text + "swap: 1 } }"), "w:3: step mlock: expected swap 1, got 0");
}

TEST(SwapTest, TheMachineHasAsMuchAsTheScriptSays) {
  TestRun run = RunText("machine { swap: '1000000' } step { swapoff {} } step { swapon {} }");
  ASSERT_EQ(run.error, "");
  ASSERT_NE(run.machine().swap, nullptr);
  EXPECT_EQ(run.machine().swap->nr_slots(), 1000000u / 4096);
  EXPECT_EQ(RunText("step { swapon {} expect { outcome: 'EINVAL' } }").machine().swap, nullptr);
}

TEST(SwapTest, LiesInTheDiskFolderWithoutAName) {
  const support::TempDir dir;
  const std::string text =
      "machine { memory: '256k' swap: '1MiB' }\n"
      "step { map { region: 'a' length: '512k' } }\n"
      "step { store { region: 'a' fill { random { seed: 1 } } } }\n"
      "step { load { region: 'a' equals { random { seed: 1 } } } }\n"
      "step { unmap { region: 'a' offset: '64k' } }\n"
      "step { swapoff {} }\n"
      "step { swapon {} }\n"
      "step { reclaim {} expect { swap: 16 } }\n"
      "step { load { region: 'a' length: '64k' equals { random { seed: 1 } } } }\n";
  EXPECT_EQ(RunText(text, {.disk_dir = dir.path().string(), .after_step = ValidateStep}).error, "");
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  support::WriteFile(dir / "file", "");
  EXPECT_THAT(RunText(text, {.disk_dir = (dir / "file").string()}).error, testing::HasSubstr("file'"));
}

// A run that goes on after a checkpoint does what the script says, whatever swap the machine was given.
TEST(SwapTest, SwaponAfterAResume) {
  const auto script =
      Script::Parse("w",
                    "machine { swap: '64k' } step { swapoff {} }\n"
                    "step { checkpoint { label: 'base' } } step { swapon {} }\n"
                    "step { map { region: 'a' length: '8k' } } step { store { region: 'a' } }\n"
                    "step { reclaim {} expect { swap: 77 locked: 77 } }");
  ASSERT_TRUE(script) << script.error().what;
  auto executor = Executor::Start(*script, {});
  ASSERT_TRUE(executor);
  std::string state;
  ASSERT_TRUE((*executor)->Run([&](mm::Machine&, const CheckpointRequest& request) -> base::Result<Next> {
    state = request.state;
    return Next::kStop;
  }));
  auto resumed = Executor::Resume(*script, (*executor)->TakeMachine(), state, {.after_step = ValidateStep});
  ASSERT_TRUE(resumed) << resumed.error().what;
  const auto done = (*resumed)->Run(GoOn);
  ASSERT_TRUE(done) << done.error().what;
  EXPECT_EQ((*resumed)->machine().swap->nr_slots(), 16u);
  EXPECT_EQ((*resumed)->machine().vmstat.pswpout, 2u);
}

}  // namespace
}  // namespace workload
