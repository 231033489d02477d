// The fault paths (mm/fault.cc): spec B2 - B5.
#include "mm/fault.h"

#include <gtest/gtest.h>

#include "tests/mm/world.h"

namespace mm {
namespace {

TEST(Fault, AnonymousReadMapsTheZeroPage) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  EXPECT_BYTES(w.Load(p, a, kPage), Zeros(kPage));
  const Pte pte = w.PteAt(p, a);
  EXPECT_TRUE(pte_special(pte) && pte_young(pte));
  EXPECT_FALSE(pte_write(pte) || pte_dirty(pte));
  EXPECT_EQ(pte_pfn(pte), kZeroPfn);
  EXPECT_EQ(w.machine().frames.at(kZeroPfn).mapcount, 0);
  EXPECT_EQ(p.mm->anon_rss + p.mm->file_rss, 0u);
}

TEST(Fault, AnonymousWriteMakesAZeroedPage) {
  World w;
  Process& p = w.Spawn();
  // A frame with old bytes in it comes back first.
  const Vaddr old = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, old, std::string(kPage, 'o')), Outcome::kOk);
  ASSERT_TRUE(w.Unmap(p, old, 1));
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a + 100, "x"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a, kPage), Zeros(100) + "x" + Zeros(kPage - 101));
  const Pte pte = w.PteAt(p, a);
  EXPECT_TRUE(pte_write(pte) && pte_dirty(pte) && pte_young(pte));
  EXPECT_TRUE(PageAnon(w.PageAt(p, a)));
  EXPECT_EQ(w.PageAt(p, a).count, 1);
  EXPECT_EQ(p.mm->anon_rss, 1u);
}

TEST(Fault, AWriteToTheZeroPageLeavesItZero) {
  World w;
  Process& p = w.Spawn();
  const Vaddr old = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, old, std::string(kPage, 'o')), Outcome::kOk);
  ASSERT_TRUE(w.Unmap(p, old, 1));
  const Vaddr a = w.Anon(p, 2);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a, "x"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a, kPage), "x" + Zeros(kPage - 1)) << "nothing of a recycled frame shows";
  EXPECT_BYTES(w.Load(p, a + kPage, kPage), Zeros(kPage));
  EXPECT_EQ(w.PfnAt(p, a + kPage), kZeroPfn);
}

TEST(Fault, PrivateFileReadMapsTheCachePage) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  EXPECT_BYTES(w.Load(p, a + kPage, kPage), w.Original(file, kPage, kPage));
  EXPECT_EQ(w.PfnAt(p, a + kPage), file->mapping.pages.at(1));
  EXPECT_FALSE(pte_write(w.PteAt(p, a + kPage)));
  EXPECT_EQ(w.PageAt(p, a + kPage).mapcount, 1);
  EXPECT_EQ(w.PageAt(p, a + kPage).count, 2) << "the cache and the pte";
  EXPECT_EQ(p.mm->file_rss, 1u);
  EXPECT_EQ(w.machine().vmstat.nr_mapped, 1u);
}

// INV-M5, by both ways to a private copy: the early one of a missing page, and do_wp_page.
TEST(Fault, PrivateWritesNeverReachTheCache) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kOk);
  for (const Vaddr page : {a, a + kPage}) {
    ASSERT_EQ(w.Store(p, page + 8, "mine"), Outcome::kOk);
    const uint64_t offset = page - a;
    EXPECT_BYTES(w.Load(p, page, kPage),
                 w.Original(file, offset, 8) + "mine" + w.Original(file, offset + 12, kPage - 12));
    EXPECT_BYTES(w.ReadFile(file, offset, kPage), w.Original(file, offset, kPage));
    EXPECT_TRUE(PageAnon(w.PageAt(p, page)));
    EXPECT_EQ(w.machine().frames.at(file->mapping.pages.at(offset / kPage)).mapcount, 0);
  }
  EXPECT_EQ(p.mm->anon_rss, 2u);
  EXPECT_EQ(p.mm->file_rss, 0u);
  EXPECT_EQ(w.machine().vmstat.nr_mapped, 0u);
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 0u);
}

