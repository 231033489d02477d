// What the benchmarks share: one core, one clock, machines filled with pages, children of their own.
//
// A benchmark is registered with Pairs(): each repetition measures one pair, ours and what it is
// compared with, back to back, and the figure is the median of the repetitions. Nothing is compared
// across runs, so a busy machine moves both sides of a pair.
//
// A benchmark that cannot be done at all (no tmpfs, no zstd, no memory) ends the program: a CHECK.
#pragma once

#include <benchmark/benchmark.h>
#include <sched.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "mm/machine.h"
#include "mm/types.h"

namespace bench {

// The program's --swap: whether benchmarks may make swap devices.
extern bool g_may_swap;

inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;
inline constexpr int kPairs = 7;
// A value that the compiler cannot see through.
inline void Keep(const void* value) { asm volatile("" : : "g"(value) : "memory"); }

// One pair a repetition; of all of them the median and the bounds.
void Pairs(benchmark::internal::Benchmark* benchmark, int pairs = kPairs);

// Wall time of a call, in seconds.
template <class Call>
double WallSeconds(Call&& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The time that this thread spends in a call, in it or in the kernel for it, in seconds. Unlike wall
// time it leaves out what others do on the same core meanwhile.
double ThreadNow();
template <class Call>
double ThreadSeconds(Call&& call) {
  const double start = ThreadNow();
  call();
  return ThreadNow() - start;
}

// Wall time and processor time of a call, in seconds: all threads of this process and the programs that
// it ran to their end.
struct Cost {
  double wall;
  double cpu;
};
double ProcessNow();
template <class Call>
Cost CostOf(Call&& call) {
  const double start = ProcessNow();
  const double wall = WallSeconds(call);
  return {wall, ProcessNow() - start};
}

// This thread, and what it starts, stay on one core while this lives.
class OneCore {
 public:
  OneCore();
  ~OneCore();
  OneCore(const OneCore&) = delete;
  OneCore& operator=(const OneCore&) = delete;

 private:
  cpu_set_t before_;
};

// The value, or the end of the program with the error.
template <class T>
T Must(base::Result<T> result) {
  CHECK_MSG(result.has_value(), result.error().what);
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}
template <class T>
T Must(mm::SysResult<T> result) {
  CHECK_MSG(result.has_value(), base::Format("errno %d", result.error().err));
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

std::unique_ptr<mm::Machine> NewMachine(uint64_t memory_bytes);
// Private anonymous memory, readable and writable.
mm::Vaddr MapAnon(mm::Process& process, uint64_t bytes);
void Unmap(mm::Process& process, mm::Vaddr addr, uint64_t bytes);
// Stores one byte into each page.
void Touch(mm::Machine& machine, mm::Process& process, mm::Vaddr addr, uint64_t bytes);
// The frames of [addr, addr + bytes), which are all present, by address.
std::vector<std::byte*> FramesOf(mm::Machine& machine, mm::Process& process, mm::Vaddr addr, uint64_t bytes);

// The content of the page numbered `number` of the mixed pages: a third of them random, a third
// text, a third nearly all zero, in stretches of 16.
void FillMixed(uint64_t number, mm::PageSpan page);
// Pages 0, 1, ... of the mixed pages at `addr`.
void StoreMixed(mm::Machine& machine, mm::Process& process, mm::Vaddr addr, uint64_t bytes);

// A folder of our own in tmpfs, removed with what is in it.
class TmpfsFolder {
 public:
  TmpfsFolder();
  ~TmpfsFolder();
  TmpfsFolder(const TmpfsFolder&) = delete;
  TmpfsFolder& operator=(const TmpfsFolder&) = delete;
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};
void WriteFile(const std::string& path, std::span<const std::byte> bytes);
uint64_t FileBytes(const std::string& path);

// Runs a program of PATH to its end; it must succeed.
void RunProgram(const std::vector<std::string>& words);

// Calls `work` in a child process and answers what it returned. The child's memory is its own, so
// that what it reports of it is its own, too.
std::vector<double> InChild(const std::function<std::vector<double>()>& work);

// Resident memory of this process in bytes, now and at its peak since ForgetPeak.
uint64_t ResidentBytes();
uint64_t PeakBytes();
void ForgetPeak();

}  // namespace bench
