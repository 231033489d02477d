// What is read of an image before anything else is known: the first and the last bytes of a file, and the
// headers of sections. The first byte of the input says which of them the rest is.
#include <algorithm>

#include "base/check.h"
#include "proto/format.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/image_parts.h"

namespace fuzz {
namespace {

void TryEnvelope(std::string_view bytes) {
  const std::string_view head = bytes.substr(0, image::kEnvelopeBytesMax);
  const auto envelope = image::DecodeEnvelope(head);
  if (!envelope) return;
  CHECK(envelope->frame_bytes <= head.size() && envelope->frame_bytes >= image::kEnvelopeBytes);
  CHECK(envelope->min_reader_version <= image::kVersion && envelope->min_reader_version > 0);
  CHECK(image::IsImage(head, {}));
}

void TryFooter(std::string_view bytes) {
  const std::string_view tail = bytes.substr(bytes.size() - std::min(bytes.size(), image::kFooterBytes));
  const auto footer = image::DecodeFooter(tail, bytes.size(), image::kEnvelopeBytes);
  if (!footer) return;
  CHECK(image::IsImage({}, tail));
  CHECK(footer->totals_offset >= image::kEnvelopeBytes && footer->totals_offset < footer->index_offset);
  CHECK(footer->index_offset + footer->index_bytes == bytes.size() - image::kFooterBytes);
}

void TrySection(std::string_view bytes) {
  if (bytes.size() < image::kSectionHeaderBytes) return;
  const auto header = image::DecodeSectionHeader(bytes, 0, bytes.size());
  if (!header) return;
  CHECK(header->frame_bytes() <= bytes.size());
  CHECK(header->payload_bytes <= image::SectionBytesMax(header->type));
  (void)image::CheckSection(*header, bytes.substr(0, header->frame_bytes()), 0);
}

}  // namespace

void Run(std::string_view input) {
  if (input.empty()) return;
  const std::string_view bytes = input.substr(1);
  switch (input[0] & 3) {
    case 0: return TryEnvelope(bytes);
    case 1: return TryFooter(bytes);
    case 2: return TrySection(bytes);
    default:
      (void)image::IsImage(bytes.substr(0, image::kEnvelopeBytesMax),
                           bytes.substr(bytes.size() - std::min(bytes.size(), image::kFooterBytes)));
  }
}

std::map<std::string, std::string> Seeds() {
  std::map<std::string, std::string> seeds;
  const std::string& image = GoldenImage(0);
  seeds["envelope"] = '\0' + image.substr(0, image::kEnvelopeBytes);
  seeds["footer"] = '\1' + image;
  seeds["no image"] = '\3' + std::string("text");
  int number = 0;
  for (const Part& part : Split(image)->parts) {
    if (part.kind == Part::Kind::kSection)
      seeds["section" + std::to_string(number++)] = '\2' + SectionFrame(part);
  }
  return seeds;
}

// Every second time with a checksum that is right.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max, unsigned seed) {
  std::string changed = ChangedBytes({reinterpret_cast<const char*>(data), size}, size_max);
  if (changed.empty() || seed % 2 == 0) return Put(changed, data, size_max);
  const std::string bytes = changed.substr(1);
  const size_t least = (changed[0] & 3) == 1 ? image::kFooterBytes : image::kSectionHeaderBytes;
  if (bytes.size() < least) return Put(changed, data, size_max);
  switch (changed[0] & 3) {
    case 0: return Put('\0' + WithEnvelopeChecksum(bytes), data, size_max);
    case 1: {
      image::Footer footer;
      const char* numbers = bytes.data() + bytes.size() - image::kFooterBytes + image::kSkippableHeaderBytes;
      footer.totals_offset = image::LoadU64(numbers + 8);
      footer.index_offset = image::LoadU64(numbers + 16);
      footer.index_bytes = image::LoadU64(numbers + 24);
      footer.index_sections = image::LoadU64(numbers + 32);
      footer.stored_pages = image::LoadU64(numbers + 40);
      return Put('\1' + bytes.substr(0, bytes.size() - image::kFooterBytes) + image::EncodeFooter(footer),
                 data, size_max);
    }
    case 2: {
      const Part part{Part::Kind::kSection, image::LoadU32(bytes.data() + 8),
                      image::LoadU32(bytes.data() + 12), bytes.substr(image::kSectionHeaderBytes)};
      return Put('\2' + SectionFrame(part), data, size_max);
    }
    default: return Put(changed, data, size_max);
  }
}

}  // namespace fuzz
