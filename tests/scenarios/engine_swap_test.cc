// Checkpoints of memory that is in swap, locked, non-linear or broken: C06, C07, C14, C15, C26, C29, C37 and
// the restarts of M09, M10.
#include "mm/memory_failure.h"
#include "tests/mm/failing_swap.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

constexpr uint64_t kMemory = 256;  // pages
constexpr uint64_t kSwap = 1024;

std::string PageText(uint64_t number) {
  return base::Format("page %llu", static_cast<unsigned long long>(number));
}

// A written page that is in swap is saved by reading its slot: nothing comes in, nothing changes.
TEST(Scenario, C06_swapped_page_of_anonymous_memory) {
  World w({}, kMemory, kSwap);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 4);
  for (uint64_t i = 0; i < 4; ++i) ASSERT_EQ(w.Store(p, a + i * kPage, PageText(i)), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a + kPage));
  ASSERT_TRUE(w.PageOut(p, a + 2 * kPage));
  ASSERT_TRUE(pte_swap(w.PteAt(p, a + kPage)));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.Saved(a), "0-3");
  EXPECT_TRUE(pte_swap(w.PteAt(p, a + kPage))) << "it is still in swap";
  EXPECT_EQ(w.machine().vmstat.pswpin, 0u);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_BYTES(box->Load(a + i * kPage, 6), PageText(i));
}

// The seed's own way: a read fault brings it in, and it is saved all the same.
TEST(Scenario, C06_swapped_page_brought_in) {
  World w(WithSwitch("swap_dump=swap_in"), kMemory, kSwap);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 2);
  ASSERT_EQ(w.Store(p, a, "one"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.Saved(a), "0");
  EXPECT_TRUE(pte_present(w.PteAt(p, a)));
  EXPECT_EQ(w.machine().vmstat.pswpin, 1u);
  EXPECT_BYTES(box->Load(a, 3), "one");
}

// A modified page of a file vma that was swapped in belongs to the swap cache. As posted that makes it clean,
// and the restart reads the file's old bytes.
TEST(Scenario, C07_swapped_page_of_a_file_vma) {
  for (const bool posted : {false, true}) {
    Semantics semantics = WithSwitch("swap_dump=swap_in");
    ASSERT_TRUE(SetSwitch(semantics, posted ? "dirty_rule=page_mapping" : "dirty_rule=anonymous"));
    World w(semantics, kMemory, kSwap);
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(2 * kPage);
    const Vaddr a = w.Private(p, file, 2);
    ASSERT_EQ(w.Store(p, a, "mine"), Outcome::kOk);
    ASSERT_TRUE(w.PageOut(p, a));
    Trip trip;
    ASSERT_TRUE(trip.Save(w.machine()));
    EXPECT_EQ(trip.Saved(a), posted ? "" : "0");
    const auto box = trip.Restore();
    ASSERT_NE(box, nullptr);
    EXPECT_BYTES(box->Load(a, 4), posted ? w.Original(file, 0, 4) : std::string("mine"));
  }
}

