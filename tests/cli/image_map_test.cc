// ckpt show --map: which page is drawn as what.
#include "cli/image_map.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

// Two pages of anonymous memory are modified, a fork shares them, and the child changes one; a page is in
// swap, one of a file is clean, one was only read.
constexpr char kPages[] = R"(
machine { memory: "16MiB" swap: "1MiB" semantics: "hints=writable" }
file { name: "f" size: "64KiB" generator: "text" seed: 5 }
step { map { region: "a" length: "64KiB" } }
step { map { region: "b" length: "64KiB" file: "f" } }
step { store { region: "a" length: "8KiB" fill { byte: 7 } } }
step { load { region: "a" offset: "16KiB" length: "4KiB" } }
step { load { region: "b" length: "4KiB" } }
step { fork { child: "kid" } }
step { process: "kid" store { region: "a" length: "4KiB" fill { byte: 8 } } }
step { checkpoint { label: "base" } }
step { madvise { region: "a" length: "4KiB" advice: PAGEOUT } }
step { unmap { region: "b" } }
step { checkpoint { label: "later" } }
)";

class ImageMap : public Commands {
 protected:
  ImageMap() { Write("pages.textproto", kPages); }

  cli::PageMap MapOf(const std::string& label, const std::string& scope) {
    EXPECT_TRUE(Good(Ckpt(
        {"run", "pages.textproto", "-q", "--no-sync", "--at", label, "--scope", scope, "-o", "pages.img"})));
    const auto image = image::Reader::Open(Path("pages.img"));
    EXPECT_TRUE(image.has_value());
    return cli::MapOf(**image).value();
  }
  // "M2 .14": two modified pages, then fourteen of which nothing is known.
  static std::string Text(const cli::MapRow& row) {
    const std::map<cli::PageLook, char> glyphs = {
        {cli::PageLook::kAbsent, '.'}, {cli::PageLook::kClean, 'c'}, {cli::PageLook::kModified, 'M'},
        {cli::PageLook::kShared, 'S'}, {cli::PageLook::kZero, '0'},  {cli::PageLook::kSwapped, 's'},
    };
    std::string text;
    for (const cli::MapRun& run : row.runs)
      text += (text.empty() ? "" : " ") + std::string(1, glyphs.at(run.look)) + std::to_string(run.count);
    return text;
  }
  static std::vector<std::string> Texts(const cli::PageMap& map) {
    std::vector<std::string> texts;
    for (const cli::MapRow& row : map.rows) {
      if (row.name != "frames of the guest") texts.push_back(Text(row));
    }
    return texts;
  }
};

TEST_F(ImageMap, OfProcesses) {
  const cli::PageMap map = MapOf("base", "process");
  EXPECT_THAT(map.title, testing::HasSubstr("checkpoint 'base' of 2 processes"));
  // By address: f below a, of each process.
  EXPECT_EQ(Texts(map), (std::vector<std::string>{".16", "M1 S1 .14", ".16", "M1 S1 .14"}));
  EXPECT_THAT(map.rows[0].name, testing::EndsWith("rw-p f"));
  EXPECT_THAT(map.rows[1].name, testing::StartsWith("1 "));
}

TEST_F(ImageMap, OfAWholeGuest) {
  const cli::PageMap map = MapOf("base", "machine");
  EXPECT_THAT(map.title, testing::HasSubstr("of a whole guest"));
  EXPECT_EQ(Texts(map), (std::vector<std::string>{"c1 .15", "M1 S1 .2 01 .11", ".16", "M1 S1 .2 01 .11"}))
      << "a fork copies no page tables that a fault can make again";
  ASSERT_EQ(map.rows.front().name, "frames of the guest");
  uint64_t stable = 0;
  for (const cli::MapRun& run : map.rows.front().runs)
    stable += run.look == cli::PageLook::kSr ? run.count : 0;
  EXPECT_GE(stable, 3u);
}

TEST_F(ImageMap, SwapIsDrawn) {
  const std::vector<std::string> texts = Texts(MapOf("later", "machine"));
  ASSERT_EQ(texts.size(), 3u);
  EXPECT_EQ(texts[0], "s1 S1 .2 01 .11");
}

TEST_F(ImageMap, AsTextAndAsAFile) {
  (void)MapOf("base", "machine");
  const Outcome text = Ckpt({"show", "pages.img", "--map", "-"});
  ASSERT_TRUE(Good(text));
  EXPECT_THAT(text.out, testing::HasSubstr("M modified"));
  EXPECT_THAT(text.out, testing::Not(testing::HasSubstr("\033"))) << "colours, and no terminal";
  const Outcome file = Ckpt({"show", "pages.img", "--map", "map.svg"});
  ASSERT_TRUE(Good(file));
  EXPECT_EQ(file.out, "");
  EXPECT_THAT(Read("map.svg"), testing::HasSubstr("<svg "));
}

TEST_F(ImageMap, IsNotWrittenOverTheImage) {
  (void)MapOf("base", "process");
  const std::string before = Read("pages.img");
  EXPECT_TRUE(Refused(Ckpt({"show", "pages.img", "--map", "pages.img"}), 2, "the image itself"));
  EXPECT_TRUE(Refused(Ckpt({"show", "pages.img", "--map", "no/such/folder.svg"}), 2, "no/such"));
  EXPECT_TRUE(Refused(Ckpt({"show", "pages.img", "--map", "-", "--json"}), 2, "do not go together"));
  EXPECT_EQ(Read("pages.img"), before);
}

TEST_F(ImageMap, TotalsOfAGuest) {
  (void)MapOf("later", "machine");
  const Outcome text = Ckpt({"show", "pages.img"});
  ASSERT_TRUE(Good(text));
  EXPECT_THAT(text.out, testing::HasSubstr("the whole guest, a machine of 16.0 MiB, swap of 1.0 MiB"));
  EXPECT_THAT(text.out, testing::ContainsRegex("\nframes used +[0-9]+ "));
  EXPECT_THAT(text.out, testing::ContainsRegex("\ndropped +[1-9][0-9]*  .* not written, [0-9.]+% of"));
  const Outcome outcome = Ckpt({"show", "pages.img", "--json"});
  const nlohmann::json json = ParseJson(outcome.out);
  EXPECT_EQ(json["scope"], "machine");
  EXPECT_GT(json["totals"]["dropped"].get<uint64_t>(), 0u);
  uint64_t frames = 0;
  for (const auto& [state, count] : json["totals"]["by_state"].items()) frames += count.get<uint64_t>();
  EXPECT_EQ(json["totals"]["frames"], frames);
}

}  // namespace
}  // namespace cli_test
