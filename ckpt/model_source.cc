#include "ckpt/model_source.h"

#include <algorithm>
#include <cstring>

#include "ckpt/guest.h"
#include "ckpt/model_describe.h"
#include "mm/follow_page.h"
#include "mm/peek.h"
#include "mm/soft_dirty.h"
#include "proto/format.h"

namespace ckpt {
namespace {

using base::kPageSize;
using ckpt_pb::PageRun;
using mm::Vma;

bool InFolder(const mm::File& file) {
  return file.disk() != nullptr && file.disk()->recipe().kind == mm::Recipe::Kind::kFolder;
}

// The first page at or after `index` that an object has, in memory or in swap; the largest number: none.
uint64_t FirstOfObject(const mm::Mapping& mapping, uint64_t index) {
  const auto page = mapping.pages.lower_bound(index);
  const auto slot = mapping.swapped.lower_bound(index);
  return std::min(page == mapping.pages.end() ? ~uint64_t{0} : page->first,
                  slot == mapping.swapped.end() ? ~uint64_t{0} : slot->first);
}

void Copy(const mm::Peeked& from, std::span<std::byte> to) {
  if (from.kind == mm::Peeked::Kind::kZero) {
    std::memset(to.data(), 0, kPageSize);
  } else if (from.bytes != to.data()) {
    std::memcpy(to.data(), from.bytes, kPageSize);
  }
}

// What a shared mapping stored behind the end of a file is no part of the file.
void ZeroPastEnd(const mm::File& file, uint64_t index, std::span<std::byte> page) {
  const uint64_t start = index * kPageSize;
  const uint64_t keep = file.i_size > start ? std::min<uint64_t>(file.i_size - start, kPageSize) : 0;
  std::ranges::fill(page.subspan(keep), std::byte{0});
}

}  // namespace

ModelSource::ModelSource(mm::Machine& machine, ModelScope scope)
    : machine_(machine), frozen_(mm::smp() ? &machine.freezer : nullptr), scope_(std::move(scope)) {}

const ckpt_pb::Vmas& ModelSource::vmas(uint32_t mm) const { return mms_.at(mm).vmas; }

base::Result<void> ModelSource::Prepare() {
  if (is_guest()) {
    scope_.pids.clear();
    mm::congestion_wait(machine_);  // no page is on its way to a disk
  }
  TRY_VOID(CollectProcesses());
  TRY_VOID(CheckNonlinear());
  if (!is_guest()) TRY_VOID(WriteBack());
  CollectSmaps();
  TRY_VOID(CollectFiles());
  const mm::MachineConfig& config = machine_.config();
  machine_pb_.set_page_size(kPageSize);
  machine_pb_.set_scope(scope_.scope);
  machine_pb_.set_memory_bytes(config.memory_bytes);
  for (const std::string& changed : mm::ChangedSwitches(config.semantics)) machine_pb_.add_semantics(changed);
  machine_pb_.set_vdso_start(config.vdso_start);
  machine_pb_.set_vdso_pages(config.vdso_pages);
  machine_pb_.set_label(scope_.label);
  machine_pb_.set_swap_bytes(config.swap_bytes);
  machine_pb_.set_host_bytes(config.host_bytes);
  machine_pb_.set_swap_off(config.swap_bytes > 0 && machine_.swap == nullptr);
  return {};
}

uint32_t ModelSource::FileRef(const mm::FilePtr& file) {
  if (file == nullptr) return 0;
  const auto [place, added] = file_refs_.emplace(file.get(), next_objref_);
  if (added) files_.emplace(next_objref_++, file);
  return place->second;
}

base::Result<void> ModelSource::CollectProcesses() {
  if (scope_.pids.empty()) {
    for (const auto& [pid, process] : machine_.processes()) scope_.pids.push_back(pid);
  }
  std::map<const mm::MmStruct*, uint32_t> mm_refs;
  for (const mm::Pid pid : scope_.pids) {
    const mm::Process* process = machine_.find_process(pid);
    if (process == nullptr)
      return base::Fail(base::Code::kNotFound, "checkpoint: there is no process %u", pid);
    const auto [place, first] = mm_refs.emplace(process->mm.get(), next_objref_);
    if (first) {
      if (process->mm->nr_aio > 0 && !is_guest()) {
        return base::Fail(
            base::Code::kBusy,
            "checkpoint process %u: it has %u outstanding aio contexts; destroy them first (EBUSY)", pid,
            process->mm->nr_aio);
      }
      const uint32_t objref = next_objref_++;
      MmEntry& entry = mms_[objref];
      entry.mm = process->mm;
      TRY_VOID(CollectVmas(entry, objref, pid));
      TRY_VOID(DescribeMm(*process->mm, objref, *processes_pb_.add_mm()));
      processes_pb_.mutable_mm()->rbegin()->set_exe_objref(FileRef(process->mm->exe_file));
    }
    ckpt_pb::Process& out = *processes_pb_.add_process();
    out.set_pid(pid);
    out.set_ppid(process->ppid);
    out.set_name(process->name);
    out.set_mm_objref(place->second);
    out.set_rlimit_fsize(process->rlimit_fsize);
    out.set_rlimit_stack(process->rlimit_stack);
  }
  return {};
}

base::Result<void> ModelSource::DescribeMm(const mm::MmStruct& mm, uint32_t objref, ckpt_pb::Mm& out) const {
  out.set_objref(objref);
  out.set_word_bytes(mm.word_bytes);
  out.set_start_code(mm.layout.start_code);
  out.set_end_code(mm.layout.end_code);
  out.set_start_data(mm.layout.start_data);
  out.set_end_data(mm.layout.end_data);
  out.set_start_brk(mm.layout.start_brk);
  out.set_brk(mm.layout.brk);
  out.set_start_stack(mm.layout.start_stack);
  out.set_arg_start(mm.layout.arg_start);
  out.set_arg_end(mm.layout.arg_end);
  out.set_env_start(mm.layout.env_start);
  out.set_env_end(mm.layout.env_end);
  out.set_def_flags(mm.def_flags);
  const uint64_t word_max = mm.word_bytes == 4 ? 0xffffffffu : ~uint64_t{0};
  for (const mm::AuxvEntry& entry : mm.auxv) {
    if (entry.type == 0) break;  // AT_NULL
    if (entry.type > word_max || entry.value > word_max) {
      return base::Fail(base::Code::kTooBig,
                        "checkpoint: auxv entry %llu does not fit a word of %u bytes (E2BIG)",
                        static_cast<unsigned long long>(entry.type), mm.word_bytes);
    }
    ckpt_pb::Auxv& auxv = *out.add_auxv();
    auxv.set_type(entry.type);
    auxv.set_value(entry.value);
  }
  if (!mm.auxv.empty()) out.add_auxv();  // the terminator, AT_NULL, whatever stood there
  out.set_map_count(mm.map_count());
  return {};
}

// What a reader would refuse is not written.
base::Result<void> ModelSource::CheckNonlinear() const {
  uint64_t runs = 0;
  uint64_t pages = 0;
  for (const auto& [objref, entry] : mms_) {
    runs += static_cast<uint64_t>(entry.vmas.nonlinear_size());
    for (const ckpt_pb::NonlinearRun& run : entry.vmas.nonlinear()) pages += run.count();
  }
  if (runs <= image::kNonlinearRunsMax && pages <= image::kNonlinearPagesMax) return {};
  return base::Fail(base::Code::kTooBig,
                    "checkpoint: %llu non-linear pages in %llu runs; an image holds %llu in %llu (E2BIG)",
                    static_cast<unsigned long long>(pages), static_cast<unsigned long long>(runs),
                    static_cast<unsigned long long>(image::kNonlinearPagesMax),
                    static_cast<unsigned long long>(image::kNonlinearRunsMax));
}

base::Result<void> ModelSource::CollectVmas(MmEntry& entry, uint32_t objref, mm::Pid pid) {
  entry.vmas.set_mm_objref(objref);
  const size_t map_count = entry.mm->map_count();
  mm::ReadGuard guard(entry.mm->mmap_sem);
  for (const auto& [start, vma] : entry.mm->vmas()) {
    base::Result<void> described = DescribeVma(*vma, pid, *entry.vmas.add_vma());
    if (!described) return described;
    if ((vma->flags & mm::VM_NONLINEAR) != 0) DescribeNonlinear(*vma, entry.vmas);
  }
  if (static_cast<size_t>(entry.vmas.vma_size()) != map_count) {
    return base::Fail(base::Code::kBusy,
                      "checkpoint process %u: it had %zu vmas and has %d now; freeze it first (EBUSY)", pid,
                      map_count, entry.vmas.vma_size());
  }
  return {};
}

base::Result<void> ModelSource::DescribeVma(Vma& vma, mm::Pid pid, ckpt_pb::Vma& out) {
  TRY_VOID(CheckVma(vma, pid));
  out.set_start(vma.start);
  out.set_end(vma.end);
  out.set_flags(vma.flags);
  out.set_pgoff(vma.pgoff);
  out.set_kind(KindOf(vma));
  out.set_anon_vma(vma.anon_vma);
  out.set_file_objref(FileRef(vma.file));
  if (vma.file != nullptr) mapped_files_.insert(out.file_objref());
  return {};
}

base::Result<void> ModelSource::CollectFiles() {
  // What the disk holds belongs to the image too: a restarted workload may open any file.
  for (const mm::FilePtr& file : machine_.files()) {
    if (is_guest() || (file->kind() == mm::FileKind::kRegular && !file->deleted)) FileRef(file);
  }
  for (const auto& [objref, file] : files_) {
    ckpt_pb::File& out = *files_pb_.add_file();
    out.set_objref(objref);
    out.set_name(file->name());
    out.set_kind(KindOf(*file));
    out.set_size(file->i_size);
    out.set_deleted(file->deleted);
    if (file->disk() == nullptr) continue;
    if (file->deleted && InFolder(*file)) {
      return base::Fail(
          base::Code::kUnsupported,
          "checkpoint: file '%s' was unlinked from its disk folder and is still mapped (ENOSYS)",
          base::Printable(file->name()).c_str());
    }
    DescribeRecipe(file->disk()->recipe(), *out.mutable_recipe());
    out.set_recipe_end(file->disk()->recipe_end());
  }
  return {};
}

// After the write-back: what is clean then is what the image leaves to files.
void ModelSource::CollectSmaps() {
  for (auto& [objref, entry] : mms_) {
    for (ckpt_pb::Vma& vma : *entry.vmas.mutable_vma()) {
      DescribeSmaps(mm::SmapsOf(*entry.mm->vma_at(vma.start())), *vma.mutable_smaps());
    }
  }
}

base::Result<void> ModelSource::WriteBack() {
  std::set<mm::File*> wanted;
  for (const uint32_t objref : mapped_files_) wanted.insert(files_.at(objref).get());
  std::vector<mm::FilePtr> all = machine_.files();
  for (const mm::FilePtr& file : all) {
    if (!wanted.contains(file.get()) && !InFolder(*file)) continue;
    if (const auto synced = mm::vfs_fsync(machine_, *file); !synced) {
      return base::FailErrno(synced.error().err, "checkpoint: write back file '%s'",
                             base::Printable(file->name()).c_str());
    }
  }
  return {};
}

// The published lookups bring pages in, which may send others away. So every page is asked about before the
// first is answered: from then on the memory stands still.
base::Result<void> ModelSource::AskAsPublished() {
  if (asked_) return {};
  asked_ = true;
  for (auto& [objref, entry] : mms_) {
    mm::ReadGuard guard(entry.mm->mmap_sem);
    std::map<uint64_t, uint64_t>& runs = published_[objref];
    for (const auto& [start, vma] : entry.mm->vmas()) {
      if ((vma->flags & (mm::VM_SHARED | mm::VM_MAYSHARE)) != 0 || vma->special != mm::Special::kNone)
        continue;
      mm::PageTable& table = entry.mm->pgtable;
      for (mm::Vaddr addr = vma->start; addr < vma->end;) {
        const mm::Pfn pfn = TRY(mm::get_dirty_page(*vma, addr));
        if (pfn == mm::kNoPfn) {
          // Where there is still no page table, the answer is the same up to the next one.
          if (table.find(addr) != nullptr) {
            addr += kPageSize;
          } else if (table.next_leaf(&addr, vma->end) == nullptr) {
            break;
          }
          continue;
        }
        machine_.frames.put_page(pfn);
        const uint64_t page = addr / kPageSize;
        const bool follows = !runs.empty() && runs.rbegin()->second == page;
        (follows ? runs.rbegin()->second : runs[page]) = page + 1;
        addr += kPageSize;
      }
    }
  }
  return {};
}

base::Result<ModifiedRun> ModelSource::NextPublished(uint32_t mm_ref, uint64_t first, uint64_t end) {
  TRY_VOID(AskAsPublished());
  const std::map<uint64_t, uint64_t>& runs = published_[mm_ref];
  auto at = runs.upper_bound(first);
  if (at != runs.begin() && std::prev(at)->second > first) --at;
  if (at == runs.end() || at->first >= end) return ModifiedRun{};
  const uint64_t start = std::max(first, at->first);
  return ModifiedRun{start, std::min(end, at->second) - start, true};
}

base::Result<ModifiedRun> ModelSource::NextModified(uint32_t mm_ref, uint64_t first, uint64_t end) {
  Vma* vma = mms_.at(mm_ref).mm->vma_at(first * kPageSize);
  CHECK(vma != nullptr && end * kPageSize <= vma->end);
  if (!mm::dump_reads_slots(machine_)) return NextPublished(mm_ref, first, end);
  // Cut where exclusive pages and shared ones meet, so that only the latter are looked up.
  const mm::DirtyRun run =
      mm::next_dirty_run(*vma, first * kPageSize, end * kPageSize, ~uint64_t{0}, mm::Cut::kAtShared);
  ModifiedRun modified{run.start / kPageSize, run.pages, run.shared};
  const uint32_t tracked = vma->mm->tracked_objref;
  if (machine_.tracked_by.empty() || tracked == 0 || run.pages == 0) return modified;
  const mm::SoftDirtyRun alike =
      mm::next_soft_dirty_run(*vma->mm, run.start, run.start + run.pages * kPageSize);
  modified.count = alike.pages;
  if (!alike.soft_dirty) modified.parent_mm = tracked;
  return modified;
}

void ModelSource::Track(const std::string& digest) {
  machine_.tracked_by = digest;
  if (digest.empty()) return;
  mm::clear_soft_dirty(machine_);
  for (const auto& [pid, process] : machine_.processes()) process->mm->tracked_objref = 0;
  for (const auto& [objref, entry] : mms_) entry.mm->tracked_objref = objref;
}

uint32_t ModelSource::PageIdentity(uint32_t mm_ref, uint64_t page) {
  const mm::Pte pte = *mms_.at(mm_ref).mm->pgtable.find(page * kPageSize);
  if (!mm::pte_swap(pte)) return static_cast<uint32_t>(mm::pte_pfn(pte));
  // A page that one process maps and another has in swap is one page: the swap cache's. Slots are numbered
  // behind the frames: together they are fewer than 2^30.
  const mm::SwpEntry slot = mm::pte_to_swp_entry(pte);
  const mm::Pfn cached = machine_.swap->cached(slot);
  return cached != mm::kNoPfn ? static_cast<uint32_t>(cached) : machine_.frames.frame_count() + slot;
}

ModifiedRun ModelSource::NextOfObject(uint32_t file, uint64_t first) {
  const mm::Mapping& mapping = files_.at(file)->mapping;
  auto page = mapping.pages.lower_bound(first);
  auto slot = mapping.swapped.lower_bound(first);
  ModifiedRun run;
  for (;; ++run.count) {
    const bool cached =
        page != mapping.pages.end() && (run.count == 0 || page->first == run.first + run.count);
    const bool swapped =
        slot != mapping.swapped.end() && (run.count == 0 || slot->first == run.first + run.count);
    if (!cached && !swapped) return run;
    const bool take_page = cached && (!swapped || page->first < slot->first);
    if (run.count == 0) run.first = take_page ? page->first : slot->first;
    if (take_page) {
      ++page;
    } else {
      ++slot;
    }
  }
}

void ModelSource::AddChanged(ChangedRuns& runs, uint64_t first, uint64_t count, bool zeros) {
  if (!runs.empty() && runs.rbegin()->second.end == first && runs.rbegin()->second.zeros == zeros) {
    runs.rbegin()->second.end += count;
  } else {
    runs.emplace_hint(runs.end(), first, ChangedRun{first + count, zeros});
  }
}

void ModelSource::AddDirty(ChangedRuns& runs, uint64_t index) {
  const auto after = runs.upper_bound(index);
  if (after != runs.begin()) {
    ChangedRun& run = std::prev(after)->second;
    if (index < run.end) {
      if (!run.zeros) return;
      if (index + 1 < run.end) runs.emplace_hint(after, index + 1, run);
      run.end = index;  // nothing is left of it if it began here: replaced below
    }
  }
  runs.insert_or_assign(index, ChangedRun{index + 1, false});
}

// Pages on disk or in the cache whose bytes are not what the recipe makes.
base::Result<const ModelSource::ChangedRuns*> ModelSource::Changed(uint32_t file_ref) {
  const auto [place, first_time] = changed_.try_emplace(file_ref);
  const mm::File& file = *files_.at(file_ref);
  if (!first_time || file.disk() == nullptr) return &place->second;
  const auto listed =
      file.disk()->ForEachChanged([&](uint64_t first, uint64_t count, const std::byte* bytes) {
        AddChanged(place->second, first, count, bytes == nullptr);
      });
  if (!listed) {
    changed_.erase(place);
    return base::FailErrno(listed.error().err, "read file '%s'", base::Printable(file.name()).c_str());
  }
  for (const auto& [index, pfn] : file.mapping.pages) {
    if (!is_guest() && machine_.frames.at(pfn).dirty()) AddDirty(place->second, index);
  }
  return &place->second;
}

base::Result<std::vector<PageRun>> ModelSource::ChangedPages(uint32_t file_ref) {
  const mm::File& file = *files_.at(file_ref);
  std::vector<PageRun> runs;
  if (InFolder(file)) return runs;  // the folder has them
  const auto add = [&](uint64_t first, uint64_t count, PageRun::Kind kind) {
    if (!runs.empty() && runs.back().kind() == kind && runs.back().first() + runs.back().count() == first) {
      runs.back().set_count(runs.back().count() + count);
      return;
    }
    PageRun& run = runs.emplace_back();
    run.set_owner(PageRun::DISK);
    run.set_objref(file_ref);
    run.set_first(first);
    run.set_count(count);
    run.set_kind(kind);
  };
  mm::PageBytes bytes;
  for (const auto& [first, changed] : *TRY(Changed(file_ref))) {
    const uint64_t end = std::min(changed.end, file.size_pages());
    if (changed.zeros && first < end) add(first, end - first, PageRun::ZERO);
    for (uint64_t index = first; !changed.zeros && index < end; ++index) {
      TRY_VOID(is_guest() ? ReadDiskPage(file, index, bytes) : ReadFilePage(file, index, bytes));
      ZeroPastEnd(file, index, bytes);
      const bool zero = std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
      add(index, 1, zero ? PageRun::ZERO : PageRun::STORED);
    }
  }
  return runs;
}

Residency ModelSource::CountResidency() {
  Residency count;
  for (auto& [objref, entry] : mms_) {
    count.mapped += entry.mm->total_vm;
    for (const auto& [start, vma] : entry.mm->vmas()) {
      const Vma& here = *vma;
      entry.mm->pgtable.walk(here.start, here.end, [&](mm::Vaddr, const mm::Pte& pte) {
        if (!mm::pte_present(pte)) return;
        ++count.present;
        if (mm::pte_pfn(pte) == mm::kZeroPfn) {
          ++count.zero;
        } else if (here.file != nullptr && !mm::page_is_modified(here, pte)) {
          if (here.file->kind() != mm::FileKind::kShmem) ++count.clean;
        }
      });
    }
  }
  return count;
}

base::Result<void> ModelSource::DescribeGuest(
    const std::function<base::Result<void>(const ckpt_pb::Guest&)>& part) {
  GuestNames names;
  for (const auto& [objref, entry] : mms_) names.mms.emplace(entry.mm.get(), objref);
  for (const auto& [file, objref] : file_refs_) names.files.emplace(file, objref);
  return ckpt::DescribeGuest(machine_, names, part);
}

std::vector<PageRun> ModelSource::GuestRuns() { return ckpt::GuestRuns(machine_); }

void ModelSource::CountFrames(ckpt_pb::Totals& totals) {
  totals.set_frames(machine_.frames.high_water() - 1);
  if (machine_.host == nullptr) return;
  totals.mutable_by_state()->Resize(mm::kPageStates, 0);
  for (uint32_t frame = 1; frame < machine_.frames.high_water(); ++frame) {
    const mm::PageState state = machine_.host->state(mm::Pfn{frame});
    ++(*totals.mutable_by_state())[static_cast<int>(state)];
    const bool has_bytes = mm::ResidenceOf(state) != mm::Residence::kZero;
    if (has_bytes && guest_drops(machine_, mm::Pfn{frame})) totals.set_dropped(totals.dropped() + 1);
  }
}

base::Result<void> ModelSource::Read(const PageRun& run, std::span<std::byte> out) const {
  CHECK(out.size() == run.count() * kPageSize);
  for (uint64_t i = 0; i < run.count(); ++i) {
    const std::span<std::byte> page = out.subspan(i * kPageSize, kPageSize);
    const uint64_t number = run.first() + i;
    if (run.owner() == PageRun::FRAME || run.owner() == PageRun::SLOT) {
      TRY_VOID(ReadGuestPage(machine_, run.owner(), number, page));
      continue;
    }
    if (run.owner() != PageRun::MM) {
      const mm::File& file = *files_.at(run.objref());
      TRY_VOID(is_guest() ? ReadDiskPage(file, number, page) : ReadFilePage(file, number, page));
      if (run.owner() == PageRun::DISK) ZeroPastEnd(file, number, page);
      continue;
    }
    TRY_VOID(ReadMmPage(*mms_.at(run.objref()).mm, number, page));
  }
  return {};
}

base::Result<void> ModelSource::ReadMmPage(mm::MmStruct& mm, uint64_t page, std::span<std::byte> out) const {
  const auto addr = static_cast<unsigned long long>(page * kPageSize);
  const Vma* vma = mm.vma_at(addr);
  CHECK(vma != nullptr);
  const auto peeked = mm::peek_page(*vma, addr, mm::PageSpan(out.data(), kPageSize));
  if (!peeked) return base::FailErrno(peeked.error().err, "page at %#llx", addr);
  if (peeked->kind == mm::Peeked::Kind::kSigbus) {
    return base::Fail(base::Code::kFault,
                      "page at %#llx: its memory failed, and nothing can be read (EFAULT)", addr);
  }
  Copy(*peeked, out);
  return {};
}

base::Result<void> ModelSource::ReadFilePage(const mm::File& file, uint64_t index,
                                             std::span<std::byte> out) const {
  const auto peeked = mm::peek_file_page(machine_, file, index, mm::PageSpan(out.data(), kPageSize));
  if (!peeked) {
    return base::FailErrno(peeked.error().err, "read file '%s' page %llu",
                           base::Printable(file.name()).c_str(), static_cast<unsigned long long>(index));
  }
  Copy(*peeked, out);
  return {};
}

base::Result<void> ModelSource::ReadDiskPage(const mm::File& file, uint64_t index, std::span<std::byte> out) {
  const auto read = file.disk()->ReadPage(index, mm::PageSpan(out.data(), kPageSize));
  if (read) return {};
  return base::FailErrno(read.error().err, "read file '%s' page %llu", base::Printable(file.name()).c_str(),
                         static_cast<unsigned long long>(index));
}

// `count` pages of a file from `index` on that no page table changes, for pages [first, ...).
ContentRun ModelSource::FileContent(const mm::FilePtr& file, uint64_t first, uint64_t count, uint64_t index) {
  if (file->kind() == mm::FileKind::kDevZero) return {Content::kZero, first, count};
  const uint64_t size = file->size_pages();
  if (index >= size) return {Content::kSigbus, first, count};
  count = std::min(count, size - index);
  if (file->kind() == mm::FileKind::kShmem) {
    const uint64_t next = FirstOfObject(file->mapping, index);
    if (next == index) return {Content::kBytes, first, 1};
    return {Content::kZero, first, std::min(count, next - index)};
  }
  const uint32_t ref = FileRef(file);
  const base::Result<const ChangedRuns*> listed = Changed(ref);
  if (!listed) return {Content::kBytes, first, 1};  // reading them says what is wrong
  const auto next = (*listed)->upper_bound(index);
  if (next != (*listed)->begin()) {
    const ChangedRun& run = std::prev(next)->second;
    const Content content = run.zeros ? Content::kZero : Content::kBytes;
    if (index < run.end) return {content, first, std::min(count, run.end - index)};
  }
  if (next != (*listed)->end()) count = std::min(count, next->first - index);
  return {Content::kPristine, first, count, ref, index};
}

ContentRun ModelSource::AbsentContent(const Vma& vma, uint64_t first, uint64_t end) {
  if (vma.file == nullptr) return {Content::kZero, first, end - first};
  return FileContent(vma.file, first, end - first, mm::linear_page_index(vma, first * kPageSize));
}

ContentRun ModelSource::NextContent(uint32_t mm_ref, uint64_t first, uint64_t end) {
  mm::MmStruct& mm = *mms_.at(mm_ref).mm;
  Vma* vma = mm.vma_at(first * kPageSize);
  CHECK(vma != nullptr && end * kPageSize <= vma->end);
  mm::Vaddr leaf = first * kPageSize;
  const mm::Pte* pte = mm.pgtable.next_leaf(&leaf, end * kPageSize);
  if (pte == nullptr) return AbsentContent(*vma, first, end);
  if (leaf != first * kPageSize) return AbsentContent(*vma, first, leaf / kPageSize);
  // None entries in a row, up to the end of this leaf table.
  const uint64_t stop = std::min(end, mm::PageTable::LeafEnd(leaf) / kPageSize);
  if (mm::pte_none(*pte)) {
    uint64_t none_end = first + 1;
    while (none_end < stop && mm::pte_none(*++pte)) ++none_end;
    return AbsentContent(*vma, first, none_end);
  }
  if (mm::pte_file(*pte)) return FileContent(vma->file, first, 1, mm::pte_to_pgoff(*pte));
  if (mm::pte_swap(*pte)) return {Content::kBytes, first, 1};
  if (!mm::pte_present(*pte)) return {Content::kSigbus, first, 1};
  if (mm::pte_pfn(*pte) == mm::kZeroPfn) return {Content::kZero, first, 1};
  const mm::Page& page = machine_.frames.at(mm::pte_pfn(*pte));
  if (mm::FileMapping(page) == nullptr) return {Content::kBytes, first, 1};
  return FileContent(vma->file, first, 1, page.index);
}

base::Result<void> ModelSource::ReadContent(uint32_t mm_ref, uint64_t page, std::span<std::byte> out) {
  return ReadMmPage(*mms_.at(mm_ref).mm, page, out);
}

}  // namespace ckpt
