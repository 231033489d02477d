// A process of the oracle (protocol.h): no library, no memory but its own, and it does what it is asked.
// x86-64.
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>

#include "live/agent/protocol.h"

namespace {

using live::agent::Channel;
using live::agent::Request;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kTaskSize = 0x7ffffffff000;

int64_t Syscall(uint64_t number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0,
                uint64_t e = 0, uint64_t f = 0) {
  int64_t result;
  register uint64_t r10 asm("r10") = d;
  register uint64_t r8 asm("r8") = e;
  register uint64_t r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// ---- accesses that may fault ----

// The bytes that may fault lie between the two labels. The handler goes on behind the second, with 1.
#pragma GCC visibility push(hidden)  // no table of addresses
extern "C" {
uint64_t agent_copy(uint64_t to, uint64_t from, uint64_t bytes);
uint64_t agent_read(uint64_t at);
uint64_t agent_write(uint64_t at);
extern char agent_may_fault[], agent_may_fault_end[], agent_faulted[];
void agent_start();
void agent_restore();
[[noreturn]] void agent_main();
[[noreturn]] void agent_serve(uint64_t number);
// The same from the top of the stack again: a child of a child of a child would run out of it.
[[noreturn]] void agent_serve_afresh(uint64_t number);
}
#pragma GCC visibility pop

asm(R"(
    .text
    .globl agent_copy, agent_read, agent_write, agent_may_fault, agent_may_fault_end, agent_faulted
    .globl agent_start, agent_restore, agent_serve_afresh
agent_copy:
    mov %rdx, %rcx
agent_may_fault:
    rep movsb
    jmp 1f
agent_read:
    mov (%rdi), %al
    jmp 1f
agent_write:
    lock orb $0, (%rdi)
agent_may_fault_end:
1:  xor %eax, %eax
    ret
agent_faulted:
    mov $1, %eax
    ret
agent_restore:
    mov $15, %eax
    syscall
agent_start:
    lea agent_stack_end(%rip), %rsp
    call agent_main
agent_serve_afresh:
    or $16383, %rsp
    sub $15, %rsp
    call agent_serve
    .bss
    .balign 16384
    .skip 16384
agent_stack_end:
    .text
)");

// The kernel's frame of a handler, as far as it is used here.
struct Context {
  uint64_t flags, link, stack[3];
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
};

// Processes that share an address space do nothing at the same time: one is asked, and answers, then the
// next.
struct Fault {
  int signal;
  uint64_t address;
} g_fault;

void Handle(int signal, siginfo_t* info, Context* context) {
  g_fault.signal = signal;
  g_fault.address = reinterpret_cast<uint64_t>(info->_sifields._sigfault._addr);
  if (signal == SIGXFSZ) return;
  const auto first = reinterpret_cast<uint64_t>(agent_may_fault);
  const auto end = reinterpret_cast<uint64_t>(agent_may_fault_end);
  if (context->rip < first || context->rip >= end) Syscall(__NR_exit_group, 97);
  context->rip = reinterpret_cast<uint64_t>(agent_faulted);
}

void CatchSignals() {
  struct {
    void (*handler)(int, siginfo_t*, Context*);
    uint64_t flags;
    void (*restorer)();
    uint64_t mask;
  } action = {Handle, SA_SIGINFO | SA_RESTORER, agent_restore, 0};
  constexpr uint64_t kSignals[] = {SIGSEGV, SIGBUS, SIGXFSZ};
  for (const uint64_t signal : kSignals)
    Syscall(__NR_rt_sigaction, signal, reinterpret_cast<uint64_t>(&action), 0, 8);
}

// ---- the loop ----

Channel* ChannelAt(uint64_t number) {
  return reinterpret_cast<Channel*>(live::agent::ChannelAddress(number));
}

void Map(uint64_t at, uint64_t bytes, uint64_t flags, uint64_t fd, uint64_t offset) {
  if (Syscall(__NR_mmap, at, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, offset) < 0)
    Syscall(__NR_exit_group, 98);
}

void MapChannel(uint64_t number) {
  Map(live::agent::ChannelAddress(number), (sizeof(Channel) + kPage - 1) / kPage * kPage, MAP_SHARED,
      live::agent::kChannelFd, number * live::agent::kChannelStride);
}

// All but this program goes: what exec has mapped.
void UnmapOthers() {
  Syscall(__NR_munmap, 0, live::agent::kAgentBase);
  Syscall(__NR_munmap, live::agent::kAgentEnd, kTaskSize - live::agent::kAgentEnd);
}

void Touch(Request& request) {
  const uint64_t end = request.arg[0] + request.arg[1];
  for (uint64_t at = request.arg[0]; at < end; at = at / kPage * kPage + kPage) {
    if ((request.arg[2] != 0 ? agent_write(at) : agent_read(at)) == 0) continue;
    request.result = 1;
    return;
  }
}

// The child never comes back from here.
void Fork(Request& request, uint64_t flags) {
  const uint64_t number = request.arg[0];
  if ((flags & CLONE_VM) == 0) {
    const int64_t child = Syscall(__NR_clone, flags | CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (child != 0) {
      request.result = child;  // which the child, who sees the same channel, leaves alone
      return;
    }
    Syscall(__NR_munmap, live::agent::kChannelsBase, live::agent::kAgentEnd - live::agent::kChannelsBase);
    MapChannel(number);
    agent_serve_afresh(number);
  }
  MapChannel(number);
  // The child begins on an empty stack, with nothing but its number.
  const uint64_t stack_start = live::agent::kStacksBase + request.arg[1] * live::agent::kStackBytes;
  Map(stack_start, live::agent::kStackBytes, MAP_PRIVATE | MAP_ANONYMOUS, ~uint64_t{0}, 0);
  const uint64_t stack = stack_start + live::agent::kStackBytes - 16;
  int64_t result;
  register uint64_t r10 asm("r10") = 0;
  register uint64_t r8 asm("r8") = 0;
  asm volatile(
      "syscall\n"
      "test %%rax, %%rax\n"
      "jnz 1f\n"
      "mov %[number], %%rdi\n"
      "call *%[start]\n"
      "1:"
      : "=a"(result)
      : "a"(__NR_clone), "D"(flags | CLONE_PARENT | SIGCHLD), "S"(stack), "d"(0), "r"(r10),
        "r"(r8), [number] "r"(number), [start] "r"(agent_serve)
      : "rcx", "r11", "memory");
  request.result = result;
}

void Do(Request& request) {
  g_fault = {};
  request.result = 0;
  const uint64_t* arg = request.arg;
  switch (request.op) {
    case Request::kSyscall:
      request.result = Syscall(request.number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
      break;
    case Request::kCopy: request.result = static_cast<int64_t>(agent_copy(arg[0], arg[1], arg[2])); break;
    case Request::kTouch: Touch(request); break;
    case Request::kFork: Fork(request, 0); break;
    case Request::kCloneVm: Fork(request, CLONE_VM); break;
    default: Syscall(__NR_exit_group, 0);
  }
  request.signal = static_cast<uint32_t>(g_fault.signal);
  request.address = g_fault.address;
}

}  // namespace

extern "C" void agent_serve(uint64_t number) {
  Channel* channel = ChannelAt(number);
  // The tool may have gone before this.
  Syscall(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (Syscall(__NR_getppid) != channel->tool) Syscall(__NR_exit_group, 94);
  for (;;) {
    while (__atomic_load_n(&channel->turn, __ATOMIC_ACQUIRE) != live::agent::kAgent) {
      Syscall(__NR_futex, reinterpret_cast<uint64_t>(&channel->turn), FUTEX_WAIT, live::agent::kTool);
    }
    for (uint32_t i = 0; i < channel->count; ++i) Do(channel->requests[i]);
    __atomic_store_n(&channel->turn, live::agent::kTool, __ATOMIC_RELEASE);
    Syscall(__NR_futex, reinterpret_cast<uint64_t>(&channel->turn), FUTEX_WAKE, 1);
  }
}

// The first process of all, whose memory is empty: the others are forked from it.
extern "C" void agent_main() {
  UnmapOthers();
  constexpr uint64_t kPrSetMemoryMerge = 67;  // KSM; older kernels do not know it
  if (Syscall(__NR_prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) Syscall(__NR_exit_group, 95);
  Syscall(__NR_prctl, kPrSetMemoryMerge, 0, 0, 0, 0);
  CatchSignals();
  MapChannel(0);
  agent_serve(0);
}
