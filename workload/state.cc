#include "workload/state.h"

#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <vector>

namespace workload {
namespace {

std::unexpected<base::Error> Damaged(const Script& script, const char* what) {
  return base::Fail(base::Code::kCorrupt, "resume '%s': the image's record of the run is damaged: %s",
                    script.path().c_str(), what);
}

base::Result<std::vector<std::shared_ptr<Space>>> LoadSpaces(const ckpt_pb::ExecutorState& state,
                                                             const Session& session) {
  std::vector<std::shared_ptr<Space>> spaces;
  for (const auto& saved : state.space()) {
    auto space = std::make_shared<Space>();
    for (const auto& region : saved.region()) {
      if (region.start() > mm::TASK_SIZE || region.length() > mm::TASK_SIZE - region.start() ||
          region.name().empty()) {
        return Damaged(session.script, "a region lies outside user space");
      }
      if (!space->emplace(region.name(), Region{region.start(), region.length()}).second) {
        return Damaged(session.script, "two regions have one name");
      }
    }
    spaces.push_back(std::move(space));
  }
  return spaces;
}

base::Result<void> CheckScript(const ckpt_pb::ExecutorState& state, const Script& script) {
  if (state.next_step() > script.steps().size()) {
    return base::Fail(
        base::Code::kChanged,
        "resume '%s': it has %zu steps, and the checkpoint was taken after step %llu: it is another workload",
        script.path().c_str(), script.steps().size(), static_cast<unsigned long long>(state.next_step()));
  }
  if (script.HashUpTo(state.next_step()) == state.steps_hash()) return {};
  return base::Fail(
      base::Code::kChanged,
      "resume '%s': not the workload that was checkpointed ('%s'): the machine, the files, the processes "
      "or one of the first %llu steps differ",
      script.path().c_str(), base::Printable(state.workload()).c_str(),
      static_cast<unsigned long long>(state.next_step()));
}

}  // namespace

std::string SaveState(const Session& session, size_t next_step) {
  ckpt_pb::ExecutorState state;
  state.set_workload(session.script.workload().name());
  state.set_steps_hash(session.script.HashUpTo(next_step));
  state.set_next_step(next_step);
  state.set_next_pid(session.next_pid);
  std::vector<const Space*> spaces;
  for (const auto& [name, actor] : session.actors) {
    auto known = std::ranges::find(spaces, actor.space.get());
    if (known == spaces.end()) {
      spaces.push_back(actor.space.get());
      known = spaces.end() - 1;
      ckpt_pb::ExecutorState::Space* saved = state.add_space();
      for (const auto& [region_name, region] : *actor.space) {
        ckpt_pb::ExecutorState::Region* to = saved->add_region();
        to->set_name(region_name);
        to->set_start(region.start);
        to->set_length(region.length);
      }
    }
    ckpt_pb::ExecutorState::Process* process = state.add_process();
    process->set_name(name);
    process->set_pid(actor.pid);
    process->set_space(static_cast<uint32_t>(known - spaces.begin()));
  }
  return state.SerializeAsString();
}

base::Result<ckpt_pb::ExecutorState> ReadState(std::string_view bytes, const Script& script) {
  ckpt_pb::ExecutorState state;
  const google::protobuf::LogSilencer quiet;  // the error is all that is said
  if (bytes.size() > kScriptBytesMax || !state.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Damaged(script, "it cannot be read");
  }
  TRY_VOID(CheckScript(state, script));
  return state;
}

base::Result<size_t> LoadState(std::string_view bytes, Session& session) {
  const ckpt_pb::ExecutorState state = TRY(ReadState(bytes, session.script));
  const std::vector<std::shared_ptr<Space>> spaces = TRY(LoadSpaces(state, session));
  mm::Pid pid_max = 0;
  for (const auto& [pid, process] : session.machine->processes()) pid_max = std::max(pid_max, pid);
  for (const auto& process : state.process()) {
    if (process.pid() == 0 || process.pid() >= state.next_pid())
      return Damaged(session.script, "a pid is out of range");
    if (process.space() >= spaces.size()) return Damaged(session.script, "a process has no address space");
    if (session.machine->find_process(process.pid()) == nullptr) continue;  // not saved by the checkpoint
    const Actor actor{process.pid(), spaces[process.space()]};
    if (process.name().empty() || !session.actors.emplace(process.name(), actor).second) {
      return Damaged(session.script, "two processes have one name");
    }
  }
  if (pid_max >= state.next_pid())
    return Damaged(session.script, "the machine has a process that the run never made");
  session.next_pid = state.next_pid();
  return state.next_step();
}

}  // namespace workload
