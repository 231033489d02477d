// How many interleavings a second the search goes through: two threads whose stores meet on a private page of
// a file, on a machine of 64 frames, with Validate() and the contents looked at after each.
#include <sys/mman.h>

#include <chrono>
#include <memory>

#include "bench/bench.h"
#include "mm/explore.h"
#include "mm/validate.h"

namespace bench {
namespace {

constexpr mm::Vaddr kAddr = 0x10000000;
// The limit is for short races.
constexpr uint64_t kPointsMax = 60;

class TwoStores : public mm::Race {
 public:
  TwoStores() {
    mm::MachineConfig config;
    config.memory_bytes = 64 * mm::kPageSize;
    machine_ = mm::Machine::Create(config).value();
    threads_[0] = &machine_->spawn(1, "one");
    threads_[1] = &machine_->clone_vm(1, 2, "two");
    mm::Recipe recipe;
    recipe.kind = mm::Recipe::Kind::kGenerated;
    recipe.generator = "counter";
    recipe.size = mm::kPageSize;
    const mm::FilePtr file = machine_->create_file(
        "/data", recipe.size, std::make_unique<mm::OverlayDisk>(Must(mm::OpenContent(recipe))));
    CHECK(mm::sys_mmap(*threads_[0]->mm, kAddr, mm::kPageSize, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_FIXED, file, 0));
  }
  void Run(unsigned cpu) override {
    const auto byte = static_cast<std::byte>('a' + cpu);
    CHECK(machine_->store(*threads_[cpu], kAddr + cpu, std::span(&byte, 1)).outcome == mm::Outcome::kOk);
  }
  std::optional<std::string> Check() override {
    if (auto broken = mm::Validate(*machine_, mm::Depth::kDeep)) return broken;
    char bytes[2];
    CHECK(machine_->load(*threads_[0], kAddr, std::as_writable_bytes(std::span(bytes))).outcome ==
          mm::Outcome::kOk);
    if (bytes[0] == 'a' && bytes[1] == 'b') return std::nullopt;
    return "a store was lost";
  }

 private:
  std::unique_ptr<mm::Machine> machine_;
  mm::Process* threads_[2];
};

void Exploration(benchmark::State& state) {
  for (auto _ : state) {
    mm::ExploreOptions options;
    options.preemptions = 4;
    options.prune = false;
    mm::Explored explored;
    const double seconds = ThreadSeconds(
        [&] { explored = mm::ExploreAll([] { return std::make_unique<TwoStores>(); }, options); });
    CHECK(explored.complete && !explored.failure && explored.points_longest <= kPointsMax);
    state.SetIterationTime(seconds);
    state.counters["per_second"] = static_cast<double>(explored.schedules) / seconds;
    state.counters["points"] = static_cast<double>(explored.points_longest);
  }
}
BENCHMARK(Exploration)->Apply([](auto* b) { Pairs(b); });

}  // namespace
}  // namespace bench
