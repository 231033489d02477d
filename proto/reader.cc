#include "proto/reader.h"

#include <algorithm>
#include <cinttypes>
#include <utility>

#include "base/check.h"
#include "proto/chunk.h"
#include "proto/hash.h"
#include "proto/pipeline.h"
#include "proto/validate.h"

namespace image {

using base::Code;
using base::Fail;
using ckpt_pb::PageRun;

namespace {

bool Is(const SectionHeader& header, SectionType type) { return header.type == static_cast<uint32_t>(type); }

std::unexpected<base::Error> In(const std::string& where, const base::Error& error) {
  return std::unexpected(error.In(where));
}

std::unexpected<base::Error> NotThere(SectionType type, uint64_t offset) {
  return Fail(Code::kInvalid, "no section %s at offset %" PRIu64,
              SectionName(static_cast<uint32_t>(type)).c_str(), offset);
}

struct Section {
  SectionHeader header;
  std::string frame;
  std::string_view payload() const { return std::string_view(frame).substr(kSectionHeaderBytes); }
};

// The section at `offset`, which ends at or below `limit`: the whole frame, checked.
base::Result<Section> ReadSection(const InputFile& file, uint64_t offset, uint64_t limit) {
  if (offset > limit || limit - offset < kSectionHeaderBytes) {
    return Fail(Code::kCorrupt, "no section where one must start, at offset %" PRIu64, offset);
  }
  Section section;
  section.frame = TRY(file.ReadAt(offset, kSectionHeaderBytes));
  section.header = TRY(DecodeSectionHeader(section.frame, offset, limit));
  section.frame.resize(section.header.frame_bytes());
  TRY_VOID(file.ReadAt(offset + kSectionHeaderBytes,
                       std::as_writable_bytes(std::span(section.frame)).subspan(kSectionHeaderBytes)));
  TRY_VOID(CheckSection(section.header, section.frame, offset));
  return section;
}

}  // namespace

base::Result<std::unique_ptr<Reader>> Reader::Open(const std::string& path) {
  auto file = InputFile::Open(path);
  if (!file) return In(path, file.error());
  std::unique_ptr<Reader> reader(new Reader(path, *std::move(file)));
  const auto loaded = reader->Load();
  if (!loaded) return In(path, loaded.error());
  return reader;
}

base::Result<void> Reader::Load() {
  const auto [head, tail] = TRY(file_->ReadEnds());
  envelope_ = TRY(DecodeEnvelope(head));
  footer_ = TRY(DecodeFooter(tail, file_->size(), envelope_.frame_bytes));

  Digest digest;
  digest.Update(std::string_view(head).substr(0, envelope_.frame_bytes));
  uint64_t position = TRY(LoadMetadata(digest));
  base::Result<void> visited;
  TRY_VOID(VisitChunks([&](const ckpt_pb::Chunk& chunk) { return CheckChunkRuns(chunk, position, digest); },
                       visited));
  TRY_VOID(visited);
  if (position != footer_.totals_offset) {
    return Fail(Code::kInvalid, "the index leaves the bytes from offset %" PRIu64 " out", position);
  }
  TRY_VOID(LoadTotals(digest));
  for (uint64_t offset = footer_.index_offset; offset < file_->size() - kFooterBytes;) {
    const Section section = TRY(ReadSection(*file_, offset, file_->size() - kFooterBytes));
    digest.Update(section.frame);
    offset += section.frame.size();
  }
  if (digest.Get() != footer_.digest)
    return Fail(Code::kCorrupt, "the digest in the footer is not that of the image");
  return {};
}

base::Result<uint64_t> Reader::LoadMetadata(Digest& digest) {
  MetadataParser parser;
  uint64_t offset = envelope_.frame_bytes;
  while (offset < footer_.totals_offset) {
    const Section section = TRY(ReadSection(*file_, offset, footer_.totals_offset));
    if (Is(section.header, SectionType::kChunkRuns)) break;
    digest.Update(section.frame);
    TRY_VOID(parser.Add(section.header, section.frame, offset));
    offset += section.frame.size();
  }
  metadata_ = TRY(parser.Finish());
  TRY_VOID(Validate(metadata_));
  return offset;
}

// The section before a chunk's frame stands where the last chunk ended, and says what the index says.
base::Result<void> Reader::CheckChunkRuns(const ckpt_pb::Chunk& chunk, uint64_t& position,
                                          Digest& digest) const {
  const Section section = TRY(ReadSection(*file_, position, footer_.totals_offset));
  const std::string where = base::Format("section chunk runs at offset %" PRIu64, position);
  if (!Is(section.header, SectionType::kChunkRuns)) return NotThere(SectionType::kChunkRuns, position);
  digest.Update(section.frame);
  ckpt_pb::ChunkRuns runs;
  TRY_VOID(ParsePayload(section.payload(), kChunkRunsMax, where, runs));
  position += section.frame.size();
  if (!SameRuns(runs.run(), chunk.run()) || chunk.offset() != position) {
    return Fail(Code::kInvalid, "%s: the index says something else", where.c_str());
  }
  if (chunk.frame_bytes() > footer_.totals_offset - position) {
    return Fail(Code::kInvalid, "%s: its frame of %" PRIu64 " bytes does not fit", where.c_str(),
                chunk.frame_bytes());
  }
  position += chunk.frame_bytes();
  return {};
}

base::Result<void> Reader::LoadTotals(Digest& digest) {
  const Section section = TRY(ReadSection(*file_, footer_.totals_offset, footer_.index_offset));
  if (!Is(section.header, SectionType::kTotals) ||
      section.frame.size() != footer_.index_offset - footer_.totals_offset) {
    return NotThere(SectionType::kTotals, footer_.totals_offset);
  }
  digest.Update(section.frame);
  TRY_VOID(ParsePayload(section.payload(), kObjectsMax, "section totals", totals_));
  if (totals_.stored() != footer_.stored_pages) {
    return Fail(Code::kInvalid, "totals: %" PRIu64 " stored pages, and %" PRIu64 " in the footer",
                totals_.stored(), footer_.stored_pages);
  }
  return {};
}

// An error of `visit` goes to `visited`, ours are returned.
base::Result<void> Reader::VisitChunks(const Visit& visit, base::Result<void>& visited) const {
  RunChecker checker(metadata_);
  const uint64_t end = file_->size() - kFooterBytes;
  uint64_t offset = footer_.index_offset;
  for (uint64_t number = 0; number < footer_.index_sections; ++number) {
    const Section section = TRY(ReadSection(*file_, offset, end));
    if (!Is(section.header, SectionType::kIndex)) return NotThere(SectionType::kIndex, offset);
    const Visit guarded = [&](const ckpt_pb::Chunk& chunk) {
      visited = visit(chunk);
      return visited;
    };
    auto result = VisitIndexSection(section.frame, offset, checker, guarded);
    if (!visited) return {};
    TRY_VOID(result);
    offset += section.frame.size();
  }
  if (offset != end)
    return Fail(Code::kInvalid, "the footer leaves index sections from offset %" PRIu64 " out", offset);
  if (checker.stored_pages() != footer_.stored_pages) {
    return Fail(Code::kInvalid, "%" PRIu64 " stored pages in the index, and %" PRIu64 " in the footer",
                checker.stored_pages(), footer_.stored_pages);
  }
  return {};
}

base::Result<void> Reader::VisitIndexSection(std::string_view frame, uint64_t offset, RunChecker& checker,
                                             const Visit& visit) const {
  const std::string where = base::Format("section index at offset %" PRIu64, offset);
  ckpt_pb::Index index;
  TRY_VOID(ParsePayload(frame.substr(kSectionHeaderBytes), kSmallSectionBytesMax, where, index));
  for (const ckpt_pb::Chunk& chunk : index.chunk()) {
    const auto pages = checker.CheckChunk(chunk.run());
    if (!pages) return In(where, pages.error());
    const bool frame_fits =
        chunk.frame_bytes() <= kFrameBytesMax && (chunk.frame_bytes() == 0) == (*pages == 0);
    if (!frame_fits || chunk.offset() > file_->size()) {
      return Fail(Code::kInvalid, "%s: %" PRIu64 " pages in a frame of %" PRIu64 " bytes at offset %" PRIu64,
                  where.c_str(), *pages, chunk.frame_bytes(), chunk.offset());
    }
    TRY_VOID(visit(chunk));
  }
  return {};
}

base::Result<void> Reader::ForEachChunk(const Visit& visit) const {
  base::Result<void> visited;
  const auto result = VisitChunks(visit, visited);
  if (!visited) return visited;
  if (!result) return In(path_, result.error());
  return {};
}

const ckpt_pb::Vmas& Reader::vmas(uint32_t mm_objref) const {
  const auto found = metadata_.vmas.find(mm_objref);
  return found == metadata_.vmas.end() ? ckpt_pb::Vmas::default_instance() : found->second;
}

std::string Reader::digest() const { return Hex(footer_.digest); }

namespace {

struct FrameJob {
  uint64_t offset = 0;
  uint64_t frame_bytes = 0;
  uint64_t xxh3 = 0;
  std::vector<std::span<std::byte>> pieces;
};

// One thread's part of ReadPages.
struct FrameWorker {
  Decompressor decompressor;
  std::vector<std::byte> frame;

