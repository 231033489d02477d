// fork, clone(CLONE_VM) and exit (mm/fork.cc, mm/machine.cc).
#include <gtest/gtest.h>

#include <cstring>

#include "tests/mm/world.h"

namespace mm {
namespace {

constexpr Vaddr kBase = 0x10000000;

TEST(Fork, SharesPagesUntilOneWrites) {
  World w;
  Process& parent = w.Spawn();
  w.AnonAt(parent, kBase, 3);
  for (uint64_t i = 0; i < 3; ++i) ASSERT_EQ(w.Store(parent, kBase + i * kPage, "both"), Outcome::kOk);
  const uint32_t free = w.machine().frames.nr_free();
  Process& child = w.Fork(parent);
  EXPECT_EQ(w.machine().frames.nr_free(), free) << "no page is copied by fork";
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(w.PfnAt(child, kBase + i * kPage), w.PfnAt(parent, kBase + i * kPage));
    EXPECT_EQ(w.PageAt(parent, kBase + i * kPage).mapcount, 2);
    EXPECT_FALSE(pte_write(w.PteAt(parent, kBase + i * kPage)));
  }
  EXPECT_EQ(child.mm->anon_rss, 3u);
  ASSERT_EQ(w.Store(child, kBase, "mine"), Outcome::kOk);
  ASSERT_EQ(w.Store(parent, kBase + kPage, "hers"), Outcome::kOk);
  EXPECT_BYTES(w.Load(parent, kBase, 4), "both");
  EXPECT_BYTES(w.Load(child, kBase, 4), "mine");
  EXPECT_BYTES(w.Load(parent, kBase + kPage, 4), "hers");
  EXPECT_BYTES(w.Load(child, kBase + kPage, 4), "both");
  EXPECT_EQ(w.PageAt(parent, kBase).mapcount, 1);
  EXPECT_EQ(w.PageAt(parent, kBase + 2 * kPage).mapcount, 2);
  EXPECT_EQ(w.machine().frames.nr_free(), free - 2);
}

TEST(Fork, TheLastOwnerWritesInPlace) {
  World w;
  Process& parent = w.Spawn();
  w.AnonAt(parent, kBase, 1);
  ASSERT_EQ(w.Store(parent, kBase, "both"), Outcome::kOk);
  Process& child = w.Fork(parent);
  const Pfn shared = w.PfnAt(parent, kBase);
  ASSERT_EQ(w.Store(child, kBase, "mine"), Outcome::kOk);
  const uint32_t free = w.machine().frames.nr_free();
  ASSERT_EQ(w.Store(parent, kBase, "hers"), Outcome::kOk);
  EXPECT_EQ(w.PfnAt(parent, kBase), shared) << "mapcount 1 is reused, not copied";
  EXPECT_EQ(w.machine().frames.nr_free(), free);
  EXPECT_BYTES(w.Load(child, kBase, 4), "mine");
}

TEST(Fork, ExitOfOneLeavesTheOther) {
  World w;
  Process& parent = w.Spawn();
  const uint32_t free = w.machine().frames.nr_free();
  w.AnonAt(parent, kBase, 2);
  ASSERT_EQ(w.Store(parent, kBase, "both"), Outcome::kOk);
  Process& child = w.Fork(parent);
  w.Exit(parent);
  EXPECT_EQ(w.PageAt(child, kBase).mapcount, 1);
  EXPECT_BYTES(w.Load(child, kBase, 4), "both");
  ASSERT_EQ(w.Store(child, kBase, "last"), Outcome::kOk);
  w.Exit(child);
  EXPECT_EQ(w.machine().frames.nr_free(), free);
  EXPECT_TRUE(w.machine().processes().empty());
}

TEST(Fork, GenerationsOfChildren) {
  World w;
  Process* process = &w.Spawn();
  w.AnonAt(*process, kBase, 1);
  ASSERT_EQ(w.Store(*process, kBase, "gen0"), Outcome::kOk);
  std::vector<Process*> all = {process};
  for (int i = 1; i < 6; ++i) all.push_back(&w.Fork(*all.back()));
  EXPECT_EQ(w.PageAt(*process, kBase).mapcount, 6);
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(w.Store(*all[i], kBase, "gen" + std::to_string(i)), Outcome::kOk);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_BYTES(w.Load(*all[i], kBase, 4), "gen" + std::to_string(i));
    EXPECT_EQ(w.PageAt(*all[i], kBase).mapcount, 1);
  }
}

