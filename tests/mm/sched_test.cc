#include "mm/sched.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "mm/sync.h"

namespace mm {
namespace {

using testing::HasSubstr;

// Each CPU says its number at each of its points.
struct Talk {
  explicit Talk(unsigned count, int points = 4) : cpus(count) {
    for (unsigned i = 0; i < count; ++i) {
      jobs.push_back([this, i, points] {
        for (int n = 0; n < points; ++n) {
          racy_change(&shared, "shared");
          said += static_cast<char>('0' + i);
        }
      });
    }
  }
  std::optional<Failure> Run(Scheduler& scheduler) {
    said.clear();
    cpus.ClearTrace();
    return cpus.Run(jobs, scheduler);
  }
  Cpus cpus;
  std::vector<Cpus::Job> jobs;
  std::string said;
  int shared = 0;
};

TEST(RoundRobinTest, TakesEachInTurn) {
  Talk talk(3);
  RoundRobin each;
  ASSERT_FALSE(talk.Run(each));
  EXPECT_EQ(talk.said, "012012012012");
  RoundRobin two(2);
  ASSERT_FALSE(talk.Run(two));
  EXPECT_EQ(talk.said.size(), 12u);
  EXPECT_THAT(talk.said, HasSubstr("00"));
}

TEST(RandomSchedulerTest, SameSeedSameRunAndOthersDiffer) {
  Talk talk(3);
  std::set<std::string> runs;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    RandomScheduler scheduler(seed);
    ASSERT_FALSE(talk.Run(scheduler));
    const std::string first = talk.said;
    RandomScheduler again(seed);
    ASSERT_FALSE(talk.Run(again));
    EXPECT_EQ(talk.said, first);
    runs.insert(first);
  }
  EXPECT_GT(runs.size(), 15u);
}

TEST(PctSchedulerTest, RunsTheHighestPriorityAndChangesItAtFewPoints) {
  Talk talk(2, 10);
  for (uint64_t seed = 0; seed < 50; ++seed) {
    PctScheduler scheduler(seed, 3, 20);
    ASSERT_FALSE(talk.Run(scheduler));
    int switches = 0;
    for (size_t i = 1; i < talk.said.size(); ++i) switches += talk.said[i] != talk.said[i - 1] ? 1 : 0;
    EXPECT_LE(switches, 3) << talk.said;  // one when a CPU ends, and at most one for each of two changes
  }
}

TEST(StopBeforeTest, StopsThereAndLetsTheOthersEnd) {
  PageTableLock lock;
  std::string said;
  const std::vector<Cpus::Job> jobs = {[&] {
                                         said += 'a';
                                         Guard guard(lock);
                                         said += 'b';
                                       },
                                       [&] {
                                         Guard guard(lock);
                                         said += 'c';
                                       }};
  Cpus cpus(2);
  StopBefore scheduler(0, "TestBody", "page_table_lock");
  ASSERT_FALSE(cpus.Run(jobs, scheduler));
  EXPECT_TRUE(scheduler.stopped());
  EXPECT_EQ(said, "acb");
}

// Each stands before its own letter when the next one is told to go; behind the last place the others come
// first.
TEST(StopBeforeTest, OnePlaceAfterTheOther) {
  int shared = 0;
  std::string said;
  const auto say = [&](char letter, const char* name) {
    racy_change(&shared, name);
    said += letter;
  };
  const std::vector<Cpus::Job> jobs = {[&] { say('a', "x"), say('b', "x"), say('c', "y"); },
                                       [&] { say('1', "x"), say('2', "y"); }};
  Cpus cpus(2);
  StopBefore scheduler({{0, "TestBody", "x", 2}, {1, "TestBody", "y"}, {0, "TestBody", "y"}});
  ASSERT_FALSE(cpus.Run(jobs, scheduler));
  EXPECT_TRUE(scheduler.stopped());
  EXPECT_EQ(said, "a1b2c");
  said.clear();
  StopBefore nowhere({{0, "TestBody", "x"}, {1, "TestBody", "z"}});
  ASSERT_FALSE(cpus.Run(jobs, nowhere));
  EXPECT_FALSE(nowhere.stopped());
  EXPECT_EQ(said, "12abc");
}

TEST(ScheduleText, IsReadBackAndGivesTheSameRun) {
  Talk talk(3, 6);
  for (uint64_t seed = 0; seed < 30; ++seed) {
    RandomScheduler scheduler(seed);
    ASSERT_FALSE(talk.Run(scheduler));
    const std::string said = talk.said;
    const std::string text = FormatSchedule(3, talk.cpus.trace());
    const auto schedule = ParseSchedule(text);
    ASSERT_TRUE(schedule) << schedule.error().what;
    EXPECT_EQ(schedule->cpus, 3u);
    Replay replay(*schedule);
    ASSERT_FALSE(talk.Run(replay)) << text;
    EXPECT_EQ(talk.said, said) << text;
    EXPECT_EQ(FormatSchedule(3, talk.cpus.trace()), text);
  }
}

TEST(ScheduleText, HoldsInterrupts) {
  int shared = 0;
  std::string said;
  const std::vector<Cpus::Job> jobs = {[&] {
                                         end_of_io([&] { said += 'i'; });
                                         for (int i = 0; i < 5; ++i) {
                                           racy_change(&shared, "shared");
                                           said += 'a';
                                         }
                                       },
                                       [&] {
                                         racy_change(&shared, "shared");
                                         said += 'b';
                                       }};
  std::set<std::string> runs;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Cpus cpus(2);
    RandomScheduler scheduler(seed);
    said.clear();
    ASSERT_FALSE(cpus.Run(jobs, scheduler));
    const std::string first = said;
    const Schedule schedule = ParseSchedule(FormatSchedule(2, cpus.trace())).value();
    Replay replay(schedule);
    said.clear();
    const auto failure = cpus.Run(jobs, replay);
    ASSERT_FALSE(failure) << failure->what;
    EXPECT_EQ(said, first);
    runs.insert(first);
  }
  EXPECT_GT(runs.size(), 5u);
}

