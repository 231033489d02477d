// Chains through the commands: --track and --parent, restore, diff and show of a child, merge, and what is
// refused.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

using Args = std::vector<std::string>;

class MergeCommand : public Commands {
 protected:
  MergeCommand() {
    Write("chain.textproto",
          "machine { memory: \"16MiB\" }\n"
          "step { map { region: \"m\" length: \"256KiB\" } }\n"
          "step { store { region: \"m\" fill { text { seed: 1 } } } }\n"
          "step { checkpoint { label: \"one\" } }\n"
          "step { store { region: \"m\" offset: \"8k\" length: \"4k\" fill { text { seed: 2 } } } }\n"
          "step { checkpoint { label: \"two\" } }\n"
          "step { store { region: \"m\" offset: \"64k\" length: \"8k\" fill { byte: 0 } } }\n"
          "step { checkpoint { label: \"three\" } }\n"
          "step { load { region: \"m\" offset: \"8k\" length: \"4k\" equals { text { seed: 2 } } } }\n");
    EXPECT_TRUE(Good(Ckpt({"run", "chain.textproto", "-q", "--no-sync", "--track", "-o", "{label}.img"})));
  }
};

TEST_F(MergeCommand, AChainIsWhatEachCheckpointWas) {
  for (const std::string label : {"one", "two", "three"}) {
    EXPECT_TRUE(Good(Ckpt({"diff", label + ".img", "chain.textproto@" + label})));
    EXPECT_TRUE(Good(Ckpt({"verify", label + ".img", "-q"})));
  }
  const nlohmann::json two = ParseJson(Ckpt({"show", "--json", "two.img"}).out);
  EXPECT_EQ(two["totals"]["stored"], 1);
  EXPECT_EQ(two["totals"]["in_parent"], 63);
  ASSERT_EQ(two["chain"].size(), 2u);
  EXPECT_EQ(two["chain"][0]["image"], "one.img");
  EXPECT_EQ(two["chain"][1]["stored"], 1);
  const nlohmann::json three = ParseJson(Ckpt({"show", "--json", "three.img"}).out);
  EXPECT_EQ(three["totals"]["stored"], 0);
  EXPECT_EQ(three["totals"]["zero_filled"], 2);
  EXPECT_TRUE(Good(Ckpt({"restore", "two.img", "--resume", "chain.textproto", "-q"})));
}

TEST_F(MergeCommand, MakesTheBytesThatAFullCheckpointHas) {
  ASSERT_TRUE(Good(Ckpt({"merge", "three.img", "-o", "full.img"})));
  ASSERT_TRUE(Good(Ckpt({"run", "chain.textproto", "--at", "three", "-o", "direct.img", "--no-sync"})));
  EXPECT_TRUE(Read("full.img") == Read("direct.img"));
  const nlohmann::json json =
      ParseJson(Ckpt({"merge", "one.img", "two.img", "-o", "full.img", "--json", "--compress", "none"}).out);
  EXPECT_EQ(json["merged"], 2);
  EXPECT_EQ(json["totals"]["stored"], 64);
  EXPECT_TRUE(Good(Ckpt({"diff", "full.img", "two.img"})));
}

// The memory of a restart is known to be that of its image.
TEST_F(MergeCommand, AChildOfTheImageThatWasRestored) {
  const Outcome outcome = Ckpt({"restore", "one.img", "--resume", "chain.textproto", "--at", "two",
                                "--parent", "one.img", "-o", "again.img", "--json"});
  ASSERT_TRUE(Good(outcome));
  const nlohmann::json json = ParseJson(outcome.out);
  EXPECT_EQ(json["checkpoints"][0]["known_by"], "tracking");
  EXPECT_EQ(json["checkpoints"][0]["totals"]["stored"], 1);
  EXPECT_TRUE(Good(Ckpt({"diff", "again.img", "two.img"})));
  const Outcome other =
      Ckpt({"run", "chain.textproto", "--at", "three", "--parent", "one.img", "-o", "other.img", "--json"});
  ASSERT_TRUE(Good(other));
  EXPECT_EQ(ParseJson(other.out)["checkpoints"][0]["known_by"], "content");
  EXPECT_TRUE(Good(Ckpt({"diff", "other.img", "three.img"})));
}

TEST_F(MergeCommand, AMissingParentIsNamedAndCanBeNamed) {
  std::filesystem::create_directory(Path("away"));
  std::filesystem::rename(Path("one.img"), Path("away/one.img"));
  for (const Args& line : {Args{"restore", "two.img"}, Args{"diff", "two.img", "two.img"},
                           Args{"merge", "two.img", "-o", "x.img"}}) {
    EXPECT_TRUE(Refused(Ckpt(line), 2, "two.img: its parent 'one.img'"));
  }
  EXPECT_FALSE(Exists("x.img"));
  EXPECT_TRUE(Good(Ckpt({"merge", "away/one.img", "two.img", "-o", "x.img"})));
  EXPECT_TRUE(Good(Ckpt({"diff", "x.img", "chain.textproto@two"})));
  const Outcome shown = Ckpt({"show", "two.img"});
  EXPECT_EQ(shown.exit_code, 0) << "what it holds it says by itself";
  EXPECT_THAT(shown.err, testing::HasSubstr("its parent 'one.img'"));
}

TEST_F(MergeCommand, WrongCommandLines) {
  EXPECT_TRUE(Refused(Ckpt({"merge", "one.img"}), 2, "--output"));
  EXPECT_TRUE(Refused(Ckpt({"merge", "-o", "x.img"}), 2, "IMAGE"));
  EXPECT_TRUE(Refused(Ckpt({"merge", "three.img", "two.img", "-o", "x.img"}), 2, "no ancestor"));
  EXPECT_TRUE(Refused(Ckpt({"merge", "two.img", "-o", "one.img"}), 2, "an image of the chain"));
  EXPECT_TRUE(Refused(Ckpt({"merge", "missing.img", "-o", "x.img"}), 2, "missing.img"));
  EXPECT_TRUE(Refused(Ckpt({"run", "chain.textproto", "--parent", "one.img"}), 2, "go with -o"));
  EXPECT_TRUE(Refused(Ckpt({"run", "chain.textproto", "--at", "two", "--parent", "one.img", "-o", "one.img"}),
                      2, "the parent itself"));
  EXPECT_TRUE(
      Refused(Ckpt({"run", "chain.textproto", "--at", "two", "--parent", "chain.textproto", "-o", "x.img"}),
              2, "chain.textproto"));
  EXPECT_TRUE(
      Refused(Ckpt({"run", "chain.textproto", "--at", "two", "--parent", "-", "-o", "x.img"}), 2, "'-'"));
  EXPECT_FALSE(Exists("x.img"));
}

}  // namespace
}  // namespace cli_test
