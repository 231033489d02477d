// Where kernel generations differ, or where a source document has a defect, the rule is a named
// switch here. The default is 2.6.34 with the FOLL_DIRTY patch, and correct; what a document
// published stays selectable, so that a test can show what it loses.
//
// A switch exists only where a scenario names two outcomes. The table in semantics.cc has one row
// for each: values, source, scenario, and the one function that reads it. No code asks which
// generation it is: a generation is a preset of switches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace mm {

// A read fault on anonymous memory: map the zero page as a special pte (2.6.32), map it and count
// it as a file page (2.6.18), or allocate at once (2.6.24).
enum class AnonReadFault : uint8_t { kZeroPage, kCountedZeroPage, kNewPage };
// Unmap passes of a shrinking truncate: the second removes what was COWed during the first.
enum class TruncatePasses : uint8_t { kTwo, kOne };
// How a file fault notices a truncate that runs beside it.
enum class TruncateRace : uint8_t { kPageLock, kTruncateCount };
// Seed 004 on kernels before 2.6.32: a private copy outlives the truncation of its file.
enum class CowSurvivesTruncate : uint8_t { kNo, kYes };
// What a hole punch does to private copies of the punched pages.
enum class HolePunchCow : uint8_t { kKept, kZapped };
// When a write fault may write an anonymous page in place (B7): one pte and swap entry in all, and then it
// leaves the swap cache (2.6.32); by page count (2.6.11); or as 2.6.32 but staying in the cache (2.6.18).
enum class ReuseRule : uint8_t { kMapcount, kCount, kMapcountKeepSlot };
// do_wp_page on an anonymous page whose lock somebody holds: wait and look again, or (2.6.18) copy.
enum class WpContended : uint8_t { kWait, kCopy };
// remap_file_pages: leave file ptes and fault them in (2.6.32), or map the pages at once and refuse what
// lies past the end of the file (2.6.18).
enum class RemapPopulate : uint8_t { kFault, kInstall };
// page_convert_anon out of memory: the page as it was, or (seed 003 as posted) half on a chain.
enum class ConvertEnomem : uint8_t { kRolledBack, kAsPosted };
// A swapped-out page in a checkpoint: its slot is read, or (seed 004) it is faulted in.
enum class SwapDump : uint8_t { kReadSlot, kSwapIn };
// COW break: the old page's rmap goes after the new pte is visible (2.6.32) or before (2.6.18).
enum class CowRmapOrder : uint8_t { kAfterPte, kBeforePte };
// MAP_POPULATE with MAP_NONBLOCK: nothing, or 2.6.11's filemap_populate, which leaves file ptes.
enum class PopulateNonblock : uint8_t { kNoop, kFilePte };
// A file pte in a vma without VM_NONLINEAR: a bad pte, or (2.6.11) populated from its offset.
enum class LinearFilePte : uint8_t { kBadPte, kPopulate };
// get_dirty_page on a file vma: modified is what is anonymous, or (as posted) what page_mapping()
// answers NULL for, which takes a page in the swap cache for clean.
enum class DirtyRule : uint8_t { kAnonymous, kPageMapping };
// The flags get_dirty_page asks follow_page with: FOLL_DUMP | FOLL_DIRTY, FOLL_DUMP alone (2.6.32
// before the patch), or FOLL_ANON (before 2.6.32).
enum class DumpLookup : uint8_t { kDumpDirty, kDumpOnly, kFollAnon };

// ---- page hinting (page_states.h) ----

// Whether the guest tells its host which pages it needs: not at all; without a look at writable ptes (the
// base design, for hardware with a dirty bit for each page); or with (seed 000).
enum class Hints : uint8_t { kOff, kBase, kWritable };
// Where the hardware notes a store: in the pte, or in the storage key of the frame (s390).
enum class DirtyBits : uint8_t { kPte, kPage };
// What a discard fault says: the frame (s390), or the address that was touched.
enum class DiscardAddress : uint8_t { kAbsolute, kVirtual };
// The pte of a discarded page at a non-linear position: a file pte, or (2005) none.
enum class DiscardNonlinear : uint8_t { kFilePte, kNone };
// How discarded frames come to be free again (discard.h): 2007, 2006, 2005.
enum class DiscardFree : uint8_t { kSignOff, kIpiLists, kPagevec };
// Where a CPU that does not idle signs a batch off: in each tick, or (2009) in changes of the clock's mode.
enum class SignoffHook : uint8_t { kTick, kModeChange };
// A CPU that dies with its signature missing: is taken off the mask, or (as posted) stays.
enum class SignoffDeadCpu : uint8_t { kRemoved, kStays };
// Minor faults and unmaps of cached pages: change no state (2009), or make stable and volatile again.
enum class MinorFaultStates : uint8_t { kNone, kTransitions };
// A reference is dropped: the attempt comes before, or (2005) after.
enum class ReleaseAttempt : uint8_t { kBefore, kAfter };
// Pages that are on no LRU list: not volatile, or (2005) volatile too.
enum class VolatileOffLru : uint8_t { kRefused, kAllowed };
// Pages of the swap cache that may be volatile: anonymous ones, any (2006), or none (2005).
enum class VolatileSwapcache : uint8_t { kAnon, kAny, kNone };
// Pages of the swap cache that VM_LOCKED vmas map: stay stable, or (as posted) may be volatile.
enum class MlockedSwapcache : uint8_t { kRefused, kAllowed };
// Unmapping discarded pages from VM_LOCKED vmas: done, or (2009) refused.
enum class MlockDiscard : uint8_t { kUnmapped, kRefused };
// follow_page on a discarded page of a VM_LOCKED vma, without FOLL_GET: takes a reference first, or (as
// posted) drops one that it never had.
enum class LockedDiscardRef : uint8_t { kTaken, kAsPosted };
// A write fault that takes a page out of the swap cache: makes it stable first, or (as posted) does not ask.
enum class ReuseDiscarded : uint8_t { kStableFirst, kAsPosted };
// Normal removal from a cache sets PG_discarded: for pages that the host has discarded, or (as posted) first
// for all.
enum class RemovalFlag : uint8_t { kDiscarded, kTransient };

