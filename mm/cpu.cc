#include "mm/cpu.h"

#include <algorithm>
#include <deque>
#include <new>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "mm/fiber.h"
#include "mm/sched.h"

namespace mm {
namespace {

constexpr size_t kIrqs = static_cast<size_t>(Irq::kCount);

const char* KindName(OpKind kind) {
  switch (kind) {
    case OpKind::kBegin: return "begin";
    case OpKind::kLock: return "lock";
    case OpKind::kTrylock: return "trylock";
    case OpKind::kUnlock: return "unlock";
    case OpKind::kWait: return "wait";
    case OpKind::kRelax: return "relax";
    case OpKind::kRead: return "read";
    case OpKind::kChange: return "change";
    case OpKind::kIrq: return "irq";
    case OpKind::kInterrupt: return "interrupt";
    case OpKind::kIdle: return "idle";
  }
  return "?";
}

// "DoWpPage" of "mm::VmFault mm::(anonymous namespace)::DoWpPage(const mm::Fault&)", as Clang writes it.
std::string ShortFunction(std::string_view whole) {
  constexpr std::string_view kNameless = "(anonymous namespace)::";
  size_t end = whole.find('(');
  while (end != whole.npos && whole.substr(end).starts_with(kNameless)) {
    whole.remove_prefix(end + kNameless.size());
    end = whole.find('(');
  }
  whole = whole.substr(0, end);
  while (!whole.empty() && whole.back() == ' ') whole.remove_suffix(1);
  const size_t space = whole.find_last_of(" *&");
  if (space != whole.npos) whole.remove_prefix(space + 1);
  const size_t scope = whole.rfind(':');
  if (scope != whole.npos) whole.remove_prefix(scope + 1);
  return std::string(whole);
}

std::string PlaceOf(const Where& where) {
  const std::string_view file = where.file_name();
  const size_t mm = file.rfind('/', file.rfind('/') - 1);
  return base::Format("%s, %s:%u", ShortFunction(where.function_name()).c_str(),
                      std::string(mm == file.npos ? file : file.substr(mm + 1)).c_str(), where.line());
}

constexpr size_t kReserveBytes = size_t{1} << 20;

// An exception cannot leave a fiber.
void OnNoMemory() {
  if (t_cpus == nullptr) throw std::bad_alloc();
  t_cpus->FailForMemory();
}

void OnCheck(const std::string& line) {
  if (t_cpus != nullptr) t_cpus->Fail(Failure::Kind::kCheck, line);
}

}  // namespace

std::string PlaceOf(const Op& op) {
  std::string what = KindName(op.kind);
  if (op.name[0] != '\0') what += std::string(" ") + op.name;
  if (op.kind == OpKind::kBegin || op.kind == OpKind::kIdle || op.kind == OpKind::kInterrupt) return what;
  return what + " (" + PlaceOf(op.where) + ")";
}

const char* IrqName(Irq irq) {
  switch (irq) {
    case Irq::kTimer: return "timer";
    case Irq::kIpi: return "ipi";
    case Irq::kEndOfIo: return "end-of-io";
    case Irq::kHost: return "host";
    case Irq::kCount: break;
  }
  return "none";
}

const char* LockName(LockClass lock) {
  switch (lock) {
    case LockClass::kFreezer: return "freezer";
    case LockClass::kInodeMutex: return "i_mutex";
    case LockClass::kMmapSem: return "mmap_sem";
    case LockClass::kInvalidate: return "invalidate_lock";
    case LockClass::kPageLock: return "page lock";
    case LockClass::kISharedSem: return "i_shared_sem";
    case LockClass::kPageTableLock: return "page_table_lock";
    case LockClass::kPteChain: return "pte_chain_lock";
    case LockClass::kStateChange: return "state_change";
    case LockClass::kTreeLock: return "tree_lock";
    case LockClass::kSwapLock: return "swap_lock";
    case LockClass::kLruLock: return "lru_lock";
    case LockClass::kZoneLock: return "zone lock";
    case LockClass::kDiscardLock: return "discard list lock";
  }
  return "?";
}

struct Cpus::Cpu {
  std::unique_ptr<Fiber> fiber;
  Op op;
  std::vector<Held> held;
  std::deque<std::function<void()>> pending[kIrqs];
  unsigned ticks = 0;  // timer ticks that may still come
  unsigned irqs_off = 0;
  bool in_interrupt = false;

