// A checkpoint on one virtual CPU beside a call on another: in every interleaving it sees the process before
// the call or after it, never in between.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "ckpt/model_source.h"
#include "mm/explore.h"
#include "mm/reclaim.h"
#include "tests/mm/world.h"

namespace ckpt {
namespace {

using mm::kPage;
constexpr mm::Vaddr kBase = 0x10000000;

// What an image of the machine would hold: vmas, and the bytes of what is modified.
std::string Seen(mm::Machine& machine) {
  ModelSource source(machine, {});
  if (const auto prepared = source.Prepare(); !prepared) return prepared.error().what;
  std::string seen;
  for (const ckpt_pb::Mm& space : source.processes().mm()) {
    for (const ckpt_pb::Vma& vma : source.vmas(space.objref()).vma()) {
      seen += base::Format("%llx-%llx %llx;", static_cast<unsigned long long>(vma.start()),
                           static_cast<unsigned long long>(vma.end()),
                           static_cast<unsigned long long>(vma.flags()));
      const uint64_t end = vma.end() / kPage;
      for (uint64_t next = vma.start() / kPage; next < end;) {
        const ModifiedRun run = source.NextModified(space.objref(), next, end).value();
        if (run.count == 0) break;
        for (uint64_t page = run.first; page < run.first + run.count; ++page) {
          mm::PageBytes bytes;
          EXPECT_TRUE(source.ReadContent(space.objref(), page, bytes));
          seen += base::Format(" %llx:%02x", static_cast<unsigned long long>(page),
                               std::to_integer<unsigned>(bytes[0]));
        }
        next = run.first + run.count;
      }
    }
  }
  return seen;
}

using Call = std::function<void(mm::Machine&, mm::Process&)>;
enum class Calls : uint8_t { kCanBeFrozen, kCannot };

// A process with four pages of its own; CPU 0 looks, CPU 1 calls.
class LookAndCall : public mm::Race {
 public:
  LookAndCall(const Call& call, std::set<std::string>* seen, Calls calls = Calls::kCanBeFrozen)
      : call_(call), seen_(seen), calls_(calls) {
    mm::MachineConfig config;
    config.memory_bytes = 64 * kPage;
    machine_ = mm::Machine::Create(config).value();
    process_ = &machine_->spawn(1, "p");
    EXPECT_TRUE(mm::sys_mmap(*process_->mm, kBase, 4 * kPage, mm::kReadWrite,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, nullptr, 0));
    for (uint64_t i = 0; i < 4; ++i) {
      machine_->store(*process_, kBase + i * kPage, mm::AsBytes(std::string(1, static_cast<char>('a' + i))));
    }
  }
  void Run(unsigned cpu) override {
    if (cpu == 0) {
      seen_->insert(Seen(*machine_));
      return;
    }
    if (calls_ == Calls::kCannot) return call_(*machine_, *process_);
    mm::ReadGuard guard(machine_->freezer);
    call_(*machine_, *process_);
  }
  std::optional<std::string> Check() override { return mm::Validate(*machine_, mm::Depth::kDeep); }
  mm::Machine& machine() { return *machine_; }
  mm::Process& process() { return *process_; }

