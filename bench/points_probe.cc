// One measurement of the main job's hot paths, for points_bench.cc, which runs it built with and without
// scheduling points and page hinting: nanoseconds a page of a write touch, a COW break and a scan.
#include <sys/mman.h>

#include <cstdio>
#include <ctime>

#include "base/check.h"
#include "mm/follow_page.h"
#include "mm/machine.h"

namespace {

constexpr uint64_t kPages = 1u << 15;
constexpr uint64_t kBytes = kPages * mm::kPageSize;

template <class Work>
double NsPerPage(Work&& work) {
  timespec before;
  timespec after;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
  work();
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
  return (static_cast<double>(after.tv_sec - before.tv_sec) * 1e9 +
          static_cast<double>(after.tv_nsec - before.tv_nsec)) /
         static_cast<double>(kPages);
}

}  // namespace

int main() {
  mm::MachineConfig config;
  config.memory_bytes = 4 * kBytes;
  const auto machine = mm::Machine::Create(config).value();
  double touch = 0;
  double cow = 0;
  double scan = 0;
  // The first round warms up: frames are recycled from then on.
  for (int round = 0; round < 4; ++round) {
    mm::Process& process = machine->spawn(1, "probe");
    const mm::Vaddr addr =
        mm::sys_mmap(*process.mm, 0, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0)
            .value();
    const auto write = [&] {
      CHECK(machine->touch(process, addr, kBytes, mm::Write::kYes).outcome == mm::Outcome::kOk);
    };
    const double touched = NsPerPage(write);
    CHECK(machine->fork(1, 2, "child"));
    const double broken = NsPerPage(write);
    const double scanned = NsPerPage([&] {
      mm::Vma& vma = *process.mm->vma_at(addr);
      uint64_t found = 0;
      for (int i = 0; i < 8; ++i) {
        mm::Vaddr at = addr;
        for (;;) {
          const mm::DirtyRun run =
              mm::next_dirty_run(vma, at, addr + kBytes, ~uint64_t{0}, mm::Cut::kAtShared);
          if (run.pages == 0) break;
          found += run.pages;
          at = run.start + run.pages * mm::kPageSize;
        }
      }
      CHECK(found == 8 * kPages);
    });
    machine->exit(2);
    machine->exit(1);
    if (round == 0) continue;
    touch += touched / 3;
    cow += broken / 3;
    scan += scanned / 8 / 3;
  }
  std::printf("%.3f %.3f %.3f\n", touch, cow, scan);
}
