// What a pipe gives, kept as a file without a name.
#include "proto/spool.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "proto/file.h"
#include "proto/verify.h"
#include "tests/proto/faulty_calls.h"
#include "tests/proto/image_fixture.h"
#include "tests/support/support.h"

namespace {

using base::Code;
using fixture::FaultyCalls;
using testing::HasSubstr;

std::string LongText() {
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += std::to_string(i);
  return text;
}

// Says `text` into a pipe, in pieces and with pauses.
class Writer {
 public:
  Writer(std::string text, bool is_socket = false) {
    signal(SIGPIPE, SIG_IGN);
    int ends[2];
    CHECK((is_socket ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) : pipe2(ends, O_CLOEXEC)) ==
          0);
    read_ = base::Fd(ends[0]);
    thread_ = std::jthread([text = std::move(text), fd = ends[1]] {
      for (size_t at = 0; at < text.size();) {
        const size_t piece = at < 100 ? 7 : 100'000;
        const ssize_t count = write(fd, text.data() + at, std::min(piece, text.size() - at));
        if (count < 0) break;
        at += static_cast<size_t>(count);
        usleep(at < 100 ? 1000 : 0);
      }
      close(fd);
    });
  }
  int fd() const { return read_.get(); }

 private:
  std::jthread thread_;
  base::Fd read_;  // Closed first: a thread that still writes ends.
};

