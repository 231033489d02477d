// Steps that make, change and end processes.
#include "base/units.h"
#include "workload/files.h"
#include "workload/outcome.h"
#include "workload/session.h"

namespace workload {
namespace {

uint64_t LimitOr(const std::string& limit, uint64_t absent) {
  return limit == "unlimited" ? mm::RLIM_INFINITY_BYTES : SizeOr(limit, absent);
}

}  // namespace

base::Result<StepResult> DoExec(StepContext& context, const ckpt_pb::Step::Exec& op) {
  ExecRequest request;
  request.name = op.path().empty() ? op.file() : op.path();
  request.args.assign(op.arg().begin(), op.arg().end());
  if (request.args.empty()) request.args.push_back(request.name);
  request.env.assign(op.env().begin(), op.env().end());
  request.seed = context.seed;
  request.open = [&](const std::string& path) { return RealFile(context.machine(), path); };

  const auto exec = [&]() -> base::Result<std::vector<std::pair<std::string, Region>>> {
    request.file = op.path().empty() ? TRY(FindFile(context, op.file())) : TRY(request.open(op.path()));
    return Exec(context.machine(), context.process, request);
  };
  const auto regions = exec();
  StepResult result;
  if (!regions) {
    result.outcome = OutcomeName(regions.error());
    if (result.outcome.empty()) return std::unexpected(regions.error());
    result.input_error = regions.error();
    result.detail = regions.error().what;
    return result;
  }
  context.actor.space = std::make_shared<Space>(regions->begin(), regions->end());
  context.Tell({.op = Call::Op::kExec});
  return result;
}

base::Result<StepResult> DoFork(StepContext& context, const ckpt_pb::Step::Fork& op) {
  Session& session = context.session;
  const mm::Pid pid = session.next_pid++;
  const auto child = context.machine().fork(context.actor.pid, pid, op.child());
  context.Tell({Call::Op::kFork, {pid}, nullptr, {}, AnswerOf(child)});
  if (!child) {
    if (session.next_pid == pid + 1) session.next_pid = pid;  // nobody took another meanwhile
    return Failed(child.error());
  }
  session.actors[op.child()] = {pid, std::make_shared<Space>(*context.actor.space)};
  return StepResult{};
}

base::Result<StepResult> DoCloneVm(StepContext& context, const ckpt_pb::Step::CloneVm& op) {
  Session& session = context.session;
  context.machine().clone_vm(context.actor.pid, session.next_pid, op.child());
  context.Tell({Call::Op::kCloneVm, {session.next_pid}});
  session.actors[op.child()] = {session.next_pid++, context.actor.space};
  return StepResult{};
}

base::Result<StepResult> DoExit(StepContext& context) {
  context.Tell({.op = Call::Op::kExit});
  context.machine().exit(context.actor.pid);
  context.session.actors.erase(context.process_name);
  return StepResult{};
}

base::Result<StepResult> DoRlimit(StepContext& context, const ckpt_pb::Step::Rlimit& op) {
  context.process.rlimit_fsize = LimitOr(op.fsize(), context.process.rlimit_fsize);
  context.process.rlimit_stack = LimitOr(op.stack(), context.process.rlimit_stack);
  context.Tell({Call::Op::kSetrlimit, {context.process.rlimit_fsize, context.process.rlimit_stack}});
  return StepResult{};
}

base::Result<StepResult> DoIoSetup(StepContext& context, const ckpt_pb::Step::IoSetup& op) {
  context.mm().nr_aio = op.count();
  return StepResult{};
}

}  // namespace workload
