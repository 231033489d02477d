// Numbers of pages by their content: the hashes of consecutive numbers, and a table over them.
//
// Memory: 16 bytes a page for the hash and at most 12 for the table.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "proto/hash.h"

namespace image {

class HashIndex {
 public:
  // Numbers start at `first`.
  explicit HashIndex(uint64_t first = 0) : first_(first), table_(0, Hasher{&hashes_}, Equal{&hashes_}) {}
  HashIndex(const HashIndex&) = delete;
  HashIndex& operator=(const HashIndex&) = delete;

  void Reserve(uint64_t pages) {
    hashes_.reserve(pages);
    table_.reserve(pages);
  }

  // The next number. Of several pages with one hash the first is found.
  void Add(const PageHash& hash) {
    hashes_.push_back(hash);
    if (hashes_.size() <= kTableMax) table_.insert(static_cast<uint32_t>(hashes_.size() - 1));
  }

  std::optional<uint64_t> Find(const PageHash& hash) const {
    const auto found = table_.find(hash);
    return found == table_.end() ? std::nullopt : std::optional(first_ + *found);
  }

  const PageHash& hash(uint64_t number) const { return hashes_[number - first_]; }

 private:
  // Pages behind so many are not found: 16 TiB.
  static constexpr uint64_t kTableMax = std::numeric_limits<uint32_t>::max();

  struct Hasher {
    using is_transparent = void;
    const std::vector<PageHash>* hashes;
    size_t operator()(const PageHash& hash) const {
      size_t word;
      std::memcpy(&word, hash.data(), sizeof word);
      return word;
    }
    size_t operator()(uint32_t place) const { return (*this)((*hashes)[place]); }
  };
  struct Equal {
    using is_transparent = void;
    const std::vector<PageHash>* hashes;
    bool operator()(uint32_t a, uint32_t b) const { return (*hashes)[a] == (*hashes)[b]; }
    bool operator()(uint32_t a, const PageHash& b) const { return (*hashes)[a] == b; }
    bool operator()(const PageHash& a, uint32_t b) const { return (*hashes)[b] == a; }
  };

  const uint64_t first_;
  std::vector<PageHash> hashes_;
  absl::flat_hash_set<uint32_t, Hasher, Equal> table_;
};

}  // namespace image
