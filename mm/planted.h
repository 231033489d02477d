// Planted bugs: each breaks one rule of the model on purpose, so that a test can show that its
// checks find it. They are compiled only into the library mm_planted, which only tests link; in
// mm itself Planted() is a constant false and costs nothing.
#pragma once

#include <cstdint>

namespace mm {

enum class Bug : uint8_t {
  kNone,
  kCowWritesInPlace,     // do_wp_page writes a shared page without copying it.
  kZeroPageWritable,     // A store to the zero page goes into the zero page.
  kTruncateSkipsZap,     // A shrinking truncate leaves the ptes of private copies.
  kForkForgetsRefcount,  // fork copies a pte without taking a reference on its page.
};

#ifdef CKPT_PLANTED
inline Bug g_planted_bug = Bug::kNone;
inline bool Planted(Bug bug) { return g_planted_bug == bug; }
#else
constexpr bool Planted(Bug) { return false; }
#endif

}  // namespace mm
