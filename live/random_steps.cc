#include "live/random_steps.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"
#include "base/units.h"
#include "mm/machine.h"
#include "mm/peek.h"

namespace live {
namespace {

using base::kPageSize;
using ckpt_pb::Step;

constexpr uint64_t kArenaEnd = RandomSteps::kArenaStart + RandomSteps::kArenaPages * kPageSize;
constexpr size_t kProcessesMax = 4;
constexpr uint64_t kFilePagesMax = 8;
// Stacks end there, further from all else than they may grow.
constexpr uint64_t kStackTop = kArenaEnd + (uint64_t{64} << 20);
constexpr uint64_t kStackPagesMax = 16;

std::string Hex(uint64_t value) { return base::Format("%#llx", static_cast<unsigned long long>(value)); }

template <class Op>
void SetRange(Op& op, uint64_t addr, uint64_t length) {
  op.set_addr(Hex(addr));
  op.set_length(Hex(length));
}

// How often a kind comes up when it is not switched off, in the order of RandomSteps::Kind.
constexpr unsigned kUsual[] = {12, 1, 4,  10, 6,  8, 8, 6, 5, 2, 2, 3, 3, 3, 1, 2, 4,
                               1,  3, 10, 30, 10, 3, 2, 5, 6, 4, 1, 1, 2, 1, 1, 1};

}  // namespace

RandomSteps::RandomSteps(uint64_t seed, bool pageout) : random_(seed), pageout_(pageout) {
  static_assert(std::size(kUsual) == static_cast<size_t>(Kind::kKinds));
  workload_.set_name("random");
  workload_.set_seed(seed);
  workload_.mutable_machine()->set_memory("16MiB");
  workload_.mutable_machine()->set_swap("4MiB");
  const uint64_t files = random_.Below(4);
  for (uint64_t i = 0; i < files; ++i) {
    MakeFile(*workload_.add_file());
  }
  names_.emplace_back(workload::kDefaultProcess);
  for (size_t kind = 0; kind < std::size(kUsual); ++kind) {
    const bool off = random_.Below(4) == 0 && kind != static_cast<size_t>(Kind::kStore);
    weights_.push_back(off ? 0 : kUsual[kind] * static_cast<unsigned>(1 + random_.Below(4)));
    weight_sum_ += weights_.back();
  }
}

void RandomSteps::MakeFile(ckpt_pb::Workload::File& file) {
  file.set_name("f" + std::to_string(files_.size()));
  uint64_t size = random_.Below(kFilePagesMax + 1) * kPageSize;
  if (OneIn(2)) size += random_.Below(3) == 0 ? 1 : random_.Below(kPageSize);
  file.set_size(std::to_string(size));
  if (size > 0 && !OneIn(4)) {
    file.set_generator("counter");
    file.set_seed(files_.size() + 1);
  }
  files_.push_back(file.name());
}

RandomSteps::Kind RandomSteps::PickKind() {
  uint64_t at = random_.Below(weight_sum_);
  for (size_t kind = 0;; ++kind) {
    if (at < weights_[kind]) return static_cast<Kind>(kind);
    at -= weights_[kind];
  }
}

// ---- places ----

const mm::Vma* RandomSteps::PickVma() {
  const auto& vmas = process_->mm->vmas();
  if (vmas.empty()) return nullptr;
  return std::next(vmas.begin(), static_cast<ptrdiff_t>(random_.Below(vmas.size())))->second.get();
}

// Any page of the arena; more often one at an edge of a vma, inside one, or the last one again.
uint64_t RandomSteps::PickPage() {
  uint64_t page = kArenaStart + random_.Below(kArenaPages) * kPageSize;
  const mm::Vma* vma = PickVma();
  switch (random_.Below(6)) {
    case 0: break;
    case 1: page = last_page_; break;
    default:
      if (vma == nullptr) break;
      switch (random_.Below(6)) {
        case 0: page = vma->start - kPageSize; break;
        case 1: page = vma->end - kPageSize; break;
        case 2: page = vma->end; break;
        case 3: page = vma->start; break;
        default: page = vma->start + random_.Below(vma->pages()) * kPageSize;
      }
  }
  return last_page_ = page;
}

uint64_t RandomSteps::PickPages() { return OneIn(4) ? Pick(1, 16) : Pick(1, 4); }

// Of a call on pages: mostly a piece of a vma, now and then a range that is no good.
RandomSteps::Place RandomSteps::PickRange() {
  const mm::Vma* vma = PickVma();
  if (vma != nullptr && OneIn(4)) return {vma->start, vma->end - vma->start};
  Place place{PickPage(), PickPages() * kPageSize};
  if (OneIn(40)) place.addr += Pick(1, kPageSize - 1);
  if (OneIn(20)) place.length -= Pick(0, kPageSize - 1);
  if (OneIn(60)) place.length = 0;
  return place;
}

// Of a load or a store: a few bytes, at the ends of pages more than elsewhere, and across them.
RandomSteps::Place RandomSteps::PickBytes() {
  constexpr uint64_t kLengths[] = {1, 8, 8, 64, 4096, 4097, 12288};
  Place place{same_page_ ? last_page_ : PickPage(), kLengths[random_.Below(std::size(kLengths))]};
  switch (random_.Below(4)) {
    case 0: break;
    case 1: place.addr += kPageSize - std::min<uint64_t>(place.length, kPageSize); break;
    case 2: place.addr += kPageSize - 1; break;
    default: place.addr += random_.Below(kPageSize);
  }
  const mm::Vma* vma = process_->mm->vmas().empty() ? nullptr : PickVma();
  if (vma != nullptr && vma->has_fault() && OneIn(3)) {  // where the file ends
    const uint64_t end = vma->start + vma->file->i_size - vma->pgoff * kPageSize;
    if (end >= vma->start && end <= vma->end) place.addr = end - Pick(0, 2);
  }
  return place;
}

std::string RandomSteps::PickFile() {
  std::vector<std::string> there;
  std::ranges::copy_if(files_, std::back_inserter(there),
                       [&](const std::string& name) { return machine_->find_file(name) != nullptr; });
  return there.empty() ? std::string() : there[random_.Below(there.size())];
}

// A size, or an offset: around where the file ends, and at ends of pages.
uint64_t RandomSteps::PickSize(const mm::File& file) {
  uint64_t size = random_.Below(kFilePagesMax + 2) * kPageSize;
  switch (random_.Below(6)) {
    case 0: return size;
    case 1: return size + 1;
    case 2: return size == 0 ? 0 : size - 1;
    case 3: return size + random_.Below(kPageSize);
    case 4: return file.i_size + Pick(0, 1);
    default: return file.i_size == 0 ? 0 : file.i_size - 1;
  }
}

std::string RandomSteps::PickProt() {
  static constexpr const char* kProts[] = {"rw-", "rw-", "rw-", "rw-", "r--",
                                           "r--", "---", "-w-", "r-x", "rwx"};
  return kProts[random_.Below(std::size(kProts))];
}

// Whether a store there may change bytes behind the end of a file.
bool RandomSteps::IsBehindEnd(Place place) const {
  const uint64_t end = place.addr + place.length;
  for (uint64_t page = base::PageAlignDown(place.addr); page < end; page += kPageSize) {
    const mm::Vma* vma = process_->mm->vma_at(page);
    if (vma == nullptr || !vma->is_shared() || !vma->has_fault()) continue;
    const uint64_t size = vma->file->i_size;
    if (mm::file_index_at(*vma, page) == size / kPageSize && end > page + size % kPageSize) return true;
  }
  return false;
}

void RandomSteps::MakeFill(ckpt_pb::Fill& fill) {
  if (OneIn(8)) {
    fill.mutable_zeros();
  } else if (OneIn(2)) {
    fill.set_byte(static_cast<uint32_t>(Pick(1, 255)));
  } else {
    fill.mutable_random()->set_seed(made_);
  }
}

// ---- steps ----

void RandomSteps::MakeMap(Step::Map& op, Kind kind) {
  op.set_region("r" + std::to_string(made_));
  const uint64_t pages = PickPages();
  const bool of_file = kind == Kind::kMapFilePrivate || kind == Kind::kMapFileShared;
  const std::string file = of_file ? PickFile() : "";
  op.set_length(Hex(pages * kPageSize - (OneIn(8) ? Pick(1, kPageSize - 1) : 0)));
  if (kind == Kind::kMapStack) {
    const uint64_t size = std::min(pages, kStackPagesMax / 2) * kPageSize;
    op.set_length(Hex(size));
    op.set_addr(Hex(kStackTop - random_.Below(kStackPagesMax / 2) * kPageSize - size));
    op.set_fixed(true);
    op.set_growsdown(true);
  } else if (!OneIn(12)) {
    uint64_t page = PickPage();
    if (page < kArenaStart || page + pages * kPageSize > kArenaEnd)
      page = kArenaStart + random_.Below(kArenaPages - pages) * kPageSize;
    op.set_addr(Hex(page));
    op.set_fixed(true);
  }
  if (!file.empty()) {
    op.set_file(file);
    if (OneIn(2)) op.set_offset(Hex(random_.Below(kFilePagesMax + 1) * kPageSize));
  }
  op.set_prot(PickProt());
  op.set_shared(kind == Kind::kMapShared || kind == Kind::kMapFileShared);
  op.set_populate(OneIn(6));
  op.set_nonblock(op.populate() && OneIn(4));
}

void RandomSteps::MakeRemap(Step::Remap& op) {
  Place place = PickRange();
  if (const mm::Vma* vma = PickVma(); vma != nullptr && !OneIn(30)) {
    // Inside one vma; what spans several is a known difference.
    place.addr = OneIn(2) ? vma->start : vma->start + random_.Below(vma->pages()) * kPageSize;
    place.length = std::min(place.length, vma->end - place.addr);
  }
  SetRange(op, place.addr, place.length);
  const uint64_t pages = place.length / kPageSize;
  op.set_new_length(Hex(OneIn(3) ? place.length : Pick(pages == 0 ? 0 : pages - 1, pages + 3) * kPageSize));
  op.set_may_move(!OneIn(4));
  if (op.may_move() && OneIn(2)) op.set_to(Hex(kArenaStart + random_.Below(kArenaPages - 20) * kPageSize));
}

void RandomSteps::MakeMemoryStep(Kind kind, Step& step) {
  Place place = PickRange();
  if ((kind == Kind::kMlock || kind == Kind::kRemapFilePages) && !OneIn(50)) {
    // Inside one vma: what lies beyond is a known difference, or refused.
    if (const mm::Vma* vma = PickVma()) {
      place.addr = vma->start + random_.Below(vma->pages()) * kPageSize;
      place.length = std::min(place.length, vma->end - place.addr);
    }
  }
  const auto range = [&](auto& op) { SetRange(op, place.addr, place.length); };
  switch (kind) {
    case Kind::kUnmap: return range(*step.mutable_unmap());
    case Kind::kProtect: step.mutable_protect()->set_prot(PickProt()); return range(*step.mutable_protect());
    case Kind::kRemap: return MakeRemap(*step.mutable_remap());
    case Kind::kDontneed:
      step.mutable_madvise()->set_advice(Step::Madvise::DONTNEED);
      return range(*step.mutable_madvise());
    case Kind::kAdvise: {
      constexpr Step::Madvise::Advice kAdvices[] = {Step::Madvise::NORMAL, Step::Madvise::DONTFORK,
                                                    Step::Madvise::DONTFORK, Step::Madvise::DOFORK};
      step.mutable_madvise()->set_advice(kAdvices[random_.Below(std::size(kAdvices))]);
      if (pageout_ && !OneIn(3)) step.mutable_madvise()->set_advice(Step::Madvise::PAGEOUT);
      return range(*step.mutable_madvise());
    }
    case Kind::kMsync:
      step.mutable_msync()->set_async(tail_written_ || OneIn(2));
      return range(*step.mutable_msync());
    case Kind::kRemapFilePages:
      step.mutable_remap_file_pages()->set_page(random_.Below(kFilePagesMax + 1));
      step.mutable_remap_file_pages()->set_nonblock(OneIn(4));
      return range(*step.mutable_remap_file_pages());
    case Kind::kMlock: return range(*step.mutable_mlock());
    case Kind::kMunlock: return range(*step.mutable_munlock());
    case Kind::kMlockall:
      if (OneIn(2)) {
        step.mutable_munlockall();
      } else {
        step.mutable_mlockall()->set_current(OneIn(2));
        step.mutable_mlockall()->set_future(OneIn(3));
      }
      return;
    default: break;
  }
  Step::Brk& brk = *step.mutable_brk();
  const uint64_t heap = process_->mm->layout.brk - process_->mm->layout.start_brk;
  const uint64_t bytes = Pick(1, 3 * kPageSize);
  if (heap >= bytes && OneIn(2)) {
    brk.set_shrink(Hex(bytes));
  } else if (heap < 16 * kPageSize) {
    brk.set_grow(Hex(bytes));
  } else {
    brk.set_shrink(Hex(heap));
  }
}

void RandomSteps::MakeProcessStep(Kind kind, workload::Executor& executor, Step& step) {
  std::vector<std::string> alive;
  std::ranges::copy_if(names_, std::back_inserter(alive),
                       [&](const std::string& name) { return executor.FindProcess(name) != nullptr; });
  if (kind == Kind::kExit && alive.size() > 1) {
    step.mutable_exit();
    return;
  }
  if (alive.size() >= kProcessesMax) return MakeAccess(Kind::kStore, step);
  // A name is free again when its process has exited.
  std::string name;
  for (size_t i = 1; name.empty() || executor.FindProcess(name) != nullptr; ++i)
    name = "p" + std::to_string(i);
  if (std::ranges::find(names_, name) == names_.end()) names_.push_back(name);
  if (kind == Kind::kCloneVm) {
    step.mutable_clone_vm()->set_child(name);
  } else {
    step.mutable_fork()->set_child(name);
  }
}

void RandomSteps::MakeAccess(Kind kind, Step& step) {
  const Place place = PickBytes();
  if (kind != Kind::kLoad && kind != Kind::kTouch && IsBehindEnd(place) && !OneIn(6)) kind = Kind::kLoad;
  switch (kind) {
    case Kind::kLoad: return SetRange(*step.mutable_load(), place.addr, place.length);
    case Kind::kTouch: {
      step.mutable_touch()->set_write(OneIn(2));
      return SetRange(*step.mutable_touch(), PickPage(), PickPages() * kPageSize);
    }
    case Kind::kGetUserPages: {
      Step::GetUserPages& op = *step.mutable_get_user_pages();
      op.set_write(OneIn(2));
      op.set_force(OneIn(2));
      if (op.write()) {
        tail_written_ |= IsBehindEnd(place);
        MakeFill(*op.mutable_fill());
      }
      return SetRange(op, place.addr, place.length);
    }
    default: break;
  }
  tail_written_ |= IsBehindEnd(place);
  MakeFill(*step.mutable_store()->mutable_fill());
  SetRange(*step.mutable_store(), place.addr, place.length);
}

void RandomSteps::MakeFileStep(Kind kind, Step& step) {
  if (kind == Kind::kCreate) return MakeFile(*step.mutable_create()->mutable_file());
  const std::string name = PickFile();
  if (name.empty()) return MakeAccess(Kind::kStore, step);
  const mm::FilePtr file = machine_->find_file(name);
  const std::string offset = Hex(PickSize(*file));
  const std::string length = Hex(OneIn(3) ? Pick(1, 3) * kPageSize : Pick(1, 600));
  switch (kind) {
    case Kind::kRead:
      step.mutable_read()->set_file(name);
      step.mutable_read()->set_offset(offset);
      step.mutable_read()->set_length(length);
      return;
    case Kind::kWrite:
      step.mutable_write()->set_file(name);
      step.mutable_write()->set_offset(offset);
      step.mutable_write()->set_length(length);
      return MakeFill(*step.mutable_write()->mutable_fill());
    case Kind::kTruncate:
      step.mutable_truncate()->set_file(name);
      step.mutable_truncate()->set_size(offset);
      return;
    case Kind::kPunchHole:
      step.mutable_punch_hole()->set_file(name);
      step.mutable_punch_hole()->set_offset(offset);
      step.mutable_punch_hole()->set_length(length);
      return;
    case Kind::kUnlink: step.mutable_unlink()->set_file(name); return;
    default: step.mutable_fsync()->set_file(name);
  }
}

void RandomSteps::PickProcess(workload::Executor& executor, Step& step) {
  for (;;) {
    const std::string& name = names_[random_.Below(names_.size())];
    process_ = executor.FindProcess(name);
    if (process_ == nullptr) continue;
    step.set_process(name);
    return;
  }
}

Step RandomSteps::Next(workload::Executor& executor) {
  ++made_;
  Step step;
  machine_ = &executor.machine();
  PickProcess(executor, step);
  Kind kind = PickKind();
  // A fork right after a store, and stores right after that, to the same page: in one process or the other.
  if (last_kind_ == Kind::kStore && IsOn(Kind::kFork) && OneIn(8)) kind = Kind::kFork;
  if (last_kind_ == Kind::kFork && OneIn(2)) kind = Kind::kStore;
  same_page_ = kind == Kind::kStore && last_kind_ == Kind::kFork;
  last_kind_ = kind;
  if (tail_written_ && (kind == Kind::kFsync || kind == Kind::kReclaim)) kind = Kind::kStore;
  switch (kind) {
    case Kind::kMapAnon:
    case Kind::kMapStack:
    case Kind::kMapShared:
    case Kind::kMapFilePrivate:
    case Kind::kMapFileShared: MakeMap(*step.mutable_map(), kind); break;
    case Kind::kFork:
    case Kind::kCloneVm:
    case Kind::kExit: MakeProcessStep(kind, executor, step); break;
    case Kind::kLoad:
    case Kind::kStore:
    case Kind::kTouch:
    case Kind::kGetUserPages: MakeAccess(kind, step); break;
    case Kind::kRead:
    case Kind::kWrite:
    case Kind::kTruncate:
    case Kind::kPunchHole:
    case Kind::kFsync:
    case Kind::kCreate:
    case Kind::kUnlink: MakeFileStep(kind, step); break;
    case Kind::kRlimit:
      if (OneIn(4)) step.mutable_rlimit()->set_stack(Hex(Pick(1, kStackPagesMax) * kPageSize));
      step.mutable_rlimit()->set_fsize(OneIn(2) ? "unlimited"
                                                : Hex(random_.Below(kFilePagesMax * kPageSize)));
      break;
    case Kind::kReclaim: step.mutable_reclaim()->set_pages(Pick(1, 32)); break;
    case Kind::kDropCaches: step.mutable_drop_caches(); break;
    default: MakeMemoryStep(kind, step);
  }
  return step;
}

}  // namespace live
