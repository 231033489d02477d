// Scenarios M03, M08, M18 to M24 of the memory model: reuse, swap-in and truncate with swapped pages.
#include "mm/swap.h"

#include <gtest/gtest.h>

#include "mm/follow_page.h"
#include "tests/mm/failing_swap.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

using testing::StartsWith;

// A process with one anonymous page that says "old", and swap.
struct OnePage {
  explicit OnePage(const Semantics& semantics = {}, uint64_t swap_pages = 64)
      : w(semantics, 4096, swap_pages) {
    EXPECT_EQ(w.Store(p, a, "old"), Outcome::kOk);
  }
  Machine& m() { return w.machine(); }
  SwapArea& swap() { return *m().swap; }
  uint32_t UsedSlots() { return swap().nr_slots() - swap().nr_free(); }
  Page& page() { return w.PageAt(p, a); }
  // What another thread does to it.
  void Drop() { EXPECT_TRUE(sys_madvise(*p.mm, a, kPage, MADV_DONTNEED)); }
  // CPU 0 holds the page lock. Meanwhile CPU 1 stores to the page as far as it can, and then CPU 2 does
  // `third`; `looks` is what CPU 0 does before it gives the lock back. Where CPU 1 stood then is `waiting`.
  testing::AssertionResult StoreWhileLocked(Vaddr addr, std::string_view bytes, const Cpus::Job& third = {},
                                            const Cpus::Job& looks = {}) {
    Page& locked = page();
    return w.OnCpus({[&] {
                       lock_page(locked);
                       racy_read(&locked, "the others");
                       waiting = PlaceOf(t_cpus->op(1));
                       if (looks) looks();
                       unlock_page_nocheck(locked);
                     },
                     [&] { EXPECT_EQ(m().store(p, addr, AsBytes(bytes)).outcome, Outcome::kOk); }, third},
                    {{0, "StoreWhileLocked", "the others"}});
  }
  static constexpr const char* kWaits = "lock page lock (LockForReuse,";
  std::string waiting;
  // The next store asks whether the page may be reused.
  void TakeWriteBit() {
    EXPECT_TRUE(w.Protect(p, a, 1, PROT_READ));
    EXPECT_TRUE(w.Protect(p, a, 1, kReadWrite));
    EXPECT_FALSE(pte_write(w.PteAt(p, a)));
  }
  // Into swap and back by a read: mapped read-only, and still in the swap cache.
  void ThroughSwap() {
    EXPECT_TRUE(w.PageOut(p, a));
    EXPECT_TRUE(pte_swap(w.PteAt(p, a)));
    EXPECT_BYTES(w.Load(p, a, 3), "old");
    EXPECT_TRUE(page().swapcache());
    EXPECT_FALSE(pte_write(w.PteAt(p, a)));
  }

  World w;
  Process& p = w.Spawn();
  Vaddr a = w.Anon(p, 1);
};

TEST(Scenario, M18_contended_page_lock_waits_and_reuses) {
  OnePage o;
  o.TakeWriteBit();
  const Pfn pfn = o.w.PfnAt(o.p, o.a);
  ASSERT_TRUE(o.StoreWhileLocked(o.a, "new"));
  EXPECT_THAT(o.waiting, StartsWith(OnePage::kWaits));
  EXPECT_EQ(o.w.PfnAt(o.p, o.a), pfn) << "reused";
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "new");
}

// While it waited, another thread dropped the page: it looks again.
TEST(Scenario, M18_the_pte_changes_while_it_waits) {
  OnePage o;
  o.TakeWriteBit();
  ASSERT_TRUE(o.StoreWhileLocked(o.a + 3, "!", [&] { o.Drop(); }));
  EXPECT_THAT(o.waiting, StartsWith(OnePage::kWaits));
  EXPECT_BYTES(o.w.Load(o.p, o.a, 4), std::string("\0\0\0!", 4)) << "a new page of zeros";
}

