#include "ckpt/model_describe.h"

#include <gtest/gtest.h>

#include "tests/mm/world.h"

namespace mm {
namespace {

std::string RunsOf(const ckpt_pb::Vmas& vmas, Vaddr base) {
  std::string text;
  for (const ckpt_pb::NonlinearRun& run : vmas.nonlinear()) {
    text += base::Format("[%llu +%llu = %llu]", static_cast<unsigned long long>(run.first() - base / kPage),
                         static_cast<unsigned long long>(run.count()),
                         static_cast<unsigned long long>(run.pgoff()));
  }
  return text;
}

// Pages that follow each other in the file and in memory are one run; those in their linear place are none.
TEST(ModelDescribe, NonlinearRuns) {
  World w({}, 4096, 64);
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(32 * kPage);
  const Vaddr a = w.Shared(p, file, 8);
  const auto runs = [&] {
    ckpt_pb::Vmas vmas;
    ckpt::DescribeNonlinear(World::VmaAt(p, a), vmas);
    return RunsOf(vmas, a);
  };
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  EXPECT_EQ(runs(), "");
  ASSERT_TRUE(sys_remap_file_pages(*p.mm, a + kPage, 3 * kPage, 0, 20, 0));
  ASSERT_TRUE(sys_remap_file_pages(*p.mm, a + 4 * kPage, kPage, 0, 23, MAP_NONBLOCK));
  ASSERT_TRUE(sys_remap_file_pages(*p.mm, a + 6 * kPage, kPage, 0, 6, 0));
  ASSERT_TRUE(sys_remap_file_pages(*p.mm, a + 7 * kPage, kPage, 0, 0, 0));
  EXPECT_EQ(runs(), "[1 +4 = 20][7 +1 = 0]");
  ASSERT_TRUE(w.PageOut(p, a + 2 * kPage));
  EXPECT_EQ(runs(), "[1 +4 = 20][7 +1 = 0]") << "present or not";
}

TEST(ModelDescribe, VmasThatNoImageHolds) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  Vma& vma = World::VmaAt(p, a);
  EXPECT_TRUE(ckpt::CheckVma(vma, 1));
  for (const uint64_t flag : {VM_IO, VM_HUGETLB, VM_PFNMAP, VM_RESERVED, VM_NONLINEAR}) {
    vma.flags |= flag;
    const auto checked = ckpt::CheckVma(vma, 1);
    ASSERT_FALSE(checked.has_value());
    EXPECT_EQ(checked.error().code, base::Code::kUnsupported);
    vma.flags &= ~flag;
  }
}

}  // namespace
}  // namespace mm
