// Scenarios G31 to G37: make_volatile against make_stable, and lookups of discarded pages.
#include <gtest/gtest.h>

#include "mm/explore.h"
#include "tests/scenarios/hinting_fixture.h"

namespace mm {
namespace {

// A file page that only its cache knows of: volatile.
struct OnePage {
  explicit OnePage(const Semantics& semantics = Hinted()) : w(semantics) {}
  Frames& frames() { return w.frames(); }
  // Made stable by nobody in particular.
  void MakeStable() {
    EXPECT_TRUE(HoldStable(frames(), pfn));
    frames().put_page(pfn);
    EXPECT_EQ(w.state(pfn), PageState::Sr);
  }
  // A caller that keeps the page if it can, until Drop(), and throws it out if it was told that it is gone.
  void Hold() {
    ok = HoldStable(frames(), pfn);
    seen = w.state(pfn);
    if (!ok) return page_discard(w.m(), pfn);
    held = {pfn};
    ++w.m().pins[pfn];
  }
  void Drop() { unpin_user_pages(w.m(), held); }

  Scene w;
  FilePtr file = w.NewFile(16 * kPage);
  Pfn pfn = w.ReadIn(file, 3);
  bool ok = false;
  PageState seen = PageState::Sr;
  std::vector<Pfn> held;
};

// The checks were passed, and then the other CPU takes its reference: it waits until the page is volatile.
TEST(Scenario, G31_make_stable_waits_for_make_volatile) {
  OnePage o;
  o.MakeStable();
  const uint64_t transitions = o.w.host().stat().transitions;
  ASSERT_TRUE(
      o.w.Beside([&] { TryVolatile(o.frames(), o.pfn); }, "TryVolatile", kPageStateName, [&] { o.Hold(); }));
  EXPECT_TRUE(o.ok);
  EXPECT_EQ(o.seen, PageState::Sr);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Sr);
  EXPECT_EQ(o.w.host().stat().transitions, transitions + 2) << "volatile, and then stable";
  o.Drop();
}

TEST(Scenario, G31_a_reference_taken_first_refuses) {
  OnePage o;
  o.MakeStable();
  const uint64_t transitions = o.w.host().stat().transitions;
  ASSERT_TRUE(
      o.w.Beside([&] { o.Hold(); }, "HoldStable", "state_change", [&] { TryVolatile(o.frames(), o.pfn); }));
  EXPECT_TRUE(o.ok);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Sr);
  EXPECT_EQ(o.w.host().stat().transitions, transitions) << "never volatile";
  o.Drop();
}

// CPU 0 makes it volatile, CPU 1 stable; CPU 2, if there is one, is the host.
class StableRace final : public Race {
 public:
  StableRace() { o_.MakeStable(); }
  void Run(unsigned cpu) override {
    if (cpu == 0) return TryVolatile(o_.frames(), o_.pfn);
    if (cpu == 1) return o_.Hold();
    racy_change(page_state_object(o_.w.page(o_.pfn)), "host");
    (void)o_.w.host().take(o_.pfn);
  }
  std::optional<std::string> Check() override {
    const PageState state = o_.w.state(o_.pfn);
    if (!o_.ok) {
      // Nobody but the host can make it fail, and then it is out of its cache.
      const bool gone = o_.seen == PageState::Vz && HintedWorld::Cached(o_.file, 3) == kNoPfn;
      return gone ? std::nullopt : std::optional<std::string>("it failed, and the page is there");
    }
    o_.Drop();
    if (UsageOf(o_.seen) != Usage::kStable || UsageOf(state) != Usage::kStable)
      return std::string("said to be stable, and is ") + PageStateName(state);
    return Validate(o_.w.m(), Depth::kDeep);
  }

 private:
  OnePage o_;
};

TEST(Scenario, G31_every_interleaving) {
  ExploreOptions options;
  options.preemptions = 4;
  const Explored explored = ExploreAll([] { return std::make_unique<StableRace>(); }, options);
  EXPECT_FALSE(explored.failure) << explored.Report();
  EXPECT_TRUE(explored.complete);
  EXPECT_GT(explored.schedules, 4u);
}

TEST(Scenario, G32_the_host_comes_between) {
  OnePage o;
  o.MakeStable();
  ASSERT_TRUE(o.w.OnCpus({[&] { TryVolatile(o.frames(), o.pfn); }, [&] { o.Hold(); },
                          [&] { EXPECT_TRUE(o.w.host().take(o.pfn)); }},
                         {{0, "TryVolatile", kPageStateName}, {1, "HoldStable", kPageStateName}}));
  EXPECT_FALSE(o.ok);
  EXPECT_EQ(o.seen, PageState::Vz) << "it stays discarded";
  EXPECT_EQ(o.w.Cached(o.file, 3), kNoPfn);
  EXPECT_TRUE(o.w.IsDeferred(o.pfn));
  EXPECT_BYTES(o.w.ReadFile(o.file, 3 * kPage, kPage), o.w.Original(o.file, 3 * kPage, kPage));
}

TEST(Scenario, G32_every_interleaving_with_a_host) {
  ExploreOptions options;
  options.cpus = 3;
  const Explored explored = ExploreAll([] { return std::make_unique<StableRace>(); }, options);
  EXPECT_FALSE(explored.failure) << explored.Report();
  EXPECT_TRUE(explored.complete);
  EXPECT_GT(explored.schedules, 4u);
}

