#include <gtest/gtest.h>

#include "tests/mm/world.h"

namespace mm {
namespace {

constexpr Vaddr kBase = 0x10000000;
constexpr Vaddr kFar = 0x40000000;

SysResult<Vaddr> Remap(World& w, Process& p, Vaddr addr, uint64_t old_pages, uint64_t new_pages,
                       int flags = 0, Vaddr new_addr = 0, Where at = Where::current()) {
  const SysResult<Vaddr> result =
      sys_mremap(*p.mm, addr, old_pages * kPage, new_pages * kPage, flags, new_addr);
  w.Check(at);
  return result;
}

// Pages 0.. of [addr, ...) hold "p0", "p1", ...
void Number(World& w, Process& p, Vaddr addr, uint64_t pages) {
  for (uint64_t i = 0; i < pages; ++i) {
    ASSERT_EQ(w.Store(p, addr + i * kPage, "p" + std::to_string(i)), Outcome::kOk);
  }
}
void ExpectNumbers(World& w, Process& p, Vaddr addr, uint64_t pages) {
  for (uint64_t i = 0; i < pages; ++i) EXPECT_BYTES(w.Load(p, addr + i * kPage, 2), "p" + std::to_string(i));
}

TEST(Mremap, GrowsInPlace) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 2);
  Number(w, p, kBase, 2);
  EXPECT_EQ(Remap(w, p, kBase, 2, 5).value(), kBase);
  EXPECT_EQ(w.VmaText(p, kBase), "0-5rw");
  EXPECT_EQ(p.mm->total_vm, 5u);
  ExpectNumbers(w, p, kBase, 2);
  EXPECT_BYTES(w.Load(p, kBase + 4 * kPage, 2), Zeros(2));
}

TEST(Mremap, GrowsInPlaceUpToANeighbour) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 2);
  w.AnonAt(p, kBase + 4 * kPage, 1, PROT_READ);
  EXPECT_EQ(Remap(w, p, kBase, 2, 4).value(), kBase);
  EXPECT_EQ(Remap(w, p, kBase, 4, 5).error().err, ENOMEM) << "MREMAP_MAYMOVE was not given";
  EXPECT_EQ(w.VmaText(p, kBase), "0-4rw 4-5r");
}

TEST(Mremap, MovesWhereItMust) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 3);
  w.AnonAt(p, kBase + 3 * kPage, 1, PROT_READ);
  Number(w, p, kBase, 3);
  const Pfn first = w.PfnAt(p, kBase);
  const Vaddr moved = Remap(w, p, kBase, 3, 6, MREMAP_MAYMOVE).value();
  ASSERT_NE(moved, kBase);
  ExpectNumbers(w, p, moved, 3);
  EXPECT_EQ(w.PfnAt(p, moved), first) << "pages move, they are not copied";
  EXPECT_BYTES(w.Load(p, moved + 5 * kPage, 2), Zeros(2));
  EXPECT_EQ(w.TryLoad(p, kBase), Outcome::kSigsegv);
  EXPECT_EQ(p.mm->anon_rss, 3u);
  EXPECT_EQ(p.mm->total_vm, 7u);
}

TEST(Mremap, MovesTheMiddleOfAMapping) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 5);
  Number(w, p, kBase, 5);
  EXPECT_EQ(Remap(w, p, kBase + kPage, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, kFar).value(), kFar);
  EXPECT_BYTES(w.Load(p, kFar, 2), "p1");
  EXPECT_BYTES(w.Load(p, kFar + kPage, 2), "p2");
  EXPECT_BYTES(w.Load(p, kBase, 2), "p0");
  EXPECT_BYTES(w.Load(p, kBase + 4 * kPage, 2), "p4");
  EXPECT_EQ(w.TryLoad(p, kBase + kPage), Outcome::kSigsegv);
}

TEST(Mremap, FixedReplacesTheTargetAndShrinks) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 4);
  w.AnonAt(p, kFar - kPage, 4);
  Number(w, p, kBase, 4);
  ASSERT_EQ(w.Store(p, kFar, "target"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, kFar + 2 * kPage, "behind"), Outcome::kOk);
  EXPECT_EQ(Remap(w, p, kBase, 4, 2, MREMAP_MAYMOVE | MREMAP_FIXED, kFar).value(), kFar);
  ExpectNumbers(w, p, kFar, 2);
  EXPECT_BYTES(w.Load(p, kFar + 2 * kPage, 6), "behind");
  EXPECT_EQ(w.TryLoad(p, kBase + 3 * kPage), Outcome::kSigsegv);
  EXPECT_EQ(p.mm->anon_rss, 3u);
}

