// A checkpoint of a process that stands still, while others go on: its image is that process's memory, and
// what the others do to pages that they share with it changes no byte of it.
#include <map>

#include "mm/follow_page.h"
#include "tests/races/race_world.h"

namespace races {
namespace {

using Image = std::map<Vaddr, char>;  // the first byte of each page that is saved

// A page's first byte by its pte, wherever the page is: with the page table held the page stays mapped, or
// its slot stays in use.
char ByteAt(World& w, mm::MmStruct& mm, Vaddr addr) {
  mm::Pfn pfn = mm::kNoPfn;
  mm::PageBytes bytes;
  {
    mm::Guard guard(mm.page_table_lock);
    const mm::Pte pte = *mm.pgtable.find(addr);
    if (mm::pte_present(pte)) {
      pfn = mm::pte_pfn(pte);
      w.m().frames.get_page(pfn);
    } else if (mm::pte_swap(pte)) {
      pfn = mm::lookup_swap_cache(w.m(), mm::pte_to_swp_entry(pte));
      if (pfn == mm::kNoPfn) {
        CHECK(w.m().swap->device().ReadPage(mm::pte_to_swp_entry(pte), bytes));
        return static_cast<char>(bytes[0]);
      }
    } else {
      return '?';
    }
  }
  // Who brings it in just now has it locked.
  mm::lock_page(w.m().frames.at(pfn));
  mm::uses(w.m().frames.bytes(pfn), false);
  const char byte = static_cast<char>(*w.m().frames.bytes(pfn));
  mm::unlock_page_nocheck(w.m().frames.at(pfn));
  w.m().frames.put_page(pfn);
  return byte;
}

// By runs of modified pages, with slots read where they are.
Image SaveByRuns(World& w, Process& process) {
  Image image;
  mm::MmStruct& mm = *process.mm;
  mm::ReadGuard guard(mm.mmap_sem);
  for (const auto& [start, vma] : mm.vmas()) {
    for (Vaddr addr = vma->start; addr < vma->end;) {
      const mm::DirtyRun run = mm::next_dirty_run(*vma, addr, vma->end, ~uint64_t{0}, mm::Cut::kAtShared);
      if (run.pages == 0) break;
      addr = run.start + run.pages * kPage;
      for (Vaddr at = run.start; at < addr; at += kPage) image[at] = ByteAt(w, mm, at);
    }
  }
  return image;
}

// Address by address, which brings swapped pages in.
Image SaveByPages(World& w, Process& process) {
  Image image;
  mm::MmStruct& mm = *process.mm;
  mm::ReadGuard guard(mm.mmap_sem);
  for (const auto& [start, vma] : mm.vmas()) {
    for (Vaddr addr = vma->start; addr < vma->end; addr += kPage) {
      const base::Result<mm::Pfn> pfn = mm::get_dirty_page(*vma, addr);
      if (!pfn || *pfn == mm::kNoPfn) continue;
      mm::uses(w.m().frames.bytes(*pfn), false);
      image[addr] = static_cast<char>(*w.m().frames.bytes(*pfn));
      w.m().frames.put_page(*pfn);
    }
  }
  return image;
}

// Process 0, which stands still, has three anonymous pages, 'A', 'B', 'C'; and of a private mapping of a file
// page 1 written, 'P'. Page B and P are in swap. Process 1 is its child. pfn is page A.
void Family(World& w) {
  w.file = w.NewFile(3);
  w.MapAnon(w.Spawn(), kBase, 3);
  w.MapPrivate(w.p(0), kBase + 16 * kPage, 3, w.file);
  for (uint64_t i = 0; i < 3; ++i) w.Store(w.p(0), kBase + i * kPage, static_cast<char>('A' + i));
  (void)w.Load(w.p(0), kBase + 16 * kPage);
  w.Store(w.p(0), kBase + 17 * kPage, 'P');
  w.pfn = w.PfnAt(w.p(0), kBase);
  w.PageOut(w.p(0), kBase + kPage);
  w.PageOut(w.p(0), kBase + 17 * kPage);
  w.Fork(w.p(0));
}

const Image kWhole = {
    {kBase, 'A'}, {kBase + kPage, 'B'}, {kBase + 2 * kPage, 'C'}, {kBase + 17 * kPage, 'P'}};

std::string Text(const Image& image) {
  std::string text;
  for (const auto& [addr, byte] : image) {
    text += base::Format(" %#llx '%c'", static_cast<unsigned long long>(addr), byte);
  }
  return text;
}

using Save = Image (*)(World&, Process&);
Action Checkpoint(Save save) {
  return [save](World& w) {
    const Image image = save(w, w.p(0));
    w.Expect(image == kWhole, "the image is" + Text(image));
  };
}

// What the others do.
struct Other {
  const char* name;
  Action act;
};
std::vector<Other> Others() {
  return {
      {"store",
       [](World& w) {
         w.Store(w.p(1), kBase, 'x');
         w.Store(w.p(1), kBase + kPage, 'y');
       }},
      {"file_store", [](World& w) { w.Store(w.p(1), kBase + 17 * kPage, 'z'); }},
      {"load", [](World& w) { w.ExpectByte(w.p(1), kBase + kPage, "B"); }},
      {"exit",
       [](World& w) {
         if (w.alive(1)) w.Exit(w.p(1));
       }},
      {"munmap", [](World& w) { w.Unmap(w.p(1), kBase, 3); }},
      {"dontneed", [](World& w) { (void)mm::sys_madvise(*w.p(1).mm, kBase, 3 * kPage, MADV_DONTNEED); }},
      {"fork", [](World& w) { w.Fork(w.p(1)); }},
      {"mprotect", [](World& w) { (void)mm::sys_mprotect(*w.p(1).mm, kBase, 3 * kPage, PROT_READ); }},
      {"mremap",
       [](World& w) {
         (void)mm::sys_mremap(*w.p(1).mm, kBase, 3 * kPage, 3 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                              kBase + 64 * kPage);
       }},
      {"reclaim", [](World& w) { w.Reclaim(w.pfn); }},
      {"swapin_and_reclaim",
       [](World& w) {
         w.ExpectByte(w.p(1), kBase + kPage, "B");
         const mm::Pte pte = *w.p(1).mm->pgtable.find(kBase + kPage);
         if (mm::pte_present(pte)) w.Reclaim(mm::pte_pfn(pte));
       }},
      {"swapoff", [](World& w) { w.SwapOff(); }},
      {"mlock", [](World& w) { (void)mm::sys_mlock(*w.p(1).mm, kBase, 3 * kPage); }},
      {"write", [](World& w) { w.Write(w.file, kPage, 'w'); }},
      {"fsync",
       [](World& w) {
         w.Write(w.file, 0, 'w');
         w.Fsync(w.file);
       }},
      {"drop_caches", [](World& w) { w.DropCaches(w.file); }},
      {"punch", [](World& w) { w.Punch(w.file, 0, 3); }},
  };
}

void Add(std::vector<Spec>* races, const std::string& name, Save save) {
  for (const Other& other : Others()) {
    Spec spec{.name = name + other.name,
              .setup = Family,
              .cpus = {Checkpoint(save), other.act},
              .check =
                  [](World& w) {
                    const Image image = SaveByPages(w, w.p(0));
                    w.Expect(image == kWhole, "afterwards it is" + Text(image));
                  },
              .swap_pages = kSlots};
    spec.others = {other.act};
    spec.short_bound = 2;
    races->push_back(std::move(spec));
  }
  // A truncate takes private copies along: the page is saved, or it is gone.
  Spec truncate{.name = name + "truncate",
                .setup = Family,
                .cpus = {[save](World& w) {
                           Image image = save(w, w.p(0));
                           image[kBase + 17 * kPage] = 'P';
                           w.Expect(image == kWhole, "the image is" + Text(image));
                         },
                         [](World& w) { w.Truncate(w.file, kPage); }},
                .check = [](World& w) { w.ExpectByte(w.p(0), kBase + 17 * kPage, "!"); },
                .swap_pages = kSlots};
  races->push_back(std::move(truncate));
}

}  // namespace

void AddCheckpointRaces(std::vector<Spec>* races) {
  Add(races, "checkpoint_against_", SaveByRuns);
  Add(races, "checkpoint_by_pages_against_", SaveByPages);
}

}  // namespace races