TEST(Fault, SharedWritesReachTheCacheAndOtherMappers) {
  World w;
  Process& p = w.Spawn();
  Process& q = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Shared(p, file, 2);
  const Vaddr b = w.Shared(q, file, 1, 1);
  const Vaddr priv = w.Private(q, file, 2);
  EXPECT_EQ(w.TryLoad(q, b), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + kPage, "ours"), Outcome::kOk);
  EXPECT_BYTES(w.Load(q, b, 4), "ours");
  EXPECT_BYTES(w.ReadFile(file, kPage, 4), "ours");
  EXPECT_BYTES(w.Load(q, priv + kPage, 4), "ours") << "a clean private page is the file's";
  ASSERT_EQ(w.Store(q, priv + kPage, "mine"), Outcome::kOk);
  ASSERT_EQ(w.Store(q, b, "OURS"), Outcome::kOk);
  EXPECT_BYTES(w.Load(q, priv + kPage, 4), "mine");
  EXPECT_BYTES(w.Load(p, a + kPage, 4), "OURS");
  EXPECT_EQ(w.PageAt(p, a + kPage).mapcount, 2);
}

TEST(Fault, PermissionsAreTheVmas) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  EXPECT_EQ(w.TryStore(p, w.Anon(p, 1, PROT_READ)), Outcome::kSigsegv);
  EXPECT_EQ(w.TryLoad(p, w.Anon(p, 1, PROT_NONE)), Outcome::kSigsegv);
  EXPECT_EQ(w.TryStore(p, w.Shared(p, file, 1, 0, PROT_READ)), Outcome::kSigsegv);
  EXPECT_EQ(w.TryLoad(p, w.Private(p, file, 1, 0, PROT_EXEC)), Outcome::kOk);
}

TEST(Fault, ALongAccessDoesWhatItCan) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  const std::string bytes(3 * kPage, 'w');
  const AccessResult stored = w.machine().store(p, a + 100, AsBytes(bytes));
  EXPECT_EQ(stored.outcome, Outcome::kSigbus);
  EXPECT_EQ(stored.addr, a + 2 * kPage);
  EXPECT_BYTES(w.Load(p, a + 100, 2 * kPage - 100), std::string(2 * kPage - 100, 'w'));
  std::string loaded(3 * kPage, '?');
  const AccessResult load = w.machine().load(p, a, AsWritable(loaded));
  EXPECT_EQ(load.addr, a + 2 * kPage);
  EXPECT_BYTES(loaded.substr(0, 101), w.Original(file, 0, 100) + "w");
  const AccessResult touched = w.machine().touch(p, a + 1, 3 * kPage, Write::kYes);
  EXPECT_EQ(touched.outcome, Outcome::kSigbus);
  EXPECT_EQ(touched.addr, a + 2 * kPage);
  w.Check();
}

TEST(Fault, MajorOnlyWhereTheDiskWasRead) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  w.ReadFile(file, kPage, 1);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  EXPECT_EQ(p.mm->maj_flt, 1u);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, w.Anon(p, 1)), Outcome::kOk);
  EXPECT_EQ(p.mm->maj_flt, 1u);
  EXPECT_EQ(p.mm->min_flt, 2u);
}

TEST(Fault, AForcedWriteKeepsThePteReadOnly) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1, 0, PROT_READ);
  EXPECT_EQ(w.Fault(p, a, Write::kYes) & VM_FAULT_ERROR, 0u);
  w.Check();
  EXPECT_FALSE(pte_write(w.PteAt(p, a)));
  EXPECT_TRUE(PageAnon(w.PageAt(p, a)));
  EXPECT_NE(w.Fault(p, a, Write::kYes) & VM_FAULT_WRITE, 0u) << "an exclusive page is reused";
  EXPECT_FALSE(pte_write(w.PteAt(p, a)));
}

TEST(Fault, FilePtesOutsideNonlinearVmas) {
  const auto access = [](World& w, Vaddr* addr, Process& p, const FilePtr& file, Pgoff index) {
    *addr = w.Shared(p, file, 4);
    *p.mm->pgtable.alloc(*addr + kPage) = pgoff_to_pte(index);
    return w.TryLoad(p, *addr + kPage);
  };
  {
    World w;
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(4 * kPage);
    Vaddr a = 0;
    EXPECT_EQ(access(w, &a, p, file, 3), Outcome::kOom) << "a bad pte";
    ASSERT_TRUE(w.Unmap(p, a, 4));
  }
  World w(WithSwitch("linear_file_pte=populate"));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  Vaddr a = 0;
  EXPECT_EQ(access(w, &a, p, file, 1), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a + kPage, 8), w.Original(file, kPage, 8));
  // M14: a private write falls back to the linear page.
  const Vaddr priv = w.Private(p, file, 4);
  *p.mm->pgtable.alloc(priv + kPage) = pgoff_to_pte(3);
  EXPECT_EQ(w.Store(p, priv + kPage + 8, "x"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, priv + kPage, 8), w.Original(file, kPage, 8));
}

