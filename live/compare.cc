#include "live/compare.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "base/units.h"
#include "live/agent/protocol.h"
#include "mm/follow_page.h"
#include "mm/peek.h"

namespace live {
namespace {

using base::kPageSize;

constexpr uint64_t kFirst = kPageSize;  // nothing can be mapped at 0
constexpr size_t kPiece = 256 * kPageSize;
constexpr uint64_t kLargeVma = 4096;      // pages: of more a sample is read
constexpr uint64_t kSample = 1024;        // pages
constexpr uint64_t kLargeFile = 1 << 20;  // bytes: sizes only, but for a thorough look
const mm::PageBytes kZeros{};

unsigned long long Number(uint64_t value) { return value; }

// The first byte that differs, and what is there: "0x41 at 0x7123".
std::string ByteText(const std::byte* bytes, size_t at, uint64_t addr) {
  std::string text = base::Format("at %#llx:", Number(addr + at));
  for (size_t i = at; i < std::min(kPageSize, at + 8); ++i)
    text += base::Format(" %02x", std::to_integer<unsigned>(bytes[i]));
  return text;
}

bool Overlaps(const PageRegion& region, const LiveVma& vma) {
  return region.start < vma.end && vma.start < region.end;
}

}  // namespace

bool Comparer::Differ(std::string what, std::string model, std::string kernel) {
  if (pid_ != 0) what = base::Format("process %u: %s", pid_, what.c_str());
  difference_ = Difference{{}, std::move(what), std::move(model), std::move(kernel), nullptr};
  return false;
}

base::Result<std::optional<Difference>> Comparer::Compare(Depth depth, Flags flags) {
  difference_.reset();
  std::vector<const mm::MmStruct*> seen;
  for (const auto& [pid, process] : machine_.processes()) {
    if (std::ranges::find(seen, process->mm.get()) != seen.end()) continue;
    seen.push_back(process->mm.get());
    pid_ = pid;
    const auto same = CompareProcess(pid, real_.processes().at(pid), depth, flags);
    if (!same) return std::unexpected(same.error().In(base::Format("compare process %u", pid)));
    if (!*same) return difference_;
  }
  pid_ = 0;
  TRY(CompareFiles(depth));
  return difference_;
}

base::Result<bool> Comparer::CompareProcess(mm::Pid pid, const RealProcess& process, Depth depth,
                                            Flags flags) {
  mm::MmStruct& mm = *machine_.find_process(pid)->mm;
  vmas_.clear();
  TRY_VOID(process.maps.Read(kFirst, agent::kAgentBase, &vmas_));
  TRY_VOID(process.maps.Read(agent::kAgentEnd, mm::TASK_SIZE, &vmas_));
  if (flags == Flags::kYes) TRY_VOID(process.maps.ReadFlags(&vmas_));
  const Areas model = AreasOfModel(mm, flags);
  const Areas kernel = AreasOfKernel(mm);
  if (model != kernel) return Differ("vmas", Text(model), Text(kernel));

  pages_.clear();
  if (process.pagemap.interface() == Pagemap::Interface::kScan) {
    TRY_VOID(process.pagemap.Scan(kFirst, agent::kAgentBase, &pages_));
    TRY_VOID(process.pagemap.Scan(agent::kAgentEnd, mm::TASK_SIZE, &pages_));
  } else {
    for (const LiveVma& vma : vmas_) TRY_VOID(process.pagemap.Scan(vma.start, vma.end, &pages_));
  }
  if (!TRY(ComparePages(mm, process, depth)) || !TRY(CompareModified(mm, process.pagemap.interface())))
    return false;
  return depth == Depth::kTouched || TRY(CompareAll(mm, process));
}

// ---- vmas ----

void Comparer::Append(Areas& areas, const Area& area) {
  if (!areas.empty()) {
    Area& last = areas.back();
    const bool follows = area.file == 0 || last.offset + (last.end - last.start) == area.offset;
    Area joined = area;
    joined.start = last.start;
    joined.offset = last.offset;
    if (last.end == area.start && follows) {
      last.end = area.end;
      if (last == joined) return;
      last.end = area.start;
    }
  }
  areas.push_back(area);
}

std::string Comparer::Text(const Areas& areas) {
  std::string text;
  for (const Area& area : areas) {
    text += base::Format("%llx-%llx %c%c%c%c", Number(area.start), Number(area.end),
                         (area.prot & PROT_READ) != 0 ? 'r' : '-', (area.prot & PROT_WRITE) != 0 ? 'w' : '-',
                         (area.prot & PROT_EXEC) != 0 ? 'x' : '-', area.shared ? 's' : 'p');
    if (area.file != 0) text += base::Format(" file %llu at %#llx", Number(area.file), Number(area.offset));
    if ((area.flags & kVmGrowsdown) != 0) text += " growsdown";
    if ((area.flags & kVmLocked) != 0) text += " locked";
    if ((area.flags & kVmDontcopy) != 0) text += " dontcopy";
    text += '\n';
  }
  return text.empty() ? "none\n" : text;
}

Comparer::Areas Comparer::AreasOfModel(const mm::MmStruct& mm, Flags flags) const {
  static_assert(kVmGrowsdown == mm::VM_GROWSDOWN && kVmLocked == mm::VM_LOCKED &&
                kVmDontcopy == mm::VM_DONTCOPY);
  static_assert(mm::VM_READ == PROT_READ && mm::VM_WRITE == PROT_WRITE && mm::VM_EXEC == PROT_EXEC);
  Areas areas;
  for (const auto& [start, vma] : mm.vmas()) {
    if (vma->special != mm::Special::kNone) continue;
    Area area{.start = vma->start,
              .end = vma->end,
              .prot = static_cast<int>(vma->flags & mm::VM_ACCESS_FLAGS),
              .shared = (vma->flags & mm::VM_MAYSHARE) != 0,
              .flags = flags == Flags::kNo ? 0 : vma->flags & (kVmGrowsdown | kVmLocked | kVmDontcopy),
              .file = vma->file == nullptr ? 0 : static_cast<uint64_t>(vma->file->id()),
              .offset = vma->file == nullptr ? 0 : vma->pgoff * kPageSize};
    if ((vma->flags & mm::VM_NONLINEAR) == 0) {
      Append(areas, area);
      continue;
    }
    // Today's kernel has a vma for each piece.
    for (mm::Vaddr at = vma->start; at < vma->end; at += kPageSize) {
      area.start = at;
      area.end = at + kPageSize;
      area.offset = mm::file_index_at(*vma, at).value_or(0) * kPageSize;
      Append(areas, area);
    }
  }
  return areas;
}

// Each inode is one file of the model and always the same: which, says the first vma of it.
uint64_t Comparer::FileOf(const mm::MmStruct& mm, const LiveVma& vma) {
  if (vma.inode == 0) return 0;
  const std::pair inode(vma.device, vma.inode);
  const auto known = inodes_.find(inode);
  if (known != inodes_.end()) return known->second;
  const mm::Vma* same = const_cast<mm::MmStruct&>(mm).vma_at(vma.start);
  const uint64_t file =
      same == nullptr || same->file == nullptr ? 0 : static_cast<uint64_t>(same->file->id());
  if (file == 0 || !files_.emplace(file, inode).second) return ~vma.inode;  // no file of the model
  inodes_.emplace(inode, file);
  return file;
}

Comparer::Areas Comparer::AreasOfKernel(const mm::MmStruct& mm) {
  Areas areas;
  for (const LiveVma& vma : vmas_) {
    const uint64_t file = FileOf(mm, vma);
    Append(areas, {.start = vma.start,
                   .end = vma.end,
                   .prot = vma.prot,
                   .shared = vma.shared,
                   .flags = vma.flags,
                   .file = file,
                   .offset = file == 0 ? 0 : vma.offset});
  }
  return areas;
}

// ---- pages ----

base::Result<bool> Comparer::ComparePage(mm::MmStruct& mm, uint64_t addr, const std::byte* kernel) {
  const mm::Vma* vma = mm.vma_at(addr);
  mm::PageBytes buffer;
  const auto peeked = mm::peek_page(*vma, addr, buffer);
  if (!peeked) return base::FailErrno(peeked.error().err, "read the model at %#llx", Number(addr));
  const std::string what = base::Format("page %#llx", Number(addr));
  if (peeked->kind == mm::Peeked::Kind::kSigbus)
    return kernel == nullptr || Differ(what, "past the end of the file: SIGBUS", ByteText(kernel, 0, addr));
  const std::byte* model = peeked->kind == mm::Peeked::Kind::kZero ? kZeros.data() : peeked->bytes;
  if (kernel == nullptr) return Differ(what, ByteText(model, 0, addr), "cannot be read");
  if (std::memcmp(model, kernel, kPageSize) == 0) return true;
  const auto at = static_cast<size_t>(std::mismatch(model, model + kPageSize, kernel).first - model);
  Differ(what, ByteText(model, at, addr), ByteText(kernel, at, addr));
  if (vma->file != nullptr && tails_.contains(vma->file->id()))
    difference_->known = FindKnownDifference(*vma, addr + at);
  return false;
}

// Into bytes_.
base::Result<void> Comparer::ReadMemory(const RealProcess& process, uint64_t start, size_t length) {
  bytes_.resize(std::max(bytes_.size(), length));
  const iovec here = {bytes_.data(), length};
  const iovec there = {reinterpret_cast<void*>(start), length};
  ssize_t got = process_vm_readv(process.agent->pid(), &here, 1, &there, 1, 0);
  if (got == static_cast<ssize_t>(length)) return {};
  // Memory that the process itself may not read.
  got = pread(process.memory.get(), bytes_.data(), length, static_cast<off_t>(start));
  if (got == static_cast<ssize_t>(length)) return {};
  return base::FailErrno(got < 0 ? errno : EIO, "read memory at %#llx", Number(start));
}

base::Result<bool> Comparer::ComparePages(mm::MmStruct& mm, const RealProcess& process, Depth depth) {
  for (size_t i = 0; i < pages_.size(); ++i) {
    // Looking at a page that is in swap would bring it in.
    const auto is_read = [&](const PageRegion& region) {
      return depth == Depth::kEverything || (region.categories & kPageIsSwapped) == 0;
    };
    if (!is_read(pages_[i])) continue;
    const uint64_t start = pages_[i].start;
    uint64_t end = pages_[i].end;
    while (i + 1 < pages_.size() && pages_[i + 1].start == end && is_read(pages_[i + 1]))
      end = pages_[++i].end;
    for (uint64_t at = start; at < end;) {
      const size_t length = std::min<uint64_t>(end - at, kPiece);
      TRY_VOID(ReadMemory(process, at, length));
      for (size_t done = 0; done < length; done += kPageSize) {
        if (!TRY(ComparePage(mm, at + done, bytes_.data() + done))) return false;
      }
      at += length;
    }
  }
  return true;
}

// Of the model, which has the kernel's bytes by now.
base::Result<bool> Comparer::IsZero(mm::MmStruct& mm, uint64_t addr) {
  mm::PageBytes buffer;
  const auto peeked = mm::peek_page(*mm.vma_at(addr), addr, buffer);
  if (!peeked) return base::FailErrno(peeked.error().err, "read the model at %#llx", Number(addr));
  return peeked->kind == mm::Peeked::Kind::kZero;
}

base::Result<bool> Comparer::CompareModified(mm::MmStruct& mm, Pagemap::Interface interface) {
  // Of the kernel: what is in a private vma, and neither a file's nor the zero page.
  std::vector<PageRegion> kernel;
  const auto append = [](std::vector<PageRegion>& regions, uint64_t start, uint64_t end) {
    if (!regions.empty() && regions.back().end == start) {
      regions.back().end = end;
    } else {
      regions.push_back({start, end, 0});
    }
  };
  auto vma = vmas_.begin();
  for (const PageRegion& region : pages_) {
    if ((region.categories & (kPageIsFile | kPageIsPfnzero)) != 0) continue;
    while (vma != vmas_.end() && vma->end <= region.start) ++vma;
    for (auto at = vma; at != vmas_.end() && Overlaps(region, *at); ++at) {
      if (at->shared) continue;
      const uint64_t start = std::max(region.start, at->start);
      const uint64_t end = std::min(region.end, at->end);
      if (interface == Pagemap::Interface::kScan) {
        append(kernel, start, end);
        continue;
      }
      // The zero page cannot be told from others here.
      for (uint64_t page = start; page < end; page += kPageSize) {
        if (!TRY(IsZero(mm, page))) append(kernel, page, page + kPageSize);
      }
    }
  }
  std::vector<PageRegion> model;
  for (const auto& [start, private_vma] : mm.vmas()) {
    if ((private_vma->flags & mm::VM_MAYSHARE) != 0 || private_vma->special != mm::Special::kNone) continue;
    for (mm::Vaddr at = start; at < private_vma->end;) {
      const mm::DirtyRun run = mm::next_dirty_run(*private_vma, at, private_vma->end, ~uint64_t{0});
      if (run.pages == 0) break;
      at = run.start + run.pages * kPageSize;
      append(model, run.start, at);
    }
  }
  if (model == kernel) return true;
  const auto text = [](const std::vector<PageRegion>& regions) {
    std::string lines;
    for (const PageRegion& region : regions)
      lines += base::Format("%llx-%llx\n", Number(region.start), Number(region.end));
    return lines.empty() ? std::string("none\n") : lines;
  };
  return Differ("modified private pages", text(model), text(kernel));
}

base::Result<bool> Comparer::CompareAll(mm::MmStruct& mm, const RealProcess& process) {
  mm::PageBytes bytes;
  const auto compare = [&](uint64_t addr) -> base::Result<bool> {
    const ssize_t got = pread(process.memory.get(), bytes.data(), kPageSize, static_cast<off_t>(addr));
    return ComparePage(mm, addr, got == static_cast<ssize_t>(kPageSize) ? bytes.data() : nullptr);
  };
  for (const auto& [start, vma] : mm.vmas()) {
    if (vma->special != mm::Special::kNone) continue;
    const bool large = vma->pages() > kLargeVma;
    TRY_VOID(CheckStop());
    for (uint64_t i = 0; i < (large ? kSample : vma->pages()); ++i) {
      const uint64_t page = large ? random_.Below(vma->pages()) : i;
      if (!TRY(compare(start + page * kPageSize))) return false;
    }
  }
  return true;
}

// ---- files ----

base::Result<bool> Comparer::CompareFiles(Depth depth) {
  for (const mm::FilePtr& file : machine_.files()) {
    const int fd = real_.FdOf(*file);
    if (fd < 0 || file->kind() != mm::FileKind::kRegular) continue;
    if (!TRY(CompareFile(*file, fd, depth))) return false;
  }
  return true;
}

base::Result<void> Comparer::CheckStop() const {
  if (stop_ == nullptr || !stop_->load(std::memory_order_relaxed)) return {};
  return base::Fail(base::Code::kInterrupted, "interrupted");
}

// The pages of kPiece bytes from `at` on, as far as the file goes.
base::Result<bool> Comparer::ComparePiece(const mm::File& file, int fd, uint64_t at) {
  const std::string name = base::Format("file '%s'", base::Printable(file.name()).c_str());
  mm::PageBytes buffer;
  bytes_.resize(std::max(bytes_.size(), kPiece));
  const ssize_t got = pread(fd, bytes_.data(), kPiece, static_cast<off_t>(at));
  if (got <= 0) return base::FailErrno(got < 0 ? errno : EIO, "read %s", name.c_str());
  for (size_t done = 0; done < static_cast<size_t>(got); done += kPageSize) {
    const size_t length = std::min(static_cast<size_t>(got) - done, kPageSize);
    const auto peeked = mm::peek_file_page(machine_, file, (at + done) / kPageSize, buffer);
    if (!peeked) return base::FailErrno(peeked.error().err, "read the model's %s", name.c_str());
    const std::byte* model = peeked->kind == mm::Peeked::Kind::kBytes ? peeked->bytes : kZeros.data();
    const std::byte* kernel = bytes_.data() + done;
    if (std::memcmp(model, kernel, length) == 0) continue;
    const auto where = static_cast<size_t>(std::mismatch(model, model + length, kernel).first - model);
    return Differ(name, ByteText(model, where, at + done), ByteText(kernel, where, at + done));
  }
  return true;
}

base::Result<bool> Comparer::CompareFile(const mm::File& file, int fd, Depth depth) {
  const std::string name = base::Format("file '%s'", base::Printable(file.name()).c_str());
  struct stat st;
  if (fstat(fd, &st) != 0) return base::FailErrno(errno, "look at %s", name.c_str());
  const auto size = static_cast<uint64_t>(st.st_size);
  if (size != file.i_size)
    return Differ(name + ": size", base::Format("%llu", Number(file.i_size)),
                  base::Format("%llu", Number(size)));
  if (size > kLargeFile && depth == Depth::kTouched) return true;
  // Of a large file that began as nothing, what either side has; where both have a hole there is nothing to
  // see.
  std::set<uint64_t> pieces;
  const bool sparse = size > kLargeFile && file.disk()->recipe().kind == mm::Recipe::Kind::kEmpty;
  if (sparse) {
    const auto add = [&](mm::Pgoff first, uint64_t count, const std::byte*) {
      for (uint64_t page = first; page < first + count; ++page) pieces.insert(page * kPageSize / kPiece);
    };
    for (const auto& [index, pfn] : file.mapping.pages) add(index, 1, nullptr);
    const auto listed =
        file.disk()->ForEachChanged([&](mm::Pgoff first, uint64_t count, const std::byte* bytes) {
          if (bytes != nullptr) add(first, count, bytes);
        });
    if (!listed) return base::FailErrno(listed.error().err, "read the model's %s", name.c_str());
  }
  for (uint64_t at = 0; at < size; at += kPiece) {
    TRY_VOID(CheckStop());
    if (sparse) {
      const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
      const auto model = pieces.lower_bound(at / kPiece);
      uint64_t next = data < 0 ? size : static_cast<uint64_t>(data) / kPiece * kPiece;
      if (model != pieces.end()) next = std::min(next, *model * kPiece);
      if (next >= size) break;
      at = std::max(at, next);
    }
    if (!TRY(ComparePiece(file, fd, at))) return false;
  }
  return true;
}

}  // namespace live