std::string Bytes(int fd) {
  std::string bytes(static_cast<size_t>(lseek(fd, 0, SEEK_END)), '\0');
  CHECK(pread(fd, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  return bytes;
}

TEST(Spool, KeepsEveryByte) {
  for (const std::string& text : {std::string(), std::string("x"), LongText()}) {
    for (const bool is_socket : {false, true}) {
      const Writer writer(text, is_socket);
      const auto kept = image::Spool(writer.fd(), nullptr);
      ASSERT_TRUE(kept) << kept.error().what;
      EXPECT_TRUE(Bytes(kept->get()) == text);
      EXPECT_EQ(fcntl(kept->get(), F_GETFD), FD_CLOEXEC);
    }
  }
}

class SpoolFolder : public testing::Test {
 protected:
  SpoolFolder() : before_(getenv("TMPDIR") != nullptr ? getenv("TMPDIR") : "") {
    setenv("TMPDIR", folder_.path().c_str(), 1);
  }
  ~SpoolFolder() override {
    unsetenv("TMPDIR");
    if (!before_.empty()) setenv("TMPDIR", before_.c_str(), 1);
  }
  const support::TempDir folder_;
  const std::string before_;
};

TEST_F(SpoolFolder, HasNoNameInTheFolder) {
  struct stat folder;
  struct stat file;
  const Writer writer("text");
  const auto kept = image::Spool(writer.fd(), nullptr);
  ASSERT_TRUE(kept) << kept.error().what;
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  ASSERT_EQ(stat(folder_.path().c_str(), &folder), 0);
  ASSERT_EQ(fstat(kept->get(), &file), 0);
  EXPECT_EQ(file.st_nlink, 0u);
  EXPECT_EQ(file.st_dev, folder.st_dev);
  EXPECT_EQ(file.st_mode & 0777, 0600u);
}

TEST_F(SpoolFolder, WithoutOneItIsMemory) {
  setenv("TMPDIR", "/nowhere", 1);
  const Writer writer("text");
  const auto kept = image::Spool(writer.fd(), nullptr);
  ASSERT_TRUE(kept) << kept.error().what;
  EXPECT_EQ(Bytes(kept->get()), "text");
}

TEST_F(SpoolFolder, AFullDiskIsOneError) {
  for (const int error : {ENOSPC, EDQUOT, EIO}) {
    FaultyCalls calls;
    calls.before = [&](const FaultyCalls::Call& call) { return call.number == 3 ? error : 0; };
    const image::ReplacedCalls replaced(calls);
    const Writer writer(LongText());
    const auto kept = image::Spool(writer.fd(), nullptr);
    ASSERT_FALSE(kept);
    EXPECT_EQ(kept.error().code, Code::kIo);
    EXPECT_THAT(kept.error().what,
                HasSubstr("cannot keep what the pipe gives in " + folder_.path().string()));
    EXPECT_THAT(kept.error().what, HasSubstr("TMPDIR"));
    EXPECT_THAT(kept.error().what, testing::EndsWith(strerror(error)));
  }
}

TEST_F(SpoolFolder, ShortWritesLoseNothing) {
  FaultyCalls calls;
  calls.write_max = 1000;
  calls.before = [&](const FaultyCalls::Call& call) { return call.number % 3 == 0 ? EINTR : 0; };
  const image::ReplacedCalls replaced(calls);
  const Writer writer(LongText());
  const auto kept = image::Spool(writer.fd(), nullptr);
  ASSERT_TRUE(kept) << kept.error().what;
  EXPECT_TRUE(Bytes(kept->get()) == LongText());
}

TEST(Spool, StopEndsTheWait) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const base::Fd in(ends[0]);
  const base::Fd out(ends[1]);
  ASSERT_EQ(write(out.get(), "half", 4), 4);
  std::atomic<bool> stop = false;
  std::jthread user([&] {
    usleep(30'000);
    stop = true;
  });
  const auto kept = image::Spool(in.get(), &stop);
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, Code::kInterrupted);
}

TEST(Spool, WithoutAStopASignalEndsTheWait) {
  struct sigaction action = {};
  struct sigaction before;
  action.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const base::Fd in(ends[0]);
  const base::Fd out(ends[1]);
  std::atomic<bool> done = false;
  std::jthread user([&, waiting = pthread_self()] {
    while (!done) {
      usleep(10'000);
      pthread_kill(waiting, SIGUSR1);
    }
  });
  const auto kept = image::Spool(in.get(), nullptr);
  done = true;
  user.join();
  sigaction(SIGUSR1, &before, nullptr);
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, Code::kInterrupted);
}

// A FIFO is opened before it has a writer, and read to the end of the first one.
TEST(InputFile, WaitsForTheWriterOfAFifo) {
  const support::TempDir folder;
  const std::string fifo = folder / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  ASSERT_TRUE(fixture::Write(folder / "image", fixture::SmallMachine(), {}));
  const std::string image = support::ReadFile(folder / "image");
  std::jthread writer([&] {
    usleep(150'000);
    support::WriteFile(fifo, image);
  });
  const auto report = image::Verify(fifo);
  ASSERT_TRUE(report) << report.error().what;
  EXPECT_EQ(report->bytes, image.size());
  EXPECT_FALSE(image::IsImageFile(fifo)) << "which would wait for a second writer";
}

TEST(InputFile, WhatIsNone) {
  const support::TempDir folder;
  const auto says = [](const std::string& path) {
    const auto file = image::InputFile::Open(path);
    return file ? "" : file.error().what;
  };
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const base::Fd closes(fd);
  struct Address {
    sa_family_t family = AF_UNIX;
    char path[100] = {};
  } address;
  const std::string name = folder / "socket";
  ASSERT_LT(name.size(), sizeof address.path);
  name.copy(address.path, name.size());
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(says(name), "it is a socket; expected an image: a regular file or a pipe");
  EXPECT_EQ(says(folder.path()), "it is a directory; expected an image: a regular file or a pipe");
  EXPECT_EQ(says("/dev/null"), "it is a character device; expected an image: a regular file or a pipe");
  EXPECT_THAT(says(folder / "missing"), HasSubstr("No such file"));
  const base::Fd terminal(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(terminal.is_open() && grantpt(terminal.get()) == 0 && unlockpt(terminal.get()) == 0);
  EXPECT_EQ(says(ptsname(terminal.get())), "it is a terminal; expected an image: a regular file or a pipe");
}

TEST(InputFile, Names) {
  EXPECT_EQ(image::InputName("-"), "standard input");
  EXPECT_EQ(image::InputName("./-"), "./-");
  EXPECT_EQ(image::InputName("x.img"), "x.img");
}

}  // namespace
