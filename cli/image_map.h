// What an image says of each page, as the picture of `ckpt show --map` (page_map.h).
//
// Of an image of scope PROCESS a row for each vma: its pages in the image are modified, or shared where
// several page tables have them; others are clean, or were never touched. Of scope MACHINE the rows are what
// the page tables say, and one more is the guest's frames by combined state.
#pragma once

#include <string>

#include "base/error.h"
#include "cli/page_map.h"
#include "proto/reader.h"

namespace cli {

// The errors of Reader::ForEachChunk.
base::Result<PageMap> MapOf(const image::Reader& image);

// "rw-p", as /proc/PID/maps writes it.
std::string Perms(uint64_t vm_flags);
// The name of what a vma maps: a file's, "[vdso]", or nothing.
std::string VmaFileName(const image::Reader& image, const ckpt_pb::Vma& vma);

}  // namespace cli
