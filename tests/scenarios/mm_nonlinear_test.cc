// Scenarios M04, M09 to M16 of the memory model: what an unmap leaves behind, and non-linear mappings, under
// every generation's rules.
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

#include "mm/rmap.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

class Nonlinear : public testing::TestWithParam<std::string> {
 protected:
  Nonlinear() {
    if (GetParam().find('=') != std::string::npos) {
      sem = WithSwitch(GetParam());
    } else {
      sem = Generation(GetParam()).value();
    }
  }
  bool Installs() const { return sem.remap_populate == RemapPopulate::kInstall; }
  // remap_file_pages(2); 0 or the errno.
  int Remap(World& w, Process& p, Vaddr addr, uint64_t pages, Pgoff pgoff, int flags = 0) {
    const SysResult<void> result = sys_remap_file_pages(*p.mm, addr, pages * kPage, 0, pgoff, flags);
    w.Check();
    return result ? 0 : result.error().err;
  }

  Semantics sem;
};

TEST_P(Nonlinear, M09_remap_reclaim_fault) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10 * kPage);
  const Vaddr a = w.Shared(p, file, 10);
  ASSERT_EQ(Remap(w, p, a, 1, 9), 0);
  Vma& vma = w.VmaAt(p, a);
  EXPECT_NE(vma.flags & VM_NONLINEAR, 0u);
  EXPECT_EQ(std::ranges::count(file->mapping.i_mmap_nonlinear, &vma), 1);
  ASSERT_TRUE(pte_present(w.PteAt(p, a)));
  EXPECT_EQ(w.PageAt(p, a).index, 9u);
  EXPECT_BYTES(w.Load(p, a, kPage), w.Original(file, 9 * kPage, kPage));
  EXPECT_BYTES(w.Load(p, a + kPage, kPage), w.Original(file, kPage, kPage)) << "the others are linear";

  ASSERT_EQ(w.Store(p, a + 7, "nine"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  EXPECT_EQ(w.PteAt(p, a), pgoff_to_pte(9));
  EXPECT_BYTES(w.OnDisk(file, 9 * kPage + 7, 4), "nine");
  ASSERT_TRUE(w.PageOut(p, a + kPage));
  EXPECT_EQ(w.PteAt(p, a + kPage), Pte{}) << "a linear position leaves nothing";

  const uint64_t major = p.mm->maj_flt;
  EXPECT_BYTES(w.Load(p, a + 7, 4), "nine");
  EXPECT_EQ(p.mm->maj_flt, major + 1);
  EXPECT_EQ(w.PageAt(p, a).index, 9u);
  EXPECT_BYTES(w.Load(p, a + 9 * kPage + 7, 4), "nine") << "one page at two addresses";
  EXPECT_EQ(w.PfnAt(p, a), w.PfnAt(p, a + 9 * kPage));
  ASSERT_EQ(w.Store(p, a, "more"), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a + 9 * kPage, 4), "more");
  EXPECT_BYTES(w.ReadFile(file, 9 * kPage, 4), "more");
}

TEST_P(Nonlinear, M09_fork_keeps_positions) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Shared(p, file, 4);
  ASSERT_EQ(Remap(w, p, a, 2, 2), 0);
  ASSERT_EQ(w.Store(p, a, "two"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a + kPage));
  Process& child = w.Fork(p);
  w.Exit(p);
  EXPECT_BYTES(w.Load(child, a, 3), "two");
  EXPECT_BYTES(w.Load(child, a + kPage, kPage), w.Original(file, 3 * kPage, kPage));
  EXPECT_BYTES(w.Load(child, a + 3 * kPage, kPage), w.Original(file, 3 * kPage, kPage));
  ASSERT_TRUE(w.PageOut(child, a));
  EXPECT_BYTES(w.Load(child, a, 3), "two");
}

// A whole window turned round: each page at another place, under pressure on all of them.
TEST_P(Nonlinear, M09_every_page_elsewhere) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(8 * kPage);
  const Vaddr a = w.Shared(p, file, 8);
  for (Pgoff i = 0; i < 8; ++i) ASSERT_EQ(Remap(w, p, a + i * kPage, 1, 7 - i), 0);
  for (int round = 0; round < 3; ++round) {
    for (Pgoff i = 0; i < 8; ++i) {
      const std::string mark = std::to_string(round) + "/" + std::to_string(i);
      ASSERT_EQ(w.Store(p, a + i * kPage, mark), Outcome::kOk);
    }
    for (int i = 0; i < 4; ++i) w.Reclaim(8);
    for (Pgoff i = 0; i < 8; ++i) {
      const std::string mark = std::to_string(round) + "/" + std::to_string(i);
      EXPECT_BYTES(w.Load(p, a + i * kPage, 3), mark);
      EXPECT_BYTES(w.ReadFile(file, (7 - i) * kPage, 3), mark);
    }
  }
}

