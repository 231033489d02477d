// Images damaged in random ways: every command ends with one clear line, and none takes a damaged image for a
// good one. From a printed seed: CKPT_SEED=N runs that one, CKPT_LONG=1 many more.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "base/random.h"
#include "tests/cli/cli.h"
#include "tests/cli/in_process.h"

namespace cli_test {
namespace {

class Fuzz : public Commands {
 protected:
  Fuzz() {
    Image("good.img");
    good_ = Read("good.img");
  }

  // One to four changes of what an image is: bytes, their order, their number.
  std::string Damaged(base::Random& random) const {
    std::string bytes = good_;
    for (uint64_t changes = 1 + random.Below(4); changes > 0 && !bytes.empty(); --changes) {
      const size_t at = random.Below(bytes.size());
      const size_t length = 1 + random.Below(std::min<uint64_t>(bytes.size() - at, 64));
      switch (random.Below(7)) {
        case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.Below(8))); break;
        case 1: bytes[at] = static_cast<char>(random.Below(256)); break;
        case 2: bytes.resize(at); break;
        case 3: bytes.erase(at, length); break;
        case 4: bytes.insert(at, bytes.substr(random.Below(bytes.size()), length)); break;
        case 5: std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at), length, '\0'); break;
        default: bytes += std::string(length, static_cast<char>(random.Below(256))); break;
      }
    }
    return bytes;
  }

  // What ckpt-verify(1) calls an image, however little of it is left.
  bool IsImage(const std::string& bytes) const {
    constexpr size_t kFooterBytes = 96;
    bool starts = true;
    for (size_t i = 0; i < std::min<size_t>(bytes.size(), 16); ++i) {
      const bool length = i >= 4 && i < 8;
      starts = starts && (length || bytes[i] == good_[i]);
    }
    if (starts) return true;
    return bytes.size() >= kFooterBytes &&
           bytes.compare(bytes.size() - kFooterBytes + 8, 8, "CKPTFOOT") == 0 && bytes.ends_with("CKPTEND\n");
  }

  void Try(InProcess& here, const std::string& bytes) {
    Write("bad.img", bytes);
    const Outcome verified = here.Ckpt({"verify", "bad.img", "-q"});
    if (bytes == good_) {
      EXPECT_EQ(verified.exit_code, 0);
      return;
    }
    // No damage makes another version of it: its checksum would have to be right.
    EXPECT_TRUE(Refused(verified, IsImage(bytes) ? 1 : 2)) << verified;
    EXPECT_TRUE(Refused(here.Ckpt({"restore", "bad.img", "-q", "-o", "out.img"}), 2));
    EXPECT_TRUE(Refused(here.Ckpt({"diff", "bad.img", "good.img", "-q"}), 2));
    EXPECT_FALSE(Exists("out.img"));
    // It reads no page data, and so may show an image whose pages are damaged.
    const Outcome shown = here.Ckpt({"show", "bad.img", "--vmas"});
    if (shown.exit_code != 0) {
      EXPECT_TRUE(Refused(shown, 2));
    }
  }

  std::string good_;
};

TEST_F(Fuzz, DamagedImagesAreRefusedByEveryCommand) {
  const char* seed_text = std::getenv("CKPT_SEED");
  const uint64_t seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : std::random_device{}();
  const uint64_t cases = seed_text != nullptr ? 1 : std::getenv("CKPT_LONG") != nullptr ? 100'000 : 500;
  std::printf("seed %llu, %llu cases\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(cases));
  std::fflush(stdout);
  InProcess here(Path(""));
  for (uint64_t i = 0; i < cases && !HasFailure(); ++i) {
    SCOPED_TRACE("CKPT_SEED=" + std::to_string(seed + i));
    base::Random random(seed + i);
    Try(here, Damaged(random));
  }
}

}  // namespace
}  // namespace cli_test
