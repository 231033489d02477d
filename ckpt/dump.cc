#include "ckpt/dump.h"

#include <set>

#include "ckpt/plan.h"
#include "mm/vma.h"

namespace ckpt {
namespace {

using ckpt_pb::PageRun;

bool IsGuest(const MemorySource& source) { return source.machine().scope() == ckpt_pb::Machine::MACHINE; }

base::Result<void> AddMetadata(MemorySource& source, image::Writer& writer,
                               const std::string& workload_state) {
  TRY_VOID(writer.AddSection(image::SectionType::kMachine, source.machine()));
  TRY_VOID(writer.AddSection(image::SectionType::kFiles, source.files()));
  TRY_VOID(writer.AddSection(image::SectionType::kProcesses, source.processes()));
  for (const ckpt_pb::Mm& mm : source.processes().mm()) TRY_VOID(writer.AddVmas(source.vmas(mm.objref())));
  if (!workload_state.empty()) TRY_VOID(writer.AddWorkloadState(workload_state));
  if (!IsGuest(source)) return {};
  return source.DescribeGuest([&](const ckpt_pb::Guest& part) { return writer.AddGuest(part); });
}

using ParentPtr = std::unique_ptr<image::ParentPages>;

base::Result<ParentPtr> OpenParent(const MemorySource& source, const std::string& path,
                                   const DumpOptions& options) {
  if (options.parent.empty()) return nullptr;
  if (options.parent == image::kStandardStream || path == image::kStandardStream) {
    return base::Fail(base::Code::kInvalid, "a parent and its child are files: neither can be '-'");
  }
  const auto image = TRY(image::Reader::Open(options.parent, {.also = options.also}));
  const bool tracked = source.tracked_by() == image->digest() && !IsGuest(source);
  return image::ParentPages::Load(
      *image, tracked ? image::ParentPages::By::kPlace : image::ParentPages::By::kContent);
}

base::Result<void> AddMm(MemorySource& source, uint32_t mm, Plan& plan, ckpt_pb::Totals& totals) {
  for (const ckpt_pb::Vma& vma : source.vmas(mm).vma()) {
    if (vma.kind() != ckpt_pb::Vma::ANON && vma.kind() != ckpt_pb::Vma::FILE_PRIVATE) continue;
    const uint64_t end = vma.end() / base::kPageSize;
    uint64_t next = vma.start() / base::kPageSize;
    while (next < end) {
      const ModifiedRun run = TRY(source.NextModified(mm, next, end));
      if (run.count == 0) break;
      totals.set_modified(totals.modified() + run.count);
      TRY_VOID(plan.Add(PageRun::MM, mm, run, [&](uint64_t page) { return source.PageIdentity(mm, page); }));
      next = run.first + run.count;
    }
  }
  return {};
}

base::Result<void> AddObject(MemorySource& source, uint32_t file, Plan& plan, ckpt_pb::Totals& totals) {
  for (uint64_t next = 0;;) {
    const ModifiedRun run = source.NextOfObject(file, next);
    if (run.count == 0) return {};
    totals.set_modified(totals.modified() + run.count);
    TRY_VOID(plan.Add(PageRun::SHMEM, file, run, nullptr));
    next = run.first + run.count;
  }
}

base::Result<void> AddDisk(MemorySource& source, uint32_t file, Plan& plan, ckpt_pb::Totals& totals) {
  for (const PageRun& run : TRY(source.ChangedPages(file))) {
    totals.set_disk(totals.disk() + run.count());
    TRY_VOID(plan.AddAsIs(run));
  }
  return {};
}

base::Result<void> AddGuest(MemorySource& source, Plan& plan, ckpt_pb::Totals& totals) {
  for (const PageRun& run : source.GuestRuns()) {
    totals.set_modified(totals.modified() + run.count());
    TRY_VOID(plan.AddAsIs(run));
  }
  source.CountFrames(totals);
  return {};
}

base::Result<void> AddMemory(MemorySource& source, Plan& plan, ckpt_pb::Totals& totals) {
  if (IsGuest(source)) TRY_VOID(AddGuest(source, plan, totals));
  for (const ckpt_pb::Mm& mm : source.processes().mm()) {
    if (!IsGuest(source)) TRY_VOID(AddMm(source, mm.objref(), plan, totals));
  }
  for (const ckpt_pb::File& file : source.files().file()) {
    if (file.kind() == ckpt_pb::File::SHMEM && !IsGuest(source))
      TRY_VOID(AddObject(source, file.objref(), plan, totals));
    if (file.kind() == ckpt_pb::File::REGULAR) TRY_VOID(AddDisk(source, file.objref(), plan, totals));
  }
  return plan.Finish();
}

base::Result<DumpReport> TryDump(MemorySource& source, const std::string& path, const DumpOptions& options) {
  TRY_VOID(source.Prepare());
  const ParentPtr parent = TRY(OpenParent(source, path, options));
  image::WriteOptions write = options.write;
  write.parent = parent.get();
  const std::unique_ptr<image::Writer> writer = TRY(image::Writer::Create(path, source, write));
  TRY_VOID(AddMetadata(source, *writer, options.workload_state));
  if (parent != nullptr) TRY_VOID(writer->AddSection(image::SectionType::kParent, parent->Record(path)));

  DumpReport report;
  ckpt_pb::Totals& totals = report.totals;
  const Residency residency = source.CountResidency();
  totals.set_mapped(residency.mapped);
  totals.set_present(residency.present);
  totals.set_clean(residency.clean);
  totals.set_zero(residency.zero);

  const auto emit = [&](const PageRun& run) -> base::Result<void> {
    (void)TRY(writer->AddRun(run));
    return {};
  };
  Plan plan(emit, parent.get());
  TRY_VOID(AddMemory(source, plan, totals));
  totals.set_shared(plan.shared());
  totals.set_in_parent(plan.in_parent());
  report.image = TRY(writer->Commit(totals));
  totals = report.image.totals;
  if (parent != nullptr) {
    report.known = parent->by() == image::ParentPages::By::kPlace ? DumpReport::Known::kByTracking
                                                                  : DumpReport::Known::kByContent;
  }
  return report;
}

}  // namespace

base::Result<DumpReport> Dump(MemorySource& source, const std::string& path, const DumpOptions& options) {
  auto report = TryDump(source, path, options);
  if (!report || options.track) source.Track(report ? report->image.digest : "");
  return report;
}

}  // namespace ckpt
