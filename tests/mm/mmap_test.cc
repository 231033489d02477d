// mmap, munmap, brk and stack growth (mm/mmap.cc).
#include <gtest/gtest.h>

#include "tests/mm/world.h"

namespace mm {
namespace {

constexpr Vaddr kBase = 0x10000000;
constexpr Vaddr kLeafSpan = Vaddr{2} << 20;

TEST(Mmap, BadArguments) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
  const auto error = [&](Vaddr addr, uint64_t length, int flags, const FilePtr& f, uint64_t offset) {
    const SysResult<Vaddr> result = sys_mmap(*p.mm, addr, length, kReadWrite, flags, f, offset);
    w.Check();
    return result ? 0 : result.error().err;
  };
  EXPECT_EQ(error(0, 0, kAnonymous, nullptr, 0), EINVAL);
  EXPECT_EQ(error(0, kPage, MAP_ANONYMOUS, nullptr, 0), EINVAL) << "neither private nor shared";
  EXPECT_EQ(error(0, kPage, MAP_PRIVATE, file, 100), EINVAL);
  EXPECT_EQ(error(0, kPage, MAP_PRIVATE, nullptr, 0), EBADF);
  EXPECT_EQ(error(kBase + 1, kPage, kAnonymous | MAP_FIXED, nullptr, 0), EINVAL);
  EXPECT_EQ(error(TASK_SIZE - kPage, 2 * kPage, kAnonymous | MAP_FIXED, nullptr, 0), ENOMEM);
  EXPECT_EQ(error(~uint64_t{0} - kPage + 1, kPage, kAnonymous | MAP_FIXED, nullptr, 0), ENOMEM);
  EXPECT_EQ(error(0, TASK_SIZE + kPage, kAnonymous, nullptr, 0), ENOMEM);
  EXPECT_EQ(error(0, ~uint64_t{0}, kAnonymous, nullptr, 0), ENOMEM);
  EXPECT_EQ(error(0, 2 * kPage, MAP_PRIVATE, file, ~uint64_t{0} - kPage + 1), EOVERFLOW);
  EXPECT_TRUE(p.mm->vmas().empty());
}

TEST(Mmap, LengthsAreRoundedUp) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = sys_mmap(*p.mm, 0, 1, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0).value();
  EXPECT_EQ(w.Store(p, a + kPage - 1, "x"), Outcome::kOk);
  EXPECT_EQ(w.TryStore(p, a + kPage), Outcome::kSigsegv);
  EXPECT_EQ(p.mm->total_vm, 1u);
}

TEST(Mmap, FlagsAsInTheKernel) {
  World w;
  Process& p = w.Spawn();
  EXPECT_EQ(w.VmaAt(p, w.Anon(p, 1)).flags, VM_READ | VM_WRITE | VM_MAY_FLAGS);
  const FilePtr file = w.NewFile(kPage);
  EXPECT_EQ(w.VmaAt(p, w.Shared(p, file, 1, 0, PROT_READ)).flags,
            VM_READ | VM_SHARED | VM_MAYSHARE | VM_MAY_FLAGS);
  EXPECT_EQ(w.VmaAt(p, w.Private(p, file, 1, 0, PROT_EXEC)).flags, VM_EXEC | VM_MAY_FLAGS);
}

TEST(Mmap, NewMappingsGoTopDownAndDoNotOverlap) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 4, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
  const Vaddr b = w.Map(p, 4, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
  EXPECT_EQ(b + 4 * kPage, a);
  ASSERT_TRUE(w.Unmap(p, a, 2));
  EXPECT_EQ(w.Map(p, 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS), a) << "the gap fits exactly";
  EXPECT_EQ(w.Map(p, 3, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), b - 3 * kPage);
}

TEST(Mmap, HintsAreTakenWhereThereIsRoom) {
  World w;
  Process& p = w.Spawn();
  const auto map = [&](Vaddr hint, uint64_t pages) {
    return sys_mmap(*p.mm, hint, pages * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0).value();
  };
  EXPECT_EQ(map(kBase + kPage + 1, 1), kBase + kPage) << "rounded down";
  EXPECT_NE(map(kBase, 2), kBase) << "two pages do not fit there";
  EXPECT_EQ(map(kBase, 1), kBase);
  EXPECT_GE(map(0x1000, 1), 0x10000u) << "below the lowest address for hints";
  EXPECT_LT(map(TASK_SIZE, 1), TASK_SIZE);
  EXPECT_LT(map(~uint64_t{0}, 1), TASK_SIZE);
  w.Check();
}

