#include "restore/restore.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "base/file_kind.h"
#include "base/units.h"

namespace restore {
namespace {

using ckpt_pb::PageRun;

// Passes runs on to the sink, but for the pages that the plan drops: those go to a scratch area.
class FilteredSink final : public image::PageSink {
 public:
  FilteredSink(MemorySink& sink, const RunFilter& filter, RestoreReport& report)
      : sink_(sink), filter_(filter), report_(report) {}

  base::Result<void> Place(const PageRun& run, std::vector<std::span<std::byte>>& pieces) override {
    for (const Part& part : TRY(filter_.Filter(run))) {
      if (part.keep) {
        report_.pages += part.run.count();
        TRY_VOID(sink_.Place(part.run, pieces));
        continue;
      }
      CountDropped(part);
      // Several chunks may be filled at once: what is dropped needs room of its own for each.
      const uint64_t bytes = part.run.count() * base::kPageSize;
      scratch_.emplace_back(new std::byte[bytes]);
      pieces.emplace_back(scratch_.back().get(), bytes);
    }
    return {};
  }
  base::Result<void> Same(const PageRun& run) override {
    for (const Part& part : TRY(filter_.Filter(run))) {
      if (part.keep) {
        TRY_VOID(sink_.Same(part.run));
      } else {
        CountDropped(part);
      }
    }
    return {};
  }
  base::Result<void> Zero(const PageRun& run) override {
    for (const Part& part : TRY(filter_.Filter(run))) {
      if (part.keep) {
        if (run.owner() != PageRun::DISK) report_.pages += part.run.count();
        TRY_VOID(sink_.Zero(part.run));
      } else {
        CountDropped(part);
      }
    }
    return {};
  }

 private:
  void CountDropped(const Part& part) {
    if (part.run.owner() == PageRun::MM) report_.dropped += part.run.count();
  }

  MemorySink& sink_;
  const RunFilter& filter_;
  RestoreReport& report_;
  std::vector<std::unique_ptr<std::byte[]>> scratch_;
};

FileFact Gather(const std::string& path) {
  FileFact fact;
  fact.path = path;
  struct stat st;
  if (stat(path.c_str(), &st) != 0) {
    char buffer[128];
    fact.why_not = strerror_r(errno, buffer, sizeof buffer);
    return fact;
  }
  if (!S_ISREG(st.st_mode)) {
    fact.why_not = std::string("it is ") + base::FileKindName(st.st_mode) + ", not a regular file";
    return fact;
  }
  fact.exists = true;
  fact.device = st.st_dev;
  fact.inode = st.st_ino;
  fact.size = static_cast<uint64_t>(st.st_size);
  fact.mtime_ns = int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
  return fact;
}

}  // namespace

base::Result<std::map<uint32_t, FileFact>> GatherFacts(const ckpt_pb::Files& files,
                                                       const RestoreOptions& options) {
  const std::string& disk_dir = options.disk_dir;
  std::map<uint32_t, FileFact> facts;
  for (const ckpt_pb::File& file : files.file()) {
    const ckpt_pb::Recipe& recipe = file.recipe();
    if (recipe.kind() == ckpt_pb::Recipe::REAL) {
      FileFact& fact = facts[file.objref()] = Gather(recipe.path());
      if (fact.exists && !recipe.build_id().empty() && options.build_id)
        fact.build_id = TRY(options.build_id(recipe.path()));
    }
    if (recipe.kind() != ckpt_pb::Recipe::FOLDER) continue;
    if (disk_dir.empty()) {
      facts[file.objref()].why_not = "it is kept in a disk folder, and --disk does not say which";
    } else if (recipe.path().find('/') != std::string::npos || recipe.path() == ".." ||
               recipe.path().empty()) {
      facts[file.objref()].why_not = "its name is not one of a disk folder";
    } else {
      facts[file.objref()] = Gather(disk_dir + "/" + recipe.path());
    }
  }
  return facts;
}

base::Result<RestoreReport> Restore(const image::Reader& image, MemorySink& sink,
                                    const RestoreOptions& options) {
  const std::map<uint32_t, FileFact> facts = TRY(GatherFacts(image.files(), options));
  const Plan plan = TRY(MakePlan(image, facts, options.plan));
  for (const ckpt_pb::File& file : plan.files.file()) TRY_VOID(sink.CreateFile(file));
  for (const ckpt_pb::Mm& mm : image.processes().mm()) TRY_VOID(sink.CreateMm(mm));
  for (const ckpt_pb::Process& process : image.processes().process()) TRY_VOID(sink.CreateProcess(process));
  for (const ckpt_pb::Mm& mm : image.processes().mm()) {
    for (const ckpt_pb::Vma& vma : image.vmas(mm.objref()).vma()) TRY_VOID(sink.Map(mm.objref(), vma));
    for (const ckpt_pb::NonlinearRun& run : image.vmas(mm.objref()).nonlinear()) {
      TRY_VOID(sink.MapNonlinear(mm.objref(), run));
    }
  }
  if (image.machine().scope() == ckpt_pb::Machine::MACHINE) TRY_VOID(sink.PutGuest());
  RestoreReport report;
  report.notices = plan.notices;
  const RunFilter filter(image, plan, options.plan);
  FilteredSink filtered(sink, filter, report);
  TRY_VOID(image.ReadPages(filtered, options.read));
  TRY_VOID(sink.Seal());
  return report;
}

}  // namespace restore
