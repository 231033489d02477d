#include "ckpt/plan.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ckpt {
namespace {

using ckpt_pb::PageRun;

// A plan and what it emitted, as "mm1 5+2 stored 0".
class PlanTest : public testing::Test {
 protected:
  void Add(uint32_t mm, uint64_t first, uint64_t count) {
    ASSERT_TRUE(plan_.Add(PageRun::MM, mm, {first, count, false}, nullptr));
  }
  // Pages that may be shared, with their identities.
  void AddShared(uint32_t mm, uint64_t first, const std::vector<uint32_t>& identities) {
    const ModifiedRun run{first, identities.size(), true};
    ASSERT_TRUE(plan_.Add(PageRun::MM, mm, run, [&](uint64_t page) { return identities[page - first]; }));
  }
  void AddAsIs(PageRun::Kind kind, uint64_t first, uint64_t count) {
    PageRun run;
    run.set_owner(PageRun::DISK);
    run.set_objref(9);
    run.set_first(first);
    run.set_count(count);
    run.set_kind(kind);
    ASSERT_TRUE(plan_.AddAsIs(run));
  }
  std::vector<std::string> Finish() {
    EXPECT_TRUE(plan_.Finish());
    return emitted_;
  }

  std::vector<std::string> emitted_;
  Plan plan_{[this](const PageRun& run) -> base::Result<void> {
    static constexpr const char* kOwners[] = {"mm", "shmem", "disk"};
    static constexpr const char* kKinds[] = {"stored", "same", "zero"};
    emitted_.push_back(base::Format("%s%u %llu+%llu %s %llu", kOwners[run.owner()], run.objref(),
                                    static_cast<unsigned long long>(run.first()),
                                    static_cast<unsigned long long>(run.count()), kKinds[run.kind()],
                                    static_cast<unsigned long long>(run.stored())));
    return {};
  }};
};

using Runs = std::vector<std::string>;

TEST_F(PlanTest, NothingIsNothing) {
  EXPECT_EQ(Finish(), Runs{});
  EXPECT_EQ(plan_.pages(), 0u);
}

TEST_F(PlanTest, ExclusiveRunsAreNumberedInOrder) {
  Add(1, 10, 3);
  Add(1, 20, 1);
  Add(2, 10, 2);
  EXPECT_EQ(Finish(), (Runs{"mm1 10+3 stored 0", "mm1 20+1 stored 3", "mm2 10+2 stored 4"}));
  EXPECT_EQ(plan_.pages(), 6u);
  EXPECT_EQ(plan_.shared(), 0u);
}

TEST_F(PlanTest, NeighboursBecomeOneRun) {
  Add(1, 10, 3);
  Add(1, 13, 2);
  Add(2, 15, 1);  // another owner
  EXPECT_EQ(Finish(), (Runs{"mm1 10+5 stored 0", "mm2 15+1 stored 5"}));
}

TEST_F(PlanTest, SharedPagesAreStoredByTheFirst) {
  AddShared(1, 10, {7, 8, 9});
  AddShared(2, 30, {7, 8, 9});
  EXPECT_EQ(Finish(), (Runs{"mm1 10+3 stored 0", "mm2 30+3 same 0"}));
  EXPECT_EQ(plan_.pages(), 3u);
  EXPECT_EQ(plan_.shared(), 3u);
}

TEST_F(PlanTest, SharedAndBrokenInTurn) {
  AddShared(1, 10, {1, 2, 3, 4});
  AddShared(2, 10, {1, 50, 3, 4});
  EXPECT_EQ(Finish(), (Runs{"mm1 10+4 stored 0", "mm2 10+1 same 0", "mm2 11+1 stored 4", "mm2 12+2 same 2"}));
  EXPECT_EQ(plan_.pages(), 5u);
  EXPECT_EQ(plan_.shared(), 3u);
}

// Pages that follow in memory and not in the image, or the other way round, stay apart.
TEST_F(PlanTest, SameRunsFollowInBothPlaces) {
  AddShared(1, 10, {1, 2, 3});
  AddShared(2, 10, {3, 2, 1});
  AddShared(3, 10, {1});
  AddShared(3, 12, {2});
  EXPECT_EQ(Finish(), (Runs{"mm1 10+3 stored 0", "mm2 10+1 same 2", "mm2 11+1 same 1", "mm2 12+1 same 0",
                            "mm3 10+1 same 0", "mm3 12+1 same 1"}));
}

TEST_F(PlanTest, OneAddressSpaceCanShareWithItself) {
  AddShared(1, 10, {5, 5});
  EXPECT_EQ(Finish(), (Runs{"mm1 10+1 stored 0", "mm1 11+1 same 0"}));
}

TEST_F(PlanTest, ExclusiveAndSharedRunsJoin) {
  Add(1, 10, 2);
  AddShared(1, 12, {5});
  Add(1, 13, 1);
  EXPECT_EQ(Finish(), Runs{"mm1 10+4 stored 0"});
}

TEST_F(PlanTest, ZerosTakeNoNumber) {
  Add(1, 1, 1);
  AddAsIs(PageRun::ZERO, 0, 3);
  AddAsIs(PageRun::ZERO, 3, 1);
  AddAsIs(PageRun::STORED, 4, 2);
  AddAsIs(PageRun::STORED, 7, 1);
  EXPECT_EQ(Finish(),
            (Runs{"mm1 1+1 stored 0", "disk9 0+4 zero 0", "disk9 4+2 stored 1", "disk9 7+1 stored 3"}));
  EXPECT_EQ(plan_.pages(), 4u);
}

TEST_F(PlanTest, ObjectAndMmWithOneNumberAreApart) {
  ASSERT_TRUE(plan_.Add(PageRun::MM, 1, {10, 1, false}, nullptr));
  ASSERT_TRUE(plan_.Add(PageRun::SHMEM, 1, {11, 1, false}, nullptr));
  EXPECT_EQ(Finish(), (Runs{"mm1 10+1 stored 0", "shmem1 11+1 stored 1"}));
}

TEST(PlanErrorTest, ErrorOfEmitIsTheAnswer) {
  Plan plan([](const PageRun&) -> base::Result<void> { return base::Fail(base::Code::kIo, "full"); });
  ASSERT_TRUE(plan.Add(PageRun::MM, 1, {1, 1, false}, nullptr)) << "held back";
  const auto added = plan.Add(PageRun::MM, 1, {5, 1, false}, nullptr);
  ASSERT_FALSE(added.has_value());
  EXPECT_EQ(added.error().code, base::Code::kIo);
}

}  // namespace
}  // namespace ckpt