TEST(Mmap, SearchNeverGoesBelowTheLowestAddress) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, 0x1000, 1);
  // All from 0x14000 up to the base is taken: what is left lies partly below 0x10000.
  const Vaddr top = w.Anon(p, 1) + kPage;
  ASSERT_TRUE(
      sys_mmap(*p.mm, 0x14000, top - 0x14000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, nullptr, 0)
          .has_value());
  const SysResult<Vaddr> fits =
      sys_mmap(*p.mm, 0, 4 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0);
  ASSERT_TRUE(fits.has_value());
  EXPECT_EQ(*fits, 0x10000u);
  ASSERT_TRUE(w.Unmap(p, 0x10000, 4));
  const SysResult<Vaddr> big =
      sys_mmap(*p.mm, 0, 5 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0);
  EXPECT_TRUE(!big.has_value() || *big >= 0x10000) << std::hex << big.value_or(0);
}

TEST(Mmap, FixedReplacesWhatWasThere) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 5);
  for (uint64_t i = 0; i < 5; ++i) ASSERT_EQ(w.Store(p, kBase + i * kPage, "old"), Outcome::kOk);
  const FilePtr file = w.NewFile(4 * kPage);
  ASSERT_TRUE(sys_mmap(*p.mm, kBase + kPage, 2 * kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, kPage));
  w.Check();
  EXPECT_EQ(w.VmaText(p, kBase), "0-1rw 1-3r 3-5rw");
  EXPECT_BYTES(w.Load(p, kBase, 3), "old");
  EXPECT_BYTES(w.Load(p, kBase + kPage, 2 * kPage), w.Original(file, kPage, 2 * kPage));
  EXPECT_BYTES(w.Load(p, kBase + 3 * kPage, 3), "old");
  EXPECT_EQ(p.mm->anon_rss, 3u);
  w.AnonAt(p, kBase - 2 * kPage, 10);
  EXPECT_EQ(w.VmaText(p, kBase), "-2-8rw");
  EXPECT_BYTES(w.Load(p, kBase, 3), Zeros(3)) << "a fixed mapping over all starts afresh";
}

TEST(Mmap, MergesAlikeNeighbours) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 1);
  w.AnonAt(p, kBase + 2 * kPage, 1);
  ASSERT_EQ(w.Store(p, kBase, "left"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, kBase + 2 * kPage, "right"), Outcome::kOk);
  EXPECT_EQ(w.VmaText(p, kBase), "0-1rw 2-3rw");
  w.AnonAt(p, kBase + kPage, 1);
  EXPECT_EQ(w.VmaText(p, kBase), "0-3rw") << "both sides at once";
  EXPECT_BYTES(w.Load(p, kBase, 4), "left");
  EXPECT_BYTES(w.Load(p, kBase + 2 * kPage, 5), "right");
  w.AnonAt(p, kBase + 3 * kPage, 1, PROT_READ);
  EXPECT_EQ(w.VmaText(p, kBase), "0-3rw 3-4r");
}

// What a merge knows of its parts: that one of them has pages of its own, which fork must copy.
TEST(Mmap, MergedMappingsAreForkedWithAllTheirPages) {
  for (const bool low_first : {true, false}) {
    World w;
    Process& p = w.Spawn();
    w.AnonAt(p, kBase + (low_first ? 0 : kPage), 1);
    ASSERT_EQ(w.Store(p, kBase + (low_first ? 0 : kPage), "pages"), Outcome::kOk);
    w.AnonAt(p, kBase + (low_first ? kPage : 0), 1);
    ASSERT_EQ(w.VmaText(p, kBase), "0-2rw");
    Process& child = w.Fork(p);
    EXPECT_BYTES(w.Load(child, kBase + (low_first ? 0 : kPage), 5), "pages");
  }
}

