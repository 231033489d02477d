// memory_failure: a broken frame is taken away from everybody, or nothing happens.
#include "mm/memory_failure.h"

#include <gtest/gtest.h>

#include "mm/reclaim.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

struct Poison {
  SysResult<void> Fail(Pfn pfn, Where at = Where::current()) {
    const SysResult<void> result = memory_failure(w.machine(), pfn);
    w.Check(at);
    return result;
  }
  World w{{}, 4096, 64};
  Process& p = w.Spawn();
};

TEST(MemoryFailure, C15_a_poisoned_page_is_an_error_for_a_checkpoint) {
  Poison s;
  const FilePtr file = s.w.NewFile(2 * kPage);
  const Vaddr vmas[] = {s.w.Anon(s.p, 2), s.w.Private(s.p, file, 2)};
  for (const Vaddr a : vmas) {
    ASSERT_EQ(s.w.Store(s.p, a, "lost"), Outcome::kOk);
    ASSERT_EQ(s.w.Store(s.p, a + kPage, "good"), Outcome::kOk);
    ASSERT_TRUE(s.Fail(s.w.PfnAt(s.p, a)));
    const Pte entry = s.w.PteAt(s.p, a);
    EXPECT_TRUE(pte_hwpoison(entry));
    const base::Result<Pfn> page = s.w.Dirty(s.p, a);
    ASSERT_FALSE(page.has_value()) << "neither clean nor a page nor a crash";
    EXPECT_EQ(page.error().code, base::Code::kFault);
    EXPECT_EQ(s.w.PteAt(s.p, a), entry);
    EXPECT_TRUE(s.w.IsDirty(s.p, a + kPage));
    EXPECT_EQ(next_dirty_run(s.w.VmaAt(s.p, a), a, a + 2 * kPage, 10).start, a)
        << "a run does not skip it silently";
  }
}

TEST(MemoryFailure, AccessIsSigbusForEveryMapper) {
  Poison s;
  const Vaddr a = s.w.Anon(s.p, 2);
  ASSERT_EQ(s.w.Store(s.p, a, "lost"), Outcome::kOk);
  ASSERT_EQ(s.w.Store(s.p, a + kPage, "good"), Outcome::kOk);
  Process& child = s.w.Fork(s.p);
  const Pfn pfn = s.w.PfnAt(s.p, a);
  const uint32_t free = s.w.machine().frames.nr_free();
  ASSERT_TRUE(s.Fail(pfn));
  EXPECT_NE(s.w.machine().frames.at(pfn).flags & PG_hwpoison, 0u);
  Process& later = s.w.Fork(child);
  for (Process* process : {&s.p, &child, &later}) {
    EXPECT_EQ(s.w.TryLoad(*process, a), Outcome::kSigbus);
    EXPECT_EQ(s.w.TryStore(*process, a), Outcome::kSigbus);
    EXPECT_BYTES(s.w.Load(*process, a + kPage, 4), "good");
  }
  EXPECT_EQ(s.w.machine().frames.nr_free(), free);
  ASSERT_TRUE(s.w.Unmap(s.p, a, 1));
  ASSERT_TRUE(s.w.Advise(child, a, 1, MADV_DONTNEED));
  EXPECT_BYTES(s.w.Load(child, a, 4), Zeros(4)) << "a new page in the place of the broken one";
  s.w.Exit(later);
  for (int i = 0; i < 200; ++i) {
    const Pfn fresh = s.w.machine().frames.alloc_page(Fill::kZero);
    EXPECT_NE(fresh, pfn) << "never used again";
  }
  EXPECT_EQ(s.w.machine().frames.at(pfn).count, 1);
  for (uint32_t i = 0; i < s.w.machine().frames.high_water(); ++i) {
    Page& page = s.w.machine().frames.at(Pfn{i});
    if (Pfn{i} != kZeroPfn && Pfn{i} != pfn && page.count == 1 && page.mapcount == 0 &&
        page.mapping_word == 0) {
      s.w.machine().frames.put_page(Pfn{i});
    }
  }
}

TEST(MemoryFailure, AMovedOrProtectedEntryStaysPoisoned) {
  Poison s;
  const Vaddr a = s.w.Anon(s.p, 1);
  ASSERT_EQ(s.w.Store(s.p, a, "lost"), Outcome::kOk);
  ASSERT_TRUE(s.Fail(s.w.PfnAt(s.p, a)));
  ASSERT_TRUE(s.w.Protect(s.p, a, 1, PROT_READ));
  ASSERT_TRUE(s.w.Protect(s.p, a, 1, kReadWrite));
  const SysResult<Vaddr> to = sys_mremap(*s.p.mm, a, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, 0x10000000);
  s.w.Check();
  ASSERT_TRUE(to.has_value());
  EXPECT_EQ(s.w.TryLoad(s.p, *to), Outcome::kSigbus);
}

