#include "proto/hash.h"

#include <xxhash.h>

#include "base/check.h"

namespace image {

uint64_t Xxh3(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t Xxh3(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t Xxh3(std::initializer_list<std::string_view> pieces) {
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  CHECK(state != nullptr && XXH3_64bits_reset(state.get()) == XXH_OK);
  for (const std::string_view piece : pieces) {
    CHECK(XXH3_64bits_update(state.get(), piece.data(), piece.size()) == XXH_OK);
  }
  return XXH3_64bits_digest(state.get());
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
