#include "live/maps.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>

namespace live {
namespace {

// struct procmap_query of linux/fs.h, which is newer than the headers of Debian 12.
struct Query {
  uint64_t size, query_flags, query_addr;
  uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
  uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
  uint64_t vma_name_addr, build_id_addr;
};
constexpr unsigned long kProcmapQuery = _IOWR('f', 17, Query);
constexpr uint64_t kCoveringOrNext = 0x10;
enum : uint64_t { kReadable = 1, kWritable = 2, kExecutable = 4, kShared = 8 };

uint64_t Device(uint64_t major, uint64_t minor) { return major << 32 | minor; }

// All that is in a file of /proc.
base::Result<std::string> ReadAll(int fd, const char* name) {
  std::string text;
  size_t length = 0;
  for (;;) {
    text.resize(std::max<size_t>(2 * length, 16384));
    const ssize_t got = pread(fd, text.data() + length, text.size() - length, static_cast<off_t>(length));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::FailErrno(errno, "read %s", name);
    if (got == 0) break;
    length += static_cast<size_t>(got);
  }
  text.resize(length);
  return text;
}

// The next line without its end; false: there is none.
bool NextLine(std::string_view* text, std::string_view* line) {
  if (text->empty()) return false;
  const size_t end = std::min(text->find('\n'), text->size());
  *line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return true;
}

uint64_t FlagsOf(std::string_view names) {
  uint64_t flags = 0;
  for (; names.size() >= 3; names.remove_prefix(3)) {  // " lo"
    const std::string_view name = names.substr(1, 2);
    if (name == "gd") flags |= kVmGrowsdown;
    if (name == "lo") flags |= kVmLocked;
    if (name == "dc") flags |= kVmDontcopy;
  }
  return flags;
}

}  // namespace

bool ParseMapsLine(std::string_view line, LiveVma* vma) {
  char perms[5] = "";
  uint64_t major = 0;
  uint64_t minor = 0;
  const std::string text(line);
  if (std::sscanf(text.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %" SCNx64 ":%" SCNx64 " %" SCNu64,
                  &vma->start, &vma->end, perms, &vma->offset, &major, &minor, &vma->inode) != 7) {
    return false;
  }
  vma->prot = (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) |
              (perms[2] == 'x' ? PROT_EXEC : 0);
  vma->shared = perms[3] == 's';
  vma->device = Device(major, minor);
  vma->flags = 0;
  return true;
}

Maps::Interface Maps::Supported() {
  const base::Fd fd(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  Query query{};
  query.size = sizeof query;
  query.query_flags = kCoveringOrNext;
  return fd.is_open() && ioctl(fd.get(), kProcmapQuery, &query) == 0 ? Interface::kQuery : Interface::kText;
}

base::Result<Maps> Maps::Open(pid_t pid, Interface interface) {
  const std::string path = base::Format("/proc/%d/maps", pid);
  base::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.is_open()) return base::FailErrno(errno, "open %s", path.c_str());
  return Maps(pid, std::move(fd), interface);
}

base::Result<void> Maps::Read(uint64_t start, uint64_t end, std::vector<LiveVma>* vmas) const {
  if (interface_ == Interface::kText) return ReadText(start, end, vmas);
  for (uint64_t at = start; at < end;) {
    Query query{};
    query.size = sizeof query;
    query.query_flags = kCoveringOrNext;
    query.query_addr = at;
    if (ioctl(fd_.get(), kProcmapQuery, &query) != 0) {
      if (errno == ENOENT) return {};  // none from here on
      return base::FailErrno(errno, "PROCMAP_QUERY at %#llx", static_cast<unsigned long long>(at));
    }
    if (query.vma_start >= end) return {};
    vmas->push_back({.start = query.vma_start,
                     .end = query.vma_end,
                     .prot = ((query.vma_flags & kReadable) != 0 ? PROT_READ : 0) |
                             ((query.vma_flags & kWritable) != 0 ? PROT_WRITE : 0) |
                             ((query.vma_flags & kExecutable) != 0 ? PROT_EXEC : 0),
                     .shared = (query.vma_flags & kShared) != 0,
                     .offset = query.vma_offset,
                     .device = Device(query.dev_major, query.dev_minor),
                     .inode = query.inode,
                     .flags = 0});
    at = query.vma_end;
  }
  return {};
}

base::Result<void> Maps::ReadText(uint64_t start, uint64_t end, std::vector<LiveVma>* vmas) const {
  const std::string all = TRY(ReadAll(fd_.get(), "maps"));
  std::string_view text = all;
  std::string_view line;
  while (NextLine(&text, &line)) {
    LiveVma vma;
    if (!ParseMapsLine(line, &vma))
      return base::Fail(base::Code::kUnsupported, "a line of maps that cannot be read: '%s'",
                        base::Printable(line).c_str());
    if (vma.start >= start && vma.start < end) vmas->push_back(vma);
  }
  return {};
}

base::Result<void> Maps::ReadFlags(std::vector<LiveVma>* vmas) const {
  if (!smaps_.is_open()) {
    const std::string path = base::Format("/proc/%d/smaps", pid_);
    smaps_ = base::Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!smaps_.is_open()) return base::FailErrno(errno, "open %s", path.c_str());
  }
  const std::string all = TRY(ReadAll(smaps_.get(), "smaps"));
  std::string_view text = all;
  std::string_view line;
  uint64_t start = 0;
  auto next = vmas->begin();
  while (NextLine(&text, &line) && next != vmas->end()) {
    constexpr std::string_view kVmFlags = "VmFlags:";
    LiveVma vma;
    // Headings begin with an address, all else with a name and a colon.
    if (line.find('-') < line.find(':') && ParseMapsLine(line, &vma)) start = vma.start;
    if (!line.starts_with(kVmFlags) || start != next->start) continue;
    next->flags = FlagsOf(line.substr(kVmFlags.size()));
    ++next;
  }
  if (next == vmas->end()) return {};
  return base::Fail(base::Code::kBusy, "smaps has no vma at %#llx",
                    static_cast<unsigned long long>(next->start));
}

}  // namespace live
