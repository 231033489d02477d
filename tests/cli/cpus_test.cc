// ckpt run and ckpt restore --resume on several virtual CPUs: --cpus, --seed, --schedule, --save-schedule.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string_view>

#include "tests/cli/cli.h"
#include "tests/support/workloads.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr char kTwo[] = R"(machine { memory: "4MiB" cpus: 2 }
process { name: "a" } process { name: "b" }
file { name: "f" size: "16KiB" generator: "counter" }
step { process: "a" map { region: "m" file: "f" shared: true } }
step { process: "b" map { region: "m" file: "f" shared: true } }
step { process: "a" store { region: "m" length: "8KiB" fill { byte: 1 } } }
step { process: "b" store { region: "m" offset: "8KiB" fill { byte: 2 } } }
step { checkpoint { label: "base" } }
step { process: "a" load { region: "m" offset: "8KiB" equals { byte: 2 } } }
)";

class Cpus : public Commands {
 protected:
  Cpus() {
    Write("two.textproto", kTwo);
    Write("race.textproto", support::kRace);
  }
};

TEST_F(Cpus, TheImageIsTheSameForAnySeedAndNumber) {
  ASSERT_EQ(Ckpt({"run", "two.textproto", "-o", "one.img", "--cpus", "1"}).exit_code, 0);
  for (const char* seed : {"1", "2", "3"}) {
    ASSERT_EQ(Ckpt({"run", "two.textproto", "-o", "many.img", "--seed", seed, "--validate"}).exit_code, 0);
    EXPECT_EQ(Read("many.img"), Read("one.img"));
  }
}

TEST_F(Cpus, AScheduleIsSavedAndRunAgain) {
  ASSERT_EQ(Ckpt({"run", "two.textproto", "--seed", "9", "--save-schedule", "s"}).exit_code, 0);
  EXPECT_THAT(Read("s"), StartsWith("ckpt-schedule 1\ncpus 2\n"));
  ASSERT_EQ(Ckpt({"run", "two.textproto", "--schedule", "s", "--save-schedule", "again"}).exit_code, 0);
  EXPECT_EQ(Read("again"), Read("s"));
}

TEST_F(Cpus, AFailedRunShowsItsScheduleBehindOneErrorLine) {
  for (int seed = 1; seed <= 200; ++seed) {
    const Outcome run = Ckpt({"run", "race.textproto", "--seed", std::to_string(seed)});
    if (run.exit_code == 0) continue;
    EXPECT_EQ(run.exit_code, 1);
    EXPECT_THAT(run.err, StartsWith("ckpt: race.textproto:9: step load: the byte at region 'm' + 0 ("));
    const size_t schedule = run.err.find("ckpt-schedule 1\n");
    ASSERT_NE(schedule, std::string::npos) << run.err;
    Write("s", run.err.substr(schedule));
    const Outcome again = Ckpt({"run", "race.textproto", "--schedule", "s"});
    EXPECT_EQ(again.exit_code, 1);
    EXPECT_EQ(again.err, run.err);
    return;
  }
  ADD_FAILURE() << "no seed found the race";
}

TEST_F(Cpus, WrongOptionsAreRefusedBeforeTheRun) {
  Write("s", "ckpt-schedule 1\ncpus 4\n0 1\n");
  Write("no", "hello\n");
  EXPECT_TRUE(Refused(Ckpt({"run", "two.textproto", "--cpus", "0"}), 2, "--cpus"));
  EXPECT_TRUE(Refused(Ckpt({"run", "two.textproto", "--cpus", "17"}), 2, "--cpus"));
  EXPECT_TRUE(Refused(Ckpt({"run", "two.textproto", "--cpus", "x"}), 2, "--cpus"));
  EXPECT_TRUE(Refused(Ckpt({"run", "two.textproto", "--seed", "-1"}), 2, "--seed"));
  EXPECT_TRUE(Refused(Ckpt({"run", "two.textproto", "--schedule", "none"}), 2, "open schedule 'none'"));
  EXPECT_TRUE(Refused(Ckpt({"run", "two.textproto", "--schedule", "no"}), 2, "schedule 'no': line 1: "));
  EXPECT_TRUE(Refused(Ckpt({"run", "two.textproto", "--schedule", "s", "--cpus", "2"}), 2,
                      "schedule 's' is for 4 CPUs, not for 2"));
  EXPECT_TRUE(Refused(Ckpt({"run", "two.textproto", "--schedule", "s", "--seed", "2"}), 2, "--s"));
  EXPECT_TRUE(Refused(Ckpt({"run", "two.textproto", "--save-schedule", "no/such/s"}), 2, "no/such/s"));
}

