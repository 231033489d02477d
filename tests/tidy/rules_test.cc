// The house rules: each over the tree, and over a sample that breaks it, so that a rule that has gone
// blind is noticed.
#include "tests/tidy/rules.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/support/support.h"

namespace tidy {
namespace {

const std::vector<std::string> kCode = {".h", ".cc"};

std::vector<Source> ProductCode() { return Files(Rooms(), kCode); }
std::vector<Source> AllCode() {
  std::vector<std::string> folders = Rooms();
  folders.insert(folders.end(), {"tests", "bench"});
  return Files(folders, kCode);
}

// The rule holds in all of `sources`, and there are some.
void ExpectHolds(const std::vector<Source>& sources, const std::function<Findings(const Source&)>& rule) {
  EXPECT_FALSE(sources.empty());
  Findings findings;
  for (const Source& source : sources) Append(findings, rule(source));
  EXPECT_TRUE(findings.empty()) << findings;
}

std::string Repeated(const std::string& line, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += line;
  return text;
}

TEST(Includes, RunAlongTheArrows) { ExpectHolds(ProductCode(), CheckIncludes); }

TEST(Includes, BrokenArrowsAreFound) {
  const auto count = [](const std::string& path, const std::string& header) {
    return CheckIncludes({path, "// x\n#include " + header + "\n"}).size();
  };
  EXPECT_EQ(count("base/a.cc", "\"mm/page.h\""), 1u);
  EXPECT_EQ(count("mm/a.cc", "\"proto/reader.h\""), 1u);
  EXPECT_EQ(count("mm/a.h", "<google/protobuf/message.h>"), 1u);
  EXPECT_EQ(count("mm/a.h", "\"proto/image.pb.h\""), 1u);
  EXPECT_EQ(count("proto/a.h", "\"mm/page.h\""), 1u);
  EXPECT_EQ(count("workload/a.h", "\"ckpt/dump.h\""), 1u);
  EXPECT_EQ(count("ckpt/a.h", "\"restore/plan.h\""), 1u);
  EXPECT_EQ(count("ckpt/a.h", "\"live/source.h\""), 1u);
  EXPECT_EQ(count("ckpt/a.h", "\"workload/script.h\""), 1u);
  EXPECT_EQ(count("restore/a.h", "\"ckpt/model_source.h\""), 1u);
  EXPECT_EQ(count("restore/a.h", "\"live/source.h\""), 1u);
  EXPECT_EQ(count("live/a.h", "\"cli/print.h\""), 1u);
  EXPECT_EQ(count("cli/a.cc", "\"tests/support/support.h\""), 1u);
  EXPECT_EQ(count("mm/a.cc", "\"page.h\""), 1u);

  EXPECT_EQ(count("mm/a.cc", "\"base/check.h\""), 0u);
  EXPECT_EQ(count("mm/a.cc", "\"absl/container/btree_map.h\""), 0u);
  EXPECT_EQ(count("restore/a.cc", "\"ckpt/source.h\""), 0u);
  EXPECT_EQ(count("live/a.cc", "\"restore/sink.h\""), 0u);
  EXPECT_EQ(count("cli/a.cc", "\"live/source.h\""), 0u);
}

TEST(Printing, IsForTheCommandAlone) { ExpectHolds(ProductCode(), CheckPrinting); }

TEST(Printing, ElsewhereItIsFound) {
  const auto count = [](const std::string& path, const std::string& code) {
    return CheckPrinting({path, code}).size();
  };
  EXPECT_EQ(count("mm/a.cc", "void F() {\n  std::cout << 1;\n  printf(\"x\");\n}"), 2u);
  EXPECT_EQ(count("base/a.cc", "std::fprintf(stderr, \"x\");"), 2u);
  EXPECT_EQ(count("restore/a.cc", "perror(name);"), 1u);
  EXPECT_EQ(count("cli/a.cc", "std::cout << 1;"), 0u);
  EXPECT_EQ(count("base/check.cc", "std::fprintf(stderr, \"x\");"), 0u);
  EXPECT_EQ(count("base/a.cc", "std::snprintf(x); F() __attribute__((format(printf, 1, 2))); // printf(x)"),
            0u);
}

TEST(Headers, OpenWithWordsAndOnce) { ExpectHolds(Files(Rooms(), {".h"}), CheckHeader); }

TEST(Headers, SilentOnesAreFound) {
  EXPECT_EQ(CheckHeader({"mm/a.h", "#pragma once\nint a;\n"}).size(), 2u);
  EXPECT_EQ(CheckHeader({"mm/a.h", "// A: words.\nint a;\n"}).size(), 1u);
  EXPECT_EQ(CheckHeader({"mm/a.h", "// A: words.\n#pragma once\n"}).size(), 0u);
}

TEST(Files, AreShort) { ExpectHolds(AllCode(), CheckFileLength); }

TEST(Files, LongOnesAreFound) {
  EXPECT_EQ(CheckFileLength({"mm/a.cc", Repeated("\n", kFileLinesMax)}).size(), 1u);
  EXPECT_EQ(CheckFileLength({"mm/a.cc", Repeated("\n", kFileLinesMax - 1)}).size(), 0u);
}

TEST(Functions, AreShort) { ExpectHolds(AllCode(), CheckFunctionLength); }

TEST(Functions, LongOnesAreFound) {
  const std::string before = "int x;\nint F(int a) {\n";
  const std::string long_one = before + Repeated("  ++a;\n", kFunctionLinesMax - 2) + "}\n";
  const Findings findings = CheckFunctionLength({"mm/a.cc", long_one});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].line, 2u);
  const std::string short_one = before + Repeated("  ++a;\n", kFunctionLinesMax - 3) + "}\n";
  EXPECT_EQ(CheckFunctionLength({"mm/a.cc", short_one}).size(), 0u);
}

