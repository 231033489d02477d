// The part of Validate that looks at the host underneath (page_states.h, host.h, discard.h).
#include <algorithm>
#include <set>
#include <vector>

#include "mm/fault.h"
#include "mm/machine.h"
#include "mm/validate.h"

namespace mm {
namespace {

using base::Format;

class HintingChecker {
 public:
  explicit HintingChecker(const Machine& machine) : machine_(machine), host_(*machine.host) {}

  std::optional<std::string> Run() {
    writable_.assign(machine_.frames.high_water(), false);
    locked_.assign(machine_.frames.high_water(), false);
    std::set<const MmStruct*> mms;
    for (const auto& [pid, process] : machine_.processes()) {
      if (mms.insert(process->mm.get()).second) LookAtPtes(*process->mm);
    }
    CheckDeferred();
    for (uint32_t i = 0; i < machine_.frames.high_water(); ++i) CheckPage(i);
    CheckCounts();
    return std::move(broken_);
  }

 private:
  void Broken(std::string what) {
    if (!broken_) broken_ = std::move(what);
  }

  void LookAtPtes(MmStruct& mm) {
    mm.pgtable.walk(0, TASK_SIZE, [&](Vaddr addr, const Pte& pte) {
      if (!pte_present(pte) || vm_normal_page(pte) == kNoPfn) return;
      const auto pfn = static_cast<uint32_t>(pte_pfn(pte));
      if (pte_write(pte)) writable_[pfn] = true;
      const Vma* vma = mm.vma_at(addr);
      if (vma != nullptr && (vma->flags & VM_LOCKED) != 0) locked_[pfn] = true;
    });
  }

  // INV-D7, D12, D13.
  void CheckDeferred() {
    const DiscardedPages& discarded = *machine_.discarded;
    deferred_.assign(machine_.frames.high_water(), false);
    const auto look = [&](const std::vector<Pfn>& pages) {
      for (const Pfn pfn : pages) {
        const Page& page = machine_.frames.at(pfn);
        const auto i = static_cast<uint32_t>(pfn);
        if (page.count != 0 || (page.flags & PG_discarded) == 0 || deferred_[i]) {
          Broken(Format("INV-D12: frame %u is out of place on the list of discarded pages", i));
        }
        deferred_[i] = true;
      }
    };
    for (unsigned cpu = 0; cpu < NR_CPUS; ++cpu) {
      look(discarded.on_cpu(cpu));
      if (discarded.is_dead(cpu) && !discarded.on_cpu(cpu).empty()) {
        Broken(Format("INV-D13: CPU %u is not online and has discarded frames", cpu));
      }
    }
    look(discarded.list());
    look(discarded.sign_off());
  }

  void CheckPage(uint32_t i) {
    const Page& page = machine_.frames.at(Pfn{i});
    const PageState state = host_.state(Pfn{i});
    ++counts_[static_cast<size_t>(state)];
    const Usage usage = UsageOf(state);
    if (!host_.discards()) {
      if (usage != Usage::kStable) Broken(Format("INV-G12: frame %u is %s", i, PageStateName(state)));
      return;
    }
    if (page.count == 0) {
      if ((page.flags & PG_discarded) != 0 && !deferred_[i]) Broken(Format("INV-D7: frame %u is lost", i));
      const bool unused = usage == Usage::kUnused;
      if (unused == deferred_[i]) Broken(Format("INV-G10: free frame %u is %s", i, PageStateName(state)));
      return;
    }
    if (usage == Usage::kUnused) Broken(Format("INV-G10: page %u is %s", i, PageStateName(state)));
    if ((page.flags & PG_discarded) != 0) CheckTakenOut(i, page);
    if ((page.flags & PG_state_change) != 0) Broken(Format("L1: state_change of page %u is held", i));
    CheckWritable(i, page, state);
    if (usage != Usage::kStable) CheckVolatile(i, page, state);
  }

