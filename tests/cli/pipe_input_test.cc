// Images that come through a pipe: "-", a FIFO, what a shell puts in the place of <(...).
#include <gtest/gtest.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "base/fd.h"
#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;

class PipeInput : public Commands {
 protected:
  PipeInput() { Image("base.img"); }

  Outcome Shell(const std::string& line, Options options = {}) const {
    options.folder = Path("");
    options.path = std::filesystem::path(CKPT_PROGRAM).parent_path();
    return Execute({"bash", "-c", line}, options);
  }
  static std::string Replaced(std::string text, const std::string& from, const std::string& to) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
    return text;
  }
};

// Each command says of a pipe what it says of the file, under its name.
TEST_F(PipeInput, IsTheSameImage) {
  const Args lines[] = {{"verify", "base.img"},
                        {"show", "base.img", "--vmas", "--pages", "--files"},
                        {"show", "base.img", "--map", "-"},
                        {"restore", "base.img", "--validate"},
                        {"restore", "base.img", "--resume", "small.textproto"},
                        {"diff", "base.img", "small.textproto@base"},
                        {"diff", "small.textproto@base", "base.img"}};
  for (const Args& line : lines) {
    const Outcome file = Ckpt(line);
    ASSERT_TRUE(Good(file)) << file;
    for (const auto& [name, says] :
         {std::pair("-", "standard input"), std::pair("/dev/stdin", "/dev/stdin")}) {
      Args piped = line;
      std::ranges::replace(piped, std::string("base.img"), std::string(name));
      const Outcome outcome = Ckpt(piped, {.input = Read("base.img")});
      EXPECT_TRUE(Good(outcome));
      EXPECT_EQ(outcome.out, Replaced(file.out, "base.img", says)) << name;
    }
  }
}

TEST_F(PipeInput, ThroughAShell) {
  for (const char* line :
       {"cat base.img | ckpt verify -", "ckpt verify - < base.img", "ckpt verify /dev/stdin < base.img",
        "ckpt diff <(cat base.img) base.img", "ckpt diff <(cat base.img) <(cat base.img)",
        "ckpt diff - <(cat base.img) < base.img", "ckpt verify <(cat base.img) base.img - < base.img",
        "ckpt run small.textproto --at base -q -o - | ckpt restore - --resume small.textproto -q -o - |"
        " ckpt diff - small.textproto@end",
        "mkfifo fifo && { cat base.img > fifo & ckpt verify fifo; }",
        "gzip -c base.img | gzip -dc | ckpt show -"}) {
    EXPECT_TRUE(Good(Shell(line))) << line;
  }
}

// What is left of standard input is the image, also of a file.
TEST_F(PipeInput, StartsWhereStandardInputStands) {
  Write("behind", "four" + Read("base.img"));
  EXPECT_TRUE(Good(Shell("{ dd bs=4 count=1 status=none > /dev/null; ckpt verify -; } < behind")));
  EXPECT_TRUE(Good(Shell("cat behind | { dd bs=4 count=1 status=none > /dev/null; ckpt verify -; }")));
}

TEST_F(PipeInput, Json) {
  const Options piped = {.input = Read("base.img")};
  EXPECT_EQ(ParseJson(Ckpt({"verify", "--json", "-"}, piped).out)[0]["image"], "-");
  EXPECT_EQ(ParseJson(Ckpt({"show", "--json", "-"}, piped).out)["image"], "-");
  EXPECT_EQ(ParseJson(Ckpt({"restore", "--json", "-"}, piped).out)["image"], "-");
  EXPECT_EQ(ParseJson(Ckpt({"diff", "--json", "-", "base.img"}, piped).out)["first"], "-");
}

// Nothing is built from a pipe that ends early, and nothing is written.
TEST_F(PipeInput, CutOrDamaged) {
  const std::string whole = Read("base.img");
  const Args before = Names();
  for (const size_t length : {size_t{1}, size_t{16}, size_t{200}, whole.size() / 2, whole.size() - 1}) {
    const Options piped = {.input = whole.substr(0, length)};
    EXPECT_TRUE(Refused(Ckpt({"verify", "-"}, piped), 1, "standard input: incomplete")) << length;
    EXPECT_TRUE(Refused(Ckpt({"show", "-"}, piped), 2, "standard input: incomplete")) << length;
    EXPECT_TRUE(Refused(Ckpt({"restore", "-", "-o", "x.img"}, piped), 2, "standard input: incomplete"));
    EXPECT_TRUE(Refused(Ckpt({"diff", "base.img", "-"}, piped), 2, "standard input: incomplete"));
  }
  std::string damaged = whole;
  damaged[damaged.size() / 2] ^= 1;
  EXPECT_TRUE(Refused(Ckpt({"verify", "/dev/stdin"}, {.input = damaged}), 1, "/dev/stdin: "));
  EXPECT_TRUE(Refused(Ckpt({"restore", "-", "-o", "x.img"}, {.input = damaged}), 2, "standard input: "));
  EXPECT_TRUE(Refused(Ckpt({"restore", "-", "-o", "x.img"}, {.input = kSmall}), 2,
                      "standard input: not a ckpt image (no \"CKPTIMG\" at its start)"));
  EXPECT_TRUE(Refused(Shell("true | ckpt verify -"), 1, "standard input: incomplete"));
  EXPECT_EQ(Names(), before);
}

