// Schedulers: who goes on at a scheduling point (cpu.h). Every one of them gives the same answers to the same
// questions, from its seed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "mm/cpu.h"

namespace mm {

class Scheduler {
 public:
  virtual ~Scheduler() = default;
  // A run begins.
  virtual void Begin(const Cpus& cpus) { (void)cpus; }
  // An index into cpus.choices(), which has two or more.
  virtual size_t Choose(Cpus& cpus) = 0;
  // A CPU has passed a point; told of all, those too for which nobody was asked.
  virtual void Passed(Cpus& cpus, unsigned cpu, const Op& op) {
    (void)cpus;
    (void)cpu;
    (void)op;
  }
  // What CPU `cpu` does until its next point depends on, or changes, this too.
  virtual void Uses(unsigned cpu, const void* object, bool change) {
    (void)cpu;
    (void)object;
    (void)change;
  }
};

// The next CPU in turn after `quantum` points; interrupts as soon as they are pending.
class RoundRobin : public Scheduler {
 public:
  explicit RoundRobin(uint64_t quantum = 1) : quantum_(quantum) {}
  void Begin(const Cpus& cpus) override;
  size_t Choose(Cpus& cpus) override;
  void Passed(Cpus& cpus, unsigned cpu, const Op& op) override;

 private:
  uint64_t quantum_;
  uint64_t left_ = 0;
};

// Any choice, each as likely as the others.
class RandomScheduler : public Scheduler {
 public:
  explicit RandomScheduler(uint64_t seed) : random_(seed) {}
  size_t Choose(Cpus& cpus) override;

 private:
  base::Random random_;
};

// Probabilistic concurrency testing (Burckhardt and others, ASPLOS 2010): CPUs have random priorities, the
// highest that is ready runs, and at `depth` - 1 random points out of `points` the running one falls below
// all. Finds a bug that needs `depth` orderings with probability of at least 1 / (cpus * points^(depth - 1)).
class PctScheduler : public Scheduler {
 public:
  PctScheduler(uint64_t seed, unsigned depth, uint64_t points)
      : random_(seed), depth_(depth), points_(points) {}
  void Begin(const Cpus& cpus) override;
  size_t Choose(Cpus& cpus) override;
  void Passed(Cpus& cpus, unsigned cpu, const Op& op) override;

 private:
  base::Random random_;
  unsigned depth_;
  uint64_t points_;
  std::vector<int64_t> priority_;
  std::vector<uint64_t> changes_;  // ascending
  int64_t lowest_ = 0;
};

// Where a CPU is stopped: before the `times`th thing that it does in `function` to what is called `name`
// (empty: to anything).
struct Place {
  unsigned cpu = 0;
  std::string function;
  std::string name = {};
  unsigned times = 1;
};

// One CPU after the other, as far as they can; for tests that say themselves who acts when: the CPU of the
// first place until it stands there, the CPU of the next one until it stands there, and so on. Then the
// others to their end, and the CPU of the last place when nobody else can go on.
class StopBefore : public Scheduler {
 public:
  // Requires: there is a place.
  explicit StopBefore(std::vector<Place> places) : places_(std::move(places)) {}
  StopBefore(unsigned first, std::string function, std::string name = {}, unsigned times = 1)
      : StopBefore(std::vector<Place>{{first, std::move(function), std::move(name), times}}) {}
  void Begin(const Cpus& cpus) override;
  size_t Choose(Cpus& cpus) override;
  // Whether every place was come to.
  bool stopped() const { return at_ == places_.size(); }

 private:
  static constexpr uint64_t kNever = ~uint64_t{0};
  bool IsAt(const Cpus& cpus, const Place& place);

  std::vector<Place> places_;
  size_t at_ = 0;  // of the places, the first that was not come to
  unsigned seen_ = 0;
  uint64_t seen_at_ = kNever;
};

// ---- schedules on paper ----

// The text of a schedule: "ckpt-schedule 1", "cpus N", and a line for each stretch: the CPU, how many points
// it passes (or "irq" and which), and behind '#' before what it was stopped.
std::string FormatSchedule(unsigned cpus, const Trace& trace);

// A schedule that was read from text.
struct Schedule {
  struct Line {
    Choice choice;
    uint64_t points = 0;
    std::string before;  // as PlaceOf() has it; empty: not said
  };
  unsigned cpus = 1;
  std::vector<Line> lines;
};
// kInvalid names the line that is wrong.
base::Result<Schedule> ParseSchedule(std::string_view text);

// A schedule again, over one run or several that follow each other. After its last line each CPU runs as far
// as it can, the one that runs first. A run that does not fit it is a failure (kSchedule).
class Replay : public Scheduler {
 public:
  // `schedule` must outlive it.
  explicit Replay(const Schedule& schedule)
      : schedule_(schedule), left_(schedule.lines.empty() ? 0 : schedule.lines[0].points) {}
  size_t Choose(Cpus& cpus) override;
  void Passed(Cpus& cpus, unsigned cpu, const Op& op) override;

 private:
  void SkipEmpty();

  const Schedule& schedule_;
  size_t line_ = 0;
  uint64_t left_ = 0;
  const Schedule::Line* ended_ = nullptr;  // whose `before` was not compared yet
};

}  // namespace mm