TEST(Mmap, MergesFilesOnlyWhereOffsetsFollow) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(8 * kPage);
  const FilePtr other = w.NewFile(8 * kPage);
  const auto map = [&](uint64_t at, const FilePtr& f, uint64_t first) {
    EXPECT_TRUE(
        sys_mmap(*p.mm, kBase + at * kPage, kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, f, first * kPage));
    w.Check();
  };
  map(0, file, 3);
  map(1, file, 4);
  EXPECT_EQ(w.VmaText(p, kBase), "0-2r");
  map(2, file, 6);
  map(3, other, 7);
  EXPECT_EQ(w.VmaText(p, kBase), "0-2r 2-3r 3-4r");
  map(2, file, 5);
  EXPECT_EQ(w.VmaText(p, kBase), "0-3r 3-4r");
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_BYTES(w.Load(p, kBase + i * kPage, kPage), w.Original(file, (3 + i) * kPage, kPage));
  }
}

TEST(Mmap, SharedAnonymousMappingsAreObjectsOfTheirOwn) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 2, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  const Vaddr b = w.Map(p, 2, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  EXPECT_NE(w.VmaAt(p, a).file, w.VmaAt(p, b).file);
  EXPECT_EQ(w.VmaAt(p, a).file->kind(), FileKind::kShmem);
  EXPECT_EQ(w.VmaAt(p, a).file->i_size, 2 * kPage);
  EXPECT_EQ(p.mm->map_count(), 2u) << "different objects are not merged";
  const Vaddr z = w.Map(p, 1, kReadWrite, MAP_SHARED, w.machine().dev_zero());
  EXPECT_EQ(w.VmaAt(p, z).file->kind(), FileKind::kShmem) << "a shared mapping of /dev/zero, too";
  ASSERT_EQ(w.Store(p, z, "z"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a, 2 * kPage), Zeros(2 * kPage));
}

TEST(Mmap, MunmapSplits) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 6);
  for (uint64_t i = 0; i < 6; ++i) ASSERT_EQ(w.Store(p, kBase + i * kPage, std::to_string(i)), Outcome::kOk);
  ASSERT_TRUE(w.Unmap(p, kBase + 2 * kPage, 2));
  EXPECT_EQ(w.VmaText(p, kBase), "0-2rw 4-6rw");
  EXPECT_EQ(p.mm->total_vm, 4u);
  EXPECT_EQ(p.mm->anon_rss, 4u);
  EXPECT_EQ(w.TryLoad(p, kBase + 2 * kPage), Outcome::kSigsegv);
  EXPECT_BYTES(w.Load(p, kBase + kPage, 1), "1");
  EXPECT_BYTES(w.Load(p, kBase + 4 * kPage, 1), "4");
  ASSERT_TRUE(w.Unmap(p, kBase + kPage, 4));
  EXPECT_EQ(w.VmaText(p, kBase), "0-1rw 5-6rw") << "over a hole";
  EXPECT_TRUE(w.Unmap(p, kBase + 2 * kPage, 1)) << "nothing there is no error";
  w.AnonAt(p, kBase + kPage, 4);
  EXPECT_BYTES(w.Load(p, kBase + 2 * kPage, 1), Zeros(1));
}

TEST(Mmap, SplitFileMappingsKeepTheirOffsets) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(8 * kPage);
  const Vaddr a = w.Private(p, file, 6, 2);
  ASSERT_EQ(w.Store(p, a + 5 * kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(w.Unmap(p, a + kPage, 2));
  EXPECT_EQ(w.VmaAt(p, a + 3 * kPage).pgoff, 5u);
  EXPECT_BYTES(w.Load(p, a + 3 * kPage, kPage), w.Original(file, 5 * kPage, kPage));
  EXPECT_BYTES(w.Load(p, a + 5 * kPage, 4), "mine");
  ASSERT_TRUE(w.Truncate(file, 7 * kPage));
  EXPECT_EQ(w.TryLoad(p, a + 5 * kPage), Outcome::kSigbus) << "the split vma is in the file's list";
}

TEST(Mmap, MunmapBadArguments) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 2);
  for (const auto& [addr, length] : {std::pair<Vaddr, uint64_t>{kBase + 1, kPage},
                                     {kBase, 0},
                                     {TASK_SIZE, kPage},
                                     {kBase, TASK_SIZE},
                                     {kBase, ~uint64_t{0}}}) {
    const SysResult<void> result = sys_munmap(*p.mm, addr, length);
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().err, EINVAL);
  }
  EXPECT_EQ(w.VmaText(p, kBase), "0-2rw");
  ASSERT_TRUE(sys_munmap(*p.mm, kBase, 1).has_value()) << "a length is rounded up";
  EXPECT_EQ(w.VmaText(p, kBase), "1-2rw");
}

