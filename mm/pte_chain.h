// Pte chains: the reverse map of pages that have PG_anon in the sense of seed 003. A page that one pte
// names points at it directly (PG_direct); with more, at a chain of them.
//
// A pte is named by its address space and address, not by its place in a table: the page table of the
// model is found from those in a few steps.
//
// Invariant INV-M12: the entries of a page are exactly the present ptes that name it, but while
// page_convert_anon is at work on it.
//
// Locks: the chain lock of the page (PG_chainlock). Nothing sleeps under it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "base/check.h"
#include "mm/page.h"
#include "mm/types.h"

namespace mm {

class MmStruct;

struct PteAddr {
  MmStruct* mm = nullptr;
  Vaddr addr = 0;
  friend bool operator==(const PteAddr&, const PteAddr&) = default;
};

inline constexpr uint32_t NRPTE = 3;

// One cache line. Entries [first, NRPTE) are in use; only the head of a chain has free ones.
struct alignas(64) PteChain {
  PteChain* next;
  uint32_t first;
  std::array<PteAddr, NRPTE> ptes;
};
static_assert(sizeof(PteChain) == 64);

// Where the nodes come from.
class PteChains {
 public:
  // Never fails, as a reserve that the callers hold.
  PteChain* Alloc();
  // pte_chain_alloc(GFP_KERNEL): nullptr when it is to fail.
  PteChain* TryAlloc();
  void Free(PteChain* chain);
  uint64_t in_use() const { return in_use_; }

  // The `nth` TryAlloc from now on fails, once; 0: none does. For tests of what runs out of memory.
  void FailTryAlloc(uint64_t nth) { fail_in_ = nth; }

 private:
  static constexpr size_t kSlab = 256;  // nodes
  std::vector<std::unique_ptr<PteChain[]>> slabs_;
  PteChain* free_ = nullptr;
  uint64_t in_use_ = 0;
  uint64_t fail_in_ = 0;
};

// Adds an entry; `spare` is used and set to nullptr if a node is needed and there is one.
void pte_chain_add(PteChains& chains, Page& page, PteAddr pte, PteChain** spare = nullptr);
// Removes an entry; false if the page has no such one.
bool pte_chain_remove(PteChains& chains, Page& page, PteAddr pte);
inline bool pte_chain_empty(const Page& page) { return page.rmap == 0; }

// The entry that PG_direct stands for.
inline PteAddr pte_direct(const Page& page) {
  return {reinterpret_cast<MmStruct*>(page.rmap), page.rmap_addr};
}
inline PteChain* pte_chain(const Page& page) { return reinterpret_cast<PteChain*>(page.rmap); }

// Calls visit(PteAddr) for each entry, the latest first. The entries must not change meanwhile.
template <class Visit>
void pte_chain_for_each(const Page& page, Visit&& visit) {
  if (page.rmap == 0) return;
  if ((page.flags & PG_direct) != 0) {
    visit(pte_direct(page));
    return;
  }
  for (const PteChain* chain = pte_chain(page); chain != nullptr; chain = chain->next) {
    for (uint32_t i = chain->first; i < NRPTE; ++i) visit(chain->ptes[i]);
  }
}

// All of them: for who changes the entries as it goes, or looks at them without the chain lock.
using PteList = absl::InlinedVector<PteAddr, 8>;
inline PteList pte_chain_entries(const Page& page) {
  PteList entries;
  pte_chain_for_each(page, [&](PteAddr at) { entries.push_back(at); });
  return entries;
}

}  // namespace mm
