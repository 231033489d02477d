#include "bench/bench.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/random.h"
#include "mm/disk.h"

namespace bench {

bool g_may_swap = false;

void Pairs(benchmark::internal::Benchmark* benchmark, int pairs) {
  benchmark->Iterations(1)->UseManualTime()->Unit(benchmark::kMillisecond);
  benchmark->Repetitions(pairs)->ReportAggregatesOnly(true);
  benchmark->ComputeStatistics("least", [](const std::vector<double>& v) { return std::ranges::min(v); });
  benchmark->ComputeStatistics("most", [](const std::vector<double>& v) { return std::ranges::max(v); });
}

double ThreadNow() {
  timespec now;
  CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double ProcessNow() {
  double seconds = 0;
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage;
    CHECK(getrusage(who, &usage) == 0);
    for (const timeval time : {usage.ru_utime, usage.ru_stime}) {
      seconds += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    }
  }
  return seconds;
}

OneCore::OneCore() {
  CHECK(sched_getaffinity(0, sizeof before_, &before_) == 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
}

OneCore::~OneCore() { CHECK(sched_setaffinity(0, sizeof before_, &before_) == 0); }

std::unique_ptr<mm::Machine> NewMachine(uint64_t memory_bytes) {
  mm::MachineConfig config;
  config.memory_bytes = memory_bytes;
  return Must(mm::Machine::Create(config));
}

mm::Vaddr MapAnon(mm::Process& process, uint64_t bytes) {
  return Must(
      mm::sys_mmap(*process.mm, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0));
}

void Unmap(mm::Process& process, mm::Vaddr addr, uint64_t bytes) {
  Must(mm::sys_munmap(*process.mm, addr, bytes));
}

void Touch(mm::Machine& machine, mm::Process& process, mm::Vaddr addr, uint64_t bytes) {
  const std::byte one{1};
  for (mm::Vaddr at = addr; at < addr + bytes; at += mm::kPageSize) {
    CHECK(machine.store(process, at, {&one, 1}).outcome == mm::Outcome::kOk);
  }
}

std::vector<std::byte*> FramesOf(mm::Machine& machine, mm::Process& process, mm::Vaddr addr, uint64_t bytes) {
  std::vector<std::byte*> frames;
  frames.reserve(bytes / mm::kPageSize);
  process.mm->pgtable.walk(addr, addr + bytes, [&](mm::Vaddr, const mm::Pte& pte) {
    frames.push_back(machine.frames.bytes(mm::pte_pfn(pte)));
  });
  CHECK(frames.size() == bytes / mm::kPageSize);
  return frames;
}

namespace {

mm::OpenedContent Generated(const std::string& generator) {
  mm::Recipe recipe;
  recipe.kind = mm::Recipe::Kind::kGenerated;
  recipe.size = 1024 * kGiB;
  recipe.generator = generator;
  return Must(mm::OpenContent(recipe));
}

}  // namespace

void FillMixed(uint64_t number, mm::PageSpan page) {
  static const mm::OpenedContent random = Generated("random");
  static const mm::OpenedContent text = Generated("text");
  switch (number / 16 % 3) {
    case 0: Must(random.content->ReadPage(number, page)); return;
    case 1: Must(text.content->ReadPage(number, page)); return;
    default: break;
  }
  std::memset(page.data(), 0, page.size());
  base::Random words(number);
  for (int i = 0; i < 8; ++i) {
    const uint64_t word = words.Next();
    std::memcpy(page.data() + words.Below(mm::kPageSize / 8) * 8, &word, 8);
  }
}

void StoreMixed(mm::Machine& machine, mm::Process& process, mm::Vaddr addr, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += mm::kPageSize) {
    mm::Outcome outcome;
    std::byte* page = machine.fault_in(process, addr + at, mm::Write::kYes, &outcome);
    CHECK(page != nullptr);
    FillMixed(at / mm::kPageSize, mm::PageSpan(page, mm::kPageSize));
  }
}

TmpfsFolder::TmpfsFolder() {
  path_ = "/dev/shm/ckpt-bench-XXXXXX";
  CHECK_MSG(mkdtemp(path_.data()) != nullptr, "the benchmarks need a tmpfs at /dev/shm");
}

TmpfsFolder::~TmpfsFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void WriteFile(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  CHECK_MSG(file.good(), path);
}

uint64_t FileBytes(const std::string& path) { return std::filesystem::file_size(path); }

void RunProgram(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t pid;
  CHECK_MSG(posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), environ) == 0, words[0]);
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, words[0]);
}

std::vector<double> InChild(const std::function<std::vector<double>()>& work) {
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    const std::vector<double> answer = work();
    const size_t bytes = answer.size() * sizeof(double);
    _exit(write(ends[1], answer.data(), bytes) == static_cast<ssize_t>(bytes) ? 0 : 1);
  }
  close(ends[1]);
  std::vector<double> answer;
  double value;
  while (read(ends[0], &value, sizeof value) == sizeof value) answer.push_back(value);
  close(ends[0]);
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child of the benchmark failed");
  return answer;
}

namespace {

// A field of /proc/self/status, in bytes.
uint64_t StatusBytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":"))
      return std::strtoull(line.c_str() + field.size() + 1, nullptr, 10) * 1024;
  }
  CHECK_MSG(false, field);
}

}  // namespace

uint64_t ResidentBytes() { return StatusBytes("VmRSS"); }
uint64_t PeakBytes() { return StatusBytes("VmHWM"); }

void ForgetPeak() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;
  CHECK_MSG(clear.good(), "/proc/self/clear_refs");
}

}  // namespace bench