// While it waited, the page came to be shared: no reuse.
TEST(Scenario, M18_the_page_is_shared_while_it_waits) {
  OnePage o;
  o.TakeWriteBit();
  const Pfn pfn = o.w.PfnAt(o.p, o.a);
  Process& child = o.w.Fork(o.p);
  o.w.Exit(child);
  Process& late = o.m().spawn(77, "late");
  Vma* vma = map_region(*late.mm, {.start = o.a,
                                   .end = o.a + kPage,
                                   .vm_flags = o.w.VmaAt(o.p, o.a).flags,
                                   .pgoff = o.w.VmaAt(o.p, o.a).pgoff,
                                   .file = nullptr})
                 .value();
  // What a fork does to this pte. A whole one would wait for the fault's mmap_sem.
  ASSERT_TRUE(o.StoreWhileLocked(o.a, "new", [&] {
    o.m().frames.get_page(pfn);
    install_anon_page(*vma, o.a, pfn, Shared::kYes);
  }));
  EXPECT_THAT(o.waiting, StartsWith(OnePage::kWaits));
  EXPECT_NE(o.w.PfnAt(o.p, o.a), pfn) << "two owners never share a page that one may write";
  EXPECT_BYTES(o.w.Load(late, o.a, 3), "old");
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "new");
}

TEST(Scenario, M18_contended_page_lock_copies_in_2_6_18) {
  OnePage o(WithSwitch("wp_contended=copy"));
  o.TakeWriteBit();
  const Pfn pfn = o.w.PfnAt(o.p, o.a);
  std::vector<Pfn> pins = get_user_pages(*o.p.mm, o.a, 1, Write::kNo, Force::kNo).value();
  Pfn meanwhile = pfn;
  ASSERT_TRUE(o.StoreWhileLocked(o.a, "new", {}, [&] { meanwhile = o.w.PfnAt(o.p, o.a); }));
  EXPECT_EQ(o.waiting, "idle") << "it does not wait";
  EXPECT_NE(meanwhile, pfn);
  EXPECT_EQ(o.w.PfnAt(o.p, o.a), meanwhile);
  EXPECT_BYTES(o.w.FrameText(pfn, 0, 3), "old");
  unpin_user_pages(o.m(), pins);
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "new");
}

// A page in the swap cache, whose slot no entry names, with and without a pin.
void ReuseFromSwapCache(std::string_view rule, bool pinned, bool reused, bool leaves_cache) {
  SCOPED_TRACE(testing::Message() << rule << (pinned ? " pinned" : ""));
  OnePage o(WithSwitch(rule));
  o.ThroughSwap();
  const Pfn pfn = o.w.PfnAt(o.p, o.a);
  std::vector<Pfn> pins;
  if (pinned) pins = get_user_pages(*o.p.mm, o.a, 1, Write::kNo, Force::kNo).value();
  EXPECT_EQ(page_swapcount(o.m(), o.page()), 0u);
  ASSERT_EQ(o.w.Store(o.p, o.a, "new"), Outcome::kOk);
  EXPECT_EQ(o.w.PfnAt(o.p, o.a) == pfn, reused);
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "new");
  if (reused) {
    EXPECT_EQ(o.page().swapcache(), !leaves_cache);
    EXPECT_EQ(o.UsedSlots(), leaves_cache ? 0u : 1u);
    if (leaves_cache) {
      EXPECT_TRUE(o.page().dirty()) << "its slot is gone, so the page has the only bytes";
    }
  }
  if (pinned) {
    EXPECT_BYTES(o.w.FrameText(pins[0], 0, 3), reused ? "new" : "old");
    unpin_user_pages(o.m(), pins);
  }
  // Whatever it is now, it survives being swapped again.
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "new");
}

TEST(Scenario, M19_reuse_in_the_swap_cache_with_a_pin) {
  ReuseFromSwapCache("reuse_rule=count", true, false, false);
  ReuseFromSwapCache("reuse_rule=mapcount", true, true, true);
  ReuseFromSwapCache("reuse_rule=mapcount_keep_slot", true, true, false);
}

TEST(Scenario, M20_reuse_with_swapcount_0) {
  ReuseFromSwapCache("reuse_rule=mapcount", false, true, true);
  ReuseFromSwapCache("reuse_rule=mapcount_keep_slot", false, true, false);
  ReuseFromSwapCache("reuse_rule=count", false, true, false);
}

