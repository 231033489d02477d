// Dump: source to image. Reading, compressing and writing overlap on all cores, and the image is
// the same bytes however many there are.
#pragma once

#include <string>

#include "base/error.h"
#include "ckpt/source.h"
#include "proto/writer.h"

namespace ckpt {

struct DumpOptions {
  image::WriteOptions write;
  std::string workload_state;  // opaque, for restore --resume; empty: none
};

struct DumpReport {
  ckpt_pb::Totals totals;
  image::Summary image;
};

// Prepares the source and writes the image to `path`: the old file or the new one, never half of
// one. On failure the old file is as it was and nothing else is left.
base::Result<DumpReport> Dump(MemorySource& source, const std::string& path, const DumpOptions& options);

}  // namespace ckpt
