// Private memory through a checkpoint and a restart: C01 to C05, C16 to C18, C20, C30, C38, C39.
#include <gtest/gtest.h>

#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

constexpr uint64_t kChunkPages = 256;

std::string Stamp(uint64_t page) { return base::Format("page %llu", static_cast<unsigned long long>(page)); }

TEST(Scenario, C01_untouched_gibibyte) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, (uint64_t{1} << 30) / kPage);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_TRUE(trip.runs().empty());
  EXPECT_EQ(trip.image().stored_pages(), 0u);
  EXPECT_EQ(trip.report().totals.mapped(), (uint64_t{1} << 30) / kPage);
  EXPECT_EQ(trip.report().totals.present(), 0u);
  EXPECT_EQ(p.mm->pgtable.nr_ptes(), 0u) << "no page table is made";
  EXPECT_EQ(box->process().mm->pgtable.nr_ptes(), 0u);
  EXPECT_EQ(box->machine().frames.nr_free(), w.machine().frames.nr_free());
  EXPECT_BYTES(box->Load(a + (uint64_t{1} << 29), 8), Zeros(8));
  EXPECT_EQ(box->Store(a, "x"), Outcome::kOk);
}

TEST(Scenario, C02_read_touched_anonymous_memory) {
  for (const char* assignment :
       {"anon_read_fault=zero_page", "anon_read_fault=counted_zero_page", "anon_read_fault=new_page"}) {
    SCOPED_TRACE(assignment);
    const bool new_page = std::string_view(assignment).ends_with("new_page");
    World w(WithSwitch(assignment));
    Process& p = w.Spawn();
    const Vaddr a = w.Anon(p, 8);
    EXPECT_BYTES(w.Load(p, a, 8 * kPage), Zeros(8 * kPage));
    Trip trip;
    const auto box = trip.Through(w.machine());
    ASSERT_NE(box, nullptr);
    EXPECT_EQ(trip.Saved(a), new_page ? "0-7" : "") << "2.6.24 gave a page of zeros, which is saved";
    EXPECT_EQ(trip.report().totals.zero(), new_page ? 0u : 8u);
    EXPECT_BYTES(box->Load(a, 8 * kPage), Zeros(8 * kPage));
    EXPECT_EQ(box->Store(a + kPage, "x"), Outcome::kOk);
    EXPECT_BYTES(box->Load(a + kPage, 2), "x" + Zeros(1));
  }
}

TEST(Scenario, C03_written_and_zeroed_page_is_saved) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 3);
  ASSERT_EQ(w.Store(p, a + kPage, std::string(kPage, 'x')), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + kPage, Zeros(kPage)), Outcome::kOk);
  Trip trip;
  trip.every_page = true;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.Saved(a), "1");
  EXPECT_EQ(trip.image().stored_pages(), 1u) << "contents are not looked at";
  EXPECT_BYTES(box->Load(a, 3 * kPage), Zeros(3 * kPage));
}

TEST(Scenario, C04_read_touched_file) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(5 * kPage);
  const Vaddr a = w.Private(p, file, 5);
  const std::string bytes = w.Load(p, a, 5 * kPage);
  EXPECT_BYTES(bytes, w.Original(file, 0, 5 * kPage));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_TRUE(trip.runs().empty());
  EXPECT_EQ(trip.report().totals.clean(), 5u);
  EXPECT_EQ(box->process().mm->file_rss, 0u) << "nothing of the file is brought in";
  EXPECT_BYTES(box->Load(a, 5 * kPage), bytes);
}

TEST(Scenario, C05_one_page_written) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(5 * kPage);
  const std::string original = w.Original(file, 0, 5 * kPage);
  const Vaddr a = w.Private(p, file, 5);
  ASSERT_EQ(w.Store(p, a + 2 * kPage + 7, "mine"), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.Saved(a), "2");
  EXPECT_EQ(trip.image().stored_pages(), 1u);
  std::string expected = original;
  expected.replace(2 * kPage + 7, 4, "mine");
  EXPECT_BYTES(box->Load(a, 5 * kPage), expected);
  EXPECT_BYTES(box->FileBytes(file->name(), 0, 5 * kPage), original) << "the file is unchanged";
  EXPECT_EQ(box->Store(a + 2 * kPage, "again"), Outcome::kOk);
  EXPECT_BYTES(box->FileBytes(file->name(), 0, 5 * kPage), original);
}

// ---- chunks ----

// Checks the image's chunks: at most 256 stored pages, full but for the last, addresses ascending.
void CheckChunks(const Trip& trip, uint64_t pages) {
  std::vector<uint64_t> counts;
  uint64_t last = 0;
  ASSERT_TRUE(trip.image().ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    uint64_t count = 0;
    for (const ckpt_pb::PageRun& run : chunk.run()) {
      EXPECT_LT(last, run.first() + 1);
      last = run.first() + run.count();
      EXPECT_EQ(run.kind(), ckpt_pb::PageRun::STORED);
      count += run.count();
    }
    counts.push_back(count);
    return {};
  }));
  ASSERT_EQ(counts.size(), (pages + kChunkPages - 1) / kChunkPages);
  for (size_t i = 0; i < counts.size(); ++i) {
    EXPECT_EQ(counts[i], std::min(kChunkPages, pages - i * kChunkPages)) << "chunk " << i;
  }
  EXPECT_EQ(trip.image().stored_pages(), pages);
}

