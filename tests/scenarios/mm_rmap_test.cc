// Scenarios O01 to O15 of the memory model: object-based reverse maps and pte chains (seed 003).
//
// Where a scenario says that somebody else holds a lock, another CPU does.
#include "mm/rmap.h"

#include <gtest/gtest.h>

#include <vector>

#include "mm/pte_chain.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

// The place where CPU 0 stands in WhileHeld().
void HasThem() { racy_read(nullptr, "locks of the test"); }

// CPU 0 holds the locks while CPU 1 does `job`.
template <class L>
testing::AssertionResult WhileHeld(World& w, const std::vector<L*>& locks, const Cpus::Job& job) {
  return w.Beside(
      [&] {
        for (L* lock : locks) lock->lock_nested();
        HasThem();
        for (L* lock : locks) lock->unlock();
      },
      "HasThem", "locks of the test", job);
}

// One page of a file, mapped by three processes in that order.
struct ThreeMappers {
  explicit ThreeMappers(const Semantics& semantics = {}, int flags = MAP_SHARED) : w(semantics) {
    for (size_t i = 0; i < 3; ++i) {
      p[i] = &w.Spawn();
      addr[i] = w.Map(*p[i], 1, kReadWrite, flags, file);
      EXPECT_BYTES(w.Load(*p[i], addr[i], 8), w.Original(file, 0, 8));
    }
    pfn = w.PfnAt(*p[0], addr[0]);
  }
  Machine& m() { return w.machine(); }
  Page& page() { return m().frames.at(pfn); }
  Pte& pte(size_t i) { return *p[i]->mm->pgtable.find(addr[i]); }
  bool Mapped(size_t i) { return w.PteAt(*p[i], addr[i]) != Pte{} && w.PfnAt(*p[i], addr[i]) == pfn; }
  PageTableLock& TableLock(size_t i) { return p[i]->mm->page_table_lock; }
  SwapResult Unmap() {
    lock_page(page());
    const SwapResult result = try_to_unmap(m(), pfn);
    unlock_page_nocheck(page());
    return result;
  }
  // Nothing was referenced lately.
  void Age() {
    page_referenced(m(), pfn, PageIs::kUnlocked);
    EXPECT_EQ(page_referenced(m(), pfn, PageIs::kUnlocked), 0);
  }
  // A store that only the pte knows of yet: what hardware does to a pte that may be written.
  void StoreBehindThePagesBack(size_t i, const char* bytes) {
    std::copy_n(reinterpret_cast<const std::byte*>(bytes), std::string_view(bytes).size(),
                m().frames.bytes(pfn));
    pte(i) = pte_set(pte(i), kPteDirty | kPteYoung);
  }
  void ExpectAllReadFile() {
    const std::string want = w.ReadFile(file, 0, kPage);
    for (size_t i = 0; i < 3; ++i) EXPECT_BYTES(w.Load(*p[i], addr[i], kPage), want);
  }

  World w;
  FilePtr file = w.NewFile(4 * kPage);
  Process* p[3] = {};
  Vaddr addr[3] = {};
  Pfn pfn = kNoPfn;
};

size_t ChainLength(const Page& page) {
  size_t length = 0;
  pte_chain_for_each(page, [&](PteAddr) { ++length; });
  return length;
}

bool OnChain(const Page& page, PteAddr wanted) {
  bool found = false;
  pte_chain_for_each(page, [&](PteAddr entry) { found = found || entry == wanted; });
  return found;
}

TEST(Rmap, O01_unmap_with_one_page_table_lock_held) {
  ThreeMappers t;
  t.StoreBehindThePagesBack(2, "third");
  ASSERT_TRUE(WhileHeld<PageTableLock>(t.w, {&t.TableLock(1)},
                                       [&] { EXPECT_EQ(t.Unmap(), SwapResult::SWAP_AGAIN); }));
  EXPECT_FALSE(t.Mapped(0));
  EXPECT_TRUE(t.Mapped(1));
  EXPECT_FALSE(t.Mapped(2));
  EXPECT_EQ(t.page().mapcount, 1);
  EXPECT_EQ(t.p[0]->mm->file_rss + t.p[2]->mm->file_rss, 0u);
  EXPECT_TRUE(t.page().dirty()) << "the dirty bit of the pte that went is the page's now";
  EXPECT_EQ(t.m().vmstat.nr_dirty, 1u);
  EXPECT_EQ(t.m().vmstat.nr_mapped, 1u);
  t.w.Check();

  EXPECT_EQ(t.Unmap(), SwapResult::SWAP_SUCCESS);
  EXPECT_EQ(t.page().mapcount, 0);
  EXPECT_FALSE(page_mapped(t.page()));
  EXPECT_EQ(t.m().vmstat.nr_mapped, 0u);
  t.w.Check();
  ASSERT_TRUE(t.w.Fsync(t.file));
  EXPECT_BYTES(t.w.OnDisk(t.file, 0, 5), "third");
  t.ExpectAllReadFile();
}

