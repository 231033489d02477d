// What a checkpoint stores, decided without touching memory or image: modified pages and their
// identities go in, runs come out. Pages that several address spaces share are stored by the first
// that names them, and named again (SAME) by the others. Pages that the parent image is known to have,
// because nobody wrote to them since, are taken from it (COPY, ZERO).
//
// Memory: at most 32 bytes for each shared page; none for the others.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/container/flat_hash_map.h"
#include "base/error.h"
#include "ckpt/source.h"
#include "proto/image.pb.h"
#include "proto/parent_pages.h"

namespace ckpt {

class Plan {
 public:
  // Takes each run in the order of the image. Those that are STORED need be only if their bytes are not there
  // yet.
  using Emit = std::function<base::Result<void>(const ckpt_pb::PageRun&)>;
  // `parent` may be null, and has places.
  explicit Plan(Emit emit, const image::ParentPages* parent = nullptr)
      : emit_(std::move(emit)), parent_(parent) {}

  // The runs of one owner must come in ascending order.
  // `identity(page)` is asked for each page of a run that may be shared.
  base::Result<void> Add(ckpt_pb::PageRun::Owner owner, uint32_t objref, const ModifiedRun& run,
                         const std::function<uint32_t(uint64_t page)>& identity);
  // A run whose kind is set already, STORED or ZERO; numbers are assigned here.
  base::Result<void> AddAsIs(ckpt_pb::PageRun run);
  // Emits what is still held back. No run may follow.
  base::Result<void> Finish();

  uint64_t pages() const { return pages_; }          // numbered so far
  uint64_t shared() const { return shared_; }        // mappings of pages that were named before
  uint64_t in_parent() const { return in_parent_; }  // pages taken from the parent

 private:
  base::Result<void> Append(const ckpt_pb::PageRun& run);
  base::Result<void> AddPages(ckpt_pb::PageRun run, const ModifiedRun& from);

  Emit emit_;
  ckpt_pb::PageRun pending_;                           // count 0: none
  absl::flat_hash_map<uint32_t, uint32_t> stored_at_;  // identity -> number of the page
  const image::ParentPages* const parent_;
  uint64_t pages_ = 0;
  uint64_t shared_ = 0;
  uint64_t in_parent_ = 0;
};

}  // namespace ckpt
