// MemorySource: what a checkpoint and a diff read of a memory, be it the model's or a live
// process's. The engine cannot tell which.
//
// A source is a moment: from Prepare() on nothing that it describes may change until it is
// destroyed. Objects (address spaces and files) are named by objref, as in an image; page numbers
// are addresses / page size for an address space and indexes for a file.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "proto/image.pb.h"
#include "proto/writer.h"

namespace ckpt {

// Consecutive pages that a checkpoint must save.
struct ModifiedRun {
  uint64_t first = 0;
  uint64_t count = 0;  // 0: none up to the end
  // Some of the pages may be mapped elsewhere too (COW after fork): ask PageIdentity for each.
  bool maybe_shared = false;
  // The mm of the image that tracking is armed for in which all of these pages were what they are, at the
  // same addresses. 0: unknown.
  uint32_t parent_mm = 0;
};

// What consecutive pages of an address space would read as.
enum class Content : uint8_t {
  kZero,
  kBytes,     // ReadContent gives them
  kPristine,  // the page of `file` that its recipe makes, untouched
  kSigbus,    // past the end of the file
};
struct ContentRun {
  Content content = Content::kZero;
  uint64_t first = 0;
  uint64_t count = 0;  // 0: nothing left
  uint32_t file = 0;   // kPristine: the file's objref, and the page index of `first` in it
  uint64_t index = 0;
};

// Pages of the saved processes' page tables, by what a checkpoint does with them.
struct Residency {
  uint64_t mapped = 0;
  uint64_t present = 0;
  uint64_t clean = 0;
  uint64_t zero = 0;
};

class MemorySource : public image::PageBytes {
 public:
  // Refuses what cannot be saved (kUnsupported, kBusy), writes back what the image will leave to
  // files (kIo), and fixes the moment. Must be called once, before anything else.
  virtual base::Result<void> Prepare() = 0;

  virtual const ckpt_pb::Machine& machine() const = 0;
  virtual const ckpt_pb::Files& files() const = 0;
  virtual const ckpt_pb::Processes& processes() const = 0;
  virtual const ckpt_pb::Vmas& vmas(uint32_t mm) const = 0;

  // ---- what a checkpoint saves ----

  // The next modified pages of a private vma of `mm`, within pages [first, end).
  virtual base::Result<ModifiedRun> NextModified(uint32_t mm, uint64_t first, uint64_t end) = 0;
  // A number that two pages share exactly when they are the same page of memory.
  virtual uint32_t PageIdentity(uint32_t mm, uint64_t page) = 0;
  // The next pages that a shared object has, at or after `first`.
  virtual ModifiedRun NextOfObject(uint32_t file, uint64_t first) = 0;
  // The pages of a file that differ from its recipe, as PageRuns of kind STORED or ZERO, ascending.
  virtual base::Result<std::vector<ckpt_pb::PageRun>> ChangedPages(uint32_t file) = 0;
  virtual Residency CountResidency() = 0;

  // ---- which pages were written since an image ----

  // The digest of the image that writes are tracked since; empty: they are not.
  virtual std::string tracked_by() const { return ""; }
  // Tracks writes from this moment on, which is the one of the image of this digest, or no more (an empty
  // digest).
  virtual void Track(const std::string&) {}

  // ---- scope MACHINE: instead of NextModified and NextOfObject ----

  // What the guest's kernel holds, in parts that fit a section each.
  virtual base::Result<void> DescribeGuest(const std::function<base::Result<void>(const ckpt_pb::Guest&)>&) {
    return {};
  }
  // Its frames and swap slots that are saved, as PageRuns of kind STORED, ascending.
  virtual std::vector<ckpt_pb::PageRun> GuestRuns() { return {}; }
  // What the totals say of frames.
  virtual void CountFrames(ckpt_pb::Totals&) {}

  // ---- what a load would give ----

  // What the pages [first, ...) of `mm` read as, whatever their protection: the longest run that is
  // alike and ends by `end`. Requires: [first, end) lies inside one vma.
  virtual ContentRun NextContent(uint32_t mm, uint64_t first, uint64_t end) = 0;
  // The bytes of one page that NextContent called kBytes or kPristine.
  virtual base::Result<void> ReadContent(uint32_t mm, uint64_t page, std::span<std::byte> out) = 0;
};

}  // namespace ckpt
