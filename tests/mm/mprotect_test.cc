#include <gtest/gtest.h>

#include "tests/mm/world.h"

namespace mm {
namespace {

constexpr Vaddr kBase = 0x10000000;

TEST(Mprotect, SplitsAndMerges) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 6);
  for (uint64_t i = 0; i < 6; ++i) ASSERT_EQ(w.Store(p, kBase + i * kPage, std::to_string(i)), Outcome::kOk);
  ASSERT_TRUE(w.Protect(p, kBase + 2 * kPage, 2, PROT_READ));
  EXPECT_EQ(w.VmaText(p, kBase), "0-2rw 2-4r 4-6rw");
  EXPECT_EQ(w.TryStore(p, kBase + 2 * kPage), Outcome::kSigsegv);
  EXPECT_EQ(w.Store(p, kBase + kPage + 1, "x"), Outcome::kOk);
  ASSERT_TRUE(w.Protect(p, kBase, 3, PROT_READ));
  EXPECT_EQ(w.VmaText(p, kBase), "0-4r 4-6rw");
  ASSERT_TRUE(w.Protect(p, kBase, 6, kReadWrite));
  EXPECT_EQ(w.VmaText(p, kBase), "0-6rw");
  for (uint64_t i = 0; i < 6; ++i) EXPECT_BYTES(w.Load(p, kBase + i * kPage, 1), std::to_string(i));
  EXPECT_EQ(p.mm->anon_rss, 6u);
}

TEST(Mprotect, ProtNoneHidesAndKeeps) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "kept"), Outcome::kOk);
  ASSERT_TRUE(w.Protect(p, a, 1, PROT_NONE));
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kSigsegv);
  EXPECT_EQ(w.TryStore(p, a), Outcome::kSigsegv);
  EXPECT_EQ(p.mm->anon_rss, 1u);
  ASSERT_TRUE(w.Protect(p, a, 1, PROT_READ));
  EXPECT_BYTES(w.Load(p, a, 4), "kept");
  EXPECT_EQ(w.TryStore(p, a), Outcome::kSigsegv);
  ASSERT_TRUE(w.Protect(p, a, 1, kReadWrite));
  EXPECT_EQ(w.Store(p, a, "more"), Outcome::kOk);
}

TEST(Mprotect, AnyAccessRightAllowsReading) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1, PROT_WRITE);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  EXPECT_EQ(w.TryStore(p, a), Outcome::kOk);
  ASSERT_TRUE(w.Protect(p, a, 1, PROT_EXEC));
  EXPECT_BYTES(w.Load(p, a, 1), "!");
  EXPECT_EQ(w.TryStore(p, a), Outcome::kSigsegv);
}

// Taking and giving back write permission must not let one of two owners write a shared page.
TEST(Mprotect, WritePermissionComesBackByCow) {
  World w;
  Process& parent = w.Spawn();
  const Vaddr a = w.Anon(parent, 1);
  ASSERT_EQ(w.Store(parent, a, "both"), Outcome::kOk);
  Process& child = w.Fork(parent);
  ASSERT_TRUE(w.Protect(parent, a, 1, PROT_READ));
  ASSERT_TRUE(w.Protect(parent, a, 1, kReadWrite));
  EXPECT_FALSE(pte_write(w.PteAt(parent, a)));
  ASSERT_EQ(w.Store(parent, a, "mine"), Outcome::kOk);
  EXPECT_BYTES(w.Load(child, a, 4), "both");
  EXPECT_BYTES(w.Load(parent, a, 4), "mine");
}

TEST(Mprotect, PrivateFilePagesAreNeverWrittenInPlace) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1, 0, PROT_READ);
  EXPECT_BYTES(w.Load(p, a, 8), w.Original(file, 0, 8));
  ASSERT_TRUE(w.Protect(p, a, 1, kReadWrite));
  ASSERT_EQ(w.Store(p, a, "mine"), Outcome::kOk);
  EXPECT_BYTES(w.ReadFile(file, 0, 8), w.Original(file, 0, 8));
}

TEST(Mprotect, SharedFileStoresAreNoticedAfterwards) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Shared(p, file, 1, 0, PROT_READ);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  ASSERT_TRUE(w.Protect(p, a, 1, kReadWrite));
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 0u);
  ASSERT_EQ(w.Store(p, a, "one"), Outcome::kOk);
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 1u);
  ASSERT_TRUE(w.Protect(p, a, 1, PROT_READ));
  EXPECT_EQ(w.TryStore(p, a), Outcome::kSigsegv);
  ASSERT_TRUE(w.Fsync(file));
  ASSERT_TRUE(w.Protect(p, a, 1, kReadWrite));
  ASSERT_EQ(w.Store(p, a, "two"), Outcome::kOk);
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 1u) << "a store after writeback and mprotect";
}

TEST(Mprotect, HolesStopItAfterWhatCameBefore) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 2);
  w.AnonAt(p, kBase + 3 * kPage, 1);
  EXPECT_EQ(w.Protect(p, kBase, 4, PROT_READ).error().err, ENOMEM);
  EXPECT_EQ(w.VmaText(p, kBase), "0-2r 3-4rw");
  EXPECT_EQ(w.Protect(p, kBase - kPage, 2, PROT_NONE).error().err, ENOMEM);
  EXPECT_EQ(w.VmaText(p, kBase), "0-2r 3-4rw");
}

TEST(Mprotect, BadArguments) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 2);
  EXPECT_EQ(sys_mprotect(*p.mm, kBase + 1, kPage, PROT_READ).error().err, EINVAL);
  EXPECT_EQ(sys_mprotect(*p.mm, kBase, kPage, 0x100).error().err, EINVAL);
  EXPECT_EQ(sys_mprotect(*p.mm, kBase, ~uint64_t{0}, PROT_READ).error().err, ENOMEM);
  EXPECT_TRUE(sys_mprotect(*p.mm, kBase, 0, PROT_READ).has_value());
  EXPECT_EQ(w.VmaText(p, kBase), "0-2rw");
  w.VmaAt(p, kBase).flags &= ~VM_MAYEXEC;
  EXPECT_EQ(w.Protect(p, kBase, 1, PROT_READ | PROT_EXEC).error().err, EACCES);
  EXPECT_EQ(w.VmaText(p, kBase), "0-2rw");
}

}  // namespace
}  // namespace mm
