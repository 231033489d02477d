// Validate: recounts from scratch what the model caches, and checks the numbered invariants that
// the headers state (P*, F*, C*, A*; INV-M* of the spec). On after every step in tests.
//
// The invariants:
//   P1 P2 P3   page counts (page.h)               F1 F2   frames (frames.h)
//   C1 C2 C3   page caches and vma lists (file.h)  C4      clean cache pages equal disk (deep only)
//   A1 .. A6   address spaces (mm_struct.h)
//   R1         nr_mapped, nr_anon_pages, nr_dirty, nr_writeback are recounts (rmap.h)
//   T1         no linear pte lies past the end of its file (INV-M2), unless a switch lets it
//   L1         no lock is held, no page is locked, between steps
//   SW1 .. SW3 swap cache and slots (swap.h)       LR1     LRU lists (lru.h)
//   H1 H2      the host's frames (host.h)          and those of page hinting: ValidateHinting()
//
// The spec's D4 and where it is judged, here (V), by a CHECK at the place (CHECK), or by the outcome of an
// access that a test compares (test):
//   INV-M1 test      INV-M2 V T1     INV-M3 test     INV-M4 V T1, test     INV-M5 V A4 and C4
//   INV-M6 test      INV-M7 V P1 (what a loser forgets to free)            INV-M8 V A4
//   INV-M9 V         INV-M10 CHECK reclaim.cc          INV-M11 V C4 and SW3   INV-M12 V
//   INV-M13 V R1     INV-M14 CHECK Frames::Free, V C4 and SW3
#pragma once

#include <optional>
#include <string>

namespace mm {

class Machine;

enum class Depth : uint8_t { kQuick, kDeep };  // deep also compares clean cache pages with the disk

// The first broken invariant ("A4: pid 3 0x7000: ..."), or nothing.
// Requires: called between system calls and faults. O(frames in use + ptes).
std::optional<std::string> Validate(const Machine& machine, Depth depth = Depth::kQuick);

// The part of it that looks at the host underneath: INV-G8 to G10, INV-V5 to V9, INV-D2, D7, D12, D13, H1,
// H2.
std::optional<std::string> ValidateHinting(const Machine& machine);

// The whole machine as text, one fact a line: files and their caches, address spaces, vmas, ptes,
// page flags and counts, and a hash of each page's bytes. Two machines in the same state give the
// same text.
std::string TextDump(const Machine& machine);

}  // namespace mm
