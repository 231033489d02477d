#include "mm/validate.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "mm/machine.h"

namespace mm {
namespace {

using base::Format;

unsigned long long Hex(uint64_t value) { return value; }
unsigned Num(Pfn pfn) { return static_cast<unsigned>(pfn); }

// Counts references from scratch, then compares. The first thing that is wrong is kept.
class Checker {
 public:
  Checker(const Machine& machine, Depth depth) : machine_(machine), depth_(depth) {}

  std::optional<std::string> Run() {
    refs_.assign(machine_.frames.high_water(), 0);
    maps_.assign(machine_.frames.high_water(), 0);
    if (machine_.swap != nullptr) users_.assign(machine_.swap->high_water(), 0);
    std::set<const MmStruct*> mms;
    for (const auto& [pid, process] : machine_.processes()) {
      if (mms.insert(process->mm.get()).second) CheckMm(pid, *process->mm);
    }
    const std::vector<FilePtr> files = machine_.files();
    for (const FilePtr& file : files) CheckFile(*file, mms);
    for (const auto& [pfn, count] : machine_.pins) refs_[Num(pfn)] += count;
    CheckSwap();
    CheckPages();
    CheckLru();
    return std::move(broken_);
  }

 private:
  void Broken(std::string what) {
    if (!broken_) broken_ = std::move(what);
  }

  void CheckMm(Pid pid, MmStruct& mm) {
    if (mm.mmap_sem.held() || mm.page_table_lock.held()) Broken(Format("L1: pid %u holds a lock", pid));
    uint64_t total = 0;
    Vaddr last_end = 0;
    for (const auto& [start, vma] : mm.vmas()) {
      if (start != vma->start || vma->start < last_end || vma->end <= vma->start || vma->end > TASK_SIZE ||
          !base::IsPageAligned(vma->start | vma->end)) {
        Broken(Format("A1: pid %u vma %#llx-%#llx is out of place", pid, Hex(vma->start), Hex(vma->end)));
      }
      last_end = vma->end;
      total += vma->pages();
    }
    if (total != mm.total_vm) {
      Broken(Format("A1: pid %u total_vm is %llu, recounted %llu", pid, Hex(mm.total_vm), Hex(total)));
    }
    if (mm.pgtable.CountLeaves() != mm.pgtable.nr_ptes()) {
      Broken(Format("A2: pid %u nr_ptes is %llu, recounted %llu", pid, Hex(mm.pgtable.nr_ptes()),
                    Hex(mm.pgtable.CountLeaves())));
    }
    CheckPtes(pid, mm);
  }

  void CheckPtes(Pid pid, MmStruct& mm) {
    uint64_t anon = 0;
    uint64_t file = 0;
    mm.pgtable.walk(0, Vaddr{1} << 48, [&](Vaddr addr, const Pte& pte) {
      const Vma* vma = mm.vma_at(addr);
      if (vma == nullptr) return Broken(Format("A2: pid %u %#llx has a pte and no vma", pid, Hex(addr)));
      if (vma->has_fault() && (vma->flags & VM_NONLINEAR) == 0) CheckPastEof(pid, *vma, addr);
      if (pte_swap(pte)) CountUser(pid, addr, pte_to_swp_entry(pte));
      CheckSoftDirty(pid, *vma, addr, pte);
      if (!pte_present(pte)) return;
      if (pte_write(pte)) CheckWritable(pid, *vma, addr, pte);
      const Pfn pfn = vm_normal_page(pte);
      if (pfn == kNoPfn) return;
      ++refs_[Num(pfn)];
      ++maps_[Num(pfn)];
      const Page& page = machine_.frames.at(pfn);
      if ((page.flags & PG_anon) != 0) chains_[Num(pfn)].push_back({&mm, addr});
      ++(PageAnon(page) ? anon : file);
      CheckPlace(pid, *vma, addr, pfn, page);
    });
    if (anon != mm.anon_rss || file != mm.file_rss) {
      Broken(Format("A3: pid %u anon_rss %llu file_rss %llu, recounted %llu and %llu", pid, Hex(mm.anon_rss),
                    Hex(mm.file_rss), Hex(anon), Hex(file)));
    }
  }

  void CheckPastEof(Pid pid, const Vma& vma, Vaddr addr) {
    const Semantics& sem = machine_.sem();
    if (sem.cow_survives_truncate == CowSurvivesTruncate::kYes || sem.truncate_passes == TruncatePasses::kOne)
      return;
    if (linear_page_index(vma, addr) >= vma.file->size_pages()) {
      Broken(Format("T1: pid %u %#llx has a pte past the end of '%s'", pid, Hex(addr),
                    vma.file->name().c_str()));
    }
  }

