// Page hinting, the guest's side: what the guest tells its host of each frame, and what each of the two may
// do (spec part A; seeds 000, 001, 002). The host's side is host.h.
//
// A frame's state is what the guest said of it (its usage) and where the host has its bytes (its content).
// Eight of the twelve combinations exist, and no other can be said. Who may change which is in three tables,
// which the code and its tests share: requests of the guest (A4.1), moves of the host (A4.2), and what an
// access of the guest meets (A4.3).
//
// Invariants, judged by Validate() (V), by a CHECK at the place (C), by a type (T) or by what a test reads
// back (test):
//   INV-G1 T    INV-G2 C    INV-G3 C    INV-G4 test   INV-G5 test   INV-G6 T (one request)   INV-G7 C
//   INV-G8 V,C  INV-G9 V    INV-G10 V   INV-G11 C     INV-G12 test
//   INV-V1 V (what a state shows of it)  INV-V2 T  INV-V3 test  INV-V4 T  INV-V5 V,C  INV-V6 V,C  INV-V7 V
//   INV-V8 V    INV-V9 V    INV-V10 test INV-V11 test INV-V12 test
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "mm/frames.h"
#include "mm/pte.h"
#include "mm/types.h"

namespace mm {

class Machine;
class MmStruct;

// ---- states ----

// What the guest says ("block usage"): essential; worthless; reproducible; reproducible unless it was changed
// through a writable pte.
enum class Usage : uint8_t { kStable, kUnused, kVolatile, kPotentiallyVolatile };
// Where the host has the bytes ("block content"): in memory; on its paging store; nowhere, they read as zero.
enum class Residence : uint8_t { kResident, kPreserved, kZero };

// Up, Vp, Pp and Pz cannot be: evicting such a page gives another state at once (A3).
enum class PageState : uint8_t { Sr, Sp, Sz, Ur, Uz, Vr, Vz, Pr };
inline constexpr size_t kPageStates = 8;
inline constexpr std::array<PageState, kPageStates> kAllPageStates = {
    PageState::Sr, PageState::Sp, PageState::Sz, PageState::Ur,
    PageState::Uz, PageState::Vr, PageState::Vz, PageState::Pr};

constexpr Usage UsageOf(PageState state) {
  switch (state) {
    case PageState::Sr:
    case PageState::Sp:
    case PageState::Sz: return Usage::kStable;
    case PageState::Ur:
    case PageState::Uz: return Usage::kUnused;
    case PageState::Vr:
    case PageState::Vz: return Usage::kVolatile;
    case PageState::Pr: break;
  }
  return Usage::kPotentiallyVolatile;
}
constexpr Residence ResidenceOf(PageState state) {
  switch (state) {
    case PageState::Sp: return Residence::kPreserved;
    case PageState::Sz:
    case PageState::Uz:
    case PageState::Vz: return Residence::kZero;
    default: return Residence::kResident;
  }
}
// "Vz".
const char* PageStateName(PageState state);
// The only state that says "discarded".
constexpr bool IsDiscarded(PageState state) { return state == PageState::Vz; }

// ---- A4.1: what the guest asks for ----

// By the codes of the instruction (ESSA).
enum class Request : uint8_t {
  kGetState,
  kSetStable,
  kSetUnused,
  kSetVolatile,
  kSetPotentiallyVolatile,
  kSetStableMakeResident,  // does not make it resident, as KVM has it (A07)
  kSetStableIfPresent,
};
inline constexpr size_t kRequests = 7;
const char* RequestName(Request request);

// Whether the page was changed since the host last had it clean: counts in one place only, a preserved page
// that is to become potentially volatile (note 1 of A4.1).
enum class Changed : uint8_t { kNo, kYes };
struct RequestResult {
  PageState next;
  bool ok;  // of the conditional request; the others are always
};
RequestResult PageRequest(PageState from, Request request, Changed changed = Changed::kNo);

// ---- A4.2: what the host may do ----

enum class HostMove : uint8_t {
  kTakeUnused,       // Ur -> Uz, at any time
  kBack,             // Sz -> Sr, on an access
  kPageOut,          // Sr -> Sp, at any time
  kPageIn,           // Sp -> Sr, on an access
  kDiscardVolatile,  // Vr -> Vz, at any time
  kPreserveDirty,    // Pr -> Sp, if the page was changed: the host changes its usage too
  kDiscardClean,     // Pr -> Vz, if it was not
};
enum class MoveNeeds : uint8_t { kNothing, kAccess, kChanged, kUnchanged };
struct HostMoveRow {
  HostMove move;
  const char* name;
  PageState from;
  PageState to;
  MoveNeeds needs;
};
// Nothing else is legal.
std::span<const HostMoveRow> HostMoves();
const HostMoveRow& RowOf(HostMove move);
// The move that leads from one state to the other; nullptr: there is none.
const HostMoveRow* FindHostMove(PageState from, PageState to);

// ---- A4.3: what an access of the guest meets ----

enum class Access : uint8_t {
  kData,
  kAfterPageIn,          // Sp
  kAfterBacking,         // Sz: reads zero
  kAddressingException,  // U: the state does not change
  kDiscardFault,         // Vz: neither does it
};
Access AccessTo(PageState state);

// ---- what the guest does with it ----
//
// All of these do nothing where the host does not discard (page_host_discards()): the conditional ones answer
// true, page_discarded false (INV-G12). What ends in _slow is the part behind that question.

inline bool page_host_discards(const Frames& frames) { return frames.host_discards(); }
// The host has discarded the page; from what the host says, not from PG_discarded.
bool page_discarded(const Frames& frames, Pfn pfn);
// 2^order frames, when they are freed and when they are allocated.
void page_set_unused(Frames& frames, Pfn pfn, unsigned order = 0);
void page_set_stable(Frames& frames, Pfn pfn, unsigned order = 0);
// false: the page is discarded. A reserved page is always said to be there (G17).
bool page_set_stable_if_present(Frames& frames, Pfn pfn, Where where = Where::current());

void page_make_volatile_slow(Frames& frames, Pfn pfn, int offset, Where where);
bool page_make_stable_slow(Frames& frames, Pfn pfn, Where where);
void page_check_writable_slow(Frames& frames, Pfn pfn, int offset, Where where);
void page_confirm_writable_slow(Frames& frames, Pfn pfn, Where where);
void page_reset_writable_slow(Frames& frames, Pfn pfn, Where where);
void page_cache_release_slow(Frames& frames, Pfn pfn, Where where);

// Lets the host have the page, if nobody needs it: all of A6.1 holds, and its references are its mappings and
// `offset` others: 1 for the cache's, 2 for the caller's too. Gives up where somebody else changes its state
// at this moment (INV-V2); nobody is told.
inline void page_make_volatile(Frames& frames, Pfn pfn, int offset, Where where = Where::current()) {
  if (page_host_discards(frames)) page_make_volatile_slow(frames, pfn, offset, where);
}
// For each of up to PAGEVEC_SIZE pages, with offset 1: though those that shrink_active_list has isolated have
// one reference more, and are refused (A6.6).
inline constexpr size_t PAGEVEC_SIZE = 14;
void pagevec_make_volatile(Frames& frames, std::span<const Pfn> pages);
// Makes the page stable: true, and its bytes are there until the caller lets go of it. False: the host has
// discarded it, and the caller calls page_discard(). Requires: the caller holds a reference of its own, or
// the page lock, so that nobody makes it volatile again (INV-V3).
inline bool page_make_stable(Frames& frames, Pfn pfn, Where where = Where::current()) {
  return !page_host_discards(frames) || page_make_stable_slow(frames, pfn, where);
}

// A writable pte of the page is about to be installed, or one to become writable: what the platform needs
// (A13): potentially volatile where the hardware has a dirty bit for each page, stable where each pte has its
// own. `offset` as of page_make_volatile.
inline void page_check_writable(Frames& frames, Pfn pfn, Pte pte, int offset,
                                Where where = Where::current()) {
  if (page_host_discards(frames) && pte_write(pte)) page_check_writable_slow(frames, pfn, offset, where);
}
// The same once more when the pte is counted, and before it can be seen: between the two another CPU may have
// removed what was the last mapping, and PG_writable with it. Not in the published patch.
inline void page_confirm_writable(Frames& frames, Pfn pfn, Pte pte, Where where = Where::current()) {
  if (page_host_discards(frames) && pte_write(pte)) page_confirm_writable_slow(frames, pfn, where);
}
// The last mapping of the page went.
inline void page_reset_writable(Frames& frames, Pfn pfn, Where where = Where::current()) {
  if (page_host_discards(frames)) page_reset_writable_slow(frames, pfn, where);
}

// Gives the page lock back, and tries to make the page volatile.
inline void unlock_page(Frames& frames, Page& page, Where where = Where::current()) {
  PageLock::unlock(page, where);
  if (page_host_discards(frames)) page_make_volatile_slow(frames, frames.pfn_of(page), 1, where);
}
// Gives the page lock back, and leaves the page's state alone.
inline void unlock_page_nocheck(Page& page, Where where = Where::current()) { PageLock::unlock(page, where); }
// Drops a reference, and tries to make the page volatile if it is not the last
// (page_cache_release, put_page_check). Frames::put_page() does not try.
inline void page_cache_release(Frames& frames, Pfn pfn, Where where = Where::current()) {
  if (page_host_discards(frames)) return page_cache_release_slow(frames, pfn, where);
  frames.put_page(pfn, where);
}

// PG_discarded, where it may be set at any time: under a page_table_lock, before a pte is installed.
inline bool page_is_discarded(const Page& page, Where where = Where::current()) {
  racy_read(page_discarded_object(page), "PG_discarded", where);
  return (page.flags & PG_discarded) != 0;
}
// How a fault looks pages up (A16).
CacheLookup fault_lookup(const Machine& machine);

// ---- a discarded page (page_discard.cc) ----

// Takes a page that the host has discarded out of every page table and of its cache, and drops the caller's
// reference (A9). May sleep. Requires: no spin lock is held (INV-D14).
void page_discard(Machine& machine, Pfn pfn);
// The same for a page that the caller has locked; the reference stays the caller's.
void page_discard_locked(Machine& machine, Pfn pfn);
// The page's bytes as a load would find them in the end, without an access: of a page that the host has
// discarded, those of its slot or its file. EIO. Changes nothing.
SysResult<void> read_page_content(const Machine& machine, Pfn pfn, std::span<std::byte, kPageSize> out);
// A CPU touched a page that the host has discarded: by its frame, or (DiscardAddress::kVirtual) by the page
// of `mm` that has `addr` now.
void do_discard_fault(Machine& machine, MmStruct& mm, Vaddr addr, Pfn pfn);
// The normal removal of a page from its cache begins, and ends (A10): once it is out, PG_discarded says
// whether the host has discarded it. Requires: the page is locked.
void page_begin_removal(Frames& frames, Pfn pfn);
void page_end_removal(Frames& frames, Pfn pfn);

}  // namespace mm
