// Named points: places where another CPU could act between two steps of a fault, a truncate or a
// checkpoint. A test hangs a callback on one to play that other CPU. With no callback a point costs
// one predictable branch.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

namespace mm {

enum class Point : uint8_t {
  kFaultAfterLookup,         // DoFault has its page, unlocked, and has not taken the pte lock.
  kFaultBeforePageLock,      // find_lock_page found the page and is about to lock it.
  kWpBeforeRevalidate,       // CowBreak has its copy and is about to retake the pte lock.
  kCowBetweenPteAndRmap,     // CowBreak is between the switch of the pte and the old page's rmap.
  kTruncateAfterFirstUnmap,  // vmtruncate has unmapped, and not yet emptied the page cache.
  kWpWaitsForPageLock,       // DoWpPage waits for the page lock that somebody holds, the pte unlocked.
  kSwapinBeforeRevalidate,   // DoSwapPage has the page, locked, and has not taken the pte lock.
  kConvertBeforeScan,        // page_convert_anon has set PG_anon and put no pte on the chain yet.
  kInstallBeforePageLock,    // install_page has a page of the file and is about to lock it.
  kCheckpointBeforeWalk,     // A checkpoint has counted the vmas and not yet walked them.
  kCount,
};

class Points {
 public:
  void On(Point point, std::function<void()> action) {
    actions_[static_cast<size_t>(point)] = std::move(action);
    any_ = true;
  }
  // Runs the point's action once, after taking it off: what the action does may pass here again.
  void Reach(Point point) {
    if (any_) [[unlikely]]
      Run(point);
  }

 private:
  void Run(Point point) {
    std::function<void()> action = std::move(actions_[static_cast<size_t>(point)]);
    actions_[static_cast<size_t>(point)] = nullptr;
    if (action) action();
  }
  std::array<std::function<void()>, static_cast<size_t>(Point::kCount)> actions_;
  bool any_ = false;
};

}  // namespace mm