TEST(Fault, ASwapEntryWithoutSwapIsSigbus) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  *p.mm->pgtable.alloc(a) = swp_entry_to_pte(7);
  EXPECT_EQ(w.machine().touch(p, a, 1, Write::kNo).outcome, Outcome::kSigbus);
  EXPECT_EQ(w.PteAt(p, a), swp_entry_to_pte(7)) << "M24: the entry stays";
  *p.mm->pgtable.find(a) = {};
}

// ---- races: another CPU acts while the fault stands somewhere (INV-M7) ----

// What a CPU does for these tests.
Cpus::Job Stores(World& w, Process& process, Vaddr addr, std::string_view bytes,
                 Outcome expected = Outcome::kOk) {
  return [&w, &process, addr, bytes, expected] {
    EXPECT_EQ(w.machine().store(process, addr, AsBytes(bytes)).outcome, expected) << bytes;
  };
}

TEST(FaultRace, TwoThreadsBreakCowOfOnePage) {
  World w;
  Process& parent = w.Spawn();
  const Vaddr a = w.Anon(parent, 1);
  ASSERT_EQ(w.Store(parent, a, "0123"), Outcome::kOk);
  Process& child = w.Fork(parent);
  Process& thread = w.Thread(parent);
  const uint32_t free = w.machine().frames.nr_free();
  ASSERT_TRUE(
      w.Beside(Stores(w, parent, a + 1, "p"), "CowBreak", "page_table_lock", Stores(w, thread, a, "t")));
  EXPECT_BYTES(w.Load(parent, a, 4), "tp23") << "the store of the other thread is not lost";
  EXPECT_BYTES(w.Load(child, a, 4), "0123");
  EXPECT_EQ(w.machine().frames.nr_free(), free - 1) << "the loser freed its copy";
}

TEST(FaultRace, TwoThreadsBreakCowOfAFilePage) {
  World w;
  Process& p = w.Spawn();
  Process& thread = w.Thread(p);
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1);
  ASSERT_TRUE(w.Beside(Stores(w, p, a + 1, "p"), "find_lock_page", "page lock", Stores(w, thread, a, "t")));
  EXPECT_BYTES(w.Load(p, a, 8), "tp" + w.Original(file, 2, 6));
  EXPECT_EQ(p.mm->anon_rss, 1u);
}

TEST(FaultRace, TruncateWhileCowIsBroken) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kOk);
  ASSERT_TRUE(w.Beside(Stores(w, p, a + kPage, "p", Outcome::kSigbus), "CowBreak", "page_table_lock",
                       [&] { EXPECT_TRUE(vmtruncate(w.machine(), *file, kPage, kNoLimit)); }));
  EXPECT_TRUE(pte_none(w.PteAt(p, a + kPage)));
}

TEST(FaultRace, ThePageIsDroppedAndReadAgain) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  std::string bytes(8, '?');
  ASSERT_TRUE(w.Beside([&] { EXPECT_EQ(w.machine().load(p, a, AsWritable(bytes)).outcome, Outcome::kOk); },
                       "find_lock_page", "page lock",
                       [&] {
                         EXPECT_TRUE(vmtruncate(w.machine(), *file, 0, kNoLimit));
                         EXPECT_TRUE(vmtruncate(w.machine(), *file, 2 * kPage, kNoLimit));
                       }));
  EXPECT_BYTES(bytes, Zeros(8)) << "what was truncated never reappears";
  EXPECT_BYTES(w.Load(p, a, 8), Zeros(8));
}

TEST(FaultRace, OutOfMemoryGivesBackEverything) {
  World w({}, 16);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(16 * kPage);
  const Vaddr anon = w.Anon(p, 16);
  ASSERT_EQ(w.machine().touch(p, anon, 14 * kPage, Write::kYes).outcome, Outcome::kOk);
  const Vaddr a = w.Private(p, file, 2);
  EXPECT_EQ(w.TryStore(p, a), Outcome::kOom) << "one frame for the cache, none for the copy";
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  EXPECT_EQ(w.TryStore(p, a), Outcome::kOom);
  EXPECT_BYTES(w.Load(p, a, 8), w.Original(file, 0, 8));
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kOk) << "the clean page of the cache made room";
}

}  // namespace
}  // namespace mm
