#include "ckpt/model_source.h"

#include <gtest/gtest.h>

#include "tests/mm/failing_disk.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

using ckpt::Content;
using ckpt::ContentRun;
using ckpt::ModelSource;
using ckpt::ModifiedRun;

std::string Text(const ModifiedRun& run, Vaddr base) {
  if (run.count == 0) return "none";
  return base::Format("%llu+%llu%s", static_cast<unsigned long long>(run.first - base / kPage),
                      static_cast<unsigned long long>(run.count), run.maybe_shared ? " shared" : "");
}

// All runs that NextModified answers for `pages` pages from `base` on.
std::string Modified(ModelSource& source, uint32_t mm, Vaddr base, uint64_t pages) {
  std::string text;
  const uint64_t end = base / kPage + pages;
  for (uint64_t next = base / kPage; next < end;) {
    const auto run = source.NextModified(mm, next, end);
    if (!run) return run.error().what;
    if (run->count == 0) break;
    text += (text.empty() ? "" : ", ") + Text(*run, base);
    next = run->first + run->count;
  }
  return text;
}

// All runs of NextContent: "zero 0+3, bytes 3+1, ...". The file's index stands behind pristine runs.
std::string Contents(ModelSource& source, uint32_t mm, Vaddr base, uint64_t pages) {
  static constexpr const char* kNames[] = {"zero", "bytes", "pristine", "sigbus"};
  std::string text;
  const uint64_t end = base / kPage + pages;
  for (uint64_t next = base / kPage; next < end;) {
    const ContentRun run = source.NextContent(mm, next, end);
    EXPECT_EQ(run.first, next);
    EXPECT_GT(run.count, 0u);
    EXPECT_LE(run.first + run.count, end);
    if (run.count == 0) return text;
    for (uint64_t i = 0; i < run.count; ++i) {
      std::string name = kNames[static_cast<size_t>(run.content)];
      if (run.content == Content::kPristine) name += "@" + std::to_string(run.index + i);
      text += (text.empty() ? "" : " ") + name;
    }
    next += run.count;
  }
  return text;
}

std::string Page(ModelSource& source, uint32_t mm, Vaddr addr) {
  std::string bytes(kPage, '?');
  EXPECT_TRUE(source.ReadContent(mm, addr / kPage, AsWritable(bytes)).has_value());
  return bytes;
}

uint32_t MmOf(const ModelSource& source, Pid pid) {
  for (const ckpt_pb::Process& process : source.processes().process()) {
    if (process.pid() == pid) return process.mm_objref();
  }
  return 0;
}

TEST(ModelSourceTest, NextModifiedGivesMaximalRuns) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 2000);
  for (const uint64_t page : {0, 1, 2, 5, 511, 512, 513, 1999}) {
    ASSERT_EQ(w.TryStore(p, a + page * kPage), Outcome::kOk);
  }
  w.TryLoad(p, a + 3 * kPage);
  ModelSource source(w.machine(), {});
  ASSERT_TRUE(source.Prepare());
  const uint32_t mm = MmOf(source, 1);
  EXPECT_EQ(Modified(source, mm, a, 2000), "0+3, 5+1, 511+3, 1999+1");
  EXPECT_EQ(Text(*source.NextModified(mm, a / kPage + 1, a / kPage + 2), a), "1+1") << "cut at the end";
  EXPECT_EQ(Text(*source.NextModified(mm, a / kPage + 6, a / kPage + 511), a), "none");
}

TEST(ModelSourceTest, NextModifiedTellsSharedPagesApart) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 8);
  for (uint64_t page = 0; page < 6; ++page) ASSERT_EQ(w.TryStore(p, a + page * kPage), Outcome::kOk);
  Process& child = w.Fork(p);
  for (const uint64_t page : {2, 3}) ASSERT_EQ(w.TryStore(child, a + page * kPage), Outcome::kOk);
  ModelSource source(w.machine(), {});
  ASSERT_TRUE(source.Prepare());
  const uint32_t parent_mm = MmOf(source, p.pid);
  const uint32_t child_mm = MmOf(source, child.pid);
  EXPECT_EQ(Modified(source, parent_mm, a, 8), "0+2 shared, 2+2, 4+2 shared");
  EXPECT_EQ(Modified(source, child_mm, a, 8), "0+2 shared, 2+2, 4+2 shared");
  for (uint64_t page = 0; page < 6; ++page) {
    const bool same =
        source.PageIdentity(parent_mm, a / kPage + page) == source.PageIdentity(child_mm, a / kPage + page);
    EXPECT_EQ(same, page != 2 && page != 3) << page;
  }
  EXPECT_NE(source.PageIdentity(parent_mm, a / kPage), source.PageIdentity(parent_mm, a / kPage + 1));
}

