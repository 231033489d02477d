// The bytes of an image that are not protobuf and not page data. docs/image-format.md is the contract; this
// file is its tables in C++, and nothing else in the program knows an offset or a magic number.
//
// An image is a sequence of zstd frames. Everything but page data sits in skippable frames:
//
//   image    = envelope  metadata-section*  chunk*  totals-section  index-section*  footer
//   chunk    = chunk-runs-section  [ zstd-frame | raw-frame ]
//
// All numbers are little-endian. XXH3 is the 64-bit XXH3 with seed 0, the digest is XXH3-128.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/units.h"

namespace image {

// What this program writes, for readers from the same version on, and the newest that it reads; it reads all
// older ones.
inline constexpr uint32_t kVersion = 2;

inline constexpr uint32_t kSkippableMagic = 0x184d2a50;  // The first of zstd's sixteen.
inline constexpr uint32_t kRawMagic = 0x184d2a51;        // The second one: pages as they are.
inline constexpr uint32_t kZstdMagic = 0xfd2fb528;
inline constexpr std::string_view kEnvelopeMagic{"CKPTIMG\n", 8};
inline constexpr std::string_view kFooterMagic{"CKPTFOOT", 8};
inline constexpr std::string_view kEndMagic{"CKPTEND\n", 8};

inline constexpr size_t kSkippableHeaderBytes = 8;  // magic u32, payload length u32

// Envelope: skippable header, then magic[8], version u32, min reader version u32, digest algorithm u32, page
// size u32, reserved u32 (zero), xxh3 u64 of the payload before it. Later versions may put fields before the
// checksum, so its place follows from the frame's length.
inline constexpr size_t kEnvelopeBytes = kSkippableHeaderBytes + 8 + 5 * 4 + 8;
inline constexpr size_t kEnvelopeBytesMax = 4096;

// Section: skippable header, then type u32, flags u32, payload length u64, xxh3 u64 (of the three fields
// before it and the payload), payload.
inline constexpr size_t kSectionHeaderBytes = kSkippableHeaderBytes + 4 + 4 + 8 + 8;

// Footer: skippable header, then magic[8], totals offset u64, index offset u64, index length u64, index
// sections u64, stored pages u64, reserved u64 (zero), digest[16], xxh3 u64 of the payload before it, end
// magic[8].
inline constexpr size_t kFooterBytes = kSkippableHeaderBytes + 8 + 6 * 8 + 16 + 8 + 8;

enum class DigestAlgorithm : uint32_t {
  kXxh3_128 = 1,  // Detects damage, names an image. 2 and up are kept for cryptographic ones.
};

// Metadata sections have types below kChunkRuns and stand in the order of their numbers.
enum class SectionType : uint32_t {
  kMachine = 1,        // ckpt_pb::Machine, one
  kFiles = 2,          // ckpt_pb::Files, one
  kProcesses = 3,      // ckpt_pb::Processes, one
  kVmas = 4,           // ckpt_pb::Vmas, any number
  kWorkloadState = 5,  // opaque bytes, at most one; ignorable
  kGuest = 6,          // ckpt_pb::Guest, any number, of scope MACHINE
  kParent = 7,         // ckpt_pb::Parent, one in a child
  kChunkRuns = 32,     // ckpt_pb::ChunkRuns
  kTotals = 33,        // ckpt_pb::Totals, one
  kIndex = 34,         // ckpt_pb::Index, any number
};

// Section flags. Bits 1 to 15 are reserved: a writer sets them to zero and a reader refuses others. Bits 16
// to 31 are unused: a reader ignores them.
inline constexpr uint32_t kFlagIgnorable = 1;  // A reader that does not know the type skips the section.
inline constexpr uint32_t kFlagsReserved = 0x0000fffe;

// Caps. A reader refuses what is over them before it allocates anything.
inline constexpr uint64_t kChunkPagesMax = 256;  // 1 MiB of page data
inline constexpr uint64_t kChunkBytesMax = kChunkPagesMax * base::kPageSize;
inline constexpr uint64_t kChunkRunsMax = 4096;
inline constexpr uint64_t kFrameBytesMax =
    kChunkBytesMax + kChunkBytesMax / 128 + 1024;  // over ZSTD_compressBound
inline constexpr uint64_t kSmallSectionBytesMax = uint64_t{1}
                                                  << 20;  // payload: machine, vmas, chunk runs, totals, index
inline constexpr uint64_t kObjectSectionBytesMax = uint64_t{16} << 20;  // payload: files, processes
inline constexpr uint64_t kSectionBytesMax = uint64_t{64} << 20;  // payload: workload state and unknown types
inline constexpr uint64_t kMetadataBytesMax = uint64_t{192} << 20;  // all metadata sections together
inline constexpr uint64_t kObjectsMax = uint64_t{1} << 18;          // records of a files or processes section
inline constexpr uint64_t kVmasMax = uint64_t{1} << 22;             // of all mms together
inline constexpr uint64_t kNonlinearRunsMax = uint64_t{1} << 20;    // of all mms together
inline constexpr uint64_t kNonlinearPagesMax = uint64_t{1} << 26;   // in these, of all mms together
inline constexpr uint64_t kStoredPagesMax = uint64_t{1} << 48;
inline constexpr uint32_t kDepthMax = 1 << 16;  // ancestors

// The cap on the payload of a section of `type`.
uint64_t SectionBytesMax(uint32_t type);
// "vmas", or "type 77".
std::string SectionName(uint32_t type);

struct Envelope {
  uint32_t version = kVersion;
  uint32_t min_reader_version = kVersion;
  uint64_t frame_bytes = kEnvelopeBytes;
};

struct SectionHeader {
  uint32_t type = 0;
  uint32_t flags = 0;
  uint64_t payload_bytes = 0;
  uint64_t xxh3 = 0;

