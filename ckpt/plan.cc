#include "ckpt/plan.h"

#include <algorithm>
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
    run.set_stored(pages_);
    pages_ += run.count();
  }
  return Append(run);
}

// Pages that are named for the first time.
base::Result<void> Plan::AddPages(PageRun run, const ModifiedRun& from) {
  if (from.parent_mm == 0 || parent_ == nullptr) return AddAsIs(run);
  for (const uint64_t end = run.first() + run.count(); run.first() < end;) {
    PageRun part = run;
    const std::optional<PageRun> known = parent_->At(PageRun::MM, from.parent_mm, run.first());
    part.set_count(known ? std::min(known->count(), end - run.first()) : 1);
    run.set_first(run.first() + part.count());
    if (!known) {
      TRY_VOID(AddAsIs(part));
      continue;
    }
    in_parent_ += part.count();
    pages_ += part.count();
    part.set_kind(known->kind());
    part.set_stored(known->stored());
    TRY_VOID(Append(part));
  }
  return {};
}

base::Result<void> Plan::Add(PageRun::Owner owner, uint32_t objref, const ModifiedRun& run,
                             const std::function<uint32_t(uint64_t page)>& identity) {
  PageRun out;
  out.set_owner(owner);
  out.set_objref(objref);
  if (!run.maybe_shared) {
    out.set_first(run.first);
    out.set_count(run.count);
    return AddPages(out, run);
  }
  for (uint64_t page = run.first; page < run.first + run.count; ++page) {
    out.set_first(page);
    out.set_count(1);
    if (pages_ >= std::numeric_limits<uint32_t>::max()) {
      return base::Fail(base::Code::kTooBig, "more than 2^32 pages with shared ones among them");
    }
    const auto [place, first_time] = stored_at_.try_emplace(identity(page), static_cast<uint32_t>(pages_));
    if (first_time) {
      out.set_kind(PageRun::STORED);
      TRY_VOID(AddPages(out, run));
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
