// Memory: what the model keeps for a page, and what dump and restore add to a process, each in a
// child of its own. And that a million modified pages go all the way.
#include "bench/bench.h"
#include "bench/image_work.h"
#include "ckpt/model_source.h"
#include "proto/verify.h"
#include "restore/diff.h"
#include "restore/model_sink.h"
#include "restore/restore.h"

namespace bench {
namespace {

constexpr double kMiBd = static_cast<double>(kMiB);

void PageMetadata(benchmark::State& state) {
  for (auto _ : state) state.SetIterationTime(1e-9);
  state.counters["bytes"] = sizeof(mm::Page);
}

enum class Shape {
  kExclusive,   // one process, all pages its own
  kFragmented,  // two processes that share every second page, in runs of one
};

// 1 GiB of stored pages.
std::unique_ptr<mm::Machine> Build(Shape shape) {
  constexpr uint64_t kBytes = kGiB;
  if (shape == Shape::kExclusive) {
    auto machine = NewMachine(kBytes + kMiB);
    mm::Process& process = machine->spawn(1, "bench");
    StoreMixed(*machine, process, MapAnon(process, kBytes), kBytes);
    return machine;
  }
  // Every second page of the region exists and is shared by both, so that no run is longer than one page.
  auto machine = NewMachine(kBytes + kMiB);
  mm::Process& process = machine->spawn(1, "parent");
  const mm::Vaddr addr = MapAnon(process, 2 * kBytes);
  for (uint64_t number = 0; number < kBytes / mm::kPageSize; ++number) {
    mm::Outcome outcome;
    std::byte* page =
        machine->fault_in(process, addr + number * 2 * mm::kPageSize, mm::Write::kYes, &outcome);
    CHECK(page != nullptr);
    FillMixed(number, mm::PageSpan(page, mm::kPageSize));
  }
  Must(machine->fork(1, 2, "child"));
  return machine;
}

// Peak above the state before: bytes, and the pages that the image stores.
std::vector<double> MeasureDump(Shape shape, const std::string& path) {
  const auto machine = Build(shape);
  const uint64_t before = ResidentBytes();
  ForgetPeak();
  const ckpt::DumpReport report = DumpTo(*machine, path);
  return {static_cast<double>(PeakBytes() - before), static_cast<double>(report.totals.stored())};
}

// Peak above the state before and what the restored machine itself is: frames, mem_map, page tables.
std::vector<double> MeasureRestore(const std::string& path) {
  const uint64_t before = ResidentBytes();
  ForgetPeak();
  const auto reader = Must(image::Reader::Open(path));
  const auto sink = Must(restore::ModelSink::Create(reader->machine(), ""));
  Must(restore::Restore(*reader, *sink, {}));
  const uint64_t peak = PeakBytes();
  const mm::Machine& machine = sink->machine();
  uint64_t own = uint64_t{machine.frames.high_water()} * (mm::kPageSize + sizeof(mm::Page));
  for (const auto& [pid, process] : machine.processes())
    own += process->mm->pgtable.nr_ptes() * mm::kPageSize;
  const double above = static_cast<double>(peak) - static_cast<double>(before) - static_cast<double>(own);
  return {above, static_cast<double>(reader->stored_pages())};
}

// Of the limit, 64 MiB and 32 bytes for each saved page, how much is used.
void ReportUse(benchmark::State& state, const std::string& name, const std::vector<double>& measured) {
  CHECK(measured.size() == 2);
  state.counters[name + "_mib"] = measured[0] / kMiBd;
  state.counters[name + "_part"] = measured[0] / (64 * kMiBd + 32 * measured[1]);
}

void AddedMemory(benchmark::State& state, Shape shape) {
  const TmpfsFolder folder;
  const std::string image = folder.File("image");
  for (auto _ : state) {
    state.SetIterationTime(WallSeconds([&] {
      ReportUse(state, "dump", InChild([&] { return MeasureDump(shape, image); }));
      ReportUse(state, "restore", InChild([&] { return MeasureRestore(image); }));
    }));
  }
}

// Dump, verify, restore and diff of 4 GiB: seconds each, and the peak of all.
std::vector<double> Million(const std::string& path) {
  constexpr uint64_t kBytes = 4 * kGiB;
  const auto machine = NewMachine(kBytes + kMiB);
  mm::Process& process = machine->spawn(1, "bench");
  StoreMixed(*machine, process, MapAnon(process, kBytes), kBytes);
  ForgetPeak();
  std::vector<double> answer;
  answer.push_back(
      WallSeconds([&] { CHECK(DumpTo(*machine, path).totals.stored() == kBytes / mm::kPageSize); }));
  answer.push_back(WallSeconds([&] { (void)Must(image::Verify(path)); }));
  std::unique_ptr<mm::Machine> restored;
  answer.push_back(WallSeconds([&] { restored = RestoreFrom(path); }));
  answer.push_back(WallSeconds([&] {
    ckpt::ModelSource before(*machine, {});
    ckpt::ModelSource after(*restored, {});
    Must(before.Prepare());
    Must(after.Prepare());
    const restore::DiffReport diff = Must(restore::Diff(before, after, {}));
    CHECK(diff.same() && diff.pages_compared == kBytes / mm::kPageSize);
  }));
  answer.push_back(static_cast<double>(PeakBytes() + FileBytes(path)));
  return answer;
}

void MillionPages(benchmark::State& state) {
  const TmpfsFolder folder;
  for (auto _ : state) {
    std::vector<double> measured;
    state.SetIterationTime(
        WallSeconds([&] { measured = InChild([&] { return Million(folder.File("image")); }); }));
    CHECK(measured.size() == 5);
    state.counters["dump_s"] = measured[0];
    state.counters["verify_s"] = measured[1];
    state.counters["restore_s"] = measured[2];
    state.counters["diff_s"] = measured[3];
    state.counters["peak_gib"] = measured[4] / static_cast<double>(kGiB);
  }
}

BENCHMARK(PageMetadata)->Apply([](auto* b) { Pairs(b, 1); });
BENCHMARK_CAPTURE(AddedMemory, exclusive, Shape::kExclusive)->Apply([](auto* b) { Pairs(b, 1); });
BENCHMARK_CAPTURE(AddedMemory, fragmented, Shape::kFragmented)->Apply([](auto* b) { Pairs(b, 1); });
BENCHMARK(MillionPages)->Apply([](auto* b) { Pairs(b, 1); });

}  // namespace
}  // namespace bench
