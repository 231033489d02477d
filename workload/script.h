// Script: a workload file (proto/workload.proto in text format), read and checked.
//
// What Load answers has been checked as far as that is possible without running it: every field is
// known and of its type, every size can be read, and every process, file, region and label that a
// step names exists at that step, if the steps before it end as they say they do.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "proto/workload.pb.h"

namespace workload {

// Caps on what a file may ask for.
inline constexpr uint64_t kScriptBytesMax = uint64_t{16} << 20;
inline constexpr uint64_t kSizeMax = uint64_t{1} << 47;   // any size, offset or address
inline constexpr uint64_t kCountMax = uint64_t{1} << 40;  // accesses of one step
inline constexpr uint64_t kRepeatMax = 1'000'000'000;     // times
inline constexpr unsigned kRepeatDepthMax = 4;
inline constexpr uint64_t kStepsMax = 100'000;  // in the file

// The label that stands for "after the last step"; no checkpoint step can have it.
inline constexpr std::string_view kEndLabel = "end";
// The name of a workload's only process when it declares none.
inline constexpr std::string_view kDefaultProcess = "main";
// The one file that every machine has.
inline constexpr std::string_view kDevZeroName = "/dev/zero";

// A place in the file.
struct Place {
  int line = 1;    // from 1
  int column = 1;  // from 1
};

// One step and its place in the file.
struct ScriptStep {
  const ckpt_pb::Step* step = nullptr;
  Place place;
  std::optional<Place> input;    // where an exec or create names what it reads
  uint64_t number = 0;           // in reading order, from 0; seeds derive from it
  std::vector<ScriptStep> body;  // of a repeat
};

class Script {
 public:
  // Reads and checks a file. Errors are one line, "PATH:LINE:COLUMN: what was found; what was
  // expected"; without a place for a file that is missing, unreadable, a directory or too big.
  static base::Result<Script> Load(const std::string& path);
  // The same for text that is in memory; `path` is what errors name.
  static base::Result<Script> Parse(const std::string& path, std::string_view text);

  const std::string& path() const { return path_; }
  const ckpt_pb::Workload& workload() const { return *workload_; }
  const std::vector<ScriptStep>& steps() const { return steps_; }
  // Of each file of the workload, in order: where its `real` stands, or its name.
  const std::vector<Place>& file_places() const { return file_places_; }
  // The processes that exist before the first step, in order; never empty.
  const std::vector<std::string>& processes() const { return processes_; }
  // The labels of the checkpoint steps, in order.
  const std::vector<std::string>& labels() const { return labels_; }

  // A hash of the machine, files, processes and the first `step_count` steps. Comments and layout
  // of the file do not count. Requires: step_count <= steps().size().
  uint64_t HashUpTo(size_t step_count) const;

 private:
  Script() = default;

  std::string path_;
  std::unique_ptr<ckpt_pb::Workload> workload_;
  std::vector<ScriptStep> steps_;
  std::vector<Place> file_places_;
  std::vector<std::string> processes_;
  std::vector<std::string> labels_;
};

// The name of a step's op as it is written: "store".
std::string OpName(const ckpt_pb::Step& step);

// A size field of a checked script; `absent` if it is not set.
uint64_t SizeOr(const std::string& text, uint64_t absent);

}  // namespace workload
