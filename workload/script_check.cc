#include "workload/script_check.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "base/check.h"
#include "base/units.h"
#include "mm/machine.h"
#include "mm/semantics.h"
#include "proto/workload.pb.h"
#include "workload/elf_exec.h"
#include "workload/outcome.h"
#include "workload/script.h"

namespace workload {
namespace {

using ckpt_pb::Step;
using Names = std::set<std::string, std::less<>>;

std::string Join(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

// The names that are alive while the steps are followed.
class NameChecker {
 public:
  explicit NameChecker(ScriptNames* names) : names_(*names), files_{std::string(kDevZeroName)} {
    for (const std::string& process : names_.processes) alive_[process] = std::make_shared<Names>();
  }

  base::Result<void> AddFile(const Located& file, const std::string& name) {
    if (!files_.insert(name).second)
      return file.Wrong("name", base::Format("there is a file '%s' already", name.c_str()));
    return {};
  }

  base::Result<void> FollowAll(const Located& parent, int count, bool in_repeat) {
    for (int i = 0; i < count; ++i) TRY_VOID(Follow(parent.Child("step", i), in_repeat));
    return {};
  }

 private:
  base::Result<void> Follow(const Located& located, bool in_repeat) {
    const auto& step = dynamic_cast<const Step&>(located.message());
    TRY_VOID(CheckStepFields(located));
    const Located op = located.Child(OpName(step).c_str());
    if (step.has_repeat()) {
      TRY_VOID(FollowAll(op, step.repeat().step_size(), true));
      // What the first round left behind is there in the second.
      return step.repeat().times() > 1 ? FollowAll(op, step.repeat().step_size(), true)
                                       : base::Result<void>{};
    }
    const std::string& process = step.process().empty() ? names_.processes.front() : step.process();
    const bool needs_process = !step.has_checkpoint() || !step.process().empty() || step.has_expect();
    if (needs_process && !alive_.contains(process)) {
      return located.Wrong("process", base::Format("there is no process '%s' at this step; there are %s",
                                                   process.c_str(), AliveNames().c_str()));
    }
    for (int i = 0; i < step.expect().file_size(); ++i) {
      TRY_VOID(KnownFile(located.Child("expect").Child("file", i), "name", step.expect().file(i).name()));
    }
    const std::string& outcome = step.expect().outcome();
    const bool succeeds = outcome.empty() || outcome == kOk;
    if (step.has_barrier() && in_repeat) return op.Wrong("a barrier inside a repeat; expected it outside");
    if (step.has_checkpoint()) return Checkpoint(op, step.checkpoint(), in_repeat);
    TRY_VOID(UsesRegion(op, *alive_[process]));
    TRY_VOID(UsesFile(op));
    return Makes(op, step, process, succeeds);
  }

  std::string AliveNames() const {
    Names names;
    for (const auto& [name, regions] : alive_) names.insert(name);
    return Join(names);
  }

  base::Result<void> KnownFile(const Located& located, const char* field, const std::string& name) const {
    if (files_.contains(name)) return {};
    return located.Wrong(field, base::Format("there is no file '%s' at this step; there are %s",
                                             base::Printable(name).c_str(), Join(files_).c_str()));
  }

  // Every op that has a range calls it `region`; map names a new one.
  base::Result<void> UsesRegion(const Located& op, const Names& regions) const {
    const auto* field = op.message().GetDescriptor()->FindFieldByName("region");
    if (field == nullptr || op.message().GetDescriptor() == Step::Map::descriptor()) return {};
    std::string name = op.message().GetReflection()->GetString(op.message(), field);
    if (name.empty() && op.message().GetDescriptor() == Step::GrowStack::descriptor()) name = kStackRegion;
    if (name.empty() || name == kHeapRegion || regions.contains(name)) return {};
    return op.WrongAt(op.Of(field), base::Format("there is no region '%s' at this step; there are %s",
                                                 base::Printable(name).c_str(), Join(regions).c_str()));
  }

  // Every op on a file calls it `file`; only map and exec can go without.
  base::Result<void> UsesFile(const Located& op) const {
    const auto* field = op.message().GetDescriptor()->FindFieldByName("file");
    if (field == nullptr || op.message().GetDescriptor() == Step::Create::descriptor()) return {};
    const std::string name = op.message().GetReflection()->GetString(op.message(), field);
    const bool optional = op.message().GetDescriptor() == Step::Map::descriptor() ||
                          op.message().GetDescriptor() == Step::Exec::descriptor();
    if (name.empty())
      return optional ? base::Result<void>{} : op.Wrong("file is missing: the name of a file");
    return KnownFile(op, "file", name);
  }

  base::Result<void> NewRegion(const Located& op, const char* field, const std::string& name, bool succeeds,
                               Names& regions) const {
    if (regions.contains(name) || name == kHeapRegion) {
      return op.Wrong(field,
                      base::Format("there is a region '%s' already; expected a new name", name.c_str()));
    }
    if (succeeds) regions.insert(name);
    return {};
  }

  base::Result<void> NewProcess(const Located& op, const std::string& child, bool succeeds,
                                std::shared_ptr<Names> regions) {
    if (child.empty()) return op.Wrong("child is missing: the name of the new process");
    TRY_VOID(CheckName(op, "child", child));
    if (alive_.contains(child)) {
      return op.Wrong("child",
                      base::Format("there is a process '%s' already; expected a new name", child.c_str()));
    }
    if (succeeds) alive_[child] = std::move(regions);
    return {};
  }

  // What the step makes and drops.
  base::Result<void> Makes(const Located& op, const Step& step, const std::string& process, bool succeeds) {
    Names& regions = *alive_[process];
    switch (step.op_case()) {
      case Step::kExec:
        if (succeeds) alive_[process] = std::make_shared<Names>(kExecRegions.begin(), kExecRegions.end());
        return {};
      case Step::kMap: return NewRegion(op, "region", step.map().region(), succeeds, regions);
      case Step::kUnmap:
        if (succeeds && step.unmap().offset().empty() && step.unmap().length().empty()) {
          regions.erase(step.unmap().region());
        }
        return {};
      case Step::kRemap: {
        const Step::Remap& remap = step.remap();
        if (remap.as().empty()) return {};
        TRY_VOID(NewRegion(op, "as", remap.as(), succeeds, regions));
        if (succeeds && remap.offset().empty() && remap.length().empty()) regions.erase(remap.region());
        return {};
      }
      case Step::kFork:
        return NewProcess(op, step.fork().child(), succeeds, std::make_shared<Names>(regions));
      case Step::kCloneVm: return NewProcess(op, step.clone_vm().child(), succeeds, alive_[process]);
      case Step::kExit:
        if (succeeds) alive_.erase(process);
        return {};
      case Step::kUnlink:
        if (step.unlink().file() == kDevZeroName) return op.Wrong("file", "/dev/zero cannot be unlinked");
        if (succeeds) files_.erase(step.unlink().file());
        return {};
      case Step::kCreate:
        if (!succeeds) return {};
        return AddFile(op.Child("file"), step.create().file().name());
      default: return {};
    }
  }

  base::Result<void> Checkpoint(const Located& op, const Step::Checkpoint& checkpoint, bool in_repeat) {
    if (in_repeat) return op.Wrong("a checkpoint inside a repeat; expected it outside: labels are unique");
    if (checkpoint.label().empty()) return op.Wrong("label is missing: what the checkpoint is called");
    TRY_VOID(CheckName(op, "label", checkpoint.label()));
    if (checkpoint.label() == kEndLabel) {
      return op.Wrong("label", "label: 'end' is taken; it means after the last step");
    }
    if (std::ranges::find(names_.labels, checkpoint.label()) != names_.labels.end()) {
      return op.Wrong("label", base::Format("there is a checkpoint '%s' already; expected a new label",
                                            checkpoint.label().c_str()));
    }
    for (int i = 0; i < checkpoint.process_size(); ++i) {
      if (checkpoint.process(i).empty()) {
        return op.Wrong("process", "the name of a process is missing; there are " + AliveNames(), i);
      }
      if (!alive_.contains(checkpoint.process(i))) {
        return op.Wrong("process",
                        base::Format("there is no process '%s' at this step; there are %s",
                                     base::Printable(checkpoint.process(i)).c_str(), AliveNames().c_str()),
                        i);
      }
    }
    names_.labels.push_back(checkpoint.label());
    return {};
  }

  ScriptNames& names_;
  std::map<std::string, std::shared_ptr<Names>, std::less<>> alive_;  // process: its regions
  Names files_;
};

base::Result<void> CheckMachine(const Located& located, const ckpt_pb::Workload::Machine& machine) {
  if (!machine.memory().empty()) {
    const uint64_t memory = SizeOr(machine.memory(), 0);
    if (memory < mm::kMemoryMin || memory > mm::kMemoryMax) {
      return located.Wrong(
          "memory",
          base::Format("memory: %s; expected %s to %s", base::FormatSize(memory).c_str(),
                       base::FormatSize(mm::kMemoryMin).c_str(), base::FormatSize(mm::kMemoryMax).c_str()));
    }
  }
  if (!machine.swap().empty()) {
    const uint64_t swap = SizeOr(machine.swap(), 0);
    if (swap < base::kPageSize || swap > mm::kSwapMax) {
      return located.Wrong("swap", base::Format("swap: %s; expected %s to %s", base::FormatSize(swap).c_str(),
                                                base::FormatSize(base::kPageSize).c_str(),
                                                base::FormatSize(mm::kSwapMax).c_str()));
    }
  }
  if (!machine.host().empty()) {
    const uint64_t host = SizeOr(machine.host(), 0);
    const uint64_t memory = SizeOr(machine.memory(), mm::MachineConfig{}.memory_bytes);
    if (host < mm::kHostMemoryMin || host > memory) {
      return located.Wrong(
          "host",
          base::Format("host: %s; expected %s to the %s of the machine", base::FormatSize(host).c_str(),
                       base::FormatSize(mm::kHostMemoryMin).c_str(), base::FormatSize(memory).c_str()));
    }
  }
  if (machine.cpus() > mm::NR_CPUS) {
    return located.Wrong("cpus", base::Format("cpus: %u; expected 1 to %u", machine.cpus(), mm::NR_CPUS));
  }
  mm::Semantics semantics;
  if (!machine.generation().empty()) {
    const base::Result<mm::Semantics> preset = mm::Generation(machine.generation());
    if (!preset) return located.Wrong("generation", preset.error().what);
    semantics = *preset;
  }
  for (int i = 0; i < machine.semantics_size(); ++i) {
    const base::Result<void> set = mm::SetSwitch(semantics, machine.semantics(i));
    if (!set) return located.Wrong("semantics", set.error().what, i);
  }
  const uint64_t vdso_start = SizeOr(machine.vdso_start(), 0);
  if (!base::IsPageAligned(vdso_start))
    return located.Wrong("vdso_start", "vdso_start: not a multiple of 4KiB");
  if (machine.vdso_pages() > 1024) return located.Wrong("vdso_pages", "vdso_pages: more than 1024");
  if (vdso_start + machine.vdso_pages() * base::kPageSize > mm::TASK_SIZE) {
    return located.Wrong("vdso_start", "vdso_start: the vdso would end behind user space");
  }
  return {};
}

base::Result<void> CollectProcesses(const Located& root, const ckpt_pb::Workload& workload,
                                    ScriptNames* names) {
  for (int i = 0; i < workload.process_size(); ++i) {
    const Located located = root.Child("process", i);
    const std::string& name = workload.process(i).name();
    if (name.empty()) return located.Wrong("name is missing: what steps call the process");
    TRY_VOID(CheckName(located, "name", name));
    if (std::ranges::find(names->processes, name) != names->processes.end()) {
      return located.Wrong("name", base::Format("there is a process '%s' already", name.c_str()));
    }
    names->processes.push_back(name);
  }
  if (names->processes.empty()) names->processes.emplace_back(kDefaultProcess);
  return {};
}

}  // namespace

base::Result<ScriptNames> CheckWorkload(const Located& root) {
  const auto& workload = dynamic_cast<const ckpt_pb::Workload&>(root.message());
  if (workload.has_machine()) TRY_VOID(CheckMachine(root.Child("machine"), workload.machine()));
  ScriptNames names;
  TRY_VOID(CollectProcesses(root, workload, &names));
  NameChecker checker(&names);
  for (int i = 0; i < workload.file_size(); ++i) {
    const Located file = root.Child("file", i);
    TRY_VOID(CheckFileSpec(file));
    TRY_VOID(checker.AddFile(file, workload.file(i).name()));
  }
  if (workload.step_size() == 0) return root.Wrong("a workload without steps; expected at least one");
  TRY_VOID(checker.FollowAll(root, workload.step_size(), false));
  return names;
}

}  // namespace workload
