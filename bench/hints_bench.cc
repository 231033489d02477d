// Page hinting: minor faults on cached pages with a host underneath, beside those without, and what a page's
// way to volatile and back costs. One core.
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "base/random.h"
#include "bench/bench.h"
#include "mm/disk.h"

namespace bench {
namespace {

constexpr uint64_t kBytes = 128 * kMiB;
constexpr uint64_t kPages = kBytes / mm::kPageSize;

// A machine, and a file of which every page is cached and nobody's.
struct Cached {
  static constexpr uint64_t kMemory = kBytes + 16 * kMiB;
  explicit Cached(const mm::Semantics& semantics, uint64_t host_bytes = 0) {
    mm::MachineConfig config;
    config.memory_bytes = kMemory;
    config.host_bytes = host_bytes;
    config.semantics = semantics;
    machine = Must(mm::Machine::Create(config));
    process = &machine->spawn(1, "bench");
    mm::Recipe recipe;
    recipe.size = kBytes;
    file = machine->create_file("/data", kBytes,
                                std::make_unique<mm::OverlayDisk>(Must(mm::OpenContent(recipe))));
    std::vector<std::byte> bytes(kBytes);
    CHECK(Must(mm::generic_file_read(*machine, *file, 0, bytes)) == kBytes);
  }
  mm::Vaddr Map() { return Must(mm::sys_mmap(*process->mm, 0, kBytes, PROT_READ, MAP_SHARED, file, 0)); }

  std::unique_ptr<mm::Machine> machine;
  mm::Process* process = nullptr;
  mm::FilePtr file;
};

mm::Semantics Gph2009() { return Must(mm::Generation("gph2009")); }

// Nanoseconds a fault of touching each page of the file, none of which has a pte yet.
double TouchNs(Cached& cached) {
  const mm::Vaddr addr = cached.Map();
  const double seconds = ThreadSeconds([&] {
    CHECK(cached.machine->touch(*cached.process, addr, kBytes, mm::Write::kNo).outcome == mm::Outcome::kOk);
  });
  Unmap(*cached.process, addr, kBytes);
  return seconds / static_cast<double>(kPages) * 1e9;
}

// The same with a byte read.
double LoadNs(Cached& cached) {
  const mm::Vaddr addr = cached.Map();
  const double seconds = ThreadSeconds([&] {
    std::byte byte;
    for (mm::Vaddr at = addr; at < addr + kBytes; at += mm::kPageSize) {
      CHECK(cached.machine->load(*cached.process, at, {&byte, 1}).outcome == mm::Outcome::kOk);
      Keep(&byte);
    }
  });
  Unmap(*cached.process, addr, kBytes);
  return seconds / static_cast<double>(kPages) * 1e9;
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// The median of rounds of one of the two beside the other, each first in every other round.
struct Beside {
  double hinted_ns = 0;
  double plain_ns = 0;
  double more_percent = 0;
};
template <class Measure>
Beside MeasureBeside(Cached& hinted, Cached& plain, Measure&& measure) {
  constexpr int kRounds = 10;
  std::vector<double> hinted_ns;
  std::vector<double> plain_ns;
  std::vector<double> percent;
  for (int round = 0; round < kRounds; ++round) {
    const double first = measure(round % 2 == 0 ? hinted : plain);
    const double second = measure(round % 2 == 0 ? plain : hinted);
    hinted_ns.push_back(round % 2 == 0 ? first : second);
    plain_ns.push_back(round % 2 == 0 ? second : first);
    percent.push_back((hinted_ns.back() / plain_ns.back() - 1) * 100);
  }
  return {Median(hinted_ns), Median(plain_ns), Median(percent)};
}

// A minor read fault on a cached page changes no state and asks for nothing (gph2009).
void HintedMinorFault(benchmark::State& state) {
  const OneCore core;
  Cached hinted(Gph2009());
  Cached plain({});
  Cached hosted({}, Cached::kMemory);  // with a host that pages
  const mm::Host& host = *hinted.machine->host;
  for (auto _ : state) {
    CHECK(host.count(mm::PageState::Vr) == kPages);
    const mm::HostStat before = host.stat();
    const uint64_t faults = hinted.machine->vmstat.pgfault;
    const uint64_t major = hinted.machine->vmstat.pgmajfault;
    const mm::Vaddr addr = hinted.Map();
    CHECK(hinted.machine->touch(*hinted.process, addr, kBytes, mm::Write::kNo).outcome == mm::Outcome::kOk);
    CHECK(hinted.machine->vmstat.pgfault == faults + kPages && hinted.machine->vmstat.pgmajfault == major);
    state.counters["changes"] = static_cast<double>(host.stat().transitions - before.transitions);
    state.counters["requests"] = static_cast<double>(host.stat().requests - before.requests);
    Unmap(*hinted.process, addr, kBytes);
    (void)TouchNs(plain);  // as warm

    const Beside touch = MeasureBeside(hinted, plain, TouchNs);
    const Beside load = MeasureBeside(hinted, plain, LoadNs);
    const Beside load_hosted = MeasureBeside(hinted, hosted, LoadNs);
    CHECK(host.count(mm::PageState::Vr) == kPages);
    CHECK(host.stat().discarded == 0 && host.stat().paged_out == 0);
    state.SetIterationTime(touch.hinted_ns * static_cast<double>(kPages) * 1e-9);
    state.counters["more_percent"] = touch.more_percent;
    state.counters["hinted_ns"] = touch.hinted_ns;
    state.counters["plain_ns"] = touch.plain_ns;
    state.counters["load_percent"] = load.more_percent;
    state.counters["load_hosted_percent"] = load_hosted.more_percent;
  }
}

// To volatile and back: nanoseconds a page.
double PairNs(mm::Frames& frames, const std::vector<mm::Pfn>& pages) {
  bool there = true;
  const double seconds = ThreadSeconds([&] {
    for (const mm::Pfn pfn : pages) {
      mm::page_make_volatile(frames, pfn, 2);  // the cache's reference and the caller's
      there = mm::page_make_stable(frames, pfn) && there;
    }
  });
  CHECK(there);
  return seconds / static_cast<double>(pages.size()) * 1e9;
}

void PageStates(benchmark::State& state) {
  const OneCore core;
  Cached cached(Gph2009());
  mm::Frames& frames = cached.machine->frames;
  const mm::Host& host = *cached.machine->host;
  std::vector<mm::Pfn> pages;
  for (uint64_t index = 0; index < kPages; ++index) {
    pages.push_back(mm::find_get_page(*cached.machine, cached.file->mapping, index));
    CHECK(pages.back() != mm::kNoPfn);
  }
  std::vector<mm::Pfn> shuffled = pages;
  base::Random random(1);
  for (size_t i = shuffled.size(); i > 1; --i) std::swap(shuffled[i - 1], shuffled[random.Below(i)]);
  for (auto _ : state) {
    const uint64_t before = host.stat().transitions;
    const double in_order = PairNs(frames, pages);
    const double at_random = PairNs(frames, shuffled);
    CHECK(host.stat().transitions - before == 4 * kPages);
    state.SetIterationTime(in_order * static_cast<double>(kPages) * 1e-9);
    state.counters["pair_ns"] = in_order;
    state.counters["random_ns"] = at_random;
  }
  for (const mm::Pfn pfn : pages) mm::page_cache_release(frames, pfn);
}

BENCHMARK(HintedMinorFault)->Apply([](auto* b) { Pairs(b); });
BENCHMARK(PageStates)->Apply([](auto* b) { Pairs(b); });

}  // namespace
}  // namespace bench
