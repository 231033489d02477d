// Calls that lock memory, rearrange it or make it scarce.
#include <sys/mman.h>

#include <cstdio>

#include "mm/swap.h"
#include "tests/property/world.h"

namespace property {
namespace {

using base::Format;
using Difference = std::optional<std::string>;
using mm::Vaddr;
using naive::kPage;

unsigned long long Hex(uint64_t value) { return value; }

void Trace(const World& world, const std::string& call) {
  if (world.options.trace) std::fprintf(stderr, "  %zu: %s\n", CurrentProgress().step, call.c_str());
}

Difference SameErrno(const char* call, const mm::SysResult<void>& real, int expected) {
  const int err = real ? 0 : real.error().err;
  if (err == expected) return {};
  return Format("%s answers errno %d, expected %d", call, err, expected);
}

// A vma of the process; nullptr if it has none.
const mm::Vma* PickVma(Draw& draw, mm::MmStruct& mm) {
  if (mm.vmas().empty()) return nullptr;
  return std::next(mm.vmas().begin(), static_cast<ptrdiff_t>(draw.Below(mm.vmas().size())))->second.get();
}

// At most a few pages: where memory is tight, locked pages must leave room for others.
Difference DoMlock(World& world, Proc& proc, bool lock, Draw& draw) {
  constexpr uint64_t kLockedMax = 10;
  const mm::Vma* vma = PickVma(draw, world.mm(proc));
  if (vma == nullptr) return {};
  const Vaddr addr = vma->start + draw.Below(vma->pages()) * kPage + draw.Below(2);
  const uint64_t length = 1 + draw.Below(lock ? 3 : 8) * kPage;
  uint64_t locked = 0;
  for (const naive::MemoryPtr& memory : world.model.memories) {
    for (const auto& [number, page] : memory->pages) locked += page.locked ? 1 : 0;
  }
  if (lock && locked > kLockedMax) return {};
  Trace(world,
        Format("pid %u %s(%#llx, %#llx)", proc.pid, lock ? "mlock" : "munlock", Hex(addr), Hex(length)));
  mm::MmStruct& mm = world.mm(proc);
  const mm::SysResult<void> real = lock ? mm::sys_mlock(mm, addr, length) : mm::sys_munlock(mm, addr, length);
  if (!world.synced) return {};
  return SameErrno("mlock", real, world.model.Lock(*proc.memory, addr, length, lock));
}

Difference DoRemapFilePages(World& world, Proc& proc, Draw& draw) {
  mm::MmStruct& mm = world.mm(proc);
  const mm::Vma* vma = PickVma(draw, mm);
  for (int tries = 0; tries < 4 && vma != nullptr && (!vma->is_shared() || vma->file == nullptr); ++tries) {
    vma = PickVma(draw, mm);
  }
  if (vma == nullptr) return {};
  naive::RemapFileCall call;
  call.addr = vma->start + draw.Below(vma->pages()) * kPage;
  call.length = draw.OneIn(30) ? 0 : (1 + draw.Below(4)) * kPage;
  call.prot = draw.OneIn(40) ? PROT_READ : 0;
  call.index = draw.Below(14);
  call.vma_start = vma->start;
  call.vma_end = vma->end;
  const int flags = draw.OneIn(3) ? MAP_NONBLOCK : 0;
  Trace(world, Format("pid %u remap_file_pages(%#llx, %#llx, %d, %llu, %#x)", proc.pid, Hex(call.addr),
                      Hex(call.length), call.prot, Hex(call.index), flags));
  const mm::SysResult<void> real =
      mm::sys_remap_file_pages(mm, call.addr, call.length, call.prot, call.index, flags);
  if (!world.synced) return {};
  return SameErrno("remap_file_pages", real, world.model.RemapFilePages(*proc.memory, call));
}

void DoReclaim(World& world, Draw& draw) {
  const uint64_t pages = 1 + draw.Below(64);
  Trace(world, Format("reclaim(%llu)", Hex(pages)));
  mm::try_to_free_pages(*world.machine, pages);
}

// One page of the process, whoever else maps it, used lately or not.
void DoPageOut(World& world, Proc& proc, Draw& draw) {
  const mm::Vma* vma = PickVma(draw, world.mm(proc));
  if (vma == nullptr) return;
  const Vaddr addr = vma->start + draw.Below(vma->pages()) * kPage;
  const mm::Pte* pte = vma->mm->pgtable.find(addr);
  if (pte == nullptr || !mm::pte_present(*pte) || mm::pte_pfn(*pte) == mm::kZeroPfn) return;
  Trace(world, Format("pid %u page_out(%#llx)", proc.pid, Hex(addr)));
  mm::reclaim_page(*world.machine, mm::pte_pfn(*pte));
}

Difference DoSwapoff(World& world) {
  if (world.machine->swap == nullptr) return {};
  Trace(world, "swapoff()");
  const uint64_t slots = world.machine->swap->slots();
  const mm::SysResult<void> emptied = mm::sys_swapoff(*world.machine);
  if (emptied) CHECK(mm::sys_swapon(*world.machine, mm::MakeMemorySwap(slots).value(), slots));
  // Where memory is tight it need not succeed.
  if (emptied || world.options.memory != Memory::kAmple) return {};
  return Format("swapoff answers errno %d", emptied.error().err);
}

// Whether the naive file's bytes behind its end are gone: nothing in memory has them.
bool LastPageIsClean(World& world, const mm::File& file) {
  const uint64_t last = file.i_size / kPage;
  const auto cached = file.mapping.pages.find(last);
  if (cached == file.mapping.pages.end()) return true;
  if (world.machine->frames.at(cached->second).dirty()) return false;
  for (const auto& [pid, process] : world.machine->processes()) {
    bool dirty = false;
    process->mm->pgtable.walk(0, mm::TASK_SIZE, [&](Vaddr, const mm::Pte& pte) {
      dirty = dirty || (mm::pte_present(pte) && mm::pte_pfn(pte) == cached->second && mm::pte_dirty(pte));
    });
    if (dirty) return false;
  }
  return true;
}

}  // namespace

void NoteWriteBack(World& world) {
  for (size_t i = 0; i < world.files.size(); ++i) {
    naive::Object& object = *world.objects[i];
    if (!world.synced || !object.disk || object.size % kPage == 0) continue;
    if (LastPageIsClean(world, *world.files[i])) world.model.WriteBack(object, 0, ~uint64_t{0});
  }
}

void AlignFiles(World& world) {
  for (size_t i = 0; i < world.files.size(); ++i) {
    const uint64_t size = base::PageAlignUp(world.files[i]->i_size);
    if (size == world.files[i]->i_size) continue;
    CHECK(mm::vmtruncate(*world.machine, *world.files[i], size, mm::RLIM_INFINITY_BYTES));
    if (world.synced) world.model.Truncate(*world.objects[i], size, ~uint64_t{0});
  }
}

std::optional<std::string> RunMemoryOp(World& world, Proc& proc, const Op& op) {
  Draw draw(op);
  (void)draw.Below(1);  // the process
  Difference difference;
  switch (op.kind) {
    case Kind::kMlock: difference = DoMlock(world, proc, true, draw); break;
    case Kind::kMunlock: difference = DoMlock(world, proc, false, draw); break;
    case Kind::kRemapFilePages: difference = DoRemapFilePages(world, proc, draw); break;
    case Kind::kReclaim: DoReclaim(world, draw); break;
    case Kind::kPageOut: DoPageOut(world, proc, draw); break;
    case Kind::kSwapoff: difference = DoSwapoff(world); break;
    default: break;
  }
  NoteWriteBack(world);
  return difference;
}

}  // namespace property