 private:
  const Call& call_;
  std::set<std::string>* seen_;
  Calls calls_;
  std::unique_ptr<mm::Machine> machine_;
  mm::Process* process_;
};

void SeesBeforeOrAfter(const Call& call) {
  std::set<std::string> ignored;
  LookAndCall alone(call, &ignored);
  const std::string before = Seen(alone.machine());
  call(alone.machine(), alone.process());
  const std::string after = Seen(alone.machine());
  ASSERT_NE(before, after);

  std::set<std::string> seen;
  const mm::Explored explored =
      mm::ExploreAll([&] { return std::make_unique<LookAndCall>(call, &seen); }, {.preemptions = 2});
  EXPECT_FALSE(explored.failure) << explored.Report();
  EXPECT_TRUE(explored.complete);
  EXPECT_GT(explored.schedules, 1u);
  EXPECT_EQ(seen, (std::set<std::string>{before, after}));
}

TEST(Freeze, NoImageHasHalfOfAMunmap) {
  SeesBeforeOrAfter(
      [](mm::Machine&, mm::Process& p) { EXPECT_TRUE(mm::sys_munmap(*p.mm, kBase + kPage, 2 * kPage)); });
}

// What the freezer is for: a call that it does not hold back shows in half.
TEST(Freeze, WithoutItAMunmapShowsInHalf) {
  const Call call = [](mm::Machine&, mm::Process& p) {
    EXPECT_TRUE(mm::sys_munmap(*p.mm, kBase + kPage, 2 * kPage));
  };
  std::set<std::string> seen;
  const mm::Explored explored = mm::ExploreAll(
      [&] { return std::make_unique<LookAndCall>(call, &seen, Calls::kCannot); }, {.preemptions = 2});
  // A state in between; or a CHECK, where the walk meets what it knew to be there.
  EXPECT_TRUE(explored.failure || seen.size() > 2) << explored.Report();
}

TEST(Freeze, NoImageHasHalfOfAnMprotect) {
  SeesBeforeOrAfter([](mm::Machine&, mm::Process& p) {
    EXPECT_TRUE(mm::sys_mprotect(*p.mm, kBase + kPage, 2 * kPage, PROT_READ));
  });
}

TEST(Freeze, NoImageHasHalfOfAMove) {
  SeesBeforeOrAfter([](mm::Machine&, mm::Process& p) {
    EXPECT_TRUE(mm::sys_mremap(*p.mm, kBase, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                               kBase + 16 * kPage));
  });
}

TEST(Freeze, NoImageHasHalfOfAFork) {
  SeesBeforeOrAfter([](mm::Machine& machine, mm::Process&) { EXPECT_TRUE(machine.fork(1, 2, "child")); });
}

TEST(Freeze, NoImageHasHalfOfAStoreOverTwoPages) {
  SeesBeforeOrAfter([](mm::Machine& machine, mm::Process& p) {
    machine.store(p, kBase, mm::AsBytes(std::string(2 * kPage, 'x')));
  });
}

TEST(Freeze, NoImageHasHalfOfADontneed) {
  SeesBeforeOrAfter([](mm::Machine&, mm::Process& p) {
    EXPECT_TRUE(mm::sys_madvise(*p.mm, kBase, 3 * kPage, MADV_DONTNEED));
  });
}

// A process with more anonymous memory than the machine has: CPU 1 makes room, CPU 0 saves the guest.
class SaveAndReclaim : public mm::Race {
 public:
  SaveAndReclaim() {
    mm::MachineConfig config;
    config.memory_bytes = 64 * kPage;
    config.swap_bytes = 16 * kPage;
    machine_ = mm::Machine::Create(config).value();
    mm::Process& process = machine_->spawn(1, "p");
    EXPECT_TRUE(mm::sys_mmap(*process.mm, kBase, 4 * kPage, mm::kReadWrite,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, nullptr, 0));
    machine_->store(process, kBase, mm::AsBytes(std::string(2 * kPage, 'x')));
  }
  void Run(unsigned cpu) override {
    if (cpu != 0) {
      mm::ReadGuard guard(machine_->freezer);
      mm::reclaim_page(*machine_, mm::pte_pfn(*machine_->find_process(1)->mm->pgtable.find(kBase)));
      return;
    }
    was_writing |= machine_->nr_writeback != 0;
    ModelSource source(*machine_, {{}, "", ckpt_pb::Machine::MACHINE});
    ASSERT_TRUE(source.Prepare().has_value());
    for (uint32_t frame = 0; frame < machine_->frames.high_water(); ++frame)
      EXPECT_EQ(machine_->frames.at(mm::Pfn{frame}).flags & mm::PG_writeback, 0u);
  }
  std::optional<std::string> Check() override { return mm::Validate(*machine_, mm::Depth::kDeep); }
  static inline bool was_writing = false;

 private:
  std::unique_ptr<mm::Machine> machine_;
};

// No guest comes back with a page that waits for a disk which knows nothing of it.
TEST(Freeze, AGuestWaitsForItsWrites) {
  const mm::Explored explored =
      mm::ExploreAll([] { return std::make_unique<SaveAndReclaim>(); }, {.preemptions = 2});
  EXPECT_FALSE(explored.failure) << explored.Report();
  EXPECT_TRUE(explored.complete);
  EXPECT_TRUE(SaveAndReclaim::was_writing);
}

}  // namespace
}  // namespace ckpt
