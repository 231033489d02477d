// Agents: processes with nothing in them that do what they are asked, and whose end is noticed.
#include "live/agents.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstring>

#include "live/maps.h"

namespace live {
namespace {

using agent::Request;

constexpr uint64_t kPlace = 0x20000000;

class AgentsTest : public testing::Test {
 protected:
  AgentsTest() : agents_(Agents::Create(std::chrono::milliseconds(10'000)).value()) {}

  static Request Syscall(uint32_t number, std::array<uint64_t, 6> args) {
    Request request{};
    request.op = Request::kSyscall;
    request.number = number;
    std::ranges::copy(args, request.arg);
    return request;
  }
  static Request Copy(uint64_t to, uint64_t from, uint64_t bytes) {
    Request request{};
    request.op = Request::kCopy;
    request.arg[0] = to;
    request.arg[1] = from;
    request.arg[2] = bytes;
    return request;
  }
  static Request Map(uint64_t addr, uint64_t bytes, int prot) {
    return Syscall(SYS_mmap, {addr, bytes, static_cast<uint64_t>(prot),
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~uint64_t{0}, 0});
  }
  // One request; what came of it.
  static Request Ask(Agent& agent, const Request& request) {
    agent.channel().requests[0] = request;
    EXPECT_TRUE(agent.Run(1).has_value());
    return agent.channel().requests[0];
  }
  static void Store(Agent& agent, uint64_t addr, std::string_view text) {
    std::memcpy(agent.channel().data, text.data(), text.size());
    EXPECT_EQ(Ask(agent, Copy(addr, agent.DataAddress(0), text.size())).result, 0);
  }
  static std::string Load(Agent& agent, uint64_t addr, size_t bytes) {
    EXPECT_EQ(Ask(agent, Copy(agent.DataAddress(0), addr, bytes)).result, 0);
    return {reinterpret_cast<const char*>(agent.channel().data), bytes};
  }

  std::unique_ptr<Agents> agents_;
};

TEST_F(AgentsTest, HaveNothingButThemselves) {
  const auto agent = agents_->Spawn().value();
  auto maps = Maps::Open(agent->pid(), Maps::Interface::kText);
  ASSERT_TRUE(maps.has_value());
  std::vector<LiveVma> vmas;
  ASSERT_TRUE(maps->Read(0, 0x7ffffffff000, &vmas).has_value());
  ASSERT_FALSE(vmas.empty());
  for (const LiveVma& vma : vmas) {
    EXPECT_GE(vma.start, agent::kAgentBase);
    EXPECT_LE(vma.end, agent::kAgentEnd);
  }
}

TEST_F(AgentsTest, DoManyRequestsInOrder) {
  const auto agent = agents_->Spawn().value();
  agent::Channel& channel = agent->channel();
  channel.requests[0] = Map(kPlace, 8192, PROT_READ | PROT_WRITE);
  std::memcpy(channel.data, "abcdef", 6);
  channel.requests[1] = Copy(kPlace + 4094, agent->DataAddress(0), 6);
  channel.requests[2] = Copy(agent->DataAddress(100), kPlace + 4096, 4);
  ASSERT_TRUE(agent->Run(3).has_value());
  EXPECT_EQ(channel.requests[0].result, static_cast<int64_t>(kPlace));
  EXPECT_EQ(channel.requests[1].result, 0);
  EXPECT_EQ(std::memcmp(channel.data + 100, "cdef", 4), 0);
}

TEST_F(AgentsTest, FaultsAreAnswers) {
  const auto agent = agents_->Spawn().value();
  const Request nothing = Ask(*agent, Copy(kPlace + 5, agent->DataAddress(0), 8));
  EXPECT_EQ(nothing.result, 1);
  EXPECT_EQ(nothing.signal, static_cast<uint32_t>(SIGSEGV));
  EXPECT_EQ(nothing.address, kPlace + 5);
  Ask(*agent, Map(kPlace, 4096, PROT_READ));
  EXPECT_EQ(Load(*agent, kPlace, 3), std::string(3, '\0'));
  Request touch{};
  touch.op = Request::kTouch;
  touch.arg[0] = kPlace + 10;
  touch.arg[1] = 8192;
  const Request second = Ask(*agent, touch);
  EXPECT_EQ(second.address, kPlace + 4096);  // the first page can be read, the next is not there
  touch.arg[2] = 1;
  EXPECT_EQ(Ask(*agent, touch).address, kPlace + 10);
  EXPECT_EQ(Ask(*agent, Copy(agent->DataAddress(0), kPlace, 4)).signal, 0u) << "it goes on";
}

TEST_F(AgentsTest, ForkCopiesAndCloneShares) {
  const auto parent = agents_->Spawn().value();
  Ask(*parent, Map(kPlace, 4096, PROT_READ | PROT_WRITE));
  Store(*parent, kPlace, "before");
  const auto child = agents_->Fork(*parent, Request::kFork).value();
  const auto thread = agents_->Fork(*parent, Request::kCloneVm).value();
  Store(*parent, kPlace, "parent");
  EXPECT_EQ(Load(*child, kPlace, 6), "before");
  EXPECT_EQ(Load(*thread, kPlace, 6), "parent");
  Store(*thread, kPlace, "thread");
  EXPECT_EQ(Load(*parent, kPlace, 6), "thread");
}

// A child of a clone runs on a copy of the clone's stack: the next clone, which gets the same channel, must
// not.
TEST_F(AgentsTest, NumbersThatAreFreeAgainAreUsedAgain) {
  auto first = agents_->Spawn().value();
  for (int i = 0; i < 20; ++i) {
    auto thread = agents_->Fork(*first, Request::kCloneVm).value();
    auto child = agents_->Fork(*thread, Request::kFork).value();
    ASSERT_TRUE(thread->Exit().has_value());
    thread.reset();
    const auto again = agents_->Fork(*child, Request::kCloneVm).value();
    ASSERT_EQ(Ask(*child, Map(kPlace, 4096, PROT_READ | PROT_WRITE)).result, static_cast<int64_t>(kPlace));
    Store(*child, kPlace, "child");
    EXPECT_EQ(Load(*again, kPlace, 5), "child");
    first = std::move(child);
  }
}

TEST_F(AgentsTest, ADeathIsNoticed) {
  const auto agent = agents_->Spawn().value();
  agent->channel().requests[0] = Syscall(SYS_kill, {static_cast<uint64_t>(agent->pid()), SIGKILL});
  const auto died = agent->Run(1);
  ASSERT_FALSE(died.has_value());
  EXPECT_EQ(died.error().code, base::Code::kExpectation);
  EXPECT_NE(died.error().what.find("died of signal 9"), std::string::npos) << died.error().what;
}

TEST_F(AgentsTest, AHangIsNoticed) {
  const auto agents = Agents::Create(std::chrono::milliseconds(1500)).value();
  const auto agent = agents->Spawn().value();
  agent->channel().requests[0] = Syscall(SYS_pause, {});
  const auto hangs = agent->Run(1);
  ASSERT_FALSE(hangs.has_value());
  EXPECT_EQ(hangs.error().code, base::Code::kExpectation);
  EXPECT_NE(hangs.error().what.find("did not come to an end in 1500 ms"), std::string::npos)
      << hangs.error().what;
  EXPECT_EQ(agent->pid(), 0) << "it was killed";
}

// Each child goes on from where its parent stood, on a copy of its stack.
TEST_F(AgentsTest, AThousandGenerations) {
  auto agent = agents_->Spawn().value();
  Ask(*agent, Map(kPlace, 4096, PROT_READ | PROT_WRITE));
  Store(*agent, kPlace, "ancestor");
  for (int i = 0; i < 1000; ++i) agent = agents_->Fork(*agent, Request::kFork).value();
  EXPECT_EQ(Load(*agent, kPlace, 8), "ancestor");
  EXPECT_EQ(Ask(*agent, Copy(0, kPlace, 1)).signal, static_cast<uint32_t>(SIGSEGV));
}

TEST_F(AgentsTest, AreGoneWhenThePoolIs) {
  auto agent = agents_->Spawn().value();
  const pid_t pid = agent->pid();
  EXPECT_EQ(kill(pid, 0), 0);
  agent.reset();
  EXPECT_EQ(kill(pid, 0), -1);
}

}  // namespace
}  // namespace live
