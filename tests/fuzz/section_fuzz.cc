// One section of an image that is good otherwise: parsed, and judged together with the others. The first byte
// of the input is the section's type (its top bit: ignorable), the second says which image, the rest is the
// payload.
#include "base/check.h"
#include "proto/metadata.h"
#include "proto/validate.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/image_parts.h"
#include "tests/fuzz/message_mutator.h"

namespace fuzz {
namespace {

using image::SectionType;

constexpr uint32_t kTypeMask = 0x3f;

// What a section of metadata and those around it come to.
base::Result<image::Metadata> Parse(const std::vector<Part>& parts, const Part& ours, bool is_added) {
  image::MetadataParser parser;
  const auto add = [&](const Part& part) -> base::Result<void> {
    const std::string frame = SectionFrame(part);
    const auto header = image::DecodeSectionHeader(frame, 0, frame.size());
    if (!header) return std::unexpected(header.error());
    TRY_VOID(image::CheckSection(*header, frame, 0));
    return parser.Add(*header, frame, 0);
  };
  bool done = false;
  for (const Part& part : parts) {
    const bool is_metadata =
        part.kind == Part::Kind::kSection && part.type < static_cast<uint32_t>(SectionType::kChunkRuns);
    if (!done && (!is_metadata || part.type > ours.type)) {
      TRY_VOID(add(ours));
      done = true;
    }
    if (!is_metadata) break;
    if (part.type != ours.type || is_added) TRY_VOID(add(part));
  }
  return parser.Finish();
}

void CheckRuns(const image::Metadata& metadata, const std::vector<Part>& parts) {
  image::RunChecker checker(metadata);
  for (const Part& part : parts) {
    ckpt_pb::ChunkRuns runs;
    if (!part.Is(SectionType::kChunkRuns)) continue;
    if (!image::ParsePayload(part.bytes, image::kChunkRunsMax, "runs", runs)) return;
    if (!checker.CheckChunk(runs.run())) return;
  }
}

void TryMetadata(const std::vector<Part>& parts, const Part& ours, bool is_added) {
  const auto metadata = Parse(parts, ours, is_added);
  if (!metadata) return;
  const bool good = image::Validate(*metadata).has_value();
  // What is written again and read again is the same.
  image::Metadata again = *metadata;
  CHECK(again.processes.ParseFromString(image::Serialize(metadata->processes)));
  CHECK(again.files.ParseFromString(image::Serialize(metadata->files)));
  CHECK(image::Validate(again).has_value() == good);
  if (good) CheckRuns(*metadata, parts);
}

}  // namespace

void Run(std::string_view input) {
  if (input.size() < 2) return;
  const auto first = static_cast<unsigned char>(input[0]);
  const auto which = static_cast<unsigned char>(input[1]);
  const Part ours{Part::Kind::kSection, first & kTypeMask, (first & 0x80) != 0 ? image::kFlagIgnorable : 0,
                  std::string(input.substr(2))};
  std::vector<Part> parts = Split(GoldenImage(which & 7))->parts;
  if (ours.type < static_cast<uint32_t>(SectionType::kChunkRuns)) {
    return TryMetadata(parts, ours, (which & 8) != 0);
  }
  std::erase_if(parts, [](const Part& part) { return part.Is(SectionType::kChunkRuns); });
  parts.push_back(ours);
  if (ours.Is(SectionType::kChunkRuns)) return TryMetadata(parts, parts.front(), false);
  const std::unique_ptr<google::protobuf::Message> message = MessageOfSection(ours.type);
  if (message != nullptr) (void)image::ParsePayload(ours.bytes, image::kObjectsMax, "section", *message);
}

std::map<std::string, std::string> Seeds() {
  std::map<std::string, std::string> seeds;
  for (char which = 0; which < 8; ++which) {
    int number = 0;
    for (const Part& part : Split(GoldenImage(static_cast<size_t>(which)))->parts) {
      if (part.kind != Part::Kind::kSection) continue;
      seeds[std::to_string(which) + "_" + std::to_string(number++)] =
          static_cast<char>(part.type) + std::string(1, which) + part.bytes;
    }
  }
  return seeds;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max, unsigned seed) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  base::Random random(seed);
  if (size < 2 || random.Below(16) == 0) return Put(ChangedBytes(input, size_max), data, size_max);
  const uint32_t type = static_cast<unsigned char>(input[0]) & kTypeMask;
  std::string payload = input.substr(2);
  for (uint64_t changes = 1 + random.Below(3); changes > 0; --changes)
    payload = ChangedPayload(type, payload, random, size_max - 2);
  if (payload.size() > size_max - 2) return size;
  return Put(input.substr(0, 2) + payload, data, size_max);
}

}  // namespace fuzz
