#include "mm/vma_tree.h"

#include <algorithm>

#include "base/check.h"
#include "base/random.h"
#include "mm/vma.h"

namespace mm {
namespace {

Pgoff EndOf(const Vma& vma) { return vma.pgoff + vma.pages(); }
uint64_t Priority(const Vma& vma) { return base::Mix64(vma.tree.sequence); }

}  // namespace

bool VmaTree::Before(const Vma& a, const Vma& b) {
  return a.pgoff != b.pgoff ? a.pgoff < b.pgoff : a.tree.sequence < b.tree.sequence;
}

void VmaTree::Update(Vma* node) {
  VmaTreeNode& tree = node->tree;
  tree.max_end = EndOf(*node);
  for (const Vma* child : {tree.left, tree.right}) {
    if (child != nullptr) tree.max_end = std::max(tree.max_end, child->tree.max_end);
  }
}

void VmaTree::Split(Vma* node, const Vma& key, Vma** low, Vma** high) {
  if (node == nullptr) {
    *low = *high = nullptr;
  } else if (Before(*node, key)) {
    Split(node->tree.right, key, &node->tree.right, high);
    *low = node;
    Update(node);
  } else {
    Split(node->tree.left, key, low, &node->tree.left);
    *high = node;
    Update(node);
  }
}

Vma* VmaTree::Merge(Vma* low, Vma* high) {
  if (low == nullptr) return high;
  if (high == nullptr) return low;
  if (Priority(*low) > Priority(*high)) {
    low->tree.right = Merge(low->tree.right, high);
    Update(low);
    return low;
  }
  high->tree.left = Merge(low, high->tree.left);
  Update(high);
  return high;
}

Vma* VmaTree::Insert(Vma* node, Vma& vma) {
  if (node == nullptr || Priority(vma) > Priority(*node)) {
    Split(node, vma, &vma.tree.left, &vma.tree.right);
    Update(&vma);
    return &vma;
  }
  Vma*& side = Before(vma, *node) ? node->tree.left : node->tree.right;
  side = Insert(side, vma);
  Update(node);
  return node;
}

Vma* VmaTree::Erase(Vma* node, const Vma& vma) {
  CHECK_MSG(node != nullptr, "a vma that is not in its file's tree, or whose bounds were changed there");
  if (node == &vma) return Merge(node->tree.left, node->tree.right);
  Vma*& side = Before(vma, *node) ? node->tree.left : node->tree.right;
  side = Erase(side, vma);
  Update(node);
  return node;
}

void VmaTree::Collect(Vma* node, Pgoff first, Pgoff end, VmaList& found) {
  if (node == nullptr || node->tree.max_end <= first) return;
  Collect(node->tree.left, first, end, found);
  if (node->pgoff >= end) return;
  if (EndOf(*node) > first) found.push_back(node);
  Collect(node->tree.right, first, end, found);
}

void VmaTree::insert(Vma& vma) {
  CHECK(vma.tree.sequence == 0);
  insert_again(vma, next_sequence_++);
}

void VmaTree::erase(Vma& vma) { erase_for_change(vma); }

uint64_t VmaTree::erase_for_change(Vma& vma) {
  root_ = Erase(root_, vma);
  --size_;
  const uint64_t sequence = vma.tree.sequence;
  vma.tree = {};
  return sequence;
}

void VmaTree::insert_again(Vma& vma, uint64_t sequence) {
  vma.tree = {.left = nullptr, .right = nullptr, .max_end = 0, .sequence = sequence};
  root_ = Insert(root_, vma);
  ++size_;
}

VmaList VmaTree::overlapping(Pgoff first, Pgoff end) const {
  VmaList found;
  Collect(root_, first, end, found);
  if (found.size() > 1) {
    std::ranges::sort(found, {}, [](const Vma* vma) { return vma->tree.sequence; });
  }
  return found;
}

bool VmaTree::contains(const Vma& vma) const {
  const Vma* node = root_;
  while (node != nullptr && node != &vma) node = Before(vma, *node) ? node->tree.left : node->tree.right;
  return node != nullptr;
}

}  // namespace mm
