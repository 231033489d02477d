#include "proto/chunk.h"

#include <xxhash.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/check.h"

namespace image {
namespace {

using base::Code;
using base::Fail;

constexpr std::byte kChecksumFlag{0x04};  // Of the frame header descriptor.

// From this level on a chunk takes so long that it is compressed in pieces. Pieces may cost a few bytes: the
// level alone decides, so that an image does not depend on anything else.
constexpr int kPiecesLevelMin = 13;
constexpr size_t kPieceBytes = size_t{128} << 10;  // A zstd block.

std::unexpected<base::Error> CannotCompress(size_t error) {
  return Fail(Code::kNoMemory, "cannot compress: %s", ZSTD_getErrorName(error));
}

bool Stopped(const std::atomic<bool>* stop) { return stop != nullptr && stop->load(); }

// Refuses everything but one frame that says that it holds `bytes` bytes and a checksum.
base::Result<void> CheckHeader(std::span<const std::byte> frame, size_t bytes) {
  if (frame.size() < 6 || LoadU32(reinterpret_cast<const char*>(frame.data())) != kZstdMagic) {
    return Fail(Code::kCorrupt, "not a zstd frame");
  }
  if ((frame[4] & kChecksumFlag) == std::byte{0})
    return Fail(Code::kCorrupt, "a zstd frame without a checksum");
  const unsigned long long content = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (content != bytes) return Fail(Code::kCorrupt, "a zstd frame that is not of %zu bytes", bytes);
  if (ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size()) {
    return Fail(Code::kCorrupt, "not one whole zstd frame");
  }
  return {};
}

}  // namespace

static_assert(ZSTD_COMPRESSBOUND(kChunkBytesMax) <= kFrameBytesMax);

void Compressor::Free::operator()(ZSTD_CCtx_s* context) const { ZSTD_freeCCtx(context); }

Compressor::Compressor(int level) : context_(ZSTD_createCCtx()), level_(level) {
  CHECK(level >= kLevelMin && level <= kLevelMax && context_ != nullptr);
  CHECK(ZSTD_isError(ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level)) == 0);
  CHECK(ZSTD_isError(ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1)) == 0);
}

void Compressor::SetLevel(int level) {
  if (level == level_) return;
  level_ = level;
  CHECK(ZSTD_isError(ZSTD_CCtx_reset(context_.get(), ZSTD_reset_session_only)) == 0);
  CHECK(ZSTD_isError(ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level)) == 0);
}

size_t StoreUncompressed(std::span<const std::byte> pages, std::span<std::byte> out) {
  constexpr size_t kBlockBytes = size_t{128} << 10;
  // RFC 8878: one segment, its size in four bytes, a checksum; then raw blocks.
  std::string head;
  AppendU32(head, kZstdMagic);
  head.push_back(static_cast<char>(0xa4));
  AppendU32(head, static_cast<uint32_t>(pages.size()));
  std::byte* to = out.data();
  const auto append = [&](const void* from, size_t count) {
    std::memcpy(to, from, count);
    to += count;
  };
  append(head.data(), head.size());
  for (size_t at = 0; at < pages.size(); at += kBlockBytes) {
    const size_t count = std::min(kBlockBytes, pages.size() - at);
    const uint32_t block = static_cast<uint32_t>(count << 3) | (at + count == pages.size() ? 1 : 0);
    append(&block, 3);
    append(pages.data() + at, count);
  }
  const auto checksum = static_cast<uint32_t>(XXH64(pages.data(), pages.size(), 0));
  append(&checksum, sizeof checksum);
  return static_cast<size_t>(to - out.data());
}

base::Result<size_t> Compressor::Compress(std::span<const std::byte> pages, std::span<std::byte> out,
                                          const std::atomic<bool>* stop) {
  CHECK(!pages.empty() && pages.size() <= kChunkBytesMax && pages.size() % base::kPageSize == 0);
  CHECK(out.size() >= kFrameBytesMax);
  if (level_ >= kPiecesLevelMin) return CompressInPieces(pages, out, stop);
  if (Stopped(stop)) return Fail(Code::kInterrupted, "interrupted");
  const size_t bytes = ZSTD_compress2(context_.get(), out.data(), out.size(), pages.data(), pages.size());
  if (ZSTD_isError(bytes) != 0) return CannotCompress(bytes);
  return bytes;
}

