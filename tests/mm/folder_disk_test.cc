#include "mm/folder_disk.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "mm/machine.h"
#include "tests/support/support.h"

namespace mm {
namespace {

OpenedContent Generated(uint64_t size) {
  Recipe recipe;
  recipe.kind = Recipe::Kind::kGenerated;
  recipe.generator = "random";
  recipe.seed = 3;
  recipe.size = size;
  return std::move(*OpenContent(recipe));
}

OpenedContent Empty(uint64_t size) {
  Recipe recipe;
  recipe.size = size;
  return std::move(*OpenContent(recipe));
}

PageBytes PageOf(char c) {
  PageBytes page;
  std::memset(page.data(), c, page.size());
  return page;
}

struct stat StatOf(const std::string& path) {
  struct stat st{};
  EXPECT_EQ(stat(path.c_str(), &st), 0);
  return st;
}

class FolderDiskTest : public testing::Test {
 protected:
  std::unique_ptr<FolderDisk> Create(const char* name, const OpenedContent& content) {
    auto disk = FolderDisk::Create(folder(), name, content);
    EXPECT_TRUE(disk.has_value()) << disk.error().what;
    return disk ? std::move(*disk) : nullptr;
  }
  std::string folder() const { return dir_.path().string(); }
  std::string bytes(const char* name) const { return support::ReadFile(dir_ / name); }
  support::TempDir dir_;
};

TEST_F(FolderDiskTest, HoldsTheBytesOfItsContent) {
  const OpenedContent content = Generated(10000);
  const auto disk = Create("f", content);
  EXPECT_EQ(bytes("f").size(), 10000u);
  for (Pgoff index = 0; index < 4; ++index) {
    PageBytes wanted;
    PageBytes got = PageOf('x');
    ASSERT_TRUE(content.content->ReadPage(index, wanted));
    ASSERT_TRUE(disk->ReadPage(index, got));
    EXPECT_EQ(got, wanted) << index;
  }
}

TEST_F(FolderDiskTest, ZerosStayHoles) {
  const auto disk = Create("f", Empty(uint64_t{1} << 40));
  EXPECT_EQ(StatOf((dir_ / "f").string()).st_size, off_t{1} << 40);
  EXPECT_LT(StatOf((dir_ / "f").string()).st_blocks, 100);
  PageBytes got = PageOf('x');
  ASSERT_TRUE(disk->ReadPage(1 << 20, got));
  EXPECT_EQ(got, PageBytes{});
}

TEST_F(FolderDiskTest, WritesInPlaceAndKeepsTheLengthItWasGiven) {
  const auto disk = Create("f", Generated(10000));
  ASSERT_TRUE(disk->WritePage(0, PageOf('a')));
  PageBytes last = PageOf('b');
  std::memset(last.data() + 10000 % kPageSize, 0, kPageSize - 10000 % kPageSize);
  ASSERT_TRUE(disk->WritePage(2, last));
  EXPECT_EQ(bytes("f").size(), 10000u);
  EXPECT_EQ(bytes("f").substr(0, kPageSize), std::string(kPageSize, 'a'));
  EXPECT_EQ(bytes("f").back(), 'b');
  ASSERT_TRUE(disk->WritePage(5, last));  // the end of the file is the last byte that counts
  EXPECT_EQ(bytes("f").size(), 5 * kPageSize + 10000 % kPageSize);
  EXPECT_EQ(bytes("f").substr(3 * kPageSize, 2 * kPageSize), std::string(2 * kPageSize, '\0'));
}

TEST_F(FolderDiskTest, TruncateCutsAndGrowsWithZeros) {
  const auto disk = Create("f", Generated(16384));
  ASSERT_TRUE(disk->Truncate(5000));
  ASSERT_TRUE(disk->Truncate(12000));
  EXPECT_EQ(bytes("f").size(), 12000u);
  EXPECT_EQ(bytes("f").substr(5000), std::string(7000, '\0'));
  EXPECT_EQ(disk->recipe().size, 12000u);
}

TEST_F(FolderDiskTest, PunchHoleZeroesWholePages) {
  const auto disk = Create("f", Generated(20000));
  const std::string before = bytes("f");
  ASSERT_TRUE(disk->PunchHole(1, 3));
  ASSERT_TRUE(disk->PunchHole(4, 100));
  ASSERT_TRUE(disk->PunchHole(1000, 2000));
  const std::string after = bytes("f");
  EXPECT_EQ(after.size(), 20000u);
  EXPECT_EQ(after.substr(0, 4096), before.substr(0, 4096));
  EXPECT_EQ(after.substr(4096, 8192), std::string(8192, '\0'));
  EXPECT_EQ(after.substr(12288, 4096), before.substr(12288, 4096));
  EXPECT_EQ(after.substr(16384), std::string(20000 - 16384, '\0'));
}

TEST_F(FolderDiskTest, TheRecipeIsTheFileAsItIsNow) {
  const auto disk = Create("f", Generated(8192));
  const struct stat st = StatOf((dir_ / "f").string());
  Recipe recipe = disk->recipe();
  EXPECT_EQ(recipe.kind, Recipe::Kind::kFolder);
  EXPECT_EQ(recipe.path, "f");
  EXPECT_EQ(recipe.size, 8192u);
  EXPECT_EQ(recipe.inode, st.st_ino);
  EXPECT_EQ(recipe.device, st.st_dev);
  EXPECT_EQ(recipe.mtime_ns, int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec);
  EXPECT_EQ(disk->recipe_end(), 8192u);
  int changed = 0;
  ASSERT_TRUE(disk->ForEachChanged([&](Pgoff, uint64_t, const std::byte*) { ++changed; }));
  EXPECT_EQ(changed, 0);
  EXPECT_TRUE(disk->Sync());
}

TEST_F(FolderDiskTest, OpensWhatIsThere) {
  Recipe made;
  {
    const auto disk = Create("f", Generated(8192));
    ASSERT_TRUE(disk->WritePage(1, PageOf('z')));
    made = disk->recipe();
  }
  auto disk = FolderDisk::Open(folder(), "f");
  ASSERT_TRUE(disk.has_value()) << disk.error().what;
  EXPECT_EQ((*disk)->recipe(), made);
  PageBytes got;
  ASSERT_TRUE((*disk)->ReadPage(1, got));
  EXPECT_EQ(got, PageOf('z'));
  ASSERT_TRUE((*disk)->Unlink());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "f"));
  ASSERT_TRUE((*disk)->ReadPage(1, got));  // the open file lives on
}

