// Scenarios G75 to G85: writable ptes of pages that could be volatile.
//
// Adapted: a write fault on a shared file makes its page dirty, and so stable, at once (2.6.34). A clean page
// gets a writable pte in an object (shmem), whose shared mappings are not told of writes; or where a page
// stays in the swap cache that is written again (2.6.18).
#include <gtest/gtest.h>

#include "tests/scenarios/hinting_fixture.h"

namespace mm {
namespace {

// A page of an object that was never written, mapped read-only by two processes: volatile.
struct ObjectPage {
  explicit ObjectPage(const Semantics& semantics = Hinted()) : w(semantics) {
    (void)w.Load(p, a, 1);
    (void)w.Load(q, b, 1);
    pfn = w.ReadIn(object, 0);
    EXPECT_EQ(w.state(pfn), PageState::Vr);
    EXPECT_EQ(w.page(pfn).mapcount, 2);
  }
  // The pte of the first, or of both: no fault, but mprotect.
  void MakeWritable(Process& process, Vaddr addr) {
    EXPECT_TRUE(w.Protect(process, addr, 1, kReadWrite));
    EXPECT_TRUE(pte_write(w.PteAt(process, addr)));
  }
  void Retry() { TryVolatile(w.frames(), pfn); }

  Scene w;
  Process& p = w.Spawn();
  Process& q = w.Spawn();
  FilePtr object = w.Object(2);
  Vaddr a = w.Shared(p, object, 1, 0, PROT_READ);
  Vaddr b = w.Shared(q, object, 1, 0, PROT_READ);
  Pfn pfn = kNoPfn;
};

TEST(Scenario, G75_first_writable_pte) {
  ObjectPage o;
  o.MakeWritable(o.p, o.a);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Pr);
  EXPECT_TRUE(o.w.Writable(o.pfn));
  // What is written is kept: the host preserves what was changed.
  ASSERT_EQ(o.w.Store(o.p, o.a, "new"), Outcome::kOk);
  ASSERT_TRUE(o.w.Take(o.pfn));
  EXPECT_EQ(o.w.state(o.pfn), PageState::Sp);
  EXPECT_BYTES(o.w.Load(o.q, o.b, 3), "new");
}

TEST(Scenario, G75_reuse_of_a_page_that_stays_in_the_swap_cache) {
  Scene w(Hinted({"reuse_rule=mapcount_keep_slot"}));
  Process& p = w.Spawn();
  const Vaddr a = w.InSwapCache(p, "old");
  const Pfn pfn = w.PfnAt(p, a);
  ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk);
  EXPECT_EQ(w.PfnAt(p, a), pfn);
  EXPECT_EQ(w.state(pfn), PageState::Pr);
  EXPECT_TRUE(w.Writable(pfn));
  ASSERT_TRUE(w.Take(pfn));
  EXPECT_EQ(w.state(pfn), PageState::Sp) << "changed, so it is preserved";
  EXPECT_BYTES(w.Load(p, a, 3), "new");
}

TEST(Scenario, G75_write_fault_on_a_shared_file) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Shared(p, file, 1);
  (void)w.Load(p, a, 1);
  const Pfn pfn = w.PfnAt(p, a);
  ASSERT_EQ(w.state(pfn), PageState::Vr);
  ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk);
  EXPECT_TRUE(w.page(pfn).dirty());
  EXPECT_TRUE(w.Writable(pfn));
  EXPECT_EQ(w.state(pfn), PageState::Sr) << "not potentially volatile: the fault's own reference, and dirty";
}

TEST(Scenario, G76_second_writable_pte) {
  ObjectPage o;
  o.MakeWritable(o.p, o.a);
  const uint64_t requests = o.w.requests();
  o.MakeWritable(o.q, o.b);
  CheckWritable(o.w.frames(), o.pfn);
  EXPECT_EQ(o.w.requests(), requests);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Pr);
}

TEST(Scenario, G77_pg_writable_goes_with_the_last_mapping) {
  ObjectPage o;
  o.MakeWritable(o.p, o.a);
  ASSERT_TRUE(o.w.Unmap(o.p, o.a, 1));
  EXPECT_TRUE(o.w.Writable(o.pfn)) << "a read-only pte is left";
  o.Retry();
  EXPECT_EQ(o.w.state(o.pfn), PageState::Pr);
  ASSERT_TRUE(o.w.Unmap(o.q, o.b, 1));
  EXPECT_FALSE(o.w.Writable(o.pfn));
  EXPECT_EQ(o.w.state(o.pfn), PageState::Pr) << "that alone changes no state";
  o.Retry();
  EXPECT_EQ(o.w.state(o.pfn), PageState::Vr);
}