TEST(ModelSourceTest, NextModifiedOfAFileVma) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Private(p, file, 6);
  w.Load(p, a, 4 * kPage);
  ASSERT_EQ(w.TryStore(p, a + kPage), Outcome::kOk);
  ModelSource source(w.machine(), {});
  ASSERT_TRUE(source.Prepare());
  EXPECT_EQ(Modified(source, MmOf(source, 1), a, 6), "1+1");
}

TEST(ModelSourceTest, ContentOfAnonymousMemory) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 5);
  w.TryLoad(p, a);
  ASSERT_EQ(w.Store(p, a + 2 * kPage, "data"), Outcome::kOk);
  ASSERT_EQ(w.Store(p, a + 3 * kPage, Zeros(4)), Outcome::kOk);
  ModelSource source(w.machine(), {});
  ASSERT_TRUE(source.Prepare());
  const uint32_t mm = MmOf(source, 1);
  EXPECT_EQ(Contents(source, mm, a, 5), "zero zero bytes bytes zero");
  EXPECT_BYTES(Page(source, mm, a + 2 * kPage), "data" + Zeros(kPage - 4));
}

TEST(ModelSourceTest, ContentOfAPrivateFile) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(6 * kPage + 10);
  const Vaddr a = w.Private(p, file, 8, 1);
  w.TryLoad(p, a);                                                        // cached, clean
  ASSERT_EQ(w.Store(p, a + kPage, "mine"), Outcome::kOk);                 // a private copy
  ASSERT_TRUE(w.WriteFile(file, 4 * kPage, "in the cache").has_value());  // dirty in the cache
  ASSERT_TRUE(w.Punch(file, 5 * kPage, kPage));                           // a hole on the disk
  ModelSource source(w.machine(), {});
  ASSERT_TRUE(source.Prepare());
  const uint32_t mm = MmOf(source, 1);
  EXPECT_EQ(Contents(source, mm, a, 8), "pristine@1 bytes pristine@3 bytes zero pristine@6 sigbus sigbus");
  EXPECT_BYTES(Page(source, mm, a), w.Original(file, kPage, kPage));
  EXPECT_BYTES(Page(source, mm, a + kPage), "mine" + w.Original(file, 2 * kPage + 4, kPage - 4));
  EXPECT_BYTES(Page(source, mm, a + 2 * kPage), w.Original(file, 3 * kPage, kPage));
  EXPECT_BYTES(Page(source, mm, a + 3 * kPage),
               "in the cache" + w.Original(file, 4 * kPage + 12, kPage - 12));
  EXPECT_BYTES(Page(source, mm, a + 4 * kPage), Zeros(kPage));
  EXPECT_BYTES(Page(source, mm, a + 5 * kPage), w.Original(file, 6 * kPage, 10) + Zeros(kPage - 10));
}

