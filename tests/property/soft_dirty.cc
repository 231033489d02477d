#include "tests/property/soft_dirty.h"

#include <algorithm>
#include <cstdio>

#include "base/random.h"
#include "mm/soft_dirty.h"

namespace property {
namespace {

using base::Format;
using Difference = std::optional<std::string>;

// Whether a step of this kind may make a page soft-dirty that stays what and where it is.
bool MayWrite(Kind kind) {
  switch (kind) {
    case Kind::kStore:
    case Kind::kTouch:
    case Kind::kMmap:    // MAP_POPULATE
    case Kind::kMremap:  // what moves
    case Kind::kMlock:
    case Kind::kGup: return true;
    default: return false;
  }
}

template <class Visit>
void ForEachModified(const naive::Memory& memory, Visit&& visit) {
  for (const auto& [number, page] : memory.pages) {
    if (!page.shared && page.copy != nullptr) visit(number, *page.copy);
  }
}

unsigned long long Hex(uint64_t value) { return value; }

}  // namespace

bool SoftDirtyCheck::IsPinned(mm::MmStruct& mm, mm::Vaddr addr) const {
  const mm::Machine& machine = *world_.machine;
  const mm::Pte pte = *mm.pgtable.find(addr);
  const mm::Pfn pfn = mm::pte_present(pte) ? mm::pte_pfn(pte)
                      : mm::pte_swap(pte)  ? machine.swap->cached(mm::pte_to_swp_entry(pte))
                                           : mm::kNoPfn;
  return machine.pins.contains(pfn);
}

Difference SoftDirtyCheck::Clear() {
  if (world_.options.trace) std::fprintf(stderr, "  %zu: clear_soft_dirty()\n", CurrentProgress().step);
  mm::clear_soft_dirty(*world_.machine);
  ++stat_.clears;
  since_.clear();
  Difference wrong;
  for (const Proc& proc : world_.procs) {
    const auto [place, is_new] = since_.try_emplace(proc.memory);
    if (!is_new) continue;
    auto then = std::make_shared<Pages>();
    ForEachModified(*proc.memory, [&](uint64_t number, const naive::PageBytes& bytes) {
      then->emplace(number, bytes);
      const mm::Vaddr addr = number * naive::kPage;
      const bool soft = mm::soft_dirty(world_.mm(proc), addr);
      if (!soft) place->second.clean.insert(number);
      if (soft == IsPinned(world_.mm(proc), addr)) return;
      wrong = Format("pid %u %#llx: %s by clear_soft_dirty", proc.pid, Hex(addr),
                     soft ? "left soft-dirty" : "is pinned, and was cleared");
    });
    place->second.then = std::move(then);
  }
  return wrong;
}

Difference SoftDirtyCheck::Before(const Op& op) {
  // The same words for whoever runs the case, and others than the step's own.
  const uint64_t draw = base::Mix64(op.words[1] ^ uint64_t{op.words[23]} << 32);
  return draw % 12 == 0 ? Clear() : Difference();
}

SoftDirtyCheck::Since& SoftDirtyCheck::SinceOf(const Proc& proc) {
  const auto [place, is_new] = since_.try_emplace(proc.memory);
  if (!is_new) return place->second;
  const mm::Pid parent = world_.process(proc).ppid;
  const auto found = std::ranges::find(world_.procs, parent, &Proc::pid);
  if (found != world_.procs.end()) place->second.then = since_[found->memory].then;
  return place->second;
}

Difference SoftDirtyCheck::CheckMemory(const Proc& proc, Since& since, bool writes) {
  std::set<uint64_t> clean;
  Difference wrong;
  ForEachModified(*proc.memory, [&](uint64_t number, const naive::PageBytes& bytes) {
    const mm::Vaddr addr = number * naive::kPage;
    if (mm::soft_dirty(world_.mm(proc), addr)) {
      ++stat_.soft_dirty;
      if (!writes && since.clean.contains(number))
        wrong = Format("pid %u %#llx is soft-dirty, and nobody wrote it", proc.pid, Hex(addr));
      return;
    }
    ++stat_.clean;
    clean.insert(number);
    const auto then = since.then->find(number);
    if (then == since.then->end()) {
      wrong = Format("pid %u %#llx was no modified page, and is not soft-dirty", proc.pid, Hex(addr));
    } else if (then->second != bytes) {
      wrong = Format("pid %u %#llx has other bytes, and is not soft-dirty", proc.pid, Hex(addr));
    }
  });
  since.clean = std::move(clean);
  return wrong;
}

Difference SoftDirtyCheck::After(const Op& op) {
  if (stat_.clears == 0) return {};
  Difference wrong;
  std::set<naive::MemoryPtr> alive;
  for (const Proc& proc : world_.procs) {
    if (!alive.insert(proc.memory).second) continue;
    if (Difference difference = CheckMemory(proc, SinceOf(proc), MayWrite(op.kind))) wrong = difference;
  }
  std::erase_if(since_, [&](const auto& entry) { return !alive.contains(entry.first); });
  return wrong;
}

}  // namespace property
