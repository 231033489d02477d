// PageTable: a four-level radix tree of ptes, 512 entries a table, as on x86-64.
//
// Absent subtrees are skipped as a whole, so walking a hole of 1 TiB costs a handful of steps. "No
// page table" and "pte none" are different answers (seed 004 tells them apart): find() answers
// nullptr for the first.
//
// Invariants: nr_ptes() is the number of leaf tables; recounted by Validate().
#pragma once

#include <cstdint>
#include <functional>

#include "mm/pte.h"
#include "mm/types.h"

namespace mm {

class PageTable {
 public:
  PageTable() = default;
  ~PageTable();
  PageTable(const PageTable&) = delete;
  PageTable& operator=(const PageTable&) = delete;

  // The entry of `addr`, or nullptr where there is no leaf table. The pointer stays valid until
  // free_pgtables removes that table.
  Pte* find(Vaddr addr) {
    Node* node = root_;
    for (unsigned level = kLevels - 1; level > 0; --level) {
      if (node == nullptr) return nullptr;
      node = node->child[Index(addr, level)];
    }
    return node == nullptr ? nullptr : &node->pte[Index(addr, 0)];
  }
  const Pte* find(Vaddr addr) const { return const_cast<PageTable*>(this)->find(addr); }

  // The entry of `addr`, with the tables on the way made as needed.
  Pte* alloc(Vaddr addr);

  // The leaf table of the first page at or after `addr` and below `end` that has one: *addr is
  // moved to that page. The answer points at the entry of *addr and is good up to the end of the
  // 2 MiB that a leaf covers. nullptr: no table up to `end`. Requires: addr page-aligned.
  Pte* next_leaf(Vaddr* addr, Vaddr end);

  // Calls visit(addr, pte&) for each entry of [start, end) that is not none, ascending.
  template <class Visit>
  void walk(Vaddr start, Vaddr end, Visit&& visit) {
    Vaddr addr = start;
    while (addr < end) {
      Pte* pte = next_leaf(&addr, end);
      if (pte == nullptr) return;
      const Vaddr leaf_end = LeafEnd(addr);
      const Vaddr stop = leaf_end < end ? leaf_end : end;
      for (; addr < stop; addr += kPageSize, ++pte) {
        if (!pte_none(*pte)) visit(addr, *pte);
      }
    }
  }

  // Frees the tables that cover only addresses of [floor, ceiling). Requires: every entry in that
  // range is none (the caller unmapped it).
  void free_pgtables(Vaddr floor, Vaddr ceiling);

  uint64_t nr_ptes() const { return nr_ptes_; }
  // nr_ptes, counted from scratch.
  uint64_t CountLeaves() const { return root_ == nullptr ? 0 : CountLeaves(*root_, kLevels - 1); }
  static constexpr Vaddr LeafEnd(Vaddr addr) { return (addr | (kLeafSpan - 1)) + 1; }

 private:
  static constexpr unsigned kLevels = 4;
  static constexpr unsigned kBits = 9;
  static constexpr size_t kEntries = size_t{1} << kBits;
  static constexpr Vaddr kLeafSpan = Vaddr{1} << (kPageShift + kBits);

  union Node {
    Node* child[kEntries];
    Pte pte[kEntries];
  };
  static size_t Index(Vaddr addr, unsigned level) {
    return (addr >> (kPageShift + kBits * level)) & (kEntries - 1);
  }
  static Vaddr Span(unsigned level) { return Vaddr{1} << (kPageShift + kBits * level); }
  static Node* NewNode();
  static void FreeNode(Node* node);
  Node* FindLeaf(Node* node, unsigned level, Vaddr* addr, Vaddr end);
  bool FreeRange(Node* node, unsigned level, Vaddr base, Vaddr floor, Vaddr ceiling);
  static uint64_t CountLeaves(const Node& node, unsigned level);
  void FreeAll(Node* node, unsigned level);

  Node* root_ = nullptr;
  uint64_t nr_ptes_ = 0;
};

}  // namespace mm
