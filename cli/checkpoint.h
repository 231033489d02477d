// Writing the images of a run, and the places of what it writes: what run and restore --resume share.
#pragma once

#include <string>
#include <vector>

#include "ckpt/dump.h"
#include "cli/image_options.h"
#include "cli/print.h"
#include "workload/executor.h"

namespace cli {

class CheckpointWriter {
 public:
  struct Settings {
    std::string
        output;      // -o; "{label}" stands for the label; "-": standard output; empty: no image is written
    std::string at;  // the only label to write, and to stop at; empty: all
    ImageOptions image;
    bool json = false;
    bool quiet = false;
  };
  explicit CheckpointWriter(Settings settings) : settings_(std::move(settings)) {}

  // The executor's callback.
  base::Result<workload::Next> operator()(mm::Machine& machine, const workload::CheckpointRequest& request);

  size_t written() const { return json_.size(); }
  const nlohmann::ordered_json& json() const { return json_; }

 private:
  base::Result<nlohmann::ordered_json> Write(mm::Machine& machine, const workload::CheckpointRequest& request,
                                             const std::string& path);

  Settings settings_;
  nlohmann::ordered_json json_ = nlohmann::ordered_json::array();
};

// A file that is read or will be written, and what it is here: "the workload itself".
struct UsedFile {
  std::string path;
  std::string what;
};

// Looks at the place of a file that `option` names before anything runs, and leaves nothing there: kInvalid
// for one of `used` and for a file that standard output or standard error goes to, otherwise what writing it
// would say.
base::Result<void> CheckPlace(const std::string& option, const std::string& path,
                              const std::vector<UsedFile>& used);

// The images of `labels`, as -o names them.
std::vector<std::string> ImagePaths(const std::string& output, const std::vector<std::string>& labels);
// CheckPlace of each, against the workload and the parent too; both are empty if there is none. Or that
// standard output can take an image.
base::Result<void> CheckOutput(const std::string& output, const std::vector<std::string>& labels,
                               const std::string& workload, const std::string& parent);

// Before anything is printed: if the image goes to standard output, what the command says goes to standard
// error from now on. kInvalid with --json, and if standard output goes to a file of `read`, which the command
// reads.
base::Result<void> LeaveStandardOutput(const CheckpointWriter::Settings& settings,
                                       const std::vector<UsedFile>& read);

}  // namespace cli