TEST(ModelSourceTest, ContentOfSharedAndDevZeroMemory) {
  World w;
  Process& p = w.Spawn();
  const FilePtr object = w.machine().create_shmem("object", 5 * kPage);
  const Vaddr s = w.Shared(p, object, 6);
  ASSERT_EQ(w.Store(p, s + 2 * kPage, "data"), Outcome::kOk);
  const Vaddr z = w.Private(p, w.machine().dev_zero(), 3);
  ASSERT_EQ(w.Store(p, z + kPage, "data"), Outcome::kOk);
  ModelSource source(w.machine(), {});
  ASSERT_TRUE(source.Prepare());
  const uint32_t mm = MmOf(source, 1);
  EXPECT_EQ(Contents(source, mm, s, 6), "zero zero bytes zero zero sigbus");
  EXPECT_BYTES(Page(source, mm, s + 2 * kPage), "data" + Zeros(kPage - 4));
  EXPECT_EQ(Contents(source, mm, z, 3), "zero bytes zero");
  for (const ckpt_pb::File& file : source.files().file()) {
    const bool is_object = file.kind() == ckpt_pb::File::SHMEM;
    EXPECT_EQ(Text(source.NextOfObject(file.objref(), 0), 0), is_object ? "2+1" : "none");
    EXPECT_EQ(Text(source.NextOfObject(file.objref(), 3), 0), "none");
  }
}

// Pages of holes by the TiB cost nothing.
TEST(ModelSourceTest, HugeMappingsAreOneRun) {
  World w;
  Process& p = w.Spawn();
  constexpr uint64_t kTib = uint64_t{1} << 40;
  const Vaddr a = w.Anon(p, kTib / kPage);
  const FilePtr file = w.NewFile(kTib);
  const Vaddr f = w.Private(p, file, kTib / kPage);
  ModelSource source(w.machine(), {});
  ASSERT_TRUE(source.Prepare());
  const uint32_t mm = MmOf(source, 1);
  EXPECT_EQ(source.NextContent(mm, a / kPage, (a + kTib) / kPage).count, kTib / kPage);
  EXPECT_EQ(source.NextContent(mm, f / kPage, (f + kTib) / kPage).count, kTib / kPage);
  EXPECT_EQ(Modified(source, mm, f, kTib / kPage), "");
}

TEST(ModelSourceTest, Residency) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(4 * kPage);
  const Vaddr a = w.Anon(p, 10);
  const Vaddr f = w.Private(p, file, 4);
  const Vaddr s = w.Map(p, 3, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  for (const uint64_t page : {0, 1}) ASSERT_EQ(w.TryStore(p, a + page * kPage), Outcome::kOk);
  for (const uint64_t page : {5, 6, 7}) w.TryLoad(p, a + page * kPage);
  w.Load(p, f, 3 * kPage);
  ASSERT_EQ(w.TryStore(p, f), Outcome::kOk);
  ASSERT_EQ(w.TryStore(p, s), Outcome::kOk);
  ModelSource source(w.machine(), {});
  ASSERT_TRUE(source.Prepare());
  const ckpt::Residency count = source.CountResidency();
  EXPECT_EQ(count.mapped, 17u);
  EXPECT_EQ(count.present, 2u + 3u + 3u + 1u);
  EXPECT_EQ(count.zero, 3u);
  EXPECT_EQ(count.clean, 2u);
}

TEST(ModelSourceTest, UnknownProcess) {
  World w;
  w.Spawn();
  ModelSource source(w.machine(), {{1, 77}, ""});
  const auto ready = source.Prepare();
  ASSERT_FALSE(ready.has_value());
  EXPECT_EQ(ready.error().code, base::Code::kNotFound);
  EXPECT_NE(ready.error().what.find("77"), std::string::npos) << ready.error().what;
}

TEST(ModelSourceTest, DescribesTheMachine) {
  World w(WithSwitch("reuse_rule=count"), 2048);
  Process& p = w.Spawn();
  p.rlimit_fsize = 12345;
  p.mm->layout.start_brk = 0x1000;
  p.mm->layout.brk = 0x3000;
  p.mm->def_flags = VM_LOCKED;
  p.mm->exe_file = w.NewFile(100);
  ModelSource source(w.machine(), {{}, "label"});
  ASSERT_TRUE(source.Prepare());
  EXPECT_EQ(source.machine().memory_bytes(), 2048 * kPage);
  EXPECT_EQ(source.machine().label(), "label");
  ASSERT_EQ(source.machine().semantics_size(), 1);
  EXPECT_EQ(source.machine().semantics(0), "reuse_rule=count");
  ASSERT_EQ(source.processes().mm_size(), 1);
  const ckpt_pb::Mm& mm = source.processes().mm(0);
  EXPECT_EQ(mm.brk(), 0x3000u);
  EXPECT_EQ(mm.def_flags(), VM_LOCKED);
  EXPECT_EQ(source.processes().process(0).rlimit_fsize(), 12345u);
  ASSERT_EQ(source.files().file_size(), 1);
  EXPECT_EQ(mm.exe_objref(), source.files().file(0).objref());
  EXPECT_EQ(source.files().file(0).recipe().kind(), ckpt_pb::Recipe::GENERATED);
}

