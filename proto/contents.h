// Decides which pages an image has to store, in its order: not those that are all zero, not those whose bytes
// it has stored already, and not those that an ancestor stores.
//
// A repeated page is found by its hash and then compared byte by byte with what was stored. Bytes of
// ancestors are taken for the same where their XXH3-128 is.
//
// Memory: 28 bytes for each stored page, and 32 for each run of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "proto/hash_index.h"
#include "proto/image.pb.h"
#include "proto/parent_pages.h"

namespace image {

class PageBytes;

class Contents {
 public:
  // `parent` may be null. `every_page`: all are stored, whatever they hold.
  Contents(const PageBytes& bytes, const ParentPages* parent, uint64_t first_stored, bool every_page);

  struct Page {
    ckpt_pb::PageRun place;  // of kind STORED and one page, as it was added
    std::span<const std::byte> bytes;
    PageHash hash{};
    bool zero = false;
  };
  // The run that the page becomes: STORED with the next number, COPY with the number of the bytes, or ZERO.
  base::Result<ckpt_pb::PageRun> Judge(const Page& page);

  const PageHash& hash(uint64_t number) const { return hashes_.hash(number); }
  uint64_t stored() const { return stored_; }  // the number of the next stored page
  void CountIn(ckpt_pb::Totals& totals) const;

 private:
  // Where the pages of consecutive numbers were read from.
  struct Stored {
    uint64_t number = 0;
    uint64_t first = 0;
    uint32_t owner = 0;
    uint32_t objref = 0;
  };
  base::Result<bool> SameBytes(uint64_t number, std::span<const std::byte> page);
  void Store(const ckpt_pb::PageRun& place, const PageHash& hash);

  const PageBytes& source_;
  const ParentPages* const parent_;
  const uint64_t first_stored_;
  const bool every_page_;
  uint64_t stored_;
  HashIndex hashes_;
  std::vector<Stored> places_;
  std::unique_ptr<std::byte[]> scratch_;
  uint64_t zero_filled_ = 0;
  uint64_t repeated_ = 0;
  uint64_t in_parent_ = 0;
};

// Whether all bytes are zero.
bool IsZero(std::span<const std::byte> page);

}  // namespace image
