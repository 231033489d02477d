// Checkpoints of a machine whose host discards pages: C40.
#include "mm/host.h"
#include "tests/mm/hinting_world.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

constexpr uint64_t kMemory = 256;  // pages
constexpr uint64_t kSwap = 64;

// What a checkpoint must leave alone.
struct Untouched {
  explicit Untouched(HintedWorld& world) : w(world), stat(world.host().stat()) {
    for (uint32_t i = 0; i < w.frames().high_water(); ++i) states.push_back(w.state(Pfn{i}));
    reads = w.machine().vmstat.pgpgin + w.machine().vmstat.pswpin;
  }
  void Expect(Where at = Where::current()) {
    SCOPED_TRACE(testing::Message() << "line " << at.line());
    EXPECT_EQ(w.frames().high_water(), states.size());
    for (uint32_t i = 0; i < states.size(); ++i) EXPECT_EQ(w.state(Pfn{i}), states[i]) << "frame " << i;
    EXPECT_EQ(w.host().stat().requests, stat.requests);
    EXPECT_EQ(w.host().stat().backed, stat.backed);
    EXPECT_EQ(w.host().stat().paged_in, stat.paged_in);
    EXPECT_EQ(w.machine().host->stat().discard_faults, 0u);
    EXPECT_EQ(w.machine().vmstat.pgpgin + w.machine().vmstat.pswpin, reads) << "nothing was read into memory";
  }
  HintedWorld& w;
  HostStat stat;
  std::vector<PageState> states;
  uint64_t reads = 0;
};

// A page of a private file mapping that was never modified and is gone: clean, without a look at it.
TEST(Scenario, C40_discarded_page_of_a_file_is_clean) {
  HintedWorld w(Hinted(), kMemory, kSwap);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  (void)w.Load(p, a, 3 * kPage);
  ASSERT_EQ(w.state(w.PfnAt(p, a)), PageState::Vr);
  ASSERT_TRUE(w.Take(w.PfnAt(p, a + kPage)));
  ASSERT_EQ(w.state(w.PfnAt(p, a + kPage)), PageState::Vz);
  ASSERT_EQ(w.Store(p, a + 2 * kPage, "mine"), Outcome::kOk);
  Untouched before(w);
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  before.Expect();
  EXPECT_EQ(trip.Saved(a), "2");
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a + kPage, kPage), w.Original(file, kPage, kPage));
  EXPECT_BYTES(box->Load(a + 2 * kPage, 4), "mine");
}

// A modified page of the vma is anonymous; if it is in the swap cache and gone, its slot is read.
TEST(Scenario, C40_discarded_page_of_the_swap_cache_is_read_from_its_slot) {
  HintedWorld w(Hinted(), kMemory, kSwap);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  const Vaddr anon = w.Anon(p, 1);
  ASSERT_EQ(anon, a - kPage);
  ASSERT_EQ(w.Store(p, a, "mine"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, anon, "anon"), Outcome::kOk);
  for (const Vaddr addr : {a, anon}) {
    ASSERT_TRUE(w.PageOut(p, addr));
    (void)w.Load(p, addr, 1);
    ASSERT_EQ(w.state(w.PfnAt(p, addr)), PageState::Vr);
  }
  ASSERT_TRUE(w.Take(w.PfnAt(p, a)));
  ASSERT_TRUE(w.Take(w.PfnAt(p, anon)));
  Untouched before(w);
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  before.Expect();
  EXPECT_EQ(trip.Saved(anon), "0-1");
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a, kPage), "mine" + w.Original(file, 4, kPage - 4));
  EXPECT_BYTES(box->Load(anon, 4), "anon");
  EXPECT_BYTES(w.Load(p, a, 4), "mine");
}

// A swap entry whose page another process has mapped: volatile, and gone.
TEST(Scenario, C40_swap_entry_whose_page_is_discarded) {
  HintedWorld w(Hinted(), kMemory, kSwap);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "kept"), Outcome::kOk);
  Process& child = w.Fork(p);
  ASSERT_TRUE(w.PageOut(p, a));
  (void)w.Load(child, a, 1);
  ASSERT_TRUE(pte_swap(w.PteAt(p, a)));
  ASSERT_TRUE(w.Take(w.PfnAt(child, a)));
  ASSERT_EQ(w.state(w.PfnAt(child, a)), PageState::Vz);
  Untouched before(w);
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  before.Expect();
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a, 4, p.pid), "kept");
  EXPECT_BYTES(box->Load(a, 4, child.pid), "kept");
}

// What the host has paged out is read where it is.
TEST(Scenario, C40_page_that_the_host_has_paged_out) {
  HintedWorld w(Hinted(), kMemory, kSwap);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "paged"), Outcome::kOk);
  ASSERT_TRUE(w.Take(w.PfnAt(p, a)));
  ASSERT_EQ(w.state(w.PfnAt(p, a)), PageState::Sp);
  Untouched before(w);
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  before.Expect();
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a, 5), "paged");
}

// The seed's own way faults in what it dumps, and only that: a clean page is not reloaded to find it clean.
TEST(Scenario, C40_get_dirty_page) {
  HintedWorld w(Hinted({"swap_dump=swap_in"}), kMemory, kSwap);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  ASSERT_EQ(w.Store(p, a, "mine"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  (void)w.Load(p, a, 2 * kPage);
  const Pfn modified = w.PfnAt(p, a);
  const Pfn clean = w.PfnAt(p, a + kPage);
  ASSERT_TRUE(w.Take(modified));
  ASSERT_TRUE(w.Take(clean));
  const uint64_t major = p.mm->maj_flt;
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  EXPECT_EQ(trip.Saved(a), "0");
  EXPECT_EQ(w.state(clean), PageState::Vz);
  EXPECT_EQ(w.PfnAt(p, a + kPage), clean);
  EXPECT_EQ(p.mm->maj_flt, major + 1) << "the modified one came back from swap";
  EXPECT_NE(w.PfnAt(p, a), modified);
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a, 4), "mine");
  EXPECT_BYTES(box->Load(a + kPage, kPage), w.Original(file, kPage, kPage));
}

}  // namespace
}  // namespace mm
