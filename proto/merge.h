// Folds a chain of images into one that stands alone.
#pragma once

#include <string>

#include "base/error.h"
#include "proto/reader.h"
#include "proto/writer.h"

namespace image {

// Writes the image that `top` is with all its ancestors, which are open, to `path`: the same metadata,
// sections that this version does not know and may ignore included, and the same pages. The bytes follow from
// these and the options.
//
// Memory: what a Writer takes, the runs of `top`, and at most 256 MiB of chunks that were expanded.
base::Result<Summary> Merge(const Reader& top, const std::string& path, WriteOptions options);

}  // namespace image