std::vector<Source> AllTexts() {
  std::vector<Source> sources = AllCode();
  for (Source& source :
       Files({"docs", "man", "proto", "workload", "tests"}, {".md", ".1", ".5", ".proto", ".txt"})) {
    sources.push_back(std::move(source));
  }
  for (Source& source : Files({"scripts", ".ci"}, {""})) sources.push_back(std::move(source));
  for (const char* path : {"CMakeLists.txt", "CONTRIBUTING.md", "README.md"}) {
    sources.push_back(ReadSource(path));
  }
  return sources;
}

TEST(Notes, AreNotLeftBehind) { ExpectHolds(AllTexts(), CheckNotes); }

TEST(Notes, AreFound) {
  EXPECT_EQ(CheckNotes({"mm/a.cc", std::string("int a;\n// TO") + "DO: more\n"}).size(), 1u);
  EXPECT_EQ(CheckNotes({"mm/a.cc", std::string("// FIX") + "ME\n// X" + "XX\n"}).size(), 2u);
  EXPECT_EQ(CheckNotes({"mm/a.cc", "mkstemp(\"a-XXXXXX\");\n"}).size(), 0u);
}

TEST(Skips, SayWhy) { ExpectHolds(Files({"tests"}, kCode), CheckSkips); }

TEST(Skips, SilentOnesAreFound) {
  const auto count = [](const std::string& text) { return CheckSkips({"tests/mm/a_test.cc", text}).size(); };
  EXPECT_EQ(count("TEST(A, DISABLED_B) {}\n"), 1u);
  EXPECT_EQ(count("  if (x) GTEST_SKIP();\n"), 1u);
  EXPECT_EQ(count("  if (x) GTEST_SKIP() << \"no huge pages here\";\n"), 0u);
  EXPECT_EQ(count("// Waits for the second zap pass.\nTEST(A, DISABLED_B) {}\n"), 0u);
}

TEST(Documents, ArchitectureNamesEveryFolder) {
  std::vector<std::string> folders;
  for (const std::string& room : Rooms()) {
    if (!Files({room}, kCode).empty()) folders.push_back(room);
  }
  const Findings findings = CheckRoomsDocumented(ReadSource("docs/architecture.md"), folders);
  EXPECT_TRUE(findings.empty()) << findings;
}

TEST(Documents, AForgottenFolderIsFound) {
  EXPECT_EQ(CheckRoomsDocumented({"docs/architecture.md", "| `mm/` | the model |\n"}, {"mm", "live"}).size(),
            1u);
}

