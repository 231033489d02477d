// Reclaim: what stays, what goes, and that nobody can tell from what memory holds.
#include "mm/reclaim.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "mm/rmap.h"
#include "tests/mm/failing_disk.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

uint64_t Present(World& w, Process& p, Vaddr a, uint64_t pages) {
  uint64_t present = 0;
  for (uint64_t i = 0; i < pages; ++i) present += pte_present(w.PteAt(p, a + i * kPage)) ? 1 : 0;
  return present;
}

TEST(Reclaim, PageReferencedClearsWhatItCounts) {
  World w({}, 4096, 64);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr mapped[] = {w.Anon(p, 1), w.Private(p, file, 1)};
  for (const Vaddr a : mapped) {
    EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
    if (a == mapped[0]) {
      ASSERT_EQ(w.TryStore(p, a), Outcome::kOk);
    }
    const Pfn pfn = w.PfnAt(p, a);
    EXPECT_GT(page_referenced(w.machine(), pfn, PageIs::kUnlocked), 0);
    EXPECT_FALSE(pte_young(w.PteAt(p, a)));
    EXPECT_EQ(page_referenced(w.machine(), pfn, PageIs::kUnlocked), 0) << "no access in between";
    EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
    EXPECT_EQ(page_referenced(w.machine(), pfn, PageIs::kUnlocked), 1);
    EXPECT_EQ(page_referenced(w.machine(), pfn, PageIs::kUnlocked), 0);
  }
}

TEST(Reclaim, EveryMapperOfAnAnonymousPageCounts) {
  World w({}, 4096, 64);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.TryStore(p, a), Outcome::kOk);
  Process& child = w.Fork(p);
  const Pfn pfn = w.PfnAt(p, a);
  page_referenced(w.machine(), pfn, PageIs::kUnlocked);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(child, a), Outcome::kOk);
  EXPECT_EQ(page_referenced(w.machine(), pfn, PageIs::kUnlocked), 2);
  EXPECT_EQ(page_referenced(w.machine(), pfn, PageIs::kUnlocked), 0);
}

TEST(Reclaim, LockedPagesStay) {
  World w({}, 4096, 256);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(16 * kPage);
  const Vaddr locked = w.Anon(p, 16);
  const Vaddr locked_file = w.Shared(p, file, 16);
  ASSERT_TRUE(sys_mlock(*p.mm, locked, 16 * kPage));
  ASSERT_TRUE(sys_mlock(*p.mm, locked_file, 16 * kPage));
  const Vaddr loose = w.Anon(p, 64);
  ASSERT_EQ(w.machine().touch(p, loose, 64 * kPage, Write::kYes).outcome, Outcome::kOk);
  for (int round = 0; round < 20; ++round) w.Reclaim(200);
  EXPECT_EQ(Present(w, p, locked, 16), 16u);
  EXPECT_EQ(Present(w, p, locked_file, 16), 16u);
  EXPECT_EQ(Present(w, p, loose, 64), 0u) << "the others went";
  ASSERT_TRUE(sys_munlock(*p.mm, locked, 16 * kPage));
  for (int round = 0; round < 20; ++round) w.Reclaim(200);
  EXPECT_LT(Present(w, p, locked, 16), 16u) << "not locked any more";
}

// All pages are inactive, the hot ones first in turn to be taken; only those were used since.
TEST(Reclaim, ReferencedPagesSurviveARound) {
  World w({}, 4096, 256);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 72);
  ASSERT_EQ(w.machine().touch(p, a, 72 * kPage, Write::kYes).outcome, Outcome::kOk);
  for (uint64_t i = 0; i < 72; ++i) {
    const Pfn pfn = w.PfnAt(p, a + i * kPage);
    page_referenced(w.machine(), pfn, PageIs::kUnlocked);
    w.machine().frames.lru_del(pfn);
    w.machine().frames.at(pfn).flags &= ~PG_active;
    w.machine().frames.lru_add(pfn);
  }
  EXPECT_EQ(w.machine().frames.lru().size(Lru::kInactiveAnon), 72u);
  EXPECT_EQ(w.machine().frames.lru().tail(Lru::kInactiveAnon), w.PfnAt(p, a));
  ASSERT_EQ(w.machine().touch(p, a, 8 * kPage, Write::kNo).outcome, Outcome::kOk);
  EXPECT_GE(w.Reclaim(8), 8u);
  EXPECT_EQ(Present(w, p, a, 8), 8u) << "the hot ones were looked at and kept";
  EXPECT_LT(Present(w, p, a + 8 * kPage, 64), 64u);
  for (uint64_t i = 0; i < 8; ++i) EXPECT_NE(w.PageAt(p, a + i * kPage).flags & PG_active, 0u) << i;
}

