// The two models side by side, and how they are compared. For the driver's own files only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/check.h"
#include "mm/machine.h"
#include "tests/property/driver.h"
#include "tests/property/naive.h"

namespace property {

// One process in both models.
struct Proc {
  mm::Pid pid = 0;
  naive::MemoryPtr memory;
};

struct World {
  explicit World(const Options& options);

  Options options;
  std::unique_ptr<mm::Machine> machine;
  naive::Model model;
  std::vector<Proc> procs;
  std::vector<mm::FilePtr> files;          // two on a disk, one of shared memory
  std::vector<naive::ObjectPtr> objects;   // the same
  std::vector<std::vector<mm::Pfn>> pins;  // held across steps
  mm::Pid next_pid = 1;
  mm::Vaddr last_addr = 0;  // of the last load or store: the next one likes it, too
  bool synced = true;       // false: memory ran out, and the naive model knows nothing of that

  mm::Process& process(const Proc& proc) { return *machine->find_process(proc.pid); }
  mm::MmStruct& mm(const Proc& proc) { return *process(proc).mm; }
};

naive::Rules RulesOf(const mm::Semantics& semantics);

// Makes the files and the first process. The contents follow from the seed.
void SetUp(World& world, uint64_t seed);
void AddProcess(World& world);

// Makes the call that `op` stands for on both models; what they disagree on, or nothing.
std::optional<std::string> RunOp(World& world, const Op& op);
std::optional<std::string> RunFileOp(World& world, const Op& op);

// Locked memory, non-linear mappings, reclaim and swap (memory_calls.cc).
std::optional<std::string> RunMemoryOp(World& world, Proc& proc, const Op& op);
// Reclaim writes files' pages back when it likes, which zeroes what lies behind their end. After a step that
// may have done that, the naive model is told of the files whose last page is clean now.
void NoteWriteBack(World& world);
// And where any step may, files end with a page, so that nothing lies behind.
void AlignFiles(World& world);

// What the host does before a step: takes frames, by its own order of preference or the very one that hurts,
// and lets CPUs idle. Nothing may show it (host_moves.cc). false: it did nothing.
bool MoveHost(World& world, const Op& op);
// A page's bytes as an access would find them; good until the next call.
const std::byte* ContentOf(const World& world, mm::Pfn pfn);

// The first difference between the two models' memory and files.
std::optional<std::string> Compare(World& world);
// get_dirty_page and next_dirty_run over every private vma of a process, against each other and
// against the naive model; with the default lookup they leave no trace.
std::optional<std::string> CompareDirty(World& world, const Proc& proc);

// An op's words, one after the other.
class Draw {
 public:
  explicit Draw(const Op& op) : op_(op) {}
  // In [0, limit). Requires: limit > 0.
  uint64_t Below(uint64_t limit) {
    CHECK(next_ < op_.words.size());
    return op_.words[next_++] % limit;
  }
  bool OneIn(uint64_t count) { return Below(count) == count - 1; }

 private:
  const Op& op_;
  size_t next_ = 0;
};

}  // namespace property
