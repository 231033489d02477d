// MAP_POPULATE and what mlock uses to bring pages in.
#include <gtest/gtest.h>

#include <mutex>

#include "mm/fault.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

bool BringIn(Process& p, Vaddr a, uint64_t pages) {
  std::lock_guard guard(p.mm->mmap_sem);
  return make_pages_present(*p.mm, a, a + pages * kPage);
}

TEST(Populate, PrivateWritableMemoryGetsItsOwnPages) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr anon = w.Anon(p, 2);
  const Vaddr priv = w.Private(p, file, 2);
  EXPECT_TRUE(BringIn(p, anon, 2));
  EXPECT_TRUE(BringIn(p, priv, 2));
  w.Check();
  EXPECT_EQ(p.mm->anon_rss, 4u);
  EXPECT_BYTES(w.Load(p, priv, 2 * kPage), w.Original(file, 0, 2 * kPage));
  EXPECT_TRUE(BringIn(p, anon, 2)) << "again";
  EXPECT_EQ(p.mm->anon_rss, 4u);
}

TEST(Populate, SharedAndReadOnlyMemoryIsOnlyRead) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr shared = w.Shared(p, file, 2);
  const Vaddr read_only = w.Private(p, file, 2, 0, PROT_READ);
  EXPECT_TRUE(BringIn(p, shared, 2));
  EXPECT_TRUE(BringIn(p, read_only, 2));
  w.Check();
  EXPECT_EQ(p.mm->file_rss, 4u);
  EXPECT_EQ(p.mm->anon_rss, 0u);
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 0u);
}

TEST(Populate, SwappedPagesComeBack) {
  World w({}, 4096, 16);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "swapped"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_TRUE(BringIn(p, a, 1));
  w.Check();
  EXPECT_TRUE(pte_present(w.PteAt(p, a)));
  EXPECT_BYTES(w.Load(p, a, 7), "swapped");
}

TEST(Populate, HolesAndPagesThatCannotBeHad) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr past = w.Shared(p, file, 2);
  EXPECT_FALSE(BringIn(p, past, 2)) << "past the end of the file";
  EXPECT_TRUE(pte_present(w.PteAt(p, past))) << "what lies before is there";
  const Vaddr a = w.Anon(p, 3);
  ASSERT_TRUE(w.Unmap(p, a + kPage, 1));
  EXPECT_FALSE(BringIn(p, a, 3));
}

// mmap itself does not mind.
TEST(Populate, MmapIgnoresItsErrors) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Map(p, 2, kReadWrite, MAP_PRIVATE | MAP_POPULATE, file);
  EXPECT_EQ(p.mm->anon_rss, 1u);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kSigbus);
}

}  // namespace
}  // namespace mm
