#include "mm/page_states.h"

#include "mm/file.h"
#include "mm/host.h"
#include "mm/planted.h"

namespace mm {
namespace {

using enum PageState;

// A4.1. A row: what each request makes of a state, in the order of Request; of a preserved page, what it
// becomes if the guest wants it potentially volatile and it was changed; and whether it is said to be there.
struct RequestRow {
  PageState from;
  PageState next[kRequests];
  PageState changed;
  bool present;
};
constexpr RequestRow kRequestTable[] = {
    // get  stable unused volatile pot. resident if-present
    {Sr, {Sr, Sr, Ur, Vr, Pr, Sr, Sr}, Pr, true},  {Sp, {Sp, Sp, Uz, Vz, Vz, Sp, Sp}, Sp, true},
    {Sz, {Sz, Sz, Uz, Vz, Vz, Sz, Sz}, Vz, true},  {Ur, {Ur, Sr, Ur, Vr, Pr, Sr, Sr}, Pr, true},
    {Uz, {Uz, Sz, Uz, Vz, Vz, Sz, Uz}, Vz, true},  {Vr, {Vr, Sr, Ur, Vr, Pr, Sr, Sr}, Pr, true},
    {Vz, {Vz, Sz, Uz, Vz, Vz, Sz, Vz}, Vz, false}, {Pr, {Pr, Sr, Ur, Vr, Pr, Sr, Sr}, Pr, true},
};
static_assert(std::size(kRequestTable) == kPageStates);

// A4.2, in the order of HostMove.
constexpr HostMoveRow kHostMoves[] = {
    {HostMove::kTakeUnused, "take", Ur, Uz, MoveNeeds::kNothing},
    {HostMove::kBack, "back", Sz, Sr, MoveNeeds::kAccess},
    {HostMove::kPageOut, "page out", Sr, Sp, MoveNeeds::kNothing},
    {HostMove::kPageIn, "page in", Sp, Sr, MoveNeeds::kAccess},
    {HostMove::kDiscardVolatile, "discard", Vr, Vz, MoveNeeds::kNothing},
    {HostMove::kPreserveDirty, "page out", Pr, Sp, MoveNeeds::kChanged},
    {HostMove::kDiscardClean, "discard", Pr, Vz, MoveNeeds::kUnchanged},
};

constexpr const char* kStateNames[] = {"Sr", "Sp", "Sz", "Ur", "Uz", "Vr", "Vz", "Pr"};
constexpr const char* kRequestNames[] = {"get state",
                                         "set stable",
                                         "set unused",
                                         "set volatile",
                                         "set potentially volatile",
                                         "set stable, make resident",
                                         "set stable if present"};

const void* StateObject(const Frames& frames, Pfn pfn) { return page_state_object(frames.at(pfn)); }

void Essa(Frames& frames, Pfn pfn, Request request, Where where) {
  racy_change(StateObject(frames, pfn), kPageStateName, where);
  (void)frames.host()->essa(pfn, request);
}

// A6.1.
bool check_bits(const Frames& frames, const Page& page) {
  const Semantics& sem = frames.host()->sem();
  if ((page.flags & (PG_dirty | PG_reserved | PG_writeback | PG_locked | PG_private | PG_discarded)) != 0)
    return false;
  if ((page.flags & PG_uptodate) == 0) return false;
  if ((page.flags & PG_lru) == 0 && sem.volatile_off_lru == VolatileOffLru::kRefused) return false;
  const bool in_swap_cache = page.swapcache();
  if (PageAnon(page) && !in_swap_cache) return false;
  if (in_swap_cache) {
    if (sem.volatile_swapcache == VolatileSwapcache::kNone) return false;
    if (!PageAnon(page) && sem.volatile_swapcache == VolatileSwapcache::kAnon) return false;
    // Its mapping is the swapper space, whose `mlocked` nobody sets.
    return sem.mlocked_swapcache == MlockedSwapcache::kAllowed || (page.flags & PG_mlocked) == 0;
  }
  const Mapping* mapping = FileMapping(page);
  return mapping != nullptr && !mapping->mlocked;
}

// A6.2.
bool check_counts(const Page& page, int offset) {
  const int wrong = Planted(Bug::kOffsetByOne) ? 1 : 0;
  return page.mapcount + offset == page.count - wrong;
}

bool LookAtBits(const Frames& frames, const Page& page, Where where) {
  racy_read(&page.flags, "page bits", where);
  uses(&page.mapping_word, false);
  return check_bits(frames, page);
}
bool LookAtCounts(const Page& page, int offset, Where where) {
  racy_read(&page.count, "page count", where);
  uses(&page.mapcount, false);
  return check_counts(page, offset);
}

// Requires: state_change is held. The counts first: who has a reference afterwards waits for us before it
// changes a bit, and who had one before is counted. As posted it is the other way: who makes the page dirty
// between the two, and lets go of it, is seen by neither (docs/errata.md).
bool MayBeVolatile(const Frames& frames, const Page& page, int offset, Where where) {
  if (Planted(Bug::kBitsBeforeCounts))
    return LookAtBits(frames, page, where) && LookAtCounts(page, offset, where);
  return LookAtCounts(page, offset, where) && LookAtBits(frames, page, where);
}

// page_set_volatile: what is potentially volatile, or volatile, or stable after all, says the platform.
void page_set_volatile(Frames& frames, Pfn pfn, bool writable, Where where) {
  const bool key = frames.host()->sem().dirty_bits == DirtyBits::kPage;
  if (!writable) return Essa(frames, pfn, Request::kSetVolatile, where);
  Essa(frames, pfn, key ? Request::kSetPotentiallyVolatile : Request::kSetStableIfPresent, where);
}

bool hints_writable(const Frames& frames) { return frames.host()->sem().hints == Hints::kWritable; }

}  // namespace

const char* PageStateName(PageState state) { return kStateNames[static_cast<size_t>(state)]; }
const char* RequestName(Request request) { return kRequestNames[static_cast<size_t>(request)]; }

RequestResult PageRequest(PageState from, Request request, Changed changed) {
  const RequestRow& row = kRequestTable[static_cast<size_t>(from)];
  const bool keeps = request == Request::kSetPotentiallyVolatile && changed == Changed::kYes;
  const bool asks = request == Request::kSetStableIfPresent;
  return {keeps ? row.changed : row.next[static_cast<size_t>(request)], !asks || row.present};
}

std::span<const HostMoveRow> HostMoves() { return kHostMoves; }
const HostMoveRow& RowOf(HostMove move) { return kHostMoves[static_cast<size_t>(move)]; }
const HostMoveRow* FindHostMove(PageState from, PageState to) {
  for (const HostMoveRow& row : kHostMoves) {
    if (row.from == from && row.to == to) return &row;
  }
  return nullptr;
}

Access AccessTo(PageState state) {
  switch (state) {
    case Sr:
    case Vr:
    case Pr: return Access::kData;
    case Sp: return Access::kAfterPageIn;
    case Sz: return Access::kAfterBacking;
    case Ur:
    case Uz: return Access::kAddressingException;
    case Vz: break;
  }
  return Access::kDiscardFault;
}

// ---- the guest ----

bool page_discarded(const Frames& frames, Pfn pfn) {
  if (!page_host_discards(frames)) return false;
  racy_read(StateObject(frames, pfn), kPageStateName);
  return IsDiscarded(frames.host()->state(pfn));
}

void page_set_unused(Frames& frames, Pfn pfn, unsigned order) {
  if (!page_host_discards(frames)) return;
  for (uint32_t i = 0; i < 1u << order; ++i)
    Essa(frames, Pfn{static_cast<uint32_t>(pfn) + i}, Request::kSetUnused, Where::current());
}

void page_set_stable(Frames& frames, Pfn pfn, unsigned order) {
  if (!page_host_discards(frames)) return;
  for (uint32_t i = 0; i < 1u << order; ++i)
    Essa(frames, Pfn{static_cast<uint32_t>(pfn) + i}, Request::kSetStable, Where::current());
}

bool page_set_stable_if_present(Frames& frames, Pfn pfn, Where where) {
  if (!page_host_discards(frames) || (frames.at(pfn).flags & PG_reserved) != 0) return true;
  racy_change(StateObject(frames, pfn), kPageStateName, where);
  return frames.host()->essa(pfn, Request::kSetStableIfPresent);
}

void page_make_volatile_slow(Frames& frames, Pfn pfn, int offset, Where where) {
  Page& page = frames.at(pfn);
  uses(&page.flags, false);
  if ((page.flags & PG_discarded) != 0) return;
  if (!StateChangeLock::try_lock(page, where)) return;
  if (MayBeVolatile(frames, page, offset, where)) {
    const bool writable = (page.flags & PG_writable) != 0;
    page_set_volatile(frames, pfn, writable && hints_writable(frames), where);
  }
  StateChangeLock::unlock(page, where);
}

void pagevec_make_volatile(Frames& frames, std::span<const Pfn> pages) {
  CHECK(pages.size() <= PAGEVEC_SIZE);
  for (const Pfn pfn : pages) page_make_volatile(frames, pfn, 1);
}

bool page_make_stable_slow(Frames& frames, Pfn pfn, Where where) {
  if (!Planted(Bug::kMakeStableNoWait)) StateChangeLock::wait(frames.at(pfn), where);
  return page_set_stable_if_present(frames, pfn, where);
}

void page_check_writable_slow(Frames& frames, Pfn pfn, int offset, Where where) {
  Page& page = frames.at(pfn);
  if (!hints_writable(frames) || (page.flags & PG_reserved) != 0) return;
  racy_read(page_writable_object(page), "PG_writable", where);
  if ((page.flags & PG_writable) != 0) return;
  bool count_ok = false;
  StateChangeLock::lock(page, where);
  racy_change(page_writable_object(page), "PG_writable", where);
  if ((page.flags & PG_writable) == 0) {
    page.flags |= PG_writable;
    count_ok = LookAtCounts(page, offset, where);
    if (count_ok && LookAtBits(frames, page, where)) {
      page_set_volatile(frames, pfn, true, where);
    } else {
      (void)page_set_stable_if_present(frames, pfn, where);
    }
  }
  StateChangeLock::unlock(page, where);
  if (!count_ok) page_make_volatile_slow(frames, pfn, 1, where);
}

void page_confirm_writable_slow(Frames& frames, Pfn pfn, Where where) {
  Page& page = frames.at(pfn);
  if (!hints_writable(frames) || Planted(Bug::kWritableNotConfirmed)) return;
  StateChangeLock::wait(page, where);
  if ((page.flags & PG_writable) == 0) page_check_writable_slow(frames, pfn, 1, where);
}

void page_reset_writable_slow(Frames& frames, Pfn pfn, Where where) {
  Page& page = frames.at(pfn);
  racy_read(page_writable_object(page), "PG_writable", where);
  if ((page.flags & PG_writable) == 0 || !StateChangeLock::try_lock(page, where)) return;
  // Somebody may have mapped it again meanwhile; the published patch does not look.
  racy_read(&page.mapcount, "mapcount", where);
  if (page.mapcount == 0 || Planted(Bug::kWritableResetWhileMapped)) {
    racy_change(page_writable_object(page), "PG_writable", where);
    page.flags &= ~PG_writable;
  }
  StateChangeLock::unlock(page, where);
}

void page_cache_release_slow(Frames& frames, Pfn pfn, Where where) {
  if (frames.host()->sem().release_attempt == ReleaseAttempt::kAfter) {
    const bool last = frames.at(pfn).count == 1;
    frames.put_page(pfn, where);
    // By now the page may be somebody else's.
    if (!last) page_make_volatile_slow(frames, pfn, 1, where);
    return;
  }
  if (frames.at(pfn).count > 1) page_make_volatile_slow(frames, pfn, 2, where);
  frames.put_page(pfn, where);
}

}  // namespace mm