TEST(Rmap, O02_shared_semaphore_busy) {
  ThreeMappers t;
  t.Age();
  t.pte(1) = pte_set(t.pte(1), kPteYoung);
  const std::string before = TextDump(t.m());
  ASSERT_TRUE(WhileHeld<SharedSem>(t.w, {&t.file->mapping.i_shared_sem}, [&] {
    EXPECT_EQ(t.Unmap(), SwapResult::SWAP_AGAIN);
    EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 1) << "counts as a reference";
  }));
  EXPECT_EQ(TextDump(t.m()), before) << "nothing changed, the young bit neither";
  EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 1);
  EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 0);
  EXPECT_EQ(t.Unmap(), SwapResult::SWAP_SUCCESS);
  t.ExpectAllReadFile();
}

TEST(Rmap, O03_locked_vma_stops_after_partial_work) {
  ThreeMappers t;
  ASSERT_TRUE(sys_mlock(*t.p[1]->mm, t.addr[1], kPage));
  EXPECT_EQ(t.Unmap(), SwapResult::SWAP_FAIL);
  EXPECT_FALSE(t.Mapped(0));
  EXPECT_TRUE(t.Mapped(1));
  EXPECT_TRUE(t.Mapped(2)) << "untouched";
  EXPECT_EQ(t.page().mapcount, 2);
  t.w.Check();
  ASSERT_EQ(t.w.Store(*t.p[0], t.addr[0], "again"), Outcome::kOk);
  EXPECT_TRUE(t.Mapped(0)) << "the very page, by a fault";
  EXPECT_BYTES(t.w.Load(*t.p[2], t.addr[2], 5), "again");
}

TEST(Rmap, O03_reserved_vma_is_like_a_locked_one) {
  ThreeMappers t;
  t.w.VmaAt(*t.p[0], t.addr[0]).flags |= VM_RESERVED;
  EXPECT_EQ(t.Unmap(), SwapResult::SWAP_FAIL);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(t.Mapped(i)) << i;
  t.w.Check();
}

// `absent`: the mapper that has the vma and not the page, and whose lock is held.
void BusyWhereNotMapped(size_t absent) {
  SCOPED_TRACE(absent);
  ThreeMappers t;
  ASSERT_TRUE(t.w.Advise(*t.p[absent], t.addr[absent], 1, MADV_DONTNEED));
  ASSERT_EQ(t.page().mapcount, 2);
  ASSERT_TRUE(WhileHeld<PageTableLock>(t.w, {&t.TableLock(absent)},
                                       [&] { EXPECT_EQ(t.Unmap(), SwapResult::SWAP_SUCCESS); }));
  EXPECT_EQ(t.page().mapcount, 0);
  t.ExpectAllReadFile();
}

TEST(Rmap, O04_busy_lock_where_the_page_is_not_mapped) {
  for (size_t absent = 0; absent < 3; ++absent) BusyWhereNotMapped(absent);
}

