// ckpt merge IMAGE... -o FULL: one image of a chain.
#include "proto/merge.h"

#include <memory>

#include "base/units.h"
#include "cli/checkpoint.h"
#include "cli/command.h"
#include "cli/image_options.h"
#include "cli/memory.h"
#include "cli/print.h"
#include "proto/chain.h"

namespace cli {
namespace {

struct MergeCommand {
  std::vector<std::string> images;
  std::string output;
  ImageOptions image;
  bool json = false;
  bool quiet = false;
};

// Each image that was named belongs to the chain of the last one.
base::Result<void> CheckNamed(const MergeCommand& command, const image::Reader& top) {
  for (const std::string& name : command.images) {
    const auto image = TRY(OpenImage(name, {.parents = image::Parents::kLeave}));
    bool found = image->digest() == top.digest();
    if (top.chain() != nullptr) {
      for (const image::Link& link : top.chain()->links()) found = found || link.digest == image->digest();
    }
    if (found) continue;
    return base::Fail(base::Code::kInvalid,
                      "'%s' is no ancestor of '%s': name one chain, its last image last",
                      base::Printable(name).c_str(), base::Printable(top.path()).c_str());
  }
  return {};
}

base::Result<void> MergeIt(const MergeCommand& command) {
  image::OpenOptions open;
  open.also.assign(command.images.begin(), command.images.end() - 1);
  const auto top = TRY(OpenImage(command.images.back(), open));
  TRY_VOID(CheckNamed(command, *top));
  std::vector<UsedFile> used = {{top->path(), "an image of the chain"}};
  const size_t links = top->chain() == nullptr ? 1 : top->chain()->links().size();
  for (size_t i = 0; i + 1 < links; ++i)
    used.push_back({top->chain()->links()[i].path, "an image of the chain"});
  TRY_VOID(CheckPlace("-o", command.output, used));
  Progress progress("merge '" + base::Printable(top->path()) + "'", 0);
  image::WriteOptions options = WriteOptionsOf(command.image);
  options.progress = [&](uint64_t pages) { progress.Update(pages); };
  const image::Summary summary = TRY(image::Merge(*top, command.output, options));
  if (command.json) {
    PrintJson({{"image", command.output},
               {"merged", links},
               {"digest", summary.digest},
               {"bytes", summary.bytes},
               {"totals", TotalsJson(summary.totals)}});
  } else if (!command.quiet) {
    PrintText(base::Format("%s -> %s: %s in %s, digest %s\n", Count(links, "image").c_str(),
                           base::Printable(command.output).c_str(),
                           Count(summary.stored_pages, "page").c_str(),
                           base::FormatSize(summary.bytes).c_str(), summary.digest.c_str()));
  }
  return {};
}

int Merge(const MergeCommand& command) {
  const base::Result<void> done = MergeIt(command);
  return done ? kExitGood : PrintError(done.error());
}

}  // namespace

void AddMerge(const Command& ckpt) {
  auto command = std::make_shared<MergeCommand>();
  const Command merge = ckpt.Add("merge", "Make one image of a chain of images");
  merge.Required("IMAGE", command->images,
                 "The last image of the chain; others of it, if they moved, before it");
  merge.Required("-o,--output", command->output, "The image that stands alone");
  AddWriteOptions(merge, command->image);
  merge.Flag("--json", command->json, "Print the result as JSON");
  merge.Flag("-q,--quiet", command->quiet, "Print errors only");
  merge.Does([command] { return Merge(*command); });
}

}  // namespace cli
