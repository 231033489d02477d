#include "live/zram.h"

#include <fcntl.h>
#include <sys/swap.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "base/fd.h"
#include "base/units.h"

namespace live {
namespace {

bool Write(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  return file.good();
}

// The header of swap space, version 1 (union swap_header of linux/swap.h): what mkswap writes.
base::Result<void> MakeSwapSpace(const std::string& device, uint64_t bytes) {
  constexpr size_t kBootBytes = 1024;
  constexpr char kMagic[] = "SWAPSPACE2";
  std::array<char, base::kPageSize> page{};
  const uint32_t info[] = {1, static_cast<uint32_t>(bytes / base::kPageSize - 1),
                           0};  // version, last page, bad ones
  std::memcpy(page.data() + kBootBytes, info, sizeof info);
  std::memcpy(page.data() + page.size() - (sizeof kMagic - 1), kMagic, sizeof kMagic - 1);
  const base::Fd fd(open(device.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.is_open() || write(fd.get(), page.data(), page.size()) != static_cast<ssize_t>(page.size()))
    return base::FailErrno(errno, "write swap space to %s", device.c_str());
  return {};
}

}  // namespace

base::Result<Zram> Zram::Make(uint64_t bytes) {
  using base::Code;
  if (geteuid() != 0) return base::Fail(Code::kUnsupported, "a swap device can only be made by root");
  int number = -1;
  std::ifstream add("/sys/class/zram-control/hot_add");
  if (!(add >> number)) return base::Fail(Code::kUnsupported, "the running kernel has no zram to swap to");
  Zram zram(number);
  const std::string device = "/dev/zram" + std::to_string(number);
  if (!Write("/sys/block/zram" + std::to_string(number) + "/disksize", std::to_string(bytes))) {
    return base::FailErrno(errno, "set the size of %s", device.c_str());
  }
  TRY_VOID(MakeSwapSpace(device, bytes));
  constexpr int kPriority = 32000;
  if (swapon(device.c_str(), SWAP_FLAG_PREFER | kPriority) != 0) {
    return base::FailErrno(errno, "swapon %s", device.c_str());
  }
  return zram;
}

base::Result<void> Zram::Remove() {
  if (number_ < 0) return {};
  const std::string number = std::to_string(std::exchange(number_, -1));
  const std::string device = "/dev/zram" + number;
  if (swapoff(device.c_str()) != 0 && errno != EINVAL) {
    return base::FailErrno(
        errno, "swap to %s stays: 'swapoff %s', and then 'echo %s > /sys/class/zram-control/hot_remove'",
        device.c_str(), device.c_str(), number.c_str());
  }
  (void)Write("/sys/block/zram" + number + "/reset", "1");
  if (Write("/sys/class/zram-control/hot_remove", number)) return {};
  return base::Fail(base::Code::kIo, "%s stays, unused: 'echo %s > /sys/class/zram-control/hot_remove'",
                    device.c_str(), number.c_str());
}

Zram::~Zram() { (void)Remove(); }

}  // namespace live
