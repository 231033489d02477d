#include "cli/cpus.h"

#include <algorithm>
#include <cstdio>

#include "base/text_file.h"
#include "cli/print.h"
#include "proto/file.h"

namespace cli {
namespace {

constexpr size_t kScheduleBytesMax = size_t{256} << 20;
constexpr ptrdiff_t kLinesShown = 60;
constexpr uint64_t kSeed = 1;

}  // namespace

void CpuOptions::AddTo(const Command& command) {
  command.Number("--cpus", cpus_, 1, mm::NR_CPUS,
                 "How many virtual CPUs, 1 to 16; else what the workload says");
  command.Number("--seed", seed_, 0, ~uint64_t{0}, "What the order of things on several CPUs follows from");
  command.Text("--schedule", schedule_path_, "Run by the schedule in this file");
  command.Text("--save-schedule", save_path_, "Write the schedule of the run to this file");
  command.Excludes("--schedule", "--seed");
}

bool CpuOptions::given() const { return cpus_ || seed_ || !schedule_path_.empty() || !save_path_.empty(); }

base::Result<void> CpuOptions::ReadSchedule() {
  const std::string text = TRY(base::ReadTextFile("schedule", schedule_path_, kScheduleBytesMax));
  base::Result<mm::Schedule> schedule = mm::ParseSchedule(text);
  const std::string name = "schedule '" + base::Printable(schedule_path_) + "'";
  if (!schedule) return std::unexpected(schedule.error().In(name));
  schedule_ = std::move(*schedule);
  if (cpus_ && *cpus_ != schedule_.cpus) {
    return base::Fail(base::Code::kInvalid, "%s is for %u CPUs, not for %u: leave --cpus out", name.c_str(),
                      schedule_.cpus, *cpus_);
  }
  if (schedule_.cpus > 1) return {};
  return base::Fail(base::Code::kInvalid, "%s is for one CPU, which has one order: it needs two or more",
                    name.c_str());
}

base::Result<void> CpuOptions::Prepare(const workload::Script& script, std::vector<UsedFile> used) {
  if (!schedule_path_.empty()) TRY_VOID(ReadSchedule());
  workload::Options options;
  Apply(options);
  const bool one_cpu = workload::CpuCount(script, options) == 1;
  if (one_cpu && seed_) {
    return base::Fail(base::Code::kInvalid, "--seed %llu: the run has one CPU, and so one order",
                      static_cast<unsigned long long>(*seed_));
  }
  if (save_path_.empty()) return {};
  if (one_cpu) {
    return base::Fail(base::Code::kInvalid, "--save-schedule '%s': the run has one CPU, and so no schedule",
                      base::Printable(save_path_).c_str());
  }
  if (!schedule_path_.empty()) used.push_back({schedule_path_, "the schedule of --schedule"});
  return CheckPlace("--save-schedule", save_path_, used);
}

void CpuOptions::Apply(workload::Options& options) const {
  options.cpus = cpus_.value_or(0);
  options.schedule_seed = seed_.value_or(kSeed);
  if (schedule_path_.empty()) return;
  options.cpus = schedule_.cpus;
  options.schedule = &schedule_;
}

base::Result<void> CpuOptions::Save(const base::Result<std::string>& text) const {
  if (!text) {
    const std::string by = schedule_path_.empty() ? "--seed " + std::to_string(seed_.value_or(kSeed))
                                                  : "--schedule '" + base::Printable(schedule_path_) + "'";
    return base::Fail(text.error().code, "%s; %s gives the same run again", text.error().what.c_str(),
                      by.c_str());
  }
  if (save_path_.empty()) return {};
  return SaveText(save_path_, *text);
}

base::Result<void> CpuOptions::Keep(const workload::Executor& executor, base::Result<void> ran) {
  const bool unmet = !ran && ran.error().code == base::Code::kExpectation;
  if (save_path_.empty() && !unmet) return ran;
  base::Result<std::string> text = executor.ScheduleText();
  if (text && text->empty()) return ran;  // one CPU
  base::Result<void> saved = Save(text);
  if (!saved && !save_path_.empty()) {
    saved = std::unexpected(saved.error().In("--save-schedule '" + base::Printable(save_path_) + "'"));
  }
  if (ran) return saved;
  if (!saved) not_kept_ = saved.error().what;
  if (text && (!saved || save_path_.empty())) unsaved_ = *std::move(text);
  return ran;
}

void CpuOptions::ShowFailed() const {
  if (!not_kept_.empty()) PrintNotice(not_kept_);
  if (unsaved_.empty()) return;
  const ptrdiff_t lines = std::count(unsaved_.begin(), unsaved_.end(), '\n');
  if (lines <= kLinesShown) {
    std::fputs(unsaved_.c_str(), stderr);
  } else {
    PrintNotice(base::Format("the schedule of this run has %td lines: --save-schedule FILE keeps it", lines));
  }
}

}  // namespace cli
