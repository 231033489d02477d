#include "workload/executor.h"

#include <gmock/gmock.h>

#include "base/units.h"
#include "mm/follow_page.h"
#include "tests/support/support.h"
#include "tests/workload/run.h"

namespace workload {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// ---- expectations ----

TEST(ExpectTest, AFaultWithoutExpectationIsAnErrorAtItsLine) {
  const TestRun run = RunText("\nstep {\n store { addr: '0x1000' length: '1' } }\n");
  EXPECT_EQ(run.error, "w:2: step store: expected ok, got SIGSEGV at 0x1000");
  EXPECT_EQ(run.code, base::Code::kExpectation);
}

TEST(ExpectTest, AnOutcomeThatDoesNotCome) {
  EXPECT_EQ(ErrorOf("step { map { region: 'r' length: '4k' } }\n"
                    "step { store { region: 'r' } expect { outcome: 'SIGBUS' } }"),
            "w:2: step store: expected SIGBUS, got ok");
  EXPECT_THAT(ErrorOf("step { map { region: 'r' length: '4k' prot: 'r--' } }\n"
                      "step { store { region: 'r' offset: '16' length: '1' } expect { outcome: 'SIGBUS' } }"),
              StartsWith("w:2: step store: expected SIGBUS, got SIGSEGV at region 'r' + 0x10 (0x7f"));
  EXPECT_THAT(ErrorOf("step { map { region: 'r' length: '0' } }"),
              HasSubstr("w:1: step map: expected ok, got EINVAL"));
}

TEST(ExpectTest, ThePlaceOfAFault) {
  const std::string text =
      "file { name: 'f' size: '8k' }\n"
      "step { map { region: 'r' file: 'f' length: '16k' } }\n"
      "step { touch { region: 'r' } expect { outcome: 'SIGBUS' at: '8k' } }\n";
  EXPECT_EQ(ErrorOf(text), "");
  EXPECT_EQ(ErrorOf(text + "step { touch { region: 'r' } expect { outcome: 'SIGBUS' at: '12k' } }"),
            "w:4: step touch: expected SIGBUS at 0x3000, got it at 0x2000");
}

TEST(ExpectTest, Counts) {
  const std::string text =
      "file { name: 'f' size: '8k' }\n"
      "step { map { region: 'r' length: '64k' } }\n"
      "step { map { region: 'm' file: 'f' } }\n"
      "step { touch { region: 'm' } }\n"
      "step { store { region: 'r' length: '12k' } expect { ";
  EXPECT_EQ(ErrorOf(text + "rss: 5 anon_rss: 3 file_rss: 2 modified: 3 total_vm: 18 vmas: 2 "
                           "file { name: 'f' size: '8k' cached: 2 } } }"),
            "");
  EXPECT_EQ(ErrorOf(text + "rss: 4 } }"), "w:5: step store: expected rss 4, got 5");
  EXPECT_EQ(ErrorOf(text + "anon_rss: 4 } }"), "w:5: step store: expected anon_rss 4, got 3");
  EXPECT_EQ(ErrorOf(text + "file_rss: 1 } }"), "w:5: step store: expected file_rss 1, got 2");
  EXPECT_EQ(ErrorOf(text + "modified: 0 } }"), "w:5: step store: expected modified 0, got 3");
  EXPECT_EQ(ErrorOf(text + "total_vm: 0 } }"), "w:5: step store: expected total_vm 0, got 18");
  EXPECT_EQ(ErrorOf(text + "vmas: 3 } }"), "w:5: step store: expected vmas 3, got 2");
  EXPECT_EQ(ErrorOf(text + "file { name: 'f' size: '1' } } }"),
            "w:5: step store: expected file 'f' size 1, got 8192");
  EXPECT_EQ(ErrorOf(text + "file { name: 'f' cached: 1 } } }"),
            "w:5: step store: expected file 'f' cached 1, got 2");
}

TEST(ExpectTest, BytesThatDiffer) {
  EXPECT_THAT(ErrorOf("step { map { region: 'r' length: '8k' } }\n"
                      "step { store { region: 'r' offset: '100' length: '1' fill { byte: 7 } } }\n"
                      "step { load { region: 'r' equals { zeros {} } } }"),
              StartsWith("w:3: step load: the byte at region 'r' + 0x64 (0x7f"));
  EXPECT_EQ(ErrorOf("file { name: 'f' size: '200k' generator: 'text' seed: 3 }\n"
                    "step { write { file: 'f' offset: '5000' length: '1' fill { byte: 0 } } }\n"
                    "step { read { file: 'f' equals { text { seed: 3 } } } }")
                .substr(0, 56),
            "w:3: step read: the byte at 0x1388 of file 'f' is 0x00, ");
}

TEST(ExpectTest, TheRoundOfARepeatIsNamed) {
  EXPECT_EQ(ErrorOf("step { map { region: 'r' length: '64k' } }\n"
                    "step { repeat { times: 5\n"
                    " step { unmap { region: 'r' offset: '4k' length: '4k' } }\n"
                    " step { touch { region: 'r' length: '4k' } expect { anon_rss: 0 } }\n"
                    " step { brk { grow: '1' } expect { vmas: 3 total_vm: 16 } } } }"),
            "");
  EXPECT_EQ(ErrorOf("step { repeat { times: 5\n step { brk { grow: '1k' } expect { total_vm: 1 } } } }"),
            "w:2: step brk (round 5 of 5): expected total_vm 1, got 2");
}

TEST(ExpectTest, ShortReadsAndWritesAreNamedOrExpected) {
  const std::string text = "file { name: 'f' size: '10k' }\n";
  EXPECT_EQ(ErrorOf(text + "step { read { file: 'f' offset: '8k' length: '8k' } }"),
            "w:2: step read: expected 8192 bytes, moved 2048");
  EXPECT_EQ(ErrorOf(text + "step { read { file: 'f' offset: '8k' length: '8k' } expect { bytes: '2k' } }"),
            "");
  EXPECT_EQ(ErrorOf(text + "step { read { file: 'f' offset: '20k' length: '8k' } expect { bytes: '0' } }"),
            "");
  EXPECT_EQ(
      ErrorOf(text + "step { rlimit { fsize: '12k' } }\n"
                     "step { write { file: 'f' offset: '8k' length: '8k' } expect { bytes: '4k' } }\n"
                     "step { write { file: 'f' offset: '12k' length: '1' } expect { outcome: 'SIGXFSZ' } }\n"
                     "step { truncate { file: 'f' size: '16k' } expect { outcome: 'EFBIG' } }\n"
                     "step { rlimit { fsize: 'unlimited' } }\n"
                     "step { truncate { file: 'f' size: '16k' } expect { file { name: 'f' size: '16k' } } }"),
      "");
}

// ---- steps ----

// Each is a workload that must run to its end, with Validate after every step.
struct Good {
  const char* name;
  const char* text;
};
void PrintTo(const Good& good, std::ostream* out) { *out << good.name; }
class StepTest : public testing::TestWithParam<Good> {};

TEST_P(StepTest, Runs) { EXPECT_EQ(ErrorOf(GetParam().text), ""); }

const Good kSteps[] = {
    {"map", R"(
file { name: "f" size: "32k" generator: "random" seed: 1 }
step { map { region: "a" length: "64k" populate: true } expect { anon_rss: 16 } }
step { map { region: "b" length: "64k" populate: true nonblock: true } expect { anon_rss: 16 } }
step { map { region: "c" addr: "0x10000000" length: "5000" fixed: true noreserve: true } }
step { store { addr: "0x10000000" length: "8k" } }
step { map { region: "d" file: "f" offset: "16k" prot: "r-x" } expect { total_vm: 38 } }
step { load { region: "d" equals { random { seed: 1 } shift: "16k" } } }
step { store { region: "d" length: "1" } expect { outcome: "SIGSEGV" at: "0" } }
step { map { region: "e" file: "f" offset: "100" length: "4k" } expect { outcome: "EINVAL" } }
step { map { region: "e" file: "/dev/zero" length: "4k" } }
step { load { region: "e" equals { zeros {} } } }
step { map { region: "g" length: "128T" } expect { outcome: "ENOMEM" } }
)"},
    {"unmap", R"(
step { map { region: "a" length: "64k" } expect { vmas: 1 } }
step { store { region: "a" } }
step { unmap { region: "a" offset: "16k" length: "16k" } expect { vmas: 2 anon_rss: 12 } }
step { load { region: "a" } expect { outcome: "SIGSEGV" at: "16k" } }
step { unmap { region: "a" } expect { vmas: 0 rss: 0 } }
step { unmap { addr: "0x1234" length: "1" } expect { outcome: "EINVAL" } }
)"},
    {"protect", R"(
step { map { region: "a" length: "64k" } }
step { store { region: "a" fill { byte: 1 } } }
step { protect { region: "a" offset: "16k" length: "16k" prot: "r--" } expect { vmas: 3 } }
step { store { region: "a" } expect { outcome: "SIGSEGV" at: "16k" } }
step { protect { region: "a" offset: "16k" length: "16k" prot: "---" } }
step { load { region: "a" } expect { outcome: "SIGSEGV" at: "16k" } }
step { protect { region: "a" prot: "rw-" } expect { vmas: 1 } }
step { load { region: "a" offset: "16k" equals { byte: 1 } } }
)"},
    {"remap", R"(
step { map { region: "a" length: "64k" } }
step { store { region: "a" fill { counter { seed: 1 } } } }
step { remap { region: "a" new_length: "32k" } expect { total_vm: 8 } }
step { remap { region: "a" new_length: "128k" may_move: true } expect { total_vm: 32 } }
step { load { region: "a" length: "32k" equals { counter { seed: 1 } } } }
step { load { region: "a" offset: "32k" equals { zeros {} } } }
step { remap { region: "a" to: "0x20000000" may_move: true } }
step { load { addr: "0x20000000" length: "32k" equals { counter { seed: 1 } } } }
step { load { region: "a" length: "32k" equals { counter { seed: 1 } } } }
step { remap { region: "a" offset: "8k" length: "8k" to: "0x30000000" may_move: true as: "b" } }
step { load { region: "b" length: "8k" equals { counter { seed: 1 } shift: "8k" } } }
step { load { region: "a" } expect { outcome: "SIGSEGV" at: "8k" } }
step { remap { region: "b" new_length: "4k" as: "c" } }
step { touch { region: "c" } }
step { remap { region: "c" to: "0x100" may_move: true } expect { outcome: "EINVAL" } }
step { remap { addr: "0x40000000" length: "4k" new_length: "8k" } expect { outcome: "EFAULT" } }
)"},
    {"brk", R"(
step { brk { grow: "10000" } expect { total_vm: 3 } }
step { store { region: "heap" fill { byte: 3 } } expect { anon_rss: 3 } }
step { brk { grow: "10000" } }
step { load { region: "heap" length: "10000" equals { byte: 3 } } }
step { brk { shrink: "12k" } expect { total_vm: 2 } }
step { brk { addr: "0x555555600000" } expect { total_vm: 0 } }
step { brk { addr: "0x1000" } expect { outcome: "ENOMEM" } }
)"},
    {"madvise", R"(
step { map { region: "a" length: "64k" } }
step { store { region: "a" fill { byte: 9 } } }
step { madvise { region: "a" length: "32k" advice: DONTNEED } expect { anon_rss: 8 } }
step { load { region: "a" length: "32k" equals { zeros {} } } }
step { madvise { region: "a" offset: "32k" advice: DONTFORK } expect { vmas: 2 } }
step { fork { child: "c" } }
step { process: "c" load { region: "a" } expect { outcome: "SIGSEGV" at: "32k" vmas: 1 } }
step { madvise { region: "a" advice: DOFORK } expect { vmas: 1 } }
step { madvise { region: "a" advice: NORMAL } }
step { madvise { addr: "0x1000" length: "4k" advice: DONTNEED } expect { outcome: "ENOMEM" } }
)"},
    {"shared_file", R"(
file { name: "f" size: "16k" }
step { map { region: "a" file: "f" shared: true } }
step { store { region: "a" fill { byte: 5 } } expect { modified: 0 file_rss: 4 } }
step { msync { region: "a" } }
step { msync { region: "a" async: true } }
step { read { file: "f" equals { byte: 5 } } }
step { write { file: "f" offset: "4k" length: "4k" fill { byte: 6 } } }
step { load { region: "a" offset: "4k" length: "4k" equals { byte: 6 } } }
step { fsync { file: "f" } }
step { msync { addr: "0x1000" length: "4k" } expect { outcome: "ENOMEM" } }
)"},
    {"grow_stack", R"(
step { map { region: "stack" addr: "0x50000000" length: "16k" fixed: true growsdown: true } }
step { grow_stack { length: "64k" } expect { total_vm: 20 anon_rss: 16 } }
step { grow_stack { length: "6000" } expect { total_vm: 22 } }
step { store { region: "stack" } expect { total_vm: 22 anon_rss: 22 } }
step { rlimit { stack: "128k" } }
step { grow_stack { length: "64k" } expect { outcome: "SIGSEGV" } }
step { rlimit { stack: "unlimited" } }
step { grow_stack { length: "64k" } }
)"},
    {"fork", R"(
step { map { region: "a" length: "32k" } }
step { store { region: "a" fill { byte: 1 } } }
step { fork { child: "c" } expect { anon_rss: 8 } }
step { process: "c" store { region: "a" length: "16k" fill { byte: 2 } } }
step { store { region: "a" offset: "16k" fill { byte: 3 } } }
step { load { region: "a" length: "16k" equals { byte: 1 } } }
step { process: "c" load { region: "a" offset: "16k" equals { byte: 1 } } }
step { process: "c" map { region: "own" length: "4k" } }
step { process: "c" fork { child: "g" } }
step { process: "g" store { region: "own" } }
step { process: "c" exit {} }
step { process: "g" load { region: "a" length: "16k" equals { byte: 2 } } }
)"},
    {"clone_vm", R"(
step { clone_vm { child: "t" } }
step { process: "t" map { region: "a" length: "8k" } }
step { store { region: "a" fill { byte: 1 } } }
step { process: "t" load { region: "a" equals { byte: 1 } } }
step { exit {} }
step { process: "t" load { region: "a" equals { byte: 1 } } }
)"},
    {"files", R"(
file { name: "f" size: "10000" generator: "counter" seed: 4 }
step { read { file: "f" equals { counter { seed: 4 } } } }
step { write { file: "f" offset: "20000" length: "100000" fill { text { seed: 1 } } }
       expect { file { name: "f" size: "120000" } } }
step { read { file: "f" offset: "10000" length: "10000" equals { zeros {} } } }
step { read { file: "f" offset: "20000" equals { text { seed: 1 } } } }
step { truncate { file: "f" size: "5000" } expect { file { name: "f" size: "5000" } } }
step { truncate { file: "f" size: "9000" } }
step { read { file: "f" offset: "5000" equals { zeros {} } } }
step { read { file: "f" length: "5000" equals { counter { seed: 4 } } } }
step { punch_hole { file: "f" offset: "0" length: "4k" } }
step { punch_hole { file: "f" length: "0" } expect { outcome: "EINVAL" } }
step { read { file: "f" length: "4k" equals { zeros {} } } }
step { map { region: "m" file: "f" } }
step { unlink { file: "f" } }
step { load { region: "m" length: "4k" equals { zeros {} } } }
step { create { file { name: "f" size: "4k" generator: "text" seed: 2 } } }
step { read { file: "f" equals { text { seed: 2 } } } }
step { truncate { file: "/dev/zero" size: "1" } expect { outcome: "EINVAL" } }
)"},
    {"get_user_pages", R"(
file { name: "f" size: "16k" generator: "random" seed: 1 }
step { map { region: "a" file: "f" prot: "r--" } }
step { get_user_pages { region: "a" write: true } expect { outcome: "EFAULT" } }
step { get_user_pages { region: "a" length: "6k" write: true force: true fill { byte: 8 } } expect { modified: 2 } }
step { load { region: "a" length: "6k" equals { byte: 8 } } }
step { load { region: "a" offset: "6k" equals { random { seed: 1 } } } }
step { store { region: "a" length: "1" } expect { outcome: "SIGSEGV" } }
step { read { file: "f" equals { random { seed: 1 } } } }
step { get_user_pages { region: "a" } }
step { get_user_pages { addr: "0x5000" length: "1" } expect { outcome: "EFAULT" } }
)"},
    {"patterns", R"(
step { map { region: "a" length: "1MiB" } }
step { store { region: "a" pattern { sequential { count: 3 } } } expect { anon_rss: 3 } }
step { store { region: "a" pattern { every { nth: 64 first: 32 } } } expect { anon_rss: 7 } }
step { store { region: "a" pattern { scattered { count: 256 } } fill { byte: 1 } } expect { anon_rss: 256 } }
step { load { region: "a" stride: "4k" size: "8" equals { byte: 1 } } }
step { store { region: "a" stride: "100" size: "100" fill { counter { seed: 2 } } } }
step { load { region: "a" length: "1048500" equals { counter { seed: 2 } } } }
step { store { region: "a" stride: "64" size: "64" pattern { zipf { count: 1000 exponent: 1 } }
                         fill { counter { seed: 2 } } } }
step { store { region: "a" stride: "64" size: "64" pattern { random { count: 1000 } } fill { counter { seed: 2 } } } }
step { load { region: "a" length: "1048500" equals { counter { seed: 2 } } } }
step { store { region: "a" offset: "1MiB" } }
step { store { region: "a" offset: "1048000" stride: "4k" } }
)"},
    {"out_of_memory", R"(
machine { memory: "128k" }
step { map { region: "a" length: "1MiB" } }
step { store { region: "a" } expect { outcome: "OOM" } }
step { madvise { region: "a" advice: DONTNEED } expect { rss: 0 } }
step { store { region: "a" length: "64k" } }
)"},
    {"exec", R"(
step { map { region: "old" length: "64k" } }
step { store { region: "old" } }
step { exec { path: "/bin/sh" env: "A=b" } }
step { touch { region: "text" } }
step { store { region: "data" length: "1" } }
step { store { region: "bss" } }
step { load { region: "vdso" equals { zeros {} } } }
step { store { region: "vdso" length: "1" } expect { outcome: "SIGSEGV" } }
step { store { region: "text" length: "1" } expect { outcome: "SIGSEGV" } }
step { brk { grow: "64k" } }
step { store { region: "heap" } }
step { grow_stack { length: "1MiB" } }
step { fork { child: "c" } }
step { process: "c" exec { path: "/bin/ls" } }
step { exec { path: "/no/such/program" } expect { outcome: "ENOENT" } }
step { exec { path: "/usr/share/common-licenses/GPL-3" } expect { outcome: "ENOEXEC" } }
step { touch { region: "text" } }
)"},
};
INSTANTIATE_TEST_SUITE_P(All, StepTest, testing::ValuesIn(kSteps),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(StepErrorTest, RegionsThatTheProgramDoesNotHave) {
  EXPECT_EQ(
      ErrorOf(
          "machine { vdso_pages: 0 }\nstep { exec { path: '/bin/sh' } }\nstep { touch { region: 'vdso' } }"),
      "w:3: step touch: process 'main' has no region 'vdso'");
  EXPECT_EQ(ErrorOf("step { map { region: 'r' length: '4k' } }\nstep { touch { region: 'r' offset: '8k' } }"),
            "w:2: step touch: offset 0x2000 is behind the end of region 'r', which has 0x1000 bytes");
}

TEST(StepErrorTest, IoSetupIsCounted) {
  TestRun run = RunText("step { io_setup { count: 3 } }");
  ASSERT_EQ(run.error, "");
  EXPECT_EQ(run.mm("main").nr_aio, 3u);
}

// ---- runs ----

constexpr const char* kBusy = R"(
name: "busy"
seed: 99
file { name: "f" size: "256k" generator: "random" seed: 1 }
step { exec { path: "/bin/sh" } }
step { map { region: "a" length: "1MiB" } }
step { map { region: "m" file: "f" } }
step { repeat { times: 3
  step { store { region: "a" pattern { zipf { count: 50 exponent: 1.1 } } } }
  step { store { region: "m" pattern { scattered { count: 10 } } } } } }
step { fork { child: "c" } }
step { process: "c" store { region: "a" pattern { random { count: 20 } } } }
step { clone_vm { child: "t" } }
step { checkpoint { label: "base" } }
step { store { region: "a" pattern { random { count: 50 } } } }
step { process: "c" remap { region: "a" new_length: "2MiB" may_move: true } }
step { process: "t" map { region: "b" length: "64k" } }
step { process: "c" store { region: "a" pattern { scattered { count: 50 } } fill { text {} } } }
step { process: "t" exit {} }
step { store { region: "b" } expect { anon_rss: 123456 } }
)";

// The workload above with its last expectation, which no run can meet, left out.
std::string Busy() {
  std::string text = kBusy;
  return text.replace(text.find("expect { anon_rss: 123456 }"), 27, "");
}

TEST(RunTest, TwoRunsAreEqual) {
  TestRun one = RunText(Busy());
  TestRun two = RunText(Busy());
  ASSERT_EQ(one.error, "");
  EXPECT_EQ(mm::TextDump(one.machine()), mm::TextDump(two.machine()));
  TestRun other = RunText("seed: 5 " + Busy().replace(Busy().find("seed: 99"), 8, ""));
  ASSERT_EQ(other.error, "");
  EXPECT_NE(mm::TextDump(one.machine()), mm::TextDump(other.machine()));
}

TEST(RunTest, PidsFollowTheOrderOfCreation) {
  TestRun run = RunText(
      "process { name: 'z' } process { name: 'a' }"
      "step { fork { child: 'c' } } step { process: 'c' exit {} } step { fork { child: 'd' } }"
      "step { checkpoint { label: 'all' } } step { checkpoint { label: 'some' process: ['d', 'z'] } }");
  ASSERT_EQ(run.error, "");
  EXPECT_EQ(run.executor->FindProcess("z")->pid, 1u);
  EXPECT_EQ(run.executor->FindProcess("a")->pid, 2u);
  EXPECT_EQ(run.executor->FindProcess("d")->pid, 4u);
  EXPECT_EQ(run.executor->FindProcess("c"), nullptr);
  ASSERT_EQ(run.checkpoints.size(), 3u);
  EXPECT_EQ(run.checkpoints[0].pids, (std::vector<mm::Pid>{1, 2, 4}));
  EXPECT_EQ(run.checkpoints[1].pids, (std::vector<mm::Pid>{1, 4}));
  EXPECT_EQ(run.checkpoints[2].label, "end");
  EXPECT_TRUE(run.executor->finished());
}

TEST(RunTest, StopsAtACheckpointAndGoesOn) {
  auto script = Script::Parse("w", Busy());
  ASSERT_TRUE(script) << script.error().what;
  auto executor = Executor::Start(*script, {});
  ASSERT_TRUE(executor);
  std::vector<std::string> labels;
  const CheckpointFn stop = [&](mm::Machine&, const CheckpointRequest& request) -> base::Result<Next> {
    labels.push_back(request.label);
    return Next::kStop;
  };
  ASSERT_TRUE((*executor)->Run(stop));
  EXPECT_FALSE((*executor)->finished());
  EXPECT_EQ((*executor)->steps_done(), 8u);
  ASSERT_TRUE((*executor)->Run(stop));
  EXPECT_TRUE((*executor)->finished());
  EXPECT_EQ(labels, (std::vector<std::string>{"base", "end"}));
  EXPECT_EQ(mm::TextDump((*executor)->machine()), mm::TextDump(RunText(Busy()).machine()));
}

// Runs up to "base" and hands the machine and the state over.
struct Stopped {
  std::unique_ptr<mm::Machine> machine;
  std::string state;
};
Stopped StopAtBase(const Script& script) {
  Stopped stopped;
  auto executor = Executor::Start(script, {});
  EXPECT_TRUE(executor.has_value());
  const auto done =
      (*executor)->Run([&](mm::Machine&, const CheckpointRequest& request) -> base::Result<Next> {
        stopped.state = request.state;
        return Next::kStop;
      });
  EXPECT_TRUE(done.has_value());
  stopped.machine = (*executor)->TakeMachine();
  return stopped;
}

TEST(ResumeTest, EndsLikeAnUninterruptedRunAndIgnoresCounts) {
  const auto script = Script::Parse("w", kBusy);
  ASSERT_TRUE(script);
  Stopped stopped = StopAtBase(*script);
  auto resumed =
      Executor::Resume(*script, std::move(stopped.machine), stopped.state, {.after_step = ValidateStep});
  ASSERT_TRUE(resumed) << resumed.error().what;
  EXPECT_EQ((*resumed)->FindProcess("t")->mm, (*resumed)->FindProcess("main")->mm);
  const auto done = (*resumed)->Run(GoOn);
  ASSERT_TRUE(done) << done.error().what;
  EXPECT_EQ(mm::TextDump((*resumed)->machine()), mm::TextDump(RunText(Busy()).machine()));
}

TEST(ResumeTest, RefusesAnotherWorkload) {
  const auto script = Script::Parse("w", Busy());
  ASSERT_TRUE(script);
  const auto resume = [&](const std::string& text) {
    const auto other = Script::Parse("other", text);
    EXPECT_TRUE(other.has_value()) << other.error().what;
    Stopped stopped = StopAtBase(*script);
    const auto place = Executor::ResumesAt(*other, stopped.state);
    const auto resumed = Executor::Resume(*other, std::move(stopped.machine), stopped.state, {});
    EXPECT_EQ(place.has_value(), resumed.has_value());
    if (resumed) return std::string();
    EXPECT_EQ(resumed.error().code, base::Code::kChanged);
    EXPECT_EQ(resumed.error().what, place.error().what) << "the same without a machine";
    return resumed.error().what;
  };
  EXPECT_EQ(resume(Busy() + "step { exit {} }"), "");  // what follows may differ
  std::string earlier = Busy();
  earlier.replace(earlier.find("count: 20"), 9, "count: 21");
  EXPECT_THAT(resume(earlier),
              StartsWith("resume 'other': not the workload that was checkpointed ('busy'): "));
  EXPECT_THAT(resume("step { exit {} }"),
              StartsWith("resume 'other': it has 1 steps, and the checkpoint was taken after step 8"));
}

TEST(ResumeTest, RefusesADamagedState) {
  const auto script = Script::Parse("w", Busy());
  ASSERT_TRUE(script);
  const Stopped once = StopAtBase(*script);
  ckpt_pb::ExecutorState good;
  ASSERT_TRUE(good.ParseFromString(once.state));
  const auto resume = [&](const std::string& state) {
    const auto resumed = Executor::Resume(*script, StopAtBase(*script).machine, state, {});
    return resumed ? std::string("ok") : resumed.error().what;
  };
  EXPECT_EQ(resume(once.state), "ok");
  EXPECT_EQ(Executor::ResumesAt(*script, once.state), 8u);
  EXPECT_THAT(resume("\xff\xff"), HasSubstr("is damaged: it cannot be read"));
  EXPECT_EQ(Executor::ResumesAt(*script, "\xff\xff").error().code, base::Code::kCorrupt);
  testing::internal::CaptureStderr();
  EXPECT_EQ(Executor::ResumesAt(*script, "\x0a\x01\xff").error().code, base::Code::kCorrupt);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "protobuf keeps quiet about a text that is none";
  ckpt_pb::ExecutorState bad = good;
  bad.mutable_process(0)->set_space(77);
  EXPECT_THAT(resume(bad.SerializeAsString()), HasSubstr("is damaged: a process has no address space"));
  bad = good;
  bad.mutable_process(0)->set_pid(0);
  EXPECT_THAT(resume(bad.SerializeAsString()), HasSubstr("is damaged: a pid is out of range"));
  bad = good;
  *bad.add_process() = good.process(0);
  EXPECT_THAT(resume(bad.SerializeAsString()), HasSubstr("is damaged: two processes have one name"));
  bad = good;
  bad.mutable_space(0)->mutable_region(0)->set_length(~uint64_t{0});
  EXPECT_THAT(resume(bad.SerializeAsString()), HasSubstr("is damaged: a region lies outside user space"));
  bad = good;
  bad.set_next_pid(2);
  EXPECT_THAT(resume(bad.SerializeAsString()), HasSubstr("is damaged: "));
  for (size_t length = 0; length < once.state.size(); ++length) resume(once.state.substr(0, length));
}

TEST(ResumeTest, AProcessThatWasNotSavedIsUnknown) {
  const auto script = Script::Parse("w",
                                    "step { fork { child: 'c' } }\n"
                                    "step { checkpoint { label: 'base' process: 'main' } }\n"
                                    "step { touch { addr: '0' length: '0' } }\n"
                                    "step { process: 'c' exit {} }");
  ASSERT_TRUE(script) << script.error().what;
  Stopped stopped = StopAtBase(*script);
  stopped.machine->exit(2);
  auto resumed = Executor::Resume(*script, std::move(stopped.machine), stopped.state, {});
  ASSERT_TRUE(resumed) << resumed.error().what;
  const auto done = (*resumed)->Run(GoOn);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().what, "w:4: step exit: the image holds no process 'c'");
}

