// The oracle: the shipped workloads and random steps agree with the running kernel, what was found stays
// mended, and each known difference is really there.
#include "live/oracle.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "live/known_differences.h"
#include "live/random_oracle.h"
#include "tests/support/support.h"
#include "workload/executor.h"

namespace live {
namespace {

using workload::Executor;
using workload::Next;
using workload::Script;

std::unique_ptr<Oracle> MakeOracle(OracleOptions options = {}) {
  auto oracle = Oracle::Create(std::move(options));
  EXPECT_TRUE(oracle.has_value()) << oracle.error().what;
  return oracle ? std::move(*oracle) : nullptr;
}

std::string Text(const std::optional<Difference>& difference) {
  if (!difference) return "no difference";
  return difference->where + ": " + difference->what + "\nthe model:\n" + difference->model +
         "\nthe kernel:\n" + difference->kernel;
}

base::Result<void> RunOn(Oracle& oracle, const Script& script) {
  workload::Options options;
  options.observer = &oracle;
  options.cpus = 1;
  auto executor = TRY(Executor::Start(script, options));
  TRY_VOID(oracle.Begin(executor->machine()));
  return executor->Run([&](mm::Machine&, const workload::CheckpointRequest& request) -> base::Result<Next> {
    TRY_VOID(oracle.CompareAll("checkpoint " + request.label));
    return Next::kGoOn;
  });
}

std::vector<std::string> FilesIn(const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_SOURCE_DIR "/" + folder))
    if (entry.path().extension() == ".textproto") paths.push_back(entry.path().string());
  std::ranges::sort(paths);
  return paths;
}

class Agrees : public testing::TestWithParam<std::string> {};

TEST_P(Agrees, WithTheKernel) {
  const auto script = Script::Load(GetParam());
  ASSERT_TRUE(script.has_value()) << script.error().what;
  const auto oracle = MakeOracle();
  ASSERT_NE(oracle, nullptr);
  const auto ran = RunOn(*oracle, *script);
  EXPECT_TRUE(ran.has_value()) << ran.error().what << '\n' << Text(oracle->difference());
  EXPECT_EQ(oracle->known(), nullptr);
  EXPECT_GT(oracle->comparisons(), 0u);
}

std::string Stem(const testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).stem().string();
}

INSTANTIATE_TEST_SUITE_P(Example, Agrees, testing::ValuesIn(FilesIn("workload/examples")), Stem);
INSTANTIATE_TEST_SUITE_P(Found, Agrees, testing::ValuesIn(FilesIn("tests/oracle/found")), Stem);

TEST(Oracle, AgreesThroughTheOldInterfaces) {
  OracleOptions options;
  options.real.pagemap = Pagemap::Interface::kEntries;
  options.real.maps = Maps::Interface::kText;
  const auto oracle = MakeOracle(options);
  ASSERT_NE(oracle, nullptr);
  const auto script = Script::Load(CKPT_SOURCE_DIR "/workload/examples/truncate_then_extend.textproto");
  ASSERT_TRUE(script.has_value());
  EXPECT_TRUE(RunOn(*oracle, *script).has_value()) << Text(oracle->difference());
  const auto report = RunRandom(*oracle, {.steps = 2000, .seed = 2});
  ASSERT_TRUE(report.has_value()) << report.error().what;
  EXPECT_FALSE(report->difference.has_value())
      << Text(report->difference) << FoundText(report->workload, *report->difference);
}

// ---- random steps ----

constexpr uint64_t kSteps = support::kSanitized ? 10'000 : 100'000;

void AgreesFor(uint64_t steps, uint64_t seed) {
  std::printf("CKPT_SEED=%llu\n", static_cast<unsigned long long>(seed));
  const auto oracle = MakeOracle();
  ASSERT_NE(oracle, nullptr);
  const auto report = RunRandom(*oracle, {.steps = steps, .seed = seed});
  ASSERT_TRUE(report.has_value()) << report.error().what;
  ASSERT_FALSE(report->difference.has_value()) << Text(report->difference) << '\n'
                                               << FoundText(report->workload, *report->difference);
  EXPECT_GE(report->steps, steps);
  uint64_t ended = 0;  // before the comparison
  for (const auto& [id, sequences] : report->known) ended += sequences;
  EXPECT_GE(oracle->comparisons() + ended, steps);
}

