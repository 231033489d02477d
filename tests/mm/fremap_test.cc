// remap_file_pages, install_page and non-linear vmas: what the scenarios M09 to M16 leave out.
#include <gtest/gtest.h>

#include <mutex>

#include "mm/fault.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

struct Remapped {
  explicit Remapped(const Semantics& semantics = {}) : w(semantics) {}
  int Remap(uint64_t at, uint64_t pages, Pgoff pgoff, int flags = 0) {
    const SysResult<void> result =
        sys_remap_file_pages(*p.mm, a + at * kPage, pages * kPage, 0, pgoff, flags);
    w.Check();
    return result ? 0 : result.error().err;
  }
  World w;
  Process& p = w.Spawn();
  FilePtr file = w.NewFile(8 * kPage);
  Vaddr a = w.Shared(p, file, 8);
};

TEST(Fremap, LinearRequestOnALinearVmaChangesNothing) {
  Remapped r;
  ASSERT_EQ(r.Remap(3, 2, 3), 0);
  EXPECT_EQ(r.w.VmaAt(r.p, r.a).flags & VM_NONLINEAR, 0u);
  EXPECT_EQ(r.w.PteAt(r.p, r.a + 3 * kPage), Pte{});
  EXPECT_TRUE(r.file->mapping.i_mmap_nonlinear.empty());
}

TEST(Fremap, BackToTheLinearPlaceStaysNonlinear) {
  for (const char* populate : {"remap_populate=fault", "remap_populate=install"}) {
    Remapped r(WithSwitch(populate));
    ASSERT_EQ(r.Remap(0, 1, 5), 0);
    ASSERT_EQ(r.Remap(0, 1, 0), 0);
    EXPECT_BYTES(r.w.Load(r.p, r.a, kPage), r.w.Original(r.file, 0, kPage));
    EXPECT_NE(r.w.VmaAt(r.p, r.a).flags & VM_NONLINEAR, 0u) << "never cleared";
  }
}

TEST(Fremap, AddressAndLengthAreRoundedDown) {
  Remapped r;
  ASSERT_TRUE(sys_remap_file_pages(*r.p.mm, r.a + 123, kPage + 456, 0, 6, 0));
  EXPECT_BYTES(r.w.Load(r.p, r.a, kPage), r.w.Original(r.file, 6 * kPage, kPage));
  EXPECT_BYTES(r.w.Load(r.p, r.a + kPage, kPage), r.w.Original(r.file, kPage, kPage));
}

// What was written at the old place is the file's, and stays.
TEST(Fremap, RemappingKeepsStores) {
  for (const char* populate : {"remap_populate=fault", "remap_populate=install"}) {
    Remapped r(WithSwitch(populate));
    ASSERT_EQ(r.w.Store(r.p, r.a + kPage, "stored"), Outcome::kOk);
    ASSERT_EQ(r.Remap(1, 1, 7), 0);
    EXPECT_BYTES(r.w.Load(r.p, r.a + kPage, kPage), r.w.Original(r.file, 7 * kPage, kPage));
    EXPECT_BYTES(r.w.ReadFile(r.file, kPage, 6), "stored");
    ASSERT_EQ(r.Remap(1, 1, 1), 0);
    EXPECT_BYTES(r.w.Load(r.p, r.a + kPage, 6), "stored");
  }
}

TEST(Fremap, SplitsAndUnmapsKeepPositions) {
  Remapped r;
  for (Pgoff i = 0; i < 8; ++i) ASSERT_EQ(r.Remap(i, 1, 7 - i), 0);
  ASSERT_TRUE(r.w.Unmap(r.p, r.a + 3 * kPage, 2));
  EXPECT_EQ(r.file->mapping.i_mmap_nonlinear.size(), 2u);
  ASSERT_TRUE(r.w.Protect(r.p, r.a, 1, PROT_READ));
  EXPECT_EQ(r.file->mapping.i_mmap_nonlinear.size(), 3u);
  ASSERT_TRUE(r.w.PageOut(r.p, r.a + 6 * kPage));
  for (const Pgoff i : {0, 1, 2, 5, 6, 7}) {
    EXPECT_BYTES(r.w.Load(r.p, r.a + i * kPage, kPage), r.w.Original(r.file, (7 - i) * kPage, kPage));
  }
  ASSERT_TRUE(r.w.Unmap(r.p, r.a, 8));
  EXPECT_TRUE(r.file->mapping.i_mmap_nonlinear.empty());
}

