// Size changes (mm/truncate.cc): spec B8, B9.
#include <gtest/gtest.h>

#include <mutex>

#include "mm/fault.h"
#include "tests/mm/failing_disk.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

TEST(Truncate, ShrinkTakesCacheDiskAndPtes) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr shared = w.Shared(p, file, 4);
  const Vaddr priv = w.Private(p, file, 4);
  for (uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(w.TryLoad(p, shared + i * kPage), Outcome::kOk);
    EXPECT_EQ(w.TryStore(p, priv + i * kPage), Outcome::kOk);
  }
  ASSERT_TRUE(w.Truncate(file, 2 * kPage));
  EXPECT_EQ(file->i_size, 2 * kPage);
  EXPECT_EQ(file->mapping.pages.size(), 2u);
  for (const Vaddr a : {shared, priv}) {
    EXPECT_TRUE(pte_present(w.PteAt(p, a + kPage)));
    EXPECT_TRUE(pte_none(w.PteAt(p, a + 2 * kPage)));
    EXPECT_EQ(w.TryLoad(p, a + 2 * kPage), Outcome::kSigbus);
    EXPECT_EQ(w.TryStore(p, a + 3 * kPage), Outcome::kSigbus);
  }
  EXPECT_EQ(p.mm->anon_rss, 2u);
  EXPECT_EQ(p.mm->file_rss, 2u);
}

TEST(Truncate, OnlyTheVmasThatReachThere) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(8 * kPage);
  const Vaddr low = w.Private(p, file, 2, 0);
  const Vaddr high = w.Private(p, file, 2, 5);
  const Vaddr across = w.Private(p, file, 4, 2);
  const auto store = [&](Vaddr a, uint64_t pages) {
    for (uint64_t i = 0; i < pages; ++i) EXPECT_EQ(w.Store(p, a + i * kPage, "mine"), Outcome::kOk);
  };
  store(low, 2);
  store(high, 2);
  store(across, 4);
  ASSERT_TRUE(w.Truncate(file, 3 * kPage + 1));
  EXPECT_BYTES(w.Load(p, low + kPage, 4), "mine");
  EXPECT_EQ(w.TryLoad(p, high), Outcome::kSigbus);
  EXPECT_BYTES(w.Load(p, across + kPage, 4), "mine") << "the partial page stays";
  EXPECT_EQ(w.TryLoad(p, across + 2 * kPage), Outcome::kSigbus);
  EXPECT_EQ(p.mm->anon_rss, 4u);
}

TEST(Truncate, ToTheMiddleOfAPage) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr shared = w.Shared(p, file, 2);
  ASSERT_EQ(w.Store(p, shared + kPage, std::string(kPage, 's')), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, kPage + 100));
  EXPECT_BYTES(w.Load(p, shared + kPage, kPage), std::string(100, 's') + Zeros(kPage - 100));
  ASSERT_TRUE(w.Truncate(file, 2 * kPage));
  EXPECT_BYTES(w.ReadFile(file, kPage, kPage), std::string(100, 's') + Zeros(kPage - 100));
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_BYTES(w.OnDisk(file, kPage, kPage), std::string(100, 's') + Zeros(kPage - 100));
}

TEST(Truncate, ExtendByOneByte) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 2);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kSigbus);
  ASSERT_TRUE(w.Truncate(file, kPage + 1));
  EXPECT_BYTES(w.Load(p, a + kPage, 2), Zeros(2));
  EXPECT_BYTES(w.ReadFile(file, kPage, 10), Zeros(1));
  EXPECT_BYTES(w.Load(p, a, 8), w.Original(file, 0, 8));
}

// Extension zeroes what a shared mapping stored behind the old end, up to the new end at least.
TEST(Truncate, ExtendNeverExposesTheTail) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10);
  const Vaddr a = w.Shared(p, file, 1);
  for (const uint64_t size : {20u, 21u, 4095u, 4096u, 9000u}) {
    ASSERT_EQ(
        w.Store(p, a + file->i_size % kPage, std::string(30, 'g').substr(0, kPage - file->i_size % kPage)),
        Outcome::kOk);
    ASSERT_TRUE(w.Truncate(file, size));
    EXPECT_BYTES(w.ReadFile(file, 0, size), w.Original(file, 0, 10) + Zeros(size - 10)) << size;
    ASSERT_TRUE(w.Fsync(file));
    if (size >= kPage) break;
  }
}

TEST(Truncate, ToNothingAndBack) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  ASSERT_EQ(w.Store(p, a + kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(w.WriteFile(file, 0, "written").has_value());
  ASSERT_TRUE(w.Truncate(file, 0));
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kSigbus);
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 0u) << "dirty pages that are cut off are not written";
  ASSERT_TRUE(w.Truncate(file, 3 * kPage));
  EXPECT_BYTES(w.Load(p, a, 3 * kPage), Zeros(3 * kPage));
}

