// Scenarios M01 - M08 of the memory model: the end of a file, truncate, extend.
#include <gtest/gtest.h>

#include "tests/mm/world.h"

namespace mm {
namespace {

TEST(Scenario, M01_last_partial_page) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage + 100);
  const Vaddr priv = w.Private(p, file, 3);
  const Vaddr shared = w.Shared(p, file, 3);
  for (const Vaddr a : {priv, shared}) {
    EXPECT_BYTES(w.Load(p, a + kPage, kPage), w.Original(file, kPage, 100) + Zeros(kPage - 100));
    EXPECT_EQ(w.TryLoad(p, a + 2 * kPage - 1), Outcome::kOk);
    EXPECT_EQ(w.TryStore(p, a + 2 * kPage - 1), Outcome::kOk) << "writing there is allowed, too";
    EXPECT_EQ(w.TryLoad(p, a + 2 * kPage), Outcome::kSigbus);
    EXPECT_EQ(w.TryStore(p, a + 2 * kPage), Outcome::kSigbus);
  }
  EXPECT_EQ(file->i_size, kPage + 100);
  const FilePtr empty = w.NewFile(0);
  EXPECT_EQ(w.TryLoad(p, w.Private(p, empty, 1)), Outcome::kSigbus);
}

TEST(Scenario, M02_shrink_to_the_middle_of_a_page) {
  World w;
  Process& p = w.Spawn();
  Process& other = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr shared = w.Shared(other, file, 2);
  const Vaddr clean = w.Private(other, file, 2);
  const Vaddr priv = w.Private(p, file, 2);
  ASSERT_EQ(w.Store(other, shared + kPage, std::string(kPage, 's')), Outcome::kOk);
  ASSERT_EQ(w.Store(p, priv + kPage + 10, "copy"), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(other, clean + kPage), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, kPage + 50));
  const std::string expected = std::string(50, 's') + Zeros(kPage - 50);
  EXPECT_BYTES(w.FrameText(file->mapping.pages.at(1), 0, kPage), expected) << "the cached tail";
  EXPECT_BYTES(w.Load(other, shared + kPage, kPage), expected) << "the shared mapper";
  EXPECT_BYTES(w.Load(other, clean + kPage, kPage), expected) << "a private mapper that never wrote";
  EXPECT_BYTES(w.Load(p, priv + kPage, kPage), std::string(10, 's') + "copy" + std::string(kPage - 14, 's'))
      << "a private copy keeps its tail";
  EXPECT_TRUE(w.IsDirty(p, priv + kPage)) << "C13: and is saved with it";
}

TEST(Scenario, M03_shrink_takes_private_copies) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Private(p, file, 4);
  for (uint64_t i = 0; i < 4; ++i) ASSERT_EQ(w.Store(p, a + i * kPage, "mine"), Outcome::kOk);
  Process& child = w.Fork(p);
  const uint32_t free = w.machine().frames.nr_free();
  ASSERT_TRUE(w.Truncate(file, 2 * kPage));
  for (Process* owner : {&p, &child}) {
    EXPECT_BYTES(w.Load(*owner, a + kPage, 4), "mine");
    for (uint64_t i = 2; i < 4; ++i) {
      EXPECT_TRUE(pte_none(w.PteAt(*owner, a + i * kPage)));
      EXPECT_EQ(w.TryLoad(*owner, a + i * kPage), Outcome::kSigbus);
      EXPECT_EQ(w.TryStore(*owner, a + i * kPage), Outcome::kSigbus);
      EXPECT_FALSE(w.IsDirty(*owner, a + i * kPage)) << "INV-C11";
    }
  }
  EXPECT_GE(w.machine().frames.nr_free(), free + 2) << "the copies are free";
}

// CPU 0 stores to page `page` of the private or shared mapping at `base`, and CPU 1 truncates the file before
// it. The fault has looked at the size and holds the page lock when the truncate begins; the truncate has set
// the size, has unmapped and waits for that lock when the fault maps its page.
testing::AssertionResult StoreInTheWindow(World& w, Process& p, const FilePtr& file, Vaddr base,
                                          uint64_t page, Outcome expected, const std::vector<Place>& then) {
  std::vector<Place> places = {{0, "DoFault", "page_table_lock"}};
  places.insert(places.end(), then.begin(), then.end());
  return w.OnCpus(
      {[&] { EXPECT_EQ(w.machine().store(p, base + page * kPage, AsBytes("raced")).outcome, expected); },
       [&] { EXPECT_TRUE(vmtruncate(w.machine(), *file, kPage, kNoLimit)); }},
      places);
}

