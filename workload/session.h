// Session: what the steps of a run work on, and the functions that do the steps.
//
// Internal to workload/: executor.h is the way in.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/random.h"
#include "mm/machine.h"
#include "workload/calls.h"
#include "workload/elf_exec.h"
#include "workload/script.h"
#include "workload/step_result.h"

namespace workload {

// The named regions of one address space; shared by processes that share it.
using Space = std::map<std::string, Region, std::less<>>;

struct Actor {
  mm::Pid pid = 0;
  std::shared_ptr<Space> space;
};

struct Session {
  const Script& script;
  std::unique_ptr<mm::Machine> machine;
  std::map<std::string, Actor, std::less<>> actors;  // processes that are alive, by name
  mm::Pid next_pid = 1;
  std::string disk_dir;
  const std::atomic<bool>* stop = nullptr;
  std::function<void()> busy = nullptr;
  CallObserver* observer = nullptr;
  mutable uint32_t checks = 0;  // of CheckStop
};

// One execution of one step.
struct StepContext {
  Session& session;
  const std::string& process_name;
  Actor& actor;
  mm::Process& process;
  uint64_t seed;  // for what has none of its own; another in each round of a repeat

  mm::Machine& machine() const { return *session.machine; }
  mm::MmStruct& mm() const { return *process.mm; }
  // A seed of its own for each of the step's random choices.
  uint64_t SeedFor(uint64_t use) const { return base::Mix64(seed ^ base::Mix64(use)); }
  void Tell(const Call& call) const {
    if (session.observer != nullptr) session.observer->Called(process.pid, call);
  }
};

// A range of memory that a step names. `base` is what positions of a Fill and Expect.at count from.
struct Range {
  mm::Vaddr start = 0;
  uint64_t length = 0;
  mm::Vaddr base = 0;
  std::string region;  // empty: absolute

