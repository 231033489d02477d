// madvise and msync.
#include <gtest/gtest.h>

#include "tests/mm/world.h"

namespace mm {
namespace {

constexpr Vaddr kBase = 0x10000000;

TEST(Madvise, DontneedForgetsAnonymousMemory) {
  World w;
  Process& p = w.Spawn();
  const uint32_t free = w.machine().frames.nr_free();
  w.AnonAt(p, kBase, 3);
  for (uint64_t i = 0; i < 3; ++i) ASSERT_EQ(w.Store(p, kBase + i * kPage, "x"), Outcome::kOk);
  ASSERT_TRUE(w.Advise(p, kBase + kPage, 1, MADV_DONTNEED));
  EXPECT_EQ(w.VmaText(p, kBase), "0-3rw") << "no split";
  EXPECT_EQ(w.machine().frames.nr_free(), free - 2);
  EXPECT_BYTES(w.Load(p, kBase, 1), "x");
  EXPECT_BYTES(w.Load(p, kBase + kPage, 1), Zeros(1));
  EXPECT_EQ(w.Store(p, kBase + kPage, "y"), Outcome::kOk);
}

TEST(Madvise, DontneedGoesBackToTheFile) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr priv = w.Private(p, file, 2);
  const Vaddr shared = w.Shared(p, file, 2);
  ASSERT_EQ(w.Store(p, priv, "mine"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, shared + kPage, "ours"), Outcome::kOk);
  ASSERT_TRUE(w.Advise(p, priv, 2, MADV_DONTNEED));
  ASSERT_TRUE(w.Advise(p, shared, 2, MADV_DONTNEED));
  EXPECT_BYTES(w.Load(p, priv, 8), w.Original(file, 0, 8));
  EXPECT_BYTES(w.Load(p, shared + kPage, 4), "ours") << "shared stores are the file's";
  EXPECT_FALSE(w.IsDirty(p, priv));
}

TEST(Madvise, DontneedOfOneOwnerLeavesTheOther) {
  World w;
  Process& parent = w.Spawn();
  w.AnonAt(parent, kBase, 1);
  ASSERT_EQ(w.Store(parent, kBase, "both"), Outcome::kOk);
  Process& child = w.Fork(parent);
  ASSERT_TRUE(w.Advise(parent, kBase, 1, MADV_DONTNEED));
  EXPECT_BYTES(w.Load(child, kBase, 4), "both");
  EXPECT_BYTES(w.Load(parent, kBase, 4), Zeros(4));
}

TEST(Madvise, HolesAreReportedAfterTheRestIsDone) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 1);
  w.AnonAt(p, kBase + 2 * kPage, 1);
  ASSERT_EQ(w.TryStore(p, kBase), Outcome::kOk);
  ASSERT_EQ(w.TryStore(p, kBase + 2 * kPage), Outcome::kOk);
  EXPECT_EQ(w.Advise(p, kBase, 3, MADV_DONTNEED).error().err, ENOMEM);
  EXPECT_EQ(p.mm->anon_rss, 0u);
  EXPECT_EQ(w.Advise(p, kBase + 2 * kPage, 3, MADV_NORMAL).error().err, ENOMEM);
}

TEST(Madvise, BadArguments) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 2);
  ASSERT_EQ(w.Store(p, kBase, "kept"), Outcome::kOk);
  EXPECT_EQ(sys_madvise(*p.mm, kBase + 1, kPage, MADV_DONTNEED).error().err, EINVAL);
  EXPECT_EQ(sys_madvise(*p.mm, kBase, kPage, 12345).error().err, EINVAL);
  EXPECT_EQ(sys_madvise(*p.mm, kBase, ~uint64_t{0}, MADV_DONTNEED).error().err, EINVAL);
  EXPECT_TRUE(sys_madvise(*p.mm, kBase, 0, MADV_DONTNEED).has_value());
  w.VmaAt(p, kBase).flags |= VM_LOCKED;
  EXPECT_EQ(w.Advise(p, kBase, 1, MADV_DONTNEED).error().err, EINVAL) << "M15: locked";
  EXPECT_BYTES(w.Load(p, kBase, 4), "kept");
}

