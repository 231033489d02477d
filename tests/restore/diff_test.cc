#include "restore/diff.h"

#include <gtest/gtest.h>

#include <atomic>

#include "ckpt/model_source.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

using restore::Difference;
using restore::DiffOptions;
using restore::DiffReport;
using Kind = restore::Difference::Kind;

base::Result<DiffReport> TryDiff(Machine& a, Machine& b, const DiffOptions& options = {}) {
  ckpt::ModelSource source_a(a, {});
  ckpt::ModelSource source_b(b, {});
  EXPECT_TRUE(source_a.Prepare());
  EXPECT_TRUE(source_b.Prepare());
  return restore::Diff(source_a, source_b, options);
}

DiffReport Diff(Machine& a, Machine& b, const DiffOptions& options = {}) {
  const auto report = TryDiff(a, b, options);
  EXPECT_TRUE(report.has_value());
  return report.value_or(DiffReport{});
}

// Two machines that start alike: a process with four anonymous pages and a private file.
class DiffTest : public testing::Test {
 protected:
  struct Side {
    World w;
    Process* p = &w.Spawn();
    FilePtr file = w.NewFile(4 * kPage);
    Vaddr anon = w.Anon(*p, 4);
    Vaddr mapped = w.Private(*p, file, 6);
  };
  Machine& a() { return a_.w.machine(); }
  Machine& b() { return b_.w.machine(); }
  // The one difference there is.
  Difference Only() {
    const DiffReport report = Diff(a(), b());
    EXPECT_FALSE(report.same());
    EXPECT_EQ(report.difference_count, 1u);
    EXPECT_EQ(report.differences.size(), 1u);
    const DiffReport back = Diff(b(), a());
    EXPECT_EQ(back.difference_count, 1u) << "the other way round";
    return report.differences.empty() ? Difference{} : report.differences[0];
  }
  void ExpectOnly(Kind kind, uint64_t start, uint64_t end, std::string_view words) {
    const Difference only = Only();
    EXPECT_EQ(static_cast<int>(only.kind), static_cast<int>(kind));
    EXPECT_EQ(only.start, start);
    EXPECT_EQ(only.end, end);
    EXPECT_NE(only.what.find(words), std::string::npos) << only.what;
  }
  Side a_, b_;
};

TEST_F(DiffTest, Same) {
  const DiffReport report = Diff(a(), b());
  EXPECT_TRUE(report.same());
  EXPECT_EQ(report.pages_compared, 10u);
  EXPECT_EQ(report.pages_different, 0u);
  EXPECT_TRUE(report.differences.empty());
}

TEST_F(DiffTest, ResidencyIsNotCompared) {
  a_.w.TryLoad(*a_.p, a_.anon);  // the zero page
  ASSERT_EQ(a_.w.Store(*a_.p, a_.anon + kPage, Zeros(8)), Outcome::kOk);
  a_.w.Load(*a_.p, a_.mapped, 4 * kPage);
  const std::string first = a_.w.Original(a_.file, 0, 1);
  ASSERT_EQ(a_.w.Store(*a_.p, a_.mapped, first), Outcome::kOk);  // a copy that is like the file
  EXPECT_TRUE(Diff(a(), b()).same());
  EXPECT_TRUE(Diff(b(), a()).same());
}

TEST_F(DiffTest, ProcessInOneOnly) {
  a_.w.Fork(*a_.p);
  const Difference only = Only();
  EXPECT_EQ(only.kind, Kind::kProcess);
  EXPECT_EQ(only.pid, 2u);
  EXPECT_EQ(only.what, "only in the first");
  EXPECT_EQ(Diff(b(), a()).differences[0].what, "only in the second");
}

TEST_F(DiffTest, NameAndParent) {
  b_.p->name = "other";
  ExpectOnly(Kind::kProcess, 0, 0, "other");
  b_.p->name = a_.p->name;
  b_.p->ppid = 17;
  ExpectOnly(Kind::kProcess, 0, 0, "17");
}

TEST_F(DiffTest, Layout) {
  b_.p->mm->layout.brk = 0x5000;
  ExpectOnly(Kind::kLayout, 0, 0, "0x5000");
  b_.p->mm->layout.brk = 0;
  b_.p->mm->layout.start_stack = 0x7000;
  ExpectOnly(Kind::kLayout, 0, 0, "bounds");
  b_.p->mm->layout.start_stack = 0;
  b_.p->mm->auxv = {{6, 4096}, {0, 0}};
  ExpectOnly(Kind::kLayout, 0, 0, "auxv");
  b_.p->mm->auxv.clear();
  b_.p->rlimit_stack = 1;
  ExpectOnly(Kind::kLayout, 0, 0, "limits");
}

TEST_F(DiffTest, VmaInOneOnly) {
  b_.w.AnonAt(*b_.p, 0x10000000, 3);
  ExpectOnly(Kind::kVma, 0x10000000, 0x10003000, "only in the second: anonymous");
  a_.w.AnonAt(*a_.p, 0x10000000, 3);
  EXPECT_TRUE(Diff(a(), b()).same());
}

