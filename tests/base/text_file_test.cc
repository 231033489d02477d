#include "base/text_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/support.h"

namespace base {
namespace {

using testing::HasSubstr;

TEST(ReadTextFile, ReadsAllOfItUpToTheCap) {
  const support::TempDir dir;
  const std::string path = (dir.path() / "text").string();
  support::WriteFile(path, "hello\n");
  EXPECT_EQ(ReadTextFile("poem", path, 6).value(), "hello\n");
  const auto big = ReadTextFile("poem", path, 5);
  ASSERT_FALSE(big);
  EXPECT_EQ(big.error().code, Code::kTooBig);
  EXPECT_THAT(big.error().what, HasSubstr("read poem '" + path + "': it is larger than"));
}

TEST(ReadTextFile, SaysWhatItCannotRead) {
  const support::TempDir dir;
  const auto none = ReadTextFile("poem", "/no/such", 5);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Code::kNotFound);
  EXPECT_THAT(none.error().what, HasSubstr("open poem '/no/such'"));
  const auto folder = ReadTextFile("poem", dir.path().string(), 5);
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().what, HasSubstr("it is a directory"));
}

}  // namespace
}  // namespace base
