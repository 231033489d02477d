// Swap devices: in memory, and in a nameless file of a folder.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "mm/swap.h"
#include "tests/mm/world.h"
#include "tests/support/support.h"

namespace mm {
namespace {

PageBytes Filled(unsigned value) {
  PageBytes page;
  for (size_t i = 0; i < page.size(); ++i) page[i] = static_cast<std::byte>(value + i * 7);
  return page;
}

void Exercise(SwapDevice& device, SwpEntry slots) {
  PageBytes got;
  for (SwpEntry slot = 1; slot < slots; ++slot) ASSERT_TRUE(device.WritePage(slot, Filled(slot)));
  for (SwpEntry slot = slots - 1; slot > 0; --slot) {
    ASSERT_TRUE(device.ReadPage(slot, got));
    EXPECT_EQ(got, Filled(slot)) << slot;
  }
  ASSERT_TRUE(device.WritePage(3, Filled(99)));
  ASSERT_TRUE(device.ReadPage(3, got));
  EXPECT_EQ(got, Filled(99));
  ASSERT_TRUE(device.ReadPage(4, got));
  EXPECT_EQ(got, Filled(4)) << "its neighbour is untouched";
  std::ranges::copy(Filled(55), device.PlacePage(5).begin());
  ASSERT_TRUE(device.ReadPage(5, got));
  EXPECT_EQ(got, Filled(55)) << "what was put into the slot itself";
  ASSERT_TRUE(device.WritePage(5, Filled(56)));
  EXPECT_TRUE(std::ranges::equal(device.PlacePage(5), Filled(56)));
}

TEST(SwapDevice, InMemory) {
  auto device = MakeMemorySwap(64);
  ASSERT_TRUE(device);
  Exercise(**device, 64);
}

TEST(SwapDevice, InAFile) {
  const support::TempDir dir;
  const auto folder = dir / "made";
  {
    auto device = MakeFileSwap(folder.string(), 64);
    ASSERT_TRUE(device);
    Exercise(**device, 64);
    EXPECT_TRUE(std::filesystem::is_empty(folder)) << "a file without a name";
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST(SwapDevice, AFolderThatCannotBe) {
  const support::TempDir dir;
  support::WriteFile(dir / "file", "");
  auto device = MakeFileSwap((dir / "file" / "folder").string(), 16);
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, base::Code::kIo);
}

TEST(SwapDevice, AMachineOnAFile) {
  const support::TempDir dir;
  MachineConfig config;
  config.memory_bytes = 32 * kPage;
  config.swap_bytes = 256 * kPage;
  config.swap_folder = (dir / "swap").string();
  const auto machine = Machine::Create(config).value();
  Process& p = machine->spawn(1, "test");
  const Vaddr a =
      sys_mmap(*p.mm, 0, 100 * kPage, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0).value();
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_EQ(machine->store(p, a + i * kPage, AsBytes("page " + std::to_string(i))).outcome, Outcome::kOk);
  }
  for (uint64_t i = 0; i < 100; ++i) {
    const std::string want = "page " + std::to_string(i);
    std::string got(want.size(), '?');
    ASSERT_EQ(machine->load(p, a + i * kPage, AsWritable(got)).outcome, Outcome::kOk);
    EXPECT_EQ(got, want);
  }
  EXPECT_GT(machine->vmstat.pswpout, 60u);
  EXPECT_EQ(Validate(*machine, Depth::kDeep), std::nullopt);
}

}  // namespace
}  // namespace mm
