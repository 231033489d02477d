// Soft-dirty write tracking: every way in which a page can be written, come or go between clear_soft_dirty()
// and soft_dirty(). At random, beside the naive model: tests/property/soft_dirty_test.cc.
#include "mm/soft_dirty.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "mm/fault.h"
#include "mm/memory_failure.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

// A process with four anonymous pages, "page 0" to "page 3".
struct Tracked {
  explicit Tracked(const Semantics& semantics = {}) : w(semantics, 4096, 64) {
    for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(w.Store(p, At(i), Text(i)), Outcome::kOk);
  }
  Vaddr At(uint64_t page) const { return a + page * kPage; }
  static std::string Text(uint64_t page) { return "page " + std::to_string(page); }
  void Clear(Where at = Where::current()) {
    clear_soft_dirty(w.machine());
    w.Check(at);
  }
  static bool Soft(Process& process, Vaddr addr) { return soft_dirty(*process.mm, addr); }
  // Which of the four are soft-dirty: "-2--".
  std::string Marks(Process& process) const {
    std::string marks;
    for (uint64_t i = 0; i < 4; ++i) marks += Soft(process, At(i)) ? static_cast<char>('0' + i) : '-';
    return marks;
  }
  std::string Marks() const { return Marks(p); }
  void SwapOff() {
    ASSERT_TRUE(sys_swapoff(w.machine()));
    w.Check();
  }
  Pfn NewPage(std::string_view text) {
    const Pfn pfn = w.machine().frames.alloc_page(Fill::kZero);
    std::memcpy(w.machine().frames.bytes(pfn), text.data(), text.size());
    return pfn;
  }
  std::vector<Pfn> Pin(Process& process, Vaddr addr, Write write = Write::kYes, Force force = Force::kNo) {
    return get_user_pages(*process.mm, addr, 1, write, force).value();
  }
  // What a device does that has the page.
  void WritePinned(Pfn pfn, char byte) {
    w.machine().frames.bytes(pfn)[0] = static_cast<std::byte>(byte);
    set_page_dirty(w.machine(), pfn);
  }

  World w;
  Process& p = w.Spawn();
  Vaddr a = w.Anon(p, 4);
};

TEST(SoftDirty, NothingIsDifferentBeforeTheFirstClear) {
  Tracked t;
  const FilePtr file = t.w.NewFile(2 * kPage);
  const Vaddr f = t.w.Private(t.p, file, 2);
  ASSERT_EQ(t.w.TryStore(t.p, f), Outcome::kOk);
  Process& child = t.w.Fork(t.p);
  ASSERT_EQ(t.w.TryStore(child, t.a), Outcome::kOk);
  ASSERT_TRUE(t.w.PageOut(t.p, t.At(1)));
  ASSERT_TRUE(t.w.PageOut(t.p, t.At(2)));
  ASSERT_EQ(t.w.TryStore(t.p, t.At(2)), Outcome::kOk);
  for (Process* process : {&t.p, &child}) {
    EXPECT_EQ(t.Marks(*process), "0123") << "what was never cleared may have been written";
    process->mm->pgtable.walk(0, TASK_SIZE,
                              [&](Vaddr, const Pte& pte) { EXPECT_FALSE(pte_soft_dirty(pte)); });
  }
  EXPECT_FALSE(t.w.machine().tracks_soft_dirty);
  EXPECT_TRUE(pte_write(t.w.PteAt(child, t.a)));
}

TEST(SoftDirty, AStoreMakesItsPageSoftDirtyAndALoadDoesNot) {
  Tracked t;
  t.Clear();
  EXPECT_EQ(t.Marks(), "----");
  EXPECT_TRUE(t.w.machine().tracked_by.empty());
  EXPECT_FALSE(pte_write(t.w.PteAt(t.p, t.a)));
  EXPECT_TRUE(pte_dirty(t.w.PteAt(t.p, t.a))) << "the dirty bit is about the page, and stays";
  EXPECT_BYTES(t.w.Load(t.p, t.a, 6), "page 0");
  const Pfn pfn = t.w.PfnAt(t.p, t.At(2));
  ASSERT_EQ(t.w.Store(t.p, t.At(2) + 100, "x"), Outcome::kOk);
  EXPECT_EQ(t.Marks(), "--2-");
  EXPECT_EQ(t.w.PfnAt(t.p, t.At(2)), pfn) << "reused in place";
  EXPECT_TRUE(t.Soft(t.p, t.At(2) + 77)) << "an address inside the page";
  t.Clear();
  EXPECT_EQ(t.Marks(), "----");
  EXPECT_BYTES(t.w.Load(t.p, t.At(2) + 100, 1), "x");
}

