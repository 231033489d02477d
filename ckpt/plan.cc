#include "ckpt/plan.h"

#include <limits>

namespace ckpt {

using ckpt_pb::PageRun;

base::Result<void> Plan::Append(const PageRun& run) {
  const bool follows = pending_.count() > 0 && pending_.owner() == run.owner() &&
                       pending_.objref() == run.objref() && pending_.kind() == run.kind() &&
                       pending_.first() + pending_.count() == run.first() &&
                       (run.kind() == PageRun::ZERO || pending_.stored() + pending_.count() == run.stored());
  if (follows) {
    pending_.set_count(pending_.count() + run.count());
    return {};
  }
  if (pending_.count() > 0) TRY_VOID(emit_(pending_));
  pending_ = run;
  return {};
}

base::Result<void> Plan::AddAsIs(PageRun run) {
  if (run.kind() == PageRun::STORED) {
    run.set_stored(stored_);
    stored_ += run.count();
  }
  return Append(run);
}

base::Result<void> Plan::Add(PageRun::Owner owner, uint32_t objref, const ModifiedRun& run,
                             const std::function<uint32_t(uint64_t page)>& identity) {
  PageRun out;
  out.set_owner(owner);
  out.set_objref(objref);
  if (!run.maybe_shared) {
    out.set_first(run.first);
    out.set_count(run.count);
    return AddAsIs(out);
  }
  for (uint64_t page = run.first; page < run.first + run.count; ++page) {
    out.set_first(page);
    out.set_count(1);
    if (stored_ >= std::numeric_limits<uint32_t>::max()) {
      return base::Fail(base::Code::kTooBig, "more than 2^32 pages with shared ones among them");
    }
    const auto [place, first_time] = stored_at_.try_emplace(identity(page), static_cast<uint32_t>(stored_));
    if (first_time) {
      out.set_kind(PageRun::STORED);
      TRY_VOID(AddAsIs(out));
      continue;
    }
    ++shared_;
    out.set_kind(PageRun::SAME);
    out.set_stored(place->second);
    TRY_VOID(Append(out));
  }
  return {};
}

base::Result<void> Plan::Finish() {
  if (pending_.count() > 0) TRY_VOID(emit_(pending_));
  pending_.Clear();
  return {};
}

}  // namespace ckpt
