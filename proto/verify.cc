#include "proto/verify.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "proto/chunk.h"
#include "proto/file.h"
#include "proto/format.h"
#include "proto/hash.h"
#include "proto/metadata.h"
#include "proto/pipeline.h"
#include "proto/validate.h"

namespace image {
namespace {

using base::Code;
using base::Fail;
using base::kPageSize;

// A file read once from its start, in large pieces, with a look ahead.
class Stream {
 public:
  Stream(const InputFile& file, uint64_t limit)
      : file_(file), limit_(limit), buffer_(std::min(limit, kBufferBytes)) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return limit_ - position_; }

  // The next min(count, left()) bytes, which stay the next ones. Good until the next call.
  base::Result<std::span<const std::byte>> Peek(uint64_t count) {
    count = std::min(count, left());
    CHECK(count <= kBufferBytes);
    if (count > filled_ - used_) {
      std::memmove(buffer_.data(), buffer_.data() + used_, filled_ - used_);
      filled_ -= std::exchange(used_, 0);
      const uint64_t more = std::min<uint64_t>(buffer_.size() - filled_, left() - filled_);
      TRY_VOID(file_.ReadAt(position_ + filled_, std::span(buffer_).subspan(filled_, more)));
      filled_ += more;
    }
    return std::span<const std::byte>(buffer_).subspan(used_, count);
  }

  // Requires: `count` is at most what was peeked at.
  void Skip(uint64_t count) {
    CHECK(count <= filled_ - used_);
    used_ += count;
    position_ += count;
  }

  // The next `count` bytes, of any number up to left().
  base::Result<std::string> Take(uint64_t count) {
    CHECK(count <= left());
    std::string bytes;
    bytes.reserve(count);
    while (bytes.size() < count) {
      const auto piece = TRY(Peek(std::min<uint64_t>(count - bytes.size(), kBufferBytes)));
      bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      Skip(piece.size());
    }
    return bytes;
  }

 private:
  static constexpr uint64_t kBufferBytes = uint64_t{4} << 20;
  static_assert(kBufferBytes > kFrameBytesMax);

  const InputFile& file_;
  const uint64_t limit_;
  uint64_t position_ = 0;
  std::vector<std::byte> buffer_;
  uint64_t used_ = 0;
  uint64_t filled_ = 0;
};

// What the index has to say about a chunk.
struct Seen {
  uint64_t offset = 0;
  uint64_t frame_bytes = 0;
  uint64_t xxh3 = 0;
  uint64_t runs_xxh3 = 0;
  uint64_t pages_xxh3 = 0;  // of the hashes of its pages
  bool raw = false;

  bool operator==(const Seen&) const = default;
};

uint64_t HashRuns(const google::protobuf::RepeatedPtrField<ckpt_pb::PageRun>& runs) {
  ckpt_pb::ChunkRuns message;
  *message.mutable_run() = runs;
  message.DiscardUnknownFields();
  return Xxh3(Serialize(message));
}

struct CheckJob {
  Seen seen;
  uint64_t pages = 0;
  std::vector<std::byte> frame;
  std::string hashes;
};

class Verifier {
 public:
  Verifier(const InputFile& file, const VerifyOptions& options, const Envelope& envelope, uint64_t limit)
      : options_(options),
        envelope_(envelope),
        stream_(file, limit),
        decompressors_(ThreadsFor(options.threads)),
        pipeline_(
            ThreadsFor(options.threads),
            [this](unsigned worker, CheckJob& job) { return CheckFrame(worker, job); },
            [this](CheckJob& job) {
              chunks_.push_back(job.seen);
              return base::Result<void>{};
            }) {}

  // Everything up to `limit`.
  base::Result<void> Walk() {
    const auto result = WalkSections();
    // The frames under way stand before the place where the walk stopped.
    TRY_VOID(pipeline_.Drain());
    return result;
  }

  base::Result<VerifyReport> CheckFooter(const Footer& footer) const {
    if (footer.totals_offset != totals_offset_ || footer.index_offset != index_offset_ ||
        footer.index_sections != index_sections_ || footer.stored_pages != stored_pages_) {
      return Fail(Code::kCorrupt, "footer: its places and counts are not those of the image");
    }
    if (digest_.Get() != footer.digest)
      return Fail(Code::kCorrupt, "the digest in the footer is not that of the image");
    return VerifyReport{Hex(footer.digest), 0, sections_, chunks_.size(), stored_pages_};
  }

  uint64_t good_bytes() const { return good_bytes_; }

 private:
  struct Section {
    SectionHeader header;
    std::string frame;
    uint64_t offset = 0;
    bool Is(SectionType type) const { return header.type == static_cast<uint32_t>(type); }
    std::string_view payload() const { return std::string_view(frame).substr(kSectionHeaderBytes); }
    std::string Where() const {
      return base::Format("section %s at offset %" PRIu64, SectionName(header.type).c_str(), offset);
    }
  };

