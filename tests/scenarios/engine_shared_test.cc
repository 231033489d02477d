// Memory that several processes or mappings share: C24 to C26, C28, and pages shared after fork.
#include <gtest/gtest.h>

#include "tests/mm/failing_disk.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

using ckpt_pb::PageRun;

TEST(Scenario, C24_one_mm_of_two_processes) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 4);
  ASSERT_EQ(w.Store(p, a, "before"), Outcome::kOk);
  Process& thread = w.Thread(p);
  Process& other = w.Fork(p);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.image().processes().mm_size(), 2);
  EXPECT_EQ(trip.MmOf(p.pid), trip.MmOf(thread.pid));
  EXPECT_NE(trip.MmOf(p.pid), trip.MmOf(other.pid));
  EXPECT_EQ(box->process(p.pid).mm, box->process(thread.pid).mm);
  EXPECT_EQ(box->process(thread.pid).ppid, p.pid);
  EXPECT_BYTES(box->Load(a, 6, thread.pid), "before");
  EXPECT_EQ(box->Store(a, "after!", p.pid), Outcome::kOk);
  EXPECT_BYTES(box->Load(a, 6, thread.pid), "after!");
  EXPECT_BYTES(box->Load(a, 6, other.pid), "before");
  EXPECT_EQ(box->Store(a + kPage, "thread", thread.pid), Outcome::kOk);
  EXPECT_BYTES(box->Load(a + kPage, 6, p.pid), "thread");
  box->machine().exit(p.pid);
  box->Check();
  EXPECT_BYTES(box->Load(a, 6, thread.pid), "after!") << "the address space lives on";
}

TEST(Scenario, C25_windows_of_one_object) {
  World w;
  Process& p = w.Spawn();
  const FilePtr object = w.machine().create_shmem("object", 8 * kPage);
  const Vaddr low = w.Shared(p, object, 3);
  const Vaddr high = w.Shared(p, object, 3, 4);
  for (const uint64_t page : {0, 2}) ASSERT_EQ(w.Store(p, low + page * kPage, "low"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, high + kPage, "high"), Outcome::kOk);
  Process& child = w.Fork(p);
  // Page 7 lies outside of every window that is left.
  const Vaddr last = w.Shared(p, object, 1, 7);
  ASSERT_EQ(w.Store(p, last, "last"), Outcome::kOk);
  ASSERT_TRUE(w.Unmap(p, last, 1));
  Trip trip;
  trip.every_page = true;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.SavedOfFile("object", PageRun::SHMEM), "0 2 5 7") << "the whole object, once";
  EXPECT_EQ(trip.image().stored_pages(), 4u);
  EXPECT_EQ(trip.image().files().file_size(), 1);
  EXPECT_EQ(trip.FindFile("object")->size(), 8 * kPage);

  const FilePtr restored = box->process().mm->vma_at(low)->file;
  EXPECT_EQ(restored->i_size, 8 * kPage);
  EXPECT_EQ(box->process().mm->vma_at(high)->file, restored);
  EXPECT_EQ(box->process(child.pid).mm->vma_at(high)->file, restored);
  for (const auto& [index, pfn] : restored->mapping.pages) {
    EXPECT_TRUE(box->machine().frames.at(pfn).dirty()) << "C29: reclaim must not lose page " << index;
  }
  EXPECT_BYTES(box->Load(low + 2 * kPage, 4, child.pid), "low" + Zeros(1));
  EXPECT_BYTES(box->Load(high + kPage, 5, child.pid), "high" + Zeros(1));
  EXPECT_EQ(box->Store(high, "new", child.pid), Outcome::kOk);
  EXPECT_BYTES(box->Load(high, 3, p.pid), "new") << "still shared";
  const auto whole = sys_mmap(*box->process().mm, 0, 8 * kPage, kReadWrite, MAP_SHARED, restored, 0);
  ASSERT_TRUE(whole.has_value());
  EXPECT_BYTES(box->Load(*whole + 7 * kPage, 5), "last" + Zeros(1));
}

