// Scenarios G40 to G42, G47, G48, G52 to G57: what becomes of a discarded page, on one CPU.
#include <gtest/gtest.h>

#include "mm/reclaim.h"
#include "mm/rmap.h"
#include "tests/scenarios/hinting_fixture.h"

namespace mm {
namespace {

using testing::HasSubstr;

TEST(Scenario, G40_discarded_page_leaves_three_processes) {
  Scene w;
  const FilePtr file = w.NewFile(4 * kPage);
  std::vector<std::pair<Process*, Vaddr>> mappers;
  for (int i = 0; i < 3; ++i) {
    Process& p = w.Spawn();
    mappers.emplace_back(&p, w.Private(p, file, 4));
    (void)w.Load(p, mappers.back().second + kPage, 1);
  }
  const auto [first, addr] = mappers[0];
  const Pfn pfn = w.PfnAt(*first, addr + kPage);
  EXPECT_EQ(w.page(pfn).mapcount, 3);
  ASSERT_EQ(w.state(pfn), PageState::Vr);
  ASSERT_TRUE(w.Take(pfn));
  // One access, up to where it would begin again.
  do_discard_fault(w.m(), *first->mm, addr + kPage, pfn);
  for (const auto& [p, a] : mappers) {
    EXPECT_EQ(w.PteAt(*p, a + kPage), Pte{});
    EXPECT_EQ(p->mm->file_rss, 0u);
  }
  EXPECT_EQ(w.page(pfn).mapcount, 0);
  EXPECT_EQ(w.Cached(file, 1), kNoPfn);
  EXPECT_TRUE(w.IsDeferred(pfn)) << "and so off the LRU, with no reference left";
  w.Check();
  uint64_t major = 1;  // the first of them reads it from disk
  for (const auto& [p, a] : mappers) {
    const uint64_t before = p->mm->maj_flt;
    EXPECT_BYTES(w.Load(*p, a + kPage, kPage), w.Original(file, kPage, kPage));
    EXPECT_EQ(p->mm->maj_flt, before + std::exchange(major, 0));
  }
}

// A mapping of ten pages, whose third shows index 7 of the file.
struct Nonlinear {
  explicit Nonlinear(const Semantics& semantics = Hinted()) : w(semantics) {
    EXPECT_TRUE(sys_remap_file_pages(*p.mm, a + 2 * kPage, kPage, 0, 7, 0));
    w.Check();
  }
  void Discard(Vaddr addr) {
    const Pfn pfn = w.MapDiscarded(p, addr);
    do_discard_fault(w.m(), *p.mm, addr, pfn);
    w.Check();
    EXPECT_TRUE(w.IsDeferred(pfn));
  }
  Scene w;
  Process& p = w.Spawn();
  FilePtr file = w.NewFile(10 * kPage);
  Vaddr a = w.Shared(p, file, 10, 0, PROT_READ);
};

TEST(Scenario, G41_nonlinear_position_survives) {
  Nonlinear n;
  n.Discard(n.a + 2 * kPage);
  EXPECT_EQ(n.w.PteAt(n.p, n.a + 2 * kPage), pgoff_to_pte(7));
  EXPECT_BYTES(n.w.Load(n.p, n.a + 2 * kPage, kPage), n.w.Original(n.file, 7 * kPage, kPage));
}

// At both of its addresses.
TEST(Scenario, G41_linear_and_nonlinear_position_of_one_page) {
  Nonlinear n;
  (void)n.w.Load(n.p, n.a + 7 * kPage, 1);
  n.Discard(n.a + 2 * kPage);
  EXPECT_EQ(n.w.PteAt(n.p, n.a + 2 * kPage), pgoff_to_pte(7));
  EXPECT_EQ(n.w.PteAt(n.p, n.a + 7 * kPage), Pte{});
  EXPECT_BYTES(n.w.Load(n.p, n.a + 7 * kPage, kPage), n.w.Original(n.file, 7 * kPage, kPage));
}

TEST(Scenario, G41_the_2005_variant_maps_the_wrong_page) {
  Nonlinear n(Hinted({"discard_nonlinear=none"}));
  n.Discard(n.a + 2 * kPage);
  EXPECT_EQ(n.w.PteAt(n.p, n.a + 2 * kPage), Pte{});
  EXPECT_BYTES(n.w.Load(n.p, n.a + 2 * kPage, kPage), n.w.Original(n.file, 2 * kPage, kPage));
}

TEST(Scenario, G42_linear_slot_of_a_nonlinear_vma) {
  Nonlinear n;
  ASSERT_NE(n.w.VmaAt(n.p, n.a).flags & VM_NONLINEAR, 0u);
  n.Discard(n.a + 4 * kPage);
  EXPECT_EQ(n.w.PteAt(n.p, n.a + 4 * kPage), Pte{});
  EXPECT_BYTES(n.w.Load(n.p, n.a + 4 * kPage, kPage), n.w.Original(n.file, 4 * kPage, kPage));
}

TEST(Scenario, G47_reclaim_of_a_page_that_the_host_has_discarded) {
  Scene w;
  const FilePtr file = w.NewFile(2 * kPage);
  const Pfn pfn = w.ReadIn(file, 0);
  ASSERT_TRUE(w.Take(pfn));
  ASSERT_TRUE(reclaim_page(w.m(), pfn));
  w.Check();
  EXPECT_EQ(w.Cached(file, 0), kNoPfn);
  EXPECT_TRUE(w.IsDeferred(pfn)) << "PG_discarded stays set";
  EXPECT_EQ(w.faults(), 0u);
  EXPECT_BYTES(w.ReadFile(file, 0, kPage), w.Original(file, 0, kPage));
}

TEST(Scenario, G47_reclaim_of_a_discarded_page_of_the_swap_cache) {
  Scene w;
  Process& p = w.Spawn();
  const Vaddr a = w.InSwapCache(p, "kept");
  const Pfn pfn = w.PfnAt(p, a);
  ASSERT_TRUE(w.Take(pfn));
  const uint64_t written = w.m().vmstat.pswpout;
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_EQ(w.m().vmstat.pswpout, written);
  EXPECT_TRUE(w.IsDeferred(pfn));
  EXPECT_BYTES(w.Load(p, a, 4), "kept");
}

TEST(Scenario, G48_reclaim_of_a_volatile_page_that_is_there) {
  for (const char* rule : {"removal_flag=discarded", "removal_flag=transient"}) {
    SCOPED_TRACE(rule);
    Scene w(Hinted({rule}));
    const FilePtr file = w.NewFile(2 * kPage);
    const Pfn by_reclaim = w.ReadIn(file, 0);
    const Pfn by_truncate = w.ReadIn(file, 1);
    ASSERT_EQ(w.state(by_reclaim), PageState::Vr);
    ASSERT_TRUE(reclaim_page(w.m(), by_reclaim));
    ASSERT_TRUE(w.Truncate(file, kPage));
    for (const Pfn pfn : {by_reclaim, by_truncate}) {
      EXPECT_EQ(w.state(pfn), PageState::Ur);
      EXPECT_EQ(w.page(pfn).flags & PG_discarded, 0u);
      EXPECT_EQ(w.page(pfn).count, 0);
    }
    EXPECT_EQ(w.discarded().size(), 0u);
  }
}

TEST(Scenario, G52_a_young_pte_does_not_keep_a_discarded_page) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1);
  const Pfn pfn = w.MapDiscarded(p, a);
  ASSERT_TRUE(pte_young(w.PteAt(p, a)));
  do_discard_fault(w.m(), *p.mm, a, pfn);
  EXPECT_EQ(w.PteAt(p, a), Pte{});
  EXPECT_TRUE(w.IsDeferred(pfn));
  EXPECT_BYTES(w.Load(p, a, kPage), w.Original(file, 0, kPage));
}

