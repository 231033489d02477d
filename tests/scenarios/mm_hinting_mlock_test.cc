// Scenarios G86 to G91, G93: mlock, and faults that change no state.
#include <gtest/gtest.h>

#include "tests/scenarios/hinting_fixture.h"

namespace mm {
namespace {

using testing::HasSubstr;

TEST(Scenario, G86_mlock_makes_pages_stable) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Private(p, file, 4, 0, PROT_READ);
  (void)w.Load(p, a, 3 * kPage);
  const Pfn gone = w.MapDiscarded(p, a + kPage);
  const Pfn stable = w.PfnAt(p, a + 2 * kPage);
  ASSERT_TRUE(HoldStable(w.frames(), stable));
  w.frames().put_page(stable);
  ASSERT_EQ(w.state(w.PfnAt(p, a)), PageState::Vr);
  ASSERT_FALSE(file->mapping.mlocked);

  ASSERT_TRUE(sys_mlock(*p.mm, a, 3 * kPage));
  w.Check();
  EXPECT_TRUE(file->mapping.mlocked);
  EXPECT_TRUE(w.IsDeferred(gone)) << "reloaded";
  for (uint64_t i = 0; i < 3; ++i) {
    const Pfn pfn = w.PfnAt(p, a + i * kPage);
    ASSERT_TRUE(pte_present(w.PteAt(p, a + i * kPage)));
    EXPECT_EQ(w.state(pfn), PageState::Sr);
    EXPECT_BYTES(w.ReadFile(file, i * kPage, kPage), w.Original(file, i * kPage, kPage));
    EXPECT_EQ(w.state(pfn), PageState::Sr) << "and stays so when a reference is dropped";
  }
  // For good: a page that comes later, of a vma that is not locked any more.
  ASSERT_TRUE(sys_munlock(*p.mm, a, 3 * kPage));
  w.Check();
  EXPECT_TRUE(file->mapping.mlocked);
  EXPECT_EQ(w.state(w.ReadIn(file, 3)), PageState::Sr);
  EXPECT_EQ(w.faults(), 0u);
}

// Pages come into a locked mapping by a fault too: MCL_FUTURE, and what is mapped then.
TEST(Scenario, G86_mapped_into_a_locked_address_space) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Pfn pfn = w.ReadIn(file, 0);
  ASSERT_TRUE(w.Take(pfn));
  ASSERT_TRUE(sys_mlockall(*p.mm, MCL_FUTURE));
  const Vaddr a = w.Private(p, file, 2, 0, PROT_READ);
  EXPECT_BYTES(w.Load(p, a, 2 * kPage), w.Original(file, 0, 2 * kPage));
  for (uint64_t i = 0; i < 2; ++i) EXPECT_EQ(w.state(w.PfnAt(p, a + i * kPage)), PageState::Sr);
  EXPECT_EQ(w.faults(), 0u);
}

// Two processes map a page that is gone; one locks it.
struct LockDiscarded {
  explicit LockDiscarded(const Semantics& semantics) : w(semantics) {
    (void)w.Load(q, b, 1);
    pfn = w.MapDiscarded(p, a);
    EXPECT_EQ(w.page(pfn).mapcount, 2);
  }
  void Lock() { EXPECT_TRUE(sys_mlock(*q.mm, b, kPage)); }

  Scene w;
  Process& p = w.Spawn();
  Process& q = w.Spawn();
  FilePtr file = w.NewFile(kPage);
  Vaddr a = w.Private(p, file, 1, 0, PROT_READ);
  Vaddr b = w.Private(q, file, 1, 0, PROT_READ);
  Pfn pfn = kNoPfn;
};

TEST(Scenario, G87_discard_from_a_locked_vma) {
  LockDiscarded l(Hinted());
  l.Lock();
  l.w.Check();
  EXPECT_TRUE(l.w.IsDeferred(l.pfn));
  EXPECT_EQ(l.w.PteAt(l.p, l.a), Pte{});
  EXPECT_TRUE(pte_present(l.w.PteAt(l.q, l.b)));
  EXPECT_BYTES(l.w.Load(l.p, l.a, kPage), l.w.Original(l.file, 0, kPage));
}

