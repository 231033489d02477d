// ckpt show: what an image holds, without reading its page data; and stock zstd(1) on it.
#include <gtest/gtest.h>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

class ShowCommand : public Commands {
 protected:
  ShowCommand() { Image("base.img"); }
};

TEST_F(ShowCommand, Text) {
  const Outcome outcome = Ckpt({"show", "base.img"});
  ASSERT_TRUE(Good(outcome));
  EXPECT_THAT(outcome.out, testing::HasSubstr("base.img: checkpoint 'base', digest "));
  EXPECT_THAT(outcome.out, testing::HasSubstr("\nprocess 1 'main', parent 0, mm "));
  EXPECT_THAT(outcome.out, testing::HasSubstr("\nprocess 2 'kid', parent 1, mm "));
  EXPECT_THAT(outcome.out, testing::HasSubstr("2 vmas, 5 pages\n"));
  EXPECT_THAT(outcome.out, testing::Not(testing::HasSubstr("rw-p")));
  EXPECT_THAT(outcome.out, testing::Not(testing::HasSubstr("'f'")));
}

TEST_F(ShowCommand, Parts) {
  const Outcome vmas = Ckpt({"show", "--vmas", "base.img"});
  ASSERT_TRUE(Good(vmas));
  EXPECT_THAT(vmas.out, testing::ContainsRegex("-[0-9a-f]{12} rw-p +0  private file +f\n"));
  EXPECT_THAT(vmas.out, testing::ContainsRegex(" rw-p +[0-9]+  anonymous *\n"));
  EXPECT_THAT(vmas.out, testing::Not(testing::HasSubstr(" \n"))) << "blanks at the end of a line";
  const Outcome files = Ckpt({"show", "--files", "base.img"});
  ASSERT_TRUE(Good(files));
  EXPECT_THAT(files.out, testing::HasSubstr("'f': regular, 64.0 KiB, 0 pages, generated\n"));
  const Outcome pages = Ckpt({"show", "--pages", "base.img"});
  ASSERT_TRUE(Good(pages));
  EXPECT_THAT(pages.out, testing::ContainsRegex("\nmm [0-9]+ pages 0x[0-9a-f]+\\+[0-9]+ stored 0\n"));
  EXPECT_THAT(pages.out, testing::ContainsRegex("\\+[0-9]+ same [0-9]+\n"));
}

