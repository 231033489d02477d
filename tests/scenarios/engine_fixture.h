// A checkpoint, its image and the restart from it, checked at every step: the checkpoint leaves the
// machine as it was, the image verifies, the restored machine is valid, reads the same at every
// address and shares the same pages. A test adds what its scenario is about.
//
// Declare the World (tests/mm/world.h) first, then FilePtrs, then the Trip.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/dump.h"
#include "ckpt/model_source.h"
#include "proto/reader.h"
#include "proto/verify.h"
#include "restore/diff.h"
#include "restore/model_sink.h"
#include "restore/restore.h"
#include "tests/mm/world.h"
#include "tests/support/support.h"

namespace mm {

using base::Code;

inline void PrintError(const base::Error& error, Where at) {
  ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line()))
      << base::CodeName(error.code) << ": " << error.what;
}

// "0-2 5" for pages 0, 1, 2 and 5.
inline std::string Ranges(const std::set<uint64_t>& pages) {
  std::string text;
  for (auto at = pages.begin(); at != pages.end();) {
    const uint64_t first = *at;
    uint64_t last = first;
    for (++at; at != pages.end() && *at == last + 1; ++at) ++last;
    text += (text.empty() ? "" : " ") + std::to_string(first);
    if (last != first) text += "-" + std::to_string(last);
  }
  return text;
}

// Loads and stores in a machine that was restored, each followed by a deep Validate().
class Box {
 public:
  explicit Box(std::unique_ptr<Machine> machine) : machine_(std::move(machine)) { Check(); }

  Machine& machine() { return *machine_; }
  Process& process(Pid pid = 1) { return *machine_->find_process(pid); }
  std::unique_ptr<Machine> Take() { return std::move(machine_); }

  void Check(Where at = Where::current()) {
    if (const auto broken = Validate(*machine_, Depth::kDeep)) {
      ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line())) << "Validate: " << *broken;
    }
  }
  std::string Load(Vaddr addr, size_t length, Pid pid = 1, Where at = Where::current()) {
    std::string bytes(length, '?');
    const AccessResult result = machine_->load(process(pid), addr, AsWritable(bytes));
    if (result.outcome != Outcome::kOk) {
      ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line()))
          << "load ended with outcome " << static_cast<int>(result.outcome);
    }
    Check(at);
    return bytes;
  }
  Outcome Store(Vaddr addr, std::string_view bytes, Pid pid = 1, Where at = Where::current()) {
    const AccessResult result = machine_->store(process(pid), addr, AsBytes(bytes));
    Check(at);
    return result.outcome;
  }
  Outcome TryLoad(Vaddr addr, Pid pid = 1, Where at = Where::current()) {
    const AccessResult result = machine_->touch(process(pid), addr, 1, Write::kNo);
    Check(at);
    return result.outcome;
  }
  Outcome TryStore(Vaddr addr, Pid pid = 1, Where at = Where::current()) { return Store(addr, "!", pid, at); }
  std::string FileBytes(std::string_view name, uint64_t offset, size_t length) {
    std::string bytes(length, '?');
    const FilePtr file = machine_->find_file(name);
    if (file == nullptr) return "no file";
    bytes.resize(generic_file_read(*machine_, *file, offset, AsWritable(bytes)).value_or(0));
    return bytes;
  }
  void Truncate(std::string_view name, uint64_t size) {
    EXPECT_TRUE(vmtruncate(*machine_, *machine_->find_file(name), size, kNoLimit).has_value());
    Check();
  }

 private:
  std::unique_ptr<Machine> machine_;
};

// Which private pages of the processes are one page of memory: a line for each, with its mappings.
inline std::set<std::string> SharingOf(Machine& machine, const std::vector<Pid>& pids) {
  std::map<std::pair<bool, uint32_t>, std::string> pages;  // in swap or not; slot or frame
  std::set<const MmStruct*> seen;
  for (const Pid pid : pids) {
    MmStruct& mm = *machine.find_process(pid)->mm;
    if (!seen.insert(&mm).second) continue;
    mm.pgtable.walk(0, Vaddr{1} << 47, [&](Vaddr addr, const Pte& pte) {
      Pfn pfn = kNoPfn;
      if (pte_present(pte)) pfn = pte_pfn(pte);
      if (pte_swap(pte)) pfn = machine.swap->cached(pte_to_swp_entry(pte));
      if (pfn == kZeroPfn || (pfn == kNoPfn && !pte_swap(pte))) return;
      if (pfn != kNoPfn && FileMapping(machine.frames.at(pfn)) != nullptr) return;
      const auto key = pfn == kNoPfn ? std::pair(true, pte_to_swp_entry(pte))
                                     : std::pair(false, static_cast<uint32_t>(pfn));
      pages[key] += base::Format(" %u:%#llx", pid, static_cast<unsigned long long>(addr));
    });
  }
  std::set<std::string> lines;
  for (const auto& [key, line] : pages) lines.insert(line);
  return lines;
}

