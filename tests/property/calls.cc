// Calls on address spaces, loads and stores, processes.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>

#include "mm/follow_page.h"
#include "tests/property/world.h"

namespace property {
namespace {

using base::Format;
using Difference = std::optional<std::string>;
using mm::Vaddr;
using naive::kPage;

// A small window, so that things collide; the heap begins in the middle of it.
constexpr Vaddr kWindow = 0x10000000;
constexpr uint64_t kWindowPages = 64;
constexpr Vaddr kHeap = kWindow + 40 * kPage;
constexpr uint64_t kHeapPages = 12;
constexpr uint64_t kPagesMax = 160;  // of one address space; more makes steps slow
constexpr size_t kProcsMax = 4;

unsigned long long Hex(uint64_t value) { return value; }

void Trace(const World& world, const std::string& call) {
  if (world.options.trace) {
    std::fprintf(stderr, "  %zu: %s\n", CurrentProgress().step, call.c_str());
  }
}

Difference SameErrno(const char* call, int real, int expected) {
  if (real == expected) return {};
  return Format("%s answers errno %d, expected %d", call, real, expected);
}

template <class T>
int ErrnoOf(const mm::SysResult<T>& result) {
  return result ? 0 : result.error().err;
}

// ---- picking addresses ----

const mm::Vma* PickVma(Draw& draw, mm::MmStruct& mm) {
  if (mm.vmas().empty()) return nullptr;
  return std::next(mm.vmas().begin(), static_cast<ptrdiff_t>(draw.Below(mm.vmas().size())))->second.get();
}

// A page of the window, the edges of a vma, the page of a file's end, or the last one again.
Vaddr PickPage(Draw& draw, World& world, mm::MmStruct& mm) {
  const uint64_t mode = draw.Below(10);
  if (mode < 3) return kWindow + draw.Below(kWindowPages) * kPage;
  if (mode < 5 && world.last_addr != 0) return base::PageAlignDown(world.last_addr);
  const mm::Vma* vma = PickVma(draw, mm);
  if (vma == nullptr) return kWindow + draw.Below(kWindowPages) * kPage;
  if (mode < 7 && vma->file != nullptr) {
    const uint64_t last = vma->file->size_pages() + draw.Below(2);
    if (last > vma->pgoff && last <= vma->pgoff + vma->pages()) {
      return vma->start + (last - vma->pgoff - 1) * kPage;
    }
  }
  switch (draw.Below(5)) {
    case 0: return vma->start;
    case 1: return vma->end - kPage;
    case 2: return vma->end;
    case 3: return vma->start - kPage;
    default: return vma->start + draw.Below(vma->pages()) * kPage;
  }
}

// An address to load from or store to; often near the end of its page.
Vaddr PickAddr(Draw& draw, World& world, mm::MmStruct& mm) {
  const Vaddr page = PickPage(draw, world, mm);
  switch (draw.Below(4)) {
    case 0: return page;
    case 1: return page + kPage - 1;
    case 2: return page + kPage - 4;
    default: return page + draw.Below(kPage);
  }
}

uint64_t PickLength(Draw& draw) {
  const uint64_t pages = 1 + draw.Below(draw.OneIn(3) ? 12 : 3);
  switch (draw.Below(12)) {
    case 10: return pages * kPage - 1;
    case 11: return pages * kPage + 1;
    default: return pages * kPage;
  }
}

int PickProt(Draw& draw) {
  constexpr int kProts[] = {
      PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE, PROT_WRITE, PROT_EXEC,
      PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC};
  return kProts[draw.Below(std::size(kProts))];
}

// ---- mmap and its relatives ----

struct Mapping {
  naive::MapCall call;
  int flags = 0;
  mm::FilePtr file;
};

Mapping PickMapping(World& world, mm::MmStruct& mm, Draw& draw) {
  Mapping m;
  m.call.addr = PickPage(draw, world, mm);
  m.call.length = PickLength(draw);
  m.call.prot = PickProt(draw);
  const uint64_t backing = draw.Below(8);
  if (backing >= 2 && backing < 7) {
    const size_t file = draw.Below(world.files.size());
    m.file = world.files[file];
    m.call.object = world.objects[file];
    m.call.offset = draw.Below(6) * kPage * draw.Below(2);
  } else if (backing == 7) {
    m.file = world.machine->dev_zero();
  }
  m.call.is_file = m.file != nullptr;
  m.call.shared = draw.OneIn(3);
  m.call.populate = draw.OneIn(4);
  m.call.fixed = !draw.OneIn(8);
  m.call.grows_down = draw.OneIn(m.call.is_file || m.call.shared ? 40 : 4);
  if (draw.OneIn(60)) m.call.addr += 1;
  m.flags = (m.call.shared ? MAP_SHARED : MAP_PRIVATE) | (m.call.fixed ? MAP_FIXED : 0) |
            (m.call.is_file ? 0 : MAP_ANONYMOUS) | (m.call.grows_down ? MAP_GROWSDOWN : 0) |
            (m.call.populate ? MAP_POPULATE : 0);
  const bool noop = world.options.semantics.populate_nonblock == mm::PopulateNonblock::kNoop;
  if (m.call.populate && draw.OneIn(noop ? 8 : 2)) {
    m.flags |= MAP_NONBLOCK;
    m.call.populate = false;
  }
  return m;
}

// A mapping that the real model placed: aligned, and where nothing was.
Difference CheckPlace(const naive::Memory& memory, Vaddr start, uint64_t length) {
  if (!base::IsPageAligned(start)) return Format("it is placed at %#llx", Hex(start));
  const auto next = memory.pages.lower_bound(start / kPage);
  if (next == memory.pages.end() || next->first >= (start + base::PageAlignUp(length)) / kPage) return {};
  return Format("it is placed at %#llx, which is not free", Hex(start));
}

// populate_nonblock=file_pte leaves entries that only linear_file_pte=populate can use.
void NoteFilePtes(World& world, const Proc& proc, Vaddr start, uint64_t length) {
  if (world.options.semantics.linear_file_pte == mm::LinearFilePte::kPopulate) return;
  for (Vaddr at = start; at < start + length; at += kPage) {
    const mm::Pte* pte = world.mm(proc).pgtable.find(at);
    if (pte != nullptr && mm::pte_file(*pte)) proc.memory->pages.at(at / kPage).bad_pte = true;
  }
}

Difference DoMmap(World& world, Proc& proc, Draw& draw) {
  mm::MmStruct& mm = world.mm(proc);
  Mapping m = PickMapping(world, mm, draw);
  if (!m.call.fixed && mm.total_vm > kPagesMax) return {};
  Trace(world, Format("pid %u mmap(%#llx, %#llx, prot %d, flags %#x, file %u, offset %#llx)", proc.pid,
                      Hex(m.call.addr), Hex(m.call.length), m.call.prot, m.flags,
                      m.file != nullptr ? static_cast<unsigned>(m.file->id()) : 0, Hex(m.call.offset)));
  const mm::SysResult<Vaddr> real =
      mm::sys_mmap(mm, m.call.addr, m.call.length, m.call.prot, m.flags, m.file, m.call.offset);
  if (!world.synced) return {};
  if (real && !m.call.fixed) {
    m.call.addr = *real;
    if (const Difference difference = CheckPlace(*proc.memory, *real, m.call.length)) return difference;
  }
  const bool new_object = m.call.shared && m.call.object == nullptr;
  if (new_object) {
    m.call.object = std::make_shared<naive::Object>();
    m.call.object->size = base::PageAlignUp(m.call.length);
  }
  // The object's name is the real model's; it is asked for before anything is compared.
  const mm::Vma* vma = real ? mm.vma_at(*real) : nullptr;
  if (new_object && vma != nullptr && vma->file != nullptr) {
    m.call.object->id = static_cast<uint32_t>(vma->file->id());
  }
  const int expected = world.model.Map(*proc.memory, m.call);
  if (ErrnoOf(real) != expected) return SameErrno("mmap", ErrnoOf(real), expected);
  if (real && *real != m.call.addr) return "mmap with MAP_FIXED answers another address";
  if (real && (m.flags & MAP_NONBLOCK) != 0) NoteFilePtes(world, proc, *real, m.call.length);
  return {};
}

Difference DoMunmap(World& world, Proc& proc, Draw& draw) {
  const Vaddr addr = PickPage(draw, world, world.mm(proc)) + (draw.OneIn(60) ? 1 : 0);
  const uint64_t length = draw.OneIn(60) ? 0 : PickLength(draw);
  Trace(world, Format("pid %u munmap(%#llx, %#llx)", proc.pid, Hex(addr), Hex(length)));
  const mm::SysResult<void> real = mm::sys_munmap(world.mm(proc), addr, length);
  if (!world.synced) return {};
  return SameErrno("munmap", ErrnoOf(real), world.model.Unmap(*proc.memory, addr, length));
}

Difference DoMprotect(World& world, Proc& proc, Draw& draw) {
  const Vaddr addr = PickPage(draw, world, world.mm(proc)) + (draw.OneIn(60) ? 1 : 0);
  const uint64_t length = PickLength(draw);
  const int prot = PickProt(draw);
  Trace(world, Format("pid %u mprotect(%#llx, %#llx, %d)", proc.pid, Hex(addr), Hex(length), prot));
  const mm::SysResult<void> real = mm::sys_mprotect(world.mm(proc), addr, length, prot);
  if (!world.synced) return {};
  return SameErrno("mprotect", ErrnoOf(real), world.model.Protect(*proc.memory, addr, length, prot));
}

Difference DoMremap(World& world, Proc& proc, Draw& draw) {
  mm::MmStruct& mm = world.mm(proc);
  naive::RemapCall call;
  call.addr = PickPage(draw, world, mm);
  call.old_length = draw.OneIn(12) ? 0 : PickLength(draw);
  call.new_length = draw.OneIn(60) ? 0 : PickLength(draw);
  call.may_move = !draw.OneIn(4);
  call.fixed = draw.OneIn(3);
  if (call.fixed) call.new_addr = PickPage(draw, world, mm);
  if (draw.OneIn(60)) call.addr += 1;
  if (mm.total_vm > kPagesMax && call.new_length > call.old_length) return {};
  if (const mm::Vma* vma = mm.vma_at(call.addr)) call.vma_end = vma->end;
  const int flags = (call.may_move ? MREMAP_MAYMOVE : 0) | (call.fixed ? MREMAP_FIXED : 0);
  Trace(world, Format("pid %u mremap(%#llx, %#llx, %#llx, %d, %#llx)", proc.pid, Hex(call.addr),
                      Hex(call.old_length), Hex(call.new_length), flags, Hex(call.new_addr)));
  const mm::SysResult<Vaddr> real =
      mm::sys_mremap(mm, call.addr, call.old_length, call.new_length, flags, call.new_addr);
  if (!world.synced) return {};
  if (real && !call.fixed && *real != call.addr) {
    if (const Difference difference = CheckPlace(*proc.memory, *real, call.new_length)) return difference;
  }
  if (real && call.fixed && *real != call.new_addr) return "mremap with MREMAP_FIXED answers another address";
  if (real) call.new_addr = *real;
  return SameErrno("mremap", ErrnoOf(real), world.model.Remap(*proc.memory, call));
}

Difference DoBrk(World& world, Proc& proc, Draw& draw) {
  const uint64_t pages = draw.Below(kHeapPages);
  const Vaddr brk = kHeap + pages * kPage + draw.Below(3) - (draw.OneIn(20) ? kPage : 0);
  Trace(world, Format("pid %u brk(%#llx)", proc.pid, Hex(brk)));
  const Vaddr real = mm::sys_brk(world.mm(proc), brk);
  if (!world.synced) return {};
  const Vaddr expected = world.model.Brk(*proc.memory, brk);
  if (real == expected) return {};
  return Format("brk answers %#llx, expected %#llx", Hex(real), Hex(expected));
}

Difference DoMadvise(World& world, Proc& proc, Draw& draw) {
  const Vaddr addr = PickPage(draw, world, world.mm(proc)) + (draw.OneIn(60) ? 1 : 0);
  const uint64_t length = PickLength(draw);
  constexpr int kAdvices[] = {MADV_DONTNEED, MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK};
  const int advice = kAdvices[draw.Below(std::size(kAdvices))];
  Trace(world, Format("pid %u madvise(%#llx, %#llx, %d)", proc.pid, Hex(addr), Hex(length), advice));
  const mm::SysResult<void> real = mm::sys_madvise(world.mm(proc), addr, length, advice);
  if (!world.synced) return {};
  naive::Memory& memory = *proc.memory;
  const int expected = advice == MADV_DONTNEED
                           ? world.model.DontNeed(memory, addr, length)
                           : world.model.DontFork(memory, addr, length, advice == MADV_DONTFORK);
  return SameErrno("madvise", ErrnoOf(real), expected);
}

Difference DoMsync(World& world, Proc& proc, Draw& draw) {
  const Vaddr addr = PickPage(draw, world, world.mm(proc));
  const uint64_t length = PickLength(draw);
  Trace(world, Format("pid %u msync(%#llx, %#llx)", proc.pid, Hex(addr), Hex(length)));
  const mm::SysResult<void> real = mm::sys_msync(world.mm(proc), addr, length, MS_SYNC);
  if (!world.synced) return {};
  return SameErrno("msync", ErrnoOf(real), world.model.Sync(*proc.memory, addr, length));
}

// ---- loads and stores ----

Difference SameAccess(const char* what, const mm::AccessResult& real, const naive::Access& expected) {
  const auto outcome = static_cast<unsigned>(expected.outcome);
  if (static_cast<unsigned>(real.outcome) != outcome) {
    return Format("%s ends with outcome %u at %#llx, expected %u at %#llx", what,
                  static_cast<unsigned>(real.outcome), Hex(real.addr), outcome, Hex(expected.addr));
  }
  if (real.outcome == mm::Outcome::kOk || real.addr == expected.addr) return {};
  return Format("%s fails at %#llx, expected at %#llx", what, Hex(real.addr), Hex(expected.addr));
}

Difference DoAccess(World& world, Proc& proc, Kind kind, Draw& draw) {
  constexpr uint64_t kLengths[] = {1, 2, 8, 8, 100, kPage, kPage + 1};
  const Vaddr addr = PickAddr(draw, world, world.mm(proc));
  const uint64_t length = kLengths[draw.Below(std::size(kLengths))];
  const uint64_t value = 1 + draw.Below(255);
  const bool write = kind == Kind::kStore || (kind == Kind::kTouch && draw.OneIn(2));
  mm::Process& process = world.process(proc);
  world.last_addr = addr;
  Trace(world, Format("pid %u %s(%#llx, %llu)%s", proc.pid,
                      kind == Kind::kTouch ? "touch"
                      : write              ? "store"
                                           : "load",
                      Hex(addr), Hex(length), kind == Kind::kTouch && write ? " for writing" : ""));
  if (kind == Kind::kTouch) {
    const mm::AccessResult real =
        world.machine->touch(process, addr, length, write ? mm::Write::kYes : mm::Write::kNo);
    if (!world.synced) return {};
    return SameAccess("touch", real, world.model.TouchRange(*proc.memory, addr, length, write));
  }
  std::vector<std::byte> bytes(length);
  if (write) {
    for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(value + i * 3);
    const mm::AccessResult real = world.machine->store(process, addr, bytes);
    if (!world.synced) return {};
    return SameAccess("store", real, world.model.Store(*proc.memory, addr, bytes));
  }
  std::vector<std::byte> expected(length);
  const mm::AccessResult real = world.machine->load(process, addr, bytes);
  if (!world.synced) return {};
  const naive::Access wanted = world.model.Load(*proc.memory, addr, expected);
  if (Difference difference = SameAccess("load", real, wanted)) return difference;
  return bytes == expected ? Difference() : "load has other bytes";
}

// get_user_pages of one page, and a byte written behind the page table's back.
Difference DoGup(World& world, Proc& proc, Draw& draw) {
  const Vaddr addr = PickAddr(draw, world, world.mm(proc));
  const bool write = !draw.OneIn(4);
  const bool force = !draw.OneIn(3);
  const auto value = static_cast<std::byte>(1 + draw.Below(255));
  Trace(world, Format("pid %u get_user_pages(%#llx, write %d, force %d)", proc.pid, Hex(addr), write, force));
  mm::SysResult<std::vector<mm::Pfn>> pages =
      mm::get_user_pages(world.mm(proc), addr, 1, write ? mm::Write::kYes : mm::Write::kNo,
                         force ? mm::Force::kYes : mm::Force::kNo);
  if (pages) {
    if (write) world.machine->frames.bytes(pages->front())[addr % kPage] = value;
    // The caller owes this. Without hints what the ptes say must do as well.
    if (write && mm::page_host_discards(world.machine->frames)) {
      mm::set_page_dirty(*world.machine, pages->front());
    }
    mm::unpin_user_pages(*world.machine, *pages);
  }
  if (!world.synced) return {};
  const int expected = world.model.Gup(*proc.memory, addr, write, force, value);
  return SameErrno("get_user_pages", ErrnoOf(pages), expected);
}

// Pages pinned for reading, and kept: what happens to their mappings must not free them.
Difference DoPin(World& world, Proc& proc, Draw& draw) {
  constexpr size_t kPinsMax = 6;
  if (world.pins.size() >= kPinsMax) return {};
  const Vaddr addr = PickPage(draw, world, world.mm(proc));
  const uint64_t count = 1 + draw.Below(3);
  Trace(world, Format("pid %u pin(%#llx, %llu)", proc.pid, Hex(addr), Hex(count)));
  mm::SysResult<std::vector<mm::Pfn>> pages =
      mm::get_user_pages(world.mm(proc), addr, count, mm::Write::kNo, mm::Force::kNo);
  const uint64_t got = pages ? pages->size() : 0;
  const int err = ErrnoOf(pages);
  if (pages) world.pins.push_back(std::move(*pages));
  if (!world.synced) return {};
  uint64_t expected = 0;
  int expected_err = 0;
  while (expected < count && expected_err == 0) {
    expected_err = world.model.Gup(*proc.memory, addr + expected * kPage, false, false, {});
    if (expected_err == 0) ++expected;
  }
  if (got != expected) return Format("%llu pages are pinned, expected %llu", Hex(got), Hex(expected));
  return SameErrno("get_user_pages", err, expected > 0 ? 0 : expected_err);
}

void DoUnpin(World& world, Draw& draw) {
  if (world.pins.empty()) return;
  const auto which = world.pins.begin() + static_cast<ptrdiff_t>(draw.Below(world.pins.size()));
  Trace(world, "unpin");
  mm::unpin_user_pages(*world.machine, *which);
  world.pins.erase(which);
}

// ---- processes ----

Difference DoFork(World& world, size_t parent) {
  if (world.procs.size() >= kProcsMax) return {};
  const Proc& from = world.procs[parent];
  const mm::Pid pid = world.next_pid++;
  Trace(world, Format("pid %u fork() = %u", from.pid, pid));
  const mm::SysResult<mm::Process*> real = world.machine->fork(from.pid, pid, "child");
  if (!real) return world.synced ? Difference("fork fails") : Difference();
  Proc child{.pid = pid, .memory = world.model.Fork(*from.memory)};
  world.model.memories.insert(child.memory);
  world.procs.push_back(std::move(child));
  return {};
}

void DoCloneVm(World& world, size_t parent) {
  if (world.procs.size() >= kProcsMax) return;
  const Proc& from = world.procs[parent];
  const mm::Pid pid = world.next_pid++;
  Trace(world, Format("pid %u clone_vm() = %u", from.pid, pid));
  world.machine->clone_vm(from.pid, pid, "thread");
  world.procs.push_back({.pid = pid, .memory = from.memory});
}

void DoExit(World& world, size_t which) {
  if (world.procs.size() < 2) return;
  const Proc gone = world.procs[which];
  Trace(world, Format("pid %u exit()", gone.pid));
  world.machine->exit(gone.pid);
  world.procs.erase(world.procs.begin() + static_cast<ptrdiff_t>(which));
  for (const Proc& proc : world.procs) {
    if (proc.memory == gone.memory) return;
  }
  world.model.memories.erase(gone.memory);
}

}  // namespace

void AddProcess(World& world) {
  const mm::Pid pid = world.next_pid++;
  Trace(world, Format("spawn() = %u", pid));
  mm::Process& process = world.machine->spawn(pid, "spawned");
  process.mm->layout.start_brk = process.mm->layout.brk = kHeap;
  Proc proc{.pid = pid, .memory = std::make_shared<naive::Memory>()};
  proc.memory->start_brk = proc.memory->brk = kHeap;
  world.model.memories.insert(proc.memory);
  world.procs.push_back(std::move(proc));
}

std::optional<std::string> RunOp(World& world, const Op& op) {
  Draw draw(op);
  const size_t which = draw.Below(world.procs.size());
  Proc& proc = world.procs[which];
  switch (op.kind) {
    case Kind::kStore:
    case Kind::kLoad:
    case Kind::kTouch: return DoAccess(world, proc, op.kind, draw);
    case Kind::kMmap: return DoMmap(world, proc, draw);
    case Kind::kMunmap: return DoMunmap(world, proc, draw);
    case Kind::kMprotect: return DoMprotect(world, proc, draw);
    case Kind::kMremap: return DoMremap(world, proc, draw);
    case Kind::kBrk: return DoBrk(world, proc, draw);
    case Kind::kMadvise: return DoMadvise(world, proc, draw);
    case Kind::kMsync: return DoMsync(world, proc, draw);
    case Kind::kGup: return DoGup(world, proc, draw);
    case Kind::kPin: return DoPin(world, proc, draw);
    case Kind::kFork: return DoFork(world, which);
    case Kind::kUnpin: DoUnpin(world, draw); return {};
    case Kind::kCloneVm: DoCloneVm(world, which); return {};
    case Kind::kExit: DoExit(world, which); return {};
    case Kind::kSpawn:
      if (world.procs.size() < kProcsMax) AddProcess(world);
      return {};
    case Kind::kMlock:
    case Kind::kMunlock:
    case Kind::kRemapFilePages:
    case Kind::kReclaim:
    case Kind::kPageOut:
    case Kind::kSwapoff: return RunMemoryOp(world, proc, op);
    case Kind::kDirtyScan: return world.synced ? CompareDirty(world, proc) : Difference();
    default: return RunFileOp(world, op);
  }
}

}  // namespace property
