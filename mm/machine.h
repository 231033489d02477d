// Machine: one modelled Linux machine, and the owner of all that is in it: frames, files,
// processes. Everything is deterministic: the same calls in the same order give the same machine.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mm/discard.h"
#include "mm/fault.h"
#include "mm/file.h"
#include "mm/frames.h"
#include "mm/host.h"
#include "mm/mm_struct.h"
#include "mm/page_states.h"
#include "mm/pte_chain.h"
#include "mm/reclaim.h"
#include "mm/semantics.h"
#include "mm/swap.h"

namespace mm {

struct MachineConfig {
  uint64_t memory_bytes = uint64_t{1} << 30;
  Semantics semantics;
  // Swap space; 0: none. In memory, or in a nameless file of this folder.
  uint64_t swap_bytes = 0;
  std::string swap_folder = {};
  bool swap_off = false;  // the machine begins without it (swapoff)
  // Real memory of the host under the machine, which takes frames when it has too little; 0: as much as the
  // machine. There is a host if this is set, or Semantics::hints.
  uint64_t host_bytes = 0;
  // Where exec puts "[vdso]"; 0: programs get none.
  Vaddr vdso_start = 0x7ffff7fc1000;
  uint64_t vdso_pages = 2;
};
// The smallest and largest memory a machine can have.
inline constexpr uint64_t kMemoryMin = 16 * kPageSize;
inline constexpr uint64_t kMemoryMax = uint64_t{1} << 40;

inline constexpr uint64_t RLIM_INFINITY_BYTES = ~uint64_t{0};

struct Process {
  Pid pid = 0;
  Pid ppid = 0;
  std::string name;
  std::shared_ptr<MmStruct> mm;  // shared after clone(CLONE_VM)
  uint64_t rlimit_fsize = RLIM_INFINITY_BYTES;
  uint64_t rlimit_stack = uint64_t{8} << 20;
};

// Counters by their /proc/vmstat names.
struct VmStat {
  uint64_t pgfault = 0;
  uint64_t pgmajfault = 0;
  uint64_t pgpgin = 0;         // pages read from disks
  uint64_t pgpgout = 0;        // pages written to disks
  uint64_t nr_mapped = 0;      // file pages that some pte names
  uint64_t nr_dirty = 0;       // cached file pages that differ from disk
  uint64_t nr_anon_pages = 0;  // anonymous pages that some pte names
  uint64_t pswpin = 0;         // pages read from swap
  uint64_t pswpout = 0;        // pages written to swap
  uint64_t pgscan = 0;         // pages that reclaim looked at
  uint64_t pgsteal = 0;        // and freed
  uint64_t pgactivate = 0;
  uint64_t pgdeactivate = 0;
  uint64_t pgrefill = 0;    // pages of active lists that reclaim looked at
  uint64_t allocstall = 0;  // allocations that had to make memory free first
};

// The counters by name, in the order of /proc/vmstat.
struct VmStatName {
  const char* name;
  uint64_t VmStat::* value;
};
std::span<const VmStatName> VmStatNames();

// How a load or a store ended, and the first address that could not be accessed.
struct AccessResult {
  Outcome outcome = Outcome::kOk;
  Vaddr addr = 0;
};

class Machine {
 public:
  // kInvalid for a memory size out of range.
  static base::Result<std::unique_ptr<Machine>> Create(const MachineConfig& config);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  const MachineConfig& config() const { return config_; }
  const Semantics& sem() const { return config_.semantics; }
  // Whether a store is noted in the storage key of its frame; if not, in the pte.
  bool key_dirty() const { return kMayHaveHost && sem().dirty_bits == DirtyBits::kPage; }
  uint64_t pte_dirty_bit() const { return key_dirty() ? 0 : kPteDirty; }
  // What a write leaves in the pte of a private vma beside that; and what every anonymous page begins with.
  uint64_t pte_soft_dirty_bit() const { return tracks_soft_dirty ? kPteSoftDirty : 0; }

