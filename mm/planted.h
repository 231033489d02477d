// Planted bugs: each breaks one rule of the model on purpose, so that a test can show that its
// checks find it. They are compiled only into the library mm_planted, which only tests link; in
// mm itself Planted() is a constant false and costs nothing.
#pragma once

#include <cstdint>

namespace mm {

enum class Bug : uint8_t {
  kNone,
  kCowWritesInPlace,      // do_wp_page writes a shared page without copying it.
  kZeroPageWritable,      // A store to the zero page goes into the zero page.
  kTruncateSkipsZap,      // A shrinking truncate leaves the ptes of private copies.
  kForkForgetsRefcount,   // fork copies a pte without taking a reference on its page.
  kDirtyPteDropped,       // try_to_unmap does not carry a pte's dirty bit over to the page.
  kSwapCountOffByOne,     // A second user of a swap slot is not counted.
  kChainEntryLeftBehind,  // page_remove_rmap leaves the pte on the page's chain.
  kNonlinearOffsetLost,   // Reclaim of a page at a non-linear position leaves no file pte.
  kReferencedNotCleared,  // page_referenced counts a young pte and leaves it young.
};

#ifdef CKPT_PLANTED
inline Bug g_planted_bug = Bug::kNone;
inline bool Planted(Bug bug) { return g_planted_bug == bug; }
#else
constexpr bool Planted(Bug) { return false; }
#endif

}  // namespace mm
