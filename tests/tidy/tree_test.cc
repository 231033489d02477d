// The reader of sources that the house rules stand on.
#include "tests/tidy/tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidy {
namespace {

using testing::ElementsAre;

TEST(Tree, FindsItsOwnFiles) {
  const std::vector<Source> files = Files({"tests/tidy"}, {".cc", ".h"});
  ASSERT_GE(files.size(), 5u);
  EXPECT_EQ(files.back().path, "tests/tidy/tree_test.cc");
  EXPECT_EQ(files.back().room(), "tests");
  EXPECT_EQ(files.back().name(), "tree_test");
  EXPECT_TRUE(Files({"no such folder"}, {".cc"}).empty());
}

TEST(Tree, CodeOnlyBlanksCommentsAndStrings) {
  EXPECT_EQ(CodeOnly("a; // b\nc"), "a;     \nc");
  EXPECT_EQ(CodeOnly("a /* b\n c */ d"), "a     \n      d");
  EXPECT_EQ(CodeOnly(R"(f("a\"b", 'c', 1'000);)"), R"(f("    ", ' ', 1'000);)");
  EXPECT_EQ(CodeOnly("x = R\"y(a\")z)y\"; z"), "x = R\"        \"; z");
}

TEST(Tree, FunctionsAreFoundByTheirBraces) {
  const Source source{"mm/x.cc", R"(#include <x>
#define TRY(x) \
  { x }
namespace mm {
const int kTable[] = {1, 2};
enum class Kind : int { kOne, kTwo };
template <class T>
struct alignas(64) Pair {
  Pair() : a{1}, b(2) {
    Set();
  }
  int Sum(const Pair& other = {}) const { return a + other.b; }
  int a = 1;
};
static std::function<int(int)> Make(
    int x) {
  return [x](int y) {
    return x + y;
  };
}
}  // namespace mm
)"};
  const std::vector<Function> functions = Functions(source);
  ASSERT_EQ(functions.size(), 3u);
  EXPECT_EQ(functions[0].name, "Pair");
  EXPECT_EQ(functions[0].lines(), 3u);
  EXPECT_EQ(functions[1].name, "Sum");
  EXPECT_EQ(functions[1].lines(), 1u);
  EXPECT_EQ(functions[2].name, "Make");
  EXPECT_EQ(functions[2].first_line, 15u);
  EXPECT_EQ(functions[2].last_line, 20u);
  EXPECT_NE(functions[2].body.find("x + y"), std::string::npos);
}

TEST(Tree, TestsAreFoundByTheirMacros) {
  const Source source{
      "tests/mm/x_test.cc",
      "TEST(A, B) {}\nTEST_F(C,\n       D) {}\n// TEST(E, F)\nRC_GTEST_PROP(G, H, (int x)) {}\n"};
  std::vector<std::string> names;
  for (const TestName& test : Tests(source)) names.push_back(test.suite + "." + test.name);
  EXPECT_THAT(names, ElementsAre("A.B", "C.D", "G.H"));
}

TEST(Tree, RacesAreFoundByTheIdsInTheirNames) {
  const std::string text = "add(\"O09_twice\", \"a race\");\n";
  const std::vector<TestName> races = Tests({"tests/races/x_races.cc", text});
  ASSERT_EQ(races.size(), 1u);
  EXPECT_EQ(races[0].name, "O09_twice");
  EXPECT_TRUE(Tests({"tests/mm/x_test.cc", text}).empty());
}

}  // namespace
}  // namespace tidy
