// Seeded random numbers, the same on every machine and for ever: what a workload fills pages with
// must be reproducible from the seed that an image records.
#pragma once

#include <cstdint>

namespace base {

// One step of SplitMix64: a good 64-bit hash of `value`, and the seeding step of Random.
constexpr uint64_t Mix64(uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

// xoshiro256**. Satisfies std::uniform_random_bit_generator, but use Below: the standard's
// distributions differ between libraries.
class Random {
 public:
  using result_type = uint64_t;
  explicit Random(uint64_t seed);
  uint64_t operator()() { return Next(); }
  uint64_t Next();
  // Uniform in [0, limit). Requires: limit > 0.
  uint64_t Below(uint64_t limit);
  // Uniform in [0, 1).
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~uint64_t{0}; }

 private:
  uint64_t state_[4];
};

// Zipf-distributed ranks in [0, count): rank r is drawn in proportion to 1 / (r + 1)^exponent.
// Rejection sampling (Hörmann and Derflinger 1996), so no table is kept for large counts.
class Zipf {
 public:
  // Requires: count > 0, exponent > 0.
  Zipf(uint64_t count, double exponent);
  uint64_t Draw(Random& random) const;

 private:
  double H(double x) const;
  double HInverse(double x) const;
  double Weight(double x) const;

  uint64_t count_;
  double exponent_;
  double h_first_;
  double h_last_;
  double skip_;
};

}  // namespace base
