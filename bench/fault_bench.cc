// Faults of the model beside those of the running kernel, and beside the clearing and copying that
// they cannot do without. 1 GiB, one byte a page, 4 KiB pages, one core.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "bench/bench.h"

namespace bench {
namespace {

constexpr uint64_t kBytes = kGiB;
constexpr double kPages = static_cast<double>(kBytes / mm::kPageSize);

// Private anonymous memory of this process in pages of 4 KiB.
class KernelRegion {
 public:
  KernelRegion() { Map(); }
  ~KernelRegion() { munmap(place_, kBytes); }
  KernelRegion(const KernelRegion&) = delete;
  KernelRegion& operator=(const KernelRegion&) = delete;

  void Map() {
    void* place = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(place != MAP_FAILED && madvise(place, kBytes, MADV_NOHUGEPAGE) == 0);
    place_ = static_cast<char*>(place);
  }
  void MapAgain() {
    CHECK(munmap(place_, kBytes) == 0);
    Map();
  }
  void Touch() {
    for (uint64_t at = 0; at < kBytes; at += mm::kPageSize) *const_cast<volatile char*>(place_ + at) = 1;
  }

 private:
  char* place_;
};

constexpr size_t kLine = 64;

// The least that a write touch of these frames costs: each cleared once, as Frames::clear_page does it, the
// next one on its way into the cache meanwhile.
double ClearSeconds(const std::vector<std::byte*>& frames) {
  return ThreadSeconds([&] {
    for (size_t i = 0; i < frames.size(); ++i) {
      const std::byte* next = frames[std::min(i + 1, frames.size() - 1)];
      for (size_t line = 0; line < mm::kPageSize; line += kLine) {
        __builtin_prefetch(next + line, 1);
        std::memset(frames[i] + line, 0, kLine);
      }
      Keep(frames[i]);
    }
  });
}

// And of a COW break: each copied, as Frames::copy_page does it.
double CopySeconds(const std::vector<std::byte*>& to, const std::vector<std::byte*>& from) {
  return ThreadSeconds([&] {
    for (size_t i = 0; i < to.size(); ++i) {
      std::byte* page = to[i];
      const std::byte* source = from[i];
      const std::byte* next = to[std::min(i + 1, to.size() - 1)];
      for (size_t line = 0; line < mm::kPageSize; line += kLine) {
        __builtin_prefetch(next + line, 1);
        std::memcpy(page + line, source + line, kLine);
      }
      // As a fault does, when it is likely which page is copied next.
      const std::byte* next_source = from[std::min(i + 1, from.size() - 1)];
      for (size_t line = 0; line < 12 * kLine; line += kLine) __builtin_prefetch(next_source + line);
      Keep(page);
    }
  });
}

void Report(benchmark::State& state, double ours, double kernel) {
  state.SetIterationTime(ours);
  state.counters["ratio"] = kernel / ours;
  state.counters["ours_ns"] = ours / kPages * 1e9;
  state.counters["kernel_ns"] = kernel / kPages * 1e9;
}

double KernelTouch() {
  KernelRegion region;
  return ThreadSeconds([&] { region.Touch(); });
}

void TouchFresh(benchmark::State& state) {
  const OneCore core;
  for (auto _ : state) {
    const auto machine = NewMachine(kBytes + kMiB);
    mm::Process& process = machine->spawn(1, "bench");
    const mm::Vaddr addr = MapAnon(process, kBytes);
    const double ours = ThreadSeconds([&] { Touch(*machine, process, addr, kBytes); });
    Report(state, ours, KernelTouch());
  }
}

void TouchRecycled(benchmark::State& state) {
  const OneCore core;
  const auto machine = NewMachine(kBytes + kMiB);
  mm::Process& process = machine->spawn(1, "bench");
  mm::Vaddr addr = MapAnon(process, kBytes);
  Touch(*machine, process, addr, kBytes);
  KernelRegion region;
  region.Touch();
  for (auto _ : state) {
    const double unmap = ThreadSeconds([&] {
      Unmap(process, addr, kBytes);
      addr = MapAnon(process, kBytes);
    });
    const double ours = ThreadSeconds([&] { Touch(*machine, process, addr, kBytes); });
    const std::vector<std::byte*> frames = FramesOf(*machine, process, addr, kBytes);
    const double clearing = ThreadSeconds([&] {
      for (std::byte* frame : frames) {
        std::memset(frame, 0, mm::kPageSize);
        Keep(frame);
      }
    });
    const double filling = ClearSeconds(frames);
    const double kernel_unmap = ThreadSeconds([&] { region.MapAgain(); });
    const double kernel = ThreadSeconds([&] { region.Touch(); });
    Report(state, ours, kernel);
    state.counters["own_ns"] = (ours - filling) / kPages * 1e9;
    state.counters["clear_ns"] = clearing / kPages * 1e9;
    state.counters["cycle_ratio"] = (kernel_unmap + kernel) / (unmap + ours);
  }
}

// The parent's writes after a fork, while the child is alive and waits.
double KernelCowBreak() {
  KernelRegion region;
  region.Touch();
  int ends[2];
  CHECK(pipe(ends) == 0);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    close(ends[1]);
    char byte;
    _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
  }
  close(ends[0]);
  const double seconds = ThreadSeconds([&] { region.Touch(); });
  close(ends[1]);
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  return seconds;
}

enum class Copies { kFresh, kRecycled };

void CowBreak(benchmark::State& state, Copies copies) {
  const OneCore core;
  for (auto _ : state) {
    const auto machine = NewMachine(2 * kBytes + kMiB);
    mm::Process& parent = machine->spawn(1, "parent");
    const mm::Vaddr addr = MapAnon(parent, kBytes);
    Touch(*machine, parent, addr, kBytes);
    if (copies == Copies::kRecycled) {
      const mm::Vaddr used = MapAnon(parent, kBytes);
      Touch(*machine, parent, used, kBytes);
      Unmap(parent, used, kBytes);
    }
    const std::vector<std::byte*> from = FramesOf(*machine, parent, addr, kBytes);
    Must(machine->fork(1, 2, "child"));
    const double ours = ThreadSeconds([&] { Touch(*machine, parent, addr, kBytes); });
    const std::vector<std::byte*> to = FramesOf(*machine, parent, addr, kBytes);
    const double copying = ThreadSeconds([&] {
      for (size_t i = 0; i < to.size(); ++i) {
        std::memcpy(to[i], from[i], mm::kPageSize);
        Keep(to[i]);
      }
    });
    const double filling = CopySeconds(to, from);
    Report(state, ours, KernelCowBreak());
    if (copies == Copies::kFresh) continue;
    state.counters["own_ns"] = (ours - filling) / kPages * 1e9;
    state.counters["copy_ns"] = copying / kPages * 1e9;
  }
}

BENCHMARK(TouchFresh)->Apply([](auto* b) { Pairs(b); });
BENCHMARK(TouchRecycled)->Apply([](auto* b) { Pairs(b); });
BENCHMARK_CAPTURE(CowBreak, fresh, Copies::kFresh)->Apply([](auto* b) { Pairs(b); });
BENCHMARK_CAPTURE(CowBreak, recycled, Copies::kRecycled)->Apply([](auto* b) { Pairs(b); });

}  // namespace
}  // namespace bench
