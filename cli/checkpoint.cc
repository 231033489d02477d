#include "cli/checkpoint.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

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
  // A workload has no such label; an image may say anything.
  return path == image::kStandardStream && output != path ? "./" + path : path;
}

bool SameFile(const struct stat& a, const struct stat& b) {
  return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

// The file that a name of the command line leads to.
bool Find(const std::string& path, struct stat& status) {
  return path == image::kStandardStream ? fstat(STDIN_FILENO, &status) == 0
                                        : stat(path.c_str(), &status) == 0;
}

// The same file, or the same place where there is none yet.
bool SamePlace(const std::string& one, const std::string& other) {
  struct stat a = {};
  struct stat b = {};
  const bool a_exists = stat(one.c_str(), &a) == 0;
  const bool b_exists = Find(other, b);
  if (a_exists || b_exists) return a_exists && b_exists && SameFile(a, b);
  const auto place = [](const std::string& path) {
    std::error_code unknown;
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path, unknown), unknown);
  };
  return !place(one).empty() && place(one) == place(other);
}

// The rename would take the place of a file that is in use: its name, for an error; empty if there is none.
std::string Replaces(const std::string& path, const std::vector<UsedFile>& used) {
  for (const UsedFile& file : used) {
    if (!file.path.empty() && SamePlace(path, file.path)) return file.what;
  }
  struct stat there = {};
  struct stat open = {};
  if (stat(path.c_str(), &there) != 0 || !S_ISREG(there.st_mode)) return "";
  if (fstat(STDOUT_FILENO, &open) == 0 && SameFile(there, open)) return "where standard output goes";
  if (fstat(STDERR_FILENO, &open) == 0 && SameFile(there, open)) return "where standard error goes";
  return "";
}

}  // namespace

base::Result<void> CheckPlace(const std::string& option, const std::string& path,
                              const std::vector<UsedFile>& used) {
  if (const std::string what = Replaces(path, used); !what.empty()) {
    return base::Fail(base::Code::kInvalid, "%s '%s' is %s: name another file", option.c_str(),
                      base::Printable(path).c_str(), what.c_str());
  }
  return image::OutputFile::Check(path);
}

std::vector<std::string> ImagePaths(const std::string& output, const std::vector<std::string>& labels) {
  std::vector<std::string> paths;
  for (const std::string& label : labels) paths.push_back(PathFor(output, label));
  return paths;
}

base::Result<void> CheckOutput(const std::string& output, const std::vector<std::string>& labels,
                               const std::string& workload, const std::string& parent) {
  if (output == image::kStandardStream) return image::OutputFile::CheckStandardOutput();
  for (const std::string& path : ImagePaths(output, labels)) {
    TRY_VOID(CheckPlace("-o", path, {{workload, "the workload itself"}, {parent, "the parent itself"}}));
  }
  return {};
}

base::Result<void> LeaveStandardOutput(const CheckpointWriter::Settings& settings,
                                       const std::vector<UsedFile>& read) {
  if (settings.output != image::kStandardStream) return {};
  if (settings.json) {
    return base::Fail(
        base::Code::kInvalid,
        "-o - writes the image to standard output, and --json prints there: leave one of them out");
  }
  struct stat out = {};
  struct stat in = {};
  for (const UsedFile& file : read) {
    if (fstat(STDOUT_FILENO, &out) != 0 || !S_ISREG(out.st_mode) || !Find(file.path, in)) continue;
    if (!SameFile(in, out)) continue;
    return base::Fail(base::Code::kInvalid, "-o -: standard output goes to %s: send it to another file",
                      file.what.c_str());
  }
  PrintTo(stderr);
  return {};
}

namespace {

constexpr const char* kKnown[] = {"", "tracking", "content"};

}  // namespace

base::Result<nlohmann::ordered_json> CheckpointWriter::Write(mm::Machine& machine,
                                                             const workload::CheckpointRequest& request,
                                                             const std::string& path) {
  const auto scope =
      settings_.image.scope == "machine" ? ckpt_pb::Machine::MACHINE : ckpt_pb::Machine::PROCESS;
  ckpt::ModelSource source(machine, {.pids = request.pids, .label = request.label, .scope = scope});
  Progress progress("checkpoint " + request.label, 0);
  ckpt::DumpOptions options;
  options.write = WriteOptionsOf(settings_.image);
  options.write.progress = [&](uint64_t pages) { progress.Update(pages); };
  options.workload_state = request.state;
  options.parent = settings_.image.parent;
  options.track = settings_.image.track;
  const ckpt::DumpReport report = TRY(ckpt::Dump(source, path, options));
  if (!settings_.json && !settings_.quiet) {
    PrintText(
        base::Format("checkpoint '%s' -> %s\n", base::Printable(request.label).c_str(),
                     path == image::kStandardStream ? "standard output" : base::Printable(path).c_str()) +
        Table(TotalsRows(report.totals, report.image.bytes)) + "digest          " + report.image.digest +
        "\n");
  }
  nlohmann::ordered_json json = {{"label", request.label},
                                 {"image", path},
                                 {"digest", report.image.digest},
                                 {"bytes", report.image.bytes},
                                 {"totals", TotalsJson(report.totals)}};
  if (!options.parent.empty()) {
    json["parent"] = options.parent;
    json["known_by"] = kKnown[static_cast<size_t>(report.known)];
  }
  if (settings_.image.track) settings_.image.parent = path;
  return json;
}

base::Result<workload::Next> CheckpointWriter::operator()(mm::Machine& machine,
                                                          const workload::CheckpointRequest& request) {
  const bool end = request.label == workload::kEndLabel;
  const bool wanted = settings_.at.empty() ? !end : request.label == settings_.at;
  if (!wanted) return workload::Next::kGoOn;
  if (!settings_.output.empty()) {
    json_.push_back(TRY(Write(machine, request, PathFor(settings_.output, request.label))));
  }
  return settings_.at.empty() ? workload::Next::kGoOn : workload::Next::kStop;
}

}  // namespace cli
