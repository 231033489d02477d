// The soak: ten million random steps of guests and of hosts that are short of memory, under every preset of
// semantics, the hinting ones in each design and on each platform that they work on. No invariant is broken,
// and contents are right.
//
//   CKPT_LONG=1   ten million in all; otherwise some tens of thousands
//   CKPT_SEED=N   the seed of the cases, which is printed, instead of a fresh one
//
// A step is one call or access of the guest, or one thing that the host does before it, by its own order of
// preference or at random: to take up to sixteen frames, eight of any, or all that it may is one step each,
// and so is an idle moment of the CPU. What the host does by itself, as its guest touches more than it has
// room for, is not counted.
//
// What is looked at how often:
//   after each call and access   its outcome; every byte of each process and file, what is mapped where, and
//                                what counts as modified, against the naive model
//   after each 16th of them, and the last of a case   mm::Validate, deep
// What Validate alone could see, and what is gone again by its next turn, is for the other tests of this
// folder: they validate after each step.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/property/cases.h"

namespace property {
namespace {

constexpr uint64_t kStepsLong = 10'000'000;  // of all parts together
constexpr uint64_t kStepsShort = 600;        // of each part
constexpr uint32_t kValidateEvery = 16;
constexpr size_t kCaseSteps = 300;

// One machine; each is a test of its own, so that none takes longer than ctest allows.
struct Part {
  std::string preset;  // or none: the defaults
  std::string change;  // a switch on top of it, or none

  std::string Variables() const {
    std::string text = "CKPT_HOST=1";
    if (!preset.empty()) text += " CKPT_PRESET=" + preset;
    if (!change.empty()) text += " CKPT_SWITCH=" + change;
    return text;
  }
};

std::vector<Part> Parts() {
  // Without hints there is a host that pages. The base design has dirty bits in storage keys (SetSwitch), as
  // the presets of page hinting have them themselves; hints=writable has them in ptes, unless the preset says
  // otherwise.
  constexpr const char* kChanges[] = {"", "hints=base", "hints=writable"};
  constexpr const char* kChangesOfHinting[] = {"", "hints=base", "dirty_bits=pte"};
  std::vector<Part> parts;
  for (const char* change : kChanges) parts.push_back({"", change});
  for (const std::string_view preset : mm::GenerationNames()) {
    const bool hinting = mm::Generation(preset)->hints != mm::Hints::kOff;
    for (const char* change : hinting ? kChangesOfHinting : kChanges) {
      parts.push_back({std::string(preset), change});
    }
  }
  return parts;
}

std::string NameOf(const testing::TestParamInfo<Part>& test) {
  std::string name = test.param.preset.empty() ? "defaults" : test.param.preset;
  if (!test.param.change.empty()) name += "_" + test.param.change;
  for (char& c : name) c = c == '=' ? '_' : c;
  return name;
}
void PrintTo(const Part& part, std::ostream* out) { *out << part.Variables(); }

class Soak : public testing::TestWithParam<Part> {
 protected:
  void SetUp() override { CatchDeath(); }
};

TEST_P(Soak, StaysRight) {
  const Part& part = GetParam();
  Options options{.host = true};
  if (!part.preset.empty()) options.semantics = mm::Generation(part.preset).value();
  if (!part.change.empty()) {
    ASSERT_TRUE(mm::SetSwitch(options.semantics, part.change));
  }
  options.validate_every = kValidateEvery;
  const char* given = std::getenv("CKPT_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : FreshSeed();
  const uint64_t wanted = LongRun() ? kStepsLong / Parts().size() + 1 : kStepsShort;
  const auto begin = std::chrono::steady_clock::now();
  const Progress before = CurrentProgress();
  const auto guest = [&] { return CurrentProgress().steps_total - before.steps_total; };
  const auto host = [&] { return CurrentProgress().host_steps - before.host_steps; };
  // The number of steps alone decides when it is over.
  for (uint64_t number = 0; guest() + host() < wanted; ++number) {
    const bool tight = number % 2 == 1;
    options.memory = tight ? Memory::kTight : Memory::kAmple;
    if (RunCases(seed + number, 1, kCaseSteps, options)) continue;
    FAIL() << "with " << part.Variables() << (tight ? " CKPT_TIGHT=1" : "");
  }
  const uint64_t discarded = CurrentProgress().discarded - before.discarded;
  const uint64_t paged_out = CurrentProgress().paged_out - before.paged_out;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("%s: CKPT_SEED=%llu, %llu steps of the guest, %llu of the host, %.1f s\n",
              part.Variables().c_str(), static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(guest()), static_cast<unsigned long long>(host()),
              seconds.count());
  std::printf("  %llu pages discarded, %llu discard faults, %llu paged out\n",
              static_cast<unsigned long long>(discarded),
              static_cast<unsigned long long>(CurrentProgress().discard_faults - before.discard_faults),
              static_cast<unsigned long long>(paged_out));
  EXPECT_GE(guest() + host(), wanted);
  const bool hints = options.semantics.hints != mm::Hints::kOff;
  EXPECT_TRUE(hints || discarded == 0);
  if (!LongRun()) return;
  // Both took part, and the host was short.
  EXPECT_GT(guest(), wanted / 2);
  EXPECT_GT(host(), wanted / 10);
  EXPECT_GT(paged_out, wanted / 100);
  EXPECT_TRUE(!hints || discarded > wanted / 1000);
}

INSTANTIATE_TEST_SUITE_P(Each, Soak, testing::ValuesIn(Parts()), NameOf);

}  // namespace
}  // namespace property
