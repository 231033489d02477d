// Validate: recounts from scratch what the model caches, and checks the numbered invariants that
// the headers state (P*, F*, C*, A*; INV-M* of the spec). On after every step in tests.
//
// The invariants:
//   P1 P2 P3   page counts (page.h)               F1 F2   frames (frames.h)
//   C1 C2 C3   page caches and vma lists (file.h)  C4      clean cache pages equal disk (deep only)
//   A1 .. A5   address spaces (mm_struct.h)
//   R1         nr_mapped, nr_dirty are recounts (rmap.h)
//   T1         no linear pte lies past the end of its file (INV-M2), unless a switch lets it
//   L1         no lock is held, no page is locked, between steps
#pragma once

#include <optional>
#include <string>

namespace mm {

class Machine;

enum class Depth : uint8_t { kQuick, kDeep };  // deep also compares clean cache pages with the disk

// The first broken invariant ("A4: pid 3 0x7000: ..."), or nothing.
// Requires: called between system calls and faults. O(frames in use + ptes).
std::optional<std::string> Validate(const Machine& machine, Depth depth = Depth::kQuick);

// The whole machine as text, one fact a line: files and their caches, address spaces, vmas, ptes,
// page flags and counts, and a hash of each page's bytes. Two machines in the same state give the
// same text.
std::string TextDump(const Machine& machine);

}  // namespace mm
