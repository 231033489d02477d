// Scenarios G43 to G46, G49 to G51, G92: the discard handler against what another CPU does to the page.
#include <gtest/gtest.h>

#include "mm/reclaim.h"
#include "mm/soft_dirty.h"
#include "tests/scenarios/hinting_fixture.h"

namespace mm {
namespace {

// Where the handler stands: with a reference only; under the page lock, before it looks at PG_discarded; and
// when it has set it, and every pte is there still.
struct HandlerPlace {
  const char* function;
  const char* name;
};
constexpr HandlerPlace kHandlerPlaces[] = {
    {"page_discard", "page lock"}, {"page_discard_locked", "PG_discarded"}, {"page_unmap_all", "PG_anon"}};
constexpr HandlerPlace kFlagSet = kHandlerPlaces[2];

// Two processes that map one page of a file, which the host has discarded.
struct TwoMappers {
  explicit TwoMappers(const Semantics& semantics = Hinted(), bool second_maps = true) : w(semantics) {
    (void)w.Load(p, a, 1);
    if (second_maps) (void)w.Load(q, b, 1);
    pfn = w.PfnAt(p, a);
    if (w.state(pfn) != PageState::Vr) (void)w.ReadIn(file, 0);  // a fault without the page lock does not try
    EXPECT_EQ(w.state(pfn), PageState::Vr);
    EXPECT_TRUE(w.Take(pfn));
  }
  std::string Original(size_t length = 16) { return w.Original(file, 0, length); }

