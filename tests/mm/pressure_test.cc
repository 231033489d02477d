// The same random life on a machine with memory for all of it and on one that reclaims all the time: every
// answer and every byte must be the same, under each generation's rules.
#include <gtest/gtest.h>

#include <array>
#include <random>

#include "mm/reclaim.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

constexpr uint64_t kPages = 40;

class Life {
 public:
  Life(const Semantics& semantics, uint64_t memory_pages, uint64_t swap_pages, unsigned seed)
      : w(semantics, memory_pages, swap_pages), random_(seed) {
    file_ = w.NewFile(kPages * kPage);
    Process& p = w.Spawn();
    areas_ = {w.Anon(p, kPages), w.Private(p, file_, kPages), w.Shared(p, file_, kPages),
              w.Map(p, kPages, kReadWrite, MAP_SHARED | MAP_ANONYMOUS), w.Shared(p, file_, kPages)};
    live_.push_back(&p);
  }
  // What the step answered.
  std::string Step() {
    Process& p = *live_[Below(live_.size())];
    const size_t area = Below(areas_.size());
    const uint64_t first = Below(kPages);
    const uint64_t pages = 1 + Below(std::min<uint64_t>(kPages - first, 4));
    const Vaddr addr = areas_[area] + first * kPage;
    const uint64_t argument = random_();
    switch (Below(40)) {
      case 0: return Fork(p);
      case 1: return Exit(p);
      case 2: return Said(sys_madvise(*p.mm, addr, pages * kPage, MADV_DONTNEED));
      case 3: return Said(sys_madvise(*p.mm, addr, pages * kPage, MADV_PAGEOUT));
      case 4: return Said(sys_mlock(*p.mm, addr, pages * kPage));
      case 5: return Said(sys_munlock(*p.mm, areas_[area], kPages * kPage));
      case 6:
        return Said(sys_mprotect(*p.mm, addr, pages * kPage, argument % 2 == 0 ? PROT_READ : kReadWrite));
      // Whole pages: a store behind the end of a partial one is lost at the next writeback, whenever that is.
      case 7: return Said(vmtruncate(w.machine(), *file_, argument % kPages * kPage, kNoLimit));
      case 8: return Said(vmtruncate(w.machine(), *file_, kPages * kPage, kNoLimit));
      case 9: return Said(vfs_fsync(w.machine(), *file_));
      case 10:
      case 11: return Remap(p, first, pages, argument);
      case 12: return Said(punch_hole(w.machine(), *file_, first * kPage, pages * kPage));
      case 13: (void)try_to_free_pages(w.machine(), argument % 20); return "";
      case 14: return Said(sys_msync(*p.mm, addr, pages * kPage, MS_SYNC));
      default: break;
    }
    return Access(p, addr + argument % kPage, argument);
  }
  std::string Contents() {
    std::string all;
    for (Process* p : live_) {
      for (const Vaddr area : areas_) {
        for (uint64_t i = 0; i < kPages; ++i) {
          std::string bytes(kPage, '?');
          const AccessResult got = w.machine().load(*p, area + i * kPage, AsWritable(bytes));
          all += std::to_string(static_cast<int>(got.outcome)) + bytes;
        }
      }
    }
    return all;
  }

  World w;

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  static std::string Said(const SysResult<void>& result) {
    return result ? "ok" : "errno " + std::to_string(result.error().err);
  }
  std::string Fork(Process& p) {
    if (live_.size() >= 4) return "";
    live_.push_back(*w.machine().fork(p.pid, next_pid_++, "child"));
    return "forked";
  }
  std::string Exit(Process& p) {
    if (live_.size() < 2) return "";
    const Pid pid = p.pid;
    std::erase(live_, &p);
    w.machine().exit(pid);
    return "exited";
  }
  // Of the last area only, which stays shared; within one vma of it.
  std::string Remap(Process& p, uint64_t first, uint64_t pages, uint64_t argument) {
    const Vaddr addr = areas_[4] + first * kPage;
    return Said(sys_remap_file_pages(*p.mm, addr, pages * kPage, 0, argument % kPages,
                                     argument % 3 == 0 ? MAP_NONBLOCK : 0));
  }
  std::string Access(Process& p, Vaddr addr, uint64_t argument) {
    std::string bytes = std::to_string(argument);
    const AccessResult got = argument % 2 == 0 ? w.machine().store(p, addr, AsBytes(bytes))
                                               : w.machine().load(p, addr, AsWritable(bytes));
    return std::to_string(static_cast<int>(got.outcome)) + bytes;
  }

  std::mt19937_64 random_;
  FilePtr file_;
  std::array<Vaddr, 5> areas_{};
  std::vector<Process*> live_;
  Pid next_pid_ = 100;
};

class Pressure : public testing::TestWithParam<std::string> {};

TEST_P(Pressure, NobodyCanTell) {
  const Semantics semantics = Generation(GetParam()).value();
  for (unsigned seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    Life roomy(semantics, 8192, 0, seed);
    Life tight(semantics, 128, 4096, seed);
    for (int step = 0; step < 2500; ++step) {
      const std::string want = roomy.Step();
      ASSERT_EQ(tight.Step(), want) << "step " << step;
      if (step % 20 == 0) tight.w.Check();
      if (step % 200 == 0) roomy.w.Check();
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_GT(tight.w.machine().vmstat.pswpin, 10u) << "there was pressure";
    ASSERT_BYTES(tight.Contents(), roomy.Contents());
  }
}

INSTANTIATE_TEST_SUITE_P(Generations, Pressure,
                         testing::ValuesIn(std::vector<std::string>(GenerationNames().begin(),
                                                                    GenerationNames().end())),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace mm
