// A race for the explorer: a small machine, a set-up, what each CPU does, and what must hold when all are
// done.
//
// Every run ends with the same checks, whatever the race: Validate() (deep), then all processes and files go,
// and no page, slot or chain entry is left.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mm/explore.h"
#include "mm/machine.h"
#include "mm/swap.h"

namespace races {

using mm::FilePtr;
using mm::Outcome;
using mm::Process;
using mm::Vaddr;

inline constexpr uint64_t kPage = mm::kPageSize;
inline constexpr Vaddr kBase = 0x10000000;
inline constexpr int kReadWrite = PROT_READ | PROT_WRITE;

class World;
using Action = std::function<void(World&)>;

struct Spec {
  std::string name;  // "M06_fault_against_truncate"
  Action setup;
  std::vector<Action> cpus;
  Action check;  // calls World::Expect; may use the machine as any caller
  // With more CPUs than that: what the others do; empty: the same again. alone: nothing.
  std::vector<Action> others = {};
  bool alone = false;
  mm::Semantics semantics = {};
  uint64_t frames = 64;
  uint64_t swap_pages = 0;
  // Of the exhaustive search with so many CPUs as `cpus` has: what the bound is cut down to where the run may
  // only take seconds.
  unsigned short_bound = 3;
  unsigned long_bound = 3;  // and with CKPT_LONG, for a race whose runs are too long for three preemptions
  bool broken = false;      // a switch is set to what a kernel once did: the search finds what that breaks
  bool poisons = false;     // one page fails, and is never free again
  bool keep_state = false;  // fill State()
  unsigned host_moves = 0;  // of the host underneath, an adversary (page hinting)
};

// Two CPUs, one against the other.
inline Spec Against(std::string name, Action setup, Action cpu0, Action cpu1, Action check,
                    mm::Semantics semantics = {}) {
  return {.name = std::move(name),
          .setup = std::move(setup),
          .cpus = {std::move(cpu0), std::move(cpu1)},
          .check = std::move(check),
          .semantics = semantics};
}
inline constexpr uint64_t kSlots = 8;
// So many slots for each race that has not said how many.
inline void GiveSwap(std::span<Spec> races) {
  for (Spec& race : races) {
    if (race.swap_pages == 0) race.swap_pages = kSlots;
  }
}

class World : public mm::Race {
 public:
  explicit World(const Spec& spec);
  void Run(unsigned cpu) override;
  std::optional<std::string> Check() override;
  uint64_t State() override { return state_; }
  bool HostMay(const void* object) override;
  void HostMove(const void* object) override;

  mm::Machine& m() { return *machine_; }

  // ---- processes: by number, in the order in which they are made ----

  Process& Spawn();
  // nullptr when there is no memory for it.
  Process* Fork(Process& parent);
  Process& Thread(Process& parent);
  void Exit(Process& process);
  Process& p(size_t number) { return *processes_[number]; }
  bool alive(size_t number) const { return processes_[number] != nullptr; }
  size_t process_count() const { return processes_.size(); }

  // ---- files: of `pages` pages, page i full of the letter 'a' + i ----

  FilePtr NewFile(uint64_t pages);
  FilePtr file;  // for the race to keep one
  FilePtr shmem;
  void Truncate(const FilePtr& which, uint64_t bytes);
  void Punch(const FilePtr& which, uint64_t page, uint64_t pages);
  // read(2) and write(2) of one byte; '!' behind the end.
  char Read(const FilePtr& which, uint64_t offset);
  void Write(const FilePtr& which, uint64_t offset, char byte);
  void Fsync(const FilePtr& which);
  void DropCaches(const FilePtr& which);

  // ---- memory ----

  // Fixed mappings; read-write.
  void MapAnon(Process& process, Vaddr addr, uint64_t pages);
  void MapPrivate(Process& process, Vaddr addr, uint64_t pages, const FilePtr& from, uint64_t page = 0);
  void MapShared(Process& process, Vaddr addr, uint64_t pages, const FilePtr& from, uint64_t page = 0);
  Outcome Store(Process& process, Vaddr addr, char byte);
  // The byte, or '!' for SIGBUS, '?' for SIGSEGV, '%' for no memory.
  char Load(Process& process, Vaddr addr);
  void Unmap(Process& process, Vaddr addr, uint64_t pages);
  // remap_file_pages: page `page` of the file, at `addr`.
  void Remap(Process& process, Vaddr addr, uint64_t page);
  // Moves the page to swap, as far as that can be done; MADV_PAGEOUT.
  void PageOut(Process& process, Vaddr addr);
  // What reclaim does with a page that it came to, whoever's it is by then: without mmap_sem.
  void Reclaim(mm::Pfn page) { (void)mm::reclaim_page(*machine_, page); }
  void SwapOff() { (void)mm::sys_swapoff(*machine_); }
  // The page behind a present pte.
  mm::Pfn PfnAt(Process& process, Vaddr addr);
  mm::Pfn pfn = mm::kNoPfn;  // for the race to keep one

  // What a CPU saw, for the check: any number of notes, by CPU.
  std::string seen[8];

  // In a check: says what is wrong, once.
  void Expect(bool holds, const std::string& what) {
    if (!holds && wrong_.empty()) wrong_ = what;
  }
  // The byte at `addr` is one of `allowed`.
  void ExpectByte(Process& process, Vaddr addr, const std::string& allowed);

 private:
  std::string Leftovers();

  const Spec& spec_;
  std::unique_ptr<mm::Machine> machine_;
  uint64_t state_ = 0;
  std::vector<Process*> processes_;
  mm::Pid next_pid_ = 1;
  unsigned next_file_ = 1;
  std::string wrong_;
};

// Every race: of fault_races.cc, swap_races.cc and so on.
const std::vector<Spec>& Races();
const Spec& FindRace(const std::string& name);
void AddFaultRaces(std::vector<Spec>* races);
void AddSwapRaces(std::vector<Spec>* races);
void AddShmemRaces(std::vector<Spec>* races);
void AddRmapRaces(std::vector<Spec>* races);
void AddFileRaces(std::vector<Spec>* races);
void AddTruncateRaces(std::vector<Spec>* races);
void AddFailureRaces(std::vector<Spec>* races);
void AddCheckpointRaces(std::vector<Spec>* races);
void AddHintingRaces(std::vector<Spec>* races);
void AddSoftDirtyRaces(std::vector<Spec>* races);

// Actions that many races have.
inline void Reclaim(World& w) { w.Reclaim(w.pfn); }

inline mm::MakeRace Maker(const Spec& spec) {
  return [&spec] { return std::make_unique<World>(spec); };
}

}  // namespace races
