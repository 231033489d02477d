// What becomes of a page that the host has discarded.
#include <gtest/gtest.h>

#include "mm/page_states.h"
#include "tests/mm/bytes.h"
#include "tests/mm/hinting_world.h"

namespace mm {
namespace {

using enum PageState;

// A page of a file that two processes have read through shared mappings.
struct Mapped {
  explicit Mapped(const Semantics& semantics = Hinted()) : w(semantics) {
    EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
    EXPECT_EQ(w.TryLoad(q, b), Outcome::kOk);
    pfn = w.PfnAt(p, a);
  }
  // The host takes it; nobody knows.
  void Discard() {
    page_make_volatile(w.frames(), pfn, 1);
    EXPECT_TRUE(w.Take(pfn));
    EXPECT_EQ(w.state(pfn), Vz);
  }
  bool IsOut() {
    const Page& page = w.page(pfn);
    return page.mapcount == 0 && FileMapping(page) == nullptr && (page.flags & PG_lru) == 0 &&
           w.Cached(file, 1) == kNoPfn && pte_none(w.PteAt(p, a)) && pte_none(w.PteAt(q, b));
  }

  HintedWorld w;
  FilePtr file = w.NewFile(4 * kPage);
  Process& p = w.Spawn();
  Process& q = w.Spawn();
  Vaddr a = w.Shared(p, file, 1, 1);
  Vaddr b = w.Shared(q, file, 1, 1);
  Pfn pfn = kNoPfn;
};

TEST(PageDiscard, TakesThePageOutAndDropsOneReference) {
  Mapped m;
  m.Discard();
  m.w.frames().get_page(m.pfn);
  m.w.frames().get_page(m.pfn);
  page_discard(m.w.machine(), m.pfn);
  EXPECT_TRUE(m.IsOut());
  EXPECT_EQ(m.w.page(m.pfn).count, 1) << "ours: INV-D11";
  EXPECT_NE(m.w.page(m.pfn).flags & PG_discarded, 0u);
  m.w.frames().put_page(m.pfn);
  EXPECT_EQ(m.w.discarded().size(), 1u);
  EXPECT_BYTES(m.w.Load(m.p, m.a, 100), m.w.Original(m.file, kPage, 100));
}

TEST(PageDiscard, TheSecondOneDoesNothing) {
  Mapped m;
  m.Discard();
  m.w.frames().get_page(m.pfn);
  m.w.frames().get_page(m.pfn);
  page_discard(m.w.machine(), m.pfn);
  const int32_t count = m.w.page(m.pfn).count;
  page_discard(m.w.machine(), m.pfn);
  EXPECT_EQ(count, 1);
  EXPECT_EQ(m.w.page(m.pfn).count, 0) << "it dropped its own reference, and no other";
  EXPECT_EQ(m.w.discarded().size(), 1u);
  m.w.Check();
}

TEST(PageDiscard, APageThatIsNeededIsNotDiscarded) {
  for (const uint32_t flag : {PG_dirty, PG_writeback, PG_private}) {
    Mapped m;
    lock_page(m.w.page(m.pfn));
    m.w.page(m.pfn).flags |= flag;
    EXPECT_DEATH(page_discard_locked(m.w.machine(), m.pfn), "was discarded, and is needed");
    m.w.page(m.pfn).flags &= ~flag;
    unlock_page(m.w.frames(), m.w.page(m.pfn));
  }
  Mapped m;
  EXPECT_DEATH(page_discard_locked(m.w.machine(), m.pfn), "CHECK failed") << "not locked";
}

TEST(PageDiscard, AFaultByFrame) {
  Mapped m;
  m.Discard();
  do_discard_fault(m.w.machine(), *m.p.mm, m.a, m.pfn);
  EXPECT_TRUE(m.IsOut());
  do_discard_fault(m.w.machine(), *m.p.mm, m.a, m.pfn);
  EXPECT_EQ(m.w.page(m.pfn).count, 0) << "it is on its way to the free list: nothing is touched";
  EXPECT_EQ(m.w.discarded().size(), 1u);
  m.w.Check();
}

TEST(PageDiscard, AFaultByAddress) {
  Mapped m(Hinted({"discard_address=virtual"}));
  m.Discard();
  do_discard_fault(m.w.machine(), *m.p.mm, m.a, m.pfn);
  EXPECT_TRUE(m.IsOut());
  do_discard_fault(m.w.machine(), *m.p.mm, m.a, m.pfn);  // there is no page now
  EXPECT_EQ(m.w.Load(m.p, m.a, 1).size(), 1u);
  const Pfn now = m.w.PfnAt(m.p, m.a);
  const int32_t count = m.w.page(now).count;
  do_discard_fault(m.w.machine(), *m.p.mm, m.a, m.pfn);
  EXPECT_EQ(m.w.PfnAt(m.p, m.a), now) << "the page that is there now was not discarded";
  EXPECT_EQ(m.w.page(now).count, count);
  m.w.Check();
}

// ---- the bytes, without an access ----

TEST(PageDiscard, ReadsTheContentOfAFilesPage) {
  HintedWorld w;
  const FilePtr file = w.NewFile(kPage + 100);
  const Pfn pfn = w.ReadIn(file, 1);
  PageBytes bytes;
  ASSERT_TRUE(w.Take(pfn));
  ASSERT_TRUE(read_page_content(w.machine(), pfn, bytes));
  const std::string text(reinterpret_cast<const char*>(bytes.data()), kPage);
  EXPECT_BYTES(text, w.Original(file, kPage, 100) + Zeros(kPage - 100));
  EXPECT_EQ(w.state(pfn), Vz) << "nothing changed";
  EXPECT_EQ(w.Cached(file, 1), pfn);
}

TEST(PageDiscard, ReadsTheContentOfASwappedPage) {
  HintedWorld w(Hinted(), 4096, 64);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "swapped"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_BYTES(w.Load(p, a, 7), "swapped");
  const Pfn pfn = w.PfnAt(p, a);
  page_make_volatile(w.frames(), pfn, 1);
  ASSERT_EQ(w.state(pfn), Vr);
  ASSERT_TRUE(w.Take(pfn));
  PageBytes bytes;
  ASSERT_TRUE(read_page_content(w.machine(), pfn, bytes));
  EXPECT_BYTES(std::string(reinterpret_cast<const char*>(bytes.data()), 7), "swapped");
  EXPECT_EQ(w.state(pfn), Vz);
  EXPECT_BYTES(w.Load(p, a, 7), "swapped");
}

// Rules of reuse by which a page that is written in place stays in the swap cache: it is made stable first,
// and no attempt comes between. Whatever the host did to it before.
TEST(PageDiscard, AStoreToAPageThatStaysInTheSwapCache) {
  for (const char* rule : {"reuse_rule=mapcount", "reuse_rule=mapcount_keep_slot", "reuse_rule=count"}) {
    for (const char* dirty_bits : {"dirty_bits=page", "dirty_bits=pte"}) {
      for (const PageState state : {Vz, Sp}) {
        SCOPED_TRACE(std::string(rule) + " " + dirty_bits + " " + PageStateName(state));
        HintedWorld w(Hinted({rule, dirty_bits}), 4096, 64);
        Process& p = w.Spawn();
        const Vaddr a = w.Anon(p, 1);
        ASSERT_EQ(w.Store(p, a, "swapped"), Outcome::kOk);
        ASSERT_TRUE(w.PageOut(p, a));
        EXPECT_BYTES(w.Load(p, a, 7), "swapped");
        const Pfn pfn = w.PfnAt(p, a);
        if (state == Vz) page_make_volatile(w.frames(), pfn, 1);
        if (state == Sp) {
          ASSERT_TRUE(page_set_stable_if_present(w.frames(), pfn));
        }
        ASSERT_TRUE(w.Take(pfn));
        ASSERT_EQ(w.state(pfn), state);
        ASSERT_EQ(w.Store(p, a, "st"), Outcome::kOk);
        EXPECT_BYTES(w.Load(p, a, 7), "stapped");
        EXPECT_TRUE(w.Take(w.PfnAt(p, a)));
        EXPECT_BYTES(w.Load(p, a, 7), "stapped");
      }
    }
  }
}

// The same where the pte says nothing of it: it is not writable.
TEST(PageDiscard, AForcedWriteToAPageThatStaysInTheSwapCache) {
  for (const char* rule : {"reuse_rule=mapcount", "reuse_rule=mapcount_keep_slot", "reuse_rule=count"}) {
    for (const char* dirty_bits : {"dirty_bits=page", "dirty_bits=pte"}) {
      SCOPED_TRACE(std::string(rule) + " " + dirty_bits);
      HintedWorld w(Hinted({rule, dirty_bits}), 4096, 64);
      Process& p = w.Spawn();
      const Vaddr a = w.Anon(p, 1);
      ASSERT_EQ(w.Store(p, a, "swapped"), Outcome::kOk);
      ASSERT_TRUE(sys_mprotect(*p.mm, a, kPage, PROT_READ));
      Process& child = w.Fork(p);
      ASSERT_TRUE(w.PageOut(p, a));
      EXPECT_BYTES(w.Load(child, a, 7), "swapped");
      const Pfn pfn = w.PfnAt(child, a);
      w.Exit(child);
      ASSERT_TRUE(page_set_stable_if_present(w.frames(), pfn));
      ASSERT_TRUE(w.Take(pfn));
      ASSERT_EQ(w.state(pfn), Sp);
      std::vector<Pfn> pages = get_user_pages(*p.mm, a, 1, Write::kYes, Force::kYes).value();
      w.frames().bytes(pages[0])[0] = std::byte{'S'};
      set_page_dirty(w.machine(), pages[0]);
      unpin_user_pages(w.machine(), pages);
      EXPECT_BYTES(w.Load(p, a, 7), "Swapped");
      EXPECT_TRUE(w.Take(w.PfnAt(p, a)));
      EXPECT_BYTES(w.Load(p, a, 7), "Swapped");
    }
  }
}

TEST(PageDiscard, ReadsTheContentOfAPageThatIsThere) {
  HintedWorld w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "here"), Outcome::kOk);
  PageBytes bytes;
  ASSERT_TRUE(read_page_content(w.machine(), w.PfnAt(p, a), bytes));
  EXPECT_BYTES(std::string(reinterpret_cast<const char*>(bytes.data()), 4), "here");
  ASSERT_TRUE(w.Take(w.PfnAt(p, a)));
  EXPECT_EQ(w.state(w.PfnAt(p, a)), Sp);
  ASSERT_TRUE(read_page_content(w.machine(), w.PfnAt(p, a), bytes));
  EXPECT_BYTES(std::string(reinterpret_cast<const char*>(bytes.data()), 4), "here");
  EXPECT_EQ(w.state(w.PfnAt(p, a)), Sp) << "no access";
}