TEST_F(FolderDiskTest, MakesTheFolder) {
  const std::string inner = (dir_ / "new").string();
  EXPECT_TRUE(FolderDisk::Create(inner, "f", Empty(1)).has_value());
  EXPECT_TRUE(std::filesystem::exists(inner + "/f"));
  const auto deep = FolderDisk::Create((dir_ / "no/such").string(), "f", Empty(1));
  ASSERT_FALSE(deep.has_value());
  EXPECT_EQ(deep.error().what,
            "make disk folder '" + (dir_ / "no/such").string() + "': No such file or directory");
}

TEST_F(FolderDiskTest, RefusesANameThatIsTakenAndLeavesItAlone) {
  support::WriteFile(dir_ / "f", "mine");
  const auto disk = FolderDisk::Create(folder(), "f", Empty(4096));
  ASSERT_FALSE(disk.has_value());
  EXPECT_EQ(disk.error().what,
            "create '" + (dir_ / "f").string() +
                "': it is there already, and a run makes its files new; remove it or name another folder");
  EXPECT_EQ(bytes("f"), "mine");
}

TEST_F(FolderDiskTest, RefusesNamesThatLeaveTheFolder) {
  for (const std::string name : {"", ".", "..", "a/b", "../f", "/etc/passwd"}) {
    const auto created = FolderDisk::Create(folder(), name, Empty(1));
    ASSERT_FALSE(created.has_value()) << name;
    EXPECT_EQ(created.error().what, "disk folder: '" + name + "' is not a plain file name");
    EXPECT_FALSE(FolderDisk::Open(folder(), name).has_value()) << name;
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(FolderDiskTest, RefusesWhatIsNotAFile) {
  const auto open = [&](const char* name) {
    const auto disk = FolderDisk::Open(folder(), name);
    return disk ? std::string() : disk.error().what;
  };
  EXPECT_EQ(open("none"), "open '" + (dir_ / "none").string() + "': No such file or directory");
  std::filesystem::create_directory(dir_ / "d");
  EXPECT_EQ(open("d"), "open '" + (dir_ / "d").string() + "': not a regular file");
  support::WriteFile(dir_ / "f", "x");
  std::filesystem::create_symlink(dir_ / "f", dir_ / "link");
  EXPECT_EQ(open("link"), "open '" + (dir_ / "link").string() + "': not a regular file");
  ASSERT_EQ(mkfifo((dir_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(open("pipe"), "open '" + (dir_ / "pipe").string() + "': not a regular file");
}

TEST_F(FolderDiskTest, AFileThatSomeoneElseCutIsAnIoError) {
  const auto disk = Create("f", Generated(8192));
  ASSERT_EQ(truncate((dir_ / "f").c_str(), 100), 0);
  PageBytes got;
  const auto read = disk->ReadPage(1, got);
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().err, EIO);
}

// Under the page cache: what the model writes back is what the file holds.
TEST_F(FolderDiskTest, ServesAMachine) {
  auto machine = std::move(*Machine::Create({.memory_bytes = 1 << 20, .semantics = {}, .swap_folder = {}}));
  auto disk = Create("f", Generated(10000));
  const FilePtr file = machine->create_file("f", 10000, std::move(disk));
  const std::string text = "written through the page cache";
  ASSERT_TRUE(generic_file_write(*machine, *file, 9990, std::as_bytes(std::span(text)), RLIM_INFINITY_BYTES));
  ASSERT_TRUE(vfs_fsync(*machine, *file));
  EXPECT_EQ(bytes("f").size(), 9990 + text.size());
  EXPECT_EQ(bytes("f").substr(9990), text);
  ASSERT_TRUE(vmtruncate(*machine, *file, 4100, RLIM_INFINITY_BYTES));
  ASSERT_TRUE(vmtruncate(*machine, *file, 4200, RLIM_INFINITY_BYTES));
  EXPECT_EQ(bytes("f").substr(4100), std::string(100, '\0'));
}

}  // namespace
}  // namespace mm
