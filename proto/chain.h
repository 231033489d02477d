// A chain of images: a child names its parent by digest, and its runs name bytes of its ancestors by number.
// Numbers go on from one image to the next, so that one of them says in which image, chunk and page the bytes
// are.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "proto/file.h"
#include "proto/image.pb.h"

namespace image {

class Reader;

// The part of a chunk that one needs to get at its bytes. 40 bytes for each MiB that is stored.
struct StoredChunk {
  uint64_t first = 0;  // number of its first page
  uint64_t offset = 0;
  uint64_t xxh3 = 0;
  uint32_t frame_bytes = 0;
  uint32_t pages = 0;
  bool raw = false;
};

// One image of a chain. Its file stays open.
struct Link {
  std::string path;
  std::string digest;
  std::string label;
  ckpt_pb::Totals totals;
  std::shared_ptr<const InputFile> file;
  std::vector<StoredChunk> chunks;  // ascending
};

class Chain {
 public:
  // The chain that ends with `top`. A parent is looked for where its child says that it was, in the folder of
  // the child, and among `also`. kNotFound: it is in none of these places; kChanged: what is there is another
  // image; both name the child, the parent and its digest. Everything but page data of each image is checked.
  static base::Result<std::unique_ptr<Chain>> Open(const Reader& top, std::span<const std::string> also);

  // From the oldest to `top`.
  const std::vector<Link>& links() const { return links_; }

  struct Place {
    const Link* link = nullptr;
    const StoredChunk* chunk = nullptr;
  };
  // Requires: `number` is below the numbers of the chain's end.
  Place Find(uint64_t number) const;

 private:
  Chain() = default;

  std::vector<Link> links_;
  std::vector<uint64_t> firsts_;  // the first number of each
};

}  // namespace image
