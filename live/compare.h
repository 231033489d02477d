// Compares the model with the real machine that did the same: vmas, bytes, modified pages, files.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "live/known_differences.h"
#include "live/real_machine.h"
#include "mm/machine.h"

namespace live {

// The two answers that differ.
struct Difference {
  std::string where;  // the step
  std::string what;   // "process 2: page 0x7000", "process 1: munmap(0x1000, 0x2000)"
  std::string model;  // in words, or lines
  std::string kernel;
  const KnownDifference* known = nullptr;
};

// kTouched: what the kernel has in memory; brings nothing in. kEverything: what is mapped, whether it was
// touched or not, as far as that is not too much (of a large vma some pages, chosen at random).
enum class Depth : uint8_t { kTouched, kEverything };

class Comparer {
 public:
  // `tails`: files with bytes behind their end that a shared mapping wrote (known_differences.h). `stop`, if
  // there is one, is looked at now and then: kInterrupted. All outlive the comparer.
  Comparer(mm::Machine& machine, const RealMachine& real, const std::map<mm::FileId, uint64_t>& tails,
           uint64_t seed, const std::atomic<bool>* stop)
      : machine_(machine), real_(real), tails_(tails), random_(seed), stop_(stop) {}

  // `flags`: whether to look at the flags of vmas too, which costs more (Maps::ReadFlags). The first
  // difference found, or none; an Error where the kernel cannot be asked. Requires: all calls are done.
  enum class Flags : uint8_t { kNo, kYes };
  base::Result<std::optional<Difference>> Compare(Depth depth, Flags flags);

 private:
  // A vma, as far as it is compared: anonymous ones have no offset.
  struct Area {
    uint64_t start, end;
    int prot;
    bool shared;
    uint64_t flags;
    uint64_t file;  // its number in the model; 0: none
    uint64_t offset;
    bool operator==(const Area&) const = default;
  };
  using Areas = std::vector<Area>;
  static void Append(Areas& areas, const Area& area);
  static std::string Text(const Areas& areas);

  base::Result<bool> CompareProcess(mm::Pid pid, const RealProcess& process, Depth depth, Flags flags);
  Areas AreasOfModel(const mm::MmStruct& mm, Flags flags) const;
  Areas AreasOfKernel(const mm::MmStruct& mm);
  uint64_t FileOf(const mm::MmStruct& mm, const LiveVma& vma);
  base::Result<bool> ComparePages(mm::MmStruct& mm, const RealProcess& process, Depth depth);
  base::Result<bool> CompareModified(mm::MmStruct& mm, Pagemap::Interface interface);
  base::Result<bool> IsZero(mm::MmStruct& mm, uint64_t addr);
  base::Result<bool> CompareAll(mm::MmStruct& mm, const RealProcess& process);
  base::Result<bool> ComparePage(mm::MmStruct& mm, uint64_t addr, const std::byte* kernel);
  base::Result<void> ReadMemory(const RealProcess& process, uint64_t start, size_t length);
  base::Result<bool> CompareFiles(Depth depth);
  // Files of more than 1 MiB only thoroughly.
  base::Result<bool> CompareFile(const mm::File& file, int fd, Depth depth);
  base::Result<bool> ComparePiece(const mm::File& file, int fd, uint64_t at);
  base::Result<void> CheckStop() const;
  bool Differ(std::string what, std::string model, std::string kernel);

  mm::Machine& machine_;
  const RealMachine& real_;
  const std::map<mm::FileId, uint64_t>& tails_;
  base::Random random_;
  const std::atomic<bool>* stop_;
  mm::Pid pid_ = 0;  // who is being compared
  std::optional<Difference> difference_;
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> inodes_;  // (device, inode) to file of the model
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> files_;   // and back
  // Kept for their memory.
  std::vector<LiveVma> vmas_;
  std::vector<PageRegion> pages_;
  std::vector<std::byte> bytes_;
};

}  // namespace live
