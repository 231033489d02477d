// mlock, munlock, mlockall: flags, splits and merges, errors, and what is brought in.
#include <gtest/gtest.h>

#include "tests/mm/failing_disk.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

struct Locks {
  SysResult<void> Lock(uint64_t at, uint64_t pages) {
    const SysResult<void> result = sys_mlock(*p.mm, a + at * kPage, pages * kPage);
    w.Check();
    return result;
  }
  SysResult<void> Unlock(uint64_t at, uint64_t pages) {
    const SysResult<void> result = sys_munlock(*p.mm, a + at * kPage, pages * kPage);
    w.Check();
    return result;
  }
  // One letter a page: L locked, u not, - not mapped.
  std::string Locked() {
    std::string text;
    for (uint64_t i = 0; i < 8; ++i) {
      const Vma* vma = p.mm->vma_at(a + i * kPage);
      text += vma == nullptr ? '-' : (vma->flags & VM_LOCKED) != 0 ? 'L' : 'u';
    }
    return text;
  }
  World w;
  Process& p = w.Spawn();
  Vaddr a = w.Anon(p, 8);
};

TEST(Mlock, SplitsAndMerges) {
  Locks l;
  ASSERT_TRUE(l.Lock(2, 3));
  EXPECT_EQ(l.Locked(), "uuLLLuuu");
  EXPECT_EQ(l.p.mm->map_count(), 3u);
  ASSERT_TRUE(l.Lock(5, 3));
  EXPECT_EQ(l.Locked(), "uuLLLLLL");
  EXPECT_EQ(l.p.mm->map_count(), 2u);
  ASSERT_TRUE(l.Unlock(0, 8));
  EXPECT_EQ(l.Locked(), "uuuuuuuu");
  EXPECT_EQ(l.p.mm->map_count(), 1u);
  ASSERT_TRUE(l.Unlock(3, 2)) << "of what is not locked";
  EXPECT_EQ(l.p.mm->map_count(), 1u);
}

TEST(Mlock, BringsPagesInForWriting) {
  Locks l;
  ASSERT_TRUE(l.Lock(1, 2));
  EXPECT_EQ(l.w.PteAt(l.p, l.a), Pte{});
  for (const uint64_t i : {1, 2}) {
    EXPECT_TRUE(pte_present(l.w.PteAt(l.p, l.a + i * kPage)));
    EXPECT_NE(l.w.PfnAt(l.p, l.a + i * kPage), kZeroPfn) << "a page of its own: COW is broken";
  }
  EXPECT_BYTES(l.w.Load(l.p, l.a + kPage, kPage), Zeros(kPage));
}

TEST(Mlock, AddressesAreRoundedToPages) {
  Locks l;
  ASSERT_TRUE(sys_mlock(*l.p.mm, l.a + kPage + 5, kPage));
  EXPECT_EQ(l.Locked(), "uLLuuuuu");
  ASSERT_TRUE(sys_mlock(*l.p.mm, l.a + 5 * kPage, 0));
  EXPECT_EQ(l.Locked(), "uLLuuuuu");
}

TEST(Mlock, AHoleIsEnomemAfterWhatLiesBefore) {
  Locks l;
  ASSERT_TRUE(l.w.Unmap(l.p, l.a + 4 * kPage, 1));
  EXPECT_EQ(l.Lock(2, 5).error(), (SysError{ENOMEM, 0}));
  EXPECT_EQ(l.Locked().substr(0, 5), "uuLL-") << "what lies before it is locked";
  ASSERT_TRUE(l.Lock(5, 3));
  EXPECT_EQ(l.Unlock(2, 5).error(), (SysError{ENOMEM, 0}));
  EXPECT_EQ(l.Locked().substr(0, 5), "uuuu-");
  EXPECT_EQ(sys_mlock(*l.p.mm, 0x1000, kPage).error(), (SysError{ENOMEM, 0})) << "nothing there";
}

