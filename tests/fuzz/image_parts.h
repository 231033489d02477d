// An image as the list of its frames, and put together again with everything right that can be computed:
// checksums, places, counts and the digest. What the payloads say is not looked at otherwise.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/format.h"

namespace fuzz {

struct Part {
  enum class Kind { kSection, kPages };  // kPages: any frame that is no section
  Kind kind;
  uint32_t type = 0;   // of a section
  uint32_t flags = 0;  // of a section
  std::string bytes;   // the payload, or the whole frame

  bool Is(image::SectionType wanted) const {
    return kind == Kind::kSection && type == static_cast<uint32_t>(wanted);
  }
};

struct ImageParts {
  std::string envelope;
  std::vector<Part> parts;
  image::Footer footer;
};

// Nothing for bytes that do not begin with a good envelope, are no frames, or have no footer at their end.
std::optional<ImageParts> Split(std::string_view image);

// What Join makes right beside the checksums.
struct Repairs {
  bool numbers = true;  // of stored pages, in chunk runs and totals
  bool frames = true;   // a page frame of the right size behind each chunk runs section
  bool index = true;    // places, lengths, checksums and runs of its chunks
  bool footer = true;   // its places, counts and digest
};

std::string Join(ImageParts image, const Repairs& repairs);

// The frame of one section, with the right checksum.
std::string SectionFrame(const Part& part);

// An envelope frame of any length, with the right checksum in its last bytes.
std::string WithEnvelopeChecksum(const std::string& frame);

// A page frame of so many pages, at most image::kChunkPagesMax.
const std::string& PageFrame(uint64_t pages);

}  // namespace fuzz