TEST(Reclaim, PinnedPagesKeepTheirFrames) {
  World w({}, 4096, 64);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "device"), Outcome::kOk);
  std::vector<Pfn> pins = get_user_pages(*p.mm, a, 1, Write::kYes, Force::kNo).value();
  for (int i = 0; i < 10; ++i) w.Reclaim(10);
  // The device writes; the process must see that, wherever its pte was meanwhile (B7).
  w.machine().frames.bytes(pins[0])[0] = std::byte{'D'};
  w.machine().frames.at(pins[0]).flags |= PG_dirty;  // as who writes to a pinned page must
  EXPECT_BYTES(w.Load(p, a, 6), "Device");
  EXPECT_EQ(w.PfnAt(p, a), pins[0]);
  unpin_user_pages(w.machine(), pins);
  for (int i = 0; i < 10; ++i) w.Reclaim(10);
  EXPECT_BYTES(w.Load(p, a, 6), "Device");
}

TEST(Reclaim, DirtyFilePagesGoToTheDiskFirst) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Shared(p, file, 4);
  ASSERT_EQ(w.Store(p, a + kPage, "written"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a + kPage));
  EXPECT_EQ(w.PteAt(p, a + kPage), Pte{});
  EXPECT_TRUE(file->mapping.pages.empty());
  EXPECT_BYTES(w.OnDisk(file, kPage, 7), "written");
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 0u);
  EXPECT_BYTES(w.Load(p, a + kPage, 7), "written");
}

TEST(Reclaim, APageThatTheDiskDoesNotTakeStays) {
  World w;
  Process& p = w.Spawn();
  auto owned = std::make_unique<FailingDisk>();
  FailingDisk& disk = *owned;
  const FilePtr file = w.machine().create_file("bad", 2 * kPage, std::move(owned));
  const Vaddr a = w.Shared(p, file, 2);
  ASSERT_EQ(w.Store(p, a, "kept"), Outcome::kOk);
  disk.bad_writes.insert(0);
  EXPECT_FALSE(w.PageOut(p, a));
  EXPECT_EQ(file->mapping.pages.count(0), 1u);
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 1u);
  EXPECT_BYTES(w.Load(p, a, 4), "kept");
  disk.bad_writes.clear();
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_BYTES(w.OnDisk(file, 0, 4).substr(0, 4), "kept");
}

TEST(Reclaim, WithoutSwapAnonymousPagesStay) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 8);
  ASSERT_EQ(w.machine().touch(p, a, 8 * kPage, Write::kYes).outcome, Outcome::kOk);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(w.Reclaim(8), 0u);
  EXPECT_EQ(Present(w, p, a, 8), 8u);
  EXPECT_FALSE(w.PageOut(p, a));
}

TEST(Reclaim, OutOfMemoryIsAnOutcome) {
  World w({}, 32);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 64);
  uint64_t stored = 0;
  while (stored < 64 && w.Store(p, a + stored * kPage, "x") == Outcome::kOk) ++stored;
  EXPECT_EQ(stored, 31u) << "all frames but the zero page";
  EXPECT_EQ(w.TryStore(p, a + stored * kPage), Outcome::kOom);
  EXPECT_EQ(w.TryStore(p, a + stored * kPage), Outcome::kOom) << "again";
  EXPECT_FALSE(w.machine().fork(p.pid, 99, "child").has_value() &&
               w.machine().touch(*w.machine().find_process(99), a, 64 * kPage, Write::kYes).outcome ==
                   Outcome::kOk);
  w.Check();
  for (uint64_t i = 0; i < stored; ++i) EXPECT_BYTES(w.Load(p, a + i * kPage, 1), "x");
}

