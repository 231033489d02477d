#include "ckpt/model_source.h"

#include <algorithm>
#include <cstring>
#include <shared_mutex>

#include "mm/follow_page.h"

namespace ckpt {
namespace {

using base::kPageSize;
using ckpt_pb::PageRun;
using mm::Vma;

// Vmas whose pages are not the process's alone to save: spec C2. VM_NORESERVE and non-linear file
// mappings, which the published patches refused, are saved.
struct Unsupported {
  uint64_t flag;
  const char* name;
};
constexpr Unsupported kUnsupported[] = {{mm::VM_IO, "VM_IO"},
                                        {mm::VM_HUGETLB, "VM_HUGETLB"},
                                        {mm::VM_PFNMAP, "VM_PFNMAP"},
                                        {mm::VM_RESERVED, "VM_RESERVED"},
                                        {mm::VM_MAPPED_COPY, "VM_MAPPED_COPY"},
                                        {mm::VM_INSERTPAGE, "VM_INSERTPAGE"},
                                        {mm::VM_MIXEDMAP, "VM_MIXEDMAP"},
                                        {mm::VM_SAO, "VM_SAO"}};

ckpt_pb::Vma::Kind KindOf(const Vma& vma) {
  if (vma.special == mm::Special::kVdso) return ckpt_pb::Vma::VDSO;
  if (vma.file == nullptr) return ckpt_pb::Vma::ANON;
  // A shared mapping of a file that may not be written keeps only VM_MAYSHARE.
  if ((vma.flags & (mm::VM_SHARED | mm::VM_MAYSHARE)) == 0) return ckpt_pb::Vma::FILE_PRIVATE;
  return vma.file->kind() == mm::FileKind::kShmem ? ckpt_pb::Vma::SHM_ANON : ckpt_pb::Vma::FILE_SHARED;
}

ckpt_pb::File::Kind KindOf(const mm::File& file) {
  switch (file.kind()) {
    case mm::FileKind::kRegular: return ckpt_pb::File::REGULAR;
    case mm::FileKind::kShmem: return ckpt_pb::File::SHMEM;
    case mm::FileKind::kDevZero: return ckpt_pb::File::DEV_ZERO;
  }
  return ckpt_pb::File::REGULAR;
}

void DescribeRecipe(const mm::Recipe& recipe, ckpt_pb::Recipe& out) {
  out.set_kind(static_cast<ckpt_pb::Recipe::Kind>(recipe.kind));
  out.set_size(recipe.size);
  out.set_generator(recipe.generator);
  out.set_seed(recipe.seed);
  out.set_path(recipe.path);
  out.set_device(recipe.device);
  out.set_inode(recipe.inode);
  out.set_mtime_ns(recipe.mtime_ns);
  out.set_build_id(recipe.build_id);
}

bool InFolder(const mm::File& file) {
  return file.disk() != nullptr && file.disk()->recipe().kind == mm::Recipe::Kind::kFolder;
}

// What a shared mapping stored behind the end of a file is no part of the file.
void ZeroPastEnd(const mm::File& file, uint64_t index, std::span<std::byte> page) {
  const uint64_t start = index * kPageSize;
  const uint64_t keep = file.i_size > start ? std::min<uint64_t>(file.i_size - start, kPageSize) : 0;
  std::ranges::fill(page.subspan(keep), std::byte{0});
}

}  // namespace

ModelSource::ModelSource(mm::Machine& machine, ModelScope scope)
    : machine_(machine), scope_(std::move(scope)) {}

const ckpt_pb::Vmas& ModelSource::vmas(uint32_t mm) const { return mms_.at(mm).vmas; }

base::Result<void> ModelSource::Prepare() {
  TRY_VOID(CollectProcesses());
  TRY_VOID(WriteBack());
  TRY_VOID(CollectFiles());
  const mm::MachineConfig& config = machine_.config();
  machine_pb_.set_page_size(kPageSize);
  machine_pb_.set_memory_bytes(config.memory_bytes);
  for (const std::string& changed : mm::ChangedSwitches(config.semantics)) machine_pb_.add_semantics(changed);
  machine_pb_.set_vdso_start(config.vdso_start);
  machine_pb_.set_vdso_pages(config.vdso_pages);
  machine_pb_.set_label(scope_.label);
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
      if (process->mm->nr_aio > 0) {
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

base::Result<void> ModelSource::CollectVmas(MmEntry& entry, uint32_t objref, mm::Pid pid) {
  entry.vmas.set_mm_objref(objref);
  const size_t map_count = entry.mm->map_count();
  machine_.points.Reach(mm::Point::kCheckpointBeforeWalk);
  std::shared_lock guard(entry.mm->mmap_sem);
  for (const auto& [start, vma] : entry.mm->vmas()) {
    base::Result<void> described = DescribeVma(*vma, pid, *entry.vmas.add_vma());
    if (!described) return described;
  }
  if (static_cast<size_t>(entry.vmas.vma_size()) != map_count) {
    return base::Fail(base::Code::kBusy,
                      "checkpoint process %u: it had %zu vmas and has %d now; freeze it first (EBUSY)", pid,
                      map_count, entry.vmas.vma_size());
  }
  return {};
}

base::Result<void> ModelSource::DescribeVma(const Vma& vma, mm::Pid pid, ckpt_pb::Vma& out) {
  const auto start = static_cast<unsigned long long>(vma.start);
  for (const Unsupported& unsupported : kUnsupported) {
    if ((vma.flags & unsupported.flag) != 0) {
      return base::Fail(base::Code::kUnsupported,
                        "checkpoint process %u: vma at %#llx is %s, which is not saved (ENOSYS)", pid, start,
                        unsupported.name);
    }
  }
  if ((vma.flags & mm::VM_NONLINEAR) != 0 && (vma.file == nullptr || !vma.is_shared())) {
    return base::Fail(base::Code::kUnsupported,
                      "checkpoint process %u: vma at %#llx is non-linear and not a shared mapping (ENOSYS)",
                      pid, start);
  }
  if (vma.special != mm::Special::kNone && vma.special != mm::Special::kVdso) {
    return base::Fail(base::Code::kUnsupported,
                      "checkpoint process %u: vma at %#llx is a special mapping other than [vdso] (ENOSYS)",
                      pid, start);
  }
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
    if (file->kind() == mm::FileKind::kRegular && !file->deleted) FileRef(file);
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

base::Result<ModifiedRun> ModelSource::NextModified(uint32_t mm_ref, uint64_t first, uint64_t end) {
  mm::MmStruct& mm = *mms_.at(mm_ref).mm;
  Vma* vma = mm.vma_at(first * kPageSize);
  CHECK(vma != nullptr && end * kPageSize <= vma->end);
  if (machine_.sem().dump_lookup != mm::DumpLookup::kDumpDirty) {
    // The published lookups fault pages in: one page at a time, as they did.
    for (uint64_t page = first; page < end; ++page) {
      const mm::Pfn pfn = TRY(mm::get_dirty_page(*vma, page * kPageSize));
      if (pfn == mm::kNoPfn) continue;
      const bool shared = machine_.frames.at(pfn).mapcount > 1;
      machine_.frames.put_page(pfn);
      return ModifiedRun{page, 1, shared};
    }
    return ModifiedRun{};
  }
  // Cut where exclusive pages and shared ones meet, so that only the latter are looked up.
  const mm::DirtyRun run =
      mm::next_dirty_run(*vma, first * kPageSize, end * kPageSize, ~uint64_t{0}, mm::Cut::kAtShared);
  return ModifiedRun{run.start / kPageSize, run.pages, run.shared};
}

uint32_t ModelSource::PageIdentity(uint32_t mm_ref, uint64_t page) {
  return static_cast<uint32_t>(mm::pte_pfn(*mms_.at(mm_ref).mm->pgtable.find(page * kPageSize)));
}

ModifiedRun ModelSource::NextOfObject(uint32_t file, uint64_t first) {
  const auto& pages = files_.at(file)->mapping.pages;
  auto at = pages.lower_bound(first);
  if (at == pages.end()) return {};
  ModifiedRun run{at->first, 1, false};
  for (++at; at != pages.end() && at->first == run.first + run.count; ++at) ++run.count;
  return run;
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
    if (machine_.frames.at(pfn).dirty()) AddDirty(place->second, index);
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
      TRY_VOID(ReadFilePage(file, index, bytes));
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

base::Result<void> ModelSource::Read(const PageRun& run, std::span<std::byte> out) const {
  CHECK(out.size() == run.count() * kPageSize);
  for (uint64_t i = 0; i < run.count(); ++i) {
    const std::span<std::byte> page = out.subspan(i * kPageSize, kPageSize);
    const uint64_t number = run.first() + i;
    if (run.owner() != PageRun::MM) {
      const mm::File& file = *files_.at(run.objref());
      TRY_VOID(ReadFilePage(file, number, page));
      if (run.owner() == PageRun::DISK) ZeroPastEnd(file, number, page);
      continue;
    }
    const mm::Pte* pte = mms_.at(run.objref()).mm->pgtable.find(number * kPageSize);
    CHECK(pte != nullptr && mm::pte_present(*pte));
    std::memcpy(page.data(), machine_.frames.bytes(mm::pte_pfn(*pte)), kPageSize);
  }
  return {};
}

base::Result<void> ModelSource::ReadFilePage(const mm::File& file, uint64_t index,
                                             std::span<std::byte> out) const {
  const auto cached = file.mapping.pages.find(index);
  if (cached != file.mapping.pages.end()) {
    std::memcpy(out.data(), machine_.frames.bytes(cached->second), kPageSize);
  } else if (file.disk() == nullptr) {
    std::memset(out.data(), 0, kPageSize);
  } else if (const auto read = file.disk()->ReadPage(index, mm::PageSpan(out.data(), kPageSize)); !read) {
    return base::FailErrno(read.error().err, "read file '%s' page %llu", base::Printable(file.name()).c_str(),
                           static_cast<unsigned long long>(index));
  }
  return {};
}

// `count` pages of a file from `index` on that no page table changes, for pages [first, ...).
ContentRun ModelSource::FileContent(const mm::FilePtr& file, uint64_t first, uint64_t count, uint64_t index) {
  if (file->kind() == mm::FileKind::kDevZero) return {Content::kZero, first, count};
  const uint64_t size = file->size_pages();
  if (index >= size) return {Content::kSigbus, first, count};
  count = std::min(count, size - index);
  if (file->kind() == mm::FileKind::kShmem) {
    const auto next = file->mapping.pages.lower_bound(index);
    if (next == file->mapping.pages.end()) return {Content::kZero, first, count};
    if (next->first == index) return {Content::kBytes, first, 1};
    return {Content::kZero, first, std::min(count, next->first - index)};
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
  if (!mm::pte_present(*pte)) return {Content::kSigbus, first, 1};
  if (mm::pte_pfn(*pte) == mm::kZeroPfn) return {Content::kZero, first, 1};
  const mm::Page& page = machine_.frames.at(mm::pte_pfn(*pte));
  if (mm::FileMapping(page) == nullptr) return {Content::kBytes, first, 1};
  return FileContent(vma->file, first, 1, page.index);
}

base::Result<void> ModelSource::ReadContent(uint32_t mm_ref, uint64_t page, std::span<std::byte> out) {
  mm::MmStruct& mm = *mms_.at(mm_ref).mm;
  const mm::Pte* pte = mm.pgtable.find(page * kPageSize);
  if (pte != nullptr && mm::pte_present(*pte)) {
    std::memcpy(out.data(), machine_.frames.bytes(mm::pte_pfn(*pte)), kPageSize);
    return {};
  }
  const Vma* vma = mm.vma_at(page * kPageSize);
  CHECK(vma != nullptr && vma->file != nullptr);
  const bool file_pte = pte != nullptr && mm::pte_file(*pte);
  return ReadFilePage(*vma->file,
                      file_pte ? mm::pte_to_pgoff(*pte) : mm::linear_page_index(*vma, page * kPageSize), out);
}

}  // namespace ckpt
