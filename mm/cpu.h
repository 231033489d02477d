// Virtual CPUs: several CPUs of one modelled machine, as fibers in one thread.
//
// A CPU runs until its next scheduling point. A point lies *before* what it announces: a lock, a trylock, an
// unlock, a wait, a racy look at shared memory or a change of it, a reference taken or dropped, interrupts
// switched on or off, an IPI. There the scheduler (sched.h) says which CPU goes on, or which of the pending
// interrupts runs, on the stack of a CPU that has them enabled. What lies between two points is done at once.
// Every run repeats exactly from the same answers.
//
// With one CPU nobody is asked: a point costs a branch on smp(), which is a constant where CKPT_NO_CPUS is
// defined (the benchmark that measures that branch).
//
// What must hold of the code between two points: it touches nothing that another CPU may touch at that time,
// but for what its point announced, what a lock it holds guards, and what uses() names. The pruning
// of explore.h rests on that; tests/races compares it with the search that leaves nothing out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <vector>

namespace mm {

inline constexpr unsigned NR_CPUS = 16;

using Where = std::source_location;

enum class OpKind : uint8_t {
  kBegin,  // the CPU's job
  kLock,   // ready when the lock can be had
  kTrylock,
  kUnlock,
  kWait,       // for a bit or a condition: ready when it holds
  kRelax,      // ready when no other CPU is
  kRead,       // a look at what others may change
  kChange,     // a change of it
  kIrq,        // interrupts on or off
  kInterrupt,  // a handler is about to run
  kIdle,       // the job is done
};

// What a CPU is about to do.
struct Op {
  OpKind kind = OpKind::kIdle;
  const char* name = "";         // of what it works on, as the sources spell it: "page_table_lock"
  const void* object = nullptr;  // two operations on different objects can be exchanged, and two kRead
  bool (*ready)(const void* object) = nullptr;  // nullptr: at any time
  Where where = {};
  bool innermost = false;  // kLock of an innermost lock
};
// "lock page_table_lock (DoWpPage, mm/do_wp_page.cc:61)".
std::string PlaceOf(const Op& op);

// ---- interrupts ----

// And, last, what is none: a move of the host underneath, which asks no CPU (set_host).
enum class Irq : uint8_t { kTimer, kIpi, kEndOfIo, kHost, kCount };
const char* IrqName(Irq irq);

// ---- what a CPU holds ----

// In the order in which they are taken, outermost first (2.6.34 mm/rmap.c and mm/filemap.c; INV-D14).
enum class LockClass : uint8_t {
  kFreezer,        // of checkpoints, held by every call while it runs
  kInodeMutex,     // i_mutex
  kMmapSem,        // mmap_sem
  kInvalidate,     // invalidate_lock of a file (2.6.34 has none: see punch_hole)
  kPageLock,       // PG_locked
  kISharedSem,     // i_shared_sem
  kPageTableLock,  // page_table_lock
  kPteChain,       // PG_chainlock
  kStateChange,    // PG_state_change (page_states.h)
  // Innermost: only innermost ones are taken under them, and what is done under them is one step: no
  // point lies there.
  kTreeLock,  // of a page cache
  kSwapLock,
  kLruLock,
  kZoneLock,     // of the free frames
  kDiscardLock,  // of the discarded frames (discard.h)
};
const char* LockName(LockClass lock);
constexpr bool IsSleeping(LockClass lock) { return lock <= LockClass::kISharedSem; }
constexpr bool IsInnermost(LockClass lock) { return lock >= LockClass::kTreeLock; }

struct Held {
  LockClass lock;
  const void* object;
  Where where;
};

// ---- the answer of a scheduler ----

// A CPU that goes on, or that takes an interrupt where it stands.
struct Choice {
  uint8_t cpu = 0;
  Irq irq = Irq::kCount;  // kCount: none
  friend bool operator==(const Choice&, const Choice&) = default;
};
inline constexpr uint8_t kNoCpu = 0xff;

// Why a run ended before its time.
struct Failure {
  // kNoMemory: the process has none left (operator new), which says nothing about the model.
  enum class Kind : uint8_t { kCheck, kDeadlock, kLockOrder, kEndless, kSchedule, kWrong, kNoMemory };
  Kind kind = Kind::kCheck;
  std::string what;  // one line or several; deadlocks say who holds what
};

// What a run did: which CPU passed how many points, and before what it was stopped.
struct Stretch {
  Choice choice;  // with an interrupt: that it began, and `points` is 0
  uint64_t points = 0;
  Op before;
};
using Trace = std::vector<Stretch>;

class Scheduler;

class Cpus {
 public:
  // `count` is from 1 to NR_CPUS.
  explicit Cpus(unsigned count);
  ~Cpus();
  Cpus(const Cpus&) = delete;
  Cpus& operator=(const Cpus&) = delete;

  using Job = std::function<void()>;
  // Runs jobs[i] on CPU i (as many jobs as CPUs; an empty one is an idle CPU) until all have ended and no
  // interrupt but timer ticks is pending. After a failure the jobs are left where they stand and so is
  // what they worked on, for good; this object cannot be used again. No exception may leave a job; one of
  // operator new does not come to be: it is a failure too.
  std::optional<Failure> Run(std::span<const Job> jobs, Scheduler& scheduler);

