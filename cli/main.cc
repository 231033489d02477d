// ckpt: the command line. Every subcommand is a file of its own.
#include <cstdio>
#include <exception>
#include <new>

#include "cli/command.h"
#include "cli/print.h"

namespace cli {
namespace {

constexpr char kDescription[] =
    "Checkpoint and restart process memory, saving only what the process changed.\n"
    "Exit codes: 0 good; 1 the answer is no (different, damaged, expectation not met); 2 trouble.";

int Main(int argc, char** argv) {
  CLI::App app(kDescription, "ckpt");
  app.set_version_flag("--version", "ckpt " CKPT_VERSION);
  app.require_subcommand(1);
  app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
    std::string name = failed->get_name();
    if (!failed->get_subcommands().empty()) name += " " + failed->get_subcommands().front()->get_name();
    return "ckpt: " + std::string(error.what()) + "; see '" + name + " --help'\n";
  });
  Action action;
  AddRun(app, action);
  AddRestore(app, action);
  AddDiff(app, action);
  AddShow(app, action);
  AddVerify(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? Finish(kExitGood) : kExitTrouble;
  }
  CatchSignals();
  const int code = Finish(action());
  RaiseCaughtSignal();
  return code;
}

}  // namespace

void AddImageOptions(CLI::App& command, ImageOptions& options) {
  command.add_option("--level", options.level, "zstd level of the page data")
      ->check(CLI::Range(image::kLevelMin, image::kLevelMax))
      ->capture_default_str();
  command
      .add_option("--threads", options.threads,
                  "Threads that compress (0: one for each core); the image is the same")
      ->check(CLI::Range(0u, image::kThreadsMax))
      ->capture_default_str();
  command.add_flag("--no-sync", options.no_sync, "Do not wait for the disk: for benchmarks");
}

image::WriteOptions WriteOptionsOf(const ImageOptions& options) {
  image::WriteOptions write;
  write.level = options.level;
  write.threads = options.threads;
  write.sync = options.no_sync ? image::Sync::kNo : image::Sync::kYes;
  write.stop = &g_stop;
  return write;
}

}  // namespace cli

int main(int argc, char** argv) {
  try {
    return cli::Main(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "ckpt: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ckpt: %s\n", error.what());
  }
  return cli::kExitTrouble;
}
