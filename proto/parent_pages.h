// What an image holds, as its child has to know it: the numbers of the bytes of its pages, by place or by
// content.
//
// By place: for pages that are known not to have changed, because somebody watched. By content: for pages of
// which nothing is known; pages are taken for the same where their XXH3-128 is.
//
// Memory: by place 40 bytes for each run; by content 28 for each page that the chain stores.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "proto/hash_index.h"
#include "proto/reader.h"

namespace image {

class ParentPages {
 public:
  enum class By { kPlace, kContent };
  // `image` is open with its ancestors, and need not be kept. kUnsupported by content if it is of a version
  // that has no hashes of pages.
  static base::Result<std::unique_ptr<ParentPages>> Load(const Reader& image, By by);

  // What a child that is written to the file `child` says of it.
  ckpt_pb::Parent Record(const std::string& child) const;
  By by() const { return by_; }
  const std::string& digest() const { return digest_; }
  const std::string& path() const { return path_; }
  // Pages that it and its ancestors store.
  uint64_t stored() const { return stored_; }

  // The bytes of pages by their place, as many from `page` on as are alike: a run of kind COPY (with their
  // numbers) or ZERO. Nothing if the image has no such page.
  std::optional<ckpt_pb::PageRun> At(ckpt_pb::PageRun::Owner owner, uint32_t objref, uint64_t page) const;
  // The number of bytes with this hash.
  std::optional<uint64_t> Find(const PageHash& hash) const { return hashes_.Find(hash); }

 private:
  struct Run {
    uint64_t first = 0;
    uint64_t count = 0;
    uint64_t number = 0;
    bool zero = false;
  };
  base::Result<void> LoadPlaces(const Reader& image);
  base::Result<void> LoadHashes(const Reader& image);
  void AddPlaces(const ckpt_pb::PageRun& run);

  By by_ = By::kPlace;
  std::string path_;
  std::string digest_;
  DigestBytes digest_bytes_{};
  uint64_t stored_ = 0;
  uint32_t depth_ = 0;
  std::unordered_map<uint64_t, std::vector<Run>> places_;  // by owner and objref
  std::vector<Run> pages_;                                 // by number of page, for SAME
  uint64_t page_count_ = 0;
  HashIndex hashes_;
};

}  // namespace image
