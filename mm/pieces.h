// The pieces of an address range that are mapped; internal to the system calls on an address space.
#pragma once

#include <algorithm>

#include "mm/mm_struct.h"

namespace mm {

// Calls visit(vma, start, stop) for each piece of [addr, end) that is mapped; true if there was a hole.
template <class Visit>
SysResult<bool> ForEachPiece(MmStruct& mm, Vaddr addr, Vaddr end, Visit&& visit) {
  bool hole = false;
  Vaddr next = addr;
  while (next < end) {
    Vma* vma = mm.find_vma(next);
    if (vma == nullptr || vma->start >= end) return true;
    hole = hole || vma->start > next;
    const Vaddr start = std::max(next, vma->start);
    const Vaddr stop = std::min(vma->end, end);
    SYS_TRY_VOID(visit(vma, start, stop));
    next = stop;
  }
  return hole;
}

}  // namespace mm
