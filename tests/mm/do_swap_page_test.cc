// do_swap_page: who maps a swapped page again, how, and at what cost.
#include <gtest/gtest.h>

#include "mm/fault.h"
#include "mm/swap.h"
#include "tests/mm/failing_swap.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

struct SwappedOut {
  explicit SwappedOut(int prot = kReadWrite) {
    device = &UseFailingSwap(w.machine(), 64);
    a = w.Anon(p, 1);
    EXPECT_EQ(w.Store(p, a, "bytes"), Outcome::kOk);
    EXPECT_TRUE(w.PageOut(p, a));
    if (prot != kReadWrite) {
      EXPECT_TRUE(w.Protect(p, a, 1, prot));
    }
  }
  World w;
  FailingSwap* device = nullptr;
  Process& p = w.Spawn();
  Vaddr a = 0;
};

TEST(DoSwapPage, AReadMapsReadOnlyAndKeepsTheSlot) {
  SwappedOut s;
  EXPECT_EQ(s.w.Fault(s.p, s.a, Write::kNo) & (VM_FAULT_MAJOR | VM_FAULT_ERROR), VM_FAULT_MAJOR);
  const Pte pte = s.w.PteAt(s.p, s.a);
  EXPECT_TRUE(pte_present(pte) && !pte_write(pte));
  EXPECT_EQ(s.p.mm->anon_rss, 1u);
  EXPECT_EQ(s.device->reads, 1);
  EXPECT_EQ(page_swapcount(s.w.machine(), s.w.PageAt(s.p, s.a)), 0u) << "the entry was given up";
  s.w.Check();
}

TEST(DoSwapPage, AWriteTakesThePageOutOfTheCache) {
  SwappedOut s;
  EXPECT_EQ(s.w.Fault(s.p, s.a, Write::kYes) & VM_FAULT_ERROR, 0u);
  const Pte pte = s.w.PteAt(s.p, s.a);
  EXPECT_TRUE(pte_write(pte) && pte_dirty(pte));
  EXPECT_FALSE(s.w.PageAt(s.p, s.a).swapcache());
  EXPECT_EQ(s.w.machine().swap->nr_free(), s.w.machine().swap->nr_slots());
  s.w.Check();
  EXPECT_BYTES(s.w.Load(s.p, s.a, 5), "bytes");
}

TEST(DoSwapPage, TheSecondProcessFindsItInTheCache) {
  SwappedOut s;
  Process& child = s.w.Fork(s.p);
  EXPECT_NE(s.w.Fault(s.p, s.a, Write::kNo) & VM_FAULT_MAJOR, 0u);
  EXPECT_EQ(s.w.Fault(child, s.a, Write::kNo), VM_FAULT_MINOR);
  EXPECT_EQ(s.device->reads, 1);
  EXPECT_EQ(s.w.PfnAt(s.p, s.a), s.w.PfnAt(child, s.a));
  EXPECT_EQ(s.w.PageAt(s.p, s.a).mapcount, 2);
  s.w.Check();
}

TEST(DoSwapPage, AForcedWriteIntoAReadOnlyVma) {
  SwappedOut s(PROT_READ);
  Process& child = s.w.Fork(s.p);
  std::vector<Pfn> pins = get_user_pages(*s.p.mm, s.a, 1, Write::kYes, Force::kYes).value();
  ASSERT_EQ(pins.size(), 1u);
  EXPECT_FALSE(pte_write(s.w.PteAt(s.p, s.a)));
  EXPECT_EQ(s.w.PfnAt(s.p, s.a), pins[0]);
  s.w.machine().frames.bytes(pins[0])[0] = std::byte{'B'};
  unpin_user_pages(s.w.machine(), pins);
  EXPECT_BYTES(s.w.Load(s.p, s.a, 5), "Bytes");
  EXPECT_BYTES(s.w.Load(child, s.a, 5), "bytes");
}

TEST(DoSwapPage, NoFrameIsOutOfMemoryAndKeepsTheEntry) {
  SwappedOut s;
  std::vector<Pfn> taken;
  for (Pfn pfn = s.w.machine().frames.alloc_page(Fill::kZero); pfn != kNoPfn;
       pfn = s.w.machine().frames.alloc_page(Fill::kZero)) {
    taken.push_back(pfn);
  }
  const Pte entry = s.w.PteAt(s.p, s.a);
  EXPECT_EQ(s.w.machine().touch(s.p, s.a, 1, Write::kNo).outcome, Outcome::kOom);
  EXPECT_EQ(s.w.PteAt(s.p, s.a), entry);
  for (const Pfn pfn : taken) s.w.machine().frames.put_page(pfn);
  EXPECT_BYTES(s.w.Load(s.p, s.a, 5), "bytes");
}

// A swapped copy of a file's page: the copy comes back, not the file's page.
TEST(DoSwapPage, PrivateCopyOfAFilePage) {
  SwappedOut s;
  const FilePtr file = s.w.NewFile(kPage);
  const Vaddr priv = s.w.Private(s.p, file, 1);
  ASSERT_EQ(s.w.Store(s.p, priv, "copy"), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, priv));
  EXPECT_BYTES(s.w.Load(s.p, priv, kPage), "copy" + s.w.Original(file, 4, kPage - 4));
  EXPECT_BYTES(s.w.ReadFile(file, 0, kPage), s.w.Original(file, 0, kPage));
  EXPECT_TRUE(s.w.IsDirty(s.p, priv));
}

}  // namespace
}  // namespace mm
