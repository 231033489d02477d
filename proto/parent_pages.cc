#include "proto/parent_pages.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "proto/chain.h"

namespace image {

using base::Code;
using base::Fail;
using ckpt_pb::PageRun;

namespace {

uint64_t Key(PageRun::Owner owner, uint32_t objref) { return (static_cast<uint64_t>(owner) << 32) | objref; }

}  // namespace

base::Result<std::unique_ptr<ParentPages>> ParentPages::Load(const Reader& image, By by) {
  auto pages = std::make_unique<ParentPages>();
  pages->by_ = by;
  pages->path_ = image.path();
  pages->digest_ = image.digest();
  pages->digest_bytes_ = image.digest_bytes();
  pages->stored_ = image.metadata().parent.stored() + image.stored_pages();
  pages->depth_ = image.metadata().parent.depth() + 1;
  if (pages->depth_ > kDepthMax) {
    return Fail(Code::kTooBig,
                "%s: a chain of %u images can have no child: 'ckpt merge' makes one image of it",
                image.path().c_str(), pages->depth_);
  }
  TRY_VOID(by == By::kPlace ? pages->LoadPlaces(image) : pages->LoadHashes(image));
  return pages;
}

ckpt_pb::Parent ParentPages::Record(const std::string& child) const {
  namespace fs = std::filesystem;
  std::error_code unknown;
  const fs::path folder = fs::absolute(child, unknown).parent_path();
  fs::path path = fs::proximate(fs::absolute(path_, unknown), folder, unknown);
  if (path.empty()) path = path_;
  ckpt_pb::Parent record;
  record.set_digest(digest_bytes_.data(), digest_bytes_.size());
  record.set_path(path.string());
  record.set_stored(stored_);
  record.set_depth(depth_);
  return record;
}

void ParentPages::AddPlaces(const PageRun& run) {
  std::vector<Run>& places = places_[Key(run.owner(), run.objref())];
  if (run.kind() == PageRun::SAME) {
    // As many parts as the pages that it names have.
    uint64_t done = 0;
    auto named = std::ranges::upper_bound(pages_, run.stored(), {}, &Run::first);
    CHECK(named != pages_.begin());
    for (--named; done < run.count(); ++named) {
      const uint64_t skip = run.stored() + done - named->first;
      const uint64_t count = std::min(named->count - skip, run.count() - done);
      places.push_back({run.first() + done, count, named->zero ? 0 : named->number + skip, named->zero});
      done += count;
    }
    return;
  }
  const bool zero = run.kind() == PageRun::ZERO;
  places.push_back({run.first(), run.count(), run.stored(), zero});
  if (zero && run.owner() == PageRun::DISK) return;
  pages_.push_back({page_count_, run.count(), run.stored(), zero});
  page_count_ += run.count();
}

base::Result<void> ParentPages::LoadPlaces(const Reader& image) {
  return image.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    for (const PageRun& run : chunk.run()) AddPlaces(run);
    return {};
  });
}

// All that the chain stores, whether the image still names it or not.
base::Result<void> ParentPages::LoadHashes(const Reader& image) {
  hashes_.Reserve(stored_);
  const auto load = [&](const Reader& link) {
    return link.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
      const std::string& hashes = chunk.page_xxh3();
      if (link.version() == 1) {
        return Fail(
            Code::kUnsupported,
            "%s: it is of format version 1, which has no hashes of pages: make an image without --parent",
            link.path().c_str());
      }
      PageHash hash;
      for (size_t at = 0; at < hashes.size(); at += sizeof hash) {
        std::memcpy(hash.data(), hashes.data() + at, sizeof hash);
        hashes_.Add(hash);
      }
      return {};
    });
  };
  if (image.chain() == nullptr) return load(image);
  for (const Link& link : image.chain()->links()) {
    if (link.digest == image.digest()) return load(image);  // the last one
    const auto reader = TRY(Reader::Open(link.path, {.parents = Parents::kLeave}));
    if (reader->digest() != link.digest)
      return Fail(Code::kChanged, "%s: it became another image", link.path.c_str());
    TRY_VOID(load(*reader));
  }
  return {};
}

std::optional<PageRun> ParentPages::At(PageRun::Owner owner, uint32_t objref, uint64_t page) const {
  const auto places = places_.find(Key(owner, objref));
  if (places == places_.end()) return std::nullopt;
  auto run = std::ranges::upper_bound(places->second, page, {}, &Run::first);
  if (run == places->second.begin()) return std::nullopt;
  --run;
  if (page - run->first >= run->count) return std::nullopt;
  PageRun found;
  found.set_owner(owner);
  found.set_objref(objref);
  found.set_first(page);
  found.set_count(run->count - (page - run->first));
  found.set_kind(run->zero ? PageRun::ZERO : PageRun::COPY);
  if (!run->zero) found.set_stored(run->number + (page - run->first));
  return found;
}

}  // namespace image
