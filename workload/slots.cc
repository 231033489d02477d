#include "workload/slots.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace workload {
namespace {

uint64_t SeedOf(const ckpt_pb::Pattern& pattern, uint64_t seed) {
  if (pattern.has_random() && pattern.random().has_seed()) return pattern.random().seed();
  if (pattern.has_scattered() && pattern.scattered().has_seed()) return pattern.scattered().seed();
  if (pattern.has_zipf() && pattern.zipf().has_seed()) return pattern.zipf().seed();
  return seed;
}

}  // namespace

Permutation::Permutation(uint64_t count, uint64_t seed)
    : count_(count),
      seed_(seed),
      half_bits_(std::max(1u, (static_cast<unsigned>(std::bit_width(count - 1)) + 1) / 2)) {
  CHECK(count > 0 && count <= uint64_t{1} << 62);
}

uint64_t Permutation::Round(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_;
  uint64_t right = value & mask;
  for (uint64_t round = 0; round < 4; ++round) {
    const uint64_t mixed = left ^ (base::Mix64(right ^ base::Mix64(seed_ + round)) & mask);
    left = right;
    right = mixed;
  }
  return (left << half_bits_) | right;
}

uint64_t Permutation::At(uint64_t index) const {
  CHECK(index < count_);
  uint64_t value = Round(index);
  while (value >= count_) value = Round(value);
  return value;
}

Slots::Slots(const ckpt_pb::Pattern& pattern, uint64_t slot_count, uint64_t seed)
    : kind_(pattern.kind_case()),
      slot_count_(slot_count),
      count_(slot_count),
      random_(SeedOf(pattern, seed)),
      permutation_(slot_count, SeedOf(pattern, seed)) {
  switch (kind_) {
    case ckpt_pb::Pattern::KIND_NOT_SET: break;
    case ckpt_pb::Pattern::kSequential:
      if (pattern.sequential().count() > 0) count_ = std::min(slot_count, pattern.sequential().count());
      break;
    case ckpt_pb::Pattern::kEvery:
      first_ = pattern.every().first();
      step_ = pattern.every().nth();
      count_ = first_ < slot_count ? (slot_count - first_ - 1) / step_ + 1 : 0;
      break;
    case ckpt_pb::Pattern::kRandom: count_ = pattern.random().count(); break;
    case ckpt_pb::Pattern::kScattered: count_ = std::min(slot_count, pattern.scattered().count()); break;
    case ckpt_pb::Pattern::kZipf:
      count_ = pattern.zipf().count();
      zipf_.emplace(slot_count, pattern.zipf().exponent());
      break;
  }
}

std::optional<uint64_t> Slots::Next() {
  if (done_ == count_) return std::nullopt;
  const uint64_t turn = done_++;
  switch (kind_) {
    case ckpt_pb::Pattern::kRandom: return random_.Below(slot_count_);
    case ckpt_pb::Pattern::kScattered: return permutation_.At(turn);
    case ckpt_pb::Pattern::kZipf: return permutation_.At(zipf_->Draw(random_));
    default: return first_ + turn * step_;
  }
}

}  // namespace workload
