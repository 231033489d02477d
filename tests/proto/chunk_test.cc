// Page data to zstd frames and back.
#include "proto/chunk.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "base/units.h"

namespace {

using base::kPageSize;

// Words that repeat, so that there is something to compress, and no page twice.
std::vector<std::byte> Pages(uint64_t count) {
  std::string text;
  for (uint64_t n = 0; text.size() < count * kPageSize; ++n) text += "word " + std::to_string(n * n) + " ";
  std::vector<std::byte> pages(count * kPageSize);
  std::memcpy(pages.data(), text.data(), pages.size());
  return pages;
}

TEST(Compressor, every_level_comes_back) {
  for (int level = image::kLevelMin; level <= image::kLevelMax; ++level) {
    image::Compressor compressor(level);
    for (const uint64_t count : {uint64_t{1}, uint64_t{33}, uint64_t{256}}) {
      const std::vector<std::byte> pages = Pages(count);
      std::vector<std::byte> frame(image::kFrameBytesMax);
      const auto bytes = compressor.Compress(pages, frame);
      ASSERT_TRUE(bytes) << level;
      ASSERT_LT(*bytes, pages.size() / 2) << level;
      std::vector<std::byte> back(pages.size());
      const std::span<std::byte> piece(back);
      ASSERT_TRUE(image::Decompressor().Decompress(std::span(frame).first(*bytes), {&piece, 1})) << level;
      EXPECT_TRUE(back == pages) << level;
    }
  }
}

TEST(Compressor, stops_and_can_go_on) {
  const std::vector<std::byte> pages = Pages(256);
  for (const int level : {1, 19}) {
    image::Compressor compressor(level);
    std::vector<std::byte> first(image::kFrameBytesMax);
    std::vector<std::byte> second(image::kFrameBytesMax);
    std::atomic<bool> stop = false;
    ASSERT_TRUE(compressor.Compress(pages, first, &stop));
    stop = true;
    EXPECT_EQ(compressor.Compress(pages, second, &stop).error().code, base::Code::kInterrupted);
    stop = false;
    ASSERT_TRUE(compressor.Compress(pages, second, &stop));
    EXPECT_TRUE(first == second) << "what was stopped left nothing behind";
  }
}

}  // namespace