TEST(Scenario, M20_under_writeback_it_stays_in_the_swap_cache) {
  OnePage o;
  o.ThroughSwap();
  const Pfn pfn = o.w.PfnAt(o.p, o.a);
  o.page().flags |= PG_writeback;
  EXPECT_EQ(o.m().store(o.p, o.a, AsBytes("new")).outcome, Outcome::kOk);
  EXPECT_EQ(o.w.PfnAt(o.p, o.a), pfn);
  EXPECT_TRUE(o.page().swapcache());
  o.page().flags &= ~PG_writeback;
  o.w.Check();
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "new");
}

// Two processes swapped the page; one has it back. What it writes must not be seen by the other.
void WriteWhileTheOtherIsSwapped(std::string_view rule) {
  SCOPED_TRACE(rule);
  OnePage o(WithSwitch(rule));
  Process& child = o.w.Fork(o.p);
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  const SwpEntry slot = pte_to_swp_entry(o.w.PteAt(child, o.a));
  EXPECT_EQ(o.swap().count(slot), 2u);
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "old");
  const Pfn pfn = o.w.PfnAt(o.p, o.a);
  EXPECT_EQ(o.page().mapcount, 1);
  EXPECT_EQ(page_swapcount(o.m(), o.page()), 1u);
  ASSERT_EQ(o.w.Store(o.p, o.a, "new"), Outcome::kOk);
  EXPECT_NE(o.w.PfnAt(o.p, o.a), pfn) << "copied";
  EXPECT_BYTES(o.w.Load(child, o.a, 3), "old");
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "new");
}

TEST(Scenario, M20_copy_while_another_process_names_the_slot) {
  WriteWhileTheOtherIsSwapped("reuse_rule=mapcount");
  WriteWhileTheOtherIsSwapped("reuse_rule=mapcount_keep_slot");
  WriteWhileTheOtherIsSwapped("reuse_rule=count");
}

// A write fault on the swap entry itself decides by the same rule.
TEST(Scenario, M20_write_fault_on_the_entry) {
  OnePage o;
  Process& child = o.w.Fork(o.p);
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  ASSERT_EQ(o.w.Store(o.p, o.a, "new"), Outcome::kOk);
  EXPECT_BYTES(o.w.Load(child, o.a, 3), "old");
  ASSERT_EQ(o.w.Store(child, o.a, "her"), Outcome::kOk);
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "new");
  EXPECT_BYTES(o.w.Load(child, o.a, 3), "her");
  EXPECT_EQ(o.UsedSlots(), 0u);
}

TEST(Scenario, M21_a_ksm_page_is_never_reused) {
  for (const bool in_swap_cache : {false, true}) {
    SCOPED_TRACE(in_swap_cache);
    OnePage o;
    if (in_swap_cache) {
      o.ThroughSwap();
    } else {
      o.TakeWriteBit();
    }
    const Pfn pfn = o.w.PfnAt(o.p, o.a);
    o.page().flags |= PG_ksm;
    ASSERT_EQ(o.page().mapcount, 1);
    ASSERT_EQ(o.w.Store(o.p, o.a, "new"), Outcome::kOk);
    EXPECT_NE(o.w.PfnAt(o.p, o.a), pfn);
    EXPECT_EQ(o.page().flags & PG_ksm, 0u) << "the copy is an ordinary page";
    EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "new");
  }
}

TEST(Scenario, M22_a_read_leaves_the_page_in_the_swap_cache) {
  OnePage o;
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  const uint64_t major = o.p.mm->maj_flt;
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "old");
  EXPECT_EQ(o.p.mm->maj_flt, major + 1);
  EXPECT_TRUE(o.page().swapcache());
  EXPECT_EQ(o.UsedSlots(), 1u);
  EXPECT_FALSE(vm_swap_full(o.m()));
  // So it can be dropped again without being written.
  const uint64_t out = o.m().vmstat.pswpout;
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  EXPECT_EQ(o.m().vmstat.pswpout, out);
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "old");
}

