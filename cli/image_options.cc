#include "cli/image_options.h"

#include <charconv>

#include "base/check.h"
#include "cli/print.h"

namespace cli {

using base::Code;
using base::Fail;

base::Result<void> ParseCompression(const std::string& text, image::WriteOptions& options) {
  constexpr std::string_view kZstd = "zstd";
  if (text == "none" || text == "auto") {
    options.compression = text == "none" ? image::Compression::kNone : image::Compression::kAuto;
    return {};
  }
  options.compression = image::Compression::kZstd;
  if (text == kZstd) return {};
  if (!text.starts_with("zstd:")) return Fail(Code::kInvalid, "expected none, zstd, zstd:LEVEL or auto");
  const char* begin = text.data() + kZstd.size() + 1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, options.level);
  if (error == std::errc() && stop == end && options.level >= image::kLevelMin &&
      options.level <= image::kLevelMax) {
    return {};
  }
  return Fail(Code::kInvalid, "the level is a whole number from %d to %d", image::kLevelMin,
              image::kLevelMax);
}

void AddWriteOptions(const Command& command, ImageOptions& options) {
  const auto parse = [](const std::string& text) {
    image::WriteOptions parsed;
    return ParseCompression(text, parsed);
  };
  command.Parsed("--compress", "HOW [zstd:1]", options.compress, parse,
                 "none (to be mapped), zstd:LEVEL (1 to 19), or auto (as hard as the disk waits)");
  command.Flag("--every-page", options.every_page, "Store zero-filled and repeated pages too");
  command.Number("--threads", options.threads, 0, image::kThreadsMax,
                 "Threads that compress (0: one for each core); the image is the same");
  command.Flag("--no-sync", options.no_sync, "Do not wait for the disk: for benchmarks");
}

void AddImageOptions(const Command& command, ImageOptions& options) {
  command.Choice("--scope", options.scope, {"process", "machine"},
                 "What -o saves: process (what processes changed) or machine (a whole guest)");
  AddWriteOptions(command, options);
  command.Text("--parent", options.parent, "Store only what changed since this image");
  command.Flag("--track", options.track,
               "Watch writes: each image is the parent of the next one, and stores what was written since");
}

image::WriteOptions WriteOptionsOf(const ImageOptions& options) {
  image::WriteOptions write;
  CHECK(ParseCompression(options.compress, write));
  write.every_page = options.every_page;
  write.threads = options.threads;
  write.sync = options.no_sync ? image::Sync::kNo : image::Sync::kYes;
  write.stop = &g_stop;
  return write;
}

}  // namespace cli
