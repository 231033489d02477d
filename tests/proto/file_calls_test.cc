#include "proto/file_calls.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "tests/proto/faulty_calls.h"
#include "tests/support/support.h"

namespace {

TEST(FileCalls, AreTheSystems) {
  const support::TempDir folder;
  image::FileCalls& calls = image::Calls();
  std::string name = folder / "a-XXXXXX";
  const int fd = calls.MakeTemporary(name.data());
  ASSERT_GE(fd, 0);
  struct stat status;
  ASSERT_EQ(stat(name.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(calls.Write(fd, "bytes", 5), 5);
  EXPECT_EQ(calls.Sync(fd), 0);
  EXPECT_EQ(calls.Lock(fd, LOCK_EX), 0);

  // The duplicate has the same lock, which stays when the other is closed.
  const int other = calls.Duplicate(fd);
  ASSERT_GE(other, 0);
  EXPECT_EQ(fcntl(other, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(calls.Close(fd), 0);
  const int again = calls.Open(name.c_str(), O_RDWR | O_CLOEXEC, 0);
  ASSERT_GE(again, 0);
  EXPECT_EQ(calls.Lock(again, LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  EXPECT_EQ(calls.Close(other), 0);
  EXPECT_EQ(calls.Lock(again, LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(calls.Close(again), 0);

  EXPECT_EQ(calls.Rename(name.c_str(), (folder / "b").c_str()), 0);
  EXPECT_EQ(support::ReadFile(folder / "b"), "bytes");
  EXPECT_EQ(calls.Unlink((folder / "b").c_str()), 0);
  EXPECT_EQ(calls.Open((folder / "b").c_str(), O_RDONLY | O_CLOEXEC, 0), -1);
  EXPECT_EQ(errno, ENOENT);
}

TEST(FileCalls, OthersTakeTheirPlaceAndGo) {
  image::FileCalls& system = image::Calls();
  fixture::FaultyCalls outer;
  {
    const image::ReplacedCalls replaced(outer);
    EXPECT_EQ(&image::Calls(), &outer);
    fixture::FaultyCalls inner;
    const image::ReplacedCalls again(inner);
    EXPECT_EQ(&image::Calls(), &inner);
  }
  EXPECT_EQ(&image::Calls(), &system);
}

}  // namespace