TEST_P(Nonlinear, M10_truncate_below_a_nonlinear_index) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10 * kPage);
  const Vaddr a = w.Shared(p, file, 10);
  ASSERT_EQ(Remap(w, p, a, 1, 9), 0);
  ASSERT_EQ(w.Store(p, a, "old nine"), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, 5 * kPage));
  EXPECT_EQ(w.PteAt(p, a), pgoff_to_pte(9));
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kSigbus);
  EXPECT_EQ(w.TryStore(p, a), Outcome::kSigbus);
  EXPECT_EQ(w.PteAt(p, a), pgoff_to_pte(9)) << "still there after the signal";
  ASSERT_TRUE(w.Truncate(file, 10 * kPage));
  EXPECT_BYTES(w.Load(p, a, kPage), Zeros(kPage));
  EXPECT_EQ(w.PageAt(p, a).index, 9u);
  ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk);
  EXPECT_BYTES(w.ReadFile(file, 9 * kPage, 3), "new");
}

// What lies below the new end keeps its page and its place.
TEST_P(Nonlinear, M10_positions_within_the_file_stay) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10 * kPage);
  const Vaddr a = w.Shared(p, file, 10);
  ASSERT_EQ(Remap(w, p, a + 8 * kPage, 1, 1), 0);
  ASSERT_EQ(w.Store(p, a + 8 * kPage, "one"), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, 5 * kPage));
  EXPECT_TRUE(pte_present(w.PteAt(p, a + 8 * kPage)))
      << "its index is below the end, though its place is not";
  EXPECT_BYTES(w.Load(p, a + 8 * kPage, 3), "one");
  EXPECT_EQ(w.TryLoad(p, a + 7 * kPage), Outcome::kSigbus);
}

TEST_P(Nonlinear, M11_truncate_of_a_page_at_its_linear_slot) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10 * kPage);
  const Vaddr a = w.Shared(p, file, 10);
  ASSERT_EQ(Remap(w, p, a, 1, 9), 0);
  ASSERT_EQ(w.Store(p, a + 8 * kPage, "eight"), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, 5 * kPage));
  EXPECT_EQ(w.PteAt(p, a + 8 * kPage), Pte{});
  EXPECT_EQ(w.TryLoad(p, a + 8 * kPage), Outcome::kSigbus);
  ASSERT_TRUE(w.Truncate(file, 10 * kPage));
  EXPECT_BYTES(w.Load(p, a + 8 * kPage, kPage), Zeros(kPage));
  EXPECT_EQ(w.PageAt(p, a + 8 * kPage).index, 8u);
}

TEST_P(Nonlinear, M12_remap_beyond_the_end) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Shared(p, file, 4);
  EXPECT_EQ(Remap(w, p, a, 1, 6), Installs() ? EINVAL : 0);
  if (Installs()) {
    EXPECT_BYTES(w.Load(p, a, kPage), w.Original(file, 0, kPage)) << "nothing was remapped";
    return;
  }
  EXPECT_EQ(w.PteAt(p, a), pgoff_to_pte(6));
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kSigbus);
  ASSERT_TRUE(w.Truncate(file, 8 * kPage));
  ASSERT_EQ(w.Store(p, a, "six"), Outcome::kOk);
  EXPECT_BYTES(w.ReadFile(file, 6 * kPage, 3), "six");
}

// A range that runs over the end: what lies before it is remapped in either case.
TEST_P(Nonlinear, M12_remap_across_the_end) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Shared(p, file, 4);
  const int error = Remap(w, p, a, 2, 3);
  EXPECT_EQ(error, Installs() ? EINVAL : 0);
  if (!Installs()) {
    EXPECT_BYTES(w.Load(p, a, kPage), w.Original(file, 3 * kPage, kPage));
    EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kSigbus);
  }
}

