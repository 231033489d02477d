#include "restore/model_sink.h"

#include <gtest/gtest.h>

#include <vector>

#include "mm/folder_disk.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

using ckpt_pb::PageRun;
using restore::ModelSink;

ckpt_pb::Machine SmallMachine(uint64_t pages = 64) {
  ckpt_pb::Machine machine;
  machine.set_page_size(kPage);
  machine.set_memory_bytes(pages * kPage);
  return machine;
}

PageRun MakeRun(PageRun::Owner owner, uint32_t objref, uint64_t first, uint64_t count, PageRun::Kind kind,
                uint64_t stored = 0) {
  PageRun run;
  run.set_owner(owner);
  run.set_objref(objref);
  run.set_first(first);
  run.set_count(count);
  run.set_kind(kind);
  run.set_stored(stored);
  return run;
}

constexpr Vaddr kStart = 0x10000000;

// A sink with two processes, each with an address space of four private anonymous pages.
class ModelSinkTest : public testing::Test {
 protected:
  void SetUp() override { Begin(SmallMachine()); }
  void Begin(const ckpt_pb::Machine& machine) {
    sink_ = ModelSink::Create(machine, "").value();
    for (const uint32_t ref : {1, 2}) {
      ckpt_pb::Mm mm;
      mm.set_objref(ref);
      mm.set_word_bytes(8);
      ASSERT_TRUE(sink_->CreateMm(mm));
      ckpt_pb::Process process;
      process.set_pid(ref);
      process.set_mm_objref(ref);
      process.set_rlimit_fsize(RLIM_INFINITY_BYTES);
      ASSERT_TRUE(sink_->CreateProcess(process));
      ckpt_pb::Vma vma;
      vma.set_start(kStart);
      vma.set_end(kStart + 4 * kPage);
      vma.set_flags(calc_vm_flags(kReadWrite, MAP_PRIVATE));
      vma.set_pgoff(kStart / kPage);
      ASSERT_TRUE(sink_->Map(ref, vma));
    }
  }
  // Places a run and fills its pages with `fill`.
  base::Result<void> Place(const PageRun& run, char fill) {
    std::vector<std::span<std::byte>> pieces;
    TRY_VOID(sink_->Place(run, pieces));
    uint64_t bytes = 0;
    for (const std::span<std::byte> piece : pieces) {
      bytes += piece.size();
      std::ranges::fill(piece, static_cast<std::byte>(fill));
    }
    EXPECT_EQ(bytes, run.count() * kPage);
    return {};
  }
  std::unique_ptr<Box> Finish() {
    EXPECT_TRUE(sink_->Seal());
    return std::make_unique<Box>(sink_->TakeMachine());
  }
  std::unique_ptr<ModelSink> sink_;
};

TEST_F(ModelSinkTest, PlacedPagesAreModifiedAndWritable) {
  ASSERT_TRUE(Place(MakeRun(PageRun::MM, 1, kStart / kPage + 1, 2, PageRun::STORED, 0), 'x'));
  const auto box = Finish();
  EXPECT_BYTES(box->Load(kStart, 4 * kPage), Zeros(kPage) + std::string(2 * kPage, 'x') + Zeros(kPage));
  const uint64_t faults = box->machine().vmstat.pgfault;
  EXPECT_EQ(box->Store(kStart + kPage, "new"), Outcome::kOk);
  EXPECT_EQ(box->machine().vmstat.pgfault, faults) << "no fault is needed";
  ckpt::ModelSource source(box->machine(), {});
  ASSERT_TRUE(source.Prepare());
  const auto run =
      source.NextModified(source.processes().process(0).mm_objref(), kStart / kPage, kStart / kPage + 4);
  ASSERT_TRUE(run.has_value());
  EXPECT_EQ(run->first, kStart / kPage + 1);
  EXPECT_EQ(run->count, 2u);
}

TEST_F(ModelSinkTest, SamePagesAreShared) {
  ASSERT_TRUE(Place(MakeRun(PageRun::MM, 1, kStart / kPage, 2, PageRun::STORED, 0), 'x'));
  ASSERT_TRUE(sink_->Same(MakeRun(PageRun::MM, 2, kStart / kPage + 1, 2, PageRun::SAME, 0)));
  ASSERT_TRUE(Place(MakeRun(PageRun::MM, 2, kStart / kPage + 3, 1, PageRun::STORED, 2), 'y'));
  const auto box = Finish();
  const Pfn pfn = World::PfnAt(box->process(1), kStart);
  EXPECT_EQ(World::PfnAt(box->process(2), kStart + kPage), pfn);
  EXPECT_EQ(box->machine().frames.at(pfn).mapcount, 2);
  EXPECT_FALSE(pte_write(World::PteAt(box->process(1), kStart)));
  EXPECT_EQ(box->Store(kStart, "one", 1), Outcome::kOk);
  EXPECT_BYTES(box->Load(kStart + kPage, 3, 2), "xxx");
  EXPECT_EQ(box->Store(kStart + kPage, "two", 2), Outcome::kOk);
  EXPECT_BYTES(box->Load(kStart, 4, 1), "onex");
  EXPECT_BYTES(box->Load(kStart + 3 * kPage, 1, 2), "y");
}

