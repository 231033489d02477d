// World: a small machine for tests. Every call that changes it is followed by a deep Validate(), and
// what memory holds is compared as strings.
//
// Beside() and OnCpus() run two or more calls at once, on CPUs of their own. These calls are the machine's:
// a World's would validate while the others stand in the middle of something.
//
// FilePtrs that a test keeps must go before the World does: declare the World first.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <memory>
#include <ostream>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mm/follow_page.h"
#include "mm/machine.h"
#include "mm/sched.h"
#include "mm/validate.h"
#include "tests/mm/bytes.h"

namespace mm {

inline constexpr uint64_t kPage = kPageSize;
inline constexpr uint64_t kNoLimit = RLIM_INFINITY_BYTES;
inline constexpr int kReadWrite = PROT_READ | PROT_WRITE;

inline std::span<const std::byte> AsBytes(std::string_view text) { return std::as_bytes(std::span(text)); }
inline std::span<std::byte> AsWritable(std::string& text) { return std::as_writable_bytes(std::span(text)); }
inline std::string Zeros(size_t length) { return std::string(length, '\0'); }

inline void PrintTo(const SysError& error, std::ostream* out) {
  *out << "errno " << error.err << " signal " << error.sig;
}

inline void PrintTo(Outcome outcome, std::ostream* out) {
  static constexpr const char* kNames[] = {"ok", "SIGSEGV", "SIGBUS", "out of memory"};
  *out << kNames[static_cast<size_t>(outcome)];
}

inline Semantics WithSwitch(std::string_view assignment) {
  Semantics semantics;
  const base::Result<void> set = SetSwitch(semantics, assignment);
  EXPECT_TRUE(set) << assignment;
  return semantics;
}

class World {
 public:
  explicit World(const Semantics& semantics = {}, uint64_t memory_pages = 4096, uint64_t swap_pages = 0) {
    MachineConfig config;
    config.swap_bytes = swap_pages * kPage;
    config.memory_bytes = memory_pages * kPage;
    config.semantics = semantics;
    machine_ = Machine::Create(config).value();
  }
  ~World() {
    if (given_up_) {
      (void)machine_.release();  // CPUs stand in it
    } else {
      Check();
    }
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Machine& machine() { return *machine_; }

  void Check(Where at = Where::current()) {
    if (const auto broken = Validate(*machine_, Depth::kDeep)) {
      ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line())) << "Validate: " << *broken;
    }
  }

  // ---- several CPUs ----

  // jobs[i] on CPU i, each stopped where `places` says (mm/sched.h). A failure: a place was not come to; or
  // the run failed, and then the machine is not to be used any more.
  testing::AssertionResult OnCpus(const std::vector<Cpus::Job>& jobs, std::vector<Place> places,
                                  Where at = Where::current()) {
    Cpus cpus(static_cast<unsigned>(jobs.size()));
    StopBefore scheduler(std::move(places));
    if (const auto failure = cpus.Run(jobs, scheduler)) {
      given_up_ = true;
      return testing::AssertionFailure() << failure->what;
    }
    Check(at);
    if (!scheduler.stopped()) return testing::AssertionFailure() << "not every place was come to";
    return testing::AssertionSuccess();
  }
  // `first` on CPU 0, until it is about to do something in `function` to what is called `name`; there CPU 1
  // does `second` as far as it can, and then both go to their end.
  testing::AssertionResult Beside(const Cpus::Job& first, std::string function, std::string name,
                                  const Cpus::Job& second, Where at = Where::current()) {
    return OnCpus({first, second}, {{0, std::move(function), std::move(name)}}, at);
  }

  // Makes up to `pages` pages free, and answers how many. More than one call is needed where pages were
  // used lately: reclaim looks twice before it takes one.
  uint64_t Reclaim(uint64_t pages, Where at = Where::current()) {
    const uint64_t freed = try_to_free_pages(*machine_, pages);
    Check(at);
    return freed;
  }

  // Reclaims the page at `addr` at once, however many map it: its ptes become swap or file entries, or none.
  bool PageOut(Process& process, Vaddr addr, Where at = Where::current()) {
    const bool freed = reclaim_page(*machine_, PfnAt(process, addr));
    Check(at);
    return freed;
  }

  // ---- processes ----

  Process& Spawn() { return machine_->spawn(next_pid_++, "test"); }
  Process& Fork(Process& parent, Where at = Where::current()) {
    const SysResult<Process*> child = machine_->fork(parent.pid, next_pid_++, "child");
    EXPECT_TRUE(child.has_value());
    Check(at);
    return **child;
  }
  Process& Thread(Process& parent) { return machine_->clone_vm(parent.pid, next_pid_++, "thread"); }
  void Exit(Process& process, Where at = Where::current()) {
    machine_->exit(process.pid);
    Check(at);
  }