TEST_F(ShowCommand, Json) {
  const Outcome outcome = Ckpt({"show", "--json", "base.img"});
  ASSERT_TRUE(Good(outcome));
  const nlohmann::json json = ParseJson(outcome.out);
  EXPECT_EQ(json["image"], "base.img");
  EXPECT_EQ(json["version"], 2);
  EXPECT_THAT(json["digest"].get<std::string>(), testing::MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(json["bytes"], Read("base.img").size());
  EXPECT_EQ(json["label"], "base");
  EXPECT_EQ(json["memory_bytes"], 16 << 20);
  EXPECT_TRUE(json["semantics"].is_array());
  EXPECT_EQ(json["totals"]["stored"], 6);
  ASSERT_EQ(json["processes"].size(), 2u);
  EXPECT_EQ(json["processes"][1]["pid"], 2);
  EXPECT_EQ(json["processes"][1]["ppid"], 1);
  EXPECT_EQ(json["processes"][1]["name"], "kid");
  ASSERT_EQ(json["mms"].size(), 2u);
  EXPECT_EQ(json["processes"][0]["mm"], json["mms"][0]["objref"]);
  EXPECT_EQ(json["mms"][0]["vma_count"], 2);
  EXPECT_EQ(json["mms"][0]["pages"], 5);
  EXPECT_TRUE(json["mms"][0]["brk"].is_number());
  EXPECT_FALSE(json["mms"][0].contains("vmas"));
  EXPECT_FALSE(json.contains("runs"));
  ASSERT_EQ(json["files"].size(), 1u);
  EXPECT_EQ(json["files"][0]["name"], "f");
  EXPECT_EQ(json["files"][0]["kind"], "regular");
  EXPECT_EQ(json["files"][0]["size"], 65536);
  EXPECT_EQ(json["files"][0]["deleted"], false);
  EXPECT_EQ(json["files"][0]["pages"], 0);
  EXPECT_EQ(json["files"][0]["recipe"],
            (nlohmann::json{{"kind", "generated"}, {"size", 65536}, {"generator", "random"}, {"seed", 5}}));
}

TEST_F(ShowCommand, JsonParts) {
  const nlohmann::json json = ParseJson(Ckpt({"show", "--json", "--vmas", "--pages", "base.img"}).out);
  const nlohmann::json& vmas = json["mms"][0]["vmas"];
  ASSERT_EQ(vmas.size(), 2u);
  size_t file_vmas = 0;
  for (const nlohmann::json& vma : vmas) {
    EXPECT_EQ(vma["end"].get<uint64_t>() - vma["start"].get<uint64_t>(), 65536u);
    EXPECT_EQ(vma["perms"], "rw-p");
    EXPECT_TRUE(vma["flags"].is_number());
    EXPECT_TRUE(vma["pgoff"].is_number());
    if (vma["kind"] != "private file") continue;
    ++file_vmas;
    EXPECT_EQ(vma["name"], "f");
    EXPECT_EQ(vma["file"], json["files"][0]["objref"]);
  }
  EXPECT_EQ(file_vmas, 1u);
  uint64_t stored = 0;
  uint64_t same = 0;
  for (const nlohmann::json& run : json["runs"]) {
    EXPECT_EQ(run["owner"], "mm");
    EXPECT_TRUE(run["objref"].is_number());
    EXPECT_TRUE(run["first"].is_number());
    if (run["kind"] == "stored") {
      EXPECT_EQ(run["stored"], stored);
      stored += run["count"].get<uint64_t>();
    } else {
      EXPECT_EQ(run["kind"], "same");
      same += run["count"].get<uint64_t>();
    }
  }
  EXPECT_EQ(stored, 6u);
  EXPECT_EQ(same, 4u);
}

// What /proc/PID/smaps says of each vma stands under it, in its words, and in JSON as the image has it.
TEST_F(ShowCommand, Smaps) {
  const nlohmann::json json = ParseJson(Ckpt({"show", "--json", "--vmas", "base.img"}).out);
  const Outcome text = Ckpt({"show", "--vmas", "base.img"});
  ASSERT_TRUE(Good(text));
  const nlohmann::json& vmas = json["mms"][0]["vmas"];
  ASSERT_TRUE(vmas[0].contains("smaps"));
  nlohmann::json own;
  for (const nlohmann::json& vma : vmas) {
    if (vma["kind"] == "anonymous") own = vma["smaps"];
  }
  // 16 KiB were written before the fork, and the child has copied the first 4 KiB of them.
  EXPECT_EQ(own, (nlohmann::json{{"rss", 4},
                                 {"pss_bytes", 4096 + 3 * 2048},
                                 {"shared_clean", 0},
                                 {"shared_dirty", 3},
                                 {"private_clean", 0},
                                 {"private_dirty", 1},
                                 {"referenced", 4},
                                 {"anonymous", 4},
                                 {"swap", 0},
                                 {"swap_pss_bytes", 0},
                                 {"locked_pss_bytes", 0}}));
  EXPECT_THAT(
      text.out,
      testing::HasSubstr("  anonymous\n"
                         "    Rss:               16 kB  Shared_Clean:       0 kB  Private_Clean:      0 kB\n"
                         "    Pss:               10 kB  Shared_Dirty:      12 kB  Private_Dirty:      4 kB\n"
                         "    Swap:               0 kB  Anonymous:         16 kB  Referenced:        16 kB\n"
                         "    SwapPss:            0 kB  Locked:             0 kB\n"));
}

TEST_F(ShowCommand, StockToolsReadTheImage) {
  for (const char* name : {"base.img", "demo.img"}) {
    if (!Exists(name)) Image(name, "base", CKPT_SOURCE_DIR "/workload/examples/demo.textproto");
    const Outcome test = Execute({"zstd", "-q", "-t", Path(name)});
    EXPECT_EQ(test.exit_code, 0) << test;
    const Outcome pages = Execute({"zstd", "-q", "-dc", Path(name)});
    EXPECT_EQ(pages.exit_code, 0);
    const nlohmann::json json = ParseJson(Ckpt({"show", "--json", name}).out);
    EXPECT_EQ(pages.out.size(), json["totals"]["stored"].get<size_t>() * 4096);
  }
}

}  // namespace
}  // namespace cli_test