  Scene w;
  Process& p = w.Spawn();
  Process& q = w.Spawn();
  FilePtr file = w.NewFile(2 * kPage);
  Vaddr a = w.Private(p, file, 2);
  Vaddr b = w.Private(q, file, 2);
  Pfn pfn = kNoPfn;
  std::string p_bytes;
  std::string q_bytes;
};

TEST(Scenario, G43_two_discard_faults_at_once) {
  for (const HandlerPlace& place : kHandlerPlaces) {
    SCOPED_TRACE(place.function);
    TwoMappers t;
    ASSERT_TRUE(t.w.Beside(t.w.Getting(t.p, t.a, t.p_bytes), place.function, place.name,
                           t.w.Getting(t.q, t.b, t.q_bytes)));
    EXPECT_EQ(t.w.faults(), 2u);
    EXPECT_TRUE(t.w.IsDeferred(t.pfn)) << "one removal";
    EXPECT_BYTES(t.p_bytes, t.Original());
    EXPECT_BYTES(t.q_bytes, t.Original());
    EXPECT_EQ(t.w.PfnAt(t.p, t.a), t.w.PfnAt(t.q, t.b));
  }
}

// (a) The handler is first: the truncate finds a page that belongs nowhere. Or it comes between: then it is
// the truncate's own lookup that throws the page out, and the handler finds nothing to do.
TEST(Scenario, G44_handler_before_truncate) {
  for (const HandlerPlace& place : kHandlerPlaces) {
    SCOPED_TRACE(place.function);
    TwoMappers t;
    AccessResult got;
    ASSERT_TRUE(t.w.Beside([&] { got = t.w.Get(t.p, t.a, t.p_bytes); }, place.function, place.name,
                           [&] { EXPECT_TRUE(vmtruncate(t.w.m(), *t.file, 0, kNoLimit)); }));
    EXPECT_EQ(got.outcome, Outcome::kSigbus);
    EXPECT_TRUE(t.w.IsDeferred(t.pfn)) << "one removal";
    EXPECT_EQ(t.w.Cached(t.file, 0), kNoPfn);
  }
}

// (b) The truncate's lookup made the page stable: the host keeps it, and no access meets a discard fault.
TEST(Scenario, G44_truncate_before_handler) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  (void)w.Load(p, a, 1);
  const Pfn pfn = w.PfnAt(p, a);
  AccessResult got;
  std::string bytes;
  ASSERT_TRUE(w.Beside([&] { EXPECT_TRUE(vmtruncate(w.m(), *file, 0, kNoLimit)); },
                       "truncate_inode_pages_range", "page lock",
                       [&] {
                         EXPECT_EQ(w.state(pfn), PageState::Sr);
                         EXPECT_TRUE(w.host().take(pfn));
                         EXPECT_EQ(w.state(pfn), PageState::Sp);
                         got = w.Get(p, a, bytes);
                       }));
  EXPECT_EQ(got.outcome, Outcome::kSigbus);
  EXPECT_EQ(w.faults(), 0u);
  EXPECT_EQ(w.state(pfn), PageState::Uz) << "freed at once";
  EXPECT_EQ(w.discarded().size(), 0u);
}

// Adapted: who isolates a page here holds a reference of it, and leaves it on its list. The handler takes it
// off, and nobody puts it back.
TEST(Scenario, G45_discard_of_a_page_that_reclaim_has_isolated) {
  TwoMappers t;
  ASSERT_TRUE(t.w.Beside([&] { (void)try_to_free_pages(t.w.m(), 1); }, "ShrinkTail", "page lock",
                         t.w.Getting(t.p, t.a, t.p_bytes)));
  EXPECT_TRUE(t.w.IsDeferred(t.pfn)) << "freed, and not added again";
  EXPECT_BYTES(t.p_bytes, t.Original());
  EXPECT_BYTES(t.w.Load(t.q, t.b, 16), t.Original());
}

// Reclaim has the page lock when the handler comes, or reclaim comes when the handler has it.
TEST(Scenario, G45_reclaim_and_discard_of_one_page) {
  TwoMappers first;
  ASSERT_TRUE(first.w.Beside([&] { (void)reclaim_page(first.w.m(), first.pfn); }, "try_to_unmap", "PG_anon",
                             first.w.Getting(first.p, first.a, first.p_bytes)));
  EXPECT_TRUE(first.w.IsDeferred(first.pfn));
  EXPECT_BYTES(first.p_bytes, first.Original());

  for (const HandlerPlace& place : kHandlerPlaces) {
    SCOPED_TRACE(place.function);
    TwoMappers t;
    ASSERT_TRUE(t.w.Beside(t.w.Getting(t.p, t.a, t.p_bytes), place.function, place.name,
                           [&] { (void)reclaim_page(t.w.m(), t.pfn); }));
    EXPECT_TRUE(t.w.IsDeferred(t.pfn));
    EXPECT_BYTES(t.p_bytes, t.Original());
  }
}

TEST(Scenario, G46_discard_during_the_move_from_active_to_inactive) {
  Scene w;
  const FilePtr file = w.NewFile(2 * kPage);
  (void)w.ReadIn(file, 0);
  const Pfn pfn = w.ReadIn(file, 0);
  ASSERT_NE(w.page(pfn).flags & PG_active, 0u);
  ASSERT_TRUE(w.Take(pfn));
  ASSERT_TRUE(w.Beside([&] { (void)try_to_free_pages(w.m(), 1); }, "page_referenced", "page lock",
                       [&] {
                         EXPECT_EQ(find_get_page(w.m(), file->mapping, 0), kNoPfn);
                         EXPECT_EQ(w.page(pfn).count, 1) << "of who moves it";
                         EXPECT_EQ(w.page(pfn).flags & PG_lru, 0u) << "dropped from its list";
                       }));
  EXPECT_TRUE(w.IsDeferred(pfn)) << "without PG_active, and on no list";
  EXPECT_EQ(w.frames().lru().size(Lru::kActiveFile) + w.frames().lru().size(Lru::kInactiveFile), 0u);
}

// fork, while the handler has set PG_discarded and the parent's pte is there still: the child gets what the
// handler will leave in the parent.
TEST(Scenario, G49_fork_against_the_handler_file_page) {
  TwoMappers t;
  ASSERT_EQ(t.w.Store(t.p, t.a + kPage, "mine"), Outcome::kOk);  // or the fork would copy no pte
  Process* child = nullptr;
  ASSERT_TRUE(t.w.Beside(t.w.Getting(t.q, t.b, t.q_bytes), kFlagSet.function, kFlagSet.name, [&] {
    child = t.w.m().fork(t.p.pid, 77, "child").value();
    EXPECT_EQ(t.w.PteAt(*child, t.a), Pte{});
    EXPECT_TRUE(pte_present(t.w.PteAt(t.p, t.a)));
  }));
  EXPECT_TRUE(t.w.IsDeferred(t.pfn));
  EXPECT_BYTES(t.w.Load(*child, t.a, 16), t.Original());
  EXPECT_BYTES(t.w.Load(*child, t.a + kPage, 4), "mine");
}

TEST(Scenario, G49_fork_against_the_handler_nonlinear_page) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10 * kPage);
  const Vaddr a = w.Shared(p, file, 10, 0, PROT_READ);
  ASSERT_TRUE(sys_remap_file_pages(*p.mm, a + 2 * kPage, kPage, 0, 7, 0));
  const Pfn pfn = w.MapDiscarded(p, a + 2 * kPage);
  Process* child = nullptr;
  std::string bytes;
  ASSERT_TRUE(w.Beside(w.Getting(p, a + 2 * kPage, bytes), kFlagSet.function, kFlagSet.name, [&] {
    child = w.m().fork(p.pid, 77, "child").value();
    EXPECT_EQ(w.PteAt(*child, a + 2 * kPage), pgoff_to_pte(7));
  }));
  EXPECT_TRUE(w.IsDeferred(pfn));
  EXPECT_BYTES(bytes, w.Original(file, 7 * kPage, 16));
  EXPECT_BYTES(w.Load(*child, a + 2 * kPage, 16), w.Original(file, 7 * kPage, 16));
}