TEST(Scenario, M22_swap_half_full_gives_the_slot_back) {
  OnePage o({}, 8);
  const Vaddr more = o.w.Anon(o.p, 5);
  for (uint64_t i = 0; i < 5; ++i) {
    ASSERT_EQ(o.w.Store(o.p, more + i * kPage, "more"), Outcome::kOk);
    ASSERT_TRUE(o.w.PageOut(o.p, more + i * kPage));
  }
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  EXPECT_TRUE(vm_swap_full(o.m()));
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "old");
  EXPECT_FALSE(o.page().swapcache());
  EXPECT_TRUE(o.page().dirty());
  EXPECT_EQ(o.UsedSlots(), 5u);
}

TEST(Scenario, M22_half_full_but_another_names_the_slot) {
  OnePage o({}, 4);
  Process& child = o.w.Fork(o.p);
  const Vaddr more = o.w.Anon(o.p, 2);
  for (uint64_t i = 0; i < 2; ++i) {
    ASSERT_EQ(o.w.Store(o.p, more + i * kPage, "more"), Outcome::kOk);
    ASSERT_TRUE(o.w.PageOut(o.p, more + i * kPage));
  }
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  ASSERT_TRUE(vm_swap_full(o.m()));
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "old");
  EXPECT_TRUE(o.page().swapcache()) << "the child's entry leads to this page";
  EXPECT_BYTES(o.w.Load(child, o.a, 3), "old");
  EXPECT_FALSE(o.page().swapcache()) << "the last entry went";
}

TEST(Scenario, M22_a_locked_vma_gives_the_slot_back) {
  OnePage o;
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  ASSERT_TRUE(sys_mlock(*o.p.mm, o.a, kPage));
  o.w.Check();
  ASSERT_TRUE(pte_present(o.w.PteAt(o.p, o.a))) << "mlock brings pages in";
  EXPECT_FALSE(o.page().swapcache());
  EXPECT_EQ(o.UsedSlots(), 0u);
  EXPECT_FALSE(o.w.PageOut(o.p, o.a));
  EXPECT_BYTES(o.w.Load(o.p, o.a, 3), "old");
}

TEST(Scenario, M23_swap_in_that_loses_a_race) {
  for (const Write write : {Write::kNo, Write::kYes}) {
    OnePage o;
    ASSERT_TRUE(o.w.PageOut(o.p, o.a));
    VmFault fault = VM_FAULT_OOM;
    ASSERT_TRUE(o.w.Beside([&] { fault = o.w.Fault(o.p, o.a, write); }, "DoSwapPage", "page_table_lock",
                           [&] { o.Drop(); }));
    EXPECT_EQ(fault & VM_FAULT_ERROR, 0u);
    EXPECT_EQ(o.w.PteAt(o.p, o.a), Pte{}) << "nothing was mapped";
    EXPECT_EQ(o.p.mm->anon_rss, 0u);
    o.w.Check();
    EXPECT_BYTES(o.w.Load(o.p, o.a, 3), Zeros(3)) << "what the other thread asked for";
    for (int i = 0; i < 4; ++i) o.w.Reclaim(16);
    EXPECT_EQ(o.UsedSlots(), 0u) << "the slot is not held for ever";
  }
}

// The loser's entry is named by another process too: its bytes are still there.
TEST(Scenario, M23_the_slot_outlives_the_race_where_it_is_shared) {
  OnePage o;
  Process& child = o.w.Fork(o.p);
  ASSERT_TRUE(o.w.PageOut(o.p, o.a));
  std::string bytes(3, '?');
  ASSERT_TRUE(o.w.Beside([&] { EXPECT_EQ(o.m().load(o.p, o.a, AsWritable(bytes)).outcome, Outcome::kOk); },
                         "DoSwapPage", "page_table_lock", [&] { o.Drop(); }));
  EXPECT_BYTES(bytes, Zeros(3));
  EXPECT_BYTES(o.w.Load(child, o.a, 3), "old");
}

