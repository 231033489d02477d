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

void CpuOptions::AddTo(CLI::App& command) {
  CLI::Option* cpus =
      command.add_option("--cpus", cpus_, "How many virtual CPUs, 1 to 16; else what the workload says");
  cpus->check(WholeNumber(1, mm::NR_CPUS))->option_text("NUMBER");
  CLI::Option* seed =
      command.add_option("--seed", seed_, "What the order of things on several CPUs follows from");
  seed->check(WholeNumber(0, ~uint64_t{0}))->option_text("NUMBER");
  CLI::Option* schedule = AddText(command, "--schedule", schedule_path_, "Run by the schedule in this file");
  AddText(command, "--save-schedule", save_path_, "Write the schedule of the run to this file");
  schedule->excludes(seed);
}

base::Result<void> CpuOptions::Apply(workload::Options& options) {
  options.cpus = cpus_.value_or(0);
  options.schedule_seed = seed_.value_or(kSeed);
  if (!save_path_.empty()) TRY_VOID(image::OutputFile::Check(save_path_));
  if (schedule_path_.empty()) return {};
  const std::string text = TRY(base::ReadTextFile("schedule", schedule_path_, kScheduleBytesMax));
  base::Result<mm::Schedule> schedule = mm::ParseSchedule(text);
  const std::string name = "schedule '" + base::Printable(schedule_path_) + "'";
  if (!schedule) return std::unexpected(schedule.error().In(name));
  schedule_ = std::move(*schedule);
  if (cpus_ && *cpus_ != schedule_.cpus) {
    return base::Fail(base::Code::kInvalid, "%s is for %u CPUs, not for %u: leave --cpus out", name.c_str(),
                      schedule_.cpus, *cpus_);
  }
  options.cpus = schedule_.cpus;
  options.schedule = &schedule_;
  return {};
}

base::Result<void> CpuOptions::Keep(const workload::Executor& executor) {
  base::Result<std::string> text = executor.ScheduleText();
  if (!text) {
    not_kept_ = text.error().what + "; " + SameRunAgain();
    if (save_path_.empty()) return {};
    return base::Fail(text.error().code, "--save-schedule '%s': %s", base::Printable(save_path_).c_str(),
                      not_kept_.c_str());
  }
  kept_ = *std::move(text);
  if (save_path_.empty()) return {};
  if (kept_.empty()) {
    return base::Fail(base::Code::kInvalid, "--save-schedule '%s': the run has one CPU, and so no schedule",
                      base::Printable(save_path_).c_str());
  }
  const auto file = TRY(image::OutputFile::Create(save_path_));
  TRY_VOID(file->Append(kept_));
  return file->Publish(image::Sync::kNo);
}

std::string CpuOptions::SameRunAgain() const {
  if (!schedule_path_.empty()) {
    return "--schedule '" + base::Printable(schedule_path_) + "' gives the same run again";
  }
  return "--seed " + std::to_string(seed_.value_or(kSeed)) + " gives the same run again";
}

void CpuOptions::ShowFailed() const {
  if (!not_kept_.empty()) PrintNotice(not_kept_);
  if (kept_.empty() || !save_path_.empty()) return;
  const ptrdiff_t lines = std::count(kept_.begin(), kept_.end(), '\n');
  if (lines <= kLinesShown) {
    std::fputs(kept_.c_str(), stderr);
  } else {
    PrintNotice(base::Format("the schedule of this run has %td lines: --save-schedule FILE keeps it", lines));
  }
}

}  // namespace cli
