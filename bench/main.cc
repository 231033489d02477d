// ckpt_bench [--page=FILE] [--benchmark_filter=REGEX]: runs the benchmarks, prints the table of limits, and
// writes it with how it was measured to FILE.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

#include "bench/figures.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  std::string page;
  constexpr std::string_view kPage = "--page=";
  if (argc == 2 && std::string_view(argv[1]).starts_with(kPage)) {
    page = argv[1] + kPage.size();
  } else if (argc > 1) {
    std::fprintf(stderr, "usage: ckpt_bench [--page=FILE] [--benchmark_filter=REGEX]\n");
    return 2;
  }
  bench::Collector collector;
  if (benchmark::RunSpecifiedBenchmarks(&collector) == 0) return 2;
  std::fputs(bench::Table(collector.results()).c_str(), stdout);
  if (page.empty()) return 0;
  std::ofstream out(page);
  out << bench::Page(collector.results()) << std::flush;
  if (out.good()) return 0;
  std::fprintf(stderr, "ckpt_bench: cannot write %s\n", page.c_str());
  return 2;
}
