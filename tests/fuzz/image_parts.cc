#include "tests/fuzz/image_parts.h"

#include <algorithm>
#include <map>
#include <span>

#include "proto/chunk.h"
#include "proto/hash.h"
#include "proto/image.pb.h"
#include "proto/metadata.h"
#include "tests/proto/image_fixture.h"

namespace fuzz {
namespace {

using ckpt_pb::PageRun;
using image::SectionType;

// Any of zstd's sixteen magics of skippable frames.
bool IsSkippable(std::string_view bytes) {
  return bytes.size() >= image::kSkippableHeaderBytes &&
         (image::LoadU32(bytes.data()) & ~uint32_t{15}) == image::kSkippableMagic;
}

// The length of the frame at the start of `bytes`; 0: there is none.
uint64_t FrameLength(std::string_view bytes) {
  if (IsSkippable(bytes)) {
    const uint64_t length = image::kSkippableHeaderBytes + image::LoadU32(bytes.data() + 4);
    return length <= bytes.size() ? length : 0;
  }
  return image::FrameBytes(std::as_bytes(std::span(bytes))).value_or(0);
}

Part PartOf(std::string_view frame) {
  if (IsSkippable(frame) && frame.size() >= image::kSectionHeaderBytes) {
    const auto header = image::DecodeSectionHeader(frame, 0, frame.size());
    if (header && header->frame_bytes() == frame.size() && image::CheckSection(*header, frame, 0)) {
      return {Part::Kind::kSection, header->type, header->flags,
              std::string(frame.substr(image::kSectionHeaderBytes))};
    }
  }
  return {.kind = Part::Kind::kPages, .bytes = std::string(frame)};
}

// The pages of this section are numbered from `stored` on.
void Number(Part& part, uint64_t& stored, bool repair) {
  ckpt_pb::ChunkRuns runs;
  if (!runs.ParseFromString(part.bytes)) return;
  for (ckpt_pb::PageRun& run : *runs.mutable_run()) {
    if (run.kind() != ckpt_pb::PageRun::STORED) continue;
    run.set_stored(stored);
    stored += run.count();
  }
  if (repair) part.bytes = image::Serialize(runs);
}

// Behind the chunk runs at `at` stands a frame of so many pages, or none.
void RepairFrame(std::vector<Part>& parts, size_t at, uint64_t pages) {
  if (pages > image::kChunkPagesMax) return;
  const bool there = at + 1 < parts.size() && parts[at + 1].kind == Part::Kind::kPages;
  const auto place = parts.begin() + static_cast<ptrdiff_t>(at + 1);
  if (pages == 0) {
    if (there) parts.erase(place);
    return;
  }
  if (!there) {
    parts.insert(place, {.kind = Part::Kind::kPages, .bytes = PageFrame(pages)});
    return;
  }
  // Pages that are stored in another way than compressed are somebody else's affair.
  if (IsSkippable(place->bytes)) return;
  static image::Decompressor decompressor;
  if (!decompressor.Expand(std::as_bytes(std::span(place->bytes)), pages)) place->bytes = PageFrame(pages);
}

void RepairNumbers(std::vector<Part>& parts, const Repairs& repairs) {
  uint64_t stored = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].Is(SectionType::kChunkRuns)) {
      const uint64_t before = stored;
      Number(parts[i], stored, repairs.numbers);
      if (repairs.frames) RepairFrame(parts, i, stored - before);
    } else if (parts[i].Is(SectionType::kTotals) && repairs.numbers) {
      ckpt_pb::Totals totals;
      if (!totals.ParseFromString(parts[i].bytes)) continue;
      totals.set_stored(stored);
      parts[i].bytes = image::Serialize(totals);
    }
  }
}

// Puts the frames one behind the other, and notes what index and footer have to say of them.
class Joiner {
 public:
  explicit Joiner(const std::string& envelope) : out_(envelope) { digest_.Update(envelope); }

