// Standard output that does not take what is printed, and limits of the system.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;

class Printing : public Commands {
 protected:
  Printing() { Image("base.img"); }

  const Args results_[10] = {{"--help"},
                             {"--version"},
                             {"show", "--help"},
                             {"run", "small.textproto"},
                             {"run", "small.textproto", "--json"},
                             {"restore", "base.img", "--text-dump"},
                             {"diff", "base.img", "small.textproto@base"},
                             {"show", "base.img"},
                             {"show", "--json", "base.img"},
                             {"verify", "base.img"}};
};

TEST_F(Printing, AFullDiskIsTrouble) {
  for (const Args& line : results_) {
    const Outcome outcome = Ckpt(line, {.out = Output::kFull});
    EXPECT_TRUE(Refused(outcome, 2, "standard output: No space left on device"))
        << testing::PrintToString(line);
  }
}

TEST_F(Printing, AClosedStandardOutputIsTrouble) {
  for (const Args& line : results_) {
    EXPECT_TRUE(Refused(Ckpt(line, {.out = Output::kClosed}), 2, "standard output"))
        << testing::PrintToString(line);
  }
}

// A reader that has seen enough, such as head(1).
TEST_F(Printing, AClosedPipeIsNoTrouble) {
  for (const Args& line : results_) {
    const Outcome outcome = Ckpt(line, {.out = Output::kBrokenPipe});
    EXPECT_TRUE(Good(outcome)) << testing::PrintToString(line);
  }
}

TEST_F(Printing, TheExitCodeOutlivesAClosedPipe) {
  EXPECT_EQ(Ckpt({"diff", "base.img", "small.textproto@later"}, {.out = Output::kBrokenPipe}).exit_code, 1);
}

TEST_F(Printing, ErrorsThatCannotBeWrittenKeepTheExitCode) {
  for (const Output err : {Output::kClosed, Output::kFull, Output::kBrokenPipe}) {
    EXPECT_EQ(Ckpt({"show", "nothing"}, {.err = err}).exit_code, 2);
  }
}

TEST_F(Printing, QuietSaysNothing) {
  for (const Args& line :
       {Args{"run", "small.textproto", "-q"}, Args{"restore", "base.img", "-q"},
        Args{"restore", "base.img", "--resume", "small.textproto", "--quiet"},
        Args{"diff", "base.img", "small.textproto@base", "-q"}, Args{"verify", "base.img", "--quiet"}}) {
    const Outcome outcome = Ckpt(line);
    EXPECT_TRUE(Good(outcome)) << testing::PrintToString(line);
    EXPECT_EQ(outcome.out, "") << testing::PrintToString(line);
  }
}

// A closed descriptor must not be the next file that is opened: results would go into it.
TEST_F(Printing, ClosedDescriptorsDoNotBecomeFiles) {
  std::string many =
      "file { name: \"f\" size: \"1MiB\" generator: \"text\" }\nstep { map { region: \"m\" file: \"f\" } }\n";
  for (int i = 0; i < 40; ++i) {
    many += "step { store { region: \"m\" length: \"4KiB\" } }\n";
    many += "step { checkpoint { label: \"c" + std::to_string(i) + "\" } }\n";
  }
  Write("many.textproto", many);
  const Args line = {"run", "many.textproto", "--no-sync", "-o", "{label}.img", "--text-dump", "--disk"};
  const auto with = [&](const std::string& folder) {
    Args args = line;
    args.push_back(folder);
    return args;
  };
  ASSERT_TRUE(Good(Ckpt(with("reference"))));
  const std::string reference = Read("reference/f");
  ASSERT_EQ(reference.size(), 1u << 20);
  EXPECT_TRUE(Refused(Ckpt(with("disk"), {.out = Output::kClosed}), 2, "standard output"));
  EXPECT_TRUE(Read("disk/f") == reference) << "what was printed went into the file";
  EXPECT_EQ(Ckpt(with("quiet"), {.out = Output::kClosed, .err = Output::kClosed}).exit_code, 2);
  EXPECT_TRUE(Read("quiet/f") == reference) << "what was printed went into the file";
  for (int i = 0; i < 40; ++i) {
    EXPECT_TRUE(Good(Ckpt({"verify", "c" + std::to_string(i) + ".img"})));
  }
}

// Too little memory is one line, not a crash; on several CPUs too, whose stacks no exception may leave.
TEST_F(Printing, NoMemoryIsOneLine) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the address sanitizer reserves more address space than these limits allow";
#endif
  // The page tables of it take 32 MiB.
  Write("large.textproto",
        "machine { memory: \"16MiB\" }\nstep { map { region: \"m\" length: \"16GiB\" } }\n"
        "step { load { region: \"m\" stride: \"2MiB\" } }\n");
  for (const rlim_t mib : {20, 24, 32, 48, 64, 96, 128}) {
    const Options limited = {.limits = {{RLIMIT_AS, mib << 20}}};
    for (const Args& line :
         {Args{"run", "small.textproto", "-q", "--no-sync", "--at", "base", "-o", "as.img"},
          Args{"run", "small.textproto", "-q", "--cpus", "2"}, Args{"run", "large.textproto", "-q"},
          Args{"run", "large.textproto", "-q", "--cpus", "2"}, Args{"restore", "base.img", "-q"},
          Args{"verify", "base.img", "-q"}, Args{"diff", "base.img", "base.img", "-q"}}) {
      const Outcome outcome = Ckpt(line, limited);
      if (outcome.exit_code == 0) continue;
      EXPECT_TRUE(Refused(outcome, 2)) << mib << " MiB: " << testing::PrintToString(line);
      EXPECT_THAT(outcome.err, testing::ContainsRegex("memory|thread")) << "says of what there is too little";
    }
  }
}

TEST_F(Printing, TooFewDescriptorsIsOneLine) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizers need a descriptor of their own to look at memory (UBSan's vptr check)";
#endif
  for (const rlim_t count : {3, 4, 5, 6}) {
    const Options limited = {.limits = {{RLIMIT_NOFILE, count}}};
    for (const Args& line :
         {Args{"run", "small.textproto", "-q", "--no-sync", "--at", "base", "-o", "fd.img"},
          Args{"restore", "base.img", "-q"}, Args{"verify", "base.img", "-q"}}) {
      const Outcome outcome = Ckpt(line, limited);
      if (outcome.exit_code == 127 || outcome.exit_code == 0) continue;
      EXPECT_TRUE(Refused(outcome, 2, "Too many open files"))
          << count << ": " << testing::PrintToString(line);
    }
  }
}

}  // namespace
}  // namespace cli_test
