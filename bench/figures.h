// The figures that have limits: which counter of which benchmark, what it means, and what it must be.
// And what is made of them: a table for the terminal, a page for docs/.
#pragma once

#include <benchmark/benchmark.h>

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace bench {

enum class Bound : uint8_t { kAtLeast, kAtMost };

struct Figure {
  std::string_view benchmark;
  std::string_view counter;
  std::string_view what;
  std::string_view unit;  // "" for a ratio
  Bound bound;
  double limit;
  std::optional<double> aim;
  std::string_view bounded_by;  // why it may miss its limit
};
std::span<const Figure> Figures();

// The counter of one benchmark over its repetitions.
struct Measured {
  double median = 0;
  double least = 0;
  double most = 0;
};
using Results = std::map<std::string, std::map<std::string, Measured>>;  // by benchmark and counter

// Gathers counters, and says on standard error what runs.
class Collector final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override;
  const Results& results() const { return results_; }

 private:
  Results results_;
};

// Whether every figure that was measured is within its limit.
bool AllMet(const Results& results);
std::string Table(const Results& results);
// docs/benchmarks.md. Says nothing of when and on whose machine.
std::string Page(const Results& results);

}  // namespace bench
