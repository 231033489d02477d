#include "mm/explore.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "mm/sync.h"

namespace mm {
namespace {

using testing::HasSubstr;

// A race over a few numbers and locks.
struct Toy : Race {
  using Body = std::function<void(Toy&)>;
  explicit Toy(const std::vector<Body>& jobs) : bodies(jobs) {}
  void Run(unsigned cpu) override { bodies[cpu](*this); }
  std::optional<std::string> Check() override { return wrong(*this); }
  uint64_t State() override {
    uint64_t state = 0;
    for (const int n : number) state = base::Mix64(state ^ static_cast<uint64_t>(n));
    return state;
  }
  // number[i] = number[i] + n, in two steps.
  void AddInTwoSteps(int i, int n) {
    racy_read(&number[i], "number");
    const int before = number[i];
    racy_change(&number[i], "number");
    number[i] = before + n;
  }
  void Set(int i, int n) {
    racy_change(&number[i], "number");
    number[i] = n;
  }
  int Get(int i) {
    racy_read(&number[i], "number");
    return number[i];
  }

  const std::vector<Body>& bodies;
  int number[4] = {};
  PageTableLock locks[2];
  std::function<std::optional<std::string>(Toy&)> wrong = [](Toy&) { return std::nullopt; };
};

Explored Explore(const std::vector<Toy::Body>& bodies, ExploreOptions options,
                 std::function<std::optional<std::string>(Toy&)> wrong = nullptr) {
  options.cpus = static_cast<unsigned>(bodies.size());
  options.keep_states = true;
  return ExploreAll(
      [&] {
        auto toy = std::make_unique<Toy>(bodies);
        if (wrong) toy->wrong = wrong;
        return toy;
      },
      options);
}

const std::vector<Toy::Body> kTwoAdders = {[](Toy& t) { t.AddInTwoSteps(0, 1); },
                                           [](Toy& t) { t.AddInTwoSteps(0, 2); }};

TEST(ExploreAll, CountsTheInterleavings) {
  // Three points each (begin, read, change), no bound in the way: 6 over 3.
  ExploreOptions options{.preemptions = 6, .prune = false};
  const Explored explored = Explore(kTwoAdders, options);
  EXPECT_TRUE(explored.complete);
  EXPECT_EQ(explored.schedules, 20u);
  EXPECT_EQ(explored.points_longest, 6u);
  EXPECT_EQ(explored.states.size(), 3u);  // 1, 2 and 3
}

TEST(ExploreAll, TheBoundIsOnPreemptions) {
  ExploreOptions options{.preemptions = 0, .prune = false};
  EXPECT_EQ(Explore(kTwoAdders, options).schedules, 2u) << "one after the other, in either order";
  EXPECT_EQ(Explore(kTwoAdders, options).states.size(), 1u);
  options.preemptions = 1;
  EXPECT_EQ(Explore(kTwoAdders, options).schedules, 2u + 2 * 2) << "at either of two places of the first";
}

TEST(ExploreAll, WhatIsNotThereIsNoObjectInCommon) {
  const auto search = [](const void* object0, const void* object1) {
    const auto use = [](int i, const void* object) {
      return [=](Toy& t) {
        for (int n = 1; n <= 4; ++n) {
          t.Set(i, n);
          uses(object, true);
        }
      };
    };
    return Explore({use(0, object0), use(1, object1)}, {.preemptions = 4}).schedules;
  };
  const int objects[2] = {};
  EXPECT_EQ(search(nullptr, nullptr), search(&objects[0], &objects[1]));
  EXPECT_LT(search(nullptr, nullptr), search(&objects[0], &objects[0]));
}

TEST(ExploreAll, FindsALostUpdateAndItsScheduleReplays) {
  const auto lost = [](Toy& t) {
    return t.number[0] == 3 ? std::nullopt : std::optional<std::string>("an update was lost");
  };
  const Explored explored = Explore(kTwoAdders, {.preemptions = 1}, lost);
  ASSERT_TRUE(explored.failure);
  EXPECT_EQ(explored.failure->what, "an update was lost");
  EXPECT_THAT(explored.Report(), HasSubstr("ckpt-schedule 1\ncpus 2\n"));
  EXPECT_THAT(explored.schedule, HasSubstr("before change number (AddInTwoSteps, mm/explore_test.cc"));

  const Schedule schedule = ParseSchedule(explored.schedule).value();
  Replay replay(schedule);
  const Explored again = RunOnce(
      [&] {
        auto toy = std::make_unique<Toy>(kTwoAdders);
        toy->wrong = lost;
        return toy;
      },
      {}, replay);
  ASSERT_TRUE(again.failure);
  EXPECT_EQ(again.failure->what, "an update was lost");
}

TEST(ExploreAll, ACheckWhileExploringIsAFailureWithItsSchedule) {
  const std::vector<Toy::Body> bodies = {[](Toy& t) { t.Set(0, 1); },
                                         [](Toy& t) { CHECK_MSG(t.Get(0) == 0, "it was set"); }};
  const Explored explored = Explore(bodies, {.preemptions = 2});
  ASSERT_TRUE(explored.failure);
  EXPECT_EQ(explored.failure->kind, Failure::Kind::kCheck);
  EXPECT_THAT(explored.failure->what, HasSubstr("it was set"));
  EXPECT_THAT(explored.schedule, HasSubstr("ckpt-schedule 1"));
}

TEST(ExploreAll, FindsADeadlockThatNeedsOnePreemption) {
  const auto both = [](Toy& t, int first) {
    Guard guard(t.locks[first]);
    NestedGuard nested(t.locks[1 - first]);
  };
  const std::vector<Toy::Body> bodies = {[&](Toy& t) { both(t, 0); }, [&](Toy& t) { both(t, 1); }};
  EXPECT_FALSE(Explore(bodies, {.preemptions = 0}).failure);
  const Explored explored = Explore(bodies, {.preemptions = 1});
  ASSERT_TRUE(explored.failure);
  EXPECT_EQ(explored.failure->kind, Failure::Kind::kDeadlock);
}

// A small random program of reads, changes and locked sections.
Toy::Body RandomBody(uint64_t seed) {
  return [seed](Toy& t) {
    base::Random random(seed);
    int held = 0;
    for (int i = 0; i < 4; ++i) {
      const int n = static_cast<int>(random.Below(3));
      switch (random.Below(4)) {
        case 0: held = held * 3 + t.Get(n); break;
        case 1: t.Set(n, held + i); break;
        case 2: t.AddInTwoSteps(n, 1 + held % 2); break;
        default: {
          Guard guard(t.locks[n % 2]);
          t.number[3] = t.number[3] * 5 + held + i;
          uses(&t.number[3], true);
        }
      }
    }
  };
}

TEST(ExploreAll, PruningReachesTheSameStatesUnderTheSameBound) {
  uint64_t all = 0;
  uint64_t fewer = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const std::vector<Toy::Body> bodies = {RandomBody(seed), RandomBody(seed + 1000)};
    for (const unsigned bound : {0u, 1u, 2u, 3u}) {
      const Explored whole = Explore(bodies, {.preemptions = bound, .prune = false});
      const Explored pruned = Explore(bodies, {.preemptions = bound, .prune = true});
      ASSERT_TRUE(whole.complete && pruned.complete);
      EXPECT_EQ(whole.states, pruned.states) << "seed " << seed << " bound " << bound;
      all += whole.schedules;
      fewer += pruned.schedules + pruned.pruned;
    }
  }
  EXPECT_LT(fewer, all * 3 / 4);
}

TEST(ExploreAll, PruningReachesTheSameStatesWithThreeCpus) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const std::vector<Toy::Body> bodies = {RandomBody(seed), RandomBody(seed + 50), RandomBody(seed + 90)};
    const Explored whole = Explore(bodies, {.preemptions = 2, .prune = false});
    const Explored pruned = Explore(bodies, {.preemptions = 2, .prune = true});
    EXPECT_EQ(whole.states, pruned.states) << "seed " << seed;
  }
}

