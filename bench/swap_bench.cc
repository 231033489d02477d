// Swap: pages out and in beside the running kernel with zram, a process that has ten times the memory of its
// machine, and what a checkpoint of swapped pages costs. One core.
#include <sys/mman.h>

#include <cstring>

#include "base/random.h"
#include "bench/bench.h"
#include "ckpt/model_source.h"
#include "live/zram.h"

namespace bench {
namespace {

#ifndef MADV_PAGEOUT
constexpr int MADV_PAGEOUT = 21;
#endif

std::unique_ptr<mm::Machine> SwapMachine(uint64_t memory, uint64_t swap, const char* change = nullptr) {
  mm::MachineConfig config;
  config.memory_bytes = memory;
  config.swap_bytes = swap;
  if (change != nullptr) Must(mm::SetSwitch(config.semantics, change));
  return Must(mm::Machine::Create(config));
}

// Incompressible pages.
void FillRandom(std::byte* page, uint64_t number) {
  base::Random random(number);
  for (size_t at = 0; at < mm::kPageSize; at += sizeof(uint64_t)) {
    const uint64_t word = random.Next();
    std::memcpy(page + at, &word, sizeof word);
  }
}

// Every page out, then every page in again by a read: seconds of each.
struct Cycle {
  double out;
  double in;
};

Cycle OursCycle(uint64_t bytes) {
  const auto machine = SwapMachine(bytes + 16 * kMiB, 4 * bytes);
  mm::Process& process = machine->spawn(1, "bench");
  const mm::Vaddr addr = MapAnon(process, bytes);
  const auto fill = [&] {
    for (uint64_t at = 0; at < bytes; at += mm::kPageSize) {
      mm::Outcome outcome;
      FillRandom(machine->fault_in(process, addr + at, mm::Write::kYes, &outcome), at);
    }
  };
  // A device whose slots were used before, as the kernel's below.
  fill();
  Must(mm::sys_madvise(*process.mm, addr, bytes, MADV_PAGEOUT));
  CHECK(machine->vmstat.pswpout == bytes / mm::kPageSize);
  fill();
  Cycle cycle;
  cycle.out = ThreadSeconds([&] { Must(mm::sys_madvise(*process.mm, addr, bytes, MADV_PAGEOUT)); });
  CHECK(machine->vmstat.pswpout == 2 * bytes / mm::kPageSize);
  cycle.in = ThreadSeconds(
      [&] { CHECK(machine->touch(process, addr, bytes, mm::Write::kNo).outcome == mm::Outcome::kOk); });
  return cycle;
}

Cycle KernelCycle(uint64_t bytes) {
  void* place = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(place != MAP_FAILED && madvise(place, bytes, MADV_NOHUGEPAGE) == 0);
  auto* pages = static_cast<std::byte*>(place);
  const auto fill = [&] {
    for (uint64_t at = 0; at < bytes; at += mm::kPageSize) FillRandom(pages + at, at);
  };
  fill();
  CHECK(madvise(place, bytes, MADV_PAGEOUT) == 0);
  fill();
  Cycle cycle;
  cycle.out = ThreadSeconds([&] { CHECK(madvise(place, bytes, MADV_PAGEOUT) == 0); });
  cycle.in = ThreadSeconds([&] {
    for (uint64_t at = 0; at < bytes; at += mm::kPageSize) (void)*const_cast<volatile std::byte*>(pages + at);
  });
  munmap(place, bytes);
  return cycle;
}

void SwapCycle(benchmark::State& state) {
  constexpr uint64_t kBytes = 256 * kMiB;
  constexpr double kPages = static_cast<double>(kBytes / mm::kPageSize);
  const OneCore core;
  const base::Result<live::Zram> zram =
      g_may_swap ? live::Zram::Make(2 * kBytes)
                 : base::Fail(base::Code::kUnsupported, "not asked for: --swap lets it make a swap device");
  for (auto _ : state) {
    const Cycle ours = OursCycle(kBytes);
    state.SetIterationTime(ours.out + ours.in);
    state.counters["out_ns"] = ours.out / kPages * 1e9;
    state.counters["in_ns"] = ours.in / kPages * 1e9;
    if (!zram) continue;
    const Cycle kernel = KernelCycle(kBytes);
    state.counters["kernel_out_ns"] = kernel.out / kPages * 1e9;
    state.counters["kernel_in_ns"] = kernel.in / kPages * 1e9;
    state.counters["ratio"] = (kernel.out + kernel.in) / (ours.out + ours.in);
  }
  if (!zram)
    std::fprintf(stderr, "SwapCycle: without the running kernel's side: %s\n", zram.error().what.c_str());
}

// Slots in memory, and a list of the pages that went to and from them.
class ListingSwap final : public mm::SwapDevice {
 public:
  struct Move {
    std::byte* frame;
    mm::SwpEntry slot;
    bool out;
  };
  explicit ListingSwap(uint64_t slots) : device_(Must(mm::MakeMemorySwap(slots))) {}
  mm::SysResult<void> ReadPage(mm::SwpEntry slot, mm::PageSpan page) override {
    moves.push_back({page.data(), slot, false});
    return device_->ReadPage(slot, page);
  }
  mm::SysResult<void> WritePage(mm::SwpEntry slot, mm::ConstPageSpan page) override {
    moves.push_back({const_cast<std::byte*>(page.data()), slot, true});
    return device_->WritePage(slot, page);
  }
  mm::PageSpan PlacePage(mm::SwpEntry slot) override { return device_->PlacePage(slot); }
  void DropPage(mm::SwpEntry slot) override { device_->DropPage(slot); }

