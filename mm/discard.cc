#include "mm/discard.h"

#include <utility>

#include "mm/frames.h"
#include "mm/page_states.h"
#include "mm/planted.h"

namespace mm {
namespace {

void Append(std::vector<Pfn>& to, std::vector<Pfn>& from) {
  to.insert(to.end(), from.begin(), from.end());
  from.clear();
}

}  // namespace

void DiscardedPages::add(Pfn pfn, Where where) {
  if (Planted(Bug::kNoDiscardList)) return frames_.free_discarded(pfn);
  std::vector<Pfn>& own = cpu_[smp_processor_id()];
  own.push_back(pfn);
  if (sem_.discard_free != DiscardFree::kPagevec || own.size() < PAGEVEC_SIZE) return;
  Guard guard(lock_, where);
  Append(list_, own);
}

uint64_t DiscardedPages::shrink(Where where) {
  switch (sem_.discard_free) {
    case DiscardFree::kPagevec: return ShrinkPagevecs(where);
    case DiscardFree::kIpiLists: return ShrinkIpiLists(where);
    case DiscardFree::kSignOff: break;
  }
  return 0;
}

// shrink_discards: first the splice, then the interrupts; what is added meanwhile waits for the next round.
uint64_t DiscardedPages::ShrinkPagevecs(Where where) {
  std::vector<Pfn> spliced;
  {
    Guard guard(lock_, where);
    Append(spliced, list_);
  }
  if (spliced.empty()) return 0;
  smp_call_function([] {}, true, where);
  return Free(spliced);
}

uint64_t DiscardedPages::ShrinkIpiLists(Where where) {
  std::vector<Pfn> collected;
  const auto collect = [&] { Append(collected, cpu_[smp_processor_id()]); };
  smp_call_function(collect, true, where);
  collect();  // this CPU is enabled
  return Free(collected);
}

void DiscardedPages::tick(bool mode_changed, Where where) {
  if (sem_.discard_free != DiscardFree::kSignOff) return;
  if (sem_.signoff_hook == SignoffHook::kTick || mode_changed) SignOff(where);
}

void DiscardedPages::idle(Where where) {
  if (sem_.discard_free == DiscardFree::kSignOff) SignOff(where);
}

// One CPU's part in a batch. Frames that come while one is under way gather for the next.
uint64_t DiscardedPages::SignOff(Where where) {
  const unsigned cpu = smp_processor_id();
  const uint32_t self = 1u << cpu;
  racy_read(&mask_, "sign-off mask", where);
  if (cpu_[cpu].empty() && (mask_ & self) == 0) return 0;
  std::vector<Pfn> to_free;
  {
    Guard guard(lock_, where);
    uses(&mask_, true);
    Append(list_, cpu_[cpu]);
    mask_ &= ~self;
    if (mask_ == 0) {
      Append(to_free, sign_off_);
      Append(sign_off_, list_);
      if (!sign_off_.empty()) {
        mask_ = online() & ~tickless_ & ~self;
        if (mask_ == 0) Append(to_free, sign_off_);
      }
    }
  }
  return Free(to_free);
}

uint64_t DiscardedPages::wait(Where where) {
  if (size() == 0) return 0;
  if (sem_.discard_free != DiscardFree::kSignOff) return shrink(where);
  const uint64_t before = size();
  // Two rounds: what is on a CPU's list is gathered in the first, and signed off in the second.
  for (int round = 0; round < 2 && size() > 0; ++round) {
    smp_call_function([this, where] { tick(false, where); }, true, where);
    idle(where);  // who waits leaves its CPU idle
  }
  const uint64_t after = size();
  return before > after ? before - after : 0;
}

void DiscardedPages::cpu_dead(unsigned cpu, Where where) {
  CHECK(cpu < NR_CPUS && cpu != smp_processor_id());
  dead_ |= 1u << cpu;
  tickless_ &= ~(1u << cpu);
  Append(cpu_[smp_processor_id()], cpu_[cpu]);
  if (sem_.signoff_dead_cpu == SignoffDeadCpu::kStays) return;
  std::vector<Pfn> to_free;
  {
    Guard guard(lock_, where);
    uses(&mask_, true);
    mask_ &= ~(1u << cpu);
    if (mask_ == 0) Append(to_free, sign_off_);
  }
  Free(to_free);
}

void DiscardedPages::set_tickless(unsigned cpu, bool tickless) {
  tickless_ = tickless ? tickless_ | 1u << cpu : tickless_ & ~(1u << cpu);
}

uint32_t DiscardedPages::online() const {
  const unsigned cpus = cpus_ > 0 ? cpus_ : smp() ? t_cpus->count() : 1;
  return ((1u << cpus) - 1) & ~dead_;
}

uint64_t DiscardedPages::size() const {
  uint64_t size = list_.size() + sign_off_.size();
  for (const std::vector<Pfn>& pages : cpu_) size += pages.size();
  return size;
}

uint64_t DiscardedPages::Free(const std::vector<Pfn>& pages) {
  for (const Pfn pfn : pages) frames_.free_discarded(pfn);
  return pages.size();
}

}  // namespace mm
