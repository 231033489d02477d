// ckpt diff: 0 same, 1 different, 2 trouble.
#include <gtest/gtest.h>

#include "tests/cli/cli.h"

namespace cli_test {
namespace {

class DiffCommand : public Commands {
 protected:
  DiffCommand() {
    Image("base.img");
    Image("later.img", "later");
  }
};

TEST_F(DiffCommand, Same) {
  for (const char* a : {"base.img", "small.textproto@base"}) {
    for (const char* b : {"base.img", "small.textproto@base"}) {
      const Outcome outcome = Ckpt({"diff", a, b});
      EXPECT_TRUE(Good(outcome));
      EXPECT_THAT(outcome.out, testing::MatchesRegex("same: [0-9]+ pages compared\n"));
    }
  }
}

TEST_F(DiffCommand, Different) {
  for (const char* a : {"base.img", "small.textproto@base"}) {
    for (const char* b : {"later.img", "small.textproto@later"}) {
      const Outcome outcome = Ckpt({"diff", a, b});
      EXPECT_EQ(outcome.exit_code, 1) << outcome;
      EXPECT_EQ(outcome.err, "");
      EXPECT_NE(outcome.out.find("process 1 0x"), std::string::npos) << outcome;
      EXPECT_NE(outcome.out.find("content, 1 page"), std::string::npos) << outcome;
      EXPECT_NE(outcome.out.find("process 2"), std::string::npos) << "it is gone in the second: " << outcome;
      EXPECT_NE(outcome.out.find("\ndifferent: 1 of "), std::string::npos) << outcome;
    }
  }
  EXPECT_EQ(Ckpt({"diff", "-q", "base.img", "later.img"}).out, "");
}

TEST_F(DiffCommand, Json) {
  const nlohmann::json same = ParseJson(Ckpt({"diff", "--json", "base.img", "small.textproto@base"}).out);
  EXPECT_EQ(same["same"], true);
  EXPECT_EQ(same["differences"], nlohmann::json::array());
  const Outcome outcome = Ckpt({"diff", "--json", "base.img", "later.img"});
  EXPECT_EQ(outcome.exit_code, 1);
  const nlohmann::json json = ParseJson(outcome.out);
  EXPECT_EQ(json["first"], "base.img");
  EXPECT_EQ(json["second"], "later.img");
  EXPECT_EQ(json["same"], false);
  EXPECT_EQ(json["pages_different"], 1);
  EXPECT_GE(json["pages_compared"], 16);
  EXPECT_EQ(json["difference_count"], json["differences"].size());
  bool content = false;
  for (const nlohmann::json& one : json["differences"]) {
    EXPECT_THAT(one["kind"].get<std::string>(), testing::AnyOf("process", "layout", "vma", "content"));
    EXPECT_TRUE(one["pid"].is_number());
    EXPECT_TRUE(one["what"].is_string());
    content = content ||
              (one["kind"] == "content" && one["end"].get<uint64_t>() - one["start"].get<uint64_t>() == 4096);
  }
  EXPECT_TRUE(content) << json;
}

TEST_F(DiffCommand, TroubleIsExit2WhicheverSide) {
  EXPECT_TRUE(Refused(Ckpt({"diff", "base.img", "missing"}), 2, "missing"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "missing", "base.img"}), 2, "missing"));
  EXPECT_TRUE(Refused(Ckpt({"diff", "--json", "missing", "base.img"}), 2, "missing"));
  Write("bad.textproto", "step { map { region: \"m\" length: \"0\" } }\n");
  EXPECT_TRUE(Refused(Ckpt({"diff", "bad.textproto@end", "base.img"}), 2, "bad.textproto:1: "));
}

// Only the first differences are listed, and the number of the others is said.
TEST_F(DiffCommand, ManyDifferences) {
  Write("many.textproto",
        "step { map { region: \"m\" length: \"64MiB\" } }\nstep { checkpoint { label: \"a\" } }\n"
        "step { store { region: \"m\" pattern { every { nth: 2 } } } }\n");
  const Outcome outcome = Ckpt({"diff", "many.textproto@a", "many.textproto@end"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_LT(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 2000) << outcome;
  EXPECT_NE(outcome.out.find("... and "), std::string::npos) << outcome;
  const nlohmann::json json =
      ParseJson(Ckpt({"diff", "--json", "many.textproto@a", "many.textproto@end"}).out);
  EXPECT_EQ(json["pages_different"], 8192);
  EXPECT_GT(json["difference_count"], json["differences"].size());
}

}  // namespace
}  // namespace cli_test
