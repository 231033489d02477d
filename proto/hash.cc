#include "proto/hash.h"

#include <xxhash.h>

#include "base/check.h"

namespace image {
namespace {

class Streamed {
 public:
  Streamed() : state_(XXH3_createState()) {
    CHECK(state_ != nullptr && XXH3_64bits_reset(state_.get()) == XXH_OK);
  }
  void Update(const void* bytes, size_t count) {
    CHECK(XXH3_64bits_update(state_.get(), bytes, count) == XXH_OK);
  }
  uint64_t Get() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, Free> state_;
};

}  // namespace

uint64_t Xxh3(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t Xxh3(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t Xxh3(std::initializer_list<std::string_view> pieces) {
  Streamed hash;
  for (const std::string_view piece : pieces) hash.Update(piece.data(), piece.size());
  return hash.Get();
}

uint64_t Xxh3(std::span<const std::span<std::byte>> pieces) {
  Streamed hash;
  for (const std::span<std::byte> piece : pieces) hash.Update(piece.data(), piece.size());
  return hash.Get();
}

PageHash HashPage(std::span<const std::byte> page) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(page.data(), page.size()));
  return std::to_array(canonical.digest);
}

void Digest::Free::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

Digest::Digest() : state_(XXH3_createState()) {
  CHECK(state_ != nullptr && XXH3_128bits_reset(state_.get()) == XXH_OK);
}

void Digest::Update(std::string_view bytes) {
  CHECK(XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()) == XXH_OK);
}

DigestBytes Digest::Get() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
  DigestBytes bytes;
  static_assert(sizeof canonical.digest == sizeof bytes);
  std::copy(std::begin(canonical.digest), std::end(canonical.digest), bytes.begin());
  return bytes;
}

std::string Hex(const DigestBytes& digest) {
  std::string text;
  for (const unsigned char byte : digest) text += base::Format("%02x", byte);
  return text;
}

}  // namespace image
