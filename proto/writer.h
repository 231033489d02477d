// Writes an image (docs/image-format.md): sections first, then runs of pages in chunks, then totals, index
// and footer.
//
// Pages are read and hashed by all cores, in order it is decided which of them are stored (contents.h),
// chunks of these are compressed by all cores and written in order. So the file's bytes depend on what is
// added and on the options, never on the number of threads, but for Compression::kAuto, whose choices depend
// on time. At most 64 MiB are under way. Nothing is visible under the image's name before Commit, and a
// Writer that is not committed leaves nothing behind.
//
// After an error the Writer can only be destroyed; every further call gives the same error again. A process
// that limits its file size (RLIMIT_FSIZE) has to ignore SIGXFSZ to get that as an error.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "proto/chunk.h"
#include "proto/contents.h"
#include "proto/file.h"
#include "proto/format.h"
#include "proto/hash.h"
#include "proto/image.pb.h"
#include "proto/metadata.h"
#include "proto/pace.h"
#include "proto/parent_pages.h"
#include "proto/pipeline.h"

namespace image {

// Where the writer gets the bytes of stored pages. Called from several threads at once, some time between the
// AddRun of the pages and the end of Commit; more than once where pages repeat.
class PageBytes {
 public:
  virtual ~PageBytes() = default;
  // `run` is STORED, and a part of a run that was added. out.size() is run.count() pages.
  virtual base::Result<void> Read(const ckpt_pb::PageRun& run, std::span<std::byte> out) const = 0;
};

enum class Compression {
  kNone,  // pages as they are, at page boundaries of the file
  kZstd,
  kAuto,  // zstd at levels that keep the disk busy, for each chunk anew; what does not become smaller stays
          // as it is
};

struct WriteOptions {
  Compression compression = Compression::kZstd;
  int level = 1;            // of kZstd, kLevelMin to kLevelMax
  bool every_page = false;  // Stores zero-filled and repeated pages too, as often as they are there.
  // The image is a child of this one, whose pages it names; null: it stands alone. Must outlive the writer.
  const ParentPages* parent = nullptr;
  unsigned threads = 0;  // 0: all cores; at most kThreadsMax are used
  Sync sync = Sync::kYes;
  const std::atomic<bool>* stop = nullptr;  // Polled, also inside a chunk: kInterrupted once it is true.
  // Called on the caller's thread now and then: how many pages are on their way.
  std::function<void(uint64_t pages_done)> progress = {};
};

struct Summary {
  std::string digest;  // 32 hexadecimal digits
  uint64_t bytes = 0;
  uint64_t stored_pages = 0;
  ckpt_pb::Totals totals;
};

class Writer {
 public:
  // "-" is standard output. `bytes` must outlive the writer.
  static base::Result<std::unique_ptr<Writer>> Create(const std::string& path, const PageBytes& bytes,
                                                      WriteOptions options);
  ~Writer();

  // The metadata sections, in the order of their types, before the first run: kMachine, kFiles and kProcesses
  // once each, then AddVmas. kTooBig if the message is over the cap of its section.
  base::Result<void> AddSection(SectionType type, const google::protobuf::MessageLite& message);
  // A metadata section as it was in another image, of a type that this program knows, or not.
  base::Result<void> AddAsItIs(const SectionHeader& header, std::string_view payload);
  // Vmas of one mm, ascending over all calls for it; a long list becomes several sections.
  base::Result<void> AddVmas(const ckpt_pb::Vmas& vmas);
  // A part of what a guest's structures hold, behind everything else. kTooBig where all the metadata together
  // is more than a reader takes.
  base::Result<void> AddGuest(const ckpt_pb::Guest& part);
  // What only the program that made the image understands. At most once, behind all vmas.
  base::Result<void> AddWorkloadState(std::string_view bytes);

