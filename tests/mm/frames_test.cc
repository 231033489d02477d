#include "mm/frames.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace mm {
namespace {

bool IsZero(const Frames& frames, Pfn pfn) {
  const std::byte* bytes = frames.bytes(pfn);
  return std::all_of(bytes, bytes + kPageSize, [](std::byte b) { return b == std::byte{0}; });
}

TEST(Frames, TheZeroPageIsThereFromTheStart) {
  Frames frames(8);
  EXPECT_EQ(frames.frame_count(), 8u);
  EXPECT_EQ(frames.nr_free(), 7u);
  EXPECT_EQ(frames.high_water(), 1u);
  EXPECT_GT(frames.at(kZeroPfn).count, 0);
  EXPECT_EQ(frames.at(kZeroPfn).mapcount, 0);
  EXPECT_TRUE(IsZero(frames, kZeroPfn));
}

TEST(Frames, FreshFramesAscendAndAreZero) {
  Frames frames(8);
  for (uint32_t expected = 1; expected < 8; ++expected) {
    const Pfn pfn = frames.alloc_page(Fill::kZero);
    EXPECT_EQ(pfn, Pfn{expected});
    EXPECT_TRUE(IsZero(frames, pfn));
    const Page& page = frames.at(pfn);
    EXPECT_EQ(page.count, 1);
    EXPECT_EQ(page.mapcount, 0);
    EXPECT_EQ(page.flags, 0u);
    EXPECT_EQ(page.mapping_word, 0u);
    EXPECT_EQ(frames.high_water(), expected + 1);
    EXPECT_EQ(frames.nr_free(), 7 - expected);
  }
}

TEST(Frames, LastFreedIsFirstReused) {
  Frames frames(8);
  std::vector<Pfn> pages;
  for (int i = 0; i < 4; ++i) pages.push_back(frames.alloc_page(Fill::kZero));
  frames.put_page(pages[1]);
  frames.put_page(pages[3]);
  frames.put_page(pages[0]);
  EXPECT_EQ(frames.nr_free(), 6u);
  EXPECT_EQ(frames.alloc_page(Fill::kZero), pages[0]);
  EXPECT_EQ(frames.alloc_page(Fill::kZero), pages[3]);
  EXPECT_EQ(frames.alloc_page(Fill::kZero), pages[1]);
  EXPECT_EQ(frames.high_water(), 5u) << "recycled frames come before fresh ones";
  EXPECT_EQ(frames.alloc_page(Fill::kZero), Pfn{5});
}

TEST(Frames, RecycledFramesAreZeroedOnRequest) {
  Frames frames(4);
  const Pfn pfn = frames.alloc_page(Fill::kUninitialized);
  std::memset(frames.bytes(pfn), 0xab, kPageSize);
  frames.at(pfn).flags = PG_dirty | PG_uptodate | PG_referenced;
  frames.at(pfn).index = 77;
  frames.at(pfn).mapping_word = kAnonMapping;
  frames.put_page(pfn);
  ASSERT_EQ(frames.alloc_page(Fill::kZero), pfn);
  EXPECT_TRUE(IsZero(frames, pfn));
  EXPECT_EQ(frames.at(pfn).flags, 0u);
  EXPECT_EQ(frames.at(pfn).mapping_word, 0u);
}

TEST(Frames, ReferencesKeepAFrameAlive) {
  Frames frames(4);
  const Pfn pfn = frames.alloc_page(Fill::kZero);
  std::memset(frames.bytes(pfn), 1, kPageSize);
  frames.get_page(pfn);
  frames.put_page(pfn);
  EXPECT_EQ(frames.nr_free(), 2u);
  EXPECT_NE(frames.alloc_page(Fill::kZero), pfn);
  EXPECT_EQ(frames.bytes(pfn)[100], std::byte{1});
  frames.put_page(pfn);
  EXPECT_EQ(frames.alloc_page(Fill::kZero), pfn);
}

TEST(Frames, ExhaustionAnswersNoPageAndRecovers) {
  Frames frames(4);
  std::vector<Pfn> pages;
  for (int i = 0; i < 3; ++i) pages.push_back(frames.alloc_page(Fill::kZero));
  EXPECT_EQ(frames.alloc_page(Fill::kZero), kNoPfn);
  EXPECT_EQ(frames.alloc_page(Fill::kUninitialized), kNoPfn);
  EXPECT_EQ(frames.nr_free(), 0u);
  EXPECT_EQ(frames.high_water(), 4u);
  frames.put_page(pages[1]);
  EXPECT_EQ(frames.alloc_page(Fill::kZero), pages[1]);
  EXPECT_EQ(frames.alloc_page(Fill::kZero), kNoPfn);
}

TEST(FramesDeathTest, MisuseIsCaught) {
  Frames frames(4);
  EXPECT_DEATH((void)frames.at(Pfn{4}), "CHECK failed");
  EXPECT_DEATH((void)frames.bytes(kNoPfn), "CHECK failed");
  const Pfn pfn = frames.alloc_page(Fill::kZero);
  frames.put_page(pfn);
  EXPECT_DEATH(frames.put_page(pfn), "CHECK failed") << "a second free";
  const Pfn mapped = frames.alloc_page(Fill::kZero);
  frames.at(mapped).mapcount = 1;
  EXPECT_DEATH(frames.put_page(mapped), "CHECK failed") << "free of a mapped page";
  EXPECT_DEATH(frames.put_page(kZeroPfn), "CHECK failed") << "the zero page is never freed";
}

}  // namespace
}  // namespace mm
