#include "tests/fuzz/image_mutator.h"

#include <algorithm>

#include "base/random.h"
#include "proto/metadata.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/image_parts.h"
#include "tests/fuzz/message_mutator.h"

namespace fuzz {
namespace {

using image::SectionType;

constexpr size_t kPartsMax = 64;

bool OneIn(base::Random& random, uint64_t n) { return random.Below(n) == 0; }

// A place of `parts`; with chunk runs and guests more often than others.
size_t AnyPart(const std::vector<Part>& parts, base::Random& random) {
  size_t at = random.Below(parts.size());
  for (int i = 0; i < 3 && !parts[at].Is(SectionType::kChunkRuns) && !parts[at].Is(SectionType::kGuest);
       ++i) {
    at = random.Below(parts.size());
  }
  return at;
}

void ChangePart(Part& part, base::Random& random, size_t size_max) {
  if (part.kind == Part::Kind::kPages) {
    if (OneIn(random, 4)) {
      part.bytes = ChangedBytes(part.bytes, size_max);
    } else {
      part.bytes = PageFrame(1 + random.Below(OneIn(random, 4) ? 256 : 4));
    }
    return;
  }
  if (OneIn(random, 32)) part.type = static_cast<uint32_t>(random.Below(40));
  if (OneIn(random, 32)) part.flags ^= uint32_t{1} << random.Below(32);
  part.bytes = ChangedPayload(part.type, part.bytes, random, size_max);
}

// The index becomes two sections.
void CutIndex(std::vector<Part>& parts, base::Random& random) {
  for (size_t i = 0; i < parts.size(); ++i) {
    ckpt_pb::Index index;
    if (!parts[i].Is(SectionType::kIndex) || !index.ParseFromString(parts[i].bytes)) continue;
    ckpt_pb::Index second;
    const auto keep = static_cast<int>(random.Below(static_cast<uint64_t>(index.chunk_size()) + 1));
    while (index.chunk_size() > keep) {
      *second.add_chunk() = index.chunk(index.chunk_size() - 1);
      index.mutable_chunk()->RemoveLast();
    }
    std::ranges::reverse(*second.mutable_chunk());
    Part added = parts[i];
    parts[i].bytes = image::Serialize(index);
    added.bytes = image::Serialize(second);
    parts.insert(parts.begin() + static_cast<ptrdiff_t>(i), std::move(added));
    std::swap(parts[i], parts[i + 1]);
    return;
  }
}

void ChangeParts(std::vector<Part>& parts, base::Random& random, size_t size_max) {
  if (parts.empty()) return;
  const size_t at = AnyPart(parts, random);
  const auto place = parts.begin() + static_cast<ptrdiff_t>(at);
  switch (random.Below(24)) {
    case 0: parts.erase(place); return;
    case 1:
      if (parts.size() < kPartsMax) {
        const Part twice = *place;
        parts.insert(place, twice);
      }
      return;
    case 2: std::swap(parts[at], parts[random.Below(parts.size())]); return;
    case 3:
      if (parts.size() < kPartsMax) {
        const Part moved = *place;
        parts.insert(parts.begin() + static_cast<ptrdiff_t>(random.Below(parts.size() + 1)), moved);
      }
      return;
    case 4: CutIndex(parts, random); return;
    default: ChangePart(*place, random, size_max); return;
  }
}

void ChangeFooter(image::Footer& footer, base::Random& random) {
  uint64_t* const numbers[] = {&footer.totals_offset, &footer.index_offset, &footer.index_bytes,
                               &footer.index_sections, &footer.stored_pages};
  uint64_t& number = *numbers[random.Below(std::size(numbers))];
  switch (random.Below(3)) {
    case 0: number += random.Below(65) - 32; return;
    case 1: number = *numbers[random.Below(std::size(numbers))]; return;
    default: number = random.Next() >> random.Below(64); return;
  }
}

void LimitMemory(std::vector<Part>& parts, uint64_t memory_max) {
  for (Part& part : parts) {
    ckpt_pb::Machine machine;
    if (!part.Is(SectionType::kMachine) || !machine.ParseFromString(part.bytes)) continue;
    machine.set_memory_bytes(std::min<uint64_t>(machine.memory_bytes(), memory_max));
    machine.set_swap_bytes(std::min<uint64_t>(machine.swap_bytes(), memory_max));
    machine.set_host_bytes(std::min<uint64_t>(machine.host_bytes(), memory_max));
    part.bytes = image::Serialize(machine);
  }
}

std::string Joined(ImageParts image, base::Random& random, const ImageLimits& limits,
                   const std::string& otherwise) {
  const Repairs repairs{.numbers = !OneIn(random, 16),
                        .frames = !OneIn(random, 16),
                        .index = !OneIn(random, 16),
                        .footer = !OneIn(random, 32)};
  if (limits.memory_max != UINT64_MAX) LimitMemory(image.parts, limits.memory_max);
  std::string joined = Join(std::move(image), repairs);
  if (OneIn(random, 32)) joined = ChangedBytes(joined, limits.bytes_max);
  return joined.size() <= limits.bytes_max ? joined : otherwise;
}

}  // namespace

std::string ChangedImage(const std::string& image, uint64_t seed, const ImageLimits& limits) {
  base::Random random(seed);
  std::optional<ImageParts> split = Split(image);
  if (!split) return ChangedBytes(image, limits.bytes_max);
  for (uint64_t changes = 1 + random.Below(4); changes > 0; --changes)
    ChangeParts(split->parts, random, limits.bytes_max);
  if (OneIn(random, 64))
    split->envelope = WithEnvelopeChecksum(ChangedBytes(split->envelope, image::kEnvelopeBytesMax));
  if (!OneIn(random, 64)) return Joined(*std::move(split), random, limits, image);
  // A footer that lies, and has the right digest all the same.
  std::optional<ImageParts> again = Split(Join(*split, {}));
  if (!again) return image;
  ChangeFooter(again->footer, random);
  std::string joined = Join(*std::move(again), {.footer = false});
  return joined.size() <= limits.bytes_max ? joined : image;
}

std::string CrossedImage(const std::string& image, const std::string& other, uint64_t seed,
                         const ImageLimits& limits) {
  base::Random random(seed);
  std::optional<ImageParts> one = Split(image);
  const std::optional<ImageParts> two = Split(other);
  if (!one || !two || one->parts.empty() || two->parts.empty()) return image;
  for (uint64_t changes = 1 + random.Below(3); changes > 0; --changes) {
    const Part& taken = two->parts[random.Below(two->parts.size())];
    const auto same = [&](const Part& part) { return part.kind == taken.kind && part.type == taken.type; };
    const auto place = std::ranges::find_if(one->parts, same);
    if (place != one->parts.end() && !OneIn(random, 4)) {
      *place = taken;
    } else if (one->parts.size() < kPartsMax) {
      one->parts.insert(place, taken);
    }
  }
  return Joined(*std::move(one), random, limits, image);
}

std::string WithMemory(const std::string& image, uint64_t memory_max) {
  std::optional<ImageParts> split = Split(image);
  if (!split) return image;
  LimitMemory(split->parts, memory_max);
  return Join(*std::move(split), {});
}

}  // namespace fuzz
