// Frames that the host has discarded, on their way to the free list (spec A14; seed 002).
//
// A discard fault names the frame, not the address that was touched. When its handler runs, the frame may
// have been freed, and be somebody else's. So a discarded frame is not used again before every CPU has had
// its interrupts enabled once: the handler runs with interrupts off until it has taken a reference, or given
// up. Such frames are also the coldest: the host has to back them again.
//
// Three ways, by Semantics::discard_free:
//   kPagevec   (seed 002, 2005) 14 frames a CPU, then a list. Reclaim splices the list, has every other CPU
//              take an interrupt, and frees what it spliced.
//   kIpiLists  (2006) a list a CPU. Reclaim has every CPU take an interrupt that hands its list over.
//   kSignOff   (2007 to 2009) lists a CPU, a gather list and a sign-off list: each CPU signs a batch off in
//              its timer tick or when it goes idle, and who is the last frees it.
//
// Invariants, checked by Validate():
//   INV-D7, D12  A frame with PG_discarded and count 0 is on exactly one of the lists here, and no other is.
//   INV-D13      The lists of a CPU that is not online are empty.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "mm/cpu.h"
#include "mm/semantics.h"
#include "mm/sync.h"
#include "mm/types.h"

namespace mm {

class Frames;

class DiscardedPages {
 public:
  // Both must outlive it.
  DiscardedPages(Frames& frames, const Semantics& sem) : frames_(frames), sem_(sem) {}
  DiscardedPages(const DiscardedPages&) = delete;
  DiscardedPages& operator=(const DiscardedPages&) = delete;

  // A frame whose last reference went (free_hot_cold_page). May be called with spin locks held.
  void add(Pfn pfn, Where where = Where::current());
  // Frees what may be freed: how many. What reclaim begins with. Sleeps; with kSignOff it does nothing.
  uint64_t shrink(Where where = Where::current());
  // This CPU's timer tick, and its going idle (kSignOff). `mode_changed`: the tick comes with a change of the
  // clock event device's mode, where the posting of 2009 has its hook.
  void tick(bool mode_changed = false, Where where = Where::current());
  void idle(Where where = Where::current());
  // An allocation that found nothing waits for the time that a tick of every CPU takes: how many frames it
  // made free.
  uint64_t wait(Where where = Where::current());

  // ---- CPUs ----

  // How many CPUs there are; if nothing is said, those that are running.
  void set_cpus(unsigned cpus) { cpus_ = cpus; }
  // CPU hot-unplug: what the CPU had is handed to the current one.
  void cpu_dead(unsigned cpu, Where where = Where::current());
  void cpu_online(unsigned cpu) { dead_ &= ~(1u << cpu); }
  // A tickless CPU has been enabled since it went idle, and takes part in no batch that begins meanwhile.
  void set_tickless(unsigned cpu, bool tickless);

  // ---- to look at ----

  uint64_t size() const;
  uint32_t online() const;
  bool is_dead(unsigned cpu) const { return (dead_ >> cpu & 1) != 0; }
  uint32_t sign_off_mask() const { return mask_; }
  const std::vector<Pfn>& on_cpu(unsigned cpu) const { return cpu_[cpu]; }
  const std::vector<Pfn>& list() const { return list_; }  // kPagevec's; kSignOff's gather list
  const std::vector<Pfn>& sign_off() const { return sign_off_; }
  uint32_t dead_cpus() const { return dead_; }
  uint32_t tickless_cpus() const { return tickless_; }
  // What a saved machine had (restore).
  void restore_cpus(uint32_t dead, uint32_t tickless) {
    dead_ = dead;
    tickless_ = tickless;
  }
  void restore_list(unsigned cpu, std::vector<Pfn> pages) { cpu_[cpu] = std::move(pages); }
  void restore_lists(std::vector<Pfn> list, std::vector<Pfn> sign_off, uint32_t mask) {
    list_ = std::move(list);
    sign_off_ = std::move(sign_off);
    mask_ = mask;
  }

 private:
  uint64_t SignOff(Where where);
  uint64_t ShrinkPagevecs(Where where);
  uint64_t ShrinkIpiLists(Where where);
  uint64_t Free(const std::vector<Pfn>& pages);

  Frames& frames_;
  const Semantics& sem_;
  Lock<LockClass::kDiscardLock> lock_;  // list_, sign_off_, mask_
  std::array<std::vector<Pfn>, NR_CPUS> cpu_;
  std::vector<Pfn> list_;
  std::vector<Pfn> sign_off_;
  uint32_t mask_ = 0;  // CPUs that have still to sign off
  unsigned cpus_ = 0;
  uint32_t dead_ = 0;
  uint32_t tickless_ = 0;
};

}  // namespace mm
