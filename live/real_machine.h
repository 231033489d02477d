// RealMachine: real processes and files that do the calls of a model's processes.
//
// The model has answered first, and chooses places: what it mapped somewhere is mapped there, and what it
// moved is moved there, when the kernel has said that it cannot grow where it is. Calls of one process are
// gathered and done together, in their order. brk is a mapping like any other here, and exec is not repeated:
// the result is copied.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "live/agents.h"
#include "live/maps.h"
#include "live/pagemap.h"
#include "live/zram.h"
#include "mm/machine.h"
#include "workload/calls.h"

namespace live {

struct RealProcess {
  std::unique_ptr<Agent> agent;
  Maps maps;
  Pagemap pagemap;
  base::Fd memory;  // /proc/PID/mem
};

struct RealOptions {
  std::string scratch;  // folder of the files, which have no name in it; empty: DefaultScratch()
  std::chrono::milliseconds limit{10'000};  // for what one process is asked at a time
  bool swap = false;                        // as root: the kernel gets swap of its own (zram.h)
  Pagemap::Interface pagemap = Pagemap::Supported();
  Maps::Interface maps = Maps::Supported();
};

// /dev/shm where it can be written, else TMPDIR, else /tmp.
std::string DefaultScratch();

class RealMachine {
 public:
  // Told of each call when the kernel has answered it; for kLoad and kPread with the bytes that it read, as
  // far as they are asked for. An error ends what is going on, and comes out of Do or Flush.
  using AnsweredFn =
      std::function<base::Result<void>(mm::Pid pid, const workload::Call& call,
                                       const workload::Answer& answer, std::span<const std::byte> bytes)>;

  static base::Result<std::unique_ptr<RealMachine>> Create(RealOptions options, AnsweredFn answered);

  // Empty processes and copies of the files, for those that the machine has; earlier ones are gone. The
  // machine outlives this, or the next Begin.
  base::Result<void> Begin(mm::Machine& machine);
  base::Result<void> Do(mm::Pid pid, const workload::Call& call);
  // Does what was gathered.
  base::Result<void> Flush();
  // Ends the processes, and takes swap away that was made for them. kIo: swap stays; the words say how to get
  // rid of it.
  base::Result<void> Close();

  const std::map<mm::Pid, RealProcess>& processes() const { return processes_; }
  // The real file; -1: the model's has none (shared memory, /dev/zero).
  int FdOf(const mm::File& file) const;

 private:
  struct Asked {
    workload::Call call;
    size_t data = 0;     // where the call's bytes are in the channel, and what they were
    bool probe = false;  // must fail: the call itself comes next
  };
  struct RealFile {
    base::Fd fd;
    int number;  // its descriptor in all agents; 0: it was unlinked, and they have none
  };
  RealMachine(RealOptions options, AnsweredFn answered)
      : options_(std::move(options)), answered_(std::move(answered)) {}
  base::Result<void> Adopt(mm::Pid pid, std::unique_ptr<Agent> agent);
  base::Result<void> CheckForce();
  base::Result<void> NewProcess(const mm::Process& process);
  base::Result<void> AddFile(const mm::File& file);
  base::Result<void> DropFile(const mm::File& file);
  int FreeNumber() const;
  base::Result<void> OpenFile(Agent& agent, const RealFile& file);
  base::Result<uint64_t> AgentFd(const mm::File& file);
  // `bytes`: how many of the channel's data it needs; their place is put into args[data_arg].
  base::Result<void> Gather(const workload::Call& call, agent::Request request, size_t bytes = 0,
                            unsigned data_arg = 0, bool probe = false);
  base::Result<void> GatherSyscall(const workload::Call& call, uint32_t number, std::array<uint64_t, 6> args,
                                   bool probe = false);
  base::Result<void> Answered(const Asked& asked, const agent::Request& request);
  // One system call at once.
  base::Result<int64_t> Syscall(Agent& agent, uint32_t number, std::array<uint64_t, 6> args);

  base::Result<void> DoRange(const workload::Call& call);
  base::Result<void> DoMmap(const workload::Call& call);
  base::Result<void> DoMremap(const workload::Call& call);
  base::Result<void> DoBrk(const workload::Call& call);
  base::Result<void> DoAccess(const workload::Call& call);
  base::Result<void> DoFile(const workload::Call& call);
  base::Result<void> DoFork(mm::Pid pid, const workload::Call& call);
  base::Result<void> DoExec(mm::Pid pid);
  base::Result<void> CopyVma(Agent& agent, const mm::Vma& vma);
  base::Result<void> DoGetUserPages(mm::Pid pid, const workload::Call& call);
  base::Result<void> SetLimits(mm::Pid pid, uint64_t fsize, uint64_t stack);

  RealOptions options_;
  AnsweredFn answered_;
  std::optional<Zram> swap_;  // until the processes are gone
  std::unique_ptr<Agents> agents_;
  std::string scratch_;
  mm::Machine* machine_ = nullptr;
  std::map<mm::Pid, RealProcess> processes_;
  std::map<mm::FileId, RealFile> files_;
  mm::Pid asking_ = 0;             // whose calls are gathered
  std::vector<Asked> asked_;       // a request of its channel each
  size_t data_ = 0;                // bytes of the channel's data that are taken
  std::vector<std::byte> wanted_;  // at the same places: the calls' bytes, which the callers have not kept
};

}  // namespace live