// ---- normal removal ----

TEST(PageDiscard, RemovalAsksTheHost) {
  Mapped m;
  page_begin_removal(m.w.frames(), m.pfn);
  EXPECT_EQ(m.w.page(m.pfn).flags & PG_discarded, 0u);
  page_end_removal(m.w.frames(), m.pfn);
  EXPECT_EQ(m.w.page(m.pfn).flags & PG_discarded, 0u);
  m.w.host().restore_state(m.pfn, Vz);
  page_end_removal(m.w.frames(), m.pfn);
  EXPECT_NE(m.w.page(m.pfn).flags & PG_discarded, 0u);
  m.w.host().restore_state(m.pfn, Sr);
  page_end_removal(m.w.frames(), m.pfn);
  EXPECT_EQ(m.w.page(m.pfn).flags & PG_discarded, 0u);
}

TEST(PageDiscard, RemovalAsPostedSaysSoOfEveryPage) {
  Mapped m(Hinted({"removal_flag=transient"}));
  page_begin_removal(m.w.frames(), m.pfn);
  EXPECT_NE(m.w.page(m.pfn).flags & PG_discarded, 0u) << "of a healthy page, for a moment";
  page_end_removal(m.w.frames(), m.pfn);
  EXPECT_EQ(m.w.page(m.pfn).flags & PG_discarded, 0u);
}

}  // namespace
}  // namespace mm
