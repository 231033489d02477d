#include "live/real_machine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "mm/follow_page.h"
#include "mm/peek.h"

namespace live {
namespace {

using agent::Request;
using workload::Answer;
using workload::Call;

constexpr size_t kWordBytes = 8;
constexpr uint64_t kSwapBytes = uint64_t{256} << 20;
constexpr uint64_t kLargeMapping = uint64_t{1} << 30;

// The answer of a request, as the model gives its own.
Answer AnswerOf(const Request& request) {
  Answer answer;
  answer.sig = static_cast<int>(request.signal);
  if (request.op != Request::kSyscall) {
    answer.value = request.address;
  } else if (request.result < 0) {
    answer.err = static_cast<int>(-request.result);
  } else {
    answer.value = static_cast<uint64_t>(request.result);
  }
  return answer;
}

base::Result<base::Fd> OpenMemory(pid_t pid) {
  const std::string path = base::Format("/proc/%d/mem", pid);
  base::Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.is_open()) return base::FailErrno(errno, "open %s", path.c_str());
  return fd;
}

base::Result<void> WriteTo(int fd, const std::byte* bytes, size_t length, uint64_t at, const char* what) {
  while (length > 0) {
    const ssize_t done = pwrite(fd, bytes, length, static_cast<off_t>(at));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return base::FailErrno(done == 0 ? EIO : errno, "write %s", what);
    bytes += done;
    at += static_cast<uint64_t>(done);
    length -= static_cast<size_t>(done);
  }
  return {};
}

// The first bytes of the file, as the model has them. A file of zeros stays a hole but for what was written.
base::Result<void> CopyContent(const mm::Machine& machine, const mm::File& file, int fd) {
  if (ftruncate(fd, static_cast<off_t>(file.i_size)) != 0)
    return base::FailErrno(errno, "make the oracle's files");
  mm::PageBytes buffer;
  const auto copy = [&](mm::Pgoff index) -> base::Result<void> {
    const auto page = mm::peek_file_page(machine, file, index, buffer);
    if (!page)
      return base::FailErrno(page.error().err, "read file '%s'", base::Printable(file.name()).c_str());
    const uint64_t at = index * base::kPageSize;
    if (page->kind != mm::Peeked::Kind::kBytes || at >= file.i_size) return {};
    return WriteTo(fd, page->bytes, std::min<uint64_t>(base::kPageSize, file.i_size - at), at,
                   "the oracle's files");
  };
  if (file.disk()->recipe().kind != mm::Recipe::Kind::kEmpty) {
    for (mm::Pgoff index = 0; index < base::PagesFor(file.i_size); ++index) TRY_VOID(copy(index));
  }
  return {};
}

}  // namespace

std::string DefaultScratch() {
  if (access("/dev/shm", W_OK | X_OK) == 0) return "/dev/shm";
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/tmp";
}

base::Result<std::unique_ptr<RealMachine>> RealMachine::Create(RealOptions options, AnsweredFn answered) {
  std::unique_ptr<RealMachine> real(new RealMachine(std::move(options), std::move(answered)));
  if (real->options_.scratch.empty()) real->options_.scratch = DefaultScratch();
  real->wanted_.resize(agent::kDataBytes);
  if (real->options_.swap) real->swap_.emplace(TRY(Zram::Make(kSwapBytes)));
  real->agents_ = TRY(Agents::Create(real->options_.limit));
  TRY_VOID(real->CheckForce());
  return real;
}

// ---- processes and files ----

base::Result<void> RealMachine::Begin(mm::Machine& machine) {
  asked_.clear();
  data_ = 0;
  processes_.clear();
  files_.clear();
  machine_ = &machine;
  for (const mm::FilePtr& file : machine.files()) TRY_VOID(AddFile(*file));
  for (const auto& [pid, process] : machine.processes()) TRY_VOID(NewProcess(*process));
  return {};
}

// With empty memory.
base::Result<void> RealMachine::NewProcess(const mm::Process& process) {
  TRY_VOID(Adopt(process.pid, TRY(agents_->Spawn())));
  for (const auto& [id, file] : files_) {
    if (file.number != 0) TRY_VOID(OpenFile(*processes_.at(process.pid).agent, file));
  }
  return SetLimits(process.pid, process.rlimit_fsize, process.rlimit_stack);
}

