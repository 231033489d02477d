// The two media that a swap area can lie on.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "mm/frames.h"
#include "mm/swap.h"

namespace mm {
namespace {

class MappedSwap final : public SwapDevice {
 public:
  MappedSwap(std::byte* bytes, size_t length) : bytes_(bytes), length_(length) {}
  ~MappedSwap() override { munmap(bytes_, length_); }
  MappedSwap(const MappedSwap&) = delete;
  MappedSwap& operator=(const MappedSwap&) = delete;

  SysResult<void> ReadPage(SwpEntry slot, PageSpan page) override {
    std::memcpy(page.data(), PlacePage(slot).data(), kPageSize);
    return {};
  }
  SysResult<void> WritePage(SwpEntry slot, ConstPageSpan page) override {
    std::memcpy(PlacePage(slot).data(), page.data(), kPageSize);
    return {};
  }
  PageSpan PlacePage(SwpEntry slot) override {
    CHECK((uint64_t{slot} + 1) * kPageSize <= length_);
    return PageSpan(bytes_ + uint64_t{slot} * kPageSize, kPageSize);
  }
  void DropPage(SwpEntry slot) override { GiveBackPage(PlacePage(slot).data()); }

 private:
  std::byte* bytes_;
  size_t length_;
};

}  // namespace

base::Result<std::unique_ptr<SwapDevice>> MakeMemorySwap(uint64_t slots) {
  const size_t length = slots * kPageSize;
  void* place =
      mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) {
    return base::Fail(base::Code::kNoMemory,
                      "swap of %s: the system gives not that much address space (memory)",
                      base::FormatSize(length).c_str());
  }
  (void)madvise(place, length, MADV_HUGEPAGE);  // advice only
  return std::make_unique<MappedSwap>(static_cast<std::byte*>(place), length);
}

base::Result<std::unique_ptr<SwapDevice>> MakeFileSwap(const std::string& folder, uint64_t slots) {
  const std::string name = base::Printable(folder);
  if (mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST) {
    return base::FailErrno(errno, "make the folder '%s' for swap", name.c_str());
  }
  const int fd = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return base::FailErrno(errno, "make a swap file in '%s'", name.c_str());
  const size_t length = slots * kPageSize;
  // All of it now: a store into a mapping has no way to say that the disk is full.
  const int refused = posix_fallocate(fd, 0, static_cast<off_t>(length));
  void* place = refused == 0 ? mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  const int why = refused != 0 ? refused : errno;
  close(fd);
  if (place == MAP_FAILED) {
    return base::FailErrno(why, "make a swap file of %s in '%s'", base::FormatSize(length).c_str(),
                           name.c_str());
  }
  return std::make_unique<MappedSwap>(static_cast<std::byte*>(place), length);
}

}  // namespace mm
