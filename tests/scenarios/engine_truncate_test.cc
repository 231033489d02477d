// Files that shrink, grow and get holes before a checkpoint: C08 to C13 and their neighbours.
//
// Seed 004's claim about kernels before 2.6.32 is the switch cow_survives_truncate.
#include <gtest/gtest.h>

#include <memory>

#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

constexpr const char* kSurvives[] = {"cow_survives_truncate=no", "cow_survives_truncate=yes"};
bool Yes(std::string_view assignment) { return assignment.ends_with("=yes"); }

TEST(Scenario, C08_never_touched_past_the_end) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 3);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_TRUE(trip.runs().empty());
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 0u);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kSigbus);
  for (const uint64_t page : {1, 2}) {
    EXPECT_EQ(box->TryLoad(a + page * kPage), Outcome::kSigbus);
    EXPECT_EQ(box->TryStore(a + page * kPage), Outcome::kSigbus);
  }
  EXPECT_BYTES(box->Load(a, kPage), w.Original(file, 0, kPage));
  box->Truncate(file->name(), 3 * kPage);
  EXPECT_BYTES(box->Load(a + kPage, 2 * kPage), Zeros(2 * kPage)) << "a fresh page once there is one";
}

TEST(Scenario, C08_dump_only_fails) {
  World w(WithSwitch("dump_lookup=dump_only"));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  w.Private(p, file, 3);
  Trip trip;
  EXPECT_EQ(trip.SaveError(w.machine()).code, Code::kFault);
}

TEST(Scenario, C08_dump_only_within_the_file) {
  World w(WithSwitch("dump_lookup=dump_only"));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  ASSERT_EQ(w.Store(p, a + kPage, "mine"), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.Saved(a), "1");
  EXPECT_EQ(p.mm->file_rss, 2u) << "it brought the clean pages in, to find them clean";
  EXPECT_BYTES(box->Load(a + kPage, 8), "mine" + w.Original(file, kPage + 4, 4));
}

// FOLL_ANON: good exactly where there is no page table.
TEST(Scenario, C08_foll_anon) {
  for (const bool table : {false, true}) {
    SCOPED_TRACE(table);
    World w(WithSwitch("dump_lookup=foll_anon"));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(kPage);
    const Vaddr a = w.Private(p, file, 3);
    if (table) {
      EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
    }
    Trip trip;
    if (table) {
      EXPECT_EQ(trip.SaveError(w.machine()).code, Code::kFault);
      continue;
    }
    const auto box = trip.Through(w.machine());
    ASSERT_NE(box, nullptr);
    EXPECT_TRUE(trip.runs().empty());
    EXPECT_EQ(box->TryLoad(a + kPage), Outcome::kSigbus);
  }
}

// Case 2: page 2 is written, the file cut to one page.
TEST(Scenario, C09_written_then_truncated) {
  for (const char* assignment : kSurvives) {
    SCOPED_TRACE(assignment);
    World w(WithSwitch(assignment));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(3 * kPage);
    const Vaddr a = w.Private(p, file, 3);
    ASSERT_EQ(w.Store(p, a + 2 * kPage, "mine"), Outcome::kOk);
    ASSERT_TRUE(w.Truncate(file, kPage));
    Trip trip;
    if (!Yes(assignment)) {
      EXPECT_EQ(w.TryLoad(p, a + 2 * kPage), Outcome::kSigbus);
      const auto box = trip.Through(w.machine());
      ASSERT_NE(box, nullptr);
      EXPECT_EQ(trip.Saved(a), "");
      EXPECT_EQ(box->TryLoad(a + 2 * kPage), Outcome::kSigbus);
      EXPECT_EQ(box->TryLoad(a + kPage), Outcome::kSigbus);
      EXPECT_BYTES(box->Load(a, kPage), w.Original(file, 0, kPage));
      continue;
    }
    EXPECT_BYTES(w.Load(p, a + 2 * kPage, 5), "mine" + w.Original(file, 2 * kPage + 4, 1));
    ASSERT_TRUE(trip.Save(w.machine()));
    EXPECT_EQ(trip.Saved(a), "2") << "the old data is in the image";
    const base::Error error = trip.RestoreError();
    EXPECT_EQ(error.code, Code::kFault) << error.what;
    EXPECT_NE(error.what.find(file->name()), std::string::npos) << error.what;
    EXPECT_NE(error.what.find("--drop-past-eof"), std::string::npos) << error.what;

    trip.options.plan.drop_past_eof = restore::DropPastEof::kYes;
    const auto box = trip.Restore();
    ASSERT_NE(box, nullptr);
    EXPECT_EQ(trip.restored().dropped, 1u);
    EXPECT_EQ(box->TryLoad(a + 2 * kPage), Outcome::kSigbus);
    EXPECT_EQ(box->TryStore(a + 2 * kPage), Outcome::kSigbus);
    EXPECT_BYTES(box->Load(a, kPage), w.Original(file, 0, kPage));
  }
}