  base::Result<Section> Next() {
    if (options_.stop != nullptr && options_.stop->load()) return Fail(Code::kInterrupted, "interrupted");
    const uint64_t offset = good_bytes_ = stream_.position();
    if (options_.progress) options_.progress(offset);
    const auto head = TRY(stream_.Peek(kSectionHeaderBytes));
    if (head.size() < kSectionHeaderBytes) {
      return Fail(Code::kCorrupt, "no section where one must start, at offset %" PRIu64, offset);
    }
    const std::string_view bytes(reinterpret_cast<const char*>(head.data()), head.size());
    Section section;
    section.offset = offset;
    section.header = TRY(DecodeSectionHeader(bytes, offset, offset + stream_.left()));
    section.frame = TRY(stream_.Take(section.header.frame_bytes()));
    TRY_VOID(CheckSection(section.header, section.frame, offset));
    digest_.Update(section.frame);
    ++sections_;
    return section;
  }

  base::Result<void> WalkSections() {
    const std::string envelope = TRY(stream_.Take(envelope_.frame_bytes));
    digest_.Update(envelope);
    MetadataParser parser;
    Section section = TRY(Next());
    for (; !section.Is(SectionType::kChunkRuns) && !section.Is(SectionType::kTotals); section = TRY(Next())) {
      TRY_VOID(parser.Add(section.header, section.frame, section.offset));
    }
    metadata_ = TRY(parser.Finish());
    TRY_VOID(Validate(metadata_));
    RunChecker checker(metadata_);
    for (; section.Is(SectionType::kChunkRuns); section = TRY(Next()))
      TRY_VOID(SubmitChunk(section, checker));
    if (!section.Is(SectionType::kTotals))
      return Fail(Code::kCorrupt, "%s: out of order", section.Where().c_str());
    ckpt_pb::Totals totals;
    TRY_VOID(ParsePayload(section.payload(), kObjectsMax, section.Where(), totals));
    stored_pages_ = checker.stored_pages();
    if (totals.stored() != stored_pages_) {
      return Fail(Code::kCorrupt, "%s: %" PRIu64 " stored pages, and %" PRIu64 " before it",
                  section.Where().c_str(), totals.stored(), stored_pages_);
    }
    totals_offset_ = section.offset;
    index_offset_ = stream_.position();
    TRY_VOID(pipeline_.Drain());
    return WalkIndex();
  }

  base::Result<void> SubmitChunk(const Section& section, RunChecker& checker) {
    ckpt_pb::ChunkRuns runs;
    TRY_VOID(ParsePayload(section.payload(), kChunkRunsMax, section.Where(), runs));
    const auto pages = checker.CheckChunk(runs.run());
    if (!pages) return std::unexpected(pages.error().In(section.Where()));
    CheckJob& job = *TRY(pipeline_.Next());
    job.pages = *pages;
    job.hashes.clear();
    job.seen = {.offset = stream_.position(), .runs_xxh3 = HashRuns(runs.run())};
    if (job.pages > 0) {
      auto ahead = TRY(stream_.Peek(kFrameBytesMax));
      if (ahead.size() >= 4 && LoadU32(reinterpret_cast<const char*>(ahead.data())) == kRawMagic)
        ahead = TRY(SkipRawHead(job));
      if (job.seen.raw) return TakeFrame(job, ahead, job.pages * kPageSize);
      const auto frame_bytes = FrameBytes(ahead);
      if (!frame_bytes) {
        return Fail(Code::kCorrupt, "page frame at offset %" PRIu64 ": %s", job.seen.offset,
                    frame_bytes.error().what.c_str());
      }
      return TakeFrame(job, ahead, *frame_bytes);
    }
    pipeline_.Submit();
    return {};
  }

  // The head of a raw frame in front of the pages of `job`. What stands behind it.
  base::Result<std::span<const std::byte>> SkipRawHead(CheckJob& job) {
    const uint64_t offset = stream_.position();
    const uint64_t bytes = RawPagesAt(offset) - offset;
    const auto head = TRY(stream_.Peek(bytes));
    TRY_VOID(CheckRawHead({reinterpret_cast<const char*>(head.data()), head.size()}, offset,
                          job.pages * kPageSize));
    stream_.Skip(bytes);
    job.seen.offset = stream_.position();
    job.seen.raw = true;
    const auto pages = TRY(stream_.Peek(job.pages * kPageSize));
    if (pages.size() == job.pages * kPageSize) return pages;
    return Fail(Code::kCorrupt, "raw frame at offset %" PRIu64 ": its pages do not fit", offset);
  }

  base::Result<void> TakeFrame(CheckJob& job, std::span<const std::byte> ahead, uint64_t frame_bytes) {
    job.seen.frame_bytes = frame_bytes;
    job.frame.assign(ahead.begin(), ahead.begin() + static_cast<ptrdiff_t>(frame_bytes));
    stream_.Skip(frame_bytes);
    pipeline_.Submit();
    return {};
  }

