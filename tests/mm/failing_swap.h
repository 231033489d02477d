// A swap device in memory whose operations fail on request, and that counts what it is asked to do.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "mm/machine.h"
#include "mm/swap.h"

namespace mm {

class FailingSwap final : public SwapDevice {
 public:
  SysResult<void> ReadPage(SwpEntry slot, PageSpan page) override {
    if (bad_reads.contains(slot) || all_reads_bad) {
      std::ranges::fill(page, std::byte{'?'});
      return Err(EIO);
    }
    ++reads;
    std::ranges::copy(pages[slot], page.begin());
    return {};
  }
  SysResult<void> WritePage(SwpEntry slot, ConstPageSpan page) override {
    if (all_writes_bad) return Err(EIO);
    ++writes;
    std::ranges::copy(page, pages[slot].begin());
    return {};
  }
  PageSpan PlacePage(SwpEntry slot) override { return pages[slot]; }
  void DropPage(SwpEntry slot) override { pages.erase(slot); }

  std::map<SwpEntry, PageBytes> pages;
  std::set<SwpEntry> bad_reads;
  bool all_reads_bad = false;
  bool all_writes_bad = false;
  int reads = 0;
  int writes = 0;
};

// Gives the machine such a device with `slots` slots, the header among them.
inline FailingSwap& UseFailingSwap(Machine& machine, uint64_t slots) {
  auto device = std::make_unique<FailingSwap>();
  FailingSwap& answer = *device;
  machine.swap = std::make_unique<SwapArea>(std::move(device), slots);
  return answer;
}

}  // namespace mm