  // Held for reading by every call that a process makes on a machine of several CPUs, for writing by a
  // checkpoint: it finds no call half done.
  Freezer freezer;
  Frames frames;
  VmStat vmstat;
  // Write tracking (soft_dirty.h): from the first clear_soft_dirty() on, for good. Until then no entry has
  // the bit, and nothing is different.
  bool tracks_soft_dirty = false;
  // The digest of the image that tracking is armed for: a modified page that is not soft-dirty is as in that
  // image. Empty: not armed. Who makes images sets it, with clear_soft_dirty() at the moment of the image;
  // the model never looks.
  std::string tracked_by;
  // References taken by get_user_pages and not given back, by frame.
  std::map<Pfn, int32_t> pins;
  Mapping swapper_space;
  PteChains pte_chains;
  ReclaimState reclaim;
  uint64_t nr_writeback = 0;  // pages with PG_writeback; on one CPU always none, between calls
  Lock<LockClass::kSwapLock> swap_lock;
  std::unique_ptr<SwapArea> swap;  // null: no swap
  // Page hinting: the host underneath, and the frames that it discarded and that are to be free. nullptr:
  // nobody is underneath.
  std::unique_ptr<Host> host;
  std::unique_ptr<DiscardedPages> discarded;

  // Another amount of real memory for the host underneath. Requires: there is one; at least kHostMemoryMin.
  void resize_host(uint64_t bytes) {
    config_.host_bytes = bytes;
    host->set_memory(bytes / kPageSize);
  }
  // The CPU has nothing to do for a moment: between two steps of a workload.
  void cpu_idle() {
    if (discarded != nullptr) discarded->idle();
  }

  // ---- processes ----

  // A process with an empty address space. Requires: the pid is free.
  Process& spawn(Pid pid, std::string name);
  // fork(2) with the caller's choice of pid; ENOMEM changes nothing but write protection.
  SysResult<Process*> fork(Pid parent, Pid child, std::string name);
  // clone(CLONE_VM): a process in the same address space.
  Process& clone_vm(Pid parent, Pid child, std::string name);
  // A process that takes part in an existing address space (restart).
  Process& attach(Pid pid, std::string name, std::shared_ptr<MmStruct> mm);
  // exit(2). The last process of an address space takes it along.
  void exit(Pid pid);
  Process* find_process(Pid pid);
  const std::map<Pid, std::unique_ptr<Process>>& processes() const { return processes_; }
  std::shared_ptr<MmStruct> new_mm();

  // ---- files ----

  FilePtr create_file(std::string name, uint64_t size, std::unique_ptr<Disk> disk);
  // A file that was unlinked already: it has no name that could be looked up.
  FilePtr create_deleted_file(std::string name, uint64_t size, std::unique_ptr<Disk> disk);
  FilePtr create_shmem(std::string name, uint64_t size);
  FilePtr dev_zero();
  // Every file that is alive: named, or deleted and still mapped.
  std::vector<FilePtr> files() const;
  FilePtr find_file(std::string_view name) const;
  // The id that the next file gets. A restart gives files those that they had.
  FileId next_file() const { return FileId{next_file_}; }
  void set_next_file(FileId id) { next_file_ = static_cast<uint32_t>(id); }
  // unlink(2): the name is free again; the file lives while it is mapped.
  void unlink(const FilePtr& file);

  // ---- loads and stores of a process ----

  // Copies bytes out of or into the memory of `process`, faulting as the hardware would. What lies
  // below the failing address has been copied.
  AccessResult load(Process& process, Vaddr addr, std::span<std::byte> out);
  AccessResult store(Process& process, Vaddr addr, std::span<const std::byte> in);
  // One byte on each page of the range, without copying: how a program touches memory.
  AccessResult touch(Process& process, Vaddr addr, uint64_t length, Write write);
  // The bytes of the page that holds `addr`, faulted in for reading or writing; nullptr with the
  // outcome where that fails. Good until the next call on the machine.
  std::byte* fault_in(Process& process, Vaddr addr, Write write, Outcome* outcome);

 private:
  explicit Machine(const MachineConfig& config);
  base::Result<void> MakeSwap();
  base::Result<void> MakeHost();
  Outcome do_page_fault(Process& process, Vaddr addr, Write write);
  std::byte* Touch(Process& process, Vaddr addr, Pte& pte, Write write);

  MachineConfig config_;
  std::map<Pid, std::unique_ptr<Process>> processes_;
  // Registers a new file; it leaves the table when its last user does.
  FilePtr AddFile(std::string name, FileKind kind, uint64_t size, std::unique_ptr<Disk> disk);
  std::map<FileId, std::weak_ptr<File>> all_files_;
  std::map<std::string, FilePtr, std::less<>> names_;
  FilePtr dev_zero_;
  uint32_t next_file_ = 1;
};

}  // namespace mm
