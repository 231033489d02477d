// Scenarios G20 to G30 of page hinting: when a page may become volatile.
#include <gtest/gtest.h>

#include "mm/page_states.h"
#include "tests/mm/hinting_world.h"

namespace mm {
namespace {

using enum PageState;

// A page of a file, X, that only the cache knows; stable, and eligible.
struct OnePage {
  explicit OnePage(const Semantics& semantics = Hinted()) : w(semantics, 4096, 64) { MakeStable(); }
  void MakeStable() {
    EXPECT_TRUE(page_set_stable_if_present(w.frames(), pfn));
    EXPECT_EQ(w.state(pfn), Sr);
  }
  // Whether an attempt succeeds; X is stable again afterwards.
  bool Accepted(int offset = 1) {
    page_make_volatile(w.frames(), pfn, offset);
    if (w.state(pfn) == Sr) return false;
    EXPECT_EQ(w.state(pfn), Vr);
    MakeStable();
    return true;
  }
  // X is eligible but for this, and is again once that is undone.
  void Refused(const char* what, const std::function<void()>& forbid, const std::function<void()>& undo) {
    SCOPED_TRACE(what);
    EXPECT_TRUE(Accepted());
    forbid();
    EXPECT_FALSE(Accepted());
    undo();
    EXPECT_TRUE(Accepted());
  }
  void RefusedWith(const char* what, uint32_t flag) {
    Refused(what, [&] { page.flags |= flag; }, [&] { page.flags &= ~flag; });
  }
  // So many processes map X, read-only.
  void MapTimes(int times) {
    for (int i = 0; i < times; ++i) {
      Process& process = w.Spawn();
      EXPECT_EQ(w.TryLoad(process, w.Shared(process, file, 1, 0, PROT_READ)), Outcome::kOk);
    }
    EXPECT_EQ(page.mapcount, times);
    EXPECT_EQ(page.count, times + 1);
  }

  HintedWorld w;
  FilePtr file = w.NewFile(2 * kPage);
  Pfn pfn = w.ReadIn(file, 0);
  Page& page = w.page(pfn);
};

// An anonymous page in the swap cache, written and clean, mapped once; stable.
struct Swapped {
  explicit Swapped(const Semantics& semantics = Hinted()) : w(semantics, 4096, 64) {
    EXPECT_EQ(w.Store(p, a, "bytes"), Outcome::kOk);
    EXPECT_TRUE(w.PageOut(p, a));
    EXPECT_BYTES(w.Load(p, a, 5), "bytes");
    pfn = w.PfnAt(p, a);
    EXPECT_TRUE(w.page(pfn).swapcache());
  }
  bool Accepted() {
    EXPECT_TRUE(page_set_stable_if_present(w.frames(), pfn));
    page_make_volatile(w.frames(), pfn, 1);
    return w.state(pfn) == Vr;
  }
  HintedWorld w;
  Process& p = w.Spawn();
  Vaddr a = w.Anon(p, 1);
  Pfn pfn = kNoPfn;
};

TEST(Scenario, G20_each_bit_of_the_predicate) {
  OnePage o;
  o.RefusedWith("dirty", PG_dirty);
  o.RefusedWith("reserved", PG_reserved);
  o.RefusedWith("writeback", PG_writeback);
  o.RefusedWith("locked", PG_locked);
  o.RefusedWith("private", PG_private);
  o.RefusedWith("discarded", PG_discarded);
  o.Refused("not up to date", [&] { o.page.flags &= ~PG_uptodate; }, [&] { o.page.flags |= PG_uptodate; });
  o.Refused("on no LRU list", [&] { o.w.frames().lru_del(o.pfn); }, [&] { o.w.frames().lru_add(o.pfn); });
  const uint64_t mapping = o.page.mapping_word;
  o.Refused("no mapping", [&] { o.page.mapping_word = 0; }, [&] { o.page.mapping_word = mapping; });
  o.Refused("mlocked", [&] { o.file->mapping.mlocked = true; }, [&] { o.file->mapping.mlocked = false; });
}

// An anonymous page, before it is in the swap cache and then. The offset is 0 where there is no cache.
TEST(Scenario, G20_an_anonymous_page) {
  HintedWorld w(Hinted(), 4096, 64);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "bytes"), Outcome::kOk);
  const Pfn pfn = w.PfnAt(p, a);
  ASSERT_NE(w.page(pfn).flags & PG_lru, 0u);
  page_make_volatile(w.frames(), pfn, 0);
  EXPECT_EQ(w.state(pfn), Sr) << "in no swap cache";
  Swapped in;
  EXPECT_TRUE(in.Accepted());
}

