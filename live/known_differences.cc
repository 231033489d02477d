#include "live/known_differences.h"

#include <sys/mman.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>

#include "base/units.h"
#include "mm/follow_page.h"
#include "mm/peek.h"

namespace live {
namespace {

using Op = workload::Call::Op;

// Calls visit(vma, start, end) for what is mapped of [addr, addr + length); false: not all of it is.
template <class Visit>
bool ForEachVma(const mm::Process& process, uint64_t addr, uint64_t length, Visit&& visit) {
  const uint64_t end = base::PageAlignUp(addr + length);
  bool whole = true;
  for (uint64_t at = base::PageAlignDown(addr); at < end;) {
    mm::Vma* vma = process.mm->find_vma(at);
    if (vma == nullptr || vma->start >= end) return false;
    whole = whole && vma->start <= at;
    visit(*vma, std::max(at, vma->start), std::min(end, vma->end));
    at = vma->end;
  }
  return whole;
}

bool IsMapped(const mm::Process& process, uint64_t addr, uint64_t length) {
  return ForEachVma(process, addr, length, [](const mm::Vma&, uint64_t, uint64_t) {});
}

bool MlockOverAHole(const Situation& s) {
  return s.call.op == Op::kMlock && s.call.answer.err == ENOMEM && s.kernel.err == ENOMEM &&
         s.process.mm->vma_at(s.call.args[0]) != nullptr &&
         !IsMapped(s.process, s.call.args[0], s.call.args[1]);
}

// A page that mprotect made writable in a locked private mapping, and that is not the process's own yet.
// Both did it, and differ in what is there now.
bool BothOk(const Situation& s) { return s.call.answer.ok() && s.kernel.ok(); }

// A page that mprotect made writable in a locked private mapping, and that is not the process's own yet.
bool MprotectOfLocked(const Situation& s) {
  if (s.call.op != Op::kMprotect || s.call.answer != s.kernel || (s.call.args[2] & PROT_WRITE) == 0)
    return false;
  bool covered = false;
  ForEachVma(s.process, s.call.args[0], s.call.args[1], [&](mm::Vma& vma, uint64_t start, uint64_t end) {
    if ((vma.flags & mm::VM_LOCKED) == 0 || vma.is_shared()) return;
    const mm::DirtyRun own = mm::next_dirty_run(vma, start, end, ~uint64_t{0});
    covered |= own.start != start || own.pages * base::kPageSize < end - start;
  });
  return covered;
}

bool MremapOfSeveralVmas(const Situation& s) {
  if (s.call.op != Op::kMremap || s.call.answer.err != EFAULT || !s.kernel.ok()) return false;
  if ((s.call.args[3] & MREMAP_FIXED) == 0 ||
      base::PageAlignUp(s.call.args[1]) != base::PageAlignUp(s.call.args[2])) {
    return false;
  }
  const mm::Vma* vma = s.process.mm->vma_at(s.call.args[0]);
  return vma != nullptr && vma->end < s.call.args[0] + base::PageAlignUp(s.call.args[1]);
}

bool MremapOfNothingOverItself(const Situation& s) {
  if (s.call.op != Op::kMremap || base::PageAlignUp(s.call.args[1]) != 0 ||
      (s.call.args[3] & MREMAP_FIXED) == 0)
    return false;
  const uint64_t addr = s.call.args[0];
  const uint64_t to = s.call.args[4];
  return s.call.answer.err == EINVAL && s.kernel.err != EINVAL && to <= addr &&
         addr < to + base::PageAlignUp(s.call.args[2]);
}

// mremap wants one vma, and tells alike neighbours from one.
bool MergedOtherwise(const Situation& s) {
  if (s.call.op != Op::kMremap || s.call.answer == s.kernel) return false;
  const uint64_t start = s.call.args[0];
  const uint64_t end = base::PageAlignUp(start + s.call.args[1]);
  if (s.kernel.err == EFAULT) {
    if (!s.call.answer.ok() && s.call.answer.err != ENOMEM) return false;
    const std::vector<LiveVma> vmas = s.kernel_vmas();
    return std::ranges::any_of(vmas,
                               [&](const LiveVma& vma) { return vma.start > start && vma.start < end; });
  }
  if (s.call.answer.err != EFAULT) return false;
  const mm::Vma* before = nullptr;
  bool alike = true;
  uint64_t vmas = 0;
  const bool whole =
      ForEachVma(s.process, start, s.call.args[1], [&](const mm::Vma& vma, uint64_t, uint64_t) {
        alike = alike && (before == nullptr || (before->flags == vma.flags && before->file == vma.file));
        before = &vma;
        ++vmas;
      });
  return whole && alike && vmas > 1;
}

// A non-linear vma is several vmas today, each of which grows by itself.
bool NonlinearGrows(const Situation& s) {
  if (s.call.op != Op::kMremap || !BothOk(s)) return false;
  if (base::PageAlignUp(s.call.args[2]) <= base::PageAlignUp(s.call.args[1])) return false;
  const auto is_nonlinear = [&](uint64_t addr) {
    const mm::Vma* vma = s.process.mm->vma_at(addr);
    return vma != nullptr && (vma->flags & mm::VM_NONLINEAR) != 0;
  };
  return is_nonlinear(s.call.args[0]) || is_nonlinear(s.call.answer.value);
}

bool RemapFilePagesMapsAnew(const Situation& s) {
  if (s.call.op != Op::kRemapFilePages || !BothOk(s)) return false;
  const mm::Vma* vma = s.process.mm->vma_at(s.call.args[0]);
  if (vma == nullptr) return false;
  const bool locks = (s.process.mm->def_flags & mm::VM_LOCKED) != 0 && (vma->flags & mm::VM_LOCKED) == 0;
  return locks || (vma->flags & mm::VM_DONTCOPY) != 0;
}

bool IsAccess(Op op) {
  return op == Op::kLoad || op == Op::kStore || op == Op::kTouch || op == Op::kGetUserPages;
}

// Where an access went wrong first, on either side.
uint64_t WhereItFailed(const Situation& s) {
  if (s.call.op == Op::kGetUserPages) return s.call.args[0];
  const uint64_t model = s.call.answer.ok() ? ~uint64_t{0} : s.call.answer.value;
  return std::min(model, s.kernel.ok() ? ~uint64_t{0} : s.kernel.value);
}

bool KernelHas(const Situation& s, uint64_t addr) {
  const std::vector<LiveVma> vmas = s.kernel_vmas();
  return std::ranges::any_of(vmas, [&](const LiveVma& vma) { return vma.start <= addr && addr < vma.end; });
}

// A stack grew on one side alone, and what lies below it is nearer than the other side has it. It grows
// before the access is found not to be allowed.
bool StackGuardGap(const Situation& s) {
  constexpr uint64_t kKernelGap = 256;  // stack_guard_gap, in pages
  if (!IsAccess(s.call.op) || BothOk(s)) return false;
  const uint64_t at = base::PageAlignDown(WhereItFailed(s));
  const mm::Vma* stack = s.process.mm->find_vma(at);
  if (stack == nullptr || (stack->flags & mm::VM_GROWSDOWN) == 0) return false;
  const mm::Vma* below = s.process.mm->prev_vma(stack);
  if (below == nullptr) return false;
  const uint64_t gap = (at - below->end) / base::kPageSize;
  const bool in_model = stack->start <= at;
  if (in_model == KernelHas(s, at)) return false;
  if (in_model) return gap < kKernelGap;
  return gap < 1 && ((below->flags & mm::VM_GROWSDOWN) != 0 || (below->flags & mm::VM_ACCESS_FLAGS) == 0);
}

bool GetUserPagesOfAStack(const Situation& s) {
  if (s.call.op != Op::kGetUserPages || s.call.args[3] != 0) return false;
  const mm::Vma* vma = s.process.mm->vma_at(s.call.args[0]);
  return vma != nullptr && (vma->flags & mm::VM_GROWSDOWN) != 0 && s.kernel.err == EFAULT &&
         !KernelHas(s, s.call.args[0]);
}

bool TouchesAWrittenTail(const Situation& s) { return s.tail_touched && s.call.answer == s.kernel; }

bool IsInAWrittenTail(const mm::Vma& vma, uint64_t addr) {
  if (!vma.has_fault()) return false;
  const std::optional<mm::Pgoff> index = mm::file_index_at(vma, addr);
  return index && *index * base::kPageSize + addr % base::kPageSize >= vma.file->i_size;
}

// RLIMIT_STACK is for one vma: the model's is what the kernel has several of.
bool StackMergedOtherwise(const Situation& s) {
  if (!IsAccess(s.call.op) || s.call.answer == s.kernel) return false;
  const mm::Vma* stack = s.process.mm->find_vma(base::PageAlignDown(WhereItFailed(s)));
  if (stack == nullptr || (stack->flags & mm::VM_GROWSDOWN) == 0) return false;
  const std::vector<LiveVma> vmas = s.kernel_vmas();
  for (size_t i = 1; i < vmas.size(); ++i) {
    const uint64_t seam = vmas[i].start;
    if (seam == vmas[i - 1].end && seam > stack->start && seam < stack->end) return true;
  }
  return false;
}

bool VmasMergedOtherwise(const Situation& s) { return MergedOtherwise(s) || StackMergedOtherwise(s); }

constexpr KnownDifference kKnown[] = {
    {"mlock_over_a_hole",
     "2.6.34 brings in what it locks, vma by vma, up to the hole; since 2.6.38 that comes afterwards, and "
     "not where there is a hole",
     2006, MlockOverAHole},
    {"mprotect_of_locked",
     "since 4.0 mprotect breaks COW at once in what is locked and becomes writable; before, the first store "
     "did",
     4000, MprotectOfLocked},
    {"mremap_of_several_vmas",
     "2.6.34 answers EFAULT where the old range is not all in one vma; since 6.17 a move that changes no "
     "length moves them all",
     6017, MremapOfSeveralVmas},
    {"mremap_of_nothing_over_itself",
     "2.6.34 takes an empty old range in the new one for an overlap; since 4.3 it is none", 4003,
     MremapOfNothingOverItself},
    {"vmas_merged_otherwise",
     "mremap wants its range in one vma, and a stack may grow so far; the kernel does not merge neighbours "
     "that are alike when each has "
     "had anonymous pages of its own, and in places merges where 2.6.34 did not",
     2006, VmasMergedOtherwise},
    {"nonlinear_grows",
     "since 4.0 remap_file_pages makes vmas instead of file ptes: mremap grows one of them, from its own "
     "offset on",
     4000, NonlinearGrows},
    {"remap_file_pages_maps_anew",
     "since 4.0 remap_file_pages is an mmap: the range forgets MADV_DONTFORK, and MCL_FUTURE locks it", 4000,
     RemapFilePagesMapsAnew},
    {"get_user_pages_of_a_stack",
     "since 6.5 a stack grows for its own process, and for what reads /proc/PID/mem, but not for "
     "process_vm_readv",
     6005, GetUserPagesOfAStack},
    {"stack_guard_gap",
     "2.6.34 leaves a page between a stack that grows and what lies below; since 4.12 it is 1 MiB, but "
     "nothing where no access is allowed",
     4012, StackGuardGap},
    {"behind_the_end_of_a_file",
     "what a shared mapping stored behind the end of the file becomes zero when the page is written back, "
     "which a file system without a disk, as the scratch folder's mostly is, never does; and shows when the "
     "file grows",
     2006, TouchesAWrittenTail, IsInAWrittenTail},
};

}  // namespace

std::span<const KnownDifference> KnownDifferences() { return kKnown; }

unsigned RunningKernel() {
  static const unsigned running = [] {
    utsname name;
    unsigned major = 0;
    unsigned minor = 0;
    if (uname(&name) != 0 || std::sscanf(name.release, "%u.%u", &major, &minor) != 2) return 0u;
    return major * 1000 + minor;
  }();
  return running;
}

const KnownDifference* FindKnownDifference(const Situation& situation) {
  for (const KnownDifference& known : kKnown) {
    if (known.since <= RunningKernel() && known.covers(situation)) return &known;
  }
  return nullptr;
}

const KnownDifference* FindKnownDifference(const mm::Vma& vma, uint64_t addr) {
  for (const KnownDifference& known : kKnown) {
    if (known.covers_byte != nullptr && known.covers_byte(vma, addr)) return &known;
  }
  return nullptr;
}

}  // namespace live
