// The rules of restore/plan.h, one row each: facts in, a decision or a refusal out.
#include "restore/plan.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/units.h"
#include "proto/writer.h"
#include "tests/support/support.h"

namespace restore {
namespace {

using base::Code;
using base::kPageSize;
using ckpt_pb::PageRun;

constexpr uint32_t kMm = 1;
constexpr uint32_t kFile = 2;
constexpr uint64_t kStart = 0x1000;  // page of the vma, which maps the file from its page 1 on
constexpr uint64_t kVmaPages = 6;

class NoBytes final : public image::PageBytes {
 public:
  base::Result<void> Read(const PageRun&, std::span<std::byte> out) const override {
    std::memset(out.data(), 7, out.size());
    return {};
  }
};

PageRun MakeRun(PageRun::Owner owner, uint32_t objref, uint64_t first, uint64_t count,
                PageRun::Kind kind = PageRun::STORED) {
  PageRun run;
  run.set_owner(owner);
  run.set_objref(objref);
  run.set_first(first);
  run.set_count(count);
  run.set_kind(kind);
  return run;
}

// An image of one process that maps a file privately, and another anonymous vma right behind it.
class PlanTest : public testing::Test {
 protected:
  PlanTest() {
    file_.set_objref(kFile);
    file_.set_name("data");
    file_.set_size(6 * kPageSize);
    file_.set_recipe_end(6 * kPageSize);
    ckpt_pb::Recipe& recipe = *file_.mutable_recipe();
    recipe.set_kind(ckpt_pb::Recipe::REAL);
    recipe.set_path("/data\n");
    recipe.set_size(6 * kPageSize);
    recipe.set_device(5);
    recipe.set_inode(60);
    recipe.set_mtime_ns(7'000'000'008);
    fact_.path = "/data\n";
    fact_.exists = true;
    fact_.device = 5;
    fact_.inode = 60;
    fact_.size = 6 * kPageSize;
    fact_.mtime_ns = 7'000'000'008;
  }
  base::Result<void> Write(image::Writer& writer) {
    ckpt_pb::Machine machine;
    machine.set_page_size(kPageSize);
    machine.set_memory_bytes(1 << 20);
    machine.set_vdso_start(0x7000000);
    machine.set_vdso_pages(2);
    ckpt_pb::Files files;
    *files.add_file() = file_;
    ckpt_pb::Processes processes;
    ckpt_pb::Mm& mm = *processes.add_mm();
    mm.set_objref(kMm);
    mm.set_word_bytes(8);
    mm.set_map_count(3);
    ckpt_pb::Process& process = *processes.add_process();
    process.set_pid(1);
    process.set_mm_objref(kMm);
    ckpt_pb::Vmas vmas;
    vmas.set_mm_objref(kMm);
    AddVma(vmas, kStart, kVmaPages, ckpt_pb::Vma::FILE_PRIVATE, kFile);
    AddVma(vmas, kStart + kVmaPages, 4, ckpt_pb::Vma::ANON, 0);
    AddVma(vmas, 0x7000, 2, ckpt_pb::Vma::VDSO, 0);
    TRY_VOID(writer.AddSection(image::SectionType::kMachine, machine));
    TRY_VOID(writer.AddSection(image::SectionType::kFiles, files));
    TRY_VOID(writer.AddSection(image::SectionType::kProcesses, processes));
    TRY_VOID(writer.AddVmas(vmas));
    for (const PageRun& run : runs_) (void)TRY(writer.AddRun(run));
    (void)TRY(writer.Commit({}));
    return {};
  }
  static void AddVma(ckpt_pb::Vmas& vmas, uint64_t page, uint64_t pages, ckpt_pb::Vma::Kind kind,
                     uint32_t file) {
    ckpt_pb::Vma& vma = *vmas.add_vma();
    vma.set_start(page * kPageSize);
    vma.set_end((page + pages) * kPageSize);
    vma.set_flags(0x73);
    vma.set_pgoff(file == 0 ? 0 : 1);
    vma.set_kind(kind);
    vma.set_file_objref(file);
  }
  void Save() {
    NoBytes bytes;
    image::WriteOptions options;
    options.sync = image::Sync::kNo;
    const auto writer = image::Writer::Create(dir_ / "image", bytes, options);
    ASSERT_TRUE(writer.has_value());
    const auto written = Write(**writer);
    ASSERT_TRUE(written.has_value()) << written.error().what;
    auto reader = image::Reader::Open(dir_ / "image");
    ASSERT_TRUE(reader.has_value()) << reader.error().what;
    reader_ = std::move(*reader);
  }
  base::Result<Plan> Make() {
    if (reader_ == nullptr) Save();
    return MakePlan(*reader_, {{kFile, fact_}}, options_);
  }
  Plan Accepted() {
    const auto plan = Make();
    EXPECT_TRUE(plan.has_value()) << plan.error().what;
    return plan.value_or(Plan{});
  }
  std::string Refused(Code code) {
    const auto plan = Make();
    EXPECT_FALSE(plan.has_value());
    if (plan) return "";
    EXPECT_EQ(plan.error().code, code) << plan.error().what;
    EXPECT_EQ(plan.error().what.find('\n'), std::string::npos) << "one line";
    return plan.error().what;
  }
  // A run cut by the plan: "10+3 kept 0, 13+1 dropped 3".
  std::string Filtered(const PageRun& run) {
    const Plan plan = Accepted();
    const auto parts = RunFilter(*reader_, plan, options_).Filter(run);
    if (!parts) return std::string(base::CodeName(parts.error().code));
    std::string text;
    for (const Part& part : *parts) {
      text += base::Format("%s%llu+%llu %s %llu", text.empty() ? "" : ", ",
                           static_cast<unsigned long long>(part.run.first()),
                           static_cast<unsigned long long>(part.run.count()), part.keep ? "kept" : "dropped",
                           static_cast<unsigned long long>(part.run.stored()));
    }
    return text;
  }

  ckpt_pb::File file_;
  FileFact fact_;
  std::vector<PageRun> runs_;
  PlanOptions options_;
  support::TempDir dir_;
  std::unique_ptr<image::Reader> reader_;
};

TEST_F(PlanTest, Unchanged) {
  const Plan plan = Accepted();
  EXPECT_TRUE(plan.notices.empty());
  EXPECT_EQ(plan.files.file(0).SerializeAsString(), file_.SerializeAsString());
}

TEST_F(PlanTest, AnotherSizeIsAcceptedWithANotice) {
  for (const uint64_t size : {uint64_t{0}, 2 * kPageSize + 1, 9 * kPageSize}) {
    fact_.size = size;
    fact_.mtime_ns = 9;
    const Plan plan = Accepted();
    ASSERT_EQ(plan.notices.size(), 1u);
    EXPECT_NE(plan.notices[0].find("24576 bytes"), std::string::npos) << plan.notices[0];
    EXPECT_NE(plan.notices[0].find(std::to_string(size) + " bytes"), std::string::npos) << plan.notices[0];
    EXPECT_EQ(plan.notices[0].find('\n'), std::string::npos);
    EXPECT_EQ(plan.files.file(0).size(), size);
    EXPECT_EQ(plan.files.file(0).recipe_end(), size);
    EXPECT_EQ(plan.files.file(0).recipe().mtime_ns(), 9);
  }
}

TEST_F(PlanTest, ANoticeSaysHowTheSizeChanged) {
  fact_.size = 6 * kPageSize - 100;
  EXPECT_EQ(Accepted().notices[0],
            "file '/data\\x0a' was cut by 100 bytes since the checkpoint, from 24576 bytes to 24476 bytes: "
            "accesses "
            "past its last page give SIGBUS (recorded device 5 inode 60, 24576 bytes, mtime 7.000000008; "
            "found device "
            "5 inode 60, 24476 bytes, mtime 7.000000008)");
  fact_.size = 6 * kPageSize + 1;
  const std::string extended =
      "file '/data\\x0a' was extended by 1 byte since the checkpoint, from 24576 bytes to 24577 bytes: ";
  std::string notice = Accepted().notices[0];
  EXPECT_TRUE(notice.starts_with(extended + "what it grew by is mapped as it is there (recorded ")) << notice;
  file_.set_size(3 * kPageSize);
  reader_ = nullptr;
  notice = Accepted().notices[0];
  EXPECT_TRUE(notice.starts_with(extended + "the workload had given it another size, which it keeps ("))
      << notice;
  fact_.path = "disk/data";
  fact_.inode = 61;
  options_.accept_changed = AcceptChanged::kYes;
  EXPECT_EQ(Accepted().notices[0],
            "file 'disk/data' is not the one that was recorded (device 5 inode 60, 24576 bytes, mtime "
            "7.000000008), and "
            "is used all the same: found device 5 inode 61, 24577 bytes, mtime 7.000000008");
}

// The model had resized the file itself: its length holds, and the recipe is good up to what is there.
TEST_F(PlanTest, AnotherSizeOfAFileThatTheModelResized) {
  file_.set_size(5 * kPageSize);
  file_.set_recipe_end(3 * kPageSize);
  fact_.size = 2 * kPageSize;
  Plan plan = Accepted();
  EXPECT_EQ(plan.files.file(0).size(), 5 * kPageSize);
  EXPECT_EQ(plan.files.file(0).recipe_end(), 2 * kPageSize);
  fact_.size = 9 * kPageSize;
  plan = Accepted();
  EXPECT_EQ(plan.files.file(0).size(), 5 * kPageSize);
  EXPECT_EQ(plan.files.file(0).recipe_end(), 3 * kPageSize) << "what was cut off stays so";
}

TEST_F(PlanTest, RefusedUnlessAccepted) {
  const FileFact good = fact_;
  FileFact other_inode = good, other_device = good, other_mtime = good, longer = good;
  other_inode.inode = 61;
  other_device.device = 6;
  other_mtime.mtime_ns = 7'000'000'009;
  longer.inode = 61;
  longer.size = 9 * kPageSize;
  for (const FileFact& fact : {other_inode, other_device, other_mtime, longer}) {
    options_.accept_changed = AcceptChanged::kNo;
    fact_ = fact;
    const std::string what = Refused(Code::kChanged);
    EXPECT_NE(what.find("inode 60, 24576 bytes, mtime 7.000000008"), std::string::npos) << what;
    EXPECT_NE(what.find(base::Format("device %d inode %d, %d bytes, mtime 7.00000000%d",
                                     static_cast<int>(fact.device), static_cast<int>(fact.inode),
                                     static_cast<int>(fact.size), static_cast<int>(fact.mtime_ns % 10))),
              std::string::npos)
        << what;
    EXPECT_NE(what.find("--accept-changed"), std::string::npos) << what;
    options_.accept_changed = AcceptChanged::kYes;
    const Plan plan = Accepted();
    EXPECT_EQ(plan.notices.size(), 1u);
    EXPECT_EQ(plan.files.file(0).recipe().inode(), fact.inode);
    EXPECT_EQ(plan.files.file(0).size(), fact.size);
  }
}

TEST_F(PlanTest, GoneIsRefusedInAnyCase) {
  fact_ = {};
  fact_.why_not = "not a regular file";
  for (const AcceptChanged accept : {AcceptChanged::kNo, AcceptChanged::kYes}) {
    options_.accept_changed = accept;
    const std::string what = Refused(Code::kChanged);
    EXPECT_NE(what.find("not a regular file"), std::string::npos) << what;
    EXPECT_NE(what.find("inode 60"), std::string::npos) << what;
  }
}

TEST_F(PlanTest, BuildId) {
  file_.mutable_recipe()->set_build_id("\x01\x02");
  fact_.build_id = "\x01\x02";
  EXPECT_TRUE(Accepted().notices.empty());
  fact_.build_id = "\x01\x03";
  const std::string what = Refused(Code::kChanged);
  EXPECT_NE(what.find("0102"), std::string::npos) << what;
  EXPECT_NE(what.find("0103"), std::string::npos) << what;
  options_.accept_changed = AcceptChanged::kYes;
  EXPECT_EQ(Accepted().files.file(0).recipe().build_id(), "\x01\x03");
}

TEST_F(PlanTest, ABuildIdThatNobodyLookedAtIsNotCompared) {
  file_.mutable_recipe()->set_build_id("\x01\x02");
  const Plan plan = Accepted();
  EXPECT_TRUE(plan.notices.empty());
  EXPECT_EQ(plan.files.file(0).recipe().build_id(), "\x01\x02");
  fact_.build_id = "";
  (void)Refused(Code::kChanged);
}

TEST_F(PlanTest, OtherRecipesNeedNoFacts) {
  file_.mutable_recipe()->set_kind(ckpt_pb::Recipe::EMPTY);
  fact_.exists = false;
  EXPECT_TRUE(Accepted().notices.empty());
}

TEST_F(PlanTest, ModifiedPagePastTheEnd) {
  runs_ = {MakeRun(PageRun::MM, kMm, kStart + 1, 3)};  // pages 2 to 4 of the file
  fact_.size = 4 * kPageSize;
  const std::string what = Refused(Code::kFault);
  EXPECT_EQ(
      what,
      "the page at 0x1003000 was modified, and is page 4 of file '/data\\x0a', which was cut by 8192 bytes "
      "since the checkpoint, from 24576 bytes to 16384 bytes: extend the file again, or drop such pages "
      "with --drop-past-eof (EFAULT)");
  options_.drop_past_eof = DropPastEof::kYes;
  PageRun run = runs_[0];
  run.set_stored(100);
  EXPECT_EQ(Filtered(run), "4097+2 kept 100, 4099+1 dropped 102");
  fact_.size = 4 * kPageSize + 1;
  options_.drop_past_eof = DropPastEof::kNo;
  EXPECT_EQ(Filtered(run), "4097+3 kept 100") << "one byte of the page is enough";
}

// The model alone knows the file: it has the name that the workload gave it, and nobody can extend it.
TEST_F(PlanTest, ModifiedPagePastTheEndOfAModelledFile) {
  runs_ = {MakeRun(PageRun::MM, kMm, kStart + 1, 3)};
  file_.mutable_recipe()->set_kind(ckpt_pb::Recipe::EMPTY);
  file_.mutable_recipe()->set_path("");
  file_.set_size(4 * kPageSize);
  EXPECT_EQ(Refused(Code::kFault),
            "the page at 0x1003000 was modified, and is page 4 of file 'data', which ended before it at the "
            "checkpoint, at "
            "16384 bytes: drop such pages with --drop-past-eof (EFAULT)");
}

// A run that goes on from the file's vma into the anonymous one behind it.
TEST_F(PlanTest, RunOverTwoVmas) {
  runs_ = {MakeRun(PageRun::MM, kMm, kStart + 4, 5)};
  fact_.size = 6 * kPageSize;
  options_.drop_past_eof = DropPastEof::kYes;
  EXPECT_EQ(Filtered(runs_[0]), "4100+1 kept 0, 4101+1 dropped 1, 4102+3 kept 2");
  fact_.size = 7 * kPageSize;
  EXPECT_EQ(Filtered(runs_[0]), "4100+2 kept 0, 4102+3 kept 2");
}

TEST_F(PlanTest, DiskPagesPastTheEndAreDropped) {
  runs_ = {MakeRun(PageRun::DISK, kFile, 1, 4)};
  EXPECT_EQ(Filtered(runs_[0]), "1+4 kept 0");
  fact_.size = 3 * kPageSize - 1;
  EXPECT_EQ(Filtered(runs_[0]), "1+2 kept 0, 3+2 dropped 2");
  fact_.size = kPageSize;
  EXPECT_EQ(Filtered(runs_[0]), "1+4 dropped 0");
}

TEST_F(PlanTest, Vdso) {
  options_.vdso_start = 0x7000 * kPageSize;
  Accepted();
  options_.vdso_start = 0x7001 * kPageSize;
  const std::string what = Refused(Code::kInvalid);
  EXPECT_NE(what.find("0x7000000"), std::string::npos) << what;
  EXPECT_NE(what.find("0x7001000"), std::string::npos) << what;
}

}  // namespace
}  // namespace restore
