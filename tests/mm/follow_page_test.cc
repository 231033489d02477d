// get_dirty_page, get_user_pages, next_dirty_run (mm/follow_page.h). The matrix of follow_page itself is
// scenario M26.
#include "mm/follow_page.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "base/random.h"
#include "mm/fault.h"
#include "tests/mm/failing_swap.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

std::vector<Pfn> Pin(World& w, Process& p, Vaddr addr, uint64_t pages, Write write, Force force = Force::kNo,
                     Where at = Where::current()) {
  const SysResult<std::vector<Pfn>> pinned = get_user_pages(*p.mm, addr, pages, write, force);
  w.Check(at);
  EXPECT_TRUE(pinned.has_value());
  return pinned.value_or(std::vector<Pfn>{});
}
void Unpin(World& w, std::vector<Pfn>& pages) {
  unpin_user_pages(w.machine(), pages);
  EXPECT_TRUE(pages.empty());
  w.Check();
}

TEST(FollowPage, TouchAndGet) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.TryStore(p, a), Outcome::kOk);
  Pte* pte = p.mm->pgtable.find(a);
  *pte = pte_clear_bits(*pte, kPteYoung);
  const Followed plain = follow_page(w.VmaAt(p, a), a, 0);
  EXPECT_EQ(plain, (Followed{Followed::Kind::kPage, w.PfnAt(p, a)}));
  EXPECT_EQ(w.PageAt(p, a).count, 1) << "no reference unless asked for";
  EXPECT_FALSE(pte_young(*pte));
  const Followed got = follow_page(w.VmaAt(p, a), a, FOLL_GET | FOLL_TOUCH);
  EXPECT_TRUE(pte_young(*pte));
  EXPECT_EQ(w.PageAt(p, a).count, 2);
  w.machine().frames.put_page(got.pfn);
}

TEST(FollowPage, FollAnonOnlyWhereThereIsNoTable) {
  for (const bool anon : {true, false}) {
    World w;
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(kPage);
    const Vaddr a = anon ? w.Anon(p, 1, PROT_READ) : w.Private(p, file, 1);
    EXPECT_EQ(follow_page(w.VmaAt(p, a), a, FOLL_ANON), (Followed{Followed::Kind::kPage, kZeroPfn}));
    (void)p.mm->pgtable.alloc(a);
    EXPECT_EQ(follow_page(w.VmaAt(p, a), a, FOLL_ANON).kind, Followed::Kind::kNull);
  }
}

TEST(Gup, FaultsInAndPins) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 3);
  ASSERT_EQ(w.Store(p, a + kPage, "there"), Outcome::kOk);
  std::vector<Pfn> pages = Pin(w, p, a, 3, Write::kYes);
  ASSERT_EQ(pages.size(), 3u);
  EXPECT_EQ(p.mm->anon_rss, 3u);
  EXPECT_BYTES(w.FrameText(pages[1], 0, 5), "there");
  std::memcpy(w.machine().frames.bytes(pages[2]), "device", 6);
  EXPECT_BYTES(w.Load(p, a + 2 * kPage, 6), "device");
  EXPECT_EQ(w.PageAt(p, a).count, 2);
  Unpin(w, pages);
  EXPECT_EQ(w.PageAt(p, a).count, 1);
  EXPECT_TRUE(w.machine().pins.empty());
}

TEST(Gup, ReadOfAHoleIsTheZeroPage) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  std::vector<Pfn> pages = Pin(w, p, a, 1, Write::kNo);
  EXPECT_EQ(pages, std::vector<Pfn>{kZeroPfn});
  Unpin(w, pages);
}

TEST(Gup, StopsAtTheFirstThatCannotBeHad) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 4);
  std::vector<Pfn> pages = Pin(w, p, a, 4, Write::kNo);
  EXPECT_EQ(pages.size(), 2u);
  Unpin(w, pages);
  EXPECT_EQ(get_user_pages(*p.mm, a + 2 * kPage, 1, Write::kNo, Force::kNo).error().err, EFAULT);
  EXPECT_EQ(get_user_pages(*p.mm, 0x1000, 1, Write::kNo, Force::kNo).error().err, EFAULT);
  EXPECT_TRUE(get_user_pages(*p.mm, 0x1000, 0, Write::kNo, Force::kNo)->empty());
  w.Check();
}

