// What scheduling points cost where there is one CPU, and page hinting where there is no host: the same work,
// built with and without them (points_probe.cc), run alternately.
#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "bench/bench.h"

namespace bench {
namespace {

constexpr int kPairs = 15;
constexpr size_t kPaths = 3;  // touch, COW break, scan
using Times = std::array<double, kPaths>;

Times Probe(const char* program) {
  Times times = {};
  FILE* pipe = popen(program, "r");
  CHECK(pipe != nullptr);
  CHECK(std::fscanf(pipe, "%lf %lf %lf", &times[0], &times[1], &times[2]) == 3);
  CHECK(pclose(pipe) == 0);
  return times;
}

void Compare(benchmark::State& state, const char* program, const char* program_without) {
  for (auto _ : state) {
    std::array<std::vector<double>, kPaths> percent;
    for (int pair = 0; pair < kPairs; ++pair) {
      // Each first in every other pair.
      const bool with_first = pair % 2 == 0;
      const Times first = Probe(with_first ? program : program_without);
      const Times second = Probe(with_first ? program_without : program);
      for (size_t path = 0; path < kPaths; ++path) {
        const double with = with_first ? first[path] : second[path];
        const double without = with_first ? second[path] : first[path];
        percent[path].push_back((with / without - 1) * 100);
      }
    }
    static constexpr const char* kNames[kPaths] = {"touch_percent", "cow_percent", "scan_percent"};
    for (size_t path = 0; path < kPaths; ++path) {
      std::ranges::sort(percent[path]);
      state.counters[kNames[path]] = percent[path][kPairs / 2];
    }
  }
}

void SchedulingPoints(benchmark::State& state) { Compare(state, CKPT_PROBE_POINTS, CKPT_PROBE_PLAIN); }
void HintsOff(benchmark::State& state) { Compare(state, CKPT_PROBE_POINTS, CKPT_PROBE_NO_HINTS); }

BENCHMARK(SchedulingPoints)->Iterations(1)->Unit(benchmark::kSecond);
BENCHMARK(HintsOff)->Iterations(1)->Unit(benchmark::kSecond);

}  // namespace
}  // namespace bench
