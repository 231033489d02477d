// swapon and swapoff: everything comes back, or what cannot stays where it is.
#include <gtest/gtest.h>

#include "mm/swap.h"
#include "tests/mm/failing_swap.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

std::string Mark(uint64_t i) { return "page " + std::to_string(i) + "."; }

struct Swapped {
  explicit Swapped(uint64_t memory_pages = 4096, uint64_t pages = 8) : w({}, memory_pages), count(pages) {
    device = &UseFailingSwap(w.machine(), 256);
    a = w.Anon(p, count);
    for (uint64_t i = 0; i < count; ++i) {
      EXPECT_EQ(w.Store(p, a + i * kPage, Mark(i)), Outcome::kOk);
      EXPECT_TRUE(w.PageOut(p, a + i * kPage));
    }
  }
  SysResult<void> Swapoff(Where at = Where::current()) {
    const SysResult<void> result = sys_swapoff(w.machine());
    w.Check(at);
    return result;
  }
  void ExpectMarks(Process& process) {
    for (uint64_t i = 0; i < count; ++i) {
      EXPECT_BYTES(w.Load(process, a + i * kPage, Mark(i).size()), Mark(i));
    }
  }
  uint64_t StillSwapped(Process& process) {
    uint64_t swapped = 0;
    for (uint64_t i = 0; i < count; ++i) swapped += pte_swap(w.PteAt(process, a + i * kPage)) ? 1 : 0;
    return swapped;
  }

  World w;
  uint64_t count;
  FailingSwap* device = nullptr;
  Process& p = w.Spawn();
  Vaddr a = 0;
};

TEST(Swapoff, BringsEverythingBack) {
  Swapped s;
  Process& child = s.w.Fork(s.p);
  const Vaddr shared = s.w.Map(s.p, 2, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  ASSERT_EQ(s.w.Store(s.p, shared + kPage, "object"), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, shared + kPage));
  EXPECT_BYTES(s.w.Load(s.p, s.a, 6), "page 0") << "one in the swap cache, still in the child's entry";
  ASSERT_TRUE(s.w.Protect(s.p, s.a + kPage, 1, PROT_NONE));
  ASSERT_TRUE(s.Swapoff());
  EXPECT_EQ(s.w.machine().swap, nullptr);
  EXPECT_EQ(s.StillSwapped(s.p) + s.StillSwapped(child), 0u);
  EXPECT_EQ(s.w.TryLoad(s.p, s.a + kPage), Outcome::kSigsegv);
  ASSERT_TRUE(s.w.Protect(s.p, s.a + kPage, 1, kReadWrite));
  ASSERT_EQ(s.w.Store(child, s.a, "CHILD0."), Outcome::kOk);
  s.ExpectMarks(s.p);
  EXPECT_BYTES(s.w.Load(child, s.a, 7), "CHILD0.");
  EXPECT_BYTES(s.w.Load(child, s.a + 3 * kPage, 7), Mark(3));
  EXPECT_BYTES(s.w.Load(s.p, shared + kPage, 6), "object");
  EXPECT_EQ(s.Swapoff().error(), (SysError{EINVAL, 0})) << "there is none any more";
  EXPECT_FALSE(s.w.PageOut(s.p, s.a)) << "nowhere to go";
  EXPECT_BYTES(s.w.Load(s.p, s.a, 7), Mark(0));
}

TEST(Swapoff, TwoMachinesEndAlike) {
  std::string dumps[2];
  for (std::string& dump : dumps) {
    World w({}, 4096, 64);
    if (&dump == &dumps[1]) {
      // So that later address spaces lie elsewhere in memory than those of the first machine.
      std::vector<std::shared_ptr<MmStruct>> holes;
      for (int i = 0; i < 6; ++i) holes.push_back(w.machine().new_mm());
      for (std::shared_ptr<MmStruct>& hole : holes) hole = nullptr;
    }
    Process* process[6];
    for (Process*& p : process) {
      p = &w.Spawn();
      const Vaddr a = w.Anon(*p, 4);
      for (uint64_t i = 0; i < 4; ++i) {
        EXPECT_EQ(w.Store(*p, a + i * kPage, Mark(p->pid * 10 + i)), Outcome::kOk);
        EXPECT_TRUE(w.PageOut(*p, a + i * kPage));
      }
    }
    EXPECT_TRUE(sys_swapoff(w.machine()));
    for (Process* p : process) {
      for (const auto& [start, vma] : p->mm->vmas()) {
        for (Vaddr a = start; a < vma->end; a += kPage) {
          dump += std::to_string(static_cast<uint32_t>(w.PfnAt(*p, a))) + " ";
        }
      }
    }
  }
  EXPECT_EQ(dumps[0], dumps[1]) << "deterministic: frames are taken in the order of the processes";
}

TEST(Swapoff, OutOfMemoryLeavesTheRest) {
  Swapped s(32, 60);
  const SysResult<void> result = s.Swapoff();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), (SysError{ENOMEM, 0}));
  ASSERT_NE(s.w.machine().swap, nullptr);
  EXPECT_GT(s.StillSwapped(s.p), 0u);
  EXPECT_LT(s.StillSwapped(s.p), 60u) << "some came back";
  s.ExpectMarks(s.p);
  ASSERT_TRUE(s.w.Unmap(s.p, s.a + 20 * kPage, 40));
  ASSERT_TRUE(s.Swapoff()) << "what is left fits";
  s.count = 20;
  s.ExpectMarks(s.p);
}

TEST(Swapoff, AnUnreadableSlotLeavesTheRest) {
  Swapped s;
  const Pte entry = s.w.PteAt(s.p, s.a + 4 * kPage);
  s.device->bad_reads.insert(pte_to_swp_entry(entry));
  const SysResult<void> result = s.Swapoff();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), (SysError{EIO, 0}));
  ASSERT_NE(s.w.machine().swap, nullptr);
  EXPECT_EQ(s.w.PteAt(s.p, s.a + 4 * kPage), entry) << "still its entry";
  s.device->bad_reads.clear();
  s.ExpectMarks(s.p);
  ASSERT_TRUE(s.w.PageOut(s.p, s.a)) << "and the area is in use";
  ASSERT_TRUE(s.Swapoff());
  s.ExpectMarks(s.p);
}

TEST(Swapoff, AnUnreadablePageOfAnObject) {
  World w;
  FailingSwap& device = UseFailingSwap(w.machine(), 16);
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 2, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  ASSERT_EQ(w.Store(p, a, "shared"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  device.all_reads_bad = true;
  EXPECT_EQ(sys_swapoff(w.machine()).error(), (SysError{EIO, 0}));
  w.Check();
  device.all_reads_bad = false;
  EXPECT_TRUE(sys_swapoff(w.machine()));
  EXPECT_BYTES(w.Load(p, a, 6), "shared");
}

TEST(Swapon, OneAreaAtATime) {
  World w;
  EXPECT_EQ(sys_swapoff(w.machine()).error(), (SysError{EINVAL, 0}));
  ASSERT_TRUE(sys_swapon(w.machine(), std::make_unique<FailingSwap>(), 16));
  EXPECT_EQ(sys_swapon(w.machine(), std::make_unique<FailingSwap>(), 16).error(), (SysError{EBUSY, 0}));
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "x"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_BYTES(w.Load(p, a, 1), "x");
  ASSERT_TRUE(sys_swapoff(w.machine()));
  EXPECT_TRUE(sys_swapon(w.machine(), std::make_unique<FailingSwap>(), 16));
}

}  // namespace
}  // namespace mm