TEST(ScheduleText, SaysWhatIsWrongWithIt) {
  const auto error = [](std::string_view text) {
    const auto schedule = ParseSchedule(text);
    return schedule ? std::string("it was read") : schedule.error().what;
  };
  EXPECT_THAT(error(""), HasSubstr("no schedule"));
  EXPECT_THAT(error("hello\n"), HasSubstr("line 1"));
  EXPECT_THAT(error("ckpt-schedule 2\n"), HasSubstr("line 1"));
  EXPECT_THAT(error("ckpt-schedule 1\ncpus 0\n"), HasSubstr("line 2"));
  EXPECT_THAT(error("ckpt-schedule 1\ncpus 99\n"), HasSubstr("line 2"));
  EXPECT_THAT(error("ckpt-schedule 1\ncpus 2\n2 5\n"),
              HasSubstr("line 3: it begins with the number of a CPU"));
  EXPECT_THAT(error("ckpt-schedule 1\ncpus 2\n1 0\n"), HasSubstr("line 3"));
  EXPECT_THAT(error("ckpt-schedule 1\ncpus 2\n1 irq none\n"), HasSubstr("an interrupt is timer"));
  EXPECT_THAT(error("ckpt-schedule 1\ncpus 2\n# a comment\n\n1 5 6\n"), HasSubstr("line 5"));
}

TEST(ReplayTest, ARunThatDoesNotFitIsAFailure) {
  Talk talk(2, 2);
  const Schedule too_long = ParseSchedule("ckpt-schedule 1\ncpus 2\n0 100\n1 3\n").value();
  Replay replay(too_long);
  const auto failure = talk.Run(replay);
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->kind, Failure::Kind::kSchedule);
  EXPECT_THAT(failure->what, HasSubstr("does not fit"));
}

TEST(ReplayTest, AnotherPlaceThanTheScheduleNamesIsAFailure) {
  Talk talk(2, 3);
  const Schedule other =
      ParseSchedule(
          "ckpt-schedule 1\ncpus 2\n0 1  # before lock page_table_lock (DoWpPage, mm/x.cc:1)\n1 2\n")
          .value();
  Replay replay(other);
  const auto failure = talk.Run(replay);
  ASSERT_TRUE(failure);
  EXPECT_THAT(failure->what, HasSubstr("not before lock page_table_lock (DoWpPage"));
}

TEST(PlaceOfTest, NamesTheFunctionWithoutItsTypes) {
  PageTableLock lock;
  std::string place;
  const std::vector<Cpus::Job> jobs = {[&] { lock.lock(), lock.unlock(); }};
  class Look : public Scheduler {
   public:
    size_t Choose(Cpus&) override { return 0; }
    void Passed(Cpus&, unsigned, const Op& op) override { places += PlaceOf(op) + "\n"; }
    std::string places;
  } look;
  Cpus cpus(1);
  ASSERT_FALSE(cpus.Run(jobs, look));
  EXPECT_THAT(look.places, HasSubstr("begin\nlock page_table_lock ("));
  EXPECT_THAT(look.places, HasSubstr("mm/sched_test.cc:"));
}

}  // namespace
}  // namespace mm
