// Looking at pages changes nothing, and shows what a load would.
#include "mm/peek.h"

#include "mm/reclaim.h"
#include "mm/validate.h"
#include "tests/mm/hinting_world.h"

namespace mm {
namespace {

std::string Bytes(const SysResult<Peeked>& peeked) {
  if (!peeked) return "errno";
  if (peeked->kind == Peeked::Kind::kSigbus) return "SIGBUS";
  if (peeked->kind == Peeked::Kind::kZero) return Zeros(kPage);
  return {reinterpret_cast<const char*>(peeked->bytes), kPage};
}

class Peek : public testing::Test {
 protected:
  // What is there; and that it is what a load reads, and that nothing was changed by looking.
  std::string At(Vaddr addr) {
    const std::string before = TextDump(world_.machine());
    const std::string seen = Bytes(peek_page(*process_.mm->vma_at(addr), addr, buffer_));
    EXPECT_EQ(TextDump(world_.machine()), before);
    return seen;
  }
  World world_{{}, 4096, 64};
  FilePtr file_ = world_.NewFile(3 * kPage + 10);
  Process& process_ = world_.Spawn();
  PageBytes buffer_;
};

TEST_F(Peek, Anonymous) {
  const Vaddr at = world_.Anon(process_, 3);
  EXPECT_EQ(At(at), Zeros(kPage));
  world_.Load(process_, at, 1);
  EXPECT_EQ(At(at), Zeros(kPage)) << "the zero page";
  world_.Store(process_, at + kPage, "bytes");
  const std::string bytes = "bytes" + Zeros(kPage - 5);
  EXPECT_EQ(At(at + kPage), bytes);
  ASSERT_TRUE(world_.PageOut(process_, at + kPage));
  EXPECT_EQ(At(at + kPage), bytes) << "in swap";
  EXPECT_EQ(world_.Load(process_, at + kPage, 5), "bytes");
}

TEST_F(Peek, OfAFile) {
  const Vaddr at = world_.Private(process_, file_, 5);
  const std::string content = world_.ReadFile(file_, kPage, kPage);
  EXPECT_EQ(At(at + kPage), content);
  world_.Store(process_, at + kPage, "mine");
  EXPECT_EQ(At(at + kPage), "mine" + content.substr(4));
  EXPECT_EQ(Bytes(peek_file_page(world_.machine(), *file_, 1, buffer_)), content);
  EXPECT_EQ(At(at + 3 * kPage).substr(10), Zeros(kPage - 10)) << "behind the end";
  EXPECT_EQ(At(at + 4 * kPage), "SIGBUS");
}

TEST_F(Peek, OfAnObject) {
  const FilePtr object = world_.machine().create_shmem("object", 2 * kPage);
  const Vaddr at = world_.Shared(process_, object, 2);
  EXPECT_EQ(At(at), Zeros(kPage));
  world_.Store(process_, at + kPage, "shared");
  const std::string bytes = "shared" + Zeros(kPage - 6);
  EXPECT_EQ(At(at + kPage), bytes);
  ASSERT_TRUE(world_.PageOut(process_, at + kPage));
  EXPECT_EQ(At(at + kPage), bytes) << "in swap";
}

TEST_F(Peek, WhichPageOfTheFile) {
  const Vaddr at = world_.Shared(process_, file_, 3);
  EXPECT_EQ(file_index_at(*process_.mm->vma_at(at), at + kPage), Pgoff{1});
  world_.Load(process_, at + kPage, 1);
  EXPECT_EQ(file_index_at(*process_.mm->vma_at(at), at + kPage), Pgoff{1});
  ASSERT_TRUE(sys_remap_file_pages(*process_.mm, at, kPage, 0, 2, MAP_NONBLOCK).has_value());
  EXPECT_EQ(file_index_at(*process_.mm->vma_at(at), at), Pgoff{2});
  const Vaddr own = world_.Private(process_, file_, 2);
  world_.Store(process_, own, "mine");
  EXPECT_EQ(file_index_at(*process_.mm->vma_at(own), own), std::nullopt);
}

// A page that the host has discarded is what its file has.
TEST(PeekHinted, Discarded) {
  HintedWorld world;
  const FilePtr file = world.NewFile(2 * kPage);
  const Pfn pfn = world.ReadIn(file, 1);
  const std::string content = world.ReadFile(file, kPage, kPage);
  ASSERT_TRUE(world.Take(pfn));
  PageBytes buffer;
  EXPECT_EQ(Bytes(peek_file_page(world.machine(), *file, 1, buffer)), content);
  EXPECT_TRUE(IsDiscarded(world.state(pfn)));
}

}  // namespace
}  // namespace mm