TEST_F(ModelSinkTest, SameOfWhatIsNotMemory) {
  EXPECT_EQ(sink_->Same(MakeRun(PageRun::MM, 1, kStart / kPage, 1, PageRun::SAME, 0)).error().code,
            Code::kInvalid);
  EXPECT_EQ(sink_->Same(MakeRun(PageRun::SHMEM, 1, 0, 1, PageRun::SAME, 0)).error().code, Code::kInvalid);
}

TEST_F(ModelSinkTest, ZeroOfMemoryIsPagesOfZeros) {
  ASSERT_TRUE(sink_->Zero(MakeRun(PageRun::MM, 1, kStart / kPage, 4, PageRun::ZERO)));
  const auto box = Finish();
  EXPECT_EQ(box->process().mm->anon_rss, 4u) << "they were there";
  EXPECT_BYTES(box->Load(kStart, 8), Zeros(8));
}

TEST_F(ModelSinkTest, MorePagesThanMemory) {
  Begin(SmallMachine(16));
  ASSERT_TRUE(Place(MakeRun(PageRun::MM, 1, kStart / kPage, 4, PageRun::STORED, 0), 'x'));
  ASSERT_TRUE(Place(MakeRun(PageRun::MM, 2, kStart / kPage, 4, PageRun::STORED, 4), 'y'));
  ckpt_pb::File file;
  file.set_objref(9);
  file.set_kind(ckpt_pb::File::SHMEM);
  file.set_size(100 * kPage);
  ASSERT_TRUE(sink_->CreateFile(file));
  const auto placed = Place(MakeRun(PageRun::SHMEM, 9, 0, 20, PageRun::STORED, 8), 'z');
  ASSERT_FALSE(placed.has_value());
  EXPECT_EQ(placed.error().code, Code::kNoMemory);
  sink_ = nullptr;  // what was built goes without a complaint
}

TEST_F(ModelSinkTest, DiskPagesAndHoles) {
  ckpt_pb::File file;
  file.set_objref(9);
  file.set_name("file");
  file.set_size(4 * kPage);
  file.mutable_recipe()->set_kind(ckpt_pb::Recipe::GENERATED);
  file.mutable_recipe()->set_generator("counter");
  file.mutable_recipe()->set_size(4 * kPage);
  file.set_recipe_end(3 * kPage);
  ASSERT_TRUE(sink_->CreateFile(file));
  ASSERT_TRUE(Place(MakeRun(PageRun::DISK, 9, 1, 1, PageRun::STORED, 0), 'd'));
  ASSERT_TRUE(sink_->Zero(MakeRun(PageRun::DISK, 9, 2, 1, PageRun::ZERO)));
  const auto box = Finish();
  const FilePtr restored = box->machine().find_file("file");
  EXPECT_BYTES(box->FileBytes("file", 0, 4 * kPage),
               World::Original(restored, 0, kPage) + std::string(kPage, 'd') + Zeros(2 * kPage));
  EXPECT_EQ(restored->disk()->recipe_end(), 3 * kPage);
}

TEST_F(ModelSinkTest, TwoFilesOfOneName) {
  ckpt_pb::File file;
  file.set_name("file");
  file.set_objref(9);
  ASSERT_TRUE(sink_->CreateFile(file));
  file.set_objref(10);
  EXPECT_EQ(sink_->CreateFile(file).error().code, Code::kInvalid);
}

TEST_F(ModelSinkTest, DiskPagesOfAFolder) {
  support::TempDir dir;
  support::WriteFile(dir / "file", "bytes");
  sink_ = ModelSink::Create(SmallMachine(), dir.path().string()).value();
  ckpt_pb::File file;
  file.set_objref(9);
  file.set_name("file");
  file.set_size(5);
  file.mutable_recipe()->set_kind(ckpt_pb::Recipe::FOLDER);
  file.mutable_recipe()->set_path("file");
  ASSERT_TRUE(sink_->CreateFile(file));
  const auto placed = Place(MakeRun(PageRun::DISK, 9, 0, 1, PageRun::STORED, 0), 'd');
  ASSERT_FALSE(placed.has_value());
  EXPECT_EQ(placed.error().code, Code::kInvalid);
  const auto box = Finish();
  EXPECT_BYTES(box->FileBytes("file", 0, 10), "bytes");
}

TEST(ModelSinkCreateTest, BadMachines) {
  ckpt_pb::Machine machine = SmallMachine();
  machine.add_semantics("no_such=switch");
  EXPECT_EQ(ModelSink::Create(machine, "").error().code, Code::kInvalid);
  EXPECT_EQ(ModelSink::Create(SmallMachine(1), "").error().code, Code::kInvalid);
  machine = SmallMachine();
  machine.add_semantics("reuse_rule=count");
  machine.set_vdso_start(0x7000);
  const auto sink = ModelSink::Create(machine, "");
  ASSERT_TRUE(sink.has_value());
  EXPECT_EQ((*sink)->machine().sem().reuse_rule, ReuseRule::kCount);
  EXPECT_EQ((*sink)->machine().config().vdso_start, 0x7000u);
}

}  // namespace
}  // namespace mm
