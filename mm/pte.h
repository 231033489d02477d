// Pte: one leaf entry of a page table, packed into 64 bits.
//
//   none      all bits clear
//   present   pfn, and: write, dirty, young, special (the zero page and raw frames without a Page),
//             protnone (present, but the vma allows no access), soft-dirty
//   file      a page index of the vma's file (pte_file; seed 004, non-linear mappings)
//   swap      a swap slot, and soft-dirty
//   hwpoison  a page whose memory failed (memory_failure.h); any access is SIGBUS
// soft-dirty: of a private vma's anonymous page; soft_dirty.h has the rules.
// The software reads and writes entries only under page_table_lock; loads and stores of the process
// set young and dirty without it, as hardware does.
#pragma once

#include <cstdint>

#include "mm/cpu.h"
#include "mm/types.h"

namespace mm {

struct Pte {
  uint64_t word = 0;
  friend bool operator==(const Pte&, const Pte&) = default;
};

inline constexpr uint64_t kPtePresent = 1u << 0;
inline constexpr uint64_t kPteWrite = 1u << 1;
inline constexpr uint64_t kPteDirty = 1u << 2;
inline constexpr uint64_t kPteYoung = 1u << 3;
inline constexpr uint64_t kPteSpecial = 1u << 4;
inline constexpr uint64_t kPteProtnone = 1u << 5;
inline constexpr uint64_t kPteFile = 1u << 6;
inline constexpr uint64_t kPteSwap = 1u << 7;
inline constexpr uint64_t kPteHwpoison = 1u << 8;
inline constexpr uint64_t kPteSoftDirty = 1u << 9;
inline constexpr unsigned kPtePayloadShift = 12;

// The largest page index that a file pte holds (PTE_FILE_MAX_BITS).
inline constexpr unsigned PTE_FILE_MAX_BITS = 46;

constexpr bool pte_none(Pte pte) { return pte.word == 0; }
constexpr bool pte_present(Pte pte) { return (pte.word & kPtePresent) != 0; }
constexpr bool pte_write(Pte pte) { return (pte.word & kPteWrite) != 0; }
constexpr bool pte_dirty(Pte pte) { return (pte.word & kPteDirty) != 0; }
constexpr bool pte_young(Pte pte) { return (pte.word & kPteYoung) != 0; }
constexpr bool pte_special(Pte pte) { return (pte.word & kPteSpecial) != 0; }
constexpr bool pte_protnone(Pte pte) { return (pte.word & kPteProtnone) != 0; }
constexpr bool pte_soft_dirty(Pte pte) { return (pte.word & kPteSoftDirty) != 0; }
// Of entries that are neither none nor present:
constexpr bool pte_file(Pte pte) { return (pte.word & (kPtePresent | kPteFile)) == kPteFile; }
constexpr bool pte_swap(Pte pte) { return (pte.word & (kPtePresent | kPteSwap)) == kPteSwap; }
constexpr bool pte_hwpoison(Pte pte) { return (pte.word & (kPtePresent | kPteHwpoison)) == kPteHwpoison; }

constexpr Pfn pte_pfn(Pte pte) { return Pfn{static_cast<uint32_t>(pte.word >> kPtePayloadShift)}; }
constexpr Pgoff pte_to_pgoff(Pte pte) { return pte.word >> kPtePayloadShift; }

constexpr Pte mk_pte(Pfn pfn, uint64_t bits) {
  return {(uint64_t{static_cast<uint32_t>(pfn)} << kPtePayloadShift) | kPtePresent | bits};
}
// Requires: pgoff < 2^PTE_FILE_MAX_BITS.
constexpr Pte pgoff_to_pte(Pgoff pgoff) { return {(pgoff << kPtePayloadShift) | kPteFile}; }
// Requires: slot < 2^52.
constexpr Pte swp_entry_to_pte(uint64_t slot) { return {(slot << kPtePayloadShift) | kPteSwap}; }
constexpr uint32_t pte_to_swp_entry(Pte pte) { return static_cast<uint32_t>(pte.word >> kPtePayloadShift); }
constexpr Pte hwpoison_entry_to_pte(Pfn pfn) {
  return {(uint64_t{static_cast<uint32_t>(pfn)} << kPtePayloadShift) | kPteHwpoison};
}
constexpr Pte pte_set(Pte pte, uint64_t bits) { return {pte.word | bits}; }
constexpr Pte pte_clear_bits(Pte pte, uint64_t bits) { return {pte.word & ~bits}; }
constexpr Pte pte_mksoft_dirty(Pte pte) { return pte_set(pte, kPteSoftDirty); }
constexpr Pte pte_clear_soft_dirty(Pte pte) { return pte_clear_bits(pte, kPteSoftDirty); }
// The same of a swap entry, where the bit has the same place.
constexpr bool pte_swp_soft_dirty(Pte pte) { return pte_soft_dirty(pte); }
constexpr Pte pte_swp_mksoft_dirty(Pte pte) { return pte_mksoft_dirty(pte); }
constexpr Pte pte_swp_clear_soft_dirty(Pte pte) { return pte_clear_soft_dirty(pte); }

// ---- changes of an entry that other CPUs may look at, or set bits of, at any time ----

inline void set_pte(Pte& entry, Pte pte, Where where = Where::current()) {
  racy_change(&entry, "pte", where);
  entry = pte;
}
// What the entry held, with the bits that were set up to now; it is none from then on.
inline Pte ptep_get_and_clear(Pte& entry, Where where = Where::current()) {
  racy_change(&entry, "pte", where);
  const Pte pte = entry;
  entry = {};
  return pte;
}
// Sets or clears bits and leaves the others, as they are by then.
inline Pte ptep_set_bits(Pte& entry, uint64_t bits, Where where = Where::current()) {
  racy_change(&entry, "pte", where);
  return entry = pte_set(entry, bits);
}
inline Pte ptep_clear_bits(Pte& entry, uint64_t bits, Where where = Where::current()) {
  racy_change(&entry, "pte", where);
  return entry = pte_clear_bits(entry, bits);
}
// A look without page_table_lock.
inline Pte pte_read(const Pte& entry, Where where = Where::current()) {
  racy_read(&entry, "pte", where);
  return entry;
}

}  // namespace mm
