#include "mm/folder_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace mm {
namespace {

constexpr PageBytes kZeros{};

base::Result<void> CheckFileName(const std::string& name) {
  if (!name.empty() && name != "." && name != ".." && name.size() <= 255 &&
      name.find('/') == std::string::npos && name.find('\0') == std::string::npos) {
    return {};
  }
  return base::Fail(base::Code::kInvalid, "disk folder: '%s' is not a plain file name",
                    base::Printable(name).c_str());
}

std::string PathIn(const std::string& folder, const std::string& name) { return folder + "/" + name; }

}  // namespace

base::Result<std::unique_ptr<FolderDisk>> FolderDisk::Create(const std::string& folder,
                                                             const std::string& name,
                                                             const OpenedContent& content) {
  TRY_VOID(CheckFileName(name));
  const std::string shown = base::Printable(PathIn(folder, name));
  if (mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST) {
    return base::FailErrno(errno, "make disk folder '%s'", base::Printable(folder).c_str());
  }
  const int fd = open(PathIn(folder, name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0 && errno == EEXIST) {
    return base::Fail(
        base::Code::kIo,
        "create '%s': it is there already, and a run makes its files new; remove it or name another folder",
        shown.c_str());
  }
  if (fd < 0) return base::FailErrno(errno, "create '%s'", shown.c_str());
  std::unique_ptr<FolderDisk> disk(new FolderDisk(fd, folder, name, 0));
  const SysResult<void> copied = disk->CopyFrom(content);
  if (copied) return disk;
  const SysResult<void> removed = disk->Unlink();
  if (!removed) return base::FailErrno(removed.error().err, "remove the half-written '%s'", shown.c_str());
  return base::FailErrno(copied.error().err, "write '%s'", shown.c_str());
}

base::Result<std::unique_ptr<FolderDisk>> FolderDisk::Open(const std::string& folder,
                                                           const std::string& name) {
  TRY_VOID(CheckFileName(name));
  const std::string shown = base::Printable(PathIn(folder, name));
  const int fd = open(PathIn(folder, name).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0 && errno != ELOOP && errno != EISDIR) return base::FailErrno(errno, "open '%s'", shown.c_str());
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    if (fd >= 0) close(fd);
    return base::Fail(base::Code::kInvalid, "open '%s': not a regular file", shown.c_str());
  }
  return std::unique_ptr<FolderDisk>(new FolderDisk(fd, folder, name, static_cast<uint64_t>(st.st_size)));
}

FolderDisk::~FolderDisk() { close(fd_); }

SysResult<void> FolderDisk::CopyFrom(const OpenedContent& content) {
  SYS_TRY_VOID(Truncate(content.recipe.size));
  if (content.recipe.kind == Recipe::Kind::kEmpty) return {};
  PageBytes page;
  for (Pgoff index = 0; index < base::PagesFor(size_); ++index) {
    SYS_TRY_VOID(content.content->ReadPage(index, page));
    if (page != kZeros) SYS_TRY_VOID(WritePage(index, page));
  }
  return {};
}

SysResult<void> FolderDisk::ReadPage(Pgoff index, PageSpan page) const {
  const uint64_t start = index * kPageSize;
  const size_t wanted = start < size_ ? std::min<uint64_t>(kPageSize, size_ - start) : 0;
  size_t done = 0;
  while (done < wanted) {
    const ssize_t got = pread(fd_, page.data() + done, wanted - done, static_cast<off_t>(start + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Err(EIO);  // Someone else cut the file.
    done += static_cast<size_t>(got);
  }
  std::memset(page.data() + done, 0, kPageSize - done);
  return {};
}

SysResult<void> FolderDisk::WriteAt(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Err(errno);
    offset += static_cast<uint64_t>(put);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

SysResult<void> FolderDisk::WritePage(Pgoff index, ConstPageSpan page) {
  const uint64_t start = index * kPageSize;
  size_t length = kPageSize;
  while (length > 0 && start + length > size_ && page[length - 1] == std::byte{0}) --length;
  SYS_TRY_VOID(WriteAt(start, page.first(length)));
  size_ = std::max(size_, length > 0 ? start + length : 0);
  return {};
}

SysResult<void> FolderDisk::Truncate(uint64_t size) {
  if (ftruncate(fd_, static_cast<off_t>(size)) != 0) return Err(errno);
  size_ = size;
  return {};
}

SysResult<void> FolderDisk::PunchHole(Pgoff first, Pgoff end) {
  const uint64_t start = first * kPageSize;
  const uint64_t stop = std::min(end * kPageSize, size_);
  if (start >= stop) return {};
  if (fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(start),
                static_cast<off_t>(stop - start)) == 0) {
    return {};
  }
  if (errno != EOPNOTSUPP && errno != ENOSYS) return Err(errno);
  for (uint64_t at = start; at < stop; at += kPageSize) {
    SYS_TRY_VOID(WriteAt(at, std::span(kZeros).first(std::min<uint64_t>(kPageSize, stop - at))));
  }
  return {};
}

SysResult<void> FolderDisk::Sync() {
  if (fsync(fd_) != 0) return Err(errno);
  return {};
}

Recipe FolderDisk::recipe() const {
  Recipe recipe;
  recipe.kind = Recipe::Kind::kFolder;
  recipe.size = size_;
  recipe.path = name_;
  struct stat st;
  if (fstat(fd_, &st) == 0) {
    recipe.size = static_cast<uint64_t>(st.st_size);
    recipe.device = st.st_dev;
    recipe.inode = st.st_ino;
    recipe.mtime_ns = int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
  }
  return recipe;
}

SysResult<void> FolderDisk::ForEachChanged(const ChangedFn&) const { return {}; }

SysResult<void> FolderDisk::Unlink() {
  if (unlink(PathIn(folder_, name_).c_str()) != 0) return Err(errno);
  return {};
}

}  // namespace mm