TEST(Scenario, G78_last_unmap_while_state_change_is_held) {
  ObjectPage o;
  ASSERT_TRUE(o.w.Unmap(o.q, o.b, 1));
  o.MakeWritable(o.p, o.a);
  ASSERT_TRUE(o.w.Beside([&] { o.Retry(); }, "TryVolatile", kPageStateName,
                         [&] { EXPECT_TRUE(sys_munmap(*o.p.mm, o.a, kPage)); }));
  EXPECT_EQ(o.w.page(o.pfn).mapcount, 0);
  EXPECT_TRUE(o.w.Writable(o.pfn)) << "the safe direction";
  o.Retry();
  EXPECT_EQ(o.w.state(o.pfn), PageState::Pr);
}

// Two faults that install a writable pte each, without the page lock; each has a reference that the other
// does not know of. Validate (INV-G8) sees that the page is not volatile with one.
TEST(Scenario, G79_two_writable_ptes_at_once) {
  for (const char* place : {"PG_writable", "state_change", kPageStateName, "page count"}) {
    SCOPED_TRACE(place);
    Scene w(Hinted({"truncate_race=truncate_count"}));
    Process& p = w.Spawn();
    Process& q = w.Spawn();
    const FilePtr object = w.Object(1);
    const Vaddr a = w.Shared(p, object, 1);
    const Vaddr b = w.Shared(q, object, 1);
    const Pfn pfn = w.ReadIn(object, 0);
    ASSERT_EQ(w.state(pfn), PageState::Vr);
    std::string bytes[2];
    ASSERT_TRUE(w.Beside(w.Getting(p, a, bytes[0]), "InstallFilePage", place, w.Getting(q, b, bytes[1])));
    EXPECT_TRUE(pte_write(w.PteAt(p, a)) && pte_write(w.PteAt(q, b)));
    EXPECT_TRUE(w.Writable(pfn));
    EXPECT_NE(w.state(pfn), PageState::Vr);
    // Later it may be tried again.
    TryVolatile(w.frames(), pfn);
    EXPECT_EQ(w.state(pfn), PageState::Pr);
  }
}

// The counts are wrong while the other's reference is there: stable, and the retry fails too.
TEST(Scenario, G79_counts_are_wrong_on_one) {
  ObjectPage o;
  o.w.frames().get_page(o.pfn);
  const uint64_t requests = o.w.requests();
  CheckWritable(o.w.frames(), o.pfn);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Sr);
  EXPECT_EQ(o.w.requests(), requests + 1);
  page_cache_release(o.w.frames(), o.pfn);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Pr) << "at the release";
}

TEST(Scenario, G80_writable_pte_of_an_isolated_page) {
  ObjectPage o;
  o.w.frames().get_page(o.pfn);
  o.w.frames().lru_del(o.pfn);
  CheckWritable(o.w.frames(), o.pfn);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Sr);
  EXPECT_TRUE(o.w.Writable(o.pfn));
  o.w.frames().lru_add(o.pfn);
  o.w.frames().put_page(o.pfn);
  o.w.Check();
  EXPECT_EQ(o.w.state(o.pfn), PageState::Sr) << "nobody tries when it is put back";
  o.Retry();
  EXPECT_EQ(o.w.state(o.pfn), PageState::Pr);
}

// As soon as state_change is free, what stood in the way goes. Where the counts were right nobody looks
// again; where they were wrong, somebody does.
TEST(Scenario, G81_bits_false_counts_true) {
  for (const bool counts : {true, false}) {
    SCOPED_TRACE(counts);
    ObjectPage o;
    if (counts) {
      o.w.page(o.pfn).flags |= PG_private;
    } else {
      o.w.frames().get_page(o.pfn);
    }
    ASSERT_TRUE(o.w.OnCpus({[&] { CheckWritable(o.w.frames(), o.pfn); },
                            [&] {
                              EXPECT_EQ(o.w.state(o.pfn), PageState::Sr);
                              o.w.page(o.pfn).flags &= ~PG_private;
                              if (!counts) o.w.frames().put_page(o.pfn);
                            }},
                           {{0, "CheckWritable", "state_change", 2}}));
    EXPECT_EQ(o.w.state(o.pfn), counts ? PageState::Sr : PageState::Pr);
  }
}

