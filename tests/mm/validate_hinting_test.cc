// What Validate says of page hinting: each invariant is broken by hand once, reported by its id, and mended.
#include <gtest/gtest.h>

#include <functional>

#include "mm/fault.h"
#include "tests/mm/deferred.h"

namespace mm {
namespace {

using enum PageState;

// A machine with two CPUs, a page of a file that the cache alone has, and one that a process maps.
struct Scene {
  explicit Scene(const Semantics& semantics = Hinted()) : d(2, semantics) {
    cached = d.w.ReadIn(d.file, 60);
    EXPECT_EQ(d.w.TryLoad(p, shared), Outcome::kOk);
    mapped = d.w.PfnAt(p, shared);
    EXPECT_TRUE(page_set_stable_if_present(d.w.frames(), cached));
    EXPECT_TRUE(page_set_stable_if_present(d.w.frames(), mapped));
  }
  Host& host() { return d.w.host(); }
  Page& page(Pfn pfn) { return d.w.page(pfn); }
  std::string Verdict() { return Validate(d.w.machine(), Depth::kDeep).value_or("good"); }
  void Expect(const std::string& id, const std::string& how, const std::function<void()>& break_it,
              const std::function<void()>& mend_it) {
    ASSERT_EQ(Verdict(), "good") << how;
    break_it();
    EXPECT_EQ(Verdict().substr(0, id.size() + 1), id + ":") << how << ": " << Verdict();
    mend_it();
    EXPECT_EQ(Verdict(), "good") << how << ", mended";
  }
  // The page in this state, and with these flags.
  void ExpectState(const std::string& id, const std::string& how, Pfn pfn, PageState state,
                   uint32_t flags = 0) {
    const PageState before = d.w.state(pfn);
    const uint32_t old = page(pfn).flags;
    Expect(
        id, how,
        [&] {
          host().restore_state(pfn, state);
          page(pfn).flags |= flags;
        },
        [&] {
          host().restore_state(pfn, before);
          page(pfn).flags = old;
        });
  }

