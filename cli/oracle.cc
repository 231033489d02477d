// ckpt oracle: the model against the running kernel.
#include "live/oracle.h"

#include <memory>
#include <random>

#include "base/units.h"
#include "cli/command.h"
#include "cli/memory.h"
#include "cli/print.h"
#include "live/random_oracle.h"
#include "proto/file.h"

namespace cli {
namespace {

using live::Difference;
using live::Oracle;

struct OracleCommand {
  std::vector<std::string> workloads;
  std::optional<uint64_t> random;
  std::optional<uint64_t> seed;
  std::optional<uint64_t> minutes;
  std::optional<uint64_t> every;
  std::string scratch;
  std::string save;
  bool old_interfaces = false;
  bool swap = false;
  bool json = false;
  bool quiet = false;
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
};

// Both sides, under each other.
std::string DifferenceText(const Difference& difference) {
  const auto indented = [](const std::string& lines) {
    std::string text = "    ";
    for (const char c : lines) {
      text += c;
      if (c == '\n') text += "    ";
    }
    return text.substr(0, text.find_last_not_of(" \n") + 1) + '\n';
  };
  return base::Format("%s: %s\n  the model:\n%s  the kernel:\n%s", difference.where.c_str(),
                      difference.what.c_str(), indented(difference.model).c_str(),
                      indented(difference.kernel).c_str());
}

nlohmann::ordered_json DifferenceJson(const Difference& difference) {
  return {{"where", difference.where},
          {"what", difference.what},
          {"model", difference.model},
          {"kernel", difference.kernel}};
}

// How the run of one workload ended: the exit code.
int Report(OracleCommand& command, const Oracle& oracle, const std::string& path,
           const base::Result<void>& ran, uint64_t steps, uint64_t comparisons) {
  nlohmann::ordered_json result = {{"workload", path}, {"steps", steps}, {"comparisons", comparisons}};
  int code = kExitGood;
  const std::string shown = base::Printable(path);
  if (!ran && oracle.difference()) {
    result["difference"] = DifferenceJson(*oracle.difference());
    if (!command.json) PrintText(DifferenceText(*oracle.difference()));
    code = kExitNo;
  } else if (!ran && oracle.known() != nullptr) {
    const std::string id(oracle.known()->id);
    result["known_difference"] = id;
    PrintNotice(base::Format("%s (%s): what comes behind it was not compared", ran.error().what.c_str(),
                             std::string(oracle.known()->reason).c_str()));
  } else if (!ran) {
    return PrintError(ran.error());
  } else if (!command.json && !command.quiet) {
    PrintText(base::Format("%s: the model and the kernel agree: %s, %s\n", shown.c_str(),
                           Count(steps, "step").c_str(), Count(comparisons, "comparison").c_str()));
  }
  result["agrees"] = code == kExitGood;
  command.results.push_back(std::move(result));
  return code;
}

base::Result<void> RunScript(Oracle& oracle, const workload::Script& script) {
  RunProgress progress("compare", script);
  workload::Options options = progress.Options("");
  options.observer = &oracle;
  options.cpus = 1;
  oracle.Clear();
  auto executor = TRY(workload::Executor::Start(script, options));
  progress.Watch(*executor);
  TRY_VOID(oracle.Begin(executor->machine()));
  return executor->Run(
      [&](mm::Machine&, const workload::CheckpointRequest& request) -> base::Result<workload::Next> {
        const bool end = request.label == workload::kEndLabel;
        TRY_VOID(oracle.CompareAll(end ? base::Printable(script.path()) + ": after the last step"
                                       : "checkpoint '" + request.label + "'"));
        return workload::Next::kGoOn;
      });
}

int RunWorkload(OracleCommand& command, Oracle& oracle, const std::string& path) {
  const auto script = LoadWorkload(path, "the oracle runs workloads");
  if (!script) return PrintError(script.error());
  const uint64_t steps = oracle.steps();
  const uint64_t comparisons = oracle.comparisons();
  const base::Result<void> ran = RunScript(oracle, *script);
  return Report(command, oracle, path, ran, oracle.steps() - steps, oracle.comparisons() - comparisons);
}

int RunRandom(OracleCommand& command, Oracle& oracle) {
  live::RandomOptions options;
  options.steps = command.random.value_or(0);
  options.seed = command.seed.value_or(std::random_device{}());
  options.time = std::chrono::minutes(command.minutes.value_or(0));
  options.stop = &g_stop;
  options.pageout = command.swap;
  const auto seed = static_cast<unsigned long long>(options.seed);
  const std::string path = command.save.empty() ? base::Format("oracle-%llu.textproto", seed) : command.save;
  if (const auto place = image::OutputFile::Check(path); !place && !command.save.empty())
    return PrintError(place.error().In("--save '" + base::Printable(path) + "'"));
  Progress progress(base::Format("random steps, seed %llu,", seed), options.steps);
  options.progress = [&](uint64_t steps) { progress.Update(steps); };
  const auto begin = std::chrono::steady_clock::now();
  const auto report = live::RunRandom(oracle, options);
  if (!report) return PrintError(report.error().In(base::Format("random steps, seed %llu", seed)));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  nlohmann::ordered_json result = {{"seed", options.seed},
                                   {"steps", report->steps},
                                   {"sequences", report->sequences},
                                   {"steps_per_second", static_cast<double>(report->steps) / took.count()},
                                   {"known_differences", report->known},
                                   {"agrees", !report->difference.has_value()}};
  if (!command.json && !command.quiet) {
    PrintText(base::Format(
        "seed %llu: %s in %s, %.0f a second\n", seed, Count(report->steps, "random step").c_str(),
        Count(report->sequences, "sequence").c_str(), static_cast<double>(report->steps) / took.count()));
    for (const auto& [id, count] : report->known)
      PrintText(
          base::Format("  known difference %s: ended %s\n", id.c_str(), Count(count, "sequence").c_str()));
  }
  int code = kExitGood;
  if (report->difference) {
    code = kExitNo;
    const auto written = SaveText(path, live::FoundText(report->workload, *report->difference));
    result["difference"] = DifferenceJson(*report->difference);
    if (!command.json) PrintText(DifferenceText(*report->difference));
    if (!written) code = PrintError(written.error());
    // Nothing is lost with it.
    if (!written && !command.json) PrintText(live::FoundText(report->workload, *report->difference));
    if (written) result["saved"] = path;
    if (written && !command.json)
      PrintText(base::Format("%s that show it: %s\n",
                             Count(static_cast<uint64_t>(report->workload.step_size()), "step").c_str(),
                             base::Printable(path).c_str()));
  }
  command.results.push_back(std::move(result));
  if (g_stop && code == kExitGood) {
    return PrintError({base::Code::kInterrupted,
                       base::Format("random steps, seed %llu: interrupted; no difference so far", seed)});
  }
  return code;
}

int RunOracle(OracleCommand& command) {
  const bool random = command.random || command.minutes;
  if (random != command.workloads.empty()) {
    return PrintError({base::Code::kInvalid, random ? "workloads, and --random or --minutes: give one of them"
                                                    : "nothing to compare: give a workload, or --random N"});
  }
  if (!random && (command.seed || !command.save.empty()))
    return PrintError({base::Code::kInvalid, "--seed and --save go with --random or --minutes"});
  live::OracleOptions options;
  options.every = command.every.value_or(1);
  options.stop = &g_stop;
  options.real.scratch = command.scratch;
  options.real.swap = command.swap;
  if (command.old_interfaces) {
    options.real.pagemap = live::Pagemap::Interface::kEntries;
    options.real.maps = live::Maps::Interface::kText;
  } else if (options.real.pagemap == live::Pagemap::Interface::kEntries) {
    PrintNotice(
        "this kernel has no PAGEMAP_SCAN (Linux 6.7): /proc/PID/pagemap is read, which cannot tell the zero "
        "page from others");
  }
  auto oracle = Oracle::Create(options);
  if (!oracle) return PrintError(oracle.error());
  int worst = kExitGood;
  if (random) worst = RunRandom(command, **oracle);
  for (const std::string& path : command.workloads) {
    worst = std::max(worst, RunWorkload(command, **oracle, path));
    if (g_stop) break;
  }
  if (command.json) PrintJson(command.results);
  if (const auto closed = (*oracle)->Close(); !closed) worst = PrintError(closed.error());
  return worst;
}

}  // namespace

void AddOracle(const Command& ckpt) {
  auto command = std::make_shared<OracleCommand>();
  const Command oracle =
      ckpt.Add("oracle", "Run workloads on the model and on the running kernel, and compare");
  oracle.Optional("WORKLOAD", command->workloads, "The workloads");
  oracle.Number("--random", command->random, 1, uint64_t{1} << 40, "Instead: so many random steps");
  oracle.Number("--seed", command->seed, 0, ~uint64_t{0},
                "The seed of random steps; each has one of its own else");
  oracle.Number("--minutes", command->minutes, 1, 100'000,
                "Random steps for so long, or until --random is done");
  oracle.Number("--every", command->every, 1, uint64_t{1} << 32, "Compare after every so many steps (1)");
  oracle.Text("--scratch", command->scratch, "The folder that holds the real files");
  oracle.Text("--save", command->save, "Where the random steps that show a difference go");
  oracle.Flag("--old-interfaces", command->old_interfaces,
              "Use the interfaces of older kernels: /proc/PID/maps and pagemap as files");
  oracle.Flag("--swap", command->swap, "As root: give the kernel a swap device meanwhile, and page out");
  oracle.Flag("--json", command->json, "Print the results as JSON");
  oracle.Flag("-q,--quiet", command->quiet, "Say nothing of what agrees");
  oracle.Does([command] { return RunOracle(*command); });
}

}  // namespace cli
