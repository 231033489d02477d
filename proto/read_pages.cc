#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "base/check.h"
#include "proto/chain.h"
#include "proto/chunk.h"
#include "proto/hash.h"
#include "proto/pipeline.h"
#include "proto/reader.h"

namespace image {

using base::Code;
using base::Fail;
using base::kPageSize;
using ckpt_pb::PageRun;

namespace {

using Pieces = std::vector<std::span<std::byte>>;

// Pages that get bytes which a chunk holds for others too: [number, number + pages of `to`).
struct Copy {
  uint64_t number = 0;
  std::span<std::byte> to;
};

// One stored chunk: all of it into `pieces`, or parts of it into where `copies` say.
struct FrameJob {
  const std::string* path = nullptr;
  const InputFile* file = nullptr;
  StoredChunk chunk;
  Pieces pieces;
  std::vector<Copy> copies;
};

// One thread's part of ReadPages.
class FrameWorker {
 public:
  base::Result<void> Run(const FrameJob& job) {
    const auto result = job.chunk.raw ? RunRaw(job) : RunFrame(job);
    if (result) return {};
    const std::string where = base::Format("page frame at offset %" PRIu64, job.chunk.offset);
    return std::unexpected(result.error().In(where).In(InputName(*job.path)));
  }

 private:
  base::Result<void> RunFrame(const FrameJob& job) {
    const std::span<const std::byte> frame = TRY(Read(job));
    if (!job.copies.empty()) return CopyOut(job, TRY(decompressor_.Expand(frame, job.chunk.pages)));
    return decompressor_.Decompress(frame, job.pieces);
  }

  base::Result<void> RunRaw(const FrameJob& job) {
    if (!job.copies.empty()) return CopyOut(job, TRY(Read(job)));
    uint64_t offset = job.chunk.offset;
    for (const std::span<std::byte> piece : job.pieces) {
      TRY_VOID(job.file->ReadAt(offset, piece));
      offset += piece.size();
    }
    return CheckHash(Xxh3(std::span<const std::span<std::byte>>(job.pieces)), job);
  }

  static base::Result<void> CheckHash(uint64_t xxh3, const FrameJob& job) {
    if (xxh3 == job.chunk.xxh3) return {};
    return Fail(Code::kCorrupt, "checksum mismatch");
  }

  base::Result<std::span<const std::byte>> Read(const FrameJob& job) {
    if (frame_.size() < job.chunk.frame_bytes) frame_.resize(job.chunk.frame_bytes);
    const std::span<std::byte> bytes = std::span(frame_).first(job.chunk.frame_bytes);
    TRY_VOID(job.file->ReadAt(job.chunk.offset, bytes));
    TRY_VOID(CheckHash(Xxh3(std::span<const std::byte>(bytes)), job));
    return bytes;
  }

  static base::Result<void> CopyOut(const FrameJob& job, std::span<const std::byte> pages) {
    for (const Copy& copy : job.copies) {
      const uint64_t from = (copy.number - job.chunk.first) * kPageSize;
      CHECK(from + copy.to.size() <= pages.size());
      std::memcpy(copy.to.data(), pages.data() + from, copy.to.size());
    }
    return {};
  }

  Decompressor decompressor_;
  std::vector<std::byte> frame_;
};

// Asks the sink where the runs of one chunk after the other go.
class Placer {
 public:
  Placer(PageSink& sink, uint64_t first_stored) : sink_(sink), next_stored_(first_stored) {}

  // What is stored in the chunk goes to `job`.
  base::Result<void> Place(const ckpt_pb::Chunk& chunk, FrameJob& job) {
    job.chunk = {.first = next_stored_,
                 .offset = chunk.offset(),
                 .xxh3 = chunk.xxh3(),
                 .frame_bytes = static_cast<uint32_t>(chunk.frame_bytes()),
                 .raw = chunk.raw()};
    job.pieces.clear();
    job.copies.clear();
    for (const PageRun& run : chunk.run()) TRY_VOID(PlaceRun(run, job.pieces));
    job.chunk.pages = static_cast<uint32_t>(next_stored_ - job.chunk.first);
    return {};
  }

  uint64_t pages() const { return pages_; }
  std::vector<Copy>& copies() { return copies_; }