// Bounds that differ, and the page that only one has: never said of what both have.
TEST_F(DiffTest, VmaOfAnotherLength) {
  const Vaddr cut = b_.mapped + 5 * kPage;
  ASSERT_TRUE(b_.w.Unmap(*b_.p, cut, 1));
  const auto hex = [](Vaddr addr) { return base::Format("%#llx", static_cast<unsigned long long>(addr)); };
  for (const bool swapped : {false, true}) {
    const DiffReport report = swapped ? Diff(b(), a()) : Diff(a(), b());
    ASSERT_FALSE(report.differences.empty());
    EXPECT_EQ(report.differences[0].kind, Kind::kVma);
    EXPECT_NE(report.differences[0].what.find(hex(cut)), std::string::npos) << report.differences[0].what;
    EXPECT_NE(report.differences[0].what.find(hex(cut + kPage)), std::string::npos);
    for (const Difference& difference : report.differences) {
      if (difference.what.starts_with("only in")) {
        EXPECT_EQ(difference.start, cut) << difference.what;
        EXPECT_EQ(difference.end, cut + kPage);
      }
    }
    EXPECT_EQ(report.pages_compared, 9u) << "what both map is compared";
  }
}

TEST_F(DiffTest, VmaFlagsAndOffset) {
  ASSERT_TRUE(b_.w.Protect(*b_.p, b_.anon, 4, PROT_READ));
  ExpectOnly(Kind::kVma, a_.anon, a_.anon + 4 * kPage, "flags");
  ASSERT_TRUE(b_.w.Protect(*b_.p, b_.anon, 4, kReadWrite));
  EXPECT_TRUE(Diff(a(), b()).same());
}

TEST_F(DiffTest, VmaOfAnotherFile) {
  const FilePtr other = b_.w.NewFile(4 * kPage);
  const auto mapped =
      sys_mmap(*b_.p->mm, b_.mapped, 6 * kPage, kReadWrite, MAP_PRIVATE | MAP_FIXED, other, 0);
  ASSERT_TRUE(mapped.has_value());
  const DiffReport report = Diff(a(), b());
  ASSERT_EQ(report.difference_count, 2u) << "the vma, and what it holds";
  EXPECT_EQ(report.differences[0].kind, Kind::kVma);
  EXPECT_NE(report.differences[0].what.find(other->name()), std::string::npos);
  EXPECT_EQ(report.differences[1].kind, Kind::kContent);
  EXPECT_EQ(report.pages_different, 4u);
}

TEST_F(DiffTest, FirstByteThatDiffers) {
  ASSERT_EQ(a_.w.Store(*a_.p, a_.anon + kPage + 100, "abc"), Outcome::kOk);
  ASSERT_EQ(b_.w.Store(*b_.p, b_.anon + kPage + 100, "abd"), Outcome::kOk);
  const Vaddr addr = a_.anon + kPage + 102;
  ExpectOnly(Kind::kContent, a_.anon + kPage, a_.anon + 2 * kPage,
             base::Format("at %#llx: 63 against 64", static_cast<unsigned long long>(addr)));
  EXPECT_EQ(Diff(a(), b()).pages_different, 1u);
}

TEST_F(DiffTest, LastByteOfAPage) {
  ASSERT_EQ(a_.w.Store(*a_.p, a_.anon + kPage - 1, "x"), Outcome::kOk);
  const Vaddr addr = a_.anon + kPage - 1;
  ExpectOnly(Kind::kContent, a_.anon, a_.anon + kPage,
             base::Format("at %#llx: 78 against 00", static_cast<unsigned long long>(addr)));
}

TEST_F(DiffTest, NeighboursAreOneRange) {
  for (const uint64_t page : {0, 1, 3}) {
    ASSERT_EQ(a_.w.Store(*a_.p, a_.anon + page * kPage, "x"), Outcome::kOk);
  }
  const DiffReport report = Diff(a(), b());
  EXPECT_EQ(report.difference_count, 2u);
  EXPECT_EQ(report.pages_different, 3u);
  EXPECT_EQ(report.differences[0].end, a_.anon + 2 * kPage);
  EXPECT_EQ(report.differences[1].start, a_.anon + 3 * kPage);
}

TEST_F(DiffTest, ModifiedAgainstTheFile) {
  ASSERT_EQ(a_.w.Store(*a_.p, a_.mapped + 2 * kPage, "mine"), Outcome::kOk);
  ExpectOnly(Kind::kContent, a_.mapped + 2 * kPage, a_.mapped + 3 * kPage, "against");
}

// The file itself was changed on one side.
TEST_F(DiffTest, ChangedFile) {
  ASSERT_TRUE(a_.w.WriteFile(a_.file, kPage + 9, "changed").has_value());
  ExpectOnly(Kind::kContent, a_.mapped + kPage, a_.mapped + 2 * kPage, "63 against");
  ASSERT_TRUE(b_.w.WriteFile(b_.file, kPage + 9, "changed").has_value());
  EXPECT_TRUE(Diff(a(), b()).same());
}

