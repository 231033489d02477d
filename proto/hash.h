// XXH3 of pieces of memory, and the digest of an image.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "proto/format.h"

struct XXH3_state_s;

namespace image {

uint64_t Xxh3(std::string_view bytes);
uint64_t Xxh3(std::span<const std::byte> bytes);
// Of the pieces as if they stood behind each other.
uint64_t Xxh3(std::initializer_list<std::string_view> pieces);

// The same of pieces of memory.
uint64_t Xxh3(std::span<const std::span<std::byte>> pieces);

// XXH3-128 of a page, which stands for its content: two pages that differ have the same one once in 2^128. In
// the canonical (big-endian) order.
using PageHash = std::array<unsigned char, 16>;
PageHash HashPage(std::span<const std::byte> page);

// XXH3-128 over the envelope and all section frames of an image, in the order of the file. Page frames are
// covered through their xxh3 in the index.
class Digest {
 public:
  Digest();
  void Update(std::string_view bytes);
  DigestBytes Get() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

// 32 hexadecimal digits.
std::string Hex(const DigestBytes& digest);

}  // namespace image
