#include "mm/mm_struct.h"

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

// Requires: i_shared_sem is held.
void MmStruct::Link(Vma& vma) {
  if (vma.file == nullptr) return;
  vma.tree = {};
  TreeOf(vma).insert(vma);
  if ((vma.flags & VM_NONLINEAR) != 0) vma.file->mapping.i_mmap_nonlinear.push_back(&vma);
}

void MmStruct::Unlink(Vma& vma) {
  if (vma.file == nullptr) return;
  TreeOf(vma).erase(vma);
  if ((vma.flags & VM_NONLINEAR) != 0) std::erase(vma.file->mapping.i_mmap_nonlinear, &vma);
}

// Page hinting: the pages of a file that was ever locked stay stable, those to come too (seed 001).
void MmStruct::MarkLocked(const Vma& vma) {
  if ((vma.flags & VM_LOCKED) != 0 && vma.file != nullptr) vma.file->mapping.mlocked = true;
}

void MmStruct::make_nonlinear(Vma& vma) {
  CHECK(vma.file != nullptr && vma.is_shared());
  if ((vma.flags & VM_NONLINEAR) != 0) return;
  Guard guard(vma.file->mapping.i_shared_sem);
  set_vma_flags(vma, vma.flags | VM_NONLINEAR);
  vma.file->mapping.i_mmap_nonlinear.push_back(&vma);
}

void MmStruct::set_vma_flags(Vma& vma, uint64_t flags) {
  Guard guard(page_table_lock);
  vma.flags = flags;
  MarkLocked(vma);
}

Vma* MmStruct::insert_vma(std::unique_ptr<Vma> vma) {
  CHECK(vma->start < vma->end && vma->end <= TASK_SIZE);
  const Vma* next = find_vma(vma->start);
  CHECK(next == nullptr || next->start >= vma->end);
  vma->mm = this;
  MarkLocked(*vma);
  const MaybeGuard file_guard(shared_sem(*vma));
  Link(*vma);
  total_vm += vma->pages();
  Vma* linked = vma.get();
  Guard guard(page_table_lock);
  vmas_.emplace(linked->start, std::move(vma));
  return linked;
}

std::unique_ptr<Vma> MmStruct::remove_vma(Vma* vma) {
  const auto here = vmas_.find(vma->start);
  CHECK(here != vmas_.end() && here->second.get() == vma);
  mmap_cache_ = nullptr;
  total_vm -= vma->pages();
  const MaybeGuard file_guard(shared_sem(*vma));
  Unlink(*vma);
  Guard guard(page_table_lock);
  std::unique_ptr<Vma> removed = std::move(here->second);
  vmas_.erase(here);
  return removed;
}

// Requires: page_table_lock and, for a vma of a file, i_shared_sem are held.
void MmStruct::SetBounds(Vma& vma, Vaddr start, Vaddr end, Pgoff pgoff) {
  CHECK(start < end);
  mmap_cache_ = nullptr;
  total_vm += (end - start) / kPageSize - vma.pages();
  if (start != vma.start) {
    auto node = vmas_.extract(vma.start);
    node.key() = start;
    CHECK(vmas_.insert(std::move(node)).inserted);
  }
  const uint64_t sequence = vma.file != nullptr ? TreeOf(vma).erase_for_change(vma) : 0;
  vma.start = start;
  vma.end = end;
  vma.pgoff = pgoff;
  if (vma.file != nullptr) TreeOf(vma).insert_again(vma, sequence);
}

void MmStruct::adjust_vma(Vma* vma, Vaddr start, Vaddr end, Pgoff pgoff) {
  const MaybeGuard file_guard(shared_sem(*vma));
  Guard guard(page_table_lock);
  SetBounds(*vma, start, end, pgoff);
}

void MmStruct::grow_down(Vma& vma, Vaddr start) {
  CHECK(vma.file == nullptr);
  Guard guard(page_table_lock);
  if (start >= vma.start) return;
  SetBounds(vma, start, vma.end, vma.pgoff - (vma.start - start) / kPageSize);
}

Vma* MmStruct::split_vma_at(Vma* vma, std::unique_ptr<Vma> upper) {
  const MaybeGuard file_guard(shared_sem(*vma));
  Guard guard(page_table_lock);
  SetBounds(*vma, vma->start, upper->start, vma->pgoff);
  upper->mm = this;
  Link(*upper);
  total_vm += upper->pages();
  Vma* linked = upper.get();
  vmas_.emplace(linked->start, std::move(upper));
  return linked;
}

std::unique_ptr<Vma> MmStruct::join_vmas(Vma* low, Vma* high) {
  const MaybeGuard file_guard(shared_sem(*low));
  Guard guard(page_table_lock);
  mmap_cache_ = nullptr;
  const auto here = vmas_.find(high->start);
  std::unique_ptr<Vma> joined = std::move(here->second);
  vmas_.erase(here);
  total_vm -= joined->pages();
  Unlink(*joined);
  SetBounds(*low, low->start, joined->end, low->pgoff);
  return joined;
}

}  // namespace mm
