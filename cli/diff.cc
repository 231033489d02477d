// ckpt diff A B: compares two memories.
#include "restore/diff.h"

#include <memory>

#include "base/units.h"
#include "cli/command.h"
#include "cli/memory.h"
#include "cli/print.h"

namespace cli {
namespace {

struct DiffCommand {
  std::string a;
  std::string b;
  MemoryOptions memory;
  bool json = false;
  bool quiet = false;
};

constexpr const char* kKinds[] = {"process", "layout", "vma", "content"};

nlohmann::ordered_json ReportJson(const DiffCommand& command, const restore::DiffReport& report) {
  nlohmann::ordered_json json = {{"first", command.a},
                                 {"second", command.b},
                                 {"same", report.same()},
                                 {"pages_compared", report.pages_compared},
                                 {"pages_different", report.pages_different},
                                 {"difference_count", report.difference_count},
                                 {"differences", nlohmann::ordered_json::array()}};
  for (const restore::Difference& d : report.differences) {
    json["differences"].push_back({{"kind", kKinds[static_cast<size_t>(d.kind)]},
                                   {"pid", d.pid},
                                   {"start", d.start},
                                   {"end", d.end},
                                   {"what", d.what}});
  }
  return json;
}

void PrintReport(const restore::DiffReport& report) {
  for (const restore::Difference& d : report.differences) {
    std::string line = base::Format("process %u", d.pid);
    if (d.end > d.start) {
      line += base::Format(" %#llx-%#llx", static_cast<unsigned long long>(d.start),
                           static_cast<unsigned long long>(d.end));
    }
    line += std::string(" ") + kKinds[static_cast<size_t>(d.kind)];
    if (d.kind == restore::Difference::Kind::kContent) {
      line += base::Format(", %s", Count((d.end - d.start) / base::kPageSize, "page").c_str());
    }
    PrintText(line + ": " + d.what + "\n");
  }
  if (report.difference_count > report.differences.size()) {
    PrintText(base::Format("... and %llu more\n", static_cast<unsigned long long>(
                                                      report.difference_count - report.differences.size())));
  }
  PrintText(report.same() ? base::Format("same: %s compared\n", Count(report.pages_compared, "page").c_str())
                          : base::Format("different: %llu of %s compared read differently\n",
                                         static_cast<unsigned long long>(report.pages_different),
                                         Count(report.pages_compared, "page").c_str()));
}

// A memory that cannot be had is trouble, even when a workload's expectation is why: 1 means different.
int Trouble(const base::Error& error) {
  PrintError(error);
  return kExitTrouble;
}

uint64_t PagesOf(const ckpt::MemorySource& source) {
  uint64_t pages = 0;
  for (const ckpt_pb::Mm& mm : source.processes().mm()) {
    for (const ckpt_pb::Vma& vma : source.vmas(mm.objref()).vma()) {
      pages += (vma.end() - vma.start()) / base::kPageSize;
    }
  }
  return pages;
}

int Diff(const DiffCommand& command) {
  if (const auto inputs = CheckInputs({command.a, command.b}); !inputs) return Trouble(inputs.error());
  const base::Result<std::unique_ptr<Memory>> a = Memory::Open(command.a, command.memory);
  if (!a) return Trouble(a.error());
  const base::Result<std::unique_ptr<Memory>> b = Memory::Open(command.b, command.memory);
  if (!b) return Trouble(b.error());
  restore::DiffOptions options;
  options.stop = &g_stop;
  Progress progress("diff", PagesOf((*a)->source()));
  options.progress = [&](uint64_t pages) { progress.Update(pages); };
  const base::Result<restore::DiffReport> report = restore::Diff((*a)->source(), (*b)->source(), options);
  if (!report) return PrintError(report.error());
  if (command.json) {
    PrintJson(ReportJson(command, *report));
  } else if (!command.quiet) {
    PrintReport(*report);
  }
  return report->same() ? kExitGood : kExitNo;
}

}  // namespace

void AddDiff(const Command& ckpt) {
  auto command = std::make_shared<DiffCommand>();
  const Command diff = ckpt.Add("diff", "Compare two memories (0: same, 1: different, 2: trouble)");
  diff.Required("A", command->a, "An image (- is standard input), or WORKLOAD@LABEL");
  diff.Required("B", command->b, "An image (- is standard input), or WORKLOAD@LABEL");
  diff.Text("--disk", command->memory.disk_dir, "The folder that holds the files of an image");
  diff.Flag("--accept-changed", command->memory.accept_changed, "Use files that are not the recorded ones");
  diff.Flag("--drop-past-eof", command->memory.drop_past_eof,
            "Drop modified pages past the end of their file");
  diff.Flag("--json", command->json, "Print JSON");
  diff.Flag("-q,--quiet", command->quiet, "Only the exit code");
  diff.Does([command] { return Diff(*command); });
}

}  // namespace cli
