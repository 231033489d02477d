// The defaults, each switch alone, each generation: the same small life of two processes, whose memory
// must hold what a process expects under all of them, but for what a switch is about.
#include <gtest/gtest.h>

#include <algorithm>

#include "mm/follow_page.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

std::vector<std::string> AllVariants() {
  std::vector<std::string> names(GenerationNames().begin(), GenerationNames().end());
  for (const Switch& row : Switches()) {
    for (size_t i = 1; i < row.values.size(); ++i) {
      names.push_back(std::string(row.name) + "=" + std::string(row.values[i]));
    }
  }
  return names;
}

Semantics Variant(const std::string& name) {
  if (name.find('=') != std::string::npos) return WithSwitch(name);
  return Generation(name).value();
}

class Variants : public testing::TestWithParam<std::string> {
 protected:
  Semantics sem = Variant(GetParam());
  World w{sem};
  Process& p = w.Spawn();
};

TEST_P(Variants, AnonymousMemoryAndFork) {
  const uint32_t free = w.machine().frames.nr_free();
  const Vaddr a = w.Anon(p, 4);
  EXPECT_BYTES(w.Load(p, a, 2 * kPage), Zeros(2 * kPage));
  for (uint64_t i = 1; i < 4; ++i) ASSERT_EQ(w.Store(p, a + i * kPage, "parent"), Outcome::kOk);
  Process& child = w.Fork(p);
  ASSERT_EQ(w.Store(child, a, "child"), Outcome::kOk);
  ASSERT_EQ(w.Store(child, a + kPage, "child"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + kPage + 6, "!"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + 2 * kPage, "again."), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a, 5), Zeros(5));
  EXPECT_BYTES(w.Load(p, a + kPage, 7), "parent!");
  EXPECT_BYTES(w.Load(child, a, 5), "child");
  EXPECT_BYTES(w.Load(child, a + kPage, 7), std::string("childt\0", 7));
  EXPECT_BYTES(w.Load(child, a + 2 * kPage, 6), "parent");
  EXPECT_BYTES(w.Load(p, a + 2 * kPage, 6), "again.");
  EXPECT_EQ(w.PfnAt(p, a + 3 * kPage), w.PfnAt(child, a + 3 * kPage));
  std::vector<Pfn> pins = get_user_pages(*child.mm, a, 4, Write::kYes, Force::kNo).value();
  EXPECT_EQ(pins.size(), 4u);
  unpin_user_pages(w.machine(), pins);
  w.Exit(child);
  EXPECT_BYTES(w.Load(p, a + 3 * kPage, 6), "parent");
  ASSERT_TRUE(w.Unmap(p, a, 4));
  EXPECT_EQ(w.machine().frames.nr_free(), free);
}

TEST_P(Variants, FilesCowAndTruncate) {
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr priv = w.Private(p, file, 5);
  const Vaddr shared = w.Shared(p, file, 5);
  ASSERT_EQ(w.Store(p, priv + kPage, "mine"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, priv + 3 * kPage, "mine"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, shared + kPage, "ours"), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, shared + 2 * kPage), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, priv + 4 * kPage), Outcome::kSigbus);
  Process& child = w.Fork(p);
  ASSERT_TRUE(w.Truncate(file, kPage + 2));
  const bool survives = sem.cow_survives_truncate == CowSurvivesTruncate::kYes;
  for (Process* owner : {&p, &child}) {
    EXPECT_BYTES(w.Load(*owner, priv + kPage, 4), "mine");
    EXPECT_BYTES(w.Load(*owner, shared + kPage, 4), std::string("ou\0\0", 4));
    EXPECT_EQ(w.TryLoad(*owner, shared + 2 * kPage), Outcome::kSigbus);
    EXPECT_EQ(w.TryLoad(*owner, priv + 3 * kPage), survives ? Outcome::kOk : Outcome::kSigbus);
  }
  ASSERT_TRUE(w.Truncate(file, 4 * kPage));
  EXPECT_BYTES(w.Load(child, priv + 3 * kPage, 4), survives ? "mine" : Zeros(4));
  EXPECT_BYTES(w.Load(p, shared + 3 * kPage, kPage), Zeros(kPage));
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_BYTES(w.OnDisk(file, kPage, kPage), "ou" + Zeros(kPage - 2));
}

