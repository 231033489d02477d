// Swap: users of slots through fork, exit and munmap; a full area; shared memory in swap.
#include "mm/swap.h"

#include <gtest/gtest.h>

#include "mm/smaps.h"
#include "tests/mm/failing_swap.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

struct SwapWorld {
  explicit SwapWorld(uint64_t memory_pages = 4096, uint64_t swap_pages = 64)
      : w({}, memory_pages, swap_pages) {}
  Machine& m() { return w.machine(); }
  SwapArea& area() { return *m().swap; }
  uint32_t Used() { return area().nr_slots() - area().nr_free(); }
  SwpEntry SlotAt(Process& process, Vaddr addr) {
    EXPECT_TRUE(pte_swap(w.PteAt(process, addr)));
    return pte_to_swp_entry(w.PteAt(process, addr));
  }
  World w;
  Process& p = w.Spawn();
};

TEST(SwapArea, SlotsAreCountedAndReused) {
  SwapArea area(std::make_unique<FailingSwap>(), 4);
  EXPECT_EQ(area.nr_slots(), 3u);
  EXPECT_EQ(area.nr_free(), 3u);
  EXPECT_FALSE(area.valid(0)) << "the header";
  const SwpEntry first = area.Take(Pfn{7});
  EXPECT_NE(first, kNoSlot);
  EXPECT_EQ(area.cached(first), Pfn{7});
  EXPECT_EQ(area.count(first), 0u);
  EXPECT_TRUE(area.valid(first));
  const SwpEntry second = area.Take(Pfn{8});
  const SwpEntry third = area.Take(Pfn{9});
  EXPECT_EQ((std::set<SwpEntry>{first, second, third}), (std::set<SwpEntry>{1, 2, 3}));
  EXPECT_EQ(area.nr_free(), 0u);
  EXPECT_EQ(area.Take(Pfn{10}), kNoSlot) << "full";
  area.AddUser(second);
  area.SetCached(second, kNoPfn);
  EXPECT_EQ(area.nr_free(), 0u) << "it has a user";
  area.DropUser(second);
  EXPECT_EQ(area.nr_free(), 1u);
  EXPECT_FALSE(area.valid(second));
  area.set_closed(true);
  EXPECT_EQ(area.Take(Pfn{10}), kNoSlot);
  area.set_closed(false);
  EXPECT_EQ(area.Take(Pfn{10}), second);
  area.SetCached(first, kNoPfn);
  EXPECT_FALSE(area.valid(first)) << "neither a user nor a page";
}

TEST(Swap, ForkAndExitCountTheEntries) {
  SwapWorld s;
  const Vaddr a = s.w.Anon(s.p, 2);
  ASSERT_EQ(s.w.Store(s.p, a, "swapped"), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, a));
  const SwpEntry slot = s.SlotAt(s.p, a);
  EXPECT_EQ(s.area().count(slot), 1u);
  EXPECT_EQ(s.p.mm->anon_rss, 0u);
  EXPECT_EQ(s.m().vmstat.nr_anon_pages, 0u);
  Process& one = s.w.Fork(s.p);
  Process& two = s.w.Fork(one);
  EXPECT_EQ(s.area().count(slot), 3u);
  EXPECT_EQ(s.SlotAt(two, a), slot);
  s.w.Exit(s.p);
  EXPECT_EQ(s.area().count(slot), 2u);
  EXPECT_BYTES(s.w.Load(two, a, 7), "swapped");
  EXPECT_EQ(s.area().count(slot), 1u);
  // The one that is still swapped gets the page of the cache, without I/O.
  const uint64_t in = s.m().vmstat.pswpin;
  EXPECT_BYTES(s.w.Load(one, a, 7), "swapped");
  EXPECT_EQ(s.m().vmstat.pswpin, in);
  EXPECT_EQ(s.w.PfnAt(one, a), s.w.PfnAt(two, a));
  ASSERT_EQ(s.w.Store(one, a, "ONE"), Outcome::kOk);
  EXPECT_BYTES(s.w.Load(two, a, 7), "swapped");
  s.w.Exit(one);
  s.w.Exit(two);
  EXPECT_EQ(s.Used(), 0u);
}

