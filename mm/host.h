// Host: the hypervisor under the machine (spec A2-A5): how much real memory the guest's frames have, which of
// them lie there, and what becomes of the others.
//
// Real memory has a limit below the guest's. A frame is backed when it is touched first; when there is no
// room the host takes another one: what the guest does not use, then what is volatile, then what is
// potentially volatile and was not changed, and pages out what is left. What it takes is given back to the
// operating system. Every change of a state is one of the tables of page_states.h; any other is a CHECK.
//
// A page that the guest says it does not need (V, or P and unchanged) is gone when the host takes it: who
// touches it then meets a discard fault (do_discard_fault).
//
// Invariants, checked by Validate():
//   H1  The counts of the states are recounts of them, and no more frames are resident than there is memory.
//   H2  The bytes of a frame that is not resident are zero in the arena.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "mm/page_states.h"
#include "mm/semantics.h"
#include "mm/swap.h"

namespace mm {

struct HostConfig {
  // Of these, what the guest and the platform do with hints. Without hints every frame is stable, and only
  // paging is left.
  Semantics semantics;
  uint64_t memory_frames = 0;  // real memory
  std::string store_folder;    // of the paging store's nameless file; empty: in memory
};
// Real memory is at least this: what CPUs touched last is not taken.
inline constexpr uint64_t kHostMemoryMin = 64 * kPageSize;

// Counters of what the host did, and of what the guest asked.
struct HostStat {
  uint64_t requests = 0;     // of the guest, all kinds
  uint64_t transitions = 0;  // those of them that changed a state
  uint64_t backed = 0;       // first touches
  uint64_t paged_out = 0;    // pages written to the paging store
  uint64_t paged_in = 0;
  uint64_t discarded = 0;  // volatile, and unchanged potentially volatile, pages dropped
  uint64_t taken_unused = 0;
  uint64_t discard_faults = 0;  // accesses to discarded pages
};

class Host {
 public:
  // kNoMemory, kIo: there is no paging store to be had. `frames` must outlive it.
  static base::Result<std::unique_ptr<Host>> Create(Frames& frames, const HostConfig& config);
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  const Semantics& sem() const { return config_.semantics; }
  uint64_t memory_frames() const { return config_.memory_frames; }
  // Whether the guest's hints are taken.
  bool discards() const { return sem().hints != Hints::kOff; }
  PageState state(Pfn pfn) const {
    const auto at = static_cast<uint32_t>(pfn);
    return at < states_.size() ? states_[at] : fresh();
  }
  // Frames in this state, of those that the guest has ever used.
  uint64_t count(PageState state) const {
    // Without hints the host does not know of those that were allocated and never touched.
    const uint64_t untouched = std::max<uint64_t>(frames_.high_water(), states_.size()) - states_.size();
    return counts_[static_cast<size_t>(state)] + (state == fresh() ? untouched : 0);
  }
  uint64_t resident() const;
  const HostStat& stat() const { return stat_; }

  // A request of the guest (the instruction ESSA): the answer of the conditional one, else true.
  bool essa(Pfn pfn, Request request);

  // What an access of the guest meets, once the host has done its part: kData, kAddressingException or
  // kDiscardFault. CHECK (INV-G8): a store to a volatile page, which has no writable pte.
  Access access(Pfn pfn, Write write);
  // The bytes that the guest would read, wherever they are; zeros where there are none. Changes nothing.
  const std::byte* peek(Pfn pfn) const;

  // Whether the host may do this now; and does it. CHECK: it may.
  bool may_move(HostMove move, Pfn pfn) const;
  void move(HostMove move, Pfn pfn);
  // Takes the frame by whatever move its state allows. false: it is not resident, or (the base design) it is
  // volatile and was changed.
  bool take(Pfn pfn);
  // Takes up to `frames` frames by the order of preference, and answers how many.
  uint64_t take_any(uint64_t frames);
  // Changes how much real memory there is: takes what is too much. Requires: at least kHostMemoryMin.
  void set_memory(uint64_t frames);
  // Resets all frames, as at the start of a guest (A08): every usage stable.
  void reset();
  // Frames that the guest has ever used, the zero page among them: those below this number.
  uint32_t known() const { return static_cast<uint32_t>(states_.size()); }
  // Where it will look for victims, and what it takes for touched lately: numbers that mean something to
  // restore_position() alone, which answers false for what cannot be such numbers.
  std::vector<uint32_t> position() const;
  bool restore_position(std::span<const uint32_t> position);
  // Makes a frame's state what a saved machine had (restore). The bytes are the caller's to fill.
  void restore_state(Pfn pfn, PageState state);
  void restore_stat(const HostStat& stat) { stat_ = stat; }

 private:
  Host(Frames& frames, const HostConfig& config, std::unique_ptr<SwapDevice> store)
      : frames_(frames), config_(config), store_(std::move(store)) {}
  PageState fresh() const { return discards() ? PageState::Uz : PageState::Sz; }
  // The base design: a volatile page may have writable ptes, and it is the host that looks whether it was
  // changed.
  bool checks_volatile() const { return sem().hints == Hints::kBase; }
  PageState& Ref(Pfn pfn);
  void Set(Pfn pfn, PageState next);
  bool Changed(Pfn pfn) const;
  void MakeRoom();
  void GiveBack(Pfn pfn);
  void DropCopy(Pfn pfn);
  Pfn Victim(PageState state, bool changed);
  bool TouchedLately(Pfn pfn) const;

  // What was touched last is being used: an access is many touches, of one page or of two.
  static constexpr size_t kRecent = 32;

  Frames& frames_;
  HostConfig config_;
  std::unique_ptr<SwapDevice> store_;  // slot pfn + 1
  std::vector<PageState> states_;      // up to the highest frame ever used
  std::array<uint64_t, kPageStates> counts_ = {};
  std::array<uint32_t, kPageStates> hands_ = {};
  std::array<Pfn, kRecent> recent_ = {};
  size_t recent_next_ = 0;
  HostStat stat_;
};

}  // namespace mm
