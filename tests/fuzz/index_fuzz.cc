// The page index: the chunks that the input has, judged against the metadata of an image. What RunChecker
// takes makes a good image, with frames of the sizes that it said, and that image is read and verified. The
// first byte of the input says which image (its top bit: places and lengths are the input's own), the rest is
// an Index.
#include <algorithm>

#include "base/check.h"
#include "proto/metadata.h"
#include "proto/reader.h"
#include "proto/validate.h"
#include "proto/verify.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/image_parts.h"
#include "tests/fuzz/message_mutator.h"

namespace fuzz {
namespace {

using image::SectionType;

// More pages take longer, and show nothing else.
constexpr uint64_t kPagesMax = 1024;

// The metadata of golden images, parsed once.
const image::Metadata& MetadataOf(size_t number) {
  static std::map<size_t, image::Metadata> parsed;
  const auto [place, is_new] = parsed.try_emplace(number);
  if (!is_new) return place->second;
  image::MetadataParser parser;
  for (const Part& part : Split(GoldenImage(number))->parts) {
    if (part.Is(SectionType::kChunkRuns) || part.Is(SectionType::kTotals)) break;
    const std::string frame = SectionFrame(part);
    CHECK(parser.Add(image::DecodeSectionHeader(frame, 0, frame.size()).value(), frame, 0));
  }
  return place->second = parser.Finish().value();
}

Part SectionOf(SectionType type, const google::protobuf::MessageLite& message) {
  return {Part::Kind::kSection, static_cast<uint32_t>(type), 0, image::Serialize(message)};
}

// The image with these chunks instead of its own.
std::string ImageOf(size_t number, const ckpt_pb::Index& index, bool repair) {
  ImageParts image = *Split(GoldenImage(number));
  const auto metadata_ends = std::ranges::find_if(image.parts, [](const Part& part) {
    return part.Is(SectionType::kChunkRuns) || part.Is(SectionType::kTotals);
  });
  image.parts.erase(metadata_ends, image.parts.end());
  for (const ckpt_pb::Chunk& chunk : index.chunk()) {
    ckpt_pb::ChunkRuns runs;
    *runs.mutable_run() = chunk.run();
    image.parts.push_back(SectionOf(SectionType::kChunkRuns, runs));
  }
  image.parts.push_back(SectionOf(SectionType::kTotals, ckpt_pb::Totals()));
  image.parts.push_back(SectionOf(SectionType::kIndex, index));
  return Join(std::move(image), {.index = repair});
}

}  // namespace

void Run(std::string_view input) {
  if (input.empty()) return;
  const auto first = static_cast<unsigned char>(input[0]);
  const size_t number = first & 7;
  ckpt_pb::Index index;
  if (!image::ParsePayload(input.substr(1), image::kSmallSectionBytesMax, "index", index)) return;
  image::RunChecker checker(MetadataOf(number));
  for (const ckpt_pb::Chunk& chunk : index.chunk()) {
    CHECK(image::SameRuns(chunk.run(), chunk.run()));
    const auto pages = checker.CheckChunk(chunk.run());
    if (!pages) return;
    CHECK(*pages <= image::kChunkPagesMax);
  }
  if (checker.stored_pages() > kPagesMax) return;
  static MemoryFile file;
  const bool repair = (first & 0x80) == 0;
  file.Set(ImageOf(number, index, repair));
  const auto reader = image::Reader::Open(file.path());
  const auto verified = image::Verify(file.path(), {.threads = 1});
  if (repair) CHECK_MSG(reader.has_value(), reader.error().what);
  if (repair) CHECK_MSG(verified.has_value(), verified.error().what);
  // Whether page frames are where the index says, Open knows as well; whether they are what it says, Verify
  // alone.
  CHECK(reader.has_value() || !verified.has_value());
  if (!reader) return;
  CHECK((*reader)->stored_pages() == checker.stored_pages());
  int chunks = 0;
  CHECK((*reader)->ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    CHECK(image::SameRuns(chunk.run(), index.chunk(chunks++).run()));
    return {};
  }));
  CHECK(chunks == index.chunk_size());
}

std::map<std::string, std::string> Seeds() {
  std::map<std::string, std::string> seeds;
  for (int which = 0; which < 8; ++which) {
    for (const Part& part : Split(GoldenImage(static_cast<size_t>(which)))->parts) {
      if (!part.Is(SectionType::kIndex)) continue;
      seeds[std::to_string(which)] = static_cast<char>(which) + part.bytes;
      seeds[std::to_string(which) + "_own"] = static_cast<char>(which | 0x80) + part.bytes;
    }
  }
  return seeds;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max, unsigned seed) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  base::Random random(seed);
  if (size == 0 || random.Below(16) == 0) return Put(ChangedBytes(input, size_max), data, size_max);
  std::string payload = input.substr(1);
  for (uint64_t changes = 1 + random.Below(4); changes > 0; --changes)
    payload = ChangedPayload(static_cast<uint32_t>(SectionType::kIndex), payload, random, size_max - 1);
  ckpt_pb::Index index;
  // Numbers without gaps, most of the time: they hang together, and no single change keeps them right.
  if (random.Below(4) != 0 && index.ParseFromString(payload)) {
    uint64_t stored = 0;
    for (ckpt_pb::Chunk& chunk : *index.mutable_chunk()) {
      for (ckpt_pb::PageRun& run : *chunk.mutable_run()) {
        if (run.kind() != ckpt_pb::PageRun::STORED) continue;
        run.set_stored(stored);
        stored += run.count();
      }
    }
    payload = image::Serialize(index);
  }
  if (payload.size() > size_max - 1) return size;
  return Put(input.substr(0, 1) + payload, data, size_max);
}

}  // namespace fuzz