TEST(Oracle, AFixedSeedAgrees) { AgreesFor(kSteps, 20260720); }

TEST(Oracle, AFreshSeedAgrees) {
  const char* text = std::getenv("CKPT_SEED");
  AgreesFor(kSteps, text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}());
}

// ---- known differences ----

class Known : public testing::TestWithParam<std::string> {};

TEST_P(Known, IsReallyThere) {
  const auto script = Script::Load(GetParam());
  ASSERT_TRUE(script.has_value()) << script.error().what;
  const std::string id = std::filesystem::path(GetParam()).stem().string();
  const auto known = std::ranges::find(KnownDifferences(), id, &KnownDifference::id);
  ASSERT_NE(known, KnownDifferences().end()) << "there is no known difference of that name";
  ASSERT_GT(RunningKernel(), 0u);
  OracleOptions strict;
  strict.excuse = false;
  const auto judge = MakeOracle(strict);
  ASSERT_NE(judge, nullptr);
  const bool agrees = RunOn(*judge, *script).has_value();
  EXPECT_EQ(agrees, RunningKernel() < known->since) << Text(judge->difference());
  EXPECT_EQ(judge->difference().has_value(), !agrees);
  EXPECT_EQ(judge->known(), nullptr);
  if (agrees) return;
  const auto oracle = MakeOracle();
  ASSERT_NE(oracle, nullptr);
  const auto ran = RunOn(*oracle, *script);
  EXPECT_FALSE(ran.has_value());
  EXPECT_EQ(oracle->difference(), std::nullopt) << Text(oracle->difference());
  ASSERT_NE(oracle->known(), nullptr);
  EXPECT_EQ(oracle->known()->id, id);
}

INSTANTIATE_TEST_SUITE_P(Each, Known, testing::ValuesIn(FilesIn("tests/oracle/known")), Stem);

TEST(KnownDifferences, EachHasItsWorkload) {
  for (const KnownDifference& known : KnownDifferences()) {
    EXPECT_TRUE(std::filesystem::exists(CKPT_SOURCE_DIR "/tests/oracle/known/" + std::string(known.id) +
                                        ".textproto"))
        << known.id;
    EXPECT_FALSE(known.reason.empty());
  }
}

// ---- what a difference looks like ----

// A model with a rule of its own is found out: private copies that a hole punch takes along.
TEST(Oracle, SaysWhatDiffersAndCutsItDown) {
  ckpt_pb::Workload workload;
  workload.mutable_machine()->add_semantics("hole_punch_cow=zapped");
  ckpt_pb::Workload::File& file = *workload.add_file();
  file.set_name("f");
  file.set_size("16k");
  const auto add = [&]() -> ckpt_pb::Step& { return *workload.add_step(); };
  ckpt_pb::Step::Map& map = *add().mutable_map();
  map.set_region("r");
  map.set_addr("0x10000000");
  map.set_fixed(true);
  map.set_file("f");
  for (int i = 0; i < 4; ++i) {
    ckpt_pb::Step::Store& store = *add().mutable_store();
    store.set_addr("0x1000" + std::to_string(i) + "010");
    store.set_length("16");
    store.mutable_fill()->set_byte(7);
  }
  add().mutable_fork()->set_child("c");
  add().mutable_fsync()->set_file("f");
  ckpt_pb::Step::PunchHole& hole = *add().mutable_punch_hole();
  hole.set_file("f");
  hole.set_offset("0x2000");
  hole.set_length("4k");
  const auto oracle = MakeOracle();
  ASSERT_NE(oracle, nullptr);
  ckpt_pb::Workload ran = workload;
  const auto differs = RunSteps(*oracle, ran);
  ASSERT_TRUE(differs.has_value()) << differs.error().what;
  ASSERT_TRUE(differs->has_value());
  EXPECT_EQ((*differs)->what, "process 1: page 0x10002000");
  EXPECT_EQ((*differs)->model, "at 0x10002010: 00 00 00 00 00 00 00 00");
  EXPECT_EQ((*differs)->kernel, "at 0x10002010: 07 07 07 07 07 07 07 07");
  EXPECT_NE((*differs)->where.find("step punch_hole"), std::string::npos);
  const auto shrunk = Shrink(*oracle, workload, nullptr);
  ASSERT_TRUE(shrunk.has_value()) << shrunk.error().what;
  EXPECT_EQ(shrunk->step_size(), 3) << shrunk->DebugString();
  EXPECT_EQ(shrunk->step(1).store().length(), "1");
  // It replays alone, as a file.
  const std::string text = FoundText(*shrunk, **differs);
  EXPECT_TRUE(
      text.starts_with("# The model and the kernel differ: process 1: page 0x10002000\n# model:  at "));
  const auto script = Script::Parse("found", text);
  ASSERT_TRUE(script.has_value()) << script.error().what;
  EXPECT_FALSE(RunOn(*oracle, *script).has_value());
  EXPECT_TRUE(oracle->difference().has_value());
}

