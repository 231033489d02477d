#include "mm/page_table.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/random.h"

namespace mm {
namespace {

constexpr Vaddr kLeaf = Vaddr{2} << 20;
constexpr Vaddr kTiB = Vaddr{1} << 40;

Pte SomePte(uint32_t number) { return mk_pte(Pfn{number}, kPteYoung); }

std::map<Vaddr, uint64_t> Walked(PageTable& table, Vaddr start, Vaddr end) {
  std::map<Vaddr, uint64_t> seen;
  Vaddr last = 0;
  table.walk(start, end, [&](Vaddr addr, Pte& pte) {
    EXPECT_TRUE(seen.empty() || addr > last) << "ascending, each once";
    last = addr;
    seen.emplace(addr, pte.word);
  });
  return seen;
}

TEST(PageTable, PteKinds) {
  const Pte present = mk_pte(Pfn{0xfffffffe}, kPteWrite | kPteDirty);
  EXPECT_TRUE(pte_present(present) && pte_write(present) && pte_dirty(present));
  EXPECT_FALSE(pte_none(present) || pte_file(present) || pte_swap(present) || pte_special(present));
  EXPECT_EQ(pte_pfn(present), Pfn{0xfffffffe});
  const Pgoff far = (Pgoff{1} << PTE_FILE_MAX_BITS) - 1;
  EXPECT_TRUE(pte_file(pgoff_to_pte(far)) && !pte_present(pgoff_to_pte(far)) && !pte_swap(pgoff_to_pte(far)));
  EXPECT_EQ(pte_to_pgoff(pgoff_to_pte(far)), far);
  EXPECT_FALSE(pte_none(pgoff_to_pte(0))) << "index 0 is not 'none'";
  EXPECT_FALSE(pte_none(swp_entry_to_pte(0)));
  EXPECT_TRUE(pte_swap(swp_entry_to_pte(5)) && !pte_file(swp_entry_to_pte(5)));
  EXPECT_TRUE(pte_none(Pte{}));
  EXPECT_EQ(pte_clear_bits(pte_set(present, kPteYoung), kPteYoung), present);
}

TEST(PageTable, NoTableAndNoneAreDifferent) {
  PageTable table;
  EXPECT_EQ(table.find(0x1000), nullptr);
  EXPECT_EQ(table.nr_ptes(), 0u);
  Pte* pte = table.alloc(0x1000);
  EXPECT_TRUE(pte_none(*pte));
  EXPECT_EQ(table.find(0x1000), pte);
  ASSERT_NE(table.find(0x2000), nullptr) << "the same leaf";
  EXPECT_TRUE(pte_none(*table.find(0x2000)));
  EXPECT_EQ(table.find(kLeaf), nullptr);
  EXPECT_EQ(table.nr_ptes(), 1u);
  EXPECT_EQ(table.alloc(0x1fff), pte) << "any address of the page";
}

TEST(PageTable, LeafEdges) {
  PageTable table;
  *table.alloc(kLeaf - kPageSize) = SomePte(1);
  *table.alloc(kLeaf) = SomePte(2);
  EXPECT_EQ(table.nr_ptes(), 2u);
  EXPECT_EQ(PageTable::LeafEnd(kLeaf - 1), kLeaf);
  EXPECT_EQ(PageTable::LeafEnd(kLeaf), 2 * kLeaf);
  EXPECT_EQ(Walked(table, kLeaf - kPageSize, kLeaf + kPageSize).size(), 2u);
  EXPECT_EQ(Walked(table, kLeaf, kLeaf + kPageSize).size(), 1u);
  EXPECT_EQ(Walked(table, 0, kLeaf - kPageSize).size(), 0u) << "the end is not in the range";
  EXPECT_EQ(Walked(table, kLeaf, kLeaf).size(), 0u);
  // The last page of user space.
  *table.alloc(TASK_SIZE - kPageSize) = SomePte(3);
  EXPECT_EQ(Walked(table, 0, Vaddr{1} << 48).size(), 3u);
}

TEST(PageTable, NextLeafSkipsHoles) {
  PageTable table;
  *table.alloc(0x5000) = SomePte(1);
  *table.alloc(kTiB + 0x7000) = SomePte(2);
  Vaddr addr = 0;
  EXPECT_EQ(table.next_leaf(&addr, 4 * kTiB), table.find(0));
  EXPECT_EQ(addr, 0u) << "the leaf begins here";
  addr = kLeaf;
  EXPECT_EQ(table.next_leaf(&addr, 4 * kTiB), table.find(kTiB));
  EXPECT_EQ(addr, kTiB);
  addr = kTiB + 0x6000;
  EXPECT_EQ(table.next_leaf(&addr, 4 * kTiB), table.find(kTiB + 0x6000));
  EXPECT_EQ(addr, kTiB + 0x6000) << "an address inside a leaf stays";
  addr = kLeaf;
  EXPECT_EQ(table.next_leaf(&addr, kTiB), nullptr) << "the end is not in the range";
  addr = kTiB + kLeaf;
  EXPECT_EQ(table.next_leaf(&addr, TASK_SIZE), nullptr);
  PageTable empty;
  addr = 0;
  EXPECT_EQ(empty.next_leaf(&addr, TASK_SIZE), nullptr);
}

// The point of the tree: the visit count is what matters, not the span. A walk that visited each page
// of these holes would not end.
TEST(PageTable, SparseWalk) {
  PageTable table;
  std::map<Vaddr, uint64_t> expected;
  for (uint32_t i = 0; i < 100; ++i) {
    const Vaddr addr = i * kTiB + (i % 7) * kLeaf + (i % 512) * kPageSize;
    if (addr >= TASK_SIZE) break;
    *table.alloc(addr) = SomePte(i + 1);
    expected.emplace(addr, SomePte(i + 1).word);
  }
  EXPECT_EQ(Walked(table, 0, Vaddr{1} << 48), expected);
  EXPECT_EQ(table.nr_ptes(), expected.size());
}

TEST(PageTable, FreeKeepsTheNeighboursTables) {
  PageTable table;
  *table.alloc(kLeaf - kPageSize) = SomePte(1);
  (void)table.alloc(kLeaf);
  (void)table.alloc(2 * kLeaf);
  *table.alloc(3 * kLeaf + kPageSize) = SomePte(2);
  // The unmapped range begins inside the first leaf's successor and ends inside the last leaf.
  table.free_pgtables(kLeaf, 3 * kLeaf + kPageSize);
  EXPECT_EQ(table.nr_ptes(), 2u);
  EXPECT_EQ(table.find(kLeaf), nullptr);
  EXPECT_EQ(table.find(2 * kLeaf), nullptr);
  EXPECT_EQ(*table.find(kLeaf - kPageSize), SomePte(1));
  EXPECT_EQ(*table.find(3 * kLeaf + kPageSize), SomePte(2));
}

TEST(PageTable, FloorAndCeilingInsideALeafKeepIt) {
  PageTable table;
  (void)table.alloc(kLeaf);
  table.free_pgtables(kLeaf + kPageSize, 2 * kLeaf);
  EXPECT_EQ(table.nr_ptes(), 1u);
  table.free_pgtables(kLeaf, 2 * kLeaf - kPageSize);
  EXPECT_EQ(table.nr_ptes(), 1u);
  table.free_pgtables(kLeaf, 2 * kLeaf);
  EXPECT_EQ(table.nr_ptes(), 0u);
  EXPECT_EQ(table.find(kLeaf), nullptr);
}

TEST(PageTable, FreeOfEverythingCanStartAfresh) {
  PageTable table;
  for (uint32_t i = 0; i < 64; ++i) (void)table.alloc(i * kTiB);
  table.free_pgtables(0, Vaddr{1} << 48);
  EXPECT_EQ(table.nr_ptes(), 0u);
  EXPECT_EQ(table.find(0), nullptr);
  *table.alloc(kTiB) = SomePte(9);
  EXPECT_EQ(*table.find(kTiB), SomePte(9));
}

TEST(PageTableDeathTest, FreeOfATableInUseIsCaught) {
  PageTable table;
  *table.alloc(kLeaf) = SomePte(1);
  EXPECT_DEATH(table.free_pgtables(0, 4 * kLeaf), "CHECK failed");
}

// Against a std::map of entries and a set of leaves, by random operations in a few dense places that
// lie terabytes apart.
class PageTableModel {
 public:
  explicit PageTableModel(uint64_t seed) : random_(seed) {}

