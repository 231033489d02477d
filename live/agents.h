// Agents: empty processes that do what they are asked (agent/protocol.h): the oracle's side.
//
// They are children of the thread that made the pool, which must outlive it. Their address spaces hold
// nothing but the agent itself, without huge pages. They die with the pool, and with the tool.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "live/agent/protocol.h"

namespace live {

class Agents;

class Agent {
 public:
  ~Agent();  // kills it, if it is still there
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  pid_t pid() const { return pid_; }
  agent::Channel& channel() { return *channel_; }
  // Where the agent itself sees a byte of its channel's data.
  uint64_t DataAddress(size_t offset) const;

  // Has it do the channel's requests [0, count), and waits. kExpectation: it died of a signal, or did not
  // come to an end in time (and was killed then).
  base::Result<void> Run(uint32_t count);
  // Ends it, and waits for that.
  base::Result<void> Exit();

 private:
  friend class Agents;
  Agent(Agents& agents, uint64_t number, agent::Channel* channel)
      : agents_(agents), number_(number), channel_(channel) {}
  base::Result<void> Wait();
  bool HasDied(std::string* how);

  void Kill();

  Agents& agents_;
  uint64_t number_;
  agent::Channel* channel_;
  pid_t pid_ = 0;      // 0: it is gone
  bool lost_ = false;  // somebody else may have the channel
};

class Agents {
 public:
  // Starts the first, from which the others are forked. `limit`: how long requests may take. kUnsupported on
  // another machine than x86-64.
  static base::Result<std::unique_ptr<Agents>> Create(std::chrono::milliseconds limit);
  ~Agents();
  Agents(const Agents&) = delete;
  Agents& operator=(const Agents&) = delete;

  // One with empty memory.
  base::Result<std::unique_ptr<Agent>> Spawn();
  // fork or clone(CLONE_VM) by `parent`. kExpectation: as Run; kIo: this machine has no room for it.
  base::Result<std::unique_ptr<Agent>> Fork(Agent& parent, agent::Request::Op op);

  std::chrono::milliseconds limit() const { return limit_; }

 private:
  friend class Agent;
  explicit Agents(std::chrono::milliseconds limit) : limit_(limit) {}
  base::Result<void> Start();
  base::Result<void> StartFirst();
  base::Result<std::unique_ptr<Agent>> NewAgent();
  void Release(uint64_t number, agent::Channel* channel);

  std::chrono::milliseconds limit_;
  base::Fd channels_;
  uint64_t used_ = 0;    // numbers below were given away once
  uint64_t stacks_ = 0;  // the same of stacks, all of them
  std::vector<std::pair<uint64_t, agent::Channel*>> free_;
  std::unique_ptr<Agent> first_;
};

}  // namespace live