TEST(RunTest, TheStopFlagEndsALongStep) {
  std::atomic<bool> stop = false;
  auto script = Script::Parse("w",
                              "step { map { region: 'r' length: '1MiB' } }\n"
                              "step { load { region: 'r' pattern { random { count: 1000000000000 } } } }");
  ASSERT_TRUE(script);
  auto executor =
      Executor::Start(*script, {.stop = &stop, .after_step = [&](mm::Machine&, const std::string&) {
                                  stop = true;  // after the first step
                                  return base::Result<void>{};
                                }});
  ASSERT_TRUE(executor);
  const auto done = (*executor)->Run(GoOn);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, base::Code::kInterrupted);
  EXPECT_EQ(done.error().what, "w:2: step load: interrupted");
}

TEST(RunTest, ACheckpointsErrorNamesItsStepAndCanBeExpected) {
  const CheckpointFn refuse = [](mm::Machine&, const CheckpointRequest& request) -> base::Result<Next> {
    if (request.label == kEndLabel) return Next::kGoOn;
    return base::Fail(base::Code::kBusy, "pid 1 has asynchronous I/O");
  };
  const auto run = [&](const std::string& text) {
    const auto script = Script::Parse("w", text);
    EXPECT_TRUE(script.has_value());
    return (*Executor::Start(*script, {}))->Run(refuse);
  };
  const auto plain = run("step { checkpoint { label: 'a' } }");
  ASSERT_FALSE(plain);
  EXPECT_EQ(plain.error().what, "w:1: step checkpoint 'a': pid 1 has asynchronous I/O");
  EXPECT_EQ(plain.error().code, base::Code::kBusy);
  EXPECT_TRUE(run("step { checkpoint { label: 'a' } expect { outcome: 'EBUSY' } }"));
}