// Case 3: as case 2, and the file grows again before the checkpoint.
TEST(Scenario, C10_truncated_and_extended) {
  for (const char* assignment : kSurvives) {
    SCOPED_TRACE(assignment);
    World w(WithSwitch(assignment));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(3 * kPage);
    const Vaddr a = w.Private(p, file, 3);
    ASSERT_EQ(w.Store(p, a + 2 * kPage, "mine"), Outcome::kOk);
    const std::string old = w.Load(p, a + 2 * kPage, kPage);
    ASSERT_TRUE(w.Truncate(file, kPage));
    ASSERT_TRUE(w.Truncate(file, 3 * kPage));
    const std::string now = Yes(assignment) ? old : Zeros(kPage);
    Trip trip;
    const auto box = trip.Through(w.machine());
    ASSERT_NE(box, nullptr);
    EXPECT_EQ(trip.Saved(a), Yes(assignment) ? "2" : "");
    EXPECT_BYTES(w.Load(p, a + 2 * kPage, kPage), now);
    EXPECT_BYTES(box->Load(a + 2 * kPage, kPage), now);
    EXPECT_BYTES(box->Load(a + kPage, kPage), Zeros(kPage));
    EXPECT_BYTES(box->Load(a, kPage), w.Original(file, 0, kPage));
    EXPECT_EQ(box->Store(a + 2 * kPage, "new"), Outcome::kOk);
    EXPECT_BYTES(box->Load(a + 2 * kPage, kPage), "new" + now.substr(3));
    EXPECT_BYTES(box->FileBytes(file->name(), kPage, 2 * kPage), Zeros(2 * kPage));
  }
}

// C11 with the image alone: the restored file is as short as it was, and grows after the restart.
TEST(Scenario, C11_extended_after_the_restart) {
  for (const char* assignment : kSurvives) {
    SCOPED_TRACE(assignment);
    World w(WithSwitch(assignment));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(3 * kPage);
    const Vaddr a = w.Private(p, file, 3);
    ASSERT_EQ(w.Store(p, a + 2 * kPage, "mine"), Outcome::kOk);
    ASSERT_TRUE(w.Truncate(file, kPage));
    Trip trip;
    ASSERT_TRUE(trip.Save(w.machine()));
    trip.options.plan.drop_past_eof = restore::DropPastEof::kYes;
    const auto box = trip.Restore();
    ASSERT_NE(box, nullptr);
    box->Truncate(file->name(), 3 * kPage);
    EXPECT_BYTES(box->Load(a + kPage, 2 * kPage), Zeros(2 * kPage)) << "the old write is gone";
    EXPECT_BYTES(box->FileBytes(file->name(), 2 * kPage, kPage), Zeros(kPage));
  }
}

// The page that a one-pass truncate misses (M05) is past the end, and saved like any other.
TEST(Scenario, C12_survivor_of_the_truncate_race) {
  World w(WithSwitch("truncate_passes=one"));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  // The fault has looked at the size and holds the page lock when the truncate begins.
  ASSERT_TRUE(w.Beside(
      [&] { EXPECT_EQ(w.machine().store(p, a + 2 * kPage, AsBytes("raced")).outcome, Outcome::kOk); },
      "DoFault", "page_table_lock", [&] { EXPECT_TRUE(vmtruncate(w.machine(), *file, kPage, kNoLimit)); }));
  EXPECT_BYTES(w.Load(p, a + 2 * kPage, 5), "raced");
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  EXPECT_EQ(trip.Saved(a), "2");
  EXPECT_EQ(trip.RestoreError().code, Code::kFault);
  trip.options.plan.drop_past_eof = restore::DropPastEof::kYes;
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(box->TryLoad(a + 2 * kPage), Outcome::kSigbus);
}

