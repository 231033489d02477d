// do_wp_page: stores to pages that are mapped read-only.
#include <gtest/gtest.h>

#include "mm/swap.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

struct Cow {
  Cow() { EXPECT_EQ(w.Store(p, a, "old"), Outcome::kOk); }
  World w{{}, 4096, 64};
  Process& p = w.Spawn();
  Vaddr a = w.Anon(p, 1);
};

TEST(DoWpPage, TheLastOwnerWritesInPlace) {
  Cow c;
  Process& child = c.w.Fork(c.p);
  const Pfn pfn = c.w.PfnAt(c.p, c.a);
  ASSERT_EQ(c.w.Store(child, c.a, "new"), Outcome::kOk);
  EXPECT_NE(c.w.PfnAt(child, c.a), pfn);
  ASSERT_EQ(c.w.Store(c.p, c.a, "own"), Outcome::kOk);
  EXPECT_EQ(c.w.PfnAt(c.p, c.a), pfn);
  EXPECT_BYTES(c.w.Load(child, c.a, 3), "new");
}

// A shared page of the swap cache: the copier leaves it, and its last owner takes it out.
TEST(DoWpPage, CopyOfAPageInTheSwapCache) {
  Cow c;
  Process& child = c.w.Fork(c.p);
  ASSERT_TRUE(c.w.PageOut(c.p, c.a));
  EXPECT_BYTES(c.w.Load(c.p, c.a, 3), "old");
  EXPECT_BYTES(c.w.Load(child, c.a, 3), "old");
  const Pfn pfn = c.w.PfnAt(c.p, c.a);
  ASSERT_TRUE(c.w.machine().frames.at(pfn).swapcache());
  ASSERT_EQ(c.w.Store(child, c.a, "new"), Outcome::kOk);
  EXPECT_TRUE(c.w.machine().frames.at(pfn).swapcache());
  EXPECT_FALSE(c.w.PageAt(child, c.a).swapcache());
  ASSERT_EQ(c.w.Store(c.p, c.a, "own"), Outcome::kOk);
  EXPECT_EQ(c.w.PfnAt(c.p, c.a), pfn);
  EXPECT_FALSE(c.w.machine().frames.at(pfn).swapcache());
  EXPECT_EQ(c.w.machine().swap->nr_free(), c.w.machine().swap->nr_slots());
  EXPECT_BYTES(c.w.Load(child, c.a, 3), "new");
  EXPECT_BYTES(c.w.Load(c.p, c.a, 3), "own");
}

// The copier was the last that mapped the page: page and slot go.
TEST(DoWpPage, ACopyThatLeavesAnUnusedSlotFreesIt) {
  Cow c;
  ASSERT_TRUE(c.w.PageOut(c.p, c.a));
  EXPECT_BYTES(c.w.Load(c.p, c.a, 3), "old");
  c.w.PageAt(c.p, c.a).flags |= PG_ksm;  // may not be written in place
  const uint32_t free = c.w.machine().frames.nr_free();
  ASSERT_EQ(c.w.Store(c.p, c.a, "new"), Outcome::kOk);
  EXPECT_EQ(c.w.machine().swap->nr_free(), c.w.machine().swap->nr_slots());
  EXPECT_EQ(c.w.machine().frames.nr_free(), free);
  EXPECT_BYTES(c.w.Load(c.p, c.a, 3), "new");
}

TEST(DoWpPage, TheOldPageIsReclaimedWhileTheCopyIsMade) {
  Cow c;
  Process& child = c.w.Fork(c.p);
  const Pfn pfn = c.w.PfnAt(c.p, c.a);
  bool reclaimed = false;
  ASSERT_TRUE(
      c.w.Beside([&] { EXPECT_EQ(c.w.machine().store(c.p, c.a, AsBytes("new")).outcome, Outcome::kOk); },
                 "CowBreak", "page_table_lock", [&] { reclaimed = reclaim_page(c.w.machine(), pfn); }));
  EXPECT_FALSE(reclaimed) << "the fault has a reference";
  EXPECT_BYTES(c.w.Load(child, c.a, 3), "old");
  EXPECT_BYTES(c.w.Load(c.p, c.a, 3), "new");
}

}  // namespace
}  // namespace mm
