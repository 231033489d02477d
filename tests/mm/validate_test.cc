// Validate finds what it says it finds: each invariant is broken by hand once, reported by its id, and
// mended again.
#include "mm/validate.h"

#include <gtest/gtest.h>

#include <functional>

#include "mm/fault.h"
#include "mm/soft_dirty.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

struct Broken {
  const char* id;
  const char* how;
  std::function<void()> break_it;
  std::function<void()> mend_it;
};

// One machine with a bit of everything in it.
struct Scene {
  Scene() {
    EXPECT_EQ(w.Store(p, anon, "anon"), Outcome::kOk);
    EXPECT_EQ(w.TryLoad(p, anon + kPage), Outcome::kOk);
    EXPECT_EQ(w.Store(p, priv, "mine"), Outcome::kOk);
    EXPECT_EQ(w.TryLoad(p, priv + kPage), Outcome::kOk);
    EXPECT_EQ(w.Store(p, shared + 2 * kPage, "ours"), Outcome::kOk);
  }
  Page& page(Vaddr a) { return w.PageAt(p, a); }
  Pte& pte(Vaddr a) { return *p.mm->pgtable.find(a); }
  std::string Verdict(Depth depth = Depth::kDeep) { return Validate(w.machine(), depth).value_or("good"); }
  void Expect(const Broken& broken) {
    ASSERT_EQ(Verdict(), "good");
    broken.break_it();
    EXPECT_EQ(Verdict().substr(0, 3), std::string(broken.id) + ":") << broken.how << ": " << Verdict();
    broken.mend_it();
    EXPECT_EQ(Verdict(), "good") << broken.how << ", mended";
  }
  template <class T>
  void ExpectChanged(const char* id, const char* how, T& field, T value) {
    const T old = field;
    Expect({id, how, [&] { field = value; }, [&] { field = old; }});
  }

  World w;
  Process& p = w.Spawn();
  FilePtr file = w.NewFile(4 * kPage);
  Vaddr anon = w.Anon(p, 2);
  Vaddr read_only = w.Anon(p, 1, PROT_READ);
  Vaddr priv = w.Private(p, file, 4);
  Vaddr shared = w.Shared(p, file, 4);
};

TEST(Validate, PageCounts) {
  Scene s;
  s.ExpectChanged("P1", "a reference too many", s.page(s.anon).count, 2);
  s.ExpectChanged("P1", "a reference on a free frame",
                  s.w.machine().frames.at(Pfn{s.w.machine().frames.high_water() - 1}).count,
                  s.w.machine().frames.at(Pfn{s.w.machine().frames.high_water() - 1}).count + 1);
  s.ExpectChanged("P2", "mapcount too high", s.page(s.priv + kPage).mapcount, 2);
  s.ExpectChanged("P2", "mapcount too low", s.page(s.priv + kPage).mapcount, 0);
  s.ExpectChanged("P2", "the special zero pte counted", s.w.machine().frames.at(kZeroPfn).mapcount, 1);
  s.w.machine().pins[s.w.PfnAt(s.p, s.anon)] = 1;
  EXPECT_EQ(s.Verdict().substr(0, 3), "P1:") << "a pin without a reference";
  s.w.machine().pins.clear();
}

TEST(Validate, FreeFrames) {
  Scene s;
  Frames& frames = s.w.machine().frames;
  const Pfn pfn = frames.alloc_page(Fill::kZero);
  EXPECT_EQ(s.Verdict().substr(0, 3), "P1:") << "a leaked frame";
  frames.at(pfn).count = 0;
  EXPECT_EQ(s.Verdict().substr(0, 3), "F2:") << "count 0 and not on the free list";
  frames.at(pfn).count = 1;
  frames.put_page(pfn);
  s.ExpectChanged("P3", "a free frame that belongs to something", frames.at(pfn).mapping_word, kAnonMapping);
}

TEST(Validate, TheZeroPage) {
  Scene s;
  std::byte* zero = s.w.machine().frames.bytes(kZeroPfn);
  s.Expect({"F1", "a byte in the zero page", [&] { zero[kPage - 1] = std::byte{1}; },
            [&] { zero[kPage - 1] = std::byte{0}; }});
  s.ExpectChanged("A4", "the zero page writable", s.pte(s.anon + kPage),
                  pte_set(s.pte(s.anon + kPage), kPteWrite));
}

