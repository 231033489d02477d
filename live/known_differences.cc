#include "live/known_differences.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "base/units.h"
#include "mm/follow_page.h"

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
bool MprotectOfLocked(const Situation& s) {
  if (s.call.op != Op::kMprotect || (s.call.args[2] & PROT_WRITE) == 0) return false;
  bool covered = false;
  ForEachVma(s.process, s.call.args[0], s.call.args[1], [&](mm::Vma& vma, uint64_t start, uint64_t end) {
    if ((vma.flags & mm::VM_LOCKED) == 0 || vma.is_shared()) return;
    const mm::DirtyRun own = mm::next_dirty_run(vma, start, end, ~uint64_t{0});
    covered |= own.start != start || own.pages * base::kPageSize < end - start;
  });
  return covered;
}

bool MremapOfSeveralVmas(const Situation& s) {
  return s.call.op == Op::kMremap && s.call.answer.err == EFAULT && s.kernel.ok() &&
         (s.call.args[3] & MREMAP_FIXED) != 0 &&
         base::PageAlignUp(s.call.args[1]) == base::PageAlignUp(s.call.args[2]);
}

bool MremapOfNothingOverItself(const Situation& s) {
  return s.call.op == Op::kMremap && base::PageAlignUp(s.call.args[1]) == 0 &&
         (s.call.args[3] & MREMAP_FIXED) != 0 && s.call.answer.err == EINVAL && s.kernel.err != EINVAL;
}

// mremap wants one vma, and tells alike neighbours from one.
bool MergedOtherwise(const Situation& s) {
  if (s.call.op != Op::kMremap || s.call.answer == s.kernel) return false;
  const uint64_t start = s.call.args[0];
  const uint64_t end = base::PageAlignUp(start + s.call.args[1]);
  if (s.kernel.err == EFAULT) {
    const std::vector<LiveVma> vmas = s.kernel_vmas();
    return std::ranges::any_of(vmas,
                               [&](const LiveVma& vma) { return vma.start > start && vma.start < end; });
  }
  if (s.call.answer.err != EFAULT) return false;
  const mm::Vma* before = nullptr;
  bool alike = true;
  const bool whole =
      ForEachVma(s.process, start, s.call.args[1], [&](const mm::Vma& vma, uint64_t, uint64_t) {
        alike = alike && (before == nullptr || (before->flags == vma.flags && before->file == vma.file));
        before = &vma;
      });
  return whole && alike;
}

// A non-linear vma is several vmas today, each of which grows by itself.
bool NonlinearGrows(const Situation& s) {
  if (s.call.op != Op::kMremap || base::PageAlignUp(s.call.args[2]) <= base::PageAlignUp(s.call.args[1]))
    return false;
  const auto is_nonlinear = [&](uint64_t addr) {
    const mm::Vma* vma = s.process.mm->vma_at(addr);
    return vma != nullptr && (vma->flags & mm::VM_NONLINEAR) != 0;
  };
  return is_nonlinear(s.call.args[0]) || (s.call.answer.ok() && is_nonlinear(s.call.answer.value));
}

bool RemapFilePagesMapsAnew(const Situation& s) {
  if (s.call.op != Op::kRemapFilePages || !s.call.answer.ok() || !s.kernel.ok()) return false;
  const mm::Vma* vma = s.process.mm->vma_at(s.call.args[0]);
  if (vma == nullptr) return false;
  const bool locks = (s.process.mm->def_flags & mm::VM_LOCKED) != 0 && (vma->flags & mm::VM_LOCKED) == 0;
  return locks || (vma->flags & mm::VM_DONTCOPY) != 0;
}

// Of the vma that an access may have made grow.
bool IsAtAStack(const Situation& s) {
  const mm::Vma* vma = s.process.mm->find_vma(s.call.args[0]);
  while (vma != nullptr && vma->start < s.call.args[0] + s.call.args[1] &&
         (vma->flags & mm::VM_GROWSDOWN) == 0)
    vma = s.process.mm->find_vma(vma->end);
  return vma != nullptr && (vma->flags & mm::VM_GROWSDOWN) != 0;
}

