// Inputs that are not what a command needs: one line that names the file, exit 2, and no waiting.
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;

class BadInput : public Commands {
 protected:
  BadInput() {
    Image("base.img");
    std::filesystem::create_directory(Path("folder"));
    std::filesystem::create_symlink("nowhere", Path("dangling"));
    std::filesystem::create_symlink("loop", Path("loop"));
    EXPECT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
    Write("empty", "");
    Write("junk", std::string(300, '\xfe') + std::string(300, '\0'));
    Write("secret", kSmall);
    EXPECT_EQ(chmod(Path("secret").c_str(), 0), 0);
    // Nothing is unreadable for root.
    if (geteuid() != 0) files_.push_back("secret");
  }

  std::vector<std::string> files_ = {"missing",       "missing/file", "small.textproto/file",
                                     "folder",        "dangling",     "loop",
                                     "fifo",          "empty",        "junk",
                                     "/dev/null",     "/dev/zero",    "/dev/full",
                                     "/proc/self/mem"};
};

TEST_F(BadInput, Images) {
  files_.push_back("small.textproto");
  std::erase(files_, "fifo");  // is waited for
  for (const std::string& file : files_) {
    EXPECT_TRUE(Refused(Ckpt({"restore", file}), 2, file));
    EXPECT_TRUE(Refused(Ckpt({"restore", file, "-o", "out.img"}), 2, file));
    EXPECT_TRUE(Refused(Ckpt({"show", file}), 2, file));
    EXPECT_TRUE(Refused(Ckpt({"show", "--json", file}), 2, file));
    // An image that was cut off at once may be all that an empty file is.
    EXPECT_TRUE(Refused(Ckpt({"verify", file}), file == "empty" ? 1 : 2, file));
    EXPECT_TRUE(Refused(Ckpt({"diff", file, "base.img"}), 2, file));
    EXPECT_TRUE(Refused(Ckpt({"diff", "base.img", file}), 2, file));
  }
  EXPECT_FALSE(Exists("out.img"));
}

TEST_F(BadInput, Workloads) {
  files_.push_back("base.img");
  for (const std::string& file : files_) {
    EXPECT_TRUE(Refused(Ckpt({"run", file}), 2, file));
    EXPECT_TRUE(Refused(Ckpt({"run", file, "-o", "out.img", "--at", "base"}), 2, file));
    EXPECT_TRUE(Refused(Ckpt({"diff", file + "@base", "base.img"}), 2, file));
    EXPECT_TRUE(Refused(Ckpt({"restore", "base.img", "-o", "out.img", "--resume", file}), 2, file));
  }
  EXPECT_FALSE(Exists("out.img"));
}

// A program that a step executes, and a real file that is mapped, are looked for when they are needed.
TEST_F(BadInput, ProgramsAndRealFiles) {
  for (const std::string& name : files_) {
    if (name == "/proc/self/mem") continue;
    const std::string file = name.front() == '/' ? name : Path(name);
    Write("exec.textproto",
          "step { exec { path: \"" + file + "\" } }\nstep { checkpoint { label: \"base\" } }\n");
    EXPECT_TRUE(Refused(Ckpt({"run", "exec.textproto", "-o", "out.img"}), 2, file));
    if (name == "empty" || name == "junk") continue;  // a file like any other
    Write("real.textproto",
          "file { name: \"f\" real: \"" + file +
              "\" }\nstep { map { region: \"m\" file: \"f\" } }\nstep { checkpoint { label: \"base\" } }\n");
    EXPECT_TRUE(Refused(Ckpt({"run", "real.textproto", "-o", "out.img"}), 2, file));
  }
  EXPECT_FALSE(Exists("out.img"));
}

TEST_F(BadInput, AnExpectedFailureOfExecIsNone) {
  Write("exec.textproto",
        "step { exec { path: \"/nowhere\" } expect { outcome: \"ENOENT\" } }\n"
        "step { exec { path: \"" +
            Path("junk") + "\" } expect { outcome: \"ENOEXEC\" } }\n");
  EXPECT_TRUE(Good(Ckpt({"run", "exec.textproto"})));
}