TEST(Truncate, ToTheSameSizeChangesNothing) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  ASSERT_EQ(w.Store(p, a + kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, 2 * kPage));
  EXPECT_BYTES(w.Load(p, a + kPage, 4), "mine");
}

// B8: the limit is looked at before the largest size of a file.
TEST(Truncate, Limits) {
  World w;
  const FilePtr file = w.NewFile(kPage);
  EXPECT_EQ(w.Truncate(file, 2 * kPage, 2 * kPage - 1).error(), (SysError{EFBIG, SIGXFSZ}));
  EXPECT_EQ(file->i_size, kPage);
  EXPECT_TRUE(w.Truncate(file, 2 * kPage, 2 * kPage).has_value());
  EXPECT_TRUE(w.Truncate(file, kPage, 10).has_value()) << "the limit does not stop shrinking";
  EXPECT_EQ(w.Truncate(file, ~uint64_t{0}).error(), (SysError{EFBIG, 0}));
  EXPECT_EQ(w.Truncate(file, ~uint64_t{0}, 2 * kPage).error(), (SysError{EFBIG, SIGXFSZ}));
  EXPECT_FALSE(w.Truncate(w.machine().dev_zero(), 10).has_value());
}

TEST(Truncate, PinnedPagesLoseTheirFileAndKeepTheirBytes) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Shared(p, file, 2);
  ASSERT_EQ(w.Store(p, a + kPage, "pinned"), Outcome::kOk);
  std::vector<Pfn> pins = get_user_pages(*p.mm, a + kPage, 1, Write::kNo, Force::kNo).value();
  ASSERT_TRUE(w.Truncate(file, kPage));
  EXPECT_BYTES(w.FrameText(pins[0], 0, 6), "pinned");
  EXPECT_EQ(FileMapping(w.machine().frames.at(pins[0])), nullptr);
  ASSERT_TRUE(w.Truncate(file, 2 * kPage));
  EXPECT_BYTES(w.Load(p, a + kPage, 6), Zeros(6)) << "a fresh page, not the pinned one";
  unpin_user_pages(w.machine(), pins);
  w.Check();
}

TEST(Truncate, ShmemForgetsWhatIsCutOff) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 3, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  const FilePtr shm = w.VmaAt(p, a).file;
  ASSERT_EQ(w.Store(p, a + kPage, std::string(2 * kPage, 's')), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(shm, kPage + 10));
  EXPECT_BYTES(w.Load(p, a + kPage, 20), std::string(10, 's') + Zeros(10));
  EXPECT_EQ(w.TryLoad(p, a + 2 * kPage), Outcome::kSigbus);
  ASSERT_TRUE(w.Truncate(shm, 3 * kPage));
  EXPECT_BYTES(w.Load(p, a + kPage, 2 * kPage), std::string(10, 's') + Zeros(2 * kPage - 10));
}

// A medium that does not follow: the file keeps its length, and what it holds there is what the disk
// holds, not zeros that nobody wrote.
TEST(Truncate, AFailingMediumLosesNothing) {
  World w;
  auto owned = std::make_unique<FailingDisk>();
  FailingDisk* disk = owned.get();
  disk->pages[0] = std::string(kPage, 'a');
  disk->pages[1] = std::string(kPage, 'b');
  const FilePtr file = w.machine().create_file("failing", 2 * kPage, std::move(owned));
  EXPECT_EQ(w.ReadFile(file, 0, 2 * kPage).size(), 2 * kPage);
  disk->bad_truncate = true;
  EXPECT_EQ(w.Truncate(file, 100).error().err, EIO);
  EXPECT_EQ(file->i_size, 2 * kPage);
  EXPECT_BYTES(w.ReadFile(file, 0, 2 * kPage), std::string(kPage, 'a') + std::string(kPage, 'b'));
  EXPECT_EQ(w.Truncate(file, 3 * kPage).error().err, EIO);
  EXPECT_EQ(file->i_size, 2 * kPage);
}

// INV-M3: even_cows = 0 takes the file's own pages and nothing else.
TEST(Truncate, UnmapKeepsPrivateCopiesUnlessAskedNotTo) {
  World w({}, 4096, 16);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  ASSERT_EQ(w.Store(p, a, "mine"), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + 2 * kPage, "swapped"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a + 2 * kPage));
  const Pte swapped = w.PteAt(p, a + 2 * kPage);
  const auto unmap = [&](EvenCows even_cows) {
    std::lock_guard guard(file->mapping.i_shared_sem);
    unmap_mapping_range(w.machine(), file->mapping, 0, ~Pgoff{0}, even_cows);
  };
  unmap(EvenCows::kNo);
  w.Check();
  EXPECT_BYTES(w.Load(p, a, 4), "mine");
  EXPECT_TRUE(pte_none(w.PteAt(p, a + kPage)));
  EXPECT_EQ(w.PteAt(p, a + 2 * kPage), swapped);
  unmap(EvenCows::kYes);
  w.Check();
  for (uint64_t i = 0; i < 3; ++i) EXPECT_TRUE(pte_none(w.PteAt(p, a + i * kPage)));
}

