#include <gtest/gtest.h>

#include <set>

#include "tests/mm/world.h"

namespace mm {
namespace {

// The same calls in the same order.
std::unique_ptr<World> Play() {
  auto world = std::make_unique<World>();
  World& w = *world;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage + 5);
  const Vaddr anon = w.Anon(p, 4);
  const Vaddr priv = w.Private(p, file, 4);
  const Vaddr shared = w.Shared(p, file, 4);
  EXPECT_EQ(w.Store(p, anon + kPage, "anon"), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, anon), Outcome::kOk);
  EXPECT_EQ(w.Store(p, priv, "mine"), Outcome::kOk);
  EXPECT_EQ(w.Store(p, shared + kPage, "ours"), Outcome::kOk);
  Process& child = w.Fork(p);
  EXPECT_EQ(w.Store(child, anon + kPage, "child"), Outcome::kOk);
  w.Thread(child);
  EXPECT_TRUE(w.Truncate(file, 2 * kPage).has_value());
  EXPECT_TRUE(w.Fsync(file).has_value());
  return world;
}

TEST(TextDump, TheSameStateGivesTheSameText) {
  const std::unique_ptr<World> one = Play();
  const std::unique_ptr<World> two = Play();
  const std::string text = TextDump(one->machine());
  EXPECT_EQ(text, TextDump(two->machine()));
  EXPECT_EQ(text, TextDump(one->machine())) << "and dumping changes nothing";
  EXPECT_EQ(text.find("0x55"), std::string::npos) << "no host addresses";
  EXPECT_EQ(text.back(), '\n');
}

TEST(TextDump, EveryChangeShows) {
  const std::unique_ptr<World> world = Play();
  World& w = *world;
  Process& p = *w.machine().find_process(1);
  std::set<std::string> seen = {TextDump(w.machine())};
  const auto is_new = [&] { return seen.insert(TextDump(w.machine())).second; };
  const Vaddr a = w.Anon(p, 1);
  EXPECT_TRUE(is_new()) << "a vma";
  ASSERT_EQ(w.Store(p, a, "a"), Outcome::kOk);
  EXPECT_TRUE(is_new()) << "a page";
  ASSERT_EQ(w.Store(p, a, "b"), Outcome::kOk);
  EXPECT_TRUE(is_new()) << "one byte";
  Pte* pte = p.mm->pgtable.find(a);
  *pte = pte_clear_bits(*pte, kPteYoung);
  EXPECT_TRUE(is_new()) << "a young bit";
  w.PageAt(p, a).flags |= PG_referenced;
  EXPECT_TRUE(is_new()) << "a page flag";
  ASSERT_TRUE(w.Protect(p, a, 1, PROT_READ));
  EXPECT_TRUE(is_new()) << "a protection";
  p.mm->layout.brk = 0x1234000;
  EXPECT_TRUE(is_new()) << "the break";
  const FilePtr file = w.machine().find_file("file1");
  ASSERT_TRUE(w.WriteFile(file, 10, "written").has_value());
  EXPECT_TRUE(is_new()) << "the cache";
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_TRUE(is_new()) << "the disk";
  w.machine().unlink(file);
  EXPECT_TRUE(is_new()) << "a name";
  w.Exit(*w.machine().find_process(2));
  EXPECT_TRUE(is_new()) << "a process";
}

}  // namespace
}  // namespace mm