TEST(Mlock, PagesThatCannotBeHadAreEnomem) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr past = w.Shared(p, file, 2);
  EXPECT_EQ(sys_mlock(*p.mm, past, 2 * kPage).error().err, ENOMEM) << "past the end of the file";
  w.Check();
  auto disk = std::make_unique<FailingDisk>();
  disk->bad_reads.insert(0);
  const FilePtr bad = w.machine().create_file("bad", kPage, std::move(disk));
  const Vaddr unreadable = w.Private(p, bad, 1);
  EXPECT_EQ(sys_mlock(*p.mm, unreadable, kPage).error().err, ENOMEM);
  w.Check();

  World small({}, 16);
  Process& q = small.Spawn();
  const Vaddr big = small.Anon(q, 32);
  EXPECT_EQ(sys_mlock(*q.mm, big, 32 * kPage).error().err, ENOMEM);
  small.Check();
}

TEST(Mlock, NoAccessIsLockedAndNotBroughtIn) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1, PROT_NONE);
  (void)sys_mlock(*p.mm, a, kPage);
  w.Check();
  EXPECT_NE(w.VmaAt(p, a).flags & VM_LOCKED, 0u);
  EXPECT_EQ(w.PteAt(p, a), Pte{});
}

TEST(Mlock, ForkDoesNotInheritLocks) {
  Locks l;
  ASSERT_TRUE(l.Lock(0, 8));
  ASSERT_TRUE(sys_mlockall(*l.p.mm, MCL_FUTURE));
  Process& child = l.w.Fork(l.p);
  EXPECT_EQ(l.w.VmaAt(child, l.a).flags & VM_LOCKED, 0u);
  EXPECT_EQ(child.mm->def_flags & VM_LOCKED, 0u);
  EXPECT_EQ(l.Locked(), "LLLLLLLL");
}

TEST(Mlock, AllNowAndInFuture) {
  Locks l;
  EXPECT_EQ(sys_mlockall(*l.p.mm, 0).error(), (SysError{EINVAL, 0}));
  EXPECT_EQ(sys_mlockall(*l.p.mm, 1 << 20).error(), (SysError{EINVAL, 0}));
  ASSERT_TRUE(sys_mlockall(*l.p.mm, MCL_CURRENT));
  l.w.Check();
  EXPECT_EQ(l.Locked(), "LLLLLLLL");
  EXPECT_TRUE(pte_present(l.w.PteAt(l.p, l.a + 7 * kPage)));
  const Vaddr later = l.w.Anon(l.p, 1, PROT_READ);
  EXPECT_EQ(l.w.VmaAt(l.p, later).flags & VM_LOCKED, 0u);
  ASSERT_TRUE(sys_mlockall(*l.p.mm, MCL_FUTURE));
  EXPECT_EQ(l.w.VmaAt(l.p, later).flags & VM_LOCKED, 0u) << "not MCL_CURRENT";
  EXPECT_NE(l.p.mm->def_flags & VM_LOCKED, 0u);
  const Vaddr future = l.w.Anon(l.p, 2);
  EXPECT_NE(l.w.VmaAt(l.p, future).flags & VM_LOCKED, 0u);
  EXPECT_TRUE(pte_present(l.w.PteAt(l.p, future + kPage))) << "brought in by mmap";
  const SysResult<Vaddr> grown = sys_mremap(*l.p.mm, future, 2 * kPage, 20 * kPage, MREMAP_MAYMOVE, 0);
  l.w.Check();
  ASSERT_TRUE(grown.has_value());
  EXPECT_TRUE(pte_present(l.w.PteAt(l.p, *grown + 19 * kPage))) << "by mremap";
  l.p.mm->layout.start_brk = l.p.mm->layout.brk = 0x20000000;
  ASSERT_EQ(sys_brk(*l.p.mm, 0x20003000), 0x20003000u);
  l.w.Check();
  EXPECT_TRUE(pte_present(l.w.PteAt(l.p, 0x20002000))) << "by brk";
  ASSERT_TRUE(sys_munlockall(*l.p.mm));
  l.w.Check();
  EXPECT_EQ(l.Locked(), "uuuuuuuu");
  EXPECT_EQ(l.p.mm->def_flags & VM_LOCKED, 0u);
  EXPECT_EQ(l.w.VmaAt(l.p, *grown).flags & VM_LOCKED, 0u);
}

}  // namespace
}  // namespace mm
