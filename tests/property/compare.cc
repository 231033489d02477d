// Comparing the two models without faulting anything in: pages are looked up in the page tables.
#include <sys/mman.h>

#include <cstring>
#include <set>
#include <shared_mutex>

#include "mm/follow_page.h"
#include "mm/validate.h"
#include "tests/property/world.h"

namespace property {
namespace {

using base::Format;
using Difference = std::optional<std::string>;

unsigned long long Hex(uint64_t value) { return value; }

int ProtOf(const mm::Vma& vma) {
  return ((vma.flags & mm::VM_READ) != 0 ? PROT_READ : 0) |
         ((vma.flags & mm::VM_WRITE) != 0 ? PROT_WRITE : 0) |
         ((vma.flags & mm::VM_EXEC) != 0 ? PROT_EXEC : 0);
}

// The first byte that differs, or nothing.
Difference SameBytes(const std::byte* real, const naive::PageBytes& expected) {
  if (std::memcmp(real, expected.data(), naive::kPage) == 0) return {};
  size_t at = 0;
  while (real[at] == expected[at]) ++at;
  return Format("byte %zu is %#x, expected %#x", at, static_cast<unsigned>(real[at]),
                static_cast<unsigned>(expected[at]));
}

// Which page of its file an address of the vma stands for.
uint64_t IndexAt(const mm::Vma& vma, mm::Vaddr addr) {
  const mm::Pte* pte = vma.mm->pgtable.find(addr);
  if ((vma.flags & mm::VM_NONLINEAR) != 0 && pte != nullptr) {
    if (mm::pte_file(*pte)) return mm::pte_to_pgoff(*pte);
    if (mm::pte_present(*pte)) return vma.mm->machine.frames.at(mm::pte_pfn(*pte)).index;
  }
  return mm::linear_page_index(vma, addr);
}

// The bytes of a swap slot: the swap cache's page, or the device's.
Difference SameSlot(const World& world, mm::SwpEntry slot, const naive::PageBytes& expected) {
  const mm::Pfn cached = world.machine->swap->cached(slot);
  if (cached != mm::kNoPfn) return SameBytes(ContentOf(world, cached), expected);
  mm::PageBytes bytes;
  if (!world.machine->swap->device().ReadPage(slot, bytes)) return "its slot cannot be read";
  return SameBytes(bytes.data(), expected);
}

// Does the vma say of this page what the naive model says?
Difference SameMapping(const mm::Vma& vma, mm::Vaddr addr, const naive::Page& page) {
  if (ProtOf(vma) != page.prot) return Format("protection %d, expected %d", ProtOf(vma), page.prot);
  if (vma.is_shared() != page.shared) return Format("shared %d, expected %d", vma.is_shared(), page.shared);
  if (((vma.flags & mm::VM_GROWSDOWN) != 0) != page.grows_down) return "another growsdown flag";
  if (((vma.flags & mm::VM_DONTCOPY) != 0) != page.dont_fork) return "another dontfork flag";
  const uint32_t file = vma.has_fault() ? static_cast<uint32_t>(vma.file->id()) : 0;
  const uint32_t object = page.object != nullptr ? page.object->id : 0;
  if (file != object) return Format("maps file %u, expected %u", file, object);
  if (((vma.flags & mm::VM_LOCKED) != 0) != page.locked) return "another lock flag";
  if (((vma.flags & mm::VM_NONLINEAR) != 0) != page.nonlinear) return "another non-linear flag";
  if (file != 0 && IndexAt(vma, addr) != page.index) {
    return Format("page %llu of the file, expected %llu", Hex(IndexAt(vma, addr)), Hex(page.index));
  }
  return {};
}

const naive::PageBytes& BackingBytes(const naive::Page& page) {
  naive::Page clean = page;
  clean.copy = nullptr;
  return clean.bytes();
}

// What a load of this page would see, as the page table has it. An entry that is none needs no look:
// it means the file's page, which is compared with the file, or zeros.
Difference SamePage(const World& world, const mm::Vma& vma, mm::Vaddr addr, const naive::Page& page) {
  const mm::Pte* entry = vma.mm->pgtable.find(addr);
  const mm::Pte pte = entry != nullptr ? *entry : mm::Pte{};
  const bool all = world.options.checks == Checks::kAll;
  if (mm::pte_swap(pte)) {
    if (page.copy == nullptr) return "in swap, but it was never written";
    return SameSlot(world, mm::pte_to_swp_entry(pte), *page.copy);
  }
  if (!mm::pte_present(pte)) {
    if (mm::pte_file(pte) && (vma.flags & mm::VM_NONLINEAR) != 0) return {};  // SameMapping looked at it
    if (page.copy != nullptr && all) return "the private copy is gone";
    if (page.copy != nullptr && page.past_end()) return "SIGBUS, with a private copy";
    if (page.copy != nullptr) return SameBytes(page.copy->data(), BackingBytes(page));
    if (mm::pte_file(pte) && world.options.semantics.populate_nonblock == mm::PopulateNonblock::kFilePte) {
      return {};
    }
    if (!mm::pte_none(pte)) return Format("an entry %#llx that nothing makes", Hex(pte.word));
    return {};
  }
  if (all && !page.shared && mm::page_is_modified(vma, pte) != (page.copy != nullptr)) {
    return page.copy != nullptr ? "not modified, but it was written" : "modified, but it was never written";
  }
  if (page.copy == nullptr && page.past_end()) return "mapped behind the end of the file";
  return SameBytes(ContentOf(world, mm::pte_pfn(pte)), page.bytes());
}

Difference CompareMemory(World& world, const Proc& proc) {
  auto expected = proc.memory->pages.begin();
  const auto end = proc.memory->pages.end();
  for (const auto& [start, vma] : world.mm(proc).vmas()) {
    for (mm::Vaddr addr = start; addr < vma->end; addr += naive::kPage, ++expected) {
      if (expected == end || expected->first != addr / naive::kPage) {
        return Format("pid %u: %#llx is mapped, and should not be", proc.pid, Hex(addr));
      }
      Difference difference = SameMapping(*vma, addr, expected->second);
      if (!difference) difference = SamePage(world, *vma, addr, expected->second);
      if (difference) return Format("pid %u %#llx: %s", proc.pid, Hex(addr), difference->c_str());
    }
  }
  if (expected == end) return {};
  return Format("pid %u: %#llx is not mapped, and should be", proc.pid, Hex(expected->first * naive::kPage));
}

// The file's pages, in the cache or on the disk, with what lies behind the end in the last of them.
Difference CompareFile(World& world, mm::File& file, const naive::Object& object) {
  if (file.i_size != object.size) {
    return Format("file %u has %llu bytes, expected %llu", object.id, Hex(file.i_size), Hex(object.size));
  }
  for (uint64_t index = 0; index < object.size_pages(); ++index) {
    mm::PageBytes from_disk{};
    const std::byte* bytes = from_disk.data();
    const auto cached = file.mapping.pages.find(index);
    if (cached != file.mapping.pages.end()) {
      bytes = ContentOf(world, cached->second);
    } else if (const auto swapped = file.mapping.swapped.find(index); swapped != file.mapping.swapped.end()) {
      if (const Difference difference = SameSlot(world, swapped->second, object.page(index))) {
        return Format("file %u page %llu in swap: %s", object.id, Hex(index), difference->c_str());
      }
      continue;
    } else if (file.disk() != nullptr) {
      if (!file.disk()->ReadPage(index, from_disk)) return Format("file %u cannot be read", object.id);
    }
    if (const Difference difference = SameBytes(bytes, object.page(index))) {
      return Format("file %u page %llu: %s", object.id, Hex(index), difference->c_str());
    }
  }
  return {};
}

}  // namespace

std::optional<std::string> Compare(World& world) {
  std::set<const naive::Memory*> seen;
  std::map<uint32_t, naive::ObjectPtr> objects;
  for (const naive::ObjectPtr& object : world.objects) objects.emplace(object->id, object);
  for (const Proc& proc : world.procs) {
    if (!seen.insert(proc.memory.get()).second) continue;
    if (Difference difference = CompareMemory(world, proc)) return difference;
    for (const auto& [number, page] : proc.memory->pages) {
      if (page.object != nullptr) objects.emplace(page.object->id, page.object);
    }
  }
  size_t alive = 0;
  for (const mm::FilePtr& file : world.machine->files()) {
    if (file->kind() == mm::FileKind::kDevZero) continue;
    const auto found = objects.find(static_cast<uint32_t>(file->id()));
    if (found == objects.end())
      return Format("file %u outlived its last mapping", static_cast<unsigned>(file->id()));
    if (Difference difference = CompareFile(world, *file, *found->second)) return difference;
    ++alive;
  }
  if (alive != objects.size()) return Format("%zu files are alive, expected %zu", alive, objects.size());
  return {};
}

namespace {

// What get_dirty_page says of one page. Other lookups than the default fault pages in: a page behind the
// end of the file is an error to them, and a read of anonymous memory may make it modified.
Difference CheckGetDirtyPage(World& world, mm::Vma& vma, mm::Vaddr addr, const naive::Page& page) {
  const bool faults = world.options.semantics.dump_lookup != mm::DumpLookup::kDumpDirty;
  const base::Result<mm::Pfn> dirty = mm::get_dirty_page(vma, addr);
  if (!dirty) {
    if (faults && page.copy == nullptr && page.past_end()) return {};
    return "get_dirty_page fails: " + dirty.error().what;
  }
  if (*dirty == mm::kNoPfn)
    return page.copy != nullptr ? Difference("get_dirty_page calls it clean") : Difference();
  Difference difference;
  if (page.copy == nullptr) {
    difference = "get_dirty_page calls it modified";
  } else {
    difference = SameBytes(ContentOf(world, *dirty), *page.copy);
  }
  world.machine->frames.put_page(*dirty);
  return difference;
}

Difference CheckRuns(mm::Vma& vma, const naive::Memory& memory) {
  constexpr uint64_t kRunMax = 3;
  mm::Vaddr addr = vma.start;
  while (addr < vma.end) {
    const mm::DirtyRun run = mm::next_dirty_run(vma, addr, vma.end, kRunMax);
    const mm::Vaddr run_start = run.pages > 0 ? run.start : vma.end;
    const mm::Vaddr run_end = run_start + run.pages * naive::kPage;
    if (run.pages > kRunMax || run_start < addr || run_end > vma.end) return "a run out of its bounds";
    const mm::Vaddr known_end = run.pages == kRunMax ? run_end : std::min(run_end + naive::kPage, vma.end);
    for (mm::Vaddr at = addr; at < known_end; at += naive::kPage) {
      const bool in_run = at >= run_start && at < run_end;
      if (in_run == (memory.pages.at(at / naive::kPage).copy != nullptr)) continue;
      return Format("next_dirty_run has %#llx %s", Hex(at), in_run ? "as modified" : "as clean");
    }
    if (run.pages == 0) break;
    addr = run_end;
  }
  return {};
}

}  // namespace

std::optional<std::string> CompareDirty(World& world, const Proc& proc) {
  const mm::Semantics& semantics = world.options.semantics;
  // A page in swap is brought in by get_dirty_page.
  const bool swapped =
      world.machine->swap != nullptr && world.machine->swap->nr_unused() < world.machine->swap->nr_slots();
  const bool pure = semantics.dump_lookup == mm::DumpLookup::kDumpDirty && !swapped;
  if (semantics.dump_lookup != mm::DumpLookup::kDumpDirty &&
      semantics.anon_read_fault == mm::AnonReadFault::kNewPage)
    return {};
  mm::MmStruct& mm = world.mm(proc);
  std::shared_lock guard(mm.mmap_sem);
  const std::string before = pure ? mm::TextDump(*world.machine) : "";
  for (const auto& [start, vma] : mm.vmas()) {
    if (vma->is_shared()) continue;
    for (mm::Vaddr addr = start; addr < vma->end; addr += naive::kPage) {
      const naive::Page& page = proc.memory->pages.at(addr / naive::kPage);
      if (const Difference difference = CheckGetDirtyPage(world, *vma, addr, page)) {
        return Format("pid %u %#llx: %s", proc.pid, Hex(addr), difference->c_str());
      }
    }
    if (!pure) continue;
    if (const Difference difference = CheckRuns(*vma, *proc.memory)) {
      return Format("pid %u: %s", proc.pid, difference->c_str());
    }
  }
  if (pure && mm::TextDump(*world.machine) != before) return "get_dirty_page changed the machine";
  return {};
}

}  // namespace property
