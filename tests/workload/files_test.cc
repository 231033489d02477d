// What a workload reads of the system: the line and column of what cannot be read, and files of no bytes.
#include "workload/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/support/support.h"
#include "tests/workload/run.h"

namespace workload {
namespace {

constexpr char kExpected[] = "; expected the path of a regular file that can be read";

TEST(FilesTest, ARealFileThatCannotBeRead) {
  const support::TempDir dir;
  const std::string fifo = dir / "fifo";
  const std::string loop = dir / "loop";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  std::filesystem::create_symlink(loop, loop);
  const struct {
    std::string path;
    std::string why;
  } files[] = {
      {"/no/such/file", "No such file or directory"},
      {dir.path().string(), "it is a directory"},
      {fifo, "it is a pipe"},
      {loop, "Too many levels of symbolic links"},
      {"/dev/null", "it is a character device"},
  };
  for (const auto& [path, why] : files) {
    const std::string what = "open file '" + path + "': " + why + kExpected;
    EXPECT_EQ(
        ErrorOf("# files\nfile { name: 'a' }\n  file { name: 'f' real: '" + path + "' } step { exit {} }"),
        "w:3:20: file 'f': " + what);
    EXPECT_EQ(
        ErrorOf("step { fork { child: 'c' } }\nstep { create { file { name: 'f' real: '" + path + "' } } }"),
        "w:2:34: step create: " + what);
    EXPECT_EQ(ErrorOf("step { repeat { times: 2\n step { exec { arg: 'x' path: '" + path + "' } } } }"),
              "w:2:25: step exec (round 1 of 2): " + what);
  }
}

TEST(FilesTest, AProgramThatIsNone) {
  EXPECT_EQ(ErrorOf("file { name: 'f' size: '4k' }\nstep { exec { file: 'f' } }"),
            "w:2:15: step exec: exec 'f': not an ELF file");
  EXPECT_EQ(ErrorOf("step { exec { path: '/usr/share/common-licenses/GPL-3' } }"),
            "w:1:15: step exec: exec '/usr/share/common-licenses/GPL-3': not an ELF file");
  EXPECT_EQ(ErrorOf("step { exec { path: '/no/such' } expect { outcome: 'EIO' } }"),
            std::string(
                "w:1: step exec: expected EIO, got ENOENT: open file '/no/such': No such file or directory") +
                kExpected)
      << "an expectation that is not met, as any other";
}

// mmap(2) takes a file of no bytes; it takes no length of 0.
TEST(FilesTest, AnEmptyRealFile) {
  const support::TempDir dir;
  const std::string path = dir / "empty";
  support::WriteFile(path, "");
  const std::string file = "file { name: 'f' real: '" + path + "' }\n";
  EXPECT_EQ(ErrorOf(file + R"(
step { map { region: "m" file: "f" length: "8k" } }
step { load { region: "m" } expect { outcome: "SIGBUS" at: "0" } }
step { store { region: "m" offset: "4k" } expect { outcome: "SIGBUS" at: "4k" } }
step { read { file: "f" } }
step { exec { file: "f" } expect { outcome: "ENOEXEC" } }
step { truncate { file: "f" size: "100" } }
step { store { region: "m" length: "4k" } expect { modified: 1 } }
step { load { region: "m" offset: "4k" } expect { outcome: "SIGBUS" } }
)"),
            "");
  EXPECT_EQ(support::ReadFile(path), "");
  const std::string without = "step { map { region: 'm' file: 'f' } ";
  EXPECT_EQ(ErrorOf(file + without + "expect { outcome: 'EINVAL' } }"), "");
  EXPECT_EQ(
      ErrorOf(file + without + "}"),
      "w:2: step map: expected ok, got EINVAL: file 'f' has 0 bytes, none of them behind offset 0: expected "
      "a length");
  EXPECT_EQ(
      ErrorOf("file { name: 'f' size: '4k' }\nstep { map { region: 'm' file: 'f' offset: '8k' } }"),
      "w:2: step map: expected ok, got EINVAL: file 'f' has 4096 bytes, none of them behind offset 8192: "
      "expected a length");
}

}  // namespace
}  // namespace workload
