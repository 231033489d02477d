// Steps that use memory: loads, stores, touches, get_user_pages.
#include <algorithm>
#include <array>
#include <cstring>

#include "mm/follow_page.h"
#include "workload/fill.h"
#include "workload/outcome.h"
#include "workload/session.h"
#include "workload/slots.h"

namespace workload {
namespace {

enum Use : uint64_t { kFillSeed = 1, kPatternSeed = 2 };

// A step's range as pieces of at most a page, in the order of its pattern.
class Pieces {
 public:
  template <class Op>
  Pieces(const StepContext& context, const Range& range, const Op& op)
      : start_(range.start), at_(range.start) {
    if (!op.has_pattern() && op.stride().empty()) {
      end_ = start_ + range.length;
      return;
    }
    end_ = start_;
    stride_ = SizeOr(op.stride(), base::kPageSize);
    size_ = SizeOr(op.size(), std::min<uint64_t>(8, stride_));
    const uint64_t slots = range.length / stride_;
    if (slots > 0) slots_.emplace(op.pattern(), slots, context.SeedFor(kPatternSeed));
  }

  // False: that was all.
  bool Next(mm::Vaddr* addr, size_t* length) {
    if (at_ == end_) {
      const std::optional<uint64_t> slot = slots_ ? slots_->Next() : std::nullopt;
      if (!slot) return false;
      at_ = start_ + *slot * stride_;
      end_ = at_ + size_;
    }
    *addr = at_;
    *length = std::min<uint64_t>(end_ - at_, base::kPageSize - at_ % base::kPageSize);
    at_ += *length;
    return true;
  }

