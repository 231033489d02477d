// What an image of scope MACHINE holds of a modelled guest beside its files and processes: its frames, page
// tables, caches, lists and swap map, and what its host had of its memory (message Guest of
// proto/image.proto).
//
// What a checkpoint may drop (spec A14, seed 000): a host that takes hints saves stable pages alone. Unused
// ones are worthless; volatile ones, and potentially volatile ones that nobody changed, are somewhere else as
// well: they come back as discarded. Potentially volatile pages that were changed come back stable. Without
// hints, or without a host, everything is saved that was ever used, free or not.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/error.h"
#include "mm/machine.h"
#include "proto/image.pb.h"

namespace ckpt {

// The objrefs of what the image describes elsewhere.
struct GuestNames {
  std::map<mm::MmStruct*, uint32_t> mms;
  std::map<const mm::File*, uint32_t> files;
};

using GuestPart = std::function<base::Result<void>(const ckpt_pb::Guest&)>;

// Hands the guest's structures on, in parts that fit a section each. Requires: no CPU is in the middle of
// anything, and nothing changes meanwhile.
base::Result<void> DescribeGuest(const mm::Machine& machine, const GuestNames& names, const GuestPart& part);

// Whether a checkpoint drops the frame's bytes.
bool guest_drops(const mm::Machine& machine, mm::Pfn pfn);

// The frames and the swap slots that are saved, as runs of kind STORED, ascending. Frames whose bytes are all
// zero are not: a frame that the image does not store reads as zero.
std::vector<ckpt_pb::PageRun> GuestRuns(const mm::Machine& machine);
// The bytes of a page of such a run. EIO.
base::Result<void> ReadGuestPage(const mm::Machine& machine, ckpt_pb::PageRun::Owner owner, uint64_t page,
                                 std::span<std::byte> out);

}  // namespace ckpt
