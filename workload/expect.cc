// Unmet: what a step's `expect` asks for, against what happened.
#include "base/units.h"
#include "mm/follow_page.h"
#include "workload/outcome.h"
#include "workload/session.h"

namespace workload {
namespace {

using ckpt_pb::Expect;

unsigned long long Number(uint64_t value) { return value; }

// Pages of private mappings that a checkpoint would save.
uint64_t ModifiedPages(mm::MmStruct& space) {
  uint64_t count = 0;
  for (const auto& [start, vma] : space.vmas()) {
    if ((vma->flags & (mm::VM_SHARED | mm::VM_MAYSHARE)) != 0 || vma->special != mm::Special::kNone) continue;
    for (mm::Vaddr at = vma->start; at < vma->end;) {
      const mm::DirtyRun run = mm::next_dirty_run(*vma, at, vma->end, ~uint64_t{0});
      if (run.pages == 0) break;
      count += run.pages;
      at = run.start + run.pages * base::kPageSize;
    }
  }
  return count;
}

// Pages of the process that are in swap, as its page table says.
uint64_t SwapEntries(mm::MmStruct& space) {
  uint64_t count = 0;
  space.pgtable.walk(0, mm::TASK_SIZE, [&](mm::Vaddr, const mm::Pte& pte) {
    if (pte_swap(pte)) ++count;
  });
  return count;
}

uint64_t LockedPages(const mm::MmStruct& space) {
  uint64_t count = 0;
  for (const auto& [start, vma] : space.vmas()) {
    if ((vma->flags & mm::VM_LOCKED) != 0) count += vma->pages();
  }
  return count;
}

std::optional<std::string> UnmetOutcome(const Expect& expect, const StepResult& result) {
  const std::string wanted = expect.outcome().empty() ? std::string(kOk) : expect.outcome();
  const bool met = result.outcome == wanted || (wanted == "EFBIG" && result.outcome == "SIGXFSZ");
  if (met) return std::nullopt;
  std::string text = "expected " + wanted + ", got " + result.outcome;
  if (!result.detail.empty()) text += (result.detail.starts_with("at ") ? " " : ": ") + result.detail;
  return text;
}

std::optional<std::string> UnmetPlace(const Expect& expect, const StepResult& result) {
  if (!expect.at().empty() && result.at != SizeOr(expect.at(), 0)) {
    return base::Format("expected %s at %#llx, got it at %#llx", result.outcome.c_str(),
                        Number(SizeOr(expect.at(), 0)), Number(result.at.value_or(0)));
  }
  if (!result.bytes) return std::nullopt;
  const uint64_t wanted = SizeOr(expect.bytes(), result.bytes_wanted);
  if (*result.bytes == wanted) return std::nullopt;
  return base::Format("expected %llu bytes, moved %llu", Number(wanted), Number(*result.bytes));
}

std::optional<std::string> UnmetCount(const char* name, bool is_set, uint64_t wanted, uint64_t got) {
  if (!is_set || wanted == got) return std::nullopt;
  return base::Format("expected %s %llu, got %llu", name, Number(wanted), Number(got));
}

std::optional<std::string> UnmetFile(const Session& session, const Expect::File& expect) {
  const mm::FilePtr file =
      expect.name() == kDevZeroName ? session.machine->dev_zero() : session.machine->find_file(expect.name());
  if (file == nullptr) return base::Format("the machine has no file '%s'", expect.name().c_str());
  const std::string what = "file '" + expect.name() + "' ";
  auto unmet =
      UnmetCount((what + "size").c_str(), !expect.size().empty(), SizeOr(expect.size(), 0), file->i_size);
  if (unmet) return unmet;
  return UnmetCount((what + "cached").c_str(), expect.has_cached(), expect.cached(),
                    file->mapping.pages.size());
}

}  // namespace

std::optional<std::string> Unmet(const Session& session, const Expect& expect, const StepResult& result,
                                 mm::Process* process, Counts counts) {
  if (auto unmet = UnmetOutcome(expect, result)) return unmet;
  if (!result.mismatch.empty()) return result.mismatch;
  if (auto unmet = UnmetPlace(expect, result)) return unmet;
  if (counts == Counts::kIgnore) return std::nullopt;
  for (const Expect::File& file : expect.file()) {
    if (auto unmet = UnmetFile(session, file)) return unmet;
  }
  if (process == nullptr) return std::nullopt;
  mm::MmStruct& space = *process->mm;
  const std::optional<std::string> all[] = {
      UnmetCount("rss", expect.has_rss(), expect.rss(), space.anon_rss + space.file_rss),
      UnmetCount("anon_rss", expect.has_anon_rss(), expect.anon_rss(), space.anon_rss),
      UnmetCount("file_rss", expect.has_file_rss(), expect.file_rss(), space.file_rss),
      UnmetCount("total_vm", expect.has_total_vm(), expect.total_vm(), space.total_vm),
      UnmetCount("vmas", expect.has_vmas(), expect.vmas(), space.map_count()),
      UnmetCount("modified", expect.has_modified(), expect.modified(),
                 expect.has_modified() ? ModifiedPages(space) : 0),
      UnmetCount("swap", expect.has_swap(), expect.swap(), expect.has_swap() ? SwapEntries(space) : 0),
      UnmetCount("locked", expect.has_locked(), expect.locked(), LockedPages(space)),
  };
  for (const auto& unmet : all) {
    if (unmet) return unmet;
  }
  return std::nullopt;
}

}  // namespace workload