base::Result<void> RealMachine::Close() {
  processes_.clear();
  agents_.reset();
  return swap_ ? swap_->Remove() : base::Result<void>{};
}

// Some kernels can be told to let nobody look at what a process itself may not (proc_mem.force_override).
base::Result<void> RealMachine::CheckForce() {
  const std::unique_ptr<Agent> agent = TRY(agents_->Spawn());
  constexpr uint64_t kPlace = 0x10000000;
  TRY(Syscall(
      *agent, SYS_mmap,
      {kPlace, base::kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~uint64_t{0}, 0}));
  const auto memory = OpenMemory(agent->pid());
  if (!memory) return std::unexpected(memory.error());
  char byte = 1;
  if (pwrite(memory->get(), &byte, 1, kPlace) == 1 && pread(memory->get(), &byte, 1, kPlace) == 1) return {};
  return base::Fail(base::Code::kUnsupported,
                    "this kernel does not let memory be looked at that its process may not read itself "
                    "(proc_mem.force_override)");
}

base::Result<void> RealMachine::Adopt(mm::Pid pid, std::unique_ptr<Agent> agent) {
  const pid_t real = agent->pid();
  auto maps = Maps::Open(real, options_.maps);
  if (!maps) return std::unexpected(maps.error());
  auto pagemap = Pagemap::Open(real, options_.pagemap);
  if (!pagemap) return std::unexpected(pagemap.error());
  auto memory = OpenMemory(real);
  if (!memory) return std::unexpected(memory.error());
  RealProcess process{std::move(agent), *std::move(maps), *std::move(pagemap), *std::move(memory)};
  processes_.insert_or_assign(pid, std::move(process));
  return {};
}

