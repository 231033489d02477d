#include "bench/figures.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <vector>

#include "base/error.h"

namespace bench {
namespace {

constexpr std::string_view kMemoryBound =
    "both sides wait for memory here: where the memory is slower or busier, the ratio moves towards 1";
constexpr std::string_view kOwnBound =
    "what the fault does itself keeps the frames that come next from being fetched";
constexpr std::string_view kScanBound = "misses of Pages, and branches that nothing can predict";
constexpr std::string_view kRunBound =
    "a run ends at every page, so that each page costs a search of its own";
constexpr std::string_view kCoresBound =
    "a core that somebody else has is missed by the side with more threads";
constexpr std::string_view kCopyBound =
    "one thread writes, hashing and looking for equal pages has the other core, and memory is what both wait "
    "for";
constexpr std::string_view kIndexBound =
    "the whole map of the memory is in each child, and made again for it";
constexpr std::string_view kSwapBound =
    "misses of Pages and ptes at random places, some dozen for each page that is moved";
constexpr std::string_view kPointsBound = "a branch at each point, and what the compiler makes of the rest";
constexpr std::string_view kHintsBound =
    "a branch wherever the guest would tell its host something, and what the compiler makes of the rest";
constexpr std::string_view kHostBound = "the host looks at each access, and notes it";
constexpr std::string_view kStatesBound =
    "a look at the page's bits and counts, and two requests of the host";
constexpr std::string_view kExploreBound = "making and checking a machine for each interleaving";
constexpr std::string_view kOracleBound =
    "two switches between processes and a copy of their memory for each step";
constexpr std::string_view kByDesign = "what is kept for each page, section or chunk";

using enum Bound;
constexpr Figure kFigures[] = {
    {"TouchFresh",
     "ratio",
     "first write touch, fresh arena: rate over the kernel's",
     "",
     kAtLeast,
     2,
     {},
     kMemoryBound},
    {"TouchRecycled",
     "ratio",
     "first write touch, recycled frames: rate over the kernel's",
     "",
     kAtLeast,
     3,
     {},
     kMemoryBound},
    {"CowBreak/fresh",
     "ratio",
     "COW break, fresh arena: rate over the kernel's",
     "",
     kAtLeast,
     1.3,
     {},
     kMemoryBound},
    {"CowBreak/recycled",
     "ratio",
     "COW break, recycled frames: rate over the kernel's",
     "",
     kAtLeast,
     3,
     {},
     kMemoryBound},
    {"TouchRecycled", "own_ns", "write touch beyond clearing the same frames", "ns a fault", kAtMost, 60, 30,
     kOwnBound},
    {"CowBreak/recycled", "own_ns", "COW break beyond copying the same frames", "ns a fault", kAtMost, 60, 30,
     kOwnBound},
    {"ScanModified", "page_ns", "scan, every page modified", "ns a page", kAtMost, 20, 8, kScanBound},
    {"ScanMixed", "page_ns", "scan, clean and modified at random", "ns a page", kAtMost, 20, 8, kScanBound},
    {"ScanForked", "page_ns", "scan, every second page shared after a fork", "ns a page", kAtMost, 20, 8,
     kRunBound},
    {"ScanHole", "ms", "scan of 1 TiB of hole", "ms", kAtMost, 1, {}, kScanBound},
    {"TryToUnmap",
     "page_ns",
     "try_to_unmap of a file page with one mapper",
     "ns",
     kAtMost,
     300,
     {},
     kScanBound},
    {"SwapCycle",
     "ratio",
     "swap-out and swap-in, incompressible: rate over the kernel's with zram",
     "",
     kAtLeast,
     3,
     {},
     kMemoryBound},
    {"TenPercent",
     "beyond_percent",
     "a process with ten times the memory: time beyond memcpy",
     "% of it",
     kAtMost,
     60,
     {},
     kSwapBound},
    {"DumpLevel1", "ratio", "dump, level 1: bytes/s over `zstd -1 -T0`", "", kAtLeast, 1.2, {}, kCoresBound},
    {"DumpRaw", "ratio", "dump, raw: bytes/s over `cp --reflink=never`", "", kAtLeast, 0.9, {}, kCopyBound},
    {"Dedup", "percent", "what it costs to look for repeated pages", "% more", kAtMost, 10, {}, kCopyBound},
    {"Incremental/zstd",
     "ratio",
     "child with 1% written: times faster than the whole, zstd",
     "",
     kAtLeast,
     30,
     {},
     kIndexBound},
    {"Incremental/raw", "ratio", "the same, raw", "", kAtLeast, 12, {}, kIndexBound},
    {"Incremental/zstd",
     "size_percent",
     "its size beyond 64 KiB",
     "% of the whole",
     kAtMost,
     2,
     {},
     kIndexBound},
    {"Restore", "ratio", "restore: bytes/s over `zstd -d -o FILE`", "", kAtLeast, 1.5, {}, kCoresBound},
    {"DumpRaw", "verify_gb_s", "verify, raw", "GB/s", kAtLeast, 1.5, {}, kCopyBound},
    {"SchedulingPoints",
     "touch_percent",
     "scheduling points on one CPU: write touch",
     "% more",
     kAtMost,
     3,
     {},
     kPointsBound},
    {"SchedulingPoints", "cow_percent", "the same, COW break", "% more", kAtMost, 3, {}, kPointsBound},
    {"SchedulingPoints", "scan_percent", "the same, scan", "% more", kAtMost, 3, {}, kPointsBound},
    {"HintsOff",
     "touch_percent",
     "page hinting, with no host: write touch",
     "% more",
     kAtMost,
     3,
     {},
     kHintsBound},
    {"HintsOff", "cow_percent", "the same, COW break", "% more", kAtMost, 3, {}, kHintsBound},
    {"HintsOff", "scan_percent", "the same, scan", "% more", kAtMost, 3, {}, kHintsBound},
    {"HintedMinorFault",
     "more_percent",
     "page hinting, a host with room: minor read fault on a cached page",
     "% more",
     kAtMost,
     5,
     {},
     kHostBound},
    {"HintedMinorFault",
     "requests",
     "what 32768 of these faults ask of the host",
     "",
     kAtMost,
     0,
     {},
     kByDesign},
    {"PageStates",
     "pair_ns",
     "page_make_volatile and page_make_stable, together",
     "ns",
     kAtMost,
     40,
     {},
     kStatesBound},
    {"Exploration", "per_second", "interleavings explored on one core", "a second", kAtLeast, 50000, 200000,
     kExploreBound},
    {"OracleRate", "per_second", "oracle: random steps on 64 pages, all compared after each, one core",
     "a second", kAtLeast, 4000, 8000, kOracleBound},
    {"PageMetadata", "bytes", "metadata of a page", "bytes", kAtMost, 64, {}, kByDesign},
    {"AddedMemory/exclusive",
     "dump_mib",
     "memory that a dump of 262144 pages adds",
     "MiB",
     kAtMost,
     72,
     {},
     kByDesign},
    {"AddedMemory/exclusive",
     "restore_mib",
     "memory that their restore adds",
     "MiB",
     kAtMost,
     72,
     {},
     kByDesign},
    {"AddedMemory/fragmented",
     "dump_mib",
     "the same dump, all shared, in runs of one page",
     "MiB",
     kAtMost,
     72,
     {},
     kByDesign},
    {"AddedMemory/fragmented", "restore_mib", "the same restore", "MiB", kAtMost, 72, {}, kByDesign},
    {"MillionPages",
     "peak_gib",
     "4 GiB modified: dump, verify, restore, diff; image in tmpfs",
     "GiB",
     kAtMost,
     24,
     {},
     kByDesign},
};

// Rounded to the worse side, so that no figure looks better than it is.
std::string Number(double value, Bound bound) {
  if (value == std::floor(value)) return base::Format("%.0f", value);
  const double scale = std::abs(value) < 100 ? 100 : 1;
  const double rounded = bound == kAtLeast ? std::floor(value * scale) : std::ceil(value * scale);
  return base::Format(scale > 1 ? "%.2f" : "%.0f", rounded / scale);
}

bool Holds(const Figure& figure, double value, double limit) {
  return figure.bound == kAtLeast ? value >= limit : value <= limit;
}

const Measured* Find(const Results& results, const Figure& figure) {
  const auto benchmark = results.find(std::string(figure.benchmark));
  if (benchmark == results.end()) return nullptr;
  const auto counter = benchmark->second.find(std::string(figure.counter));
  return counter == benchmark->second.end() ? nullptr : &counter->second;
}

struct Row {
  std::string what, value, range, limit, aim, met;
};

// `all`: those that were not measured, too.
std::vector<Row> Rows(const Results& results, bool all) {
  std::vector<Row> rows;
  for (const Figure& figure : kFigures) {
    const Measured* measured = Find(results, figure);
    if (measured == nullptr) {
      if (all) rows.push_back({std::string(figure.what), "not measured", "", "", "", ""});
      continue;
    }
    const std::string unit = figure.unit.empty() ? "" : " " + std::string(figure.unit);
    const std::string sign = figure.bound == kAtLeast ? ">= " : "<= ";
    Row row;
    row.what = figure.what;
    row.value = Number(measured->median, figure.bound) + unit;
    row.range = Number(measured->least, figure.bound) + " .. " + Number(measured->most, figure.bound);
    row.limit = sign + base::Format("%g", figure.limit);
    if (figure.aim) row.aim = sign + base::Format("%g", *figure.aim);
    row.met = !Holds(figure, measured->median, figure.limit)                ? "MISSED"
              : figure.aim && !Holds(figure, measured->median, *figure.aim) ? "met, not the aim"
                                                                            : "met";
    rows.push_back(std::move(row));
  }
  return rows;
}

// The value of the first line of a file that starts with `key`, behind its colon.
std::string FieldOf(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t begin = line.find_first_not_of(": \t", key.size());
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "unknown";
}

std::string MachineText() {
  utsname name;
  if (uname(&name) != 0) return "";
  const double memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return base::Format("%ld cores (%s), %.0f GiB of memory, Linux %s, GCC %d.%d, release build.",
                      sysconf(_SC_NPROCESSORS_ONLN), FieldOf("/proc/cpuinfo", "model name").c_str(),
                      memory / 1024 / 1024 / 1024, name.release, __GNUC__, __GNUC_MINOR__);
}

std::string Reasons(const Results& results) {
  std::string text;
  for (const Figure& figure : kFigures) {
    const Measured* measured = Find(results, figure);
    if (measured == nullptr || Holds(figure, measured->median, figure.limit)) continue;
    text += base::Format("- MISSED: %s: %s.\n", std::string(figure.what).c_str(),
                         std::string(figure.bounded_by).c_str());
  }
  return text.empty() ? "Every figure that was measured is within its limit.\n" : text;
}

constexpr const char* kHow = R"(
## How it is measured

- Each row is the median of several repetitions, and the range beside it is that of all of them. One
  repetition measures one pair back to back: our side, then what it is compared with. Ratios are formed
  within a pair, never across runs.
- Figures are rounded to the worse side.
- Faults and scans: one core, and the time that the thread itself used (in it and in the kernel for it), so
  that what others run on that core does not count. 1 GiB, one byte stored into each page, 4 KiB pages on
  both sides (`MADV_NOHUGEPAGE` for the kernel's). *Fresh arena*: a new machine, whose memory the running
  kernel has not backed yet; that is inside the timing. *Recycled frames*: the frames were used and freed
  before. For the COW break the kernel's side is a real `fork` whose child waits while the parent writes.
- *Beyond clearing, copying*: the time a fault, less that of filling the same frames in the same order by the same
  loop, which fetches the next frame into the cache while it fills this one; measured right after it.
  `clear_ns` and `copy_ns`, below, are the C library's `memset` and `memcpy` in a plain loop, which is slower.
- Dump and restore: wall time on all cores, 1 GiB (a third random, a third text, a third nearly zero, in
  stretches of 16 pages), both sides from memory to a file in tmpfs, `--no-sync`. `zstd -d` decompresses our own
  image. Ours is called in the process; `zstd` is started as a program, which costs it about a millisecond.
  Raw: pages as they are, beside `cp` of a file with the same bytes. Children: 2,621 stores to random pages of the
  262,144, with tracking; the whole dump is the one before it.
  `cpu_ratio`, below, compares processor time instead: that one hardly moves when the cores are shared.
- `try_to_unmap`: 65,536 pages of a shared file mapping in random order. `ManyVmas`, below: one page of a file
  that 10,000 vmas map, looked up in the interval tree and in the plain list of seed 003.
- Scheduling points, page hinting with no host: fresh processes of two builds of the model, with them and with
  them compiled out, alternately; the median of 15 pairs. Minor read faults: all pages of a cached file of
  128 MiB that was just mapped, touched in order, on a machine under whose guest (gph2009) a host has room for
  all of it, and on one without; each first in every other round. `load_percent`, below: with a byte read, from
  memory that is not in huge pages where there is a host, which wants to take it by the page;
  `load_hosted_percent`: beside a machine whose host takes no hints. States: the pages of that file in order,
  each held by its caller; `random_ns`, below, in random order.
- Swap: 256 MiB of random bytes out by `MADV_PAGEOUT` and in by reads, on both sides; the kernel's side has a
  zram device of its own, which is made only with `--swap` and as root (`scripts/bench --swap`). Ten times the
  memory: 200,000 stores to random pages of 640 MiB on a machine of 64 MiB; what is compared is `memcpy` of
  the pages that this moved, between the same frames and slots in the same order. `DumpSwapped`, below: reading the modified pages
  of a process that is in swap as a whole, from its slots and (as seed 004 has it) by faults.
- Added memory: the peak of the resident memory above what it was before, in a child process of its own; for
  a restore also less the restored machine itself (frames, `struct Page`, page tables). The limit is 64 MiB
  and 32 bytes for each saved page. 4 GiB: peak of resident memory and the image together.

- Oracle: the calls of 20,000 random steps (up to four processes, three files and 64 pages, sequences of up to 300
  steps with a machine and processes of their own) on the model and on the kernel, tool and processes on one core,
  everything compared after each step.

## Caveats

- The running kernel here may be a guest: its page faults cost more than on bare metal, where the ratios of the
  first rows are smaller.
- Other work on the machine moves wall time and memory bandwidth. Medians of pairs absorb most of that.
)";

}  // namespace

std::span<const Figure> Figures() { return kFigures; }

void Collector::ReportRuns(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    const bool single = run.repetitions <= 1;
    if (run.run_type != Run::RT_Aggregate && !single) continue;
    for (const auto& [name, counter] : run.counters) {
      Measured& measured = results_[run.run_name.function_name][name];
      const double value = counter.value;
      if (single) measured = {value, value, value};
      if (run.aggregate_name == "median") measured.median = value;
      if (run.aggregate_name == "least") measured.least = value;
      if (run.aggregate_name == "most") measured.most = value;
    }
  }
  if (!runs.empty()) std::fprintf(stderr, "done: %s\n", runs.front().run_name.function_name.c_str());
}

