// Scenarios G94 to G98: volatile pages of the swap cache, and of objects.
#include <gtest/gtest.h>

#include "tests/scenarios/hinting_fixture.h"

namespace mm {
namespace {

using testing::HasSubstr;

// A page that two processes have mapped from the swap cache; its slot has no user but the cache.
struct Shared2 {
  explicit Shared2(const Semantics& semantics = Hinted(), uint64_t swap_pages = 64)
      : w(semantics, swap_pages) {}
  void Discard() { EXPECT_TRUE(w.Take(pfn)); }
  uint32_t Users() { return w.m().swap->count(slot); }
  // Until swap is more than half full.
  void FillSwap(uint64_t pages) {
    const Vaddr more = w.Anon(p, pages);
    for (uint64_t i = 0; i < pages; ++i) {
      EXPECT_EQ(w.Store(p, more + i * kPage, "more"), Outcome::kOk);
      EXPECT_TRUE(w.PageOut(p, more + i * kPage));
    }
    EXPECT_TRUE(vm_swap_full(w.m()));
  }

  Scene w;
  Process& p = w.Spawn();
  Vaddr a = w.InSwapCache(p, "kept");
  Pfn pfn = w.PfnAt(p, a);
  SwpEntry slot = w.page(pfn).slot;
  Process& child = w.Fork(p);
};

TEST(Scenario, G94_discarded_page_comes_back_from_swap) {
  Shared2 s;
  ASSERT_EQ(s.w.page(s.pfn).mapcount, 2);
  ASSERT_EQ(s.w.state(s.pfn), PageState::Vr);
  ASSERT_EQ(s.Users(), 0u);
  s.Discard();
  do_discard_fault(s.w.m(), *s.p.mm, s.a, s.pfn);
  s.w.Check();
  EXPECT_TRUE(s.w.IsDeferred(s.pfn));
  EXPECT_EQ(s.Users(), 2u) << "one for each pte, and the cache's is gone (INV-D3)";
  EXPECT_EQ(s.w.PteAt(s.p, s.a), swp_entry_to_pte(s.slot));
  EXPECT_EQ(s.w.PteAt(s.child, s.a), swp_entry_to_pte(s.slot));
  const uint64_t major = s.p.mm->maj_flt;
  EXPECT_BYTES(s.w.Load(s.p, s.a, 4), "kept");
  EXPECT_EQ(s.p.mm->maj_flt, major + 1);
  EXPECT_EQ(s.Users(), 1u);
  EXPECT_BYTES(s.w.Load(s.child, s.a, 4), "kept");
  EXPECT_EQ(s.w.PfnAt(s.p, s.a), s.w.PfnAt(s.child, s.a));
}

TEST(Scenario, G95_exit_of_one_mapper) {
  Shared2 s;
  s.Discard();
  s.w.Exit(s.child);
  EXPECT_EQ(s.w.state(s.pfn), PageState::Vz);
  EXPECT_TRUE(s.w.page(s.pfn).swapcache());
  EXPECT_EQ(s.w.m().swap->cached(s.slot), s.pfn) << "the slot is kept";
  EXPECT_BYTES(s.w.Load(s.p, s.a, 4), "kept");
}

// The one that exits has the entry, and the other the page: free_swap_and_cache under the page_table_lock. It
// would give the slot of a page that is there back, since swap is more than half full.
TEST(Scenario, G95_exit_of_one_that_has_the_entry) {
  for (const bool discarded : {true, false}) {
    SCOPED_TRACE(discarded);
    Shared2 s(Hinted(), 16);
    s.FillSwap(10);
    ASSERT_TRUE(s.w.PageOut(s.p, s.a));
    EXPECT_BYTES(s.w.Load(s.p, s.a, 4), "kept");
    const Pfn pfn = s.w.PfnAt(s.p, s.a);
    ASSERT_EQ(s.w.state(pfn), PageState::Vr);
    ASSERT_EQ(s.Users(), 1u);
    if (discarded) {
      ASSERT_TRUE(s.w.Take(pfn));
    }
    s.w.Exit(s.child);
    EXPECT_EQ(s.w.page(pfn).swapcache(), discarded);
    EXPECT_BYTES(s.w.Load(s.p, s.a, 4), "kept");
  }
}

TEST(Scenario, G95_exit_beside_a_discard_fault) {
  const std::pair<const char*, const char*> places[] = {{"ZapPresent", "pte"},
                                                        {"page_remove_rmap", "pte_chain_lock"},
                                                        {"free_page_and_swap_cache", "page count"}};
  for (const auto& [function, name] : places) {
    SCOPED_TRACE(function);
    Shared2 s;
    s.Discard();
    std::string bytes;
    ASSERT_TRUE(s.w.Beside([&] { s.w.m().exit(s.child.pid); }, function, name, s.w.Getting(s.p, s.a, bytes)));
    EXPECT_TRUE(s.w.IsDeferred(s.pfn));
    EXPECT_EQ(bytes.substr(0, 4), "kept");
    EXPECT_EQ(s.w.UsedSlots(), 1u);
  }
}

// The handler is on its way through the ptes when the other one exits.
TEST(Scenario, G95_exit_beside_the_handler) {
  const std::pair<const char*, const char*> places[] = {
      {"page_discard", "page lock"}, {"page_unmap_all", "PG_anon"}, {"UnmapAllChain", "page_table_lock"}};
  for (const auto& [function, name] : places) {
    SCOPED_TRACE(function);
    Shared2 s;
    s.Discard();
    std::string bytes;
    ASSERT_TRUE(s.w.Beside(s.w.Getting(s.p, s.a, bytes), function, name, [&] { s.w.m().exit(s.child.pid); }));
    EXPECT_TRUE(s.w.IsDeferred(s.pfn));
    EXPECT_EQ(bytes.substr(0, 4), "kept");
    EXPECT_EQ(s.w.UsedSlots(), 1u);
  }
}

TEST(Scenario, G96_try_to_free_swap_of_a_discarded_page) {
  Shared2 s;
  s.Discard();
  s.w.LockPage(s.pfn);
  EXPECT_FALSE(try_to_free_swap(s.w.m(), s.pfn));
  s.w.UnlockPage(s.pfn);
  s.w.Check();
  EXPECT_EQ(s.w.state(s.pfn), PageState::Vz);
  EXPECT_EQ(s.w.m().swap->cached(s.slot), s.pfn);
  EXPECT_BYTES(s.w.Load(s.child, s.a, 4), "kept");
}

// The only one that maps it writes: the page would leave the swap cache, and the slot with it.
TEST(Scenario, G97_write_to_an_exclusive_discarded_page) {
  Scene w;
  Process& p = w.Spawn();
  const Vaddr a = w.InSwapCache(p, "kept");
  const Pfn pfn = w.PfnAt(p, a);
  ASSERT_TRUE(w.Take(pfn));
  ASSERT_EQ(w.Store(p, a, "K"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a, 4), "Kept") << "read from swap, and then written";
  EXPECT_TRUE(w.IsDeferred(pfn));
  EXPECT_FALSE(w.PageAt(p, a).swapcache());
  EXPECT_EQ(w.UsedSlots(), 0u) << "given back when the page was stable";
}

// As posted in 2009 the slot, which has the only copy, is freed without a question. What is left is a frame
// that nobody can fill: the access never ends.
TEST(Scenario, G97_as_posted_the_only_copy_is_freed) {
  Scene w(Hinted({"reuse_discarded=as_posted"}));
  Process& p = w.Spawn();
  const Vaddr a = w.InSwapCache(p, "kept");
  ASSERT_TRUE(w.Take(w.PfnAt(p, a)));
  EXPECT_EQ(w.Fault(p, a, Write::kYes), VM_FAULT_WRITE);
  EXPECT_EQ(w.UsedSlots(), 0u);
  EXPECT_EQ(w.state(w.PfnAt(p, a)), PageState::Vz) << "the bytes are nowhere";
  EXPECT_THAT(w.FailureOf([&] { (void)w.m().store(p, a, AsBytes("K")); }),
              HasSubstr("one access faulted for ever"));
}

// Adapted: an object's page is never in the swap cache here, it goes to its slot and comes back dirty. So
// that one is made to look as in 2006, and the predicate asked.
TEST(Scenario, G98_swapped_object_page_is_never_volatile) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr object = w.Object(1);
  const Vaddr a = w.Shared(p, object, 1);
  ASSERT_EQ(w.Store(p, a, "kept"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_EQ(w.UsedSlots(), 1u);
  EXPECT_BYTES(w.Load(p, a, 4), "kept");
  const Pfn pfn = w.PfnAt(p, a);
  EXPECT_TRUE(w.page(pfn).dirty());
  TryVolatile(w.frames(), pfn);
  EXPECT_EQ(w.state(pfn), PageState::Sr);
}

TEST(Scenario, G98_an_object_page_in_the_swap_cache_is_refused) {
  for (const bool any : {false, true}) {
    SCOPED_TRACE(any);
    Scene w(Hinted({any ? "volatile_swapcache=any" : "volatile_swapcache=anon"}));
    const FilePtr object = w.Object(1);
    (void)w.ReadFile(object, 0, 1);
    const Pfn pfn = w.Cached(object, 0);
    ASSERT_TRUE(HoldStable(w.frames(), pfn));
    w.frames().put_page(pfn);
    w.page(pfn).flags |= PG_swapcache;
    TryVolatile(w.frames(), pfn);
    EXPECT_EQ(w.state(pfn), any ? PageState::Vr : PageState::Sr);
    w.page(pfn).flags &= ~PG_swapcache;
    w.Check();
  }
}

// One that was never written may be volatile: it is zero, and a lookup that finds it gone makes it again.
TEST(Scenario, G98_lookup_of_a_discarded_object_page_repeats) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr object = w.Object(1);
  const Vaddr a = w.Shared(p, object, 1);
  const Pfn pfn = w.ReadIn(object, 0);
  ASSERT_TRUE(w.Take(pfn));
  ASSERT_EQ(w.state(pfn), PageState::Vz);
  EXPECT_BYTES(w.ReadFile(object, 0, kPage), Zeros(kPage));
  EXPECT_TRUE(w.IsDeferred(pfn));
  EXPECT_NE(w.Cached(object, 0), pfn);
  ASSERT_TRUE(w.Take(w.Cached(object, 0)));
  ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk) << "a fault for writing repeats too";
  EXPECT_BYTES(w.ReadFile(object, 0, 4), std::string("new\0", 4));
}

}  // namespace
}  // namespace mm