// The copy of the page that the file now ends in outlives the cut in any kernel; one of a page behind it only
// with the switch.
TEST(Scenario, C13_private_copy_of_a_partial_page) {
  for (const char* assignment : kSurvives) {
    SCOPED_TRACE(assignment);
    World w(WithSwitch(assignment));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(3 * kPage);
    const Vaddr a = w.Private(p, file, 3);
    const Vaddr s = w.Shared(p, file, 3);
    const std::string old = "mine" + w.Original(file, kPage + 4, kPage - 4);
    ASSERT_EQ(w.Store(p, a + kPage, "mine"), Outcome::kOk);
    ASSERT_EQ(w.Store(p, a + 2 * kPage, "gone"), Outcome::kOk);
    ASSERT_TRUE(w.Truncate(file, kPage + 100));
    EXPECT_BYTES(w.Load(p, a + kPage, kPage), old);
    EXPECT_EQ(w.TryLoad(p, a + 2 * kPage), Yes(assignment) ? Outcome::kOk : Outcome::kSigbus);
    Trip trip;
    ASSERT_TRUE(trip.Save(w.machine()));
    EXPECT_EQ(trip.Saved(a), Yes(assignment) ? "1-2" : "1");
    if (Yes(assignment)) {
      EXPECT_EQ(trip.RestoreError().code, Code::kFault);
      trip.options.plan.drop_past_eof = restore::DropPastEof::kYes;
    }
    const auto box = trip.Restore();
    ASSERT_NE(box, nullptr);
    EXPECT_EQ(trip.restored().dropped, Yes(assignment) ? 1u : 0u) << "never the partial page";
    EXPECT_BYTES(box->Load(a + kPage, kPage), old) << "the bytes past the end of the file, too";
    EXPECT_BYTES(box->Load(s + kPage, kPage), w.Original(file, kPage, 100) + Zeros(kPage - 100));
    EXPECT_EQ(box->TryLoad(a + 2 * kPage), Outcome::kSigbus);
    box->Truncate(file->name(), 3 * kPage);
    EXPECT_BYTES(box->Load(a + kPage, kPage), old);
    EXPECT_BYTES(box->Load(a + 2 * kPage, kPage), Zeros(kPage));
    EXPECT_BYTES(box->Load(s + kPage, kPage), w.Original(file, kPage, 100) + Zeros(kPage - 100));
  }
}

// Pages that nobody wrote go with their file in any kernel: the switch keeps copies.
TEST(Scenario, Truncate_to_mid_page_without_a_copy) {
  for (const char* assignment : kSurvives) {
    SCOPED_TRACE(assignment);
    World w(WithSwitch(assignment));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(3 * kPage);
    const Vaddr a = w.Private(p, file, 3);
    w.Load(p, a, 3 * kPage);
    ASSERT_TRUE(w.Truncate(file, kPage + 1));
    EXPECT_EQ(w.TryLoad(p, a + 2 * kPage), Outcome::kSigbus);
    const std::string expected = w.Original(file, 0, kPage + 1) + Zeros(kPage - 1);
    EXPECT_BYTES(w.Load(p, a, 2 * kPage), expected);
    Trip trip;
    const auto box = trip.Through(w.machine());
    ASSERT_NE(box, nullptr);
    EXPECT_EQ(trip.Saved(a), "");
    EXPECT_BYTES(box->Load(a, 2 * kPage), expected);
    EXPECT_EQ(box->TryLoad(a + 2 * kPage), Outcome::kSigbus);
    box->Truncate(file->name(), 3 * kPage);
    EXPECT_BYTES(box->Load(a, 3 * kPage), expected + Zeros(kPage));
  }
}

// The file becomes one byte longer than a whole number of pages. Nothing is cut, so the switch changes
// nothing before the checkpoint; after the restart the byte goes again, and a copy of its page only without
// the switch.
TEST(Scenario, Extend_by_one_byte) {
  for (const char* assignment : kSurvives) {
    for (const bool copied : {false, true}) {
      SCOPED_TRACE(testing::Message() << assignment << (copied ? ", copied" : ""));
      World w(WithSwitch(assignment));
      Process& p = w.Spawn();
      const FilePtr file = w.NewFile(kPage);
      const Vaddr a = w.Private(p, file, 3);
      if (copied) {
        ASSERT_EQ(w.Store(p, a, "mine"), Outcome::kOk);
      }
      EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kSigbus);
      ASSERT_TRUE(w.Truncate(file, kPage + 1));
      if (copied) {
        ASSERT_EQ(w.Store(p, a + 2 * kPage - 1, "!"), Outcome::kOk);
      }
      Trip trip;
      const auto box = trip.Through(w.machine());
      ASSERT_NE(box, nullptr);
      EXPECT_EQ(trip.Saved(a), copied ? "0-1" : "");
      EXPECT_BYTES(box->Load(a + kPage, kPage), Zeros(kPage - 1) + (copied ? "!" : Zeros(1)));
      EXPECT_EQ(box->TryLoad(a + 2 * kPage), Outcome::kSigbus);
      EXPECT_BYTES(box->FileBytes(file->name(), 0, 2 * kPage), w.Original(file, 0, kPage) + Zeros(1));
      box->Truncate(file->name(), kPage);
      EXPECT_EQ(box->TryLoad(a + kPage), copied && Yes(assignment) ? Outcome::kOk : Outcome::kSigbus);
    }
  }
}