 private:
  base::Result<void> PlaceRun(const PageRun& run, Pieces& stored) {
    if (run.kind() == PageRun::SAME) return sink_.Same(run);
    PageRun numbered = run;
    numbered.set_stored(pages_);
    if (run.kind() == PageRun::ZERO) {
      if (run.owner() == PageRun::DISK) return sink_.Zero(run);
      pages_ += run.count();
      return sink_.Zero(numbered);
    }
    pages_ += run.count();
    pieces_.clear();
    TRY_VOID(sink_.Place(numbered, pieces_));
    uint64_t bytes = 0;
    for (const std::span<std::byte> piece : pieces_) {
      if (run.kind() == PageRun::COPY) copies_.push_back({run.stored() + bytes / kPageSize, piece});
      bytes += piece.size();
    }
    CHECK(bytes == run.count() * kPageSize);
    if (run.kind() == PageRun::COPY) return {};
    next_stored_ += run.count();
    stored.insert(stored.end(), pieces_.begin(), pieces_.end());
    return {};
  }

  PageSink& sink_;
  uint64_t next_stored_;
  uint64_t pages_ = 0;
  Pieces pieces_;
  std::vector<Copy> copies_;
};

// Each within one chunk, and those of one chunk together.
std::vector<Copy> SortByChunk(const std::vector<Copy>& copies, const Chain& chain) {
  std::vector<Copy> sorted;
  sorted.reserve(copies.size());
  for (Copy copy : copies) {
    while (!copy.to.empty()) {
      const StoredChunk& chunk = *chain.Find(copy.number).chunk;
      const uint64_t bytes =
          std::min<uint64_t>(copy.to.size(), (chunk.first + chunk.pages - copy.number) * kPageSize);
      sorted.push_back({copy.number, copy.to.first(bytes)});
      copy.number += bytes / kPageSize;
      copy.to = copy.to.subspan(bytes);
    }
  }
  std::ranges::sort(sorted, {}, &Copy::number);
  return sorted;
}

// Takes the copies of the chunk that the first of `left` is in.
void TakeChunk(std::span<const Copy>& left, const Chain& chain, FrameJob& job) {
  const auto [link, chunk] = chain.Find(left.front().number);
  job.path = &link->path;
  job.file = link->file.get();
  job.chunk = *chunk;
  job.pieces.clear();
  const auto behind = std::ranges::lower_bound(left, chunk->first + chunk->pages, {}, &Copy::number);
  const auto count = static_cast<size_t>(behind - left.begin());
  job.copies.assign(left.begin(), behind);
  left = left.subspan(count);
}

}  // namespace

base::Result<void> Reader::ReadPages(PageSink& sink, const ReadOptions& options) const {
  CHECK_MSG(chain_ != nullptr || !metadata_.is_child(), "the pages of a child without its parents");
  const unsigned threads = ThreadsFor(options.threads);
  std::vector<FrameWorker> workers(threads);
  Pipeline<FrameJob> pipeline(
      threads, [&](unsigned worker, FrameJob& job) { return workers[worker].Run(job); },
      [](FrameJob&) { return base::Result<void>{}; });
  const auto interrupted = [&]() -> base::Result<void> {
    if (options.stop == nullptr || !options.stop->load()) return {};
    return Fail(Code::kInterrupted, "%s: interrupted", InputName(path_).c_str());
  };
  uint64_t pages_done = 0;
  Placer placer(sink, metadata_.parent.stored());
  const auto result = ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    TRY_VOID(interrupted());
    FrameJob& job = *TRY(pipeline.Next());
    job.path = &path_;
    job.file = file_.get();
    TRY_VOID(placer.Place(chunk, job));
    if (job.chunk.pages > 0) pipeline.Submit();
    pages_done += job.chunk.pages;
    if (options.progress) options.progress(pages_done);
    return {};
  });
  // An error of a page frame is the older one: it was under way before the loop went on.
  TRY_VOID(pipeline.Drain());
  TRY_VOID(result);

  std::vector<Copy>& copies = placer.copies();
  if (copies.empty()) return {};
  std::unique_ptr<Chain> own;
  if (chain_ == nullptr) own = TRY(Chain::Open(*this, {}));
  const Chain& chain = chain_ == nullptr ? *own : *chain_;
  // A chunk is read once for all of its copies.
  const std::vector<Copy> sorted = SortByChunk(std::exchange(copies, {}), chain);
  for (std::span<const Copy> left(sorted); !left.empty();) {
    TRY_VOID(interrupted());
    TakeChunk(left, chain, *TRY(pipeline.Next()));
    pipeline.Submit();
  }
  return pipeline.Drain();
}

}  // namespace image