struct Semantics {
  AnonReadFault anon_read_fault = AnonReadFault::kZeroPage;
  TruncatePasses truncate_passes = TruncatePasses::kTwo;
  TruncateRace truncate_race = TruncateRace::kPageLock;
  CowSurvivesTruncate cow_survives_truncate = CowSurvivesTruncate::kNo;
  HolePunchCow hole_punch_cow = HolePunchCow::kKept;
  ReuseRule reuse_rule = ReuseRule::kMapcount;
  CowRmapOrder cow_rmap_order = CowRmapOrder::kAfterPte;
  PopulateNonblock populate_nonblock = PopulateNonblock::kNoop;
  LinearFilePte linear_file_pte = LinearFilePte::kBadPte;
  DirtyRule dirty_rule = DirtyRule::kAnonymous;
  DumpLookup dump_lookup = DumpLookup::kDumpDirty;
  WpContended wp_contended = WpContended::kWait;
  RemapPopulate remap_populate = RemapPopulate::kFault;
  ConvertEnomem convert_enomem = ConvertEnomem::kRolledBack;
  SwapDump swap_dump = SwapDump::kReadSlot;
  Hints hints = Hints::kOff;
  DirtyBits dirty_bits = DirtyBits::kPte;
  DiscardAddress discard_address = DiscardAddress::kAbsolute;
  DiscardNonlinear discard_nonlinear = DiscardNonlinear::kFilePte;
  DiscardFree discard_free = DiscardFree::kSignOff;
  SignoffHook signoff_hook = SignoffHook::kTick;
  SignoffDeadCpu signoff_dead_cpu = SignoffDeadCpu::kRemoved;
  MinorFaultStates minor_fault_states = MinorFaultStates::kNone;
  ReleaseAttempt release_attempt = ReleaseAttempt::kBefore;
  VolatileOffLru volatile_off_lru = VolatileOffLru::kRefused;
  VolatileSwapcache volatile_swapcache = VolatileSwapcache::kAnon;
  MlockedSwapcache mlocked_swapcache = MlockedSwapcache::kRefused;
  MlockDiscard mlock_discard = MlockDiscard::kUnmapped;
  LockedDiscardRef locked_discard_ref = LockedDiscardRef::kTaken;
  ReuseDiscarded reuse_discarded = ReuseDiscarded::kStableFirst;
  RemovalFlag removal_flag = RemovalFlag::kDiscarded;
  friend bool operator==(const Semantics&, const Semantics&) = default;
};

// One row of the table of switches.
struct Switch {
  std::string_view name;
  size_t offset;                             // in Semantics; every switch is one byte
  std::span<const std::string_view> values;  // the first is the default
  std::string_view source;
  std::string_view scenario;
  std::string_view reader;  // the function that asks
};
std::span<const Switch> Switches();

// Sets one switch from "name=value". kInvalid names the switches or values that exist. With hints=base the
// dirty bits are the page's: the base design is right on no other hardware.
base::Result<void> SetSwitch(Semantics& semantics, std::string_view assignment);
// The switches that differ from their defaults, as "name=value", in table order.
std::vector<std::string> ChangedSwitches(const Semantics& semantics);

// A preset by name: "k34", "k32", "k24", "k18", "k11", each with that kernel's own rules; the defaults are
// 2.6.34 corrected. And "hva2005", "gph2006", "gph2007", "gph2009": the postings of page hinting, on the
// defaults and on hardware with a dirty bit for each page, but for what loses data. kInvalid for another.
base::Result<Semantics> Generation(std::string_view name);
std::span<const std::string_view> GenerationNames();

}  // namespace mm
