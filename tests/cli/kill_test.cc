// kill -9 at random moments of a checkpoint: the image under the name is the old one or the new one, and what
// the killed ones leave is gone after the next that is not.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

#include "base/random.h"
#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;
using std::chrono::microseconds;

uint64_t Seed() {
  const char* given = std::getenv("CKPT_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("CKPT_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  return seed;
}

class Kill : public Commands {
 protected:
  Kill() {
    Write("w.textproto",
          "step { map { region: \"m\" length: \"2MiB\" } }\n"
          "step { store { region: \"m\" fill { text {} } } }\n"
          "step { checkpoint { label: \"one\" } }\n"
          "step { store { region: \"m\" length: \"1MiB\" fill { random { seed: 3 } } } }\n"
          "step { checkpoint { label: \"two\" } }\n");
  }

  static Args Line(const std::string& label, const std::string& level) {
    return {"run",        "w.textproto",   "-q",        "--at", label, "-o", "x.img",
            "--compress", "zstd:" + level, "--threads", "1"};
  }

  // How long it takes that nobody kills; the image is under its name, and its bytes are kept.
  microseconds Undisturbed(const std::string& label, const std::string& level, std::string& bytes) const {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(Good(Ckpt(Line(label, level))));
    const auto end = std::chrono::steady_clock::now();
    bytes = Read("x.img");
    return std::chrono::duration_cast<microseconds>(end - start);
  }

  size_t Temporaries() const {
    return static_cast<size_t>(std::ranges::count_if(
        Names(), [](const std::string& name) { return name.starts_with(".x.img.ckpt-"); }));
  }

  // Kills `rounds` of them. Level 1 has most moments around the syncs and the rename, level 19 in the writes.
  void Rounds(const std::string& level, int rounds, base::Random& random) {
    std::string one;
    std::string two;
    Undisturbed("two", level, two);
    const microseconds whole = Undisturbed("one", level, one);
    int killed = 0;
    for (int round = 0; round < rounds; ++round) {
      const bool is_one = Read("x.img") == one;
      Process process(CkptArgv(Line(is_one ? "two" : "one", level)), {.folder = Path("")});
      std::this_thread::sleep_for(microseconds(random.Below(static_cast<uint64_t>(whole.count()))));
      process.Send(SIGKILL);
      killed += process.Wait().signal == SIGKILL ? 1 : 0;
      const std::string found = Read("x.img");
      EXPECT_TRUE(found == one || found == two) << "round " << round;
      EXPECT_TRUE(Good(Ckpt({"verify", "-q", "x.img"}))) << "round " << round;
      EXPECT_LE(Temporaries(), 1u) << "each run removes what the one before it left";
    }
    EXPECT_GT(killed, 0);
    EXPECT_TRUE(Good(Ckpt(Line("two", "1"))));
    EXPECT_EQ(Names(), (Args{"small.textproto", "w.textproto", "x.img"}));
  }
};

TEST_F(Kill, AtRandomMoments) {
  const uint64_t seed = Seed();
  SCOPED_TRACE("CKPT_SEED=" + std::to_string(seed));
  base::Random random(seed);
  Rounds("1", 20, random);
  Rounds("19", 8, random);
}

// The temporary file of one that lives is not taken for one that was left.
TEST_F(Kill, OfTwoAtOnceEachComesToItsEnd) {
  Process slow(CkptArgv(Line("one", "19")), {.folder = Path("")});
  while (Temporaries() == 0 && slow.Running()) std::this_thread::sleep_for(microseconds(500));
  ASSERT_EQ(Temporaries(), 1u);
  EXPECT_TRUE(Good(Ckpt(Line("two", "1"))));
  EXPECT_EQ(Temporaries(), 1u);
  const std::string two = Read("x.img");
  EXPECT_TRUE(Good(slow.Wait()));
  EXPECT_NE(Read("x.img"), two);
  EXPECT_TRUE(Good(Ckpt({"verify", "-q", "x.img"})));
  EXPECT_EQ(Names(), (Args{"small.textproto", "w.textproto", "x.img"}));
}

}  // namespace
}  // namespace cli_test