  uint64_t PositionOf(mm::Vaddr addr) const { return addr - base; }
  // "region 'db' + 0x1000 (0x7f...)", or the address alone.
  std::string Describe(mm::Vaddr addr) const;
};

// The region as it is now: "heap" follows the break, and one that grows down its vma. kInvalid if the
// address space has no such region (a program without bss, for one).
base::Result<Region> FindRegion(StepContext& context, const std::string& name);

// The range of an op with the fields region, addr, offset and length. kInvalid if it leaves the
// region.
base::Result<Range> ResolveRange(StepContext& context, const std::string& region, const std::string& addr,
                                 const std::string& offset, const std::string& length);
template <class Op>
base::Result<Range> ResolveRange(StepContext& context, const Op& op) {
  return ResolveRange(context, op.region(), op.addr(), op.offset(), op.length());
}

// kInvalid if the machine has no file of that name (one that an image did not hold).
base::Result<mm::FilePtr> FindFile(StepContext& context, const std::string& name);

// kInterrupted once the user has asked to stop. Long steps ask often, and are seen to be busy by that.
base::Result<void> CheckStop(const Session& session);

StepResult Failed(mm::SysError error);
template <class T>
StepResult ResultOf(const mm::SysResult<T>& result) {
  return result ? StepResult{} : Failed(result.error());
}

// What the model answered, for CallObserver.
template <class T>
Answer AnswerOf(const mm::SysResult<T>& result) {
  if (!result) return {.err = result.error().err, .sig = result.error().sig};
  if constexpr (std::is_integral_v<T>) return {.value = *result};
  return {};
}
Answer AnswerOf(mm::AccessResult access);

// The steps. An outcome that a workload can expect is a StepResult; an Error is trouble of another
// kind (interrupted, a region that does not exist). By file: map_steps.cc, access_steps.cc,
// file_steps.cc, process_steps.cc, machine_steps.cc.
base::Result<StepResult> DoMap(StepContext& context, const ckpt_pb::Step::Map& op);
base::Result<StepResult> DoUnmap(StepContext& context, const ckpt_pb::Step::Unmap& op);
base::Result<StepResult> DoProtect(StepContext& context, const ckpt_pb::Step::Protect& op);
base::Result<StepResult> DoRemap(StepContext& context, const ckpt_pb::Step::Remap& op);
base::Result<StepResult> DoBrk(StepContext& context, const ckpt_pb::Step::Brk& op);
base::Result<StepResult> DoMadvise(StepContext& context, const ckpt_pb::Step::Madvise& op);
base::Result<StepResult> DoMsync(StepContext& context, const ckpt_pb::Step::Msync& op);
base::Result<StepResult> DoRemapFilePages(StepContext& context, const ckpt_pb::Step::RemapFilePages& op);
base::Result<StepResult> DoMlock(StepContext& context, const ckpt_pb::Step::Mlock& op);
base::Result<StepResult> DoMunlock(StepContext& context, const ckpt_pb::Step::Munlock& op);
base::Result<StepResult> DoMlockall(StepContext& context, const ckpt_pb::Step::Mlockall& op);
base::Result<StepResult> DoMunlockall(StepContext& context);

base::Result<StepResult> DoGrowStack(StepContext& context, const ckpt_pb::Step::GrowStack& op);
base::Result<StepResult> DoLoad(StepContext& context, const ckpt_pb::Step::Load& op);
base::Result<StepResult> DoStore(StepContext& context, const ckpt_pb::Step::Store& op);
base::Result<StepResult> DoTouch(StepContext& context, const ckpt_pb::Step::Touch& op);
base::Result<StepResult> DoGetUserPages(StepContext& context, const ckpt_pb::Step::GetUserPages& op);

base::Result<StepResult> DoRead(StepContext& context, const ckpt_pb::Step::Read& op);
base::Result<StepResult> DoWrite(StepContext& context, const ckpt_pb::Step::Write& op);
base::Result<StepResult> DoTruncate(StepContext& context, const ckpt_pb::Step::Truncate& op);
base::Result<StepResult> DoPunchHole(StepContext& context, const ckpt_pb::Step::PunchHole& op);
base::Result<StepResult> DoFsync(StepContext& context, const ckpt_pb::Step::Fsync& op);
base::Result<StepResult> DoUnlink(StepContext& context, const ckpt_pb::Step::Unlink& op);
base::Result<StepResult> DoCreate(StepContext& context, const ckpt_pb::Step::Create& op);

base::Result<StepResult> DoExec(StepContext& context, const ckpt_pb::Step::Exec& op);
base::Result<StepResult> DoFork(StepContext& context, const ckpt_pb::Step::Fork& op);
base::Result<StepResult> DoCloneVm(StepContext& context, const ckpt_pb::Step::CloneVm& op);
base::Result<StepResult> DoExit(StepContext& context);
base::Result<StepResult> DoRlimit(StepContext& context, const ckpt_pb::Step::Rlimit& op);
base::Result<StepResult> DoIoSetup(StepContext& context, const ckpt_pb::Step::IoSetup& op);

base::Result<StepResult> DoReclaim(StepContext& context, const ckpt_pb::Step::Reclaim& op);
base::Result<StepResult> DoHostTake(StepContext& context, const ckpt_pb::Step::HostTake& op);
base::Result<StepResult> DoSwapon(StepContext& context);
base::Result<StepResult> DoSwapoff(StepContext& context);
base::Result<StepResult> DoDropCaches(StepContext& context);

// Compares how a step ended with what it expects. Nothing if they agree, else what differs:
// "expected SIGBUS, got ok". `counts` says whether counts are looked at; `process` is null after an
// exit.
enum class Counts : uint8_t { kCheck, kIgnore };
std::optional<std::string> Unmet(const Session& session, const ckpt_pb::Expect& expect,
                                 const StepResult& result, mm::Process* process, Counts counts);

}  // namespace workload
