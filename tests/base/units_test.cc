#include "base/units.h"

#include <gtest/gtest.h>

namespace base {
namespace {

TEST(Units, PageArithmetic) {
  EXPECT_EQ(PageAlignDown(4097), 4096u);
  EXPECT_EQ(PageAlignUp(0), 0u);
  EXPECT_EQ(PageAlignUp(1), 4096u);
  EXPECT_EQ(PageAlignUp(4096), 4096u);
  EXPECT_TRUE(IsPageAligned(8192));
  EXPECT_FALSE(IsPageAligned(8191));
  EXPECT_EQ(PagesFor(0), 0u);
  EXPECT_EQ(PagesFor(1), 1u);
  EXPECT_EQ(PagesFor(4096), 1u);
  EXPECT_EQ(PagesFor(4097), 2u);
  EXPECT_EQ(PagesFor(~uint64_t{0}), uint64_t{1} << 52);
}

TEST(Units, ParseSizeTakesWhatPeopleWrite) {
  const std::pair<const char*, uint64_t> cases[] = {{"0", 0},
                                                    {"123", 123},
                                                    {"17B", 17},
                                                    {"4k", 4096},
                                                    {"4K", 4096},
                                                    {"4KB", 4096},
                                                    {"4KiB", 4096},
                                                    {"64MiB", uint64_t{64} << 20},
                                                    {"64m", uint64_t{64} << 20},
                                                    {"3G", uint64_t{3} << 30},
                                                    {"1TiB", uint64_t{1} << 40},
                                                    {"0x1000", 4096},
                                                    {"0xffffffffffffffff", ~uint64_t{0}},
                                                    {"18446744073709551615", ~uint64_t{0}},
                                                    {"16777215TiB", uint64_t{16777215} << 40}};
  for (const auto& [text, value] : cases) {
    const Result<uint64_t> parsed = ParseSize(text);
    ASSERT_TRUE(parsed.has_value()) << text;
    EXPECT_EQ(*parsed, value) << text;
  }
}

TEST(Units, ParseSizeRefusesTheRest) {
  for (const char* text :
       {"",     "k",   "B",    "iB",   "-1",    "+1",  " 1",   "1 ",  "1 KiB",     "0x",      "0xg",
        "1.5G", "1e3", "12kk", "12ki", "12kib", "12b", "4PiB", "4Bk", "99bottles", "\x1b[31m"}) {
    const Result<uint64_t> parsed = ParseSize(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().code, Code::kInvalid) << text;
    EXPECT_EQ(parsed.error().what.find('\x1b'), std::string::npos) << "a message must be printable";
  }
}

TEST(Units, ParseSizeRefusesWhatDoesNotFit) {
  for (const char* text : {"18446744073709551616", "0x10000000000000000", "16777216TiB", "17179869184G",
                           "18446744073709551615k", "99999999999999999999999999"}) {
    const Result<uint64_t> parsed = ParseSize(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().code, Code::kInvalid) << text;
  }
}

TEST(Units, FormatSize) {
  EXPECT_EQ(FormatSize(0), "0 B");
  EXPECT_EQ(FormatSize(17), "17 B");
  EXPECT_EQ(FormatSize(1023), "1023 B");
  EXPECT_EQ(FormatSize(4096), "4.0 KiB");
  EXPECT_EQ(FormatSize(uint64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(FormatSize(uint64_t{1} << 40), "1.0 TiB");
  EXPECT_EQ(FormatSize(uint64_t{1} << 63), "8.0 EiB");
}

// What rounds up to 1024 of a unit is one of the next.
TEST(Units, FormatSizeCarriesIntoTheNextUnit) {
  EXPECT_EQ(FormatSize((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(FormatSize(~uint64_t{0}), "16.0 EiB");
}

}  // namespace
}  // namespace base