TEST(Scenario, G49_fork_against_the_handler_swap_cache_page) {
  Scene w;
  Process& p = w.Spawn();
  const Vaddr a = w.InSwapCache(p, "kept");
  const Pfn pfn = w.PfnAt(p, a);
  const SwpEntry slot = w.page(pfn).slot;
  ASSERT_TRUE(w.Take(pfn));
  Process* child = nullptr;
  std::string bytes;
  ASSERT_TRUE(w.Beside([&] { EXPECT_EQ(lookup_swap_cache(w.m(), slot), kNoPfn); }, kFlagSet.function,
                       kFlagSet.name,
                       [&] {
                         child = w.m().fork(p.pid, 77, "child").value();
                         EXPECT_EQ(w.PteAt(*child, a), swp_entry_to_pte(slot));
                         EXPECT_EQ(w.m().swap->count(slot), 1u);
                       }));
  EXPECT_TRUE(w.IsDeferred(pfn));
  EXPECT_EQ(w.PteAt(p, a), swp_entry_to_pte(slot));
  EXPECT_EQ(w.m().swap->count(slot), 2u);
  EXPECT_BYTES(w.Load(p, a, 4), "kept");
  EXPECT_BYTES(w.Load(*child, a, 4), "kept");
}

// What the child is given instead of the page is soft-dirty if the page is; and so is what the handler
// leaves.
TEST(Scenario, G49_fork_against_the_handler_carries_soft_dirty) {
  for (const bool soft : {false, true}) {
    Scene w;
    Process& p = w.Spawn();
    if (soft) clear_soft_dirty(w.m());
    const Vaddr a = w.InSwapCache(p, "kept");
    if (!soft) clear_soft_dirty(w.m());
    EXPECT_EQ(soft_dirty(*p.mm, a), soft);
    const SwpEntry slot = w.PageAt(p, a).slot;
    ASSERT_TRUE(w.Take(w.PfnAt(p, a)));
    Process* child = nullptr;
    ASSERT_TRUE(w.Beside([&] { EXPECT_EQ(lookup_swap_cache(w.m(), slot), kNoPfn); }, kFlagSet.function,
                         kFlagSet.name, [&] { child = w.m().fork(p.pid, 77, "child").value(); }));
    for (Process* process : {&p, child}) {
      EXPECT_TRUE(pte_swap(w.PteAt(*process, a)));
      EXPECT_EQ(pte_swp_soft_dirty(w.PteAt(*process, a)), soft);
      EXPECT_BYTES(w.Load(*process, a, 4), "kept");
      EXPECT_EQ(soft_dirty(*process->mm, a), soft);
    }
  }
}

