// Every workload that is shipped: checkpointed at "base", restored, compared, resumed to its end, and
// compared with the run that was never interrupted. And the same under every switch alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/scenarios/engine_fixture.h"
#include "workload/elf_file.h"
#include "workload/executor.h"

namespace mm {
namespace {

using workload::CheckpointRequest;
using workload::Executor;
using workload::Next;
using workload::Script;

std::vector<std::string> Examples() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_SOURCE_DIR "/workload/examples")) {
    if (entry.path().extension() == ".textproto") names.push_back(entry.path().stem().string());
  }
  std::ranges::sort(names);
  return names;
}

std::string PathOf(const std::string& name) {
  return CKPT_SOURCE_DIR "/workload/examples/" + name + ".textproto";
}

void ExpectValid(const Machine& machine) {
  const auto broken = Validate(machine, Depth::kDeep);
  EXPECT_FALSE(broken.has_value()) << *broken;
}

// How far a trip came; an error of the checkpoint or the restart ends it.
struct ExampleRun {
  base::Result<void> ran;
  std::unique_ptr<base::Error> save_error;
  std::unique_ptr<base::Error> restore_error;
};

// Runs the script to its end; what was saved at `label` is restored, compared and resumed.
ExampleRun RunThrough(const Script& script, const std::string& label) {
  ExampleRun run;
  Trip trip;
  trip.options.build_id = workload::ReadBuildId;
  std::unique_ptr<Box> box;
  std::string state;
  auto executor = Executor::Start(script, {});
  if (!executor) return {std::unexpected(executor.error()), {}, {}};
  run.ran = (*executor)->Run([&](Machine& machine, const CheckpointRequest& request) -> base::Result<Next> {
    if (request.label != label) return Next::kGoOn;
    state = request.state;
    if (const auto saved = trip.TrySave(machine, request.pids); !saved) {
      run.save_error = std::make_unique<base::Error>(saved.error());
      return Next::kStop;
    }
    EXPECT_TRUE(trip.Open());
    auto restored = trip.TryRestore();
    if (!restored) {
      run.restore_error = std::make_unique<base::Error>(restored.error());
      return Next::kStop;
    }
    box = std::move(*restored);
    Trip::ExpectSame(machine, box->machine());
    return Next::kGoOn;
  });
  if (!run.ran || box == nullptr) return run;
  ExpectValid((*executor)->machine());

  auto resumed = Executor::Resume(script, box->Take(), state, {});
  if (!resumed) return {std::unexpected(resumed.error()), {}, {}};
  run.ran = (*resumed)->Run([](Machine&, const CheckpointRequest&) { return Next::kGoOn; });
  EXPECT_TRUE((*resumed)->finished());
  ExpectValid((*resumed)->machine());
  if (run.ran) Trip::ExpectSame((*executor)->machine(), (*resumed)->machine());
  return run;
}

class EngineExampleTest : public testing::TestWithParam<std::string> {};

TEST_P(EngineExampleTest, RestoredRunEndsLikeTheUninterrupted) {
  const auto script = Script::Load(PathOf(GetParam()));
  ASSERT_TRUE(script.has_value()) << script.error().what;
  for (const std::string& label : script->labels()) {
    SCOPED_TRACE(label);
    const ExampleRun run = RunThrough(*script, label);
    EXPECT_TRUE(run.ran.has_value()) << run.ran.error().what;
    EXPECT_EQ(run.save_error, nullptr) << run.save_error->what;
    EXPECT_EQ(run.restore_error, nullptr) << run.restore_error->what;
  }
}

// Under each other value of each switch: an example whose expectations do not hold says so; published
// lookups may fail past the end of a file (C08), and a survivor there may be refused (C09).
TEST_P(EngineExampleTest, EverySwitchAlone) {
  const auto original = Script::Load(PathOf(GetParam()));
  ASSERT_TRUE(original.has_value()) << original.error().what;
  size_t turn = GetParam().size();  // the sanitizers see a quarter of the switches, of each example another
  for (const Switch& row : Switches()) {
    if (row.scenario.starts_with("G")) continue;  // of page hinting: without a host it says nothing (INV-G12)
    for (size_t value = 1; value < row.values.size(); ++value) {
      if (support::kSanitized && ++turn % 4 != 0) continue;
      const std::string assignment = std::string(row.name) + "=" + std::string(row.values[value]);
      SCOPED_TRACE(assignment);
      ckpt_pb::Workload changed = original->workload();
      changed.mutable_machine()->add_semantics(assignment);
      const auto script = Script::Parse(GetParam(), changed.DebugString());
      ASSERT_TRUE(script.has_value()) << script.error().what;
      const ExampleRun run = RunThrough(*script, "base");
      if (!run.ran) {
        EXPECT_EQ(run.ran.error().code, Code::kExpectation) << run.ran.error().what;
      }
      if (run.save_error != nullptr) {
        EXPECT_EQ(row.name, "dump_lookup");
        EXPECT_EQ(run.save_error->code, Code::kFault) << run.save_error->what;
      }
      if (run.restore_error != nullptr) {
        EXPECT_EQ(row.name, "cow_survives_truncate");
        EXPECT_EQ(run.restore_error->code, Code::kFault) << run.restore_error->what;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EngineExampleTest, testing::ValuesIn(Examples()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace mm
