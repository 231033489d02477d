#include "workload/together.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "mm/validate.h"
#include "tests/support/workloads.h"
#include "tests/workload/run.h"

namespace workload {
namespace {

using testing::HasSubstr;

// The lines of the steps of `process`, with their rounds.
std::string Way(const Script& script, const std::string& process) {
  std::string way;
  Cursor cursor(script.steps(), 0, script.steps().size(), 1, process, script.processes().front());
  for (; !cursor.at_end(); cursor.Advance()) {
    way += std::to_string(cursor.Now().step->place.line) + cursor.Now().round + ";";
  }
  return way;
}

TEST(Cursor, SeesItsOwnStepsInTheirOrderAndRounds) {
  const Script script = Script::Parse("w", R"(process { name: "a" } process { name: "b" }
step { map { region: "m" length: "4KiB" } }
step { repeat { times: 2
  step { touch { region: "m" } }
  step { process: "b" brk { grow: "4KiB" } }
} }
step { process: "b" brk { grow: "4KiB" } }
step { fork { child: "c" } }
step { process: "c" touch { region: "m" } }
)")
                            .value();
  EXPECT_EQ(Way(script, "a"), "2;4 (round 1 of 2);4 (round 2 of 2);8;");
  EXPECT_EQ(Way(script, "b"), "5 (round 1 of 2);5 (round 2 of 2);7;");
  EXPECT_EQ(Way(script, "c"), "8;9;");
  EXPECT_EQ(Way(script, "d"), "");
}

constexpr char kFour[] = R"(
machine { memory: "4MiB" swap: "1MiB" cpus: 4 }
process { name: "a" } process { name: "b" }
file { name: "f" size: "32KiB" generator: "counter" }
step { process: "a" map { region: "m" file: "f" } }
step { process: "b" map { region: "m" file: "f" shared: true } }
step { process: "a" store { region: "m" stride: "4KiB" fill { byte: 1 } } }
step { process: "b" store { region: "m" stride: "4KiB" fill { byte: 2 } } }
step { repeat { times: 3
  step { process: "a" fork { child: "c" } }
  step { process: "c" store { region: "m" offset: "8KiB" length: "4KiB" fill { byte: 3 } } }
  step { process: "c" load { region: "m" offset: "8KiB" length: "4KiB" equals { byte: 3 } } }
  step { process: "b" reclaim { pages: 4 } }
  step { process: "c" exit {} }
} }
step { barrier {} }
step { process: "b" load { region: "m" stride: "4KiB" equals { byte: 2 } } }
step { checkpoint { label: "base" } }
step { process: "a" truncate { file: "f" size: "16KiB" } }
)";

std::string RunAndDump(Options options) {
  TestRun run = RunText(kFour, std::move(options));
  EXPECT_EQ(run.error, "");
  if (!run.error.empty()) return {};
  EXPECT_EQ(run.checkpoints.size(), 2u);  // and the end
  EXPECT_EQ(mm::Validate(run.machine(), mm::Depth::kDeep), std::nullopt);
  return mm::TextDump(run.machine()) + run.executor->ScheduleText().value();
}

TEST(TogetherTest, TheSameSeedGivesTheSameRun) {
  std::set<std::string> dumps;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const std::string dump = RunAndDump({.at_rest = ValidateStep, .schedule_seed = seed});
    EXPECT_EQ(dump, RunAndDump({.at_rest = ValidateStep, .schedule_seed = seed}));
    dumps.insert(dump);
  }
  EXPECT_EQ(dumps.size(), 10u);
}

// Four CPUs write to swap and to a file at once: whoever finds no frame waits for the writes of the others.
TEST(TogetherTest, NobodyRunsOutOfMemoryWhilePagesAreWritten) {
  std::string text = R"(machine { memory: "64KiB" swap: "1MiB" cpus: 4 }
file { name: "f" size: "64KiB" generator: "counter" }
)";
  std::string maps;
  std::string round;
  for (const std::string n : {"0", "1", "2", "3"}) {
    const std::string step = "step { process: \"" + n + "\" ";
    const std::string quarter = "region: \"f\" offset: \"" + std::to_string(16 * std::stoi(n)) + "KiB\" ";
    text += "process { name: \"" + n + "\" }\n";
    maps += step + "map { region: \"m\" length: \"64KiB\" } }\n";
    maps += step + "map { region: \"f\" file: \"f\" shared: true } }\n";
    round += step + "store { region: \"m\" fill { byte: " + n + " } } }\n";
    round += step + "store { " + quarter + "length: \"16KiB\" fill { byte: 1" + n + " } } }\n";
    round += step + "load { region: \"m\" equals { byte: " + n + " } } }\n";
    round += step + "load { " + quarter + "length: \"16KiB\" equals { byte: 1" + n + " } } }\n";
  }
  text += maps + "step { repeat { times: 3\n" + round + "} }\n";
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    EXPECT_EQ(RunText(text, {.at_rest = ValidateStep, .schedule_seed = seed}).error, "") << seed;
  }
}