  // ---- files ----

  // A file of `size` bytes of the "counter" generator.
  FilePtr NewFile(uint64_t size) {
    const uint64_t seed = ++next_seed_;
    return machine_->create_file(
        "file" + std::to_string(seed), size,
        std::make_unique<OverlayDisk>(OpenContent(CounterRecipe(size, seed)).value()));
  }
  static Recipe CounterRecipe(uint64_t size, uint64_t seed) {
    Recipe recipe;
    recipe.kind = Recipe::Kind::kGenerated;
    recipe.size = size;
    recipe.generator = "counter";
    recipe.seed = seed;
    return recipe;
  }
  // What the file's recipe makes; zero behind its end.
  static std::string Original(const FilePtr& file, uint64_t offset, size_t length) {
    const OpenedContent opened = OpenContent(file->disk()->recipe()).value();
    std::string bytes;
    PageBytes page;
    for (Pgoff index = offset / kPage; index <= (offset + length) / kPage; ++index) {
      EXPECT_TRUE(opened.content->ReadPage(index, page));
      bytes.append(reinterpret_cast<const char*>(page.data()), kPage);
    }
    return bytes.substr(offset % kPage, length);
  }
  static std::string OnDisk(const FilePtr& file, uint64_t offset, size_t length) {
    PageBytes page;
    EXPECT_TRUE(file->disk()->ReadPage(offset / kPage, page));
    return std::string(reinterpret_cast<const char*>(page.data()), kPage).substr(offset % kPage, length);
  }
  std::string ReadFile(const FilePtr& file, uint64_t offset, size_t length, Where at = Where::current()) {
    std::string bytes(length, '?');
    const SysResult<uint64_t> got = generic_file_read(*machine_, *file, offset, AsWritable(bytes));
    EXPECT_TRUE(got.has_value());
    bytes.resize(got.value_or(0));
    Check(at);
    return bytes;
  }
  SysResult<uint64_t> WriteFile(const FilePtr& file, uint64_t offset, std::string_view bytes,
                                uint64_t limit = kNoLimit, Where at = Where::current()) {
    const SysResult<uint64_t> wrote = generic_file_write(*machine_, *file, offset, AsBytes(bytes), limit);
    Check(at);
    return wrote;
  }
  SysResult<void> Truncate(const FilePtr& file, uint64_t size, uint64_t limit = kNoLimit,
                           Where at = Where::current()) {
    const SysResult<void> result = vmtruncate(*machine_, *file, size, limit);
    Check(at);
    return result;
  }
  SysResult<void> Punch(const FilePtr& file, uint64_t offset, uint64_t length, Where at = Where::current()) {
    const SysResult<void> result = punch_hole(*machine_, *file, offset, length);
    Check(at);
    return result;
  }
  SysResult<void> Fsync(const FilePtr& file, Where at = Where::current()) {
    const SysResult<void> result = vfs_fsync(*machine_, *file);
    Check(at);
    return result;
  }

  // ---- mappings ----

  Vaddr Map(Process& process, uint64_t pages, int prot, int flags, const FilePtr& file = nullptr,
            uint64_t first_page = 0, Where at = Where::current()) {
    const SysResult<Vaddr> addr =
        sys_mmap(*process.mm, 0, pages * kPage, prot, flags, file, first_page * kPage);
    EXPECT_TRUE(addr.has_value());
    Check(at);
    return addr.value_or(0);
  }
  Vaddr Anon(Process& process, uint64_t pages, int prot = kReadWrite) {
    return Map(process, pages, prot, MAP_PRIVATE | MAP_ANONYMOUS);
  }
  Vaddr Private(Process& process, const FilePtr& file, uint64_t pages, uint64_t first_page = 0,
                int prot = kReadWrite) {
    return Map(process, pages, prot, MAP_PRIVATE, file, first_page);
  }
  Vaddr Shared(Process& process, const FilePtr& file, uint64_t pages, uint64_t first_page = 0,
               int prot = kReadWrite) {
    return Map(process, pages, prot, MAP_SHARED, file, first_page);
  }
  // A private anonymous mapping exactly there, over whatever was mapped.
  void AnonAt(Process& process, Vaddr addr, uint64_t pages, int prot = kReadWrite, int extra_flags = 0) {
    const SysResult<Vaddr> got = sys_mmap(*process.mm, addr, pages * kPage, prot,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | extra_flags, nullptr, 0);
    EXPECT_TRUE(got.has_value() && *got == addr);
    Check();
  }
  SysResult<void> Unmap(Process& process, Vaddr addr, uint64_t pages, Where at = Where::current()) {
    const SysResult<void> result = sys_munmap(*process.mm, addr, pages * kPage);
    Check(at);
    return result;
  }
  SysResult<void> Protect(Process& process, Vaddr addr, uint64_t pages, int prot,
                          Where at = Where::current()) {
    const SysResult<void> result = sys_mprotect(*process.mm, addr, pages * kPage, prot);
    Check(at);
    return result;
  }
  SysResult<void> Advise(Process& process, Vaddr addr, uint64_t pages, int advice,
                         Where at = Where::current()) {
    const SysResult<void> result = sys_madvise(*process.mm, addr, pages * kPage, advice);
    Check(at);
    return result;
  }
  // The vmas as "first page - end page" offsets from `base`, with protection: "0-2rw 2-3r".
  static std::string VmaText(Process& process, Vaddr base) {
    std::string text;
    for (const auto& [start, vma] : process.mm->vmas()) {
      text += text.empty() ? "" : " ";
      text += std::to_string((static_cast<int64_t>(start) - static_cast<int64_t>(base)) / 4096) + "-" +
              std::to_string((static_cast<int64_t>(vma->end) - static_cast<int64_t>(base)) / 4096);
      if ((vma->flags & VM_READ) != 0) text += 'r';
      if ((vma->flags & VM_WRITE) != 0) text += 'w';
      if ((vma->flags & VM_EXEC) != 0) text += 'x';
    }
    return text;
  }