  bool is_idle() const { return op.kind == OpKind::kIdle && !in_interrupt; }
};

Cpus::Cpus(unsigned count) {
  CHECK(count >= 1 && count <= NR_CPUS);
  for (unsigned i = 0; i < count; ++i) {
    cpus_.push_back(std::make_unique<Cpu>());
    cpus_[i]->fiber = std::make_unique<Fiber>([this, i] { FiberBody(i); });
  }
}

Cpus::~Cpus() {
  if (failure_) {
    // The fibers stay, and what they stand in refers to this.
    for (auto& cpu : cpus_) cpu.release()->fiber = nullptr;
    return;
  }
  quit_ = true;
  for (auto& cpu : cpus_) cpu->fiber->Resume();
}

void Cpus::set_timer(std::function<void()> tick, unsigned most) {
  tick_ = std::move(tick);
  ticks_ = most;
}

std::optional<Failure> Cpus::Run(std::span<const Job> jobs, Scheduler& scheduler) {
  CHECK(jobs.size() == cpus_.size() && !failure_ && !smp());
  jobs_ = jobs;
  scheduler_ = &scheduler;
  points_ = 0;
  last_ = kNoCpu;
  done_ = false;
  host_left_ = host_.most;
  for (size_t i = 0; i < jobs.size(); ++i) {
    Cpu& cpu = *cpus_[i];
    cpu.op = {jobs[i] ? OpKind::kBegin : OpKind::kIdle};
    cpu.ticks = tick_ ? ticks_ : 0;
    CHECK(cpu.held.empty() && cpu.irqs_off == 0);
  }
  scheduler.Begin(*this);
  if (reserve_ == nullptr) reserve_ = std::make_unique_for_overwrite<std::byte[]>(kReserveBytes);
  base::SetCheckHook(&OnCheck);
  const std::new_handler outside = std::set_new_handler(&OnNoMemory);
  // CPU 0 asks first, on its own stack: the answer may be a failure.
  chosen_ = {};
  boot_ = true;
  while (!done_ && !failure_) {
    current_ = chosen_.cpu;
    t_cpus = this;
    cpus_[current_]->fiber->Resume();
    t_cpus = nullptr;
  }
  std::set_new_handler(outside);
  base::SetCheckHook(nullptr);
  return failure_;
}

void Cpus::FiberBody(unsigned self) {
  Cpu& cpu = *cpus_[self];
  while (!quit_) {
    if (boot_ || chosen_.irq != Irq::kCount) {
      if (!std::exchange(boot_, false)) RunInterrupt(chosen_.irq);
      WaitForTurn();
      if (quit_) return;
    }
    Passed(cpu.op);
    jobs_[self]();
    if (!cpu.held.empty()) {
      Fail(Failure::Kind::kCheck,
           base::Format("cpu %u has done its job and holds %s (%s)", self, LockName(cpu.held.back().lock),
                        PlaceOf(cpu.held.back().where).c_str()));
    }
    cpu.op = {OpKind::kIdle};
    WaitForTurn();
  }
}

const Op& Cpus::op(unsigned cpu) const { return cpus_[cpu]->op; }

bool Cpus::ready(unsigned cpu) const {
  const Op& op = cpus_[cpu]->op;
  return op.kind != OpKind::kIdle && (op.ready == nullptr || op.ready(op.object));
}

// The choices of this point; false when there is nothing left that must be done.
bool Cpus::MakeChoices() {
  choices_.clear();
  bool left = false;
  for (uint8_t i = 0; i < cpus_.size(); ++i) {
    if (ready(i) && cpus_[i]->op.kind != OpKind::kRelax) choices_.push_back({i});
    left = left || !cpus_[i]->is_idle();
  }
  for (uint8_t i = 0; i < cpus_.size() && choices_.empty(); ++i) {
    if (cpus_[i]->op.kind == OpKind::kRelax) choices_.push_back({i});
  }
  for (uint8_t i = 0; i < cpus_.size(); ++i) {
    const Cpu& cpu = *cpus_[i];
    for (size_t irq = 1; irq < kIrqs; ++irq) {
      if (cpu.pending[irq].empty()) continue;
      left = true;
      if (cpu.irqs_off == 0 && !cpu.in_interrupt) choices_.push_back({i, static_cast<Irq>(irq)});
    }
  }
  if (!left) return false;
  for (uint8_t i = 0; i < cpus_.size(); ++i) {
    const Cpu& cpu = *cpus_[i];
    // A tick helps nobody who waits, and does not keep a run going.
    if (!choices_.empty() && cpu.ticks > 0 && cpu.irqs_off == 0 && !cpu.in_interrupt) {
      choices_.push_back({i, Irq::kTimer});
    }
  }
  return true;
}

void Cpus::AddHostMoves() {
  if (host_left_ == 0) return;
  for (uint8_t i = 0; i < cpus_.size(); ++i) {
    const Op& op = cpus_[i]->op;
    if (op.name != host_.name || !host_.may(op.object)) continue;
    const auto same = [&](const auto& other) {
      return other->op.name == op.name && other->op.object == op.object;
    };
    const auto first = std::ranges::find_if(cpus_, same);
    if (first == cpus_.begin() + i) choices_.push_back({i, Irq::kHost});
  }
}

// No point is passed, and who goes on afterwards is asked again: it preempts nobody.
void Cpus::MoveHost() {
  constexpr unsigned kHostCpu = NR_CPUS - 1;  // to the scheduler; no run of this many CPUs has a host
  const void* object = cpus_[chosen_.cpu]->op.object;
  --host_left_;
  if (!trace_.empty() && trace_.back().choice.irq == Irq::kCount)
    trace_.back().before = cpus_[trace_.back().choice.cpu]->op;
  if (trace_.size() < kTraceMax) trace_.push_back({chosen_, 0, {}});
  scheduler_->Uses(kHostCpu, object, true);
  host_.act(object);
}

bool Cpus::Pick() {
  do {
    if (!MakeChoices()) return false;
    if (choices_.empty()) Fail(Failure::Kind::kDeadlock, "deadlock: every CPU waits\n" + Describe());
    AddHostMoves();
    chosen_ = choices_[choices_.size() == 1 ? 0 : scheduler_->Choose(*this)];
    if (chosen_.irq == Irq::kHost) MoveHost();
  } while (chosen_.irq == Irq::kHost);
  return true;
}

void Cpus::WaitForTurn() {
  const unsigned self = current_;
  for (;;) {
    done_ = !Pick();
    if (done_ || chosen_.cpu != self) {
      cpus_[self]->fiber->Suspend();
      if (quit_) return;
      if (std::exchange(boot_, false)) continue;
    }
    if (chosen_.irq == Irq::kCount) return;
    RunInterrupt(chosen_.irq);
  }
}

void Cpus::Passed(const Op& op) {
  if (++points_ > points_max_) {
    Fail(Failure::Kind::kEndless,
         base::Format("no end after %llu scheduling points\n", static_cast<unsigned long long>(points_max_)) +
             Describe());
  }
  const bool irq = op.kind == OpKind::kInterrupt;
  Record({static_cast<uint8_t>(current_), irq ? chosen_.irq : Irq::kCount});
  last_ = static_cast<uint8_t>(current_);
  scheduler_->Passed(*this, current_, op);
}

void Cpus::Record(Choice choice) {
  if (!trace_complete_) return;
  const bool irq = choice.irq != Irq::kCount;
  if (irq || trace_.empty() || trace_.back().choice != choice) {
    // Where the one before it was stopped.
    if (!trace_.empty() && trace_.back().choice.cpu != choice.cpu) RecordStop(trace_.back().choice.cpu);
    trace_complete_ = trace_.size() < kTraceMax;
    if (!trace_complete_) return;
    trace_.push_back({choice, 0, {}});
  }
  if (!irq) ++trace_.back().points;
}

// The last stretch, if it is one of that CPU, ended before what the CPU is about to do now.
void Cpus::RecordStop(unsigned cpu) {
  if (!trace_complete_ || trace_.empty() || trace_.back().choice.cpu != cpu) return;
  trace_.back().before = cpus_[cpu]->op;
}

void Cpus::ClearTrace() {
  trace_.clear();
  trace_complete_ = true;
}

void Cpus::Point(const Op& op) {
  Cpu& cpu = *cpus_[current_];
  if (!cpu.held.empty() && IsInnermost(cpu.held.back().lock)) {
    // One step with what took that lock: nobody else can hold an innermost one now.
    const bool fits = op.kind == OpKind::kRead || op.kind == OpKind::kChange || op.innermost;
    if (!fits) {
      Fail(Failure::Kind::kCheck, base::Format("cpu %u: %s under %s", current_, PlaceOf(op).c_str(),
                                               LockName(cpu.held.back().lock)));
    }
    return Uses(op.object, op.kind != OpKind::kRead);
  }
  cpu.op = op;
  WaitForTurn();
  Passed(op);
}

void Cpus::Uses(const void* object, bool change) {
  if (object != nullptr) scheduler_->Uses(current_, object, change);
}

// ---- locks ----

void Cpus::Acquired(LockClass lock, const void* object, Where where) {
  cpus_[current_]->held.push_back({lock, object, where});
}

void Cpus::Released(LockClass lock, const void* object, Where where) {
  std::vector<Held>& held = cpus_[current_]->held;
  const auto found = std::ranges::find_if(
      held.rbegin(), held.rend(), [&](const Held& one) { return one.lock == lock && one.object == object; });
  if (found == held.rend()) {
    Fail(Failure::Kind::kCheck, base::Format("cpu %u releases %s, which it does not hold (%s)\n", current_,
                                             LockName(lock), PlaceOf(where).c_str()) +
                                    Describe());
  }
  held.erase(std::next(found).base());
}

void Cpus::CheckOrder(LockClass lock, Where where, bool nested) {
  const Cpu& cpu = *cpus_[current_];
  for (const Held& held : cpu.held) {
    if (held.lock < lock || (held.lock == lock && nested)) continue;
    Fail(Failure::Kind::kLockOrder,
         base::Format("lock order: cpu %u takes %s (%s) and holds %s (%s), which comes after it", current_,
                      LockName(lock), PlaceOf(where).c_str(), LockName(held.lock),
                      PlaceOf(held.where).c_str()));
  }
  if (IsSleeping(lock)) CheckMaySleep(where);
}

void Cpus::CheckMaySleep(Where where) {
  const Cpu& cpu = *cpus_[current_];
  const auto spin = std::ranges::find_if(cpu.held, [](const Held& held) { return !IsSleeping(held.lock); });
  if (spin == cpu.held.end() && irqs_enabled()) return;
  Fail(Failure::Kind::kCheck,
       base::Format("cpu %u may sleep (%s) %s", current_, PlaceOf(where).c_str(),
                    spin == cpu.held.end() ? "with interrupts off"
                                           : base::Format("and holds %s (%s)", LockName(spin->lock),
                                                          PlaceOf(spin->where).c_str())
                                                 .c_str()));
}

void might_sleep_slow(Where where) { t_cpus->CheckMaySleep(where); }

void cpu_relax(Where where) {
  if (smp()) t_cpus->Point({OpKind::kRelax, "", nullptr, nullptr, where});
}

// ---- interrupts ----

void Cpus::DisableIrqs() { ++cpus_[current_]->irqs_off; }

void Cpus::EnableIrqs() {
  CHECK(cpus_[current_]->irqs_off > 0);
  --cpus_[current_]->irqs_off;
}

bool Cpus::irqs_enabled() const { return cpus_[current_]->irqs_off == 0 && !cpus_[current_]->in_interrupt; }

void Cpus::Raise(unsigned cpu, Irq irq, std::function<void()> handler) {
  cpus_[cpu]->pending[static_cast<size_t>(irq)].push_back(std::move(handler));
  Uses(cpus_[cpu].get(), true);
}

void Cpus::RunInterrupt(Irq irq) {
  const unsigned self = current_;
  Cpu& cpu = *cpus_[self];
  std::function<void()> handler = tick_;
  if (irq == Irq::kTimer) {
    --cpu.ticks;
  } else {
    auto& pending = cpu.pending[static_cast<size_t>(irq)];
    handler = std::move(pending.front());
    pending.pop_front();
  }
  const Op interrupted = cpu.op;
  RecordStop(self);
  const size_t held = cpu.held.size();
  cpu.in_interrupt = true;
  cpu.op = {OpKind::kInterrupt, IrqName(irq), &cpu, nullptr, Where::current()};
  Passed(cpu.op);
  handler();
  CHECK(cpu.held.size() == held);
  cpu.in_interrupt = false;
  cpu.op = interrupted;
}

void local_irq_disable(Where where) {
  if (!smp()) return;
  t_cpus->Point({OpKind::kIrq, "off", nullptr, nullptr, where});
  t_cpus->DisableIrqs();
}

void local_irq_enable(Where where) {
  if (!smp()) return;
  t_cpus->EnableIrqs();
  t_cpus->Point({OpKind::kIrq, "on", nullptr, nullptr, where});
}

void smp_call_function(const std::function<void()>& function, bool wait, Where where) {
  if (!smp() || t_cpus->count() == 1) return;
  Cpus& cpus = *t_cpus;
  if (wait) CHECK_MSG(cpus.irqs_enabled(), "two CPUs that call each other with interrupts off wait for ever");
  const auto left = std::make_shared<unsigned>(cpus.count() - 1);
  cpus.Point({OpKind::kChange, "ipi", left.get(), nullptr, where});
  for (unsigned i = 0; i < cpus.count(); ++i) {
    if (i == cpus.current()) continue;
    cpus.Raise(i, Irq::kIpi, [function, left] {
      function();
      uses(left.get(), true);
      --*left;
    });
  }
  if (!wait) return;
  const auto none_left = [](const void* count) { return *static_cast<const unsigned*>(count) == 0; };
  cpus.Point({OpKind::kWait, "ipi", left.get(), none_left, where});
}

void end_of_io(std::function<void()> done) {
  if (!smp()) return done();
  t_cpus->Raise(t_cpus->current(), Irq::kEndOfIo, std::move(done));
}

// ---- failures ----

void Cpus::Fail(Failure::Kind kind, std::string what) {
  if (what.ends_with('\n')) what.pop_back();
  failure_ = Failure{kind, std::move(what)};
  if (!trace_.empty()) RecordStop(trace_.back().choice.cpu);
  for (;;) cpus_[current_]->fiber->Suspend();
}

void Cpus::FailForMemory() {
  reserve_ = nullptr;
  Fail(Failure::Kind::kNoMemory, "out of memory");
}

std::string Cpus::Describe() const {
  std::string text;
  for (size_t i = 0; i < cpus_.size(); ++i) {
    const Cpu& cpu = *cpus_[i];
    text += base::Format("cpu %zu: %s%s", i,
                         ready(static_cast<unsigned>(i)) ? "before " : "waits: ", PlaceOf(cpu.op).c_str());
    for (size_t h = 0; h < cpu.held.size(); ++h) {
      text += base::Format("%s%s (%s)", h == 0 ? "; holds " : ", ", LockName(cpu.held[h].lock),
                           PlaceOf(cpu.held[h].where).c_str());
    }
    text += '\n';
  }
  return text;
}

}  // namespace mm