  base::Result<void> CheckFrame(unsigned worker, CheckJob& job) {
    if (job.pages == 0) return {};
    job.seen.xxh3 = Xxh3(std::span<const std::byte>(job.frame));
    std::span<const std::byte> pages = job.frame;
    if (!job.seen.raw) {
      const auto expanded = decompressors_[worker].Expand(job.frame, job.pages);
      if (!expanded) {
        const std::string where = base::Format("page frame at offset %" PRIu64, job.seen.offset);
        return std::unexpected(expanded.error().In(where));
      }
      pages = *expanded;
    }
    if (envelope_.version == 1) return {};  // which has no hashes of pages
    for (; !pages.empty(); pages = pages.subspan(kPageSize)) {
      const PageHash hash = HashPage(pages.first(kPageSize));
      job.hashes.append(reinterpret_cast<const char*>(hash.data()), hash.size());
    }
    job.seen.pages_xxh3 = Xxh3(job.hashes);
    return {};
  }

  base::Result<void> WalkIndex() {
    size_t next = 0;
    while (stream_.left() > 0) {
      const Section section = TRY(Next());
      if (!section.Is(SectionType::kIndex))
        return Fail(Code::kCorrupt, "%s: out of order", section.Where().c_str());
      ++index_sections_;
      ckpt_pb::Index index;
      TRY_VOID(ParsePayload(section.payload(), kSmallSectionBytesMax, section.Where(), index));
      for (const ckpt_pb::Chunk& chunk : index.chunk()) {
        const Seen said{
            .offset = chunk.offset(),
            .frame_bytes = chunk.frame_bytes(),
            .xxh3 = chunk.xxh3(),
            .runs_xxh3 = HashRuns(chunk.run()),
            // Of version 1 it is a field that nobody knows.
            .pages_xxh3 = envelope_.version == 1 || chunk.page_xxh3().empty() ? 0 : Xxh3(chunk.page_xxh3()),
            .raw = chunk.raw()};
        if (next == chunks_.size() || said != chunks_[next]) {
          // The index is right by its checksum, so a page frame that differs from it is the damaged one.
          return Fail(Code::kCorrupt, "%s: chunk %zu, at offset %" PRIu64 ", is not what it says",
                      section.Where().c_str(), next,
                      next == chunks_.size() ? chunk.offset() : chunks_[next].offset);
        }
        ++next;
      }
    }
    good_bytes_ = stream_.position();
    if (next == chunks_.size()) return {};
    return Fail(Code::kCorrupt, "the index has %zu chunks, the image %zu", next, chunks_.size());
  }

  const VerifyOptions& options_;
  const Envelope envelope_;
  Stream stream_;
  Digest digest_;
  Metadata metadata_;
  std::vector<Seen> chunks_;
  uint64_t good_bytes_ = 0;
  uint64_t sections_ = 0;
  uint64_t totals_offset_ = 0;
  uint64_t index_offset_ = 0;
  uint64_t index_sections_ = 0;
  uint64_t stored_pages_ = 0;
  std::vector<Decompressor> decompressors_;
  Pipeline<CheckJob> pipeline_;
};

// A rule that is broken inside of an image is damage to the one who asks whether the image is good.
base::Error AsDamage(base::Error error) {
  if (error.code == Code::kInvalid || error.code == Code::kWrongType || error.code == Code::kTooBig) {
    error.code = Code::kCorrupt;
  }
  return error;
}

base::Result<VerifyReport> VerifyFile(const InputFile& file, const VerifyOptions& options) {
  const auto [head, tail] = TRY(file.ReadEnds());
  const auto envelope = DecodeEnvelope(head);
  if (!envelope) return std::unexpected(AsDamage(envelope.error()));
  const auto footer = DecodeFooter(tail, file.size(), envelope->frame_bytes);
  if (!footer && footer.error().code != Code::kIncomplete) return std::unexpected(AsDamage(footer.error()));

  const auto verifier =
      std::make_unique<Verifier>(file, options, *envelope, file.size() - (footer ? kFooterBytes : 0));
  const auto walked = verifier->Walk();
  if (!walked && (walked.error().code == Code::kInterrupted || walked.error().code == Code::kIo)) {
    return std::unexpected(walked.error());
  }
  if (!footer) {
    return Fail(Code::kIncomplete, "%s; whole sections and frames up to offset %" PRIu64,
                footer.error().what.c_str(), verifier->good_bytes());
  }
  if (!walked) return std::unexpected(AsDamage(walked.error()));
  VerifyReport report = TRY(verifier->CheckFooter(*footer));
  report.bytes = file.size();
  if (options.progress) options.progress(report.bytes);
  return report;
}

}  // namespace

base::Result<VerifyReport> Verify(const std::string& path, const VerifyOptions& options) {
  const auto file = InputFile::Open(path, options.stop);
  if (!file) return std::unexpected(file.error().In(InputName(path)));
  auto report = VerifyFile(**file, options);
  if (!report) return std::unexpected(report.error().In(InputName(path)));
  return report;
}

}  // namespace image
