// The checks between decoded metadata and anything that is built from it. A checksum says that bytes are
// those that were written; only this says that they make sense.
//
//   kInvalid      a rule of the format is broken (objrefs, orders, bounds, counts, kinds)
//   kWrongType    an objref names an object of another type than it has to
//   kTooBig       an auxv value that does not fit the word of its program
//   kUnsupported  what this version cannot restore: a vma flag, a kind or page size that it does not know
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "proto/image.pb.h"
#include "proto/metadata.h"

namespace image {

// One past the highest user address of x86-64.
inline constexpr uint64_t kTaskSize = 0x7ffffffff000;
inline constexpr uint32_t kObjrefMax = 0x7fffffff;

// VM_* of Linux 2.6.34, those that decide whether a vma can be saved.
inline constexpr uint64_t kVmShared = 0x8;
inline constexpr uint64_t kVmMayShare = 0x80;
inline constexpr uint64_t kVmLocked = 0x2000;
inline constexpr uint64_t kVmNonlinear = 0x800000;
// PFNMAP, IO, RESERVED, HUGETLB, MAPPED_COPY, INSERTPAGE, MIXEDMAP, SAO. NORESERVE can be restored, and
// NONLINEAR where the mapping is shared.
inline constexpr uint64_t kVmUnsupported =
    0x400 | 0x4000 | 0x80000 | 0x400000 | 0x1000000 | 0x2000000 | 0x10000000 | 0x20000000;

base::Result<void> Validate(const Metadata& metadata);

// The same for page runs, which stream by and are never in memory together: every page of a run lies where
// its owner can have one, runs of one owner ascend without overlap, stored pages are numbered without a gap,
// COPY names only bytes that were stored before, and SAME only pages that were named before.
//
// Keeps a few words for each object. `metadata` has passed Validate and must outlive the checker.
class RunChecker {
 public:
  explicit RunChecker(const Metadata& metadata);

  // The runs of the next chunk, in order. Returns how many pages it stores.
  base::Result<uint64_t> CheckChunk(const google::protobuf::RepeatedPtrField<ckpt_pb::PageRun>& runs);
  // Stored by all chunks until now.
  uint64_t stored_pages() const { return stored_ - first_stored_; }

 private:
  struct Owner {
    ckpt_pb::PageRun::Owner type = ckpt_pb::PageRun::MM;
    const ckpt_pb::Vmas* vmas = nullptr;  // MM; null if it has none.
    int vma = 0;                          // The first one that a later run can be in.
    uint64_t pages = 0;                   // Others: their size.
    uint64_t end = 0;                     // Of the last run.
  };

  base::Result<void> Check(const ckpt_pb::PageRun& run);
  base::Result<Owner*> FindOwner(const ckpt_pb::PageRun& run);
  base::Result<void> CheckPlace(const ckpt_pb::PageRun& run, Owner& owner);

  std::unordered_map<uint32_t, Owner> owners_;
  Owner frames_;  // Of a guest; of type MM where the scope is another.
  Owner slots_;
  const uint64_t first_stored_;
  uint64_t stored_;     // the number of the next stored page
  uint64_t pages_ = 0;  // that SAME can name
};

}  // namespace image
