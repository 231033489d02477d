#include "proto/merge.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "proto/chain.h"
#include "proto/chunk.h"
#include "proto/parent_pages.h"

namespace image {
namespace {

using base::kPageSize;
using ckpt_pb::PageRun;

using Pages = std::shared_ptr<const std::vector<std::byte>>;

// Chunks that were expanded last. Safe for several threads.
class ChunkCache {
 public:
  explicit ChunkCache(size_t chunks_max) : chunks_max_(chunks_max) {}

  base::Result<Pages> Get(const Link& link, const StoredChunk& chunk) {
    {
      const std::scoped_lock lock(mutex_);
      const auto found = by_chunk_.find(&chunk);
      if (found != by_chunk_.end()) {
        used_.splice(used_.begin(), used_, found->second);
        return found->second->second;
      }
    }
    // Two threads may expand the same one: that costs time and nothing else.
    Pages pages = TRY(Expand(link, chunk));
    const std::scoped_lock lock(mutex_);
    if (by_chunk_.contains(&chunk)) return pages;
    used_.emplace_front(&chunk, pages);
    by_chunk_[&chunk] = used_.begin();
    if (used_.size() > chunks_max_) {
      by_chunk_.erase(used_.back().first);
      used_.pop_back();
    }
    return pages;
  }

 private:
  using Used = std::list<std::pair<const StoredChunk*, Pages>>;

  static base::Result<Pages> Expand(const Link& link, const StoredChunk& chunk) {
    std::vector<std::byte> frame(chunk.frame_bytes);
    const auto done = [&]() -> base::Result<Pages> {
      TRY_VOID(link.file->ReadAt(chunk.offset, std::span(frame)));
      if (Xxh3(std::span<const std::byte>(frame)) != chunk.xxh3)
        return base::Fail(base::Code::kCorrupt, "checksum mismatch");
      if (chunk.raw) return std::make_shared<const std::vector<std::byte>>(std::move(frame));
      Decompressor decompressor;
      const std::span<const std::byte> pages = TRY(decompressor.Expand(frame, chunk.pages));
      return std::make_shared<const std::vector<std::byte>>(pages.begin(), pages.end());
    }();
    if (done) return done;
    const std::string where =
        base::Format("page frame at offset %llu", static_cast<unsigned long long>(chunk.offset));
    return std::unexpected(done.error().In(where).In(link.path));
  }

  const size_t chunks_max_;
  std::mutex mutex_;
  Used used_;  // the last one used first
  std::unordered_map<const StoredChunk*, Used::iterator> by_chunk_;
};

// The pages of an image by their places, wherever in its chain their bytes are.
class ChainPages final : public PageBytes {
 public:
  ChainPages(const ParentPages& places, const Chain& chain)
      : places_(places), chain_(chain), cache_(std::clamp<size_t>(4 * chain.links().size(), 32, 256)) {}

  base::Result<void> Read(const PageRun& run, std::span<std::byte> out) const override {
    for (uint64_t i = 0; i < run.count(); ++i, out = out.subspan(kPageSize)) {
      const auto page = places_.At(run.owner(), run.objref(), run.first() + i);
      CHECK(page);
      if (page->kind() == PageRun::ZERO) {
        std::memset(out.data(), 0, kPageSize);
        continue;
      }
      const auto [link, chunk] = chain_.Find(page->stored());
      const Pages pages = TRY(cache_.Get(*link, *chunk));
      std::memcpy(out.data(), pages->data() + (page->stored() - chunk->first) * kPageSize, kPageSize);
    }
    return {};
  }

 private:
  const ParentPages& places_;
  const Chain& chain_;
  mutable ChunkCache cache_;
};

}  // namespace

base::Result<Summary> Merge(const Reader& top, const std::string& path, WriteOptions options) {
  std::unique_ptr<Chain> own;
  if (top.chain() == nullptr) own = TRY(Chain::Open(top, {}));
  const Chain& chain = top.chain() == nullptr ? *own : *top.chain();
  const auto places = TRY(ParentPages::Load(top, ParentPages::By::kPlace));
  const ChainPages pages(*places, chain);
  options.parent = nullptr;
  const auto writer = TRY(Writer::Create(path, pages, std::move(options)));
  TRY_VOID(top.ForEachMetadataSection(
      [&](const SectionHeader& header, std::string_view payload) -> base::Result<void> {
        if (header.type == static_cast<uint32_t>(SectionType::kParent)) return {};
        return writer->AddAsItIs(header, payload);
      }));
  TRY_VOID(top.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    for (PageRun run : chunk.run()) {
      // As the checkpoint added them: what is stored is decided anew.
      if (IsNumbered(run)) run.set_kind(PageRun::STORED);
      (void)TRY(writer->AddRun(std::move(run)));
    }
    return {};
  }));
  ckpt_pb::Totals totals = top.totals();
  totals.clear_in_parent();
  return writer->Commit(std::move(totals));
}

}  // namespace image