  // Appends a run. STORED: pages that are to be stored, if their bytes are not there yet; run.stored is not
  // looked at. COPY: pages with bytes that an ancestor stores. ZERO. The pages of these get the next numbers,
  // and the first of them is returned; ZERO of a disk has none. SAME: run.stored names pages by these
  // numbers. Adjacent runs become one and long ones are cut at the bounds of chunks. Runs of one owner must
  // ascend.
  base::Result<uint64_t> AddRun(ckpt_pb::PageRun run);

  // The rest, and publication under the image's name. What Totals says of stored pages is filled in.
  base::Result<Summary> Commit(ckpt_pb::Totals totals);

 private:
  // Runs as they were added, with the bytes of the STORED ones.
  struct Window {
    std::vector<ckpt_pb::PageRun> runs;
    uint64_t pages = 0;  // of the STORED ones
    std::vector<std::byte> bytes;
    std::vector<PageHash> hashes;
    std::vector<char> zero;
  };
  struct ChunkJob {
    ckpt_pb::ChunkRuns runs;
    uint64_t pages = 0;
    std::vector<std::byte> bytes;
    std::vector<char> out;  // The runs section, then the frame: one write.
    size_t section_bytes = 0;
    size_t frame_bytes = 0;
    uint64_t xxh3 = 0;
  };

  Writer(const PageBytes& bytes, WriteOptions options, std::unique_ptr<OutputFile> file);

  base::Result<void> AppendSection(uint32_t type, uint32_t flags, std::string_view payload);
  base::Result<void> AddMetadata(SectionType type, uint32_t flags, std::string_view payload);
  base::Result<void> CheckRun(const ckpt_pb::PageRun& run);
  base::Result<void> Add(ckpt_pb::PageRun& run);
  base::Result<void> EmitWindow();
  base::Result<void> Scan(Window& window);
  base::Result<void> Decide(Window& window);
  base::Result<void> DecidePages(Window& window, const ckpt_pb::PageRun& run, uint64_t at);
  base::Result<void> AddToChunk(const ckpt_pb::PageRun& run);
  base::Result<void> StoreInChunk(const ckpt_pb::PageRun& run, std::span<const std::byte> bytes);
  base::Result<void> TakeWindow(const ckpt_pb::PageRun& run, Window& window);
  base::Result<void> EmitChunk();
  base::Result<void> Compress(unsigned worker, ChunkJob& job);
  base::Result<void> Write(ChunkJob& job);
  base::Result<void> WriteIndex(Footer& footer);
  base::Result<Summary> Finish(ckpt_pb::Totals& totals);
  base::Result<void> Remember(base::Result<void> result);

  const PageBytes& bytes_;
  const WriteOptions options_;
  const std::unique_ptr<OutputFile> file_;
  std::optional<base::Error> error_;
  uint32_t last_type_ = 0;
  uint64_t metadata_bytes_ = 0;

  // What was added last, not yet on its way.
  std::vector<ckpt_pb::PageRun> window_;
  uint64_t window_pages_ = 0;
  uint64_t pages_ = 0;   // numbered until now
  uint64_t handed_ = 0;  // of the STORED ones, those that are on their way
  bool has_runs_ = false;
  std::unordered_map<uint64_t, uint64_t> owner_ends_;  // By owner and objref: the end of its last run.

  // Used by Decide alone, one window at a time: the chunk that is being put together.
  Contents contents_;
  ckpt_pb::ChunkRuns chunk_;
  uint64_t chunk_pages_ = 0;
  std::vector<std::byte> chunk_bytes_;

  // Written by Write alone, one job at a time.
  Digest digest_;
  std::vector<std::string> entries_;  // Of the index, without hashes of pages.

  std::vector<std::unique_ptr<Compressor>> compressors_;
  Pace pace_;
  std::chrono::steady_clock::time_point written_ =
      std::chrono::steady_clock::now();  // when a write ended last
  // Last: each stops before what it uses goes.
  std::unique_ptr<Pipeline<ChunkJob>> pipeline_;
  std::unique_ptr<Pipeline<Window>> scan_;
};

}  // namespace image