TEST(TogetherTest, AScheduleGivesTheRunAgain) {
  TestRun run = RunText(kFour, {.schedule_seed = 3});
  ASSERT_EQ(run.error, "");
  const std::string text = run.executor->ScheduleText().value();
  const mm::Schedule schedule = mm::ParseSchedule(text).value();
  TestRun again = RunText(kFour, {.schedule = &schedule});
  ASSERT_EQ(again.error, "");
  EXPECT_EQ(again.executor->ScheduleText(), text);
  EXPECT_EQ(mm::TextDump(again.machine()), mm::TextDump(run.machine()));
}

TEST(TogetherTest, AScheduleOfSomethingElseIsRefused) {
  const mm::Schedule schedule = mm::ParseSchedule("ckpt-schedule 1\ncpus 4\n0 5000\n1 5000\n").value();
  const TestRun run = RunText(kFour, {.schedule = &schedule});
  EXPECT_EQ(run.code, base::Code::kExpectation);
  EXPECT_THAT(run.error, HasSubstr("the schedule does not fit"));
}

// The CPUs that a schedule names; empty for a run without one.
std::set<unsigned> CpusIn(const TestRun& run) {
  const std::string text = run.executor->ScheduleText().value();
  if (text.empty()) return {};
  const mm::Schedule schedule = mm::ParseSchedule(text).value();
  std::set<unsigned> cpus;
  for (const mm::Schedule::Line& line : schedule.lines) cpus.insert(line.choice.cpu);
  EXPECT_EQ(schedule.cpus, *cpus.rbegin() + 1);
  return cpus;
}

TEST(TogetherTest, OptionsSayHowManyCpus) {
  TestRun one = RunText(kFour, {.cpus = 1});
  ASSERT_EQ(one.error, "");
  EXPECT_EQ(CpusIn(one), std::set<unsigned>{});
  const std::string text = kFour;
  TestRun said_so = RunText(std::string(text).replace(text.find("cpus: 4"), 7, "cpus: 1"));
  ASSERT_EQ(said_so.error, "");
  EXPECT_EQ(mm::TextDump(one.machine()), mm::TextDump(said_so.machine()));

  EXPECT_EQ(CpusIn(RunText(kFour, {.cpus = 2})), (std::set<unsigned>{0, 1}));
  EXPECT_EQ(CpusIn(RunText(kFour, {})), (std::set<unsigned>{0, 1, 2, 3}));
  EXPECT_EQ(CpusIn(RunText(kFour, {.cpus = 6})), (std::set<unsigned>{0, 1, 2, 3, 4, 5}));
}

TEST(TogetherTest, AFailedStepEndsTheRunWithItsLine) {
  const TestRun run = RunText(R"(machine { cpus: 2 }
process { name: "a" } process { name: "b" }
step { process: "a" map { region: "m" length: "64KiB" } }
step { process: "b" map { region: "m" length: "64KiB" } }
step { process: "a" store { region: "m" } }
step { process: "b" load { region: "m" equals { byte: 1 } } }
)",
                              {});
  EXPECT_EQ(run.code, base::Code::kExpectation);
  EXPECT_THAT(run.error, HasSubstr("w:6: step load: the byte at"));
}

TEST(TogetherTest, ARaceOfTheWorkloadIsFoundBySomeSeedAndReplays) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const TestRun run = RunText(support::kRace, {.schedule_seed = seed});
    if (run.error.empty()) continue;
    EXPECT_THAT(run.error, HasSubstr("w:9: step load"));
    const mm::Schedule schedule = mm::ParseSchedule(run.executor->ScheduleText().value()).value();
    EXPECT_EQ(RunText(support::kRace, {.schedule = &schedule}).error, run.error);
    return;
  }
  ADD_FAILURE() << "no seed found it";
}

TEST(TogetherTest, OneProcessIsTheSameOnAnyNumberOfCpus) {
  // Steps of one process keep their order, so a workload of one process is the same on any number of CPUs.
  constexpr char kOne[] = R"(machine { memory: "1MiB" }
step { map { region: "m" length: "64KiB" } }
step { store { region: "m" fill { byte: 1 } } }
step { checkpoint { label: "base" } }
step { load { region: "m" equals { byte: 1 } } }
)";
  TestRun one = RunText(kOne);
  TestRun four = RunText(kOne, {.at_rest = ValidateStep, .cpus = 4});
  ASSERT_EQ(four.error, "");
  EXPECT_EQ(mm::TextDump(one.machine()), mm::TextDump(four.machine()));
}

TEST(TogetherTest, MistakesOfTheScriptAreFound) {
  EXPECT_THAT(ErrorOf("machine { cpus: 17 }\nstep { exit {} }"),
              HasSubstr("w:1:11: cpus: 17; expected 1 to 16"));
  EXPECT_THAT(ErrorOf("step { repeat { times: 2 step { barrier {} } } }"),
              HasSubstr("a barrier inside a repeat"));
}

}  // namespace
}  // namespace workload