// No object's page stands in the swap cache of this machine between two calls: by hand.
TEST(Scenario, G20_an_objects_page_in_the_swap_cache) {
  for (const auto& [semantics, accepted] : {std::pair(Hinted(), false),
                                            {Generation("gph2006").value(), true},
                                            {Generation("hva2005").value(), false}}) {
    Swapped s(semantics);
    Page& page = s.w.page(s.pfn);
    page.mapping_word = 0;
    EXPECT_EQ(s.Accepted(), accepted);
    page.mapping_word = kAnonMapping;
    EXPECT_EQ(s.Accepted(), semantics.volatile_swapcache != VolatileSwapcache::kNone);
    s.w.Check();
  }
}

TEST(Scenario, G20_off_the_LRU_in_2005) {
  OnePage o(Hinted({"volatile_off_lru=allowed"}));
  o.w.frames().lru_del(o.pfn);
  EXPECT_TRUE(o.Accepted());
  o.w.frames().lru_add(o.pfn);
}

TEST(Scenario, G21_error_active_and_referenced_do_not_matter) {
  OnePage o;
  for (const uint32_t flag : {PG_error, PG_referenced}) {
    o.page.flags |= flag;
    EXPECT_TRUE(o.Accepted());
  }
  o.w.frames().lru_move(o.pfn, 0, PG_active);
  EXPECT_TRUE(o.Accepted());
}

TEST(Scenario, G22_counts) {
  for (const int mapcount : {0, 1, 5}) {
    SCOPED_TRACE(mapcount);
    OnePage o;
    o.MapTimes(mapcount);
    EXPECT_TRUE(o.Accepted(1));
    EXPECT_FALSE(o.Accepted(2));
    EXPECT_FALSE(o.Accepted(0));
  }
}

TEST(Scenario, G23_the_callers_reference) {
  for (const int mapcount : {0, 2}) {
    OnePage o;
    o.MapTimes(mapcount);
    o.w.frames().get_page(o.pfn);
    EXPECT_FALSE(o.Accepted(1));
    page_make_volatile(o.w.frames(), o.pfn, 2);
    EXPECT_EQ(o.w.state(o.pfn), Vr);
    o.w.frames().put_page(o.pfn);
    EXPECT_EQ(o.w.state(o.pfn), Vr) << "it stays so";
  }
}

// An attempt knows of one reference besides the cache's: with two unknown ones the first checking release is
// refused, and the last accepted at that moment. In 2005 the same, after the count went down.
TEST(Scenario, G24_an_unknown_reference) {
  for (const char* attempt : {"release_attempt=before", "release_attempt=after"}) {
    for (const int mapcount : {0, 3}) {
      SCOPED_TRACE(attempt);
      OnePage o(Hinted({attempt}));
      o.MapTimes(mapcount);
      o.w.frames().get_page(o.pfn);
      o.w.frames().get_page(o.pfn);
      EXPECT_FALSE(o.Accepted(1));
      EXPECT_FALSE(o.Accepted(2));
      page_cache_release(o.w.frames(), o.pfn);
      EXPECT_EQ(o.w.state(o.pfn), Sr);
      page_cache_release(o.w.frames(), o.pfn);
      EXPECT_EQ(o.w.state(o.pfn), Vr);
    }
  }
}

TEST(Scenario, G25_the_last_reference) {
  for (const char* attempt : {"release_attempt=before", "release_attempt=after"}) {
    HintedWorld w(Hinted({attempt}));
    const Pfn pfn = w.frames().alloc_page(Fill::kZero);
    const uint64_t before = w.host().stat().requests;
    page_cache_release(w.frames(), pfn);
    EXPECT_EQ(w.host().stat().requests, before + 1) << "unused, and nothing else";
    EXPECT_EQ(UsageOf(w.state(pfn)), Usage::kUnused);
  }
}

