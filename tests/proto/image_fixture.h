// What the tests of proto/ share: a small machine, pages whose bytes follow from their place, a sink that
// keeps them, and images put together by hand, whose checksums are right and whose content lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "proto/metadata.h"
#include "proto/reader.h"
#include "proto/writer.h"

namespace fixture {

using base::kPageSize;
using ckpt_pb::PageRun;

inline constexpr uint32_t kMm = 1;
inline constexpr uint32_t kFile = 2;
inline constexpr uint32_t kShmem = 3;
inline constexpr uint32_t kMm2 = 4;
inline constexpr uint32_t kZero = 5;
inline constexpr uint64_t kAnonFirst = 0x10000;  // The first page of the anonymous vma of both mms.
inline constexpr uint64_t kAnonPages = 100000;

// Two processes with an mm each: an anonymous vma of kAnonPages pages and a private file vma of 16 behind it,
// a shared anonymous vma, a shared file vma. A file of 16 pages, a shmem object of 64, /dev/zero.
image::Metadata SmallMachine();

PageRun MakeRun(PageRun::Kind kind, uint64_t first, uint64_t count, uint64_t stored = 0,
                uint32_t objref = kMm, PageRun::Owner owner = PageRun::MM);

// The bytes of a page: half of them random by its place, the rest zero.
std::string PageOf(uint32_t objref, uint64_t page);

class FakePages : public image::PageBytes {
 public:
  base::Result<void> Read(const PageRun& run, std::span<std::byte> out) const override;
  uint64_t fail_at_page = ~uint64_t{0};  // Reading this page is an error.
};

// Adds the metadata's sections.
base::Result<void> AddMetadata(image::Writer& writer, const image::Metadata& metadata);

// A whole image. CHECKs that metadata can be added; errors of runs and of Commit are returned.
base::Result<image::Summary> Write(const std::string& path, const image::Metadata& metadata,
                                   const std::vector<PageRun>& runs, image::WriteOptions options = {},
                                   const FakePages& pages = {});

// Keeps every page that it is given. Same shares what was placed, Zero fills.
class MemorySink : public image::PageSink {
 public:
  enum class Pieces { kContiguous, kScattered };
  explicit MemorySink(Pieces pieces = Pieces::kContiguous) : pieces_(pieces) {}
  base::Result<void> Place(const PageRun& run, std::vector<std::span<std::byte>>& pieces) override;
  base::Result<void> Same(const PageRun& run) override;
  base::Result<void> Zero(const PageRun& run) override;

  using Key = std::pair<uint32_t, uint64_t>;  // objref and page
  // After ReadPages: the bytes of every page.
  std::map<Key, std::string> Pages() const;

 private:
  const Pieces pieces_;
  std::map<Key, uint64_t> number_;  // The stored page that is at this place, or ~0 for zero.
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<const std::byte*> stored_;  // By number.
};

// What MemorySink::Pages must be after writing these runs.
std::map<MemorySink::Key, std::string> Expected(const std::vector<PageRun>& runs);

// Opens and reads all pages.
base::Result<std::map<MemorySink::Key, std::string>> ReadAll(const std::string& path, unsigned threads = 2);

// An image by hand. Build() numbers the places and makes every checksum right, whatever the content says.
struct RawImage {
  struct Section {
    uint32_t type;
    uint32_t flags;
    std::string payload;
  };
  struct Chunk {
    ckpt_pb::ChunkRuns runs;
    std::string frame;       // Empty: none.
    ckpt_pb::Chunk index{};  // Runs other than those of the section, if any.
    int64_t offset_lie = 0;  // Added to what is right.
    int64_t frame_bytes_lie = 0;
    uint64_t xxh3_lie = 0;
    std::string page_xxh3{};  // of its pages, unless `index` says something else
  };
  std::vector<Section> metadata;
  std::vector<Chunk> chunks;
  ckpt_pb::Totals totals;
  uint64_t stored_pages = 0;
  int64_t totals_offset_lie = 0;
  int64_t index_offset_lie = 0;
  int64_t index_sections_lie = 0;
  std::string envelope = image::EncodeEnvelope();

  std::string Build() const;
};

// The sections of `metadata`, and one chunk for each run list; frames hold what the runs store.
RawImage MakeRaw(const image::Metadata& metadata, const std::vector<std::vector<PageRun>>& chunks);

// A zstd frame.
enum class Checksum { kNo, kYes };
std::string Frame(const std::string& bytes, Checksum checksum = Checksum::kYes);

// A section frame with any type and flags.
std::string RawSection(uint32_t type, uint32_t flags, const std::string& payload);

}  // namespace fixture