TEST(Swap, UnmapAndDontneedFreeTheSlot) {
  SwapWorld s;
  const Vaddr a = s.w.Anon(s.p, 3);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(s.w.TryStore(s.p, a + i * kPage), Outcome::kOk);
    ASSERT_TRUE(s.w.PageOut(s.p, a + i * kPage));
  }
  EXPECT_EQ(s.Used(), 3u);
  ASSERT_TRUE(s.w.Unmap(s.p, a, 1));
  EXPECT_EQ(s.Used(), 2u);
  ASSERT_TRUE(s.w.Advise(s.p, a + kPage, 1, MADV_DONTNEED));
  EXPECT_EQ(s.Used(), 1u);
  EXPECT_BYTES(s.w.Load(s.p, a + kPage, 8), Zeros(8));
  // In the cache and mapped: the slot goes with the mapping, too.
  EXPECT_EQ(s.w.TryLoad(s.p, a + 2 * kPage), Outcome::kOk);
  EXPECT_TRUE(s.w.PageAt(s.p, a + 2 * kPage).swapcache());
  ASSERT_TRUE(s.w.Unmap(s.p, a + kPage, 2));
  EXPECT_EQ(s.Used(), 0u);
}

TEST(Swap, MovedAndProtectedEntriesKeepTheirBytes) {
  SwapWorld s;
  const Vaddr a = s.w.Anon(s.p, 2);
  ASSERT_EQ(s.w.Store(s.p, a, "moved"), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, a));
  const SysResult<Vaddr> to =
      sys_mremap(*s.p.mm, a, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, 0x10000000);
  s.w.Check();
  ASSERT_TRUE(to.has_value());
  ASSERT_TRUE(s.w.Protect(s.p, *to, 2, PROT_READ));
  EXPECT_EQ(s.w.TryStore(s.p, *to), Outcome::kSigsegv);
  EXPECT_BYTES(s.w.Load(s.p, *to, 5), "moved");
  ASSERT_TRUE(s.w.PageOut(s.p, *to));
  ASSERT_TRUE(s.w.Protect(s.p, *to, 2, kReadWrite));
  ASSERT_EQ(s.w.Store(s.p, *to, "M"), Outcome::kOk);
  EXPECT_BYTES(s.w.Load(s.p, *to, 5), "Moved");
}

// A page in the swap cache moves with its pte, and is found by reclaim where it went.
TEST(Swap, AMovedPageIsReclaimedAtItsNewPlace) {
  SwapWorld s;
  const Vaddr a = s.w.Anon(s.p, 1);
  ASSERT_EQ(s.w.Store(s.p, a, "moved"), Outcome::kOk);
  const SysResult<Vaddr> to = sys_mremap(*s.p.mm, a, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, 0x10000000);
  ASSERT_TRUE(to.has_value());
  ASSERT_TRUE(s.w.PageOut(s.p, *to));
  EXPECT_TRUE(pte_swap(s.w.PteAt(s.p, *to)));
  EXPECT_BYTES(s.w.Load(s.p, *to, 5), "moved");
}

TEST(Swap, FullSwapIsOutOfMemoryAndLosesNothing) {
  SwapWorld s(32, 9);
  const Vaddr a = s.w.Anon(s.p, 100);
  uint64_t stored = 0;
  while (stored < 100 &&
         s.w.Store(s.p, a + stored * kPage, "page " + std::to_string(stored)) == Outcome::kOk) {
    ++stored;
  }
  EXPECT_GE(stored, 31u) << "memory and swap together";
  EXPECT_LT(stored, 42u) << "there is no room for more";
  EXPECT_LE(s.area().nr_free(), 1u);
  EXPECT_EQ(s.w.TryLoad(s.p, a), Outcome::kOom) << "nor for what is in swap, as nothing can take its place";
  // With a little room all of it can be had.
  ASSERT_TRUE(s.w.Unmap(s.p, a + (stored - 4) * kPage, 4));
  for (uint64_t i = 0; i < stored - 4; ++i) {
    const std::string want = "page " + std::to_string(i);
    EXPECT_BYTES(s.w.Load(s.p, a + i * kPage, want.size()), want);
  }
  EXPECT_EQ(s.w.Store(s.p, a + stored * kPage, "room again"), Outcome::kOk);
}

