// The three tables of page states, whole, and each thing that the guest asks by itself.
#include "mm/page_states.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/mm/bare_host.h"

namespace mm {
namespace {

using enum PageState;
constexpr Pfn kPfn{5};

// ---- A4.1 ----

struct Asked {
  PageState from;
  // Next states, in the order of Request.
  PageState next[kRequests];
  PageState changed;  // potentially volatile, and changed
  bool present;
};
// As the specification has it.
constexpr Asked kAsked[] = {
    {Sr, {Sr, Sr, Ur, Vr, Pr, Sr, Sr}, Pr, true},  {Sp, {Sp, Sp, Uz, Vz, Vz, Sp, Sp}, Sp, true},
    {Sz, {Sz, Sz, Uz, Vz, Vz, Sz, Sz}, Vz, true},  {Ur, {Ur, Sr, Ur, Vr, Pr, Sr, Sr}, Pr, true},
    {Uz, {Uz, Sz, Uz, Vz, Vz, Sz, Uz}, Vz, true},  {Vr, {Vr, Sr, Ur, Vr, Pr, Sr, Sr}, Pr, true},
    {Vz, {Vz, Sz, Uz, Vz, Vz, Sz, Vz}, Vz, false}, {Pr, {Pr, Sr, Ur, Vr, Pr, Sr, Sr}, Pr, true},
};

TEST(PageStates, EveryRequestInEveryState) {
  BareHost b;
  for (const Asked& row : kAsked) {
    for (size_t i = 0; i < kRequests; ++i) {
      const auto request = static_cast<Request>(i);
      SCOPED_TRACE(std::string(PageStateName(row.from)) + ", " + RequestName(request));
      const bool asks = request == Request::kSetStableIfPresent;
      EXPECT_EQ(PageRequest(row.from, request).next, row.next[i]);
      EXPECT_EQ(PageRequest(row.from, request).ok, !asks || row.present);
      b.Bring(kPfn, row.from);
      EXPECT_EQ(b.host().essa(kPfn, request), !asks || row.present);
      EXPECT_EQ(b.state(kPfn), row.next[i]);
      const bool pv = request == Request::kSetPotentiallyVolatile;
      b.Bring(kPfn, row.from);
      b.SetChanged(kPfn, true);
      b.host().essa(kPfn, request);
      EXPECT_EQ(b.state(kPfn), pv ? row.changed : row.next[i]) << "changed";
    }
  }
}

// INV-G3: only what drops the host's copy changes where the bytes are.
TEST(PageStates, RequestsMoveNoBytesButOnesOfPreservedPages) {
  for (const PageState from : kAllPageStates) {
    for (size_t i = 0; i < kRequests; ++i) {
      const PageState next = PageRequest(from, static_cast<Request>(i)).next;
      if (ResidenceOf(next) == ResidenceOf(from)) continue;
      EXPECT_EQ(from, Sp) << PageStateName(next);
      EXPECT_EQ(ResidenceOf(next), Residence::kZero);
    }
  }
}

TEST(PageStates, RequestsAreCounted) {
  BareHost b;
  b.Bring(kPfn, Sr);
  const HostStat before = b.host().stat();
  b.host().essa(kPfn, Request::kSetStable);
  b.host().essa(kPfn, Request::kSetVolatile);
  EXPECT_EQ(b.host().stat().requests, before.requests + 2);
  EXPECT_EQ(b.host().stat().transitions, before.transitions + 1) << "the first changed nothing";
}

// ---- A4.2 ----

struct Moved {
  PageState from, to;
  HostMove move;
};
constexpr Moved kMoved[] = {
    {Ur, Uz, HostMove::kTakeUnused},      {Sz, Sr, HostMove::kBack},
    {Sr, Sp, HostMove::kPageOut},         {Sp, Sr, HostMove::kPageIn},
    {Vr, Vz, HostMove::kDiscardVolatile}, {Pr, Sp, HostMove::kPreserveDirty},
    {Pr, Vz, HostMove::kDiscardClean},
};

TEST(PageStates, EveryHostMoveAndNoOther) {
  EXPECT_EQ(HostMoves().size(), std::size(kMoved));
  for (const PageState from : kAllPageStates) {
    for (const PageState to : kAllPageStates) {
      const HostMoveRow* expected = nullptr;
      for (const Moved& row : kMoved) {
        if (row.from == from && row.to == to) expected = &RowOf(row.move);
      }
      EXPECT_EQ(FindHostMove(from, to), expected) << PageStateName(from) << " to " << PageStateName(to);
    }
  }
}

TEST(PageStates, AHostMoveFromEveryState) {
  BareHost b;
  for (const Moved& row : kMoved) {
    for (const PageState from : kAllPageStates) {
      for (const bool changed : {false, true}) {
        SCOPED_TRACE(std::string(RowOf(row.move).name) + ", " + PageStateName(from));
        b.Bring(kPfn, from);
        b.SetChanged(kPfn, changed);
        bool may = row.from == from;
        if (row.move == HostMove::kPreserveDirty) may = may && changed;
        if (row.move == HostMove::kDiscardClean) may = may && !changed;
        ASSERT_EQ(b.host().may_move(row.move, kPfn), may);
        if (!may) continue;
        b.host().move(row.move, kPfn);
        EXPECT_EQ(b.state(kPfn), row.to);
      }
    }
  }
}

// INV-G2: a dirty page's usage is the only one that the host changes, and a clean one's that goes with it.
TEST(PageStates, HostMovesLeaveUsageAlone) {
  for (const HostMoveRow& row : HostMoves()) {
    const bool both = row.move == HostMove::kPreserveDirty || row.move == HostMove::kDiscardClean;
    EXPECT_EQ(UsageOf(row.from) != UsageOf(row.to), both) << row.name;
  }
}

// ---- A4.3 ----

struct Met {
  PageState from;
  Access access;
  Access answer;
  PageState after;
};
constexpr Met kMet[] = {
    {Sr, Access::kData, Access::kData, Sr},
    {Sp, Access::kAfterPageIn, Access::kData, Sr},
    {Sz, Access::kAfterBacking, Access::kData, Sr},
    {Ur, Access::kAddressingException, Access::kAddressingException, Ur},
    {Uz, Access::kAddressingException, Access::kAddressingException, Uz},
    {Vr, Access::kData, Access::kData, Vr},
    {Vz, Access::kDiscardFault, Access::kDiscardFault, Vz},
    {Pr, Access::kData, Access::kData, Pr},
};

TEST(PageStates, AnAccessInEveryState) {
  static_assert(std::size(kMet) == kPageStates);
  BareHost b;
  for (const Met& row : kMet) {
    for (const Write write : {Write::kNo, Write::kYes}) {
      if (row.from == Vr && write == Write::kYes) continue;  // INV-G8, below
      SCOPED_TRACE(PageStateName(row.from));
      EXPECT_EQ(AccessTo(row.from), row.access);
      b.Bring(kPfn, row.from);
      EXPECT_EQ(b.host().access(kPfn, write), row.answer);
      EXPECT_EQ(b.state(kPfn), row.after);
    }
  }
}

// Nothing writes to a volatile page: it has no writable pte. The base design lets it be, and looks later.
TEST(PageStates, AStoreToAVolatilePage) {
  BareHost b;
  b.Bring(kPfn, Vr);
  EXPECT_DEATH((void)b.host().access(kPfn, Write::kYes), "INV-G8");
  BareHost base(Hinted({"hints=base"}));
  base.Bring(kPfn, Vr);
  EXPECT_EQ(base.host().access(kPfn, Write::kYes), Access::kData);
  base.SetChanged(kPfn, true);
  EXPECT_FALSE(base.host().take(kPfn)) << "the host looks at the dirty bit";
  base.SetChanged(kPfn, false);
  EXPECT_TRUE(base.host().take(kPfn));
}

TEST(PageStates, NamesAndParts) {
  for (const PageState state : kAllPageStates) {
    const std::string name = PageStateName(state);
    EXPECT_EQ(name[0], "SUVP"[static_cast<size_t>(UsageOf(state))]);
    EXPECT_EQ(name[1], "rpz"[static_cast<size_t>(ResidenceOf(state))]);
    EXPECT_EQ(IsDiscarded(state), name == "Vz");
  }
}

// ---- the guest ----

TEST(PageStates, SetUnusedAndStableOfAnOrder) {
  BareHost b;
  page_set_stable(b.frames, Pfn{8}, 2);
  EXPECT_EQ(b.host().count(Sz), 5u) << "and the zero page";
  page_set_unused(b.frames, Pfn{8}, 2);
  for (uint32_t i = 8; i < 12; ++i) EXPECT_EQ(b.state(Pfn{i}), Uz);
}

TEST(PageStates, WithoutHintsNothingIsAsked) {
  BareHost b(Hinted({"hints=off"}));
  page_set_unused(b.frames, kPfn);
  page_make_volatile(b.frames, kPfn, 1);
  EXPECT_TRUE(page_make_stable(b.frames, kPfn));
  EXPECT_TRUE(page_set_stable_if_present(b.frames, kPfn));
  EXPECT_FALSE(page_discarded(b.frames, kPfn));
  EXPECT_EQ(b.host().stat().requests, 0u);
  EXPECT_EQ(b.state(kPfn), Sz);
}

// A page of a file's cache that only the cache knows, stable.
struct OnePage {
  explicit OnePage(const Semantics& semantics = Hinted()) : w(semantics) {
    EXPECT_TRUE(page_set_stable_if_present(w.frames(), pfn));
  }
  HintedWorld w;
  FilePtr file = w.NewFile(kPage);
  Pfn pfn = w.ReadIn(file, 0);
  Page& page = w.page(pfn);
};

// The platform says what a page with writable ptes is.
TEST(PageStates, CheckWritable) {
  const Pte read_only = mk_pte(Pfn{1}, 0);
  const Pte writable = mk_pte(Pfn{1}, kPteWrite);
  OnePage key;
  page_check_writable(key.w.frames(), key.pfn, read_only, 1);
  EXPECT_EQ(key.w.state(key.pfn), Sr);
  EXPECT_EQ(key.page.flags & PG_writable, 0u);
  page_check_writable(key.w.frames(), key.pfn, writable, 1);
  EXPECT_EQ(key.w.state(key.pfn), Pr);
  EXPECT_NE(key.page.flags & PG_writable, 0u);
  const uint64_t requests = key.w.host().stat().requests;
  page_check_writable(key.w.frames(), key.pfn, writable, 1);
  EXPECT_EQ(key.w.host().stat().requests, requests) << "PG_writable says that it was done";

  OnePage pte(Hinted({"dirty_bits=pte"}));
  page_make_volatile(pte.w.frames(), pte.pfn, 1);
  page_check_writable(pte.w.frames(), pte.pfn, writable, 1);
  EXPECT_EQ(pte.w.state(pte.pfn), Sr);
  page_make_volatile(pte.w.frames(), pte.pfn, 1);
  EXPECT_EQ(pte.w.state(pte.pfn), Sr) << "as long as PG_writable is set";

  OnePage base(Hinted({"hints=base"}));
  page_check_writable(base.w.frames(), base.pfn, writable, 1);
  EXPECT_EQ(base.page.flags & PG_writable, 0u) << "the base design has none";
}

TEST(PageStates, ConfirmAndResetWritable) {
  const Pte writable = mk_pte(Pfn{1}, kPteWrite);
  OnePage o;
  page_confirm_writable(o.w.frames(), o.pfn, writable);
  EXPECT_NE(o.page.flags & PG_writable, 0u) << "somebody had cleared it meanwhile";
  o.page.mapcount = 1;
  page_reset_writable(o.w.frames(), o.pfn);
  EXPECT_NE(o.page.flags & PG_writable, 0u) << "it is mapped again";
  o.page.mapcount = 0;
  StateChangeLock::lock(o.page, Where::current());
  page_reset_writable(o.w.frames(), o.pfn);
  EXPECT_NE(o.page.flags & PG_writable, 0u) << "safe: it is not waited for";
  StateChangeLock::unlock(o.page, Where::current());
  page_reset_writable(o.w.frames(), o.pfn);
  EXPECT_EQ(o.page.flags & PG_writable, 0u);
}

TEST(PageStates, FaultsLookUpAsTheGenerationDoes) {
  HintedWorld now;
  EXPECT_EQ(fault_lookup(now.machine()), CacheLookup::kNoDiscard);
  HintedWorld before(Generation("gph2007").value());
  EXPECT_EQ(fault_lookup(before.machine()), CacheLookup::kStable);
}

}  // namespace
}  // namespace mm