TEST(Gup, PermissionsAndForce) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const auto error = [&](Vaddr a, Write write, Force force) {
    SysResult<std::vector<Pfn>> pages = get_user_pages(*p.mm, a, 1, write, force);
    if (!pages) return pages.error().err;
    Unpin(w, *pages);
    return 0;
  };
  const Vaddr none = w.Anon(p, 1, PROT_NONE);
  const Vaddr read = w.Anon(p, 1, PROT_READ);
  const Vaddr shared = w.Shared(p, file, 1, 0, PROT_READ);
  EXPECT_EQ(error(none, Write::kNo, Force::kNo), EFAULT);
  EXPECT_EQ(error(none, Write::kNo, Force::kYes), 0);
  EXPECT_EQ(error(none, Write::kYes, Force::kYes), 0);
  EXPECT_EQ(error(read, Write::kYes, Force::kNo), EFAULT);
  EXPECT_EQ(error(read, Write::kYes, Force::kYes), 0);
  EXPECT_EQ(error(shared, Write::kNo, Force::kNo), 0);
  EXPECT_EQ(error(shared, Write::kYes, Force::kYes), EFAULT) << "nobody may write a read-only shared mapping";
  EXPECT_EQ(w.TryLoad(p, none), Outcome::kSigsegv) << "force changes no protection";
  EXPECT_EQ(w.TryStore(p, read), Outcome::kSigsegv);
}

TEST(Gup, WritesThroughASharedMappingAreSeenByWriteback) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Shared(p, file, 1);
  std::vector<Pfn> pages = Pin(w, p, a, 1, Write::kYes);
  std::memcpy(w.machine().frames.bytes(pages[0]), "device", 6);
  Unpin(w, pages);
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_BYTES(w.OnDisk(file, 0, 6), "device");
}

TEST(Gup, OutOfMemory) {
  World w({}, 16);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 20);
  std::vector<Pfn> pages = Pin(w, p, a, 20, Write::kYes);
  EXPECT_EQ(pages.size(), 15u);
  EXPECT_EQ(get_user_pages(*p.mm, a + 15 * kPage, 1, Write::kYes, Force::kNo).error().err, ENOMEM);
  Unpin(w, pages);
}

TEST(Gup, PinsOutliveTheMapping) {
  World w;
  Process& p = w.Spawn();
  const uint32_t free = w.machine().frames.nr_free();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "pinned"), Outcome::kOk);
  std::vector<Pfn> pages = Pin(w, p, a, 1, Write::kNo);
  ASSERT_TRUE(w.Unmap(p, a, 1));
  EXPECT_BYTES(w.FrameText(pages[0], 0, 6), "pinned");
  const Vaddr b = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, b, "other"), Outcome::kOk);
  EXPECT_BYTES(w.FrameText(pages[0], 0, 6), "pinned");
  Unpin(w, pages);
  EXPECT_EQ(w.machine().frames.nr_free(), free - 1);
}

// ---- get_dirty_page: spec C4, row by row ----

TEST(GetDirtyPage, CleanAnswersFaultNothingIn) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr anon = w.Anon(p, 1);
  const Vaddr priv = w.Private(p, file, 3);
  const std::string before = TextDump(w.machine());
  for (const Vaddr a : {anon, priv, priv + kPage, priv + 2 * kPage}) EXPECT_FALSE(w.IsDirty(p, a));
  EXPECT_EQ(TextDump(w.machine()), before) << "INV-C2: no page, no table, no I/O, no count";
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 0u);
}

