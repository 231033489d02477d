// Discarded frames on their way to the free list, in each of the three ways.
#include "mm/discard.h"

#include <gtest/gtest.h>

#include "tests/mm/deferred.h"

namespace mm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// ---- 2005 ----

TEST(DiscardedPages, APagevecOfFourteen) {
  Deferred d(1, Generation("hva2005").value());
  d.Queue(0, 13);
  EXPECT_EQ(d.list().shrink(), 0u);
  EXPECT_EQ(d.list().on_cpu(0).size(), 13u);
  d.Queue(0, 1);
  EXPECT_THAT(d.list().on_cpu(0), IsEmpty());
  EXPECT_EQ(d.list().list().size(), 14u);
  EXPECT_EQ(d.list().shrink(), 14u);
  EXPECT_EQ(d.list().size(), 0u);
  d.w.Check();
}

TEST(DiscardedPages, APagevecIsLeftToItsCpu) {
  Deferred d(2, Generation("hva2005").value());
  d.Queue(1, 5);
  d.Queue(0, 14);
  uint64_t freed = 0;
  d.On(0, [&] { freed = d.list().shrink(); });
  EXPECT_EQ(freed, 14u);
  EXPECT_EQ(d.list().on_cpu(1).size(), 5u);
  d.On(0, [&] { freed = d.list().wait(); });
  EXPECT_EQ(freed, 0u) << "there they stay";
}

// ---- 2006 ----

TEST(DiscardedPages, ShrinkCollectsFromAllCpus) {
  Deferred d(3, Hinted({"discard_free=ipi_lists"}));
  d.Queue(0, 1);
  d.Queue(2, 2);
  uint64_t freed = 0;
  d.On(1, [&] { freed = d.list().shrink(); });
  EXPECT_EQ(freed, 3u);
  EXPECT_EQ(d.list().size(), 0u);
  d.w.Check();
}

TEST(DiscardedPages, TicksAreOfNoUseToTheOtherWays) {
  for (const char* way : {"discard_free=ipi_lists", "discard_free=pagevec"}) {
    Deferred d(1, Hinted({way}));
    d.Queue(0, 2);
    d.list().tick();
    d.list().idle();
    EXPECT_EQ(d.list().size(), 2u) << way;
  }
}

// ---- 2007 to 2009 ----

TEST(DiscardedPages, OneCpuSignsOffAtOnce) {
  Deferred d(1);
  d.Queue(0, 3);
  EXPECT_EQ(d.list().on_cpu(0).size(), 3u);
  EXPECT_EQ(d.list().shrink(), 0u) << "reclaim has no part in it";
  d.list().tick();
  EXPECT_EQ(d.list().size(), 0u);
  d.w.Check();
}

TEST(DiscardedPages, ABatchGoesThroughAllLists) {
  Deferred d(3);
  const std::vector<Pfn> pages = d.Queue(0, 2);
  EXPECT_EQ(d.list().on_cpu(0), pages);
  d.Tick(1);
  EXPECT_EQ(d.list().on_cpu(0), pages) << "CPU 1 has nothing, and need not sign";
  d.Tick(0);
  EXPECT_EQ(d.list().sign_off(), pages);
  EXPECT_EQ(d.list().sign_off_mask(), 0b110u);
  d.Idle(2);
  EXPECT_EQ(d.list().sign_off_mask(), 0b010u);
  d.Tick(2);
  d.Tick(0);
  EXPECT_EQ(d.list().sign_off(), pages) << "CPU 1 has not signed";
  d.Tick(1);
  EXPECT_EQ(d.list().size(), 0u);
  for (const Pfn pfn : pages) EXPECT_EQ(d.w.page(pfn).flags, 0u);
  d.w.Check();
}

TEST(DiscardedPages, TheNextBatchGathersMeanwhile) {
  Deferred d(2);
  const Pfn first = d.Queue(0, 1)[0];
  d.Tick(0);
  const Pfn second = d.Queue(0, 1)[0];
  d.Tick(0);
  EXPECT_THAT(d.list().sign_off(), ElementsAre(first));
  EXPECT_THAT(d.list().list(), ElementsAre(second));
  d.Tick(1);
  EXPECT_THAT(d.list().sign_off(), ElementsAre(second));
  EXPECT_EQ(d.list().sign_off_mask(), 0b01u) << "all but the one that began it";
  EXPECT_TRUE(d.IsFree(first));
  d.Tick(0);
  EXPECT_TRUE(d.IsFree(second));
}

