// INV-C1 to C3 and C9 over a machine with some of everything, and the image's independence of the
// number of threads.
#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

// Private, shared and anonymous memory of three processes, clean and modified; the same every time.
class Busy {
 public:
  explicit Busy(World& w) : w_(w), p_(w.Spawn()) {
    file_ = w.NewFile(20 * kPage);
    other_ = w.NewFile(5 * kPage + 77);
    unmapped_ = w.NewFile(3 * kPage);
    anon_ = w.Anon(p_, 900);
    private_ = w.Private(p_, file_, 24);
    shared_ = w.Shared(p_, other_, 6);
    object_ = w.Map(p_, 40, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
    Touch();
    Process& child = w.Fork(p_);
    Process& grandchild = w.Fork(child);
    w.Thread(grandchild);
    Write(child, 0x51);
    Write(grandchild, 0xa7);
    EXPECT_TRUE(w.Truncate(file_, 18 * kPage + 9));
    EXPECT_TRUE(w.Punch(file_, 4 * kPage, 3 * kPage));
    EXPECT_TRUE(w.Protect(p_, anon_ + 10 * kPage, 20, PROT_READ));
    EXPECT_TRUE(w.Protect(child, private_ + 2 * kPage, 2, PROT_NONE));
  }
  // Dirty pages of the page cache.
  void DirtyFiles() {
    EXPECT_EQ(w_.Store(p_, shared_ + kPage, "dirty"), Outcome::kOk);
    EXPECT_EQ(w_.Store(p_, shared_ + 5 * kPage + 70, "to the end and beyond"), Outcome::kOk);
    EXPECT_TRUE(w_.WriteFile(file_, 17 * kPage, "written").has_value());
    EXPECT_TRUE(w_.WriteFile(unmapped_, 5, "nobody maps this").has_value());
  }
  void CleanFiles() {
    for (const FilePtr& file : {file_, other_, unmapped_}) EXPECT_TRUE(w_.Fsync(file));
  }
  const FilePtr& file() const { return file_; }
  const FilePtr& other() const { return other_; }

 private:
  void Touch() {
    base::Random random(7);
    for (int i = 0; i < 300; ++i) {
      const Vaddr addr = anon_ + random.Below(900) * kPage + random.Below(4000);
      std::string text = base::Format("%llu", static_cast<unsigned long long>(random.Next()));
      if (i % 3 == 0) text.assign(90, 'z');
      EXPECT_EQ(w_.machine().store(p_, addr, AsBytes(text)).outcome, Outcome::kOk);
    }
    for (uint64_t i = 0; i < 900; i += 5) w_.machine().touch(p_, anon_ + i * kPage, 1, Write::kNo);
    for (uint64_t i = 0; i < 20; ++i) w_.machine().touch(p_, private_ + i * kPage, 1, Write::kNo);
    for (uint64_t i = 0; i < 20; i += 3) EXPECT_EQ(w_.Store(p_, private_ + i * kPage, "copy"), Outcome::kOk);
    for (uint64_t i = 0; i < 40; i += 7) EXPECT_EQ(w_.Store(p_, object_ + i * kPage, "object"), Outcome::kOk);
    w_.Load(p_, shared_, 5 * kPage);
  }
  void Write(Process& process, uint64_t seed) {
    base::Random random(seed);
    for (int i = 0; i < 50; ++i) {
      const Vaddr addr = anon_ + random.Below(900) * kPage;
      EXPECT_EQ(w_.machine().store(process, addr, AsBytes("after fork")).outcome, Outcome::kOk);
    }
    EXPECT_EQ(w_.Store(process, private_ + (seed % 18) * kPage, "child"), Outcome::kOk);
  }

  World& w_;
  Process& p_;
  FilePtr file_, other_, unmapped_;
  Vaddr anon_ = 0, private_ = 0, shared_ = 0, object_ = 0;
};

TEST(Invariant, C1_C2_C3_clean_machine_is_left_as_it_was) {
  World w;
  Busy busy(w);
  busy.CleanFiles();
  ASSERT_FALSE(HasDirtyFiles(w.machine()));
  Trip trip;
  EXPECT_NE(trip.Through(w.machine()), nullptr);
}

// What a checkpoint changes is what an fsync of the mapped files changes, and nothing else.
TEST(Invariant, C3_only_dirty_pages_of_mapped_files_are_written_back) {
  World w;
  Busy busy(w);
  busy.DirtyFiles();
  World twin;
  Busy like_busy(twin);
  like_busy.DirtyFiles();
  const std::string before = TextDump(w.machine());
  ASSERT_EQ(before, TextDump(twin.machine()));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  ASSERT_TRUE(twin.Fsync(like_busy.file()));
  ASSERT_TRUE(twin.Fsync(like_busy.other()));
  EXPECT_NE(TextDump(w.machine()), before);
  EXPECT_EQ(TextDump(w.machine()), TextDump(twin.machine()));
  EXPECT_TRUE(HasDirtyFiles(w.machine())) << "the file that nobody maps";
}

TEST(Invariant, C3_an_unsaved_process_is_not_written_back) {
  World w;
  Process& p = w.Spawn();
  Process& q = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  ASSERT_EQ(w.Store(q, w.Shared(q, file, 2), "dirty"), Outcome::kOk);
  w.Anon(p, 1);
  const std::string before = TextDump(w.machine());
  Trip trip;
  EXPECT_NE(trip.Through(w.machine(), {p.pid}), nullptr);
  EXPECT_EQ(TextDump(w.machine()), before);
  EXPECT_EQ(trip.SavedOfFile(file->name()), "0") << "and the image has its bytes all the same";
}

TEST(Invariant, Residency_counts_add_up) {
  World w;
  Busy busy(w);
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  const ckpt_pb::Totals& totals = trip.report().totals;
  uint64_t mapped = 0, present = 0, zero = 0, stored = 0;
  std::set<const MmStruct*> seen;
  for (const auto& [pid, process] : w.machine().processes()) {
    if (!seen.insert(process->mm.get()).second) continue;
    mapped += process->mm->total_vm;
    process->mm->pgtable.walk(0, TASK_SIZE, [&](Vaddr, const Pte& pte) {
      ++present;
      if (pte_pfn(pte) == kZeroPfn) ++zero;
    });
  }
  for (const ckpt_pb::PageRun& run : trip.runs()) {
    if (run.kind() == ckpt_pb::PageRun::STORED) stored += run.count();
  }
  EXPECT_EQ(totals.mapped(), mapped);
  EXPECT_EQ(totals.present(), present);
  EXPECT_EQ(totals.zero(), zero);
  EXPECT_EQ(totals.stored(), stored);
  EXPECT_EQ(trip.image().stored_pages(), stored);
  EXPECT_EQ(trip.image().totals().SerializeAsString(), totals.SerializeAsString());
  EXPECT_GT(totals.shared(), 0u);
  EXPECT_GT(totals.clean(), 0u);
}

TEST(Invariant, Same_image_for_any_number_of_threads_and_any_run) {
  std::string first;
  for (int run = 0; run < 2; ++run) {
    World w;
    Busy busy(w);
    busy.DirtyFiles();
    Trip trip;
    for (const unsigned threads : {1, 2, 4}) {
      const auto saved = trip.TrySave(w.machine(), {}, threads);
      ASSERT_TRUE(saved.has_value()) << saved.error().what;
      const std::string bytes = support::ReadFile(trip.path());
      if (first.empty()) {
        first = bytes;
      }
      EXPECT_GT(bytes.size(), 10000u);
      EXPECT_TRUE(bytes == first) << threads << " threads, run " << run;
      EXPECT_EQ(saved->image.bytes, bytes.size());
    }
  }
}

// Every page's frame, and nothing else, is used after a restart.
TEST(Invariant, C8_no_frame_is_lost) {
  World w;
  Busy busy(w);
  Trip trip;
  trip.every_page = true;
  ASSERT_TRUE(trip.Save(w.machine()));
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  uint64_t disk = 0;
  for (const ckpt_pb::PageRun& run : trip.runs()) {
    if (run.owner() == ckpt_pb::PageRun::DISK && run.kind() == ckpt_pb::PageRun::STORED) disk += run.count();
  }
  const Frames& frames = box->machine().frames;
  EXPECT_EQ(frames.frame_count() - 1 - frames.nr_free(), trip.image().stored_pages() - disk);
  while (!box->machine().processes().empty()) box->machine().exit(box->machine().processes().begin()->first);
  box->Check();
  EXPECT_EQ(frames.nr_free(), frames.frame_count() - 1);
}

}  // namespace
}  // namespace mm
