// Workload files changed in random ways: they are read, or refused in one line with a place. From a printed
// seed: CKPT_SEED=N runs that one, CKPT_LONG=1 many more.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/support/support.h"
#include "workload/script.h"

namespace workload {
namespace {

std::vector<std::string> Examples() {
  std::vector<std::string> texts;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_SOURCE_DIR "/workload/examples")) {
    if (entry.path().extension() == ".textproto") texts.push_back(support::ReadFile(entry.path()));
  }
  return texts;
}

// What mistakes are made of: words of the language, numbers at their limits, marks.
constexpr const char* kPieces[] = {
    "{",      "}",        "step", "repeat",  "times: ",   "0",
    "-1",     "\"",       "#",    ":",       "length",    "18446744073709551616",
    "1TiB",   "\"8EiB\"", "\n",   "process", "fork",      "checkpoint",
    "cpus: ", "\\",       "\x01", "[",       "/dev/zero", "barrier {}"};

std::string Changed(const std::vector<std::string>& texts, base::Random& random) {
  std::string text = texts[random.Below(texts.size())];
  for (uint64_t changes = 1 + random.Below(5); changes > 0 && !text.empty(); --changes) {
    const size_t at = random.Below(text.size());
    const size_t length = 1 + random.Below(std::min<uint64_t>(text.size() - at, 40));
    const std::string& other = texts[random.Below(texts.size())];
    switch (random.Below(6)) {
      case 0: text[at] = static_cast<char>(random.Below(256)); break;
      case 1: text.erase(at, length); break;
      case 2: text.insert(at, kPieces[random.Below(std::size(kPieces))]); break;
      case 3: text.insert(at, other.substr(random.Below(other.size()), length)); break;
      case 4: text.replace(at, length, kPieces[random.Below(std::size(kPieces))]); break;
      default: text.resize(at); break;
    }
  }
  return text;
}

TEST(Fuzz, ChangedWorkloadsAreReadOrRefusedWithAPlace) {
  const char* seed_text = std::getenv("CKPT_SEED");
  const uint64_t seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : std::random_device{}();
  const uint64_t cases = seed_text != nullptr ? 1 : std::getenv("CKPT_LONG") != nullptr ? 300'000 : 2000;
  std::printf("seed %llu, %llu cases\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(cases));
  const std::vector<std::string> texts = Examples();
  ASSERT_GE(texts.size(), 8u);
  const std::regex placed("w:[0-9]+:[0-9]+: [^\\n]+");
  uint64_t refused = 0;
  for (uint64_t i = 0; i < cases && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE("CKPT_SEED=" + std::to_string(seed + i));
    base::Random random(seed + i);
    const std::string text = Changed(texts, random);
    const base::Result<Script> script = Script::Parse("w", text);
    if (script) continue;
    ++refused;
    EXPECT_TRUE(std::regex_match(script.error().what, placed)) << script.error().what << "\n" << text;
  }
  if (cases > 100) {
    EXPECT_GT(refused, cases / 4);
  }
}

}  // namespace
}  // namespace workload
