#include "tests/cli/in_process.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>

#include "base/check.h"
#include "cli/command.h"

namespace cli_test {

InProcess::InProcess(const std::filesystem::path& folder) : before_(std::filesystem::current_path()) {
  std::filesystem::current_path(folder);
  out_ = {.fd = STDOUT_FILENO, .file = memfd_create("stdout", MFD_CLOEXEC)};
  err_ = {.fd = STDERR_FILENO, .file = memfd_create("stderr", MFD_CLOEXEC)};
  CHECK(out_.file >= 0 && err_.file >= 0);
}

InProcess::~InProcess() {
  close(out_.file);
  close(err_.file);
  std::error_code gone;
  std::filesystem::current_path(before_, gone);
}

void InProcess::Catch(Caught& caught) {
  CHECK(ftruncate(caught.file, 0) == 0 && lseek(caught.file, 0, SEEK_SET) == 0);
  caught.saved = dup(caught.fd);
  CHECK(caught.saved >= 0 && dup2(caught.file, caught.fd) == caught.fd);
}

std::string InProcess::Release(Caught& caught) {
  CHECK(dup2(caught.saved, caught.fd) == caught.fd);
  close(caught.saved);
  std::string text(static_cast<size_t>(lseek(caught.file, 0, SEEK_END)), '\0');
  CHECK(pread(caught.file, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  return text;
}

Outcome InProcess::Ckpt(std::vector<std::string> args) {
  args.insert(args.begin(), "ckpt");
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  std::fflush(stdout);
  Catch(out_);
  Catch(err_);
  Outcome outcome;
  outcome.exit_code = cli::Main(static_cast<int>(args.size()), argv.data());
  outcome.out = Release(out_);
  outcome.err = Release(err_);
  return outcome;
}

}  // namespace cli_test
