// The file behind an image, call by call: an error of each is one line, and leaves the old file.
#include "proto/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

#include "base/fd.h"
#include "tests/proto/faulty_calls.h"
#include "tests/support/child.h"
#include "tests/support/support.h"

namespace {

using fixture::FaultyCalls;
using image::OutputFile;
using testing::ElementsAre;
using testing::HasSubstr;

class Files : public testing::Test {
 protected:
  Files() { support::WriteFile(path_, "old"); }

  base::Result<void> WriteNew(image::Sync sync = image::Sync::kYes) const {
    const auto file = TRY(OutputFile::Create(path_));
    TRY_VOID(file->Append("new "));
    TRY_VOID(file->Append("file"));
    return file->Publish(sync);
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      names.push_back(entry.path().filename());
    return names;
  }

  const support::TempDir folder_;
  const std::string path_ = folder_ / "x.img";
  FaultyCalls calls_;
  const image::ReplacedCalls replaced_{calls_};
};

TEST_F(Files, TheCalls) {
  ASSERT_TRUE(WriteNew());
  EXPECT_THAT(calls_.names(), ElementsAre("mkostemp", "flock", "write", "write", "fsync", "dup", "close",
                                          "rename", "open", "fsync"));
  EXPECT_EQ(support::ReadFile(path_), "new file");
}

TEST_F(Files, TheCallsWithoutSync) {
  ASSERT_TRUE(WriteNew(image::Sync::kNo));
  EXPECT_THAT(calls_.names(), ElementsAre("mkostemp", "flock", "write", "write", "dup", "close", "rename"));
}

// Each call that fails is told in its own words, with the name and the system's reason.
TEST_F(Files, EachErrorIsOneLineAndLeavesTheOldFile) {
  const struct {
    uint64_t call;
    int error;
    std::string says;
  } faults[] = {
      {1, EMFILE, path_ + ": cannot create a file in " + folder_.path().string()},
      {3, ENOSPC, path_ + ": cannot write at offset 0"},
      {4, EIO, path_ + ": cannot write at offset 4"},
      {4, EDQUOT, path_ + ": cannot write at offset 4"},
      {5, EIO, path_ + ": cannot sync"},
      {5, ENOSPC, path_ + ": cannot sync"},
      {6, EMFILE, path_ + ": cannot close"},
      {7, EDQUOT, path_ + ": cannot close"},
      {8, EACCES, path_ + ": cannot rename " + folder_.path().string() + "/.x.img.ckpt-"},
  };
  for (const auto& [number, error, says] : faults) {
    SCOPED_TRACE(says);
    FaultyCalls calls;
    calls.before = [&](const FaultyCalls::Call& call) { return call.number == number ? error : 0; };
    const image::ReplacedCalls replaced(calls);
    const auto written = WriteNew();
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, base::Code::kIo);
    EXPECT_THAT(written.error().what, testing::StartsWith(says));
    EXPECT_THAT(written.error().what, testing::EndsWith(std::string(": ") + std::strerror(error)));
    EXPECT_EQ(support::ReadFile(path_), "old");
    EXPECT_THAT(Names(), ElementsAre("x.img"));
  }
}

// Behind the rename there is no way back, and the line says so.
TEST_F(Files, AFolderThatCannotBeSynced) {
  for (const uint64_t number : {9, 10}) {
    support::WriteFile(path_, "old");
    FaultyCalls calls;
    calls.before = [&](const FaultyCalls::Call& call) { return call.number == number ? EIO : 0; };
    const image::ReplacedCalls replaced(calls);
    const auto written = WriteNew();
    ASSERT_FALSE(written);
    EXPECT_THAT(written.error().what, HasSubstr("x.img: written, but cannot "));
    EXPECT_EQ(support::ReadFile(path_), "new file");
    EXPECT_THAT(Names(), ElementsAre("x.img"));
  }
  FaultyCalls calls;  // of a file system whose folders have no sync
  calls.before = [](const FaultyCalls::Call& call) { return call.number == 10 ? EINVAL : 0; };
  const image::ReplacedCalls replaced(calls);
  EXPECT_TRUE(WriteNew());
}

TEST_F(Files, ShortWritesAndSignalsLoseNothing) {
  for (const size_t most : {size_t{1}, size_t{3}}) {
    support::WriteFile(path_, "old");
    FaultyCalls calls;
    calls.write_max = most;
    calls.before = [](const FaultyCalls::Call& call) {
      const bool waits = call.name == "write" || call.name == "fsync" || call.name == "flock";
      return waits && call.number % 2 == 0 ? EINTR : 0;
    };
    const image::ReplacedCalls replaced(calls);
    ASSERT_TRUE(WriteNew());
    EXPECT_EQ(support::ReadFile(path_), "new file");
    EXPECT_GE(std::ranges::count(calls.names(), "write"), most == 1 ? 8 : 4);
  }
}

TEST_F(Files, NobodyTakesTheNameOfATemporaryFile) {
  for (const char* name : {".x.img.ckpt-abcdef", ".x.ckpt-012345"}) {
    const auto file = OutputFile::Create(folder_ / name);
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().code, base::Code::kInvalid);
    EXPECT_THAT(file.error().what, HasSubstr("temporary files have such names"));
    EXPECT_FALSE(OutputFile::Check(folder_ / name));
  }
  std::filesystem::create_symlink(".x.img.ckpt-abcdef", folder_ / "link");
  support::WriteFile(folder_ / ".x.img.ckpt-abcdef", "");
  EXPECT_FALSE(OutputFile::Create(folder_ / "link"));
}