TEST_P(Variants, HolePunch) {
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr priv = w.Private(p, file, 3);
  ASSERT_EQ(w.Store(p, priv + kPage, "mine"), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(p, priv + 2 * kPage), Outcome::kOk);
  ASSERT_TRUE(w.Punch(file, kPage, 2 * kPage));
  const bool kept = sem.hole_punch_cow == HolePunchCow::kKept;
  EXPECT_BYTES(w.Load(p, priv + kPage, 4), kept ? "mine" : Zeros(4));
  EXPECT_BYTES(w.Load(p, priv + 2 * kPage, 8), Zeros(8));
  EXPECT_BYTES(w.ReadFile(file, 0, 3 * kPage), w.Original(file, 0, kPage) + Zeros(2 * kPage));
}

TEST_P(Variants, PopulateProtectMoveAndDrop) {
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr shared = w.Map(p, 4, kReadWrite, MAP_SHARED | MAP_POPULATE | MAP_NONBLOCK, file);
  const bool bad_ptes =
      sem.populate_nonblock == PopulateNonblock::kFilePte && sem.linear_file_pte == LinearFilePte::kBadPte;
  EXPECT_EQ(w.TryLoad(p, shared), bad_ptes ? Outcome::kOom : Outcome::kOk);
  if (!bad_ptes) {
    EXPECT_BYTES(w.Load(p, shared, 4 * kPage), w.Original(file, 0, 4 * kPage));
  }
  ASSERT_TRUE(w.Truncate(file, 2 * kPage));
  EXPECT_EQ(w.TryLoad(p, shared + 3 * kPage), Outcome::kSigbus);

  const Vaddr a = w.Map(p, 3, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE);
  ASSERT_EQ(w.Store(p, a + kPage, "moved"), Outcome::kOk);
  ASSERT_TRUE(w.Protect(p, a, 2, PROT_READ));
  EXPECT_EQ(w.TryStore(p, a), Outcome::kSigsegv);
  ASSERT_TRUE(w.Protect(p, a, 2, kReadWrite));
  const SysResult<Vaddr> moved =
      sys_mremap(*p.mm, a, 3 * kPage, 3 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, 0x10000000);
  w.Check();
  ASSERT_TRUE(moved.has_value());
  EXPECT_BYTES(w.Load(p, *moved + kPage, 5), "moved");
  ASSERT_TRUE(w.Advise(p, *moved, 3, MADV_DONTNEED));
  EXPECT_BYTES(w.Load(p, *moved + kPage, 5), Zeros(5));
}

TEST_P(Variants, GetDirtyPageSeesEveryModification) {
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr priv = w.Private(p, file, 2);
  const Vaddr anon = w.Anon(p, 2);
  EXPECT_EQ(w.TryLoad(p, priv), Outcome::kOk);
  ASSERT_EQ(w.TryStore(p, priv + kPage), Outcome::kOk);
  ASSERT_EQ(w.TryStore(p, anon), Outcome::kOk);
  EXPECT_FALSE(w.IsDirty(p, priv));
  EXPECT_TRUE(w.IsDirty(p, priv + kPage));
  EXPECT_TRUE(w.IsDirty(p, anon));
}

INSTANTIATE_TEST_SUITE_P(Switches, Variants, testing::ValuesIn(AllVariants()), [](const auto& param) {
  std::string name = param.param;
  std::replace(name.begin(), name.end(), '=', '_');
  return name;
});

}  // namespace
}  // namespace mm