TEST(Scenario, C07_slot_read_of_a_file_vma) {
  World w({}, kMemory, kSwap);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  ASSERT_EQ(w.Store(p, a, "mine"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.Saved(a), "0");
  EXPECT_BYTES(box->Load(a, 4), "mine");
}

// A slot that cannot be read ends the checkpoint: the page is not taken for clean.
TEST(Scenario, C14_swap_cannot_be_read) {
  for (const char* way : {"swap_dump=read_slot", "swap_dump=swap_in"}) {
    World w(WithSwitch(way), kMemory);
    FailingSwap& device = UseFailingSwap(w.machine(), kSwap);
    Process& p = w.Spawn();
    const Vaddr a = w.Anon(p, 2);
    ASSERT_EQ(w.Store(p, a, "lost?"), Outcome::kOk);
    ASSERT_TRUE(w.PageOut(p, a));
    const uint32_t free = w.machine().frames.nr_free();
    device.all_reads_bad = true;
    Trip trip;
    const base::Error error = trip.SaveError(w.machine());
    EXPECT_TRUE(error.code == Code::kIo || error.code == Code::kFault) << error.what;
    EXPECT_EQ(w.machine().frames.nr_free(), free) << way;
    device.all_reads_bad = false;
    EXPECT_BYTES(w.Load(p, a, 5), "lost?");
  }
}

TEST(Scenario, C15_poisoned_page) {
  for (const char* way : {"swap_dump=read_slot", "swap_dump=swap_in"}) {
    World w(WithSwitch(way), kMemory, kSwap);
    Process& p = w.Spawn();
    const Vaddr a = w.Anon(p, 2);
    ASSERT_EQ(w.Store(p, a, "bad"), Outcome::kOk);
    ASSERT_EQ(w.Store(p, a + kPage, "good"), Outcome::kOk);
    ASSERT_TRUE(memory_failure(w.machine(), w.PfnAt(p, a)));
    EXPECT_EQ(w.TryLoad(p, a), Outcome::kSigbus);
    Trip trip;
    EXPECT_EQ(trip.SaveError(w.machine()).code, Code::kFault);
    EXPECT_BYTES(w.Load(p, a + kPage, 4), "good");
  }
}

TEST(Scenario, C26_swapped_pages_of_a_shared_object) {
  World w({}, kMemory, kSwap);
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 8, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  for (const uint64_t i : {1, 2, 5}) ASSERT_EQ(w.Store(p, a + i * kPage, PageText(i)), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a + 2 * kPage));
  ASSERT_TRUE(w.PageOut(p, a + 5 * kPage));
  ASSERT_EQ(World::VmaAt(p, a).file->mapping.swapped.size(), 2u);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.SavedOfFile("shm", ckpt_pb::PageRun::SHMEM), "1-2 5");
  for (const uint64_t i : {1, 2, 5}) EXPECT_BYTES(box->Load(a + i * kPage, 6), PageText(i));
  EXPECT_BYTES(box->Load(a + 3 * kPage, 4), Zeros(4));
}

// What a restart put into an object is not on any disk: reclaim must write it to swap, not drop it.
TEST(Scenario, C29_restored_object_under_pressure) {
  World w({}, kMemory, kSwap);
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 8, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  for (uint64_t i = 0; i < 8; ++i) ASSERT_EQ(w.Store(p, a + i * kPage, PageText(i)), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  for (int round = 0; round < 4; ++round) try_to_free_pages(box->machine(), kMemory);
  box->Check();
  EXPECT_EQ(box->process().mm->vma_at(a)->file->mapping.swapped.size(), 8u);
  for (uint64_t i = 0; i < 8; ++i) EXPECT_BYTES(box->Load(a + i * kPage, 6), PageText(i));
}

// Locks come back: those of future mappings, and those of single vmas, whose pages are there again at once.
TEST(Scenario, C37_locked_memory) {
  World w({}, kMemory, kSwap);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 8);
  ASSERT_EQ(w.Store(p, a + kPage, "locked"), Outcome::kOk);
  ASSERT_TRUE(sys_mlock(*p.mm, a, 4 * kPage));
  ASSERT_TRUE(sys_mlockall(*p.mm, MCL_FUTURE));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  MmStruct& mm = *box->process().mm;
  EXPECT_EQ(mm.def_flags, VM_LOCKED);
  EXPECT_NE(mm.vma_at(a)->flags & VM_LOCKED, 0u);
  EXPECT_EQ(mm.vma_at(a + 4 * kPage)->flags & VM_LOCKED, 0u);
  EXPECT_EQ(mm.anon_rss, 4u);
  for (int round = 0; round < 4; ++round) try_to_free_pages(box->machine(), kMemory);
  EXPECT_EQ(mm.anon_rss, 4u) << "reclaim leaves locked pages alone";
  EXPECT_BYTES(box->Load(a + kPage, 6), "locked");
}

