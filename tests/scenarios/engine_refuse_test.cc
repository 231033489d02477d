// What a checkpoint refuses, before a file appears, and what a restart refuses: C19, C21 to C23, C35.
#include <gtest/gtest.h>

#include <optional>

#include "tests/mm/failing_disk.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

using testing::HasSubstr;

// A vma planted into the process with these flags on top of a private writable mapping's.
Vma* Plant(Process& process, Vaddr addr, uint64_t flags, FilePtr file = nullptr,
           Special special = Special::kNone) {
  MapRequest request;
  request.start = addr;
  request.end = addr + 2 * kPage;
  request.vm_flags = calc_vm_flags(kReadWrite, MAP_PRIVATE) | flags;
  request.file = std::move(file);
  request.special = special;
  const SysResult<Vma*> vma = map_region(*process.mm, request);
  EXPECT_TRUE(vma.has_value());
  return vma.value_or(nullptr);
}

TEST(Scenario, C19_unsupported_flags) {
  const struct {
    uint64_t flag;
    const char* name;
  } kFlags[] = {{VM_IO, "VM_IO"},
                {VM_HUGETLB, "VM_HUGETLB"},
                {VM_PFNMAP, "VM_PFNMAP"},
                {VM_RESERVED, "VM_RESERVED"},
                {VM_MAPPED_COPY, "VM_MAPPED_COPY"},
                {VM_INSERTPAGE, "VM_INSERTPAGE"},
                {VM_MIXEDMAP, "VM_MIXEDMAP"},
                {VM_SAO, "VM_SAO"}};
  for (const auto& [flag, name] : kFlags) {
    SCOPED_TRACE(name);
    World w;
    Process& p = w.Spawn();
    w.Anon(p, 1);
    Plant(p, 0x10000000, flag);
    Trip trip;
    const base::Error error = trip.SaveError(w.machine());
    EXPECT_EQ(error.code, Code::kUnsupported);
    EXPECT_NE(error.what.find(name), std::string::npos) << error.what;
    EXPECT_NE(error.what.find("0x10000000"), std::string::npos) << error.what;
  }
}

// The published list has it; a non-linear private mapping cannot be: remap_file_pages refuses it.
TEST(Scenario, C19_nonlinear_private) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  Plant(p, 0x10000000, VM_NONLINEAR, file);
  Trip trip;
  EXPECT_EQ(trip.SaveError(w.machine()).code, Code::kUnsupported) << "no image that a restart refuses";
}

// VM_NORESERVE is a matter of accounting: it is saved and comes back.
TEST(Scenario, C19_noreserve_is_saved) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 2, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  ASSERT_EQ(w.Store(p, a, "x"), Outcome::kOk);
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_NE(box->process().mm->vma_at(a)->flags & VM_NORESERVE, 0u);
  EXPECT_BYTES(box->Load(a, 1), "x");
}

// A shared mapping of a file that is open for reading alone has VM_MAYSHARE without VM_SHARED.
TEST(Scenario, C19_shared_read_only_file) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  MapRequest request;
  request.start = 0x10000000;
  request.end = request.start + 2 * kPage;
  request.vm_flags = VM_READ | VM_MAYREAD | VM_MAYEXEC | VM_MAYSHARE;
  request.file = file;
  ASSERT_TRUE(map_region(*p.mm, request).has_value());
  EXPECT_BYTES(w.Load(p, 0x10000000, kPage), w.Original(file, 0, kPage));
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_TRUE(trip.runs().empty());
  EXPECT_BYTES(box->Load(0x10000000, kPage), w.Original(file, 0, kPage));
}

TEST(Scenario, C21_vdso) {
  World w;
  Process& p = w.Spawn();
  const Vaddr vdso = w.machine().config().vdso_start;
  const Vma* vma = Plant(p, vdso, 0, nullptr, Special::kVdso);
  ASSERT_NE(vma, nullptr);
  const uint64_t flags = vma->flags;
  Trip trip;
  const auto box = trip.Through(w.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_TRUE(trip.runs().empty());
  ASSERT_EQ(trip.image().vmas(trip.MmOf(1)).vma_size(), 1);
  EXPECT_EQ(trip.image().vmas(trip.MmOf(1)).vma(0).kind(), ckpt_pb::Vma::VDSO);
  const Vma* restored = box->process().mm->vma_at(vdso);
  ASSERT_NE(restored, nullptr);
  EXPECT_EQ(restored->special, Special::kVdso);
  EXPECT_EQ(restored->flags, flags);
  EXPECT_EQ(box->machine().config().vdso_start, vdso);

  trip.options.plan.vdso_start = vdso;
  EXPECT_NE(trip.Restore(), nullptr);
  trip.options.plan.vdso_start = vdso + kPage;
  const base::Error error = trip.RestoreError();
  EXPECT_EQ(error.code, Code::kInvalid);
  EXPECT_NE(error.what.find("vdso"), std::string::npos) << error.what;
}

TEST(Scenario, C21_other_special_mapping) {
  World w;
  Process& p = w.Spawn();
  Plant(p, 0x7ffff7fbd000, 0, nullptr, Special::kVvar);
  Trip trip;
  EXPECT_EQ(trip.SaveError(w.machine()).code, Code::kUnsupported);
}

// A checkpoint that has counted the vmas and not yet walked them, and what another CPU does then.
base::Error SaveErrorBeside(World& w, Trip& trip, const Cpus::Job& second) {
  std::optional<base::Result<ckpt::DumpReport>> saved;
  EXPECT_TRUE(w.Beside([&] { saved = trip.TrySave(w.machine()); }, "CollectVmas", "mmap_sem", second));
  return saved ? trip.ErrorOf(*saved) : base::Error{};
}

TEST(Scenario, C22_vma_added_before_the_walk) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 2);
  ASSERT_EQ(w.Store(p, a, "x"), Outcome::kOk);
  Trip trip;
  const base::Error error = SaveErrorBeside(w, trip, [&] {
    EXPECT_TRUE(sys_mmap(*p.mm, 0, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0));
  });
  EXPECT_EQ(error.code, Code::kBusy);
  EXPECT_THAT(error.what, HasSubstr("it had 1 vmas and has 2 now"));
  EXPECT_NE(trip.Through(w.machine()), nullptr) << "once it holds still";
}