TEST(Swap, APageThatCannotBeWrittenStays) {
  World w;
  FailingSwap& device = UseFailingSwap(w.machine(), 16);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "kept"), Outcome::kOk);
  device.all_writes_bad = true;
  EXPECT_FALSE(w.PageOut(p, a));
  EXPECT_BYTES(w.Load(p, a, 4), "kept");
  ASSERT_EQ(w.Store(p, a, "KE"), Outcome::kOk);
  device.all_writes_bad = false;
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_BYTES(w.Load(p, a, 4), "KEpt");
}

// ---- shared memory ----

struct Shmem : SwapWorld {
  Shmem() {
    EXPECT_EQ(w.Store(p, a, "first"), Outcome::kOk);
    EXPECT_EQ(w.Store(p, a + 2 * kPage, "third"), Outcome::kOk);
  }
  Mapping& object() { return w.VmaAt(p, a).file->mapping; }
  Vaddr a = w.Map(p, 4, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
};

TEST(SwapShmem, OutAndInAgain) {
  Shmem s;
  Process& child = s.w.Fork(s.p);
  EXPECT_BYTES(s.w.Load(child, s.a, 5), "first");
  ASSERT_TRUE(s.w.PageOut(s.p, s.a));
  EXPECT_EQ(s.w.PteAt(s.p, s.a), Pte{}) << "no entry: the object knows where it is";
  EXPECT_EQ(s.w.PteAt(child, s.a), Pte{});
  EXPECT_EQ(s.object().swapped.count(0), 1u);
  EXPECT_EQ(s.object().pages.count(0), 0u);
  EXPECT_EQ(s.area().count(s.object().swapped.at(0)), 1u);
  EXPECT_BYTES(s.w.Load(child, s.a, 5), "first");
  EXPECT_TRUE(s.object().swapped.empty());
  ASSERT_EQ(s.w.Store(s.p, s.a, "F"), Outcome::kOk);
  EXPECT_BYTES(s.w.Load(child, s.a, 5), "First");
  ASSERT_TRUE(s.w.PageOut(s.p, s.a));
  EXPECT_BYTES(s.w.Load(child, s.a, 5), "First");
  EXPECT_BYTES(s.w.Load(child, s.a + kPage, kPage), Zeros(kPage));
}

// The model's part of C26: holes stay holes, what is swapped is there, and read without mapping it.
TEST(SwapShmem, C26_holes_and_swapped_pages) {
  Shmem s;
  ASSERT_TRUE(s.w.PageOut(s.p, s.a));
  ASSERT_TRUE(s.w.PageOut(s.p, s.a + 2 * kPage));
  EXPECT_TRUE(s.object().pages.empty());
  EXPECT_EQ(s.object().swapped.size(), 2u) << "nothing for the holes";
  EXPECT_EQ(s.Used(), 2u);
  const FilePtr file = s.w.VmaAt(s.p, s.a).file;
  EXPECT_BYTES(s.w.ReadFile(file, 0, 4 * kPage),
               "first" + Zeros(2 * kPage - 5) + "third" + Zeros(2 * kPage - 5));
}

TEST(SwapShmem, TruncateFreesSlots) {
  Shmem s;
  const FilePtr file = s.w.VmaAt(s.p, s.a).file;
  ASSERT_EQ(s.w.Store(s.p, s.a + 2 * kPage + 100, "behind the end"), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, s.a));
  ASSERT_TRUE(s.w.PageOut(s.p, s.a + 2 * kPage));
  ASSERT_TRUE(s.w.Truncate(file, 2 * kPage + 100));
  ASSERT_TRUE(s.w.Truncate(file, 4 * kPage));
  EXPECT_BYTES(s.w.Load(s.p, s.a + 2 * kPage, kPage), "third" + Zeros(kPage - 5)) << "the tail is zero";
  ASSERT_TRUE(s.w.PageOut(s.p, s.a + 2 * kPage));
  ASSERT_TRUE(s.w.Truncate(file, kPage));
  EXPECT_EQ(s.Used(), 1u);
  EXPECT_EQ(s.w.TryLoad(s.p, s.a + 2 * kPage), Outcome::kSigbus);
  ASSERT_TRUE(s.w.Truncate(file, 4 * kPage));
  EXPECT_BYTES(s.w.Load(s.p, s.a + 2 * kPage, 5), Zeros(5));
  EXPECT_BYTES(s.w.Load(s.p, s.a, 5), "first");
  ASSERT_TRUE(s.w.PageOut(s.p, s.a));
  ASSERT_TRUE(s.w.Punch(file, 0, kPage));
  EXPECT_EQ(s.Used(), 0u);
  EXPECT_BYTES(s.w.Load(s.p, s.a, 5), Zeros(5));
}