TEST(ExploreAll, InterruptsAreChoicesToo) {
  const std::vector<Toy::Body> bodies = {[](Toy& t) {
                                           end_of_io([&t] { t.Set(1, t.number[0]); });
                                           t.Set(0, 1);
                                           t.Set(0, 2);
                                         },
                                         [](Toy&) {}};
  const Explored explored = Explore(bodies, {.preemptions = 2});
  EXPECT_FALSE(explored.failure);
  EXPECT_EQ(explored.states.size(), 3u);  // it saw 0, 1 or 2
}

TEST(ExploreRandom, FindsWhatItsSeedsFindAgain) {
  const auto lost = [](Toy& t) {
    return t.number[0] == 3 ? std::nullopt : std::optional<std::string>("lost");
  };
  const MakeRace make = [&] {
    auto toy = std::make_unique<Toy>(kTwoAdders);
    toy->wrong = lost;
    return toy;
  };
  const Explored first = ExploreRandom(make, {.schedules_max = 1000, .seed = 7});
  const Explored again = ExploreRandom(make, {.schedules_max = 1000, .seed = 7});
  ASSERT_TRUE(first.failure);
  EXPECT_EQ(first.schedules, again.schedules);
  EXPECT_EQ(first.schedule, again.schedule);
  const Explored pct = ExplorePct(make, {.schedules_max = 1000, .seed = 7});
  EXPECT_TRUE(pct.failure);
}

}  // namespace
}  // namespace mm