  std::vector<Move> moves;

 private:
  std::unique_ptr<mm::SwapDevice> device_;
};

// Ten times as many pages as frames, one store to a random page after the other; and `memcpy` of the pages
// that this moved, between the same frames and slots in the same order.
void TenPercent(benchmark::State& state) {
  constexpr uint64_t kMemory = 64 * kMiB;
  constexpr uint64_t kBytes = 10 * kMemory;
  constexpr uint64_t kAccesses = 200000;
  constexpr uint64_t kSlots = 2 * kBytes / mm::kPageSize;
  const OneCore core;
  for (auto _ : state) {
    const auto machine = NewMachine(kMemory);
    auto device = std::make_unique<ListingSwap>(kSlots);
    std::vector<ListingSwap::Move>& moves = device->moves;
    Must(mm::sys_swapon(*machine, std::move(device), kSlots));
    mm::Process& process = machine->spawn(1, "bench");
    const mm::Vaddr addr = MapAnon(process, kBytes);
    Touch(*machine, process, addr, kBytes);
    moves.clear();
    moves.reserve(3 * kAccesses);
    base::Random random(7);
    const double total = ThreadSeconds([&] {
      for (uint64_t i = 0; i < kAccesses; ++i) {
        Touch(*machine, process, addr + random.Below(kBytes / mm::kPageSize) * mm::kPageSize, 1);
      }
    });
    const double copying = ThreadSeconds([&] {
      for (const ListingSwap::Move& move : moves) {
        std::byte* slot = machine->swap->device().PlacePage(move.slot).data();
        std::memcpy(move.out ? slot : move.frame, move.out ? move.frame : slot, mm::kPageSize);
        Keep(slot);
      }
    });
    state.SetIterationTime(total);
    state.counters["beyond_percent"] = (total - copying) / total * 100;
    state.counters["access_ns"] = total / static_cast<double>(kAccesses) * 1e9;
    state.counters["copy_ns"] = copying / static_cast<double>(moves.size()) * 1e9;
    state.counters["moved_per_access"] = static_cast<double>(moves.size()) / static_cast<double>(kAccesses);
  }
}

// Reads every modified page of a process whose pages are all in swap.
double ReadAll(const char* way, uint64_t bytes) {
  const auto machine = SwapMachine(bytes + 16 * kMiB, 2 * bytes, way);
  mm::Process& process = machine->spawn(1, "bench");
  const mm::Vaddr addr = MapAnon(process, bytes);
  Touch(*machine, process, addr, bytes);
  Must(mm::sys_madvise(*process.mm, addr, bytes, MADV_PAGEOUT));
  ckpt::ModelSource source(*machine, {});
  Must(source.Prepare());
  const uint32_t mm_ref = source.processes().mm(0).objref();
  std::vector<std::byte> buffer(kMiB);
  return ThreadSeconds([&] {
    const uint64_t end = (addr + bytes) / mm::kPageSize;
    for (uint64_t next = addr / mm::kPageSize; next < end;) {
      const ckpt::ModifiedRun run = Must(source.NextModified(mm_ref, next, end));
      const uint64_t count = std::min<uint64_t>(run.count, buffer.size() / mm::kPageSize);
      ckpt_pb::PageRun pages;
      pages.set_owner(ckpt_pb::PageRun::MM);
      pages.set_objref(mm_ref);
      pages.set_first(run.first);
      pages.set_count(count);
      Must(source.Read(pages, std::span(buffer).first(count * mm::kPageSize)));
      next = run.first + count;
    }
  });
}

void DumpSwapped(benchmark::State& state) {
  constexpr uint64_t kBytes = 256 * kMiB;
  constexpr double kPages = static_cast<double>(kBytes / mm::kPageSize);
  const OneCore core;
  for (auto _ : state) {
    const double slots = ReadAll("swap_dump=read_slot", kBytes);
    const double faults = ReadAll("swap_dump=swap_in", kBytes);
    state.SetIterationTime(slots);
    state.counters["read_slot_ns"] = slots / kPages * 1e9;
    state.counters["swap_in_ns"] = faults / kPages * 1e9;
    state.counters["ratio"] = faults / slots;
  }
}

BENCHMARK(SwapCycle)->Apply([](auto* b) { Pairs(b); });
BENCHMARK(TenPercent)->Apply([](auto* b) { Pairs(b); });
BENCHMARK(DumpSwapped)->Apply([](auto* b) { Pairs(b); });

}  // namespace
}  // namespace bench