TEST(GetDirtyPage, RowsOfTheTable) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr anon = w.Anon(p, 3);
  const Vaddr priv = w.Private(p, file, 4);
  EXPECT_EQ(w.TryLoad(p, anon), Outcome::kOk);
  EXPECT_FALSE(w.IsDirty(p, anon)) << "the zero page";
  ASSERT_EQ(w.TryStore(p, anon + kPage), Outcome::kOk);
  EXPECT_EQ(w.Dirty(p, anon + kPage).value(), w.PfnAt(p, anon + kPage));
  EXPECT_FALSE(w.IsDirty(p, anon + 2 * kPage)) << "a none pte in a table";
  EXPECT_EQ(w.TryLoad(p, priv), Outcome::kOk);
  EXPECT_FALSE(w.IsDirty(p, priv)) << "the file's page";
  ASSERT_EQ(w.TryStore(p, priv + kPage), Outcome::kOk);
  EXPECT_TRUE(w.IsDirty(p, priv + kPage)) << "a broken COW";
  *p.mm->pgtable.alloc(priv + 2 * kPage) = pgoff_to_pte(2);
  EXPECT_FALSE(w.IsDirty(p, priv + 2 * kPage)) << "a file pte";
  EXPECT_EQ(w.PteAt(p, priv + 2 * kPage), pgoff_to_pte(2));
  *p.mm->pgtable.alloc(anon + 2 * kPage) = mk_pte(Pfn{77}, kPteSpecial);
  EXPECT_FALSE(w.IsDirty(p, anon + 2 * kPage)) << "a raw frame without a struct page";
  *p.mm->pgtable.alloc(anon + 2 * kPage) = {};
}

TEST(GetDirtyPage, ASwapEntryThatCannotBeReadIsAnErrorNotClean) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  FailingSwap& device = UseFailingSwap(w.machine(), 16);
  ASSERT_EQ(w.TryStore(p, a), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  device.all_reads_bad = true;
  const Pte entry = w.PteAt(p, a);
  const base::Result<Pfn> page = w.Dirty(p, a);
  ASSERT_FALSE(page.has_value());
  EXPECT_EQ(page.error().code, base::Code::kFault);
  EXPECT_EQ(w.PteAt(p, a), entry);
}

// A page that a truncate took out of its file while it stayed mapped: treated as modified (C4).
TEST(GetDirtyPage, ATruncatedCachePageThatIsStillMapped) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  Page& page = w.PageAt(p, a);
  lock_page(page);
  remove_from_page_cache(w.machine(), w.PfnAt(p, a));
  unlock_page_nocheck(page);
  EXPECT_TRUE(w.IsDirty(p, a));
}

TEST(GetDirtyPageDeathTest, SharedVmasAreABug) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Shared(p, file, 1);
  EXPECT_DEATH((void)get_dirty_page(w.VmaAt(p, a), a), "CHECK failed");
  EXPECT_DEATH((void)next_dirty_run(w.VmaAt(p, a), a, a + kPage, 1), "CHECK failed");
}

// ---- next_dirty_run against get_dirty_page ----

std::set<Vaddr> DirtyByPage(World& w, Process& p, Vma& vma) {
  std::set<Vaddr> dirty;
  for (Vaddr a = vma.start; a < vma.end; a += kPage) {
    const base::Result<Pfn> page = get_dirty_page(vma, a);
    EXPECT_TRUE(page.has_value());
    if (!page || *page == kNoPfn) continue;
    EXPECT_EQ(*page, w.PfnAt(p, a));
    w.machine().frames.put_page(*page);
    dirty.insert(a);
  }
  return dirty;
}

std::set<Vaddr> DirtyByRun(Vma& vma, Vaddr start, Vaddr end, uint64_t pages_max) {
  std::set<Vaddr> dirty;
  bool cut = true;  // whether the last run may be followed directly by another
  for (Vaddr at = start;;) {
    const DirtyRun run = next_dirty_run(vma, at, end, pages_max);
    if (run.pages == 0) return dirty;
    EXPECT_GE(run.start, at);
    EXPECT_LE(run.pages, pages_max);
    EXPECT_TRUE(cut || run.start > at) << "a run ended early at " << std::hex << at;
    cut = run.pages == pages_max;
    for (uint64_t i = 0; i < run.pages; ++i) dirty.insert(run.start + i * kPage);
    at = run.start + run.pages * kPage;
    EXPECT_LE(at, end);
  }
}