// A page that two processes had in swap: one has it mapped from the swap cache, the other exits, and with it
// the slot, since swap is more than half full. There the mapping one forks.
struct DeletionAgainstFork {
  explicit DeletionAgainstFork(const Semantics& semantics) : w(semantics, 8) {
    EXPECT_EQ(w.Store(p, a, "kept"), Outcome::kOk);
    EXPECT_TRUE(w.PageOut(p, a));
    const Vaddr more = w.Anon(p, 5);
    for (uint64_t i = 0; i < 5; ++i) {
      EXPECT_EQ(w.Store(p, more + i * kPage, "more"), Outcome::kOk);
      EXPECT_TRUE(w.PageOut(p, more + i * kPage));
    }
    EXPECT_TRUE(vm_swap_full(w.m()));
    other = w.Fork(p).pid;
    EXPECT_BYTES(w.Load(p, a, 4), "kept");
    EXPECT_TRUE(w.PageAt(p, a).swapcache());
  }
  // Stops before PG_discarded may be cleared again.
  void Run(const Cpus::Job& looks) {
    Cpus cpus(2);
    StopBefore scheduler(0, "page_discarded", kPageStateName);
    const std::vector<Cpus::Job> jobs = {[&] { w.m().exit(other); },
                                         [&] {
                                           child = w.m().fork(p.pid, 77, "child").value();
                                           looks();
                                         }};
    const auto failure = cpus.Run(jobs, scheduler);
    ASSERT_FALSE(failure) << failure->what;
    EXPECT_TRUE(scheduler.stopped());
  }

  Scene w;
  Process& p = w.Spawn();
  Vaddr a = w.Anon(p, 1);
  Pid other = 0;
  Process* child = nullptr;
};

TEST(Scenario, G50_fork_against_a_deletion_from_the_swap_cache) {
  DeletionAgainstFork d(Hinted());
  d.Run([&] { EXPECT_TRUE(pte_present(d.w.PteAt(*d.child, d.a))); });
  d.w.Check();
  EXPECT_FALSE(d.w.PageAt(d.p, d.a).swapcache());
  EXPECT_BYTES(d.w.Load(*d.child, d.a, 4), "kept");
  EXPECT_BYTES(d.w.Load(d.p, d.a, 4), "kept");
}

// As published a page on its way out of the swap cache looks like a discarded one, and the child gets the
// entry of a slot that the page has not any more: its bytes are lost.
TEST(Scenario, G50_published_fork_makes_a_swap_entry_up) {
  DeletionAgainstFork d(Hinted({"removal_flag=transient"}));
  d.Run([&] { EXPECT_TRUE(pte_swap(d.w.PteAt(*d.child, d.a))); });
  EXPECT_NE(Validate(d.w.m(), Depth::kDeep), std::nullopt);
  EXPECT_EQ(d.w.m().touch(*d.child, d.a, 1, Write::kNo).outcome, Outcome::kSigbus);
  *d.child->mm->pgtable.find(d.a) = {};
  EXPECT_BYTES(d.w.Load(d.p, d.a, 4), "kept");
}

