#include "live/random_oracle.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <sstream>

#include "base/check.h"
#include "base/random.h"
#include "base/units.h"
#include "live/random_steps.h"
#include "workload/executor.h"

namespace live {
namespace {

using base::Code;
using ckpt_pb::Step;
using ckpt_pb::Workload;
using workload::Executor;
using workload::Script;
using workload::StepResult;

constexpr uint64_t kSequenceSteps = 300;

// A machine with files and processes, and no step yet.
struct Run {
  std::unique_ptr<Script> script;
  std::unique_ptr<Executor> executor;
};

base::Result<Run> Begin(Oracle& oracle, const Workload& workload) {
  Workload start = workload;
  start.clear_step();
  start.add_step()->mutable_barrier();  // a script has at least one
  std::string text;
  google::protobuf::TextFormat::PrintToString(start, &text);
  Run run;
  run.script = std::make_unique<Script>(TRY(Script::Parse("random", text)));
  workload::Options options;
  options.observer = &oracle;
  run.executor = TRY(Executor::Start(*run.script, options));
  TRY_VOID(oracle.Begin(run.executor->machine()));
  return run;
}

// The bytes of an anonymous range are random by the step's number, if its fill says nothing: random steps
// always do.
void SetExpect(Step& step, const StepResult& result) {
  step.clear_expect();
  if (!result.ok()) step.mutable_expect()->set_outcome(result.outcome);
  if (result.bytes && *result.bytes != result.bytes_wanted)
    step.mutable_expect()->set_bytes(std::to_string(*result.bytes));
}

// What is left to do after an error of a step: a difference is one, a known one the end, and the rest is
// trouble.
base::Result<std::optional<Difference>> Outcome(const Oracle& oracle, const base::Result<void>& done) {
  if (done || done.error().code == Code::kInterrupted) return std::nullopt;
  if (oracle.difference()) return oracle.difference();
  if (oracle.known() != nullptr) return std::nullopt;
  return std::unexpected(done.error());
}

// The file that a step uses; empty: none.
std::string FileOf(const Step& step) {
  const auto* op =
      step.GetReflection()->GetOneofFieldDescriptor(step, Step::descriptor()->FindOneofByName("op"));
  const google::protobuf::Message& message = step.GetReflection()->GetMessage(step, op);
  const auto* file = message.GetDescriptor()->FindFieldByName("file");
  if (file == nullptr || file->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_STRING) return "";
  return message.GetReflection()->GetString(message, file);
}

base::Result<void> DoStep(Executor& executor, Step& step, uint64_t number) {
  const auto result = executor.Do(step, number);
  if (!result) return std::unexpected(result.error());
  SetExpect(step, *result);
  return {};
}

// Each of them is the step with one thing made simpler: the process, the range, the bytes.
std::vector<Step> SimplerSteps(const Step& step) {
  std::vector<Step> simpler;
  if (step.process() != workload::kDefaultProcess) {
    simpler.push_back(step);
    simpler.back().set_process(std::string(workload::kDefaultProcess));
  }
  const auto shorter = [&](auto get) {
    Step copy = step;
    auto& op = get(copy);
    const uint64_t length = base::ParseSize(op.length()).value_or(0);
    for (const uint64_t wanted : {uint64_t{1}, uint64_t{base::kPageSize}}) {
      if (length <= wanted) continue;
      op.set_length(std::to_string(wanted));
      simpler.push_back(copy);
    }
  };
  const auto byte = [&](auto get) {
    Step copy = step;
    get(copy).mutable_fill()->set_byte('x');
    if (copy.SerializeAsString() != step.SerializeAsString()) simpler.push_back(copy);
  };
  if (step.has_store()) {
    shorter([](Step& s) -> auto& { return *s.mutable_store(); });
    byte([](Step& s) -> auto& { return *s.mutable_store(); });
  }
  if (step.has_write()) {
    shorter([](Step& s) -> auto& { return *s.mutable_write(); });
    byte([](Step& s) -> auto& { return *s.mutable_write(); });
  }
  if (step.has_load()) shorter([](Step& s) -> auto& { return *s.mutable_load(); });
  if (step.has_touch()) shorter([](Step& s) -> auto& { return *s.mutable_touch(); });
  if (step.has_unmap()) shorter([](Step& s) -> auto& { return *s.mutable_unmap(); });
  if (step.has_protect()) shorter([](Step& s) -> auto& { return *s.mutable_protect(); });
  if (step.has_map()) {
    shorter([](Step& s) -> auto& { return *s.mutable_map(); });
    Step copy = step;
    copy.mutable_map()->clear_populate();
    copy.mutable_map()->clear_nonblock();
    if (step.map().populate()) simpler.push_back(copy);
  }
  return simpler;
}

class Shrinker {
 public:
  Shrinker(Oracle& oracle, Workload workload, const std::atomic<bool>* stop)
      : oracle_(oracle), best_(std::move(workload)), stop_(stop) {}

  base::Result<Workload> Run() {
    for (int chunk = std::max(best_.step_size() / 2, 1); chunk > 0; chunk = chunk > 1 ? chunk / 2 : chunk) {
      const bool smaller = TRY(RemoveChunks(chunk));
      if (chunk == 1 && !smaller) break;
    }
    for (int i = 0; i < best_.step_size(); ++i) TRY_VOID(Simplify(i));
    TRY_VOID(RemoveFiles());
    return best_;
  }

