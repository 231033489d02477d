// Deferred: a machine of several CPUs, and pages that the host discards and each of them frees.
#pragma once

#include <utility>
#include <vector>

#include "tests/mm/hinting_world.h"

namespace mm {

struct Deferred {
  explicit Deferred(unsigned count, const Semantics& semantics = Hinted()) : w(semantics), cpus(count) {
    list().set_cpus(count);
  }
  DiscardedPages& list() { return w.discarded(); }

  // On this CPU, while the others are idle.
  void On(unsigned cpu, const Cpus::Job& job, Where at = Where::current()) {
    if (cpus == 1) return job();
    Cpus run(cpus);
    RoundRobin scheduler;
    std::vector<Cpus::Job> jobs(cpus);
    jobs[cpu] = job;
    const auto failure = run.Run(jobs, scheduler);
    ASSERT_FALSE(failure) << at.line() << ": " << failure->what;
  }
  void Tick(unsigned cpu) {
    On(cpu, [&] { list().tick(); });
  }
  void Idle(unsigned cpu) {
    On(cpu, [&] { list().idle(); });
  }

  // A page that the host has discarded, and that nobody has met yet.
  Pfn NewDiscarded() {
    const Pfn pfn = w.ReadIn(file, next_++);
    EXPECT_TRUE(w.Take(pfn));
    EXPECT_EQ(w.state(pfn), PageState::Vz);
    return pfn;
  }
  // The last page that was made so is looked up: it is taken out, and its frame queued where this runs.
  void LookUp() { EXPECT_EQ(find_get_page(w.machine(), file->mapping, next_ - 1), kNoPfn); }
  // So many discarded frames are freed on this CPU.
  std::vector<Pfn> Queue(unsigned cpu, int frames) {
    std::vector<Pfn> pages;
    for (int i = 0; i < frames; ++i) {
      pages.push_back(NewDiscarded());
      On(cpu, [&] { LookUp(); });
    }
    return pages;
  }
  // Free, and ready to be allocated.
  bool IsFree(Pfn pfn) {
    return w.page(pfn).count == 0 && w.page(pfn).flags == 0 && UsageOf(w.state(pfn)) == Usage::kUnused;
  }

  HintedWorld w;
  unsigned cpus;
  FilePtr file = w.NewFile(64 * kPage);

 private:
  Pgoff next_ = 0;
};

}  // namespace mm
