// A memory that a command line names: an image, or a workload run to a label ("FILE@LABEL").
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "ckpt/model_source.h"
#include "cli/print.h"
#include "mm/machine.h"
#include "restore/restore.h"
#include "workload/executor.h"

namespace cli {

struct MemoryOptions {
  std::string disk_dir;  // of images and workloads that keep their files in a folder
  bool accept_changed = false;
  bool drop_past_eof = false;
};

// An image restored into a machine.
struct RestoredImage {
  std::unique_ptr<image::Reader> image;
  std::unique_ptr<mm::Machine> machine;
  restore::RestoreReport report;
};
base::Result<RestoredImage> RestoreImage(std::unique_ptr<image::Reader> image, const MemoryOptions& options);

// The workload of that name. Of an image the error says so, and `hint`, which is what to do with one here.
base::Result<workload::Script> LoadWorkload(const std::string& path, const std::string& hint);

// kInvalid if two of these names lead to the same pipe, or both are "-": it can be read once.
base::Result<void> CheckInputs(const std::vector<std::string>& names);

// `error` of the file `path`, in other words where that is no image because it is a workload.
base::Error SayIfWorkload(const std::string& path, const base::Error& error);
// image::Reader::Open, with such an error.
base::Result<std::unique_ptr<image::Reader>> OpenImage(const std::string& path,
                                                       const image::OpenOptions& options = {});

// Shows how far a run of a workload is, in steps, on a terminal. Hand Options() to the executor, and then the
// executor to Watch(). Must outlive the run.
class RunProgress {
 public:
  RunProgress(const std::string& what, const workload::Script& script)
      : progress_(what + " '" + base::Printable(script.path()) + "'", script.steps().size()) {}
  workload::Options Options(const std::string& disk_dir);
  void Watch(const workload::Executor& executor) { executor_ = &executor; }

 private:
  Progress progress_;
  const workload::Executor* executor_ = nullptr;
};

// A workload run up to a label.
struct RunToLabel {
  std::unique_ptr<mm::Machine> machine;
  std::vector<mm::Pid> pids;
};
base::Result<RunToLabel> RunWorkloadTo(const std::string& path, const std::string& label,
                                       const MemoryOptions& options);

// kInvalid unless `label` is one of the script's, or "end": the message names those that there are.
base::Result<void> CheckLabel(const workload::Script& script, const std::string& label);

class Memory {
 public:
  // "-" and an existing file are an image; otherwise what stands before the last '@' is a workload. Notices
  // of a restart are printed. The error for a workload without a label says how one is named.
  static base::Result<std::unique_ptr<Memory>> Open(const std::string& name, const MemoryOptions& options);
  // Prepared.
  ckpt::MemorySource& source() { return *source_; }

 private:
  std::unique_ptr<mm::Machine> machine_;
  std::unique_ptr<ckpt::ModelSource> source_;
};

}  // namespace cli
