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
  // Of more CPUs than one: tests/planted/planted_races_test.cc.
  kAnonFaultNoRecheck,    // An anonymous fault does not look at the pte again under the lock.
  kFileFaultNoRecheck,    // Nor does a fault on a file.
  kSwapinNoRecheck,       // Nor does a swap-in.
  kCowNoRecheck,          // Nor does a COW break.
  kSwapinNoCacheRecheck,  // A swap-in takes the page it locked for its slot's, whatever it is by then.
  kSwapinKeepsPageLock,   // A swap-in that lost a race leaves the page locked.
  kReuseWithoutPageLock,  // do_wp_page decides on reuse without the page lock.
  kRmapBeforePte,         // A COW break gives up the old page before the new pte is visible.
  kTruncateSizeLast,      // A truncate changes i_size after the unmap.
  kTruncateOnePass,       // A truncate leaves the second unmap out.
  kFaultIgnoresSize,      // A fault does not look at i_size again with the page lock.
  kTruncateCountIgnored,  // Nor, without that lock, at truncate_count.
  kForkWithoutLock,       // fork copies ptes without the parent's page_table_lock.
  kMoveWithoutFileLock,   // mremap moves ptes without i_shared_sem.
  kMlockFlagLast,         // mlock brings pages in before it sets VM_LOCKED.
  kDirtyBeforePte,        // A write fault makes the page dirty before the pte.
  kMkcleanChainOnce,      // page_mkclean lists a chain once.
  kStackGrowsTwice,       // expand_stack does not ask again under the lock.
  // Of page hinting: tests/planted/planted_hinting_test.cc.
  kNoDiscardList,          // A discarded frame is free at once (G65).
  kUnmapLooksWithoutLock,  // page_unmap_all passes over ptes that are not present without their lock (G51).
  kMakeStableNoWait,       // page_make_stable does not wait for state_change.
  kBitsBeforeCounts,       // check_bits is asked before check_counts, as posted.
  kOffsetByOne,            // check_counts takes one reference more for known.
  kWritableNotConfirmed,   // PG_writable is not looked at again when the writable pte is counted.
  kWritableResetWhileMapped,  // page_reset_writable does not look whether a pte maps the page.
  kKeyClearedFirst,           // The storage key is cleared before the page is stable (G84).
  kDiscardedNotLookedAt,      // A fault maps a page with PG_discarded.
  kCopiesUnstable,            // A COW break copies a page that it has not made stable.
  kSlotFreedUnstable,         // try_to_free_swap gives the slot of a page back that it has not made stable.
  kHandlerEnablesFirst,       // The discard fault's handler enables interrupts before it has a reference.
  kSlotUserLate,              // shmem_writepage counts a slot's user after the object names it.
  kPunchMediumOnce,           // A hole punch does not punch again what was written back meanwhile.
  kConvertSeenEarly,          // install_page looks for PG_anon without the page lock.
  kInstallAfterTruncate,      // install_page maps a page that a truncate took away.
  kRemovesUsedPage,           // remove_mapping does not look at the page's count.
  kSwapoffOnePass,            // swapoff does not look for entries that were copied behind it.
  // Of soft-dirty tracking: tests/planted/planted_test.cc.
  kSwapinNotSoftDirty,    // A swap-in loses the bit of the entry.
  kMprotectNotSoftDirty,  // mprotect lets a pte be written at once that is not soft-dirty.
  // For the oracle: tests/planted/planted_oracle_test.cc.
  kMprotectKeepsWrite,  // mprotect leaves the write bit of ptes.
  kMoveLosesPage,       // mremap does not move the first page.
  kDontneedLeavesPage,  // MADV_DONTNEED leaves the last page.
  kTailNotZeroed,       // A truncate leaves what is behind the new end in its page.
  kForkCopiesDontfork,  // fork does not look at VM_DONTCOPY.
};

#ifdef CKPT_PLANTED
inline Bug g_planted_bug = Bug::kNone;
inline bool Planted(Bug bug) { return g_planted_bug == bug; }
#else
constexpr bool Planted(Bug) { return false; }
#endif

}  // namespace mm