TEST(Validate, Vmas) {
  Scene s;
  s.ExpectChanged("A1", "total_vm", s.p.mm->total_vm, s.p.mm->total_vm + 1);
  Vma& vma = s.w.VmaAt(s.p, s.read_only);
  const Vaddr end = vma.end;
  s.Expect({"A1", "overlapping vmas",
            [&] {
              vma.end += kPage;
              ++s.p.mm->total_vm;
            },
            [&] {
              vma.end = end;
              --s.p.mm->total_vm;
            }});
  s.ExpectChanged("A1", "an end inside a page", vma.end, end - 1);
}

TEST(Validate, Ptes) {
  Scene s;
  Pte* stray = s.p.mm->pgtable.alloc(s.anon + (Vaddr{1} << 20));
  ASSERT_EQ(s.p.mm->vma_at(s.anon + (Vaddr{1} << 20)), nullptr);
  s.ExpectChanged("A2", "a pte outside every vma", *stray, mk_pte(kZeroPfn, kPteSpecial));
  s.ExpectChanged("A2", "a swap pte outside every vma", *stray, swp_entry_to_pte(1));
  s.ExpectChanged("A3", "anon_rss", s.p.mm->anon_rss, uint64_t{0});
  s.ExpectChanged("A3", "file_rss", s.p.mm->file_rss, s.p.mm->file_rss + 1);
}

TEST(Validate, WritablePtes) {
  Scene s;
  s.ExpectChanged("A4", "the file's page writable in a private vma", s.pte(s.priv + kPage),
                  pte_set(s.pte(s.priv + kPage), kPteWrite));
  s.ExpectChanged("A4", "a writable pte in a read-only vma", s.w.VmaAt(s.p, s.anon).flags,
                  s.w.VmaAt(s.p, s.anon).flags & ~VM_WRITE);
  Process& child = s.w.Fork(s.p);
  s.ExpectChanged("A4", "a writable pte to a page of two owners", s.pte(s.anon),
                  pte_set(s.pte(s.anon), kPteWrite));
  s.w.Exit(child);
}

TEST(Validate, SoftDirtyPtes) {
  Scene s;
  s.ExpectChanged("A6", "a soft-dirty pte that nobody asked for", s.pte(s.anon),
                  pte_mksoft_dirty(s.pte(s.anon)));
  clear_soft_dirty(s.w.machine());
  ASSERT_EQ(s.w.TryStore(s.p, s.anon), Outcome::kOk);
  s.ExpectChanged("A6", "a writable pte that is not soft-dirty", s.pte(s.anon),
                  pte_clear_soft_dirty(s.pte(s.anon)));
  s.ExpectChanged("A6", "the zero page", s.pte(s.anon + kPage), pte_mksoft_dirty(s.pte(s.anon + kPage)));
  s.ExpectChanged("A6", "the file's page", s.pte(s.priv + kPage), pte_mksoft_dirty(s.pte(s.priv + kPage)));
  s.ExpectChanged("A6", "a page of a shared mapping", s.pte(s.shared + 2 * kPage),
                  pte_mksoft_dirty(s.pte(s.shared + 2 * kPage)));
}

TEST(Validate, FilePagesAtTheirPlaces) {
  Scene s;
  Vma& vma = s.w.VmaAt(s.p, s.priv);
  s.ExpectChanged("A5", "a page at another index", vma.pgoff, vma.pgoff + 1);
  // Two pages of the file swapped between two places: every count is right.
  ASSERT_EQ(s.w.TryLoad(s.p, s.shared), Outcome::kOk);
  Pte& one = s.pte(s.shared);
  Pte& two = s.pte(s.shared + 2 * kPage);
  s.Expect({"A5", "two pages exchanged", [&] { std::swap(one, two); }, [&] { std::swap(one, two); }});
}

TEST(Validate, PageCaches) {
  Scene s;
  auto& pages = s.file->mapping.pages;
  s.ExpectChanged("C1", "two pages exchanged in the cache", pages.at(0), pages.at(1));
  s.ExpectChanged("C1", "the index in the page", s.w.machine().frames.at(pages.at(0)).index, Pgoff{3});
  std::byte* bytes = s.w.machine().frames.bytes(pages.at(1));
  const std::byte old = bytes[7];
  s.Expect({"C4", "a clean page unlike the disk", [&] { bytes[7] = ~old; }, [&] { bytes[7] = old; }});
  bytes[7] = ~old;
  EXPECT_EQ(s.Verdict(Depth::kQuick), "good") << "C4 is deep only";
  bytes[7] = old;
}