  // page_swapcount of a page that may say wrongly that it is in the swap cache.
  uint32_t SlotUsers(const Page& page) const {
    const SwapArea* area = machine_.swap.get();
    return area != nullptr && page.swapcache() && area->valid(page.slot) ? area->count(page.slot) : 0;
  }

  void CheckWritable(Pid pid, const Vma& vma, Vaddr addr, Pte pte) {
    if ((vma.flags & VM_WRITE) == 0) {
      Broken(Format("A4: pid %u %#llx is writable in a vma that is not", pid, Hex(addr)));
    }
    if (vma.is_shared()) return;
    const Page& page = machine_.frames.at(pte_pfn(pte));
    if (!PageAnon(page) || page.mapcount != 1 || SlotUsers(page) > 0 || (page.flags & PG_ksm) != 0 ||
        pte_pfn(pte) == kZeroPfn) {
      Broken(Format("A4: pid %u %#llx may write page %u, which is not its alone", pid, Hex(addr),
                    Num(pte_pfn(pte))));
    }
  }

  void CheckSoftDirty(Pid pid, const Vma& vma, Vaddr addr, Pte pte) {
    const bool writable = pte_present(pte) && pte_write(pte) && !vma.is_shared();
    if (machine_.tracks_soft_dirty && writable && !pte_soft_dirty(pte)) {
      Broken(Format("A6: pid %u %#llx is writable and not soft-dirty", pid, Hex(addr)));
    }
    if (!pte_soft_dirty(pte)) return;
    const Pfn pfn = pte_present(pte) ? vm_normal_page(pte) : kNoPfn;
    const bool anon = pte_swap(pte) || (pfn != kNoPfn && PageAnon(machine_.frames.at(pfn)));
    if (!machine_.tracks_soft_dirty || vma.is_shared() || !anon) {
      Broken(Format("A6: pid %u %#llx is soft-dirty, and nothing tracks it", pid, Hex(addr)));
    }
  }

  void CheckPlace(Pid pid, const Vma& vma, Vaddr addr, Pfn pfn, const Page& page) {
    const Mapping* mapping = FileMapping(page);
    if (mapping == nullptr) return;
    const bool linear = (vma.flags & VM_NONLINEAR) == 0;
    if (vma.file == nullptr || mapping != &vma.file->mapping ||
        (linear && page.index != linear_page_index(vma, addr))) {
      Broken(Format("A5: pid %u %#llx maps page %u of another place", pid, Hex(addr), Num(pfn)));
    }
  }

  void CheckFile(File& file, const std::set<const MmStruct*>& mms) {
    if (file.mapping.invalidate_lock.held())
      Broken(Format("L1: invalidate_lock of '%s' is held", file.name().c_str()));
    if (file.mapping.i_shared_sem.held())
      Broken(Format("L1: i_shared_sem of '%s' is held", file.name().c_str()));
    for (const auto& [index, pfn] : file.mapping.pages) {
      const Page& page = machine_.frames.at(pfn);
      ++refs_[Num(pfn)];
      if (FileMapping(page) != &file.mapping || page.index != index) {
        Broken(Format("C1: '%s' page %llu names another place", file.name().c_str(), Hex(index)));
      }
      if (index >= file.size_pages()) {
        Broken(Format("C2: '%s' page %llu is cached past the end", file.name().c_str(), Hex(index)));
      }
      if (page.dirty()) ++nr_dirty_;
      if (depth_ == Depth::kDeep) CompareWithDisk(file, index, pfn, page);
    }
    for (const auto& [index, slot] : file.mapping.swapped) {
      CountUser(0, index, slot);
      if (file.mapping.pages.contains(index)) {
        Broken(Format("C1: '%s' page %llu is in the cache and in swap", file.name().c_str(), Hex(index)));
      }
    }
    size_t mapped = 0;
    size_t nonlinear = 0;
    for (const MmStruct* mm : mms) {
      for (const auto& [start, vma] : mm->vmas()) {
        if (vma->file.get() != &file) continue;
        ++mapped;
        if ((vma->flags & VM_NONLINEAR) != 0) ++nonlinear;
        const VmaTree& tree = vma->is_shared() ? file.mapping.i_mmap_shared : file.mapping.i_mmap;
        if (!tree.contains(*vma)) {
          Broken(Format("C3: vma %#llx is not in the lists of '%s'", Hex(start), file.name().c_str()));
        }
      }
    }
    if (mapped != file.mapping.i_mmap.size() + file.mapping.i_mmap_shared.size()) {
      Broken(Format("C3: the lists of '%s' hold vmas that do not exist", file.name().c_str()));
    }
    if (nonlinear != file.mapping.i_mmap_nonlinear.size()) {
      Broken(Format("C3: '%s' has %zu non-linear vmas, recounted %zu", file.name().c_str(),
                    file.mapping.i_mmap_nonlinear.size(), nonlinear));
    }
  }