TEST(SoftDirty, OneFaultForEachPageAndNoMore) {
  Tracked t;
  t.Clear();
  const uint64_t before = t.w.machine().vmstat.pgfault;
  for (int i = 0; i < 3; ++i) ASSERT_EQ(t.w.TryStore(t.p, t.a), Outcome::kOk);
  EXPECT_EQ(t.w.machine().vmstat.pgfault, before + 1);
}

TEST(SoftDirty, PagesThatComeAreSoftDirty) {
  for (const char* read_fault : {"zero_page", "counted_zero_page", "new_page"}) {
    Tracked t(WithSwitch(std::string("anon_read_fault=") + read_fault));
    const FilePtr file = t.w.NewFile(2 * kPage);
    const Vaddr f = t.w.Private(t.p, file, 2);
    const Vaddr anon = t.w.Anon(t.p, 3);
    ASSERT_EQ(t.w.TryLoad(t.p, f + kPage), Outcome::kOk);
    t.Clear();
    ASSERT_EQ(t.w.TryStore(t.p, f), Outcome::kOk) << "early COW";
    ASSERT_EQ(t.w.TryStore(t.p, f + kPage), Outcome::kOk) << "COW of the file's page";
    ASSERT_EQ(t.w.TryStore(t.p, anon), Outcome::kOk);
    ASSERT_EQ(t.w.TryLoad(t.p, anon + kPage), Outcome::kOk);
    for (const Vaddr addr : {f, f + kPage, anon, anon + kPage}) EXPECT_TRUE(t.Soft(t.p, addr)) << read_fault;
    ASSERT_EQ(t.w.TryLoad(t.p, anon + 2 * kPage), Outcome::kOk);
    t.Clear();
    // A zero page that was read is still nobody's; a page of zeros is modified, and was there at the clear.
    const bool is_page = std::string_view(read_fault) == "new_page";
    EXPECT_EQ(t.Soft(t.p, anon + 2 * kPage), !is_page);
    ASSERT_EQ(t.w.TryStore(t.p, anon + 2 * kPage), Outcome::kOk);
    EXPECT_TRUE(t.Soft(t.p, anon + 2 * kPage));
    EXPECT_FALSE(t.Soft(t.p, anon));
  }
}

TEST(SoftDirty, WhatIsNoModifiedPageIsNeverClean) {
  Tracked t;
  const FilePtr file = t.w.NewFile(2 * kPage);
  const Vaddr f = t.w.Private(t.p, file, 2);
  ASSERT_EQ(t.w.TryLoad(t.p, f), Outcome::kOk);
  t.Clear();
  EXPECT_TRUE(t.Soft(t.p, f)) << "the file's page";
  EXPECT_TRUE(t.Soft(t.p, f + kPage)) << "nothing yet";
  EXPECT_TRUE(t.Soft(t.p, 0x1000)) << "no page table";
  ASSERT_TRUE(t.w.Advise(t.p, t.a, 2, MADV_DONTNEED));
  EXPECT_EQ(t.Marks(), "01--") << "gone";
  ASSERT_TRUE(memory_failure(t.w.machine(), t.w.PfnAt(t.p, t.At(3))));
  EXPECT_EQ(t.Marks(), "01-3") << "poisoned";
  t.Clear();
  EXPECT_EQ(t.Marks(), "01-3");
  EXPECT_EQ(t.w.TryStore(t.p, t.a), Outcome::kOk);
  EXPECT_EQ(t.Marks(), "01-3");
}