TEST(Rmap, O05_vma_that_maps_another_page_there) {
  ThreeMappers t({}, MAP_PRIVATE);
  ASSERT_EQ(t.w.Store(*t.p[1], t.addr[1], "mine"), Outcome::kOk);
  ASSERT_FALSE(t.Mapped(1));
  const Pfn copy = t.w.PfnAt(*t.p[1], t.addr[1]);
  EXPECT_EQ(t.page().mapcount, 2);
  Vma& vma = t.w.VmaAt(*t.p[1], t.addr[1]);
  Vaddr where = 0;
  EXPECT_EQ(find_pte(vma, t.m(), t.pfn, &where), nullptr);
  EXPECT_EQ(find_pte(t.w.VmaAt(*t.p[0], t.addr[0]), t.m(), t.pfn, &where), &t.pte(0));
  EXPECT_EQ(where, t.addr[0]);

  t.page().flags &= ~PG_referenced;
  for (const size_t i : {size_t{0}, size_t{2}}) t.pte(i) = pte_clear_bits(t.pte(i), kPteYoung);
  t.pte(1) = pte_set(t.pte(1), kPteYoung);
  EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 0) << "the copy's young bit is not this page's";
  EXPECT_TRUE(pte_young(t.pte(1)));

  EXPECT_EQ(t.Unmap(), SwapResult::SWAP_SUCCESS);
  EXPECT_EQ(t.w.PfnAt(*t.p[1], t.addr[1]), copy) << "not unmapped";
  t.w.Check();
  EXPECT_BYTES(t.w.Load(*t.p[1], t.addr[1], 4), "mine");
  EXPECT_BYTES(t.w.Load(*t.p[0], t.addr[0], kPage), t.w.Original(t.file, 0, kPage));
}

TEST(Rmap, O06_referenced_with_two_of_three_locks_busy) {
  ThreeMappers t;
  t.page().flags &= ~PG_referenced;
  for (size_t i = 0; i < 3; ++i) t.pte(i) = pte_set(t.pte(i), kPteYoung);
  const std::vector<PageTableLock*> two = {&t.TableLock(0), &t.TableLock(1)};
  ASSERT_TRUE(WhileHeld(t.w, two, [&] { EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 3); }));
  EXPECT_TRUE(pte_young(t.pte(0)));
  EXPECT_TRUE(pte_young(t.pte(1)));
  EXPECT_FALSE(pte_young(t.pte(2))) << "cleared";
  ASSERT_TRUE(WhileHeld(t.w, two, [&] { EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 2); }));
  EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 2);
  EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 0);
}

TEST(Rmap, O06_nothing_mapped_needs_no_lock) {
  ThreeMappers t;
  ASSERT_EQ(t.Unmap(), SwapResult::SWAP_SUCCESS);
  t.page().flags &= ~PG_referenced;
  ASSERT_TRUE(WhileHeld<SharedSem>(t.w, {&t.file->mapping.i_shared_sem},
                                   [&] { EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 0); }));
}

// A page of the file at index 2 that `linear` processes map where it belongs, and a fourth process with a
// non-linear vma of the file.
struct ToConvert {
  explicit ToConvert(size_t linear, const Semantics& semantics = {}) : w(semantics) {
    for (size_t i = 0; i < linear; ++i) {
      p[i] = &w.Spawn();
      addr[i] = w.Shared(*p[i], file, 4);
      EXPECT_BYTES(w.Load(*p[i], addr[i] + 2 * kPage, 4), w.Original(file, 2 * kPage, 4));
    }
    // Cached in any case, so that a frame can be named.
    EXPECT_EQ(w.ReadFile(file, 2 * kPage, 1).size(), 1u);
    pfn = find_get_page(m(), file->mapping, 2);
    m().frames.put_page(pfn);
  }
  Machine& m() { return w.machine(); }
  Page& page() { return m().frames.at(pfn); }
  // install_page of the page at the first address of `vma`; what it answers, as an errno.
  int Install(Process& process, Vaddr where) {
    Guard guard(process.mm->mmap_sem);
    Vma& vma = w.VmaAt(process, where);
    process.mm->make_nonlinear(vma);
    m().frames.get_page(pfn);
    const SysResult<void> installed = install_page(vma, where, pfn);
    if (installed) return 0;
    m().frames.put_page(pfn);
    return installed.error().err;
  }
  int Install() { return Install(other, window); }
  SysResult<void> Convert() {
    lock_page(page());
    const SysResult<void> converted = page_convert_anon(m(), pfn);
    unlock_page_nocheck(page());
    return converted;
  }
  Vaddr At(size_t i) const { return addr[i] + 2 * kPage; }
  void ExpectChainOf(size_t linear) {
    EXPECT_NE(page().flags & PG_anon, 0u);
    EXPECT_EQ(ChainLength(page()), linear);
    for (size_t i = 0; i < linear; ++i) EXPECT_TRUE(OnChain(page(), {p[i]->mm.get(), At(i)})) << i;
  }

