// ckpt show IMAGE: what an image holds. The page data is not read.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <memory>

#include "base/units.h"
#include "cli/chain.h"
#include "cli/checkpoint.h"
#include "cli/command.h"
#include "cli/image_map.h"
#include "cli/memory.h"
#include "cli/print.h"
#include "proto/reader.h"

namespace cli {
namespace {

using base::Format;
using nlohmann::ordered_json;

struct ShowCommand {
  std::string image;
  bool vmas = false;
  bool files = false;
  bool pages = false;
  bool json = false;
  std::string map;  // "-": as text
};

constexpr const char* kVmaKinds[] = {"anonymous", "private file", "shared anonymous", "shared file", "vdso"};
constexpr const char* kFileKinds[] = {"regular", "shmem", "dev_zero"};
constexpr const char* kRecipeKinds[] = {"empty", "generated", "real", "folder"};
constexpr const char* kOwners[] = {"mm", "shmem", "disk", "frame", "slot"};
constexpr const char* kRunKinds[] = {"stored", "same", "zero", "copy"};

unsigned long long Big(uint64_t value) { return value; }

bool IsGuest(const image::Reader& image) { return image.machine().scope() == ckpt_pb::Machine::MACHINE; }

// Stored pages of each mm and object, counted over the index.
base::Result<std::map<uint32_t, uint64_t>> PagesByOwner(const image::Reader& image) {
  std::map<uint32_t, uint64_t> pages;
  TRY_VOID(image.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    for (const ckpt_pb::PageRun& run : chunk.run()) pages[run.objref()] += run.count();
    return {};
  }));
  return pages;
}

ordered_json RecipeJson(const ckpt_pb::Recipe& recipe) {
  ordered_json json = {{"kind", kRecipeKinds[recipe.kind()]}, {"size", recipe.size()}};
  if (recipe.kind() == ckpt_pb::Recipe::GENERATED) {
    json["generator"] = recipe.generator();
    json["seed"] = recipe.seed();
  }
  if (recipe.kind() == ckpt_pb::Recipe::REAL || recipe.kind() == ckpt_pb::Recipe::FOLDER) {
    json["path"] = recipe.path();
    json["device"] = recipe.device();
    json["inode"] = recipe.inode();
    json["mtime_ns"] = recipe.mtime_ns();
    std::string build_id;
    for (const char c : recipe.build_id()) build_id += Format("%02x", static_cast<unsigned char>(c));
    json["build_id"] = build_id;
  }
  return json;
}

ordered_json SmapsJson(const ckpt_pb::Smaps& smaps) {
  return {{"rss", smaps.rss()},
          {"pss_bytes", smaps.pss_bytes()},
          {"shared_clean", smaps.shared_clean()},
          {"shared_dirty", smaps.shared_dirty()},
          {"private_clean", smaps.private_clean()},
          {"private_dirty", smaps.private_dirty()},
          {"referenced", smaps.referenced()},
          {"anonymous", smaps.anonymous()},
          {"swap", smaps.swap()},
          {"swap_pss_bytes", smaps.swap_pss_bytes()},
          {"locked_pss_bytes", smaps.locked_pss_bytes()}};
}

ordered_json VmaJson(const image::Reader& image, const ckpt_pb::Vma& vma) {
  ordered_json json = {{"start", vma.start()},        {"end", vma.end()},
                       {"perms", Perms(vma.flags())}, {"flags", vma.flags()},
                       {"pgoff", vma.pgoff()},        {"kind", kVmaKinds[vma.kind()]},
                       {"file", vma.file_objref()},   {"name", VmaFileName(image, vma)}};
  if (vma.has_smaps()) json["smaps"] = SmapsJson(vma.smaps());
  return json;
}

