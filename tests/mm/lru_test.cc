// LruLists against plain lists.
#include "mm/lru.h"

#include <gtest/gtest.h>

#include <list>
#include <random>
#include <vector>

namespace mm {
namespace {

constexpr size_t kLists = static_cast<size_t>(Lru::kCount);

uint32_t FlagsOf(Lru list) {
  switch (list) {
    case Lru::kInactiveAnon: return PG_swapbacked;
    case Lru::kActiveAnon: return PG_swapbacked | PG_active;
    case Lru::kActiveFile: return PG_active;
    default: return 0;
  }
}

// From the tail to the head.
std::vector<uint32_t> Walk(const std::vector<Page>& pages, const LruLists& lru, Lru list) {
  std::vector<uint32_t> found;
  Pfn pfn = lru.tail(list);
  while (pfn != kNoPfn && found.size() <= pages.size()) {
    found.push_back(static_cast<uint32_t>(pfn));
    pfn = pages[static_cast<uint32_t>(pfn)].lru_prev;
  }
  return found;
}

TEST(Lru, FlagsNameTheList) {
  Page page{};
  for (size_t i = 0; i < kLists; ++i) {
    page.flags = FlagsOf(static_cast<Lru>(i)) | PG_dirty | PG_uptodate;
    EXPECT_EQ(page_lru(page), static_cast<Lru>(i));
  }
}

TEST(Lru, HeadIsTheLatest) {
  std::vector<Page> pages(4);
  LruLists lru;
  EXPECT_EQ(lru.tail(Lru::kInactiveFile), kNoPfn);
  for (uint32_t i = 1; i < 4; ++i) lru.add(pages.data(), Pfn{i});
  EXPECT_EQ(lru.head(Lru::kInactiveFile), Pfn{3});
  EXPECT_EQ(lru.tail(Lru::kInactiveFile), Pfn{1});
  EXPECT_NE(pages[2].flags & PG_lru, 0u);
  lru.del(pages.data(), Pfn{2});
  EXPECT_EQ(pages[2].flags & PG_lru, 0u);
  EXPECT_EQ(Walk(pages, lru, Lru::kInactiveFile), (std::vector<uint32_t>{1, 3}));
  lru.del(pages.data(), Pfn{1});
  lru.del(pages.data(), Pfn{3});
  EXPECT_EQ(lru.size(Lru::kInactiveFile), 0u);
  EXPECT_EQ(lru.head(Lru::kInactiveFile), kNoPfn);
  EXPECT_EQ(lru.tail(Lru::kInactiveFile), kNoPfn);
}

TEST(Lru, RandomAgainstLists) {
  for (unsigned seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<Page> pages(64);
    LruLists lru;
    std::list<uint32_t> want[kLists];  // from the tail to the head
    for (int step = 0; step < 2000; ++step) {
      const uint32_t pfn = static_cast<uint32_t>(random() % pages.size());
      Page& page = pages[pfn];
      if ((page.flags & PG_lru) != 0) {
        want[static_cast<size_t>(page_lru(page))].remove(pfn);
        lru.del(pages.data(), Pfn{pfn});
      }
      if (random() % 4 != 0) {
        const auto list = static_cast<Lru>(random() % kLists);
        page.flags = FlagsOf(list);
        lru.add(pages.data(), Pfn{pfn});
        want[static_cast<size_t>(list)].push_back(pfn);
      }
      for (size_t i = 0; i < kLists; ++i) {
        ASSERT_EQ(lru.size(static_cast<Lru>(i)), want[i].size());
        ASSERT_EQ(Walk(pages, lru, static_cast<Lru>(i)),
                  std::vector<uint32_t>(want[i].begin(), want[i].end()));
      }
    }
  }
}

}  // namespace
}  // namespace mm
