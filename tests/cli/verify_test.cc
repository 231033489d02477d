// ckpt verify, and every command on damaged images: a cut at any length, a flipped byte anywhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "tests/cli/cli.h"
#include "tests/cli/in_process.h"

namespace cli_test {
namespace {

class Damage : public Commands {
 protected:
  Damage() {
    Image("base.img");
    good_ = Read("base.img");
  }

  // Verifies many images by one command: exit 1, and one line about each, in order.
  void AllDamaged(const std::vector<std::string>& names) const {
    std::vector<std::string> args = {"verify"};
    args.insert(args.end(), names.begin(), names.end());
    const Outcome outcome = Ckpt(args);
    EXPECT_EQ(outcome.exit_code, 1) << outcome;
    EXPECT_EQ(outcome.out, "") << "none of them is good";
    std::istringstream lines(outcome.err);
    std::string line;
    for (const std::string& name : names) {
      ASSERT_TRUE(std::getline(lines, line)) << name;
      EXPECT_TRUE(OneLine(line + "\n", "ckpt: " + name + ": "));
    }
    EXPECT_FALSE(std::getline(lines, line)) << line;
  }

  // That no command but verify reads `name`, and that none leaves a file.
  void NobodyReads(const std::string& name, bool show_too = true) {
    if (show_too) {
      EXPECT_TRUE(Refused(here_.Ckpt({"show", name}), 2, name));
    }
    EXPECT_TRUE(Refused(here_.Ckpt({"restore", name, "-o", "out.img"}), 2, name));
    EXPECT_FALSE(Exists("out.img"));
    EXPECT_TRUE(Refused(here_.Ckpt({"diff", name, name}), 2, name));
  }

  std::string good_;
  InProcess here_{Path("")};
};

// Each length within 4 KiB of the start and of the end.
TEST_F(Damage, CutAnywhere) {
  ASSERT_GT(good_.size(), 8192u);
  Write("cut", good_);
  for (size_t length = good_.size(); length-- > 0;) {
    const bool near_an_end = length < 64 || good_.size() - length < 64;
    if (length > 4096 && length < good_.size() - 4096) continue;
    if (support::kSanitized && length % 7 != 0 && !near_an_end) continue;
    std::filesystem::resize_file(Path("cut"), length);
    SCOPED_TRACE(length);
    EXPECT_TRUE(Refused(here_.Ckpt({"verify", "cut"}), 1, "ckpt: cut: incomplete: "));
    // The reader is theirs too (ImageReader.C31_cut_at_every_length).
    if (length % 16 == 0 || near_an_end) NobodyReads("cut");
    if (HasFailure()) return;
  }
}

TEST_F(Damage, ManyImagesOfOneCommand) {
  std::vector<std::string> names;
  for (size_t length = 0; length < good_.size(); length += 61) {
    names.push_back("cut" + std::to_string(length));
    Write(names.back(), good_.substr(0, length));
  }
  AllDamaged(names);
}

TEST_F(Damage, BytesBehindTheEnd) {
  Write("longer", good_ + "x");
  AllDamaged({"longer"});
  NobodyReads("longer");
  Write("twice", good_ + good_);
  AllDamaged({"twice"});
  NobodyReads("twice");
}

// The frames of an image, by docs/image-format.md: skippable ones are envelope, sections and footer,
// the others page data.
struct Frame {
  size_t offset;
  size_t length;
  bool pages;
};

uint32_t Word(const std::string& bytes, size_t at) {
  uint32_t word = 0;
  for (size_t i = 4; i-- > 0;) word = word << 8 | static_cast<unsigned char>(bytes[at + i]);
  return word;
}

std::vector<Frame> FramesOf(const std::string& image) {
  constexpr uint32_t kSkippable = 0x184D2A50;
  std::vector<Frame> frames;
  for (size_t at = 0; at < image.size();) {
    size_t end = at;
    const bool pages = Word(image, at) != kSkippable;
    if (!pages) {
      end = at + 8 + Word(image, at + 4);
    } else {
      // Up to the next section, which is the totals' or a chunk's.
      do {
        ++end;
      } while (Word(image, end) != kSkippable || image.compare(end + 9, 3, std::string(3, '\0')) != 0);
    }
    frames.push_back({at, end - at, pages});
    at = end;
  }
  return frames;
}

TEST_F(Damage, AFlippedByteInEachFrame) {
  const std::vector<Frame> frames = FramesOf(good_);
  ASSERT_EQ(std::ranges::count(frames, true, &Frame::pages), 1);
  // Envelope, machine, files, processes, a vmas of each mm, workload state, chunk runs, pages, totals,
  // index, footer.
  ASSERT_EQ(frames.size(), 12u);
  std::vector<std::string> names;
  for (const Frame& frame : frames) {
    for (const size_t part : {size_t{0}, size_t{4}, size_t{9}, frame.length / 2, frame.length - 1}) {
      std::string bad = good_;
      bad[frame.offset + part] = static_cast<char>(bad[frame.offset + part] ^ 0x10);
      names.push_back("flip" + std::to_string(frame.offset) + "-" + std::to_string(part));
      Write(names.back(), bad);
      SCOPED_TRACE(names.back());
      // Page data is not read by show.
      NobodyReads(names.back(), !frame.pages);
      if (frame.pages) {
        EXPECT_TRUE(Good(Ckpt({"show", "--pages", "--json", names.back()})));
      }
    }
  }
  AllDamaged(names);
}

// Its end says that a file is an image whose start is damaged.
TEST_F(Damage, AFlippedByteOfTheEnvelope) {
  std::vector<std::string> names;
  for (size_t at = 0; at < FramesOf(good_).front().length; ++at) {
    std::string bad = good_;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    names.push_back("flip" + std::to_string(at));
    Write(names.back(), bad);
  }
  AllDamaged(names);
  Write("beheaded", good_.substr(1000));
  AllDamaged({"beheaded"});
}

// ckpt-verify(1) draws the line between an image that is damaged, 1, and a file that is none, 2.
TEST_F(Damage, FilesThatAreNoImages) {
  const std::string magic = good_.substr(0, 16);
  Write("empty", "");
  Write("first", magic.substr(0, 1));
  Write("magic", magic);
  Write("length", magic.substr(0, 4) + "xxxx" + magic.substr(8));
  Write("footer", good_.substr(good_.size() - 96));
  AllDamaged({"empty", "first", "magic", "length", "footer"});
  Write("text", "no image\n");
  Write("zstd", magic.substr(0, 8) + "something else");
  Write("neither", "x" + good_.substr(1, good_.size() - 2));
  for (const char* name : {"text", "zstd", "neither", "small.textproto"}) {
    EXPECT_TRUE(Refused(Ckpt({"verify", name}), 2, std::string(name) + ": not a ckpt image"));
    NobodyReads(name);
  }
}

TEST_F(Damage, AFlippedByteKeepsTheOldImage) {
  std::string bad = good_;
  for (const Frame& frame : FramesOf(good_)) {
    if (frame.pages) bad[frame.offset + frame.length / 2] ^= 1;
  }
  Write("bad.img", bad);
  Write("old.img", "old");
  const std::vector<std::string> before = Names();
  EXPECT_TRUE(Refused(Ckpt({"restore", "bad.img", "-o", "old.img"}), 2, "bad.img"));
  EXPECT_TRUE(
      Refused(Ckpt({"restore", "bad.img", "-o", "old.img", "--resume", "small.textproto"}), 2, "bad.img"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "bad.img", "base.img"}), 2, "bad.img"));
  EXPECT_TRUE(Refused(Ckpt({"restore", "bad.img", "--json"}), 2, "bad.img"));
  EXPECT_EQ(Read("old.img"), "old");
  EXPECT_EQ(Names(), before);
}