base::Result<ordered_json> ImageJson(const image::Reader& image, const ShowCommand& command) {
  const ckpt_pb::Machine& machine = image.machine();
  ordered_json json = {{"image", image.path()},
                       {"version", image.version()},
                       {"digest", image.digest()},
                       {"bytes", image.file_bytes()},
                       {"scope", IsGuest(image) ? "machine" : "process"},
                       {"label", machine.label()},
                       {"memory_bytes", machine.memory_bytes()},
                       {"swap_bytes", machine.swap_bytes()},
                       {"host_bytes", machine.host_bytes()},
                       {"semantics", ordered_json::array()},
                       {"totals", TotalsJson(image.totals())},
                       {"processes", ordered_json::array()}};
  for (const std::string& changed : machine.semantics()) json["semantics"].push_back(changed);
  if (image.metadata().is_child()) json["chain"] = ChainJson(image);
  for (const ckpt_pb::Process& process : image.processes().process()) {
    json["processes"].push_back({{"pid", process.pid()},
                                 {"ppid", process.ppid()},
                                 {"name", process.name()},
                                 {"mm", process.mm_objref()}});
  }
  const std::map<uint32_t, uint64_t> pages = TRY(PagesByOwner(image));
  json["mms"] = ordered_json::array();
  for (const ckpt_pb::Mm& mm : image.processes().mm()) {
    ordered_json entry = {{"objref", mm.objref()},
                          {"vma_count", mm.map_count()},
                          {"pages", pages.contains(mm.objref()) ? pages.at(mm.objref()) : 0},
                          {"brk", mm.brk()}};
    if (command.vmas) {
      entry["vmas"] = ordered_json::array();
      for (const ckpt_pb::Vma& vma : image.vmas(mm.objref()).vma())
        entry["vmas"].push_back(VmaJson(image, vma));
    }
    json["mms"].push_back(std::move(entry));
  }
  json["files"] = ordered_json::array();
  for (const ckpt_pb::File& file : image.files().file()) {
    json["files"].push_back({{"objref", file.objref()},
                             {"name", file.name()},
                             {"kind", kFileKinds[file.kind()]},
                             {"size", file.size()},
                             {"deleted", file.deleted()},
                             {"pages", pages.contains(file.objref()) ? pages.at(file.objref()) : 0},
                             {"recipe", RecipeJson(file.recipe())}});
  }
  if (!command.pages) return json;
  json["runs"] = ordered_json::array();
  TRY_VOID(image.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    for (const ckpt_pb::PageRun& run : chunk.run()) {
      json["runs"].push_back({{"owner", kOwners[run.owner()]},
                              {"objref", run.objref()},
                              {"first", run.first()},
                              {"count", run.count()},
                              {"kind", kRunKinds[run.kind()]},
                              {"stored", run.stored()}});
    }
    return {};
  }));
  return json;
}

// The fields of /proc/PID/smaps under its names, in kB as there.
void PrintSmaps(const ckpt_pb::Smaps& smaps) {
  constexpr uint64_t kPageKb = base::kPageSize / 1024;
  struct Field {
    const char* name;
    uint64_t kb;
  };
  const Field rows[][3] = {
      {{"Rss:", smaps.rss() * kPageKb},
       {"Shared_Clean:", smaps.shared_clean() * kPageKb},
       {"Private_Clean:", smaps.private_clean() * kPageKb}},
      {{"Pss:", smaps.pss_bytes() / 1024},
       {"Shared_Dirty:", smaps.shared_dirty() * kPageKb},
       {"Private_Dirty:", smaps.private_dirty() * kPageKb}},
      {{"Swap:", smaps.swap() * kPageKb},
       {"Anonymous:", smaps.anonymous() * kPageKb},
       {"Referenced:", smaps.referenced() * kPageKb}},
      {{"SwapPss:", smaps.swap_pss_bytes() / 1024}, {"Locked:", smaps.locked_pss_bytes() / 1024}, {}},
  };
  for (const auto& row : rows) {
    std::string line = "  ";
    for (const Field& field : row) {
      if (field.name != nullptr) line += Format("  %-14s%7llu kB", field.name, Big(field.kb));
    }
    PrintText(line + "\n");
  }
}

void PrintVmas(const image::Reader& image, const ckpt_pb::Mm& mm) {
  for (const ckpt_pb::Vma& vma : image.vmas(mm.objref()).vma()) {
    const std::string name = base::Printable(VmaFileName(image, vma));
    std::string line = Format("  %012llx-%012llx %s %8llu  ", Big(vma.start()), Big(vma.end()),
                              Perms(vma.flags()).c_str(), Big(vma.pgoff()));
    line += name.empty() ? std::string(kVmaKinds[vma.kind()])
                         : Format("%-16s %s", kVmaKinds[vma.kind()], name.c_str());
    PrintText(line + "\n");
    if (vma.has_smaps()) PrintSmaps(vma.smaps());
  }
}