TEST_F(DiffTest, SigbusAgainstData) {
  ASSERT_TRUE(b_.w.Truncate(b_.file, 2 * kPage));
  ExpectOnly(Kind::kContent, a_.mapped + 2 * kPage, a_.mapped + 4 * kPage, "SIGBUS");
  EXPECT_EQ(Diff(a(), b()).pages_different, 2u);
  ASSERT_TRUE(a_.w.Truncate(a_.file, 2 * kPage));
  EXPECT_TRUE(Diff(a(), b()).same());
  ASSERT_TRUE(a_.w.Truncate(a_.file, 4 * kPage));
  ExpectOnly(Kind::kContent, a_.mapped + 2 * kPage, a_.mapped + 4 * kPage, "SIGBUS");
}

// Zeros that were written and zeros of a file that was cut and grew again are the same.
TEST_F(DiffTest, ZerosAreZeros) {
  ASSERT_TRUE(a_.w.Truncate(a_.file, 2 * kPage));
  ASSERT_TRUE(a_.w.Truncate(a_.file, 4 * kPage));
  ASSERT_EQ(b_.w.Store(*b_.p, b_.mapped + 2 * kPage, Zeros(2 * kPage)), Outcome::kOk);
  EXPECT_TRUE(Diff(a(), b()).same());
  EXPECT_TRUE(Diff(b(), a()).same());
}

TEST_F(DiffTest, ProtectedPagesAreCompared) {
  ASSERT_EQ(a_.w.Store(*a_.p, a_.anon, "x"), Outcome::kOk);
  ASSERT_TRUE(a_.w.Protect(*a_.p, a_.anon, 4, PROT_NONE));
  ASSERT_TRUE(b_.w.Protect(*b_.p, b_.anon, 4, PROT_NONE));
  ExpectOnly(Kind::kContent, a_.anon, a_.anon + kPage, "78 against 00");
}

TEST_F(DiffTest, OnlySomeAreListed) {
  for (const uint64_t page : {0, 2}) {
    ASSERT_EQ(a_.w.Store(*a_.p, a_.anon + page * kPage, "x"), Outcome::kOk);
    ASSERT_EQ(a_.w.Store(*a_.p, a_.mapped + page * kPage, "x"), Outcome::kOk);
  }
  DiffOptions options;
  options.differences_max = 1;
  const DiffReport report = Diff(a(), b(), options);
  EXPECT_EQ(report.differences.size(), 1u);
  EXPECT_EQ(report.difference_count, 4u);
  EXPECT_EQ(report.pages_different, 4u);
  options.differences_max = 0;
  EXPECT_FALSE(Diff(a(), b(), options).same());
}

// How many are listed does not change how many there are.
TEST_F(DiffTest, CountDoesNotDependOnTheList) {
  ASSERT_EQ(a_.w.Store(*a_.p, a_.anon, "x"), Outcome::kOk);
  for (const uint64_t page : {2, 3}) ASSERT_EQ(a_.w.Store(*a_.p, a_.anon + page * kPage, "x"), Outcome::kOk);
  EXPECT_EQ(Diff(a(), b()).difference_count, 2u);
  DiffOptions options;
  options.differences_max = 1;
  EXPECT_EQ(Diff(a(), b(), options).difference_count, 2u);
}

TEST_F(DiffTest, Stop) {
  const std::atomic<bool> stop = true;
  DiffOptions options;
  options.stop = &stop;
  const auto report = TryDiff(a(), b(), options);
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code, base::Code::kInterrupted);
}

TEST_F(DiffTest, SharedAddressSpaceIsComparedOnce) {
  for (Side* side : {&a_, &b_}) side->w.Thread(*side->p);
  ASSERT_EQ(a_.w.Store(*a_.p, a_.anon, "x"), Outcome::kOk);
  const DiffReport report = Diff(a(), b());
  EXPECT_EQ(report.difference_count, 1u);
  EXPECT_EQ(report.pages_compared, 10u);
}

// Files that are what their recipes make are not read: a terabyte on both sides takes no time.
TEST(DiffSpeedTest, PristineTerabyte) {
  World a, b;
  constexpr uint64_t kPages = (uint64_t{1} << 40) / kPage;
  for (World* w : {&a, &b}) {
    Process& p = w->Spawn();
    const Vaddr f = w->Private(p, w->NewFile(kPages * kPage), kPages);
    w->Anon(p, kPages);
    ASSERT_EQ(w->Store(p, f + kPages / 2 * kPage, "middle"), Outcome::kOk);
  }
  const uint64_t read = a.machine().vmstat.pgpgin + b.machine().vmstat.pgpgin;
  const DiffReport report = Diff(a.machine(), b.machine());
  EXPECT_TRUE(report.same());
  EXPECT_EQ(report.pages_compared, 2 * kPages);
  EXPECT_EQ(a.machine().vmstat.pgpgin + b.machine().vmstat.pgpgin, read);
}

}  // namespace
}  // namespace mm
