// Slots: the order in which a step accesses the slots that a range is cut into (ckpt_pb::Pattern).
#pragma once

#include <cstdint>
#include <optional>

#include "base/random.h"
#include "proto/workload.pb.h"

namespace workload {

// A permutation of [0, count) that is computed, not stored: a Feistel network over the next power of
// four, walked until it falls inside.
class Permutation {
 public:
  // Requires: 0 < count <= 2^62.
  Permutation(uint64_t count, uint64_t seed);
  // Requires: index < count.
  uint64_t At(uint64_t index) const;

 private:
  uint64_t Round(uint64_t value) const;

  uint64_t count_;
  uint64_t seed_;
  unsigned half_bits_;
};

class Slots {
 public:
  // `seed` serves a pattern that has none of its own; a pattern of no kind is sequential.
  // Requires: slot_count > 0.
  Slots(const ckpt_pb::Pattern& pattern, uint64_t slot_count, uint64_t seed);

  // The next slot, below slot_count; nothing when the pattern has come to its end.
  std::optional<uint64_t> Next();
  // How many there are in all.
  uint64_t count() const { return count_; }

 private:
  ckpt_pb::Pattern::KindCase kind_;
  uint64_t slot_count_;
  uint64_t count_;
  uint64_t done_ = 0;
  uint64_t first_ = 0;
  uint64_t step_ = 1;
  base::Random random_;
  std::optional<base::Zipf> zipf_;
  Permutation permutation_;
};

}  // namespace workload
