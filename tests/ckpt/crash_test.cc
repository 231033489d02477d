// A checkpoint that ends at any of its writes, syncs and renames, or at which any of them fails: under the
// name there is the old image or the new one, and the next checkpoint leaves nothing beside it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "tests/proto/faulty_calls.h"
#include "tests/scenarios/engine_fixture.h"
#include "tests/support/child.h"

namespace mm {
namespace {

using fixture::FaultyCalls;
using testing::HasSubstr;

constexpr int kStopped = 9;

std::vector<std::string> Names(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

// A small machine, the image of it that is there, and what the next one will be.
class Crash : public testing::Test {
 protected:
  Crash() {
    Process& p = w_.Spawn();
    const Vaddr a = w_.Anon(p, 400);
    Store(p, a, 'a', 260);
    old_ = Dumped();
    Store(p, a + 100 * kPage, 'b', 300);
    new_ = Dumped();
    EXPECT_NE(old_, new_);
  }

  void Store(Process& p, Vaddr at, char byte, uint64_t pages) {
    for (uint64_t i = 0; i < pages; ++i) {
      const std::string bytes(kPage - i, byte);
      ASSERT_EQ(w_.machine().store(p, at + i * kPage, AsBytes(bytes)).outcome, Outcome::kOk);
    }
  }

  base::Result<ckpt::DumpReport> Dump(unsigned threads = 1) { return DumpTo(path_, threads); }
  base::Result<ckpt::DumpReport> DumpTo(const std::string& path, unsigned threads) {
    ckpt::ModelSource source(w_.machine(), {});
    ckpt::DumpOptions options;
    options.write.threads = threads;
    return ckpt::Dump(source, path, options);
  }

  // The old image is there, and what an earlier one left that was killed.
  void StartOver() const {
    support::WriteFile(path_, old_);
    const std::filesystem::path stray = dir_ / ".x.img.ckpt-killed";
    support::WriteFile(stray, "CKPT");
    std::filesystem::permissions(stray, std::filesystem::perms(0600));
  }

  // One of the two, whole; which one.
  std::string Found() const {
    const std::string bytes = support::ReadFile(path_);
    EXPECT_TRUE(image::Verify(path_));
    EXPECT_TRUE(bytes == old_ || bytes == new_);
    return bytes == old_ ? "old" : "new";
  }

  void TheNextOneCleansUp() {
    const auto next = Dump();
    EXPECT_TRUE(next) << next.error().what;
    EXPECT_EQ(Names(dir_.path()), std::vector<std::string>{"x.img"});
    EXPECT_EQ(Found(), "new");
  }

  World w_;
  const support::TempDir dir_;
  const std::string path_ = dir_ / "x.img";
  std::string old_;
  std::string new_;

 private:
  std::string Dumped() {
    const auto saved = Dump();
    EXPECT_TRUE(saved) << saved.error().what;
    return support::ReadFile(path_);
  }
};

// What was not synced is lost at that moment.
TEST_F(Crash, ThePowerStopsAtEachCall) {
  for (const unsigned threads : {1u, 2u}) {
    std::vector<std::string> found;
    for (uint64_t stop_at = 1;; ++stop_at) {
      SCOPED_TRACE(stop_at);
      StartOver();
      const int ended = support::InChild([&] {
        FaultyCalls calls;
        calls.before = [&](const FaultyCalls::Call& call) {
          if (call.number == stop_at) calls.PowerOff(kStopped);
          return 0;
        };
        const image::ReplacedCalls replaced(calls);
        return Dump(threads) ? 0 : 1;
      });
      found.push_back(Found());
      if (ended == 0) break;
      ASSERT_EQ(ended, kStopped);
      TheNextOneCleansUp();
      ASSERT_LT(stop_at, 1000u);
    }
    EXPECT_GT(found.size(), 15u) << "the calls of a checkpoint";
    EXPECT_EQ(found.front(), "old");
    EXPECT_EQ(found.back(), "new");
    EXPECT_TRUE(std::ranges::is_sorted(found, std::greater())) << "there is one call that changes it";
  }
}

// The process ends, and what it wrote stays: that may be half of a temporary file.
TEST_F(Crash, TheProcessEndsAtEachCallOfShortWrites) {
  for (uint64_t stop_at = 1;; stop_at += 1 + stop_at / 8) {
    SCOPED_TRACE(stop_at);
    StartOver();
    const int ended = support::InChild([&] {
      FaultyCalls calls;
      calls.write_max = 61;
      calls.before = [&](const FaultyCalls::Call& call) {
        if (call.number == stop_at) _exit(kStopped);
        return 0;
      };
      const image::ReplacedCalls replaced(calls);
      return Dump() ? 0 : 1;
    });
    Found();
    if (ended == 0) break;
    ASSERT_EQ(ended, kStopped);
    TheNextOneCleansUp();
    ASSERT_LT(stop_at, 100'000u);
  }
}

// An error is one line with the name and the system's reason, and the old image is as it was; unless the new
// one is there already, or the call was about what an earlier run left.
TEST_F(Crash, EachCallFails) {
  for (const int error : {ENOSPC, EIO, EDQUOT, EMFILE}) {
    uint64_t count = 1000;
    size_t errors = 0;
    for (uint64_t fail_at = 1; fail_at <= count; ++fail_at) {
      FaultyCalls calls;
      std::string failed;
      calls.before = [&](const FaultyCalls::Call& call) {
        if (call.number == fail_at) failed = call.name;
        return call.number == fail_at ? error : 0;
      };
      StartOver();
      {
        const image::ReplacedCalls replaced(calls);
        const auto saved = Dump();
        SCOPED_TRACE(failed + " " + std::to_string(fail_at) + (saved ? "" : ": " + saved.error().what));
        if (saved) {
          EXPECT_EQ(Found(), "new");
          if (failed.empty()) count = 0;
        } else {
          ++errors;
          EXPECT_EQ(saved.error().code, Code::kIo);
          EXPECT_THAT(saved.error().what, HasSubstr(path_ + ": "));
          EXPECT_THAT(saved.error().what, testing::EndsWith(std::strerror(error)));
          EXPECT_EQ(saved.error().what.find('\n'), std::string::npos);
          const bool is_written = saved.error().what.find("written, but") != std::string::npos;
          EXPECT_EQ(Found(), is_written ? "new" : "old");
          EXPECT_EQ(Names(dir_.path()), std::vector<std::string>{"x.img"});
        }
      }
      TheNextOneCleansUp();
    }
    EXPECT_GT(errors, 10u);
  }
}

TEST_F(Crash, ShortWritesAndSignalsLoseNothing) {
  for (const size_t most : {size_t{1}, old_.size() / 2, size_t{4096}}) {
    FaultyCalls calls;
    calls.write_max = most;
    calls.before = [](const FaultyCalls::Call& call) {
      return call.name == "write" && call.number % 3 == 0 ? EINTR : 0;
    };
    StartOver();
    const image::ReplacedCalls replaced(calls);
    const auto saved = Dump(most == 1 ? 1 : 2);
    ASSERT_TRUE(saved) << saved.error().what;
    EXPECT_EQ(Found(), "new");
  }
}

// A limit on the size of files stands in for a disk that fills up, at each size.
TEST_F(Crash, TheDiskIsFullAtEachSize) {
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const size_t step = std::max<size_t>(1, new_.size() / 97);
  for (size_t limit = 0; limit < new_.size(); limit += step) {
    StartOver();
    const rlimit small = {.rlim_cur = limit, .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const auto saved = Dump();
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_FALSE(saved) << limit;
    EXPECT_THAT(saved.error().what, testing::StartsWith(path_ + ": cannot write at offset "));
    EXPECT_EQ(Found(), "old");
    EXPECT_EQ(Names(dir_.path()), std::vector<std::string>{"x.img"});
  }
  std::signal(SIGXFSZ, handler);
}

// A disk of its own, in a mount namespace that ends with the child.
TEST_F(Crash, ARealDiskIsFull) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can mount a disk of its own";
  const std::filesystem::path disk = dir_ / "disk";
  std::filesystem::create_directory(disk);
  constexpr int kNoMount = 77;
  const int ended = support::InChild([&] {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0) {
      return kNoMount;
    }
    const std::string path = disk / "x.img";
    support::WriteFile(path, old_);
    const std::string filler(4096, 'f');
    bool was_full = false;
    for (int blocks = 1; blocks < 64; ++blocks) {
      support::WriteFile(disk / ("fill" + std::to_string(blocks)), filler);
      const auto saved = DumpTo(path, 2);
      const size_t files = Names(disk).size();
      EXPECT_EQ(files, static_cast<size_t>(blocks) + 1) << "and no temporary one";
      EXPECT_TRUE(image::Verify(path));
      if (saved) continue;
      was_full = true;
      EXPECT_THAT(saved.error().what, HasSubstr("x.img: cannot "));
      EXPECT_THAT(saved.error().what, testing::EndsWith("No space left on device"));
      break;
    }
    EXPECT_TRUE(was_full);
    return HasFailure() ? 1 : 0;
  });
  if (ended == kNoMount) GTEST_SKIP() << "no disk of its own can be mounted here";
  EXPECT_EQ(ended, 0);
}

}  // namespace
}  // namespace mm