// Nothing touches the page before do_wp_page finds that it cannot be copied.
TEST(Scenario, G53_cow_from_a_discarded_page) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1);
  const Pfn pfn = w.MapDiscarded(p, a);
  EXPECT_EQ(w.Fault(p, a, Write::kYes), VM_FAULT_MINOR) << "and no VM_FAULT_WRITE: to be tried again";
  EXPECT_EQ(w.PteAt(p, a), Pte{});
  EXPECT_TRUE(w.IsDeferred(pfn));
  w.Check();
  ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a, kPage), "new" + w.Original(file, 3, kPage - 3));
  EXPECT_EQ(w.faults(), 0u);
}

TEST(Scenario, G54_early_cow_from_a_discarded_page) {
  for (const char* rule : {"truncate_race=page_lock", "truncate_race=truncate_count"}) {
    SCOPED_TRACE(rule);
    Scene w(Hinted({rule}));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(kPage);
    const Pfn pfn = w.ReadIn(file, 0);
    ASSERT_TRUE(w.Take(pfn));
    const Vaddr a = w.Private(p, file, 1);
    const uint32_t free = w.frames().nr_free();
    ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk);
    EXPECT_EQ(p.mm->maj_flt, 1u) << "read again, in the same fault";
    EXPECT_TRUE(w.IsDeferred(pfn));
    EXPECT_EQ(w.frames().nr_free(), free - 2) << "the file's page and the copy, and nothing else";
    EXPECT_BYTES(w.Load(p, a, kPage), "new" + w.Original(file, 3, kPage - 3));
    EXPECT_EQ(w.faults(), 0u);
  }
}