  // C4. Bytes behind the end of the file may differ: a shared mapping can store there.
  void CompareWithDisk(File& file, Pgoff index, Pfn pfn, const Page& page) {
    if (file.disk() == nullptr || page.dirty() || !page.uptodate() || IsGone(pfn)) return;
    PageBytes disk;
    if (!file.disk()->ReadPage(index, disk)) return;
    const size_t valid = std::min<uint64_t>(kPageSize, file.i_size - index * kPageSize);
    if (std::memcmp(disk.data(), machine_.frames.bytes(pfn), valid) != 0) {
      Broken(Format("C4: '%s' page %llu is clean and differs from disk", file.name().c_str(), Hex(index)));
    }
  }

  void CountUser(Pid pid, uint64_t where, SwpEntry slot) {
    if (machine_.swap == nullptr || !machine_.swap->valid(slot)) {
      return Broken(Format("INV-M9: pid %u %#llx names slot %u, which is free", pid, Hex(where), slot));
    }
    ++users_[slot];
  }

  void CheckSwap() {
    if (machine_.swap == nullptr) return;
    const SwapArea& area = *machine_.swap;
    uint32_t used = 0;
    for (SwpEntry slot = 1; slot < area.high_water(); ++slot) {
      if (area.valid(slot)) ++used;
      if (area.count(slot) != users_[slot]) {
        Broken(Format("INV-M9: slot %u has %u users, recounted %u", slot, area.count(slot), users_[slot]));
      }
      const Pfn pfn = area.cached(slot);
      if (pfn == kNoPfn) continue;
      ++refs_[Num(pfn)];
      ++swap_cached_;
      const Page& page = machine_.frames.at(pfn);
      if (!page.swapcache() || page.slot != slot) {
        Broken(Format("SW1: slot %u is cached by page %u, which says otherwise", slot, Num(pfn)));
      }
      if (depth_ == Depth::kDeep) CompareWithSlot(slot, pfn, page);
    }
    if (area.nr_slots() - used != area.nr_unused()) {
      Broken(Format("SW2: %u slots are free, recounted %u", area.nr_unused(), area.nr_slots() - used));
    }
  }

  bool IsGone(Pfn pfn) const { return machine_.host != nullptr && IsDiscarded(machine_.host->state(pfn)); }

  // SW3, but for a page whose ptes know more than its flags.
  void CompareWithSlot(SwpEntry slot, Pfn pfn, const Page& page) {
    bool dirty = page.dirty() || !page.uptodate() || (page.flags & PG_key_dirty) != 0 || IsGone(pfn);
    for (const PteAddr& at : chains_[Num(pfn)]) dirty = dirty || pte_dirty(*at.mm->pgtable.find(at.addr));
    PageBytes bytes;
    if (dirty || !machine_.swap->device().ReadPage(slot, bytes)) return;
    if (std::memcmp(bytes.data(), machine_.frames.bytes(pfn), kPageSize) != 0) {
      Broken(Format("SW3: page %u is clean and differs from slot %u", Num(pfn), slot));
    }
  }

  // INV-M12: the chain names exactly the ptes that name the page.
  void CheckChain(uint32_t i, const Page& page) {
    PteList named = pte_chain_entries(page);
    if ((page.flags & PG_anon) == 0) {
      if (!named.empty()) Broken(Format("INV-M12: page %u has a chain and no PG_anon", i));
      return;
    }
    const auto found = chains_.find(i);
    PteList present;
    if (found != chains_.end()) present.assign(found->second.begin(), found->second.end());
    const auto order = [](const PteAddr& a, const PteAddr& b) {
      return std::pair(a.mm, a.addr) < std::pair(b.mm, b.addr);
    };
    std::ranges::sort(named, order);
    std::ranges::sort(present, order);
    if (named != present) {
      Broken(Format("INV-M12: the chain of page %u has %zu entries, %zu ptes name it", i, named.size(),
                    present.size()));
    }
  }