TEST_F(PipeInput, WhatIsNoPipe) {
  const std::string expected = "; expected an image: a regular file or a pipe";
  EXPECT_TRUE(Refused(Ckpt({"verify", "-"}), 2, "standard input: it is a character device" + expected));
  EXPECT_TRUE(Refused(Shell("ckpt verify - < ."), 2, "standard input: it is a directory" + expected));
  EXPECT_TRUE(Refused(Shell("ckpt verify - <&-"), 2, "standard input: it is a character device" + expected));
  const base::Fd terminal(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(terminal.is_open() && grantpt(terminal.get()) == 0 && unlockpt(terminal.get()) == 0);
  EXPECT_TRUE(Refused(Shell(std::string("ckpt show - < ") + ptsname(terminal.get())), 2,
                      "standard input: it is a terminal" + expected));
  // A file of that name has a folder in front of it.
  Write("-", Read("base.img"));
  EXPECT_TRUE(Good(Ckpt({"verify", "./-"})));
  EXPECT_TRUE(Refused(Ckpt({"verify", "-"}), 2, "standard input: "));
}

TEST_F(PipeInput, IsReadOnce) {
  const Options piped = {.input = Read("base.img")};
  const std::string twice = "standard input is named twice: it can be read once";
  EXPECT_TRUE(Refused(Ckpt({"diff", "-", "-"}, piped), 2, twice));
  EXPECT_TRUE(Refused(Shell("ckpt diff - - < base.img"), 2, twice));
  EXPECT_TRUE(Refused(Ckpt({"verify", "-", "base.img", "-"}, piped), 2, twice));
  EXPECT_TRUE(Refused(Ckpt({"diff", "/dev/stdin", "-"}, piped), 2,
                      "'/dev/stdin' and '-' are the same pipe: it can be read once"));
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  EXPECT_TRUE(Refused(Ckpt({"diff", "fifo", "./fifo"}), 2, "'fifo' and './fifo' are the same pipe"));
}

TEST_F(PipeInput, IsKeptWhereTmpdirSays) {
  std::filesystem::create_directory(Path("tmp"));
  EXPECT_TRUE(Good(Shell("cat base.img | TMPDIR=tmp ckpt verify -")));
  EXPECT_TRUE(std::filesystem::is_empty(Path("tmp")));
  EXPECT_TRUE(Good(Shell("cat base.img | TMPDIR=/nowhere ckpt verify -")));
  EXPECT_TRUE(
      Refused(Shell("cat base.img | TMPDIR=tmp ckpt verify -", {.limits = {{RLIMIT_FSIZE, 1000}}}), 2,
              "standard input: cannot keep what the pipe gives in tmp (TMPDIR can name another folder)"));
}

// The picture would take the place of the image.
TEST_F(PipeInput, IsNotWrittenOver) {
  EXPECT_TRUE(Refused(Shell("ckpt show - --map base.img < base.img"), 2, "'base.img' is the image itself"));
  EXPECT_TRUE(Refused(Shell("ckpt restore - -o - 0<> base.img 1<&0"), 2, "goes to the image itself"));
  EXPECT_TRUE(Good(Ckpt({"verify", "base.img"})));
}

// A writer that says nothing, or half an image, or has not come yet.
TEST_F(PipeInput, ASignalEndsTheWait) {
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  for (const bool has_writer : {false, true}) {
    base::Fd writer;
    if (has_writer) writer = base::Fd(open(Path("fifo").c_str(), O_RDWR | O_CLOEXEC));
    const Args lines[] = {
        {"verify", "fifo"}, {"restore", "fifo"}, {"show", "fifo"}, {"diff", "base.img", "fifo"}};
    for (const Args& line : lines) {
      Process process(CkptArgv(line), {.folder = Path("")});
      ASSERT_TRUE(process.WaitUntilItCatches(SIGINT));
      if (has_writer) {
        ASSERT_EQ(write(writer.get(), Read("base.img").data(), 500), 500);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      ASSERT_TRUE(process.Running());
      process.Send(SIGINT);
      const Outcome outcome = process.Wait();
      EXPECT_EQ(outcome.signal, SIGINT) << outcome;
      EXPECT_TRUE(OneLine(outcome.err, "fifo: interrupted"));
    }
  }
}

}  // namespace
}  // namespace cli_test
