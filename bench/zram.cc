#include "bench/zram.h"

#include <sys/swap.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "bench/bench.h"

namespace bench {

bool g_may_swap = false;

namespace {

bool Write(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  return file.good();
}

}  // namespace

base::Result<std::optional<Zram>> Zram::Make(uint64_t bytes) {
  using base::Code;
  if (!g_may_swap) return base::Fail(Code::kUnsupported, "not asked for: --swap lets it make a swap device");
  if (geteuid() != 0) return base::Fail(Code::kUnsupported, "--swap needs root");
  int number = -1;
  std::ifstream add("/sys/class/zram-control/hot_add");
  if (!(add >> number)) return base::Fail(Code::kUnsupported, "the running kernel has no zram");
  Zram zram(number);
  const std::string device = "/dev/zram" + std::to_string(number);
  if (!Write("/sys/block/zram" + std::to_string(number) + "/disksize", std::to_string(bytes))) {
    return base::FailErrno(errno, "set the size of %s", device.c_str());
  }
  RunProgram({"sh", "-c", "mkswap " + device + " >/dev/null"});
  // Before any other swap there may be.
  constexpr int kPriority = 32000;
  if (swapon(device.c_str(), SWAP_FLAG_PREFER | kPriority) != 0) {
    return base::FailErrno(errno, "swapon %s", device.c_str());
  }
  return std::optional<Zram>(std::move(zram));
}

Zram::~Zram() {
  if (number_ < 0) return;
  (void)swapoff(("/dev/zram" + std::to_string(number_)).c_str());
  (void)Write("/sys/block/zram" + std::to_string(number_) + "/reset", "1");
  (void)Write("/sys/class/zram-control/hot_remove", std::to_string(number_));
}

}  // namespace bench