TEST(Fork, PrivateFileMappings) {
  World w;
  Process& parent = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(parent, file, 3);
  ASSERT_EQ(w.Store(parent, a, "mine"), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(parent, a + kPage), Outcome::kOk);
  Process& child = w.Fork(parent);
  EXPECT_BYTES(w.Load(child, a, 4), "mine");
  EXPECT_BYTES(w.Load(child, a + kPage, 8), w.Original(file, kPage, 8));
  ASSERT_EQ(w.Store(child, a + kPage, "child"), Outcome::kOk);
  ASSERT_EQ(w.Store(child, a + 2 * kPage, "child"), Outcome::kOk);
  EXPECT_BYTES(w.Load(parent, a + kPage, 8), w.Original(file, kPage, 8));
  EXPECT_BYTES(w.Load(parent, a + 2 * kPage, 8), w.Original(file, 2 * kPage, 8));
  EXPECT_BYTES(w.ReadFile(file, kPage, 8), w.Original(file, kPage, 8));
  ASSERT_TRUE(w.Truncate(file, 0));
  EXPECT_EQ(w.TryLoad(parent, a), Outcome::kSigbus);
  EXPECT_EQ(w.TryLoad(child, a + kPage), Outcome::kSigbus) << "the child's vma is in the file's list";
}