TEST(MemoryFailure, ACleanFilePageIsReadAgain) {
  Poison s;
  const FilePtr file = s.w.NewFile(2 * kPage);
  const Vaddr a = s.w.Private(s.p, file, 2);
  EXPECT_EQ(s.w.TryLoad(s.p, a), Outcome::kOk);
  const Pfn pfn = s.w.PfnAt(s.p, a);
  ASSERT_TRUE(s.Fail(pfn));
  EXPECT_TRUE(file->mapping.pages.empty()) << "the cache forgets it";
  EXPECT_BYTES(s.w.ReadFile(file, 0, kPage), s.w.Original(file, 0, kPage));
  // "Its ptes become poison entries": who had it mapped is told.
  EXPECT_EQ(s.w.TryLoad(s.p, a), Outcome::kSigbus);
  ASSERT_TRUE(s.w.Advise(s.p, a, 1, MADV_DONTNEED));
  EXPECT_BYTES(s.w.Load(s.p, a, kPage), s.w.Original(file, 0, kPage));
}

TEST(MemoryFailure, APageOfTheSwapCacheGivesItsSlotUp) {
  Poison s;
  const Vaddr a = s.w.Anon(s.p, 1);
  ASSERT_EQ(s.w.Store(s.p, a, "swap"), Outcome::kOk);
  ASSERT_TRUE(s.w.PageOut(s.p, a));
  EXPECT_BYTES(s.w.Load(s.p, a, 4), "swap");
  ASSERT_TRUE(s.w.PageAt(s.p, a).swapcache());
  const Pfn pfn = s.w.PfnAt(s.p, a);
  ASSERT_TRUE(s.Fail(pfn));
  EXPECT_FALSE(s.w.machine().frames.at(pfn).swapcache());
  EXPECT_EQ(s.w.machine().swap->nr_free(), s.w.machine().swap->nr_slots());
}

TEST(MemoryFailure, APinnedPageIsBusy) {
  Poison s;
  const Vaddr a = s.w.Anon(s.p, 1);
  ASSERT_EQ(s.w.Store(s.p, a, "kept"), Outcome::kOk);
  std::vector<Pfn> pins = get_user_pages(*s.p.mm, a, 1, Write::kYes, Force::kNo).value();
  EXPECT_EQ(s.Fail(pins[0]).error(), (SysError{EBUSY, 0}));
  EXPECT_EQ(s.w.machine().frames.at(pins[0]).flags & PG_hwpoison, 0u);
  EXPECT_BYTES(s.w.Load(s.p, a, 4), "kept");
  EXPECT_EQ(s.w.PfnAt(s.p, a), pins[0]);
  unpin_user_pages(s.w.machine(), pins);
  EXPECT_TRUE(s.Fail(s.w.PfnAt(s.p, a)));
}

TEST(MemoryFailure, AHeldLockIsBusy) {
  Poison s;
  const FilePtr file = s.w.NewFile(kPage);
  const Vaddr a = s.w.Shared(s.p, file, 1);
  ASSERT_EQ(s.w.Store(s.p, a, "kept"), Outcome::kOk);
  const Pfn pfn = s.w.PfnAt(s.p, a);
  {
    std::lock_guard busy(s.p.mm->page_table_lock);
    const SysResult<void> result = memory_failure(s.w.machine(), pfn);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().err, EBUSY);
  }
  EXPECT_BYTES(s.w.Load(s.p, a, 4), "kept");
}

// Half unmapped and not yet written: the parent's swap entry waits for these very bytes.
TEST(MemoryFailure, APageWhoseSlotWasNotWrittenIsBusy) {
  Poison s;
  const Vaddr a = s.w.Anon(s.p, 1);
  ASSERT_EQ(s.w.Store(s.p, a, "both"), Outcome::kOk);
  Process& child = s.w.Fork(s.p);
  const Pfn pfn = s.w.PfnAt(child, a);
  {
    std::lock_guard busy(child.mm->page_table_lock);
    EXPECT_FALSE(reclaim_page(s.w.machine(), pfn));
  }
  ASSERT_TRUE(pte_swap(s.w.PteAt(s.p, a)));
  ASSERT_TRUE(pte_present(s.w.PteAt(child, a)));
  EXPECT_EQ(s.Fail(pfn).error(), (SysError{EBUSY, 0}));
  EXPECT_BYTES(s.w.Load(s.p, a, 4), "both");
  EXPECT_BYTES(s.w.Load(child, a, 4), "both");
}

}  // namespace
}  // namespace mm