TEST(Mremap, Shrinks) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 5);
  Number(w, p, kBase, 5);
  EXPECT_EQ(Remap(w, p, kBase, 5, 2).value(), kBase);
  EXPECT_EQ(w.VmaText(p, kBase), "0-2rw");
  ExpectNumbers(w, p, kBase, 2);
  EXPECT_EQ(p.mm->anon_rss, 2u);
  w.AnonAt(p, kBase, 5);
  EXPECT_EQ(Remap(w, p, kBase + kPage, 3, 1).value(), kBase + kPage);
  EXPECT_EQ(w.VmaText(p, kBase), "0-2rw 4-5rw") << "from the middle";
  EXPECT_EQ(Remap(w, p, kBase, 2, 2).value(), kBase);
}

TEST(Mremap, FileMappingsKeepTheirOffsets) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10 * kPage);
  const Vaddr a = w.Private(p, file, 4, 3);
  ASSERT_EQ(w.Store(p, a + kPage, "mine"), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, a + 2 * kPage), Outcome::kOk);
  EXPECT_EQ(Remap(w, p, a + kPage, 3, 5, MREMAP_MAYMOVE | MREMAP_FIXED, kFar).value(), kFar);
  EXPECT_BYTES(w.Load(p, kFar, 4), "mine");
  for (uint64_t i = 1; i < 5; ++i) {
    EXPECT_BYTES(w.Load(p, kFar + i * kPage, kPage), w.Original(file, (4 + i) * kPage, kPage)) << i;
  }
  ASSERT_TRUE(w.Truncate(file, 4 * kPage));
  EXPECT_EQ(w.TryLoad(p, kFar), Outcome::kSigbus) << "the private copy of page 4 is found at its new place";
  EXPECT_BYTES(w.Load(p, a, 8), w.Original(file, 3 * kPage, 8));
}

TEST(Mremap, SharedMappingsStayShared) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Shared(p, file, 2);
  ASSERT_EQ(w.Store(p, a + kPage, "stored"), Outcome::kOk);
  EXPECT_EQ(Remap(w, p, a, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, kFar).value(), kFar);
  ASSERT_EQ(w.Store(p, kFar, "again"), Outcome::kOk);
  EXPECT_BYTES(w.ReadFile(file, 0, 5), "again");
  EXPECT_BYTES(w.ReadFile(file, kPage, 6), "stored");
  ASSERT_TRUE(w.Fsync(file));
  ASSERT_EQ(w.Store(p, kFar, "after"), Outcome::kOk);
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 1u) << "writeback found the moved pte";
}

// An old length of 0 maps the object a second time.
TEST(Mremap, OldLengthZeroDuplicatesASharedMapping) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 3, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  ASSERT_EQ(w.Store(p, a + kPage, "object"), Outcome::kOk);
  const Vaddr b = Remap(w, p, a + kPage, 0, 2, MREMAP_MAYMOVE).value();
  EXPECT_BYTES(w.Load(p, b, 6), "object");
  ASSERT_EQ(w.Store(p, b, "OBJECT"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a + kPage, 6), "OBJECT");
  EXPECT_EQ(Remap(w, p, a, 0, 1, MREMAP_MAYMOVE | MREMAP_FIXED, kFar).value(), kFar);
  EXPECT_EQ(w.VmaAt(p, kFar).file, w.VmaAt(p, a).file);
  EXPECT_EQ(Remap(w, p, a, 0, 1).error().err, ENOMEM) << "it has to be elsewhere";
  const Vaddr priv = w.Anon(p, 1);
  EXPECT_EQ(Remap(w, p, priv, 0, 1, MREMAP_MAYMOVE).error().err, EINVAL);
}

