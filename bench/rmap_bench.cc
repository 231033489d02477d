// The reverse map: unmapping a file's page, and finding the vmas that map one page of a file with 10,000 of
// them, beside the plain list of seed 003. One core.
#include <sys/mman.h>

#include <list>

#include "base/random.h"
#include "bench/bench.h"
#include "mm/disk.h"
#include "mm/rmap.h"

namespace bench {
namespace {

mm::FilePtr NewFile(mm::Machine& machine, uint64_t bytes) {
  mm::Recipe recipe;
  recipe.size = bytes;
  return machine.create_file("/data", bytes,
                             std::make_unique<mm::OverlayDisk>(Must(mm::OpenContent(recipe))));
}

// Every page of a shared mapping, each mapped once, in random order.
void TryToUnmap(benchmark::State& state) {
  constexpr uint64_t kBytes = 256 * kMiB;
  constexpr uint64_t kPages = kBytes / mm::kPageSize;
  const OneCore core;
  const auto machine = NewMachine(kBytes + 16 * kMiB);
  mm::Process& process = machine->spawn(1, "bench");
  const mm::FilePtr file = NewFile(*machine, kBytes);
  const mm::Vaddr addr = Must(mm::sys_mmap(*process.mm, 0, kBytes, PROT_READ, MAP_SHARED, file, 0));
  for (auto _ : state) {
    CHECK(machine->touch(process, addr, kBytes, mm::Write::kNo).outcome == mm::Outcome::kOk);
    std::vector<mm::Pfn> pages;
    for (const auto& [index, pfn] : file->mapping.pages) pages.push_back(pfn);
    base::Random random(1);
    for (size_t i = pages.size(); i > 1; --i) std::swap(pages[i - 1], pages[random.Below(i)]);
    const double seconds = ThreadSeconds([&] {
      for (const mm::Pfn pfn : pages) {
        mm::lock_page(machine->frames.at(pfn));
        CHECK(mm::try_to_unmap(*machine, pfn) == mm::SwapResult::SWAP_SUCCESS);
        mm::unlock_page_nocheck(machine->frames.at(pfn));
      }
    });
    state.SetIterationTime(seconds);
    state.counters["page_ns"] = seconds / static_cast<double>(kPages) * 1e9;
  }
}

// 10,000 vmas of one page each, every one on a page of its own: what page_referenced walks, and the same
// question asked of all vmas in a list.
void ManyVmas(benchmark::State& state) {
  constexpr uint64_t kVmas = 10000;
  const OneCore core;
  const auto machine = NewMachine(kVmas * mm::kPageSize + 16 * kMiB);
  mm::Process& process = machine->spawn(1, "bench");
  const mm::FilePtr file = NewFile(*machine, kVmas * mm::kPageSize);
  std::list<mm::Vma*> list;
  std::vector<mm::Pfn> pages;
  for (uint64_t i = 0; i < kVmas; ++i) {
    const mm::Vaddr addr = Must(mm::sys_mmap(*process.mm, 0x10000000 + 2 * i * mm::kPageSize, mm::kPageSize,
                                             PROT_READ, MAP_SHARED | MAP_FIXED, file, i * mm::kPageSize));
    CHECK(machine->touch(process, addr, 1, mm::Write::kNo).outcome == mm::Outcome::kOk);
    list.push_back(process.mm->vma_at(addr));
    pages.push_back(mm::pte_pfn(*process.mm->pgtable.find(addr)));
  }
  for (auto _ : state) {
    constexpr size_t kOfList = 200;  // pages; the list is slow
    int found = 0;
    const double tree = ThreadSeconds([&] {
      for (const mm::Pfn pfn : pages) found += mm::page_referenced(*machine, pfn, mm::PageIs::kUnlocked);
    });
    const double plain = ThreadSeconds([&] {
      for (size_t i = 0; i < kOfList; ++i) {
        for (mm::Vma* vma : list) {
          mm::Vaddr addr;
          found += mm::find_pte(*vma, *machine, pages[i * (kVmas / kOfList)], &addr) != nullptr ? 1 : 0;
        }
      }
    });
    CHECK(found >= static_cast<int>(kOfList));
    state.SetIterationTime(tree);
    state.counters["tree_ns"] = tree / static_cast<double>(kVmas) * 1e9;
    state.counters["list_ns"] = plain / static_cast<double>(kOfList) * 1e9;
    state.counters["ratio"] = (plain / static_cast<double>(kOfList)) / (tree / static_cast<double>(kVmas));
  }
}

BENCHMARK(TryToUnmap)->Apply([](auto* b) { Pairs(b); });
BENCHMARK(ManyVmas)->Apply([](auto* b) { Pairs(b); });

}  // namespace
}  // namespace bench
