// ModelSource: a modelled machine, or some of its processes, as a MemorySource.
//
// Scope PROCESS (architecture, section 5): private pages that get_dirty_page answers, shared anonymous
// objects as a whole, and of files what differs from their recipes. The machine is left as it was found, with
// one exception: dirty cached pages of files that a saved process maps (and of all files that live in a disk
// folder) are written back by Prepare().
//
// Scope MACHINE: the guest as its host sees it, all processes and files, and what guest.h says. Nothing
// changes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "ckpt/source.h"
#include "mm/machine.h"

namespace ckpt {

struct ModelScope {
  std::vector<mm::Pid> pids;  // empty: all processes, as always of scope MACHINE
  std::string label;
  ckpt_pb::Machine::Scope scope = ckpt_pb::Machine::PROCESS;
};

class ModelSource final : public MemorySource {
 public:
  // Requires: the machine outlives this and is not touched while this lives. On a virtual CPU it waits until
  // every process stands between two calls, and keeps them there.
  ModelSource(mm::Machine& machine, ModelScope scope);

  base::Result<void> Prepare() override;
  const ckpt_pb::Machine& machine() const override { return machine_pb_; }
  const ckpt_pb::Files& files() const override { return files_pb_; }
  const ckpt_pb::Processes& processes() const override { return processes_pb_; }
  const ckpt_pb::Vmas& vmas(uint32_t mm) const override;

  base::Result<ModifiedRun> NextModified(uint32_t mm, uint64_t first, uint64_t end) override;
  uint32_t PageIdentity(uint32_t mm, uint64_t page) override;
  ModifiedRun NextOfObject(uint32_t file, uint64_t first) override;
  base::Result<std::vector<ckpt_pb::PageRun>> ChangedPages(uint32_t file) override;
  Residency CountResidency() override;
  // By soft-dirty bits, of private pages alone.
  std::string tracked_by() const override { return machine_.tracked_by; }
  void Track(const std::string& digest) override;
  base::Result<void> DescribeGuest(
      const std::function<base::Result<void>(const ckpt_pb::Guest&)>& part) override;
  std::vector<ckpt_pb::PageRun> GuestRuns() override;
  void CountFrames(ckpt_pb::Totals& totals) override;
  base::Result<void> Read(const ckpt_pb::PageRun& run, std::span<std::byte> out) const override;

  ContentRun NextContent(uint32_t mm, uint64_t first, uint64_t end) override;
  base::Result<void> ReadContent(uint32_t mm, uint64_t page, std::span<std::byte> out) override;

 private:
  struct MmEntry {
    std::shared_ptr<mm::MmStruct> mm;
    ckpt_pb::Vmas vmas;
  };
  base::Result<void> CollectProcesses();
  base::Result<void> CollectVmas(MmEntry& entry, uint32_t objref, mm::Pid pid);
  base::Result<void> ReadMmPage(mm::MmStruct& mm, uint64_t page, std::span<std::byte> out) const;
  base::Result<void> DescribeVma(mm::Vma& vma, mm::Pid pid, ckpt_pb::Vma& out);
  base::Result<void> CollectFiles();
  base::Result<void> DescribeMm(const mm::MmStruct& mm, uint32_t objref, ckpt_pb::Mm& out) const;
  base::Result<void> CheckNonlinear() const;
  base::Result<void> WriteBack();
  base::Result<void> AskAsPublished();
  base::Result<ModifiedRun> NextPublished(uint32_t mm, uint64_t first, uint64_t end);
  void CollectSmaps();
  uint32_t FileRef(const mm::FilePtr& file);
  // Pages of a file that differ from its recipe: first page to run, disjoint.
  struct ChangedRun {
    uint64_t end = 0;
    bool zeros = false;  // all of them, and none is in the page cache with other bytes
  };
  using ChangedRuns = std::map<uint64_t, ChangedRun>;
  static void AddChanged(ChangedRuns& runs, uint64_t first, uint64_t count, bool zeros);
  static void AddDirty(ChangedRuns& runs, uint64_t index);
  base::Result<const ChangedRuns*> Changed(uint32_t file);
  ContentRun AbsentContent(const mm::Vma& vma, uint64_t first, uint64_t end);
  ContentRun FileContent(const mm::FilePtr& file, uint64_t first, uint64_t count, uint64_t index);
  base::Result<void> ReadFilePage(const mm::File& file, uint64_t index, std::span<std::byte> out) const;
  static base::Result<void> ReadDiskPage(const mm::File& file, uint64_t index, std::span<std::byte> out);
  // Of scope MACHINE: the cache is the guest's memory, and a file is what its disk has.
  bool is_guest() const { return scope_.scope == ckpt_pb::Machine::MACHINE; }

  mm::Machine& machine_;
  // On a machine of several CPUs: no process is in the middle of a call while this lives.
  mm::MaybeGuard<mm::Freezer> frozen_;
  ModelScope scope_;
  ckpt_pb::Machine machine_pb_;
  ckpt_pb::Files files_pb_;
  ckpt_pb::Processes processes_pb_;
  std::map<uint32_t, MmEntry> mms_;
  std::map<uint32_t, mm::FilePtr> files_;
  std::map<const mm::File*, uint32_t> file_refs_;
  std::set<uint32_t> mapped_files_;
  std::map<uint32_t, ChangedRuns> changed_;
  bool asked_ = false;
  std::map<uint32_t, std::map<uint64_t, uint64_t>> published_;  // by mm: runs of modified pages, first to end
  uint32_t next_objref_ = 1;
};

}  // namespace ckpt
