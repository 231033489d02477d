// Writing the images of a run: what run and restore --resume share.
#pragma once

#include <string>
#include <vector>

#include "ckpt/dump.h"
#include "cli/command.h"
#include "cli/print.h"
#include "workload/executor.h"

namespace cli {

class CheckpointWriter {
 public:
  struct Settings {
    std::string output;  // -o; "{label}" stands for the label; empty: no image is written
    std::string at;      // the only label to write, and to stop at; empty: all
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
  Settings settings_;
  nlohmann::ordered_json json_ = nlohmann::ordered_json::array();
};

// Looks at the places of the images of `labels` before anything runs, and leaves nothing there: kInvalid for
// the workload itself (empty: there is none) and for a file that standard output or standard error goes to,
// otherwise what writing the image would say.
base::Result<void> CheckOutput(const std::string& output, const std::vector<std::string>& labels,
                               const std::string& workload);

// One image of `machine`; the report is printed and returned as JSON.
base::Result<nlohmann::ordered_json> WriteCheckpoint(mm::Machine& machine,
                                                     const workload::CheckpointRequest& request,
                                                     const std::string& path,
                                                     const CheckpointWriter::Settings& settings);

}  // namespace cli
