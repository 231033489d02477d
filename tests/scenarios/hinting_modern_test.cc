// Scenarios A01 to A08: what became of page hinting elsewhere, as far as this machine has a call for it.
#include <gtest/gtest.h>

#include "mm/page_states.h"
#include "tests/mm/bare_host.h"

namespace mm {
namespace {

using enum PageState;
constexpr Pfn kPfn{5};

// There is no MADV_FREE in 2.6.34. Potentially volatile is its idea: of an object's pages, what was written
// since is kept, and others read as zero.
TEST(Scenario, A01_kept_if_written) {
  HintedWorld w;
  Process& p = w.Spawn();
  const FilePtr object = w.machine().create_shmem("object", 2 * kPage);
  const Vaddr a = w.Shared(p, object, 2);
  constexpr int kMadvFree = 8;
  EXPECT_EQ(w.Advise(p, a, 2, kMadvFree).error().err, EINVAL);
  for (const Vaddr at : {a, a + kPage}) {
    ASSERT_EQ(w.TryLoad(p, at), Outcome::kOk);
    page_make_volatile(w.frames(), w.PfnAt(p, at), 1);
    ASSERT_EQ(w.state(w.PfnAt(p, at)), Pr);
  }
  ASSERT_EQ(w.Store(p, a, "written"), Outcome::kOk);
  ASSERT_TRUE(w.Take(w.PfnAt(p, a)));
  ASSERT_TRUE(w.Take(w.PfnAt(p, a + kPage)));
  EXPECT_EQ(w.state(w.PfnAt(p, a)), Sp);
  EXPECT_EQ(w.state(w.PfnAt(p, a + kPage)), Vz);
  EXPECT_BYTES(w.Load(p, a, 7), "written");
  EXPECT_BYTES(w.Load(p, a + kPage, 7), Zeros(7));
}

// The host knows pages, and no ranges that could merge or split. Unpinned is volatile; pinned is stable, with
// the answer whether the page was purged.
struct Object {
  explicit Object(uint64_t pages) {
    for (uint32_t i = 0; i < pages; ++i) b.Bring(Pfn{10 + i}, Sr);
  }
  void Unpin(uint32_t first, uint32_t last) {
    for (uint32_t i = first; i <= last; ++i) b.host().essa(Pfn{10 + i}, Request::kSetVolatile);
  }
  bool WasPurged(uint32_t first, uint32_t last) {
    bool purged = false;
    for (uint32_t i = first; i <= last; ++i) {
      if (page_set_stable_if_present(b.frames, Pfn{10 + i})) continue;
      purged = true;
      page_set_unused(b.frames, Pfn{10 + i});  // the guest takes it out, and gets a new one
      page_set_stable(b.frames, Pfn{10 + i});
    }
    return purged;
  }
  BareHost b;
};

TEST(Scenario, A02_unpinned_pages_are_purged) {
  Object o(8);
  o.Unpin(0, 3);
  o.Unpin(2, 7);
  for (uint32_t i = 0; i < 8; ++i) ASSERT_TRUE(o.b.host().take(Pfn{10 + i}));
  EXPECT_TRUE(o.WasPurged(2, 4));
  EXPECT_FALSE(o.WasPurged(2, 4)) << "it is said once";
  EXPECT_TRUE(o.WasPurged(0, 1)) << "and of the others still to be said";
  EXPECT_TRUE(o.WasPurged(5, 7));
}

TEST(Scenario, A03_unpinned_twice_and_never) {
  Object o(4);
  o.Unpin(0, 3);
  const uint64_t transitions = o.b.host().stat().transitions;
  o.Unpin(1, 2);
  EXPECT_EQ(o.b.host().stat().transitions, transitions) << "nothing happens";
  EXPECT_FALSE(o.WasPurged(0, 3));
  EXPECT_FALSE(o.WasPurged(0, 3)) << "what was never unpinned";
}

// "Purged" is said by the request that makes a page stable, in one step, and the page stays purged until the
// guest has taken it out: nobody can miss it. Ranges, and how they merge, are not the machine's.
TEST(Scenario, A04_purge_status) {
  BareHost b;
  b.Bring(kPfn, Vr);
  EXPECT_TRUE(page_set_stable_if_present(b.frames, kPfn)) << "not purged";
  EXPECT_EQ(b.state(kPfn), Sr) << "and cannot be any more";
  b.Bring(kPfn, Vr);
  ASSERT_TRUE(b.host().take(kPfn));
  EXPECT_FALSE(page_set_stable_if_present(b.frames, kPfn));
  EXPECT_FALSE(page_set_stable_if_present(b.frames, kPfn));
  EXPECT_EQ(b.state(kPfn), Vz);
}

// A page that two processes share by a fork is dropped only if none of the two needs it: one that works on
// it by a reference, as a user of the page that is not volatile would, keeps it.
TEST(Scenario, A05_shared_by_fork) {
  HintedWorld w(Hinted(), 4096, 64);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "shared"), Outcome::kOk);
  Process& child = w.Fork(p);
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_BYTES(w.Load(p, a, 6), "shared");
  EXPECT_BYTES(w.Load(child, a, 6), "shared");
  const Pfn pfn = w.PfnAt(p, a);
  ASSERT_EQ(w.PfnAt(child, a), pfn);
  std::vector<Pfn> pins = get_user_pages(*child.mm, a, 1, Write::kNo, Force::kNo).value();
  page_make_volatile(w.frames(), pfn, 1);
  EXPECT_EQ(w.state(pfn), Sr) << "the child needs it";
  unpin_user_pages(w.machine(), pins);
  page_make_volatile(w.frames(), pfn, 1);
  ASSERT_EQ(w.state(pfn), Vr);
  ASSERT_TRUE(w.Take(pfn));
  EXPECT_BYTES(w.Load(child, a, 6), "shared") << "from its slot";
  EXPECT_BYTES(w.Load(p, a, 6), "shared");
}