bool AllMet(const Results& results) {
  for (const Figure& figure : kFigures) {
    const Measured* measured = Find(results, figure);
    if (measured != nullptr && !Holds(figure, measured->median, figure.limit)) return false;
  }
  return true;
}

std::string Table(const Results& results) {
  std::string text = base::Format("%-62s %18s %8s %8s  %s\n", "what", "figure", "limit", "aim", "met");
  for (const Row& row : Rows(results, false)) {
    text += base::Format("%-62s %18s %8s %8s  %s\n", row.what.c_str(), row.value.c_str(), row.limit.c_str(),
                         row.aim.c_str(), row.met.c_str());
  }
  return text + Reasons(results);
}

std::string Page(const Results& results) {
  std::string text =
      "# Benchmarks\n\nWritten by `scripts/bench`. " + MachineText() +
      "\n\n| what | figure | range | limit | aim | met |\n| --- | ---: | ---: | ---: | ---: | --- |\n";
  for (const Row& row : Rows(results, true)) {
    text += base::Format("| %s | %s | %s | %s | %s | %s |\n", row.what.c_str(), row.value.c_str(),
                         row.range.c_str(), row.limit.c_str(), row.aim.c_str(), row.met.c_str());
  }
  text += "\n" + Reasons(results) + kHow +
          "\n## Everything measured\n\n| benchmark | value | median | range |\n" +
          "| --- | --- | ---: | ---: |\n";
  for (const auto& [benchmark, counters] : results) {
    for (const auto& [counter, measured] : counters) {
      text += base::Format("| %s | %s | %.4g | %.4g .. %.4g |\n", benchmark.c_str(), counter.c_str(),
                           measured.median, measured.least, measured.most);
    }
  }
  return text;
}

}  // namespace bench