TEST(NextDirtyRun, RandomLayouts) {
  base::Random random(11);
  for (int round = 0; round < 12; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    World w({}, 8192);
    Process& p = w.Spawn();
    const uint64_t pages = 1 + random.Below(2000);  // up to four leaf tables
    const FilePtr file = w.NewFile(pages * kPage);
    const Vaddr a = round % 2 == 0 ? w.Anon(p, pages) : w.Private(p, file, pages);
    Vma& vma = w.VmaAt(p, a);
    for (uint64_t runs = random.Below(40); runs > 0; --runs) {
      const uint64_t first = random.Below(pages);
      const uint64_t length = 1 + random.Below(std::min<uint64_t>(pages - first, round % 3 == 0 ? 700 : 9));
      const Write write = random.Below(3) == 0 ? Write::kNo : Write::kYes;
      ASSERT_EQ(w.machine().touch(p, a + first * kPage, length * kPage, write).outcome, Outcome::kOk);
    }
    const std::set<Vaddr> expected = DirtyByPage(w, p, vma);
    const std::string before = TextDump(w.machine());
    for (const uint64_t pages_max : {uint64_t{1}, uint64_t{3}, uint64_t{512}, ~uint64_t{0}}) {
      EXPECT_EQ(DirtyByRun(vma, vma.start, vma.end, pages_max), expected) << "at most " << pages_max;
    }
    const Vaddr low = a + random.Below(pages) * kPage;
    const Vaddr high = low + random.Below((vma.end - low) / kPage + 1) * kPage;
    std::set<Vaddr> part(expected.lower_bound(low), expected.lower_bound(high));
    EXPECT_EQ(DirtyByRun(vma, low, high, ~uint64_t{0}), part);
    EXPECT_EQ(TextDump(w.machine()), before) << "looking changes nothing";
  }
}

TEST(NextDirtyRun, OneRunAcrossLeafTables) {
  World w({}, 8192);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1500);
  ASSERT_EQ(w.machine().touch(p, a + 10 * kPage, 1400 * kPage, Write::kYes).outcome, Outcome::kOk);
  const DirtyRun run = next_dirty_run(w.VmaAt(p, a), a, a + 1500 * kPage, ~uint64_t{0});
  EXPECT_EQ(run.start, a + 10 * kPage);
  EXPECT_EQ(run.pages, 1400u);
}

TEST(NextDirtyRun, ARunEndsWhereATableIsMissing) {
  World w;
  Process& p = w.Spawn();
  constexpr Vaddr kLeaf = Vaddr{2} << 20;
  const Vaddr base = Vaddr{1} << 30;
  w.AnonAt(p, base, 3 * 512);
  ASSERT_EQ(w.TryStore(p, base + kLeaf - kPage), Outcome::kOk);
  ASSERT_EQ(w.TryStore(p, base + 2 * kLeaf), Outcome::kOk);
  const DirtyRun run = next_dirty_run(w.VmaAt(p, base), base, base + 3 * kLeaf, ~uint64_t{0});
  EXPECT_EQ(run.start, base + kLeaf - kPage);
  EXPECT_EQ(run.pages, 1u);
  EXPECT_EQ(DirtyByRun(w.VmaAt(p, base), base, base + 3 * kLeaf, ~uint64_t{0}),
            (std::set<Vaddr>{base + kLeaf - kPage, base + 2 * kLeaf}));
}

TEST(NextDirtyRun, ATebibyteOfHole) {
  World w;
  Process& p = w.Spawn();
  constexpr Vaddr kTiB = Vaddr{1} << 40;
  w.AnonAt(p, kTiB, kTiB / kPage);
  Vma& vma = w.VmaAt(p, kTiB);
  EXPECT_EQ(next_dirty_run(vma, vma.start, vma.end, 100).pages, 0u);
  ASSERT_EQ(w.TryStore(p, 2 * kTiB - kPage), Outcome::kOk);
  ASSERT_EQ(w.TryStore(p, kTiB + kTiB / 2), Outcome::kOk);
  EXPECT_EQ(DirtyByRun(vma, vma.start, vma.end, 100), (std::set<Vaddr>{kTiB + kTiB / 2, 2 * kTiB - kPage}));
}

}  // namespace
}  // namespace mm
