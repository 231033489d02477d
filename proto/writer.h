// Writes an image (docs/image-format.md): sections first, then runs of pages in chunks, then totals, index
// and footer.
//
// Chunks are read, hashed and compressed by all cores and written in order, so that the file's bytes depend
// on what is added and on the level, never on the number of threads. At most 64 MiB are under way. Nothing is
// visible under the image's name before Commit, and a Writer that is not committed leaves nothing behind.
//
// After an error the Writer can only be destroyed; every further call gives the same error again. A process
// that limits its file size (RLIMIT_FSIZE) has to ignore SIGXFSZ to get that as an error.
#pragma once

#include <atomic>
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
#include "proto/file.h"
#include "proto/format.h"
#include "proto/hash.h"
#include "proto/image.pb.h"
#include "proto/pipeline.h"

namespace image {

// Where the writer gets the bytes of stored pages. Called from several threads at once, some time between the
// AddRun of the pages and the end of Commit.
class PageBytes {
 public:
  virtual ~PageBytes() = default;
  // `run` is STORED, and a part of a run that was added. out.size() is run.count() pages.
  virtual base::Result<void> Read(const ckpt_pb::PageRun& run, std::span<std::byte> out) const = 0;
};

struct WriteOptions {
  int level = 1;         // of zstd, kLevelMin to kLevelMax
  unsigned threads = 0;  // 0: all cores; at most kThreadsMax are used
  Sync sync = Sync::kYes;
  const std::atomic<bool>* stop = nullptr;  // Polled, also inside a chunk: kInterrupted once it is true.
  // Called on the caller's thread after each chunk; the number of stored pages handed to the compressors.
  std::function<void(uint64_t pages_done)> progress = {};
};

struct Summary {
  std::string digest;  // 32 hexadecimal digits
  uint64_t bytes = 0;
  uint64_t stored_pages = 0;
};

class Writer {
 public:
  // `bytes` must outlive the writer.
  static base::Result<std::unique_ptr<Writer>> Create(const std::string& path, const PageBytes& bytes,
                                                      WriteOptions options);
  ~Writer();

  // The metadata sections, in the order of their types, before the first run: kMachine, kFiles and kProcesses
  // once each, then AddVmas. kTooBig if the message is over the cap of its section.
  base::Result<void> AddSection(SectionType type, const google::protobuf::MessageLite& message);
  // Vmas of one mm, ascending over all calls for it; a long list becomes several sections.
  base::Result<void> AddVmas(const ckpt_pb::Vmas& vmas);
  // A part of what a guest's structures hold, behind everything else. kTooBig where all the metadata together
  // is more than a reader takes.
  base::Result<void> AddGuest(const ckpt_pb::Guest& part);
  // What only the program that made the image understands. At most once, behind all vmas.
  base::Result<void> AddWorkloadState(std::string_view bytes);

  // Appends a run. STORED: its pages get the next numbers, and the first of these is returned; run.stored is
  // not looked at. SAME: run.stored names pages stored before. ZERO. For these two the result has no meaning.
  // Adjacent runs become one and long ones are cut at the bounds of chunks. Runs of one owner must ascend.
  base::Result<uint64_t> AddRun(ckpt_pb::PageRun run);

  // The rest, and publication under the image's name. Totals.stored is filled in.
  base::Result<Summary> Commit(ckpt_pb::Totals totals);

 private:
  struct ChunkJob {
    ckpt_pb::ChunkRuns runs;
    uint64_t pages = 0;
    std::vector<char> out;  // The runs section, then the frame: one write.
    size_t section_bytes = 0;
    size_t frame_bytes = 0;
    uint64_t xxh3 = 0;
  };

  Writer(const PageBytes& bytes, WriteOptions options, std::unique_ptr<OutputFile> file);

  base::Result<void> AppendSection(SectionType type, uint32_t flags, std::string_view payload);
  base::Result<void> AddMetadata(SectionType type, uint32_t flags, std::string_view payload);
  base::Result<void> CheckRun(const ckpt_pb::PageRun& run);
  base::Result<void> Add(ckpt_pb::PageRun& run);
  void AddToChunk(const ckpt_pb::PageRun& run);
  base::Result<void> EmitChunk();
  base::Result<void> Compress(unsigned worker, ChunkJob& job);
  base::Result<void> Write(ChunkJob& job);
  base::Result<Summary> Finish(ckpt_pb::Totals& totals);
  base::Result<void> Remember(base::Result<void> result);

  struct Worker {
    explicit Worker(int level) : compressor(level), pages(kChunkBytesMax) {}
    Compressor compressor;
    std::vector<std::byte> pages;
  };

  const PageBytes& bytes_;
  const WriteOptions options_;
  const std::unique_ptr<OutputFile> file_;
  std::optional<base::Error> error_;
  uint32_t last_type_ = 0;
  uint64_t metadata_bytes_ = 0;

  // The chunk that is being put together.
  ckpt_pb::ChunkRuns chunk_;
  uint64_t chunk_pages_ = 0;
  uint64_t stored_ = 0;
  bool has_runs_ = false;
  std::unordered_map<uint64_t, uint64_t> owner_ends_;  // By owner and objref: the end of its last run.

  // Written by Write alone, one job at a time.
  Digest digest_;
  std::vector<std::string> index_;  // Payloads of the index sections.

  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<Pipeline<ChunkJob>> pipeline_;  // Last: it stops before what it uses goes.
};

}  // namespace image
