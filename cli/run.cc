// ckpt run WORKLOAD: runs a workload on the model; its checkpoint steps write images.
#include <memory>

#include "cli/checkpoint.h"
#include "cli/command.h"
#include "cli/cpus.h"
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
  CpuOptions cpus;
  bool validate = false;
  bool text_dump = false;
  bool stats = false;
  std::string hints;
};

struct Counter {
  const char* name;
  uint64_t value;
};

// Frames by what the guest says of them and where the host has their bytes, in the order of mm::PageState.
constexpr const char* kStateCounters[] = {
    "frames_stable_resident",    "frames_stable_preserved",
    "frames_stable_zero",        "frames_unused_resident",
    "frames_unused_zero",        "frames_volatile_resident",
    "frames_volatile_discarded", "frames_potentially_volatile_resident"};
static_assert(std::size(kStateCounters) == mm::kPageStates);

// By their names and in the order of /proc/vmstat, in pages; with swap behind them what /proc/meminfo says of
// it, in kB.
std::vector<Counter> Counters(const mm::Machine& machine) {
  const mm::LruLists& lru = machine.frames.lru();
  std::vector<Counter> counters = {{"nr_free_pages", machine.frames.nr_free()},
                                   {"nr_inactive_anon", lru.size(mm::Lru::kInactiveAnon)},
                                   {"nr_active_anon", lru.size(mm::Lru::kActiveAnon)},
                                   {"nr_inactive_file", lru.size(mm::Lru::kInactiveFile)},
                                   {"nr_active_file", lru.size(mm::Lru::kActiveFile)}};
  for (const mm::VmStatName& counter : mm::VmStatNames()) {
    counters.push_back({counter.name, machine.vmstat.*counter.value});
  }
  if (machine.swap != nullptr) {
    constexpr uint64_t kPageKb = base::kPageSize / 1024;
    counters.push_back({"SwapTotal", machine.swap->nr_slots() * kPageKb});
    counters.push_back({"SwapFree", machine.swap->nr_free() * kPageKb});
  }
  if (machine.host == nullptr) return counters;
  for (const mm::PageState state : mm::kAllPageStates) {
    counters.push_back({kStateCounters[static_cast<size_t>(state)], machine.host->count(state)});
  }
  const mm::HostStat& stat = machine.host->stat();
  counters.insert(counters.end(), {{"host_backed", stat.backed},
                                   {"host_paged_in", stat.paged_in},
                                   {"host_paged_out", stat.paged_out},
                                   {"host_discarded", stat.discarded},
                                   {"discard_faults", stat.discard_faults},
                                   {"page_state_requests", stat.requests},
                                   {"page_state_changes", stat.transitions}});
  return counters;
}