 private:
  // Whether it still differs; then it is the best.
  base::Result<bool> Take(Workload candidate) {
    if (stop_ != nullptr && stop_->load(std::memory_order_relaxed)) return false;
    const auto differs = RunSteps(oracle_, candidate);
    if (!differs) return std::unexpected(differs.error());
    if (!*differs) return false;
    best_ = std::move(candidate);
    return true;
  }

  base::Result<bool> RemoveChunks(int chunk) {
    bool smaller = false;
    for (int at = best_.step_size(); at > 0;) {
      at = std::max(at - chunk, 0);
      Workload candidate = best_;
      const int count = std::min(chunk, candidate.step_size() - at);
      if (count <= 0) continue;
      candidate.mutable_step()->DeleteSubrange(at, count);
      smaller |= TRY(Take(std::move(candidate)));
    }
    return smaller;
  }

  base::Result<void> Simplify(int i) {
    for (bool simpler = true; simpler;) {
      simpler = false;
      for (const Step& step : SimplerSteps(best_.step(i))) {
        Workload candidate = best_;
        *candidate.mutable_step(i) = step;
        const int steps = best_.step_size();
        if (!TRY(Take(std::move(candidate)))) continue;
        if (best_.step_size() != steps) return {};
        simpler = true;
        break;
      }
    }
    return {};
  }

  base::Result<void> RemoveFiles() {
    for (int i = best_.file_size() - 1; i >= 0; --i) {
      const std::string name = best_.file(i).name();
      std::string steps;
      for (const Step& step : best_.step()) steps += step.ShortDebugString();
      if (steps.find("file: \"" + name + "\"") != std::string::npos) continue;
      Workload candidate = best_;
      candidate.mutable_file()->DeleteSubrange(i, 1);
      TRY(Take(std::move(candidate)));
    }
    return {};
  }

  Oracle& oracle_;
  Workload best_;
  const std::atomic<bool>* stop_;
};

}  // namespace

base::Result<std::optional<Difference>> RunSteps(Oracle& oracle, Workload& workload) {
  const Run run = TRY(Begin(oracle, workload));
  google::protobuf::RepeatedPtrField<Step> done;
  base::Result<void> result;
  uint64_t number = 0;
  for (const Step& step : workload.step()) {
    const std::string& name =
        step.process().empty() ? std::string(workload::kDefaultProcess) : step.process();
    if (run.executor->FindProcess(name) == nullptr) continue;
    // A child's name that is taken, or an exit of the last.
    if (step.has_fork() && run.executor->FindProcess(step.fork().child()) != nullptr) continue;
    if (step.has_clone_vm() && run.executor->FindProcess(step.clone_vm().child()) != nullptr) continue;
    if (step.has_exit() && run.executor->machine().processes().size() == 1) continue;
    if (step.has_create() && run.executor->machine().find_file(step.create().file().name()) != nullptr)
      continue;
    if (const std::string file = FileOf(step);
        !file.empty() && run.executor->machine().find_file(file) == nullptr)
      continue;
    *done.Add() = step;
    result = DoStep(*run.executor, *done.rbegin(), number++);
    if (!result) break;
  }
  if (result) result = oracle.CompareAll("after the last step");
  workload.mutable_step()->Swap(&done);
  return Outcome(oracle, result);
}

base::Result<RandomReport> RunRandom(Oracle& oracle, const RandomOptions& options) {
  RandomReport report;
  const auto begin = std::chrono::steady_clock::now();
  const auto enough = [&] {
    if (options.stop != nullptr && options.stop->load(std::memory_order_relaxed)) return true;
    if (options.steps != 0 && report.steps >= options.steps) return true;
    return options.time.count() != 0 && std::chrono::steady_clock::now() - begin >= options.time;
  };
  for (; !enough(); ++report.sequences) {
    RandomSteps steps(base::Mix64(options.seed) + report.sequences, options.pageout);
    Workload workload = steps.workload();
    const Run run = TRY(Begin(oracle, workload));
    base::Result<void> result;
    for (uint64_t i = 0; i < kSequenceSteps && result && !enough(); ++i, ++report.steps) {
      *workload.add_step() = steps.Next(*run.executor);
      result = DoStep(*run.executor, *workload.mutable_step()->rbegin(), i);
    }
    if (result) result = oracle.CompareAll("after the last step");
    const auto differs = TRY(Outcome(oracle, result));
    if (options.progress) options.progress(report.steps);
    if (oracle.known() != nullptr) ++report.known[std::string(oracle.known()->id)];
    report.workload = workload;
    if (!differs) continue;
    report.difference = differs;
    if (!options.shrink) return report;
    report.workload = TRY(Shrink(oracle, workload, options.stop));
    // Of what is left; a difference that comes and goes is reported as it was.
    if (const auto again = TRY(RunSteps(oracle, report.workload))) report.difference = again;
    return report;
  }
  return report;
}

base::Result<Workload> Shrink(Oracle& oracle, const Workload& workload, const std::atomic<bool>* stop) {
  return Shrinker(oracle, workload, stop).Run();
}

std::string FoundText(const Workload& workload, const Difference& difference) {
  std::ostringstream text;
  text << "# The model and the kernel differ: " << difference.what << "\n";
  const auto side = [&](const char* name, const std::string& lines) {
    std::istringstream in(lines);
    for (std::string line; std::getline(in, line); name = "        ")
      text << "# " << name << ' ' << line << '\n';
  };
  side("model: ", difference.model);
  side("kernel:", difference.kernel);
  std::string steps;
  google::protobuf::TextFormat::PrintToString(workload, &steps);
  text << steps;
  return text.str();
}

}  // namespace live