base::Result<void> RealMachine::AddFile(const mm::File& file) {
  if (file.kind() == mm::FileKind::kShmem || files_.contains(file.id())) return {};
  base::Fd fd;
  if (file.kind() == mm::FileKind::kDevZero) {
    fd = base::Fd(open("/dev/zero", O_RDWR | O_CLOEXEC));
  } else {
    fd = base::Fd(open(options_.scratch.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  }
  if (!fd.is_open()) return base::FailErrno(errno, "make a file in '%s'", options_.scratch.c_str());
  if (file.kind() == mm::FileKind::kRegular) TRY_VOID(CopyContent(*machine_, file, fd.get()));
  const int number = FreeNumber();
  files_.emplace(file.id(), RealFile{std::move(fd), number});
  return {};
}

int RealMachine::FreeNumber() const {
  std::set<int> taken;
  for (const auto& [id, file] : files_) taken.insert(file.number);
  int number = agent::kFirstFile;
  while (taken.contains(number)) ++number;
  return number;
}

// The file has no name any more: nobody opens it again. It is compared for as long as it is mapped.
base::Result<void> RealMachine::DropFile(const mm::File& file) {
  RealFile& real = files_.at(file.id());
  for (auto& [pid, process] : processes_)
    TRY(Syscall(*process.agent, SYS_close, {static_cast<uint64_t>(real.number)}));
  real.number = 0;
  std::set<mm::FileId> alive;
  for (const mm::FilePtr& other : machine_->files()) alive.insert(other->id());
  std::erase_if(files_,
                [&](const auto& entry) { return entry.second.number == 0 && !alive.contains(entry.first); });
  return {};
}

base::Result<int64_t> RealMachine::Syscall(Agent& agent, uint32_t number, std::array<uint64_t, 6> args) {
  Request& request = agent.channel().requests[0];
  request.op = Request::kSyscall;
  request.number = number;
  std::ranges::copy(args, request.arg);
  TRY_VOID(agent.Run(1));
  return request.result;
}

base::Result<void> RealMachine::OpenFile(Agent& agent, const RealFile& file) {
  const std::string path = base::Format("/proc/%d/fd/%d", getpid(), file.fd.get());
  std::memcpy(agent.channel().data, path.c_str(), path.size() + 1);
  const int64_t fd =
      TRY(Syscall(agent, SYS_openat, {static_cast<uint64_t>(AT_FDCWD), agent.DataAddress(0), O_RDWR}));
  if (fd < 0)
    return base::FailErrno(static_cast<int>(-fd), "open %s in a process of the oracle", path.c_str());
  const auto number = static_cast<uint64_t>(file.number);
  if (static_cast<uint64_t>(fd) == number) return {};
  const int64_t moved = TRY(Syscall(agent, SYS_dup2, {static_cast<uint64_t>(fd), number}));
  TRY(Syscall(agent, SYS_close, {static_cast<uint64_t>(fd)}));
  if (moved < 0)
    return base::FailErrno(static_cast<int>(-moved), "open one more file in a process of the oracle");
  return {};
}

int RealMachine::FdOf(const mm::File& file) const {
  const auto found = files_.find(file.id());
  return found == files_.end() ? -1 : found->second.fd.get();
}

base::Result<uint64_t> RealMachine::AgentFd(const mm::File& file) {
  const auto found = files_.find(file.id());
  if (found != files_.end()) return static_cast<uint64_t>(found->second.number);
  return base::Fail(base::Code::kUnsupported, "the oracle has no file '%s'",
                    base::Printable(file.name()).c_str());
}

base::Result<void> RealMachine::SetLimits(mm::Pid pid, uint64_t fsize, uint64_t stack) {
  const pid_t real = processes_.at(pid).agent->pid();
  for (const auto& [resource, bytes] : {std::pair(RLIMIT_FSIZE, fsize), std::pair(RLIMIT_STACK, stack)}) {
    rlimit limit;
    if (prlimit(real, resource, nullptr, &limit) != 0) return base::FailErrno(errno, "look at a limit");
    limit.rlim_cur = std::min<uint64_t>(bytes, limit.rlim_max);
    if (prlimit(real, resource, &limit, nullptr) != 0) return base::FailErrno(errno, "set a limit");
    if (limit.rlim_cur != bytes)
      return base::Fail(base::Code::kUnsupported,
                        "this process may not raise the limit on %s as far as the workload does",
                        resource == RLIMIT_FSIZE ? "files" : "stacks");
  }
  return {};
}

// ---- calls ----

base::Result<void> RealMachine::Flush() {
  if (asked_.empty()) return {};
  const std::vector<Asked> asked = std::exchange(asked_, {});
  data_ = 0;
  Agent& agent = *processes_.at(asking_).agent;
  TRY_VOID(agent.Run(static_cast<uint32_t>(asked.size())));
  for (size_t i = 0; i < asked.size(); ++i) TRY_VOID(Answered(asked[i], agent.channel().requests[i]));
  return {};
}

base::Result<void> RealMachine::Answered(const Asked& asked, const Request& request) {
  if (asked.probe && request.result < 0) return {};
  Call call = asked.call;
  if (!call.bytes.empty()) call.bytes = std::span(wanted_).subspan(asked.data, call.bytes.size());
  const unsigned char* data = processes_.at(asking_).agent->channel().data + asked.data;
  const bool reads = call.op == Call::Op::kLoad || call.op == Call::Op::kPread;
  return answered_(asking_, call, AnswerOf(request),
                   std::as_bytes(std::span(data, reads ? call.bytes.size() : 0)));
}

base::Result<void> RealMachine::Gather(const Call& call, Request request, size_t bytes, unsigned data_arg,
                                       bool probe) {
  const size_t room = (bytes + kWordBytes - 1) / kWordBytes * kWordBytes;
  CHECK(room <= agent::kDataBytes);
  if (asked_.size() == agent::kRequestsMax || data_ + room > agent::kDataBytes) TRY_VOID(Flush());
  Agent& agent = *processes_.at(asking_).agent;
  if (bytes > 0) {
    CHECK(call.bytes.size() == bytes);
    request.arg[data_arg] = agent.DataAddress(data_);
    std::memcpy(wanted_.data() + data_, call.bytes.data(), bytes);
    if (call.op == Call::Op::kStore || call.op == Call::Op::kPwrite)
      std::memcpy(agent.channel().data + data_, call.bytes.data(), bytes);
  }
  agent.channel().requests[asked_.size()] = request;
  asked_.push_back({call, data_, probe});
  data_ += room;
  return {};
}

base::Result<void> RealMachine::GatherSyscall(const Call& call, uint32_t number, std::array<uint64_t, 6> args,
                                              bool probe) {
  Request request{};
  request.op = Request::kSyscall;
  request.number = number;
  std::ranges::copy(args, request.arg);
  return Gather(call, request, 0, 0, probe);
}

base::Result<void> RealMachine::Do(mm::Pid pid, const Call& call) {
  using Op = Call::Op;
  if (asking_ != pid) TRY_VOID(Flush());
  asking_ = pid;
  switch (call.op) {
    case Op::kMmap: return DoMmap(call);
    case Op::kMremap: return DoMremap(call);
    case Op::kBrk: return DoBrk(call);
    case Op::kLoad:
    case Op::kStore:
    case Op::kTouch: return DoAccess(call);
    case Op::kPread:
    case Op::kPwrite:
    case Op::kFtruncate:
    case Op::kPunchHole:
    case Op::kFsync: return DoFile(call);
    case Op::kMlockall: return GatherSyscall(call, SYS_mlockall, {call.args[0]});
    case Op::kMunlockall: return GatherSyscall(call, SYS_munlockall, {});
    case Op::kFork:
    case Op::kCloneVm:
    case Op::kExit:
    case Op::kExec:
    case Op::kSetrlimit:
    case Op::kGetUserPages:
    case Op::kUnlink:
    case Op::kCreate: break;
    default: return DoRange(call);
  }
  TRY_VOID(Flush());
  if (call.op == Op::kFork || call.op == Op::kCloneVm) return DoFork(pid, call);
  if (call.op == Op::kExec) return DoExec(pid);
  if (call.op == Op::kSetrlimit) return SetLimits(pid, call.args[0], call.args[1]);
  if (call.op == Op::kGetUserPages) return DoGetUserPages(pid, call);
  if (call.op == Op::kUnlink) return DropFile(*call.file);
  if (call.op == Op::kCreate) {
    TRY_VOID(AddFile(*call.file));
    for (auto& [other, process] : processes_) TRY_VOID(OpenFile(*process.agent, files_.at(call.file->id())));
    return {};
  }
  TRY_VOID(processes_.at(pid).agent->Exit());
  processes_.erase(pid);
  return {};
}

// [addr, addr + length) must leave the agent alone.
static base::Result<void> CheckPlace(uint64_t addr, uint64_t length) {
  if (addr >= agent::kAgentEnd || addr + std::min(length, ~addr) <= agent::kAgentBase) return {};
  return base::Fail(
      base::Code::kUnsupported, "%#llx-%#llx is not to be had: the oracle's own program lies at %#llx-%#llx",
      static_cast<unsigned long long>(addr), static_cast<unsigned long long>(addr + length),
      static_cast<unsigned long long>(agent::kAgentBase), static_cast<unsigned long long>(agent::kAgentEnd));
}

base::Result<void> RealMachine::DoRange(const Call& call) {
  using Op = Call::Op;
  const auto& [addr, length, a, b, c, d] = call.args;
  TRY_VOID(CheckPlace(addr, length));
  switch (call.op) {
    case Op::kMunmap: return GatherSyscall(call, SYS_munmap, {addr, length});
    case Op::kMprotect: return GatherSyscall(call, SYS_mprotect, {addr, length, a});
    case Op::kMadvise: return GatherSyscall(call, SYS_madvise, {addr, length, a});
    case Op::kMsync: return GatherSyscall(call, SYS_msync, {addr, length, a});
    case Op::kRemapFilePages: return GatherSyscall(call, SYS_remap_file_pages, {addr, length, a, b, c});
    case Op::kMlock: return GatherSyscall(call, SYS_mlock, {addr, length});
    case Op::kMunlock: return GatherSyscall(call, SYS_munlock, {addr, length});
    default: break;
  }
  CHECK_MSG(false, "a call that the oracle does not know");
  return {};
}

base::Result<void> RealMachine::DoMmap(const Call& call) {
  auto [addr, length, prot, flags, unused, offset] = call.args;
  TRY_VOID(CheckPlace(addr, length));
  // Address space without memory behind it, as in the model: where the kernel would not believe it.
  if ((flags & MAP_SHARED) == 0 && length >= kLargeMapping) flags |= MAP_NORESERVE;
  if (call.answer.ok() && (flags & MAP_FIXED) == 0) {
    addr = call.answer.value;
    flags |= MAP_FIXED_NOREPLACE;
  }
  const uint64_t fd = call.file == nullptr ? ~uint64_t{0} : TRY(AgentFd(*call.file));
  return GatherSyscall(call, SYS_mmap, {addr, length, prot, flags, fd, offset});
}

base::Result<void> RealMachine::DoMremap(const Call& call) {
  auto [addr, old_length, new_length, flags, to, unused] = call.args;
  TRY_VOID(CheckPlace(addr, old_length));
  if ((flags & MREMAP_FIXED) != 0) TRY_VOID(CheckPlace(to, new_length));
  if (call.answer.ok() && (flags & MREMAP_FIXED) == 0 && call.answer.value != addr) {
    TRY_VOID(GatherSyscall(call, SYS_mremap,
                           {addr, old_length, new_length, flags & ~uint64_t{MREMAP_MAYMOVE}, 0}, true));
    flags |= MREMAP_FIXED;
    to = call.answer.value;
  }
  return GatherSyscall(call, SYS_mremap, {addr, old_length, new_length, flags, to});
}

base::Result<void> RealMachine::DoBrk(const Call& call) {
  const auto [now, wanted] = std::pair(base::PageAlignUp(call.args[0]), base::PageAlignUp(call.args[1]));
  if (now == wanted) return {};
  Call mapping = call;  // the answer is mmap's, at the place where the break was
  mapping.answer.value = wanted > now ? now : 0;
  uint64_t length = wanted - now;
  if (call.answer.value != call.args[1]) {
    // Refused for what stands in its way, up to a page behind it; or for a reason that mmap has not.
    length += base::kPageSize;
    if (wanted < now || wanted + base::kPageSize > mm::TASK_SIZE) return {};
    mapping.answer = {.err = EEXIST};
  } else if (wanted < now) {
    return GatherSyscall(mapping, SYS_munmap, {wanted, now - wanted});
  }
  return GatherSyscall(mapping, SYS_mmap,
                       {now, length, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, ~uint64_t{0}, 0});
}

base::Result<void> RealMachine::DoAccess(const Call& call) {
  const uint64_t addr = call.args[0];
  const uint64_t length = call.args[1];
  TRY_VOID(CheckPlace(addr, length));
  Request request{};
  request.op = Request::kCopy;
  request.arg[2] = length;
  if (call.op == Call::Op::kTouch) {
    request = {.op = Request::kTouch,
               .number = 0,
               .arg = {addr, length, call.args[2]},
               .result = 0,
               .signal = 0,
               .unused = 0,
               .address = 0};
    return Gather(call, request);
  }
  const bool store = call.op == Call::Op::kStore;
  request.arg[store ? 0 : 1] = addr;
  return Gather(call, request, call.bytes.size(), store ? 1 : 0);
}

base::Result<void> RealMachine::DoFile(const Call& call) {
  const uint64_t fd = TRY(AgentFd(*call.file));
  const uint64_t first = call.args[0];
  const uint64_t second = call.args[1];
  Request request{};
  request.op = Request::kSyscall;
  switch (call.op) {
    case Call::Op::kFtruncate: return GatherSyscall(call, SYS_ftruncate, {fd, first});
    case Call::Op::kFsync: return GatherSyscall(call, SYS_fsync, {fd});
    case Call::Op::kPunchHole:
      return GatherSyscall(call, SYS_fallocate,
                           {fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first, second});
    default: break;
  }
  request.number = call.op == Call::Op::kPread ? SYS_pread64 : SYS_pwrite64;
  request.arg[0] = fd;
  request.arg[2] = second;
  request.arg[3] = first;
  return Gather(call, request, call.bytes.size(), 1);
}

base::Result<void> RealMachine::DoFork(mm::Pid pid, const Call& call) {
  if (!call.answer.ok()) {
    return base::Fail(base::Code::kUnsupported, "the model has no memory for a fork; give its machine more");
  }
  const auto op = call.op == Call::Op::kFork ? Request::kFork : Request::kCloneVm;
  return Adopt(static_cast<mm::Pid>(call.args[0]), TRY(agents_->Fork(*processes_.at(pid).agent, op)));
}

// As the model's memory is now: each vma with what is modified in it.
base::Result<void> RealMachine::DoExec(mm::Pid pid) {
  for (const mm::FilePtr& file : machine_->files()) {
    if (file->kind() == mm::FileKind::kShmem || files_.contains(file->id())) continue;
    TRY_VOID(AddFile(*file));
    for (auto& [other, process] : processes_) TRY_VOID(OpenFile(*process.agent, files_.at(file->id())));
  }
  // Not the same process with empty memory: others may have that too.
  TRY_VOID(NewProcess(*machine_->find_process(pid)));
  RealProcess& process = processes_.at(pid);
  for (const auto& [start, vma] : machine_->find_process(pid)->mm->vmas()) {
    if (vma->special != mm::Special::kNone) continue;
    const auto copied = CopyVma(*process.agent, *vma);
    if (!copied) return std::unexpected(copied.error().In("copy what exec made"));
    mm::PageBytes buffer;
    for (mm::Vaddr at = vma->start; at < vma->end;) {
      const mm::DirtyRun run = mm::next_dirty_run(*vma, at, vma->end, 1);
      if (run.pages == 0) break;
      const auto page = mm::peek_page(*vma, run.start, buffer);
      if (!page) return base::FailErrno(page.error().err, "read what exec made");
      TRY_VOID(WriteTo(process.memory.get(), page->bytes, base::kPageSize, run.start, "what exec made"));
      at = run.start + base::kPageSize;
    }
  }
  return {};
}

base::Result<void> RealMachine::CopyVma(Agent& agent, const mm::Vma& vma) {
  const uint64_t prot = vma.flags & mm::VM_ACCESS_FLAGS;
  static_assert(mm::VM_READ == PROT_READ && mm::VM_WRITE == PROT_WRITE && mm::VM_EXEC == PROT_EXEC);
  uint64_t flags = MAP_FIXED_NOREPLACE | (vma.is_shared() ? MAP_SHARED : MAP_PRIVATE);
  uint64_t fd = ~uint64_t{0};
  if (vma.file != nullptr) fd = TRY(AgentFd(*vma.file));
  if (vma.file == nullptr) flags |= MAP_ANONYMOUS;
  if ((vma.flags & mm::VM_GROWSDOWN) != 0) flags |= MAP_GROWSDOWN;
  const int64_t mapped = TRY(Syscall(agent, SYS_mmap,
                                     {vma.start, vma.end - vma.start, prot, flags, fd,
                                      vma.file == nullptr ? 0 : vma.pgoff * base::kPageSize}));
  if (mapped == static_cast<int64_t>(vma.start)) return {};
  return base::FailErrno(static_cast<int>(mapped < 0 ? -mapped : EEXIST), "map %#llx-%#llx",
                         static_cast<unsigned long long>(vma.start),
                         static_cast<unsigned long long>(vma.end));
}

base::Result<void> RealMachine::DoGetUserPages(mm::Pid pid, const Call& call) {
  const auto [addr, length, write, force, unused, unused2] = call.args;
  TRY_VOID(CheckPlace(addr, length));
  const RealProcess& process = processes_.at(pid);
  std::vector<std::byte> bytes(call.bytes.begin(), call.bytes.end());
  bytes.resize(length);
  const iovec here = {bytes.data(), bytes.size()};
  const iovec there = {reinterpret_cast<void*>(addr), bytes.size()};
  ssize_t done;
  if (force != 0) {
    const auto at = static_cast<off_t>(addr);
    done = write != 0 ? pwrite(process.memory.get(), bytes.data(), length, at)
                      : pread(process.memory.get(), bytes.data(), length, at);
  } else {
    done = write != 0 ? process_vm_writev(process.agent->pid(), &here, 1, &there, 1, 0)
                      : process_vm_readv(process.agent->pid(), &here, 1, &there, 1, 0);
  }
  Answer answer;
  if (done < 0) answer.err = force != 0 && errno == EIO ? EFAULT : errno;
  if (done >= 0 && static_cast<uint64_t>(done) != length) answer.err = EFAULT;
  return answered_(pid, call, answer, write != 0 || !answer.ok() ? std::span<const std::byte>() : bytes);
}

}  // namespace live
