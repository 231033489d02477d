#include "cli/command.h"

#include "cli/print.h"

namespace cli {
namespace {

constexpr char kDescription[] =
    "Checkpoint and restart process memory, saving only what the process changed.\n"
    "Exit codes: 0 good; 1 the answer is no (different, damaged, expectation not met); 2 trouble.";

// What may stand first on the command line: a command, or an option of ckpt itself.
bool KnownWord(const CLI::App& app, const std::string& word) {
  const auto named =
      app.get_subcommands([&](const CLI::App* command) { return command->get_name() == word; });
  return !named.empty() || word == "-h" || word == "--help" || word == "--version";
}

CLI::Validator NotEmpty() {
  return {[](std::string& value) { return std::string(value.empty() ? "it is empty" : ""); }, "", ""};
}

}  // namespace

int Main(int argc, char** argv) {
  CLI::App app(kDescription, "ckpt");
  app.set_version_flag("--version", "ckpt " CKPT_VERSION);
  app.require_subcommand(1);
  app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
    std::string name = failed->get_name();
    if (!failed->get_subcommands().empty()) name += " " + failed->get_subcommands().front()->get_name();
    return "ckpt: " + base::Printable(error.what(), 4096) + "; see '" + name + " --help'\n";
  });
  Action action;
  AddRun(app, action);
  AddRestore(app, action);
  AddDiff(app, action);
  AddShow(app, action);
  AddVerify(app, action);
  if (const std::string word = argc > 1 ? argv[1] : ""; argc > 1 && !KnownWord(app, word)) {
    const std::string what = word.empty() ? "the command is empty" : "there is no command '" + word + "'";
    return PrintError({base::Code::kInvalid, what + ": see 'ckpt --help'"});
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? Finish(kExitGood) : kExitTrouble;
  }
  return Finish(action());
}

void AddFlag(CLI::App& command, const std::string& names, bool& flag, const std::string& help) {
  command.add_flag(names, flag, help)->disable_flag_override();
}

CLI::Option* AddText(CLI::App& command, const std::string& names, std::string& text,
                     const std::string& help) {
  return command.add_option(names, text, help)->check(NotEmpty());
}

CLI::Option* AddTexts(CLI::App& command, const std::string& names, std::vector<std::string>& texts,
                      const std::string& help) {
  return command.add_option(names, texts, help)->check(NotEmpty());
}

void AddImageOptions(CLI::App& command, ImageOptions& options) {
  command.add_option("--level", options.level, "zstd level of the page data")
      ->check(CLI::Range(image::kLevelMin, image::kLevelMax))
      ->capture_default_str();
  command
      .add_option("--threads", options.threads,
                  "Threads that compress (0: one for each core); the image is the same")
      ->check(CLI::Range(0u, image::kThreadsMax))
      ->capture_default_str();
  AddFlag(command, "--no-sync", options.no_sync, "Do not wait for the disk: for benchmarks");
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