TEST_P(Nonlinear, M13_refused_arguments) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(8 * kPage);
  const Vaddr priv = w.Private(p, file, 4);
  const Vaddr anon = w.Anon(p, 4);
  const Vaddr two = w.Shared(p, file, 4);
  ASSERT_TRUE(w.Protect(p, two + 2 * kPage, 2, PROT_READ));
  const Vaddr shared = w.Shared(p, file, 4);
  ASSERT_TRUE(w.Unmap(p, shared + 3 * kPage, 1));
  EXPECT_EQ(w.TryLoad(p, shared), Outcome::kOk);
  struct Case {
    const char* what;
    Vaddr addr;
    uint64_t length;
    int prot;
    Pgoff pgoff;
  };
  const Case cases[] = {
      {"a private vma", priv, kPage, 0, 2},
      {"anonymous memory", anon, kPage, 0, 2},
      {"a protection", shared, kPage, PROT_READ, 2},
      {"no length", shared, 0, 0, 2},
      {"less than a page", shared, kPage - 1, 0, 2},
      {"wraps", shared, ~uint64_t{0} - kPage, 0, 2},
      {"two vmas", two, 4 * kPage, 0, 2},
      {"over the end of the vma", shared + 2 * kPage, 2 * kPage, 0, 2},
      {"nothing there", shared + 3 * kPage, kPage, 0, 2},
      {"no pte holds the offset", shared, kPage, 0, Pgoff{1} << PTE_FILE_MAX_BITS},
      {"no pte holds the last offset", shared, 2 * kPage, 0, (Pgoff{1} << PTE_FILE_MAX_BITS) - 1},
      {"the offset wraps", shared, 2 * kPage, 0, ~Pgoff{0}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string before = TextDump(w.machine());
    const SysResult<void> result = sys_remap_file_pages(*p.mm, c.addr, c.length, c.prot, c.pgoff, 0);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error(), (SysError{EINVAL, 0}));
    EXPECT_EQ(TextDump(w.machine()), before);
    w.Check();
  }
}

// A file pte for page 3 at page 1 of a private vma, as nothing but 2.6.11's population leaves one.
TEST_P(Nonlinear, M14_file_pte_in_a_linear_vma) {
  const bool populates = sem.linear_file_pte == LinearFilePte::kPopulate;
  for (const Write write : {Write::kNo, Write::kYes}) {
    SCOPED_TRACE(write == Write::kYes ? "write" : "read");
    World w(sem);
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(4 * kPage);
    const Vaddr a = w.Private(p, file, 4);
    {
      std::lock_guard guard(p.mm->mmap_sem);
      install_file_pte(w.VmaAt(p, a), a + kPage, 3);
    }
    const AccessResult got = w.machine().touch(p, a + kPage, 1, write);
    if (!populates) {
      EXPECT_EQ(got.outcome, Outcome::kOom) << "a bad pte";
      EXPECT_EQ(w.PteAt(p, a + kPage), pgoff_to_pte(3));
      ASSERT_TRUE(w.Unmap(p, a, 4));
      continue;
    }
    EXPECT_EQ(got.outcome, Outcome::kOk);
    if (write == Write::kYes) {
      const std::string own = w.Load(p, a + kPage + 8, 64);
      EXPECT_BYTES(own, w.Original(file, kPage + 8, 64)) << "silently the linear page";
      EXPECT_TRUE(w.IsDirty(p, a + kPage));
      w.Check();
    }
    ASSERT_TRUE(w.Unmap(p, a, 4));
  }
}

TEST_P(Nonlinear, M15_dontneed_keeps_offsets) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10 * kPage);
  const Vaddr a = w.Shared(p, file, 10);
  ASSERT_EQ(Remap(w, p, a, 2, 8), 0);
  ASSERT_EQ(Remap(w, p, a + 4 * kPage, 1, 7, MAP_NONBLOCK), 0);
  ASSERT_EQ(w.Store(p, a, "eight"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + 3 * kPage, "three"), Outcome::kOk);
  ASSERT_TRUE(w.Advise(p, a, 10, MADV_DONTNEED));
  EXPECT_EQ(w.PteAt(p, a), pgoff_to_pte(8));
  EXPECT_EQ(w.PteAt(p, a + kPage), pgoff_to_pte(9));
  EXPECT_EQ(w.PteAt(p, a + 3 * kPage), Pte{}) << "a linear position";
  EXPECT_EQ(w.PteAt(p, a + 4 * kPage), pgoff_to_pte(7));
  EXPECT_EQ(p.mm->file_rss, 0u);
  EXPECT_BYTES(w.Load(p, a, 5), "eight") << "and the store was not lost";
  EXPECT_BYTES(w.Load(p, a + kPage, kPage), w.Original(file, 9 * kPage, kPage));
  EXPECT_BYTES(w.Load(p, a + 3 * kPage, 5), "three");
  EXPECT_BYTES(w.Load(p, a + 4 * kPage, kPage), w.Original(file, 7 * kPage, kPage));
}