// Looking at a place changes nothing there, also where the file system has no files without a name.
TEST_F(Files, CheckLeavesNothing) {
  support::WriteFile(folder_ / ".x.img.ckpt-abcdef", "");
  std::filesystem::permissions(folder_ / ".x.img.ckpt-abcdef", std::filesystem::perms(0600));
  ASSERT_TRUE(OutputFile::Check(path_));
  EXPECT_THAT(calls_.names(), ElementsAre("open", "close"));
  EXPECT_EQ(Names().size(), 2u);
  FaultyCalls calls;
  calls.before = [](const FaultyCalls::Call& call) { return call.number == 1 ? EOPNOTSUPP : 0; };
  const image::ReplacedCalls replaced(calls);
  ASSERT_TRUE(OutputFile::Check(path_));
  EXPECT_THAT(Names(), ElementsAre("x.img")) << "but a stray goes that would go with the file";
  EXPECT_EQ(support::ReadFile(path_), "old");
}

// Standard output is `fd` while it lives; of a child, or what gtest prints goes there too.
void MakeStandardOutput(int fd) { CHECK(dup2(fd, 1) == 1); }

// What `body` writes to standard output, a pipe whose reader is slow.
std::string Piped(int flags, const std::function<int()>& body) {
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC | flags) == 0);
  const pid_t child = support::Fork([&] {
    close(ends[0]);
    MakeStandardOutput(ends[1]);
    return body();
  });
  close(ends[1]);
  std::string all;
  char buffer[50'000];
  for (;;) {
    if (all.size() < 300'000) usleep(2000);
    const ssize_t count = read(ends[0], buffer, sizeof buffer);
    if (count < 0 && errno == EAGAIN) continue;
    if (count <= 0) break;
    all.append(buffer, static_cast<size_t>(count));
  }
  close(ends[0]);
  EXPECT_EQ(support::WaitFor(child), 0);
  return all;
}

std::string LongText() {
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += std::to_string(i);
  return text;
}

int WriteAll(const std::string& text) {
  const auto file = OutputFile::StandardOutput();
  if (!file || !(*file)->Append(text)) return 1;
  if ((*file)->offset() != text.size()) return 2;
  return (*file)->Publish(image::Sync::kYes) ? 0 : 3;
}

TEST(StandardOutput, APipeGetsEveryByte) {
  const std::string text = LongText();
  for (const int flags : {0, O_NONBLOCK}) EXPECT_TRUE(Piped(flags, [&] { return WriteAll(text); }) == text);
}

TEST(StandardOutput, ARedirectedFileIsSynced) {
  const support::TempDir folder;
  const base::Fd out(open((folder / "x").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  EXPECT_EQ(support::InChild([&] {
              MakeStandardOutput(out.get());
              FaultyCalls calls;
              const image::ReplacedCalls replaced(calls);
              if (WriteAll("image") != 0) return 1;
              return calls.names() == std::vector<std::string>{"dup", "write", "fsync", "close"} ? 0 : 2;
            }),
            0);
  EXPECT_EQ(support::ReadFile(folder / "x"), "image");
}

// The name of a file is not looked at: there is none.
TEST(StandardOutput, WhatFailsIsToldOnce) {
  const struct {
    uint64_t call;
    int error;
    std::string says;  // empty: nothing
  } faults[] = {
      {1, EMFILE, "standard output: cannot write: Too many open files"},
      {2, ENOSPC, "standard output: cannot write at offset 0: No space left on device"},
      {2, EPIPE, "standard output: cannot write at offset 0: Broken pipe"},
      {2, EINTR, ""},
      {3, EIO, "standard output: cannot sync: Input/output error"},
      {3, EINVAL, ""},
      {3, EROFS, ""},
      {4, EIO, "standard output: cannot close: Input/output error"},
  };
  const support::TempDir folder;
  for (const auto& [number, error, says] : faults) {
    const base::Fd out(open((folder / "x").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
    const int ended = support::InChild([&] {
      MakeStandardOutput(out.get());
      FaultyCalls calls;
      calls.before = [&](const FaultyCalls::Call& call) { return call.number == number ? error : 0; };
      const image::ReplacedCalls replaced(calls);
      const auto written = [&]() -> base::Result<void> {
        const auto file = TRY(OutputFile::StandardOutput());
        TRY_VOID(file->Append("image"));
        return file->Publish(image::Sync::kYes);
      }();
      return (written ? "" : written.error().what) == says ? 0 : 1;
    });
    EXPECT_EQ(ended, 0) << says;
  }
}

TEST(StandardOutput, MustBeOpenForWriting) {
  const base::Fd in(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const base::Fd terminal(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(terminal.is_open());
  for (const base::Fd* fd : {&in, &terminal}) {
    EXPECT_EQ(support::InChild([&] {
                MakeStandardOutput(fd->get());
                const auto checked = OutputFile::CheckStandardOutput();
                const auto opened = OutputFile::StandardOutput();
                if (checked || opened || checked.error().what != opened.error().what) return 1;
                if (checked.error().code != base::Code::kInvalid) return 2;
                const char* says = fd == &in ? "not open for writing" : "to a terminal";
                return checked.error().what.find(says) != std::string::npos ? 0 : 3;
              }),
              0);
  }
}

// A reader that does not read, and the user who will not wait for it.
TEST(StandardOutput, StopEndsTheWait) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_EQ(support::InChild([&] {
              MakeStandardOutput(ends[1]);
              std::atomic<bool> stop = false;
              const auto file = OutputFile::StandardOutput(&stop);
              if (!file) return 1;
              std::jthread user([&] {
                usleep(50'000);
                stop = true;
              });
              const auto written = (*file)->Append(LongText());
              return !written && written.error().code == base::Code::kInterrupted ? 0 : 2;
            }),
            0);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