TEST(Fork, SharedMappingsStayShared) {
  World w;
  Process& parent = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr f = w.Shared(parent, file, 1);
  const Vaddr s = w.Map(parent, 1, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  ASSERT_EQ(w.Store(parent, s, "before"), Outcome::kOk);
  Process& child = w.Fork(parent);
  EXPECT_BYTES(w.Load(child, s, 6), "before");
  ASSERT_EQ(w.Store(child, s, "object"), Outcome::kOk);
  ASSERT_EQ(w.Store(child, f, "file"), Outcome::kOk);
  EXPECT_BYTES(w.Load(parent, s, 6), "object");
  EXPECT_BYTES(w.Load(parent, f, 4), "file");
  w.Exit(child);
  EXPECT_BYTES(w.Load(parent, s, 6), "object");
}

TEST(Fork, WhatFaultsCanRefillIsNotCopied) {
  World w;
  Process& parent = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(parent, file, 2, 0, PROT_READ);
  EXPECT_EQ(w.TryLoad(parent, a), Outcome::kOk);
  Process& child = w.Fork(parent);
  EXPECT_EQ(child.mm->pgtable.nr_ptes(), 0u);
  EXPECT_EQ(child.mm->file_rss, 0u);
  EXPECT_BYTES(w.Load(child, a, 8), w.Original(file, 0, 8));
}

TEST(Fork, Dontfork) {
  World w;
  Process& parent = w.Spawn();
  w.AnonAt(parent, kBase, 3);
  for (uint64_t i = 0; i < 3; ++i) ASSERT_EQ(w.Store(parent, kBase + i * kPage, "x"), Outcome::kOk);
  ASSERT_TRUE(w.Advise(parent, kBase + kPage, 1, MADV_DONTFORK));
  Process& child = w.Fork(parent);
  EXPECT_EQ(w.VmaText(child, kBase), "0-1rw 2-3rw");
  EXPECT_EQ(child.mm->total_vm, 2u);
  EXPECT_EQ(child.mm->anon_rss, 2u);
  EXPECT_EQ(w.TryLoad(child, kBase + kPage), Outcome::kSigsegv);
  EXPECT_TRUE(pte_write(w.PteAt(parent, kBase + kPage))) << "not shared, so not write-protected";
}

TEST(Fork, ZeroPagesAreSharedAndStayClean) {
  World w;
  Process& parent = w.Spawn();
  w.AnonAt(parent, kBase, 2);
  EXPECT_EQ(w.TryLoad(parent, kBase), Outcome::kOk);
  ASSERT_EQ(w.Store(parent, kBase + kPage, "x"), Outcome::kOk);
  Process& child = w.Fork(parent);
  ASSERT_EQ(w.Store(child, kBase, "c"), Outcome::kOk);
  ASSERT_EQ(w.Store(parent, kBase, "p"), Outcome::kOk);
  EXPECT_BYTES(w.Load(child, kBase, 2), std::string("c\0", 2));
  EXPECT_BYTES(w.Load(parent, kBase, 2), std::string("p\0", 2));
}

TEST(Fork, ProtNoneAndReadOnlyPagesAreInherited) {
  World w;
  Process& parent = w.Spawn();
  w.AnonAt(parent, kBase, 2);
  ASSERT_EQ(w.Store(parent, kBase, "hidden"), Outcome::kOk);
  ASSERT_EQ(w.Store(parent, kBase + kPage, "fixed"), Outcome::kOk);
  ASSERT_TRUE(w.Protect(parent, kBase, 1, PROT_NONE));
  ASSERT_TRUE(w.Protect(parent, kBase + kPage, 1, PROT_READ));
  Process& child = w.Fork(parent);
  EXPECT_EQ(w.TryLoad(child, kBase), Outcome::kSigsegv);
  EXPECT_EQ(w.TryStore(child, kBase + kPage), Outcome::kSigsegv);
  ASSERT_TRUE(w.Protect(child, kBase, 2, kReadWrite));
  ASSERT_EQ(w.Store(child, kBase, "HIDDEN"), Outcome::kOk);
  ASSERT_TRUE(w.Protect(parent, kBase, 1, PROT_READ));
  EXPECT_BYTES(w.Load(parent, kBase, 6), "hidden");
  EXPECT_BYTES(w.Load(child, kBase + kPage, 5), "fixed");
}

TEST(Fork, InheritsLayoutAndLimits) {
  World w;
  Process& parent = w.Spawn();
  parent.mm->layout.start_brk = parent.mm->layout.brk = kBase;
  parent.mm->auxv = {{1, 2}, {0, 0}};
  parent.rlimit_fsize = 777;
  parent.rlimit_stack = 888;
  EXPECT_EQ(sys_brk(*parent.mm, kBase + kPage), kBase + kPage);
  Process& child = w.Fork(parent);
  EXPECT_EQ(child.ppid, parent.pid);
  EXPECT_EQ(child.mm->layout, parent.mm->layout);
  EXPECT_EQ(child.mm->auxv, parent.mm->auxv);
  EXPECT_EQ(child.rlimit_fsize, 777u);
  EXPECT_EQ(child.rlimit_stack, 888u);
  EXPECT_EQ(sys_brk(*child.mm, kBase + 2 * kPage), kBase + 2 * kPage);
  EXPECT_EQ(parent.mm->layout.brk, kBase + kPage);
}

TEST(Fork, CloneVmSharesTheAddressSpace) {
  World w;
  Process& one = w.Spawn();
  w.AnonAt(one, kBase, 1);
  Process& two = w.Thread(one);
  EXPECT_EQ(one.mm, two.mm);
  ASSERT_EQ(w.Store(one, kBase, "seen"), Outcome::kOk);
  EXPECT_BYTES(w.Load(two, kBase, 4), "seen");
  EXPECT_EQ(w.PageAt(one, kBase).mapcount, 1);
  const Vaddr b = w.Anon(two, 1);
  EXPECT_EQ(w.TryStore(one, b), Outcome::kOk);
  w.Exit(one);
  EXPECT_BYTES(w.Load(two, kBase, 4), "seen");
  Process& child = w.Fork(two);
  ASSERT_EQ(w.Store(child, kBase, "cow!"), Outcome::kOk);
  EXPECT_BYTES(w.Load(two, kBase, 4), "seen");
}

TEST(Fork, OutOfMemoryInACowBreakChangesNothing) {
  World w({}, 16);
  Process& parent = w.Spawn();
  w.AnonAt(parent, kBase, 16);
  for (uint64_t i = 0; i < 15; ++i) ASSERT_EQ(w.Store(parent, kBase + i * kPage, "x"), Outcome::kOk);
  EXPECT_EQ(w.TryStore(parent, kBase + 15 * kPage), Outcome::kOom);
  EXPECT_EQ(w.TryLoad(parent, kBase + 15 * kPage), Outcome::kOk) << "the zero page costs nothing";
  Process& child = w.Fork(parent);
  EXPECT_EQ(w.TryStore(child, kBase), Outcome::kOom);
  EXPECT_BYTES(w.Load(child, kBase, 1), "x");
  EXPECT_EQ(w.PageAt(child, kBase).mapcount, 2);
  ASSERT_TRUE(w.Unmap(parent, kBase, 1));
  EXPECT_EQ(w.Store(child, kBase, "y"), Outcome::kOk) << "reused in place";
}

// What a restart does: a page that two saved processes shared comes back shared, and copied on write.
TEST(Fork, InstalledSharedPagesAreCopiedOnWrite) {
  World w;
  Process& one = w.Spawn();
  Process& two = w.Spawn();
  w.AnonAt(one, kBase, 1);
  w.AnonAt(two, kBase, 1);
  Frames& frames = w.machine().frames;
  const Pfn pfn = frames.alloc_page(Fill::kZero);
  std::memcpy(frames.bytes(pfn), "both", 4);
  install_anon_page(w.VmaAt(one, kBase), kBase, pfn, Shared::kNo);
  w.Check();
  frames.get_page(pfn);
  install_anon_page(w.VmaAt(two, kBase), kBase, pfn, Shared::kYes);
  w.Check();
  EXPECT_EQ(frames.at(pfn).mapcount, 2);
  ASSERT_EQ(w.Store(one, kBase, "mine"), Outcome::kOk);
  EXPECT_BYTES(w.Load(two, kBase, 4), "both");
  ASSERT_EQ(w.Store(two, kBase, "hers"), Outcome::kOk);
  EXPECT_BYTES(w.Load(one, kBase, 4), "mine");
}

TEST(Fork, MakeWritableSparesWhatIsShared) {
  World w;
  Process& one = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(one, file, 3);
  const Vaddr fixed = w.Anon(one, 1, PROT_READ);
  const auto install = [&](Vaddr addr) {
    const Pfn pfn = w.machine().frames.alloc_page(Fill::kZero);
    install_anon_page(w.VmaAt(one, addr), addr, pfn, Shared::kNo);
  };
  install(a);
  install(fixed);
  ASSERT_EQ(w.Store(one, a + kPage, "both"), Outcome::kOk);
  EXPECT_EQ(w.TryLoad(one, a + 2 * kPage), Outcome::kOk);
  Process& two = w.Fork(one);
  w.Exit(two);
  Process& three = w.Fork(one);
  ASSERT_EQ(w.TryStore(three, a), Outcome::kOk);
  ASSERT_EQ(w.TryStore(three, fixed), Outcome::kSigsegv);
  make_writable(w.VmaAt(one, a));
  make_writable(w.VmaAt(one, fixed));
  w.Check();
  EXPECT_TRUE(pte_write(w.PteAt(one, a)));
  EXPECT_FALSE(pte_write(w.PteAt(one, a + kPage))) << "shared with the child";
  EXPECT_FALSE(pte_write(w.PteAt(one, a + 2 * kPage))) << "the file's page";
  EXPECT_FALSE(pte_write(w.PteAt(one, fixed))) << "a read-only vma";
  ASSERT_EQ(w.Store(one, a + kPage, "mine"), Outcome::kOk);
  EXPECT_BYTES(w.Load(three, a + kPage, 4), "both");
}

TEST(Fork, InstalledPagesTakeTheProtectionOfTheirVma) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr hidden = w.Anon(p, 1, PROT_NONE);
  const Vaddr fixed = w.Private(p, file, 1, 0, PROT_READ);
  for (const Vaddr a : {hidden, fixed}) {
    const Pfn pfn = w.machine().frames.alloc_page(Fill::kZero);
    std::memcpy(w.machine().frames.bytes(pfn), "saved", 5);
    install_anon_page(w.VmaAt(p, a), a, pfn, Shared::kNo);
    w.Check();
  }
  EXPECT_EQ(w.TryLoad(p, hidden), Outcome::kSigsegv);
  EXPECT_EQ(w.TryStore(p, fixed), Outcome::kSigsegv);
  EXPECT_BYTES(w.Load(p, fixed, 5), "saved");
  ASSERT_TRUE(w.Protect(p, hidden, 1, PROT_READ));
  EXPECT_BYTES(w.Load(p, hidden, 5), "saved");
  EXPECT_BYTES(w.ReadFile(file, 0, 5), w.Original(file, 0, 5));
}

}  // namespace
}  // namespace mm
