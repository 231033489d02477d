// Page data as zstd frames: at most kChunkPagesMax pages each, with the content size in the header and zstd's
// own checksum behind. An object of either class serves one thread and reuses its zstd context.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "proto/format.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace image {

// The range of WriteOptions::level.
inline constexpr int kLevelMin = 1;
inline constexpr int kLevelMax = 19;

class Compressor {
 public:
  // Requires: kLevelMin <= level <= kLevelMax.
  explicit Compressor(int level);
  // Requires: pages.size() is a whole number of pages, at most kChunkBytesMax; out.size() >= kFrameBytesMax.
  // The length of the frame. kInterrupted soon after `stop` is true, also in the middle of a frame.
  base::Result<size_t> Compress(std::span<const std::byte> pages, std::span<std::byte> out,
                                const std::atomic<bool>* stop = nullptr);
  // Of the next frames; also a negative one, which is faster than kLevelMin.
  void SetLevel(int level);

 private:
  base::Result<size_t> CompressInPieces(std::span<const std::byte> pages, std::span<std::byte> out,
                                        const std::atomic<bool>* stop);

  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;
  int level_;
};

// A frame of the same kind, in which the pages are as they are. Requires: as of Compress. Its length.
size_t StoreUncompressed(std::span<const std::byte> pages, std::span<std::byte> out);

class Decompressor {
 public:
  Decompressor();
  // Expands exactly one frame into `pieces`, one behind the other: straight into them if they are one span of
  // memory. kCorrupt if `frame` is anything else than one frame of so many bytes, with a checksum, that is
  // right. After an error the pieces hold anything.
  base::Result<void> Decompress(std::span<const std::byte> frame,
                                std::span<const std::span<std::byte>> pieces);
  // The same into memory of its own: the pages, until the next call.
  base::Result<std::span<const std::byte>> Expand(std::span<const std::byte> frame, uint64_t pages);

 private:
  struct Free {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  base::Result<void> DecompressTo(std::span<const std::byte> frame, std::span<std::byte> out);

  std::unique_ptr<ZSTD_DCtx_s, Free> context_;
  std::vector<std::byte> buffer_;  // kChunkBytesMax, once it is needed.
};

// The length of the zstd frame that `bytes` starts with. kIncomplete if it does not end in them.
base::Result<uint64_t> FrameBytes(std::span<const std::byte> bytes);

}  // namespace image
