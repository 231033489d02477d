// VmaTree: against a plain list, through random insertions, changes and removals.
#include "mm/vma_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <memory>
#include <random>
#include <vector>

#include "mm/vma.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

// The seed's list: the vmas in the order in which they were inserted.
class Both {
 public:
  void Insert(Pgoff pgoff, uint64_t pages) {
    vmas_.push_back(std::make_unique<Vma>());
    SetBounds(*vmas_.back(), pgoff, pages);
    tree_.insert(*vmas_.back());
  }
  void Erase(size_t which) {
    tree_.erase(*vmas_[which]);
    EXPECT_EQ(vmas_[which]->tree.sequence, 0u);
    vmas_.erase(vmas_.begin() + static_cast<ptrdiff_t>(which));
  }
  void Change(size_t which, Pgoff pgoff, uint64_t pages) {
    const uint64_t turn = tree_.erase_for_change(*vmas_[which]);
    SetBounds(*vmas_[which], pgoff, pages);
    tree_.insert_again(*vmas_[which], turn);
  }
  void ExpectSame(Pgoff first, Pgoff end) const {
    std::vector<const Vma*> want;
    for (const auto& vma : vmas_) {
      if (vma->pgoff < end && vma->pgoff + vma->pages() > first) want.push_back(vma.get());
    }
    const VmaList got = tree_.overlapping(first, end);
    EXPECT_TRUE(std::ranges::equal(got, want)) << "[" << first << ", " << end << ")";
  }
  void ExpectSameAll() const {
    EXPECT_EQ(tree_.size(), vmas_.size());
    EXPECT_EQ(tree_.empty(), vmas_.empty());
    const VmaList all = tree_.all();
    ASSERT_EQ(all.size(), vmas_.size());
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i], vmas_[i].get()) << "turn " << i;
      EXPECT_TRUE(tree_.contains(*all[i]));
    }
  }
  size_t size() const { return vmas_.size(); }

 private:
  static void SetBounds(Vma& vma, Pgoff pgoff, uint64_t pages) {
    vma.pgoff = pgoff;
    vma.start = 0x10000;
    vma.end = vma.start + pages * kPage;
  }
  std::vector<std::unique_ptr<Vma>> vmas_;
  VmaTree tree_;
};

TEST(VmaTree, RandomAgainstAList) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&](uint64_t bound) { return random() % bound; };
    // Few or many different places, so that equal bounds occur.
    const uint64_t places = seed % 2 == 0 ? 8 : 1000;
    Both both;
    for (int step = 0; step < 400; ++step) {
      const uint64_t what = below(10);
      if (what < 4 || both.size() == 0) {
        both.Insert(below(places), 1 + below(places / 4));
      } else if (what < 6) {
        both.Erase(below(both.size()));
      } else if (what < 8) {
        both.Change(below(both.size()), below(places), 1 + below(places / 4));
      }
      const Pgoff first = below(places);
      both.ExpectSame(first, first + 1);
      both.ExpectSame(first, first + 1 + below(places));
      if (step % 20 == 0) both.ExpectSameAll();
    }
    while (both.size() > 0) both.Erase(below(both.size()));
    both.ExpectSameAll();
  }
}

TEST(VmaTree, EdgesOfARange) {
  Both both;
  both.Insert(10, 5);
  both.Insert(0, ~Pgoff{0} >> kPageShift);
  both.Insert(15, 1);
  for (Pgoff first = 8; first < 18; ++first) {
    for (Pgoff end = first; end < 18; ++end) both.ExpectSame(first, std::max(end, first + 1));
  }
  both.ExpectSame(0, ~Pgoff{0});
}

TEST(VmaTree, ManyVmasOfOnePage) {
  Both both;
  for (int i = 0; i < 3000; ++i) both.Insert(7, 1);
  both.ExpectSame(7, 8);
  both.ExpectSame(8, 9);
  both.Change(0, 7, 2);
  both.ExpectSame(7, 8);
  both.ExpectSame(8, 9);
}

// What splits, merges, mremap and mprotect do to the trees of a file keeps each vma findable.
TEST(VmaTree, FollowsSplitsMergesAndMoves) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(16 * kPage);
  const Vaddr shared = w.Shared(p, file, 16);
  const Vaddr priv = w.Private(p, file, 8, 4);
  EXPECT_EQ(file->mapping.i_mmap_shared.size(), 1u);
  EXPECT_EQ(file->mapping.i_mmap.size(), 1u);
  ASSERT_TRUE(w.Protect(p, shared + 4 * kPage, 4, PROT_READ));
  EXPECT_EQ(file->mapping.i_mmap_shared.size(), 3u);
  EXPECT_EQ(file->mapping.i_mmap_shared.overlapping(4, 8).size(), 1u);
  EXPECT_EQ(file->mapping.i_mmap_shared.overlapping(3, 9).size(), 3u);
  ASSERT_TRUE(w.Protect(p, shared + 4 * kPage, 4, kReadWrite));
  EXPECT_EQ(file->mapping.i_mmap_shared.size(), 1u);
  ASSERT_TRUE(w.Unmap(p, priv + 2 * kPage, 2));
  EXPECT_EQ(file->mapping.i_mmap.overlapping(6, 8).size(), 0u);
  EXPECT_EQ(file->mapping.i_mmap.overlapping(5, 9).size(), 2u);
  const SysResult<Vaddr> moved = sys_mremap(*p.mm, priv, 2 * kPage, 6 * kPage, MREMAP_MAYMOVE, 0);
  w.Check();
  ASSERT_TRUE(moved.has_value());
  EXPECT_EQ(file->mapping.i_mmap.overlapping(9, 10).size(), 2u);
  ASSERT_EQ(w.Store(p, shared + 9 * kPage, "nine"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, *moved + 5 * kPage, 4), "nine");
  ASSERT_TRUE(w.Truncate(file, 9 * kPage));
  EXPECT_EQ(w.TryLoad(p, *moved + 5 * kPage), Outcome::kSigbus);
}

}  // namespace
}  // namespace mm
