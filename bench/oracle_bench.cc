// The oracle: random steps on the model and as real system calls, everything compared after each.
#include <benchmark/benchmark.h>

#include "base/check.h"
#include "bench/bench.h"
#include "live/oracle.h"
#include "live/random_oracle.h"

namespace bench {
namespace {

constexpr uint64_t kSteps = 20'000;

void OracleRate(benchmark::State& state) {
  const OneCore core;  // the oracle's processes are its children, and run there too
  auto oracle = Must(live::Oracle::Create({}));
  uint64_t seed = 0;
  for (auto _ : state) {
    live::RandomReport report;
    const double seconds =
        WallSeconds([&] { report = Must(live::RunRandom(*oracle, {.steps = kSteps, .seed = ++seed})); });
    CHECK(!report.difference);
    state.SetIterationTime(seconds);
    state.counters["per_second"] = static_cast<double>(report.steps) / seconds;
  }
}
BENCHMARK(OracleRate)->Apply([](auto* b) { Pairs(b); });

}  // namespace
}  // namespace bench