  void Append(const Part& part) {
    if (part.kind == Part::Kind::kPages) {
      const bool is_next =
          !chunks_.empty() && chunks_.back().frame_bytes() == 0 && chunks_.back().offset() == out_.size();
      if (is_next && IsRaw(part.bytes)) return AppendRaw(part.bytes);
      if (is_next) {
        chunks_.back().set_frame_bytes(part.bytes.size());
        chunks_.back().set_xxh3(image::Xxh3(part.bytes));
        static image::Decompressor decompressor;
        const auto pages = decompressor.Expand(std::as_bytes(std::span(part.bytes)), PagesOf(chunks_.back()));
        if (pages) NoteHashes(*pages);
      }
      out_ += part.bytes;
      return;
    }
    const uint64_t at = out_.size();
    const std::string frame = SectionFrame(part);
    digest_.Update(frame);
    out_ += frame;
    if (part.Is(SectionType::kChunkRuns)) {
      ckpt_pb::ChunkRuns runs;
      (void)runs.ParseFromString(part.bytes);
      ckpt_pb::Chunk& chunk = chunks_.emplace_back();
      chunk.set_offset(out_.size());
      *chunk.mutable_run() = std::move(*runs.mutable_run());
    } else if (part.Is(SectionType::kTotals)) {
      footer_.totals_offset = at;
      footer_.index_offset = out_.size();
      ckpt_pb::Totals totals;
      if (totals.ParseFromString(part.bytes)) footer_.stored_pages = totals.stored();
    } else if (part.Is(SectionType::kIndex)) {
      ++footer_.index_sections;
    }
  }

  // What the index section says, with what is known of its chunks put right. The last one has the rest.
  std::string Repaired(const std::string& payload, bool is_last) {
    ckpt_pb::Index index;
    if (!index.ParseFromString(payload)) return payload;
    int kept = 0;
    for (ckpt_pb::Chunk& chunk : *index.mutable_chunk()) {
      if (next_ == chunks_.size()) break;
      Correct(chunk);
      ++kept;
    }
    while (index.chunk_size() > kept) index.mutable_chunk()->RemoveLast();
    while (is_last && next_ < chunks_.size()) Correct(*index.add_chunk());
    return image::Serialize(index);
  }

  std::string Finish(image::Footer footer, bool repair) {
    if (repair) {
      footer.totals_offset = footer_.totals_offset;
      footer.index_offset = footer_.index_offset;
      footer.index_bytes = out_.size() - footer_.index_offset;
      footer.index_sections = footer_.index_sections;
      footer.stored_pages = footer_.stored_pages;
      footer.digest = digest_.Get();
    }
    return out_ + image::EncodeFooter(footer);
  }

 private:
  static bool IsRaw(std::string_view frame) {
    return frame.size() >= image::kSkippableHeaderBytes && image::LoadU32(frame.data()) == image::kRawMagic;
  }
  // At least one, and at most what a chunk can have.
  static uint64_t PagesOf(const ckpt_pb::Chunk& chunk) {
    uint64_t pages = 0;
    for (const PageRun& run : chunk.run()) {
      if (run.kind() == PageRun::STORED) pages += std::min(run.count(), image::kChunkPagesMax);
    }
    return std::clamp<uint64_t>(pages, 1, image::kChunkPagesMax);
  }
  void NoteHashes(std::span<const std::byte> pages) {
    for (; pages.size() >= fixture::kPageSize; pages = pages.subspan(fixture::kPageSize)) {
      const image::PageHash hash = image::HashPage(pages.first(fixture::kPageSize));
      chunks_.back().mutable_page_xxh3()->append(reinterpret_cast<const char*>(hash.data()), hash.size());
    }
  }
  // The pages of a raw frame, behind a head for the place where they are now.
  void AppendRaw(std::string_view frame) {
    const uint64_t bytes = std::min<uint64_t>(
        (frame.size() - image::kSkippableHeaderBytes) / fixture::kPageSize * fixture::kPageSize,
        image::kChunkBytesMax);
    const std::string_view pages = frame.substr(frame.size() - bytes);
    out_ += image::EncodeRawHead(out_.size(), bytes);
    ckpt_pb::Chunk& chunk = chunks_.back();
    chunk.set_raw(true);
    chunk.set_offset(out_.size());
    chunk.set_frame_bytes(bytes);
    chunk.set_xxh3(image::Xxh3(pages));
    NoteHashes(std::as_bytes(std::span(pages)));
    out_ += pages;
  }
  void Correct(ckpt_pb::Chunk& chunk) {
    const ckpt_pb::Chunk& found = chunks_[next_++];
    chunk.set_offset(found.offset());
    chunk.set_frame_bytes(found.frame_bytes());
    chunk.set_xxh3(found.xxh3());
    chunk.set_raw(found.raw());
    // An image of version 1 has none.
    if (!chunk.page_xxh3().empty()) chunk.set_page_xxh3(found.page_xxh3());
    // What a reader does not know may stand in one of them alone.
    if (!image::SameRuns(chunk.run(), found.run())) *chunk.mutable_run() = found.run();
  }

