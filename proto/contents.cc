#include "proto/contents.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/units.h"
#include "proto/writer.h"

namespace image {

using base::kPageSize;
using ckpt_pb::PageRun;

bool IsZero(std::span<const std::byte> page) {
  return page.empty() ||
         (page.front() == std::byte{0} && std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0);
}

Contents::Contents(const PageBytes& bytes, const ParentPages* parent, uint64_t first_stored, bool every_page)
    : source_(bytes),
      parent_(parent),
      first_stored_(first_stored),
      every_page_(every_page),
      stored_(first_stored),
      hashes_(first_stored),
      scratch_(new std::byte[kPageSize]) {}

base::Result<bool> Contents::SameBytes(uint64_t number, std::span<const std::byte> page) {
  const auto behind = std::ranges::upper_bound(places_, number, {}, &Stored::number);
  CHECK(behind != places_.begin());
  const Stored& stored = *std::prev(behind);
  PageRun run;
  run.set_owner(static_cast<PageRun::Owner>(stored.owner));
  run.set_objref(stored.objref);
  run.set_first(stored.first + (number - stored.number));
  run.set_count(1);
  const std::span<std::byte> other(scratch_.get(), kPageSize);
  TRY_VOID(source_.Read(run, other));
  return std::memcmp(other.data(), page.data(), kPageSize) == 0;
}

void Contents::Store(const PageRun& place, const PageHash& hash) {
  hashes_.Add(hash);
  const uint64_t number = stored_++;
  if (!places_.empty()) {
    const Stored& last = places_.back();
    if (last.owner == static_cast<uint32_t>(place.owner()) && last.objref == place.objref() &&
        last.first + (number - last.number) == place.first()) {
      return;
    }
  }
  places_.push_back({number, place.first(), static_cast<uint32_t>(place.owner()), place.objref()});
}

base::Result<PageRun> Contents::Judge(const Page& page) {
  PageRun run = page.place;
  const bool may_be_zero = run.owner() == PageRun::MM || run.owner() == PageRun::SHMEM;
  if (!every_page_ && page.zero && may_be_zero) {
    ++zero_filled_;
    run.set_kind(PageRun::ZERO);
    run.clear_stored();
    return run;
  }
  if (parent_ != nullptr) {
    if (const std::optional<uint64_t> number = parent_->Find(page.hash)) {
      ++in_parent_;
      run.set_kind(PageRun::COPY);
      run.set_stored(*number);
      return run;
    }
  }
  if (!every_page_) {
    const std::optional<uint64_t> number = hashes_.Find(page.hash);
    if (number && TRY(SameBytes(*number, page.bytes))) {
      ++repeated_;
      run.set_kind(PageRun::COPY);
      run.set_stored(*number);
      return run;
    }
  }
  run.set_stored(stored_);
  Store(run, page.hash);
  return run;
}

void Contents::CountIn(ckpt_pb::Totals& totals) const {
  totals.set_stored(stored_ - first_stored_);
  totals.set_zero_filled(zero_filled_);
  totals.set_repeated(repeated_);
  totals.set_in_parent(totals.in_parent() + in_parent_);
}

}  // namespace image