  Deferred d;
  Process& p = d.w.Spawn();
  Vaddr shared = d.w.Shared(p, d.file, 1, 50);
  Pfn cached = kNoPfn;
  Pfn mapped = kNoPfn;
};

TEST(ValidateHinting, WithoutHintsAllIsStable) {
  MachineConfig config;
  config.memory_bytes = 256 * kPageSize;
  config.host_bytes = 256 * kPageSize;
  const std::unique_ptr<Machine> machine = Machine::Create(config).value();
  const Pfn pfn = machine->frames.alloc_page(Fill::kZero);
  machine->frames.bytes(pfn);
  machine->frames.put_page(pfn);
  ASSERT_EQ(Validate(*machine, Depth::kDeep), std::nullopt);
  machine->host->restore_state(pfn, Vr);
  EXPECT_EQ(Validate(*machine, Depth::kDeep).value_or("good").substr(0, 8), "INV-G12:");
  machine->host->restore_state(pfn, Sr);
}

TEST(ValidateHinting, FreeFramesAndOthers) {
  Scene s;
  s.ExpectState("INV-G10", "a page that somebody has is unused", s.cached, Ur);
  const Pfn pfn = s.d.w.frames().alloc_page(Fill::kZero);
  s.d.w.frames().bytes(pfn);
  s.d.w.frames().put_page(pfn);
  s.ExpectState("INV-G10", "a free frame is stable", pfn, Sr);
  s.ExpectState("INV-D7", "a free frame is on no list", pfn, Ur, PG_discarded);
}

TEST(ValidateHinting, TheListsOfDiscardedFrames) {
  Scene s;
  DiscardedPages& list = s.d.list();
  const std::vector<Pfn> pages = s.d.Queue(1, 2);
  const auto set = [&](std::vector<Pfn> own, std::vector<Pfn> gather) {
    return [&list, own, gather] {
      list.restore_list(1, own);
      list.restore_lists(gather, {}, 0);
    };
  };
  const auto mend = set(pages, {});
  // A frame that is on no list is not free either, as the machine counts it: F2 first.
  s.Expect("INV-D12", "one stands there twice", set({pages[0], pages[0]}, {}), mend);
  s.Expect("INV-D12", "on two lists", set({pages[0]}, {pages[0]}), mend);
  s.Expect("INV-D12", "a page that is in use", set({pages[0], s.cached}, {}), mend);
  s.Expect(
      "INV-D12", "without its flag", [&] { s.page(pages[0]).flags = 0; },
      [&] { s.page(pages[0]).flags = PG_discarded; });
  const auto unplug = [&] {
    list.cpu_dead(1);
    list.restore_list(0, {});
    list.restore_list(1, pages);
  };
  s.Expect("INV-D13", "of a CPU that is gone", unplug, [&] { list.cpu_online(1); });
  s.ExpectState("INV-G10", "a frame of the list is unused already", pages[0], Uz, PG_discarded);
}

TEST(ValidateHinting, WhatWasTakenOut) {
  Scene s;
  s.ExpectState("INV-D2", "a cached page was discarded", s.cached, Sr, PG_discarded);
  s.ExpectState("L1", "state_change is held", s.cached, Sr, PG_state_change);
}

TEST(ValidateHinting, WritablePtes) {
  Scene s;
  Pte& pte = *s.p.mm->pgtable.find(s.shared);
  const Pte old = pte;
  const auto writable = [&](uint32_t flags, PageState state) {
    return [&, flags, state] {
      pte = pte_set(old, kPteWrite);
      s.page(s.mapped).flags |= flags;
      s.host().restore_state(s.mapped, state);
    };
  };
  const uint32_t flags = s.page(s.mapped).flags;
  const auto mend = [&] {
    pte = old;
    s.page(s.mapped).flags = flags;
    s.host().restore_state(s.mapped, Sr);
  };
  s.Expect("INV-V9", "no PG_writable", writable(0, Sr), mend);
  s.Expect("INV-G8", "volatile with a writable pte", writable(PG_writable, Vr), mend);
  s.ExpectState("INV-G8", "volatile, and was changed", s.cached, Vr, PG_key_dirty);
  s.ExpectState("INV-G8", "volatile, mapped read-only, and was changed", s.mapped, Vr, PG_key_dirty);
  writable(PG_writable, Pr)();
  EXPECT_EQ(s.Verdict(), "good");
  mend();
}

TEST(ValidateHinting, WritablePtesWherePtesHaveTheDirtyBit) {
  Scene s(Hinted({"dirty_bits=pte"}));
  Pte& pte = *s.p.mm->pgtable.find(s.shared);
  const Pte old = pte;
  const uint32_t flags = s.page(s.mapped).flags;
  s.Expect(
      "INV-G9", "potentially volatile, by the wrong platform",
      [&] {
        pte = pte_set(old, kPteWrite);
        s.page(s.mapped).flags |= PG_writable;
        s.host().restore_state(s.mapped, Pr);
      },
      [&] {
        pte = old;
        s.page(s.mapped).flags = flags;
        s.host().restore_state(s.mapped, Sr);
      });
}

TEST(ValidateHinting, WhatMayBeVolatile) {
  Scene s;
  s.ExpectState("INV-V6", "the zero page, which is reserved", kZeroPfn, Vz);
  s.ExpectState("INV-V6", "private", s.cached, Vr, PG_private);
  s.ExpectState("INV-V6", "reserved", s.cached, Vr, PG_reserved);
  const Vaddr anon = s.d.w.Anon(s.p, 1);
  ASSERT_EQ(s.d.w.Store(s.p, anon, "mine"), Outcome::kOk);
  s.ExpectState("INV-V7", "anonymous, and in no swap cache", s.d.w.PfnAt(s.p, anon), Pr);
  Machine& m = s.d.w.machine();
  const auto dirt = [&](bool dirty) {
    return [&, dirty] {
      s.host().restore_state(s.cached, dirty ? Vr : Sr);
      s.page(s.cached).flags = dirty ? s.page(s.cached).flags | PG_dirty : s.page(s.cached).flags & ~PG_dirty;
      m.vmstat.nr_dirty = dirty ? 1 : 0;
    };
  };
  s.Expect("INV-V5", "dirty", dirt(true), dirt(false));
  const auto reading = [&](bool up) {
    return [&, up] {
      s.host().restore_state(s.cached, up ? Sr : Vr);
      s.page(s.cached).flags =
          up ? s.page(s.cached).flags | PG_uptodate : s.page(s.cached).flags & ~PG_uptodate;
    };
  };
  s.Expect("INV-V6", "not up to date", reading(false), reading(true));
}

TEST(ValidateHinting, PagesOfLockedVmas) {
  Scene s;
  Vma& vma = s.d.w.VmaAt(s.p, s.shared);
  const auto lock = [&](bool locked) {
    return [&, locked] {
      s.p.mm->set_vma_flags(vma, locked ? vma.flags | VM_LOCKED : vma.flags & ~uint64_t{VM_LOCKED});
      s.host().restore_state(s.mapped, locked ? Vr : Sr);
    };
  };
  s.Expect("INV-V8", "a page that was missed by mlock", lock(true), lock(false));
}

TEST(ValidateHinting, TheHostsCountsAndBytes) {
  Scene s;
  const Pfn pfn = s.d.NewDiscarded();
  s.Expect(
      "H2", "a frame that is not resident has bytes",
      [&] { s.d.w.frames().arena_bytes(pfn)[9] = std::byte{1}; },
      [&] { s.d.w.frames().arena_bytes(pfn)[9] = std::byte{0}; });
  const Vaddr anon = s.d.w.Anon(s.p, 80);
  for (int i = 0; i < 80; ++i) ASSERT_EQ(s.d.w.Store(s.p, anon + i * kPage, "x"), Outcome::kOk);
  s.host().set_memory(64);
  std::vector<Pfn> out;
  for (int i = 0; i < 80; ++i) {
    const Pfn page = s.d.w.PfnAt(s.p, anon + i * kPage);
    if (s.d.w.state(page) == Sp) out.push_back(page);
  }
  const auto all = [&](PageState state) {
    return [&, state] {
      for (const Pfn page : out) s.host().restore_state(page, state);
    };
  };
  ASSERT_FALSE(out.empty());
  s.Expect("H1", "more is resident than there is memory", all(Sr), all(Sp));
  // A state of a frame that the guest never had: it is counted, and Validate does not find it.
  s.host().restore_state(Pfn{s.d.w.frames().high_water()}, Sr);
  EXPECT_EQ(s.Verdict().substr(0, 3), "H1:");
  s.host().restore_state(Pfn{s.d.w.frames().high_water()}, Uz);
  ASSERT_NE(s.d.w.frames().alloc_page(Fill::kZero), kNoPfn);
  s.d.w.frames().put_page(Pfn{s.d.w.frames().high_water() - 1});
}

}  // namespace
}  // namespace mm