  // LR1.
  void CheckLru() {
    uint64_t listed = 0;
    for (size_t list = 0; list < static_cast<size_t>(Lru::kCount); ++list) {
      uint64_t size = 0;
      Pfn before = kNoPfn;
      for (Pfn pfn = machine_.frames.lru().head(static_cast<Lru>(list)); pfn != kNoPfn;) {
        const Page& page = machine_.frames.at(pfn);
        if ((page.flags & PG_lru) == 0 || page_lru(page) != static_cast<Lru>(list) ||
            page.lru_prev != before || ++size > machine_.frames.frame_count()) {
          Broken(Format("LR1: page %u is out of place on list %zu", Num(pfn), list));
          break;
        }
        before = pfn;
        pfn = page.lru_next;
      }
      if (size != machine_.frames.lru().size(static_cast<Lru>(list))) {
        Broken(Format("LR1: list %zu has %llu pages, recounted %llu", list,
                      Hex(machine_.frames.lru().size(static_cast<Lru>(list))), Hex(size)));
      }
      listed += size;
    }
    if (listed != lru_flags_) {
      Broken(Format("LR1: %llu pages are on lists, %llu say so", Hex(listed), Hex(lru_flags_)));
    }
  }

  void CheckPages() {
    uint64_t nr_mapped = 0;
    uint64_t nr_anon = 0;
    uint64_t nr_writeback = 0;
    uint64_t swapcache = 0;
    uint32_t free = 0;
    refs_[0] += 1;  // the zero page's own
    for (uint32_t i = 0; i < machine_.frames.high_water(); ++i) {
      const Page& page = machine_.frames.at(Pfn{i});
      if ((page.flags & PG_hwpoison) != 0) ++refs_[i];
      if ((page.flags & PG_lru) != 0) ++lru_flags_;
      if (page.swapcache()) ++swapcache;
      CheckChain(i, page);
      if (page.count != refs_[i])
        Broken(Format("P1: page %u count is %d, recounted %d", i, page.count, refs_[i]));
      if (page.mapcount != maps_[i]) {
        Broken(Format("P2: page %u mapcount is %d, recounted %d", i, page.mapcount, maps_[i]));
      }
      if (page.count < 0 || (page.count == 0 && page.mapping_word != 0)) {
        Broken(Format("P3: page %u is free and belongs somewhere", i));
      }
      if (page.count == 0) ++free;
      if (page.locked()) Broken(Format("L1: page %u is locked", i));
      if ((page.flags & PG_writeback) != 0) ++nr_writeback;
      if (page.mapcount > 0) ++(PageAnon(page) ? nr_anon : nr_mapped);
    }
    if (swapcache != swap_cached_) {
      Broken(Format("SW1: %llu pages say they are in the swap cache, it holds %llu", Hex(swapcache),
                    Hex(swap_cached_)));
    }
    const std::byte* zero = machine_.frames.bytes(kZeroPfn);
    if (std::any_of(zero, zero + kPageSize, [](std::byte b) { return b != std::byte{0}; })) {
      Broken("F1: the zero page is not zero");
    }
    if (machine_.discarded != nullptr) free -= static_cast<uint32_t>(machine_.discarded->size());
    if (free + (machine_.frames.frame_count() - machine_.frames.high_water()) != machine_.frames.nr_free()) {
      Broken(Format("F2: %u frames are free, recounted %u", machine_.frames.nr_free(), free));
    }
    if (nr_anon != machine_.vmstat.nr_anon_pages) {
      Broken(Format("R1: nr_anon_pages is %llu, recounted %llu", Hex(machine_.vmstat.nr_anon_pages),
                    Hex(nr_anon)));
    }
    if (nr_mapped != machine_.vmstat.nr_mapped || nr_dirty_ != machine_.vmstat.nr_dirty) {
      Broken(Format("R1: nr_mapped %llu nr_dirty %llu, recounted %llu and %llu",
                    Hex(machine_.vmstat.nr_mapped), Hex(machine_.vmstat.nr_dirty), Hex(nr_mapped),
                    Hex(nr_dirty_)));
    }
    if (nr_writeback != machine_.nr_writeback) {
      Broken(
          Format("R1: nr_writeback is %llu, recounted %llu", Hex(machine_.nr_writeback), Hex(nr_writeback)));
    }
  }

  const Machine& machine_;
  Depth depth_;
  std::vector<int32_t> refs_;
  std::vector<int32_t> maps_;
  std::vector<uint32_t> users_;                      // of each swap slot
  std::map<uint32_t, std::vector<PteAddr>> chains_;  // the ptes of each page with PG_anon
  uint64_t nr_dirty_ = 0;
  uint64_t swap_cached_ = 0;
  uint64_t lru_flags_ = 0;
  std::optional<std::string> broken_;
};

}  // namespace

std::optional<std::string> Validate(const Machine& machine, Depth depth) {
  std::optional<std::string> broken = Checker(machine, depth).Run();
  return broken ? broken : ValidateHinting(machine);
}

}  // namespace mm
