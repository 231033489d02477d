#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>

namespace base {
namespace {

TEST(Error, FormatIsPrintf) {
  EXPECT_EQ(Format("%d of %s", 3, "four"), "3 of four");
  EXPECT_EQ(Format("%s", ""), "");
  EXPECT_EQ(Format("%s", std::string(100000, 'x').c_str()), std::string(100000, 'x'));
}

TEST(Error, FailCarriesCodeAndWords) {
  const Result<int> result = Fail(Code::kBusy, "%u aio contexts", 2u);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Code::kBusy);
  EXPECT_EQ(result.error().what, "2 aio contexts");
}

TEST(Error, InSaysWhereInFront) {
  const Error error{Code::kCorrupt, "chunk 3: bad digest"};
  const Error inside = error.In("image 'a.ckpt'").In("restore");
  EXPECT_EQ(inside.code, Code::kCorrupt);
  EXPECT_EQ(inside.what, "restore: image 'a.ckpt': chunk 3: bad digest");
}

TEST(Error, FailErrnoTellsAMissingFileFromABrokenOne) {
  const Result<void> missing = FailErrno(ENOENT, "open '%s'", "x");
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_EQ(missing.error().what, "open 'x': No such file or directory");
  for (const int number : {EIO, ENOSPC, EACCES}) {
    EXPECT_EQ(Result<void>(FailErrno(number, "write")).error().code, Code::kIo);
  }
}

TEST(Error, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Code::kInterrupted); ++code) {
    EXPECT_TRUE(names.insert(CodeName(static_cast<Code>(code))).second);
  }
  EXPECT_EQ(CodeName(Code::kInvalid), "EINVAL");
  EXPECT_EQ(CodeName(Code::kFault), "EFAULT");
}

Result<int> Half(int value) {
  if (value % 2 != 0) return Fail(Code::kInvalid, "%d is odd", value);
  return value / 2;
}
Result<int> Quarter(int value) {
  const int half = TRY(Half(value));
  return TRY(Half(half));
}
Result<void> CheckEven(int value) {
  TRY_VOID(Half(value));
  return {};
}

TEST(Error, TryPassesValuesAndErrorsOn) {
  EXPECT_EQ(Quarter(12).value(), 3);
  EXPECT_EQ(Quarter(6).error().what, "3 is odd");
  EXPECT_TRUE(CheckEven(2).has_value());
  EXPECT_EQ(CheckEven(3).error().code, Code::kInvalid);
}

TEST(Error, PrintableKeepsPlainTextAndUtf8) {
  EXPECT_EQ(Printable("plain 'text' 100%"), "plain 'text' 100%");
  EXPECT_EQ(Printable("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
}

TEST(Error, PrintableEscapesControlCharacters) {
  EXPECT_EQ(Printable("a\nb\tc"), "a\\x0ab\\x09c");
  EXPECT_EQ(Printable("\x1b[31m"), "\\x1b[31m");
  EXPECT_EQ(Printable(std::string_view("\0\x7f", 2)), "\\x00\\x7f");
}

// U+009B is CSI: terminals that read UTF-8 obey it as they obey ESC [.
TEST(Error, PrintableEscapesControlCharactersOfUtf8) {
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m")
                .find("\xc2\x9b"),
            std::string::npos);
}

TEST(Error, PrintableCutsWhatIsLong) {
  EXPECT_EQ(Printable("abcdef", 6), "abcdef");
  EXPECT_EQ(Printable("abcdefg", 6), "abcdef...");
  EXPECT_EQ(Printable(std::string(1000, 'x')).size(), 256u + 3u);
}

}  // namespace
}  // namespace base
