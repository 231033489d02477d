#include "mm/host.h"

#include <algorithm>
#include <cstring>

namespace mm {
namespace {

SwpEntry SlotOf(Pfn pfn) { return static_cast<uint32_t>(pfn) + 1; }
PageSpan SpanOf(std::byte* bytes) { return PageSpan(bytes, kPageSize); }

}  // namespace

base::Result<std::unique_ptr<Host>> Host::Create(Frames& frames, const HostConfig& config) {
  CHECK(config.memory_frames * kPageSize >= std::min(kHostMemoryMin, frames.frame_count() * kPageSize));
  const uint64_t slots = uint64_t{frames.frame_count()} + 1;
  std::unique_ptr<SwapDevice> store = config.store_folder.empty()
                                          ? TRY(MakeMemorySwap(slots))
                                          : TRY(MakeFileSwap(config.store_folder, slots));
  std::unique_ptr<Host> host(new Host(frames, config, std::move(store)));
  host->recent_.fill(kNoPfn);
  // The zero page is the guest's from the start.
  host->Ref(kZeroPfn);
  host->Set(kZeroPfn, PageState::Sz);
  return host;
}

uint64_t Host::resident() const {
  return count(PageState::Sr) + count(PageState::Ur) + count(PageState::Vr) + count(PageState::Pr);
}

PageState& Host::Ref(Pfn pfn) {
  const auto at = static_cast<uint32_t>(pfn);
  CHECK(at < frames_.frame_count());
  if (at >= states_.size()) {
    counts_[static_cast<size_t>(fresh())] += at + 1 - states_.size();
    states_.resize(at + 1, fresh());
  }
  return states_[at];
}

void Host::Set(Pfn pfn, PageState next) {
  PageState& state = Ref(pfn);
  --counts_[static_cast<size_t>(state)];
  state = next;
  ++counts_[static_cast<size_t>(next)];
}

bool Host::Changed(Pfn pfn) const { return (frames_.at(pfn).flags & PG_key_dirty) != 0; }

// ---- the guest's requests and accesses ----

bool Host::essa(Pfn pfn, Request request) {
  const PageState before = Ref(pfn);
  const RequestResult result =
      PageRequest(before, request, Changed(pfn) ? mm::Changed::kYes : mm::Changed::kNo);
  ++stat_.requests;
  // In the base design it is the host that looks whether a volatile page was changed: at the copy that it has
  // preserved, too (as of a potentially volatile page, note 1 of A4.1).
  const bool keeps = before == PageState::Sp && request == Request::kSetVolatile && checks_volatile();
  if (result.next == before || (keeps && Changed(pfn))) return result.ok;
  ++stat_.transitions;
  // INV-G3: only a request that drops the host's copy changes where the bytes are.
  if (ResidenceOf(before) == Residence::kPreserved && ResidenceOf(result.next) == Residence::kZero)
    DropCopy(pfn);
  Set(pfn, result.next);
  return result.ok;
}

Access Host::access(Pfn pfn, Write write) {
  const PageState state = Ref(pfn);
  recent_[recent_next_++ % kRecent] = pfn;
  switch (AccessTo(state)) {
    case Access::kAfterPageIn: move(HostMove::kPageIn, pfn); break;
    case Access::kAfterBacking: move(HostMove::kBack, pfn); break;
    case Access::kAddressingException: return Access::kAddressingException;
    case Access::kDiscardFault: ++stat_.discard_faults; return Access::kDiscardFault;
    case Access::kData: break;
  }
  CHECK_MSG(write == Write::kNo || state != PageState::Vr || checks_volatile(),
            "INV-G8: a store to a volatile page");
  return Access::kData;
}

const std::byte* Host::peek(Pfn pfn) const {
  // What is not resident reads as zero in the arena (H2).
  const bool preserved = ResidenceOf(state(pfn)) == Residence::kPreserved;
  return preserved ? store_->PlacePage(SlotOf(pfn)).data() : frames_.arena_bytes(pfn);
}

// ---- the host's moves ----

bool Host::may_move(HostMove move, Pfn pfn) const {
  const HostMoveRow& row = RowOf(move);
  if (state(pfn) != row.from) return false;
  switch (row.needs) {
    case MoveNeeds::kChanged: return Changed(pfn);
    case MoveNeeds::kUnchanged: return !Changed(pfn);
    case MoveNeeds::kAccess:
    case MoveNeeds::kNothing: break;
  }
  return move != HostMove::kDiscardVolatile || !checks_volatile() || !Changed(pfn);
}

void Host::move(HostMove move, Pfn pfn) {
  CHECK_MSG(may_move(move, pfn), base::Format("the host may not %s frame %u, which is %s", RowOf(move).name,
                                              static_cast<unsigned>(pfn), PageStateName(state(pfn))));
  switch (move) {
    case HostMove::kBack:
      MakeRoom();
      ++stat_.backed;
      break;
    case HostMove::kPageIn:
      MakeRoom();
      CHECK(store_->ReadPage(SlotOf(pfn), SpanOf(frames_.arena_bytes(pfn))));
      DropCopy(pfn);
      ++stat_.paged_in;
      break;
    case HostMove::kPageOut:
    case HostMove::kPreserveDirty:
      CHECK(store_->WritePage(SlotOf(pfn), SpanOf(frames_.arena_bytes(pfn))));
      GiveBack(pfn);
      ++stat_.paged_out;
      break;
    case HostMove::kTakeUnused:
      GiveBack(pfn);
      ++stat_.taken_unused;
      break;
    case HostMove::kDiscardVolatile:
    case HostMove::kDiscardClean:
      GiveBack(pfn);
      ++stat_.discarded;
      break;
  }
  Set(pfn, RowOf(move).to);
}

bool Host::take(Pfn pfn) {
  for (const HostMoveRow& row : HostMoves()) {
    if (row.needs == MoveNeeds::kAccess || !may_move(row.move, pfn)) continue;
    move(row.move, pfn);
    return true;
  }
  return false;
}

uint64_t Host::take_any(uint64_t frames) {
  // By preference; a changed potentially volatile page is paged out as a stable one is.
  constexpr std::pair<PageState, bool> kOrder[] = {{PageState::Ur, false},
                                                   {PageState::Vr, false},
                                                   {PageState::Pr, false},
                                                   {PageState::Sr, false},
                                                   {PageState::Pr, true}};
  uint64_t taken = 0;
  for (const auto& [state, changed] : kOrder) {
    while (taken < frames) {
      const Pfn victim = Victim(state, changed);
      if (victim == kNoPfn) break;
      CHECK(take(victim));
      ++taken;
    }
  }
  return taken;
}

bool Host::TouchedLately(Pfn pfn) const { return std::ranges::find(recent_, pfn) != recent_.end(); }

// The next frame in this state, from where the last one was found; kNoPfn: none that may be taken.
Pfn Host::Victim(PageState state, bool changed) {
  if (count(state) == 0) return kNoPfn;
  uint32_t& hand = hands_[static_cast<size_t>(state)];
  const bool looks = state == PageState::Pr || (state == PageState::Vr && checks_volatile());
  for (size_t looked = 0; looked < states_.size(); ++looked) {
    hand = hand + 1 < states_.size() ? hand + 1 : 0;
    if (states_[hand] != state || (looks && Changed(Pfn{hand}) != changed)) continue;
    if (!TouchedLately(Pfn{hand})) return Pfn{hand};
  }
  return kNoPfn;
}

void Host::MakeRoom() {
  if (resident() >= config_.memory_frames) CHECK_MSG(take_any(1) == 1, "the host has no frame to take");
}

void Host::set_memory(uint64_t frames) {
  CHECK(frames * kPageSize >= kHostMemoryMin);
  config_.memory_frames = frames;
  if (resident() > frames) (void)take_any(resident() - frames);
}

void Host::reset() {
  for (uint32_t at = 0; at < states_.size(); ++at) {
    switch (ResidenceOf(states_[at])) {
      case Residence::kResident: Set(Pfn{at}, PageState::Sr); break;
      case Residence::kPreserved: Set(Pfn{at}, PageState::Sp); break;
      case Residence::kZero: Set(Pfn{at}, PageState::Sz); break;
    }
  }
}

std::vector<uint32_t> Host::position() const {
  std::vector<uint32_t> position(hands_.begin(), hands_.end());
  for (size_t i = 0; i < kRecent; ++i)
    position.push_back(static_cast<uint32_t>(recent_[(recent_next_ + i) % kRecent]));
  return position;
}

bool Host::restore_position(std::span<const uint32_t> position) {
  if (position.size() != kPageStates + kRecent) return false;
  for (size_t i = 0; i < kPageStates; ++i) {
    if (position[i] >= std::max(known(), 1u)) return false;
    hands_[i] = position[i];
  }
  recent_next_ = 0;
  for (size_t i = 0; i < kRecent; ++i) recent_[i] = Pfn{position[kPageStates + i]};
  return true;
}

void Host::restore_state(Pfn pfn, PageState state) {
  Ref(pfn);
  Set(pfn, state);
}

// The frame's memory back to the system; it reads as zero from then on (H2).
void Host::GiveBack(Pfn pfn) { GiveBackPage(frames_.arena_bytes(pfn)); }
void Host::DropCopy(Pfn pfn) { store_->DropPage(SlotOf(pfn)); }

}  // namespace mm
