#include "workload/fill.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "workload/slots.h"

namespace workload {
namespace {

ckpt_pb::Fill FillOf(void (*set)(ckpt_pb::Fill&)) {
  ckpt_pb::Fill fill;
  set(fill);
  return fill;
}

std::vector<std::byte> Bytes(const ckpt_pb::Fill& fill, uint64_t seed, uint64_t position, size_t length) {
  std::vector<std::byte> bytes(length);
  Filler(fill, seed, 0).Make(position, bytes);
  return bytes;
}

TEST(FillTest, AByteDependsOnItsPositionAlone) {
  const ckpt_pb::Fill fills[] = {
      FillOf([](ckpt_pb::Fill& f) { f.mutable_random(); }),
      FillOf([](ckpt_pb::Fill& f) { f.mutable_text()->set_seed(3); }),
      FillOf([](ckpt_pb::Fill& f) { f.mutable_counter(); }),
      FillOf([](ckpt_pb::Fill& f) { f.mutable_zeros(); }),
      FillOf([](ckpt_pb::Fill& f) { f.set_byte(200); }),
      FillOf([](ckpt_pb::Fill& f) { f.set_repeat("abcdefg"); }),
  };
  for (const ckpt_pb::Fill& fill : fills) {
    const std::vector<std::byte> whole = Bytes(fill, 1, 0, 20000);
    for (const size_t at : {0u, 1u, 4095u, 4096u, 9000u}) {
      const std::vector<std::byte> part = Bytes(fill, 1, at, 5000);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + static_cast<ptrdiff_t>(at)))
          << fill.DebugString() << at;
    }
  }
}

TEST(FillTest, SeedsAndShift) {
  ckpt_pb::Fill fill;
  fill.mutable_random();
  EXPECT_NE(Bytes(fill, 1, 0, 64), Bytes(fill, 2, 0, 64));
  fill.mutable_random()->set_seed(9);
  EXPECT_EQ(Bytes(fill, 1, 0, 64), Bytes(fill, 2, 0, 64));
  const std::vector<std::byte> later = Bytes(fill, 0, 5000, 64);
  fill.set_shift("5000");
  EXPECT_EQ(Bytes(fill, 0, 0, 64), later);
}

TEST(FillTest, IsWhatAGeneratedFileHolds) {
  for (const std::string_view generator : mm::GeneratorNames()) {
    const auto content = mm::OpenContent({.kind = mm::Recipe::Kind::kGenerated,
                                          .size = 3 * mm::kPageSize,
                                          .generator = std::string(generator),
                                          .seed = 5,
                                          .path = {},
                                          .build_id = {}});
    mm::PageBytes page;
    ASSERT_TRUE(content->content->ReadPage(2, page));
    ckpt_pb::Fill fill;
    if (generator == "random") fill.mutable_random()->set_seed(5);
    if (generator == "text") fill.mutable_text()->set_seed(5);
    if (generator == "counter") fill.mutable_counter()->set_seed(5);
    const std::vector<std::byte> bytes = Bytes(fill, 0, 2 * mm::kPageSize, mm::kPageSize);
    EXPECT_TRUE(std::equal(page.begin(), page.end(), bytes.begin())) << generator;
  }
}

TEST(PermutationTest, HitsEverySlotOnce) {
  for (const uint64_t count : {1u, 2u, 3u, 5u, 16u, 17u, 1000u, 4097u}) {
    std::set<uint64_t> seen;
    const Permutation permutation(count, count + 7);
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t value = permutation.At(i);
      EXPECT_LT(value, count);
      seen.insert(value);
    }
    EXPECT_EQ(seen.size(), count);
  }
}

std::vector<uint64_t> All(Slots slots) {
  std::vector<uint64_t> all;
  while (const auto slot = slots.Next()) all.push_back(*slot);
  EXPECT_EQ(all.size(), slots.count());
  return all;
}

TEST(SlotsTest, Patterns) {
  ckpt_pb::Pattern pattern;
  EXPECT_EQ(All(Slots(pattern, 3, 0)), (std::vector<uint64_t>{0, 1, 2}));
  pattern.mutable_sequential()->set_count(2);
  EXPECT_EQ(All(Slots(pattern, 3, 0)), (std::vector<uint64_t>{0, 1}));
  pattern.mutable_every()->set_nth(3);
  EXPECT_EQ(All(Slots(pattern, 8, 0)), (std::vector<uint64_t>{0, 3, 6}));
  pattern.mutable_every()->set_first(7);
  EXPECT_EQ(All(Slots(pattern, 8, 0)), std::vector<uint64_t>{7});
  pattern.mutable_every()->set_first(8);
  EXPECT_TRUE(All(Slots(pattern, 8, 0)).empty());
  pattern.mutable_scattered()->set_count(100);
  const std::vector<uint64_t> scattered = All(Slots(pattern, 64, 1));
  EXPECT_EQ(std::set<uint64_t>(scattered.begin(), scattered.end()).size(), 64u);
  EXPECT_NE(scattered, All(Slots(pattern, 64, 2)));
  EXPECT_EQ(scattered, All(Slots(pattern, 64, 1)));
  pattern.mutable_random()->set_count(1000);
  for (const uint64_t slot : All(Slots(pattern, 10, 1))) EXPECT_LT(slot, 10u);
}

TEST(SlotsTest, ZipfHasHotSlots) {
  ckpt_pb::Pattern pattern;
  pattern.mutable_zipf()->set_count(10000);
  pattern.mutable_zipf()->set_exponent(1.2);
  std::map<uint64_t, int> hits;
  for (const uint64_t slot : All(Slots(pattern, 1000, 4))) ++hits[slot];
  int hottest = 0;
  for (const auto& [slot, count] : hits) hottest = std::max(hottest, count);
  EXPECT_GT(hottest, 1500);
  EXPECT_GT(hits.size(), 200u);
}

}  // namespace
}  // namespace workload
