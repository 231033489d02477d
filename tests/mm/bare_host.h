// BareHost: a host and the frames of a guest, without a machine; for tests of states alone.
#pragma once

#include <memory>
#include <string>

#include "tests/mm/hinting_world.h"

namespace mm {

class BareHost {
 public:
  explicit BareHost(const Semantics& semantics = Hinted(), uint64_t frame_count = 256, uint64_t memory = 0,
                    const std::string& store_folder = {})
      : frames(frame_count), semantics_(semantics), discarded_(frames, semantics_) {
    const HostConfig config = {.semantics = semantics_,
                               .memory_frames = memory == 0 ? frame_count : memory,
                               .store_folder = store_folder};
    host_ = Host::Create(frames, config).value();
    frames.set_host(host_.get(), &discarded_);
  }

  Host& host() { return *host_; }
  PageState state(Pfn pfn) { return host_->state(pfn); }
  Page& page(Pfn pfn) { return frames.at(pfn); }
  void SetChanged(Pfn pfn, bool changed) {
    page(pfn).flags = changed ? page(pfn).flags | PG_key_dirty : page(pfn).flags & ~PG_key_dirty;
  }
  // Brings the frame into this state, by requests, moves and accesses that are legal; unchanged.
  void Bring(Pfn pfn, PageState to) {
    using enum PageState;
    SetChanged(pfn, false);
    host_->essa(pfn, Request::kSetUnused);
    if (state(pfn) == Ur) host_->move(HostMove::kTakeUnused, pfn);
    if (to == Uz) return;
    host_->essa(pfn, Request::kSetStable);
    if (to == Vz) host_->essa(pfn, Request::kSetVolatile);
    if (to == Vz || to == Sz) return;
    EXPECT_EQ(host_->access(pfn, Write::kNo), Access::kData);
    if (to == Sp) host_->move(HostMove::kPageOut, pfn);
    if (to == Ur) host_->essa(pfn, Request::kSetUnused);
    if (to == Vr) host_->essa(pfn, Request::kSetVolatile);
    if (to == Pr) host_->essa(pfn, Request::kSetPotentiallyVolatile);
    ASSERT_EQ(state(pfn), to);
  }
  // The accesses before this one are long ago: frames that they touched may be taken.
  void LongAgo(Pfn touched_instead) {
    for (int i = 0; i < 64; ++i) (void)host_->access(touched_instead, Write::kNo);
  }
  // A byte of the frame, by an access of the guest.
  std::byte& Byte(Pfn pfn, size_t at = 0) {
    EXPECT_EQ(host_->access(pfn, Write::kNo), Access::kData);
    return frames.arena_bytes(pfn)[at];
  }

  Frames frames;

 private:
  Semantics semantics_;
  std::unique_ptr<Host> host_;
  DiscardedPages discarded_;
};

}  // namespace mm
