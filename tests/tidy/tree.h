// The source tree as the house rules see it: files, their code without comments and strings, and the
// functions in them. What a rule finds is a Finding.
#pragma once

#include <cstddef>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace tidy {

// A rule is broken at this place. `line` is from 1; 0: the file as a whole.
struct Finding {
  std::string path;
  size_t line = 0;
  std::string what;
};
using Findings = std::vector<Finding>;
std::ostream& operator<<(std::ostream& out, const Findings& findings);
void Append(Findings& to, Findings from);

// A file, by its path inside the tree ("mm/page.h").
struct Source {
  std::string path;
  std::string text;

  std::string room() const { return path.substr(0, path.find('/')); }
  std::string name() const;  // "page"
  bool EndsWith(std::string_view tail) const { return path.ends_with(tail); }
};

// The folders of the tree whose code is the product's: base, mm, proto, ckpt, restore, workload, live,
// cli. Those that are not there (yet) have no files.
const std::vector<std::string>& Rooms();
// The files of these folders and of the folders in them that end in one of `endings`, by path.
std::vector<Source> Files(const std::vector<std::string>& folders, const std::vector<std::string>& endings);
// One file; an empty text if it is not there.
Source ReadSource(const std::string& path);
// Where the tree stands on disk.
std::string Root();

std::vector<std::string> Lines(std::string_view text);
size_t LineOf(std::string_view text, size_t offset);

// C++ with the insides of comments, strings and character constants made blank; every line stays where
// it is. Knows raw strings and digit separators; a character constant with a prefix letter (u'x') it
// takes for a digit separator.
std::string CodeOnly(std::string_view text);

// A function with a body. Found by counting braces, which has limits: a function that macros put
// together, one that returns "struct x" in so many words, and what stands in a preprocessor line are not
// seen; a lambda belongs to the function around it, and at namespace level to nobody.
struct Function {
  std::string name;  // without its class; "TEST" and so on for tests
  size_t first_line = 0;
  size_t last_line = 0;
  std::string body;  // code only
  size_t lines() const { return last_line - first_line + 1; }
};
std::vector<Function> Functions(const Source& source);

// A test and the file that it stands in.
struct TestName {
  std::string path;  // "tests/mm/page_test.cc"
  std::string suite;
  std::string name;
};
// The TEST, TEST_F, TEST_P, RC_GTEST_PROP and INSTANTIATE_TEST_SUITE_P of a file; of one of tests/races the
// races with the id of a scenario, too.
std::vector<TestName> Tests(const Source& source);

}  // namespace tidy
