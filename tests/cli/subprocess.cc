#include "tests/cli/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <ostream>
#include <thread>

#include "base/check.h"

namespace cli_test {
namespace {

constexpr auto kDeadline = std::chrono::seconds(60);

struct Pipe {
  int read = -1;
  int write = -1;
};

Pipe MakePipe() {
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  return {ends[0], ends[1]};
}

// In the child: makes `fd` what `output` says. `pipe` is the one that the parent reads.
void Redirect(int fd, Output output, const Pipe& pipe) {
  switch (output) {
    case Output::kCaptured: dup2(pipe.write, fd); return;
    case Output::kClosed: close(fd); return;
    case Output::kFull: dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), fd); return;
    case Output::kBrokenPipe: {
      const Pipe broken = MakePipe();
      close(broken.read);
      dup2(broken.write, fd);
      return;
    }
  }
}

[[noreturn]] void Child(const std::vector<std::string>& argv, const Options& options, int input,
                        const Pipe& out, const Pipe& err) {
  dup2(input, STDIN_FILENO);
  Redirect(STDERR_FILENO, options.err, err);
  Redirect(STDOUT_FILENO, options.out, out);
  if (!options.folder.empty() && chdir(options.folder.c_str()) != 0) _exit(126);
  if (!options.path.empty()) setenv("PATH", (options.path + ":" + std::getenv("PATH")).c_str(), 1);
  for (const auto& [what, value] : options.limits) {
    const rlimit limit = {value, value};
    setrlimit(static_cast<__rlimit_resource>(what), &limit);
  }
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(signal, SIG_DFL);
  for (const int signal : options.ignored) std::signal(signal, SIG_IGN);
  std::vector<char*> pointers;
  for (const std::string& arg : argv) pointers.push_back(const_cast<char*>(arg.c_str()));
  pointers.push_back(nullptr);
  execvp(pointers[0], pointers.data());
  _exit(127);
}

// A writer that does not have everything ready at once, as a program in a shell's pipe.
void Feed(int fd, const std::string& text) {
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  size_t done = 0;
  while (done < text.size()) {
    const size_t part = std::min<size_t>(text.size() - done, text.size() / 2 + 1);
    const ssize_t count = write(fd, text.data() + done, part);
    if (count <= 0) break;
    done += static_cast<size_t>(count);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  close(fd);
}

}  // namespace

std::ostream& operator<<(std::ostream& stream, const Outcome& outcome) {
  stream << (outcome.hung ? "hung; " : "");
  if (outcome.signal != 0) stream << "signal " << outcome.signal;
  if (outcome.signal == 0) stream << "exit " << outcome.exit_code;
  return stream << "\nout: " << outcome.out.substr(0, 2000) << "\nerr: " << outcome.err.substr(0, 2000);
}

Process::Process(const std::vector<std::string>& argv, const Options& options) {
  std::signal(SIGPIPE, SIG_IGN);
  const Pipe out = MakePipe();
  const Pipe err = MakePipe();
  Pipe in;
  if (options.input.empty()) {
    in.read = open("/dev/null", O_RDONLY | O_CLOEXEC);
  } else {
    in = MakePipe();
  }
  pid_ = fork();
  CHECK(pid_ >= 0);
  if (pid_ == 0) Child(argv, options, in.read, out, err);
  close(in.read);
  close(out.write);
  close(err.write);
  out_ = out.read;
  err_ = err.read;
  if (in.write >= 0) Feed(in.write, options.input);
}

Process::~Process() {
  if (!reaped_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, &status_, 0);
  }
  if (out_ >= 0) close(out_);
  if (err_ >= 0) close(err_);
}

void Process::Send(int signal) const {
  CHECK(!reaped_);
  kill(pid_, signal);
}

bool Process::Running() {
  while (Drain(0) && !reaped_) {
    if (waitpid(pid_, &status_, WNOHANG) == pid_) reaped_ = true;
    return !reaped_;
  }
  return false;
}

bool Process::WaitUntilItCatches(int signal) {
  while (Running()) {
    std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("SigCgt:")) continue;
      if ((std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) != 0) return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

bool Process::Drain(int timeout_ms) {
  pollfd fds[] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
  if (out_ < 0 && err_ < 0) return false;
  if (poll(fds, 2, timeout_ms) <= 0) return true;
  for (pollfd& fd : fds) {
    if (fd.fd < 0 || fd.revents == 0) continue;
    char buffer[65536];
    const ssize_t count = read(fd.fd, buffer, sizeof buffer);
    const bool is_out = fd.fd == out_;
    if (count > 0) {
      (is_out ? outcome_.out : outcome_.err).append(buffer, static_cast<size_t>(count));
    } else {
      close(fd.fd);
      (is_out ? out_ : err_) = -1;
    }
  }
  return out_ >= 0 || err_ >= 0;
}

Outcome Process::Wait() {
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  const auto kill_it = [&] {
    outcome_.hung = true;
    kill(pid_, SIGKILL);
  };
  while (Drain(100)) {
    if (!outcome_.hung && std::chrono::steady_clock::now() > end) kill_it();
  }
  while (!reaped_) {
    if (waitpid(pid_, &status_, WNOHANG) == pid_) reaped_ = true;
    if (!reaped_ && !outcome_.hung && std::chrono::steady_clock::now() > end) kill_it();
    if (!reaped_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (WIFEXITED(status_)) outcome_.exit_code = WEXITSTATUS(status_);
  if (WIFSIGNALED(status_)) outcome_.signal = WTERMSIG(status_);
  return outcome_;
}

Outcome Execute(const std::vector<std::string>& argv, const Options& options) {
  Process process(argv, options);
  return process.Wait();
}

std::vector<std::string> CkptArgv(std::vector<std::string> args) {
  args.insert(args.begin(), CKPT_PROGRAM);
  return args;
}

Outcome Ckpt(std::vector<std::string> args, const Options& options) {
  return Execute(CkptArgv(std::move(args)), options);
}

}  // namespace cli_test