TEST(Sources, HaveTests) {
  // Sources that have neither a header nor a test file of their own name, and where their tests are.
  const std::vector<TestedBy> elsewhere = {
      {"live/agent/agent.cc", "tests/live/agents_test.cc"},
      {"live/agent_image.cc", "tests/live/agents_test.cc"},
      {"live/compare.cc", "tests/live/oracle_test.cc"},
      {"live/random_steps.cc", "tests/live/oracle_test.cc"},
      {"live/real_machine.cc", "tests/live/oracle_test.cc"},
      {"mm/mm_struct.cc", "tests/mm/mmap_test.cc"},
      {"mm/rmap.cc", "tests/mm/fork_test.cc"},
      {"mm/zap.cc", "tests/mm/truncate_test.cc"},
      {"proto/chunk.cc", "tests/proto/reader_test.cc"},
      {"proto/merge.cc", "tests/proto/chain_test.cc"},
      {"proto/parent_pages.cc", "tests/proto/chain_test.cc"},
      {"proto/read_pages.cc", "tests/proto/reader_test.cc"},
      {"proto/run_checker.cc", "tests/proto/reader_test.cc"},
      {"workload/access_steps.cc", "tests/workload/executor_test.cc"},
      {"workload/expect.cc", "tests/workload/executor_test.cc"},
      {"workload/file_steps.cc", "tests/workload/executor_test.cc"},
      {"workload/located.cc", "tests/workload/script_test.cc"},
      {"workload/map_steps.cc", "tests/workload/executor_test.cc"},
      {"workload/outcome.cc", "tests/workload/executor_test.cc"},
      {"workload/process_steps.cc", "tests/workload/executor_test.cc"},
      {"workload/script_check.cc", "tests/workload/script_test.cc"},
      {"workload/session.cc", "tests/workload/executor_test.cc"},
      {"workload/state.cc", "tests/workload/executor_test.cc"},
      {"workload/step_fields.cc", "tests/workload/script_test.cc"},
  };
  std::vector<std::string> rooms = Rooms();
  rooms.pop_back();  // cli/: its tests run the program
  const Findings findings = CheckTested(Files(rooms, {".cc"}), Files({"tests"}, kCode), elsewhere);
  EXPECT_TRUE(findings.empty()) << findings;
}

TEST(Sources, UntestedOnesAreFound) {
  const std::vector<Source> sources = {{"mm/a.cc", ""}, {"mm/b.cc", ""}, {"mm/c.cc", ""}, {"mm/d.cc", ""}};
  const std::vector<Source> tests = {{"tests/mm/a_test.cc", ""},
                                     {"tests/mm/x_test.cc", "#include \"mm/b.h\"\n"}};
  EXPECT_EQ(CheckTested(sources, tests, {{"mm/c.cc", "tests/mm/x_test.cc"}}).size(), 1u);
  EXPECT_EQ(CheckTested(sources, tests, {{"mm/c.cc", "tests/mm/gone_test.cc"}}).size(), 2u);
  EXPECT_EQ(CheckTested({}, tests, {{"mm/gone.cc", "tests/mm/x_test.cc"}}).size(), 1u);
}

TEST(Switches, AreReadWhereTheTableSays) {
  const Findings findings = CheckSwitchReaders(ReadSource("mm/semantics.cc"), Files({"mm"}, {".cc"}));
  EXPECT_TRUE(findings.empty()) << findings;
}

// A table of two switches.
Source SwitchTable() {
  return {"mm/semantics.cc", R"re(constexpr Switch kSwitches[] = {
    {"reuse_rule", offsetof(Semantics, reuse_rule), kRules,
     "2.6.32; 2.6.11", "M19", "Reuse"},
    {"dirty_rule", offsetof(Semantics, dirty_rule), kDirty, "as posted", "C07", "is_dirty"},
};)re"};
}

TEST(Switches, ReadersThatAreNotThereAreFound) {
  const auto count = [&](const std::string& code) {
    return CheckSwitchReaders(SwitchTable(), {{"mm/a.cc", code}}).size();
  };
  const std::string reuse = "bool Reuse() { return sem().reuse_rule == 0; }\n";
  EXPECT_EQ(count(reuse + "bool is_dirty() { return sem().dirty_rule == 0; }\n"), 0u);
  EXPECT_EQ(count(reuse), 1u);
  EXPECT_EQ(count(reuse + "bool is_dirty() { return true; }\n"), 1u);
  EXPECT_EQ(CheckSwitchReaders({"mm/semantics.cc", ""}, {}).size(), 1u);
}

}  // namespace
}  // namespace tidy
