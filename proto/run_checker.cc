#include <cinttypes>

#include "base/units.h"
#include "proto/format.h"
#include "proto/validate.h"

namespace image {

using base::Code;
using base::Fail;
using ckpt_pb::PageRun;

namespace {

// Whether private vmas have all pages of [first, end). A run may go on from one vma to the next, but over no
// hole and no shared one. `place` is the vma to begin with, and moves on with the runs.
bool Covers(const ckpt_pb::Vmas& vmas, int& place, uint64_t first, uint64_t end) {
  uint64_t covered = first;
  for (; place < vmas.vma_size(); ++place) {
    const ckpt_pb::Vma& vma = vmas.vma(place);
    const uint64_t vma_end = vma.end() >> base::kPageShift;
    if (vma_end <= covered) continue;
    const bool is_private = vma.kind() == ckpt_pb::Vma::ANON || vma.kind() == ckpt_pb::Vma::FILE_PRIVATE;
    if (!is_private || vma.start() >> base::kPageShift > covered) return false;
    covered = vma_end;
    if (covered >= end) return true;
  }
  return false;
}

}  // namespace

RunChecker::RunChecker(const Metadata& metadata)
    : first_stored_(metadata.parent.stored()), stored_(first_stored_) {
  if (metadata.machine.scope() == ckpt_pb::Machine::MACHINE) {
    frames_ = {.type = PageRun::FRAME, .pages = metadata.guest.high_water()};
    slots_ = {.type = PageRun::SLOT, .pages = static_cast<uint64_t>(metadata.guest.slot_count_size()) + 1};
  }
  for (const ckpt_pb::File& file : metadata.files.file()) {
    if (file.kind() == ckpt_pb::File::DEV_ZERO) continue;
    Owner& owner = owners_[file.objref()];
    owner.type = file.kind() == ckpt_pb::File::SHMEM ? PageRun::SHMEM : PageRun::DISK;
    owner.pages = base::PagesFor(file.size());
  }
  for (const ckpt_pb::Mm& mm : metadata.processes.mm()) {
    Owner& owner = owners_[mm.objref()];
    const auto vmas = metadata.vmas.find(mm.objref());
    if (vmas != metadata.vmas.end()) owner.vmas = &vmas->second;
  }
}

base::Result<uint64_t> RunChecker::CheckChunk(const google::protobuf::RepeatedPtrField<PageRun>& runs) {
  if (runs.empty() || static_cast<uint64_t>(runs.size()) > kChunkRunsMax) {
    return Fail(Code::kInvalid, "a chunk of %d runs", runs.size());
  }
  const uint64_t before = stored_;
  for (const PageRun& run : runs) {
    auto result = Check(run);
    if (!result) {
      return std::unexpected(
          result.error().In(base::Format("run of %" PRIu64 " pages from %" PRIu64 " of object %" PRIu32,
                                         run.count(), run.first(), run.objref())));
    }
  }
  if (stored_ - before > kChunkPagesMax) {
    return Fail(Code::kInvalid, "a chunk of %" PRIu64 " pages", stored_ - before);
  }
  return stored_ - before;
}

base::Result<void> RunChecker::Check(const PageRun& run) {
  constexpr uint64_t kPagesMax = uint64_t{1} << 52;
  if (run.count() == 0 || run.count() > kPagesMax || run.first() > kPagesMax) {
    return Fail(Code::kInvalid, "an impossible range");
  }
  if (!PageRun::Owner_IsValid(run.owner()) || !PageRun::Kind_IsValid(run.kind())) {
    return Fail(Code::kUnsupported, "an unknown kind of run");
  }
  Owner& owner = *TRY(FindOwner(run));
  TRY_VOID(CheckPlace(run, owner));
  owner.end = run.first() + run.count();
  switch (run.kind()) {
    case PageRun::STORED:
      if (run.stored() != stored_) {
        return Fail(Code::kInvalid, "stored as %" PRIu64 " where %" PRIu64 " is next", run.stored(), stored_);
      }
      if (run.count() > kStoredPagesMax - stored_) return Fail(Code::kInvalid, "too many stored pages");
      stored_ += run.count();
      break;
    case PageRun::COPY:
      if (run.count() > stored_ || run.stored() > stored_ - run.count()) {
        return Fail(Code::kInvalid, "copies of pages that are not stored before it");
      }
      break;
    case PageRun::SAME:
      if (run.count() > pages_ || run.stored() > pages_ - run.count()) {
        return Fail(Code::kInvalid, "the same as pages that are not stored before it");
      }
      return {};
    case PageRun::ZERO:
      if (run.stored() != 0) return Fail(Code::kInvalid, "zero pages with a number");
      if (run.owner() == PageRun::DISK) return {};
      break;
    default: return Fail(Code::kUnsupported, "an unknown kind of run");
  }
  if (run.count() > kStoredPagesMax - pages_) return Fail(Code::kInvalid, "too many pages");
  pages_ += run.count();
  return {};
}

base::Result<RunChecker::Owner*> RunChecker::FindOwner(const PageRun& run) {
  const bool of_guest = run.owner() == PageRun::FRAME || run.owner() == PageRun::SLOT;
  // A guest's memory is in its frames and slots, and nowhere else; others have none.
  if (of_guest != (frames_.type == PageRun::FRAME && run.owner() != PageRun::DISK)) {
    return Fail(Code::kWrongType, "the scope of the image has no such pages");
  }
  if (of_guest) {
    if (run.objref() != 0 || (run.kind() != PageRun::STORED && run.kind() != PageRun::COPY))
      return Fail(Code::kInvalid, "pages of a guest have no objref, and are stored or copies");
    return run.owner() == PageRun::FRAME ? &frames_ : &slots_;
  }
  const auto owner = owners_.find(run.objref());
  if (owner == owners_.end()) return Fail(Code::kInvalid, "no object with pages has this objref");
  if (owner->second.type != run.owner())
    return Fail(Code::kWrongType, "the object is not of the type that owns the run");
  return &owner->second;
}

base::Result<void> RunChecker::CheckPlace(const PageRun& run, Owner& owner) {
  const uint64_t end = run.first() + run.count();
  if (run.first() < owner.end) return Fail(Code::kInvalid, "before the end of the run before it");
  if (owner.type != PageRun::MM) {
    if (end > owner.pages)
      return Fail(Code::kInvalid, "behind the end of the object's %" PRIu64 " pages", owner.pages);
    return {};
  }
  if (owner.vmas != nullptr && Covers(*owner.vmas, owner.vma, run.first(), end)) return {};
  return Fail(Code::kInvalid, "outside the private vmas of its mm");
}

}  // namespace image
