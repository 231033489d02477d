#include "live/pagemap.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/units.h"

namespace live {
namespace {

// struct pm_scan_arg of linux/fs.h, which is newer than the headers of Debian 12.
struct ScanArg {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArg);

// Bits of an entry.
constexpr uint64_t kEntryPresent = uint64_t{1} << 63;
constexpr uint64_t kEntrySwapped = uint64_t{1} << 62;
constexpr uint64_t kEntryFile = uint64_t{1} << 61;

void Append(uint64_t start, uint64_t end, uint64_t categories, std::vector<PageRegion>* pages) {
  if (!pages->empty() && pages->back().end == start && pages->back().categories == categories) {
    pages->back().end = end;
  } else {
    pages->push_back({start, end, categories});
  }
}

}  // namespace

Pagemap::Interface Pagemap::Supported() {
  const base::Fd fd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  ScanArg arg{};
  arg.size = sizeof arg;
  arg.return_mask = kPageIsPresent;
  return fd.is_open() && ioctl(fd.get(), kPagemapScan, &arg) >= 0 ? Interface::kScan : Interface::kEntries;
}

base::Result<Pagemap> Pagemap::Open(pid_t pid, Interface interface) {
  const std::string path = base::Format("/proc/%d/pagemap", pid);
  base::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.is_open()) return base::FailErrno(errno, "open %s", path.c_str());
  return Pagemap(std::move(fd), interface);
}

base::Result<void> Pagemap::Scan(uint64_t start, uint64_t end, std::vector<PageRegion>* pages) const {
  if (interface_ == Interface::kEntries) return ReadEntries(start, end, pages);
  std::array<PageRegion, 512> regions;
  ScanArg arg{};
  arg.size = sizeof arg;
  arg.start = start;
  arg.end = end;
  arg.vec = reinterpret_cast<uint64_t>(regions.data());
  arg.vec_len = regions.size();
  arg.category_anyof_mask = kPageIsPresent | kPageIsSwapped;
  arg.return_mask = kPageIsPresent | kPageIsSwapped | kPageIsFile | kPageIsPfnzero;
  while (arg.start < end) {
    const int found = ioctl(fd_.get(), kPagemapScan, &arg);
    if (found < 0) {
      if (errno == EINTR) continue;
      return base::FailErrno(errno, "PAGEMAP_SCAN of %#llx-%#llx", static_cast<unsigned long long>(arg.start),
                             static_cast<unsigned long long>(end));
    }
    for (int i = 0; i < found; ++i) {
      const PageRegion& region = regions[static_cast<size_t>(i)];
      Append(region.start, region.end, region.categories, pages);
    }
    arg.start = arg.walk_end;
  }
  return {};
}

base::Result<void> Pagemap::ReadEntries(uint64_t start, uint64_t end, std::vector<PageRegion>* pages) const {
  std::array<uint64_t, 4096> entries;
  for (uint64_t at = start; at < end;) {
    const size_t wanted = std::min<uint64_t>(entries.size(), (end - at) / base::kPageSize);
    const ssize_t got = pread(fd_.get(), entries.data(), wanted * sizeof entries[0],
                              static_cast<off_t>(at / base::kPageSize * sizeof entries[0]));
    if (got < 0) return base::FailErrno(errno, "read pagemap at %#llx", static_cast<unsigned long long>(at));
    const size_t count = static_cast<size_t>(got) / sizeof entries[0];
    if (count == 0) return {};  // the end of user space
    for (size_t i = 0; i < count; ++i, at += base::kPageSize) {
      const uint64_t entry = entries[i];
      const uint64_t categories = ((entry & kEntryPresent) != 0 ? kPageIsPresent : 0) |
                                  ((entry & kEntrySwapped) != 0 ? kPageIsSwapped : 0) |
                                  ((entry & kEntryFile) != 0 ? kPageIsFile : 0);
      if ((categories & (kPageIsPresent | kPageIsSwapped)) != 0)
        Append(at, at + base::kPageSize, categories, pages);
    }
  }
  return {};
}

}  // namespace live