// Whoever has neither a reference nor the page lock was told nothing that lasts.
TEST(Scenario, G33_make_stable_without_a_reference) {
  OnePage o;
  bool ok = false;
  ASSERT_TRUE(o.w.OnCpus({[&] {
                            ok = page_make_stable(o.frames(), o.pfn);
                            TryVolatile(o.frames(), o.pfn);  // another CPU's, at any time after
                          },
                          [&] { EXPECT_EQ(o.w.state(o.pfn), PageState::Sr); }},
                         {{0, "TryVolatile"}}));
  EXPECT_TRUE(ok);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Vr) << "the host may have it after all";
}

// Takes the interrupt that is pending where CPU 0 stands with state_change in its hands.
class InterruptInside final : public Scheduler {
 public:
  size_t Choose(Cpus& cpus) override {
    const bool inside = PlaceOf(cpus.op(0)).find("change page state (TryVolatile,") == 0;
    for (size_t i = 0; i < cpus.choices().size(); ++i) {
      if ((cpus.choices()[i].irq != Irq::kCount) == inside) return i;
    }
    return 0;
  }
};

TEST(Scenario, G34_an_interrupt_tries_while_state_change_is_held) {
  OnePage o;
  o.MakeStable();
  Cpus cpus(1);
  InterruptInside scheduler;
  bool held = false;
  const std::vector<Cpus::Job> jobs = {[&] {
    t_cpus->Raise(0, Irq::kEndOfIo, [&] {
      held = (o.w.page(o.pfn).flags & PG_state_change) != 0;
      page_make_volatile(o.frames(), o.pfn, 1);
      EXPECT_EQ(o.w.state(o.pfn), PageState::Sr) << "it does nothing";
    });
    TryVolatile(o.frames(), o.pfn);
  }};
  const auto failure = cpus.Run(jobs, scheduler);
  ASSERT_FALSE(failure) << failure->what;
  EXPECT_TRUE(held);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Vr) << "who was interrupted goes on";
}

// A gang lookup takes the pages one after the other here: there is nothing to start again, and the references
// of those before are the caller's.
TEST(Scenario, G35_lookups_one_after_the_other) {
  OnePage o;
  std::vector<Pfn> pages;
  for (Pgoff index = 0; index < 14; ++index) pages.push_back(o.w.ReadIn(o.file, index));
  ASSERT_TRUE(o.w.Take(pages[5]));
  Pgoff next = 0;
  std::vector<Pgoff> found;
  for (Pfn pfn; (pfn = find_get_next_page(o.w.m(), o.file->mapping, &next, 14)) != kNoPfn;) {
    found.push_back(next - 1);
    EXPECT_EQ(o.w.page(pfn).count, 2);
    EXPECT_EQ(o.w.state(pfn), PageState::Sr);
    o.frames().put_page(pfn);
    EXPECT_EQ(o.w.page(pfn).count, 1);
  }
  EXPECT_EQ(found, (std::vector<Pgoff>{0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13}));
  EXPECT_EQ(o.w.Cached(o.file, 5), kNoPfn);
  EXPECT_TRUE(o.w.IsDeferred(pages[5]));
  o.w.Check();
}

TEST(Scenario, G36_lookup_of_a_discarded_page) {
  OnePage o;
  ASSERT_TRUE(o.w.Take(o.pfn));
  Mapping& mapping = o.file->mapping;
  for (const bool locked : {false, true}) {
    const Pfn found = locked ? find_lock_page(o.w.m(), mapping, 3, CacheLookup::kNoDiscard)
                             : find_get_page(o.w.m(), mapping, 3, CacheLookup::kNoDiscard);
    EXPECT_EQ(found, o.pfn);
    EXPECT_EQ(o.w.state(o.pfn), PageState::Vz);
    if (locked) o.w.UnlockPage(found);
    o.frames().put_page(found);
    o.w.Check();
  }
  EXPECT_EQ(find_get_page(o.w.m(), mapping, 3), kNoPfn);
  EXPECT_EQ(o.w.Cached(o.file, 3), kNoPfn);
  EXPECT_TRUE(o.w.IsDeferred(o.pfn));
  EXPECT_EQ(find_get_page(o.w.m(), mapping, 3), kNoPfn);
}

// The second comes while the first has a reference only, and while it is at work under the page lock.
TEST(Scenario, G37_two_lookups_of_one_discarded_page) {
  const std::pair<const char*, const char*> places[] = {
      {"page_discard", "page lock"}, {"page_discard_locked", "PG_discarded"}, {"page_unmap_all", ""}};
  for (const auto& [function, name] : places) {
    SCOPED_TRACE(function);
    OnePage o;
    ASSERT_TRUE(o.w.Take(o.pfn));
    Pfn found[2] = {o.pfn, o.pfn};
    const auto look = [&](unsigned cpu) { found[cpu] = find_get_page(o.w.m(), o.file->mapping, 3); };
    ASSERT_TRUE(o.w.Beside([&] { look(0); }, function, name, [&] { look(1); }));
    EXPECT_EQ(found[0], kNoPfn);
    EXPECT_EQ(found[1], kNoPfn);
    EXPECT_EQ(o.w.Cached(o.file, 3), kNoPfn);
    EXPECT_TRUE(o.w.IsDeferred(o.pfn)) << "the cache's reference went once";
  }
}

}  // namespace
}  // namespace mm