 private:
  mm::Vaddr start_;
  uint64_t stride_ = 0;
  uint64_t size_ = 0;
  std::optional<Slots> slots_;  // empty: the whole range is one piece
  mm::Vaddr at_;                // what is left of the current slot
  mm::Vaddr end_;
};

// Loads and stores, each told.
mm::AccessResult Load(const StepContext& context, mm::Vaddr addr, std::span<std::byte> out) {
  const mm::AccessResult done = context.machine().load(context.process, addr, out);
  context.Tell({Call::Op::kLoad, {addr, out.size()}, nullptr, out, AnswerOf(done)});
  return done;
}
mm::AccessResult Store(const StepContext& context, mm::Vaddr addr, std::span<const std::byte> in) {
  const mm::AccessResult done = context.machine().store(context.process, addr, in);
  context.Tell({Call::Op::kStore, {addr, in.size()}, nullptr, in, AnswerOf(done)});
  return done;
}

void SetOutcome(const Range& range, mm::AccessResult access, StepResult* result) {
  result->outcome = OutcomeName(access.outcome);
  if (result->ok()) return;
  result->at = range.PositionOf(access.addr);
  result->detail = "at " + range.Describe(access.addr);
}

std::string Mismatch(const Range& range, mm::Vaddr addr, std::span<const std::byte> got,
                     std::span<const std::byte> wanted) {
  const auto [left, right] = std::ranges::mismatch(got, wanted);
  const mm::Vaddr where = addr + static_cast<uint64_t>(left - got.begin());
  return base::Format("the byte at %s is 0x%02x, expected 0x%02x", range.Describe(where).c_str(),
                      std::to_integer<unsigned>(*left), std::to_integer<unsigned>(*right));
}

}  // namespace

base::Result<StepResult> DoGrowStack(StepContext& context, const ckpt_pb::Step::GrowStack& op) {
  const std::string name(op.region().empty() ? kStackRegion : std::string_view(op.region()));
  const Region region = TRY(FindRegion(context, name));
  const uint64_t length = SizeOr(op.length(), 0);
  const Range range{.start = region.start, .length = region.length, .base = region.start, .region = name};
  StepResult result;
  const mm::Vaddr bottom = length < region.start ? region.start - length : 0;
  mm::Vaddr at = region.start;
  while (at > bottom && result.ok()) {
    at = std::max(bottom, base::PageAlignDown(at - 1));
    TRY_VOID(CheckStop(context.session));
    const uint64_t word = base::Mix64(context.seed ^ at);
    const mm::Vaddr target = std::min(at, base::PageAlignDown(at) + base::kPageSize - sizeof word);
    SetOutcome(range, Store(context, target, std::as_bytes(std::span(&word, 1))), &result);
    if (!result.ok()) result.detail = base::Format("at %#llx", static_cast<unsigned long long>(at));
  }
  if (result.ok()) context.actor.space->insert_or_assign(name, Region{at, region.end() - at});
  return result;
}

base::Result<StepResult> DoLoad(StepContext& context, const ckpt_pb::Step::Load& op) {
  const Range range = TRY(ResolveRange(context, op));
  Pieces pieces(context, range, op);
  std::optional<Filler> filler;
  if (op.has_equals()) filler.emplace(op.equals(), 0, range.PositionOf(range.start));
  mm::PageBytes got;
  mm::PageBytes wanted;
  StepResult result;
  mm::Vaddr addr;
  size_t length;
  while (result.ok() && pieces.Next(&addr, &length)) {
    TRY_VOID(CheckStop(context.session));
    const std::span<std::byte> bytes = std::span(got).first(length);
    SetOutcome(range, Load(context, addr, bytes), &result);
    if (!filler || !result.ok()) continue;
    const std::span<std::byte> expected = std::span(wanted).first(length);
    filler->Make(range.PositionOf(addr), expected);
    if (std::memcmp(bytes.data(), expected.data(), length) == 0) continue;
    result.mismatch = Mismatch(range, addr, bytes, expected);
    break;
  }
  return result;
}

base::Result<StepResult> DoStore(StepContext& context, const ckpt_pb::Step::Store& op) {
  const Range range = TRY(ResolveRange(context, op));
  Pieces pieces(context, range, op);
  Filler filler(op.fill(), context.SeedFor(kFillSeed), range.PositionOf(range.start));
  mm::PageBytes bytes;
  StepResult result;
  mm::Vaddr addr;
  size_t length;
  while (result.ok() && pieces.Next(&addr, &length)) {
    TRY_VOID(CheckStop(context.session));
    filler.Make(range.PositionOf(addr), std::span(bytes).first(length));
    SetOutcome(range, Store(context, addr, std::span(bytes).first(length)), &result);
  }
  return result;
}

base::Result<StepResult> DoTouch(StepContext& context, const ckpt_pb::Step::Touch& op) {
  constexpr uint64_t kPagesAtOnce = 4096;  // between two looks at the stop flag
  const Range range = TRY(ResolveRange(context, op));
  const mm::Write write = op.write() ? mm::Write::kYes : mm::Write::kNo;
  StepResult result;
  const mm::Vaddr end = range.start + range.length;
  for (mm::Vaddr at = range.start; at < end && result.ok();) {
    TRY_VOID(CheckStop(context.session));
    const uint64_t length = std::min(end - at, kPagesAtOnce * base::kPageSize - at % base::kPageSize);
    const mm::AccessResult done = context.machine().touch(context.process, at, length, write);
    context.Tell({Call::Op::kTouch, {at, length, op.write()}, nullptr, {}, AnswerOf(done)});
    SetOutcome(range, done, &result);
    at += length;
  }
  return result;
}

base::Result<StepResult> DoGetUserPages(StepContext& context, const ckpt_pb::Step::GetUserPages& op) {
  const Range range = TRY(ResolveRange(context, op));
  mm::Machine& machine = context.machine();
  Filler filler(op.fill(), context.SeedFor(kFillSeed), range.PositionOf(range.start));
  const mm::Vaddr end = range.start + range.length;
  mm::Vaddr at = range.start;
  while (at < end) {
    TRY_VOID(CheckStop(context.session));
    auto pinned = get_user_pages(context.mm(), at, 1, op.write() ? mm::Write::kYes : mm::Write::kNo,
                                 op.force() ? mm::Force::kYes : mm::Force::kNo);
    const size_t in_page = at % base::kPageSize;
    const size_t length = std::min<uint64_t>(end - at, base::kPageSize - in_page);
    Call call{Call::Op::kGetUserPages, {at, length, op.write(), op.force()}};
    if (!pinned) {
      call.answer = {.err = pinned.error().err, .sig = pinned.error().sig};
      context.Tell(call);
      StepResult result = Failed(pinned.error());
      result.detail = "at " + range.Describe(at);
      return result;
    }
    const mm::Pfn pfn = pinned->front();
    const std::span<std::byte> bytes(machine.frames.bytes(pfn) + in_page, length);
    if (op.write()) {
      filler.Make(range.PositionOf(at), bytes);
      set_page_dirty(machine, pfn);
    }
    call.bytes = bytes;
    context.Tell(call);
    unpin_user_pages(machine, *pinned);
    at += length;
  }
  return StepResult{};
}

}  // namespace workload
