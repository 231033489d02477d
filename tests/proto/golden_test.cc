// Bad images that are kept: each of tests/golden/refuse is refused in the words that stand beside it, by this
// version and every later one. (What must restart: tests/restore/golden_test.cc.) The images are never
// changed, and a text only when the words become better; new ones come with what is new in the format.
// CKPT_GOLDEN=1 has this test write what is missing, the images of MakeBad among it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "proto/verify.h"
#include "tests/proto/image_fixture.h"
#include "tests/support/support.h"

namespace {

using namespace fixture;

const std::string kFolder = CKPT_SOURCE_DIR "/tests/golden/refuse";

// A small good image, as bytes and by hand.
RawImage Good() {
  return MakeRaw(SmallMachine(),
                 {{MakeRun(PageRun::STORED, kAnonFirst, 2), MakeRun(PageRun::SAME, kAnonFirst, 2, 0, kMm2),
                   MakeRun(PageRun::ZERO, 5, 3, 0, kShmem, PageRun::SHMEM)}});
}

void Make(const std::string& name, const std::string& bytes) {
  const std::string path = kFolder + "/" + name + ".ckpt";
  if (!std::filesystem::exists(path)) support::WriteFile(path, bytes);
}

void MakeBad() {
  const std::string good = Good().Build();
  Make("empty", "");
  Make("cut_in_the_envelope", good.substr(0, 30));
  Make("cut_before_the_footer", good.substr(0, good.size() - 96));
  Make("cut_by_one", good.substr(0, good.size() - 1));
  Make("one_byte_more", good + "x");
  std::string flipped = good;
  flipped[good.size() / 2] = static_cast<char>(flipped[good.size() / 2] ^ 0x10);
  Make("flipped_in_the_middle", flipped);
  flipped = good;
  flipped[100] = static_cast<char>(flipped[100] ^ 1);
  Make("flipped_in_the_metadata", flipped);
  const auto with = [](const std::string& name, auto change) {
    RawImage raw = Good();
    change(raw);
    Make(name, raw.Build());
  };
  with("newer_version", [](RawImage& raw) {
    raw.envelope[20] = 9;  // min reader version
    const uint64_t sum = image::Xxh3(std::string_view(raw.envelope).substr(8, 28));
    for (size_t i = 0; i < 8; ++i) raw.envelope[36 + i] = static_cast<char>(sum >> (8 * i));
  });
  with("unknown_section", [](RawImage& raw) { raw.metadata.push_back({20, 0, "from the future"}); });
  with("no_processes", [](RawImage& raw) { raw.metadata.erase(raw.metadata.begin() + 2); });
  with("totals_lie", [](RawImage& raw) { raw.totals_offset_lie = 8; });
  with("chunk_hash_lies", [](RawImage& raw) { raw.chunks[0].xxh3_lie = 1; });
  with("frame_of_other_length",
       [](RawImage& raw) { raw.chunks[0].frame = Frame(std::string(3 * kPageSize, 'x')); });
  with("frame_without_checksum",
       [](RawImage& raw) { raw.chunks[0].frame = Frame(std::string(2 * kPageSize, 'x'), Checksum::kNo); });
  const auto of_runs = [](const std::string& name, const std::vector<PageRun>& runs) {
    Make(name, MakeRaw(SmallMachine(), {runs}).Build());
  };
  of_runs("run_outside_its_vma", {MakeRun(PageRun::STORED, 1, 2)});
  of_runs("runs_that_overlap",
          {MakeRun(PageRun::STORED, kAnonFirst, 2), MakeRun(PageRun::STORED, kAnonFirst + 1, 2, 2)});
  of_runs("same_of_nothing", {MakeRun(PageRun::SAME, kAnonFirst, 2, 7)});
  of_runs("run_of_an_unknown_owner", {MakeRun(PageRun::STORED, kAnonFirst, 2, 0, 99)});
  image::Metadata metadata = SmallMachine();
  metadata.machine.set_scope(ckpt_pb::Machine::MACHINE);
  Make("guest_without_its_sections", MakeRaw(metadata, {}).Build());
}

std::vector<std::string> Images() {
  if (std::getenv("CKPT_GOLDEN") != nullptr) MakeBad();
  std::vector<std::string> stems;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder))
    if (entry.path().extension() == ".ckpt") stems.push_back(entry.path().stem().string());
  std::ranges::sort(stems);
  return stems;
}

class GoldenRefuse : public testing::TestWithParam<std::string> {};

TEST_P(GoldenRefuse, IsRefusedInTheSameWords) {
  const std::string image = kFolder + "/" + GetParam() + ".ckpt";
  const auto verified = image::Verify(image);
  ASSERT_FALSE(verified.has_value());
  std::string words =
      std::string(base::CodeName(verified.error().code)) + ": " + verified.error().what + "\n";
  if (const size_t at = words.find(image); at != std::string::npos) words.replace(at, image.size(), "IMAGE");
  const std::string text = kFolder + "/" + GetParam() + ".txt";
  if (std::getenv("CKPT_GOLDEN") != nullptr && !std::filesystem::exists(text))
    support::WriteFile(text, words);
  EXPECT_EQ(words, support::ReadFile(text));
  EXPECT_FALSE(ReadAll(image).has_value()) << "who does not verify it reads it";
}

INSTANTIATE_TEST_SUITE_P(Each, GoldenRefuse, testing::ValuesIn(Images()),
                         [](const auto& param) { return param.param; });

}  // namespace