TEST(Validate, ThePastTheEnd) {
  Scene s;
  // Nothing of page 3 is mapped or cached yet: a file pte alone is past the end.
  ASSERT_TRUE(s.w.Truncate(s.file, 3 * kPage));
  s.ExpectChanged("T1", "a pte past the end", s.pte(s.priv + 3 * kPage), pgoff_to_pte(3));
  ASSERT_TRUE(s.w.Unmap(s.p, s.priv, 4));
  ASSERT_TRUE(s.w.Unmap(s.p, s.shared, 4));
  s.w.ReadFile(s.file, 2 * kPage, 1);
  s.ExpectChanged("C2", "a cached page past the end", s.file->i_size, 2 * kPage);
}

TEST(Validate, VmaLists) {
  Scene s;
  Mapping& mapping = s.file->mapping;
  Vma* vma = &s.w.VmaAt(s.p, s.priv);
  uint64_t turn = 0;
  s.Expect({"C3", "a vma that is not in the tree", [&] { turn = mapping.i_mmap.erase_for_change(*vma); },
            [&] { mapping.i_mmap.insert_again(*vma, turn); }});
  s.Expect({"C3", "a private vma among the shared",
            [&] {
              turn = mapping.i_mmap.erase_for_change(*vma);
              mapping.i_mmap_shared.insert(*vma);
            },
            [&] {
              mapping.i_mmap_shared.erase(*vma);
              mapping.i_mmap.insert_again(*vma, turn);
            }});
  Vma ghost;
  ghost.end = kPage;
  s.Expect({"C3", "a vma that does not exist", [&] { mapping.i_mmap.insert(ghost); },
            [&] { mapping.i_mmap.erase(ghost); }});
  s.Expect({"C3", "a non-linear vma that is none", [&] { mapping.i_mmap_nonlinear.push_back(vma); },
            [&] { mapping.i_mmap_nonlinear.pop_back(); }});
}

TEST(Validate, Recounts) {
  Scene s;
  VmStat& stat = s.w.machine().vmstat;
  s.ExpectChanged("R1", "nr_mapped", stat.nr_mapped, stat.nr_mapped + 1);
  s.ExpectChanged("R1", "nr_dirty", stat.nr_dirty, uint64_t{0});
  s.ExpectChanged("R1", "nr_writeback", s.w.machine().nr_writeback, uint64_t{1});
  s.ExpectChanged("R1", "a dirty flag nobody counted", s.page(s.priv + kPage).flags,
                  s.page(s.priv + kPage).flags | PG_dirty);
}

TEST(Validate, Locks) {
  Scene s;
  s.Expect(
      {"L1", "mmap_sem for writing", [&] { s.p.mm->mmap_sem.lock(); }, [&] { s.p.mm->mmap_sem.unlock(); }});
  s.Expect({"L1", "mmap_sem for reading", [&] { s.p.mm->mmap_sem.lock_shared(); },
            [&] { s.p.mm->mmap_sem.unlock_shared(); }});
  s.Expect({"L1", "page_table_lock", [&] { s.p.mm->page_table_lock.lock(); },
            [&] { s.p.mm->page_table_lock.unlock(); }});
  s.Expect({"L1", "i_shared_sem", [&] { s.file->mapping.i_shared_sem.lock(); },
            [&] { s.file->mapping.i_shared_sem.unlock(); }});
  s.Expect({"L1", "a page lock", [&] { lock_page(s.page(s.anon)); },
            [&] { unlock_page_nocheck(s.page(s.anon)); }});
}

// INV-M2 is off only where a switch lets private copies outlive their file.
TEST(Validate, PastTheEndIsAllowedWhereASwitchSaysSo) {
  World w(WithSwitch("cow_survives_truncate=yes"));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  ASSERT_EQ(w.Store(p, a + kPage, "old"), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, kPage));
  EXPECT_BYTES(w.Load(p, a + kPage, 3), "old");
}

}  // namespace
}  // namespace mm
