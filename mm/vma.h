// Vma: one vm_area_struct, and the VM_ flags, spelled and valued as in 2.6.34.
#pragma once

#include <cstdint>
#include <string>

#include "mm/file.h"
#include "mm/types.h"
#include "mm/vma_tree.h"

namespace mm {

class MmStruct;

inline constexpr uint64_t VM_READ = 0x1;
inline constexpr uint64_t VM_WRITE = 0x2;
inline constexpr uint64_t VM_EXEC = 0x4;
inline constexpr uint64_t VM_SHARED = 0x8;
inline constexpr uint64_t VM_MAYREAD = 0x10;
inline constexpr uint64_t VM_MAYWRITE = 0x20;
inline constexpr uint64_t VM_MAYEXEC = 0x40;
inline constexpr uint64_t VM_MAYSHARE = 0x80;
inline constexpr uint64_t VM_GROWSDOWN = 0x100;
inline constexpr uint64_t VM_PFNMAP = 0x400;
inline constexpr uint64_t VM_DENYWRITE = 0x800;
inline constexpr uint64_t VM_EXECUTABLE = 0x1000;
inline constexpr uint64_t VM_LOCKED = 0x2000;
inline constexpr uint64_t VM_IO = 0x4000;
inline constexpr uint64_t VM_DONTCOPY = 0x20000;
inline constexpr uint64_t VM_DONTEXPAND = 0x40000;
inline constexpr uint64_t VM_RESERVED = 0x80000;
inline constexpr uint64_t VM_ACCOUNT = 0x100000;
inline constexpr uint64_t VM_NORESERVE = 0x200000;
inline constexpr uint64_t VM_HUGETLB = 0x400000;
inline constexpr uint64_t VM_NONLINEAR = 0x800000;
inline constexpr uint64_t VM_MAPPED_COPY = 0x1000000;
inline constexpr uint64_t VM_INSERTPAGE = 0x2000000;
inline constexpr uint64_t VM_MIXEDMAP = 0x10000000;
inline constexpr uint64_t VM_SAO = 0x20000000;

inline constexpr uint64_t VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC;
inline constexpr uint64_t VM_MAY_FLAGS = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;

// A mapping that the kernel installs itself; "none" for all others.
enum class Special : uint8_t { kNone, kVdso, kVvar };

struct Vma {
  MmStruct* mm = nullptr;
  Vaddr start = 0;  // first address
  Vaddr end = 0;    // one past the last; start < end
  uint64_t flags = 0;
  Pgoff pgoff = 0;  // page index in the file of `start`; for anonymous vmas what start / page was at first
  FilePtr file;     // null: anonymous (or special)
  Special special = Special::kNone;
  bool anon_vma = false;  // has had an anonymous page; fork copies page tables only of such vmas
  VmaTreeNode tree;       // in file->mapping, when there is a file

  uint64_t pages() const { return (end - start) >> kPageShift; }
  bool is_shared() const { return (flags & VM_SHARED) != 0; }
  // vm_ops with a fault method (fault.cc): a none pte is a file fault, not an anonymous one.
  bool has_fault() const { return file != nullptr && file->has_fault(); }
};

// A private mapping that may be written some time: its pages are copied on write.
inline bool is_cow_mapping(uint64_t flags) { return (flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE; }

inline Pgoff linear_page_index(const Vma& vma, Vaddr addr) {
  return ((addr - vma.start) >> kPageShift) + vma.pgoff;
}

// Writes to a shared mapping of a regular file must be noticed (page_mkwrite, dirty accounting): its
// ptes stay read-only until the first write after each writeback.
inline bool vma_wants_writenotify(const Vma& vma) {
  return (vma.flags & (VM_WRITE | VM_SHARED)) == (VM_WRITE | VM_SHARED) && vma.file != nullptr &&
         vma.file->kind() == FileKind::kRegular;
}

// i_shared_sem of the vma's file, if it has one.
inline SharedSem* shared_sem(const Vma& vma) {
  return vma.file == nullptr ? nullptr : &vma.file->mapping.i_shared_sem;
}

}  // namespace mm
