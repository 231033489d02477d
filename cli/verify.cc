// ckpt verify IMAGE...: every byte of each image.
#include "proto/verify.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/units.h"
#include "cli/command.h"
#include "cli/memory.h"
#include "cli/print.h"
#include "proto/file.h"

namespace cli {
namespace {

struct VerifyCommand {
  std::vector<std::string> images;
  bool json = false;
  bool quiet = false;
};

int ExitOf(base::Code code) {
  return code == base::Code::kCorrupt || code == base::Code::kIncomplete ? kExitNo : kExitTrouble;
}

int Verify(const VerifyCommand& command) {
  int worst = kExitGood;
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  if (const auto inputs = CheckInputs(command.images); !inputs) return PrintError(inputs.error());
  for (const std::string& path : command.images) {
    const std::string name = base::Printable(image::InputName(path));
    std::error_code unknown;
    const uintmax_t bytes = path == image::kStandardStream ? 0 : std::filesystem::file_size(path, unknown);
    Progress progress("verify '" + name + "'", unknown ? 0 : bytes);
    image::VerifyOptions options;
    options.stop = &g_stop;
    options.progress = [&](uint64_t done) { progress.Update(done); };
    const base::Result<image::VerifyReport> report = image::Verify(path, options);
    if (!report) {
      worst = std::max(worst, ExitOf(report.error().code));
      const base::Error error = SayIfWorkload(path, report.error());
      PrintError(error);
      results.push_back({{"image", path}, {"good", false}, {"error", error.what}});
      if (report.error().code == base::Code::kInterrupted) break;
      continue;
    }
    results.push_back({{"image", path},
                       {"good", true},
                       {"digest", report->digest},
                       {"bytes", report->bytes},
                       {"chunks", report->chunks},
                       {"stored_pages", report->stored_pages}});
    if (command.json || command.quiet) continue;
    PrintText(base::Format("%s: good, %s in %s, digest %s\n", name.c_str(),
                           Count(report->stored_pages, "page").c_str(),
                           base::FormatSize(report->bytes).c_str(), report->digest.c_str()));
  }
  if (command.json) PrintJson(results);
  return worst;
}

}  // namespace

void AddVerify(const Command& ckpt) {
  auto command = std::make_shared<VerifyCommand>();
  const Command verify = ckpt.Add("verify", "Check every byte of images (1: damaged, 2: unreadable)");
  verify.Required("IMAGE", command->images, "The images; - is standard input");
  verify.Flag("--json", command->json, "Print the results as JSON");
  verify.Flag("-q,--quiet", command->quiet, "Say nothing of images that are good");
  verify.Does([command] { return Verify(*command); });
}

}  // namespace cli