  // ---- loads and stores ----

  Outcome Store(Process& process, Vaddr addr, std::string_view bytes, Where at = Where::current()) {
    const AccessResult result = machine_->store(process, addr, AsBytes(bytes));
    Check(at);
    return result.outcome;
  }
  // The bytes there; a load that fails is a failure of the test.
  std::string Load(Process& process, Vaddr addr, size_t length, Where at = Where::current()) {
    std::string bytes(length, '?');
    const AccessResult result = machine_->load(process, addr, AsWritable(bytes));
    if (result.outcome != Outcome::kOk) {
      ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line()))
          << "load ended with outcome " << static_cast<int>(result.outcome);
    }
    Check(at);
    return bytes;
  }
  Outcome TryLoad(Process& process, Vaddr addr, Where at = Where::current()) {
    const AccessResult result = machine_->touch(process, addr, 1, Write::kNo);
    Check(at);
    return result.outcome;
  }
  Outcome TryStore(Process& process, Vaddr addr, Where at = Where::current()) {
    return Store(process, addr, "!", at);
  }
  VmFault Fault(Process& process, Vaddr addr, Write write) {
    ReadGuard guard(process.mm->mmap_sem);
    Vma* vma = process.mm->vma_at(addr);
    EXPECT_NE(vma, nullptr);
    return vma == nullptr ? VM_FAULT_SIGBUS : handle_mm_fault(*process.mm, *vma, addr, write);
  }

  // ---- what is there ----

  // The pte, or none where there is no table either.
  static Pte PteAt(Process& process, Vaddr addr) {
    const Pte* pte = process.mm->pgtable.find(addr);
    return pte == nullptr ? Pte{} : *pte;
  }
  static Pfn PfnAt(Process& process, Vaddr addr) { return pte_pfn(PteAt(process, addr)); }
  Page& PageAt(Process& process, Vaddr addr) { return machine_->frames.at(PfnAt(process, addr)); }
  static Vma& VmaAt(Process& process, Vaddr addr) {
    Vma* vma = process.mm->vma_at(addr);
    CHECK(vma != nullptr);
    return *vma;
  }
  std::string FrameText(Pfn pfn, size_t offset, size_t length) {
    return {reinterpret_cast<const char*>(machine_->frames.bytes(pfn)) + offset, length};
  }

  // get_dirty_page: the frame without the reference.
  base::Result<Pfn> Dirty(Process& process, Vaddr addr, Where at = Where::current()) {
    base::Result<Pfn> page = kNoPfn;
    {
      ReadGuard guard(process.mm->mmap_sem);
      page = get_dirty_page(VmaAt(process, addr), addr);
    }
    if (page.has_value() && *page != kNoPfn) machine_->frames.put_page(*page);
    Check(at);
    return page;
  }
  bool IsDirty(Process& process, Vaddr addr, Where at = Where::current()) {
    const base::Result<Pfn> page = Dirty(process, addr, at);
    EXPECT_TRUE(page.has_value());
    return page.has_value() && *page != kNoPfn;
  }

 private:
  std::unique_ptr<Machine> machine_;
  Pid next_pid_ = 1;
  uint64_t next_seed_ = 0;
  bool given_up_ = false;
};

}  // namespace mm
