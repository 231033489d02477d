// What the scenarios of page hinting share: a world with a host underneath whose calls may run on several
// CPUs, and shorthands for what stands between the lines of the specification.
#pragma once

#include <string>

#include "mm/lru.h"
#include "tests/mm/hinting_world.h"

namespace mm {

class Scene : public HintedWorld {
 public:
  explicit Scene(const Semantics& semantics = Hinted(), uint64_t swap_pages = 64)
      : HintedWorld(semantics, 2048, swap_pages) {
    discarded().set_cpus(3);
  }
  Machine& m() { return machine(); }

  FilePtr Object(uint64_t pages) { return m().create_shmem("object", pages * kPage); }
  uint64_t requests() { return host().stat().requests; }
  uint64_t faults() { return m().host->stat().discard_faults; }
  uint32_t UsedSlots() { return m().swap->nr_slots() - m().swap->nr_free(); }
  bool Writable(Pfn pfn) { return (page(pfn).flags & PG_writable) != 0; }
  // The frame was taken out as discarded, and waits to be free.
  bool IsDeferred(Pfn pfn) {
    const bool lies_there = page(pfn).count == 0 && page(pfn).flags == PG_discarded;
    return lies_there && discarded().size() == 1;
  }

  // A load of one of several CPUs: whatever it finds is in `bytes`.
  AccessResult Get(Process& process, Vaddr addr, std::string& bytes, size_t length = 16) {
    bytes.assign(length, '?');
    return m().load(process, addr, AsWritable(bytes));
  }
  // The same as a job.
  Cpus::Job Getting(Process& process, Vaddr addr, std::string& bytes) {
    return [this, &process, addr, &bytes] {
      EXPECT_EQ(Get(process, addr, bytes).outcome, Outcome::kOk) << "a load";
    };
  }
  // Maps the page read-only, and has the host discard it. What it was mapped from must let it be volatile.
  Pfn MapDiscarded(Process& process, Vaddr addr, Where at = Where::current()) {
    (void)Load(process, addr, 1, at);
    const Pfn pfn = PfnAt(process, addr);
    EXPECT_EQ(state(pfn), PageState::Vr) << "line " << at.line();
    EXPECT_TRUE(Take(pfn, at));
    EXPECT_EQ(state(pfn), PageState::Vz) << "line " << at.line();
    return pfn;
  }
  // An anonymous page that says `bytes`, in swap and mapped read-only from the swap cache: volatile.
  Vaddr InSwapCache(Process& process, std::string_view bytes) {
    const Vaddr addr = Anon(process, 1);
    EXPECT_EQ(Store(process, addr, bytes), Outcome::kOk);
    EXPECT_TRUE(PageOut(process, addr));
    EXPECT_BYTES(Load(process, addr, bytes.size()), std::string(bytes));
    EXPECT_TRUE(PageAt(process, addr).swapcache());
    EXPECT_EQ(state(PfnAt(process, addr)), PageState::Vr);
    return addr;
  }
  // What ends this call on a CPU of its own; the machine is not to be used any more then.
  std::string FailureOf(const Cpus::Job& job) { return OnCpus({job}, {{0, "nowhere"}}).message(); }

  void LockPage(Pfn pfn) { lock_page(page(pfn)); }
  void UnlockPage(Pfn pfn) { unlock_page_nocheck(page(pfn)); }
};

// Places of their own for CPUs to be stopped at.
inline void TryVolatile(Frames& frames, Pfn pfn) { page_make_volatile(frames, pfn, 1); }
inline void CheckWritable(Frames& frames, Pfn pfn) {
  page_check_writable(frames, pfn, mk_pte(pfn, kPteWrite), 1);
}
// make_stable by its contract: the reference first.
inline bool HoldStable(Frames& frames, Pfn pfn) {
  frames.get_page(pfn);
  return page_make_stable(frames, pfn);
}

}  // namespace mm