TEST(Mmap, PageTablesGoWithTheLastMappingOfTheirRange) {
  World w;
  Process& p = w.Spawn();
  const Vaddr edge = base::PageAlignUp(kBase / kLeafSpan * kLeafSpan + kLeafSpan);
  w.AnonAt(p, edge - 2 * kPage, 4);
  for (int i = -2; i < 2; ++i) {
    ASSERT_EQ(w.TryStore(p, edge + static_cast<Vaddr>(i) * kPage), Outcome::kOk);
  }
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 2u);
  ASSERT_TRUE(w.Unmap(p, edge, 1));
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 2u);
  ASSERT_TRUE(w.Unmap(p, edge + kPage, 1));
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 1u);
  EXPECT_BYTES(w.Load(p, edge - kPage, 1), "!");
  ASSERT_TRUE(w.Unmap(p, edge - 2 * kPage, 2));
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 0u);
}

TEST(Mmap, PopulateFaultsIn) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr anon = w.Map(p, 3, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE);
  EXPECT_EQ(p.mm->anon_rss, 3u) << "writable private memory gets its own pages";
  EXPECT_BYTES(w.Load(p, anon, 3 * kPage), Zeros(3 * kPage));
  w.Map(p, 2, PROT_READ, MAP_SHARED | MAP_POPULATE, file);
  EXPECT_EQ(p.mm->file_rss, 2u);
  const Vaddr past = w.Map(p, 4, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file);
  EXPECT_EQ(p.mm->file_rss, 4u) << "errors past the end are ignored";
  EXPECT_EQ(w.TryLoad(p, past + 2 * kPage), Outcome::kSigbus);
  w.Map(p, 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE);
  EXPECT_EQ(p.mm->anon_rss, 3u);
}

TEST(Mmap, PopulateNonblockIsNothingUnlessASwitchSaysSo) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  w.Map(p, 2, PROT_READ, MAP_SHARED | MAP_POPULATE | MAP_NONBLOCK, file);
  EXPECT_EQ(p.mm->file_rss, 0u);
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 0u);

  World old(Generation("k11").value());
  Process& q = old.Spawn();
  const FilePtr partly = old.NewFile(3 * kPage);
  old.ReadFile(partly, kPage, 10);
  const uint64_t reads = old.machine().vmstat.pgpgin;
  const Vaddr a = old.Map(q, 4, PROT_READ, MAP_SHARED | MAP_POPULATE | MAP_NONBLOCK, partly);
  EXPECT_EQ(old.machine().vmstat.pgpgin, reads) << "no I/O";
  EXPECT_EQ(old.PteAt(q, a), pgoff_to_pte(0));
  EXPECT_TRUE(pte_present(old.PteAt(q, a + kPage))) << "cached pages are mapped";
  EXPECT_EQ(old.PteAt(q, a + 2 * kPage), pgoff_to_pte(2));
  EXPECT_TRUE(pte_none(old.PteAt(q, a + 3 * kPage)));
  EXPECT_BYTES(old.Load(q, a, 3 * kPage), old.Original(partly, 0, 3 * kPage));
  ASSERT_TRUE(old.Unmap(q, a, 4));
}

// ---- stacks ----

constexpr Vaddr kStackTop = 0x7ffffff00000;

struct Stack {
  explicit Stack(uint64_t limit_pages) {
    process.rlimit_stack = limit_pages * kPage;
    w.AnonAt(process, kStackTop - kPage, 1, kReadWrite, MAP_GROWSDOWN);
  }
  World w;
  Process& process = w.Spawn();
};