TEST(SoftDirty, SharedMappingsAreLeftAlone) {
  Tracked t;
  const FilePtr file = t.w.NewFile(kPage);
  const FilePtr object = t.w.machine().create_shmem("object", kPage);
  const Vaddr vmas[] = {t.w.Shared(t.p, file, 1), t.w.Shared(t.p, object, 1)};
  for (const Vaddr addr : vmas) {
    ASSERT_EQ(t.w.TryStore(t.p, addr), Outcome::kOk);
    const Pte before = t.w.PteAt(t.p, addr);
    t.Clear();
    EXPECT_EQ(t.w.PteAt(t.p, addr), before);
    const uint64_t faults = t.w.machine().vmstat.pgfault;
    ASSERT_EQ(t.w.TryStore(t.p, addr), Outcome::kOk);
    EXPECT_EQ(t.w.machine().vmstat.pgfault, faults);
    ASSERT_TRUE(t.w.Protect(t.p, addr, 1, PROT_READ));
    ASSERT_TRUE(t.w.Protect(t.p, addr, 1, kReadWrite));
    ASSERT_EQ(t.w.TryStore(t.p, addr), Outcome::kOk);
    EXPECT_FALSE(pte_soft_dirty(t.w.PteAt(t.p, addr)));
    EXPECT_TRUE(t.Soft(t.p, addr));
  }
}

// ---- fork and threads ----

TEST(SoftDirty, ForkCopiesTheBit) {
  Tracked t;
  t.Clear();
  t.p.mm->tracked_objref = 7;
  ASSERT_EQ(t.w.TryStore(t.p, t.At(1)), Outcome::kOk);
  ASSERT_EQ(t.w.TryStore(t.p, t.At(2)), Outcome::kOk);
  ASSERT_TRUE(t.w.PageOut(t.p, t.At(2)));
  ASSERT_TRUE(t.w.PageOut(t.p, t.At(3)));
  Process& child = t.w.Fork(t.p);
  EXPECT_EQ(t.Marks(child), "-12-");
  EXPECT_EQ(t.Marks(), "-12-");
  EXPECT_EQ(child.mm->tracked_objref, 7u) << "its pages that are not soft-dirty are those of its parent";
  ASSERT_EQ(t.w.TryStore(child, t.a), Outcome::kOk) << "a copy";
  EXPECT_EQ(t.Marks(child), "012-");
  EXPECT_EQ(t.Marks(), "-12-");
  ASSERT_EQ(t.w.TryStore(t.p, t.At(3)), Outcome::kOk);
  EXPECT_EQ(t.Marks(child), "012-");
  EXPECT_EQ(t.Marks(), "-123");
  t.Clear();
  EXPECT_EQ(t.Marks(child) + t.Marks(), "--------");
}

TEST(SoftDirty, ThreadsHaveOneMemory) {
  Tracked t;
  Process& thread = t.w.Thread(t.p);
  t.Clear();
  ASSERT_EQ(t.w.TryStore(thread, t.At(1)), Outcome::kOk);
  EXPECT_EQ(t.Marks(), "-1--");
}

TEST(SoftDirty, AProcessThatComesLaterIsAllSoftDirty) {
  Tracked t;
  t.Clear();
  Process& later = t.w.Spawn();
  t.w.AnonAt(later, t.a, 4);
  ASSERT_EQ(t.w.Store(later, t.a, t.Text(0)), Outcome::kOk);
  EXPECT_EQ(t.Marks(later), "0123");
  EXPECT_EQ(later.mm->tracked_objref, 0u);
}

