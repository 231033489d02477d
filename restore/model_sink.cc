#include "restore/model_sink.h"

#include <algorithm>
#include <mutex>
#include <shared_mutex>

#include "mm/fault.h"
#include "mm/folder_disk.h"

namespace restore {
namespace {

using base::Code;
using base::Fail;
using base::kPageSize;
using ckpt_pb::PageRun;

mm::Recipe FromProto(const ckpt_pb::Recipe& recipe) {
  return {.kind = static_cast<mm::Recipe::Kind>(recipe.kind()),
          .size = recipe.size(),
          .generator = recipe.generator(),
          .seed = recipe.seed(),
          .path = recipe.path(),
          .device = recipe.device(),
          .inode = recipe.inode(),
          .mtime_ns = recipe.mtime_ns(),
          .build_id = recipe.build_id()};
}

// Bytes that somebody else brings are not cleared first; those of a ZERO run are not even touched where their
// frame was never used.
mm::Fill FillOf(const PageRun& run) {
  return run.kind() == PageRun::ZERO ? mm::Fill::kZero : mm::Fill::kUninitialized;
}

// Appends one page, joined to the piece before it where the two are neighbours in memory.
void AddPiece(std::vector<std::span<std::byte>>& pieces, std::byte* page) {
  if (!pieces.empty() && pieces.back().data() + pieces.back().size() == page) {
    pieces.back() = {pieces.back().data(), pieces.back().size() + kPageSize};
  } else {
    pieces.emplace_back(page, kPageSize);
  }
}

}  // namespace

base::Result<std::unique_ptr<ModelSink>> ModelSink::Create(const ckpt_pb::Machine& recorded,
                                                           std::string disk_dir,
                                                           const ckpt_pb::Guest* guest) {
  mm::MachineConfig config;
  config.memory_bytes = recorded.memory_bytes();
  config.vdso_start = recorded.vdso_start();
  config.vdso_pages = recorded.vdso_pages();
  config.swap_bytes = recorded.swap_bytes();
  config.swap_off = recorded.swap_off();
  for (const std::string& assignment : recorded.semantics()) {
    TRY_VOID(mm::SetSwitch(config.semantics, assignment));
  }
  std::unique_ptr<ModelSink> sink(new ModelSink(std::move(disk_dir)));
  if (recorded.scope() == ckpt_pb::Machine::MACHINE && guest != nullptr) {
    sink->guest_ = guest;
    sink->file_ids_ = TRY(GuestBuilder::FileIds(*guest));
  }
  // A host has room for all until the last page is in its place: pieces are filled in any order.
  sink->host_bytes_ = recorded.host_bytes();
  if (sink->host_bytes_ != 0) {
    config.host_bytes = config.memory_bytes;
    if (sink->host_bytes_ < mm::kHostMemoryMin || sink->host_bytes_ > config.memory_bytes) {
      return Fail(Code::kCorrupt, "the image has a host of %s under a machine of %s",
                  base::FormatSize(sink->host_bytes_).c_str(), base::FormatSize(config.memory_bytes).c_str());
    }
  }
  sink->machine_ = TRY(mm::Machine::Create(config));
  return sink;
}

base::Result<void> ModelSink::CreateFile(const ckpt_pb::File& file) {
  mm::FilePtr created;
  if (guest_ != nullptr) {
    const auto id = file_ids_.find(file.objref());
    if (id == file_ids_.end())
      return Fail(Code::kCorrupt, "guest: it does not know file %u of the image", file.objref());
    machine_->set_next_file(id->second);
  }
  if (file.kind() == ckpt_pb::File::SHMEM) {
    created = machine_->create_shmem(file.name(), file.size());
  } else if (file.kind() == ckpt_pb::File::DEV_ZERO) {
    created = machine_->dev_zero();
  } else {
    std::unique_ptr<mm::Disk> disk;
    if (file.recipe().kind() == ckpt_pb::Recipe::FOLDER) {
      disk = TRY(mm::FolderDisk::Open(disk_dir_, file.recipe().path()));
    } else {
      mm::OpenedContent content = TRY(mm::OpenContent(FromProto(file.recipe())));
      disk = std::make_unique<mm::OverlayDisk>(std::move(content), file.recipe_end());
    }
    if (file.deleted()) {
      files_.emplace(file.objref(), machine_->create_deleted_file(file.name(), file.size(), std::move(disk)));
      return {};
    }
    if (machine_->find_file(file.name()) != nullptr) {
      return Fail(Code::kInvalid, "the image has two files '%s'", base::Printable(file.name()).c_str());
    }
    created = machine_->create_file(file.name(), file.size(), std::move(disk));
  }
  files_.emplace(file.objref(), std::move(created));
  return {};
}

base::Result<void> ModelSink::CreateMm(const ckpt_pb::Mm& in) {
  const std::shared_ptr<mm::MmStruct> mm = machine_->new_mm();
  mm->layout = {.start_code = in.start_code(),
                .end_code = in.end_code(),
                .start_data = in.start_data(),
                .end_data = in.end_data(),
                .start_brk = in.start_brk(),
                .brk = in.brk(),
                .start_stack = in.start_stack(),
                .arg_start = in.arg_start(),
                .arg_end = in.arg_end(),
                .env_start = in.env_start(),
                .env_end = in.env_end()};
  mm->def_flags = in.def_flags();
  mm->word_bytes = in.word_bytes();
  for (const ckpt_pb::Auxv& auxv : in.auxv()) mm->auxv.push_back({auxv.type(), auxv.value()});
  if (in.exe_objref() != 0) mm->exe_file = files_.at(in.exe_objref());
  mms_.emplace(in.objref(), mm);
  return {};
}

base::Result<void> ModelSink::CreateProcess(const ckpt_pb::Process& in) {
  mm::Process& process = machine_->attach(in.pid(), in.name(), mms_.at(in.mm_objref()));
  process.ppid = in.ppid();
  process.rlimit_fsize = in.rlimit_fsize();
  process.rlimit_stack = in.rlimit_stack();
  return {};
}

base::Result<void> ModelSink::Map(uint32_t mm_ref, const ckpt_pb::Vma& in) {
  auto vma = std::make_unique<mm::Vma>();
  vma->start = in.start();
  vma->end = in.end();
  vma->flags = in.flags();
  vma->pgoff = in.pgoff();
  vma->anon_vma = in.anon_vma();
  if (in.file_objref() != 0) vma->file = files_.at(in.file_objref());
  if (in.kind() == ckpt_pb::Vma::VDSO) vma->special = mm::Special::kVdso;
  mm::MmStruct& mm = *mms_.at(mm_ref);
  std::unique_lock guard(mm.mmap_sem);
  mm.insert_vma(std::move(vma));
  return {};
}

base::Result<void> ModelSink::MapNonlinear(uint32_t mm_ref, const ckpt_pb::NonlinearRun& run) {
  if (guest_ != nullptr) return {};  // its page tables say it
  mm::MmStruct& mm = *mms_.at(mm_ref);
  std::shared_lock guard(mm.mmap_sem);
  mm::Vma* vma = mm.vma_at(run.first() * kPageSize);
  for (uint64_t i = 0; i < run.count(); ++i) {
    mm::install_file_pte(*vma, (run.first() + i) * kPageSize, run.pgoff() + i);
  }
  return {};
}

base::Result<ModelSink::Stored> ModelSink::NewPage(mm::Fill fill) {
  // What memory has no room for goes where it would have gone: to swap.
  const bool room = machine_->frames.nr_free() > mm::watermarks(machine_->frames).high;
  if (!room && machine_->swap != nullptr) {
    const mm::SwpEntry slot = machine_->swap->TakeForUser();
    if (slot != mm::kNoSlot) {
      if (fill == mm::Fill::kZero) std::ranges::fill(machine_->swap->device().PlacePage(slot), std::byte{0});
      return Stored{mm::kNoPfn, slot};
    }
  }
  const mm::Pfn pfn = machine_->frames.alloc_page(fill);
  if (pfn == mm::kNoPfn) {
    return Fail(Code::kNoMemory, "the image holds more pages than its machine has memory (%s) and swap (%s)",
                base::FormatSize(machine_->config().memory_bytes).c_str(),
                base::FormatSize(machine_->config().swap_bytes).c_str());
  }
  return Stored{pfn, mm::kNoSlot};
}

std::byte* ModelSink::BytesOf(const Stored& page) {
  return page.pfn != mm::kNoPfn ? machine_->frames.bytes(page.pfn)
                                : machine_->swap->device().PlacePage(page.slot).data();
}

void ModelSink::NoteStored(uint64_t number, const Stored& page) {
  if (stored_.size() <= number) stored_.resize(number + 1);
  stored_[number] = page;
}

base::Result<void> ModelSink::PutGuest() {
  if (guest_ == nullptr) return MemorySink::PutGuest();
  builder_ = std::make_unique<GuestBuilder>(*machine_, *guest_, files_, mms_);
  return builder_->Build();
}

base::Result<void> ModelSink::PlaceGuest(const PageRun& run, std::vector<std::span<std::byte>>& pieces) {
  CHECK(builder_ != nullptr);
  for (uint64_t i = 0; i < run.count(); ++i)
    AddPiece(pieces, TRY(builder_->Place(run.owner(), run.first() + i)));
  return {};
}

base::Result<void> ModelSink::Place(const PageRun& run, std::vector<std::span<std::byte>>& pieces) {
  switch (run.owner()) {
    case PageRun::FRAME:
    case PageRun::SLOT: return PlaceGuest(run, pieces);
    case PageRun::MM: return PlaceMm(run, pieces);
    case PageRun::SHMEM: return PlaceObject(run, pieces);
    default: return PlaceDisk(run, pieces);
  }
}

base::Result<void> ModelSink::PlaceMm(const PageRun& run, std::vector<std::span<std::byte>>& pieces) {
  mm::MmStruct& mm = *mms_.at(run.objref());
  for (uint64_t i = 0; i < run.count(); ++i) {
    const mm::Vaddr addr = (run.first() + i) * kPageSize;
    const Stored page = TRY(NewPage(FillOf(run)));
    if (page.pfn != mm::kNoPfn) {
      mm::install_anon_page(*mm.vma_at(addr), addr, page.pfn, mm::Shared::kNo);
    } else {
      mm::install_swap_entry(*mm.vma_at(addr), addr, page.slot);
    }
    NoteStored(run.stored() + i, page);
    AddPiece(pieces, BytesOf(page));
  }
  return {};
}

base::Result<void> ModelSink::PlaceObject(const PageRun& run, std::vector<std::span<std::byte>>& pieces) {
  mm::File& file = *files_.at(run.objref());
  for (uint64_t i = 0; i < run.count(); ++i) {
    const Stored stored = TRY(NewPage(FillOf(run)));
    AddPiece(pieces, BytesOf(stored));
    if (stored.pfn == mm::kNoPfn) {
      file.mapping.swapped.emplace(run.first() + i, stored.slot);
      continue;
    }
    mm::Page& page = machine_->frames.at(stored.pfn);
    mm::lock_page(page);
    mm::add_to_page_cache(*machine_, file.mapping, run.first() + i, stored.pfn);
    page.flags |= mm::PG_uptodate;
    mm::set_page_dirty(*machine_, stored.pfn);
    mm::unlock_page_nocheck(page);
    machine_->frames.put_page(stored.pfn);  // the cache's reference stays
  }
  return {};
}

base::Result<void> ModelSink::PlaceDisk(const PageRun& run, std::vector<std::span<std::byte>>& pieces) {
  auto* disk = dynamic_cast<mm::OverlayDisk*>(files_.at(run.objref())->disk());
  if (disk == nullptr) {
    return Fail(Code::kInvalid, "the image has disk pages for '%s', which a folder keeps",
                base::Printable(files_.at(run.objref())->name()).c_str());
  }
  for (uint64_t i = 0; i < run.count(); ++i) AddPiece(pieces, disk->PlacePage(run.first() + i).data());
  return {};
}

base::Result<void> ModelSink::Same(const PageRun& run) {
  if (run.owner() != PageRun::MM) return Fail(Code::kInvalid, "the image shares pages of a file");
  mm::MmStruct& mm = *mms_.at(run.objref());
  for (uint64_t i = 0; i < run.count(); ++i) {
    const uint64_t number = run.stored() + i;
    const Stored page = number < stored_.size() ? stored_[number] : Stored{};
    if (page.pfn == mm::kNoPfn && page.slot == mm::kNoSlot) {
      return Fail(Code::kInvalid, "the image shares stored page %llu, which is not a page of a process",
                  static_cast<unsigned long long>(number));
    }
    const mm::Vaddr addr = (run.first() + i) * kPageSize;
    if (page.pfn == mm::kNoPfn) {
      mm::swap_duplicate(*machine_, page.slot);
      mm::install_swap_entry(*mm.vma_at(addr), addr, page.slot);
      continue;
    }
    machine_->frames.get_page(page.pfn);
    mm::install_anon_page(*mm.vma_at(addr), addr, page.pfn, mm::Shared::kYes);
  }
  return {};
}

base::Result<void> ModelSink::Zero(const PageRun& run) {
  if (run.owner() != PageRun::DISK) {
    std::vector<std::span<std::byte>> pieces;
    return Place(run, pieces);  // which come as zeros
  }
  mm::Disk* disk = files_.at(run.objref())->disk();
  if (const auto punched = disk->PunchHole(run.first(), run.first() + run.count()); !punched) {
    return base::FailErrno(punched.error().err, "punch a hole into file '%s'",
                           base::Printable(files_.at(run.objref())->name()).c_str());
  }
  return {};
}

// Locked memory is memory that is there: it is brought in, as far as there is room. Holes of anonymous memory
// hold nothing that could be.
void ModelSink::BringInLocked(mm::MmStruct& mm) {
  std::shared_lock guard(mm.mmap_sem);
  for (const auto& [start, vma] : mm.vmas()) {
    if ((vma->flags & mm::VM_LOCKED) == 0) continue;
    if (machine_->frames.nr_free() == 0) return;
    if (vma->has_fault()) {
      (void)mm::make_pages_present(mm, vma->start, vma->end, mm::BreakCow::kNo);
      continue;
    }
    std::vector<mm::Vaddr> swapped;
    mm.pgtable.walk(vma->start, vma->end, [&](mm::Vaddr addr, const mm::Pte& pte) {
      if (mm::pte_swap(pte)) swapped.push_back(addr);
    });
    for (const mm::Vaddr addr : swapped) {
      if (!mm::make_pages_present(mm, addr, addr + kPageSize, mm::BreakCow::kNo)) return;
    }
  }
}

base::Result<void> ModelSink::Seal() {
  if (builder_ != nullptr) {
    TRY_VOID(builder_->Finish(host_bytes_));
    builder_ = nullptr;
    return {};
  }
  // Every page has all its mappings now: those that have one may be written at once.
  for (const auto& [objref, mm] : mms_) {
    for (const auto& [start, vma] : mm->vmas()) mm::make_writable(*vma);
  }
  // A file that was cut between checkpoint and restart ends where it ends, also inside a written page.
  for (const auto& [objref, file] : files_) {
    if (auto* disk = dynamic_cast<mm::OverlayDisk*>(file->disk())) (void)disk->Truncate(file->i_size);
  }
  if (host_bytes_ != 0) machine_->resize_host(host_bytes_);
  // Last, since it may send other pages away.
  for (const auto& [objref, mm] : mms_) BringInLocked(*mm);
  stored_.clear();
  stored_.shrink_to_fit();
  return {};
}

std::unique_ptr<mm::Machine> ModelSink::TakeMachine() {
  files_.clear();
  mms_.clear();
  return std::move(machine_);
}

}  // namespace restore
