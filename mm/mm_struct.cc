#include "mm/mm_struct.h"

#include <mutex>

#include "mm/machine.h"

namespace mm {

MmStruct::~MmStruct() { CHECK(vmas_.empty()); }

Vma* MmStruct::find_vma(Vaddr addr) {
  if (mmap_cache_ != nullptr && mmap_cache_->start <= addr && addr < mmap_cache_->end) return mmap_cache_;
  auto after = vmas_.upper_bound(addr);
  if (after != vmas_.begin()) {
    Vma* before = std::prev(after)->second.get();
    if (addr < before->end) return mmap_cache_ = before;
  }
  return after == vmas_.end() ? nullptr : after->second.get();
}

Vma* MmStruct::next_vma(const Vma* vma) {
  const auto next = vmas_.upper_bound(vma->start);
  return next == vmas_.end() ? nullptr : next->second.get();
}

Vma* MmStruct::prev_vma(const Vma* vma) {
  const auto here = vmas_.find(vma->start);
  return here == vmas_.begin() ? nullptr : std::prev(here)->second.get();
}

namespace {

VmaTree& TreeOf(Vma& vma) {
  Mapping& mapping = vma.file->mapping;
  return vma.is_shared() ? mapping.i_mmap_shared : mapping.i_mmap;
}

}  // namespace

void MmStruct::LinkFile(Vma& vma) {
  if (vma.file == nullptr) return;
  std::lock_guard guard(vma.file->mapping.i_shared_sem);
  vma.tree = {};
  TreeOf(vma).insert(vma);
  if ((vma.flags & VM_NONLINEAR) != 0) vma.file->mapping.i_mmap_nonlinear.push_back(&vma);
}

void MmStruct::UnlinkFile(Vma& vma) {
  if (vma.file == nullptr) return;
  std::lock_guard guard(vma.file->mapping.i_shared_sem);
  TreeOf(vma).erase(vma);
  if ((vma.flags & VM_NONLINEAR) != 0) std::erase(vma.file->mapping.i_mmap_nonlinear, &vma);
}

void MmStruct::make_nonlinear(Vma& vma) {
  CHECK(vma.file != nullptr && vma.is_shared());
  if ((vma.flags & VM_NONLINEAR) != 0) return;
  std::lock_guard guard(vma.file->mapping.i_shared_sem);
  vma.flags |= VM_NONLINEAR;
  vma.file->mapping.i_mmap_nonlinear.push_back(&vma);
}

Vma* MmStruct::insert_vma(std::unique_ptr<Vma> vma) {
  CHECK(vma->start < vma->end && vma->end <= TASK_SIZE);
  const Vma* next = find_vma(vma->start);
  CHECK(next == nullptr || next->start >= vma->end);
  vma->mm = this;
  LinkFile(*vma);
  total_vm += vma->pages();
  Vma* linked = vma.get();
  vmas_.emplace(linked->start, std::move(vma));
  return linked;
}

std::unique_ptr<Vma> MmStruct::remove_vma(Vma* vma) {
  const auto here = vmas_.find(vma->start);
  CHECK(here != vmas_.end() && here->second.get() == vma);
  mmap_cache_ = nullptr;
  total_vm -= vma->pages();
  UnlinkFile(*vma);
  std::unique_ptr<Vma> removed = std::move(here->second);
  vmas_.erase(here);
  return removed;
}

void MmStruct::adjust_vma(Vma* vma, Vaddr start, Vaddr end, Pgoff pgoff) {
  CHECK(start < end);
  mmap_cache_ = nullptr;
  total_vm -= vma->pages();
  if (start != vma->start) {
    auto node = vmas_.extract(vma->start);
    node.key() = start;
    CHECK(vmas_.insert(std::move(node)).inserted);
  }
  const auto change = [&] {
    vma->start = start;
    vma->end = end;
    vma->pgoff = pgoff;
  };
  if (vma->file == nullptr) {
    change();
  } else {
    std::lock_guard guard(vma->file->mapping.i_shared_sem);
    VmaTree& tree = TreeOf(*vma);
    const uint64_t sequence = tree.erase_for_change(*vma);
    change();
    tree.insert_again(*vma, sequence);
  }
  total_vm += vma->pages();
}

}  // namespace mm