TEST(Scenario, C25_only_one_of_the_processes_is_saved) {
  World w;
  Process& p = w.Spawn();
  const Vaddr s = w.Map(p, 3, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  const Vaddr a = w.Anon(p, 2);
  ASSERT_EQ(w.Store(p, s, "shared"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a, "private"), Outcome::kOk);
  Process& child = w.Fork(p);
  ASSERT_EQ(w.Store(child, s + kPage, "child"), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine(), {child.pid});
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(box->machine().processes().size(), 1u);
  EXPECT_EQ(trip.report().totals.shared(), 0u) << "the parent does not count";
  EXPECT_BYTES(box->Load(s, 6, child.pid), "shared");
  EXPECT_BYTES(box->Load(s + kPage, 5, child.pid), "child");
  EXPECT_BYTES(box->Load(a, 7, child.pid), "private");
}

TEST(Scenario, C26_holes_of_a_shared_object) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 600, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  for (const uint64_t page : {0, 299, 300, 599}) ASSERT_EQ(w.Store(p, a + page * kPage, "x"), Outcome::kOk);
  Trip trip;
  trip.every_page = true;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  ASSERT_EQ(trip.image().files().file_size(), 1);
  EXPECT_EQ(Ranges(trip.PagesOf(PageRun::SHMEM, trip.image().files().file(0).objref())), "0 299-300 599");
  EXPECT_EQ(trip.image().stored_pages(), 4u);
  EXPECT_BYTES(box->Load(a + kPage, 8), Zeros(8));
  EXPECT_BYTES(box->Load(a + 299 * kPage, 2), "x" + Zeros(1));
  EXPECT_BYTES(box->Load(a + 598 * kPage, kPage + 1), Zeros(kPage) + "x");
}

TEST(Scenario, C28_dirty_shared_file_is_written_back) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr s = w.Shared(p, file, 4);
  const std::string text = "ours" + w.Original(file, kPage + 4, kPage - 4);
  ASSERT_EQ(w.Store(p, s + kPage, "ours"), Outcome::kOk);
  EXPECT_EQ(w.OnDisk(file, kPage, 4), w.Original(file, kPage, 4)) << "only in memory yet";
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(w.OnDisk(file, kPage, 4), "ours");
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 0u);
  EXPECT_EQ(trip.Saved(s), "") << "no page of the mapping";
  EXPECT_EQ(trip.SavedOfFile(file->name()), "1") << "what the disk has beyond its recipe";
  EXPECT_BYTES(box->Load(s + kPage, kPage), text);
  EXPECT_BYTES(box->FileBytes(file->name(), kPage, kPage), text);
  EXPECT_EQ(box->Store(s, "more"), Outcome::kOk);
  EXPECT_BYTES(box->FileBytes(file->name(), 0, 4), "more");
}

TEST(Scenario, C28_write_back_fails) {
  for (const bool bad_sync : {false, true}) {
    SCOPED_TRACE(bad_sync);
    World w;
    Process& p = w.Spawn();
    auto disk = std::make_unique<FailingDisk>();
    FailingDisk& on_disk = *disk;
    const FilePtr file = w.machine().create_file("bad", 2 * kPage, std::move(disk));
    const Vaddr s = w.Shared(p, file, 2);
    ASSERT_EQ(w.Store(p, s, "ours"), Outcome::kOk);
    on_disk.bad_sync = bad_sync;
    if (!bad_sync) on_disk.bad_writes.insert(0);
    Trip trip;
    const base::Error error = trip.SaveError(w.machine());
    EXPECT_EQ(error.code, Code::kIo);
    EXPECT_NE(error.what.find("bad"), std::string::npos) << error.what;
    EXPECT_BYTES(w.Load(p, s, 4), "ours") << "the process has its data";
    on_disk.bad_sync = false;
    on_disk.bad_writes.clear();
    EXPECT_NE(trip.Through(w.machine()), nullptr);
  }
}