  World w;
  FilePtr file = w.NewFile(4 * kPage);
  Process* p[3] = {};
  Vaddr addr[3] = {};
  Process& other = w.Spawn();
  Vaddr window = w.Shared(other, file, 4);
  Pfn pfn = kNoPfn;
};

TEST(Rmap, O07_nonlinear_page_with_two_linear_mappers_is_converted) {
  ToConvert t(2);
  EXPECT_EQ(t.page().flags & PG_anon, 0u);
  const uint64_t mapped = t.m().vmstat.nr_mapped;
  ASSERT_TRUE(t.Convert());
  t.ExpectChainOf(2);
  EXPECT_EQ(t.m().vmstat.nr_mapped, mapped);
  t.w.Check();
  ASSERT_EQ(t.Install(), 0);
  EXPECT_EQ(ChainLength(t.page()), 3u);
  EXPECT_TRUE(OnChain(t.page(), {t.other.mm.get(), t.window}));
  EXPECT_EQ(t.page().mapcount, 3);
  EXPECT_EQ(t.m().vmstat.nr_mapped, mapped);
  EXPECT_EQ(FileMapping(t.page()), &t.file->mapping) << "still a page of its file";
  t.w.Check();

  ASSERT_EQ(t.w.Store(*t.p[0], t.At(0), "seen"), Outcome::kOk);
  EXPECT_BYTES(t.w.Load(t.other, t.window, 4), "seen");
  EXPECT_BYTES(t.w.Load(*t.p[1], t.At(1), 4), "seen");
  for (size_t i = 0; i < 2; ++i) t.w.Exit(*t.p[i]);
  EXPECT_EQ(ChainLength(t.page()), 1u);
  EXPECT_EQ(t.m().vmstat.nr_mapped, mapped);
  t.w.Exit(t.other);
  EXPECT_EQ(t.m().vmstat.nr_mapped, 0u);
}

TEST(Rmap, O07_converted_page_is_unmapped_and_referenced_through_its_chain) {
  ToConvert t(2);
  ASSERT_EQ(t.Install(), 0);
  t.page().flags &= ~PG_referenced;
  page_referenced(t.m(), t.pfn, PageIs::kUnlocked);
  Pte& pte = *t.other.mm->pgtable.find(t.window);
  pte = pte_set(pte, kPteYoung);
  EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 1)
      << "the non-linear pte, which no vma leads to";
  EXPECT_EQ(page_referenced(t.m(), t.pfn, PageIs::kUnlocked), 0);
  lock_page(t.page());
  EXPECT_EQ(try_to_unmap(t.m(), t.pfn), SwapResult::SWAP_SUCCESS);
  unlock_page_nocheck(t.page());
  EXPECT_EQ(t.w.PteAt(t.other, t.window), pgoff_to_pte(2));
  EXPECT_EQ(t.w.PteAt(*t.p[0], t.At(0)), Pte{});
  EXPECT_EQ(t.m().vmstat.nr_mapped, 0u);
  t.w.Check();
  EXPECT_BYTES(t.w.Load(t.other, t.window, kPage), t.w.Original(t.file, 2 * kPage, kPage));
}

TEST(Rmap, O08_conversion_of_an_unmapped_page) {
  ToConvert t(0);
  ASSERT_EQ(t.page().mapcount, 0);
  const uint64_t mapped = t.m().vmstat.nr_mapped;
  ASSERT_TRUE(t.Convert());
  t.ExpectChainOf(0);
  EXPECT_FALSE(page_mapped(t.page()));
  EXPECT_EQ(t.m().vmstat.nr_mapped, mapped);
  t.w.Check();
  // Linear mappers that come later join the chain.
  Process& late = t.w.Spawn();
  const Vaddr a = t.w.Shared(late, t.file, 4);
  EXPECT_BYTES(t.w.Load(late, a + 2 * kPage, kPage), t.w.Original(t.file, 2 * kPage, kPage));
  EXPECT_TRUE(OnChain(t.page(), {late.mm.get(), a + 2 * kPage}));
  EXPECT_EQ(t.m().vmstat.nr_mapped, mapped + 1);
}

