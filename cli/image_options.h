// The options of the commands that write an image: --scope, --compress, --every-page, --threads, --no-sync,
// and
// --parent, --parents and --track of those that can write a child.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "proto/pipeline.h"
#include "proto/writer.h"

namespace cli {

struct ImageOptions {
  std::string scope = "process";
  std::string compress = "zstd:1";
  bool every_page = false;
  unsigned threads = 0;
  bool no_sync = false;
  std::string parent;
  bool track = false;
};

// --compress, --every-page, --threads and --no-sync.
void AddWriteOptions(const Command& command, ImageOptions& options);
// All of them.
void AddImageOptions(const Command& command, ImageOptions& options);

// "none", "zstd", "zstd:LEVEL" or "auto" into `options`.
base::Result<void> ParseCompression(const std::string& text, image::WriteOptions& options);
// Requires: --compress was checked, as the options above do.
image::WriteOptions WriteOptionsOf(const ImageOptions& options);

}  // namespace cli
