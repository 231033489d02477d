// Dump: source to image. Reading, compressing and writing overlap on all cores, and the image is
// the same bytes however many there are.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "ckpt/source.h"
#include "proto/writer.h"

namespace ckpt {

struct DumpOptions {
  image::WriteOptions write;      // but for its parent
  std::string parent;             // the image that this one is a child of; empty: none
  std::vector<std::string> also;  // where its ancestors are looked for, too
  bool track = false;             // Track writes from this image on, for a child of it.
  std::string workload_state;     // opaque, for restore --resume; empty: none
};

struct DumpReport {
  ckpt_pb::Totals totals;
  image::Summary image;
  // How it was known which pages are in the parent.
  enum class Known { kNoParent, kByTracking, kByContent } known = Known::kNoParent;
};

// Prepares the source and writes the image to `path`: the old file or the new one, never half of
// one. On failure the old file is as it was, nothing else is left, and writes are no longer tracked. To "-",
// standard output, it goes as it is made, and what has arrived before a failure is an image without its end.
//
// A child stores what was written since its parent: by tracking where that is armed for this very parent,
// otherwise what has other contents. kChanged, kNotFound: of the parent or an ancestor (proto/chain.h).
base::Result<DumpReport> Dump(MemorySource& source, const std::string& path, const DumpOptions& options);

}  // namespace ckpt
