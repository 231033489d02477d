// Dump and restore of 1 GiB of mixed pages beside the zstd program on the same bytes: all cores, both
// sides from memory (the model's, or a file in tmpfs) to a file in tmpfs, wall time.
#include "bench/bench.h"
#include "bench/image_work.h"

namespace bench {
namespace {

constexpr uint64_t kBytes = kGiB;

// A process with 1 GiB of mixed pages, and the same pages in a file.
struct Mixed {
  TmpfsFolder folder;
  std::unique_ptr<mm::Machine> machine = NewMachine(kBytes + kMiB);
  std::string raw = folder.File("pages.raw");
  std::string image = folder.File("image");

  Mixed() {
    mm::Process& process = machine->spawn(1, "bench");
    const mm::Vaddr addr = MapAnon(process, kBytes);
    StoreMixed(*machine, process, addr, kBytes);
    const std::vector<std::byte*> frames = FramesOf(*machine, process, addr, kBytes);
    for (size_t i = 1; i < frames.size(); ++i) CHECK(frames[i] == frames[0] + i * mm::kPageSize);
    WriteFile(raw, {frames[0], kBytes});
  }
};

void Report(benchmark::State& state, const Cost& ours, const Cost& zstd) {
  state.SetIterationTime(ours.wall);
  state.counters["ratio"] = zstd.wall / ours.wall;
  state.counters["cpu_ratio"] = zstd.cpu / ours.cpu;
  state.counters["ours_mb_s"] = static_cast<double>(kBytes) / ours.wall / 1e6;
  state.counters["zstd_mb_s"] = static_cast<double>(kBytes) / zstd.wall / 1e6;
}

void DumpLevel1(benchmark::State& state) {
  Mixed mixed;
  const std::string packed = mixed.folder.File("zst");
  for (auto _ : state) {
    const Cost ours = CostOf([&] { (void)DumpTo(*mixed.machine, mixed.image); });
    const Cost zstd = CostOf([&] { RunProgram({"zstd", "-1", "-T0", "-f", "-q", "-o", packed, mixed.raw}); });
    Report(state, ours, zstd);
  }
  state.counters["size_ratio"] =
      static_cast<double>(FileBytes(mixed.image)) / static_cast<double>(FileBytes(packed));
}

void Restore(benchmark::State& state) {
  Mixed mixed;
  (void)DumpTo(*mixed.machine, mixed.image);
  const std::string unpacked = mixed.folder.File("unpacked");
  for (auto _ : state) {
    std::unique_ptr<mm::Machine> restored;
    const Cost ours = CostOf([&] { restored = RestoreFrom(mixed.image); });
    restored = nullptr;
    const Cost zstd = CostOf([&] { RunProgram({"zstd", "-d", "-f", "-q", "-o", unpacked, mixed.image}); });
    CHECK(FileBytes(unpacked) == kBytes);
    Report(state, ours, zstd);
  }
}

BENCHMARK(DumpLevel1)->Apply([](auto* b) { Pairs(b, 5); });
BENCHMARK(Restore)->Apply([](auto* b) { Pairs(b, 5); });

}  // namespace
}  // namespace bench