TEST(Scenario, G82_mprotect_checks_before_it_stores_the_pte) {
  ObjectPage o;
  bool seen = false;
  ASSERT_TRUE(o.w.OnCpus({[&] { EXPECT_TRUE(sys_mprotect(*o.p.mm, o.a, kPage, kReadWrite)); },
                          [&] {
                            seen = true;
                            EXPECT_EQ(o.w.state(o.pfn), PageState::Pr);
                            EXPECT_TRUE(o.w.Writable(o.pfn));
                            EXPECT_FALSE(pte_write(o.w.PteAt(o.p, o.a)));
                          }},
                         {{0, "ChangeProtection", "pte", 2}}));
  EXPECT_TRUE(seen);
  EXPECT_TRUE(pte_write(o.w.PteAt(o.p, o.a)));
}

// A pte whose writes are accounted: it is dirty, and so is its page.
TEST(Scenario, G82_mprotect_of_a_dirty_pte_of_a_file) {
  Scene w(Hinted({"dirty_bits=pte"}));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Shared(p, file, 1);
  ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk);
  ASSERT_TRUE(w.Protect(p, a, 1, PROT_READ));
  ASSERT_TRUE(w.Protect(p, a, 1, kReadWrite));
  EXPECT_TRUE(pte_write(w.PteAt(p, a))) << "without a fault";
  EXPECT_TRUE(w.Writable(w.PfnAt(p, a)));
  EXPECT_EQ(w.state(w.PfnAt(p, a)), PageState::Sr);
}

TEST(Scenario, G83_a_new_cow_page_stays_stable) {
  Scene w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1);
  (void)w.Load(p, a, 1);
  const Pfn original = w.PfnAt(p, a);
  ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk);
  const Pfn copy = w.PfnAt(p, a);
  EXPECT_NE(copy, original);
  EXPECT_TRUE(w.Writable(copy));
  EXPECT_EQ(w.state(copy), PageState::Sr);
  TryVolatile(w.frames(), copy);
  EXPECT_EQ(w.state(copy), PageState::Sr) << "it is in no cache";
  EXPECT_EQ(w.state(original), PageState::Vr) << "again, with the copier's reference gone";
}

// make stable, clear the storage key, set dirty, reset PG_writable: the host comes before each of them.
TEST(Scenario, G84_the_host_between_the_steps_of_the_last_unmap) {
  const std::pair<const char*, const char*> places[] = {{"TestAndClearKey", "state_change"},
                                                        {"TestAndClearKey", kPageStateName},
                                                        {"AfterLastUnmap", "PG_dirty"},
                                                        {"AfterLastUnmap", "PG_writable"},
                                                        {"AfterLastUnmap", "state_change"}};
  for (const auto& [function, name] : places) {
    for (const unsigned times : {1u, 2u}) {
      if (times == 2 && name != std::string("page state")) continue;
      SCOPED_TRACE(testing::Message() << function << ' ' << name << ' ' << times);
      ObjectPage o;
      ASSERT_TRUE(o.w.Unmap(o.q, o.b, 1));
      o.MakeWritable(o.p, o.a);
      ASSERT_EQ(o.w.Store(o.p, o.a, "new"), Outcome::kOk);
      ASSERT_EQ(o.w.state(o.pfn), PageState::Pr);
      ASSERT_TRUE(o.w.OnCpus({[&] { EXPECT_TRUE(sys_munmap(*o.p.mm, o.a, kPage)); },
                              [&] {
                                EXPECT_TRUE(o.w.host().take(o.pfn));
                                EXPECT_EQ(o.w.state(o.pfn), PageState::Sp);
                              }},
                             {{0, function, name, times}}));
      EXPECT_TRUE(o.w.page(o.pfn).dirty());
      EXPECT_FALSE(o.w.Writable(o.pfn));
      EXPECT_EQ(o.w.page(o.pfn).flags & PG_key_dirty, 0u);
      EXPECT_BYTES(o.w.ReadFile(o.object, 0, 3), "new");
      EXPECT_EQ(o.w.faults(), 0u);
    }
  }
}

TEST(Scenario, G85_a_dirty_bit_in_each_pte) {
  ObjectPage o(Hinted({"dirty_bits=pte"}));
  o.MakeWritable(o.p, o.a);
  EXPECT_EQ(o.w.state(o.pfn), PageState::Sr) << "the first writable pte";
  o.Retry();
  EXPECT_EQ(o.w.state(o.pfn), PageState::Sr);
  ASSERT_TRUE(o.w.Unmap(o.p, o.a, 1));
  o.Retry();
  EXPECT_EQ(o.w.state(o.pfn), PageState::Sr) << "until all are gone";
  ASSERT_TRUE(o.w.Unmap(o.q, o.b, 1));
  o.Retry();
  EXPECT_EQ(o.w.state(o.pfn), PageState::Vr);
}

}  // namespace
}  // namespace mm
