// ckpt run on several virtual CPUs: --cpus, --seed, --schedule, --save-schedule.
#include <gtest/gtest.h>

#include "tests/cli/cli.h"
#include "tests/support/workloads.h"

namespace cli_test {
namespace {

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
  EXPECT_TRUE(Refused(Ckpt({"run", "small.textproto", "--save-schedule", "x"}), 2, "has one CPU"));
  EXPECT_FALSE(Exists("x"));
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
  EXPECT_THAT(bad.err, HasSubstr("\nckpt: notice: " + why));
  EXPECT_FALSE(Exists("s"));
}

TEST_F(Cpus, AScheduleThatDoesNotFitIsSaidToBeThat) {
  Write("s", "ckpt-schedule 1\ncpus 2\n0 100000\n");
  const Outcome run = Ckpt({"run", "two.textproto", "--schedule", "s"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("the schedule does not fit"));
}

}  // namespace
}  // namespace cli_test