TEST(RunTest, TheMachineIsWhatTheScriptSays) {
  TestRun run = RunText(
      "machine { memory: '2MiB' generation: 'k18' semantics: 'truncate_passes=two' vdso_start: "
      "'0x7ffff0000000' vdso_pages: 1 } step { exec { path: '/bin/sh' } }");
  ASSERT_EQ(run.error, "");
  const mm::MachineConfig& config = run.machine().config();
  EXPECT_EQ(config.memory_bytes, 2u << 20);
  EXPECT_EQ(config.semantics.anon_read_fault, mm::AnonReadFault::kCountedZeroPage);
  EXPECT_EQ(config.semantics.truncate_passes, mm::TruncatePasses::kTwo);
  const Region vdso = *run.executor->FindRegion("main", "vdso");
  EXPECT_EQ(vdso.start, 0x7ffff0000000u);
  EXPECT_EQ(vdso.length, base::kPageSize);
  EXPECT_FALSE(run.executor->FindRegion("main", "none").has_value());
  EXPECT_FALSE(run.executor->FindRegion("none", "vdso").has_value());
}

TEST(RunTest, FilesInAFolder) {
  const support::TempDir dir;
  const std::string text =
      "file { name: 'f' size: '16k' generator: 'text' seed: 1 }\n"
      "file { name: 'copy' real: '/usr/share/common-licenses/GPL-3' }\n"
      "step { write { file: 'f' offset: '8k' length: '10000' fill { byte: 65 } } }\n"
      "step { truncate { file: 'copy' size: '10' } }\n"
      "step { fsync { file: 'f' } }\n"
      "step { create { file { name: 'late' size: '100' } } }\n"
      "step { unlink { file: 'late' } }\n"
      "step { create { file { name: 'late' size: '200' } } }\n";
  const Options options{.disk_dir = dir.path().string(), .after_step = ValidateStep};
  EXPECT_EQ(RunText(text, options).error, "");
  const std::string bytes = support::ReadFile(dir / "f");
  ASSERT_GE(bytes.size(), 18192u);
  EXPECT_EQ(bytes.substr(8192, 10000), std::string(10000, 'A'));
  EXPECT_EQ(support::ReadFile(dir / "copy").size(), 10u);
  EXPECT_EQ(support::ReadFile(dir / "late").size(), 200u);
  EXPECT_EQ(RunText(text, options).error,
            "w:1:8: file 'f': create '" + (dir / "f").string() +
                "': it is there already, and a run makes its files new; remove it or name another folder");
}

}  // namespace
}  // namespace workload
