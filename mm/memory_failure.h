// memory_failure: the memory of a frame is broken (hwpoison, 2.6.32).
#pragma once

#include "mm/types.h"

namespace mm {

class Machine;

// Takes the page away from everybody: its ptes become poison entries (an access is SIGBUS), a file's cache
// and the swap cache forget it, and the frame is never used again. EBUSY: somebody holds the page or the
// page_table_lock of who maps it (with one CPU; else it is waited for), or swap entries wait for bytes that
// its slot does not have yet. Requires: the page is not locked.
SysResult<void> memory_failure(Machine& machine, Pfn pfn);

}  // namespace mm