TEST(Scenario, M24_a_swapped_page_that_cannot_be_read) {
  for (const Write write : {Write::kNo, Write::kYes}) {
    World w;
    FailingSwap& device = UseFailingSwap(w.machine(), 64);
    Process& p = w.Spawn();
    const Vaddr a = w.Anon(p, 2);
    ASSERT_EQ(w.Store(p, a, "lost"), Outcome::kOk);
    ASSERT_EQ(w.Store(p, a + kPage, "good"), Outcome::kOk);
    ASSERT_TRUE(w.PageOut(p, a));
    ASSERT_TRUE(w.PageOut(p, a + kPage));
    const Pte entry = w.PteAt(p, a);
    device.bad_reads.insert(pte_to_swp_entry(entry));
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(w.machine().touch(p, a, 1, write).outcome, Outcome::kSigbus);
      EXPECT_EQ(w.PteAt(p, a), entry) << "still the swap entry";
      w.Check();
    }
    EXPECT_BYTES(w.Load(p, a + kPage, 4), "good");
    EXPECT_EQ(p.mm->anon_rss, 1u);
    // A write would have lost the other bytes of the page.
    ASSERT_TRUE(w.Unmap(p, a, 1));
    ASSERT_TRUE(w.Unmap(p, a + kPage, 1));
    EXPECT_EQ(w.machine().swap->nr_free(), w.machine().swap->nr_slots());
  }
}

TEST(Scenario, M03_shrink_takes_a_swapped_private_copy) {
  OnePage o;
  const FilePtr file = o.w.NewFile(4 * kPage);
  const Vaddr priv = o.w.Private(o.p, file, 4);
  for (uint64_t i = 0; i < 4; ++i) {
    ASSERT_EQ(o.w.Store(o.p, priv + i * kPage, "mine"), Outcome::kOk);
    ASSERT_TRUE(o.w.PageOut(o.p, priv + i * kPage));
  }
  Process& child = o.w.Fork(o.p);
  // One of them back in, and in the swap cache.
  EXPECT_BYTES(o.w.Load(o.p, priv + 3 * kPage, 4), "mine");
  EXPECT_EQ(o.UsedSlots(), 4u);
  ASSERT_TRUE(o.w.Truncate(file, kPage + 10));
  EXPECT_EQ(o.UsedSlots(), 2u) << "the slots of pages 2 and 3 are free";
  for (Process* owner : {&o.p, &child}) {
    EXPECT_EQ(o.w.PteAt(*owner, priv + 2 * kPage), Pte{});
    EXPECT_EQ(o.w.PteAt(*owner, priv + 3 * kPage), Pte{});
    EXPECT_EQ(o.w.TryLoad(*owner, priv + 2 * kPage), Outcome::kSigbus);
    EXPECT_EQ(o.w.TryLoad(*owner, priv + 3 * kPage), Outcome::kSigbus);
    EXPECT_BYTES(o.w.Load(*owner, priv, 4), "mine");
    EXPECT_BYTES(o.w.Load(*owner, priv + kPage, 4), "mine");
    EXPECT_BYTES(o.w.Load(*owner, priv + kPage + 10, 64), o.w.Original(file, kPage + 10, 64))
        << "a private copy keeps its tail, in swap too (M02)";
  }
  ASSERT_TRUE(o.w.Truncate(file, 4 * kPage));
  EXPECT_BYTES(o.w.Load(child, priv + 2 * kPage, kPage), Zeros(kPage));
}

TEST(Scenario, M08_a_swap_file_cannot_shrink) {
  World w;
  const FilePtr file = w.NewFile(4 * kPage);
  file->swapfile = true;
  const SysResult<void> refused = w.Truncate(file, kPage);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), (SysError{ETXTBSY, 0}));
  EXPECT_EQ(file->i_size, 4 * kPage);
  EXPECT_BYTES(w.ReadFile(file, 0, 4 * kPage), w.Original(file, 0, 4 * kPage));
  EXPECT_TRUE(w.Truncate(file, 8 * kPage)) << "it may grow";
  EXPECT_EQ(file->i_size, 8 * kPage);
}

}  // namespace
}  // namespace mm
