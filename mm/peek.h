// What a load would read, without one: nothing is faulted in, no reference is taken, no state changes. For
// checkpoints, diffs and the oracle.
#pragma once

#include <cstddef>
#include <optional>

#include "mm/disk.h"
#include "mm/mm_struct.h"
#include "mm/types.h"

namespace mm {

struct Peeked {
  enum class Kind : uint8_t {
    kBytes,
    kZero,    // nothing is there yet: it would read as zeros
    kSigbus,  // past the end of the file, or on memory that failed
  };
  Kind kind = Kind::kZero;
  // kBytes: of memory, good until the next call on the machine, or the buffer.
  const std::byte* bytes = nullptr;
};

// The page of `vma` at `addr`, whatever the protection; read into `buffer` where it is not in memory. EIO.
SysResult<Peeked> peek_page(const Vma& vma, Vaddr addr, PageSpan buffer);
// The page `index` of a file, from the cache, swap or disk. Does not look at i_size.
SysResult<Peeked> peek_file_page(const Machine& machine, const File& file, Pgoff index, PageSpan buffer);
// Which page of its file `addr` shows, in place or not; nothing: a page of the process's own. Requires: the
// vma has one.
std::optional<Pgoff> file_index_at(const Vma& vma, Vaddr addr);
// The page of a slot of swap: from the swap cache, which is newer, or from the device.
SysResult<Peeked> peek_slot(const Machine& machine, uint32_t slot, PageSpan buffer);

}  // namespace mm
