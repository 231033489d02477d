// Scenarios C01 - C08 and C20, as far as get_dirty_page answers them.
#include <gtest/gtest.h>

#include "mm/follow_page.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

// The pages of [addr, addr + pages) that a checkpoint would save, as indices.
std::string DirtyPages(World& w, Process& p, Vaddr addr, uint64_t pages) {
  std::string text;
  for (uint64_t i = 0; i < pages; ++i) {
    if (w.IsDirty(p, addr + i * kPage)) text += std::to_string(i);
  }
  return text;
}

uint64_t DirtyInRuns(Process& p, Vaddr addr, uint64_t pages) {
  return next_dirty_run(World::VmaAt(p, addr), addr, addr + pages * kPage, ~uint64_t{0}).pages;
}

TEST(Scenario, C01_untouched_anonymous_memory) {
  World w;
  Process& p = w.Spawn();
  constexpr uint64_t kPages = (uint64_t{1} << 30) / kPageSize;
  const Vaddr a = w.Anon(p, kPages);
  const std::string before = TextDump(w.machine());
  EXPECT_EQ(DirtyInRuns(p, a, kPages), 0u);
  Vma& vma = w.VmaAt(p, a);
  for (Vaddr addr = vma.start; addr < vma.end; addr += kPage) {
    ASSERT_EQ(get_dirty_page(vma, addr).value(), kNoPfn);
  }
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 0u);
  EXPECT_EQ(TextDump(w.machine()), before);
}

TEST(Scenario, C02_read_touched_anonymous_memory) {
  {
    World w;
    Process& p = w.Spawn();
    const Vaddr a = w.Anon(p, 3);
    EXPECT_EQ(w.machine().touch(p, a, 3 * kPage, Write::kNo).outcome, Outcome::kOk);
    EXPECT_EQ(DirtyPages(w, p, a, 3), "");
    EXPECT_EQ(DirtyInRuns(p, a, 3), 0u);
  }
  // 2.6.24 has no zero page: what was read is a page of its own, and saved.
  for (const Semantics& semantics : {WithSwitch("anon_read_fault=new_page"), Generation("k24").value()}) {
    World w(semantics);
    Process& p = w.Spawn();
    const Vaddr a = w.Anon(p, 3);
    EXPECT_EQ(w.machine().touch(p, a, 2 * kPage, Write::kNo).outcome, Outcome::kOk);
    EXPECT_TRUE(w.IsDirty(p, a));
    EXPECT_TRUE(w.IsDirty(p, a + kPage));
    EXPECT_BYTES(w.FrameText(w.Dirty(p, a).value(), 0, kPage), Zeros(kPage));
  }
  // The counted zero page of 2.6.18 is the zero page all the same.
  World w(WithSwitch("anon_read_fault=counted_zero_page"));
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  EXPECT_FALSE(w.IsDirty(p, a));
}

TEST(Scenario, C03_written_then_zeroed) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 2);
  ASSERT_EQ(w.Store(p, a + kPage, "x"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + kPage, Zeros(1)), Outcome::kOk);
  EXPECT_EQ(DirtyPages(w, p, a, 2), "1") << "contents are not looked at";
  EXPECT_BYTES(w.FrameText(w.Dirty(p, a + kPage).value(), 0, kPage), Zeros(kPage));
}

TEST(Scenario, C04_file_private_read_only) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Private(p, file, 4);
  EXPECT_EQ(w.machine().touch(p, a, 3 * kPage, Write::kNo).outcome, Outcome::kOk);
  EXPECT_EQ(DirtyPages(w, p, a, 4), "");
  EXPECT_EQ(DirtyInRuns(p, a, 4), 0u);
  // A clean page of the file stays clean when the file itself is written.
  ASSERT_TRUE(w.WriteFile(file, kPage, "written").has_value());
  EXPECT_EQ(DirtyPages(w, p, a, 4), "");
}

TEST(Scenario, C05_file_private_one_page_written) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Private(p, file, 4);
  EXPECT_EQ(w.machine().touch(p, a, 4 * kPage, Write::kNo).outcome, Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + 2 * kPage + 100, "mine"), Outcome::kOk);
  EXPECT_EQ(DirtyPages(w, p, a, 4), "2");
  EXPECT_BYTES(w.FrameText(w.Dirty(p, a + 2 * kPage).value(), 0, kPage),
               w.Original(file, 2 * kPage, 100) + "mine" + w.Original(file, 2 * kPage + 104, kPage - 104));
  EXPECT_BYTES(w.ReadFile(file, 0, 4 * kPage), w.Original(file, 0, 4 * kPage));
  const DirtyRun run = next_dirty_run(w.VmaAt(p, a), a, a + 4 * kPage, ~uint64_t{0});
  EXPECT_EQ(run.start, a + 2 * kPage);
  EXPECT_EQ(run.pages, 1u);
}