base::Result<size_t> Compressor::CompressInPieces(std::span<const std::byte> pages, std::span<std::byte> out,
                                                  const std::atomic<bool>* stop) {
  size_t left = ZSTD_CCtx_reset(context_.get(), ZSTD_reset_session_only);
  CHECK(ZSTD_isError(left) == 0);
  CHECK(ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context_.get(), pages.size())) == 0);
  ZSTD_inBuffer from{pages.data(), 0, 0};
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  do {
    if (Stopped(stop)) return Fail(Code::kInterrupted, "interrupted");
    from.size = std::min(from.size + kPieceBytes, pages.size());
    const bool last = from.size == pages.size();
    left = ZSTD_compressStream2(context_.get(), &to, &from, last ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left) != 0) return CannotCompress(left);
    CHECK(to.pos < to.size);  // kFrameBytesMax has room for every frame
  } while (from.size < pages.size() || left > 0);
  return to.pos;
}

void Decompressor::Free::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }

Decompressor::Decompressor() : context_(ZSTD_createDCtx()) { CHECK(context_ != nullptr); }

base::Result<void> Decompressor::DecompressTo(std::span<const std::byte> frame, std::span<std::byte> out) {
  TRY_VOID(CheckHeader(frame, out.size()));
  const size_t bytes =
      ZSTD_decompressDCtx(context_.get(), out.data(), out.size(), frame.data(), frame.size());
  if (ZSTD_isError(bytes) != 0)
    return Fail(Code::kCorrupt, "cannot decompress: %s", ZSTD_getErrorName(bytes));
  if (bytes != out.size())
    return Fail(Code::kCorrupt, "a zstd frame of %zu bytes instead of %zu", bytes, out.size());
  return {};
}

base::Result<void> Decompressor::Decompress(std::span<const std::byte> frame,
                                            std::span<const std::span<std::byte>> pieces) {
  size_t total = 0;
  bool contiguous = true;
  for (const std::span<std::byte> piece : pieces) {
    contiguous = contiguous && piece.data() == pieces.front().data() + total;
    total += piece.size();
  }
  CHECK(total > 0 && total <= kChunkBytesMax);
  if (contiguous) return DecompressTo(frame, {pieces.front().data(), total});
  buffer_.resize(kChunkBytesMax);
  TRY_VOID(DecompressTo(frame, std::span(buffer_).first(total)));
  const std::byte* from = buffer_.data();
  for (const std::span<std::byte> piece : pieces) {
    std::memcpy(piece.data(), from, piece.size());
    from += piece.size();
  }
  return {};
}

base::Result<std::span<const std::byte>> Decompressor::Expand(std::span<const std::byte> frame,
                                                              uint64_t pages) {
  CHECK(pages > 0 && pages <= kChunkPagesMax);
  buffer_.resize(kChunkBytesMax);
  const std::span<std::byte> out = std::span(buffer_).first(pages * base::kPageSize);
  TRY_VOID(DecompressTo(frame, out));
  return out;
}

base::Result<uint64_t> FrameBytes(std::span<const std::byte> bytes) {
  if (bytes.size() >= 4 && LoadU32(reinterpret_cast<const char*>(bytes.data())) != kZstdMagic) {
    return Fail(Code::kCorrupt, "not a zstd frame");
  }
  const size_t size = ZSTD_findFrameCompressedSize(bytes.data(), bytes.size());
  if (ZSTD_isError(size) == 0) return size;
  return Fail(ZSTD_getErrorCode(size) == ZSTD_error_srcSize_wrong ? Code::kIncomplete : Code::kCorrupt,
              "cannot find the end of a zstd frame: %s", ZSTD_getErrorName(size));
}

}  // namespace image