TEST(Scenario, G87_as_posted_in_2009_the_handler_asserts) {
  LockDiscarded l(Hinted({"mlock_discard=refused"}));
  EXPECT_THAT(l.w.FailureOf([&] { l.Lock(); }), HasSubstr("a discarded page is mapped"));
}

// Adapted: no call of the model fails between the vma's flag and the file's, which are set as one. An mlock
// that runs into a hole has locked what lies before it, and the files there are marked; the others are not.
TEST(Scenario, G88_mlock_that_fails) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr before = w.NewFile(2 * kPage);
  const FilePtr behind = w.NewFile(2 * kPage);
  const Vaddr a = w.Map(p, 6, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
  const auto map_at = [&](Vaddr addr, const FilePtr& file) {
    ASSERT_TRUE(sys_mmap(*p.mm, addr, 2 * kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0));
  };
  map_at(a, before);
  map_at(a + 4 * kPage, behind);
  ASSERT_TRUE(w.Unmap(p, a + 2 * kPage, 2));
  (void)w.Load(p, a, 2 * kPage);
  (void)w.Load(p, a + 4 * kPage, 2 * kPage);
  const SysResult<void> locked = sys_mlock(*p.mm, a, 6 * kPage);
  w.Check();
  ASSERT_FALSE(locked);
  EXPECT_EQ(locked.error().err, ENOMEM);
  EXPECT_NE(w.VmaAt(p, a).flags & VM_LOCKED, 0u);
  EXPECT_TRUE(before->mapping.mlocked);
  EXPECT_EQ(w.state(w.PfnAt(p, a)), PageState::Sr);
  EXPECT_EQ(w.VmaAt(p, a + 4 * kPage).flags & VM_LOCKED, 0u);
  EXPECT_FALSE(behind->mapping.mlocked);
  EXPECT_EQ(w.state(w.PfnAt(p, a + 4 * kPage)), PageState::Vr);

  const FilePtr none = w.NewFile(kPage);
  const Vaddr c = w.Private(p, none, 1, 0, PROT_READ);
  EXPECT_FALSE(sys_mlock(*p.mm, c, ~uint64_t{0} - c)) << "refused before anything is locked";
  EXPECT_FALSE(none->mapping.mlocked);
}

// Its slot is shared, so the page stays in the swap cache, whose mapping nobody marks.
struct LockedInSwapCache {
  explicit LockedInSwapCache(const Semantics& semantics) : w(semantics) {
    EXPECT_EQ(w.Store(p, a, "kept"), Outcome::kOk);
    (void)w.Fork(p);
    EXPECT_TRUE(w.PageOut(p, a));
    EXPECT_TRUE(w.Protect(p, a, 1, PROT_READ));  // or mlock would copy it
    EXPECT_TRUE(sys_mlock(*p.mm, a, kPage));
    w.Check();
    pfn = w.PfnAt(p, a);
    EXPECT_TRUE(w.page(pfn).swapcache());
    EXPECT_EQ(w.m().swap->count(w.page(pfn).slot), 1u);
  }
  Scene w;
  Process& p = w.Spawn();
  Vaddr a = w.Anon(p, 1);
  Pfn pfn = kNoPfn;
};

TEST(Scenario, G89_locked_page_of_the_swap_cache_stays_stable) {
  LockedInSwapCache l(Hinted());
  EXPECT_EQ(l.w.state(l.pfn), PageState::Sr);
  TryVolatile(l.w.frames(), l.pfn);
  EXPECT_EQ(l.w.state(l.pfn), PageState::Sr);
  ASSERT_TRUE(l.w.Take(l.pfn));
  EXPECT_BYTES(l.w.Load(l.p, l.a, 4), "kept");
  EXPECT_EQ(l.w.PfnAt(l.p, l.a), l.pfn) << "the host's paging, and no fault";
}

TEST(Scenario, G89_published_predicate_gives_it_away) {
  LockedInSwapCache l(Hinted({"mlocked_swapcache=allowed"}));
  TryVolatile(l.w.frames(), l.pfn);
  EXPECT_EQ(l.w.state(l.pfn), PageState::Vr);
  ASSERT_TRUE(l.w.Take(l.pfn));
  const uint64_t major = l.p.mm->maj_flt;
  EXPECT_BYTES(l.w.Load(l.p, l.a, 4), "kept");
  EXPECT_EQ(l.p.mm->maj_flt, major + 1) << "memory that was locked is read from swap";
  EXPECT_EQ(l.w.faults(), 1u);
}

