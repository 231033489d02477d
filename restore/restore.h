// Restore: image to sink. Files are judged first (plan.h), then the memory is built; the sink's
// memory is not to be used unless this succeeds.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "proto/reader.h"
#include "restore/plan.h"
#include "restore/sink.h"

namespace restore {

struct RestoreOptions {
  PlanOptions plan;
  image::ReadOptions read;
  std::string disk_dir;  // the folder of FOLDER recipes; empty: none was given
  // The build-id of the ELF file at a path, empty where there is none; asked where one was recorded. Not set:
  // build-ids are not compared.
  std::function<base::Result<std::string>(const std::string& path)> build_id;
};

struct RestoreReport {
  std::vector<std::string> notices;
  uint64_t pages = 0;    // placed
  uint64_t dropped = 0;  // modified pages past the end of their files
};

// What stands now at the paths of the image's files. Errors are those of build_id: that a file cannot be read
// does not say that it changed.
base::Result<std::map<uint32_t, FileFact>> GatherFacts(const ckpt_pb::Files& files,
                                                       const RestoreOptions& options);

base::Result<RestoreReport> Restore(const image::Reader& image, MemorySink& sink,
                                    const RestoreOptions& options);

}  // namespace restore
