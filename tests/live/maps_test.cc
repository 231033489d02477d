// The vmas of a live process, both ways that the kernel gives them.
#include "live/maps.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/units.h"

namespace live {
namespace {

constexpr uint64_t kPage = base::kPageSize;

// Six pages of this process: two private ones that may be read and written, one that may only be read, a
// hole, two shared ones.
class MapsTest : public testing::TestWithParam<Maps::Interface> {
 protected:
  MapsTest() {
    void* place = mmap(nullptr, 6 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    start_ = reinterpret_cast<uint64_t>(place);
    EXPECT_EQ(mprotect(At(2), kPage, PROT_READ), 0);
    EXPECT_EQ(munmap(At(3), kPage), 0);
    EXPECT_NE(mmap(At(4), 2 * kPage, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0), MAP_FAILED);
  }
  ~MapsTest() override { munmap(At(0), 6 * kPage); }
  void* At(uint64_t page) const { return reinterpret_cast<void*>(start_ + page * kPage); }
  std::vector<LiveVma> Read() {
    auto maps = Maps::Open(getpid(), GetParam());
    EXPECT_TRUE(maps.has_value());
    std::vector<LiveVma> vmas;
    EXPECT_TRUE(maps->Read(start_, start_ + 6 * kPage, &vmas).has_value());
    return vmas;
  }
  uint64_t start_;
};

TEST_P(MapsTest, BoundsAndProtection) {
  if (GetParam() == Maps::Interface::kQuery && Maps::Supported() != Maps::Interface::kQuery)
    GTEST_SKIP() << "this kernel has no PROCMAP_QUERY";
  std::vector<LiveVma> vmas = Read();
  // The first may have been merged with what lies below, and is left out then.
  if (vmas.size() == 3) {
    EXPECT_EQ(vmas[0].end, start_ + 2 * kPage);
    EXPECT_EQ(vmas[0].prot, PROT_READ | PROT_WRITE);
    EXPECT_FALSE(vmas[0].shared);
    EXPECT_EQ(vmas[0].inode, 0u);
    vmas.erase(vmas.begin());
  }
  ASSERT_EQ(vmas.size(), 2u);
  EXPECT_EQ(vmas[0].start, start_ + 2 * kPage);
  EXPECT_EQ(vmas[0].end, start_ + 3 * kPage);
  EXPECT_EQ(vmas[0].prot, PROT_READ);
  EXPECT_EQ(vmas[1].start, start_ + 4 * kPage);
  EXPECT_EQ(vmas[1].end, start_ + 6 * kPage);
  EXPECT_TRUE(vmas[1].shared);
  EXPECT_NE(vmas[1].inode, 0u);
}

TEST_P(MapsTest, FlagsComeFromSmaps) {
  ASSERT_EQ(madvise(At(4), 2 * kPage, MADV_DONTFORK), 0);
  // As far as RLIMIT_MEMLOCK goes; not by the C library, where AddressSanitizer makes it do nothing.
  const bool locked = syscall(SYS_mlock, At(2), kPage) == 0;
  auto maps = Maps::Open(getpid(), Maps::Supported());
  ASSERT_TRUE(maps.has_value());
  std::vector<LiveVma> vmas;
  ASSERT_TRUE(maps->Read(start_ + 2 * kPage, start_ + 6 * kPage, &vmas).has_value());
  ASSERT_EQ(vmas.size(), 2u);
  ASSERT_TRUE(maps->ReadFlags(&vmas).has_value());
  EXPECT_EQ(vmas[0].flags, locked ? kVmLocked : 0);
  EXPECT_EQ(vmas[1].flags, kVmDontcopy);
  // Vmas that are gone meanwhile are missed.
  munmap(At(4), 2 * kPage);
  const auto gone = maps->ReadFlags(&vmas);
  ASSERT_FALSE(gone.has_value());
  EXPECT_EQ(gone.error().code, base::Code::kBusy);
}

INSTANTIATE_TEST_SUITE_P(Both, MapsTest, testing::Values(Maps::Interface::kQuery, Maps::Interface::kText),
                         [](const auto& param) {
                           return param.param == Maps::Interface::kQuery ? "Query" : "Text";
                         });

TEST(Maps, BothInterfacesSayTheSame) {
  if (Maps::Supported() != Maps::Interface::kQuery) GTEST_SKIP() << "this kernel has no PROCMAP_QUERY";
  auto query = Maps::Open(getpid(), Maps::Interface::kQuery);
  auto text = Maps::Open(getpid(), Maps::Interface::kText);
  ASSERT_TRUE(query && text);
  constexpr uint64_t kEnd = 0x7ffffffff000;
  std::vector<LiveVma> first;
  std::vector<LiveVma> second;
  first.reserve(10'000);  // so that reading maps nothing
  second.reserve(10'000);
  ASSERT_TRUE(text->Read(0, kEnd, &second).has_value());
  second.clear();
  ASSERT_TRUE(query->Read(0, kEnd, &first).has_value());
  ASSERT_TRUE(text->Read(0, kEnd, &second).has_value());
  EXPECT_GT(first.size(), 5u);
  EXPECT_TRUE(first == second);
}

TEST(Maps, ParsesLines) {
  LiveVma vma;
  ASSERT_TRUE(ParseMapsLine("7f0000001000-7f0000003000 r-xs 00002000 fd:01 1234   /a file (deleted)", &vma));
  EXPECT_EQ(vma, (LiveVma{.start = 0x7f0000001000,
                          .end = 0x7f0000003000,
                          .prot = PROT_READ | PROT_EXEC,
                          .shared = true,
                          .offset = 0x2000,
                          .device = uint64_t{0xfd} << 32 | 1,
                          .inode = 1234,
                          .flags = 0}));
  EXPECT_FALSE(ParseMapsLine("Size:                  8 kB", &vma));
  EXPECT_FALSE(ParseMapsLine("", &vma));
}

TEST(Maps, OfNobody) {
  const auto maps = Maps::Open(0x7ffffff0, Maps::Interface::kText);
  ASSERT_FALSE(maps.has_value());
  EXPECT_EQ(maps.error().code, base::Code::kNotFound);
}

}  // namespace
}  // namespace live
