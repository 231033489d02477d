#include "base/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

namespace base {
namespace {

// The published first outputs of SplitMix64 from seed 0: state k * golden ratio, mixed.
TEST(Random, Mix64IsSplitMix64) {
  EXPECT_EQ(Mix64(0), 0xe220a8397b1dcdafu);
  EXPECT_EQ(Mix64(0x9e3779b97f4a7c15u), 0x6e789e6aa1b965f4u);
  EXPECT_EQ(Mix64(2 * 0x9e3779b97f4a7c15u), 0x06c45d188009454fu);
}

// xoshiro256** seeded by SplitMix64 from 0. Images record seeds, so these values hold for ever.
TEST(Random, KnownValues) {
  Random random(0);
  const std::array<uint64_t, 4> expected = {0x99ec5f36cb75f2b4u, 0xbf6e1f784956452au, 0x1a5f849d4933e6e0u,
                                            0x6aa594f1262d2d2cu};
  for (const uint64_t value : expected) EXPECT_EQ(random.Next(), value);
}

TEST(Random, SameSeedSameNumbers) {
  Random one(77);
  Random two(77);
  Random other(78);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const uint64_t value = one.Next();
    EXPECT_EQ(two(), value);
    differs = differs || other.Next() != value;
  }
  EXPECT_TRUE(differs);
}

TEST(Random, BelowStaysBelowAndReachesAll) {
  Random random(1);
  for (const uint64_t limit : {uint64_t{1}, uint64_t{2}, uint64_t{7}, uint64_t{1} << 63, ~uint64_t{0}}) {
    for (int i = 0; i < 200; ++i) EXPECT_LT(random.Below(limit), limit);
  }
  std::array<int, 10> seen{};
  for (int i = 0; i < 10000; ++i) ++seen[random.Below(10)];
  for (const int count : seen) EXPECT_NEAR(count, 1000, 150);
}

TEST(Random, UnitIsInTheHalfOpenUnitInterval) {
  Random random(2);
  double sum = 0;
  for (int i = 0; i < 10000; ++i) {
    const double value = random.Unit();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
}

// Counts of ranks against what 1 / (rank + 1)^exponent makes expect.
void CheckZipf(uint64_t count, double exponent) {
  constexpr int kDraws = 100000;
  const Zipf zipf(count, exponent);
  Random random(3);
  std::vector<int> seen(count);
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t rank = zipf.Draw(random);
    ASSERT_LT(rank, count);
    ++seen[rank];
  }
  double total = 0;
  for (uint64_t rank = 0; rank < count; ++rank) total += std::pow(static_cast<double>(rank + 1), -exponent);
  for (const uint64_t rank : {uint64_t{0}, count / 4, count / 2, count - 1}) {
    const double expected = kDraws * std::pow(static_cast<double>(rank + 1), -exponent) / total;
    EXPECT_NEAR(seen[rank], expected, 5 * std::sqrt(expected) + 1)
        << "rank " << rank << " of " << count << ", exponent " << exponent;
  }
}

TEST(Random, ZipfIsSkewedAsItSays) {
  for (const uint64_t count : {uint64_t{1}, uint64_t{2}, uint64_t{10}, uint64_t{1000}}) {
    for (const double exponent : {0.5, 0.99, 1.0, 1.5, 3.0}) CheckZipf(count, exponent);
  }
}

TEST(Random, ZipfOverALargeCount) {
  const Zipf zipf(uint64_t{1} << 40, 1.1);
  Random random(4);
  int low = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t rank = zipf.Draw(random);
    ASSERT_LT(rank, uint64_t{1} << 40);
    if (rank < 100) ++low;
  }
  EXPECT_GT(low, 300);
}

}  // namespace
}  // namespace base
