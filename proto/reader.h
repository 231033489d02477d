// Reads an image (docs/image-format.md). Open checks everything but page data; ReadPages checks that as it
// goes. A child is opened with all its ancestors.
//
// Memory: the metadata, one index section (1 MiB) and the chunks under way. The index is never in memory as a
// whole. Of an image whose runs name bytes a second time, or those of ancestors: also 32 bytes for each such
// run, and 40 for each MiB that is stored.
//
// Errors of both: kInvalid (not an image, or one that breaks a rule), kUnsupported (a newer version, or
// content that this one cannot restore; Validate says which), kIncomplete (ends before its footer), kCorrupt
// (damaged: which section, and where), kNotFound, kIo, kInterrupted. Each is one line that starts with the
// path.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "proto/file.h"
#include "proto/format.h"
#include "proto/image.pb.h"
#include "proto/metadata.h"

namespace image {

class Chain;
class Digest;
class RunChecker;

// Where pages go. Called on the thread of ReadPages, in the order of the image. An error ends ReadPages and
// is what it returns, as it is.
class PageSink {
 public:
  virtual ~PageSink() = default;
  // In all of them run.stored() is the number of the first page, as SAME names it, wherever its bytes are.

  // Where the pages of this STORED or COPY run go: pieces whose sizes add up to run.count() pages. They are
  // filled by other threads until ReadPages returns, and are not to be looked at before. `pieces` is empty on
  // entry.
  virtual base::Result<void> Place(const ckpt_pb::PageRun& run,
                                   std::vector<std::span<std::byte>>& pieces) = 0;
  // The pages that an earlier run placed: to be shared with it. Their bytes may still be on their way.
  virtual base::Result<void> Same(const ckpt_pb::PageRun& run) = 0;
  // Of a disk: a hole, without a number. Otherwise pages that are there, and are zero.
  virtual base::Result<void> Zero(const ckpt_pb::PageRun& run) = 0;
};

struct ReadOptions {
  unsigned threads = 0;                     // 0: all cores; at most kThreadsMax are used
  const std::atomic<bool>* stop = nullptr;  // Polled: kInterrupted once it is true.
  // Called on the caller's thread after each chunk; the number of stored pages handed to the decompressors.
  std::function<void(uint64_t pages_done)> progress = {};
};

// Whether the ancestors of an image are needed: its pages are not all there without.
enum class Parents { kOpen, kLeave };

struct OpenOptions {
  Parents parents = Parents::kOpen;
  std::vector<std::string> also = {};       // where parents are looked for, too; chain.h has the errors
  const std::atomic<bool>* stop = nullptr;  // Polled while a pipe is read: kInterrupted once it is true.
};

class Reader {
 public:
  // Envelope, footer, metadata, runs, index and digest are right when this succeeds, and the metadata has
  // passed Validate, the runs RunChecker; of all ancestors too. `path` may be a pipe,
  // and "-" is standard input (InputFile::Open).
  static base::Result<std::unique_ptr<Reader>> Open(const std::string& path, const OpenOptions& options = {});
  ~Reader();

  const Metadata& metadata() const { return metadata_; }
  const ckpt_pb::Machine& machine() const { return metadata_.machine; }
  const ckpt_pb::Files& files() const { return metadata_.files; }
  const ckpt_pb::Processes& processes() const { return metadata_.processes; }
  // All vmas of an mm, ascending; none for an mm without any.
  const ckpt_pb::Vmas& vmas(uint32_t mm_objref) const;
  const std::string& workload_state() const { return metadata_.workload_state; }
  const ckpt_pb::Guest& guest() const { return metadata_.guest; }
  const ckpt_pb::Totals& totals() const { return totals_; }

  const std::string& path() const { return path_; }
  std::string digest() const;  // 32 hexadecimal digits
  const DigestBytes& digest_bytes() const { return footer_.digest; }
  uint32_t version() const { return envelope_.version; }
  uint64_t file_bytes() const { return file_->size(); }
  uint64_t stored_pages() const { return footer_.stored_pages; }
  const std::shared_ptr<const InputFile>& file() const { return file_; }
  // Null for an image that is no child, or was opened without its parents.
  const Chain* chain() const { return chain_.get(); }

  // Every metadata section in order, as it stands in the file, those of unknown types included.
  base::Result<void> ForEachMetadataSection(
      const std::function<base::Result<void>(const SectionHeader&, std::string_view payload)>& visit) const;
  // Every chunk in order, its runs checked. An error of `visit` ends it and is what is returned, as it is.
  base::Result<void> ForEachChunk(
      const std::function<base::Result<void>(const ckpt_pb::Chunk&)>& visit) const;

  // All pages, into the sink. Each frame's XXH3 is checked before it is decompressed, then zstd's checksum
  // and the exact size. On an error the sink's memory holds anything, and is to be thrown away.
  // Requires: the ancestors are open.
  base::Result<void> ReadPages(PageSink& sink, const ReadOptions& options = {}) const;

 private:
  using Visit = std::function<base::Result<void>(const ckpt_pb::Chunk&)>;

  Reader(std::string path, std::unique_ptr<InputFile> file);

  base::Result<void> Load();
  base::Result<uint64_t> LoadMetadata(Digest& digest);
  base::Result<void> CheckChunkRuns(const ckpt_pb::Chunk& chunk, uint64_t& position, Digest& digest) const;
  base::Result<void> LoadTotals(Digest& digest);
  base::Result<void> VisitIndexSection(std::string_view frame, uint64_t offset, RunChecker& checker,
                                       const Visit& visit) const;
  base::Result<void> VisitChunks(const Visit& visit, base::Result<void>& visited) const;

  const std::string path_;
  const std::shared_ptr<const InputFile> file_;
  Envelope envelope_;
  Footer footer_;
  Metadata metadata_;
  ckpt_pb::Totals totals_;
  std::unique_ptr<Chain> chain_;
};

}  // namespace image
