#include "cli/memory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "cli/print.h"
#include "proto/file.h"
#include "restore/model_sink.h"
#include "workload/elf_file.h"

namespace cli {

base::Result<RestoredImage> RestoreImage(std::unique_ptr<image::Reader> image, const MemoryOptions& options) {
  RestoredImage restored;
  restored.image = std::move(image);
  const std::string path = image::InputName(restored.image->path());
  const std::string where = "restore '" + base::Printable(path) + "'";
  auto sink =
      restore::ModelSink::Create(restored.image->machine(), options.disk_dir, &restored.image->guest());
  if (!sink) return std::unexpected(sink.error().In(where));
  Progress progress(where, restored.image->stored_pages());
  restore::RestoreOptions restore_options;
  restore_options.plan.accept_changed =
      options.accept_changed ? restore::AcceptChanged::kYes : restore::AcceptChanged::kNo;
  restore_options.plan.drop_past_eof =
      options.drop_past_eof ? restore::DropPastEof::kYes : restore::DropPastEof::kNo;
  restore_options.read.stop = &g_stop;
  restore_options.read.progress = [&](uint64_t pages) { progress.Update(pages); };
  restore_options.disk_dir = options.disk_dir;
  restore_options.build_id = workload::ReadBuildId;
  auto report = restore::Restore(*restored.image, **sink, restore_options);
  if (!report) {
    const bool named = report.error().what.starts_with(path);
    return std::unexpected(named ? report.error() : report.error().In(where));
  }
  restored.report = std::move(*report);
  restored.machine = (*sink)->TakeMachine();
  return restored;
}

base::Result<void> CheckLabel(const workload::Script& script, const std::string& label) {
  if (label == workload::kEndLabel || std::ranges::find(script.labels(), label) != script.labels().end())
    return {};
  std::string labels;
  for (const std::string& known : script.labels()) labels += known + ", ";
  const std::string what =
      label.empty() ? "the label is missing" : "it has no checkpoint '" + base::Printable(label) + "'";
  return base::Fail(base::Code::kInvalid, "workload '%s': %s: there are %s%s",
                    base::Printable(script.path()).c_str(), what.c_str(), labels.c_str(),
                    std::string(workload::kEndLabel).c_str());
}

workload::Options RunProgress::Options(const std::string& disk_dir) {
  return {.disk_dir = disk_dir, .stop = &g_stop, .busy = [this] {
            if (executor_ != nullptr) progress_.Update(executor_->steps_done());
          }};
}

base::Result<RunToLabel> RunWorkloadTo(const std::string& path, const std::string& label,
                                       const MemoryOptions& options) {
  const workload::Script script =
      TRY(LoadWorkload(path, "name it without '@" + base::Printable(label) + "'"));
  TRY_VOID(CheckLabel(script, label));
  RunProgress progress("run", script);
  const auto executor = TRY(workload::Executor::Start(script, progress.Options(options.disk_dir)));
  progress.Watch(*executor);
  RunToLabel run;
  TRY_VOID(executor->Run(
      [&](mm::Machine&, const workload::CheckpointRequest& request) -> base::Result<workload::Next> {
        if (request.label != label) return workload::Next::kGoOn;
        run.pids = request.pids;
        return workload::Next::kStop;
      }));
  run.machine = executor->TakeMachine();
  return run;
}

namespace {

// The workload, where an error came of a file that is one and no image. Nothing is read from a pipe.
std::optional<workload::Script> IfWorkload(const std::string& path, const base::Error& error) {
  if (error.code != base::Code::kInvalid || path == image::kStandardStream ||
      !std::filesystem::is_regular_file(path) || image::IsImageFile(path)) {
    return std::nullopt;
  }
  base::Result<workload::Script> script = workload::Script::Load(path);
  return script ? std::optional(*std::move(script)) : std::nullopt;
}

// A workload may be given without a label.
base::Result<std::unique_ptr<image::Reader>> OpenMemoryImage(const std::string& name) {
  auto image = image::Reader::Open(name, {.stop = &g_stop});
  if (image) return image;
  const std::optional<workload::Script> script = IfWorkload(name, image.error());
  if (!script) return image;
  const std::string label =
      script->labels().empty() ? std::string(workload::kEndLabel) : script->labels().front();
  return base::Fail(base::Code::kInvalid, "'%s' is a workload: name a moment of it as well, as in '%s@%s'",
                    base::Printable(name).c_str(), base::Printable(name).c_str(), label.c_str());
}

}  // namespace

base::Result<workload::Script> LoadWorkload(const std::string& path, const std::string& hint) {
  base::Result<workload::Script> script = workload::Script::Load(path);
  if (script || !image::IsImageFile(path)) return script;
  return base::Fail(base::Code::kInvalid, "'%s' is an image, and a workload is expected: %s",
                    base::Printable(path).c_str(), hint.c_str());
}

base::Result<void> CheckInputs(const std::vector<std::string>& names) {
  std::map<std::pair<dev_t, ino_t>, std::string> pipes;
  bool has_standard = false;
  for (const std::string& name : names) {
    const bool is_standard = name == image::kStandardStream;
    if (is_standard && std::exchange(has_standard, true))
      return base::Fail(base::Code::kInvalid, "standard input is named twice: it can be read once");
    struct stat status;
    if ((is_standard ? fstat(STDIN_FILENO, &status) : stat(name.c_str(), &status)) != 0) continue;
    if (!S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode)) continue;
    const auto [first, is_new] = pipes.try_emplace({status.st_dev, status.st_ino}, name);
    if (is_new) continue;
    return base::Fail(base::Code::kInvalid, "'%s' and '%s' are the same pipe: it can be read once",
                      base::Printable(first->second).c_str(), base::Printable(name).c_str());
  }
  return {};
}

