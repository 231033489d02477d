#include "workload/session.h"

#include <cerrno>
#include <csignal>
#include <iterator>

#include "base/units.h"
#include "workload/outcome.h"

namespace workload {

std::string Range::Describe(mm::Vaddr addr) const {
  const auto absolute = static_cast<unsigned long long>(addr);
  if (region.empty()) return base::Format("%#llx", absolute);
  return base::Format("region '%s' + %#llx (%#llx)", region.c_str(),
                      static_cast<unsigned long long>(addr - base), absolute);
}

base::Result<Region> FindRegion(StepContext& context, const std::string& name) {
  const mm::MmLayout& layout = context.mm().layout;
  if (name == kHeapRegion) return Region{layout.start_brk, layout.brk - layout.start_brk};
  const auto found = context.actor.space->find(name);
  if (found == context.actor.space->end()) {
    return base::Fail(base::Code::kInvalid, "process '%s' has no region '%s'", context.process_name.c_str(),
                      name.c_str());
  }
  Region region = found->second;
  const mm::Vma* vma = region.length > 0 ? context.mm().vma_at(region.end() - 1) : nullptr;
  if (vma != nullptr && (vma->flags & mm::VM_GROWSDOWN) != 0 && vma->start < region.start) {
    region = {vma->start, region.end() - vma->start};
  }
  return region;
}

base::Result<Range> ResolveRange(StepContext& context, const std::string& region, const std::string& addr,
                                 const std::string& offset, const std::string& length) {
  if (region.empty()) {
    const mm::Vaddr start = SizeOr(addr, 0);
    return Range{.start = start, .length = SizeOr(length, 0), .base = start, .region = {}};
  }
  const Region whole = TRY(FindRegion(context, region));
  const uint64_t from = SizeOr(offset, 0);
  if (from > whole.length) {
    return base::Fail(
        base::Code::kInvalid, "offset %#llx is behind the end of region '%s', which has %#llx bytes",
        static_cast<unsigned long long>(from), region.c_str(), static_cast<unsigned long long>(whole.length));
  }
  return Range{.start = whole.start + from,
               .length = SizeOr(length, whole.length - from),
               .base = whole.start,
               .region = region};
}

base::Result<mm::FilePtr> FindFile(StepContext& context, const std::string& name) {
  if (name == kDevZeroName) return context.machine().dev_zero();
  if (mm::FilePtr file = context.machine().find_file(name)) return file;
  return base::Fail(base::Code::kInvalid, "the machine has no file '%s'", name.c_str());
}

base::Result<void> CheckStop(const Session& session) {
  constexpr uint32_t kChecksPerSign = 256;
  if (session.busy && ++session.checks % kChecksPerSign == 0) session.busy();
  if (session.stop == nullptr || !session.stop->load(std::memory_order_relaxed)) return {};
  return base::Fail(base::Code::kInterrupted, "interrupted");
}

Answer AnswerOf(mm::AccessResult access) {
  switch (access.outcome) {
    case mm::Outcome::kOk: return {};
    case mm::Outcome::kSigsegv: return {.sig = SIGSEGV, .value = access.addr};
    case mm::Outcome::kSigbus: return {.sig = SIGBUS, .value = access.addr};
    case mm::Outcome::kOom: break;
  }
  return {.err = ENOMEM, .value = access.addr};
}

const char* CallName(Call::Op op) {
  static constexpr const char* kNames[] = {"mmap",
                                           "munmap",
                                           "mprotect",
                                           "mremap",
                                           "brk",
                                           "madvise",
                                           "msync",
                                           "remap_file_pages",
                                           "mlock",
                                           "munlock",
                                           "mlockall",
                                           "munlockall",
                                           "fork",
                                           "clone",
                                           "exit",
                                           "execve",
                                           "setrlimit",
                                           "load",
                                           "store",
                                           "touch",
                                           "get_user_pages",
                                           "pread",
                                           "pwrite",
                                           "ftruncate",
                                           "fallocate",
                                           "fsync",
                                           "unlink",
                                           "create"};
  static_assert(std::size(kNames) == static_cast<size_t>(Call::Op::kCreate) + 1);
  return kNames[static_cast<size_t>(op)];
}

StepResult Failed(mm::SysError error) {
  StepResult result;
  result.outcome = OutcomeName(error);
  return result;
}

}  // namespace workload
