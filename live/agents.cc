#include "live/agents.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <ctime>

#include "base/check.h"

#ifdef CKPT_AGENT
extern "C" const char ckpt_agent_image[];
extern "C" const char ckpt_agent_image_end[];
#else
constexpr const char* ckpt_agent_image = nullptr;
constexpr const char* ckpt_agent_image_end = nullptr;
#endif

namespace live {
namespace {

using agent::Channel;
using agent::Request;

constexpr std::chrono::milliseconds kLookInterval{50};  // whether it is still alive

base::Result<void> WriteAll(int fd, const char* bytes, size_t length) {
  while (length > 0) {
    const ssize_t done = write(fd, bytes, length);
    if (done < 0) return base::FailErrno(errno, "write the oracle's program");
    bytes += done;
    length -= static_cast<size_t>(done);
  }
  return {};
}

void WakeAgent(Channel& channel) {
  __atomic_store_n(&channel.turn, agent::kAgent, __ATOMIC_RELEASE);
  syscall(SYS_futex, &channel.turn, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

// As far as one may without privileges.
void RaiseLimit(__rlimit_resource resource) {
  rlimit limit;
  if (getrlimit(resource, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(resource, &limit);
}

// In the child: only calls that are safe there.
[[noreturn]] void ExecAgent(int program, int channels) {
  personality(ADDR_NO_RANDOMIZE);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);  // Ctrl-C at a terminal is for the tool
  for (const auto resource : {RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_DATA, RLIMIT_NOFILE}) RaiseLimit(resource);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Where they are is not closed by exec; the program itself is.
  const int high = fcntl(program, F_DUPFD_CLOEXEC, agent::kFirstFile);
  if (high >= 0 && (channels == agent::kChannelFd || dup2(channels, agent::kChannelFd) >= 0)) {
    fcntl(agent::kChannelFd, F_SETFD, 0);
    close_range(agent::kChannelFd + 1, static_cast<unsigned>(high) - 1, 0);
    close_range(static_cast<unsigned>(high) + 1, ~0u, 0);
    char name[] = "ckpt-oracle";
    char empty[] = "";
    char* const args[] = {name, nullptr};
    char* const env[] = {nullptr};
    syscall(SYS_execveat, high, empty, args, env, AT_EMPTY_PATH);
  }
  _exit(96);
}

}  // namespace

// ---- one ----

void Agent::Kill() {
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

Agent::~Agent() {
  Kill();
  if (!lost_) agents_.Release(number_, channel_);
}

uint64_t Agent::DataAddress(size_t offset) const {
  return agent::ChannelAddress(number_) + offsetof(Channel, data) + offset;
}

bool Agent::HasDied(std::string* how) {
  int status = 0;
  const pid_t waited = waitpid(pid_, &status, WNOHANG);
  if (waited < 0 && errno == ECHILD) {  // reaped by who ignores SIGCHLD
    *how = "ended";
    pid_ = 0;
    return true;
  }
  if (waited != pid_) return false;
  *how = WIFSIGNALED(status)
             ? base::Format("died of signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)))
             : base::Format("ended with code %d", WEXITSTATUS(status));
  pid_ = 0;
  return true;
}

base::Result<void> Agent::Wait() {
  const auto end = std::chrono::steady_clock::now() + agents_.limit();
  while (__atomic_load_n(&channel_->turn, __ATOMIC_ACQUIRE) != agent::kTool) {
    const timespec interval = {0, std::chrono::nanoseconds(kLookInterval).count()};
    const long woken = syscall(SYS_futex, &channel_->turn, FUTEX_WAIT, agent::kAgent, &interval, nullptr, 0);
    if (woken == 0 || errno != ETIMEDOUT) continue;
    std::string how;
    if (HasDied(&how)) return base::Fail(base::Code::kExpectation, "the process %s", how.c_str());
    if (std::chrono::steady_clock::now() < end) continue;
    Kill();
    return base::Fail(base::Code::kExpectation, "the process did not come to an end in %lld ms",
                      static_cast<long long>(agents_.limit().count()));
  }
  return {};
}

base::Result<void> Agent::Run(uint32_t count) {
  CHECK(count <= agent::kRequestsMax);
  if (pid_ == 0) return base::Fail(base::Code::kExpectation, "the process is gone");
  channel_->count = count;
  WakeAgent(*channel_);
  return Wait();
}

base::Result<void> Agent::Exit() {
  channel_->requests[0].op = Request::kExit;
  channel_->count = 1;
  WakeAgent(*channel_);
  const auto end = std::chrono::steady_clock::now() + agents_.limit();
  std::string how;
  while (!HasDied(&how)) {
    if (std::chrono::steady_clock::now() >= end)
      return base::Fail(base::Code::kExpectation, "the process does not exit");
    usleep(20);
  }
  return {};
}

// ---- all ----

base::Result<std::unique_ptr<Agents>> Agents::Create(std::chrono::milliseconds limit) {
#ifndef CKPT_AGENT
  return base::Fail(base::Code::kUnsupported, "the oracle's processes need x86-64");
#endif
  std::unique_ptr<Agents> agents(new Agents(limit));
  TRY_VOID(agents->Start());
  return agents;
}

Agents::~Agents() {
  first_.reset();
  for (const auto& [number, channel] : free_) munmap(channel, sizeof(Channel));
}

base::Result<void> Agents::Start() {
  RaiseLimit(RLIMIT_NOFILE);
  channels_ = base::Fd(memfd_create("ckpt-oracle", MFD_CLOEXEC));
  if (!channels_.is_open()) return base::FailErrno(errno, "make a memory file");
  if (ftruncate(channels_.get(), static_cast<off_t>(agent::kChannelsMax * agent::kChannelStride)) != 0)
    return base::FailErrno(errno, "make the oracle's channels");
  return StartFirst();
}

base::Result<void> Agents::StartFirst() {
  first_.reset();
  const base::Fd program(memfd_create("ckpt-oracle-agent", MFD_CLOEXEC));
  if (!program.is_open()) return base::FailErrno(errno, "make a memory file");
  TRY_VOID(WriteAll(program.get(), ckpt_agent_image,
                    static_cast<size_t>(ckpt_agent_image_end - ckpt_agent_image)));
  first_ = TRY(NewAgent());
  const pid_t pid = fork();
  if (pid < 0) return base::FailErrno(errno, "fork the oracle's process");
  if (pid == 0) ExecAgent(program.get(), channels_.get());
  first_->pid_ = pid;
  // Its first answer: that it is there.
  const auto started = first_->Run(0);
  if (started) return {};
  return base::Fail(base::Code::kIo, "start the oracle's first process: %s", started.error().what.c_str());
}

base::Result<std::unique_ptr<Agent>> Agents::Spawn() {
  if (first_->pid() == 0) TRY_VOID(StartFirst());
  auto spawned = Fork(*first_, Request::kFork);
  if (spawned || spawned.error().code != base::Code::kExpectation) return spawned;
  return base::Fail(base::Code::kIo, "make a process of the oracle: %s", spawned.error().what.c_str());
}

base::Result<std::unique_ptr<Agent>> Agents::NewAgent() {
  uint64_t number = used_;
  Channel* channel = nullptr;
  // The first of all is told no number: it serves channel 0.
  const auto zero = std::ranges::find(free_, uint64_t{0}, &std::pair<uint64_t, Channel*>::first);
  if (zero != free_.end()) std::swap(*zero, free_.back());
  if (!free_.empty()) {
    std::tie(number, channel) = free_.back();
    free_.pop_back();
  } else {
    if (used_ == agent::kChannelsMax)
      return base::Fail(base::Code::kTooBig, "more than %llu processes at a time",
                        static_cast<unsigned long long>(agent::kChannelsMax));
    void* mapped = mmap(nullptr, sizeof(Channel), PROT_READ | PROT_WRITE, MAP_SHARED, channels_.get(),
                        static_cast<off_t>(number * agent::kChannelStride));
    if (mapped == MAP_FAILED) return base::FailErrno(errno, "map a channel of the oracle");
    channel = static_cast<Channel*>(mapped);
    ++used_;
  }
  channel->turn = agent::kTool;
  channel->tool = getpid();
  return std::unique_ptr<Agent>(new Agent(*this, number, channel));
}

void Agents::Release(uint64_t number, Channel* channel) { free_.emplace_back(number, channel); }

base::Result<std::unique_ptr<Agent>> Agents::Fork(Agent& parent, Request::Op op) {
  std::unique_ptr<Agent> child = TRY(NewAgent());
  Request& request = parent.channel().requests[0];
  request.op = op;
  request.arg[0] = child->number_;
  request.arg[1] = stacks_++ % agent::kStacksMax;
  if (const auto forked = parent.Run(1); !forked) {
    child->lost_ = true;  // there may be a child of its own, with this channel
    return std::unexpected(forked.error());
  }
  // The model has its answer: memory and limits of this machine are none of a workload's.
  if (request.result < 0)
    return base::FailErrno(static_cast<int>(-request.result), "fork a process of the oracle");
  child->pid_ = static_cast<pid_t>(request.result);
  return child;
}

}  // namespace live
