// Steps that change an address space: mmap and its relatives.
#include <sys/mman.h>

#include "workload/session.h"

namespace workload {
namespace {

unsigned long long Number(uint64_t value) { return value; }
uint64_t Bits(int value) { return static_cast<unsigned>(value); }

// Tells of a call on a range, and answers how it ended.
StepResult Told(const StepContext& context, Call::Op op, const Range& range,
                const mm::SysResult<void>& result, uint64_t third = 0, uint64_t fourth = 0,
                uint64_t fifth = 0) {
  context.Tell({op, {range.start, range.length, third, fourth, fifth}, nullptr, {}, AnswerOf(result)});
  return ResultOf(result);
}

int ProtOf(const std::string& prot) {
  return (prot[0] == 'r' ? PROT_READ : 0) | (prot[1] == 'w' ? PROT_WRITE : 0) |
         (prot[2] == 'x' ? PROT_EXEC : 0);
}

int MapFlags(const ckpt_pb::Step::Map& op) {
  return (op.shared() ? MAP_SHARED : MAP_PRIVATE) | (op.file().empty() ? MAP_ANONYMOUS : 0) |
         (op.fixed() ? MAP_FIXED : 0) | (op.growsdown() ? MAP_GROWSDOWN : 0) |
         (op.populate() ? MAP_POPULATE : 0) | (op.nonblock() ? MAP_NONBLOCK : 0) |
         (op.noreserve() ? MAP_NORESERVE : 0);
}

}  // namespace

base::Result<StepResult> DoMap(StepContext& context, const ckpt_pb::Step::Map& op) {
  mm::FilePtr file;
  const uint64_t offset = SizeOr(op.offset(), 0);
  uint64_t length = SizeOr(op.length(), 0);
  uint64_t size = 0;
  if (!op.file().empty()) {
    file = TRY(FindFile(context, op.file()));
    size = file->i_size;
    if (op.length().empty()) length = size > offset ? size - offset : 0;
  }
  const int prot = op.prot().empty() ? PROT_READ | PROT_WRITE : ProtOf(op.prot());
  const uint64_t addr = SizeOr(op.addr(), 0);
  const int flags = MapFlags(op);
  const auto mapped = sys_mmap(context.mm(), addr, length, prot, flags, file, offset);
  context.Tell({Call::Op::kMmap,
                {addr, length, Bits(prot), Bits(flags), 0, offset},
                file.get(),
                {},
                AnswerOf(mapped)});
  if (!mapped) {
    StepResult failed = Failed(mapped.error());
    if (length == 0 && op.length().empty()) {
      failed.detail =
          base::Format("file '%s' has %llu bytes, none of them behind offset %llu: expected a length",
                       op.file().c_str(), Number(size), Number(offset));
    }
    return failed;
  }
  (*context.actor.space)[op.region()] = {*mapped, base::PageAlignUp(length)};
  return StepResult{};
}

base::Result<StepResult> DoUnmap(StepContext& context, const ckpt_pb::Step::Unmap& op) {
  const Range range = TRY(ResolveRange(context, op));
  const auto done = sys_munmap(context.mm(), range.start, range.length);
  if (done && op.offset().empty() && op.length().empty()) context.actor.space->erase(op.region());
  return Told(context, Call::Op::kMunmap, range, done);
}

base::Result<StepResult> DoProtect(StepContext& context, const ckpt_pb::Step::Protect& op) {
  const Range range = TRY(ResolveRange(context, op));
  const int prot = ProtOf(op.prot());
  return Told(context, Call::Op::kMprotect, range,
              sys_mprotect(context.mm(), range.start, range.length, prot), Bits(prot));
}

base::Result<StepResult> DoRemap(StepContext& context, const ckpt_pb::Step::Remap& op) {
  const Range range = TRY(ResolveRange(context, op));
  const uint64_t new_length = SizeOr(op.new_length(), range.length);
  const int flags = (op.may_move() ? MREMAP_MAYMOVE : 0) | (op.to().empty() ? 0 : MREMAP_FIXED);
  const uint64_t to = SizeOr(op.to(), 0);
  const auto moved = sys_mremap(context.mm(), range.start, range.length, new_length, flags, to);
  context.Tell({Call::Op::kMremap,
                {range.start, range.length, new_length, Bits(flags), to},
                nullptr,
                {},
                AnswerOf(moved)});
  if (!moved) return Failed(moved.error());
  const bool whole = !op.region().empty() && op.offset().empty() && op.length().empty();
  if (whole) context.actor.space->erase(op.region());
  const std::string& name = op.as().empty() && whole ? op.region() : op.as();
  if (!name.empty()) (*context.actor.space)[name] = {*moved, base::PageAlignUp(new_length)};
  return StepResult{};
}

base::Result<StepResult> DoBrk(StepContext& context, const ckpt_pb::Step::Brk& op) {
  const mm::Vaddr now = context.mm().layout.brk;
  const uint64_t shrink = SizeOr(op.shrink(), 0);
  const mm::Vaddr wanted = op.addr().empty() ? now + SizeOr(op.grow(), 0) - shrink : SizeOr(op.addr(), 0);
  StepResult result;
  if (shrink > now) {
    result.outcome = "ENOMEM";
    return result;
  }
  const mm::Vaddr is = sys_brk(context.mm(), wanted);
  context.Tell({Call::Op::kBrk, {now, wanted}, nullptr, {}, {.value = is}});
  if (is != wanted) result.outcome = "ENOMEM";
  return result;
}

base::Result<StepResult> DoMadvise(StepContext& context, const ckpt_pb::Step::Madvise& op) {
  const Range range = TRY(ResolveRange(context, op));
  const auto advice = [&] {
    switch (op.advice()) {
      case ckpt_pb::Step::Madvise::DONTNEED: return MADV_DONTNEED;
      case ckpt_pb::Step::Madvise::DONTFORK: return MADV_DONTFORK;
      case ckpt_pb::Step::Madvise::DOFORK: return MADV_DOFORK;
      case ckpt_pb::Step::Madvise::PAGEOUT: return MADV_PAGEOUT;
      default: return MADV_NORMAL;
    }
  }();
  return Told(context, Call::Op::kMadvise, range,
              sys_madvise(context.mm(), range.start, range.length, advice), Bits(advice));
}

base::Result<StepResult> DoMsync(StepContext& context, const ckpt_pb::Step::Msync& op) {
  const Range range = TRY(ResolveRange(context, op));
  const int flags = op.async() ? MS_ASYNC : MS_SYNC;
  return Told(context, Call::Op::kMsync, range, sys_msync(context.mm(), range.start, range.length, flags),
              Bits(flags));
}

base::Result<StepResult> DoRemapFilePages(StepContext& context, const ckpt_pb::Step::RemapFilePages& op) {
  const Range range = TRY(ResolveRange(context, op));
  const int prot = op.prot().empty() ? PROT_NONE : ProtOf(op.prot());
  const int flags = op.nonblock() ? MAP_NONBLOCK : 0;
  return Told(context, Call::Op::kRemapFilePages, range,
              sys_remap_file_pages(context.mm(), range.start, range.length, prot, op.page(), flags),
              Bits(prot), op.page(), Bits(flags));
}

base::Result<StepResult> DoMlock(StepContext& context, const ckpt_pb::Step::Mlock& op) {
  const Range range = TRY(ResolveRange(context, op));
  return Told(context, Call::Op::kMlock, range, sys_mlock(context.mm(), range.start, range.length));
}

base::Result<StepResult> DoMunlock(StepContext& context, const ckpt_pb::Step::Munlock& op) {
  const Range range = TRY(ResolveRange(context, op));
  return Told(context, Call::Op::kMunlock, range, sys_munlock(context.mm(), range.start, range.length));
}

base::Result<StepResult> DoMlockall(StepContext& context, const ckpt_pb::Step::Mlockall& op) {
  const int flags = (op.current() ? MCL_CURRENT : 0) | (op.future() ? MCL_FUTURE : 0);
  const auto locked = sys_mlockall(context.mm(), flags);
  context.Tell({Call::Op::kMlockall, {Bits(flags)}, nullptr, {}, AnswerOf(locked)});
  return ResultOf(locked);
}

base::Result<StepResult> DoMunlockall(StepContext& context) {
  const auto unlocked = sys_munlockall(context.mm());
  context.Tell({Call::Op::kMunlockall, {}, nullptr, {}, AnswerOf(unlocked)});
  return ResultOf(unlocked);
}

}  // namespace workload
