// The host: how much memory it has, what it takes first, and that what it takes is given back.
#include "mm/host.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/mm/bare_host.h"
#include "tests/support/support.h"

namespace mm {
namespace {

using enum PageState;

// Of what is in memory, this process's own pages.
uint64_t OwnResidentPages() {
  uint64_t size = 0;
  uint64_t resident = 0;
  uint64_t shared = 0;
  std::ifstream("/proc/self/statm") >> size >> resident >> shared;
  return resident - shared;
}

// A guest of more memory than the host has: every page keeps its bytes.
TEST(Host, KeepsToItsMemory) {
  BareHost b(Hinted(), 256, 64);
  for (uint32_t i = 1; i < 256; ++i) {
    b.host().essa(Pfn{i}, Request::kSetStable);
    b.Byte(Pfn{i}, 7) = std::byte(i);
    ASSERT_LE(b.host().resident(), 64u);
  }
  EXPECT_EQ(b.host().resident(), 64u);
  EXPECT_EQ(b.host().stat().backed, 255u);
  EXPECT_EQ(b.host().stat().paged_out, 255u - 64u);
  for (uint32_t i = 1; i < 256; ++i) {
    ASSERT_EQ(std::to_integer<uint32_t>(b.host().peek(Pfn{i})[7]), i) << "without an access";
    ASSERT_EQ(std::to_integer<uint32_t>(b.Byte(Pfn{i}, 7)), i);
    ASSERT_LE(b.host().resident(), 64u);
  }
  EXPECT_EQ(b.host().count(Sr) + b.host().count(Sp) + b.host().count(Sz), 256u);
}

TEST(Host, PagesOutAndIn) {
  BareHost b;
  const Pfn pfn{9};
  b.Bring(pfn, Sr);
  for (size_t at = 0; at < kPageSize; ++at) b.Byte(pfn, at) = std::byte(at * 7 % 251);
  ASSERT_TRUE(b.host().take(pfn));
  EXPECT_EQ(b.state(pfn), Sp);
  EXPECT_EQ(b.frames.arena_bytes(pfn)[1], std::byte{0}) << "H2";
  EXPECT_EQ(b.host().peek(pfn)[1], std::byte{7});
  EXPECT_EQ(b.state(pfn), Sp) << "a peek is no access";
  for (size_t at = 0; at < kPageSize; ++at) ASSERT_EQ(b.Byte(pfn, at), std::byte(at * 7 % 251));
  EXPECT_EQ(b.state(pfn), Sr);
  EXPECT_EQ(b.host().stat().paged_in, 1u);
}

TEST(Host, TakesByWhatItMay) {
  BareHost b;
  const Pfn pfn{9};
  struct Row {
    PageState from;
    bool changed;
    bool takes;
    PageState to;
  };
  for (const Row& row : {Row{Sr, false, true, Sp}, Row{Sp, false, false, Sp}, Row{Sz, false, false, Sz},
                         Row{Ur, false, true, Uz}, Row{Uz, false, false, Uz}, Row{Vr, false, true, Vz},
                         Row{Vz, false, false, Vz}, Row{Pr, false, true, Vz}, Row{Pr, true, true, Sp}}) {
    SCOPED_TRACE(PageStateName(row.from));
    b.Bring(pfn, row.from);
    b.SetChanged(pfn, row.changed);
    EXPECT_EQ(b.host().take(pfn), row.takes);
    EXPECT_EQ(b.state(pfn), row.to);
  }
}

// First what costs nobody anything, last what has to be written.
TEST(Host, TakesInOrderOfPreference) {
  BareHost b;
  const Pfn dirty{10};
  const Pfn stable{11};
  const Pfn clean{12};
  const Pfn vol{13};
  const Pfn unused{14};
  const Pfn in_use{15};
  b.Bring(dirty, Pr);
  b.SetChanged(dirty, true);
  b.Bring(stable, Sr);
  b.Bring(clean, Pr);
  b.Bring(vol, Vr);
  b.Bring(unused, Ur);
  b.Bring(in_use, Sr);
  b.LongAgo(in_use);
  for (const auto& [next, to] : {std::pair(unused, Uz), {vol, Vz}, {clean, Vz}, {stable, Sp}, {dirty, Sp}}) {
    EXPECT_NE(ResidenceOf(b.state(next)), Residence::kZero);
    ASSERT_EQ(b.host().take_any(1), 1u);
    EXPECT_EQ(b.state(next), to) << static_cast<uint32_t>(next);
  }
  EXPECT_EQ(b.host().take_any(10), 0u) << "what was touched last is being used";
  EXPECT_EQ(b.state(in_use), Sr);
  const HostStat& stat = b.host().stat();
  EXPECT_EQ(stat.taken_unused, 1u);
  EXPECT_EQ(stat.discarded, 2u);
  EXPECT_EQ(stat.paged_out, 2u);
}

TEST(Host, TheBaseDesignLooksAtVolatilePages) {
  BareHost b(Hinted({"hints=base"}));
  b.Bring(Pfn{10}, Vr);
  b.SetChanged(Pfn{10}, true);
  b.Bring(Pfn{11}, Vr);
  b.Bring(Pfn{12}, Sr);
  b.LongAgo(Pfn{12});
  EXPECT_EQ(b.host().take_any(5), 1u);
  EXPECT_EQ(b.state(Pfn{10}), Vr) << "it was changed";
  EXPECT_EQ(b.state(Pfn{11}), Vz);
  EXPECT_FALSE(b.host().may_move(HostMove::kDiscardVolatile, Pfn{10}));
}

TEST(Host, MemoryShrinksAndGrows) {
  BareHost b(Hinted(), 256);
  for (uint32_t i = 1; i < 200; ++i) b.Bring(Pfn{i}, i % 2 == 0 ? Vr : Sr);
  EXPECT_EQ(b.host().resident(), 199u);
  b.host().set_memory(64);
  EXPECT_EQ(b.host().resident(), 64u);
  EXPECT_EQ(b.host().count(Vr) + b.host().count(Vz), 99u);
  EXPECT_EQ(b.host().memory_frames(), 64u);
  b.host().set_memory(256);
  for (uint32_t i = 1; i < 200; i += 2) (void)b.Byte(Pfn{i});
  EXPECT_EQ(b.host().count(Sp), 0u);
  EXPECT_DEATH(b.host().set_memory(63), "CHECK failed");
}

// What the host takes is the operating system's again, and what it drops is written nowhere.
TEST(Host, GivesMemoryBack) {
  constexpr uint32_t kFrames = 16384;  // 64 MiB
  const support::TempDir dir;
  BareHost b(Hinted(), kFrames, 0, dir.path().string());
  const uint64_t at_first = OwnResidentPages();
  for (uint32_t i = 1; i < kFrames; ++i) {
    b.host().essa(Pfn{i}, Request::kSetStable);
    b.Byte(Pfn{i}) = std::byte{1};
    if (i % 2 == 0) b.host().essa(Pfn{i}, Request::kSetVolatile);
  }
  const uint64_t full = OwnResidentPages();
  EXPECT_GT(full, at_first + kFrames * 3 / 4);
  for (uint32_t i = 2; i < kFrames; i += 2) ASSERT_TRUE(b.host().take(Pfn{i}));
  const uint64_t half = OwnResidentPages();
  EXPECT_LT(half, full - kFrames * 3 / 8);
  EXPECT_EQ(b.host().stat().paged_out, 0u);
  for (uint32_t i = 1; i < kFrames; i += 2) ASSERT_TRUE(b.host().take(Pfn{i}));
  EXPECT_LT(OwnResidentPages(), half - kFrames * 3 / 8) << "to the paging store, which is a file";
  EXPECT_EQ(b.host().resident(), 0u);
}

// H2: not resident is zero in the arena, whatever was there.
TEST(Host, WhatIsNotResidentIsZeroInTheArena) {
  BareHost b;
  for (const PageState from : {Sr, Ur, Vr, Pr}) {
    b.Bring(Pfn{9}, from);
    b.frames.arena_bytes(Pfn{9})[100] = std::byte{5};
    ASSERT_TRUE(b.host().take(Pfn{9}));
    EXPECT_EQ(b.frames.arena_bytes(Pfn{9})[100], std::byte{0}) << PageStateName(from);
  }
}

// H1, of one frame.
TEST(Host, CountsStates) {
  BareHost b;
  const Pfn pfn{200};
  b.Bring(pfn, Uz);
  EXPECT_EQ(b.host().count(Uz), 200u) << "as all below it, but the zero page";
  for (const PageState state : kAllPageStates) {
    if (state == Uz) continue;
    const uint64_t before = b.host().count(state);
    b.Bring(pfn, state);
    EXPECT_EQ(b.host().count(state), before + 1) << PageStateName(state);
    EXPECT_EQ(b.host().count(Uz), 199u);
  }
}

// In the base design the guest calls a changed page volatile too, and relies on the host to look.
TEST(Host, TheBaseDesignKeepsThePreservedCopyOfAChangedPage) {
  for (const bool changed : {false, true}) {
    BareHost b(Hinted({"hints=base"}));
    const Pfn pfn{9};
    b.Bring(pfn, Sr);
    b.Byte(pfn) = std::byte{5};
    b.SetChanged(pfn, changed);
    b.host().move(HostMove::kPageOut, pfn);
    EXPECT_TRUE(b.host().essa(pfn, Request::kSetVolatile));
    EXPECT_EQ(b.state(pfn), changed ? Sp : Vz);
    if (!changed) continue;
    EXPECT_EQ(b.Byte(pfn), std::byte{5});
  }
}

// H1, of frames that the guest has taken into use and not touched, where no hint says so.
TEST(Host, CountsFramesThatNobodyTouched) {
  MachineConfig config;
  config.memory_bytes = 256 * kPageSize;
  config.host_bytes = 64 * kPageSize;
  const std::unique_ptr<Machine> machine = Machine::Create(config).value();
  Process& p = machine->spawn(1, "reader");
  const Vaddr a = sys_mmap(*p.mm, 0, 4 * kPage, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0).value();
  std::vector<Pfn> pages = get_user_pages(*p.mm, a, 4, Write::kYes, Force::kNo).value();
  EXPECT_EQ(machine->host->count(Sz), 5u) << "with the zero page";
  EXPECT_EQ(Validate(*machine, Depth::kDeep), std::nullopt);
  unpin_user_pages(*machine, pages);
  EXPECT_EQ(machine->touch(p, a + 3 * kPage, 1, Write::kYes).outcome, Outcome::kOk);
  EXPECT_EQ(machine->host->count(Sz), 4u);
  EXPECT_EQ(Validate(*machine, Depth::kDeep), std::nullopt);
}

TEST(Host, ResetsAndRestores) {
  BareHost b;
  for (size_t i = 0; i < kPageStates; ++i) b.Bring(Pfn{static_cast<uint32_t>(20 + i)}, kAllPageStates[i]);
  b.host().reset();
  for (size_t i = 0; i < kPageStates; ++i) {
    const PageState state = b.state(Pfn{static_cast<uint32_t>(20 + i)});
    EXPECT_EQ(UsageOf(state), Usage::kStable);
    EXPECT_EQ(ResidenceOf(state), ResidenceOf(kAllPageStates[i]));
  }
  b.host().restore_state(Pfn{70}, Vz);
  EXPECT_EQ(b.state(Pfn{70}), Vz);
  EXPECT_EQ(b.host().count(Vz), 1u);
}

TEST(Host, AMachineAsksForOne) {
  MachineConfig config;
  config.memory_bytes = 256 * kPageSize;
  EXPECT_EQ(Machine::Create(config).value()->host, nullptr);
  config.host_bytes = 64 * kPageSize;
  EXPECT_EQ(Machine::Create(config).value()->host->memory_frames(), 64u);
  EXPECT_FALSE(Machine::Create(config).value()->host->discards()) << "paging alone";
  config.host_bytes = 63 * kPageSize;
  EXPECT_FALSE(Machine::Create(config).has_value());
  config.host_bytes = 257 * kPageSize;
  EXPECT_FALSE(Machine::Create(config).has_value());
  config.host_bytes = 0;
  config.semantics = Hinted();
  EXPECT_EQ(Machine::Create(config).value()->host->memory_frames(), 256u);
}

// A machine does all its work in a quarter of its memory, hints or none.
TEST(Host, AMachineThatIsTooLarge) {
  for (const char* hints : {"hints=off", "hints=writable"}) {
    SCOPED_TRACE(hints);
    MachineConfig config;
    config.memory_bytes = 256 * kPageSize;
    config.host_bytes = 64 * kPageSize;
    config.semantics = Hinted({hints});
    const std::unique_ptr<Machine> machine = Machine::Create(config).value();
    Process& p = machine->spawn(1, "large");
    const Vaddr a =
        sys_mmap(*p.mm, 0, 200 * kPage, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0).value();
    for (uint64_t i = 0; i < 200; ++i) {
      const std::string text = "page " + std::to_string(i);
      ASSERT_EQ(machine->store(p, a + i * kPage, AsBytes(text)).outcome, Outcome::kOk);
    }
    EXPECT_EQ(Validate(*machine, Depth::kDeep), std::nullopt);
    EXPECT_GT(machine->host->stat().paged_out, 100u);
    for (uint64_t i = 0; i < 200; ++i) {
      std::string text = "page " + std::to_string(i);
      std::string got(text.size(), '?');
      ASSERT_EQ(machine->load(p, a + i * kPage, AsWritable(got)).outcome, Outcome::kOk);
      ASSERT_EQ(got, text);
    }
    EXPECT_EQ(Validate(*machine, Depth::kDeep), std::nullopt);
  }
}

}  // namespace
}  // namespace mm
