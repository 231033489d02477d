// Manual pages and docs/scenarios.md, checked against the code.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/support.h"
#include "tests/tidy/rules.h"

namespace tidy {
namespace {

std::vector<Source> Pages() { return Files({"man"}, {".1", ".5"}); }

TEST(ManPages, EverySubcommandHasOne) {
  const Findings findings = CheckManPages(Files({"cli"}, {".cc"}), Pages());
  EXPECT_TRUE(findings.empty()) << findings;
}

TEST(ManPages, MissingAndForgottenOnesAreFound) {
  const std::vector<Source> cli = {{"cli/a.cc", "ckpt.Add(\"run\", \"x\");\nckpt.Add(\n\"diff\");"}};
  const std::vector<Source> pages = {
      {"man/ckpt.1", ""}, {"man/ckpt-image.5", ""}, {"man/ckpt-workload.5", ""}, {"man/ckpt-run.1", ""}};
  EXPECT_EQ(CheckManPages(cli, pages).size(), 1u);
  EXPECT_EQ(CheckManPages({}, pages).size(), 1u);
  EXPECT_EQ(CheckManPages({}, {}).size(), 3u);
}

TEST(ManPages, RefersToPagesThatExist) {
  const Findings findings = CheckManReferences(Pages());
  EXPECT_TRUE(findings.empty()) << findings;
}

TEST(ManPages, ABadReferenceIsFound) {
  const Source page{"man/ckpt.1", ".Sh SEE ALSO\n.Xr ckpt-nothing 1 ,\n.Xr ckpt 1 ,\n.Xr zstd 1\n"};
  const Findings findings = CheckManReferences({page});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].line, 2u);
}

TEST(ManPages, AreCleanForMandoc) {
  ASSERT_EQ(std::system("command -v mandoc > /dev/null"), 0) << "scripts/bootstrap --dev installs mandoc";
  for (const Source& page : Pages()) {
    const Findings findings = CheckManLint(Root() + "/" + page.path);
    EXPECT_TRUE(findings.empty()) << findings;
  }
}

TEST(ManPages, LintFindsABadOne) {
  const support::TempDir dir;
  const auto count = [&](const std::string& text) {
    support::WriteFile(dir / "ckpt-bad.1", text);
    return CheckManLint((dir / "ckpt-bad.1").string()).size();
  };
  const std::string head = ".Dd November 1, 2025\n.Dt CKPT-BAD 1\n.Os\n.Sh NAME\n.Nm ckpt-bad\n.Nd a page\n";
  EXPECT_EQ(count(head + ".Sh SEE ALSO\n.Xr no-such-page-anywhere 1\n"), 0u);
  EXPECT_GT(count(head + ".Sh DESCRIPTION\n.Bogus macro\n"), 0u);
  EXPECT_GT(count(head + ".Sh DESCRIPTION\nText  \n"), 0u) << "a warning, and no error";
}

TEST(Scenarios, TheDocumentIsHonest) {
  const Source doc = ReadSource("docs/scenarios.md");
  const Findings findings = CheckScenarios(doc, ScenarioIds(), Files({"tests"}, {".cc"}));
  EXPECT_TRUE(findings.empty()) << findings;
}

TEST(Scenarios, IdsAreThoseOfTheSpecification) {
  const std::vector<std::string> ids = ScenarioIds();
  EXPECT_EQ(ids.size(), 92u + 27u + 15u + 40u + 8u);
  EXPECT_EQ(ids.front(), "G01");
  EXPECT_EQ(ids.back(), "A08");
}

TEST(Scenarios, IdsInNamesOfTests) {
  EXPECT_TRUE(NameHasId("M03_shrink", "M03"));
  EXPECT_TRUE(NameHasId("Truncate_M03", "M03"));
  EXPECT_TRUE(NameHasId("C09_C10_truncate", "C10"));
  EXPECT_TRUE(NameHasId("G69b_busy", "G69b"));
  EXPECT_FALSE(NameHasId("G69b_busy", "G69"));
  EXPECT_FALSE(NameHasId("M030", "M03"));
  EXPECT_FALSE(NameHasId("XM03_a", "M03"));
}

TEST(Scenarios, LiesAreFound) {
  const std::vector<Source> tests = {
      {"tests/mm/a_test.cc", "TEST(Scenario, M01_a) {}\nTEST(Scenario, M02_b) {}\n"}};
  const auto count = [&](const std::string& text) {
    return CheckScenarios({"docs/scenarios.md", text}, {"M01", "M02"}, tests).size();
  };
  const std::string m01 = "| M01 | what | mm | - |\n";
  const std::string m02 = "| M02 | what | mm | hinting |\n";
  EXPECT_EQ(count(m01 + m02), 0u);
  EXPECT_EQ(count(m01), 1u) << "an id without a row";
  EXPECT_EQ(count(m01 + m02 + m02), 1u) << "a row twice";
  EXPECT_EQ(count(m01 + m02 + "| M03 | what | - | hinting |\n"), 1u) << "an id that nobody knows";
  EXPECT_EQ(count(m01 + "| M02 | what | - | hinting |\n"), 1u) << "said to wait, and there is a test";
  EXPECT_EQ(count(m01 + "| M02 | what | mm, proto | - |\n"), 1u) << "a test that is not there";
  EXPECT_EQ(count(m01 + "| M02 | what | mm | better times |\n"), 1u) << "waits for nothing real";
  EXPECT_EQ(count(m01 + "| M02 | what | mm |\n"), 1u) << "a field is missing";
  EXPECT_EQ(CheckScenarios({"docs/scenarios.md", "| M04 | what | - | - |\n"}, {"M04"}, {}).size(), 1u)
      << "neither tests nor a reason";
}

}  // namespace
}  // namespace tidy