// Of pages in several leaf tables, with holes between them that have a table, and that have none.
TEST(SoftDirty, RunsAreWhatThePagesSay) {
  World w;
  Process& p = w.Spawn();
  constexpr uint64_t kPages = 1600;
  const Vaddr a = w.Anon(p, kPages);
  base::Random random(20261121);
  const auto store_some = [&](uint64_t one_in) {
    for (uint64_t page = 0; page < kPages; ++page) {
      if ((page >= 700 && page < 1300) || random.Below(8) >= one_in) continue;
      ASSERT_EQ(w.TryStore(p, a + page * kPage), Outcome::kOk);
    }
  };
  store_some(7);
  clear_soft_dirty(w.machine());
  store_some(1);
  for (uint64_t first = 0; first < kPages; first += 1 + random.Below(40)) {
    const uint64_t end = first + 1 + random.Below(kPages - first);
    const SoftDirtyRun run = next_soft_dirty_run(*p.mm, a + first * kPage, a + end * kPage);
    ASSERT_GT(run.pages, 0u);
    ASSERT_LE(run.pages, end - first);
    for (uint64_t page = first; page < first + run.pages; ++page) {
      ASSERT_EQ(soft_dirty(*p.mm, a + page * kPage), run.soft_dirty) << page;
    }
    const bool ends = first + run.pages == end;
    ASSERT_TRUE(ends || soft_dirty(*p.mm, a + (first + run.pages) * kPage) != run.soft_dirty);
  }
}

// ---- swap ----