// A written page of a private file vma that sits in the swap cache: a read swap-in leaves it there. The
// posted rule asks page_mapping(), which answers with the swapper space, and takes the page for clean.
TEST(Scenario, C07_modified_page_in_the_swap_cache) {
  for (const bool posted : {false, true}) {
    World w(WithSwitch(posted ? "dirty_rule=page_mapping" : "dirty_rule=anonymous"), 4096, 64);
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(3 * kPage);
    const Vaddr priv = w.Private(p, file, 3);
    const Vaddr anon = w.Anon(p, 1);
    ASSERT_EQ(w.Store(p, priv + kPage, "mine"), Outcome::kOk);
    ASSERT_EQ(w.Store(p, priv + 2 * kPage, "mine"), Outcome::kOk);
    EXPECT_EQ(w.TryLoad(p, priv), Outcome::kOk);
    ASSERT_EQ(w.Store(p, anon, "mine"), Outcome::kOk);
    EXPECT_EQ(DirtyPages(w, p, priv, 3), "12") << "the same under either rule";
    for (const Vaddr addr : {priv + kPage, anon}) {
      ASSERT_TRUE(w.PageOut(p, addr));
      EXPECT_EQ(w.TryLoad(p, addr), Outcome::kOk);
      EXPECT_TRUE(w.PageAt(p, addr).swapcache());
    }
    EXPECT_EQ(page_mapping(w.machine(), w.PageAt(p, priv + kPage)), &w.machine().swapper_space);
    EXPECT_EQ(DirtyPages(w, p, priv, 3), posted ? "2" : "12") << "INV-C12";
    EXPECT_EQ(DirtyInRuns(p, priv, 2), posted ? 0u : 1u);
    EXPECT_EQ(DirtyPages(w, p, anon, 1), "0") << "a vma without a file is saved by either rule";
  }
}

// Three pages of a file of one page; the last two are never touched.
struct MappedPastTheEnd {
  explicit MappedPastTheEnd(std::string_view lookup) : w(WithSwitch(lookup)) {}
  void TouchFirst() { EXPECT_BYTES(w.Load(p, a, 8), w.Original(file, 0, 8)); }
  void ExpectFault(Vaddr addr) {
    const base::Result<Pfn> page = w.Dirty(p, addr);
    ASSERT_FALSE(page.has_value());
    EXPECT_EQ(page.error().code, base::Code::kFault);
  }
  World w;
  Process& p = w.Spawn();
  FilePtr file = w.NewFile(kPage);
  Vaddr a = w.Private(p, file, 3);
};

TEST(Scenario, C08_mapped_past_the_end_never_touched) {
  MappedPastTheEnd c("dump_lookup=dump_dirty");
  EXPECT_EQ(DirtyPages(c.w, c.p, c.a, 3), "");
  EXPECT_EQ(c.p.mm->pgtable.nr_ptes(), 0u);
  EXPECT_TRUE(c.file->mapping.pages.empty()) << "nothing is read";
  c.TouchFirst();
  EXPECT_EQ(DirtyPages(c.w, c.p, c.a, 3), "") << "the same with a page table in place";
  EXPECT_EQ(c.w.TryLoad(c.p, c.a + kPage), Outcome::kSigbus);
}

TEST(Scenario, C08_dump_only_fails) {
  MappedPastTheEnd c("dump_lookup=dump_only");
  c.ExpectFault(c.a + kPage);
  c.TouchFirst();
  c.ExpectFault(c.a + kPage);
  c.ExpectFault(c.a + 2 * kPage);
  EXPECT_FALSE(c.w.IsDirty(c.p, c.a));
}

TEST(Scenario, C08_dump_only_faults_clean_pages_in) {
  MappedPastTheEnd c("dump_lookup=dump_only");
  EXPECT_FALSE(c.w.IsDirty(c.p, c.a)) << "clean, but read from disk to find out";
  EXPECT_TRUE(pte_present(c.w.PteAt(c.p, c.a)));
  const Vaddr anon = c.w.Anon(c.p, 1);
  EXPECT_FALSE(c.w.IsDirty(c.p, anon)) << "a hole of anonymous memory is clean at once";
}

TEST(Scenario, C08_foll_anon_knows_the_zero_page_only_without_a_table) {
  MappedPastTheEnd c("dump_lookup=foll_anon");
  EXPECT_EQ(DirtyPages(c.w, c.p, c.a, 3), "") << "no page table: the zero page";
  EXPECT_EQ(c.p.mm->pgtable.nr_ptes(), 0u);
  c.TouchFirst();
  c.ExpectFault(c.a + kPage);
  c.ExpectFault(c.a + 2 * kPage);
}

// 2.6.32 leaves a private mapping of /dev/zero with a file and without vm_ops: its faults are anonymous,
// and its pages count as anonymous memory.
TEST(Scenario, C20_private_mapping_of_dev_zero) {
  for (const char* lookup : {"dump_lookup=dump_dirty", "dump_lookup=dump_only"}) {
    World w(WithSwitch(lookup));
    Process& p = w.Spawn();
    const FilePtr zero = w.machine().dev_zero();
    const Vaddr a = w.Private(p, zero, 4, 1);
    EXPECT_EQ(w.VmaAt(p, a).file, zero);
    EXPECT_EQ(DirtyPages(w, p, a, 4), "");
    EXPECT_EQ(p.mm->pgtable.nr_ptes(), 0u);
    EXPECT_BYTES(w.Load(p, a, kPage), Zeros(kPage)) << "no end of file here";
    ASSERT_EQ(w.Store(p, a + 3 * kPage, "mine"), Outcome::kOk);
    EXPECT_BYTES(w.Load(p, a + 3 * kPage, 8), "mine" + Zeros(4));
    EXPECT_EQ(DirtyPages(w, p, a, 4), "3");
    Process& child = w.Fork(p);
    ASSERT_EQ(w.Store(child, a + 3 * kPage, "hers"), Outcome::kOk);
    EXPECT_BYTES(w.Load(p, a + 3 * kPage, 4), "mine");
    EXPECT_EQ(p.mm->anon_rss, 1u);
    EXPECT_EQ(p.mm->file_rss, 0u);
    EXPECT_TRUE(zero->mapping.pages.empty());
    const Vaddr b = w.Private(p, zero, 1);
    ASSERT_EQ(w.Store(p, b, "other"), Outcome::kOk);
    EXPECT_BYTES(w.Load(p, a + 3 * kPage, 4), "mine") << "two mappings share nothing";
  }
}

}  // namespace
}  // namespace mm