TEST_F(Damage, SeveralImages) {
  Image("later.img", "later");
  const Outcome good = Ckpt({"verify", "base.img", "later.img"});
  EXPECT_TRUE(Good(good));
  EXPECT_THAT(good.out, testing::MatchesRegex("base.img: good, 6 pages in [0-9.]+ KiB, digest [0-9a-f]+\n"
                                              "later.img: good, 6 pages in [0-9.]+ KiB, digest [0-9a-f]+\n"));
  Write("cut.img", good_.substr(0, 500));
  const Outcome one_damaged = Ckpt({"verify", "base.img", "cut.img", "later.img"});
  EXPECT_EQ(one_damaged.exit_code, 1);
  EXPECT_TRUE(OneLine(one_damaged.err, "cut.img"));
  EXPECT_EQ(one_damaged.out, good.out) << "the others are looked at all the same";
  const Outcome one_missing = Ckpt({"verify", "missing", "base.img", "later.img"});
  EXPECT_EQ(one_missing.exit_code, 2);
  EXPECT_TRUE(OneLine(one_missing.err, "missing"));
  EXPECT_EQ(one_missing.out, good.out);
  EXPECT_EQ(Ckpt({"verify", "missing", "cut.img"}).exit_code, 2);
  EXPECT_EQ(Ckpt({"verify", "cut.img", "missing"}).exit_code, 2);
}

TEST_F(Damage, VerifyJson) {
  Write("cut.img", good_.substr(0, 500));
  const Outcome outcome = Ckpt({"verify", "--json", "base.img", "cut.img", "missing"});
  EXPECT_EQ(outcome.exit_code, 2);
  const nlohmann::json json = ParseJson(outcome.out);
  ASSERT_EQ(json.size(), 3u);
  EXPECT_EQ(json[0]["image"], "base.img");
  EXPECT_EQ(json[0]["good"], true);
  EXPECT_THAT(json[0]["digest"].get<std::string>(), testing::MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(json[0]["bytes"], good_.size());
  EXPECT_EQ(json[0]["chunks"], 1);
  EXPECT_EQ(json[0]["stored_pages"], 6);
  for (const size_t i : {1, 2}) {
    EXPECT_EQ(json[i]["good"], false);
    EXPECT_TRUE(json[i]["error"].is_string());
  }
}

}  // namespace
}  // namespace cli_test
