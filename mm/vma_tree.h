// VmaTree: the vmas that map one file one way (the kernel's i_mmap), found by page index of the file.
//
// An interval tree: a binary tree in the order of the vmas' first page, made balanced by a random
// priority (a treap), each node with the largest end below it. The vmas that hold a page are found in
// O(log n + answers). They are answered in the order in which they were inserted, so that a walk
// meets them as a walk over the seed's list does (seed 003: list_for_each_entry over i_mmap).
//
// Invariant C3 (file.h): it holds exactly the file's vmas of its kind; each under its present range.
#pragma once

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "mm/types.h"

namespace mm {

struct Vma;

// Most pages are mapped by few vmas.
using VmaList = absl::InlinedVector<Vma*, 8>;

// The part of a Vma that the tree it stands in owns.
struct VmaTreeNode {
  Vma* left = nullptr;
  Vma* right = nullptr;
  Pgoff max_end = 0;      // the largest end (pgoff + pages) in this subtree
  uint64_t sequence = 0;  // of its insertion; 0: it stands in no tree
};

class VmaTree {
 public:
  VmaTree() = default;
  VmaTree(const VmaTree&) = delete;
  VmaTree& operator=(const VmaTree&) = delete;

  // Requires: the vma stands in no tree. Behind all that were inserted before.
  void insert(Vma& vma);
  // Requires: the vma stands in this tree, and its bounds are those with which it was inserted.
  void erase(Vma& vma);
  // Takes a vma whose bounds are about to change out, and puts it back in its old turn.
  uint64_t erase_for_change(Vma& vma);
  void insert_again(Vma& vma, uint64_t sequence);

  // The vmas that hold a page of [first, end), in the order of their insertion.
  VmaList overlapping(Pgoff first, Pgoff end) const;
  // All of them.
  VmaList all() const { return overlapping(0, ~Pgoff{0}); }
  bool contains(const Vma& vma) const;
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  static void Update(Vma* node);
  static bool Before(const Vma& a, const Vma& b);
  static void Split(Vma* node, const Vma& key, Vma** low, Vma** high);
  static Vma* Merge(Vma* low, Vma* high);
  static Vma* Insert(Vma* node, Vma& vma);
  static Vma* Erase(Vma* node, const Vma& vma);
  static void Collect(Vma* node, Pgoff first, Pgoff end, VmaList& found);

  Vma* root_ = nullptr;
  size_t size_ = 0;
  uint64_t next_sequence_ = 1;
};

}  // namespace mm