TEST(Scenario, C22_vma_removed_before_the_walk) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 2);
  Trip trip;
  const base::Error error = SaveErrorBeside(w, trip, [&] { EXPECT_TRUE(sys_munmap(*p.mm, a, 2 * kPage)); });
  EXPECT_EQ(error.code, Code::kBusy);
  EXPECT_THAT(error.what, HasSubstr("it had 1 vmas and has 0 now"));
}

// Of two processes the second is busy: nothing is written back or written out for the first either.
TEST(Scenario, C23_outstanding_aio) {
  World w;
  Process& p = w.Spawn();
  Process& q = w.Spawn();
  auto disk = std::make_unique<FailingDisk>();
  FailingDisk& on_disk = *disk;
  const FilePtr file = w.machine().create_file("data", kPage, std::move(disk));
  const Vaddr s = w.Shared(p, file, 1);
  ASSERT_EQ(w.Store(p, s, "dirty"), Outcome::kOk);
  q.mm->nr_aio = 2;
  const std::string before = TextDump(w.machine());
  Trip trip;
  const base::Error error = trip.SaveError(w.machine());
  EXPECT_EQ(error.code, Code::kBusy);
  EXPECT_NE(error.what.find("aio"), std::string::npos) << error.what;
  EXPECT_EQ(TextDump(w.machine()), before);
  EXPECT_TRUE(on_disk.pages.empty());
  q.mm->nr_aio = 0;
  EXPECT_TRUE(trip.TrySave(w.machine()).has_value());
}

TEST(Scenario, C23_an_old_image_stays) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  ASSERT_EQ(w.Store(p, a, "old"), Outcome::kOk);
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  const std::string image = support::ReadFile(trip.path());
  ASSERT_EQ(w.Store(p, a, "new"), Outcome::kOk);
  p.mm->nr_aio = 1;
  const auto saved = trip.TrySave(w.machine());
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, Code::kBusy);
  EXPECT_TRUE(image == support::ReadFile(trip.path()));
}

TEST(Scenario, C35_auxv_of_a_32_bit_program) {
  for (const uint64_t value : {uint64_t{0xffffffff}, uint64_t{0x100000000}}) {
    SCOPED_TRACE(value);
    World w;
    Process& p = w.Spawn();
    w.Anon(p, 1);
    p.mm->word_bytes = 4;
    p.mm->auxv = {{6, 4096}, {3, value}, {0, 0}};
    Trip trip;
    if (value <= 0xffffffff) {
      const auto box = trip.Through(w.machine());
      ASSERT_NE(box, nullptr);
      EXPECT_EQ(box->process().mm->word_bytes, 4u);
      EXPECT_EQ(box->process().mm->auxv, p.mm->auxv);
      continue;
    }
    // Refused by the checkpoint or by the restart, with the same code.
    const auto saved = trip.TrySave(w.machine());
    const base::Code code = saved ? image::Reader::Open(trip.path()).error().code : saved.error().code;
    EXPECT_EQ(code, Code::kTooBig);
    EXPECT_FALSE(saved.has_value()) << "no image that a restart refuses";
  }
}

TEST(Scenario, C35_auxv_ends_with_AT_NULL) {
  World w;
  Process& p = w.Spawn();
  w.Anon(p, 1);
  p.mm->auxv = {{6, 4096}, {3, 0x400040}};
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  const std::vector<AuxvEntry> expected = {{6, 4096}, {3, 0x400040}, {0, 0}};
  EXPECT_TRUE(box->process().mm->auxv == expected) << "the last entry is forced to the terminator";
}

// What a re-dump and a diff see of an image whose bytes were damaged: nothing.
TEST(Scenario, Damaged_page_data_ends_the_restart) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 20);
  for (uint64_t i = 0; i < 20; ++i) ASSERT_EQ(w.Store(p, a + i * kPage, "some text"), Outcome::kOk);
  Trip trip;
  ASSERT_TRUE(trip.Save(w.machine()));
  std::string bytes = support::ReadFile(trip.path());
  const size_t frame = bytes.find(std::string("\x28\xb5\x2f\xfd", 4));
  ASSERT_NE(frame, std::string::npos);
  bytes[frame + 12] = static_cast<char>(bytes[frame + 12] ^ 1);
  support::WriteFile(trip.path(), bytes);
  ASSERT_TRUE(trip.Open()) << "page data is looked at when it is read";
  EXPECT_EQ(trip.RestoreError().code, Code::kCorrupt);
  EXPECT_FALSE(image::Verify(trip.path()).has_value());
}

}  // namespace
}  // namespace mm