// Seed 004 of kernels before 2.6.32: private copies outlive the truncation, and the extension, of their
// file. No source has it so; the switch plays it.
TEST(Truncate, CowSurvivesWhereTheSwitchSaysSo) {
  World w(WithSwitch("cow_survives_truncate=yes"));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  const Vaddr shared = w.Shared(p, file, 3);
  ASSERT_EQ(w.Store(p, a + 2 * kPage, "old"), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, shared + 2 * kPage), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, kPage));
  EXPECT_BYTES(w.Load(p, a + 2 * kPage, 3), "old");
  EXPECT_TRUE(w.IsDirty(p, a + 2 * kPage));
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kSigbus) << "never written: the file's own page is gone";
  EXPECT_EQ(w.TryLoad(p, shared + 2 * kPage), Outcome::kSigbus);
  ASSERT_TRUE(w.Truncate(file, 3 * kPage));
  EXPECT_BYTES(w.Load(p, a + 2 * kPage, 3), "old");
  EXPECT_BYTES(w.Load(p, shared + 2 * kPage, 3), Zeros(3));
}

class HolePunch : public testing::TestWithParam<const char*> {};

// Private copies of punched pages: kept today, zapped by 2.6.34's vmtruncate_range.
TEST_P(HolePunch, OverCowedPages) {
  const bool kept = std::string(GetParam()) == "kept";
  World w(WithSwitch(std::string("hole_punch_cow=") + GetParam()));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr priv = w.Private(p, file, 4);
  const Vaddr shared = w.Shared(p, file, 4);
  for (uint64_t i = 0; i < 4; ++i) {
    ASSERT_EQ(w.Store(p, priv + i * kPage, "mine"), Outcome::kOk);
    ASSERT_EQ(w.Store(p, shared + i * kPage, "ours"), Outcome::kOk);
  }
  ASSERT_TRUE(w.Punch(file, kPage, 2 * kPage));
  EXPECT_EQ(file->i_size, 4 * kPage);
  for (uint64_t i = 0; i < 4; ++i) {
    const bool punched = i == 1 || i == 2;
    EXPECT_BYTES(w.Load(p, priv + i * kPage, 4), kept || !punched ? "mine" : Zeros(4)) << i;
    EXPECT_BYTES(w.Load(p, shared + i * kPage, 4), punched ? Zeros(4) : "ours") << i;
    EXPECT_BYTES(w.ReadFile(file, i * kPage, kPage),
                 punched ? Zeros(kPage) : "ours" + w.Original(file, i * kPage + 4, kPage - 4));
    EXPECT_EQ(w.IsDirty(p, priv + i * kPage), kept || !punched) << i;
  }
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_BYTES(w.OnDisk(file, kPage, kPage), Zeros(kPage));
}
INSTANTIATE_TEST_SUITE_P(Truncate, HolePunch, testing::Values("kept", "zapped"),
                         [](const auto& param) { return std::string(param.param); });

TEST(Truncate, PunchPartsOfPages) {
  const uint64_t size = 4 * kPage + 100;
  const std::pair<uint64_t, uint64_t> holes[] = {
      {10, 20},           {0, 1},          {4000, 200},
      {kPage, kPage},     {10, 3 * kPage}, {kPage - 1, 2 * kPage + 2},
      {4 * kPage, 50},    {0, size},       {3 * kPage, ~uint64_t{0} / 2},
      {4 * kPage + 99, 1}};
  for (const auto& [offset, length] : holes) {
    SCOPED_TRACE(testing::Message() << "hole at " << offset << " of " << length);
    World w;
    const FilePtr file = w.NewFile(size);
    std::string expected = w.Original(file, 0, size);
    const uint64_t end = std::min(size, offset + length);
    expected.replace(offset, end - offset, end - offset, '\0');
    ASSERT_TRUE(w.Punch(file, offset, length));
    EXPECT_EQ(file->i_size, size);
    EXPECT_BYTES(w.ReadFile(file, 0, size), expected);
    ASSERT_TRUE(w.Fsync(file));
    invalidate_mapping_pages(w.machine(), file->mapping, 0, ~Pgoff{0});
    EXPECT_TRUE(file->mapping.pages.empty());
    EXPECT_BYTES(w.ReadFile(file, 0, size), expected) << "from the disk";
  }
}

TEST(Truncate, PunchBehindTheEndDoesNothing) {
  World w;
  const FilePtr file = w.NewFile(100);
  EXPECT_TRUE(w.Punch(file, 3 * kPage, kPage).has_value());
  EXPECT_EQ(file->i_size, 100u);
  EXPECT_EQ(w.Punch(file, 0, 0).error().err, EINVAL);
  EXPECT_FALSE(w.Punch(w.machine().dev_zero(), 0, kPage).has_value());
  EXPECT_BYTES(w.ReadFile(file, 0, 100), w.Original(file, 0, 100));
}

}  // namespace
}  // namespace mm
