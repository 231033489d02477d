#include "workload/executor.h"

#include <algorithm>

#include "base/check.h"
#include "base/random.h"
#include "workload/files.h"
#include "workload/outcome.h"
#include "workload/session.h"
#include "workload/state.h"
#include "workload/together.h"

namespace workload {
namespace {

// Where brk starts in a process that never called exec.
constexpr mm::Vaddr kPlainBrk = 0x555555600000;

base::Result<mm::MachineConfig> ConfigOf(const ckpt_pb::Workload::Machine& machine, const Options& options) {
  mm::MachineConfig config;
  config.memory_bytes = SizeOr(machine.memory(), config.memory_bytes);
  if (!machine.generation().empty()) config.semantics = TRY(mm::Generation(machine.generation()));
  for (const std::string& assignment : machine.semantics())
    TRY_VOID(mm::SetSwitch(config.semantics, assignment));
  config.vdso_start = SizeOr(machine.vdso_start(), config.vdso_start);
  if (machine.has_vdso_pages()) config.vdso_pages = machine.vdso_pages();
  config.swap_bytes = SizeOr(machine.swap(), 0);
  if (!options.hints.empty()) TRY_VOID(mm::SetSwitch(config.semantics, "hints=" + options.hints));
  config.swap_folder = options.disk_dir;
  config.host_bytes = SizeOr(machine.host(), 0);
  return config;
}

base::Result<StepResult> Dispatch(StepContext& context, const ckpt_pb::Step& step) {
  using ckpt_pb::Step;
  switch (step.op_case()) {
    case Step::kExec: return DoExec(context, step.exec());
    case Step::kMap: return DoMap(context, step.map());
    case Step::kUnmap: return DoUnmap(context, step.unmap());
    case Step::kProtect: return DoProtect(context, step.protect());
    case Step::kRemap: return DoRemap(context, step.remap());
    case Step::kBrk: return DoBrk(context, step.brk());
    case Step::kMadvise: return DoMadvise(context, step.madvise());
    case Step::kMsync: return DoMsync(context, step.msync());
    case Step::kGrowStack: return DoGrowStack(context, step.grow_stack());
    case Step::kRemapFilePages: return DoRemapFilePages(context, step.remap_file_pages());
    case Step::kMlock: return DoMlock(context, step.mlock());
    case Step::kMunlock: return DoMunlock(context, step.munlock());
    case Step::kMlockall: return DoMlockall(context, step.mlockall());
    case Step::kMunlockall: return DoMunlockall(context);
    case Step::kFork: return DoFork(context, step.fork());
    case Step::kCloneVm: return DoCloneVm(context, step.clone_vm());
    case Step::kExit: return DoExit(context);
    case Step::kRlimit: return DoRlimit(context, step.rlimit());
    case Step::kIoSetup: return DoIoSetup(context, step.io_setup());
    case Step::kLoad: return DoLoad(context, step.load());
    case Step::kStore: return DoStore(context, step.store());
    case Step::kTouch: return DoTouch(context, step.touch());
    case Step::kGetUserPages: return DoGetUserPages(context, step.get_user_pages());
    case Step::kRead: return DoRead(context, step.read());
    case Step::kWrite: return DoWrite(context, step.write());
    case Step::kTruncate: return DoTruncate(context, step.truncate());
    case Step::kPunchHole: return DoPunchHole(context, step.punch_hole());
    case Step::kFsync: return DoFsync(context, step.fsync());
    case Step::kUnlink: return DoUnlink(context, step.unlink());
    case Step::kCreate: return DoCreate(context, step.create());
    case Step::kReclaim: return DoReclaim(context, step.reclaim());
    case Step::kSwapon: return DoSwapon(context);
    case Step::kSwapoff: return DoSwapoff(context);
    case Step::kDropCaches: return DoDropCaches(context);
    case Step::kBarrier: return StepResult{};
    case Step::kHostTake: return DoHostTake(context, step.host_take());
    case Step::kRepeat:
    case Step::kCheckpoint:
    case Step::OP_NOT_SET: break;
  }
  CHECK_MSG(false, "a step that Dispatch does not do");
  return StepResult{};
}

std::vector<mm::Pid> PidsOf(const Session& session, const ckpt_pb::Step::Checkpoint& checkpoint) {
  std::vector<mm::Pid> pids;
  for (const auto& [name, actor] : session.actors) {
    const auto& wanted = checkpoint.process();
    if (wanted.empty() || std::ranges::find(wanted, name) != wanted.end()) pids.push_back(actor.pid);
  }
  std::ranges::sort(pids);
  return pids;
}

}  // namespace

unsigned CpuCount(const Script& script, const Options& options) {
  return options.cpus > 0 ? options.cpus : std::max(script.workload().machine().cpus(), 1u);
}

Executor::Executor(const Script& script, Options options)
    : script_(script),
      options_(std::move(options)),
      session_(std::make_unique<Session>(Session{.script = script,
                                                 .machine = nullptr,
                                                 .actors = {},
                                                 .next_pid = 1,
                                                 .disk_dir = options_.disk_dir,
                                                 .stop = options_.stop,
                                                 .busy = options_.busy,
                                                 .observer = options_.observer})) {
  const unsigned cpus = CpuCount(script, options_);
  if (cpus == 1) return;
  cpus_ = std::make_unique<mm::Cpus>(cpus);
  cpus_->set_points_max(~uint64_t{0});
  if (options_.schedule != nullptr) {
    scheduler_ = std::make_unique<mm::Replay>(*options_.schedule);
  } else {
    scheduler_ = std::make_unique<mm::RandomScheduler>(options_.schedule_seed);
  }
}

Executor::~Executor() = default;

base::Result<std::unique_ptr<Executor>> Executor::Start(const Script& script, Options options) {
  std::unique_ptr<Executor> executor(new Executor(script, std::move(options)));
  TRY_VOID(executor->MakeMachine());
  return executor;
}

base::Result<void> Executor::MakeMachine() {
  const mm::MachineConfig config = TRY(ConfigOf(script_.workload().machine(), options_));
  session_->machine = TRY(mm::Machine::Create(config));
  for (int i = 0; i < script_.workload().file_size(); ++i) {
    const ckpt_pb::Workload::File& file = script_.workload().file(i);
    const auto made = MakeFile(*session_->machine, file, options_.disk_dir);
    if (made) continue;
    const Place place = script_.file_places()[static_cast<size_t>(i)];
    return std::unexpected(made.error().In(base::Format("%s:%d:%d: file '%s'", script_.path().c_str(),
                                                        place.line, place.column, file.name().c_str())));
  }
  for (const std::string& name : script_.processes()) {
    mm::Process& process = session_->machine->spawn(session_->next_pid, name);
    process.mm->layout.start_brk = process.mm->layout.brk = kPlainBrk;
    session_->actors[name] = {session_->next_pid++, std::make_shared<Space>()};
  }
  return {};
}

base::Result<std::unique_ptr<Executor>> Executor::Resume(const Script& script,
                                                         std::unique_ptr<mm::Machine> machine,
                                                         std::string_view state, Options options) {
  std::unique_ptr<Executor> executor(new Executor(script, std::move(options)));
  executor->session_->machine = std::move(machine);
  executor->next_step_ = TRY(LoadState(state, *executor->session_));
  executor->resumed_ = true;
  return executor;
}

base::Result<size_t> Executor::ResumesAt(const Script& script, std::string_view state) {
  return TRY(ReadState(state, script)).next_step();
}

base::Result<void> Executor::Run(const CheckpointFn& checkpoint) {
  while (next_step_ < script_.steps().size()) {
    const ScriptStep& step = script_.steps()[next_step_];
    if (!step.step->has_checkpoint() && cpus_ != nullptr) {
      TRY_VOID(RunStretch());
      continue;
    }
    if (!step.step->has_checkpoint()) {
      TRY_VOID(RunStep(step, base::Mix64(script_.workload().seed()), ""));
      session_->machine->cpu_idle();
      ++next_step_;
      continue;
    }
    const Next next = TRY(RunCheckpoint(step, checkpoint));
    ++next_step_;
    if (next == Next::kStop) return {};
  }
  if (finished_) return {};
  finished_ = true;
  const CheckpointRequest request{.label = std::string(kEndLabel),
                                  .pids = PidsOf(*session_, {}),
                                  .state = SaveState(*session_, next_step_)};
  const base::Result<Next> next = checkpoint(*session_->machine, request);
  return next ? base::Result<void>{}
              : std::unexpected(next.error().In(script_.path() + ": after the last step"));
}

base::Result<void> Executor::RunStretch() {
  const std::vector<ScriptStep>& steps = script_.steps();
  size_t end = next_step_;
  while (end < steps.size() && !steps[end].step->has_checkpoint() && !steps[end].step->has_barrier()) ++end;
  TRY_VOID(RunTogether(end));
  const bool barrier = end < steps.size() && steps[end].step->has_barrier();
  next_step_ = barrier ? end + 1 : end;
  return {};
}

base::Result<void> Executor::RunTogether(size_t end) {
  if (end == next_step_) return {};
  auto together = std::make_unique<Together>(script_, next_step_, end);
  const std::vector<mm::Cpus::Job> jobs(cpus_->count(), [&] {
    together->RunCpu([&](const StepRun& run) -> base::Result<void> {
      mm::ReadGuard call(session_->machine->freezer);
      const base::Result<void> done = RunStep(*run.step, run.round_seed, run.round);
      session_->machine->cpu_idle();
      return done;
    });
  });
  if (const std::optional<mm::Failure> failure = cpus_->Run(jobs, *scheduler_)) {
    // What the CPUs stand in is never taken apart.
    (void)session_.release();
    (void)together.release();
    const size_t line_end = std::min(failure->what.find('\n'), failure->what.size());
    failure_details_ = failure->what.substr(std::min(line_end + 1, failure->what.size()));
    const bool no_memory = failure->kind == mm::Failure::Kind::kNoMemory;
    return base::Fail(no_memory ? base::Code::kNoMemory : base::Code::kExpectation,
                      "%s:%d: steps up to here: %s", script_.path().c_str(),
                      script_.steps()[end - 1].place.line, failure->what.substr(0, line_end).c_str());
  }
  if (together->error()) return std::unexpected(*together->error());
  if (!options_.at_rest) return {};
  return options_.at_rest(*session_->machine, Where(script_.steps()[end - 1], ""));
}

base::Result<std::string> Executor::ScheduleText() const {
  if (cpus_ == nullptr) return {};
  if (!cpus_->trace_complete()) {
    return base::Fail(base::Code::kTooBig, "the schedule is too long to be kept (more than %zu stretches)",
                      mm::Cpus::kTraceMax);
  }
  std::string text = mm::FormatSchedule(cpus_->count(), cpus_->trace());
  std::string_view details = failure_details_;
  while (!details.empty()) {
    const std::string_view line = details.substr(0, details.find('\n'));
    text += "# " + std::string(line) + "\n";
    details.remove_prefix(std::min(line.size() + 1, details.size()));
  }
  return text;
}

std::string Executor::Where(const ScriptStep& step, const std::string& round) const {
  return base::Format("%s:%d: step %s%s", script_.path().c_str(), step.place.line, OpName(*step.step).c_str(),
                      round.c_str());
}

std::string Executor::InputWhere(const ScriptStep& step, const std::string& round) const {
  if (!step.input) return Where(step, round);
  return base::Format("%s:%d:%d: step %s%s", script_.path().c_str(), step.input->line, step.input->column,
                      OpName(*step.step).c_str(), round.c_str());
}

base::Result<void> Executor::CheckExpectation(const ScriptStep& step, const StepResult& result,
                                              const std::string& round, mm::Process* process) {
  const std::string where = Where(step, round);
  const std::optional<std::string> unmet =
      Unmet(*session_, step.step->expect(), result, process, resumed_ ? Counts::kIgnore : Counts::kCheck);
  const std::string& expected = step.step->expect().outcome();
  if (unmet && result.input_error && (expected.empty() || expected == kOk)) {
    return std::unexpected(result.input_error->In(InputWhere(step, round)));
  }
  if (unmet) return base::Fail(base::Code::kExpectation, "%s: %s", where.c_str(), unmet->c_str());
  if (options_.after_step) TRY_VOID(options_.after_step(*session_->machine, where));
  if (options_.at_rest && !mm::smp()) TRY_VOID(options_.at_rest(*session_->machine, where));
  return {};
}

base::Result<StepResult> Executor::DoStep(const ScriptStep& step, uint64_t round_seed,
                                          const std::string& round, mm::Pid* pid) {
  const std::string where = Where(step, round);
  const base::Result<void> stop = CheckStop(*session_);
  if (!stop) return std::unexpected(stop.error().In(where));
  const std::string& name = step.step->process().empty() ? script_.processes().front() : step.step->process();
  const auto actor = session_->actors.find(name);
  if (actor == session_->actors.end()) {
    return base::Fail(base::Code::kInvalid, "%s: the image holds no process '%s'", where.c_str(),
                      name.c_str());
  }
  *pid = actor->second.pid;
  StepContext context{.session = *session_,
                      .process_name = name,
                      .actor = actor->second,
                      .process = *session_->machine->find_process(*pid),
                      .seed = base::Mix64(round_seed ^ base::Mix64(step.number))};
  base::Result<StepResult> result = Dispatch(context, *step.step);
  if (!result) return std::unexpected(result.error().In(InputWhere(step, round)));
  if (options_.observer != nullptr) TRY_VOID(options_.observer->StepDone(where));
  return result;
}

base::Result<void> Executor::RunStep(const ScriptStep& step, uint64_t round_seed, const std::string& round) {
  if (step.step->has_repeat()) return RunRepeat(step, round_seed, round);
  mm::Pid pid = 0;
  const StepResult result = TRY(DoStep(step, round_seed, round, &pid));
  return CheckExpectation(step, result, round, session_->machine->find_process(pid));
}

base::Result<StepResult> Executor::Do(const ckpt_pb::Step& step, uint64_t number) {
  mm::Pid pid = 0;
  auto result = DoStep({.step = &step, .place = {}, .input = {}, .number = number, .body = {}},
                       base::Mix64(script_.workload().seed()), "", &pid);
  session_->machine->cpu_idle();
  return result;
}

base::Result<void> Executor::RunRepeat(const ScriptStep& step, uint64_t round_seed,
                                       const std::string& round) {
  const uint64_t times = step.step->repeat().times();
  for (uint64_t i = 0; i < times; ++i) {
    const uint64_t seed = base::Mix64(round_seed ^ base::Mix64(step.number ^ base::Mix64(i + 1)));
    const std::string inner =
        round + base::Format(" (round %llu of %llu)", static_cast<unsigned long long>(i + 1),
                             static_cast<unsigned long long>(times));
    for (const ScriptStep& child : step.body) TRY_VOID(RunStep(child, seed, inner));
  }
  return {};
}

base::Result<Next> Executor::RunCheckpoint(const ScriptStep& step, const CheckpointFn& checkpoint) {
  const std::string label = " '" + step.step->checkpoint().label() + "'";
  const std::string where = Where(step, label);
  const base::Result<void> stop = CheckStop(*session_);
  if (!stop) return std::unexpected(stop.error().In(where));
  const CheckpointRequest request{.label = step.step->checkpoint().label(),
                                  .pids = PidsOf(*session_, step.step->checkpoint()),
                                  .state = SaveState(*session_, next_step_ + 1)};
  if (request.pids.empty())
    return base::Fail(base::Code::kInvalid, "%s: no process is left to save", where.c_str());
  const base::Result<Next> next = checkpoint(*session_->machine, request);
  StepResult result;
  const std::string& wanted = step.step->expect().outcome();
  if (!next) {
    result.outcome = OutcomeName(next.error());
    if (wanted.empty() || result.outcome != wanted) return std::unexpected(next.error().In(where));
  }
  const std::string& name = step.step->process().empty() ? script_.processes().front() : step.step->process();
  TRY_VOID(CheckExpectation(step, result, label, FindProcess(name)));
  return next ? *next : Next::kGoOn;
}

mm::Machine& Executor::machine() {
  CHECK(session_ != nullptr);
  return *session_->machine;
}

std::unique_ptr<mm::Machine> Executor::TakeMachine() {
  CHECK(session_ != nullptr);
  return std::move(session_->machine);
}

mm::Process* Executor::FindProcess(std::string_view name) {
  CHECK(session_ != nullptr);
  const auto actor = session_->actors.find(name);
  return actor == session_->actors.end() ? nullptr : session_->machine->find_process(actor->second.pid);
}

base::Result<Region> Executor::FindRegion(std::string_view process, const std::string& region) {
  mm::Process* found = FindProcess(process);
  const std::string name(process);
  if (found == nullptr) return base::Fail(base::Code::kNotFound, "there is no process '%s'", name.c_str());
  StepContext context{.session = *session_,
                      .process_name = name,
                      .actor = session_->actors.find(process)->second,
                      .process = *found,
                      .seed = 0};
  return workload::FindRegion(context, region);
}

}  // namespace workload