std::string RunsOf(ModelSource& source, uint32_t file) {
  const base::Result<std::vector<ckpt_pb::PageRun>> runs = source.ChangedPages(file);
  EXPECT_TRUE(runs.has_value());
  std::string text;
  for (const ckpt_pb::PageRun& run : runs.value_or(std::vector<ckpt_pb::PageRun>())) {
    text += base::Format(" %s %llu+%llu", ckpt_pb::PageRun::Kind_Name(run.kind()).c_str(),
                         static_cast<unsigned long long>(run.first()),
                         static_cast<unsigned long long>(run.count()));
  }
  return text;
}

// One run of zeros, whatever its size, but for what was written over it: to the disk or, of a file that
// nobody maps, to the page cache alone.
TEST(ModelSourceTest, AHugeHoleIsOneRun) {
  constexpr uint64_t kPages = uint64_t{1} << 28;
  for (const bool mapped : {true, false}) {
    World w;
    Process& p = w.Spawn();
    const FilePtr file = w.NewFile(kPages * kPage);
    ASSERT_TRUE(w.Punch(file, kPage, kPages * kPage));
    if (mapped) (void)w.Map(p, kPages, PROT_READ, MAP_SHARED, file);
    for (const uint64_t page : {uint64_t{1}, uint64_t{1000}, kPages - 1}) {
      ASSERT_TRUE(w.WriteFile(file, page * kPage, "data"));
    }
    (void)w.ReadFile(file, 5000 * kPage, kPage);
    ModelSource source(w.machine(), {});
    ASSERT_TRUE(source.Prepare());
    const uint32_t ref = source.files().file(0).objref();
    EXPECT_EQ(RunsOf(source, ref),
              " STORED 1+1 ZERO 2+998 STORED 1000+1 ZERO 1001+268434454 STORED 268435455+1")
        << mapped;
    if (!mapped) continue;
    const uint32_t mm = source.processes().mm(0).objref();
    const uint64_t base = source.vmas(mm).vma(0).start() / kPage;
    const ContentRun zeros = source.NextContent(mm, base + 5001, base + kPages);
    EXPECT_EQ(zeros.content, Content::kZero);
    EXPECT_EQ(zeros.count, kPages - 1 - 5001);
    EXPECT_EQ(source.NextContent(mm, base, base + kPages).content, Content::kPristine);
    EXPECT_EQ(source.NextContent(mm, base + 1, base + kPages).content, Content::kBytes);
  }
}

// A disk whose changed pages cannot be listed: an error, not an image without them.
class UnlistableDisk final : public Disk {
 public:
  SysResult<void> ReadPage(Pgoff, PageSpan page) const override {
    std::ranges::fill(page, std::byte{1});
    return {};
  }
  SysResult<void> WritePage(Pgoff, ConstPageSpan) override { return {}; }
  SysResult<void> Truncate(uint64_t) override { return {}; }
  SysResult<void> PunchHole(Pgoff, Pgoff) override { return {}; }
  Recipe recipe() const override { return {}; }
  SysResult<void> ForEachChanged(const ChangedFn&) const override { return Err(EIO); }
};

TEST(ModelSourceTest, DiskThatCannotBeRead) {
  World w;
  w.Spawn();
  const FilePtr file = w.machine().create_file("bad", kPage, std::make_unique<UnlistableDisk>());
  ModelSource source(w.machine(), {});
  ASSERT_TRUE(source.Prepare());
  const auto changed = source.ChangedPages(source.files().file(0).objref());
  ASSERT_FALSE(changed.has_value());
  EXPECT_EQ(changed.error().code, base::Code::kIo);
}

}  // namespace
}  // namespace mm