  base::Result<void> Run(const InputFile& file, const FrameJob& job) {
    if (frame.size() < job.frame_bytes) frame.resize(job.frame_bytes);
    const std::span<std::byte> bytes = std::span(frame).first(job.frame_bytes);
    TRY_VOID(file.ReadAt(job.offset, bytes));
    const std::string where = base::Format("page frame at offset %" PRIu64, job.offset);
    if (Xxh3(std::span<const std::byte>(bytes)) != job.xxh3)
      return Fail(Code::kCorrupt, "%s: checksum mismatch", where.c_str());
    const auto result = decompressor.Decompress(bytes, job.pieces);
    if (!result) return In(where, result.error());
    return {};
  }
};

// Asks the sink where the runs of a chunk go.
base::Result<uint64_t> PlaceRuns(const ckpt_pb::Chunk& chunk, PageSink& sink,
                                 std::vector<std::span<std::byte>>& pieces) {
  uint64_t pages = 0;
  std::vector<std::span<std::byte>> run_pieces;
  for (const PageRun& run : chunk.run()) {
    if (run.kind() == PageRun::SAME) {
      TRY_VOID(sink.Same(run));
    } else if (run.kind() == PageRun::ZERO) {
      TRY_VOID(sink.Zero(run));
    } else {
      run_pieces.clear();
      TRY_VOID(sink.Place(run, run_pieces));
      uint64_t bytes = 0;
      for (const std::span<std::byte> piece : run_pieces) bytes += piece.size();
      CHECK(bytes == run.count() * base::kPageSize);
      pieces.insert(pieces.end(), run_pieces.begin(), run_pieces.end());
      pages += run.count();
    }
  }
  return pages;
}

}  // namespace

base::Result<void> Reader::ReadPages(PageSink& sink, const ReadOptions& options) const {
  const unsigned threads = ThreadsFor(options.threads);
  std::vector<FrameWorker> workers(threads);
  Pipeline<FrameJob> pipeline(
      threads,
      [&](unsigned worker, FrameJob& job) -> base::Result<void> {
        const auto result = workers[worker].Run(*file_, job);
        if (!result) return In(path_, result.error());
        return {};
      },
      [](FrameJob&) { return base::Result<void>{}; });
  uint64_t pages_done = 0;
  const auto result = ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    if (options.stop != nullptr && options.stop->load())
      return Fail(Code::kInterrupted, "%s: interrupted", path_.c_str());
    FrameJob& job = *TRY(pipeline.Next());
    job.offset = chunk.offset();
    job.frame_bytes = chunk.frame_bytes();
    job.xxh3 = chunk.xxh3();
    job.pieces.clear();
    const uint64_t pages = TRY(PlaceRuns(chunk, sink, job.pieces));
    if (pages > 0) pipeline.Submit();
    pages_done += pages;
    if (options.progress) options.progress(pages_done);
    return {};
  });
  // An error of a page frame is the older one: it was under way before the loop went on.
  TRY_VOID(pipeline.Drain());
  return result;
}

}  // namespace image