// A fault that holds no page lock is about to install a pte, under its page_table_lock, while the handler
// looks for ptes: it waits for that lock. If the flag is set by then the fault backs out, ...
TEST(Scenario, G51_the_handler_is_first_and_the_fault_backs_out) {
  TwoMappers t(Hinted({"truncate_race=truncate_count"}), false);
  ASSERT_TRUE(t.w.Beside(t.w.Getting(t.q, t.b, t.q_bytes), "InstallFilePage", "PG_discarded",
                         t.w.Getting(t.p, t.a, t.p_bytes)));
  EXPECT_TRUE(t.w.IsDeferred(t.pfn));
  EXPECT_BYTES(t.q_bytes, t.Original());
  EXPECT_BYTES(t.p_bytes, t.Original());
  EXPECT_EQ(t.w.faults(), 1u) << "the fault's page was not touched";
}

// ... and if not, the handler finds the new pte. (That it is lost where the handler looks without the lock is
// shown by tests/planted: Bug::kUnmapLooksWithoutLock.)
TEST(Scenario, G51_the_fault_is_first_and_the_handler_finds_its_pte) {
  for (const char* place : {"page_add_file_rmap", "InstallFilePage"}) {
    SCOPED_TRACE(place);
    TwoMappers t(Hinted({"truncate_race=truncate_count"}), false);
    ASSERT_TRUE(t.w.Beside(t.w.Getting(t.q, t.b, t.q_bytes), place,
                           place[0] == 'p' ? "pte_chain_lock" : "pte", t.w.Getting(t.p, t.a, t.p_bytes)));
    EXPECT_TRUE(t.w.IsDeferred(t.pfn));
    EXPECT_BYTES(t.q_bytes, t.Original());
    EXPECT_BYTES(t.p_bytes, t.Original());
  }
}

// The handler comes when the fault has looked the page up. With the page lock the fault looks again when it
// has it; without, it finds PG_discarded under the page_table_lock.
TEST(Scenario, G92_minor_fault_against_the_handler) {
  const std::pair<const char*, HandlerPlace> cases[] = {
      {"truncate_race=page_lock", {"find_lock_page", "page lock"}},
      {"truncate_race=truncate_count", {"DoFault", "page_table_lock"}}};
  for (const auto& [rule, place] : cases) {
    SCOPED_TRACE(rule);
    TwoMappers t(Hinted({rule}), false);
    VmFault fault = VM_FAULT_OOM;
    ASSERT_TRUE(t.w.Beside([&] { fault = t.w.Fault(t.q, t.b, Write::kNo); }, place.function, place.name,
                           t.w.Getting(t.p, t.a, t.p_bytes)));
    EXPECT_EQ(fault & VM_FAULT_ERROR, 0u);
    EXPECT_TRUE(t.w.IsDeferred(t.pfn));
    const bool looked_again = t.w.m().sem().truncate_race == TruncateRace::kPageLock;
    EXPECT_EQ(pte_present(t.w.PteAt(t.q, t.b)), looked_again);
    if (looked_again) {
      EXPECT_NE(t.w.PfnAt(t.q, t.b), t.pfn);
    }
    EXPECT_BYTES(t.w.Load(t.q, t.b, 16), t.Original());
  }
}

TEST(Scenario, G92_swap_in_against_the_handler) {
  Scene w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "kept"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  Process& child = w.Fork(p);
  const Pfn pfn = w.MapDiscarded(p, a);
  VmFault fault = VM_FAULT_OOM;
  std::string bytes;
  ASSERT_TRUE(w.Beside([&] { fault = w.Fault(child, a, Write::kNo); }, "DoSwapPage", "page lock",
                       w.Getting(p, a, bytes)));
  EXPECT_EQ(fault & VM_FAULT_ERROR, 0u);
  EXPECT_TRUE(pte_swap(w.PteAt(child, a))) << "not mapped";
  EXPECT_TRUE(w.IsDeferred(pfn));
  EXPECT_EQ(bytes.substr(0, 4), "kept");
  EXPECT_BYTES(w.Load(child, a, 4), "kept");
}

}  // namespace
}  // namespace mm