// Two install_page at once: the second one converts while the first is about to take the page lock, so the
// first finds it done.
TEST(Rmap, O09_conversion_twice_at_once) {
  ToConvert t(2);
  Process& second = t.w.Spawn();
  const Vaddr b = t.w.Shared(second, t.file, 4);
  ASSERT_TRUE(t.w.Beside([&] { EXPECT_EQ(t.Install(), 0); }, "install_page", "page lock",
                         [&] { EXPECT_EQ(t.Install(second, b), 0); }));
  EXPECT_EQ(ChainLength(t.page()), 4u);
  EXPECT_EQ(t.page().mapcount, 4);
  EXPECT_EQ(t.m().vmstat.nr_mapped, 1u);
  t.w.Check();
  EXPECT_BYTES(t.w.Load(second, b, kPage), t.w.Original(t.file, 2 * kPage, kPage));
  ASSERT_TRUE(t.Convert()) << "a third time: nothing to do";
  EXPECT_EQ(ChainLength(t.page()), 4u);
  t.w.Check();
}

TEST(Rmap, O10_truncate_wins_the_page_lock) {
  ToConvert t(1);
  // So that the frame can be looked at afterwards.
  std::vector<Pfn> pins = get_user_pages(*t.p[0]->mm, t.At(0), 1, Write::kNo, Force::kNo).value();
  ASSERT_TRUE(t.w.Beside([&] { EXPECT_EQ(t.Install(), EINVAL); }, "install_page", "page lock",
                         [&] { EXPECT_TRUE(vmtruncate(t.m(), *t.file, 0, kNoLimit)); }));
  EXPECT_EQ(t.w.PteAt(t.other, t.window), Pte{}) << "no mapping of a truncated page";
  EXPECT_EQ(t.page().mapcount, 0);
  EXPECT_EQ(t.page().mapping_word, 0u);
  EXPECT_EQ(t.page().flags & PG_anon, 0u) << "nothing was converted";
  EXPECT_EQ(t.page().count, 1) << "only this test's reference is left";
  ASSERT_TRUE(t.Convert()) << "of a page without a mapping: success, and nothing done";
  EXPECT_EQ(t.page().flags & PG_anon, 0u);
  unpin_user_pages(t.m(), pins);
  t.w.Check();
  EXPECT_EQ(t.w.TryLoad(*t.p[0], t.At(0)), Outcome::kSigbus);
}

// The conversion has set PG_anon and put no pte on the chain yet. munmap removes the ptes, and then waits for
// i_shared_sem, which the conversion holds, to take the vma away.
TEST(Rmap, O11_conversion_against_munmap_in_the_window) {
  ToConvert t(2);
  ASSERT_TRUE(t.w.Beside([&] { EXPECT_TRUE(t.Convert()); }, "page_convert_anon", "page_table_lock",
                         [&] {
                           EXPECT_NE(t.page().flags & PG_anon, 0u);
                           EXPECT_EQ(ChainLength(t.page()), 0u);
                           EXPECT_TRUE(sys_munmap(*t.p[0]->mm, t.addr[0], 4 * kPage));
                           EXPECT_EQ(ChainLength(t.page()), 1u) << "the conversion came to its end first";
                         }));
  EXPECT_EQ(ChainLength(t.page()), 1u);
  EXPECT_FALSE(OnChain(t.page(), {t.p[0]->mm.get(), t.At(0)})) << "a stale entry";
  EXPECT_TRUE(OnChain(t.page(), {t.p[1]->mm.get(), t.At(1)}));
  EXPECT_EQ(t.page().mapcount, 1);
  EXPECT_EQ(t.m().vmstat.nr_mapped, 1u);
  ASSERT_TRUE(t.w.Unmap(*t.p[1], t.addr[1], 4));
  EXPECT_EQ(t.m().vmstat.nr_mapped, 0u);
}

TEST(Rmap, O11_the_only_mapper_goes_in_the_window) {
  ToConvert t(1);
  ASSERT_TRUE(t.w.Beside([&] { EXPECT_TRUE(t.Convert()); }, "page_convert_anon", "page_table_lock",
                         [&] { EXPECT_TRUE(sys_munmap(*t.p[0]->mm, t.addr[0], 4 * kPage)); }));
  EXPECT_EQ(ChainLength(t.page()), 0u);
  EXPECT_EQ(t.m().vmstat.nr_mapped, 0u);
}

