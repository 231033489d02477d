// What the oracle and its processes say to each other: requests in shared memory, and a futex that says whose
// turn it is.
//
// A process of the oracle is this program and nothing else (agent.cc): it lies at kAgentBase, where the model
// maps nothing, has unmapped all else that the kernel gave it, and does what it is asked. Each process has a
// channel of its own, in one memory file, at an address of its own: processes made with CLONE_VM see each
// other's.
//
// Included by a program without a library: nothing here may need one.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace live::agent {

inline constexpr uint64_t kAgentBase = 0x100000000000;
inline constexpr uint64_t kAgentEnd = kAgentBase + (uint64_t{1} << 40);    // program, stacks and channels
inline constexpr uint64_t kStacksBase = kAgentBase + (uint64_t{1} << 32);  // of processes made with CLONE_VM
inline constexpr uint64_t kChannelsBase = kAgentBase + (uint64_t{1} << 38);

// File descriptors that a process starts with: the memory file of the channels, and a closed range for files.
inline constexpr int kChannelFd = 3;
inline constexpr int kFirstFile = 16;

struct Request {
  enum Op : uint32_t {
    kSyscall,  // number, six arguments; the result is the kernel's
    kCopy,     // to, from, bytes; 0 or 1: did not end well
    kTouch,    // addr, bytes, whether by writing (adds nothing to the first byte of each page)
    kFork,     // the number of the child's channel; the result is its pid
    kCloneVm,  // the same, and the number of its stack
    kExit,
  };
  uint32_t op;
  uint32_t number;  // kSyscall
  uint64_t arg[6];
  int64_t result;
  // A signal that came meanwhile, or 0; and the address that could not be accessed.
  uint32_t signal;
  uint32_t unused;
  uint64_t address;
};

// Of channels, and so of processes at a time.
inline constexpr uint64_t kChannelsMax = 100'000;
inline constexpr size_t kRequestsMax = 256;
inline constexpr size_t kDataBytes = 320 * 1024;
inline constexpr size_t kStackBytes = 16 * 1024;

enum Turn : uint32_t { kTool, kAgent };

// At a multiple of kChannelStride in the memory file.
struct Channel {
  uint32_t turn;
  uint32_t count;  // of requests, which are done in order
  int32_t tool;    // its pid: an agent whose parent is another has been left alone
  int32_t unused;
  Request requests[kRequestsMax];
  alignas(4096) unsigned char data[kDataBytes];
};
inline constexpr uint64_t kChannelStride = uint64_t{1} << 20;
static_assert(sizeof(Channel) <= kChannelStride);

// A child runs on a copy of its parent's stack: the number of a channel that is free again says nothing of
// stacks.
inline constexpr uint64_t kStacksMax = (kChannelsBase - kStacksBase) / kStackBytes;
static_assert(kChannelsBase + kChannelsMax * kChannelStride <= kAgentEnd);

constexpr uint64_t ChannelAddress(uint64_t number) { return kChannelsBase + number * kChannelStride; }

}  // namespace live::agent