// The same seed gives the same steps.
TEST(Oracle, ASeedGivesTheSameStepsAgain) {
  const auto oracle = MakeOracle();
  ASSERT_NE(oracle, nullptr);
  const auto first = RunRandom(*oracle, {.steps = 1000, .seed = 5});
  const auto second = RunRandom(*oracle, {.steps = 1000, .seed = 5});
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->sequences, second->sequences);
  EXPECT_EQ(first->known, second->known);
  EXPECT_GT(first->workload.step_size(), 0);
  EXPECT_EQ(first->workload.DebugString(), second->workload.DebugString());
  // And they are a workload that others can read.
  const auto script = Script::Parse("random", first->workload.DebugString());
  EXPECT_TRUE(script.has_value()) << script.error().what;
}

TEST(Oracle, ComparesWhenItIsAskedTo) {
  OracleOptions options;
  options.every = 10;
  options.everything = 0;
  const auto oracle = MakeOracle(options);
  ASSERT_NE(oracle, nullptr);
  const auto script = Script::Load(CKPT_SOURCE_DIR "/workload/examples/demo.textproto");
  ASSERT_TRUE(script.has_value());
  EXPECT_TRUE(RunOn(*oracle, *script).has_value()) << Text(oracle->difference());
  EXPECT_EQ(oracle->comparisons(), oracle->steps() / 10 + script->labels().size() + 1);
}

// The agent's own place, and the calls and answers as people read them.
TEST(Oracle, RefusesTheAgentsPlace) {
  const auto script = Script::Parse(
      "w", "step { load { addr: '0x100000000000' length: '8' } expect { outcome: 'SIGSEGV' } }");
  ASSERT_TRUE(script.has_value()) << script.error().what;
  const auto oracle = MakeOracle();
  ASSERT_NE(oracle, nullptr);
  const auto ran = RunOn(*oracle, *script);
  ASSERT_FALSE(ran.has_value());
  EXPECT_EQ(ran.error().code, base::Code::kUnsupported);
  EXPECT_EQ(oracle->difference(), std::nullopt);
}

TEST(Oracle, TextOfCallsAndAnswers) {
  using workload::Call;
  EXPECT_EQ(CallText({.op = Call::Op::kMunmap, .args = {0x1000, 0x2000}}), "munmap(0x1000, 0x2000)");
  EXPECT_EQ(CallText({.op = Call::Op::kMunlockall}), "munlockall()");
  EXPECT_EQ(AnswerText({}), "ok");
  EXPECT_EQ(AnswerText({.err = ENOMEM}), "ENOMEM");
  EXPECT_EQ(AnswerText({.sig = SIGBUS, .value = 0x7000}), "SIGBUS at 0x7000");
  EXPECT_EQ(AnswerText({.err = EFBIG, .sig = SIGXFSZ}), "SIGXFSZ");
  EXPECT_EQ(AnswerText({.value = 0x1000}), "0x1000");
}

}  // namespace
}  // namespace live
