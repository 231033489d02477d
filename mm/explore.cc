#include "mm/explore.h"

#include <algorithm>
#include <array>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"
#include "base/random.h"
#include "mm/page.h"

namespace mm {
namespace {

using base::Mix64;

// What happened to one object so far: by its last change, and by the looks since.
struct History {
  uint64_t change = 0;
  uint64_t looks = 0;
};

// The sums of a prefix: cpu.h's operations and what they depend on.
class HappensBefore {
 public:
  void Begin(unsigned cpus) {
    cpus_.fill(0);
    for (unsigned i = 0; i < cpus; ++i) cpus_[i] = Mix64(i + 1);
    objects_.clear();
  }
  void Passed(unsigned cpu, const Op& op) {
    cpus_[cpu] = Mix64(cpus_[cpu] ^ (static_cast<uint64_t>(op.kind) << 56));
    if (op.object != nullptr) Uses(cpu, op.object, op.kind != OpKind::kRead);
  }
  void Uses(unsigned cpu, const void* object, bool change) {
    History& history = objects_[object];
    uint64_t& own = cpus_[cpu];
    if (change) {
      own = Mix64(own ^ Mix64(history.change + Mix64(history.looks)));
      history = {own, 0};
    } else {
      own = Mix64(own ^ history.change);
      history.looks += own;
    }
  }
  uint64_t Sum(uint8_t last) const {
    uint64_t sum = last;
    for (const uint64_t cpu : cpus_) sum = Mix64(sum ^ cpu);
    return sum;
  }

 private:
  std::array<uint64_t, NR_CPUS> cpus_ = {};
  absl::flat_hash_map<const void*, History> objects_;
};

// All choices at all points, depth first: each run follows the decisions of the one before up to the last
// that has an alternative left.
class Exhaustive : public Scheduler {
 public:
  Exhaustive(unsigned bound, bool prune) : bound_(bound), prune_(prune) {}

  void Begin(const Cpus& cpus) override {
    depth_ = 0;
    spent_ = 0;
    pruned_ = false;
    if (prune_) before_.Begin(cpus.count());
  }

  size_t Choose(Cpus& cpus) override {
    Order(cpus);
    if (depth_ == path_.size()) path_.push_back({0, Alternatives(cpus)});
    const size_t taken = path_[depth_++].taken;
    CHECK(taken < order_.size());
    if (taken >= free_) ++spent_;
    return order_[taken];
  }

  void Passed(Cpus&, unsigned cpu, const Op& op) override {
    if (prune_) before_.Passed(cpu, op);
  }
  void Uses(unsigned cpu, const void* object, bool change) override {
    if (prune_) before_.Uses(cpu, object, change);
  }

  // To the next run; false when there is none.
  bool Next() {
    path_.resize(std::min(path_.size(), depth_));
    while (!path_.empty() && path_.back().taken + 1u >= path_.back().alternatives) path_.pop_back();
    if (path_.empty()) return false;
    ++path_.back().taken;
    return true;
  }
  // The last run came to a known place.
  bool pruned() const { return pruned_; }

 private:
  struct Decision {
    uint8_t taken;
    uint8_t alternatives;
  };

  // The choices in an order, with those that are no preemption first: `free_` of them.
  void Order(const Cpus& cpus) {
    const auto choices = cpus.choices();
    bool goes_on = false;
    bool any_cpu = false;
    for (const Choice& choice : choices) {
      if (choice.irq != Irq::kCount) continue;
      any_cpu = true;
      goes_on = goes_on || choice.cpu == cpus.last();
    }
    const auto is_free = [&](const Choice& choice) {
      if (choice.irq == Irq::kHost) return true;
      if (choice.irq != Irq::kCount) return !any_cpu;
      return !goes_on || choice.cpu == cpus.last();
    };
    order_.clear();
    for (size_t i = 0; i < choices.size(); ++i) {
      if (is_free(choices[i])) order_.push_back(i);
    }
    free_ = order_.size();
    for (size_t i = 0; i < choices.size(); ++i) {
      if (!is_free(choices[i])) order_.push_back(i);
    }
  }

  uint8_t Alternatives(const Cpus& cpus) {
    const unsigned left = bound_ - spent_;
    if (prune_) {
      auto [known, is_new] = known_.try_emplace(before_.Sum(cpus.last()), left);
      if (!is_new && known->second >= left) {
        pruned_ = true;
        return 1;
      }
      known->second = left;
    }
    return static_cast<uint8_t>(left == 0 ? free_ : order_.size());
  }

