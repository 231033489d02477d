// Maps: the vmas of a live process: PROCMAP_QUERY (Linux 6.11), and the text of /proc/PID/maps where that is
// missing.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace live {

// Of a vma, by their bits in 2.6.34 and today (mm/vma.h): what smaps' VmFlags say beside the protection.
inline constexpr uint64_t kVmGrowsdown = 0x100;   // gd
inline constexpr uint64_t kVmLocked = 0x2000;     // lo
inline constexpr uint64_t kVmDontcopy = 0x20000;  // dc

struct LiveVma {
  uint64_t start = 0;
  uint64_t end = 0;
  int prot = 0;  // PROT_*
  bool shared = false;
  uint64_t offset = 0;  // bytes in the file
  uint64_t device = 0;  // major << 32 | minor
  uint64_t inode = 0;   // 0: anonymous
  uint64_t flags = 0;   // of the three above, after ReadFlags
  friend bool operator==(const LiveVma&, const LiveVma&) = default;
};

class Maps {
 public:
  enum class Interface : uint8_t { kQuery, kText };
  static Interface Supported();

  // Of a process that the caller may trace. kNotFound where there is none, kIo where that is not allowed.
  static base::Result<Maps> Open(pid_t pid, Interface interface);

  // The vmas that begin in [start, end), ascending, appended.
  base::Result<void> Read(uint64_t start, uint64_t end, std::vector<LiveVma>* vmas) const;
  // Fills in `flags` from smaps, which costs a walk through the page tables. kBusy: there are other vmas now.
  base::Result<void> ReadFlags(std::vector<LiveVma>* vmas) const;

 private:
  Maps(pid_t pid, base::Fd fd, Interface interface) : pid_(pid), fd_(std::move(fd)), interface_(interface) {}
  base::Result<void> ReadText(uint64_t start, uint64_t end, std::vector<LiveVma>* vmas) const;

  pid_t pid_;
  base::Fd fd_;
  mutable base::Fd smaps_;
  Interface interface_;
};

// A line of /proc/PID/maps. false: it is none.
bool ParseMapsLine(std::string_view line, LiveVma* vma);

}  // namespace live
