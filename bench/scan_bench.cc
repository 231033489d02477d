// The scan of a checkpoint: which pages of a private vma are modified. One core.
#include <sys/mman.h>

#include "base/random.h"
#include "bench/bench.h"
#include "ckpt/model_source.h"
#include "mm/disk.h"
#include "mm/follow_page.h"

namespace bench {
namespace {

constexpr uint64_t kBytes = kGiB;
constexpr double kPages = static_cast<double>(kBytes / mm::kPageSize);

// All modified pages of the vma at `addr`, by runs.
uint64_t Scan(mm::Process& process, mm::Vaddr addr, uint64_t bytes) {
  mm::Vma* vma = process.mm->vma_at(addr);
  CHECK(vma != nullptr);
  uint64_t pages = 0;
  const mm::Vaddr end = addr + bytes;
  for (mm::Vaddr next = addr; next < end;) {
    const mm::DirtyRun run = mm::next_dirty_run(*vma, next, end, ~uint64_t{0});
    if (run.pages == 0) break;
    pages += run.pages;
    next = run.start + run.pages * mm::kPageSize;
  }
  return pages;
}

void TimeScan(benchmark::State& state, mm::Process& process, mm::Vaddr addr, uint64_t modified) {
  for (auto _ : state) {
    uint64_t found = 0;
    const double seconds = ThreadSeconds([&] { found = Scan(process, addr, kBytes); });
    CHECK(found == modified);
    state.SetIterationTime(seconds);
    state.counters["page_ns"] = seconds / kPages * 1e9;
  }
}

void ScanModified(benchmark::State& state) {
  const OneCore core;
  const auto machine = NewMachine(kBytes + kMiB);
  mm::Process& process = machine->spawn(1, "bench");
  const mm::Vaddr addr = MapAnon(process, kBytes);
  Touch(*machine, process, addr, kBytes);
  TimeScan(state, process, addr, static_cast<uint64_t>(kPages));
}

// A private mapping of a file, all of it present: half of the pages clean, half modified, at random.
void ScanMixed(benchmark::State& state) {
  const OneCore core;
  const auto machine = NewMachine(2 * kBytes + kMiB);
  mm::Process& process = machine->spawn(1, "bench");
  mm::Recipe recipe;
  recipe.size = kBytes;
  auto disk = std::make_unique<mm::OverlayDisk>(Must(mm::OpenContent(recipe)));
  const mm::FilePtr file = machine->create_file("/data", kBytes, std::move(disk));
  const mm::Vaddr addr =
      Must(mm::sys_mmap(*process.mm, 0, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
  base::Random random(1);
  uint64_t modified = 0;
  for (mm::Vaddr at = addr; at < addr + kBytes; at += mm::kPageSize) {
    const bool writes = random.Below(2) == 0;
    CHECK(machine->touch(process, at, 1, writes ? mm::Write::kYes : mm::Write::kNo).outcome ==
          mm::Outcome::kOk);
    modified += writes ? 1 : 0;
  }
  TimeScan(state, process, addr, modified);
}

// After a fork and writes to every second page, as a dump asks: runs, cut where pages that are shared
// and pages that are not meet.
void ScanForked(benchmark::State& state) {
  const OneCore core;
  const auto machine = NewMachine(2 * kBytes);
  mm::Process& process = machine->spawn(1, "parent");
  const mm::Vaddr addr = MapAnon(process, kBytes);
  Touch(*machine, process, addr, kBytes);
  Must(machine->fork(1, 2, "child"));
  for (uint64_t at = 0; at < kBytes; at += 2 * mm::kPageSize) Touch(*machine, process, addr + at, 1);
  ckpt::ModelSource source(*machine, {});
  Must(source.Prepare());
  const uint32_t mm_ref = source.processes().mm(0).objref();
  for (auto _ : state) {
    uint64_t pages = 0;
    const double seconds = ThreadSeconds([&] {
      const uint64_t end = (addr + kBytes) / mm::kPageSize;
      for (uint64_t next = addr / mm::kPageSize; next < end;) {
        const ckpt::ModifiedRun run = Must(source.NextModified(mm_ref, next, end));
        pages += run.count;
        next = run.first + run.count;
      }
    });
    CHECK(pages == kBytes / mm::kPageSize);
    state.SetIterationTime(seconds);
    state.counters["page_ns"] = seconds / kPages * 1e9;
  }
}

// 1 TiB with nothing in it but one page at its far end.
void ScanHole(benchmark::State& state) {
  constexpr uint64_t kHole = 1024 * kGiB;
  const OneCore core;
  const auto machine = NewMachine(64 * kMiB);
  mm::Process& process = machine->spawn(1, "bench");
  const mm::Vaddr addr = MapAnon(process, kHole);
  Touch(*machine, process, addr + kHole - mm::kPageSize, 1);
  for (auto _ : state) {
    uint64_t pages = 0;
    const double seconds = ThreadSeconds([&] { pages = Scan(process, addr, kHole); });
    CHECK(pages == 1);
    state.SetIterationTime(seconds);
    state.counters["ms"] = seconds * 1e3;
  }
}

BENCHMARK(ScanModified)->Apply([](auto* b) { Pairs(b); });
BENCHMARK(ScanMixed)->Apply([](auto* b) { Pairs(b); });
BENCHMARK(ScanForked)->Apply([](auto* b) { Pairs(b, 3); });
BENCHMARK(ScanHole)->Apply([](auto* b) { Pairs(b); });

}  // namespace
}  // namespace bench