TEST(SoftDirty, SwapCarriesTheBitOutAndIn) {
  Tracked t;
  t.Clear();
  ASSERT_EQ(t.w.TryStore(t.p, t.At(1)), Outcome::kOk);
  for (uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(t.w.PageOut(t.p, t.At(i)));
  EXPECT_TRUE(pte_swap(t.w.PteAt(t.p, t.At(1))) && pte_swp_soft_dirty(t.w.PteAt(t.p, t.At(1))));
  EXPECT_EQ(t.w.PteAt(t.p, t.a), swp_entry_to_pte(pte_to_swp_entry(t.w.PteAt(t.p, t.a))));
  EXPECT_EQ(t.Marks(), "-1--") << "in swap";
  for (uint64_t i = 0; i < 3; ++i) ASSERT_EQ(t.w.TryLoad(t.p, t.At(i)), Outcome::kOk);
  EXPECT_EQ(t.Marks(), "-1--") << "read back";
  ASSERT_TRUE(t.w.PageOut(t.p, t.At(2)));
  ASSERT_EQ(t.w.TryStore(t.p, t.At(2)), Outcome::kOk);
  EXPECT_EQ(t.Marks(), "-12-") << "brought in by a store";
  ASSERT_EQ(t.w.TryStore(t.p, t.a), Outcome::kOk);
  EXPECT_EQ(t.Marks(), "012-") << "stored to in the swap cache";
}

TEST(SoftDirty, WhatIsInSwapIsClearedThere) {
  Tracked t;
  t.Clear();
  ASSERT_EQ(t.w.TryStore(t.p, t.a), Outcome::kOk);
  ASSERT_TRUE(t.w.PageOut(t.p, t.a));
  EXPECT_EQ(t.Marks(), "0---");
  t.Clear();
  EXPECT_EQ(t.Marks(), "----");
  EXPECT_BYTES(t.w.Load(t.p, t.a, 6), "!age 0");
  EXPECT_EQ(t.Marks(), "----");
}

TEST(SoftDirty, SwapoffCarriesTheBit) {
  Tracked t;
  t.Clear();
  ASSERT_EQ(t.w.TryStore(t.p, t.At(1)), Outcome::kOk);
  Process& child = t.w.Fork(t.p);
  for (uint64_t i = 0; i < 2; ++i) ASSERT_TRUE(t.w.PageOut(t.p, t.At(i)));
  t.SwapOff();
  EXPECT_TRUE(pte_present(t.w.PteAt(t.p, t.At(1))));
  EXPECT_EQ(t.Marks(), "-1--");
  EXPECT_EQ(t.Marks(child), "-1--");
}

// Two have the slot: who writes gets a copy, and the other's page is what it was.
TEST(SoftDirty, AWriteToASharedSlot) {
  Tracked t;
  Process& child = t.w.Fork(t.p);
  ASSERT_TRUE(t.w.PageOut(t.p, t.a));
  t.Clear();
  ASSERT_EQ(t.w.Store(child, t.a, "child"), Outcome::kOk);
  EXPECT_EQ(t.Marks(child), "0---");
  EXPECT_EQ(t.Marks(), "----");
  EXPECT_BYTES(t.w.Load(t.p, t.a, 6), "page 0");
}

// Write protection takes only the right to write: what a pte knows of its page still reaches the slot.
TEST(SoftDirty, ADirtyPteIsNotLost) {
  for (const char* reuse : {"reuse_rule=count", "reuse_rule=mapcount_keep_slot"}) {
    Tracked t(WithSwitch(reuse));
    ASSERT_TRUE(t.w.PageOut(t.p, t.a));
    EXPECT_BYTES(t.w.Load(t.p, t.a, 6), "page 0");
    ASSERT_EQ(t.w.Store(t.p, t.a, "later"), Outcome::kOk);
    t.Clear();
    ASSERT_TRUE(t.w.PageOut(t.p, t.a));
    EXPECT_BYTES(t.w.Load(t.p, t.a, 6), "later0") << reuse;
  }
}

// ---- calls ----

TEST(SoftDirty, MprotectLetsNoStorePass) {
  Tracked t;
  t.Clear();
  for (const int away : {PROT_READ, PROT_NONE, PROT_READ | PROT_WRITE | PROT_EXEC}) {
    ASSERT_TRUE(t.w.Protect(t.p, t.a, 4, away));
    EXPECT_EQ(t.Marks(), "----");
    ASSERT_TRUE(t.w.Protect(t.p, t.a, 4, kReadWrite));
    EXPECT_EQ(t.Marks(), "----") << "protection is no content";
    EXPECT_FALSE(pte_write(t.w.PteAt(t.p, t.a)));
  }
  ASSERT_EQ(t.w.TryStore(t.p, t.a), Outcome::kOk);
  EXPECT_EQ(t.Marks(), "0---");
  ASSERT_TRUE(t.w.Protect(t.p, t.a, 4, PROT_READ));
  EXPECT_EQ(t.Marks(), "0---");
}

TEST(SoftDirty, WhatMremapMovesIsSoftDirtyWhereItLands) {
  Tracked t;
  ASSERT_TRUE(t.w.PageOut(t.p, t.At(1)));
  const FilePtr file = t.w.NewFile(kPage);
  const Vaddr f = t.w.Private(t.p, file, 1);
  ASSERT_EQ(t.w.TryLoad(t.p, f), Outcome::kOk);
  t.Clear();
  constexpr Vaddr kTo = 0x20000000;
  const auto move = [&](Vaddr from, uint64_t pages, Vaddr to) {
    EXPECT_TRUE(sys_mremap(*t.p.mm, from, pages * kPage, pages * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to));
    t.w.Check();
  };
  move(t.a, 2, kTo);
  move(f, 1, kTo + 8 * kPage);
  EXPECT_TRUE(t.Soft(t.p, kTo));
  EXPECT_TRUE(t.Soft(t.p, kTo + kPage)) << "in swap";
  EXPECT_FALSE(pte_soft_dirty(t.w.PteAt(t.p, kTo + 8 * kPage))) << "the file's page";
  EXPECT_EQ(t.Marks(), "01--");
  EXPECT_BYTES(t.w.Load(t.p, kTo + kPage, 6), "page 1");
  t.Clear();
  EXPECT_FALSE(t.Soft(t.p, kTo + kPage));
  // In place, nothing moves.
  ASSERT_TRUE(sys_mremap(*t.p.mm, kTo, 2 * kPage, 3 * kPage, 0, 0));
  EXPECT_FALSE(t.Soft(t.p, kTo));
}

// A page goes, and another comes to its place.
TEST(SoftDirty, AnotherPageAtTheSameAddress) {
  Tracked t;
  t.Clear();
  ASSERT_TRUE(t.w.Advise(t.p, t.a, 1, MADV_DONTNEED));
  ASSERT_EQ(t.w.Store(t.p, t.a, "page 0"), Outcome::kOk);
  t.w.AnonAt(t.p, t.At(1), 1);
  ASSERT_EQ(t.w.Store(t.p, t.At(1), "page 1"), Outcome::kOk);
  EXPECT_EQ(t.Marks(), "01--");
}

// They break COW before anybody stores: more than need be, and never less.
TEST(SoftDirty, WhatIsBroughtInForWritingIsSoftDirty) {
  Tracked t;
  t.Clear();
  ASSERT_TRUE(sys_mlock(*t.p.mm, t.a, kPage));
  ASSERT_EQ(t.w.machine().touch(t.p, t.At(1), 1, Write::kYes).outcome, Outcome::kOk);
  EXPECT_EQ(t.Marks(), "01--");
}

// ---- pins, and writes of the kernel ----

TEST(SoftDirty, WritesOfTheKernelAreSeen) {
  Tracked t;
  ASSERT_TRUE(t.w.Protect(t.p, t.a, 4, PROT_READ));
  ASSERT_TRUE(t.w.PageOut(t.p, t.At(1)));
  t.Clear();
  std::vector<Pfn> read = t.Pin(t.p, t.At(3), Write::kNo);
  unpin_user_pages(t.w.machine(), read);
  EXPECT_EQ(t.Marks(), "----") << "for reading";
  for (const uint64_t i : {0, 1}) {  // by a debugger: the vma is read-only
    std::vector<Pfn> pins = t.Pin(t.p, t.At(i), Write::kYes, Force::kYes);
    t.WritePinned(pins[0], 'K');
    unpin_user_pages(t.w.machine(), pins);
  }
  EXPECT_EQ(t.Marks(), "01--");
  ASSERT_TRUE(t.w.Protect(t.p, t.a, 4, kReadWrite));
  std::vector<Pfn> pins = t.Pin(t.p, t.At(2));
  EXPECT_EQ(t.Marks(), "012-");
  unpin_user_pages(t.w.machine(), pins);
  EXPECT_BYTES(t.w.Load(t.p, t.At(1), 6), "Kage 1");
}

// The device may write whenever it likes, and no fault tells.
TEST(SoftDirty, WhatIsPinnedStaysSoftDirty) {
  Tracked t;
  std::vector<Pfn> pins = t.Pin(t.p, t.At(1));
  t.Clear();
  EXPECT_EQ(t.Marks(), "-1--");
  EXPECT_TRUE(pte_write(t.w.PteAt(t.p, t.At(1))));
  t.WritePinned(pins[0], 'D');
  unpin_user_pages(t.w.machine(), pins);
  EXPECT_BYTES(t.w.Load(t.p, t.At(1), 6), "Dage 1");
  EXPECT_EQ(t.Marks(), "-1--");
  t.Clear();
  EXPECT_EQ(t.Marks(), "----");
}

// Reclaim has unmapped it, and cannot free it: both who have its slot will see what the device writes.
TEST(SoftDirty, WhatIsPinnedBehindASwapEntryStaysSoftDirty) {
  Tracked t;
  std::vector<Pfn> pins = t.Pin(t.p, t.At(1));
  Process& child = t.w.Fork(t.p);
  EXPECT_FALSE(t.w.PageOut(t.p, t.At(1)));
  ASSERT_TRUE(pte_swap(t.w.PteAt(t.p, t.At(1))) && pte_swap(t.w.PteAt(child, t.At(1))));
  ASSERT_TRUE(t.w.PageOut(t.p, t.At(2)));
  t.Clear();
  EXPECT_EQ(t.Marks(), "-1--");
  EXPECT_EQ(t.Marks(child), "-1--");
  t.WritePinned(pins[0], 'D');
  EXPECT_BYTES(t.w.Load(t.p, t.At(1), 6), "Dage 1");
  EXPECT_BYTES(t.w.Load(child, t.At(1), 6), "Dage 1");
  EXPECT_EQ(t.Marks() + t.Marks(child), "-1---1--");
  unpin_user_pages(t.w.machine(), pins);
}

TEST(SoftDirty, WhatIsPinnedByAParentStaysSoftDirtyInItsChild) {
  Tracked t;
  std::vector<Pfn> pins = t.Pin(t.p, t.a);
  Process& child = t.w.Fork(t.p);
  ASSERT_EQ(t.w.TryStore(t.p, t.a), Outcome::kOk) << "a copy: the device has the child's page from now on";
  t.Clear();
  EXPECT_EQ(t.Marks(), "----");
  EXPECT_EQ(t.Marks(child), "0---");
  EXPECT_FALSE(pte_write(t.w.PteAt(child, t.a)));
  t.WritePinned(pins[0], 'D');
  EXPECT_BYTES(t.w.Load(child, t.a, 6), "Dage 0");
  unpin_user_pages(t.w.machine(), pins);
}

// ---- restart ----

TEST(SoftDirty, ARestoredMemoryCanStartOutClean) {
  Tracked t;
  Process& p = t.w.Spawn();
  t.w.AnonAt(p, t.a, 4);
  install_anon_page(t.w.VmaAt(p, t.a), t.a, t.NewPage("saved"), Shared::kNo);
  const SwpEntry slot = t.w.machine().swap->TakeForUser();
  install_swap_entry(t.w.VmaAt(p, t.a), t.At(1), slot);
  make_writable(t.w.VmaAt(p, t.a));
  EXPECT_TRUE(pte_write(t.w.PteAt(p, t.a)));
  t.Clear();
  EXPECT_EQ(t.Marks(p), "--23");
  ASSERT_EQ(t.w.TryStore(p, t.a), Outcome::kOk);
  EXPECT_EQ(t.Marks(p), "0-23");
}

TEST(SoftDirty, WhatIsInstalledLaterIsSoftDirty) {
  Tracked t;
  t.Clear();
  Process& p = t.w.Spawn();
  t.w.AnonAt(p, t.a, 4);
  install_anon_page(t.w.VmaAt(p, t.a), t.a, t.NewPage("saved"), Shared::kNo);
  install_swap_entry(t.w.VmaAt(p, t.a), t.At(1), t.w.machine().swap->TakeForUser());
  EXPECT_TRUE(pte_soft_dirty(t.w.PteAt(p, t.a)));
  EXPECT_TRUE(pte_swp_soft_dirty(t.w.PteAt(p, t.At(1))));
  make_writable(t.w.VmaAt(p, t.a));
  t.w.Check();
  EXPECT_TRUE(pte_write(t.w.PteAt(p, t.a)));
  EXPECT_EQ(t.Marks(p), "0123");
}

TEST(SoftDirty, MakeWritableSparesWhatIsTracked) {
  Tracked t;
  t.Clear();
  ASSERT_EQ(t.w.TryStore(t.p, t.a), Outcome::kOk);
  ASSERT_TRUE(t.w.Protect(t.p, t.a, 4, PROT_READ));
  ASSERT_TRUE(t.w.Protect(t.p, t.a, 4, kReadWrite));
  make_writable(t.w.VmaAt(t.p, t.a));
  t.w.Check();
  EXPECT_TRUE(pte_write(t.w.PteAt(t.p, t.a)));
  EXPECT_FALSE(pte_write(t.w.PteAt(t.p, t.At(1))));
  EXPECT_EQ(t.Marks(), "0---");
}

// ---- several CPUs ----

// A checkpoint begins while another CPU is in the middle of a store: it waits for it.
TEST(SoftDirty, ClearWaitsForWhoIsInTheMiddleOfACall) {
  Tracked t;
  t.Clear();
  bool soft = false;
  char byte = 0;
  ASSERT_TRUE(t.w.Beside(
      [&] {
        ReadGuard call(t.w.machine().freezer);
        const std::byte x{'x'};
        EXPECT_EQ(t.w.machine().store(t.p, t.a, {&x, 1}).outcome, Outcome::kOk);
      },
      "DoWpPage", "page_table_lock",
      [&] {
        Guard freeze(t.w.machine().freezer);
        soft = soft_dirty(*t.p.mm, t.a);
        clear_soft_dirty(t.w.machine());
        byte = static_cast<char>(t.w.machine().frames.bytes(t.w.PfnAt(t.p, t.a))[0]);
      }));
  EXPECT_TRUE(soft);
  EXPECT_EQ(byte, 'x');
  EXPECT_EQ(t.Marks(), "----");
}

}  // namespace
}  // namespace mm