// A page that a locked parent and its child share must stay two processes' own when locked memory of a third
// is brought in at a restart, which sends pages to swap.
TEST(Scenario, C37_locked_pages_shared_with_a_child) {
  World w({}, 64, 64);
  Process& a = w.Spawn();
  const FilePtr file = w.NewFile(12 * kPage);
  const Vaddr f = w.Shared(a, file, 12);
  ASSERT_TRUE(sys_mlock(*a.mm, f, 12 * kPage));
  Process& b = w.Spawn();
  const Vaddr m = w.Anon(b, 30);
  ASSERT_TRUE(sys_mlock(*b.mm, m, 30 * kPage));
  for (uint64_t i = 0; i < 30; ++i) ASSERT_EQ(w.Store(b, m + i * kPage, PageText(i)), Outcome::kOk);
  Process& c = w.Fork(b);
  const Vaddr n = w.Anon(c, 20);
  for (uint64_t i = 0; i < 20; ++i) ASSERT_EQ(w.Store(c, n + i * kPage, "n"), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  for (uint64_t i = 0; i < 30; ++i) (void)box->Store(m + i * kPage, "parent", b.pid);
  for (uint64_t i = 0; i < 30; ++i)
    EXPECT_BYTES(box->Load(m + i * kPage, 6, c.pid), PageText(i).substr(0, 6));
}

// An image says how large its mappings are; what is not in it takes no memory, locked or not.
TEST(Scenario, C37_a_huge_locked_hole) {
  World w({}, kMemory, kSwap);
  Process& p = w.Spawn();
  const SysResult<Vaddr> a =
      sys_mmap(*p.mm, 0, uint64_t{1} << 40, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0);
  ASSERT_TRUE(a.has_value());
  EXPECT_EQ(sys_mlock(*p.mm, *a, uint64_t{1} << 40).error().err, ENOMEM) << "more page tables than may be";
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(box->process().mm->pgtable.nr_ptes(), 0u);
  EXPECT_NE(box->process().mm->vma_at(*a)->flags & VM_LOCKED, 0u);
}

// Non-linear pages map the same page of the file after a restart, whether they were present or not.
TEST(Scenario, M09_non_linear_pages_after_a_restart) {
  World w({}, kMemory, kSwap);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(16 * kPage);
  const Vaddr a = w.Shared(p, file, 8);
  ASSERT_TRUE(sys_remap_file_pages(*p.mm, a, kPage, 0, 9, 0));
  ASSERT_TRUE(sys_remap_file_pages(*p.mm, a + 2 * kPage, 2 * kPage, 0, 12, 0));
  ASSERT_EQ(w.Store(p, a + 2 * kPage, "twelve"), Outcome::kOk);
  ASSERT_TRUE(w.PageOut(p, a));
  ASSERT_EQ(w.PteAt(p, a), pgoff_to_pte(9));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a, 8), w.Original(file, 9 * kPage, 8));
  EXPECT_BYTES(box->Load(a + 2 * kPage, 6), "twelve");
  EXPECT_BYTES(box->Load(a + 3 * kPage, 8), w.Original(file, 13 * kPage, 8));
  EXPECT_BYTES(box->Load(a + kPage, 8), w.Original(file, kPage, 8));
  EXPECT_EQ(box->Store(a + 3 * kPage, "thirteen"), Outcome::kOk);
  EXPECT_EQ(box->FileBytes(file->name(), 13 * kPage, 8), "thirteen");
}

TEST(Scenario, M10_non_linear_page_past_the_end_after_a_restart) {
  World w({}, kMemory, kSwap);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(16 * kPage);
  const Vaddr a = w.Shared(p, file, 4);
  ASSERT_TRUE(sys_remap_file_pages(*p.mm, a, kPage, 0, 9, 0));
  ASSERT_TRUE(w.Truncate(file, 8 * kPage));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(box->TryLoad(a), Outcome::kSigbus);
  box->Truncate(file->name(), 10 * kPage);
  EXPECT_BYTES(box->Load(a, 8), Zeros(8));
}

// A process that is several times larger than its machine: saved from swap, and restored into swap.
TEST(Scenario, C06_more_pages_than_memory) {
  World w({}, kMemory, 4 * kMemory);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 3 * kMemory);
  for (uint64_t i = 0; i < 3 * kMemory; ++i) {
    ASSERT_EQ(w.machine().store(p, a + i * kPage, AsBytes(PageText(i))).outcome, Outcome::kOk);
  }
  Process& child = w.Fork(p);
  ASSERT_EQ(w.Store(child, a + 7 * kPage, "child"), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.image().totals().stored(), 3 * kMemory + 1);
  EXPECT_BYTES(box->Load(a + 7 * kPage, 5, child.pid), "child");
  for (uint64_t i = 0; i < 3 * kMemory; i += 50)
    EXPECT_BYTES(box->Load(a + i * kPage, 6), PageText(i).substr(0, 6));
}

}  // namespace
}  // namespace mm