// Free frames are reported one by one, as they are freed; there is no batch that could be under report.
TEST(Scenario, A06_free_frames_are_reported) {
  HintedWorld w(Hinted(), 64);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 8);
  std::vector<Pfn> pages;
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(w.Store(p, a + i * kPage, "old"), Outcome::kOk);
    pages.push_back(w.PfnAt(p, a + i * kPage));
  }
  ASSERT_TRUE(w.Unmap(p, a, 8));
  for (const Pfn pfn : pages) {
    ASSERT_EQ(w.state(pfn), Ur);
    ASSERT_TRUE(w.Take(pfn));
    EXPECT_EQ(w.state(pfn), Uz);
  }
  const uint64_t written = w.host().stat().paged_out;
  const Vaddr b = w.Anon(p, 8);
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(w.Store(p, b + i * kPage, "n"), Outcome::kOk);
    EXPECT_THAT(pages, testing::Contains(w.PfnAt(p, b + i * kPage))) << "they can be allocated again";
    EXPECT_BYTES(w.Load(p, b + i * kPage, 3), std::string("n\0\0", 3));
  }
  EXPECT_EQ(written, 0u) << "nothing was worth a write";
}

TEST(Scenario, A07_requests_for_what_is_not_resident) {
  BareHost b;
  for (const PageState from : {Vz, Uz, Sz, Sp}) {
    b.Bring(kPfn, from);
    b.host().essa(kPfn, Request::kSetStableMakeResident);
    EXPECT_EQ(UsageOf(b.state(kPfn)), Usage::kStable) << PageStateName(from);
    EXPECT_NE(ResidenceOf(b.state(kPfn)), Residence::kResident) << PageStateName(from);
  }
  for (const PageState from : {Vz, Uz, Sz, Sp}) {
    b.Bring(kPfn, from);
    EXPECT_EQ(b.host().essa(kPfn, Request::kSetStableIfPresent), from != Vz);
    EXPECT_EQ(b.state(kPfn), from) << "nothing changes";
  }
}

// The host tracks no writes for a migration: there is nothing else to be cleared.
TEST(Scenario, A08_guest_reset) {
  BareHost b;
  for (size_t i = 0; i < kPageStates; ++i) b.Bring(Pfn{static_cast<uint32_t>(20 + i)}, kAllPageStates[i]);
  b.host().reset();
  for (size_t i = 0; i < kPageStates; ++i) {
    const PageState state = b.state(Pfn{static_cast<uint32_t>(20 + i)});
    EXPECT_EQ(UsageOf(state), Usage::kStable);
    EXPECT_EQ(ResidenceOf(state), ResidenceOf(kAllPageStates[i]));
  }
  EXPECT_EQ(b.host().count(Sr) + b.host().count(Sp) + b.host().count(Sz), 28u);
}

}  // namespace
}  // namespace mm
