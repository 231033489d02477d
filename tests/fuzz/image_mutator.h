// Changes of an image by what it is made of: payloads, frames and their order, places and counts. Most
// results have right checksums, so that they come past those.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fuzz {

struct ImageLimits {
  size_t bytes_max = 0;  // of the result; more is what it was before
  // Memory, swap and host of its machine.
  uint64_t memory_max = UINT64_MAX;
};

std::string ChangedImage(const std::string& image, uint64_t seed, const ImageLimits& limits);

// One image with frames of another.
std::string CrossedImage(const std::string& image, const std::string& other, uint64_t seed,
                         const ImageLimits& limits);

// The same image of a machine with less memory.
std::string WithMemory(const std::string& image, uint64_t memory_max);

}  // namespace fuzz
