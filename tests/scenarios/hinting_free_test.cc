// Scenarios G60 to G71 of page hinting: when a discarded frame may be used again.
#include <gtest/gtest.h>

#include "mm/discard.h"
#include "tests/mm/deferred.h"

namespace mm {
namespace {

using enum PageState;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(Scenario, G60_one_CPU) {
  for (const bool idle : {false, true}) {
    Deferred d(1);
    const Pfn pfn = d.Queue(0, 1)[0];
    EXPECT_FALSE(d.IsFree(pfn));
    if (idle) {
      d.Idle(0);
    } else {
      d.Tick(0);
    }
    EXPECT_TRUE(d.IsFree(pfn)) << "all stages in that call";
    d.w.Check();
  }
}

TEST(Scenario, G61_two_CPUs) {
  for (const bool idle : {false, true}) {
    Deferred d(2);
    const Pfn pfn = d.Queue(0, 1)[0];
    d.Tick(0);
    EXPECT_EQ(d.list().sign_off_mask(), 0b10u);
    for (int i = 0; i < 3; ++i) d.Tick(0);
    EXPECT_FALSE(d.IsFree(pfn));
    if (idle) {
      d.Idle(1);
    } else {
      d.Tick(1);
    }
    EXPECT_TRUE(d.IsFree(pfn));
    d.w.Check();
  }
}

TEST(Scenario, G62_queued_during_a_round) {
  Deferred d(2);
  const Pfn first = d.Queue(0, 1)[0];
  d.Tick(0);
  const Pfn second = d.Queue(1, 1)[0];
  const Pfn third = d.Queue(0, 1)[0];
  d.Tick(0);
  EXPECT_THAT(d.list().list(), ElementsAre(third)) << "gathered";
  d.Tick(1);
  EXPECT_TRUE(d.IsFree(first));
  EXPECT_THAT(d.list().sign_off(), ElementsAre(third, second));
  EXPECT_FALSE(d.IsFree(second));
  d.Tick(0);
  EXPECT_TRUE(d.IsFree(second));
  EXPECT_TRUE(d.IsFree(third));
}

TEST(Scenario, G63_a_tickless_CPU) {
  Deferred d(3);
  d.list().set_tickless(1, true);
  const Pfn pfn = d.Queue(0, 1)[0];
  d.Tick(0);
  EXPECT_EQ(d.list().sign_off_mask(), 0b100u);
  d.Tick(2);
  EXPECT_TRUE(d.IsFree(pfn)) << "CPU 1 did nothing";
}

// ---- the handler, with interrupts off ----

// A process maps a page that the host has discarded. CPU 0 touches it, and stands in the handler: it knows
// the frame, and has no reference.
struct InHandler {
  explicit InHandler(const Semantics& semantics) : d(3, semantics) {
    pfn = d.NewDiscarded();
    EXPECT_EQ(d.w.Fault(p, a, Write::kNo) & (VM_FAULT_SIGBUS | VM_FAULT_OOM), 0u);
    EXPECT_EQ(d.w.PfnAt(p, a), pfn) << "mapped as it was: a minor fault does not look";
    EXPECT_EQ(d.w.state(pfn), Vz);
  }
  // CPU 1 takes the page out by a lookup and then does `release`; CPU 2 looks once CPU 1 cannot go on.
  testing::AssertionResult Run(const Cpus::Job& release, const Cpus::Job& look) {
    return d.w.OnCpus({[&] {
                         got = std::string(9, '?');
                         EXPECT_EQ(d.w.machine().load(p, a, AsWritable(got)).outcome, Outcome::kOk);
                       },
                       [&] {
                         d.LookUp();
                         release();
                       },
                       look},
                      {{0, "PageOfFrame", "page count"}});
  }
  std::string Disk() { return d.w.Original(d.file, 0, 9); }

