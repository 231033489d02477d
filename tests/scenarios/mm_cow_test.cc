// Scenarios M17, M19, M27 of the memory model: zero pages, reuse, the order of a COW break.
#include <gtest/gtest.h>

#include <cstring>

#include "mm/follow_page.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

struct Rss {
  uint64_t anon;
  uint64_t file;
  friend bool operator==(const Rss&, const Rss&) = default;
};
void PrintTo(const Rss& rss, std::ostream* out) { *out << "anon " << rss.anon << " file " << rss.file; }
Rss RssOf(const Process& p) { return {p.mm->anon_rss, p.mm->file_rss}; }

void ReadThenWrite(std::string_view assignment, Rss after_read, bool page_of_its_own) {
  SCOPED_TRACE(assignment);
  World w(WithSwitch(assignment));
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 2);
  EXPECT_BYTES(w.Load(p, a, 2 * kPage), Zeros(2 * kPage));
  EXPECT_EQ(RssOf(p), after_read);
  const Pfn read = w.PfnAt(p, a);
  EXPECT_EQ(read != kZeroPfn, page_of_its_own);
  EXPECT_FALSE(pte_write(w.PteAt(p, a)));
  ASSERT_EQ(w.Store(p, a + 5, "x"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a, kPage), Zeros(5) + "x" + Zeros(kPage - 6));
  EXPECT_BYTES(w.Load(p, a + kPage, kPage), Zeros(kPage));
  EXPECT_EQ(w.PfnAt(p, a) == read, page_of_its_own) << "a page of one's own is reused";
  ASSERT_EQ(w.TryStore(p, a + kPage), Outcome::kOk);
  EXPECT_EQ(RssOf(p), (Rss{2, 0}));
  EXPECT_EQ(w.machine().vmstat.nr_mapped, 0u);
  ASSERT_TRUE(w.Unmap(p, a, 2));
  EXPECT_EQ(RssOf(p), (Rss{0, 0}));
}

TEST(Scenario, M17_anonymous_read_then_write) {
  ReadThenWrite("anon_read_fault=zero_page", {0, 0}, false);
  ReadThenWrite("anon_read_fault=counted_zero_page", {0, 2}, false);
  ReadThenWrite("anon_read_fault=new_page", {2, 0}, true);
}

// The counted zero page through fork, exit and munmap: its counts come back to what they were.
TEST(Scenario, M17_counted_zero_page_is_balanced) {
  World w(WithSwitch("anon_read_fault=counted_zero_page"));
  const int32_t count = w.machine().frames.at(kZeroPfn).count;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 4);
  ASSERT_EQ(w.TryStore(p, a), Outcome::kOk);
  EXPECT_EQ(w.machine().touch(p, a, 4 * kPage, Write::kNo).outcome, Outcome::kOk);
  EXPECT_EQ(w.machine().frames.at(kZeroPfn).mapcount, 3);
  Process& child = w.Fork(p);
  EXPECT_EQ(w.machine().frames.at(kZeroPfn).mapcount, 6);
  ASSERT_EQ(w.Store(child, a + kPage, "x"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a + kPage, 1), Zeros(1));
  ASSERT_TRUE(w.Unmap(child, a + 2 * kPage, 2));
  w.Exit(p);
  EXPECT_EQ(w.machine().frames.at(kZeroPfn).mapcount, 0);
  EXPECT_EQ(w.machine().frames.at(kZeroPfn).count, count);
}

