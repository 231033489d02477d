#include "workload/together.h"

#include <algorithm>
#include <set>

#include "base/random.h"

namespace workload {
namespace {

void AddProcesses(const std::vector<ScriptStep>& steps, size_t first, size_t end,
                  const std::string& first_process, std::set<std::string>* names) {
  for (size_t i = first; i < end; ++i) {
    for (std::string& name : ProcessesOf(*steps[i].step, first_process)) names->insert(std::move(name));
    AddProcesses(steps[i].body, 0, steps[i].body.size(), first_process, names);
  }
}

}  // namespace

std::vector<std::string> ProcessesOf(const ckpt_pb::Step& step, const std::string& first_process) {
  if (step.has_repeat()) return {};
  std::vector<std::string> names = {step.process().empty() ? first_process : step.process()};
  if (step.has_fork()) names.push_back(step.fork().child());
  if (step.has_clone_vm()) names.push_back(step.clone_vm().child());
  return names;
}

// ---- one process's way through the steps ----

Cursor::Cursor(const std::vector<ScriptStep>& steps, size_t first, size_t end, uint64_t seed,
               std::string process, const std::string& first_process)
    : frames_{{&steps, first, end, 0, 1, 0, seed}},
      process_(std::move(process)),
      first_process_(first_process) {
  Settle();
}

bool Cursor::Concerns(const ScriptStep& step) const {
  if (!step.step->has_repeat()) {
    const std::vector<std::string> names = ProcessesOf(*step.step, first_process_);
    return std::ranges::find(names, process_) != names.end();
  }
  return step.step->repeat().times() > 0 &&
         std::ranges::any_of(step.body, [this](const ScriptStep& child) { return Concerns(child); });
}

uint64_t Cursor::RoundSeed(uint64_t outer, uint64_t number, uint64_t round) {
  return base::Mix64(outer ^ base::Mix64(number ^ base::Mix64(round + 1)));
}

// Forward to a step of this process, from where the last frame stands.
void Cursor::Settle() {
  while (!frames_.empty()) {
    Frame& frame = frames_.back();
    if (frame.index == frame.end) {
      if (++frame.round < frame.times) {
        frame.index = 0;
        frame.seed = RoundSeed(frames_[frames_.size() - 2].seed, frame.number, frame.round);
        continue;
      }
      frames_.pop_back();
      if (!frames_.empty()) ++frames_.back().index;
      continue;
    }
    const ScriptStep& step = (*frame.steps)[frame.index];
    if (!Concerns(step)) {
      ++frame.index;
      continue;
    }
    if (!step.step->has_repeat()) return;
    frames_.push_back({&step.body, 0, step.body.size(), 0, step.step->repeat().times(), step.number,
                       RoundSeed(frame.seed, step.number, 0)});
  }
}

StepRun Cursor::Now() const {
  StepRun run;
  for (const Frame& frame : frames_) {
    if (&frame == &frames_.front()) continue;
    run.round += base::Format(" (round %llu of %llu)", static_cast<unsigned long long>(frame.round + 1),
                              static_cast<unsigned long long>(frame.times));
  }
  run.step = &(*frames_.back().steps)[frames_.back().index];
  run.round_seed = frames_.back().seed;
  return run;
}

void Cursor::Advance() {
  ++frames_.back().index;
  Settle();
}

bool Cursor::SamePlace(const Cursor& other) const {
  return std::ranges::equal(frames_, other.frames_, [](const Frame& one, const Frame& two) {
    return one.steps == two.steps && one.index == two.index && one.round == two.round;
  });
}

// ---- all of them ----

Together::Together(const Script& script, size_t first, size_t end)
    : first_process_(script.processes().front()) {
  std::set<std::string> names;
  AddProcesses(script.steps(), first, end, first_process_, &names);
  const uint64_t seed = base::Mix64(script.workload().seed());
  for (const std::string& name : names) {
    lanes_.emplace(name, Lane{Cursor(script.steps(), first, end, seed, name, first_process_)});
  }
}

std::vector<Together::Lane*> Together::Involved(const Lane& lane) {
  std::vector<Lane*> lanes;
  for (const std::string& name : ProcessesOf(*lane.cursor.Now().step->step, first_process_)) {
    lanes.push_back(&lanes_.find(name)->second);
  }
  return lanes;
}

bool Together::IsRunnable(const std::string& process, const Lane& lane) {
  if (lane.busy || lane.cursor.at_end()) return false;
  if (ProcessesOf(*lane.cursor.Now().step->step, first_process_).front() != process) return false;
  return std::ranges::all_of(Involved(lane), [&](const Lane* other) {
    return !other->busy && other->cursor.SamePlace(lane.cursor);
  });
}

Together::Lane* Together::FindRunnable() {
  Lane* longest = nullptr;
  for (auto& [name, lane] : lanes_) {
    if (IsRunnable(name, lane) && (longest == nullptr || lane.waits_since < longest->waits_since))
      longest = &lane;
  }
  return longest;
}

bool Together::AllDone() const {
  return std::ranges::all_of(lanes_, [](const auto& lane) { return lane.second.cursor.at_end(); });
}

void Together::RunCpu(const Do& step) {
  const auto has_work = [](const void* self) {
    auto* together = static_cast<Together*>(const_cast<void*>(self));
    return together->error_ || together->AllDone() || together->FindRunnable() != nullptr;
  };
  for (;;) {
    mm::t_cpus->Point({mm::OpKind::kWait, "run queue", this, has_work, mm::Where::current()});
    Lane* lane = error_ ? nullptr : FindRunnable();
    if (lane == nullptr) return;
    const std::vector<Lane*> involved = Involved(*lane);
    for (Lane* one : involved) one->busy = true;
    const base::Result<void> done = step(lane->cursor.Now());
    mm::racy_change(this, "run queue");
    if (!done && !error_) error_ = done.error();
    for (Lane* one : involved) {
      one->busy = false;
      one->waits_since = ++clock_;
      one->cursor.Advance();
    }
  }
}

}  // namespace workload
