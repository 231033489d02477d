// MemorySink: what a restore drives. A sink builds a memory step by step; until Seal() it is not
// anybody's yet, and destroying the sink throws it away.
//
// Order: every CreateFile, every CreateMm, every CreateProcess, every Map and MapNonlinear, of scope MACHINE
// PutGuest, then the pages (Place, Same, Zero of image::PageSink), then Seal.
#pragma once

#include "base/error.h"
#include "proto/image.pb.h"
#include "proto/reader.h"

namespace restore {

class MemorySink : public image::PageSink {
 public:
  // `file.size` and `file.recipe` are those decided by the plan.
  virtual base::Result<void> CreateFile(const ckpt_pb::File& file) = 0;
  virtual base::Result<void> CreateMm(const ckpt_pb::Mm& mm) = 0;
  virtual base::Result<void> CreateProcess(const ckpt_pb::Process& process) = 0;
  virtual base::Result<void> Map(uint32_t mm, const ckpt_pb::Vma& vma) = 0;
  // Where pages of a non-linear vma come from. Behind every Map of that mm.
  virtual base::Result<void> MapNonlinear(uint32_t mm, const ckpt_pb::NonlinearRun& run) = 0;
  // What the kernel of a guest holds, but for bytes (scope MACHINE).
  virtual base::Result<void> PutGuest() {
    return base::Fail(base::Code::kUnsupported,
                      "the image is of a whole guest, which cannot be restored here");
  }
  // The memory is whole: write protection and counts are put in their final state.
  virtual base::Result<void> Seal() = 0;
};

}  // namespace restore