inline bool HasDirtyFiles(const Machine& machine) {
  for (const FilePtr& file : machine.files()) {
    if (file->kind() != FileKind::kRegular) continue;
    for (const auto& [index, pfn] : file->mapping.pages) {
      if (machine.frames.at(pfn).dirty()) return true;
    }
  }
  return false;
}

class Trip {
 public:
  std::string path(std::string_view name = "image") const { return (dir_ / name).string(); }
  const support::TempDir& dir() const { return dir_; }

  base::Result<ckpt::DumpReport> TrySave(Machine& machine, std::vector<Pid> pids = {}, unsigned threads = 1,
                                         std::string_view name = "image") {
    ckpt::ModelSource source(machine, {std::move(pids), "base", scope});
    ckpt::DumpOptions how;
    how.write.sync = image::Sync::kNo;
    how.write.threads = threads;
    how.write.every_page = every_page;
    return ckpt::Dump(source, path(name), how);
  }

  // The checkpoint, and a look at what it did to the machine and whether the image is good.
  bool Save(Machine& machine, std::vector<Pid> pids = {}, Where at = Where::current()) {
    const bool untouched = !HasDirtyFiles(machine) && machine.sem().dump_lookup == DumpLookup::kDumpDirty &&
                           machine.sem().swap_dump == SwapDump::kReadSlot;
    const std::string before = TextDump(machine);
    const auto saved = TrySave(machine, std::move(pids));
    if (!saved) return PrintError(saved.error(), at), false;
    report_ = *saved;
    if (untouched && TextDump(machine) != before) {
      ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line())) << "the checkpoint changed the machine";
    }
    if (const auto broken = Validate(machine, Depth::kDeep)) {
      ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line())) << "Validate: " << *broken;
    }
    const auto verified = image::Verify(path());
    if (!verified) PrintError(verified.error(), at);
    return Open(at);
  }
  // The error of a checkpoint that must fail and leave no file.
  base::Error SaveError(Machine& machine, Where at = Where::current()) {
    const base::Error error = ErrorOf(TrySave(machine), at);
    if (const auto broken = Validate(machine, Depth::kDeep)) ADD_FAILURE() << "Validate: " << *broken;
    return error;
  }
  base::Error ErrorOf(const base::Result<ckpt::DumpReport>& saved, Where at = Where::current()) {
    EXPECT_FALSE(saved.has_value()) << "line " << at.line();
    for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
      EXPECT_FALSE(entry.is_regular_file()) << entry.path();
    }
    return saved ? base::Error{} : saved.error();
  }
  bool Open(Where at = Where::current()) {
    auto opened = image::Reader::Open(path());
    if (!opened) return PrintError(opened.error(), at), false;
    reader_ = std::move(*opened);
    runs_.clear();
    const auto visited = reader_->ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
      runs_.insert(runs_.end(), chunk.run().begin(), chunk.run().end());
      return {};
    });
    EXPECT_TRUE(visited.has_value());
    return true;
  }

  // ---- what the image holds ----

  const image::Reader& image() const { return *reader_; }
  const ckpt::DumpReport& report() const { return report_; }
  const std::vector<ckpt_pb::PageRun>& runs() const { return runs_; }
  const ckpt_pb::File* FindFile(std::string_view name) const {
    for (const ckpt_pb::File& file : reader_->files().file()) {
      if (file.name() == name) return &file;
    }
    return nullptr;
  }
  uint32_t MmOf(Pid pid) const {
    for (const ckpt_pb::Process& process : reader_->processes().process()) {
      if (process.pid() == pid) return process.mm_objref();
    }
    return 0;
  }
  std::set<uint64_t> PagesOf(ckpt_pb::PageRun::Owner owner, uint32_t objref) const {
    std::set<uint64_t> pages;
    for (const ckpt_pb::PageRun& run : runs_) {
      if (run.owner() != owner || run.objref() != objref) continue;
      for (uint64_t i = 0; i < run.count(); ++i) EXPECT_TRUE(pages.insert(run.first() + i).second);
    }
    return pages;
  }
  // The saved private pages of a process, counted from `base` in pages.
  std::string Saved(Vaddr base, Pid pid = 1) const {
    std::set<uint64_t> pages;
    for (const uint64_t page : PagesOf(ckpt_pb::PageRun::MM, MmOf(pid))) pages.insert(page - base / kPage);
    return Ranges(pages);
  }
  std::string SavedOfFile(std::string_view name,
                          ckpt_pb::PageRun::Owner owner = ckpt_pb::PageRun::DISK) const {
    const ckpt_pb::File* file = FindFile(name);
    return file == nullptr ? "no file" : Ranges(PagesOf(owner, file->objref()));
  }

  // ---- the restart ----

  restore::RestoreOptions options;
  ckpt_pb::Machine::Scope scope = ckpt_pb::Machine::PROCESS;
  bool every_page = false;  // zero-filled and repeated ones, too

  base::Result<std::unique_ptr<Box>> TryRestore() {
    auto sink = restore::ModelSink::Create(reader_->machine(), options.disk_dir, &reader_->guest());
    if (!sink) return std::unexpected(sink.error());
    auto restored = restore::Restore(*reader_, **sink, options);
    if (!restored) return std::unexpected(restored.error());
    restored_ = *restored;
    return std::make_unique<Box>((*sink)->TakeMachine());
  }
  base::Error RestoreError(Where at = Where::current()) {
    auto restored = TryRestore();
    EXPECT_FALSE(restored.has_value()) << "line " << at.line();
    return restored ? base::Error{} : restored.error();
  }
  std::unique_ptr<Box> Restore(Where at = Where::current()) {
    auto restored = TryRestore();
    if (!restored) return PrintError(restored.error(), at), nullptr;
    return std::move(*restored);
  }
  const restore::RestoreReport& restored() const { return restored_; }

  // Checkpoint and restart; the two memories must be the same.
  std::unique_ptr<Box> Through(Machine& machine, std::vector<Pid> pids = {}, Where at = Where::current()) {
    if (!Save(machine, pids, at)) return nullptr;
    std::unique_ptr<Box> box = Restore(at);
    if (box == nullptr) return nullptr;
    ExpectSame(machine, box->machine(), pids, at);
    return box;
  }
  static void ExpectSame(Machine& a, Machine& b, std::vector<Pid> pids = {}, Where at = Where::current()) {
    const std::string different = Differences(a, b, pids);
    if (!different.empty()) {
      ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line())) << "differ: " << different;
    }
    if (pids.empty()) {
      for (const auto& [pid, process] : a.processes()) pids.push_back(pid);
    }
    if (SharingOf(a, pids) != SharingOf(b, pids)) {
      ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line())) << "other pages are shared";
    }
  }
  // The first differences in words; "" for none.
  static std::string Differences(Machine& a, Machine& b, const std::vector<Pid>& pids = {}) {
    ckpt::ModelSource source_a(a, {pids, ""});
    ckpt::ModelSource source_b(b, {pids, ""});
    if (const auto ready = source_a.Prepare(); !ready) return ready.error().what;
    if (const auto ready = source_b.Prepare(); !ready) return ready.error().what;
    const auto report = restore::Diff(source_a, source_b, {});
    if (!report) return report.error().what;
    std::string text;
    for (size_t i = 0; i < report->differences.size() && i < 5; ++i) {
      const restore::Difference& d = report->differences[i];
      text += base::Format("[pid %u %#llx-%#llx %s]", d.pid, static_cast<unsigned long long>(d.start),
                           static_cast<unsigned long long>(d.end), d.what.c_str());
    }
    return text;
  }

 private:
  support::TempDir dir_;
  ckpt::DumpReport report_;
  std::unique_ptr<image::Reader> reader_;
  std::vector<ckpt_pb::PageRun> runs_;
  restore::RestoreReport restored_;
};

}  // namespace mm