  // INV-D2.
  void CheckTakenOut(uint32_t i, const Page& page) {
    if (page.mapcount != 0 || (page.flags & PG_lru) != 0 || page.swapcache() ||
        FileMapping(page) != nullptr) {
      Broken(Format("INV-D2: page %u was discarded and is still somewhere", i));
    }
  }

  void CheckWritable(uint32_t i, const Page& page, PageState state) {
    const Semantics& sem = host_.sem();
    if (sem.hints != Hints::kWritable) return;
    if (writable_[i] && (page.flags & PG_writable) == 0)
      Broken(Format("INV-V9: page %u has a writable pte and no PG_writable", i));
    if (state == PageState::Vr && (writable_[i] || (page.flags & PG_key_dirty) != 0))
      Broken(Format("INV-G8: page %u is volatile, and may be written or was", i));
    const bool safe = UsageOf(state) == Usage::kStable || IsDiscarded(state);
    if (writable_[i] && !safe && sem.dirty_bits == DirtyBits::kPte)
      Broken(Format("INV-G9: page %u has a writable pte and is %s", i, PageStateName(state)));
  }

  // What a state shows of INV-V1, and INV-V5 to V8.
  void CheckVolatile(uint32_t i, const Page& page, PageState state) {
    const char* name = PageStateName(state);
    if (page.dirty()) Broken(Format("INV-V5: page %u is dirty and %s", i, name));
    if ((page.flags & (PG_writeback | PG_reserved | PG_private)) != 0 || !page.uptodate())
      Broken(Format("INV-V6: page %u is in use and %s", i, name));
    if ((page.flags & PG_discarded) != 0) return;
    if (!page.swapcache() && FileMapping(page) == nullptr)
      Broken(Format("INV-V7: page %u belongs nowhere and is %s", i, name));
    if (page.swapcache() && !PageAnon(page) && host_.sem().volatile_swapcache != VolatileSwapcache::kAny)
      Broken(Format("INV-V7: page %u is an object's in the swap cache and is %s", i, name));
    const bool may_be = page.swapcache() && host_.sem().mlocked_swapcache == MlockedSwapcache::kAllowed;
    if (locked_[i] && !may_be) Broken(Format("INV-V8: page %u is mapped by a locked vma and is %s", i, name));
  }

  // H1, H2.
  void CheckCounts() {
    for (const PageState state : kAllPageStates) {
      const uint64_t recounted = counts_[static_cast<size_t>(state)];
      if (host_.count(state) != recounted) {
        Broken(Format("H1: %llu frames are %s, recounted %llu",
                      static_cast<unsigned long long>(host_.count(state)), PageStateName(state),
                      static_cast<unsigned long long>(recounted)));
      }
    }
    if (host_.resident() > host_.memory_frames()) {
      Broken(Format("H1: %llu frames are resident, in %llu of memory",
                    static_cast<unsigned long long>(host_.resident()),
                    static_cast<unsigned long long>(host_.memory_frames())));
    }
    for (uint32_t i = 0; i < machine_.frames.high_water(); ++i) {
      if (ResidenceOf(host_.state(Pfn{i})) == Residence::kResident) continue;
      const std::byte* bytes = machine_.frames.arena_bytes(Pfn{i});
      if (std::any_of(bytes, bytes + kPageSize, [](std::byte byte) { return byte != std::byte{0}; })) {
        Broken(Format("H2: frame %u is %s, and has bytes", i, PageStateName(host_.state(Pfn{i}))));
      }
    }
  }

  const Machine& machine_;
  const Host& host_;
  std::vector<bool> writable_;  // by a pte
  std::vector<bool> locked_;    // mapped by a VM_LOCKED vma
  std::vector<bool> deferred_;
  std::array<uint64_t, kPageStates> counts_ = {};
  std::optional<std::string> broken_;
};

}  // namespace

std::optional<std::string> ValidateHinting(const Machine& machine) {
  return machine.host == nullptr ? std::nullopt : HintingChecker(machine).Run();
}

}  // namespace mm
