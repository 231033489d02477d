// Steps that are the machine's and no process's: reclaim, swap, the page cache.
#include <algorithm>

#include "workload/session.h"

namespace workload {
namespace {

// Reclaim looks twice at a page that was used lately, and at once only at some: it goes on while it gets
// any, and a little longer.
constexpr int kReclaimRounds = 64;
constexpr int kIdleRounds = 3;
// All pages that there can be.
constexpr uint64_t kAllPages = mm::kMemoryMax / base::kPageSize;

}  // namespace

base::Result<StepResult> DoReclaim(StepContext& context, const ckpt_pb::Step::Reclaim& op) {
  uint64_t wanted = op.pages() == 0 ? kAllPages : op.pages();
  int idle = 0;
  for (int round = 0; round < kReclaimRounds && idle < kIdleRounds && wanted > 0; ++round) {
    TRY_VOID(CheckStop(context.session));
    const uint64_t freed = try_to_free_pages(context.machine(), wanted);
    wanted -= std::min(freed, wanted);
    idle = freed == 0 ? idle + 1 : 0;
  }
  return StepResult{};
}

base::Result<StepResult> DoSwapon(StepContext& context) {
  mm::Machine& machine = context.machine();
  if (machine.swap != nullptr) return Failed({.err = EBUSY});
  // As the workload says, and not the machine: one that was restored while it had none knows of none.
  const Session& session = context.session;
  const uint64_t bytes = SizeOr(session.script.workload().machine().swap(), 0);
  if (bytes == 0) return Failed({.err = EINVAL});
  const uint64_t slots = bytes / base::kPageSize + 1;  // and the header
  std::unique_ptr<mm::SwapDevice> device = session.disk_dir.empty()
                                               ? TRY(mm::MakeMemorySwap(slots))
                                               : TRY(mm::MakeFileSwap(session.disk_dir, slots));
  return ResultOf(sys_swapon(machine, std::move(device), slots));
}

base::Result<StepResult> DoSwapoff(StepContext& context) { return ResultOf(sys_swapoff(context.machine())); }

base::Result<StepResult> DoHostTake(StepContext& context, const ckpt_pb::Step::HostTake& op) {
  mm::Host* host = context.machine().host.get();
  if (host == nullptr) return Failed({.err = EINVAL});
  (void)host->take_any(op.pages() == 0 ? kAllPages : op.pages());
  return StepResult{};
}

base::Result<StepResult> DoDropCaches(StepContext& context) {
  for (const mm::FilePtr& file : context.machine().files()) {
    TRY_VOID(CheckStop(context.session));
    invalidate_mapping_pages(context.machine(), file->mapping, 0, ~mm::Pgoff{0});
  }
  return StepResult{};
}

}  // namespace workload
