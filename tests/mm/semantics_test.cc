#include "mm/semantics.h"

#include <gtest/gtest.h>

#include <set>

namespace mm {
namespace {

uint8_t ValueOf(const Semantics& semantics, const Switch& row) {
  return reinterpret_cast<const uint8_t*>(&semantics)[row.offset];
}

TEST(Semantics, EveryRowOfTheTableIsHonest) {
  std::set<std::string_view> names;
  std::set<size_t> offsets;
  for (const Switch& row : Switches()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_TRUE(offsets.insert(row.offset).second) << row.name;
    EXPECT_LT(row.offset, sizeof(Semantics)) << row.name;
    EXPECT_GE(row.values.size(), 2u) << row.name << ": a switch has two outcomes";
    EXPECT_EQ(std::set<std::string_view>(row.values.begin(), row.values.end()).size(), row.values.size());
    EXPECT_FALSE(row.source.empty() || row.scenario.empty() || row.reader.empty()) << row.name;
  }
  EXPECT_EQ(offsets.size(), sizeof(Semantics)) << "a switch without a row";
}

TEST(Semantics, TheDefaultIsTheFirstValue) {
  for (const Switch& row : Switches()) EXPECT_EQ(ValueOf(Semantics{}, row), 0) << row.name;
  EXPECT_TRUE(ChangedSwitches(Semantics{}).empty());
}

TEST(Semantics, EveryValueOfEverySwitchGoesRound) {
  for (const Switch& row : Switches()) {
    for (size_t i = 0; i < row.values.size(); ++i) {
      const std::string assignment = std::string(row.name) + "=" + std::string(row.values[i]);
      Semantics semantics;
      ASSERT_TRUE(SetSwitch(semantics, assignment)) << assignment;
      EXPECT_EQ(ValueOf(semantics, row), i) << assignment;
      const std::vector<std::string> changed = ChangedSwitches(semantics);
      if (i == 0) {
        EXPECT_EQ(semantics, Semantics{}) << assignment;
      } else if (assignment == "hints=base") {  // is right on no other hardware
        EXPECT_EQ(changed, (std::vector<std::string>{assignment, "dirty_bits=page"}));
        semantics.dirty_bits = DirtyBits::kPte;
      } else {
        EXPECT_EQ(changed, std::vector<std::string>{assignment});
      }
      ASSERT_TRUE(SetSwitch(semantics, std::string(row.name) + "=" + std::string(row.values[0])));
      EXPECT_EQ(semantics, Semantics{}) << assignment << " and back";
    }
  }
}

TEST(Semantics, SwitchesReachTheFieldTheyName) {
  Semantics semantics;
  ASSERT_TRUE(SetSwitch(semantics, "anon_read_fault=new_page"));
  ASSERT_TRUE(SetSwitch(semantics, "dirty_rule=page_mapping"));
  ASSERT_TRUE(SetSwitch(semantics, "dump_lookup=foll_anon"));
  EXPECT_EQ(semantics.anon_read_fault, AnonReadFault::kNewPage);
  EXPECT_EQ(semantics.dirty_rule, DirtyRule::kPageMapping);
  EXPECT_EQ(semantics.dump_lookup, DumpLookup::kFollAnon);
  EXPECT_EQ(ChangedSwitches(semantics).size(), 3u);
}

TEST(Semantics, BadAssignmentsAreRefusedAndChangeNothing) {
  for (const char* text : {"", "=", "reuse_rule", "reuse_rule=", "reuse_rule=page", "reuse_rule=mapcount ",
                           "reuse_rule=mapcount=count", " reuse_rule=count", "Reuse_rule=count",
                           "nonsense=yes", "cow_survives_truncate=1"}) {
    Semantics semantics;
    const base::Result<void> set = SetSwitch(semantics, text);
    ASSERT_FALSE(set.has_value()) << text;
    EXPECT_EQ(set.error().code, base::Code::kInvalid);
    EXPECT_EQ(semantics, Semantics{});
  }
}

TEST(Semantics, ErrorsNameWhatThereIs) {
  Semantics semantics;
  const std::string values = SetSwitch(semantics, "truncate_passes=three").error().what;
  EXPECT_NE(values.find("two"), std::string::npos) << values;
  EXPECT_NE(values.find("one"), std::string::npos) << values;
  const std::string names = SetSwitch(semantics, "no_such=1").error().what;
  for (const Switch& row : Switches()) EXPECT_NE(names.find(row.name), std::string::npos) << row.name;
  const std::string presets = Generation("k33").error().what;
  for (const std::string_view name : GenerationNames()) EXPECT_NE(presets.find(name), std::string::npos);
}

TEST(Semantics, Presets) {
  for (const std::string_view name : GenerationNames()) EXPECT_TRUE(Generation(name).has_value()) << name;
  Semantics k34;
  k34.hole_punch_cow = HolePunchCow::kZapped;
  EXPECT_EQ(Generation("k34").value(), k34);
  for (const char* bad : {"", "k33", "K34", "2.6.34"}) {
    EXPECT_EQ(Generation(bad).error().code, base::Code::kInvalid);
  }
}

// What the sources say of each generation: spec B3, B4, B5, B7, B8.
TEST(Semantics, PresetsSayWhatTheSourcesSay) {
  const Semantics k24 = Generation("k24").value();
  const Semantics k18 = Generation("k18").value();
  const Semantics k11 = Generation("k11").value();
  EXPECT_EQ(k24.anon_read_fault, AnonReadFault::kNewPage);
  EXPECT_EQ(k24.truncate_passes, TruncatePasses::kTwo);
  EXPECT_EQ(k18.anon_read_fault, AnonReadFault::kCountedZeroPage);
  for (const Semantics& old : {k18, k11}) {
    EXPECT_EQ(old.truncate_passes, TruncatePasses::kOne);
    EXPECT_EQ(old.truncate_race, TruncateRace::kTruncateCount);
    EXPECT_EQ(old.wp_contended, WpContended::kCopy);
    EXPECT_EQ(old.remap_populate, RemapPopulate::kInstall);
  }
  EXPECT_EQ(k24.truncate_race, TruncateRace::kPageLock);
  EXPECT_EQ(k18.cow_rmap_order, CowRmapOrder::kBeforePte);
  EXPECT_EQ(k18.reuse_rule, ReuseRule::kMapcountKeepSlot);
  EXPECT_EQ(k11.reuse_rule, ReuseRule::kCount);
  EXPECT_EQ(k24.dump_lookup, DumpLookup::kFollAnon);
  for (const std::string_view name : GenerationNames()) {
    EXPECT_EQ(Generation(name)->cow_survives_truncate, CowSurvivesTruncate::kNo)
        << name << ": no source has what the seed claims";
  }
}

}  // namespace
}  // namespace mm