TEST(Mmap, StacksGrowDown) {
  Stack s(100);
  EXPECT_EQ(s.w.Store(s.process, kStackTop - 5 * kPage, "deep"), Outcome::kOk);
  EXPECT_EQ(s.w.VmaText(s.process, kStackTop), "-5-0rw");
  EXPECT_EQ(s.process.mm->total_vm, 5u);
  EXPECT_BYTES(s.w.Load(s.process, kStackTop - 3 * kPage, 8), Zeros(8));
  EXPECT_BYTES(s.w.Load(s.process, kStackTop - 5 * kPage, 4), "deep");
}

TEST(Mmap, StacksStopAtTheirLimit) {
  Stack s(4);
  EXPECT_EQ(s.w.TryStore(s.process, kStackTop - 4 * kPage), Outcome::kOk);
  EXPECT_EQ(s.w.TryStore(s.process, kStackTop - 4 * kPage - 1), Outcome::kSigsegv);
  EXPECT_EQ(s.w.VmaText(s.process, kStackTop), "-4-0rw");
}

TEST(Mmap, StacksKeepAGapToWhatIsBelow) {
  Stack s(100);
  s.w.AnonAt(s.process, kStackTop - 6 * kPage, 1);
  EXPECT_EQ(s.w.TryStore(s.process, kStackTop - 4 * kPage), Outcome::kOk);
  EXPECT_EQ(s.w.TryStore(s.process, kStackTop - 5 * kPage), Outcome::kSigsegv) << "the guard page";
  EXPECT_EQ(s.w.VmaText(s.process, kStackTop), "-6--5rw -4-0rw");
}

TEST(Mmap, OnlyGrowsdownGrows) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 1);
  EXPECT_EQ(w.TryStore(p, kBase - 1), Outcome::kSigsegv);
  EXPECT_EQ(w.TryLoad(p, kBase + kPage), Outcome::kSigsegv);
  EXPECT_EQ(w.TryLoad(p, TASK_SIZE), Outcome::kSigsegv);
}

// ---- brk ----

TEST(Mmap, BrkGrowsAndShrinks) {
  World w;
  Process& p = w.Spawn();
  p.mm->layout.start_brk = p.mm->layout.brk = kBase + 100;
  EXPECT_EQ(sys_brk(*p.mm, 0), kBase + 100) << "how a program asks";
  EXPECT_EQ(sys_brk(*p.mm, kBase + 3 * kPage), kBase + 3 * kPage);
  EXPECT_EQ(w.Store(p, kBase + kPage, "heap"), Outcome::kOk);
  EXPECT_EQ(w.Store(p, kBase + 2 * kPage, "gone"), Outcome::kOk);
  EXPECT_EQ(sys_brk(*p.mm, kBase + kPage + 10), kBase + kPage + 10);
  w.Check();
  EXPECT_BYTES(w.Load(p, kBase + kPage, 4), "heap");
  EXPECT_EQ(w.TryLoad(p, kBase + 2 * kPage), Outcome::kSigsegv);
  EXPECT_EQ(sys_brk(*p.mm, kBase + 3 * kPage), kBase + 3 * kPage);
  EXPECT_BYTES(w.Load(p, kBase + 2 * kPage, 4), Zeros(4));
  EXPECT_EQ(p.mm->map_count(), 1u) << "one heap";
  EXPECT_EQ(sys_brk(*p.mm, kBase), kBase + 3 * kPage) << "not below its start";
  w.Check();
}

TEST(Mmap, BrkStopsAtOtherMappings) {
  World w;
  Process& p = w.Spawn();
  p.mm->layout.start_brk = p.mm->layout.brk = kBase;
  w.AnonAt(p, kBase + 4 * kPage, 1);
  EXPECT_EQ(sys_brk(*p.mm, kBase + 2 * kPage), kBase + 2 * kPage);
  EXPECT_EQ(sys_brk(*p.mm, kBase + 5 * kPage), kBase + 2 * kPage);
  EXPECT_EQ(sys_brk(*p.mm, kBase + 4 * kPage), kBase + 2 * kPage) << "a page stays free";
  EXPECT_EQ(sys_brk(*p.mm, ~Vaddr{0}), kBase + 2 * kPage);
  EXPECT_EQ(w.VmaText(p, kBase), "0-2rw 4-5rw");
  w.Check();
}

}  // namespace
}  // namespace mm