TEST_P(Nonlinear, M15_dontneed_of_a_locked_vma) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10 * kPage);
  const Vaddr a = w.Shared(p, file, 10);
  ASSERT_EQ(Remap(w, p, a, 2, 8), 0);
  ASSERT_TRUE(sys_mlock(*p.mm, a, 10 * kPage));
  w.Check();
  for (Pgoff i = 0; i < 10; ++i) EXPECT_TRUE(pte_present(w.PteAt(p, a + i * kPage))) << i;
  const SysResult<void> refused = w.Advise(p, a, 10, MADV_DONTNEED);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().err, EINVAL);
  EXPECT_EQ(w.PageAt(p, a).index, 8u);
  EXPECT_FALSE(w.PageOut(p, a));
  EXPECT_TRUE(pte_present(w.PteAt(p, a)));
}

TEST_P(Nonlinear, M16_nonblocking_remap_of_what_is_not_cached) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(10 * kPage);
  const Vaddr a = w.Shared(p, file, 10);
  EXPECT_EQ(w.ReadFile(file, 8 * kPage, 1).size(), 1u);
  const uint64_t read = w.machine().vmstat.pgpgin;
  ASSERT_EQ(Remap(w, p, a, 2, 8, MAP_NONBLOCK), 0);
  EXPECT_EQ(w.machine().vmstat.pgpgin, read) << "no I/O";
  EXPECT_EQ(w.PteAt(p, a + kPage), pgoff_to_pte(9));
  if (Installs()) {
    ASSERT_TRUE(pte_present(w.PteAt(p, a))) << "2.6.18 maps what is cached at once";
    EXPECT_EQ(w.PageAt(p, a).index, 8u);
  } else {
    EXPECT_EQ(w.PteAt(p, a), pgoff_to_pte(8)) << "2.6.32 faults nothing in";
  }
  EXPECT_BYTES(w.Load(p, a, 2 * kPage), w.Original(file, 8 * kPage, 2 * kPage));
  EXPECT_EQ(w.machine().vmstat.pgpgin, read + 1);
}

// MAP_POPULATE with MAP_NONBLOCK: nothing, or 2.6.11's file ptes, which hold the linear index.
TEST_P(Nonlinear, M16_nonblocking_population) {
  World w(sem);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const uint64_t read = w.machine().vmstat.pgpgin;
  const Vaddr a = w.Map(p, 2, PROT_READ, MAP_SHARED | MAP_POPULATE | MAP_NONBLOCK, file);
  EXPECT_EQ(w.machine().vmstat.pgpgin, read);
  const bool file_ptes = sem.populate_nonblock == PopulateNonblock::kFilePte;
  EXPECT_EQ(w.PteAt(p, a + kPage), file_ptes ? pgoff_to_pte(1) : Pte{});
  if (file_ptes && sem.linear_file_pte == LinearFilePte::kBadPte) return;
  EXPECT_BYTES(w.Load(p, a, 2 * kPage), w.Original(file, 0, 2 * kPage));
}

std::vector<std::string> NonlinearVariants() {
  std::vector<std::string> names(GenerationNames().begin(), GenerationNames().end());
  for (const char* assignment : {"remap_populate=fault", "remap_populate=install", "linear_file_pte=populate",
                                 "populate_nonblock=file_pte"}) {
    names.emplace_back(assignment);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Generations, Nonlinear, testing::ValuesIn(NonlinearVariants()),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '=', '_');
                           return name;
                         });

// ---- what an unmap leaves (B9) ----

