// Pages and sizes, and how people write them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace base {

inline constexpr unsigned kPageShift = 12;
inline constexpr size_t kPageSize = size_t{1} << kPageShift;

constexpr uint64_t PageAlignDown(uint64_t value) { return value & ~(uint64_t{kPageSize} - 1); }
// Requires: value <= 2^64 - kPageSize.
constexpr uint64_t PageAlignUp(uint64_t value) { return PageAlignDown(value + kPageSize - 1); }
constexpr bool IsPageAligned(uint64_t value) { return (value & (kPageSize - 1)) == 0; }
// The number of pages that `bytes` bytes touch. Any value.
constexpr uint64_t PagesFor(uint64_t bytes) { return bytes / kPageSize + (bytes % kPageSize != 0 ? 1 : 0); }

// "64MiB", "4k", "1TiB", "0x1000", "123": bytes. The suffixes k/K, M, G, T with or without "iB" or
// "B" are powers of 1024. kInvalid for anything else, and for what does not fit 64 bits.
Result<uint64_t> ParseSize(std::string_view text);

// "4.0 KiB", "1.5 GiB", "17 B": for people. At most one decimal.
std::string FormatSize(uint64_t bytes);

}  // namespace base
