#include "mm/disk.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <map>

#include "base/random.h"
#include "tests/mm/bytes.h"
#include "tests/support/support.h"

namespace mm {
namespace {

Recipe Generated(std::string generator, uint64_t size, uint64_t seed = 7) {
  Recipe recipe;
  recipe.kind = Recipe::Kind::kGenerated;
  recipe.size = size;
  recipe.generator = std::move(generator);
  recipe.seed = seed;
  return recipe;
}
Recipe Empty(uint64_t size) {
  Recipe recipe;
  recipe.size = size;
  return recipe;
}
Recipe Real(const std::filesystem::path& path) {
  Recipe recipe;
  recipe.kind = Recipe::Kind::kReal;
  recipe.path = path.string();
  return recipe;
}

OverlayDisk MakeDisk(const Recipe& recipe) { return OverlayDisk(OpenContent(recipe).value()); }

std::string Text(const PageBytes& page) { return {reinterpret_cast<const char*>(page.data()), kPageSize}; }

std::string ReadPage(const Disk& disk, Pgoff index) {
  PageBytes page;
  page.fill(std::byte{0xee});
  EXPECT_TRUE(disk.ReadPage(index, page));
  return Text(page);
}

std::string RecipePage(const Recipe& recipe, Pgoff index) {
  PageBytes page;
  page.fill(std::byte{0xee});
  EXPECT_TRUE(OpenContent(recipe)->content->ReadPage(index, page));
  return Text(page);
}

void Write(Disk& disk, Pgoff index, const std::string& bytes) {
  ASSERT_EQ(bytes.size(), kPageSize);
  EXPECT_TRUE(
      disk.WritePage(index, ConstPageSpan(reinterpret_cast<const std::byte*>(bytes.data()), kPageSize)));
}

std::map<Pgoff, std::string> Changed(const Disk& disk) {
  std::map<Pgoff, std::string> changed;
  Pgoff last = 0;
  EXPECT_TRUE(disk.ForEachChanged([&](Pgoff first, uint64_t count, const std::byte* bytes) {
    EXPECT_TRUE(changed.empty() || first > last) << "ascending";
    EXPECT_TRUE(count == 1 || (bytes == nullptr && count > 0)) << count;
    last = first + count - 1;
    for (Pgoff index = first; index <= last; ++index) {
      changed[index] = bytes == nullptr ? std::string(kPageSize, '\0')
                                        : std::string(reinterpret_cast<const char*>(bytes), kPageSize);
    }
  }));
  return changed;
}

const std::string kZeroPage(kPageSize, '\0');
const std::string kXs(kPageSize, 'x');

TEST(Disk, GeneratorsAreDeterministicAndDiffer) {
  for (const std::string_view name : GeneratorNames()) {
    const Recipe recipe = Generated(std::string(name), 10 * kPageSize);
    EXPECT_BYTES(RecipePage(recipe, 3), RecipePage(recipe, 3)) << name;
    EXPECT_NE(RecipePage(recipe, 3), RecipePage(recipe, 4)) << name << ": pages differ";
    EXPECT_NE(RecipePage(recipe, 3), RecipePage(Generated(std::string(name), 10 * kPageSize, 8), 3))
        << name << ": seeds differ";
  }
}

TEST(Disk, CounterWordsAreTheirOffsets) {
  const std::string zero = RecipePage(Generated("counter", 3 * kPageSize), 0);
  const std::string page = RecipePage(Generated("counter", 3 * kPageSize), 2);
  uint64_t mix;
  std::memcpy(&mix, zero.data(), 8);
  for (size_t at = 0; at < kPageSize; at += 8) {
    uint64_t word;
    std::memcpy(&word, page.data() + at, 8);
    EXPECT_EQ(word ^ mix, 2 * kPageSize + at);
  }
}

TEST(Disk, ContentEndsAtTheRecipesSize) {
  const Recipe whole = Generated("random", 2 * kPageSize);
  const Recipe cut = Generated("random", kPageSize + 100);
  EXPECT_BYTES(RecipePage(cut, 0), RecipePage(whole, 0));
  EXPECT_BYTES(RecipePage(cut, 1), RecipePage(whole, 1).substr(0, 100) + std::string(kPageSize - 100, '\0'));
  EXPECT_BYTES(RecipePage(cut, 2), kZeroPage);
  EXPECT_BYTES(RecipePage(Empty(kPageSize), 0), kZeroPage);
}

TEST(Disk, BadRecipesAreRefused) {
  const auto code = [](const Recipe& recipe) { return OpenContent(recipe).error().code; };
  EXPECT_EQ(code(Generated("noise", 1)), base::Code::kInvalid);
  EXPECT_EQ(code(Real("/nowhere/at/all")), base::Code::kNotFound);
  const support::TempDir folder;
  EXPECT_EQ(code(Real(folder.path())), base::Code::kInvalid);
}

TEST(Disk, OverlayKeepsWritesApart) {
  const Recipe recipe = Generated("counter", 4 * kPageSize);
  OverlayDisk disk = MakeDisk(recipe);
  EXPECT_TRUE(Changed(disk).empty());
  Write(disk, 1, kXs);
  Write(disk, 9, kXs);
  EXPECT_BYTES(ReadPage(disk, 0), RecipePage(recipe, 0));
  EXPECT_BYTES(ReadPage(disk, 1), kXs);
  EXPECT_BYTES(ReadPage(disk, 5), kZeroPage);
  EXPECT_BYTES(ReadPage(disk, 9), kXs);
  EXPECT_EQ(Changed(disk), (std::map<Pgoff, std::string>{{1, kXs}, {9, kXs}}));
  EXPECT_EQ(disk.recipe(), recipe);
  EXPECT_EQ(disk.recipe_end(), recipe.size);
}

TEST(Disk, WhatIsWrittenBackUnchangedIsNotReported) {
  const Recipe recipe = Generated("counter", 2 * kPageSize + 10);
  OverlayDisk disk = MakeDisk(recipe);
  Write(disk, 0, RecipePage(recipe, 0));
  Write(disk, 2, RecipePage(recipe, 2));
  Write(disk, 5, kZeroPage);
  EXPECT_TRUE(Changed(disk).empty());
  Write(disk, 0, kXs);
  EXPECT_EQ(Changed(disk).size(), 1u);
  Write(disk, 0, RecipePage(recipe, 0));
  EXPECT_TRUE(Changed(disk).empty());
}

TEST(Disk, TruncateCutsWritesAndRecipe) {
  const Recipe recipe = Generated("counter", 4 * kPageSize);
  OverlayDisk disk = MakeDisk(recipe);
  Write(disk, 1, kXs);
  Write(disk, 3, kXs);
  ASSERT_TRUE(disk.Truncate(kPageSize + 100));
  const std::string head = std::string(100, 'x') + std::string(kPageSize - 100, '\0');
  EXPECT_BYTES(ReadPage(disk, 1), head);
  EXPECT_BYTES(ReadPage(disk, 3), kZeroPage);
  ASSERT_TRUE(disk.Truncate(4 * kPageSize));
  EXPECT_BYTES(ReadPage(disk, 0), RecipePage(recipe, 0));
  EXPECT_BYTES(ReadPage(disk, 1), head) << "what was cut off never comes back";
  EXPECT_BYTES(ReadPage(disk, 2), kZeroPage);
  EXPECT_EQ(disk.recipe_end(), kPageSize + 100);
  EXPECT_EQ(Changed(disk), (std::map<Pgoff, std::string>{{1, head}}));
}

TEST(Disk, TruncateInsideARecipePage) {
  const Recipe recipe = Generated("counter", 2 * kPageSize);
  OverlayDisk disk = MakeDisk(recipe);
  ASSERT_TRUE(disk.Truncate(5000));
  ASSERT_TRUE(disk.Truncate(2 * kPageSize));
  EXPECT_BYTES(ReadPage(disk, 1), RecipePage(recipe, 1).substr(0, 904) + std::string(kPageSize - 904, '\0'));
  EXPECT_TRUE(Changed(disk).empty()) << "recipe_end says it all";
}

TEST(Disk, PunchedPagesReadAsZeroAndAreReported) {
  const Recipe recipe = Generated("counter", 4 * kPageSize);
  OverlayDisk disk = MakeDisk(recipe);
  Write(disk, 2, kXs);
  Write(disk, 8, kXs);
  ASSERT_TRUE(disk.PunchHole(1, 3));
  ASSERT_TRUE(disk.PunchHole(7, 20));
  ASSERT_TRUE(disk.PunchHole(3, 3));
  EXPECT_BYTES(ReadPage(disk, 0), RecipePage(recipe, 0));
  EXPECT_BYTES(ReadPage(disk, 1), kZeroPage);
  EXPECT_BYTES(ReadPage(disk, 2), kZeroPage);
  EXPECT_BYTES(ReadPage(disk, 3), RecipePage(recipe, 3));
  EXPECT_BYTES(ReadPage(disk, 8), kZeroPage);
  EXPECT_EQ(Changed(disk), (std::map<Pgoff, std::string>{{1, kZeroPage}, {2, kZeroPage}}));
  Write(disk, 1, kXs);
  EXPECT_BYTES(ReadPage(disk, 1), kXs) << "a hole can be written again";
}

TEST(Disk, AHoleInAnEmptyFileIsNoChange) {
  constexpr uint64_t kSize = uint64_t{1} << 28;
  OverlayDisk disk = MakeDisk(Empty(kSize));
  Write(disk, 7, kXs);
  ASSERT_TRUE(disk.PunchHole(0, kSize / kPageSize));
  EXPECT_TRUE(Changed(disk).empty());
  EXPECT_BYTES(ReadPage(disk, 7), kZeroPage);
}

// The runs of zeros, "first-end", and the pages, "index": of files that are too big to look at each page.
std::string Runs(const Disk& disk) {
  std::string runs;
  EXPECT_TRUE(disk.ForEachChanged([&](Pgoff first, uint64_t count, const std::byte* bytes) {
    runs += " " + std::to_string(first);
    if (bytes == nullptr) runs += "-" + std::to_string(first + count);
  }));
  return runs;
}

// Page by page any of this would take minutes, and gigabytes.
TEST(Disk, AHugeHoleIsOneRange) {
  constexpr Pgoff kPages = Pgoff{1} << 28;
  const Recipe recipe = Generated("counter", kPages * kPageSize + 8);
  OverlayDisk disk = MakeDisk(recipe);
  ASSERT_TRUE(disk.PunchHole(1, ~Pgoff{0}));
  EXPECT_EQ(Runs(disk), " 1-268435456 268435456-268435457");
  EXPECT_BYTES(ReadPage(disk, 0), RecipePage(recipe, 0));
  EXPECT_BYTES(ReadPage(disk, 1), kZeroPage);
  EXPECT_BYTES(ReadPage(disk, kPages), kZeroPage);
  Write(disk, 1000, kXs);
  EXPECT_EQ(Runs(disk), " 1-1000 1000 1001-268435456 268435456-268435457");
  ASSERT_TRUE(disk.PunchHole(900, 1100));
  EXPECT_EQ(Runs(disk), " 1-268435456 268435456-268435457") << "a hole over a written page of a hole";
  ASSERT_TRUE(disk.Truncate(5000 * kPageSize));
  EXPECT_EQ(Runs(disk), " 1-5000");
  ASSERT_TRUE(disk.Truncate(kPages * kPageSize));
  EXPECT_EQ(Runs(disk), " 1-5000") << "behind that the recipe is cut";
}

TEST(Disk, HolesThatTouchAreOne) {
  OverlayDisk disk = MakeDisk(Generated("counter", 100 * kPageSize));
  for (const auto& [first, end] :
       std::vector<std::pair<Pgoff, Pgoff>>{{10, 20}, {30, 40}, {50, 60}, {99, 200}}) {
    ASSERT_TRUE(disk.PunchHole(first, end));
  }
  EXPECT_EQ(Runs(disk), " 10-20 30-40 50-60 99-100");
  ASSERT_TRUE(disk.PunchHole(20, 25));
  ASSERT_TRUE(disk.PunchHole(12, 18));
  EXPECT_EQ(Runs(disk), " 10-25 30-40 50-60 99-100");
  ASSERT_TRUE(disk.PunchHole(25, 51));
  EXPECT_EQ(Runs(disk), " 10-60 99-100");
  ASSERT_TRUE(disk.PunchHole(5, 10));
  ASSERT_TRUE(disk.PunchHole(0, 1));
  EXPECT_EQ(Runs(disk), " 0-1 5-60 99-100");
  ASSERT_TRUE(disk.Truncate(30 * kPageSize + 1));
  EXPECT_EQ(Runs(disk), " 0-1 5-30 30-31") << "the last page is compared";
}

TEST(Disk, AHoleInASparseRealFileIsAsBigAsItsData) {
  const support::TempDir folder;
  support::WriteFile(folder / "real", std::string(2 * kPageSize, 'a'));
  std::filesystem::resize_file(folder / "real", uint64_t{1} << 40);
  OverlayDisk disk = MakeDisk(Real(folder / "real"));
  ASSERT_TRUE(disk.PunchHole(1, Pgoff{1} << 28));
  EXPECT_EQ(Runs(disk), " 1-2") << "zeros already";
  std::filesystem::resize_file(folder / "real", (uint64_t{1} << 40) - 2 * kPageSize);
  EXPECT_EQ(Runs(disk), " 1-2 268435454-268435455 268435455-268435456")
      << "what cannot be read may have been anything";
}

TEST(Disk, ReopenedWithARecipeEnd) {
  const Recipe recipe = Generated("counter", 4 * kPageSize);
  const OverlayDisk disk(OpenContent(recipe).value(), kPageSize + 1);
  EXPECT_BYTES(ReadPage(disk, 1), RecipePage(recipe, 1).substr(0, 1) + std::string(kPageSize - 1, '\0'));
  EXPECT_BYTES(ReadPage(disk, 2), kZeroPage);
  EXPECT_TRUE(Changed(disk).empty());
}

TEST(Disk, RealFileIsReadAndNeverWritten) {
  const support::TempDir folder;
  const std::string bytes = std::string(kPageSize, 'a') + std::string(300, 'b');
  support::WriteFile(folder / "real", bytes);
  const base::Result<OpenedContent> opened = OpenContent(Real(folder / "real"));
  ASSERT_TRUE(opened.has_value());
  struct stat st;
  ASSERT_EQ(stat((folder / "real").c_str(), &st), 0);
  EXPECT_EQ(opened->recipe.size, bytes.size());
  EXPECT_EQ(opened->recipe.inode, st.st_ino);
  EXPECT_EQ(opened->recipe.device, st.st_dev);
  EXPECT_EQ(opened->recipe.mtime_ns, st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec);
  OverlayDisk disk = MakeDisk(opened->recipe);
  EXPECT_BYTES(ReadPage(disk, 0), std::string(kPageSize, 'a'));
  EXPECT_BYTES(ReadPage(disk, 1), std::string(300, 'b') + std::string(kPageSize - 300, '\0'));
  EXPECT_BYTES(ReadPage(disk, 2), kZeroPage);
  Write(disk, 0, kXs);
  ASSERT_TRUE(disk.Truncate(10));
  EXPECT_EQ(support::ReadFile(folder / "real"), bytes);
}

TEST(Disk, ARealFileThatShrankIsAnErrorNotZeros) {
  const support::TempDir folder;
  support::WriteFile(folder / "real", std::string(3 * kPageSize, 'a'));
  const OverlayDisk disk = MakeDisk(Real(folder / "real"));
  std::filesystem::resize_file(folder / "real", kPageSize);
  PageBytes page;
  EXPECT_TRUE(disk.ReadPage(0, page));
  EXPECT_EQ(disk.ReadPage(2, page).error().err, EIO);
}

// Random operations against a string of bytes, and what is reported against a recount.
TEST(Disk, AgainstABuffer) {
  constexpr size_t kPages = 12;
  base::Random random(5);
  const Recipe recipe = Generated("random", 7 * kPageSize + 123);
  std::string original;
  for (Pgoff index = 0; index < kPages; ++index) original += RecipePage(recipe, index);
  OverlayDisk disk = MakeDisk(recipe);
  std::string bytes = original;
  for (int step = 0; step < 2000; ++step) {
    const Pgoff index = random.Below(kPages);
    switch (random.Below(4)) {
      case 0: {
        const uint64_t size = random.Below(kPages * kPageSize + 1);
        ASSERT_TRUE(disk.Truncate(size));
        bytes.replace(size, std::string::npos, std::string(bytes.size() - size, '\0'));
        original.replace(size, std::string::npos, std::string(bytes.size() - size, '\0'));
        break;
      }
      case 1: {
        const Pgoff end = index + random.Below(kPages - index + 1);
        ASSERT_TRUE(disk.PunchHole(index, end));
        bytes.replace(index * kPageSize, (end - index) * kPageSize, (end - index) * kPageSize, '\0');
        break;
      }
      default: {
        const std::string page = random.Below(3) == 0 ? original.substr(index * kPageSize, kPageSize)
                                                      : std::string(kPageSize, 'y');
        Write(disk, index, page);
        bytes.replace(index * kPageSize, kPageSize, page);
      }
    }
    std::map<Pgoff, std::string> differing;
    for (Pgoff i = 0; i < kPages; ++i) {
      const std::string page = bytes.substr(i * kPageSize, kPageSize);
      ASSERT_BYTES(ReadPage(disk, i), page) << "step " << step;
      if (page != original.substr(i * kPageSize, kPageSize)) differing[i] = page;
    }
    ASSERT_EQ(Changed(disk), differing) << "step " << step;
  }
}

}  // namespace
}  // namespace mm