TEST(Scenario, G90_population_of_a_locked_vma_keeps_the_reference_count) {
  LockDiscarded l(Hinted());
  l.Lock();
  l.w.Check();
  EXPECT_TRUE(l.w.IsDeferred(l.pfn));
  EXPECT_EQ(l.w.PageAt(l.q, l.b).count, 2) << "the cache's and the pte's";
  EXPECT_EQ(l.w.discarded().size(), 1u);
}

TEST(Scenario, G90_as_posted_it_drops_one_too_many) {
  LockDiscarded l(Hinted({"locked_discard_ref=as_posted"}));
  EXPECT_THAT(l.w.FailureOf([&] { l.Lock(); }), HasSubstr("CHECK failed"));
}

TEST(Scenario, G91_minor_fault_changes_no_state) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Pfn there = w.ReadIn(file, 0);
  const Pfn gone = w.ReadIn(file, 1);
  ASSERT_TRUE(w.Take(gone));
  const Vaddr a = w.Private(p, file, 2);
  const uint64_t requests = w.requests();
  EXPECT_EQ(w.Fault(p, a, Write::kNo), VM_FAULT_MINOR);
  EXPECT_EQ(w.Fault(p, a + kPage, Write::kNo), VM_FAULT_MINOR);
  w.Check();
  EXPECT_EQ(w.requests(), requests);
  EXPECT_EQ(w.PfnAt(p, a), there);
  EXPECT_EQ(w.PfnAt(p, a + kPage), gone) << "mapped, and discarded";
  EXPECT_EQ(w.state(there), PageState::Vr);
  EXPECT_EQ(w.state(gone), PageState::Vz);
  // The first access meets the discard fault, and the next one reads it from disk.
  const uint64_t major = p.mm->maj_flt;
  EXPECT_BYTES(w.Load(p, a, 2 * kPage), w.Original(file, 0, 2 * kPage));
  EXPECT_EQ(w.faults(), 1u);
  EXPECT_EQ(p.mm->maj_flt, major + 1);
  EXPECT_TRUE(w.IsDeferred(gone));
}

TEST(Scenario, G91_before_2009_it_does) {
  Scene w(Hinted({"minor_fault_states=transitions"}));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Pfn there = w.ReadIn(file, 0);
  const Pfn gone = w.ReadIn(file, 1);
  ASSERT_TRUE(w.Take(gone));
  const Vaddr a = w.Private(p, file, 2);
  const uint64_t transitions = w.host().stat().transitions;
  EXPECT_EQ(w.Fault(p, a, Write::kNo), VM_FAULT_MINOR);
  EXPECT_GE(w.host().stat().transitions, transitions + 1);
  EXPECT_EQ(w.PfnAt(p, a), there);
  EXPECT_NE(w.Fault(p, a + kPage, Write::kNo) & VM_FAULT_MAJOR, 0u) << "it is not mapped as it is";
  w.Check();
  EXPECT_TRUE(w.IsDeferred(gone));
}

TEST(Scenario, G93_munmap_makes_no_request) {
  for (const bool transitions : {false, true}) {
    SCOPED_TRACE(transitions);
    Scene w(Hinted({transitions ? "minor_fault_states=transitions" : "minor_fault_states=none"}));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(1000 * kPage);
    const Vaddr a = w.Private(p, file, 1000);
    ASSERT_EQ(w.m().touch(p, a, 1000 * kPage, Write::kNo).outcome, Outcome::kOk);
    ASSERT_EQ(p.mm->file_rss, 1000u);
    ASSERT_EQ(w.host().count(PageState::Vr), 1000u);
    const uint64_t requests = w.requests();
    ASSERT_TRUE(w.Unmap(p, a, 1000));
    EXPECT_EQ(w.requests() == requests, !transitions);
    EXPECT_EQ(w.host().count(PageState::Vr), 1000u);
  }
}

}  // namespace
}  // namespace mm
