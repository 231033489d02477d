#include "proto/format.h"

#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cstring>

#include "base/check.h"
#include "proto/hash.h"

namespace image {
namespace {

using base::Code;
using base::Fail;

template <class T>
T Load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  static_assert(std::endian::native == std::endian::little);
  return value;
}

std::string SkippableHeader(size_t payload_bytes) {
  CHECK(payload_bytes <= kSectionBytesMax + kSectionHeaderBytes);
  std::string out;
  AppendU32(out, kSkippableMagic);
  AppendU32(out, static_cast<uint32_t>(payload_bytes));
  return out;
}

// As far as it goes.
bool BeginsAsImage(std::string_view head) {
  std::string start;
  AppendU32(start, kSkippableMagic);
  const std::string_view magic =
      head.substr(std::min(kSkippableHeaderBytes, head.size()), kEnvelopeMagic.size());
  return head.starts_with(std::string_view(start).substr(0, head.size())) &&
         kEnvelopeMagic.starts_with(magic);
}

}  // namespace

uint32_t LoadU32(const char* bytes) { return Load<uint32_t>(bytes); }
uint64_t LoadU64(const char* bytes) { return Load<uint64_t>(bytes); }
void AppendU32(std::string& out, uint32_t value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void AppendU64(std::string& out, uint64_t value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

uint64_t SectionBytesMax(uint32_t type) {
  switch (static_cast<SectionType>(type)) {
    case SectionType::kMachine:
    case SectionType::kVmas:
    case SectionType::kChunkRuns:
    case SectionType::kTotals:
    case SectionType::kGuest:
    case SectionType::kParent:
    case SectionType::kIndex: return kSmallSectionBytesMax;
    case SectionType::kFiles:
    case SectionType::kProcesses: return kObjectSectionBytesMax;
    case SectionType::kWorkloadState: break;
  }
  return kSectionBytesMax;
}

std::string SectionName(uint32_t type) {
  switch (static_cast<SectionType>(type)) {
    case SectionType::kMachine: return "machine";
    case SectionType::kFiles: return "files";
    case SectionType::kProcesses: return "processes";
    case SectionType::kVmas: return "vmas";
    case SectionType::kWorkloadState: return "workload state";
    case SectionType::kChunkRuns: return "chunk runs";
    case SectionType::kGuest: return "guest";
    case SectionType::kParent: return "parent";
    case SectionType::kTotals: return "totals";
    case SectionType::kIndex: return "index";
  }
  return base::Format("type %" PRIu32, type);
}

std::string EncodeRawHead(uint64_t offset, uint64_t pages_bytes) {
  CHECK(pages_bytes <= kChunkBytesMax);
  const uint64_t head_bytes = RawPagesAt(offset) - offset;
  std::string head;
  AppendU32(head, kRawMagic);
  AppendU32(head, static_cast<uint32_t>(head_bytes - kSkippableHeaderBytes + pages_bytes));
  head.resize(head_bytes, '\0');
  return head;
}

base::Result<void> CheckRawHead(std::string_view head, uint64_t offset, uint64_t pages_bytes) {
  if (head == EncodeRawHead(offset, pages_bytes)) return {};
  return Fail(Code::kCorrupt,
              "raw frame at offset %" PRIu64 ": its head is not that of %" PRIu64 " bytes of pages", offset,
              pages_bytes);
}

std::string EncodeEnvelope() {
  std::string payload{kEnvelopeMagic};
  AppendU32(payload, kVersion);
  AppendU32(payload, kVersion);
  AppendU32(payload, static_cast<uint32_t>(DigestAlgorithm::kXxh3_128));
  AppendU32(payload, base::kPageSize);
  AppendU32(payload, 0);
  AppendU64(payload, Xxh3(payload));
  std::string frame = SkippableHeader(payload.size()) + payload;
  CHECK(frame.size() == kEnvelopeBytes);
  return frame;
}

std::string EncodeSection(SectionType type, uint32_t flags, std::string_view payload) {
  CHECK(payload.size() <= SectionBytesMax(static_cast<uint32_t>(type)) && (flags & kFlagsReserved) == 0);
  std::string frame;
  frame.reserve(kSectionHeaderBytes + payload.size());
  frame = SkippableHeader(kSectionHeaderBytes - kSkippableHeaderBytes + payload.size());
  AppendU32(frame, static_cast<uint32_t>(type));
  AppendU32(frame, flags);
  AppendU64(frame, payload.size());
  AppendU64(frame, Xxh3({std::string_view(frame).substr(kSkippableHeaderBytes), payload}));
  frame += payload;
  return frame;
}

std::string EncodeFooter(const Footer& footer) {
  std::string payload{kFooterMagic};
  AppendU64(payload, footer.totals_offset);
  AppendU64(payload, footer.index_offset);
  AppendU64(payload, footer.index_bytes);
  AppendU64(payload, footer.index_sections);
  AppendU64(payload, footer.stored_pages);
  AppendU64(payload, 0);
  payload.append(reinterpret_cast<const char*>(footer.digest.data()), footer.digest.size());
  AppendU64(payload, Xxh3(payload));
  payload += kEndMagic;
  std::string frame = SkippableHeader(payload.size()) + payload;
  CHECK(frame.size() == kFooterBytes);
  return frame;
}

bool IsImage(std::string_view head, std::string_view tail) {
  if (BeginsAsImage(head)) return true;
  return tail.size() == kFooterBytes && tail.substr(kSkippableHeaderBytes).starts_with(kFooterMagic) &&
         tail.ends_with(kEndMagic);
}

base::Result<Envelope> DecodeEnvelope(std::string_view head) {
  if (head.empty()) return Fail(Code::kIncomplete, "incomplete: it is empty");
  if (!BeginsAsImage(head)) return Fail(Code::kCorrupt, "envelope at offset 0: damaged");
  if (head.size() < kEnvelopeBytes) return Fail(Code::kIncomplete, "incomplete: ends inside its envelope");
  const uint64_t frame_bytes = kSkippableHeaderBytes + LoadU32(head.data() + 4);
  if (frame_bytes < kEnvelopeBytes || frame_bytes > kEnvelopeBytesMax) {
    return Fail(Code::kCorrupt, "envelope at offset 0: a length of %" PRIu64 " bytes is impossible",
                frame_bytes);
  }
  if (frame_bytes > head.size()) return Fail(Code::kIncomplete, "incomplete: ends inside its envelope");
  const std::string_view payload = head.substr(kSkippableHeaderBytes, frame_bytes - kSkippableHeaderBytes);
  if (Xxh3(payload.substr(0, payload.size() - 8)) != LoadU64(payload.end() - 8)) {
    return Fail(Code::kCorrupt, "envelope at offset 0: checksum mismatch");
  }
  const Envelope envelope{LoadU32(payload.data() + 8), LoadU32(payload.data() + 12), frame_bytes};
  const uint32_t digest_algorithm = LoadU32(payload.data() + 16);
  const uint32_t page_size = LoadU32(payload.data() + 20);
  if (envelope.min_reader_version > kVersion) {
    return Fail(Code::kUnsupported,
                "format version %" PRIu32 " needs a reader of version %" PRIu32
                "; this one reads up to %" PRIu32,
                envelope.version, envelope.min_reader_version, kVersion);
  }
  if (envelope.version == 0 || envelope.min_reader_version == 0 ||
      envelope.version < envelope.min_reader_version) {
    return Fail(Code::kInvalid, "envelope: version %" PRIu32 " for readers from %" PRIu32 " is impossible",
                envelope.version, envelope.min_reader_version);
  }
  if (envelope.version == kVersion && frame_bytes != kEnvelopeBytes) {
    return Fail(Code::kInvalid, "envelope: %" PRIu64 " bytes instead of %zu", frame_bytes, kEnvelopeBytes);
  }
  if (digest_algorithm != static_cast<uint32_t>(DigestAlgorithm::kXxh3_128)) {
    return Fail(Code::kUnsupported, "envelope: unknown digest algorithm %" PRIu32, digest_algorithm);
  }
  if (page_size != base::kPageSize) {
    return Fail(Code::kUnsupported, "envelope: page size %" PRIu32 " instead of %zu", page_size,
                base::kPageSize);
  }
  if (LoadU32(payload.data() + 24) != 0)
    return Fail(Code::kUnsupported, "envelope: a reserved field is not zero");
  return envelope;
}

base::Result<SectionHeader> DecodeSectionHeader(std::string_view bytes, uint64_t offset, uint64_t limit) {
  CHECK(bytes.size() >= kSectionHeaderBytes);
  const SectionHeader header{LoadU32(bytes.data() + 8), LoadU32(bytes.data() + 12),
                             LoadU64(bytes.data() + 16), LoadU64(bytes.data() + 24)};
  const uint64_t frame_payload = LoadU32(bytes.data() + 4);
  if (LoadU32(bytes.data()) != kSkippableMagic) {
    return Fail(Code::kCorrupt, "no section where one must start, at offset %" PRIu64, offset);
  }
  if (header.payload_bytes != frame_payload - (kSectionHeaderBytes - kSkippableHeaderBytes)) {
    return Fail(Code::kCorrupt, "section at offset %" PRIu64 ": its two lengths disagree", offset);
  }
  if (header.payload_bytes > SectionBytesMax(header.type)) {
    return Fail(Code::kCorrupt,
                "section %s at offset %" PRIu64 ": %" PRIu64 " bytes, over the cap of %" PRIu64,
                SectionName(header.type).c_str(), offset, header.payload_bytes, SectionBytesMax(header.type));
  }
  if (offset > limit || header.frame_bytes() > limit - offset) {
    return Fail(Code::kCorrupt,
                "section %s at offset %" PRIu64 ": %" PRIu64 " bytes do not fit before offset %" PRIu64,
                SectionName(header.type).c_str(), offset, header.frame_bytes(), limit);
  }
  return header;
}

base::Result<void> CheckSection(const SectionHeader& header, std::string_view frame, uint64_t offset) {
  CHECK(frame.size() == header.frame_bytes());
  constexpr size_t kHashed = kSectionHeaderBytes - kSkippableHeaderBytes - 8;
  if (Xxh3({frame.substr(kSkippableHeaderBytes, kHashed), frame.substr(kSectionHeaderBytes)}) !=
      header.xxh3) {
    return Fail(Code::kCorrupt, "section %s at offset %" PRIu64 ": checksum mismatch",
                SectionName(header.type).c_str(), offset);
  }
  if ((header.flags & kFlagsReserved) != 0) {
    return Fail(Code::kUnsupported, "section %s at offset %" PRIu64 ": unknown flags 0x%" PRIx32,
                SectionName(header.type).c_str(), offset, header.flags);
  }
  return {};
}

base::Result<Footer> DecodeFooter(std::string_view tail, uint64_t file_bytes, uint64_t envelope_bytes) {
  const auto incomplete = [] {
    return Fail(Code::kIncomplete,
                "incomplete: no footer at its end (cut off, still being written, or added to)");
  };
  if (tail.size() != kFooterBytes || file_bytes < envelope_bytes + kFooterBytes) return incomplete();
  const std::string_view payload = tail.substr(kSkippableHeaderBytes);
  const uint64_t offset = file_bytes - kFooterBytes;
  const bool starts = payload.starts_with(kFooterMagic);
  const bool ends = payload.ends_with(kEndMagic);
  if (!starts && !ends) return incomplete();
  const size_t checksum_at = payload.size() - kEndMagic.size() - 8;
  if (!starts || !ends || LoadU32(tail.data()) != kSkippableMagic ||
      LoadU32(tail.data() + 4) != payload.size() ||
      Xxh3(payload.substr(0, checksum_at)) != LoadU64(payload.data() + checksum_at)) {
    return Fail(Code::kCorrupt, "footer at offset %" PRIu64 ": damaged", offset);
  }
  Footer footer{.totals_offset = LoadU64(payload.data() + 8),
                .index_offset = LoadU64(payload.data() + 16),
                .index_bytes = LoadU64(payload.data() + 24),
                .index_sections = LoadU64(payload.data() + 32),
                .stored_pages = LoadU64(payload.data() + 40)};
  std::memcpy(footer.digest.data(), payload.data() + 56, footer.digest.size());
  if (LoadU64(payload.data() + 48) != 0)
    return Fail(Code::kUnsupported, "footer: a reserved field is not zero");
  if (footer.totals_offset < envelope_bytes || footer.index_offset <= footer.totals_offset ||
      footer.index_offset > offset || footer.index_bytes != offset - footer.index_offset ||
      footer.index_sections > footer.index_bytes / kSectionHeaderBytes ||
      footer.stored_pages > kStoredPagesMax) {
    return Fail(Code::kInvalid, "footer at offset %" PRIu64 ": its places and counts do not fit the file",
                offset);
  }
  return footer;
}

}  // namespace image