TEST(Scenario, Hole_punched_over_copied_pages) {
  for (const char* assignment : {"hole_punch_cow=kept", "hole_punch_cow=zapped"}) {
    SCOPED_TRACE(assignment);
    const bool kept = std::string_view(assignment).ends_with("kept");
    World w(WithSwitch(assignment));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(6 * kPage);
    const Vaddr a = w.Private(p, file, 6);
    for (const uint64_t page : {1, 2, 5}) ASSERT_EQ(w.Store(p, a + page * kPage, "mine"), Outcome::kOk);
    ASSERT_TRUE(w.Punch(file, kPage, 3 * kPage));
    Trip trip;
    const auto box = trip.Through(w.machine());
    ASSERT_NE(box, nullptr);
    EXPECT_EQ(trip.Saved(a), kept ? "1-2 5" : "5");
    const std::string copy1 = kept ? "mine" + w.Original(file, kPage + 4, kPage - 4) : Zeros(kPage);
    const std::string copy2 = kept ? "mine" + w.Original(file, 2 * kPage + 4, kPage - 4) : Zeros(kPage);
    EXPECT_BYTES(box->Load(a, 4 * kPage), w.Original(file, 0, kPage) + copy1 + copy2 + Zeros(kPage));
    EXPECT_BYTES(box->Load(a + 5 * kPage, 4), "mine");
    EXPECT_BYTES(box->FileBytes(file->name(), kPage, 3 * kPage), Zeros(3 * kPage));
    EXPECT_BYTES(box->FileBytes(file->name(), 4 * kPage, 2 * kPage), w.Original(file, 4 * kPage, 2 * kPage));
    for (const ckpt_pb::PageRun& run : trip.runs()) {
      if (run.owner() == ckpt_pb::PageRun::DISK) {
        EXPECT_EQ(run.kind(), ckpt_pb::PageRun::ZERO);
      }
    }
  }
}

// What a shared mapping stored behind the end of a file is no part of the file, and must not become one
// by way of the image: the mapping is gone, the page is dirty, and the file grows after the restart.
TEST(Scenario, M07_stored_behind_the_end_and_unmapped) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage + 100);
  const Vaddr s = w.Shared(p, file, 2);
  ASSERT_EQ(w.Store(p, s + kPage + 90, "inside, and behind the end"), Outcome::kOk);
  ASSERT_TRUE(w.Unmap(p, s, 2));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  box->Truncate(file->name(), 2 * kPage);
  const std::string expected = w.Original(file, kPage, 90) + "inside, an" + Zeros(kPage - 100);
  EXPECT_BYTES(box->FileBytes(file->name(), kPage, kPage), expected);
  ASSERT_TRUE(w.Truncate(file, 2 * kPage));
  EXPECT_BYTES(w.ReadFile(file, kPage, kPage), expected) << "as without the restart";
}

// A hole that was punched, written again, cut off and grown over.
TEST(Scenario, History_of_a_disk_comes_back) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(8 * kPage + 10);
  const Vaddr a = w.Private(p, file, 10);
  ASSERT_TRUE(w.Punch(file, 100, 4 * kPage));
  ASSERT_TRUE(w.WriteFile(file, 2 * kPage, std::string(kPage, 'w')).has_value());
  ASSERT_TRUE(w.Truncate(file, 6 * kPage + 5));
  ASSERT_TRUE(w.Truncate(file, 9 * kPage + 7));
  ASSERT_TRUE(w.WriteFile(file, 8 * kPage, "tail").has_value());
  const std::string bytes = w.ReadFile(file, 0, 10 * kPage);
  ASSERT_EQ(bytes.size(), 9 * kPage + 7);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->FileBytes(file->name(), 0, 10 * kPage), bytes);
  EXPECT_BYTES(box->Load(a, 10 * kPage), bytes + Zeros(kPage - 7));
  box->Truncate(file->name(), 6 * kPage + 1);
  box->Truncate(file->name(), 10 * kPage);
  EXPECT_BYTES(box->Load(a, 10 * kPage), bytes.substr(0, 6 * kPage + 1) + Zeros(4 * kPage - 1));
}

}  // namespace
}  // namespace mm