  Deferred d;
  Process& p = d.w.Spawn();
  Vaddr a = d.w.Shared(p, d.file, 1, 0, PROT_READ);
  Pfn pfn = kNoPfn;
  std::string got;
};

TEST(Scenario, G64_release_waits_for_the_handler) {
  InHandler h(Hinted({"discard_free=ipi_lists"}));
  uint64_t freed = 0;
  bool looked = false;
  ASSERT_TRUE(h.Run([&] { freed = h.d.list().shrink(); },
                    [&] {
                      looked = true;
                      EXPECT_EQ(freed, 0u) << "CPU 0 takes no interrupt yet";
                      EXPECT_NE(h.d.w.page(h.pfn).flags & PG_discarded, 0u);
                      EXPECT_EQ(h.d.w.page(h.pfn).count, 0);
                    }));
  EXPECT_TRUE(looked);
  EXPECT_EQ(freed, 1u);
  EXPECT_EQ(h.d.w.machine().host->stat().discard_faults, 1u)
      << "the handler gave up: an ordinary fault follows";
  EXPECT_BYTES(h.got, h.Disk());
}

// The same with signatures: CPU 0 gives none while it stands in the handler.
TEST(Scenario, G64_no_signature_with_interrupts_off) {
  InHandler h(Hinted());
  const auto tick = [&] { h.d.list().tick(); };
  bool looked = false;
  ASSERT_TRUE(h.Run([&] { smp_call_function(tick, false), tick(); },
                    [&] {
                      looked = true;
                      h.d.list().tick();
                      EXPECT_THAT(h.d.list().sign_off(), ElementsAre(h.pfn));
                      EXPECT_EQ(h.d.list().sign_off_mask() & 1, 1u);
                    }));
  EXPECT_TRUE(looked);
  EXPECT_BYTES(h.got, h.Disk());
}

// Without deferral: the frame is free at once, and a page of somebody else's when the handler goes on. Where
// the kernel's own flags say that this page is needed the handler's CHECK shows it; the hardware's do not.
struct WithoutDeferral : InHandler {
  WithoutDeferral() : InHandler(Hinted()) {}
  // What the release does where nothing is put off; and the other process stores to a page of an object that
  // it has read.
  void ReleaseAndStore() {
    Machine& m = d.w.machine();
    d.list().restore_list(1, {});
    d.w.frames().free_discarded(pfn);
    EXPECT_EQ(m.touch(q, b, 1, Write::kNo).outcome, Outcome::kOk);
    EXPECT_EQ(m.store(q, b, AsBytes("precious")).outcome, Outcome::kOk);
    EXPECT_EQ(d.w.PfnAt(q, b), pfn);
  }
  FilePtr object = d.w.machine().create_shmem("object", kPage);
  Process& q = d.w.Spawn();
  Vaddr b = d.w.Shared(q, object, 1);
};

TEST(Scenario, G65_without_deferral) {
  WithoutDeferral h;
  ASSERT_TRUE(h.Run([&] { h.ReleaseAndStore(); }, {}));
  EXPECT_BYTES(h.d.w.Load(h.q, h.b, 8), Zeros(8)) << "the store is lost";
}

// With it the other process gets another frame.
TEST(Scenario, G65_with_deferral) {
  InHandler h(Hinted());
  Machine& m = h.d.w.machine();
  Process& q = h.d.w.Spawn();
  const Vaddr b = h.d.w.Anon(q, 1);
  ASSERT_TRUE(h.Run([&] { EXPECT_EQ(m.store(q, b, AsBytes("precious")).outcome, Outcome::kOk); }, {}));
  EXPECT_NE(h.d.w.PfnAt(q, b), h.pfn);
  EXPECT_BYTES(h.d.w.Load(q, b, 8), "precious");
  EXPECT_BYTES(h.got, h.Disk());
}

// ---- 2005 and 2006 ----

TEST(Scenario, G66_a_vector_of_14) {
  Deferred d(1, Generation("hva2005").value());
  d.Queue(0, 13);
  EXPECT_EQ(d.list().shrink(), 0u);
  EXPECT_EQ(d.list().on_cpu(0).size(), 13u);
  d.Queue(0, 1);
  EXPECT_EQ(d.list().list().size(), 14u);
  EXPECT_EQ(d.list().shrink(), 14u);
  EXPECT_EQ(d.list().size(), 0u);
  d.w.Check();
}

TEST(Scenario, G67_added_after_the_splice) {
  Deferred d(2, Generation("hva2005").value());
  d.Queue(0, 14);
  const std::vector<Pfn> late = d.Queue(1, 13);
  const Pfn last = d.NewDiscarded();
  uint64_t freed = 0;
  ASSERT_TRUE(d.w.Beside([&] { freed = d.list().shrink(); }, "TestBody", "ipi", [&] { d.LookUp(); }));
  EXPECT_EQ(freed, 14u);
  EXPECT_EQ(d.list().list().size(), 14u) << "they came too late";
  EXPECT_EQ(d.list().list().back(), last);
  EXPECT_FALSE(d.IsFree(late[0]));
  d.On(0, [&] { freed = d.list().shrink(); });
  EXPECT_EQ(freed, 14u);
  EXPECT_TRUE(d.IsFree(late[0]));
}

TEST(Scenario, G68_partial_lists_of_four_CPUs) {
  Deferred d(4, Generation("gph2006").value());
  for (unsigned cpu = 0; cpu < 4; ++cpu) d.Queue(cpu, 3);
  uint64_t freed = 0;
  d.On(2, [&] { freed = d.list().shrink(); });
  EXPECT_EQ(freed, 12u);
  EXPECT_EQ(d.list().size(), 0u);
  for (unsigned cpu = 0; cpu < 4; ++cpu) d.Queue(cpu, 3);
  const uint64_t stolen = d.w.machine().vmstat.pgsteal;
  d.On(1, [&] { freed = try_to_free_pages(d.w.machine(), 12); });
  EXPECT_EQ(freed, 12u) << "reclaim counts them";
  EXPECT_EQ(d.w.machine().vmstat.pgsteal, stolen) << "and needs no others";
  d.w.Check();
}

// ---- CPUs that go, and ticks ----

TEST(Scenario, G69_hot_unplug_loses_no_frame) {
  for (const char* name : {"gph2006", "gph2009"}) {
    Deferred d(3, Generation(name).value());
    const std::vector<Pfn> own = d.Queue(1, 3);
    d.On(0, [&] { d.list().cpu_dead(1); });
    EXPECT_EQ(d.list().on_cpu(0), own);
    EXPECT_THAT(d.list().on_cpu(1), IsEmpty());
    d.w.Check();
    d.On(0, [&] { d.list().shrink(), d.list().idle(); });
    d.Idle(2);
    EXPECT_EQ(d.list().size(), 0u);
    d.w.Check();
  }
}

TEST(Scenario, G69_a_dead_CPU_in_the_mask) {
  for (const char* rule : {"signoff_dead_cpu=stays", "signoff_dead_cpu=removed"}) {
    SCOPED_TRACE(rule);
    Deferred d(3, Hinted({rule}));
    const Pfn pfn = d.Queue(0, 1)[0];
    d.Tick(0);
    d.On(2, [&] { d.list().cpu_dead(1); });
    for (int i = 0; i < 4; ++i) {
      d.Tick(0);
      d.Tick(2);
    }
    const bool stalls = std::string_view(rule).ends_with("stays");
    EXPECT_EQ(d.IsFree(pfn), !stalls);
    EXPECT_EQ(d.list().sign_off_mask(), stalls ? 0b10u : 0u) << "nobody signs for the dead";
    d.w.Check();
  }
}

TEST(Scenario, G69b_a_CPU_that_never_idles) {
  Deferred posted(2, Generation("gph2009").value());
  const Pfn pfn = posted.Queue(0, 1)[0];
  posted.Idle(0);
  for (int i = 0; i < 100; ++i) posted.Tick(1);
  EXPECT_FALSE(posted.IsFree(pfn)) << "no tick has the hook";
  posted.On(1, [&] { posted.list().tick(true); });
  EXPECT_TRUE(posted.IsFree(pfn)) << "the mode of its clock changed";

  Deferred d(2, Generation("gph2007").value());
  const Pfn early = d.Queue(0, 1)[0];
  d.Idle(0);
  d.Tick(1);
  EXPECT_TRUE(d.IsFree(early));
}

// ---- afterwards ----

TEST(Scenario, G70_after_the_release) {
  for (const char* name : {"hva2005", "gph2006", "gph2007"}) {
    SCOPED_TRACE(name);
    Deferred d(1, Generation(name).value());
    const std::vector<Pfn> pages = d.Queue(0, 14);
    for (const Pfn pfn : pages) {
      EXPECT_EQ(d.w.page(pfn).flags, PG_discarded);
      EXPECT_EQ(d.w.state(pfn), Vz) << "not unused before that";
    }
    d.list().shrink();
    d.Tick(0);
    for (const Pfn pfn : pages) {
      EXPECT_EQ(d.w.page(pfn).flags, 0u);
      EXPECT_EQ(d.w.state(pfn), Uz);
    }
    d.w.Check();
    const Pfn again = d.w.frames().alloc_page(Fill::kZero);
    EXPECT_THAT(pages, testing::Contains(again));
    EXPECT_EQ(UsageOf(d.w.state(again)), Usage::kStable);
    EXPECT_BYTES(d.w.FrameText(again, 0, kPage), Zeros(kPage));
    d.w.frames().put_page(again);
  }
}

// The discarded frame was freed last, and would be the next to be used: the host would have to back it again.
TEST(Scenario, G71_frames_that_are_still_there_go_first) {
  Deferred d(1);
  const Pfn there = d.w.ReadIn(d.file, 60);
  const Pfn gone = d.NewDiscarded();
  ASSERT_TRUE(reclaim_page(d.w.machine(), there));
  d.LookUp();
  ASSERT_EQ(d.w.state(there), Ur);
  const uint64_t backed = d.w.host().stat().backed;
  const Pfn next = d.w.frames().alloc_page(Fill::kZero);
  EXPECT_EQ(next, there);
  EXPECT_BYTES(d.w.FrameText(next, 0, 8), Zeros(8));
  EXPECT_EQ(d.w.host().stat().backed, backed) << "nothing had to be backed";
  d.w.frames().put_page(next);
  d.Tick(0);
  ASSERT_TRUE(d.IsFree(gone));
  EXPECT_EQ(d.w.frames().alloc_page(Fill::kZero), there) << "also when both are free, and it was freed later";
  d.w.frames().put_page(there);
}

}  // namespace
}  // namespace mm