TEST(Scenario, M05_truncate_race) {
  for (const bool one_pass : {true, false}) {
    World w(WithSwitch(one_pass ? "truncate_passes=one" : "truncate_passes=two"));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(3 * kPage);
    const Vaddr a = w.Private(p, file, 3);
    w.ReadFile(file, 0, 3 * kPage);
    // The store is made before the second pass: its lock comes after the first one's lock and unlock.
    std::vector<Place> then;
    if (!one_pass) then = {{1, "UnmapFrom", "i_shared_sem", 3}};
    ASSERT_TRUE(StoreInTheWindow(w, p, file, a, 2, Outcome::kOk, then));
    EXPECT_FALSE(file->mapping.pages.contains(2));
    if (one_pass) {
      EXPECT_BYTES(w.Load(p, a + 2 * kPage, 8), "raced" + w.Original(file, 2 * kPage + 5, 3))
          << "2.6.18: the copy survives past the end";
      EXPECT_TRUE(w.IsDirty(p, a + 2 * kPage)) << "C12: and would be saved";
    } else {
      EXPECT_TRUE(pte_none(w.PteAt(p, a + 2 * kPage)));
      EXPECT_EQ(w.TryLoad(p, a + 2 * kPage), Outcome::kSigbus);
      EXPECT_FALSE(w.IsDirty(p, a + 2 * kPage));
    }
  }
}

// INV-M4: the new size is there before any page is unmapped, and all accesses behind it see that.
TEST(Scenario, M05_the_size_comes_before_any_unmapping) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Shared(p, file, 3);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kOk);
  ASSERT_TRUE(w.Beside(
      [&] { EXPECT_TRUE(vmtruncate(w.machine(), *file, kPage, kNoLimit)); }, "UnmapFrom", "i_shared_sem",
      [&] {
        EXPECT_TRUE(pte_present(w.PteAt(p, a + kPage)));
        EXPECT_EQ(file->i_size, kPage);
        EXPECT_EQ(w.machine().touch(p, a + 2 * kPage, 1, Write::kNo).outcome, Outcome::kSigbus);
      }));
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kSigbus);
}

// The file system cuts the file last (B8): a fault that has to read the disk finds the old bytes there.
TEST(Scenario, M05_truncate_race_of_a_page_that_is_not_cached) {
  World w(WithSwitch("truncate_passes=one"));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  ASSERT_TRUE(StoreInTheWindow(w, p, file, a, 2, Outcome::kOk, {}));
  EXPECT_BYTES(w.Load(p, a + 2 * kPage, 8), "raced" + w.Original(file, 2 * kPage + 5, 3));
}

// One that comes to the disk only when the size is set, and has looked at it before, looks again under the
// page lock.
TEST(Scenario, M05_truncate_race_of_a_page_that_is_read_too_late) {
  for (const char* passes : {"truncate_passes=one", "truncate_passes=two"}) {
    World w(WithSwitch(passes));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(3 * kPage);
    const Vaddr a = w.Private(p, file, 3);
    ASSERT_TRUE(w.OnCpus(
        {[&] { EXPECT_EQ(w.machine().store(p, a + 2 * kPage, AsBytes("late")).outcome, Outcome::kSigbus); },
         [&] { EXPECT_TRUE(vmtruncate(w.machine(), *file, kPage, kNoLimit)); }},
        {{0, "read_cache_page", "tree_lock"}, {1, "find_get_next_page", "tree_lock"}}));
    EXPECT_FALSE(file->mapping.pages.contains(2)) << passes;
    EXPECT_TRUE(pte_none(w.PteAt(p, a + 2 * kPage))) << passes;
  }
}

// A page of the file itself that is mapped again in the window goes in either case.
TEST(Scenario, M05_truncate_race_of_a_clean_page) {
  for (const char* passes : {"truncate_passes=one", "truncate_passes=two"}) {
    World w(WithSwitch(passes));
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(2 * kPage);
    const Vaddr a = w.Shared(p, file, 2);
    // Gone before the store is made.
    ASSERT_TRUE(StoreInTheWindow(w, p, file, a, 1, Outcome::kSigbus, {})) << passes;
    EXPECT_TRUE(pte_none(w.PteAt(p, a + kPage))) << passes;
    EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kSigbus) << passes;
  }
}

enum class How { kLoad, kPrivateStore, kSharedStore };

// A fault on page 1 of a file that is truncated to one page while the fault stands before `lock` in
// `function`.
void FaultAgainstTruncate(std::string_view assignment, const char* function, const char* lock, bool cached,
                          How how) {
  SCOPED_TRACE(testing::Message() << assignment << " cached " << cached << " how " << static_cast<int>(how));
  World w(WithSwitch(assignment));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  if (cached) w.ReadFile(file, 0, 2 * kPage);
  const Vaddr a = how == How::kSharedStore ? w.Shared(p, file, 2) : w.Private(p, file, 2);
  const uint32_t free = w.machine().frames.nr_free();
  ASSERT_TRUE(w.Beside(
      [&] {
        const Write write = how == How::kLoad ? Write::kNo : Write::kYes;
        EXPECT_EQ(w.machine().touch(p, a + kPage, 1, write).outcome, Outcome::kSigbus);
      },
      function, lock, [&] { EXPECT_TRUE(vmtruncate(w.machine(), *file, kPage, kNoLimit)); }));
  EXPECT_TRUE(pte_none(w.PteAt(p, a + kPage))) << "no pte past the end remains";
  EXPECT_FALSE(file->mapping.pages.contains(1));
  EXPECT_EQ(w.machine().frames.nr_free(), free + (cached ? 1 : 0)) << "the loser frees what it prepared";
  EXPECT_EQ(p.mm->anon_rss + p.mm->file_rss, 0u);
  ASSERT_TRUE(w.Truncate(file, 2 * kPage));
  EXPECT_BYTES(w.Load(p, a + kPage, 8), Zeros(8));
}

