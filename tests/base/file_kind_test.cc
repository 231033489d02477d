#include "base/file_kind.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "tests/support/support.h"

namespace base {
namespace {

std::string KindOf(const std::string& path) {
  struct stat status = {};
  return stat(path.c_str(), &status) == 0 ? FileKindName(status.st_mode) : "not there";
}

TEST(FileKind, IsSaidInWords) {
  const support::TempDir folder;
  support::WriteFile(folder / "file", "");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(KindOf(folder / "file"), "a regular file");
  EXPECT_EQ(KindOf(folder.path()), "a directory");
  EXPECT_EQ(KindOf(folder / "pipe"), "a pipe");
  EXPECT_EQ(KindOf("/dev/null"), "a character device");
  EXPECT_STREQ(FileKindName(S_IFBLK | 0600), "a block device");
  EXPECT_STREQ(FileKindName(0), "not a file");
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  struct stat status = {};
  ASSERT_EQ(fstat(ends[0], &status), 0);
  EXPECT_STREQ(FileKindName(status.st_mode), "a socket");
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace base
