// Children of images: what they store is what was written since, where it is known to have been; and when it
// is not known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mm/soft_dirty.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

using Known = ckpt::DumpReport::Known;

class Incremental : public testing::Test {
 protected:
  Incremental() : p_(w_.Spawn()), a_(w_.Anon(p_, 32)) {
    for (uint64_t page = 0; page < 32; ++page) Put(page, "page " + std::to_string(page));
  }
  void Put(uint64_t page, const std::string& text) {
    ASSERT_EQ(w_.Store(p_, a_ + page * kPage, text), Outcome::kOk);
  }
  base::Result<ckpt::DumpReport> TryDump(const std::string& name, const std::string& parent = "",
                                         bool track = true) {
    ckpt::ModelSource source(w_.machine(), {});
    ckpt::DumpOptions options;
    options.write.sync = image::Sync::kNo;
    options.parent = parent.empty() ? "" : trip_.path(parent);
    options.track = track;
    return ckpt::Dump(source, trip_.path(name), options);
  }
  ckpt::DumpReport Dump(const std::string& name, const std::string& parent = "", bool track = true,
                        Where at = Where::current()) {
    const auto report = TryDump(name, parent, track);
    if (!report) return PrintError(report.error(), at), ckpt::DumpReport{};
    const auto image = image::Reader::Open(trip_.path(name));
    if (!image) return PrintError(image.error(), at), *report;
    auto sink = restore::ModelSink::Create((*image)->machine(), "");
    const auto restored = restore::Restore(**image, **sink, {});
    if (!restored) return PrintError(restored.error(), at), *report;
    Box box((*sink)->TakeMachine());
    Trip::ExpectSame(w_.machine(), box.machine(), {}, at);
    return *report;
  }

  World w_;
  Process& p_;
  const Vaddr a_;
  Trip trip_;
};

TEST_F(Incremental, StoresWhatWasWrittenSinceItsParent) {
  EXPECT_EQ(Dump("base").known, Known::kNoParent);
  Put(3, "new");
  Put(17, "new too");
  const ckpt::DumpReport child = Dump("child", "base");
  EXPECT_EQ(child.known, Known::kByTracking);
  EXPECT_EQ(child.totals.stored(), 2u);
  EXPECT_EQ(child.totals.in_parent(), 30u);
  Put(4, "newest");
  EXPECT_EQ(Dump("grandchild", "child").totals.stored(), 1u);
}

// Stored again with the bytes that it had: tracking says that it was written, and content that it is the
// same.
TEST_F(Incremental, AStoreOfWhatWasThere) {
  Dump("base");
  Put(3, "page 3");
  EXPECT_EQ(Dump("tracked", "base", false).totals.stored(), 1u);
  w_.machine().tracked_by.clear();
  const ckpt::DumpReport child = Dump("content", "base", false);
  EXPECT_EQ(child.known, Known::kByContent);
  EXPECT_EQ(child.totals.stored(), 0u);
}

TEST_F(Incremental, TrackingIsForOneParentAlone) {
  Dump("base");
  Put(3, "new");
  Dump("child", "base");
  const ckpt::DumpReport other = Dump("other", "base", false);
  EXPECT_EQ(other.known, Known::kByContent) << "writes are tracked since 'child'";
  EXPECT_EQ(other.totals.stored(), 1u);
  EXPECT_EQ(Dump("grandchild", "child", false).known, Known::kByTracking);
}

TEST_F(Incremental, ADumpThatFailsVoidsTheTracking) {
  Dump("base");
  EXPECT_FALSE(TryDump("no/such/folder", "base").has_value());
  EXPECT_EQ(w_.machine().tracked_by, "");
  Put(3, "new");
  const ckpt::DumpReport child = Dump("child", "base");
  EXPECT_EQ(child.known, Known::kByContent);
  EXPECT_EQ(child.totals.stored(), 1u);
}

TEST_F(Incremental, VmasThatVanishMoveAndShrink) {
  const Vaddr b = w_.Anon(p_, 8);
  ASSERT_EQ(w_.Store(p_, b, std::string(8 * kPage, 'b')), Outcome::kOk);
  Dump("base");
  ASSERT_TRUE(sys_munmap(*p_.mm, a_, 4 * kPage).has_value());
  Dump("shrunk", "base");
  const auto moved = sys_mremap(*p_.mm, b, 8 * kPage, 24 * kPage, MREMAP_MAYMOVE, 0);
  ASSERT_TRUE(moved.has_value());
  const ckpt::DumpReport child = Dump("moved", "shrunk");
  EXPECT_LE(child.totals.stored(), 1u) << "eight equal pages";
  ASSERT_TRUE(sys_munmap(*p_.mm, *moved, 24 * kPage).has_value());
  EXPECT_EQ(Dump("gone", "moved").totals.stored(), 0u);
}

// A forked process has its parent's pages, and a pid can be given again: neither is confused with another.
TEST_F(Incremental, ForkedProcesses) {
  Process& first = w_.Fork(p_);
  ASSERT_EQ(w_.Store(first, a_, "of the first child"), Outcome::kOk);
  const Pid pid = first.pid;
  Dump("base");
  w_.Exit(first);
  Process& second = w_.Fork(p_);
  ASSERT_EQ(w_.Store(second, a_ + kPage, "of the second child"), Outcome::kOk);
  SCOPED_TRACE(testing::Message() << "pids " << pid << " and " << second.pid);
  const ckpt::DumpReport child = Dump("child", "base");
  EXPECT_EQ(child.known, Known::kByTracking);
  EXPECT_EQ(child.totals.stored(), 1u);
}

// Zero-filled pages have no bytes anywhere in the chain.
TEST_F(Incremental, PagesThatBecomeZeroAndBack) {
  Put(5, std::string(kPage, '\0'));
  const ckpt::DumpReport base = Dump("base");
  EXPECT_EQ(base.totals.zero_filled(), 1u);
  Put(6, std::string(kPage, '\0'));
  EXPECT_EQ(Dump("child", "base").totals.stored(), 0u);
  Put(5, "again");
  const ckpt::DumpReport last = Dump("last", "child");
  EXPECT_EQ(last.totals.stored(), 1u);
  EXPECT_EQ(last.totals.in_parent(), 31u);
}

}  // namespace
}  // namespace mm