TEST(Scenario, G26_unlock_page) {
  OnePage o;
  lock_page(o.page);
  EXPECT_EQ(o.w.state(o.pfn), Sr);
  unlock_page(o.w.frames(), o.page);
  EXPECT_EQ(o.w.state(o.pfn), Vr);
  o.MakeStable();
  lock_page(o.page);
  unlock_page_nocheck(o.page);
  EXPECT_EQ(o.w.state(o.pfn), Sr);
  o.MapTimes(2);
  ASSERT_EQ(o.page.count, 3);
  lock_page(o.page);
  unlock_page(o.w.frames(), o.page);
  EXPECT_EQ(o.w.state(o.pfn), Vr);
  o.MakeStable();
  o.w.frames().get_page(o.pfn);
  lock_page(o.page);
  unlock_page(o.w.frames(), o.page);
  EXPECT_EQ(o.w.state(o.pfn), Sr) << "somebody has a reference";
  o.w.frames().put_page(o.pfn);
}

// A page that becomes inactive is isolated: its reference is one too many. Nobody tries again when it goes.
TEST(Scenario, G27_the_vector_form) {
  OnePage o;
  o.w.frames().get_page(o.pfn);
  const Pfn moved[] = {o.pfn};
  pagevec_make_volatile(o.w.frames(), moved);
  EXPECT_EQ(o.w.state(o.pfn), Sr);
  o.w.frames().put_page(o.pfn);
  EXPECT_EQ(o.w.state(o.pfn), Sr);
  pagevec_make_volatile(o.w.frames(), moved);
  EXPECT_EQ(o.w.state(o.pfn), Vr) << "what it could do for a page that is not isolated";
}

// Two active pages of a file, one of them written by a call, and an inactive one that reclaim takes.
TEST(Scenario, G28_buffer_heads) {
  HintedWorld w;
  const FilePtr file = w.NewFile(4 * kPage);
  const FilePtr other = w.NewFile(kPage);
  ASSERT_TRUE(w.WriteFile(file, 0, "written"));
  const Pfn pfn = w.Cached(file, 0);
  ASSERT_TRUE(w.Fsync(file));
  const auto read = [&] { return w.ReadFile(file, 0, 7); };
  EXPECT_BYTES(read(), "written");
  Page& page = w.page(pfn);
  EXPECT_FALSE(page.dirty());
  EXPECT_NE(page.flags & PG_private, 0u);
  EXPECT_EQ(w.state(pfn), Sr);
  page_make_volatile(w.frames(), pfn, 1);
  EXPECT_EQ(w.state(pfn), Sr);
  for (int i = 0; i < 2; ++i) (void)w.ReadFile(file, kPage, 1);
  ASSERT_NE(page.flags & PG_active, 0u);
  (void)w.ReadIn(other, 0);
  ASSERT_EQ(w.Reclaim(1), 1u);
  ASSERT_EQ(w.Cached(other, 0), kNoPfn);
  ASSERT_EQ(w.Cached(file, 0), pfn);
  EXPECT_EQ(page.flags & (PG_active | PG_private), 0u) << "it became inactive, and lost them";
  EXPECT_EQ(w.state(pfn), Sr) << "as G27 has it";
  EXPECT_BYTES(read(), "written");
  EXPECT_EQ(w.state(pfn), Vr);
}

// This machine puts pages on their list at once, and has no vector a CPU: what the vector does, by hand.
TEST(Scenario, G29_on_the_way_to_the_LRU) {
  for (const int mapcount : {0, 2}) {
    OnePage o;
    o.MapTimes(mapcount);
    o.w.frames().lru_del(o.pfn);
    o.w.frames().get_page(o.pfn);  // the vector's
    EXPECT_FALSE(o.Accepted(1));
    EXPECT_FALSE(o.Accepted(2)) << "on no list";
    o.w.frames().lru_add(o.pfn);
    EXPECT_FALSE(o.Accepted(1));
    page_make_volatile(o.w.frames(), o.pfn, 2);
    EXPECT_EQ(o.w.state(o.pfn), Vr);
    o.w.frames().put_page(o.pfn);
  }
}

TEST(Scenario, G30_state_change_is_held) {
  OnePage o;
  const uint64_t requests = o.w.host().stat().requests;
  StateChangeLock::lock(o.page, Where::current());
  page_make_volatile(o.w.frames(), o.pfn, 1);
  StateChangeLock::unlock(o.page, Where::current());
  EXPECT_EQ(o.w.state(o.pfn), Sr) << "and nobody tries again";
  EXPECT_EQ(o.w.host().stat().requests, requests);
  EXPECT_TRUE(o.Accepted());
}

}  // namespace
}  // namespace mm
