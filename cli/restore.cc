// ckpt restore IMAGE: rebuilds the memory, and goes on with the workload.
#include "restore/restore.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <ranges>

#include "base/units.h"
#include "cli/checkpoint.h"
#include "cli/command.h"
#include "cli/cpus.h"
#include "cli/memory.h"
#include "cli/print.h"
#include "mm/soft_dirty.h"
#include "mm/validate.h"
#include "workload/executor.h"

namespace cli {
namespace {

struct RestoreCommand {
  std::string image;
  std::string resume;
  MemoryOptions memory;
  CheckpointWriter::Settings checkpoint;
  CpuOptions cpus;
  bool validate = false;
  bool text_dump = false;
};

base::Result<void> Validated(const mm::Machine& machine, const std::string& where) {
  const std::optional<std::string> broken = mm::Validate(machine, mm::Depth::kDeep);
  if (!broken) return {};
  return base::Fail(base::Code::kExpectation, "%s: broken invariant %s", where.c_str(), broken->c_str());
}

// The workload is the one that was checkpointed, and has the label among the steps that are left.
base::Result<void> CheckResume(const RestoreCommand& command, const workload::Script& script,
                               const image::Reader& image) {
  const std::string& at = command.checkpoint.at;
  TRY_VOID(CheckLabel(script, at));
  const size_t done = TRY(workload::Executor::ResumesAt(script, image.workload_state()));
  const auto names = [&](const workload::ScriptStep& step) { return step.step->checkpoint().label() == at; };
  if (at == workload::kEndLabel || std::ranges::any_of(script.steps() | std::views::drop(done), names)) {
    return {};
  }
  return base::Fail(base::Code::kInvalid,
                    "checkpoint '%s' lies behind the one that '%s' holds: it is not reached",
                    base::Printable(at).c_str(), base::Printable(image::InputName(command.image)).c_str());
}

// What can be refused before anything is built or printed is refused here. The workload to resume, if there
// is one; --at becomes the label to write.
base::Result<std::optional<workload::Script>> CheckCommand(RestoreCommand& command,
                                                           const image::Reader& image) {
  CheckpointWriter::Settings& checkpoint = command.checkpoint;
  std::optional<workload::Script> script;
  if (command.resume.empty()) {
    checkpoint.at = image.machine().label();
  } else {
    if (checkpoint.at.empty()) checkpoint.at = workload::kEndLabel;
    script = TRY(LoadWorkload(command.resume, "--resume names the workload that the image was made from"));
    TRY_VOID(CheckResume(command, *script, image));
  }
  std::vector<UsedFile> used = {{command.image, "the image itself"}, {command.resume, "the workload itself"}};
  if (!checkpoint.output.empty()) {
    TRY_VOID(CheckOutput(checkpoint.output, {checkpoint.at}, command.resume, checkpoint.image.parent));
    TRY_VOID(LeaveStandardOutput(checkpoint, used));
    const std::string path = ImagePaths(checkpoint.output, {checkpoint.at}).front();
    if (path != image::kStandardStream) used.push_back({path, "the image of -o"});
  }
  if (script) TRY_VOID(command.cpus.Prepare(*script, std::move(used)));
  return script;
}

// From here on a child of the image needs only what is written: the memory is what the image holds.
void Track(RestoredImage& restored) {
  const image::Reader& image = *restored.image;
  if (restored.report.dropped > 0 || image.machine().scope() == ckpt_pb::Machine::MACHINE) return;
  mm::clear_soft_dirty(*restored.machine);
  for (const ckpt_pb::Process& process : image.processes().process())
    restored.machine->find_process(process.pid())->mm->tracked_objref = process.mm_objref();
  restored.machine->tracked_by = image.digest();
}

// The rest of the workload, from the checkpoint on. `machine` is what it leaves.
base::Result<void> Resume(RestoreCommand& command, const workload::Script& script, RestoredImage& restored,
                          CheckpointWriter& writer, uint64_t& steps) {
  RunProgress progress("resume", script);
  workload::Options options = progress.Options(command.memory.disk_dir);
  command.cpus.Apply(options);
  options.after_step = [&](mm::Machine&, const std::string&) -> base::Result<void> {
    ++steps;
    return {};
  };
  options.at_rest = [&](mm::Machine& machine, const std::string& where) -> base::Result<void> {
    return command.validate ? Validated(machine, where) : base::Result<void>{};
  };
  const auto executor = TRY(workload::Executor::Resume(script, std::move(restored.machine),
                                                       restored.image->workload_state(), std::move(options)));
  progress.Watch(*executor);
  TRY_VOID(command.cpus.Keep(*executor, executor->Run(std::ref(writer))));
  restored.machine = executor->TakeMachine();
  return {};
}

base::Result<void> RestoreIt(RestoreCommand& command) {
  std::unique_ptr<image::Reader> image = TRY(OpenImage(command.image));
  const std::optional<workload::Script> script = TRY(CheckCommand(command, *image));
  RestoredImage restored = TRY(RestoreImage(std::move(image), command.memory));
  for (const std::string& notice : restored.report.notices) PrintNotice(notice);
  if (command.validate) TRY_VOID(Validated(*restored.machine, "restore"));
  const bool talk = !command.checkpoint.json && !command.checkpoint.quiet && !command.text_dump;
  if (talk) {
    PrintText(base::Format(
        "%s: %s, %s restored", base::Printable(image::InputName(command.image)).c_str(),
        Count(static_cast<uint64_t>(restored.image->processes().process_size()), "process", "processes")
            .c_str(),
        Count(restored.report.pages, "page").c_str()));
    if (restored.report.dropped > 0) {
      PrintText(base::Format(", %llu dropped past the end of their files",
                             static_cast<unsigned long long>(restored.report.dropped)));
    }
    PrintText("\n");
  }
  if (command.checkpoint.image.track || !command.checkpoint.image.parent.empty()) Track(restored);
  CheckpointWriter writer(command.checkpoint);
  uint64_t steps = 0;
  if (script) {
    TRY_VOID(Resume(command, *script, restored, writer, steps));
    if (talk) {
      PrintText(base::Format("%s: %s resumed, as expected\n", base::Printable(command.resume).c_str(),
                             Count(steps, "step").c_str()));
    }
  } else if (!command.checkpoint.output.empty()) {
    workload::CheckpointRequest request;
    request.label = restored.image->machine().label();
    request.state = restored.image->workload_state();
    TRY(writer(*restored.machine, request));
  }
  if (command.text_dump) PrintText(mm::TextDump(*restored.machine));
  if (command.checkpoint.json) {
    nlohmann::ordered_json notices = restored.report.notices;
    PrintJson({{"image", command.image},
               {"digest", restored.image->digest()},
               {"pages", restored.report.pages},
               {"dropped", restored.report.dropped},
               {"notices", notices},
               {"resumed_steps", steps},
               {"checkpoints", writer.json()}});
  }
  return {};
}

int Restore(RestoreCommand& command) {
  if (command.resume.empty() && !command.checkpoint.at.empty()) {
    return PrintError(
        {base::Code::kInvalid, "--at names a label of the workload that --resume goes on with: give both"});
  }
  if (command.resume.empty() && command.cpus.given()) {
    return PrintError(
        {base::Code::kInvalid,
         "--cpus, --seed, --schedule and --save-schedule say how the workload that --resume goes "
         "on with runs: give both"});
  }
  const base::Result<void> done = RestoreIt(command);
  if (done) return kExitGood;
  const int code = PrintError(done.error());
  command.cpus.ShowFailed();
  return code;
}

}  // namespace

void AddRestore(const Command& ckpt) {
  auto command = std::make_shared<RestoreCommand>();
  const Command restore =
      ckpt.Add("restore", "Rebuild the memory of an image, and run the rest of its workload");
  restore.Required("IMAGE", command->image, "The image; - is standard input");
  restore.Text("--resume", command->resume, "Run the rest of this workload from the restored memory");
  restore.Text("-o,--output", command->checkpoint.output,
               "Write an image of the memory at the end, or at --at; - for standard output");
  restore.Text("--at", command->checkpoint.at, "With --resume: stop at this label");
  restore.Text("--disk", command->memory.disk_dir, "The folder that holds the files of the image");
  restore.Flag("--accept-changed", command->memory.accept_changed,
               "Use files that are not the recorded ones");
  restore.Flag("--drop-past-eof", command->memory.drop_past_eof,
               "Drop modified pages past the end of their file");
  AddImageOptions(restore, command->checkpoint.image);
  command->cpus.AddTo(restore);
  restore.Flag("--validate", command->validate, "Check every invariant of the model");
  restore.Flag("--text-dump", command->text_dump, "Print the machine as text at the end");
  restore.Flag("--json", command->checkpoint.json, "Print JSON");
  restore.Excludes("--json", "--text-dump");
  restore.Flag("-q,--quiet", command->checkpoint.quiet, "Print errors only");
  restore.Does([command] { return Restore(*command); });
}

}  // namespace cli