// A file that no saved process maps is not written back: its changes go into the image from the cache.
TEST(Scenario, C28_dirty_file_that_nobody_maps) {
  World w;
  w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  ASSERT_TRUE(w.WriteFile(file, kPage + 5, "written").has_value());
  const std::string bytes = w.ReadFile(file, 0, 3 * kPage);
  const std::string before = TextDump(w.machine());
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(TextDump(w.machine()), before);
  EXPECT_EQ(trip.SavedOfFile(file->name()), "1");
  EXPECT_BYTES(box->FileBytes(file->name(), 0, 3 * kPage), bytes);
}

TEST(Scenario, C28_two_mappings_of_one_file) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr s = w.Shared(p, file, 2);
  const Vaddr a = w.Private(p, file, 2);
  ASSERT_EQ(w.Store(p, s, "ours"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + kPage, "mine"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, s + kPage, "ours"), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.Saved(a), "1");
  EXPECT_BYTES(box->Load(a, 4), "ours") << "a clean private page shows the file";
  EXPECT_BYTES(box->Load(a + kPage, 4), "mine");
  EXPECT_BYTES(box->Load(s + kPage, 4), "ours");
}

// ---- copy on write ----

TEST(Scenario, Pages_shared_after_fork_are_stored_once) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Anon(p, 10);
  const Vaddr f = w.Private(p, file, 4);
  for (uint64_t i = 0; i < 10; ++i) ASSERT_EQ(w.Store(p, a + i * kPage, "parent"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, f + kPage, "parent"), Outcome::kOk);
  Process& child = w.Fork(p);
  Process& grandchild = w.Fork(child);
  ASSERT_EQ(w.Store(p, a + 3 * kPage, "PARENT"), Outcome::kOk);
  ASSERT_EQ(w.Store(child, a + 4 * kPage, "CHILD!"), Outcome::kOk);
  Trip trip;
  trip.every_page = true;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.image().stored_pages(), 13u);
  EXPECT_EQ(trip.report().totals.modified(), 33u);
  EXPECT_EQ(trip.report().totals.shared(), 20u);
  for (const Pid pid : {p.pid, child.pid, grandchild.pid}) {
    for (uint64_t i = 0; i < 10; ++i) {
      const Vaddr addr = a + i * kPage;
      const int32_t mapcount = w.PageAt(*w.machine().find_process(pid), addr).mapcount;
      EXPECT_EQ(World::PteAt(box->process(pid), addr).word & kPtePresent, kPtePresent);
      EXPECT_EQ(box->machine().frames.at(World::PfnAt(box->process(pid), addr)).mapcount, mapcount);
    }
  }
  EXPECT_EQ(box->Store(a, "alone!", child.pid), Outcome::kOk);
  EXPECT_BYTES(box->Load(a, 6, p.pid), "parent");
  EXPECT_BYTES(box->Load(a, 6, grandchild.pid), "parent");
  EXPECT_EQ(box->Store(f + kPage, "PARENT", p.pid), Outcome::kOk);
  EXPECT_BYTES(box->Load(f + kPage, 6, grandchild.pid), "parent");
  EXPECT_BYTES(box->Load(a + 3 * kPage, 6, p.pid), "PARENT");
  EXPECT_BYTES(box->Load(a + 4 * kPage, 6, grandchild.pid), "parent");
}

// Shared between children whose parent is gone, and at another address in one of them.
TEST(Scenario, Shared_page_moved_in_one_process) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 4);
  ASSERT_EQ(w.Store(p, a, "one"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + kPage, "two"), Outcome::kOk);
  Process& child = w.Fork(p);
  Process& other = w.Fork(p);
  w.Exit(p);
  const Vaddr to = a - 100 * kPage;
  const auto moved = sys_mremap(*child.mm, a, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to);
  ASSERT_TRUE(moved.has_value());
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.image().stored_pages(), 2u);
  EXPECT_BYTES(box->Load(to + kPage, 3, child.pid), "two");
  EXPECT_EQ(box->Store(to, "ONE", child.pid), Outcome::kOk);
  EXPECT_BYTES(box->Load(a, 3, other.pid), "one");
}

}  // namespace
}  // namespace mm
