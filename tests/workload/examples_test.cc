// Every workload that is shipped runs to its end, with Validate after each step, and has a checkpoint
// called "base" with steps behind it.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/support.h"
#include "tests/workload/run.h"

namespace workload {
namespace {

constexpr uint64_t kSchedules = support::kSanitized ? 1 : 8;

std::vector<std::string> ExamplePaths() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_SOURCE_DIR "/workload/examples")) {
    if (entry.path().extension() == ".textproto") paths.push_back(entry.path().string());
  }
  std::ranges::sort(paths);
  return paths;
}

class ExampleTest : public testing::TestWithParam<std::string> {};

std::unique_ptr<Executor> RunExample(const Script& script, std::vector<std::string>* labels,
                                     Options options = {.after_step = ValidateStep}) {
  auto executor = Executor::Start(script, std::move(options));
  EXPECT_TRUE(executor.has_value()) << executor.error().what;
  if (!executor) return nullptr;
  const auto done =
      (*executor)->Run([&](mm::Machine&, const CheckpointRequest& request) -> base::Result<Next> {
        labels->push_back(request.label);
        return Next::kGoOn;
      });
  EXPECT_TRUE(done.has_value()) << done.error().what;
  return std::move(*executor);
}

TEST_P(ExampleTest, RunsTheSameTwice) {
  const auto script = Script::Load(GetParam());
  ASSERT_TRUE(script.has_value()) << script.error().what;
  EXPECT_TRUE(script->steps().back().step->has_checkpoint() == false || script->labels().size() > 1);
  std::vector<std::string> labels;
  const auto one = RunExample(*script, &labels);
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(labels.front(), "base");
  EXPECT_EQ(labels.back(), "end");
  const auto two = RunExample(*script, &labels);
  ASSERT_NE(two, nullptr);
  EXPECT_EQ(mm::TextDump(one->machine()), mm::TextDump(two->machine()));
}

// Its expectations hold in whatever order several CPUs do its steps: barriers lie where they need them.
TEST_P(ExampleTest, RunsOnFourCpusFromAnySeed) {
  const auto script = Script::Load(GetParam());
  ASSERT_TRUE(script.has_value()) << script.error().what;
  for (uint64_t seed = 1; seed <= kSchedules; ++seed) {
    SCOPED_TRACE(seed);
    std::vector<std::string> labels;
    const auto run =
        RunExample(*script, &labels, {.at_rest = ValidateStep, .cpus = 4, .schedule_seed = seed});
    ASSERT_NE(run, nullptr);
    EXPECT_EQ(labels.back(), "end");
  }
}

TEST_P(ExampleTest, HasItsNameAndAComment) {
  const auto script = Script::Load(GetParam());
  ASSERT_TRUE(script.has_value()) << script.error().what;
  EXPECT_EQ(script->workload().name(), std::filesystem::path(GetParam()).stem().string());
}

INSTANTIATE_TEST_SUITE_P(All, ExampleTest, testing::ValuesIn(ExamplePaths()), [](const auto& param) {
  return std::filesystem::path(param.param).stem().string();
});

TEST(ExamplesTest, ThereAreEnough) { EXPECT_GE(ExamplePaths().size(), 8u); }

// The claim of the second truncate case about older kernels is a switch, and the example says so.
TEST(ExamplesTest, CopiesThatSurviveTruncateBreakTheExpectation) {
  const auto script = Script::Load(CKPT_SOURCE_DIR "/workload/examples/truncate_after_write.textproto");
  ASSERT_TRUE(script.has_value());
  std::string text = script->workload().DebugString();
  const TestRun run =
      RunText(text.replace(text.find("machine {"), 9, "machine { semantics: 'cow_survives_truncate=yes' "));
  EXPECT_EQ(run.code, base::Code::kExpectation) << run.error;
}

// ---- the manual page ----

std::string ManPage() { return support::ReadFile(CKPT_SOURCE_DIR "/man/ckpt-workload.5"); }

TEST(ManPageTest, ItsExamplesRun) {
  const std::string page = ManPage();
  constexpr std::string_view kBegin = ".Bd -literal -offset indent\n";
  int count = 0;
  for (size_t at = page.find(".Sh EXAMPLES"); (at = page.find(kBegin, at)) != std::string::npos; ++count) {
    at += kBegin.size();
    EXPECT_EQ(RunText(page.substr(at, page.find(".Ed\n", at) - at)).error, "");
  }
  EXPECT_GE(count, 2);
}

// Every field of the schema is in it, under its name.
void ExpectDocumented(const google::protobuf::Descriptor& type, const std::string& page) {
  for (int i = 0; i < type.field_count(); ++i) {
    const std::string& name = type.field(i)->name();
    const bool found = page.find("Cm " + name + "\n") != std::string::npos ||
                       page.find("Cm " + name + " ") != std::string::npos ||
                       page.find(", " + name + " ,") != std::string::npos ||
                       page.find(" , " + name + "\n") != std::string::npos;
    EXPECT_TRUE(found) << type.name() << "." << name;
  }
  for (int i = 0; i < type.nested_type_count(); ++i) ExpectDocumented(*type.nested_type(i), page);
}

TEST(ManPageTest, NamesEveryField) {
  const std::string page = ManPage();
  for (const auto* type :
       {ckpt_pb::Workload::descriptor(), ckpt_pb::Step::descriptor(), ckpt_pb::Expect::descriptor(),
        ckpt_pb::Fill::descriptor(), ckpt_pb::Pattern::descriptor()}) {
    ExpectDocumented(*type, page);
  }
}

}  // namespace
}  // namespace workload
