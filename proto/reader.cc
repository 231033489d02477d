#include "proto/reader.h"

#include <algorithm>
#include <cinttypes>
#include <utility>

#include "base/check.h"
#include "proto/chain.h"
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

Reader::Reader(std::string path, std::unique_ptr<InputFile> file)
    : path_(std::move(path)), file_(std::move(file)) {}

Reader::~Reader() = default;

base::Result<std::unique_ptr<Reader>> Reader::Open(const std::string& path, const OpenOptions& options) {
  auto file = InputFile::Open(path, options.stop);
  if (!file) return In(InputName(path), file.error());
  std::unique_ptr<Reader> reader(new Reader(path, *std::move(file)));
  const auto loaded = reader->Load();
  if (!loaded) return In(InputName(path), loaded.error());
  if (options.parents == Parents::kOpen && reader->metadata_.is_child())
    reader->chain_ = TRY(Chain::Open(*reader, options.also));
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

base::Result<void> Reader::ForEachMetadataSection(
    const std::function<base::Result<void>(const SectionHeader&, std::string_view payload)>& visit) const {
  for (uint64_t offset = envelope_.frame_bytes; offset < footer_.totals_offset;) {
    const auto section = ReadSection(*file_, offset, footer_.totals_offset);
    if (!section) return In(InputName(path_), section.error());
    if (Is(section->header, SectionType::kChunkRuns)) break;
    TRY_VOID(visit(section->header, section->payload()));
    offset += section->frame.size();
  }
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
  const uint64_t pages_at = chunk.raw() ? RawPagesAt(position) : position;
  if (!SameRuns(runs.run(), chunk.run()) || chunk.offset() != pages_at) {
    return Fail(Code::kInvalid, "%s: the index says something else", where.c_str());
  }
  if (chunk.raw()) {
    const uint64_t head_bytes = RawPagesAt(position) - position;
    const std::string head =
        TRY(file_->ReadAt(position, std::min(head_bytes, footer_.totals_offset - position)));
    TRY_VOID(CheckRawHead(head, position, chunk.frame_bytes()));
    position += head_bytes;
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

namespace {

bool FrameFits(const ckpt_pb::Chunk& chunk, uint64_t pages, uint32_t version) {
  // In version 1 that field is one that nobody knows.
  const bool hashed = version == 1 || chunk.page_xxh3().size() == pages * sizeof(PageHash);
  if (pages == 0) return chunk.frame_bytes() == 0 && chunk.xxh3() == 0 && !chunk.raw() && hashed;
  if (chunk.raw() && chunk.frame_bytes() != pages * base::kPageSize) return false;
  return chunk.frame_bytes() > 0 && chunk.frame_bytes() <= kFrameBytesMax && hashed;
}

}  // namespace

base::Result<void> Reader::VisitIndexSection(std::string_view frame, uint64_t offset, RunChecker& checker,
                                             const Visit& visit) const {
  const std::string where = base::Format("section index at offset %" PRIu64, offset);
  ckpt_pb::Index index;
  TRY_VOID(ParsePayload(frame.substr(kSectionHeaderBytes), kSmallSectionBytesMax, where, index));
  for (const ckpt_pb::Chunk& chunk : index.chunk()) {
    const auto pages = checker.CheckChunk(chunk.run());
    if (!pages) return In(where, pages.error());
    const bool frame_fits = FrameFits(chunk, *pages, envelope_.version);
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
  if (!result) return In(InputName(path_), result.error());
  return {};
}

const ckpt_pb::Vmas& Reader::vmas(uint32_t mm_objref) const {
  const auto found = metadata_.vmas.find(mm_objref);
  return found == metadata_.vmas.end() ? ckpt_pb::Vmas::default_instance() : found->second;
}

std::string Reader::digest() const { return Hex(footer_.digest); }

}  // namespace image
