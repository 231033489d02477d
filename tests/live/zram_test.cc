// A swap device that is there as long as its object is.
#include "live/zram.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/support.h"

namespace live {
namespace {

TEST(Zram, IsInUseAndGoesAway) {
  const std::string before = support::ReadFile("/proc/swaps");
  {
    const auto zram = Zram::Make(uint64_t{16} << 20);
    if (!zram) {
      EXPECT_FALSE(zram.error().what.empty());
      GTEST_SKIP() << "this machine gives no swap: " << zram.error().what;
    }
    EXPECT_NE(support::ReadFile("/proc/swaps").find("/dev/zram"), std::string::npos);
  }
  EXPECT_EQ(support::ReadFile("/proc/swaps"), before);
}

}  // namespace
}  // namespace live