TEST_F(Cpus, OptionsThatOneCpuHasNoUseForAreRefused) {
  Write("s", "ckpt-schedule 1\ncpus 1\n0 1\n");
  for (const Args& one : {Args{"run", "small.textproto"}, Args{"run", "two.textproto", "--cpus", "1"}}) {
    const auto with = [&](const Args& more) {
      Args args = one;
      args.insert(args.end(), {"-o", "x{label}.img"});
      args.insert(args.end(), more.begin(), more.end());
      return args;
    };
    EXPECT_TRUE(Refused(Ckpt(with({"--save-schedule", "x"})), 2, "--save-schedule 'x': the run has one CPU"));
    EXPECT_TRUE(Refused(Ckpt(with({"--seed", "7"})), 2, "--seed 7: the run has one CPU"));
    EXPECT_TRUE(Refused(Ckpt(with({"--schedule", "s"})), 2, "schedule 's' is for one CPU"));
  }
  EXPECT_THAT(Names(), ElementsAre("race.textproto", "s", "small.textproto", "two.textproto"));
}

TEST_F(Cpus, AScheduleDoesNotReplaceWhatTheRunUses) {
  ASSERT_TRUE(Good(Ckpt({"run", "two.textproto", "-q", "--save-schedule", "s"})));
  std::filesystem::create_symlink("two.textproto", Path("link"));
  const auto refused = [&](const Args& more, const std::string& says) {
    Args args = {"run", "two.textproto"};
    args.insert(args.end(), more.begin(), more.end());
    EXPECT_TRUE(Refused(Ckpt(args), 2, says)) << testing::PrintToString(more);
  };
  refused({"--save-schedule", "two.textproto"}, "--save-schedule 'two.textproto' is the workload itself");
  refused({"--save-schedule", "link"}, "--save-schedule 'link' is the workload itself");
  refused({"--save-schedule", "x", "-o", "x"}, "--save-schedule 'x' is an image of -o");
  refused({"--save-schedule", "./base", "-o", "{label}"}, "--save-schedule './base' is an image of -o");
  refused({"--save-schedule", "s", "--schedule", "s"}, "is the schedule of --schedule");
  EXPECT_EQ(Read("two.textproto"), kTwo);
  EXPECT_FALSE(Exists("x") || Exists("base"));
  const std::string line = CkptArgv({}).front() + " run two.textproto --save-schedule log > log";
  EXPECT_TRUE(Refused(Execute({"sh", "-c", line}, {.folder = Path("")}), 2,
                      "--save-schedule 'log' is where standard output goes"));
  EXPECT_TRUE(Good(Ckpt({"run", "two.textproto", "-q", "--save-schedule", "base", "-o", "base.img"})));
}

// The file system takes no more than a few bytes.
TEST_F(Cpus, AScheduleThatCannotBeSavedIsShownBehindTheErrors) {
  const Options small_disk = {.limits = {{RLIMIT_FSIZE, 10}}};
  const Outcome good = Ckpt({"run", "two.textproto", "-q", "--save-schedule", "s"}, small_disk);
  EXPECT_TRUE(Refused(good, 2, "--save-schedule 's': s: cannot write"));
  for (int seed = 1; seed <= 200; ++seed) {
    const Args line = {"run", "race.textproto", "-q", "--seed", std::to_string(seed)};
    const Outcome shown = Ckpt(line);
    if (shown.exit_code == 0) continue;
    Args saving = line;
    saving.insert(saving.end(), {"--save-schedule", "s"});
    const Outcome run = Ckpt(saving, small_disk);
    EXPECT_EQ(run.exit_code, 1);
    const size_t schedule = shown.err.find("ckpt-schedule 1\n");
    ASSERT_NE(schedule, std::string::npos) << shown.err;
    EXPECT_THAT(run.err,
                StartsWith(shown.err.substr(0, schedule) + "ckpt: notice: --save-schedule 's': s: "));
    EXPECT_TRUE(run.err.ends_with("\n" + shown.err.substr(schedule))) << run.err;
    EXPECT_FALSE(Exists("s"));
    return;
  }
  ADD_FAILURE() << "no seed found the race";
}

// Of more stretches than are kept, about 600 a round: nothing is written rather than another run's schedule.
TEST_F(Cpus, AScheduleThatIsTooLongIsRefused) {
  const std::string text = R"(machine { memory: "4MiB" cpus: 2 }
process { name: "a" } process { name: "b" }
step { process: "a" map { region: "m" length: "256KiB" } }
step { process: "b" map { region: "m" length: "256KiB" } }
step { repeat { times: 2000
  step { process: "a" touch { region: "m" } } step { process: "a" madvise { region: "m" advice: DONTNEED } }
  step { process: "b" touch { region: "m" } } step { process: "b" madvise { region: "m" advice: DONTNEED } }
} }
)";
  Write("long.textproto", text);
  const std::string why =
      "the schedule is too long to be kept (more than 1048576 stretches); --seed 7 gives the same run again";
  const Outcome good = Ckpt({"run", "long.textproto", "-q", "--seed", "7", "--save-schedule", "s"});
  EXPECT_TRUE(Refused(good, 2, "--save-schedule 's': " + why));
  Write("long.textproto", text + "step { load { region: \"m\" equals { byte: 1 } } }\n");
  const Outcome bad = Ckpt({"run", "long.textproto", "-q", "--seed", "7", "--save-schedule", "s"});
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_THAT(bad.err, StartsWith("ckpt: long.textproto:9: step load: "));
  EXPECT_THAT(bad.err, HasSubstr("\nckpt: notice: --save-schedule 's': " + why));
  EXPECT_FALSE(Exists("s"));
}