TEST(Rmap, O12_conversion_out_of_memory_rolls_back) {
  for (const uint64_t nth : {1, 2, 3}) {
    SCOPED_TRACE(nth);
    ToConvert t(3);
    const std::string before = TextDump(t.m());
    const uint64_t nodes = t.m().pte_chains.in_use();
    t.m().pte_chains.FailTryAlloc(nth);
    lock_page(t.page());
    const SysResult<void> converted = page_convert_anon(t.m(), t.pfn);
    unlock_page_nocheck(t.page());
    t.m().pte_chains.FailTryAlloc(0);
    t.w.Check();
    if (converted) {
      EXPECT_GT(nth, 1u) << "at least one node is needed";
      t.ExpectChainOf(3);
      continue;
    }
    EXPECT_EQ(converted.error().err, ENOMEM);
    EXPECT_EQ(TextDump(t.m()), before) << "the page is as it was";
    EXPECT_EQ(t.m().pte_chains.in_use(), nodes);
    EXPECT_TRUE(page_mapped(t.page()));
    ASSERT_TRUE(t.Convert()) << "and can be converted with memory";
    t.ExpectChainOf(3);
    t.w.Check();
  }
}

TEST(Rmap, O12_the_caller_maps_nothing_without_memory) {
  ToConvert t(3);
  EXPECT_BYTES(t.w.Load(t.other, t.window, 4), t.w.Original(t.file, 0, 4));
  {
    Guard guard(t.other.mm->mmap_sem);
    t.other.mm->make_nonlinear(t.w.VmaAt(t.other, t.window));
  }
  const std::string before = TextDump(t.m());
  t.m().pte_chains.FailTryAlloc(1);
  EXPECT_EQ(t.Install(), ENOMEM);
  t.m().pte_chains.FailTryAlloc(0);
  EXPECT_EQ(TextDump(t.m()), before);
  EXPECT_BYTES(t.w.Load(t.other, t.window, 4), t.w.Original(t.file, 0, 4));
}

// As posted, the page keeps PG_anon with part of its ptes on the chain.
TEST(Rmap, O12_as_posted_leaves_ptes_without_entries) {
  bool read_as_unmapped = false;
  for (const uint64_t nth : {1, 2}) {
    SCOPED_TRACE(nth);
    ToConvert t(3, WithSwitch("convert_enomem=as_posted"));
    t.m().pte_chains.FailTryAlloc(nth);
    const SysResult<void> converted = t.Convert();
    t.m().pte_chains.FailTryAlloc(0);
    ASSERT_FALSE(converted);
    EXPECT_EQ(converted.error().err, ENOMEM);
    EXPECT_NE(t.page().flags & PG_anon, 0u);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(t.w.PfnAt(*t.p[i], t.At(i)), t.pfn);
    const size_t chained = ChainLength(t.page());
    EXPECT_LT(chained, 3u) << "ptes that no chain knows of";
    EXPECT_TRUE(Validate(t.m()).has_value());
    EXPECT_EQ(page_mapped(t.page()), chained > 0);
    read_as_unmapped = read_as_unmapped || !page_mapped(t.page());
    // By hand, what the conversion did not come to.
    t.m().vmstat.nr_mapped = 1;
    for (size_t i = 0; i < 3; ++i) {
      const PteAddr entry{t.p[i]->mm.get(), t.At(i)};
      if (!OnChain(t.page(), entry)) pte_chain_add(t.m().pte_chains, t.page(), entry);
    }
    t.w.Check();
  }
  EXPECT_TRUE(read_as_unmapped) << "a page with three ptes can read as not mapped";
}

TEST(RmapDeathTest, O13_page_without_mapping_in_add_rmap) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  const Pfn pfn = w.machine().frames.alloc_page(Fill::kZero);
  EXPECT_DEATH(page_add_file_rmap(w.machine(), pfn, *p.mm, a), "CHECK failed");
  w.machine().frames.put_page(pfn);
}

TEST(RmapDeathTest, O13_swap_cache_page_in_add_rmap) {
  World w({}, 4096, 16);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.TryStore(p, a), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  ASSERT_TRUE(w.PageAt(p, a).swapcache());
  EXPECT_DEATH(page_add_file_rmap(w.machine(), w.PfnAt(p, a), *p.mm, a), "CHECK failed");
}