TEST_F(BadInput, ElfCutAtAnyLength) {
  const std::string elf = support::ReadFile("/bin/true");
  ASSERT_GT(elf.size(), 4096u);
  for (size_t length = 1; length < 1200; length += 109) {
    Write("cut.elf", elf.substr(0, length));
    Write("exec.textproto", "step { exec { path: \"" + Path("cut.elf") + "\" } }\n");
    EXPECT_TRUE(Refused(Ckpt({"run", "exec.textproto"}), 2, "cut.elf")) << length;
  }
}

TEST_F(BadInput, AWorkloadCanComeFromAPipe) {
  const Outcome piped = Ckpt({"run", "/dev/stdin"}, {.input = kSmall});
  EXPECT_TRUE(Good(piped)) << piped;
}

// An image where a workload belongs, and the other way round: the line says what it is, and what takes it.
TEST_F(BadInput, ImagesAndWorkloadsMixedUp) {
  const std::string image = "'base.img' is an image, and a workload is expected: ";
  const std::string restore =
      image + "'ckpt restore base.img' rebuilds its memory, and with --resume WORKLOAD goes on";
  EXPECT_TRUE(Refused(Ckpt({"run", "base.img"}), 2, restore));
  Write("cut.img", Read("base.img").substr(0, 500));
  EXPECT_TRUE(Refused(Ckpt({"run", "cut.img"}), 2, "'ckpt restore cut.img'"));
  EXPECT_TRUE(Refused(Ckpt({"restore", "base.img", "--resume", "base.img"}), 2,
                      image + "--resume names the workload that the image was made from"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "base.img@base", "base.img"}), 2, image + "name it without '@base'"));
  const std::string workload =
      "small.textproto: not a ckpt image, but a workload: 'ckpt run small.textproto -o IMAGE' makes an image "
      "of it";
  for (const char* command : {"show", "restore", "verify"}) {
    EXPECT_TRUE(Refused(Ckpt({command, "small.textproto"}), 2, workload)) << command;
  }
  EXPECT_TRUE(Refused(Ckpt({"run", "empty"}), 2, "empty:1:1: ")) << "it has nothing of an image";
}

TEST_F(BadInput, WhatIsNoFileIsCalledWhatItIs) {
  const struct {
    const char* name;
    const char* kind;
  } others[] = {{"folder", "a directory"}, {"/dev/null", "a character device"}};
  for (const auto& [name, kind] : others) {
    const std::string says =
        std::string("ckpt: ") + name + ": it is " + kind + "; expected an image: a regular file or a pipe";
    for (const char* command : {"show", "restore", "verify"}) {
      EXPECT_TRUE(Refused(Ckpt({command, name}), 2, says)) << command;
    }
    EXPECT_TRUE(Refused(Ckpt({"diff", name, "base.img"}), 2, says));
    EXPECT_TRUE(Refused(Ckpt({"diff", "base.img", name}), 2, says));
  }
  EXPECT_TRUE(
      Refused(Ckpt({"run", "folder"}), 2, "read workload 'folder': it is a directory; expected a file"));
}

// Which of the two a name of diff means.
TEST_F(BadInput, MemoriesOfDiff) {
  EXPECT_TRUE(Refused(Ckpt({"diff", "small.textproto@", "base.img"}), 2, "base, later, end"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "small.textproto@nope", "base.img"}), 2, "nope"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "small.textproto@", "base.img"}), 2, "the label is missing"));
  for (const Args& line :
       {Args{"diff", "small.textproto", "base.img"}, Args{"diff", "base.img", "small.textproto"}}) {
    EXPECT_TRUE(Refused(
        Ckpt(line), 2,
        "'small.textproto' is a workload: name a moment of it as well, as in 'small.textproto@base'"));
  }
  Write("plain.textproto", "step { map { region: \"m\" length: \"4KiB\" } }\n");
  EXPECT_TRUE(Refused(Ckpt({"diff", "plain.textproto", "base.img"}), 2, "as in 'plain.textproto@end'"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "junk", "base.img"}), 2, "junk: not a ckpt image"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "@", "@"}), 2, "the workload is missing in front of '@'"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "base.img", "@base"}), 2, "the workload is missing in front of '@'"));
  std::filesystem::copy(Path("base.img"), Path("an@image"));
  EXPECT_TRUE(Good(Ckpt({"diff", "an@image", "base.img"})));
  Write("a@b.textproto", kSmall);
  EXPECT_TRUE(Good(Ckpt({"diff", "a@b.textproto@base", "base.img"})));
}

}  // namespace
}  // namespace cli_test
