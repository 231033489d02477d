// Smaps: what is counted of a vma, and the sums that must hold.
#include "mm/smaps.h"

#include <gtest/gtest.h>

#include "mm/rmap.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

struct SmapsWorld {
  Smaps Of(Process& process, Vaddr addr) {
    const std::string before = TextDump(w.machine());
    const Smaps s = SmapsOf(w.VmaAt(process, addr));
    EXPECT_EQ(TextDump(w.machine()), before) << "looking changes nothing";
    EXPECT_EQ(s.rss, s.shared_clean + s.shared_dirty + s.private_clean + s.private_dirty);
    EXPECT_LE(s.pss_bytes, s.rss * kPage);
    EXPECT_LE(s.referenced, s.rss);
    EXPECT_LE(s.anonymous, s.rss);
    return s;
  }
  World w{{}, 4096, 64};
  Process& p = w.Spawn();
};

TEST(Smaps, AnonymousMemory) {
  SmapsWorld s;
  const Vaddr a = s.w.Anon(s.p, 4);
  Smaps m = s.Of(s.p, a);
  EXPECT_EQ(m.rss + m.swap + m.pss_bytes + m.anonymous, 0u);
  EXPECT_EQ(s.w.TryLoad(s.p, a), Outcome::kOk);
  EXPECT_EQ(s.Of(s.p, a).rss, 0u) << "the zero page does not count";
  ASSERT_EQ(s.w.TryStore(s.p, a + kPage), Outcome::kOk);
  ASSERT_EQ(s.w.TryStore(s.p, a + 2 * kPage), Outcome::kOk);
  m = s.Of(s.p, a);
  EXPECT_EQ(m.rss, 2u);
  EXPECT_EQ(m.pss_bytes, 2 * kPage);
  EXPECT_EQ(m.anonymous, 2u);
  EXPECT_EQ(m.private_dirty, 2u);
  EXPECT_EQ(m.referenced, 2u);
  EXPECT_EQ(m.locked_pss_bytes, 0u);
  page_referenced(s.w.machine(), s.w.PfnAt(s.p, a + kPage), PageIs::kUnlocked);
  EXPECT_EQ(s.Of(s.p, a).referenced, 1u);
}

TEST(Smaps, SharedByFork) {
  SmapsWorld s;
  const Vaddr a = s.w.Anon(s.p, 3);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(s.w.TryStore(s.p, a + i * kPage), Outcome::kOk);
  Process& child = s.w.Fork(s.p);
  ASSERT_EQ(s.w.TryStore(child, a), Outcome::kOk);
  for (Process* process : {&s.p, &child}) {
    const Smaps m = s.Of(*process, a);
    EXPECT_EQ(m.rss, 3u);
    EXPECT_EQ(m.shared_dirty, 2u);
    EXPECT_EQ(m.private_dirty, 1u);
    EXPECT_EQ(m.pss_bytes, 2 * kPage / 2 + kPage);
  }
  Process& third = s.w.Fork(child);
  EXPECT_EQ(s.Of(third, a).pss_bytes, kPage / 2 + 2 * (kPage / 3)) << "each page rounded down";
}

TEST(Smaps, FilePages) {
  SmapsWorld s;
  const FilePtr file = s.w.NewFile(4 * kPage);
  const Vaddr priv = s.w.Private(s.p, file, 4);
  const Vaddr shared = s.w.Shared(s.p, file, 4);
  EXPECT_EQ(s.w.TryLoad(s.p, priv), Outcome::kOk);
  ASSERT_EQ(s.w.TryStore(s.p, priv + kPage), Outcome::kOk);
  EXPECT_EQ(s.w.TryLoad(s.p, shared), Outcome::kOk);
  ASSERT_EQ(s.w.TryStore(s.p, shared + 2 * kPage), Outcome::kOk);
  const Smaps own = s.Of(s.p, priv);
  EXPECT_EQ(own.rss, 2u);
  EXPECT_EQ(own.anonymous, 1u);
  EXPECT_EQ(own.shared_clean, 1u) << "mapped twice, though by one process";
  EXPECT_EQ(own.private_dirty, 1u);
  EXPECT_EQ(own.pss_bytes, kPage / 2 + kPage);
  const Smaps ours = s.Of(s.p, shared);
  EXPECT_EQ(ours.rss, 2u);
  EXPECT_EQ(ours.anonymous, 0u);
  EXPECT_EQ(ours.private_dirty, 1u);
}

TEST(Smaps, SwapEntriesAndTheirShares) {
  SmapsWorld s;
  const Vaddr a = s.w.Anon(s.p, 3);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(s.w.TryStore(s.p, a + i * kPage), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, a));
  EXPECT_EQ(s.Of(s.p, a).swap_pss_bytes, kPage);
  Process& child = s.w.Fork(s.p);
  ASSERT_TRUE(s.w.PageOut(s.p, a + kPage));
  const Smaps m = s.Of(child, a);
  EXPECT_EQ(m.swap, 2u);
  EXPECT_EQ(m.swap_pss_bytes, 2 * kPage / 2);
  EXPECT_EQ(m.rss, 1u);
  EXPECT_EQ(s.w.TryLoad(s.p, a), Outcome::kOk);
  EXPECT_EQ(s.Of(s.p, a).swap, 1u);
  EXPECT_EQ(s.Of(s.p, a).rss, 2u) << "in the swap cache, and present";
}

TEST(Smaps, SwappedPagesOfAnObject) {
  SmapsWorld s;
  const Vaddr a = s.w.Map(s.p, 4, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  ASSERT_EQ(s.w.TryStore(s.p, a), Outcome::kOk);
  ASSERT_EQ(s.w.TryStore(s.p, a + 3 * kPage), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, a + 3 * kPage));
  EXPECT_EQ(s.Of(s.p, a).swap, 1u);
  EXPECT_EQ(s.Of(s.p, a).rss, 1u);
  ASSERT_TRUE(s.w.Unmap(s.p, a + 3 * kPage, 1));
  EXPECT_EQ(s.Of(s.p, a).swap, 0u) << "outside the window";
}

// A private copy lies over the object's page: what the vma shows is not in swap.
TEST(Smaps, ACopyHidesTheSwappedPageOfItsObject) {
  SmapsWorld s;
  const FilePtr object = s.w.machine().create_shmem("object", 2 * kPage);
  const Vaddr shared = s.w.Shared(s.p, object, 2);
  const Vaddr priv = s.w.Private(s.p, object, 2);
  ASSERT_EQ(s.w.TryStore(s.p, shared), Outcome::kOk);
  ASSERT_EQ(s.w.TryStore(s.p, priv), Outcome::kOk);
  EXPECT_EQ(s.w.TryLoad(s.p, shared), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, shared));
  EXPECT_EQ(s.Of(s.p, shared).swap, 1u);
  EXPECT_EQ(s.Of(s.p, priv).swap, 0u);
  EXPECT_EQ(s.Of(s.p, priv).rss, 1u);
}

TEST(Smaps, LockedMemory) {
  SmapsWorld s;
  const Vaddr a = s.w.Anon(s.p, 2);
  ASSERT_TRUE(sys_mlock(*s.p.mm, a, 2 * kPage));
  EXPECT_EQ(s.Of(s.p, a).locked_pss_bytes, 2 * kPage);
}

}  // namespace
}  // namespace mm