  unsigned count() const { return static_cast<unsigned>(cpus_.size()); }
  // Points passed in this run, or in the last one.
  uint64_t points() const { return points_; }
  // What all runs since the last ClearTrace() did, stretch by stretch: all of it, or only the beginning when
  // there were more than kTraceMax.
  const Trace& trace() const { return trace_; }
  bool trace_complete() const { return trace_complete_; }
  void ClearTrace();
  static constexpr size_t kTraceMax = 1u << 20;
  // A run with more points than this is endless (a failure).
  void set_points_max(uint64_t most) { points_max_ = most; }
  // The timer of each CPU: `tick` may run up to `most` times a run, whenever interrupts are enabled.
  void set_timer(std::function<void()> tick, unsigned most);
  // A host underneath, as an adversary: whenever a CPU is about to do something to what is called `name`, and
  // `may` says so of the object, the host may `act` on it first, up to `most` times a run. Both pass no
  // points.
  struct HostMoves {
    const char* name = "";
    std::function<bool(const void* object)> may;
    std::function<void(const void* object)> act;
    unsigned most = 0;
  };
  void set_host(HostMoves host) { host_ = std::move(host); }

  // What CPU `cpu` will do when it is chosen next.
  const Op& op(unsigned cpu) const;
  // Looked at by schedulers: the choices at this point, CPUs in ascending order and then interrupts.
  std::span<const Choice> choices() const { return choices_; }
  // The CPU that passed the last point; kNoCpu before the first.
  uint8_t last() const { return last_; }
  bool ready(unsigned cpu) const;

  // ---- called by what runs on a CPU ----

  unsigned current() const { return current_; }
  void Point(const Op& op);
  void Uses(const void* object, bool change);
  void Acquired(LockClass lock, const void* object, Where where);
  void Released(LockClass lock, const void* object, Where where);
  // Before a lock is waited for. `nested`: another lock of the same class may be held.
  void CheckOrder(LockClass lock, Where where, bool nested);
  // No spin lock is held and interrupts are enabled, or the run fails.
  void CheckMaySleep(Where where);
  void DisableIrqs();
  void EnableIrqs();
  bool irqs_enabled() const;
  // Makes an interrupt pending on `cpu`. Interrupts of one kind on one CPU run in the order of their raising.
  void Raise(unsigned cpu, Irq irq, std::function<void()> handler);
  [[noreturn]] void Fail(Failure::Kind kind, std::string what);
  [[noreturn]] void FailForMemory();
  // One line a CPU: where it stands, and what it holds.
  std::string Describe() const;

 private:
  struct Cpu;
  void FiberBody(unsigned cpu);
  void WaitForTurn();
  bool Pick();
  bool MakeChoices();
  void AddHostMoves();
  void MoveHost();
  void RunInterrupt(Irq irq);
  void Passed(const Op& op);
  void Record(Choice choice);
  void RecordStop(unsigned cpu);

  std::vector<std::unique_ptr<Cpu>> cpus_;
  std::span<const Job> jobs_;
  Scheduler* scheduler_ = nullptr;
  std::vector<Choice> choices_;
  Choice chosen_;
  unsigned current_ = 0;
  uint8_t last_ = kNoCpu;
  uint64_t points_ = 0;
  uint64_t points_max_ = 10'000'000;
  bool boot_ = false;
  bool done_ = false;
  bool quit_ = false;
  std::function<void()> tick_;
  unsigned ticks_ = 0;
  HostMoves host_;
  unsigned host_left_ = 0;
  Trace trace_;
  bool trace_complete_ = true;
  std::optional<Failure> failure_;
  std::unique_ptr<std::byte[]> reserve_;  // for what a failure for lack of memory still needs
};

// ---- the model's side: how the code of mm/ meets its points ----

// Set while the code of a virtual CPU runs.
constinit inline thread_local Cpus* t_cpus = nullptr;
#ifdef CKPT_NO_CPUS
constexpr bool smp() { return false; }
#else
inline bool smp() { return t_cpus != nullptr; }
#endif
inline unsigned smp_processor_id() { return smp() ? t_cpus->current() : 0; }

// A look at something that others may change without a lock in common, and a change of such a thing.
inline void racy_read(const void* object, const char* name, Where where = Where::current()) {
  if (smp()) [[unlikely]]
    t_cpus->Point({OpKind::kRead, name, object, nullptr, where});
}
inline void racy_change(const void* object, const char* name, Where where = Where::current()) {
  if (smp()) [[unlikely]]
    t_cpus->Point({OpKind::kChange, name, object, nullptr, where});
}
// The same without a point of its own: part of what the last point announced. nullptr is nothing that could
// be used: the disk of a file that has none.
inline void uses(const void* object, bool change) {
  if (smp()) [[unlikely]]
    t_cpus->Uses(object, change);
}

// A CHECK that no spin lock is held and interrupts are on, with several CPUs: what follows may sleep.
void might_sleep_slow(Where where);
inline void might_sleep(Where where = Where::current()) {
  if (smp()) [[unlikely]]
    might_sleep_slow(where);
}

// In a loop that waits for others: they go first, where any can.
void cpu_relax(Where where = Where::current());

// Interrupts of this CPU.
void local_irq_disable(Where where = Where::current());
void local_irq_enable(Where where = Where::current());
// Runs `function` on each of the other CPUs, as an interrupt, and waits for all of them if told to.
// Requires: interrupts are enabled, with `wait`. With one CPU there is nobody.
void smp_call_function(const std::function<void()>& function, bool wait, Where where = Where::current());
// The end of an I/O that was started: `done` runs as an interrupt of this CPU, later. At once with one CPU.
void end_of_io(std::function<void()> done);

}  // namespace mm
