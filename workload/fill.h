// Filler: the bytes of a ckpt_pb::Fill. A byte depends on its position and the seed alone, so that a
// part of a range can be written, or checked, by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "mm/disk.h"
#include "proto/workload.pb.h"

namespace workload {

class Filler {
 public:
  // `seed` serves a fill that has none of its own; bytes that repeat begin at the position `origin`.
  // Requires: `fill` was checked (step_fields.cc); one of no kind is random.
  Filler(const ckpt_pb::Fill& fill, uint64_t seed, uint64_t origin);

  // The bytes at [position, position + out.size()). Requires: origin <= position, and the range ends
  // at most at 2^49.
  void Make(uint64_t position, std::span<std::byte> out);

 private:
  void MakeGenerated(uint64_t position, std::span<std::byte> out);

  std::unique_ptr<mm::Content> generator_;  // null: repeat_
  std::string repeat_;
  uint64_t shift_;
  uint64_t origin_;
  mm::PageBytes page_{};  // the page of the generator that was made last
  uint64_t page_index_;
};

}  // namespace workload