base::Result<void> PrintImage(const image::Reader& image, const ShowCommand& command) {
  const ckpt_pb::Machine& machine = image.machine();
  PrintText(Format("%s: checkpoint '%s', digest %s\n",
                   base::Printable(image::InputName(image.path())).c_str(),
                   base::Printable(machine.label()).c_str(), image.digest().c_str()));
  const std::string swap =
      machine.swap_bytes() == 0 ? "" : ", swap of " + base::FormatSize(machine.swap_bytes());
  const std::string host =
      machine.host_bytes() == 0 ? "" : ", host of " + base::FormatSize(machine.host_bytes());
  PrintText(Format("%s of %s%s%s", IsGuest(image) ? "the whole guest, a machine" : "machine",
                   base::FormatSize(machine.memory_bytes()).c_str(), swap.c_str(), host.c_str()));
  for (const std::string& changed : machine.semantics()) PrintText(" " + base::Printable(changed));
  PrintText("\n\n" + Table(TotalsRows(image.totals(), image.file_bytes())) + "\n");
  if (image.metadata().is_child()) PrintChain(image);
  const std::map<uint32_t, uint64_t> pages = TRY(PagesByOwner(image));
  for (const ckpt_pb::Process& process : image.processes().process()) {
    PrintText(Format("process %u '%s', parent %u, mm %u\n", process.pid(),
                     base::Printable(process.name()).c_str(), process.ppid(), process.mm_objref()));
  }
  for (const ckpt_pb::Mm& mm : image.processes().mm()) {
    const uint64_t saved = pages.contains(mm.objref()) ? pages.at(mm.objref()) : 0;
    PrintText(Format("mm %u: %s%s\n", mm.objref(), Count(mm.map_count(), "vma").c_str(),
                     IsGuest(image) ? "" : (", " + Count(saved, "page")).c_str()));
    if (command.vmas) PrintVmas(image, mm);
  }
  for (const ckpt_pb::File& file : image.files().file()) {
    const bool wanted =
        command.files || file.kind() != ckpt_pb::File::REGULAR || pages.contains(file.objref());
    if (!wanted) continue;
    PrintText(Format("file %u '%s': %s%s, %s, %s, %s%s%s\n", file.objref(),
                     base::Printable(file.name()).c_str(), kFileKinds[file.kind()],
                     file.deleted() ? " (deleted)" : "", base::FormatSize(file.size()).c_str(),
                     Count(pages.contains(file.objref()) ? pages.at(file.objref()) : 0, "page").c_str(),
                     kRecipeKinds[file.recipe().kind()], file.recipe().path().empty() ? "" : " ",
                     base::Printable(file.recipe().path()).c_str()));
  }
  if (!command.pages) return {};
  return image.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    for (const ckpt_pb::PageRun& run : chunk.run()) {
      PrintText(Format("%s %u pages %#llx+%llu %s %llu\n", kOwners[run.owner()], run.objref(),
                       Big(run.first()), Big(run.count()), kRunKinds[run.kind()], Big(run.stored())));
    }
    return {};
  });
}

// As wide as the terminal is; in colours on one that has them.
base::Result<void> ShowMap(const image::Reader& image, const std::string& path) {
  if (path != "-") {
    TRY_VOID(CheckPlace("--map", path, {{image.path(), "the image itself"}}));
    return SaveText(path, MapSvg(TRY(MapOf(image))));
  }
  const bool terminal = isatty(STDOUT_FILENO) == 1;
  winsize window = {};
  unsigned columns = 80;
  if (terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col >= 40)
    columns = window.ws_col;
  PrintText(MapText(TRY(MapOf(image)), columns, terminal && std::getenv("NO_COLOR") == nullptr));
  return {};
}

int Show(const ShowCommand& command) {
  // What an image holds it says by itself; its chain is shown as far as it is there.
  const base::Result<std::unique_ptr<image::Reader>> image =
      OpenImage(command.image, {.parents = image::Parents::kLeave});
  if (!image) return PrintError(image.error());
  if (!command.map.empty()) {
    const base::Result<void> mapped = ShowMap(**image, command.map);
    return mapped ? kExitGood : PrintError(mapped.error());
  }
  if (command.json) {
    const base::Result<ordered_json> json = ImageJson(**image, command);
    if (!json) return PrintError(json.error());
    PrintJson(*json);
    return kExitGood;
  }
  const base::Result<void> printed = PrintImage(**image, command);
  return printed ? kExitGood : PrintError(printed.error());
}

}  // namespace

void AddShow(const Command& ckpt) {
  auto command = std::make_shared<ShowCommand>();
  const Command show = ckpt.Add("show", "Print what an image holds");
  show.Required("IMAGE", command->image, "The image; - is standard input");
  show.Flag("--vmas", command->vmas, "Also every vma");
  show.Flag("--files", command->files, "Also the files of which no page is stored");
  show.Flag("--pages", command->pages, "Also every run of pages");
  show.Flag("--json", command->json, "Print JSON");
  show.Text("--map", command->map, "Only a picture of the memory: an SVG file of this name, or - for text");
  for (const char* other : {"--vmas", "--files", "--pages", "--json"}) show.Excludes("--map", other);
  show.Does([command] { return Show(*command); });
}

}  // namespace cli