base::Result<void> CheckLabels(const RunCommand& command, const workload::Script& script) {
  const CheckpointWriter::Settings& checkpoint = command.checkpoint;
  if (!checkpoint.at.empty()) TRY_VOID(CheckLabel(script, checkpoint.at));
  if (checkpoint.output.empty()) {
    if (checkpoint.image.parent.empty() && !checkpoint.image.track) return {};
    return base::Fail(base::Code::kInvalid, "--parent and --track go with -o IMAGE");
  }
  if (!checkpoint.at.empty())
    return CheckOutput(checkpoint.output, {checkpoint.at}, command.workload, checkpoint.image.parent);
  TRY_VOID(CheckOutput(checkpoint.output, script.labels(), command.workload, checkpoint.image.parent));
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

base::Result<void> PrepareCpus(RunCommand& command, const workload::Script& script) {
  const CheckpointWriter::Settings& checkpoint = command.checkpoint;
  std::vector<UsedFile> used = {{command.workload, "the workload itself"}};
  if (!checkpoint.output.empty()) {
    const std::vector<std::string> labels =
        checkpoint.at.empty() ? script.labels() : std::vector<std::string>{checkpoint.at};
    for (const std::string& path : ImagePaths(checkpoint.output, labels)) {
      if (path == image::kStandardStream) continue;
      used.push_back({path, "an image of -o"});
    }
  }
  return command.cpus.Prepare(script, std::move(used));
}

base::Result<void> RunIt(RunCommand& command) {
  const workload::Script script = TRY(LoadWorkload(
      command.workload, "'ckpt restore " + base::Printable(command.workload) +
                            "' rebuilds its memory, and with --resume WORKLOAD goes on from there"));
  TRY_VOID(CheckLabels(command, script));
  TRY_VOID(LeaveStandardOutput(command.checkpoint, {{command.workload, "the workload itself"}}));
  TRY_VOID(PrepareCpus(command, script));
  RunProgress progress("run", script);
  workload::Options options = progress.Options(command.disk_dir);
  command.cpus.Apply(options);
  options.hints = command.hints;
  uint64_t steps = 0;
  options.after_step = [&](mm::Machine&, const std::string&) -> base::Result<void> {
    ++steps;
    return {};
  };
  options.at_rest = [&](mm::Machine& machine, const std::string& where) -> base::Result<void> {
    if (!command.validate) return {};
    const std::optional<std::string> broken = mm::Validate(machine, mm::Depth::kDeep);
    if (!broken) return {};
    return base::Fail(base::Code::kExpectation, "%s: broken invariant %s", where.c_str(), broken->c_str());
  };
  const auto executor = TRY(workload::Executor::Start(script, options));
  progress.Watch(*executor);
  CheckpointWriter writer(command.checkpoint);
  TRY_VOID(command.cpus.Keep(*executor, executor->Run(std::ref(writer))));
  if (command.text_dump) PrintText(mm::TextDump(executor->machine()));
  const std::vector<Counter> counters =
      command.stats ? Counters(executor->machine()) : std::vector<Counter>();
  if (command.checkpoint.json) {
    nlohmann::ordered_json json = {{"workload", command.workload},
                                   {"steps", steps},
                                   {"finished", executor->finished()},
                                   {"checkpoints", writer.json()}};
    for (const Counter& counter : counters) json["vmstat"][counter.name] = counter.value;
    PrintJson(json);
    return {};
  }
  for (const Counter& counter : counters) {
    PrintText(base::Format("%s %llu\n", counter.name, static_cast<unsigned long long>(counter.value)));
  }
  if (!command.checkpoint.quiet && writer.written() == 0 && !command.text_dump && !command.stats) {
    PrintText(base::Format("%s: %s, as expected\n", base::Printable(command.workload).c_str(),
                           Count(steps, "step").c_str()));
  }
  return {};
}

int Run(RunCommand& command) {
  const base::Result<void> done = RunIt(command);
  if (done) return kExitGood;
  const int code = PrintError(done.error());
  command.cpus.ShowFailed();
  return code;
}

}  // namespace

void AddRun(const Command& ckpt) {
  auto command = std::make_shared<RunCommand>();
  const Command run = ckpt.Add("run", "Run a workload on the model; checkpoint steps write images");
  run.Required("WORKLOAD", command->workload, "The workload, ckpt-workload(5)");
  run.Text("-o,--output", command->checkpoint.output,
           "The image, or - for standard output; {label} in it stands for the label");
  run.Text("--at", command->checkpoint.at,
           "Write only this checkpoint, and stop there; 'end': after the last step");
  run.Text("--disk", command->disk_dir, "Keep the workload's files in this folder");
  AddImageOptions(run, command->checkpoint.image);
  command->cpus.AddTo(run);
  run.Choice("--hints", command->hints, {"off", "base", "writable"},
             "Page hinting, over what the workload says: off, base or writable");
  run.Flag("--validate", command->validate, "Check every invariant of the model after each step");
  run.Flag("--text-dump", command->text_dump, "Print the machine as text at the end");
  run.Flag("--stats", command->stats, "Print the machine's counters at the end, as /proc/vmstat does");
  run.Flag("--json", command->checkpoint.json, "Print JSON");
  run.Excludes("--json", "--text-dump");
  run.Flag("-q,--quiet", command->checkpoint.quiet, "Print errors only");
  run.Does([command] { return Run(*command); });
}

}  // namespace cli