TEST(Mremap, AcrossLeafTables) {
  World w;
  Process& p = w.Spawn();
  constexpr Vaddr kEdge = 0x20000000;
  w.AnonAt(p, kEdge - 2 * kPage, 4);
  Number(w, p, kEdge - 2 * kPage, 4);
  EXPECT_EQ(Remap(w, p, kEdge - 2 * kPage, 4, 4, MREMAP_MAYMOVE | MREMAP_FIXED, kFar - kPage).value(),
            kFar - kPage);
  ExpectNumbers(w, p, kFar - kPage, 4);
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 2u) << "the old tables are gone";
}

TEST(Mremap, ToTheGapNextToItself) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 2);
  Number(w, p, kBase, 2);
  EXPECT_EQ(Remap(w, p, kBase, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, kBase + 2 * kPage).value(),
            kBase + 2 * kPage);
  ExpectNumbers(w, p, kBase + 2 * kPage, 2);
  EXPECT_EQ(w.VmaText(p, kBase), "2-4rw");
  w.AnonAt(p, kFar, 2);  // without pages
  EXPECT_EQ(Remap(w, p, kFar, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, kFar - 2 * kPage).value(),
            kFar - 2 * kPage);
  EXPECT_BYTES(w.Load(p, kFar - kPage, 2), Zeros(2));
}

TEST(Mremap, CowSharedPagesMoveWithTheirSharing) {
  World w;
  Process& parent = w.Spawn();
  w.AnonAt(parent, kBase, 2);
  Number(w, parent, kBase, 2);
  Process& child = w.Fork(parent);
  EXPECT_EQ(Remap(w, child, kBase, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, kFar).value(), kFar);
  EXPECT_EQ(w.PfnAt(child, kFar), w.PfnAt(parent, kBase));
  ASSERT_EQ(w.Store(child, kFar, "XX"), Outcome::kOk);
  ExpectNumbers(w, parent, kBase, 2);
  EXPECT_BYTES(w.Load(child, kFar, 2), "XX");
}

TEST(Mremap, MovedPagesAreForked) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 2);
  Number(w, p, kBase, 2);
  EXPECT_EQ(Remap(w, p, kBase, 2, 3, MREMAP_MAYMOVE | MREMAP_FIXED, kFar).value(), kFar);
  Process& child = w.Fork(p);
  ExpectNumbers(w, child, kFar, 2);
}

TEST(Mremap, BadArgumentsChangeNothing) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 4);
  w.AnonAt(p, kBase + 4 * kPage, 1, PROT_READ);
  Number(w, p, kBase, 4);
  const auto error = [&](Vaddr addr, uint64_t old_length, uint64_t new_length, int flags, Vaddr to) {
    const SysResult<Vaddr> result = sys_mremap(*p.mm, addr, old_length, new_length, flags, to);
    w.Check();
    return result ? 0 : result.error().err;
  };
  constexpr int kFixed = MREMAP_MAYMOVE | MREMAP_FIXED;
  EXPECT_EQ(error(kBase + 1, kPage, kPage, 0, 0), EINVAL);
  EXPECT_EQ(error(kBase, kPage, 0, 0, 0), EINVAL);
  EXPECT_EQ(error(kBase, kPage, kPage, 0x80, 0), EINVAL);
  EXPECT_EQ(error(kBase, kPage, kPage, MREMAP_FIXED, kFar), EINVAL) << "FIXED needs MAYMOVE";
  EXPECT_EQ(error(kBase, 2 * kPage, 2 * kPage, kFixed, kBase + kPage), EINVAL) << "the ranges overlap";
  EXPECT_EQ(error(kBase, 2 * kPage, 2 * kPage, kFixed, kFar + 1), EINVAL);
  EXPECT_EQ(error(kBase, 2 * kPage, 2 * kPage, kFixed, TASK_SIZE - kPage), EINVAL);
  EXPECT_EQ(error(kFar, kPage, 2 * kPage, MREMAP_MAYMOVE, 0), EFAULT);
  EXPECT_EQ(error(kBase, 5 * kPage, 6 * kPage, MREMAP_MAYMOVE, 0), EFAULT) << "across two mappings";
  EXPECT_NE(error(kBase, kPage, ~uint64_t{0}, MREMAP_MAYMOVE, 0), 0);
  EXPECT_EQ(w.VmaText(p, kBase), "0-4rw 4-5r");
  ExpectNumbers(w, p, kBase, 4);
}

}  // namespace
}  // namespace mm