TEST(Madvise, DontforkSplitsAndDoforkMergesAgain) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 4);
  ASSERT_TRUE(w.Advise(p, kBase + kPage, 2, MADV_DONTFORK));
  EXPECT_EQ(w.VmaText(p, kBase), "0-1rw 1-3rw 3-4rw");
  EXPECT_NE(w.VmaAt(p, kBase + kPage).flags & VM_DONTCOPY, 0u);
  ASSERT_TRUE(w.Advise(p, kBase, 4, MADV_DOFORK));
  EXPECT_EQ(w.VmaText(p, kBase), "0-4rw");
}

TEST(Msync, WritesBackSharedMappings) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Shared(p, file, 2, 1);
  ASSERT_EQ(w.Store(p, a, "synced"), Outcome::kOk);
  EXPECT_TRUE(sys_msync(*p.mm, a, kPage, MS_ASYNC).has_value());
  EXPECT_BYTES(w.OnDisk(file, kPage, 6), w.Original(file, kPage, 6));
  EXPECT_TRUE(sys_msync(*p.mm, a, 2 * kPage, MS_SYNC).has_value());
  w.Check();
  EXPECT_BYTES(w.OnDisk(file, kPage, 6), "synced");
}

TEST(Msync, PrivateCopiesNeverReachTheFile) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1);
  ASSERT_EQ(w.Store(p, a, "mine"), Outcome::kOk);
  EXPECT_TRUE(sys_msync(*p.mm, a, kPage, MS_SYNC).has_value());
  EXPECT_BYTES(w.OnDisk(file, 0, 8), w.Original(file, 0, 8));
  EXPECT_BYTES(w.ReadFile(file, 0, 8), w.Original(file, 0, 8));
}

TEST(Msync, Errors) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Shared(p, file, 1);
  ASSERT_EQ(w.Store(p, a, "s"), Outcome::kOk);
  EXPECT_EQ(sys_msync(*p.mm, a + 1, kPage, MS_SYNC).error().err, EINVAL);
  EXPECT_EQ(sys_msync(*p.mm, a, kPage, MS_SYNC | MS_ASYNC).error().err, EINVAL);
  EXPECT_EQ(sys_msync(*p.mm, a, kPage, 0x80).error().err, EINVAL);
  EXPECT_EQ(sys_msync(*p.mm, a - kPage, 3 * kPage, MS_SYNC).error().err, ENOMEM);
  w.Check();
  EXPECT_BYTES(w.OnDisk(file, 0, 1), "s") << "holes are reported after the rest is done";
}

// mmap_sem is held for reading alone: a fault of another thread does not keep it waiting.
TEST(Madvise, DontneedAndPageoutGoBesideAFault) {
  for (const int advice : {MADV_DONTNEED, MADV_PAGEOUT}) {
    SCOPED_TRACE(advice);
    World w({}, 4096, 16);
    Process& p = w.Spawn();
    const Vaddr a = w.Anon(p, 2);
    ASSERT_EQ(w.Store(p, a + kPage, "old"), Outcome::kOk);
    ASSERT_TRUE(w.Beside([&] { EXPECT_EQ(w.machine().store(p, a, AsBytes("new")).outcome, Outcome::kOk); },
                         "DoAnonymousPage", "page_table_lock",
                         [&] {
                           EXPECT_TRUE(sys_madvise(*p.mm, a + kPage, kPage, advice));
                           EXPECT_TRUE(pte_none(w.PteAt(p, a))) << "the fault still stands";
                         }));
    EXPECT_FALSE(pte_present(w.PteAt(p, a + kPage)));
    EXPECT_BYTES(w.Load(p, a, 3), "new");
    EXPECT_BYTES(w.Load(p, a + kPage, 3), advice == MADV_DONTNEED ? Zeros(3) : "old");
  }
}

}  // namespace
}  // namespace mm
