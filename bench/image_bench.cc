// Dump and restore of 1 GiB of mixed pages beside the zstd program on the same bytes: all cores, both
// sides from memory (the model's, or a file in tmpfs) to a file in tmpfs, wall time. Images of pages as they
// are beside cp, what deduplication costs, and children with one page in a hundred written.
#include "base/random.h"
#include "bench/bench.h"
#include "bench/image_work.h"
#include "proto/verify.h"

namespace bench {
namespace {

constexpr uint64_t kBytes = kGiB;

// A process with 1 GiB of mixed pages, and the same pages in a file.
struct Mixed {
  TmpfsFolder folder;
  std::unique_ptr<mm::Machine> machine = NewMachine(kBytes + kMiB);
  std::string raw = folder.File("pages.raw");
  std::string image = folder.File("image");
  mm::Process& process = machine->spawn(1, "bench");
  const mm::Vaddr addr = MapAnon(process, kBytes);

  Mixed() {
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

ckpt::DumpOptions Raw() {
  ckpt::DumpOptions options;
  options.write.compression = image::Compression::kNone;
  return options;
}

void DumpRaw(benchmark::State& state) {
  Mixed mixed;
  const std::string copy = mixed.folder.File("copy");
  for (auto _ : state) {
    const Cost ours = CostOf([&] { (void)DumpTo(*mixed.machine, mixed.image, Raw()); });
    const Cost cp = CostOf([&] { RunProgram({"cp", "--reflink=never", mixed.raw, copy}); });
    state.SetIterationTime(ours.wall);
    state.counters["ratio"] = cp.wall / ours.wall;
    state.counters["ours_mb_s"] = static_cast<double>(kBytes) / ours.wall / 1e6;
    const double verify = WallSeconds([&] { Must(image::Verify(mixed.image)); });
    state.counters["verify_gb_s"] = static_cast<double>(kBytes) / verify / 1e9;
  }
}

// Pages that differ, all of them: looking for others costs most where it finds none.
void Dedup(benchmark::State& state) {
  Mixed mixed;
  for (auto _ : state) {
    ckpt::DumpOptions every;
    every.write.every_page = true;
    const Cost plain = CostOf([&] { (void)DumpTo(*mixed.machine, mixed.image, every); });
    const Cost once = CostOf([&] { (void)DumpTo(*mixed.machine, mixed.image); });
    state.SetIterationTime(once.wall);
    state.counters["percent"] = (once.wall / plain.wall - 1) * 100;
    state.counters["cpu_percent"] = (once.cpu / plain.cpu - 1) * 100;
  }
}

// One page in a hundred written since, found by tracking, beside the whole dump of the same memory.
void Incremental(benchmark::State& state, const ckpt::DumpOptions& how) {
  Mixed mixed;
  const std::string child = mixed.folder.File("child");
  base::Random random(1);
  for (auto _ : state) {
    ckpt::DumpOptions track = how;
    track.track = true;
    double whole = 0;
    whole = WallSeconds([&] { (void)DumpTo(*mixed.machine, mixed.image, track); });
    constexpr uint64_t kPages = kBytes / mm::kPageSize;
    for (uint64_t i = 0; i < kPages / 100; ++i) {
      const uint64_t word = random.Next();
      const mm::Vaddr at = mixed.addr + random.Below(kPages) * mm::kPageSize;
      CHECK(mixed.machine->store(mixed.process, at, std::as_bytes(std::span(&word, 1))).outcome ==
            mm::Outcome::kOk);
    }
    ckpt::DumpOptions parent = how;
    parent.parent = mixed.image;
    const double part = WallSeconds(
        [&] { CHECK(DumpTo(*mixed.machine, child, parent).known == ckpt::DumpReport::Known::kByTracking); });
    state.SetIterationTime(part);
    state.counters["ratio"] = whole / part;
    state.counters["size_percent"] =
        (static_cast<double>(FileBytes(child)) - 65536) / static_cast<double>(FileBytes(mixed.image)) * 100;
  }
}

BENCHMARK(DumpRaw)->Apply([](auto* b) { Pairs(b, 5); });
BENCHMARK(Dedup)->Apply([](auto* b) { Pairs(b, 5); });
BENCHMARK_CAPTURE(Incremental, zstd, ckpt::DumpOptions{})->Apply([](auto* b) { Pairs(b, 5); });
BENCHMARK_CAPTURE(Incremental, raw, Raw())->Apply([](auto* b) { Pairs(b, 5); });
BENCHMARK(DumpLevel1)->Apply([](auto* b) { Pairs(b, 5); });
BENCHMARK(Restore)->Apply([](auto* b) { Pairs(b, 5); });

}  // namespace
}  // namespace bench
