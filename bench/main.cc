// ckpt_bench [--swap] [--page=FILE] [--benchmark_filter=REGEX]: runs the benchmarks, prints the table of
// limits, and writes it with how it was measured to FILE. With --swap, as root, it makes a zram swap device
// of the running kernel to compare with, and removes it.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

#include "bench/bench.h"
#include "bench/figures.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  std::string page;
  constexpr std::string_view kPage = "--page=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--swap") {
      bench::g_may_swap = true;
    } else if (word.starts_with(kPage)) {
      page = word.substr(kPage.size());
    } else {
      std::fprintf(stderr, "usage: ckpt_bench [--swap] [--page=FILE] [--benchmark_filter=REGEX]\n");
      return 2;
    }
  }
  bench::Collector collector;
  if (benchmark::RunSpecifiedBenchmarks(&collector) == 0) return 2;
  std::fputs(bench::Table(collector.results()).c_str(), stdout);
  const int verdict = bench::AllMet(collector.results()) ? 0 : 1;
  if (page.empty()) return verdict;
  std::ofstream out(page);
  out << bench::Page(collector.results()) << std::flush;
  if (out.good()) return verdict;
  std::fprintf(stderr, "ckpt_bench: cannot write %s\n", page.c_str());
  return 2;
}
