#include "mm/page_table.h"

#include <cstring>
#include <new>

#include "base/check.h"

namespace mm {

PageTable::Node* PageTable::NewNode() {
  void* place = ::operator new(sizeof(Node), std::align_val_t(sizeof(Node)));
  std::memset(place, 0, sizeof(Node));
  return static_cast<Node*>(place);
}

void PageTable::FreeNode(Node* node) { ::operator delete(node, std::align_val_t(sizeof(Node))); }

PageTable::~PageTable() {
  if (root_ != nullptr) FreeAll(root_, kLevels - 1);
}

void PageTable::FreeAll(Node* node, unsigned level) {
  if (level > 0) {
    for (Node* child : node->child) {
      if (child != nullptr) FreeAll(child, level - 1);
    }
  }
  FreeNode(node);
}

uint64_t PageTable::CountLeaves(const Node& node, unsigned level) {
  if (level == 0) return 1;
  uint64_t count = 0;
  for (const Node* child : node.child) {
    if (child != nullptr) count += CountLeaves(*child, level - 1);
  }
  return count;
}

Pte* PageTable::alloc(Vaddr addr) {
  CHECK(addr < TASK_SIZE);
  if (root_ == nullptr) root_ = NewNode();
  Node* node = root_;
  for (unsigned level = kLevels - 1; level > 0; --level) {
    Node*& child = node->child[Index(addr, level)];
    if (child == nullptr) {
      child = NewNode();
      if (level == 1) ++nr_ptes_;
    }
    node = child;
  }
  return &node->pte[Index(addr, 0)];
}

Pte* PageTable::next_leaf(Vaddr* addr, Vaddr end) {
  if (root_ == nullptr || *addr >= end) return nullptr;
  if (Pte* here = find(*addr)) return here;  // the usual answer, at once
  Node* leaf = FindLeaf(root_, kLevels - 1, addr, end);
  return leaf == nullptr ? nullptr : &leaf->pte[Index(*addr, 0)];
}

PageTable::Node* PageTable::FindLeaf(Node* node, unsigned level, Vaddr* addr, Vaddr end) {
  if (level == 0) return node;
  for (size_t i = Index(*addr, level); i < kEntries; ++i) {
    if (node->child[i] != nullptr) {
      if (Node* leaf = FindLeaf(node->child[i], level - 1, addr, end)) return leaf;
    } else {
      *addr = (*addr & ~(Span(level) - 1)) + Span(level);
    }
    if (*addr >= end) return nullptr;
  }
  return nullptr;
}

void PageTable::free_pgtables(Vaddr floor, Vaddr ceiling) {
  if (root_ != nullptr && FreeRange(root_, kLevels - 1, 0, floor, ceiling)) root_ = nullptr;
}

// Frees what lies under `node` and inside the range; true when `node` itself went.
bool PageTable::FreeRange(Node* node, unsigned level, Vaddr base, Vaddr floor, Vaddr ceiling) {
  const Vaddr node_end = base + Span(level) * kEntries;
  if (level == 0) {
    if (base < floor || node_end > ceiling) return false;
    for (const Pte pte : node->pte) CHECK(pte_none(pte));
    --nr_ptes_;
    FreeNode(node);
    return true;
  }
  bool empty = true;
  for (size_t i = 0; i < kEntries; ++i) {
    Node*& child = node->child[i];
    if (child == nullptr) continue;
    const Vaddr child_base = base + Span(level) * i;
    if (child_base < ceiling && child_base + Span(level) > floor &&
        FreeRange(child, level - 1, child_base, floor, ceiling)) {
      child = nullptr;
    }
    empty = empty && child == nullptr;
  }
  if (!empty || base < floor || node_end > ceiling) return false;
  FreeNode(node);
  return true;
}

}  // namespace mm
