#include "cli/checkpoint.h"

#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/model_source.h"
#include "proto/file.h"

namespace cli {
namespace {

constexpr std::string_view kLabelMark = "{label}";

std::string PathFor(const std::string& output, const std::string& label) {
  std::string path = output;
  for (size_t mark = path.find(kLabelMark); mark != std::string::npos;
       mark = path.find(kLabelMark, mark + label.size())) {
    path.replace(mark, kLabelMark.size(), label);
  }
  return path;
}

bool SameFile(const struct stat& a, const struct stat& b) {
  return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

// The rename would take the place of a file that is in use: its name, for an error; empty if there is none.
std::string Replaces(const std::string& path, const std::string& workload) {
  struct stat there = {};
  struct stat used = {};
  if (stat(path.c_str(), &there) != 0 || !S_ISREG(there.st_mode)) return "";
  if (stat(workload.c_str(), &used) == 0 && SameFile(there, used)) return "the workload itself";
  if (fstat(STDOUT_FILENO, &used) == 0 && SameFile(there, used)) return "where standard output goes";
  if (fstat(STDERR_FILENO, &used) == 0 && SameFile(there, used)) return "where standard error goes";
  return "";
}

}  // namespace

base::Result<void> CheckOutput(const std::string& output, const std::vector<std::string>& labels,
                               const std::string& workload) {
  for (const std::string& label : labels) {
    const std::string path = PathFor(output, label);
    if (const std::string used = Replaces(path, workload); !used.empty()) {
      return base::Fail(base::Code::kInvalid, "-o '%s' is %s: name another file",
                        base::Printable(path).c_str(), used.c_str());
    }
    TRY_VOID(image::OutputFile::Check(path));
  }
  return {};
}

base::Result<nlohmann::ordered_json> WriteCheckpoint(mm::Machine& machine,
                                                     const workload::CheckpointRequest& request,
                                                     const std::string& path,
                                                     const CheckpointWriter::Settings& settings) {
  ckpt::ModelSource source(machine, {.pids = request.pids, .label = request.label});
  Progress progress("checkpoint " + request.label, 0);
  ckpt::DumpOptions options;
  options.write = WriteOptionsOf(settings.image);
  options.write.progress = [&](uint64_t pages) { progress.Update(pages); };
  options.workload_state = request.state;
  const ckpt::DumpReport report = TRY(ckpt::Dump(source, path, options));
  if (!settings.json && !settings.quiet) {
    PrintText(base::Format("checkpoint '%s' -> %s\n", base::Printable(request.label).c_str(),
                           base::Printable(path).c_str()) +
              Table(TotalsRows(report.totals, report.image.bytes)) + "digest          " +
              report.image.digest + "\n");
  }
  return nlohmann::ordered_json{{"label", request.label},
                                {"image", path},
                                {"digest", report.image.digest},
                                {"bytes", report.image.bytes},
                                {"totals", TotalsJson(report.totals)}};
}

base::Result<workload::Next> CheckpointWriter::operator()(mm::Machine& machine,
                                                          const workload::CheckpointRequest& request) {
  const bool end = request.label == workload::kEndLabel;
  const bool wanted = settings_.at.empty() ? !end : request.label == settings_.at;
  if (!wanted) return workload::Next::kGoOn;
  if (!settings_.output.empty()) {
    json_.push_back(
        TRY(WriteCheckpoint(machine, request, PathFor(settings_.output, request.label), settings_)));
  }
  return settings_.at.empty() ? workload::Next::kGoOn : workload::Next::kStop;
}

}  // namespace cli