TEST(SwapShmem, TheLastUserFreesSlots) {
  Shmem s;
  ASSERT_TRUE(s.w.PageOut(s.p, s.a));
  EXPECT_EQ(s.Used(), 1u);
  ASSERT_TRUE(s.w.Unmap(s.p, s.a, 4));
  EXPECT_EQ(s.Used(), 0u);
}

TEST(SwapShmem, APageThatCannotBeReadIsSigbusAndStaysSwapped) {
  World w;
  FailingSwap& device = UseFailingSwap(w.machine(), 16);
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 1, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  ASSERT_EQ(w.Store(p, a, "shared"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  device.all_reads_bad = true;
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kSigbus);
  EXPECT_EQ(w.VmaAt(p, a).file->mapping.swapped.size(), 1u);
  device.all_reads_bad = false;
  EXPECT_BYTES(w.Load(p, a, 6), "shared");
}

// A private mapping of an object COWs a page that comes from swap.
TEST(SwapShmem, PrivateCopyOfASwappedPage) {
  SwapWorld s;
  const FilePtr object = s.m().create_shmem("object", 2 * kPage);
  const Vaddr shared = s.w.Shared(s.p, object, 2);
  const Vaddr priv = s.w.Private(s.p, object, 2);
  ASSERT_EQ(s.w.Store(s.p, shared, "ours"), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, shared));
  ASSERT_EQ(s.w.Store(s.p, priv + 4, " mine"), Outcome::kOk);
  EXPECT_BYTES(s.w.Load(s.p, priv, 9), "ours mine");
  EXPECT_BYTES(s.w.Load(s.p, shared, 9), "ours" + Zeros(5));
  ASSERT_TRUE(s.w.PageOut(s.p, priv));
  ASSERT_TRUE(s.w.PageOut(s.p, shared));
  EXPECT_BYTES(s.w.Load(s.p, shared, 9), "ours" + Zeros(5));
  EXPECT_BYTES(s.w.Load(s.p, priv, 9), "ours mine");
}

// The model's part of C29: what was written to an object by any way survives pressure.
TEST(SwapShmem, C29_written_pages_survive_pressure) {
  SwapWorld s(64, 256);
  const FilePtr object = s.m().create_shmem("object", 20 * kPage);
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(s.w.WriteFile(object, i * kPage, "page " + std::to_string(i)));
  }
  const Vaddr a = s.w.Anon(s.p, 100);
  ASSERT_EQ(s.m().touch(s.p, a, 100 * kPage, Write::kYes).outcome, Outcome::kOk);
  s.w.Check();
  EXPECT_FALSE(object->mapping.swapped.empty()) << "there was pressure";
  for (uint64_t i = 0; i < 20; ++i) {
    const std::string want = "page " + std::to_string(i);
    EXPECT_BYTES(s.w.ReadFile(object, i * kPage, want.size()), want);
  }
}

}  // namespace
}  // namespace mm
