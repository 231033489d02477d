#include "proto/writer.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <utility>

#include "base/check.h"
#include "proto/metadata.h"

namespace image {

using base::Code;
using base::Fail;
using base::kPageSize;
using ckpt_pb::PageRun;

namespace {

constexpr size_t kIndexEntryBytesMax = size_t{1} << 19;  // A chunk of kChunkRunsMax of the longest runs.

std::string_view View(const std::vector<char>& bytes, size_t offset, size_t count) {
  return std::string_view(bytes.data(), bytes.size()).substr(offset, count);
}

std::string_view View(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

base::Result<std::unique_ptr<Writer>> Writer::Create(const std::string& path, const PageBytes& bytes,
                                                     WriteOptions options) {
  if (options.level < kLevelMin || options.level > kLevelMax) {
    return Fail(Code::kInvalid, "a compression level of %d: it must be from %d to %d", options.level,
                kLevelMin, kLevelMax);
  }
  auto file =
      TRY(path == kStandardStream ? OutputFile::StandardOutput(options.stop) : OutputFile::Create(path));
  std::unique_ptr<Writer> writer(new Writer(bytes, std::move(options), std::move(file)));
  const std::string envelope = EncodeEnvelope();
  writer->digest_.Update(envelope);
  TRY_VOID(writer->file_->Append(envelope));
  return writer;
}

Writer::Writer(const PageBytes& bytes, WriteOptions options, std::unique_ptr<OutputFile> file)
    : bytes_(bytes),
      options_(std::move(options)),
      file_(std::move(file)),
      contents_(bytes, options_.parent, options_.parent == nullptr ? 0 : options_.parent->stored(),
                options_.every_page) {
  const unsigned threads = ThreadsFor(options_.threads);
  for (unsigned i = 0; i < threads; ++i) compressors_.push_back(std::make_unique<Compressor>(options_.level));
  pipeline_ = std::make_unique<Pipeline<ChunkJob>>(
      threads, [this](unsigned worker, ChunkJob& job) { return Compress(worker, job); },
      [this](ChunkJob& job) { return Write(job); });
  scan_ = std::make_unique<Pipeline<Window>>(
      threads, [this](unsigned, Window& window) { return Scan(window); },
      [this](Window& window) { return Decide(window); });
}

Writer::~Writer() = default;

base::Result<void> Writer::Remember(base::Result<void> result) {
  if (!result && !error_) error_ = result.error();
  return result;
}

base::Result<void> Writer::AppendSection(uint32_t type, uint32_t flags, std::string_view payload) {
  const std::string frame = EncodeSection(static_cast<SectionType>(type), flags, payload);
  digest_.Update(frame);
  return file_->Append(frame);
}

base::Result<void> Writer::AddMetadata(SectionType type, uint32_t flags, std::string_view payload) {
  if (error_) return std::unexpected(*error_);
  const auto number = static_cast<uint32_t>(type);
  CHECK_MSG(!has_runs_ && type <= SectionType::kParent, SectionName(number));
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
  return Remember(AppendSection(number, flags, payload));
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

base::Result<void> Writer::AddAsItIs(const SectionHeader& header, std::string_view payload) {
  if (error_) return std::unexpected(*error_);
  CHECK(!has_runs_);
  last_type_ = std::max(last_type_, std::min(header.type, static_cast<uint32_t>(SectionType::kParent)));
  return Remember(AppendSection(header.type, header.flags, payload));
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
  const uint64_t named = run.kind() == PageRun::SAME ? pages_
                         : run.kind() == PageRun::COPY
                             ? (options_.parent == nullptr ? 0 : options_.parent->stored())
                             : kStoredPagesMax;
  const bool names = run.kind() == PageRun::SAME || run.kind() == PageRun::COPY;
  if (run.count() == 0 || run.count() > kPagesMax || run.first() > kPagesMax || run.first() < end ||
      (names && (run.count() > named || run.stored() > named - run.count()))) {
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
  const uint64_t first = pages_;
  TRY_VOID(Remember(Add(run)));
  return first;
}

base::Result<void> Writer::Add(PageRun& run) {
  TRY_VOID(CheckRun(run));
  if (IsNumbered(run)) pages_ += run.count();
  if (run.kind() != PageRun::STORED) {
    if (run.kind() == PageRun::ZERO) run.clear_stored();
    window_.push_back(run);
    return window_.size() == kChunkRunsMax ? EmitWindow() : base::Result<void>{};
  }
  PageRun part = run;
  for (uint64_t left = run.count(); left > 0;) {
    const uint64_t count = std::min(left, kChunkPagesMax - window_pages_);
    part.set_count(count);
    window_.push_back(part);
    window_pages_ += count;
    left -= count;
    part.set_first(part.first() + count);
    if (window_pages_ == kChunkPagesMax || window_.size() == kChunkRunsMax) TRY_VOID(EmitWindow());
  }
  return {};
}

base::Result<void> Writer::EmitWindow() {
  if (window_.empty()) return {};
  if (options_.stop != nullptr && options_.stop->load()) return Fail(Code::kInterrupted, "interrupted");
  Window& window = *TRY(scan_->Next());
  window.runs.swap(window_);
  window_.clear();
  window.pages = std::exchange(window_pages_, 0);
  handed_ += window.pages;
  scan_->Submit();
  if (options_.progress) options_.progress(handed_);
  return {};
}

base::Result<void> Writer::Scan(Window& window) {
  if (window.pages == 0) return {};
  if (options_.stop != nullptr && options_.stop->load()) return Fail(Code::kInterrupted, "interrupted");
  // A buffer that a chunk took came back, or is to be made.
  if (window.bytes.size() != kChunkBytesMax) window.bytes.resize(kChunkBytesMax);
  window.hashes.resize(window.pages);
  window.zero.resize(window.pages);
  const std::span<std::byte> bytes(window.bytes);
  uint64_t page = 0;
  for (const PageRun& run : window.runs) {
    if (run.kind() != PageRun::STORED) continue;
    TRY_VOID(bytes_.Read(run, bytes.subspan(page * kPageSize, run.count() * kPageSize)));
    page += run.count();
  }
  CHECK(page == window.pages);
  for (page = 0; page < window.pages; ++page) {
    const auto one = bytes.subspan(page * kPageSize, kPageSize);
    window.hashes[page] = HashPage(one);
    window.zero[page] = IsZero(one) ? 1 : 0;
  }
  return {};
}

base::Result<void> Writer::Decide(Window& window) {
  uint64_t at = 0;
  for (const PageRun& run : window.runs) {
    if (run.kind() != PageRun::STORED) {
      TRY_VOID(AddToChunk(run));
      continue;
    }
    TRY_VOID(DecidePages(window, run, at));
    at += run.count();
  }
  return {};
}

// The pages of a STORED run, whose first one is page `at` of the window: as runs of what they became.
base::Result<void> Writer::DecidePages(Window& window, const PageRun& run, uint64_t at) {
  const std::span<const std::byte> bytes(window.bytes);
  PageRun same;  // pages that became the same kind of thing, and follow each other
  const auto flush = [&](uint64_t next) -> base::Result<void> {
    if (same.count() == 0) return {};
    const uint64_t from = next - same.count();
    if (same.kind() == PageRun::STORED && same.count() == kChunkPagesMax) return TakeWindow(same, window);
    if (same.kind() == PageRun::STORED)
      return StoreInChunk(same, bytes.subspan(from * kPageSize, same.count() * kPageSize));
    return AddToChunk(same);
  };
  PageRun place = run;
  place.set_count(1);
  for (uint64_t i = 0; i < run.count(); ++i) {
    place.set_first(run.first() + i);
    const uint64_t page = at + i;
    const PageRun one = TRY(contents_.Judge({.place = place,
                                             .bytes = bytes.subspan(page * kPageSize, kPageSize),
                                             .hash = window.hashes[page],
                                             .zero = window.zero[page] != 0}));
    const bool follows = same.count() > 0 && same.kind() == one.kind() &&
                         (one.kind() == PageRun::ZERO || same.stored() + same.count() == one.stored());
    if (follows) {
      same.set_count(same.count() + 1);
      continue;
    }
    TRY_VOID(flush(page));
    same = one;
  }
  return flush(at + run.count());
}

base::Result<void> Writer::AddToChunk(const PageRun& run) {
  if (!chunk_.run().empty()) {
    PageRun& last = *chunk_.mutable_run()->rbegin();
    const bool follows = last.owner() == run.owner() && last.objref() == run.objref() &&
                         last.kind() == run.kind() && last.first() + last.count() == run.first();
    if (follows && (run.kind() == PageRun::ZERO || last.stored() + last.count() == run.stored())) {
      last.set_count(last.count() + run.count());
      return {};
    }
  }
  *chunk_.add_run() = run;
  return static_cast<uint64_t>(chunk_.run_size()) == kChunkRunsMax ? EmitChunk() : base::Result<void>{};
}

base::Result<void> Writer::StoreInChunk(const PageRun& run, std::span<const std::byte> bytes) {
  PageRun part = run;
  for (uint64_t done = 0; done < run.count(); done += part.count()) {
    // A chunk that was sent took its buffer along.
    if (chunk_bytes_.size() != kChunkBytesMax) chunk_bytes_.resize(kChunkBytesMax);
    part.set_first(run.first() + done);
    part.set_stored(run.stored() + done);
    part.set_count(std::min(run.count() - done, kChunkPagesMax - chunk_pages_));
    const auto pages = bytes.subspan(done * kPageSize, part.count() * kPageSize);
    std::copy(pages.begin(), pages.end(),
              chunk_bytes_.begin() + static_cast<ptrdiff_t>(chunk_pages_ * kPageSize));
    chunk_pages_ += part.count();
    TRY_VOID(AddToChunk(part));
    if (chunk_pages_ == kChunkPagesMax) TRY_VOID(EmitChunk());
  }
  return {};
}

// A window that is stored as a whole becomes a chunk as it is: nothing is copied.
base::Result<void> Writer::TakeWindow(const PageRun& run, Window& window) {
  TRY_VOID(EmitChunk());
  chunk_bytes_.swap(window.bytes);
  chunk_pages_ = run.count();
  *chunk_.add_run() = run;
  return EmitChunk();
}

base::Result<void> Writer::EmitChunk() {
  if (chunk_.run().empty()) return {};
  ChunkJob& job = *TRY(pipeline_->Next());
  job.runs.Swap(&chunk_);
  chunk_.Clear();
  job.bytes.swap(chunk_bytes_);
  job.pages = std::exchange(chunk_pages_, 0);
  pipeline_->Submit();
  return {};
}

base::Result<void> Writer::Compress(unsigned worker, ChunkJob& job) {
  const std::string section = EncodeSection(SectionType::kChunkRuns, 0, Serialize(job.runs));
  const bool raw = options_.compression == Compression::kNone;
  const size_t room = section.size() + (raw ? 0 : kFrameBytesMax);
  job.section_bytes = section.size();
  job.frame_bytes = 0;
  job.xxh3 = 0;
  if (job.out.size() < room) job.out.resize(room);
  std::copy(section.begin(), section.end(), job.out.begin());
  if (job.pages == 0) return {};
  const std::span<const std::byte> pages = std::span(job.bytes).first(job.pages * kPageSize);
  if (raw) {
    job.frame_bytes = pages.size();
    job.xxh3 = Xxh3(pages);
    return {};
  }
  const auto out = std::as_writable_bytes(std::span(job.out)).subspan(section.size());
  Compressor& compressor = *compressors_[worker];
  const bool paced = options_.compression == Compression::kAuto;
  const int level = paced ? pace_.level() : options_.level;
  if (level != 0) {
    compressor.SetLevel(level);
    job.frame_bytes = TRY(compressor.Compress(pages, out, options_.stop));
  }
  // What does not become smaller is not worth the time to expand it again.
  if (paced && (level == 0 || job.frame_bytes > pages.size() - pages.size() / 32)) {
    job.frame_bytes = StoreUncompressed(pages, out);
  }
  job.xxh3 = Xxh3(std::span<const std::byte>(out.first(job.frame_bytes)));
  return {};
}

base::Result<void> Writer::Write(ChunkJob& job) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  const bool raw = options_.compression == Compression::kNone && job.pages > 0;
  digest_.Update(View(job.out, 0, job.section_bytes));
  const uint64_t behind = file_->offset() + job.section_bytes;
  ckpt_pb::Chunk chunk;
  chunk.set_offset(raw ? RawPagesAt(behind) : behind);
  chunk.set_frame_bytes(job.frame_bytes);
  chunk.set_xxh3(job.xxh3);
  chunk.set_raw(raw);
  chunk.mutable_run()->Swap(job.runs.mutable_run());
  entries_.push_back(Serialize(chunk));
  CHECK(entries_.back().size() <= kIndexEntryBytesMax);
  if (raw) {
    TRY_VOID(file_->Append(View(job.out, 0, job.section_bytes)));
    TRY_VOID(file_->Append(EncodeRawHead(behind, job.frame_bytes)));
    TRY_VOID(file_->Append(View(std::span<const std::byte>(job.bytes).first(job.frame_bytes))));
  } else {
    TRY_VOID(file_->Append(View(job.out, 0, job.section_bytes + job.frame_bytes)));
  }
  const Clock::time_point end = Clock::now();
  pace_.Wrote(begin - written_, end - begin);
  written_ = end;
  return {};
}

// The entries that Write made, each with the hashes of its pages, in sections.
base::Result<void> Writer::WriteIndex(Footer& footer) {
  footer.index_offset = file_->offset();
  std::string payload;
  const auto flush = [&]() -> base::Result<void> {
    if (payload.empty()) return {};
    ++footer.index_sections;
    TRY_VOID(AppendSection(static_cast<uint32_t>(SectionType::kIndex), 0, payload));
    payload.clear();
    return {};
  };
  for (std::string& entry : entries_) {
    ckpt_pb::Index one;
    ckpt_pb::Chunk& chunk = *one.add_chunk();
    CHECK(chunk.ParseFromString(entry));
    std::string().swap(entry);
    for (const PageRun& run : chunk.run()) {
      if (run.kind() != PageRun::STORED) continue;
      for (uint64_t number = run.stored(); number < run.stored() + run.count(); ++number) {
        const PageHash& hash = contents_.hash(number);
        chunk.mutable_page_xxh3()->append(reinterpret_cast<const char*>(hash.data()), hash.size());
      }
    }
    // Messages of one repeated field may be put behind each other: that is their concatenation.
    const std::string bytes = Serialize(one);
    if (payload.size() + bytes.size() > kSmallSectionBytesMax) TRY_VOID(flush());
    payload += bytes;
  }
  TRY_VOID(flush());
  footer.index_bytes = file_->offset() - footer.index_offset;
  return {};
}

base::Result<Summary> Writer::Commit(ckpt_pb::Totals totals) {
  if (error_) return std::unexpected(*error_);
  CHECK_MSG(last_type_ >= static_cast<uint32_t>(SectionType::kProcesses), "an image without metadata");
  auto result = Finish(totals);
  error_ = result ? base::Error{Code::kInvalid, "already committed"} : result.error();
  return result;
}

base::Result<Summary> Writer::Finish(ckpt_pb::Totals& totals) {
  TRY_VOID(EmitWindow());
  TRY_VOID(scan_->Drain());
  TRY_VOID(EmitChunk());
  TRY_VOID(pipeline_->Drain());
  contents_.CountIn(totals);
  Footer footer{.totals_offset = file_->offset(), .stored_pages = totals.stored()};
  TRY_VOID(AppendSection(static_cast<uint32_t>(SectionType::kTotals), 0, Serialize(totals)));
  TRY_VOID(WriteIndex(footer));
  footer.digest = digest_.Get();
  TRY_VOID(file_->Append(EncodeFooter(footer)));
  if (options_.stop != nullptr && options_.stop->load()) return Fail(Code::kInterrupted, "interrupted");
  const uint64_t bytes = file_->offset();
  TRY_VOID(file_->Publish(options_.sync));
  return Summary{Hex(footer.digest), bytes, footer.stored_pages, std::move(totals)};
}

}  // namespace image