  const unsigned bound_;
  const bool prune_;
  std::vector<Decision> path_;
  size_t depth_ = 0;
  unsigned spent_ = 0;
  bool pruned_ = false;
  std::vector<size_t> order_;
  size_t free_ = 0;
  HappensBefore before_;
  absl::flat_hash_map<uint64_t, unsigned>
      known_;  // the most preemptions left with which a prefix was followed
};

// Runs races on the same CPUs, one after the other.
class Runner {
 public:
  Runner(const MakeRace& make, const ExploreOptions& options, Explored* explored)
      : make_(make), options_(options), explored_(explored), cpus_(options.cpus) {
    cpus_.set_points_max(options.points_max);
    cpus_.set_timer(options.tick, options.ticks);
    if (options.host_moves > 0) {
      cpus_.set_host({kPageStateName, [this](const void* object) { return race_->HostMay(object); },
                      [this](const void* object) { race_->HostMove(object); }, options.host_moves});
    }
    for (unsigned i = 0; i < options.cpus; ++i) {
      jobs_.push_back([this, i] { race_->Run(i); });
    }
  }

  // false: it failed.
  bool Run(Scheduler& scheduler) {
    race_ = make_();
    cpus_.ClearTrace();
    std::optional<Failure> failure = cpus_.Run(jobs_, scheduler);
    explored_->points_longest = std::max(explored_->points_longest, cpus_.points());
    const bool ended = !failure;
    if (ended) {
      if (std::optional<std::string> wrong = race_->Check())
        failure = {Failure::Kind::kWrong, std::move(*wrong)};
    }
    if (!failure) {
      if (options_.keep_states) explored_->states.insert(race_->State());
      race_ = nullptr;
      return true;
    }
    explored_->failure = std::move(failure);
    explored_->schedule = FormatSchedule(cpus_.count(), cpus_.trace());
    // What the CPUs were at work on cannot be taken apart.
    static auto* given_up = new std::vector<std::unique_ptr<Race>>;
    given_up->push_back(std::move(race_));
    return false;
  }

 private:
  const MakeRace& make_;
  const ExploreOptions& options_;
  Explored* explored_;
  Cpus cpus_;
  std::vector<Cpus::Job> jobs_;
  std::unique_ptr<Race> race_;
};

template <class MakeScheduler>
Explored ExploreSeeds(const MakeRace& make, const ExploreOptions& options, MakeScheduler&& make_scheduler) {
  CHECK(options.schedules_max > 0);
  Explored explored;
  Runner runner(make, options, &explored);
  for (uint64_t i = 0; i < options.schedules_max; ++i) {
    auto scheduler = make_scheduler(Mix64(options.seed + i), explored);
    ++explored.schedules;
    if (!runner.Run(scheduler)) break;
  }
  return explored;
}

}  // namespace

std::string Explored::Report() const {
  std::string text =
      base::Format("%llu schedules (%llu pruned), longest %llu points%s",
                   static_cast<unsigned long long>(schedules), static_cast<unsigned long long>(pruned),
                   static_cast<unsigned long long>(points_longest), complete ? ", complete" : "");
  if (failure) text += "\n" + failure->what + "\n" + schedule;
  return text;
}

Explored ExploreAll(const MakeRace& make, const ExploreOptions& options) {
  Explored explored;
  Exhaustive scheduler(options.preemptions, options.prune);
  Runner runner(make, options, &explored);
  for (;;) {
    const bool fine = runner.Run(scheduler);
    ++(scheduler.pruned() ? explored.pruned : explored.schedules);
    if (!fine) return explored;
    if (!scheduler.Next()) {
      explored.complete = true;
      return explored;
    }
    if (options.schedules_max > 0 && explored.schedules + explored.pruned >= options.schedules_max)
      return explored;
  }
}

Explored ExploreRandom(const MakeRace& make, const ExploreOptions& options) {
  return ExploreSeeds(make, options, [](uint64_t seed, const Explored&) { return RandomScheduler(seed); });
}

Explored ExplorePct(const MakeRace& make, const ExploreOptions& options) {
  return ExploreSeeds(make, options, [&](uint64_t seed, const Explored& so_far) {
    return PctScheduler(seed, options.pct_depth, so_far.points_longest);
  });
}

Explored RunOnce(const MakeRace& make, const ExploreOptions& options, Scheduler& scheduler) {
  Explored explored;
  Runner runner(make, options, &explored);
  ++explored.schedules;
  (void)runner.Run(scheduler);
  return explored;
}

}  // namespace mm
