#include "cli/chain.h"

#include <ctime>

#include "base/units.h"
#include "proto/chain.h"

namespace cli {
namespace {

// In the time zone of the one who looks.
std::string When(int64_t mtime_ns) {
  const std::time_t seconds = mtime_ns / 1'000'000'000;
  std::tm parts = {};
  char text[32] = "";
  if (localtime_r(&seconds, &parts) != nullptr) std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

}  // namespace

void PrintChain(const image::Reader& image) {
  const auto chain = image::Chain::Open(image, {});
  if (!chain) {
    PrintNotice(chain.error().what);
    return;
  }
  PrintText(Count((*chain)->links().size(), "image") + " in its chain:\n");
  for (const image::Link& link : (*chain)->links()) {
    PrintText(base::Format("  %s %10llu pages %10s  '%s' %s\n", When(link.file->mtime_ns()).c_str(),
                           static_cast<unsigned long long>(link.totals.stored()),
                           base::FormatSize(link.file->size()).c_str(), base::Printable(link.label).c_str(),
                           base::Printable(link.path).c_str()));
  }
  PrintText("\n");
}

nlohmann::ordered_json ChainJson(const image::Reader& image) {
  const auto chain = image::Chain::Open(image, {});
  if (!chain) return {{"error", chain.error().what}};
  nlohmann::ordered_json links = nlohmann::ordered_json::array();
  for (const image::Link& link : (*chain)->links()) {
    links.push_back({{"image", link.path},
                     {"digest", link.digest},
                     {"label", link.label},
                     {"mtime_ns", link.file->mtime_ns()},
                     {"bytes", link.file->size()},
                     {"stored", link.totals.stored()},
                     {"in_parent", link.totals.in_parent()}});
  }
  return links;
}

}  // namespace cli