  uint64_t frame_bytes() const { return kSectionHeaderBytes + payload_bytes; }
};

using DigestBytes = std::array<unsigned char, 16>;  // In the canonical (big-endian) order of XXH3-128.

struct Footer {
  uint64_t totals_offset = 0;
  uint64_t index_offset = 0;
  uint64_t index_bytes = 0;
  uint64_t index_sections = 0;
  uint64_t stored_pages = 0;
  DigestBytes digest{};
};

// Where the pages of a raw frame at `offset` start: the first page boundary behind its header. What is
// between is zero.
constexpr uint64_t RawPagesAt(uint64_t offset) {
  return (offset + kSkippableHeaderBytes + base::kPageSize - 1) / base::kPageSize * base::kPageSize;
}
// Everything of a raw frame at `offset` that is in front of its pages.
std::string EncodeRawHead(uint64_t offset, uint64_t pages_bytes);
// Whether `head` is that.
base::Result<void> CheckRawHead(std::string_view head, uint64_t offset, uint64_t pages_bytes);

std::string EncodeEnvelope();
// The whole frame: header and payload.
std::string EncodeSection(SectionType type, uint32_t flags, std::string_view payload);
std::string EncodeFooter(const Footer& footer);

// Whether a file is an image, whole, damaged or cut off: it begins with the magics, it is shorter than they
// are and so far the same (as a file of no bytes is), or its start is another and its end has a footer's
// magics. `head` is the first and `tail` the last bytes of the file, as many as below.
bool IsImage(std::string_view head, std::string_view tail);

// Of an image. `head` is the first min(file size, kEnvelopeBytesMax) bytes of the file. kIncomplete: the
// beginning of one; kCorrupt; kUnsupported: a version, digest or page size that this program cannot read;
// kInvalid: its checksum is right, and a field is not.
base::Result<Envelope> DecodeEnvelope(std::string_view head);

// `bytes` is kSectionHeaderBytes at `offset`, and the frame must end at or below `limit`. Lengths are within
// their caps afterwards; nothing else is known to be true before CheckSection.
base::Result<SectionHeader> DecodeSectionHeader(std::string_view bytes, uint64_t offset, uint64_t limit);
// Checksum and flags of a whole section frame.
base::Result<void> CheckSection(const SectionHeader& header, std::string_view frame, uint64_t offset);

// `tail` is the last kFooterBytes of a file of `file_bytes`. kIncomplete: there is no footer in it.
// Afterwards the offsets are in order and inside the file.
base::Result<Footer> DecodeFooter(std::string_view tail, uint64_t file_bytes, uint64_t envelope_bytes);

// Little-endian numbers anywhere in memory.
uint32_t LoadU32(const char* bytes);
uint64_t LoadU64(const char* bytes);
void AppendU32(std::string& out, uint32_t value);
void AppendU64(std::string& out, uint64_t value);

}  // namespace image