// A fork that has linked its vma and copies the pte in the window: the scan meets a pte that is on the chain.
TEST(Rmap, O14_duplicate_before_the_scan) {
  ToConvert t(2);
  // Only a vma with pages of its own has its ptes copied; the others are left to faults.
  Process& parent = t.w.Spawn();
  const Vaddr a = t.w.Private(parent, t.file, 4);
  ASSERT_EQ(t.w.Store(parent, a, "mine"), Outcome::kOk);
  EXPECT_BYTES(t.w.Load(parent, a + 2 * kPage, kPage), t.w.Original(t.file, 2 * kPage, kPage));
  Process* child = nullptr;
  ASSERT_TRUE(
      t.w.OnCpus({[&] {
                    child = t.m().fork(parent.pid, 99, "child").value_or(nullptr);
                    EXPECT_EQ(ChainLength(t.page()), 1u) << "the scan has not begun";
                  },
                  [&] { EXPECT_TRUE(t.Convert()); }},
                 {{0, "CopyPageRange", "page_table_lock"}, {1, "page_convert_anon", "page_table_lock"}}));
  ASSERT_NE(child, nullptr);
  const PteAddr entry{child->mm.get(), a + 2 * kPage};
  size_t entries = 0;
  pte_chain_for_each(t.page(), [&](PteAddr e) { entries += e == entry ? 1 : 0; });
  EXPECT_EQ(entries, 1u);
  EXPECT_EQ(ChainLength(t.page()), 4u);
  EXPECT_EQ(t.page().mapcount, 4);
  EXPECT_EQ(t.m().vmstat.nr_mapped, 1u);
  t.w.Exit(*child);
  EXPECT_EQ(ChainLength(t.page()), 3u);
}

enum class Path { kMunmap, kTryToUnmap };

void LastUnmapDirtiesOnce(Path path, bool chained) {
  SCOPED_TRACE(testing::Message() << (path == Path::kMunmap ? "munmap" : "try_to_unmap")
                                  << (chained ? ", chain" : ", object"));
  ToConvert t(2);
  if (chained) {
    ASSERT_TRUE(t.Convert());
  }
  ASSERT_EQ(t.m().vmstat.nr_mapped, 1u);
  ASSERT_EQ(t.m().vmstat.nr_dirty, 0u);
  // A store that only the storage key tells of.
  t.m().frames.bytes(t.pfn)[0] = std::byte{'K'};
  t.page().flags |= PG_key_dirty;
  if (path == Path::kMunmap) {
    ASSERT_TRUE(sys_munmap(*t.p[0]->mm, t.addr[0], 4 * kPage));
    EXPECT_FALSE(t.page().dirty()) << "not while it is mapped";
    EXPECT_EQ(t.m().vmstat.nr_mapped, 1u);
    ASSERT_TRUE(sys_munmap(*t.p[1]->mm, t.addr[1], 4 * kPage));
  } else {
    {
      Guard busy(t.p[1]->mm->page_table_lock);
      lock_page(t.page());
      EXPECT_EQ(try_to_unmap(t.m(), t.pfn), SwapResult::SWAP_AGAIN);
      EXPECT_FALSE(t.page().dirty());
      EXPECT_EQ(t.m().vmstat.nr_mapped, 1u);
    }
    EXPECT_EQ(try_to_unmap(t.m(), t.pfn), SwapResult::SWAP_SUCCESS);
    unlock_page_nocheck(t.page());
  }
  EXPECT_TRUE(t.page().dirty());
  EXPECT_EQ(t.page().flags & PG_key_dirty, 0u);
  EXPECT_EQ(t.m().vmstat.nr_dirty, 1u);
  EXPECT_EQ(t.m().vmstat.nr_mapped, 0u);
  t.w.Check();
  ASSERT_TRUE(t.w.Fsync(t.file));
  EXPECT_BYTES(t.w.OnDisk(t.file, 2 * kPage, 1), "K");
}

TEST(Rmap, O15_last_unmap_of_a_key_dirty_page) {
  for (const Path path : {Path::kMunmap, Path::kTryToUnmap}) {
    LastUnmapDirtiesOnce(path, false);
    LastUnmapDirtiesOnce(path, true);
  }
}

}  // namespace
}  // namespace mm
