// ckpt run WORKLOAD: runs a workload on the model; its checkpoint steps write images.
#include <memory>

#include "cli/checkpoint.h"
#include "cli/command.h"
#include "cli/memory.h"
#include "cli/print.h"
#include "mm/validate.h"
#include "workload/executor.h"

namespace cli {
namespace {

struct RunCommand {
  std::string workload;
  std::string disk_dir;
  CheckpointWriter::Settings checkpoint;
  bool validate = false;
  bool text_dump = false;
};

base::Result<void> CheckLabels(const RunCommand& command, const workload::Script& script) {
  const CheckpointWriter::Settings& checkpoint = command.checkpoint;
  if (!checkpoint.at.empty()) TRY_VOID(CheckLabel(script, checkpoint.at));
  if (checkpoint.output.empty()) return {};
  if (!checkpoint.at.empty()) return CheckOutput(checkpoint.output, {checkpoint.at}, command.workload);
  TRY_VOID(CheckOutput(checkpoint.output, script.labels(), command.workload));
  if (checkpoint.output.find("{label}") != std::string::npos) return {};
  if (script.labels().size() == 1) return {};
  if (script.labels().empty()) {
    return base::Fail(base::Code::kInvalid, "workload '%s' has no checkpoint step: '--at end' writes its end",
                      base::Printable(script.path()).c_str());
  }
  return base::Fail(
      base::Code::kInvalid,
      "workload '%s' has %zu checkpoints: pick one with --at LABEL, or write all with {label} in -o",
      base::Printable(script.path()).c_str(), script.labels().size());
}

base::Result<void> RunIt(const RunCommand& command) {
  const workload::Script script = TRY(workload::Script::Load(command.workload));
  TRY_VOID(CheckLabels(command, script));
  workload::Options options{.disk_dir = command.disk_dir, .stop = &g_stop};
  Progress progress("run " + base::Printable(command.workload), 0);
  uint64_t steps = 0;
  options.after_step = [&](mm::Machine& machine, const std::string& where) -> base::Result<void> {
    progress.Update(++steps);
    if (!command.validate) return {};
    const std::optional<std::string> broken = mm::Validate(machine, mm::Depth::kDeep);
    if (!broken) return {};
    return base::Fail(base::Code::kExpectation, "%s: broken invariant %s", where.c_str(), broken->c_str());
  };
  const auto executor = TRY(workload::Executor::Start(script, options));
  CheckpointWriter writer(command.checkpoint);
  TRY_VOID(executor->Run(std::ref(writer)));
  if (command.text_dump) PrintText(mm::TextDump(executor->machine()));
  if (command.checkpoint.json) {
    PrintJson({{"workload", command.workload},
               {"steps", steps},
               {"finished", executor->finished()},
               {"checkpoints", writer.json()}});
  } else if (!command.checkpoint.quiet && writer.written() == 0 && !command.text_dump) {
    PrintText(base::Format("%s: %s, as expected\n", base::Printable(command.workload).c_str(),
                           Count(steps, "step").c_str()));
  }
  return {};
}

int Run(const RunCommand& command) {
  const base::Result<void> done = RunIt(command);
  return done ? kExitGood : PrintError(done.error());
}

}  // namespace

void AddRun(CLI::App& app, Action& action) {
  auto command = std::make_shared<RunCommand>();
  CLI::App* run = app.add_subcommand("run", "Run a workload on the model; checkpoint steps write images");
  AddText(*run, "WORKLOAD", command->workload, "The workload, ckpt-workload(5)")->required();
  AddText(*run, "-o,--output", command->checkpoint.output, "The image; {label} in it stands for the label");
  AddText(*run, "--at", command->checkpoint.at,
          "Write only this checkpoint, and stop there; 'end': after the last step");
  AddText(*run, "--disk", command->disk_dir, "Keep the workload's files in this folder");
  AddImageOptions(*run, command->checkpoint.image);
  AddFlag(*run, "--validate", command->validate, "Check every invariant of the model after each step");
  AddFlag(*run, "--text-dump", command->text_dump, "Print the machine as text at the end");
  AddFlag(*run, "--json", command->checkpoint.json, "Print JSON");
  run->get_option("--json")->excludes(run->get_option("--text-dump"));
  AddFlag(*run, "-q,--quiet", command->checkpoint.quiet, "Print errors only");
  run->callback([command, &action] { action = [command] { return Run(*command); }; });
}

}  // namespace cli