base::Error SayIfWorkload(const std::string& path, const base::Error& error) {
  if (!IfWorkload(path, error)) return error;
  const std::string name = base::Printable(path);
  return {error.code,
          base::Format("%s: not a ckpt image, but a workload: 'ckpt run %s -o IMAGE' makes an image of it",
                       name.c_str(), name.c_str())};
}

base::Result<std::unique_ptr<image::Reader>> OpenImage(const std::string& path,
                                                       const image::OpenOptions& options) {
  image::OpenOptions with_stop = options;
  with_stop.stop = &g_stop;
  auto image = image::Reader::Open(path, with_stop);
  if (image) return image;
  return std::unexpected(SayIfWorkload(path, image.error()));
}

base::Result<std::unique_ptr<Memory>> Memory::Open(const std::string& name, const MemoryOptions& options) {
  auto memory = std::make_unique<Memory>();
  ckpt::ModelScope scope;
  const size_t at = name.rfind('@');
  if (name == image::kStandardStream || access(name.c_str(), F_OK) == 0 || at == std::string::npos) {
    std::unique_ptr<image::Reader> image = TRY(OpenMemoryImage(name));
    RestoredImage restored = TRY(RestoreImage(std::move(image), options));
    for (const std::string& notice : restored.report.notices) PrintNotice(notice);
    memory->machine_ = std::move(restored.machine);
  } else if (at == 0) {
    return base::Fail(base::Code::kInvalid,
                      "'%s': the workload is missing in front of '@': expected an image, or WORKLOAD@LABEL",
                      base::Printable(name).c_str());
  } else {
    RunToLabel run = TRY(RunWorkloadTo(name.substr(0, at), name.substr(at + 1), options));
    memory->machine_ = std::move(run.machine);
    scope.pids = std::move(run.pids);
  }
  memory->source_ = std::make_unique<ckpt::ModelSource>(*memory->machine_, std::move(scope));
  TRY_VOID(memory->source_->Prepare());
  return memory;
}

}  // namespace cli