TEST(DiscardedPages, TicklessCpusAreExempt) {
  Deferred d(2);
  d.list().set_tickless(1, true);
  const Pfn pfn = d.Queue(0, 1)[0];
  d.Tick(0);
  EXPECT_TRUE(d.IsFree(pfn)) << "there is nobody to wait for";
  d.list().set_tickless(1, false);
  d.Queue(0, 1);
  d.Tick(0);
  EXPECT_EQ(d.list().sign_off_mask(), 0b10u);
  d.list().set_tickless(1, true);
  EXPECT_EQ(d.list().sign_off_mask(), 0b10u) << "a batch that is under way counts on it";
  d.Idle(1);
  EXPECT_EQ(d.list().size(), 0u);
}

TEST(DiscardedPages, TheHookOf2009IsNotInEveryTick) {
  Deferred d(1, Generation("gph2009").value());
  d.Queue(0, 1);
  d.list().tick();
  EXPECT_EQ(d.list().size(), 1u);
  d.list().tick(true);
  EXPECT_EQ(d.list().size(), 0u);
  d.Queue(0, 1);
  d.list().idle();
  EXPECT_EQ(d.list().size(), 0u);
}

// An allocation that has nothing else waits for a tick of every CPU.
TEST(DiscardedPages, WaitMakesThemFree) {
  for (const char* way : {"discard_free=sign_off", "discard_free=ipi_lists"}) {
    SCOPED_TRACE(way);
    Deferred d(3, Hinted({way}));
    EXPECT_EQ(d.list().wait(), 0u);
    d.Queue(0, 2);
    d.Queue(2, 1);
    uint64_t freed = 0;
    d.On(1, [&] { freed = d.list().wait(); });
    EXPECT_EQ(freed, 3u);
    EXPECT_EQ(d.list().size(), 0u);
    d.w.Check();
  }
}

// They are cold: the host has to back them again. So others go first, whichever was freed later.
TEST(DiscardedPages, AreUsedAgainLast) {
  Deferred d(1);
  const Pfn there = d.w.ReadIn(d.file, 60);
  const std::vector<Pfn> pages = d.Queue(0, 2);
  ASSERT_TRUE(reclaim_page(d.w.machine(), there));
  const uint32_t free = d.w.frames().nr_free();
  d.Tick(0);
  EXPECT_EQ(d.w.frames().nr_free(), free + 2);
  std::vector<Pfn> got;
  for (int i = 0; i < 3; ++i) got.push_back(d.w.frames().alloc_page(Fill::kZero));
  EXPECT_THAT(got, ElementsAre(there, pages[0], pages[1]));
  for (const Pfn pfn : got) d.w.frames().put_page(pfn);
  d.w.Check();
  EXPECT_EQ(d.w.frames().alloc_page(Fill::kZero), pages[1]) << "ordinary frames: the last one first";
  d.w.frames().put_page(pages[1]);
}

// ---- CPUs that go and come ----

TEST(DiscardedPages, HotUnplug) {
  Deferred d(3);
  const std::vector<Pfn> own = d.Queue(1, 2);
  d.On(0, [&] { d.list().cpu_dead(1); });
  EXPECT_EQ(d.list().on_cpu(0), own);
  EXPECT_THAT(d.list().on_cpu(1), IsEmpty());
  EXPECT_EQ(d.list().online(), 0b101u);
  d.w.Check();
  d.Tick(0);
  EXPECT_EQ(d.list().sign_off_mask(), 0b100u) << "the dead need not sign";
  d.list().cpu_online(1);
  EXPECT_EQ(d.list().online(), 0b111u);
  d.Tick(2);
  EXPECT_EQ(d.list().size(), 0u);
  EXPECT_DEATH(d.list().cpu_dead(0), "CHECK failed") << "nobody unplugs his own";
}

TEST(DiscardedPages, HotUnplugDuringABatch) {
  Deferred d(2);
  const Pfn pfn = d.Queue(0, 1)[0];
  d.Tick(0);
  ASSERT_EQ(d.list().sign_off_mask(), 0b10u);
  d.On(0, [&] { d.list().cpu_dead(1); });
  EXPECT_TRUE(d.IsFree(pfn)) << "it was the last to sign";

  Deferred posted(2, Hinted({"signoff_dead_cpu=stays"}));
  posted.Queue(0, 1);
  posted.Tick(0);
  posted.On(0, [&] { posted.list().cpu_dead(1); });
  for (int i = 0; i < 5; ++i) posted.Tick(0);
  EXPECT_EQ(posted.list().size(), 1u) << "as posted it waits for ever";
}

TEST(DiscardedPages, IsRestored) {
  Deferred d(2);
  const std::vector<Pfn> pages = d.Queue(0, 3);
  d.list().restore_list(0, {});
  d.list().restore_list(1, {pages[0]});
  d.list().restore_lists({pages[1]}, {pages[2]}, 0b10);
  EXPECT_EQ(d.list().size(), 3u);
  d.w.Check();
  d.Tick(1);
  d.Tick(0);
  EXPECT_EQ(d.list().size(), 0u);
  d.w.Check();
}

}  // namespace
}  // namespace mm
