// Checks every byte of an image, from its start to its end, as a reader that cannot seek would see it: what
// the index says is compared with what was found, never followed. So its errors name the first bad place.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "base/error.h"

namespace image {

struct VerifyOptions {
  unsigned threads = 0;                     // 0: all cores; at most kThreadsMax are used
  const std::atomic<bool>* stop = nullptr;  // Polled: kInterrupted once it is true.
  std::function<void(uint64_t bytes_done)> progress = {};
};

struct VerifyReport {
  std::string digest;  // 32 hexadecimal digits
  uint64_t bytes = 0;
  uint64_t sections = 0;  // of all types, those that were skipped as unknown included
  uint64_t chunks = 0;
  uint64_t stored_pages = 0;
};

// kCorrupt: damaged, or an image whose content breaks a rule of the format; kIncomplete: no footer at its
// end. These two mean "not good"; the others mean "cannot tell": kInvalid (not an image), kUnsupported,
// kNotFound, kIo, kInterrupted. One line that starts with the path. `path` may be a pipe, and "-" is standard
// input.
base::Result<VerifyReport> Verify(const std::string& path, const VerifyOptions& options = {});

}  // namespace image