// A file with, in one private vma: a copy that is present, a copy that is swapped out, and clean pages; and a
// shared vma.
struct Copies {
  Copies() {
    EXPECT_EQ(w.Store(p, priv, "present"), Outcome::kOk);
    EXPECT_EQ(w.Store(p, priv + kPage, "swapped"), Outcome::kOk);
    EXPECT_TRUE(w.PageOut(p, priv + kPage));
    EXPECT_TRUE(pte_swap(w.PteAt(p, priv + kPage)));
    EXPECT_EQ(w.TryLoad(p, priv + 2 * kPage), Outcome::kOk);
    EXPECT_EQ(w.TryLoad(p, shared), Outcome::kOk);
    EXPECT_EQ(w.TryLoad(p, shared + 2 * kPage), Outcome::kOk);
    used = w.machine().swap->nr_slots() - w.machine().swap->nr_free();
    EXPECT_EQ(used, 1u);
  }
  void UnmapAll(EvenCows even_cows) {
    {
      std::lock_guard guard(file->mapping.i_shared_sem);
      unmap_mapping_range(w.machine(), file->mapping, 0, 4, even_cows);
    }
    w.Check();
  }
  uint32_t UsedSlots() { return w.machine().swap->nr_slots() - w.machine().swap->nr_free(); }

  World w{{}, 4096, 16};
  Process& p = w.Spawn();
  FilePtr file = w.NewFile(4 * kPage);
  Vaddr priv = w.Private(p, file, 4);
  Vaddr shared = w.Shared(p, file, 4);
  uint32_t used = 0;
};

TEST(Scenario, M04_invalidate_keeps_private_copies) {
  Copies c;
  const Pte swapped = c.w.PteAt(c.p, c.priv + kPage);
  c.UnmapAll(EvenCows::kNo);
  EXPECT_TRUE(pte_present(c.w.PteAt(c.p, c.priv)));
  EXPECT_EQ(c.w.PteAt(c.p, c.priv + kPage), swapped);
  EXPECT_EQ(c.w.PteAt(c.p, c.priv + 2 * kPage), Pte{});
  EXPECT_EQ(c.w.PteAt(c.p, c.shared), Pte{});
  EXPECT_EQ(c.w.PteAt(c.p, c.shared + 2 * kPage), Pte{});
  EXPECT_EQ(c.p.mm->file_rss, 0u);
  EXPECT_EQ(c.UsedSlots(), 1u);
  EXPECT_BYTES(c.w.Load(c.p, c.priv, 7), "present");
  EXPECT_BYTES(c.w.Load(c.p, c.priv + kPage, 7), "swapped");
  EXPECT_BYTES(c.w.Load(c.p, c.priv + kPage + 7, 64), c.w.Original(c.file, kPage + 7, 64));
}

TEST(Scenario, M04_a_hole_punch_keeps_private_copies) {
  Copies c;
  ASSERT_TRUE(c.w.Punch(c.file, 0, 4 * kPage));
  EXPECT_BYTES(c.w.Load(c.p, c.priv, 7), "present");
  EXPECT_BYTES(c.w.Load(c.p, c.priv + kPage, 7), "swapped");
  EXPECT_BYTES(c.w.Load(c.p, c.priv + 2 * kPage, kPage), Zeros(kPage));
  EXPECT_BYTES(c.w.Load(c.p, c.shared, kPage), Zeros(kPage));
}

TEST(Scenario, M04_even_cows_takes_them) {
  Copies c;
  c.UnmapAll(EvenCows::kYes);
  for (Pgoff i = 0; i < 4; ++i) EXPECT_EQ(c.w.PteAt(c.p, c.priv + i * kPage), Pte{}) << i;
  EXPECT_EQ(c.UsedSlots(), 0u);
  EXPECT_BYTES(c.w.Load(c.p, c.priv, 2 * kPage), c.w.Original(c.file, 0, 2 * kPage));
}

// File ptes outlive both.
TEST(Scenario, M04_file_ptes_are_kept) {
  for (const EvenCows even_cows : {EvenCows::kNo, EvenCows::kYes}) {
    Copies c;
    ASSERT_TRUE(sys_remap_file_pages(*c.p.mm, c.shared, kPage, 0, 3, MAP_NONBLOCK));
    ASSERT_TRUE(sys_remap_file_pages(*c.p.mm, c.shared + kPage, kPage, 0, 2, 0));
    c.UnmapAll(even_cows);
    EXPECT_EQ(c.w.PteAt(c.p, c.shared), pgoff_to_pte(3));
    EXPECT_EQ(c.w.PteAt(c.p, c.shared + kPage), pgoff_to_pte(2));
    EXPECT_BYTES(c.w.Load(c.p, c.shared, kPage), c.w.Original(c.file, 3 * kPage, kPage));
    EXPECT_BYTES(c.w.Load(c.p, c.shared + kPage, kPage), c.w.Original(c.file, 2 * kPage, kPage));
  }
}

}  // namespace
}  // namespace mm