TEST_F(Cpus, AScheduleThatDoesNotFitIsSaidToBeThat) {
  Write("s", "ckpt-schedule 1\ncpus 2\n0 100000\n");
  const Outcome run = Ckpt({"run", "two.textproto", "--schedule", "s"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("the schedule does not fit"));
}

// ---- restore --resume ----

class ResumedCpus : public Cpus {
 protected:
  // The race of support::kRace lies behind the checkpoint.
  ResumedCpus() {
    std::string text = support::kRace;
    constexpr std::string_view kBarrier = "barrier {}";
    text.replace(text.find(kBarrier), kBarrier.size(), "checkpoint { label: \"base\" }");
    Write("race.textproto", text);
    Image("base.img", "base", "race.textproto");
  }
  Outcome Resume(const Args& more) const {
    Args args = {"restore", "base.img", "-q", "--resume", "race.textproto"};
    args.insert(args.end(), more.begin(), more.end());
    return Ckpt(args);
  }
};

TEST_F(ResumedCpus, ASeedOrAScheduleGivesTheRunAgain) {
  std::set<int> exit_codes;
  std::set<std::string> schedules;
  for (int seed = 1; seed <= 200 && exit_codes.size() < 2; ++seed) {
    const Outcome run = Resume({"--seed", std::to_string(seed), "--save-schedule", "s"});
    exit_codes.insert(run.exit_code);
    schedules.insert(Read("s"));
    EXPECT_THAT(Read("s"), StartsWith("ckpt-schedule 1\ncpus 2\n"));
    EXPECT_EQ(run.err.empty(), run.exit_code == 0) << run;
    const Outcome again = Resume({"--schedule", "s", "--save-schedule", "again"});
    EXPECT_EQ(again.exit_code, run.exit_code);
    EXPECT_EQ(again.err, run.err);
    EXPECT_EQ(Read("again"), Read("s"));
  }
  EXPECT_EQ(exit_codes, (std::set<int>{0, 1})) << "no seed found the race, or none did not";
  EXPECT_GT(schedules.size(), 1u);
}

TEST_F(ResumedCpus, AFailedRunShowsItsSchedule) {
  for (int seed = 1; seed <= 200; ++seed) {
    const Outcome run = Resume({"--seed", std::to_string(seed)});
    if (run.exit_code == 0) continue;
    EXPECT_EQ(run.exit_code, 1);
    EXPECT_THAT(run.err, StartsWith("ckpt: race.textproto:9: step load: "));
    EXPECT_THAT(run.err, HasSubstr("\nckpt-schedule 1\ncpus 2\n"));
    return;
  }
  ADD_FAILURE() << "no seed found the race";
}

TEST_F(ResumedCpus, AsManyAsTheOptionSays) {
  // In the order of the script, which is a failure without a schedule.
  EXPECT_TRUE(Refused(Resume({"--cpus", "1"}), 1, "race.textproto:9: step load: "));
  (void)Resume({"--cpus", "3", "--save-schedule", "s"});
  EXPECT_THAT(Read("s"), HasSubstr("\ncpus 3\n"));
}

TEST_F(ResumedCpus, WrongOptionsAreRefusedBeforeAnythingIsBuilt) {
  EXPECT_TRUE(Refused(Resume({"--cpus", "1", "--seed", "2"}), 2, "--seed 2: the run has one CPU"));
  EXPECT_TRUE(Refused(Resume({"--save-schedule", "base.img"}), 2, "'base.img' is the image itself"));
  EXPECT_TRUE(Refused(Resume({"--save-schedule", "race.textproto"}), 2, "is the workload itself"));
  EXPECT_TRUE(Refused(Resume({"--save-schedule", "x", "-o", "x"}), 2, "'x' is the image of -o"));
  EXPECT_FALSE(Exists("x"));
  Write("s", "ckpt-schedule 1\ncpus 2\n0 1\n");
  for (const Args& option :
       {Args{"--cpus", "2"}, Args{"--seed", "2"}, Args{"--schedule", "s"}, Args{"--save-schedule", "x"}}) {
    EXPECT_TRUE(Refused(Ckpt({"restore", "base.img", option[0], option[1]}), 2, "--resume"));
  }
}

}  // namespace
}  // namespace cli_test