TEST(Scenario, M06_fault_against_truncate) {
  for (const bool cached : {false, true}) {
    for (const How how : {How::kLoad, How::kPrivateStore, How::kSharedStore}) {
      FaultAgainstTruncate("truncate_race=truncate_count", "DoFault", "page_table_lock", cached, how);
      FaultAgainstTruncate("truncate_race=page_lock", "find_lock_page", "page lock", cached, how);
    }
  }
}

// The truncate has only set the size yet; the page is still in the cache when the fault locks it.
TEST(Scenario, M06_size_is_checked_under_the_page_lock) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  w.ReadFile(file, 0, 2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  ASSERT_TRUE(w.OnCpus({[&] {
                          EXPECT_EQ(w.machine().touch(p, a + kPage, 1, Write::kNo).outcome, Outcome::kSigbus);
                          EXPECT_TRUE(pte_none(w.PteAt(p, a + kPage)));
                        },
                        [&] { EXPECT_TRUE(vmtruncate(w.machine(), *file, kPage, kNoLimit)); }},
                       {{0, "find_lock_page", "page lock"}, {1, "UnmapFrom", "i_shared_sem"}}));
  EXPECT_TRUE(pte_none(w.PteAt(p, a + kPage)));
  EXPECT_FALSE(file->mapping.pages.contains(1));
}

// 2.6.18 tries again after any truncate of the file; the page is still there.
TEST(Scenario, M06_truncate_of_another_page) {
  World w(WithSwitch("truncate_race=truncate_count"));
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  ASSERT_TRUE(w.Beside(
      [&] { EXPECT_EQ(w.machine().store(p, a + kPage, AsBytes("mine")).outcome, Outcome::kOk); }, "DoFault",
      "page_table_lock", [&] { EXPECT_TRUE(vmtruncate(w.machine(), *file, 2 * kPage, kNoLimit)); }));
  EXPECT_BYTES(w.Load(p, a + kPage, 8), "mine" + w.Original(file, kPage + 4, 4));
  EXPECT_EQ(p.mm->anon_rss, 1u);
}

TEST(Scenario, M07_extend_after_shrink) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr priv = w.Private(p, file, 4);
  const Vaddr shared = w.Shared(p, file, 4);
  ASSERT_TRUE(w.WriteFile(file, 3 * kPage, std::string(kPage, 'w')).has_value());
  ASSERT_EQ(w.Store(p, shared + 2 * kPage, std::string(kPage, 's')), Outcome::kOk);
  ASSERT_EQ(w.Store(p, priv + 2 * kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(w.Fsync(file));
  ASSERT_EQ(w.Store(p, shared + kPage, "tail"), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, kPage + 2));
  ASSERT_TRUE(w.Truncate(file, 4 * kPage));
  const std::string expected = "ta" + Zeros(3 * kPage - 2);
  EXPECT_BYTES(w.ReadFile(file, kPage, 3 * kPage), expected);
  EXPECT_BYTES(w.Load(p, shared + kPage, 3 * kPage), expected);
  EXPECT_BYTES(w.Load(p, priv + kPage, 3 * kPage), expected);
  ASSERT_TRUE(w.Fsync(file));
  ASSERT_TRUE(w.Unmap(p, shared, 4));
  ASSERT_TRUE(w.Unmap(p, priv, 4));
  invalidate_mapping_pages(w.machine(), file->mapping, 0, ~Pgoff{0});
  EXPECT_BYTES(w.ReadFile(file, kPage, 3 * kPage), expected) << "from the disk";
}

TEST(Scenario, M08_limits_of_size_changes) {
  World w;
  Process& p = w.Spawn();
  p.rlimit_fsize = 3 * kPage;
  const FilePtr file = w.NewFile(2 * kPage);
  EXPECT_EQ(w.Truncate(file, 3 * kPage + 1, p.rlimit_fsize).error(), (SysError{EFBIG, SIGXFSZ}));
  EXPECT_EQ(file->i_size, 2 * kPage);
  ASSERT_TRUE(w.Truncate(file, 3 * kPage, p.rlimit_fsize));
  file->swapfile = true;
  const Vaddr a = w.Private(p, file, 3);
  ASSERT_EQ(w.Store(p, a + 2 * kPage, "mine"), Outcome::kOk);
  EXPECT_EQ(w.Truncate(file, kPage).error(), (SysError{ETXTBSY, 0}));
  EXPECT_EQ(file->i_size, 3 * kPage);
  EXPECT_BYTES(w.Load(p, a + 2 * kPage, 4), "mine");
  ASSERT_TRUE(w.Truncate(file, 4 * kPage)) << "only shrinking is refused";
}

}  // namespace
}  // namespace mm
