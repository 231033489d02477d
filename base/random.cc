#include "base/random.h"

#include <bit>
#include <cmath>

#include "base/check.h"

namespace base {

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) {
    word = Mix64(seed);
    seed += 0x9e3779b97f4a7c15u;
  }
}

uint64_t Random::Next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

uint64_t Random::Below(uint64_t limit) {
  CHECK(limit > 0);
  // Lemire's multiplication, with rejection of the part that would bias.
  const uint64_t threshold = (0 - limit) % limit;
  for (;;) {
    const auto product = static_cast<unsigned __int128>(Next()) * limit;
    if (static_cast<uint64_t>(product) >= threshold) return static_cast<uint64_t>(product >> 64);
  }
}

Zipf::Zipf(uint64_t count, double exponent) : count_(count), exponent_(exponent) {
  CHECK(count > 0 && exponent > 0);
  h_first_ = H(1.5) - 1.0;
  h_last_ = H(static_cast<double>(count) + 0.5);
  skip_ = 2.0 - HInverse(H(2.5) - Weight(2.0));
}

double Zipf::Weight(double x) const { return std::exp(-exponent_ * std::log(x)); }

double Zipf::H(double x) const {
  if (exponent_ == 1.0) return std::log(x);
  return (std::exp((1.0 - exponent_) * std::log(x)) - 1.0) / (1.0 - exponent_);
}

double Zipf::HInverse(double x) const {
  if (exponent_ == 1.0) return std::exp(x);
  return std::exp(std::log(1.0 + x * (1.0 - exponent_)) / (1.0 - exponent_));
}

uint64_t Zipf::Draw(Random& random) const {
  for (;;) {
    const double u = h_last_ + random.Unit() * (h_first_ - h_last_);
    const double x = HInverse(u);
    double rank = std::floor(x + 0.5);
    if (rank < 1.0) rank = 1.0;
    if (rank > static_cast<double>(count_)) rank = static_cast<double>(count_);
    if (rank - x <= skip_ || u >= H(rank + 0.5) - Weight(rank)) return static_cast<uint64_t>(rank) - 1;
  }
}

}  // namespace base
