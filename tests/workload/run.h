// Runs workloads that a test writes down, with Validate after every step.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "mm/validate.h"
#include "workload/executor.h"

namespace workload {

inline base::Result<void> ValidateStep(mm::Machine& machine, const std::string& where) {
  const auto broken = mm::Validate(machine, mm::Depth::kDeep);
  if (broken) return base::Fail(base::Code::kCorrupt, "%s: %s", where.c_str(), broken->c_str());
  return {};
}

inline base::Result<Next> GoOn(mm::Machine&, const CheckpointRequest&) { return Next::kGoOn; }

// A script and a run of it; `error` is "" when both went well.
struct TestRun {
  std::unique_ptr<Script> script;
  std::unique_ptr<Executor> executor;
  std::vector<CheckpointRequest> checkpoints;
  std::string error;
  base::Code code{};

  mm::Machine& machine() { return executor->machine(); }
  mm::MmStruct& mm(std::string_view process) { return *executor->FindProcess(process)->mm; }
};

inline TestRun RunText(const std::string& text, Options options = {.after_step = ValidateStep}) {
  TestRun run;
  const auto fail = [&](const base::Error& error) {
    run.error = error.what;
    run.code = error.code;
  };
  auto script = Script::Parse("w", text);
  if (!script) return fail(script.error()), std::move(run);
  run.script = std::make_unique<Script>(std::move(*script));
  auto executor = Executor::Start(*run.script, std::move(options));
  if (!executor) return fail(executor.error()), std::move(run);
  run.executor = std::move(*executor);
  const auto done =
      run.executor->Run([&](mm::Machine&, const CheckpointRequest& request) -> base::Result<Next> {
        run.checkpoints.push_back(request);
        return Next::kGoOn;
      });
  if (!done) fail(done.error());
  return run;
}

// The error of a workload that must fail, or that of its script.
inline std::string ErrorOf(const std::string& text) { return RunText(text).error; }

}  // namespace workload