TEST(Fremap, MremapCarriesPositions) {
  Remapped r;
  ASSERT_EQ(r.Remap(0, 1, 6), 0);
  ASSERT_EQ(r.Remap(1, 1, 5, MAP_NONBLOCK), 0);
  const SysResult<Vaddr> to =
      sys_mremap(*r.p.mm, r.a, 8 * kPage, 8 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, 0x10000000);
  r.w.Check();
  ASSERT_TRUE(to.has_value());
  EXPECT_BYTES(r.w.Load(r.p, *to, kPage), r.w.Original(r.file, 6 * kPage, kPage));
  EXPECT_BYTES(r.w.Load(r.p, *to + kPage, kPage), r.w.Original(r.file, 5 * kPage, kPage));
  EXPECT_BYTES(r.w.Load(r.p, *to + 2 * kPage, kPage), r.w.Original(r.file, 2 * kPage, kPage));
  ASSERT_TRUE(r.w.PageOut(r.p, *to));
  EXPECT_EQ(r.w.PteAt(r.p, *to), pgoff_to_pte(6));
}

// Writeback makes the ptes of a page clean wherever they are, so that the next store is noticed.
TEST(Fremap, StoresAfterWritebackAreNoticedAtNonlinearPlaces) {
  Remapped r;
  ASSERT_EQ(r.Remap(0, 1, 6), 0);
  ASSERT_EQ(r.w.Store(r.p, r.a, "first"), Outcome::kOk);
  ASSERT_TRUE(r.w.Fsync(r.file));
  EXPECT_BYTES(r.w.OnDisk(r.file, 6 * kPage, 5), "first");
  ASSERT_EQ(r.w.Store(r.p, r.a, "again"), Outcome::kOk);
  ASSERT_TRUE(r.w.Fsync(r.file));
  EXPECT_BYTES(r.w.OnDisk(r.file, 6 * kPage, 5), "again");
}

// Shared memory at non-linear places, through swap.
TEST(Fremap, ObjectPagesComeBackFromSwap) {
  World w({}, 4096, 64);
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 4, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  ASSERT_EQ(w.Store(p, a + 3 * kPage, "three"), Outcome::kOk);
  ASSERT_TRUE(sys_remap_file_pages(*p.mm, a, kPage, 0, 3, 0));
  EXPECT_BYTES(w.Load(p, a, 5), "three");
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_EQ(w.PteAt(p, a), pgoff_to_pte(3));
  EXPECT_EQ(w.PteAt(p, a + 3 * kPage), Pte{});
  EXPECT_BYTES(w.Load(p, a, 5), "three");
  EXPECT_BYTES(w.Load(p, a + 3 * kPage, 5), "three");
}

TEST(Fremap, InstallPageReplacesWhatWasThere) {
  Remapped r;
  EXPECT_BYTES(r.w.Load(r.p, r.a, 4), r.w.Original(r.file, 0, 4));
  const Pfn old = r.w.PfnAt(r.p, r.a);
  const Pfn pfn = read_cache_page(r.w.machine(), *r.file, 4).value();
  {
    std::lock_guard guard(r.p.mm->mmap_sem);
    Vma& vma = r.w.VmaAt(r.p, r.a);
    r.p.mm->make_nonlinear(vma);
    ASSERT_TRUE(install_page(vma, r.a, pfn));
  }
  r.w.Check();
  EXPECT_EQ(r.w.machine().frames.at(old).mapcount, 0);
  EXPECT_EQ(r.p.mm->file_rss, 1u);
  EXPECT_BYTES(r.w.Load(r.p, r.a, kPage), r.w.Original(r.file, 4 * kPage, kPage));
  {
    std::lock_guard guard(r.p.mm->mmap_sem);
    install_file_pte(r.w.VmaAt(r.p, r.a), r.a, 5);
  }
  r.w.Check();
  EXPECT_EQ(r.w.machine().frames.at(pfn).mapcount, 0);
  EXPECT_BYTES(r.w.Load(r.p, r.a, kPage), r.w.Original(r.file, 5 * kPage, kPage));
}

}  // namespace
}  // namespace mm