TEST(Scenario, C16_exactly_full_chunks) {
  for (const uint64_t pages : {uint64_t{1}, kChunkPages - 1, kChunkPages, kChunkPages + 1, 2 * kChunkPages,
                               2 * kChunkPages + 1, 32 * kChunkPages, 32 * kChunkPages + 1}) {
    SCOPED_TRACE(pages);
    World w({}, 2 * 33 * kChunkPages);
    Process& p = w.Spawn();
    const Vaddr a = w.Anon(p, pages + 10);
    for (uint64_t i = 0; i < pages; ++i) {
      const std::string stamp = Stamp(i);
      ASSERT_EQ(w.machine().store(p, a + (5 + i) * kPage, AsBytes(stamp)).outcome, Outcome::kOk);
    }
    Trip trip;
    const auto box = trip.Through(w.machine());
    ASSERT_NE(box, nullptr);
    CheckChunks(trip, pages);
    EXPECT_BYTES(box->Load(a + (4 + pages) * kPage, 8), (Stamp(pages - 1) + Zeros(8)).substr(0, 8));
    EXPECT_BYTES(box->Load(a + (5 + pages) * kPage, 8), Zeros(8));
  }
}

TEST(Scenario, C17_alternating_pages) {
  constexpr uint64_t kPages = 20000;
  World w({}, 2 * kPages);
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, kPages);
  for (uint64_t i = 0; i < kPages; i += 2) {
    const std::string stamp = Stamp(i);
    ASSERT_EQ(w.machine().store(p, a + i * kPage, AsBytes(stamp)).outcome, Outcome::kOk);
  }
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  CheckChunks(trip, kPages / 2);
  for (const uint64_t i : {uint64_t{0}, uint64_t{510}, uint64_t{512}, kPages - 2}) {
    EXPECT_BYTES(box->Load(a + i * kPage, Stamp(i).size()), Stamp(i));
    EXPECT_BYTES(box->Load(a + (i + 1) * kPage, 8), Zeros(8));
  }
}

// A vma that ends where a chunk does, with another behind it, near and far.
TEST(Scenario, C18_vma_ends_with_a_chunk) {
  for (const uint64_t gap : {0, 1, 1000}) {
    SCOPED_TRACE(gap);
    World w;
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(kChunkPages * kPage);
    const Vaddr area = w.Anon(p, 2000);
    ASSERT_TRUE(w.Unmap(p, area, 2000));
    w.AnonAt(p, area, kChunkPages);
    const Vaddr next = area + (kChunkPages + gap) * kPage;
    const auto mapped = sys_mmap(*p.mm, next, 3 * kPage, kReadWrite, MAP_PRIVATE | MAP_FIXED, file, 0);
    ASSERT_TRUE(mapped.has_value());
    for (uint64_t i = 0; i < kChunkPages; ++i) {
      ASSERT_EQ(w.machine().touch(p, area + i * kPage, 1, Write::kYes).outcome, Outcome::kOk);
    }
    ASSERT_EQ(w.Store(p, area + (kChunkPages - 1) * kPage, "last"), Outcome::kOk);
    ASSERT_EQ(w.Store(p, next, "next"), Outcome::kOk);
    Trip trip;
    trip.every_page = true;
    const auto box = trip.Through(w.machine());
    ASSERT_NE(box, nullptr);
    CheckChunks(trip, kChunkPages + 1);
    EXPECT_BYTES(box->Load(area + (kChunkPages - 1) * kPage, 4), "last");
    EXPECT_BYTES(box->Load(next, 8), "next" + w.Original(file, 4, 4));
  }
}

// ---- special kinds ----

TEST(Scenario, C20_private_dev_zero) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Private(p, w.machine().dev_zero(), 4);
  EXPECT_BYTES(w.Load(p, a, 8), Zeros(8));
  ASSERT_EQ(w.Store(p, a + 2 * kPage, "mine"), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.Saved(a), "2");
  EXPECT_BYTES(box->Load(a, 3 * kPage), Zeros(2 * kPage) + "mine" + Zeros(kPage - 4));
  EXPECT_EQ(box->Store(a + 3 * kPage, "more"), Outcome::kOk);
  EXPECT_BYTES(box->Load(a + 3 * kPage, 5), "more" + Zeros(1));
}

