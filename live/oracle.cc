#include "live/oracle.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "base/units.h"
#include "mm/peek.h"
#include "workload/outcome.h"

namespace live {
namespace {

using workload::Answer;
using workload::Call;

// Loads, stores and files change no flag of a vma.
bool MayChangeFlags(Call::Op op) {
  using Op = Call::Op;
  switch (op) {
    case Op::kLoad:
    case Op::kStore:
    case Op::kTouch:
    case Op::kGetUserPages:
    case Op::kPread:
    case Op::kPwrite:
    case Op::kFtruncate:
    case Op::kPunchHole:
    case Op::kFsync:
    case Op::kMsync: return false;
    default: return true;
  }
}

std::unexpected<base::Error> KnownError(const KnownDifference& known) {
  return base::Fail(base::Code::kExpectation, "known difference %s", std::string(known.id).c_str());
}

constexpr const char* kNoneDiffers = "the model and the kernel differ";

}  // namespace

namespace {

// What is no answer of the rules but of this machine's limits, or of the model's memory.
base::Result<void> CheckLimits(const Call& call, const Answer& kernel) {
  using Op = Call::Op;
  const bool access = call.op == Op::kLoad || call.op == Op::kStore || call.op == Op::kTouch;
  if (call.answer.err == ENOMEM && call.answer.sig == 0 && (access || call.op == Op::kGetUserPages)) {
    return base::Fail(base::Code::kUnsupported, "%s: the model has no memory for it; give its machine more",
                      CallText(call).c_str());
  }
  if (kernel.err == ENOSPC || kernel.err == EDQUOT) {
    return base::Fail(base::Code::kIo, "%s: %s; the scratch folder is full (--scratch names another)",
                      CallText(call).c_str(), workload::ErrnoName(kernel.err).c_str());
  }
  const bool locks = call.op == Op::kMlock || call.op == Op::kMlockall || call.op == Op::kMmap ||
                     call.op == Op::kMremap || call.op == Op::kBrk;
  rlimit limit;
  const bool limited =
      getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_max != RLIM_INFINITY && geteuid() != 0;
  if (!locks || !limited || (kernel.err != ENOMEM && kernel.err != EAGAIN && kernel.err != EPERM)) return {};
  return base::Fail(
      base::Code::kUnsupported,
      "%s: %s; RLIMIT_MEMLOCK is %s, which may be too little: raise it (ulimit -H -l), or be root",
      CallText(call).c_str(), AnswerText(kernel).c_str(), base::FormatSize(limit.rlim_max).c_str());
}

}  // namespace

std::string CallText(const Call& call) {
  size_t count = call.args.size();
  while (count > 0 && call.args[count - 1] == 0) --count;
  std::string text = std::string(workload::CallName(call.op)) + '(';
  if (call.file != nullptr) text += "'" + base::Printable(call.file->name()) + "'" + (count > 0 ? ", " : "");
  for (size_t i = 0; i < count; ++i)
    text += base::Format("%s%#llx", i > 0 ? ", " : "", static_cast<unsigned long long>(call.args[i]));
  return text + ')';
}

std::string AnswerText(const Answer& answer) {
  const auto value = static_cast<unsigned long long>(answer.value);
  if (answer.sig == SIGSEGV || answer.sig == SIGBUS)
    return base::Format("%s at %#llx", answer.sig == SIGBUS ? "SIGBUS" : "SIGSEGV", value);
  if (answer.sig == SIGXFSZ) return "SIGXFSZ";
  if (answer.err != 0) return workload::ErrnoName(answer.err);
  return answer.value == 0 ? "ok" : base::Format("%#llx", value);
}

base::Result<std::unique_ptr<Oracle>> Oracle::Create(OracleOptions options) {
  std::unique_ptr<Oracle> oracle(new Oracle(std::move(options)));
  Oracle* self = oracle.get();
  oracle->real_ = TRY(RealMachine::Create(
      oracle->options_.real,
      [self](mm::Pid pid, const Call& call, const Answer& kernel, std::span<const std::byte> bytes) {
        return self->Answered(pid, call, kernel, bytes);
      }));
  return oracle;
}

void Oracle::Clear() {
  called_ = {};
  flags_changed_ = true;
  difference_.reset();
  known_ = nullptr;
  tails_.clear();
}

base::Result<void> Oracle::Begin(mm::Machine& machine) {
  Clear();
  machine_ = &machine;
  comparer_ = std::make_unique<Comparer>(machine, *real_, tails_, steps_, options_.stop);
  return real_->Begin(machine);
}

base::Result<void> Oracle::Close() { return real_->Close(); }

// Whether a call shows such bytes, or makes them zero on one side; a file that shrinks has none any more.
bool Oracle::TouchesTail(const Call& call) {
  const auto tail = tails_.find(call.file->id());
  if (tail == tails_.end()) return false;
  if (call.op == Call::Op::kFsync) return true;
  if (call.op == Call::Op::kPwrite || call.op == Call::Op::kPunchHole)
    return call.args[0] + call.args[1] > tail->second;
  if (call.op != Call::Op::kFtruncate || call.args[0] > tail->second) return call.op == Call::Op::kFtruncate;
  if (call.args[0] < tail->second) tails_.erase(tail);
  return false;
}

// A store that a shared mapping of a file's last page sees, behind the end.
void Oracle::NoteTails(const mm::Process& process, const Call& call) {
  const bool stores =
      call.op == Call::Op::kStore || (call.op == Call::Op::kGetUserPages && call.args[2] != 0);
  if (!stores) return;
  const uint64_t start = call.args[0];
  const uint64_t end = start + call.args[1];
  for (mm::Vaddr page = base::PageAlignDown(start); page < end; page += base::kPageSize) {
    const mm::Vma* vma = process.mm->vma_at(page);
    if (vma == nullptr || !vma->is_shared() || !vma->has_fault()) continue;
    const uint64_t size = vma->file->i_size;
    const bool is_last = mm::file_index_at(*vma, page) == size / base::kPageSize;
    if (is_last && end > page + size % base::kPageSize) tails_.emplace(vma->file->id(), size);
  }
}

void Oracle::Called(mm::Pid pid, const Call& call) {
  if (const mm::Process* process = machine_->find_process(pid)) NoteTails(*process, call);
  flags_changed_ |= MayChangeFlags(call.op);
  if (called_) called_ = real_->Do(pid, call);
}

base::Result<void> Oracle::Answered(mm::Pid pid, const Call& call, const Answer& kernel,
                                    std::span<const std::byte> bytes) {
  const auto differ = [&](std::string model, std::string real) {
    difference_ = Difference{
        {}, base::Format("process %u: %s", pid, CallText(call).c_str()), std::move(model), std::move(real)};
    return base::Fail(base::Code::kExpectation, kNoneDiffers);
  };
  const mm::Process* process = machine_->find_process(pid);
  const std::function<std::vector<LiveVma>()> vmas = [&] {
    std::vector<LiveVma> all;
    (void)real_->processes().at(pid).maps.Read(0, mm::TASK_SIZE, &all);
    return all;
  };
  const bool tail_touched = call.file != nullptr && TouchesTail(call);
  known_ = process == nullptr || !options_.excuse
               ? nullptr
               : FindKnownDifference({*process, call, kernel, tail_touched, vmas});
  if (known_ != nullptr) return KnownError(*known_);
  if (call.answer != kernel) {
    TRY_VOID(CheckLimits(call, kernel));
    return differ(AnswerText(call.answer), AnswerText(kernel));
  }
  if (!kernel.ok() || bytes.empty()) return {};
  const size_t length = std::min(bytes.size(), call.op == Call::Op::kPread ? kernel.value : call.args[1]);
  const auto [model, real] =
      std::mismatch(call.bytes.begin(), call.bytes.begin() + static_cast<ptrdiff_t>(length), bytes.begin());
  if (model == call.bytes.begin() + static_cast<ptrdiff_t>(length)) return {};
  const auto at = static_cast<unsigned long long>(model - call.bytes.begin());
  const mm::Vma* vma = call.op == Call::Op::kPread ? nullptr : process->mm->vma_at(call.args[0] + at);
  const bool tail = vma != nullptr && vma->file != nullptr && tails_.contains(vma->file->id());
  known_ = !tail || !options_.excuse ? nullptr : FindKnownDifference(*vma, call.args[0] + at);
  if (known_ != nullptr) return KnownError(*known_);
  return differ(base::Format("byte %#llx is %02x", at, std::to_integer<unsigned>(*model)),
                base::Format("byte %#llx is %02x", at, std::to_integer<unsigned>(*real)));
}

// A difference says in which step; so does trouble. A process that died or hangs is a difference too.
base::Result<void> Oracle::Settle(base::Result<void> done, const std::string& where) {
  if (done) return done;
  if (done.error().code == base::Code::kExpectation && known_ == nullptr) {
    if (!difference_)
      difference_ = Difference{{}, "the kernel's side", "goes on", done.error().what, nullptr};
    difference_->where = where;
  }
  return std::unexpected(done.error().In(where));
}

base::Result<void> Oracle::StepDone(const std::string& where) {
  TRY_VOID(Settle(called_, where));
  TRY_VOID(Settle(real_->Flush(), where));
  if (++steps_ % options_.every != 0) return {};
  const bool everything = options_.everything != 0 && (comparisons_ + 1) % options_.everything == 0;
  return Compare(everything ? Depth::kEverything : Depth::kTouched, where);
}

base::Result<void> Oracle::CompareAll(const std::string& where) { return Compare(Depth::kEverything, where); }

base::Result<void> Oracle::Compare(Depth depth, const std::string& where) {
  ++comparisons_;
  auto differs = comparer_->Compare(depth, flags_changed_ ? Comparer::Flags::kYes : Comparer::Flags::kNo);
  if (!differs) return std::unexpected(differs.error().In(where));
  flags_changed_ = false;
  if (!*differs) return {};
  known_ = options_.excuse ? (*differs)->known : nullptr;
  if (known_ != nullptr) return std::unexpected(KnownError(*known_).error().In(where));
  difference_ = **differs;
  difference_->where = where;
  return base::Fail(base::Code::kExpectation, "%s: %s", where.c_str(), kNoneDiffers);
}

}  // namespace live
