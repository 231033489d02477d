// Which pages of a live process are there, both ways that the kernel tells it.
#include "live/pagemap.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/units.h"

namespace live {
namespace {

constexpr uint64_t kPage = base::kPageSize;

class PagemapTest : public testing::TestWithParam<Pagemap::Interface> {};

TEST_P(PagemapTest, KindsOfPages) {
  const bool scan = GetParam() == Pagemap::Interface::kScan;
  if (scan && Pagemap::Supported() != Pagemap::Interface::kScan)
    GTEST_SKIP() << "this kernel has no PAGEMAP_SCAN";
  auto* memory = static_cast<volatile char*>(
      mmap(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  auto* shared = static_cast<volatile char*>(
      mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(madvise(const_cast<char*>(memory), 8 * kPage, MADV_NOHUGEPAGE), 0);
  const auto start = reinterpret_cast<uint64_t>(memory);
  const auto object = reinterpret_cast<uint64_t>(shared);
  memory[kPage] = 1;  // two pages of its own
  memory[2 * kPage] = 1;
  (void)memory[5 * kPage];  // the zero page
  shared[kPage] = 1;
  auto pagemap = Pagemap::Open(getpid(), GetParam());
  ASSERT_TRUE(pagemap.has_value());
  std::vector<PageRegion> pages;
  ASSERT_TRUE(pagemap->Scan(start, start + 8 * kPage, &pages).has_value());
  ASSERT_EQ(pages.size(), 2u);
  EXPECT_EQ(pages[0], (PageRegion{start + kPage, start + 3 * kPage, kPageIsPresent}));
  EXPECT_EQ(pages[1],
            (PageRegion{start + 5 * kPage, start + 6 * kPage, kPageIsPresent | (scan ? kPageIsPfnzero : 0)}));
  pages.clear();
  ASSERT_TRUE(pagemap->Scan(object, object + 2 * kPage, &pages).has_value());
  ASSERT_EQ(pages.size(), 1u);
  EXPECT_EQ(pages[0], (PageRegion{object + kPage, object + 2 * kPage, kPageIsPresent | kPageIsFile}));
  munmap(const_cast<char*>(memory), 8 * kPage);
  munmap(const_cast<char*>(shared), 2 * kPage);
}

// More regions than one call of the kernel answers.
TEST_P(PagemapTest, ManyRegions) {
  if (GetParam() == Pagemap::Interface::kScan && Pagemap::Supported() != Pagemap::Interface::kScan)
    GTEST_SKIP() << "this kernel has no PAGEMAP_SCAN";
  constexpr uint64_t kPages = 10'000;
  auto* memory = static_cast<volatile char*>(
      mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(madvise(const_cast<char*>(memory), kPages * kPage, MADV_NOHUGEPAGE), 0);
  for (uint64_t i = 0; i < kPages; i += 2) memory[i * kPage] = 1;
  const auto start = reinterpret_cast<uint64_t>(memory);
  auto pagemap = Pagemap::Open(getpid(), GetParam());
  ASSERT_TRUE(pagemap.has_value());
  std::vector<PageRegion> pages;
  ASSERT_TRUE(pagemap->Scan(start, start + kPages * kPage, &pages).has_value());
  ASSERT_EQ(pages.size(), kPages / 2);
  for (uint64_t i = 0; i < pages.size(); ++i) EXPECT_EQ(pages[i].start, start + 2 * i * kPage);
  munmap(const_cast<char*>(memory), kPages * kPage);
}

INSTANTIATE_TEST_SUITE_P(Both, PagemapTest,
                         testing::Values(Pagemap::Interface::kScan, Pagemap::Interface::kEntries),
                         [](const auto& param) {
                           return param.param == Pagemap::Interface::kScan ? "Scan" : "Entries";
                         });

TEST(Pagemap, OfNobody) {
  const auto pagemap = Pagemap::Open(0x7ffffff0, Pagemap::Interface::kScan);
  ASSERT_FALSE(pagemap.has_value());
  EXPECT_EQ(pagemap.error().code, base::Code::kNotFound);
}

}  // namespace
}  // namespace live