void ReuseWithAPin(std::string_view rule, bool reused) {
  SCOPED_TRACE(rule);
  World w(WithSwitch(rule));
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "old"), Outcome::kOk);
  std::vector<Pfn> pins = get_user_pages(*p.mm, a, 1, Write::kNo, Force::kNo).value();
  // Takes the write bit away, so that the next store asks whether the page may be reused.
  ASSERT_TRUE(w.Protect(p, a, 1, PROT_READ));
  ASSERT_TRUE(w.Protect(p, a, 1, kReadWrite));
  ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a, 3), "new");
  EXPECT_EQ(w.PfnAt(p, a) == pins[0], reused);
  EXPECT_BYTES(w.FrameText(pins[0], 0, 3), reused ? "new" : "old") << "what the holder of the pin sees";
  unpin_user_pages(w.machine(), pins);
  w.Check();
  const Pfn mine = w.PfnAt(p, a);
  ASSERT_TRUE(w.Protect(p, a, 1, PROT_READ));
  ASSERT_TRUE(w.Protect(p, a, 1, kReadWrite));
  ASSERT_EQ(w.TryStore(p, a), Outcome::kOk);
  EXPECT_EQ(w.PfnAt(p, a), mine) << "without a pin it is reused under either rule";
}

TEST(Scenario, M19_reuse_with_an_extra_reference) {
  ReuseWithAPin("reuse_rule=count", false);
  ReuseWithAPin("reuse_rule=mapcount", true);
}

struct CowWindow {
  explicit CowWindow(std::string_view order) : w(WithSwitch(order)) {
    EXPECT_EQ(w.Store(parent, a, "both"), Outcome::kOk);
    child = &w.Fork(parent);
    old_page = w.PfnAt(parent, a);
  }
  std::string Peek(Process& p) {
    std::string bytes(4, '?');
    EXPECT_EQ(w.machine().load(p, a, AsWritable(bytes)).outcome, Outcome::kOk);
    return bytes;
  }
  void Store(Process& p, std::string_view bytes) {
    EXPECT_EQ(w.machine().store(p, a, AsBytes(bytes)).outcome, Outcome::kOk) << bytes;
  }
  World w;
  Process& parent = w.Spawn();
  Vaddr a = w.Anon(parent, 1);
  Process* child = nullptr;
  Pfn old_page = kNoPfn;
};

// 2.6.32: the old page's mapcount drops only after the new pte can be seen, so the other owner cannot
// take the page for its own before.
TEST(Scenario, M27_cow_order) {
  CowWindow c("cow_rmap_order=after_pte");
  ASSERT_TRUE(c.w.Beside([&] { c.Store(c.parent, "mine"); }, "page_remove_rmap", "pte_chain_lock",
                         [&] {
                           EXPECT_NE(c.w.PfnAt(c.parent, c.a), c.old_page) << "the new pte is visible";
                           EXPECT_EQ(c.w.machine().frames.at(c.old_page).mapcount, 2);
                           c.Store(*c.child, "hers");
                           EXPECT_NE(c.w.PfnAt(*c.child, c.a), c.old_page) << "no reuse";
                           EXPECT_EQ(c.Peek(c.parent), "both");
                         }));
  EXPECT_EQ(c.Peek(c.parent), "mine");
  EXPECT_EQ(c.Peek(*c.child), "hers");
}

// 2.6.18, the negative: in the window the other owner reuses a page that we still map, and what it
// writes shows through our pte.
TEST(Scenario, M27_cow_order_of_2_6_18_shows_the_window) {
  CowWindow c("cow_rmap_order=before_pte");
  ASSERT_TRUE(c.w.Beside([&] { c.Store(c.parent, "mine"); }, "CowBreak", "pte",
                         [&] {
                           EXPECT_EQ(c.w.PfnAt(c.parent, c.a), c.old_page) << "still our pte";
                           EXPECT_EQ(c.w.machine().frames.at(c.old_page).mapcount, 1);
                           c.Store(*c.child, "hers");
                           EXPECT_EQ(c.w.PfnAt(*c.child, c.a), c.old_page) << "reused";
                           EXPECT_EQ(c.Peek(c.parent), "hers")
                               << "another process's store, seen through our private page";
                         }));
  EXPECT_EQ(c.Peek(c.parent), "mine");
  EXPECT_EQ(c.Peek(*c.child), "hers");
}

}  // namespace
}  // namespace mm
