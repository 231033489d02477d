// Every race of race_world.h: through every interleaving up to a bound of preemptions with the CPUs that it
// has, and at random on four.
//
//   CKPT_LONG=1  every bound is 3 (or the race's long_bound), and many more schedules at random
//   CKPT_SEED=N  the seed of the random ones
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>

#include "base/random.h"
#include "tests/races/race_world.h"

namespace races {
namespace {

constexpr unsigned kBound = 3;
constexpr uint64_t kFixedSeed = 20100501;
#ifdef __SANITIZE_ADDRESS__
constexpr unsigned kSlower = 10;
#else
constexpr unsigned kSlower = 1;
#endif

bool LongRun() {
  const char* value = std::getenv("CKPT_LONG");
  return value != nullptr && std::string_view(value) == "1";
}

unsigned BoundOf(const Spec& spec) {
  if (LongRun()) return spec.long_bound;
  return std::min(spec.short_bound, kSlower > 1 ? 1u : kBound);
}

std::vector<const Spec*> All() {
  std::vector<const Spec*> all;
  for (const Spec& spec : Races()) all.push_back(&spec);
  return all;
}

class EachRace : public testing::TestWithParam<const Spec*> {};

TEST_P(EachRace, HoldsInEveryInterleaving) {
  const Spec& spec = *GetParam();
  mm::ExploreOptions options;
  options.cpus = static_cast<unsigned>(spec.cpus.size());
  options.preemptions = BoundOf(spec);
  options.host_moves = spec.host_moves;
  const auto start = std::chrono::steady_clock::now();
  const mm::Explored explored = mm::ExploreAll(Maker(spec), options);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%s, bound %u: %s; %.1f s\n", spec.name.c_str(), options.preemptions, explored.Report().c_str(),
              took.count());
  if (spec.broken) {
    EXPECT_TRUE(explored.failure) << "what this kernel had wrong cannot be seen";
    return;
  }
  EXPECT_FALSE(explored.failure) << explored.Report();
  EXPECT_TRUE(explored.complete);
}

void Random(const Spec& spec, uint64_t seed, uint64_t schedules) {
  if (spec.broken) return;
  mm::ExploreOptions options;
  options.cpus = 4;
  options.seed = seed;
  options.host_moves = spec.host_moves;
  options.schedules_max = schedules;
  const mm::Explored random = mm::ExploreRandom(Maker(spec), options);
  EXPECT_FALSE(random.failure) << "CKPT_SEED=" << seed << "\n" << random.Report();
  const mm::Explored pct = mm::ExplorePct(Maker(spec), options);
  EXPECT_FALSE(pct.failure) << "by priorities, CKPT_SEED=" << seed << "\n" << pct.Report();
}

uint64_t Schedules() { return LongRun() ? 5000 : 100 / kSlower; }

TEST_P(EachRace, HoldsAtRandomOnFourCpus) { Random(*GetParam(), kFixedSeed, Schedules()); }

TEST_P(EachRace, HoldsAtRandomOnFourCpusFromAFreshSeed) {
  const char* given = std::getenv("CKPT_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::printf("CKPT_SEED=%llu\n", static_cast<unsigned long long>(seed));
  Random(*GetParam(), seed, Schedules());
}

INSTANTIATE_TEST_SUITE_P(Races, EachRace, testing::ValuesIn(All()),
                         [](const auto& race) { return race.param->name; });

// Pruning leaves out only what leads to a state that another interleaving leads to as well.
TEST(Pruning, ReachesTheSameStates) {
  for (const auto& [name, bound] :
       {std::pair("fault_against_fault_anonymous", 2u), std::pair("cow_break_against_fork", 2u),
        std::pair("swap_out_against_store", 1u), std::pair("M06_load_against_truncate", 1u)}) {
    Spec spec = FindRace(name);
    spec.keep_state = true;
    mm::ExploreOptions options;
    options.preemptions = bound;
    options.keep_states = true;
    const mm::Explored pruned = mm::ExploreAll(Maker(spec), options);
    options.prune = false;
    const mm::Explored all = mm::ExploreAll(Maker(spec), options);
    std::printf("%s, bound %u: %zu states by %llu schedules, and by %llu (%llu pruned)\n", name, bound,
                all.states.size(), static_cast<unsigned long long>(all.schedules),
                static_cast<unsigned long long>(pruned.schedules),
                static_cast<unsigned long long>(pruned.pruned));
    ASSERT_TRUE(pruned.complete && all.complete);
    EXPECT_GT(all.states.size(), 1u);
    EXPECT_EQ(pruned.states, all.states);
  }
}

}  // namespace
}  // namespace races