  void Step() {
    const Vaddr addr = SomeAddress();
    switch (random_.Below(10)) {
      case 0: return Free();
      case 1: return CompareWalk();
      case 2:
      case 3: return Clear(addr);
      default: {
        const Pte pte = SomePte(static_cast<uint32_t>(random_.Below(1000)) + 1);
        *table_.alloc(addr) = pte;
        leaves_[addr / kLeaf] = true;
        entries_[addr] = pte.word;
      }
    }
  }

  void CompareAll() {
    EXPECT_EQ(Walked(table_, 0, Vaddr{1} << 48), entries_);
    EXPECT_EQ(table_.nr_ptes(), leaves_.size());
    for (Vaddr base : kPlaces) {
      for (Vaddr leaf = base / kLeaf; leaf < base / kLeaf + 5; ++leaf) {
        EXPECT_EQ(table_.find(leaf * kLeaf) != nullptr, leaves_.contains(leaf));
      }
    }
  }

 private:
  static constexpr Vaddr kPlaces[] = {0, kTiB, 3 * kTiB + (Vaddr{1} << 30) - kLeaf, TASK_SIZE - 4 * kLeaf};

  Vaddr SomeAddress() {
    const Vaddr addr = kPlaces[random_.Below(4)] + random_.Below(4 * 512) * kPageSize;
    return addr < TASK_SIZE ? addr : TASK_SIZE - kPageSize;
  }
  void Clear(Vaddr addr) {
    if (Pte* pte = table_.find(addr)) *pte = {};
    entries_.erase(addr);
  }
  void CompareWalk() {
    const Vaddr start = SomeAddress();
    const Vaddr end = SomeAddress();
    std::map<Vaddr, uint64_t> expected;
    if (start < end) expected.insert(entries_.lower_bound(start), entries_.lower_bound(end));
    EXPECT_EQ(Walked(table_, start, end), expected);
  }
  void Free() {
    Vaddr floor = SomeAddress();
    Vaddr ceiling = SomeAddress();
    if (floor > ceiling) std::swap(floor, ceiling);
    const auto first = entries_.lower_bound(floor);
    const auto last = entries_.lower_bound(ceiling);
    for (auto it = first; it != last; ++it) *table_.find(it->first) = {};
    entries_.erase(first, last);
    table_.free_pgtables(floor, ceiling);
    std::erase_if(leaves_, [&](const auto& leaf) {
      return leaf.first * kLeaf >= floor && (leaf.first + 1) * kLeaf <= ceiling;
    });
  }

  base::Random random_;
  PageTable table_;
  std::map<Vaddr, uint64_t> entries_;
  std::map<Vaddr, bool> leaves_;
};

TEST(PageTable, AgainstAMap) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    PageTableModel model(seed);
    for (int step = 0; step < 500; ++step) {
      model.Step();
      if (step % 25 == 0) model.CompareAll();
      if (testing::Test::HasFailure()) return;
    }
    model.CompareAll();
  }
}

}  // namespace
}  // namespace mm