TEST(Reclaim, PageoutAdviceLeavesSharedPages) {
  World w({}, 4096, 64);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 4);
  ASSERT_EQ(w.Store(p, a, "both"), Outcome::kOk);
  Process& child = w.Fork(p);
  ASSERT_EQ(w.Store(p, a + kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(w.Advise(p, a, 4, MADV_PAGEOUT));
  EXPECT_TRUE(pte_present(w.PteAt(p, a)));
  EXPECT_TRUE(pte_swap(w.PteAt(p, a + kPage)));
  EXPECT_BYTES(w.Load(p, a + kPage, 4), "mine");
  EXPECT_BYTES(w.Load(child, a, 4), "both");
  ASSERT_TRUE(sys_mlock(*p.mm, a, kPage));
  EXPECT_EQ(w.Advise(p, a, 1, MADV_PAGEOUT).error().err, EINVAL);
}

// ---- the same program on a machine with memory for all of it, and on one with memory for a tenth ----

class Program {
 public:
  Program(uint64_t memory_pages, uint64_t swap_pages, unsigned seed)
      : w({}, memory_pages, swap_pages), random_(seed) {
    file_ = w.NewFile(kPages * kPage);
    Process& p = w.Spawn();
    anon_ = w.Anon(p, kPages);
    priv_ = w.Private(p, file_, kPages);
    shared_ = w.Shared(p, file_, kPages);
    object_ = w.Map(p, kPages, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
    live_.push_back(&p);
  }
  void Step() {
    Process& p = *live_[Below(live_.size())];
    const Vaddr area = std::array{anon_, priv_, shared_, object_}[Below(4)];
    const Vaddr addr = area + Below(kPages * kPage - 8);
    switch (Below(20)) {
      case 0:
        if (live_.size() < 4) live_.push_back(&ForkQuietly(p));
        return;
      case 1:
        if (live_.size() > 1) {
          const Pid pid = p.pid;
          std::erase(live_, &p);
          w.machine().exit(pid);
        }
        return;
      case 2:
        if (area == anon_) {
          EXPECT_TRUE(sys_madvise(*p.mm, base::PageAlignDown(addr), kPage, MADV_DONTNEED));
        }
        return;
      default: break;
    }
    if (Below(2) == 0) {
      const std::string bytes = std::to_string(random_()).substr(0, 8);
      EXPECT_EQ(w.machine().store(p, addr, AsBytes(bytes)).outcome, Outcome::kOk);
    } else {
      std::string bytes(8, '?');
      EXPECT_EQ(w.machine().load(p, addr, AsWritable(bytes)).outcome, Outcome::kOk);
      seen_ += bytes;
    }
  }
  // What was read on the way, and what all of memory holds.
  std::string Contents() {
    std::string all = seen_;
    for (Process* p : live_) {
      for (const Vaddr area : {anon_, priv_, shared_, object_}) {
        std::string bytes(kPages * kPage, '?');
        EXPECT_EQ(w.machine().load(*p, area, AsWritable(bytes)).outcome, Outcome::kOk);
        all += bytes;
      }
    }
    return all;
  }

  static constexpr uint64_t kPages = 160;
  World w;

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  Process& ForkQuietly(Process& p) { return **w.machine().fork(p.pid, next_pid_++, "child"); }

  std::mt19937_64 random_;
  FilePtr file_;
  Vaddr anon_ = 0, priv_ = 0, shared_ = 0, object_ = 0;
  std::vector<Process*> live_;
  Pid next_pid_ = 100;
  std::string seen_;
};

TEST(Reclaim, ATenthOfTheMemoryGivesTheSameContents) {
  for (unsigned seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    Program roomy(8192, 0, seed);
    Program tight(64, 4096, seed);
    for (int step = 0; step < 4000; ++step) {
      roomy.Step();
      tight.Step();
      if (step % 50 == 0) tight.w.Check();
    }
    EXPECT_BYTES(tight.Contents(), roomy.Contents());
    EXPECT_GT(tight.w.machine().vmstat.pswpout, 100u) << "there was pressure";
    EXPECT_GT(tight.w.machine().vmstat.pswpin, 100u);
    EXPECT_EQ(roomy.w.machine().vmstat.pgsteal, 0u);
  }
}

TEST(Reclaim, TheSameRunTwiceIsTheSame) {
  std::string dumps[2];
  for (std::string& dump : dumps) {
    Program program(64, 4096, 7);
    for (int step = 0; step < 2000; ++step) program.Step();
    dump = TextDump(program.w.machine());
  }
  EXPECT_EQ(dumps[0], dumps[1]);
}

}  // namespace
}  // namespace mm