  std::string out_;
  image::Digest digest_;
  image::Footer footer_;
  std::vector<ckpt_pb::Chunk> chunks_;
  size_t next_ = 0;
};

}  // namespace

std::string SectionFrame(const Part& part) { return fixture::RawSection(part.type, part.flags, part.bytes); }

std::string WithEnvelopeChecksum(const std::string& frame) {
  constexpr size_t kLeast = image::kSkippableHeaderBytes + sizeof(uint64_t);
  if (frame.size() < kLeast) return frame;
  const std::string payload = frame.substr(image::kSkippableHeaderBytes, frame.size() - kLeast);
  std::string out;
  image::AppendU32(out, image::kSkippableMagic);
  image::AppendU32(out, static_cast<uint32_t>(payload.size() + sizeof(uint64_t)));
  out += payload;
  image::AppendU64(out, image::Xxh3(payload));
  return out;
}

const std::string& PageFrame(uint64_t pages) {
  static std::map<uint64_t, std::string> frames;
  std::string& frame = frames[pages];
  if (frame.empty()) frame = fixture::Frame(std::string(pages * fixture::kPageSize, 'p'));
  return frame;
}

std::optional<ImageParts> Split(std::string_view image) {
  const auto envelope = image::DecodeEnvelope(image.substr(0, image::kEnvelopeBytesMax));
  if (!envelope || image.size() < envelope->frame_bytes + image::kFooterBytes) return {};
  const auto footer = image::DecodeFooter(image.substr(image.size() - image::kFooterBytes), image.size(),
                                          envelope->frame_bytes);
  ImageParts split{.envelope = std::string(image.substr(0, envelope->frame_bytes)),
                   .parts = {},
                   .footer = footer.value_or(image::Footer{})};
  image.remove_prefix(envelope->frame_bytes);
  image.remove_suffix(image::kFooterBytes);
  while (!image.empty()) {
    const uint64_t length = FrameLength(image);
    if (length == 0) return {};
    split.parts.push_back(PartOf(image.substr(0, length)));
    image.remove_prefix(length);
  }
  return split;
}

std::string Join(ImageParts image, const Repairs& repairs) {
  RepairNumbers(image.parts, repairs);
  size_t last_index = 0;
  for (size_t i = 0; i < image.parts.size(); ++i) {
    if (image.parts[i].Is(SectionType::kIndex)) last_index = i;
  }
  Joiner joiner(image.envelope);
  for (size_t i = 0; i < image.parts.size(); ++i) {
    Part& part = image.parts[i];
    if (repairs.index && part.Is(SectionType::kIndex))
      part.bytes = joiner.Repaired(part.bytes, i == last_index);
    joiner.Append(part);
  }
  return joiner.Finish(image.footer, repairs.footer);
}

}  // namespace fuzz
