#include "proto/writer.h"

#include <algorithm>
#include <cinttypes>
#include <utility>

#include "base/check.h"
#include "proto/metadata.h"

namespace image {

using base::Code;
using base::Fail;
using ckpt_pb::PageRun;

namespace {

constexpr size_t kIndexEntryBytesMax = size_t{1} << 19;  // A chunk of kChunkRunsMax of the longest runs.

std::string_view View(const std::vector<char>& bytes, size_t offset, size_t count) {
  return std::string_view(bytes.data(), bytes.size()).substr(offset, count);
}

}  // namespace

base::Result<std::unique_ptr<Writer>> Writer::Create(const std::string& path, const PageBytes& bytes,
                                                     WriteOptions options) {
  if (options.level < kLevelMin || options.level > kLevelMax) {
    return Fail(Code::kInvalid, "a compression level of %d: it must be from %d to %d", options.level,
                kLevelMin, kLevelMax);
  }
  auto file = TRY(OutputFile::Create(path));
  std::unique_ptr<Writer> writer(new Writer(bytes, std::move(options), std::move(file)));
  const std::string envelope = EncodeEnvelope();
  writer->digest_.Update(envelope);
  TRY_VOID(writer->file_->Append(envelope));
  return writer;
}

Writer::Writer(const PageBytes& bytes, WriteOptions options, std::unique_ptr<OutputFile> file)
    : bytes_(bytes), options_(std::move(options)), file_(std::move(file)) {
  const unsigned threads = ThreadsFor(options_.threads);
  for (unsigned i = 0; i < threads; ++i) workers_.push_back(std::make_unique<Worker>(options_.level));
  pipeline_ = std::make_unique<Pipeline<ChunkJob>>(
      threads, [this](unsigned worker, ChunkJob& job) { return Compress(worker, job); },
      [this](ChunkJob& job) { return Write(job); });
}

Writer::~Writer() = default;

base::Result<void> Writer::Remember(base::Result<void> result) {
  if (!result && !error_) error_ = result.error();
  return result;
}

base::Result<void> Writer::AppendSection(SectionType type, uint32_t flags, std::string_view payload) {
  const std::string frame = EncodeSection(type, flags, payload);
  digest_.Update(frame);
  return file_->Append(frame);
}

base::Result<void> Writer::AddMetadata(SectionType type, uint32_t flags, std::string_view payload) {
  if (error_) return std::unexpected(*error_);
  const auto number = static_cast<uint32_t>(type);
  CHECK_MSG(!has_runs_ && type <= SectionType::kGuest, SectionName(number));
  const bool many = type == SectionType::kVmas || type == SectionType::kGuest;
  CHECK_MSG(number > last_type_ || (number == last_type_ && many), SectionName(number));
  last_type_ = number;
  metadata_bytes_ += kSectionHeaderBytes + payload.size();
  if (metadata_bytes_ > kMetadataBytesMax) {
    return Remember(Fail(Code::kTooBig, "%s: metadata over the cap of %" PRIu64 " bytes",
                         SectionName(number).c_str(), kMetadataBytesMax));
  }
  if (payload.size() > SectionBytesMax(number)) {
    return Remember(Fail(Code::kTooBig, "%s: %zu bytes, over the cap of %" PRIu64,
                         SectionName(number).c_str(), payload.size(), SectionBytesMax(number)));
  }
  return Remember(AppendSection(type, flags, payload));
}

base::Result<void> Writer::AddSection(SectionType type, const google::protobuf::MessageLite& message) {
  return AddMetadata(type, 0, Serialize(message));
}

base::Result<void> Writer::AddGuest(const ckpt_pb::Guest& part) {
  return AddSection(SectionType::kGuest, part);
}

base::Result<void> Writer::AddWorkloadState(std::string_view bytes) {
  return AddMetadata(SectionType::kWorkloadState, kFlagIgnorable, bytes);
}

base::Result<void> Writer::AddVmas(const ckpt_pb::Vmas& vmas) {
  ckpt_pb::Vmas part;
  part.set_mm_objref(vmas.mm_objref());
  size_t bytes = 0;
  const auto make_room = [&](const google::protobuf::MessageLite& record) -> base::Result<void> {
    const size_t more = record.ByteSizeLong() + 4;  // Its tag and length.
    bytes += more;
    if (bytes <= kSmallSectionBytesMax - 64) return {};
    TRY_VOID(AddSection(SectionType::kVmas, part));
    part.clear_vma();
    part.clear_nonlinear();
    bytes = more;
    return {};
  };
  for (const ckpt_pb::Vma& vma : vmas.vma()) {
    TRY_VOID(make_room(vma));
    *part.add_vma() = vma;
  }
  for (const ckpt_pb::NonlinearRun& run : vmas.nonlinear()) {
    TRY_VOID(make_room(run));
    *part.add_nonlinear() = run;
  }
  if (part.vma().empty() && part.nonlinear().empty()) return {};
  return AddSection(SectionType::kVmas, part);
}

// The rules of RunChecker that can be checked without the metadata: what they catch is a mistake of the
// caller.
base::Result<void> Writer::CheckRun(const PageRun& run) {
  constexpr uint64_t kPagesMax = uint64_t{1} << 52;
  uint64_t& end = owner_ends_[(static_cast<uint64_t>(run.owner()) << 32) | run.objref()];
  const bool is_same = run.kind() == PageRun::SAME;
  if (run.count() == 0 || run.count() > kPagesMax || run.first() > kPagesMax || run.first() < end ||
      (is_same && (run.count() > stored_ || run.stored() > stored_ - run.count()))) {
    return Fail(Code::kInvalid, "object %" PRIu32 ": no run of %" PRIu64 " pages from %" PRIu64 " can follow",
                run.objref(), run.count(), run.first());
  }
  end = run.first() + run.count();
  return {};
}

base::Result<uint64_t> Writer::AddRun(PageRun run) {
  if (error_) return std::unexpected(*error_);
  CHECK_MSG(last_type_ >= static_cast<uint32_t>(SectionType::kProcesses), "a run before the metadata");
  has_runs_ = true;
  const uint64_t first = stored_;
  TRY_VOID(Remember(Add(run)));
  return first;
}

base::Result<void> Writer::Add(PageRun& run) {
  TRY_VOID(CheckRun(run));
  if (run.kind() != PageRun::STORED) {
    if (run.kind() == PageRun::ZERO) run.clear_stored();
    AddToChunk(run);
    return static_cast<uint64_t>(chunk_.run_size()) == kChunkRunsMax ? EmitChunk() : base::Result<void>{};
  }
  PageRun part = run;
  for (uint64_t left = run.count(); left > 0;) {
    const uint64_t count = std::min(left, kChunkPagesMax - chunk_pages_);
    part.set_count(count);
    part.set_stored(stored_);
    AddToChunk(part);
    chunk_pages_ += count;
    stored_ += count;
    left -= count;
    part.set_first(part.first() + count);
    if (chunk_pages_ == kChunkPagesMax || static_cast<uint64_t>(chunk_.run_size()) == kChunkRunsMax) {
      TRY_VOID(EmitChunk());
    }
  }
  return {};
}

void Writer::AddToChunk(const PageRun& run) {
  if (!chunk_.run().empty()) {
    PageRun& last = *chunk_.mutable_run()->rbegin();
    const bool follows = last.owner() == run.owner() && last.objref() == run.objref() &&
                         last.kind() == run.kind() && last.first() + last.count() == run.first();
    if (follows && (run.kind() == PageRun::ZERO || last.stored() + last.count() == run.stored())) {
      last.set_count(last.count() + run.count());
      return;
    }
  }
  *chunk_.add_run() = run;
}

base::Result<void> Writer::EmitChunk() {
  if (chunk_.run().empty()) return {};
  if (options_.stop != nullptr && options_.stop->load()) return Fail(Code::kInterrupted, "interrupted");
  ChunkJob& job = *TRY(pipeline_->Next());
  job.runs.Swap(&chunk_);
  chunk_.Clear();
  job.pages = std::exchange(chunk_pages_, 0);
  pipeline_->Submit();
  if (options_.progress) options_.progress(stored_);
  return {};
}

base::Result<void> Writer::Compress(unsigned worker, ChunkJob& job) {
  const std::string section = EncodeSection(SectionType::kChunkRuns, 0, Serialize(job.runs));
  job.section_bytes = section.size();
  job.frame_bytes = 0;
  job.xxh3 = 0;
  if (job.out.size() < section.size() + kFrameBytesMax) job.out.resize(section.size() + kFrameBytesMax);
  std::copy(section.begin(), section.end(), job.out.begin());
  if (job.pages == 0) return {};
  Worker& own = *workers_[worker];
  const std::span<std::byte> pages = std::span(own.pages).first(job.pages * base::kPageSize);
  size_t filled = 0;
  for (const PageRun& run : job.runs.run()) {
    if (run.kind() != PageRun::STORED) continue;
    const size_t run_bytes = run.count() * base::kPageSize;
    TRY_VOID(bytes_.Read(run, pages.subspan(filled, run_bytes)));
    filled += run_bytes;
  }
  CHECK(filled == pages.size());
  const auto out = std::as_writable_bytes(std::span(job.out)).subspan(section.size());
  job.frame_bytes = TRY(own.compressor.Compress(pages, out, options_.stop));
  job.xxh3 = Xxh3(out.first(job.frame_bytes));
  return {};
}

base::Result<void> Writer::Write(ChunkJob& job) {
  digest_.Update(View(job.out, 0, job.section_bytes));
  ckpt_pb::Index entry;
  ckpt_pb::Chunk& chunk = *entry.add_chunk();
  chunk.set_offset(file_->offset() + job.section_bytes);
  chunk.set_frame_bytes(job.frame_bytes);
  chunk.set_xxh3(job.xxh3);
  chunk.mutable_run()->Swap(job.runs.mutable_run());
  // Messages of one repeated field may be put behind each other: that is their concatenation.
  const std::string bytes = Serialize(entry);
  CHECK(bytes.size() <= kIndexEntryBytesMax);
  if (index_.empty() || index_.back().size() + bytes.size() > kSmallSectionBytesMax) {
    index_.emplace_back();
    if (index_.size() > 1) index_.back().reserve(kSmallSectionBytesMax);
  }
  index_.back() += bytes;
  return file_->Append(View(job.out, 0, job.section_bytes + job.frame_bytes));
}

base::Result<Summary> Writer::Commit(ckpt_pb::Totals totals) {
  if (error_) return std::unexpected(*error_);
  CHECK_MSG(last_type_ >= static_cast<uint32_t>(SectionType::kProcesses), "an image without metadata");
  auto result = Finish(totals);
  error_ = result ? base::Error{Code::kInvalid, "already committed"} : result.error();
  return result;
}

base::Result<Summary> Writer::Finish(ckpt_pb::Totals& totals) {
  TRY_VOID(EmitChunk());
  TRY_VOID(pipeline_->Drain());
  totals.set_stored(stored_);
  Footer footer{.totals_offset = file_->offset(), .stored_pages = stored_};
  TRY_VOID(AppendSection(SectionType::kTotals, 0, Serialize(totals)));
  footer.index_offset = file_->offset();
  footer.index_sections = index_.size();
  for (std::string& payload : index_) {
    TRY_VOID(AppendSection(SectionType::kIndex, 0, payload));
    std::string().swap(payload);
  }
  footer.index_bytes = file_->offset() - footer.index_offset;
  footer.digest = digest_.Get();
  TRY_VOID(file_->Append(EncodeFooter(footer)));
  if (options_.stop != nullptr && options_.stop->load()) return Fail(Code::kInterrupted, "interrupted");
  const uint64_t bytes = file_->offset();
  TRY_VOID(file_->Publish(options_.sync));
  return Summary{Hex(footer.digest), bytes, stored_};
}

}  // namespace image
