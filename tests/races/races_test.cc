// Every race of race_world.h through every interleaving up to a bound of preemptions.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "tests/races/race_world.h"

namespace races {
namespace {

class Exhaustive : public testing::TestWithParam<const Spec*> {};

TEST_P(Exhaustive, HoldsInEveryInterleaving) {
  const Spec& spec = *GetParam();
  mm::ExploreOptions options;
  options.cpus = static_cast<unsigned>(spec.cpus.size());
  options.preemptions = getenv("BOUND") ? atoi(getenv("BOUND")) : 2;
  options.prune = !getenv("NOPRUNE");
  const auto start = std::chrono::steady_clock::now();
  const mm::Explored explored = mm::ExploreAll(Maker(spec), options);
  const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%s: %s; %.2f s %.0f/s\n", spec.name.c_str(), explored.Report().c_str(), s,
              static_cast<double>(explored.schedules + explored.pruned) / s);
  EXPECT_FALSE(explored.failure);
  EXPECT_TRUE(explored.complete);
}

std::vector<const Spec*> All() {
  std::vector<const Spec*> all;
  for (const Spec& spec : Races()) all.push_back(&spec);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Races, Exhaustive, testing::ValuesIn(All()),
                         [](const auto& race) { return race.param->name; });

}  // namespace
}  // namespace races