TEST(Scenario, C30_contents_without_write_permission) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const std::string original = w.Original(file, 0, 4 * kPage);
  const Vaddr f = w.Private(p, file, 4);
  const Vaddr a = w.Anon(p, 2);
  ASSERT_EQ(w.Store(p, f + kPage, "none"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, f + 2 * kPage, "read"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a, "anon"), Outcome::kOk);
  ASSERT_TRUE(w.Protect(p, f + kPage, 1, PROT_NONE));
  ASSERT_TRUE(w.Protect(p, f + 2 * kPage, 1, PROT_READ));
  ASSERT_TRUE(w.Protect(p, a, 2, PROT_NONE));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip.image().stored_pages(), 3u);
  ASSERT_LT(a, f);
  EXPECT_EQ(trip.Saved(a), base::Format("0 %d-%d", static_cast<int>((f - a) / kPage + 1),
                                        static_cast<int>((f - a) / kPage + 2)));
  EXPECT_EQ(box->TryLoad(f + kPage), Outcome::kSigsegv);
  EXPECT_EQ(box->TryStore(f + 2 * kPage), Outcome::kSigsegv);
  EXPECT_EQ(box->TryLoad(a), Outcome::kSigsegv);
  EXPECT_BYTES(box->Load(f + 2 * kPage, 8), "read" + original.substr(2 * kPage + 4, 4));
  MmStruct& mm = *box->process().mm;
  ASSERT_TRUE(sys_mprotect(mm, f, 4 * kPage, kReadWrite).has_value());
  ASSERT_TRUE(sys_mprotect(mm, a, 2 * kPage, kReadWrite).has_value());
  EXPECT_BYTES(box->Load(f + kPage, 8), "none" + original.substr(kPage + 4, 4));
  EXPECT_BYTES(box->Load(a, 5), "anon" + Zeros(1));
  EXPECT_EQ(box->TryStore(f + kPage), Outcome::kOk);
  EXPECT_BYTES(box->FileBytes(file->name(), 0, 4 * kPage), original);
}

TEST(Scenario, C38_stack_still_grows) {
  World w;
  Process& p = w.Spawn();
  p.rlimit_stack = 64 * kPage;
  const Vaddr top = TASK_SIZE - kPage;
  MapRequest request;
  request.start = top - 4 * kPage;
  request.end = top;
  request.vm_flags = calc_vm_flags(kReadWrite, MAP_PRIVATE | MAP_GROWSDOWN);
  request.pgoff = 12345;
  ASSERT_TRUE(map_region(*p.mm, request).has_value());
  p.mm->layout.start_stack = top - 8;
  ASSERT_EQ(w.Store(p, top - 6 * kPage, "grown"), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  const Vma* vma = box->process().mm->vma_at(top - kPage);
  ASSERT_NE(vma, nullptr);
  EXPECT_EQ(vma->start, top - 6 * kPage);
  EXPECT_NE(vma->flags & VM_GROWSDOWN, 0u);
  EXPECT_BYTES(box->Load(top - 6 * kPage, 6), "grown" + Zeros(1));
  EXPECT_EQ(box->Store(top - 20 * kPage, "deeper"), Outcome::kOk);
  EXPECT_EQ(box->process().mm->vma_at(top - kPage)->start, top - 20 * kPage);
  EXPECT_EQ(box->TryStore(top - 65 * kPage), Outcome::kSigsegv) << "the limit came along";
  EXPECT_EQ(box->process().mm->layout.start_stack, top - 8);
}

// A vma that once had an anonymous page keeps its pgoff when it is moved (copy_vma): a restart must
// remember, or vmas merge otherwise than they would have.
TEST(Scenario, Moved_vma_that_had_a_page_once) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 4);
  const Pgoff pgoff = w.VmaAt(p, a).pgoff;
  ASSERT_EQ(w.TryStore(p, a), Outcome::kOk);
  ASSERT_TRUE(w.Advise(p, a, 4, MADV_DONTNEED));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  const Vaddr to = a - 100 * kPage;
  for (Process* process : {&p, &box->process()}) {
    ASSERT_TRUE(sys_mremap(*process->mm, a, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to));
    EXPECT_EQ(w.VmaAt(*process, to).pgoff, pgoff);
  }
}

TEST(Scenario, C39_twice_in_a_row) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(3 * kPage);
  const Vaddr a = w.Private(p, file, 3);
  const Vaddr s = w.Shared(p, file, 3);
  const Vaddr b = w.Anon(p, 600);
  ASSERT_EQ(w.Store(p, a + kPage, "mine"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, s + 2 * kPage, "ours"), Outcome::kOk);
  for (uint64_t i = 0; i < 600; i += 3) ASSERT_EQ(w.TryStore(p, b + i * kPage), Outcome::kOk);
  w.Fork(p);
  ASSERT_EQ(w.Store(p, a, "more"), Outcome::kOk);
  Trip trip;
  ASSERT_TRUE(trip.TrySave(w.machine(), {}, 1, "one").has_value());
  ASSERT_TRUE(trip.TrySave(w.machine(), {}, 2, "two").has_value());
  const std::string one = support::ReadFile(trip.path("one"));
  EXPECT_GT(one.size(), 4096u);
  EXPECT_TRUE(one == support::ReadFile(trip.path("two")));
  // And once more after a restart: the same pages, in the same order.
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  Trip again;
  ASSERT_TRUE(again.Save(box->machine()));
  ASSERT_EQ(again.runs().size(), trip.runs().size());
  for (size_t i = 0; i < trip.runs().size(); ++i) {
    EXPECT_EQ(again.runs()[i].SerializeAsString(), trip.runs()[i].SerializeAsString());
  }
}

}  // namespace
}  // namespace mm