bool StackGuardGap(const Situation& s) {
  const bool access = s.call.op == Op::kLoad || s.call.op == Op::kStore || s.call.op == Op::kTouch ||
                      s.call.op == Op::kGetUserPages;
  if (!access || !IsAtAStack(s)) return false;
  if (s.call.answer != s.kernel) return true;
  if (s.kernel.ok()) return false;
  // The stack grows before the access is found not to be allowed.
  const uint64_t at = s.call.op == Op::kGetUserPages ? s.call.args[0] : s.kernel.value;
  const std::vector<LiveVma> vmas = s.kernel_vmas();
  const bool in_kernel =
      std::ranges::any_of(vmas, [&](const LiveVma& vma) { return vma.start <= at && at < vma.end; });
  return in_kernel != (s.process.mm->vma_at(at) != nullptr);
}

bool GetUserPagesOfAStack(const Situation& s) {
  return s.call.op == Op::kGetUserPages && s.call.answer.ok() && s.kernel.err == EFAULT && IsAtAStack(s);
}

bool TouchesAWrittenTail(const Situation& s) { return s.tail_touched; }

bool IsBehindTheEnd(const mm::Vma& vma, uint64_t addr) {
  if (!vma.has_fault()) return false;
  const mm::Pte* entry = vma.mm->pgtable.find(addr);
  const mm::Pte pte = entry == nullptr ? mm::Pte{} : *entry;
  mm::Pgoff index = mm::linear_page_index(vma, addr);
  if (mm::pte_file(pte)) index = mm::pte_to_pgoff(pte);
  if (mm::pte_present(pte)) {
    const mm::Page& page = vma.mm->machine.frames.at(mm::pte_pfn(pte));
    if (mm::FileMapping(page) == nullptr) return false;
    index = page.index;
  }
  return index * base::kPageSize + addr % base::kPageSize >= vma.file->i_size;
}

constexpr KnownDifference kKnown[] = {
    {"mlock_over_a_hole",
     "2.6.34 brings in what it locks, vma by vma, up to the hole; since 2.6.38 that comes afterwards, and "
     "not "
     "where there is a hole",
     2006, MlockOverAHole},
    {"mprotect_of_locked",
     "since 4.0 mprotect breaks COW at once in what is locked and becomes writable; before, the first store "
     "did",
     4000, MprotectOfLocked},
    {"mremap_of_several_vmas",
     "2.6.34 answers EFAULT where the old range is not all in one vma; since 6.17 a move that changes no "
     "length "
     "moves them all",
     6017, MremapOfSeveralVmas},
    {"mremap_of_nothing_over_itself",
     "2.6.34 takes an empty old range in the new one for an overlap; since 4.3 it is none", 4003,
     MremapOfNothingOverItself},
    {"vmas_merged_otherwise",
     "mremap wants its range in one vma; the kernel does not merge neighbours that are alike when each has "
     "had "
     "anonymous pages of its own, and in places merges where 2.6.34 did not",
     2006, MergedOtherwise},
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
     "nothing where no "
     "access is allowed",
     4012, StackGuardGap},
    {"behind_the_end_of_a_file",
     "what a shared mapping stored behind the end of the file becomes zero when the page is written back, "
     "which a "
     "file system without a disk, as the scratch folder's mostly is, never does; and shows when the file "
     "grows",
     2006, TouchesAWrittenTail, IsBehindTheEnd},
};

}  // namespace

std::span<const KnownDifference> KnownDifferences() { return kKnown; }

const KnownDifference* FindKnownDifference(const Situation& situation) {
  for (const KnownDifference& known : kKnown) {
    if (known.covers(situation)) return &known;
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
