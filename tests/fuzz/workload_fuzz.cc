// Workload files: read or refused in one line with a place; what is read is run, if it is short, on a small
// machine, which is whole at the end.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <atomic>
#include <cstdio>

#include "base/check.h"
#include "base/units.h"
#include "mm/validate.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/message_mutator.h"
#include "workload/executor.h"
#include "workload/script.h"

namespace fuzz {
namespace {

constexpr uint64_t kMemoryMax = uint64_t{16} << 20;
constexpr uint64_t kStepsMax = 300;
constexpr int kBusyMax = 4;

constexpr std::string_view kWords[] = {"0",
                                       "1",
                                       "4KiB",
                                       "8KiB",
                                       "4095",
                                       "64KiB",
                                       "1MiB",
                                       "2MiB",
                                       "128TiB",
                                       "-1",
                                       "0x10000",
                                       "rw-",
                                       "r--",
                                       "---",
                                       "rwx",
                                       "r-x",
                                       "main",
                                       "child",
                                       "a",
                                       "b",
                                       "heap",
                                       "stack",
                                       "ok",
                                       "SIGBUS",
                                       "ENOMEM",
                                       "SIGSEGV",
                                       "EINVAL",
                                       "OOM",
                                       "random",
                                       "text",
                                       "counter",
                                       "k18",
                                       "latest",
                                       "data",
                                       "f",
                                       "end",
                                       "unlimited",
                                       "/dev/zero",
                                       "hints=base",
                                       "hints=writable",
                                       "truncate_rule=cow"};

// Steps that run, in the body of each repeat as often as that says.
uint64_t StepCount(const google::protobuf::RepeatedPtrField<ckpt_pb::Step>& steps) {
  uint64_t count = 0;
  for (const ckpt_pb::Step& step : steps) {
    count += step.has_repeat()
                 ? std::min(step.repeat().times(), kStepsMax + 1) * StepCount(step.repeat().step())
                 : 1;
    if (count > kStepsMax) return count;
  }
  return count;
}

bool NamesTheSystem(const google::protobuf::RepeatedPtrField<ckpt_pb::Step>& steps) {
  for (const ckpt_pb::Step& step : steps) {
    if (step.has_exec() && !step.exec().path().empty()) return true;
    if (step.has_create() && !step.create().file().real().empty()) return true;
    if (step.has_repeat() && NamesTheSystem(step.repeat().step())) return true;
  }
  return false;
}

bool IsSmall(const workload::Script& script) {
  const ckpt_pb::Workload& workload = script.workload();
  const uint64_t unset = UINT64_MAX;
  if (workload::SizeOr(workload.machine().memory(), unset) > kMemoryMax) return false;
  if (workload::SizeOr(workload.machine().swap(), 0) > kMemoryMax) return false;
  for (const auto& file : workload.file()) {
    if (!file.real().empty()) return false;
  }
  return StepCount(workload.step()) <= kStepsMax && !NamesTheSystem(workload.step());
}

// "w:LINE:COLUMN: WORDS".
bool HasPlace(const std::string& what) {
  unsigned line = 0;
  unsigned column = 0;
  int end = 0;
  return std::sscanf(what.c_str(), "w:%u:%u: %n", &line, &column, &end) == 2 && end > 0 &&
         static_cast<size_t>(end) < what.size() && what.find('\n') == std::string::npos;
}

void RunScript(const workload::Script& script) {
  std::atomic<bool> stop = false;
  int busy = 0;
  workload::Options options;
  options.stop = &stop;
  options.busy = [&] { stop = ++busy > kBusyMax; };
  auto executor = workload::Executor::Start(script, options);
  if (!executor) return;
  const auto done =
      (*executor)->Run([](mm::Machine&, const workload::CheckpointRequest&) -> base::Result<workload::Next> {
        return workload::Next::kGoOn;
      });
  if (!done) {
    CHECK_MSG(done.error().what.find('\n') == std::string::npos, done.error().what);
    // Where several CPUs failed, there is no machine any more.
    if (workload::CpuCount(script, options) > 1) return;
  }
  const auto broken = mm::Validate((*executor)->machine(), mm::Depth::kDeep);
  CHECK_MSG(!broken, "it breaks " + broken.value_or(""));
}

class Silent : public google::protobuf::io::ErrorCollector {
  void AddError(int, int, const std::string&) override {}
};

// The same text with one thing changed of what it says; nothing for one that is no workload.
std::string ChangedWorkload(const std::string& text, base::Random& random) {
  ckpt_pb::Workload workload;
  google::protobuf::TextFormat::Parser parser;
  Silent silent;
  parser.RecordErrorsTo(&silent);
  if (!parser.ParseFromString(text, &workload)) return {};
  for (uint64_t changes = 1 + random.Below(4); changes > 0; --changes)
    ChangeMessage(workload, random, kWords);
  if (random.Below(16) != 0) {
    auto& machine = *workload.mutable_machine();
    if (base::ParseSize(machine.memory()).value_or(UINT64_MAX) > kMemoryMax) machine.set_memory("16MiB");
  }
  std::string changed;
  google::protobuf::TextFormat::PrintToString(workload, &changed);
  return changed;
}

}  // namespace

void Run(std::string_view input) {
  const auto script = workload::Script::Parse("w", input);
  if (!script) {
    CHECK_MSG(HasPlace(script.error().what), script.error().what);
    return;
  }
  if (IsSmall(*script)) RunScript(*script);
}

std::map<std::string, std::string> Seeds() {
  std::map<std::string, std::string> seeds;
  for (const char* folder :
       {"workload/examples", "tests/oracle/found", "tests/oracle/known", "tests/golden"}) {
    for (auto& [name, text] : FilesOf(folder, ".textproto")) seeds[name] = std::move(text);
  }
  return seeds;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max, unsigned seed) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  base::Random random(seed);
  const std::string changed = random.Below(8) == 0 ? "" : ChangedWorkload(text, random);
  if (changed.empty() || changed.size() > size_max) return Put(ChangedBytes(text, size_max), data, size_max);
  return Put(changed, data, size_max);
}

}  // namespace fuzz