TEST(Scenario, G55_get_user_pages_of_a_discarded_page) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1);
  const Pfn pfn = w.MapDiscarded(p, a);
  std::vector<Pfn> pins = get_user_pages(*p.mm, a, 1, Write::kNo, Force::kNo).value();
  ASSERT_EQ(pins.size(), 1u);
  EXPECT_NE(pins[0], pfn);
  EXPECT_TRUE(w.IsDeferred(pfn));
  w.Check();
  EXPECT_EQ(w.state(pins[0]), PageState::Sr);
  TryVolatile(w.frames(), pins[0]);
  EXPECT_EQ(w.state(pins[0]), PageState::Sr) << "as long as it is pinned";
  ASSERT_TRUE(w.Take(pins[0]));
  EXPECT_EQ(w.state(pins[0]), PageState::Sp);
  EXPECT_BYTES(w.FrameText(pins[0], 0, kPage), w.Original(file, 0, kPage));
  unpin_user_pages(w.m(), pins);
}

// Without an array of pages it is the caller's to deal with faults: nothing is made stable. Adapted: the call
// of the model that only brings in is populate_range (MAP_POPULATE).
TEST(Scenario, G55_bringing_in_does_not_stabilise) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Shared(p, file, 1, 0, PROT_READ);
  const Pfn pfn = w.MapDiscarded(p, a);
  const uint64_t requests = w.requests();
  {
    ReadGuard guard(p.mm->mmap_sem);
    populate_range(*p.mm, a, a + kPage, MAP_POPULATE);
  }
  w.Check();
  EXPECT_EQ(w.requests(), requests);
  EXPECT_EQ(w.PfnAt(p, a), pfn);
  EXPECT_EQ(w.state(pfn), PageState::Vz);
  EXPECT_BYTES(w.Load(p, a, kPage), w.Original(file, 0, kPage));
}

// Adapted: calls of the model copy from and to the test's own memory, never by a pte of the process. The
// kernel's side of a copy is Frames::bytes(); for a discarded page that is a CHECK, so a copy from one cannot
// be anything but short. And read(2) does not come to it: the page is thrown out and read again.
TEST(Scenario, G56_copy_from_a_discarded_page) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1);
  const Pfn pfn = w.MapDiscarded(p, a);
  EXPECT_BYTES(w.ReadFile(file, 0, kPage), w.Original(file, 0, kPage));
  EXPECT_TRUE(w.IsDeferred(pfn));
  const Pfn again = w.Cached(file, 0);
  ASSERT_TRUE(w.Take(again));
  EXPECT_THAT(w.FailureOf([&] { (void)w.frames().bytes(again); }), HasSubstr("the kernel touches page"));
}

// What a call copies from several pages, one of which is gone: the rest after it is there too.
TEST(Scenario, G56_copy_over_a_discarded_page_goes_on) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  (void)w.MapDiscarded(p, a + kPage);
  EXPECT_BYTES(w.Load(p, a, 3 * kPage), w.Original(file, 0, 3 * kPage));
  EXPECT_EQ(w.faults(), 1u);
}

// Such a page cannot become volatile (INV-V1), so the host cannot discard it ...
TEST(Scenario, G57_needed_pages_are_never_discarded) {
  for (const uint32_t flag : {PG_dirty, PG_writeback, PG_private}) {
    SCOPED_TRACE(flag);
    Scene w;
    const FilePtr file = w.NewFile(kPage);
    const Pfn pfn = w.ReadIn(file, 0);
    ASSERT_TRUE(HoldStable(w.frames(), pfn));
    w.page(pfn).flags |= flag;
    page_cache_release(w.frames(), pfn);
    TryVolatile(w.frames(), pfn);
    EXPECT_EQ(w.state(pfn), PageState::Sr);
    ASSERT_TRUE(w.host().take(pfn));
    EXPECT_EQ(w.state(pfn), PageState::Sp) << "kept by the host";
    w.page(pfn).flags &= ~flag;
    w.Check();
    EXPECT_BYTES(w.ReadFile(file, 0, kPage), w.Original(file, 0, kPage));
  }
}

// ... and if it could, the handler would notice.
TEST(Scenario, G57_the_handler_asserts) {
  for (const uint32_t flag : {PG_dirty, PG_writeback, PG_private}) {
    SCOPED_TRACE(flag);
    Scene w;
    const FilePtr file = w.NewFile(kPage);
    const Pfn pfn = w.ReadIn(file, 0);
    ASSERT_TRUE(w.Take(pfn));
    w.page(pfn).flags |= flag;
    w.frames().get_page(pfn);
    EXPECT_THAT(w.FailureOf([&] { page_discard(w.m(), pfn); }), HasSubstr("was discarded, and is needed"));
  }
}

}  // namespace
}  // namespace mm
