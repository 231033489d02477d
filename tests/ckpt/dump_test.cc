#include "ckpt/dump.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "base/random.h"
#include "tests/mm/failing_disk.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

// 300 incompressible pages: several chunks.
void Fill(World& w, Process& p) {
  const Vaddr a = w.Anon(p, 300);
  base::Random random(3);
  for (uint64_t i = 0; i < 300; ++i) {
    std::string bytes(kPage, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.Next());
    ASSERT_EQ(w.machine().store(p, a + i * kPage, AsBytes(bytes)).outcome, Outcome::kOk);
  }
}

size_t EntriesIn(const std::filesystem::path& folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

base::Result<ckpt::DumpReport> DumpTo(Machine& machine, const std::string& path,
                                      ckpt::DumpOptions options = {}) {
  ckpt::ModelSource source(machine, {});
  options.write.sync = image::Sync::kNo;
  return ckpt::Dump(source, path, options);
}

TEST(DumpTest, MissingFolder) {
  World w;
  w.Anon(w.Spawn(), 1);
  support::TempDir dir;
  const auto saved = DumpTo(w.machine(), dir / "no" / "image");
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, Code::kNotFound);
  EXPECT_EQ(EntriesIn(dir.path()), 0u);
}

TEST(DumpTest, PathIsAFolder) {
  World w;
  w.Anon(w.Spawn(), 1);
  support::TempDir dir;
  std::filesystem::create_directory(dir / "image");
  const auto saved = DumpTo(w.machine(), dir / "image");
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, Code::kInvalid);
  EXPECT_EQ(EntriesIn(dir.path()), 1u);
}

// A limit on the size of files stands in for a disk that is full, at several places.
TEST(DumpTest, FullDiskLeavesNothing) {
  World w;
  Process& p = w.Spawn();
  Fill(w, p);
  const std::string before = TextDump(w.machine());
  support::TempDir dir;
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, rlim_t{5000}, rlim_t{700'000}, rlim_t{1'228'000}}) {
    rlimit small = old_limit;
    small.rlim_cur = limit;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const auto saved = DumpTo(w.machine(), dir / "image");
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    ASSERT_FALSE(saved.has_value()) << limit;
    EXPECT_EQ(saved.error().code, Code::kIo) << saved.error().what;
    EXPECT_NE(saved.error().what.find("image"), std::string::npos) << saved.error().what;
    EXPECT_EQ(EntriesIn(dir.path()), 0u) << limit;
  }
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(TextDump(w.machine()), before) << "C36: the target is as it was";
  EXPECT_TRUE(DumpTo(w.machine(), dir / "image").has_value());
}

TEST(DumpTest, InterruptedLeavesTheOldImage) {
  World w;
  Process& p = w.Spawn();
  Fill(w, p);
  support::TempDir dir;
  support::WriteFile(dir / "image", "old");
  const std::atomic<bool> stop = true;
  ckpt::DumpOptions options;
  options.write.stop = &stop;
  const auto saved = DumpTo(w.machine(), dir / "image", options);
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, Code::kInterrupted);
  EXPECT_EQ(support::ReadFile(dir / "image"), "old");
  EXPECT_EQ(EntriesIn(dir.path()), 1u);
}

// A page of a file's disk that cannot be read while the image is written.
TEST(DumpTest, UnreadableDiskPage) {
  World w;
  Process& p = w.Spawn();
  Fill(w, p);
  auto disk = std::make_unique<FailingDisk>();
  disk->pages[1] = std::string(kPage, 'd');
  disk->bad_reads.insert(1);
  const FilePtr file = w.machine().create_file("bad", 2 * kPage, std::move(disk));
  support::TempDir dir;
  const auto saved = DumpTo(w.machine(), dir / "image");
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, Code::kIo);
  EXPECT_NE(saved.error().what.find("bad"), std::string::npos) << saved.error().what;
  EXPECT_EQ(EntriesIn(dir.path()), 0u);
}

TEST(DumpTest, WorkloadStateAndProgress) {
  World w;
  Process& p = w.Spawn();
  Fill(w, p);
  support::TempDir dir;
  ckpt::DumpOptions options;
  options.workload_state = std::string("state\0of it", 11);
  uint64_t last = 0;
  options.write.progress = [&](uint64_t done) {
    EXPECT_GE(done, last);
    last = done;
  };
  const auto saved = DumpTo(w.machine(), dir / "image", options);
  ASSERT_TRUE(saved.has_value()) << saved.error().what;
  EXPECT_EQ(last, 300u);
  const auto reader = image::Reader::Open(dir / "image");
  ASSERT_TRUE(reader.has_value()) << reader.error().what;
  EXPECT_EQ((*reader)->workload_state(), options.workload_state);
  EXPECT_EQ((*reader)->digest(), saved->image.digest);
  EXPECT_EQ((*reader)->file_bytes(), saved->image.bytes);
}

TEST(DumpTest, NoProcessesAtAll) {
  World w;
  const FilePtr file = w.NewFile(kPage);
  ASSERT_TRUE(w.WriteFile(file, 0, "kept").has_value());
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_TRUE(box->machine().processes().empty());
  EXPECT_BYTES(box->FileBytes(file->name(), 0, 4), "kept");
}

TEST(DumpTest, ProcessWithoutMappings) {
  World w;
  w.Spawn();
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(box->process().mm->map_count(), 0u);
}

// An object that two mappings reach under different protections, and a page of each kind in one vma.
TEST(DumpTest, LimitsAndNamesComeBack) {
  World w;
  Process& p = w.machine().spawn(1, std::string("odd \xff name\n"));
  p.rlimit_fsize = 77;
  p.rlimit_stack = 99 * kPage;
  p.ppid = 12;
  p.mm->def_flags = VM_LOCKED;
  w.Anon(p, 1);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  const Process& restored = box->process();
  EXPECT_EQ(restored.name, p.name);
  EXPECT_EQ(restored.ppid, 12u);
  EXPECT_EQ(restored.rlimit_fsize, 77u);
  EXPECT_EQ(restored.rlimit_stack, 99 * kPage);
  EXPECT_EQ(restored.mm->def_flags, VM_LOCKED);
}

}  // namespace
}  // namespace mm
