// Tools of others on an image, as docs/image-format.md and ckpt-image(5) show them.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "tests/proto/image_fixture.h"
#include "tests/support/support.h"

namespace {

using namespace fixture;

struct Outcome {
  int status = -1;
  std::string out;
};

Outcome Shell(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  Outcome outcome;
  char buffer[4096];
  for (size_t count; (count = fread(buffer, 1, sizeof buffer, pipe)) > 0;) outcome.out.append(buffer, count);
  outcome.status = pclose(pipe);
  return outcome;
}

class ImageTools : public testing::Test {
 protected:
  const support::TempDir folder_;
  const std::string path_ = folder_ / "image";
};

TEST_F(ImageTools, zstd_tests_an_image_and_prints_each_stored_page_once) {
  const std::vector<PageRun> runs{MakeRun(PageRun::STORED, kAnonFirst, 600),
                                  MakeRun(PageRun::SAME, kAnonFirst, 600, 0, kMm2),
                                  MakeRun(PageRun::STORED, 1, 2, 0, kShmem, PageRun::SHMEM)};
  std::string expected;
  for (uint64_t page = 0; page < 600; ++page) expected += PageOf(kMm, kAnonFirst + page);
  expected += PageOf(kShmem, 1) + PageOf(kShmem, 2);
  for (const int level : {1, 3, 12}) {
    ASSERT_TRUE(Write(path_, SmallMachine(), runs, {.level = level}));
    EXPECT_EQ(Shell("zstd -q -t " + path_ + " 2>&1").status, 0);
    const Outcome pages = Shell("zstd -q -dc " + path_);
    EXPECT_EQ(pages.status, 0);
    EXPECT_TRUE(pages.out == expected);
  }
}

TEST_F(ImageTools, zstd_takes_an_image_without_pages) {
  ASSERT_TRUE(Write(path_, SmallMachine(), {}));
  const Outcome pages = Shell("zstd -q -t " + path_ + " 2>&1 && zstd -q -dc " + path_);
  EXPECT_EQ(pages.status, 0);
  EXPECT_EQ(pages.out, "");
}

TEST_F(ImageTools, protoc_decodes_the_first_section) {
  ASSERT_TRUE(Write(path_, SmallMachine(), {}));
  const Outcome text = Shell("IMAGE=" + path_ +
                             "; cd " CKPT_SOURCE_DIR
                             "; tail -c +77 $IMAGE | head -c $(od -An -tu8 -j60 -N8 $IMAGE)"
                             " | protoc --decode=ckpt_pb.Machine proto/image.proto");
  EXPECT_EQ(text.status, 0);
  EXPECT_EQ(text.out, "page_size: 4096\nlabel: \"base\"\n");
}

TEST_F(ImageTools, od_lists_the_metadata_sections) {
  ASSERT_TRUE(Write(path_, SmallMachine(), {MakeRun(PageRun::STORED, kAnonFirst, 1)}));
  const Outcome list = Shell("IMAGE=" + path_ + R"(
      at=44
      while type=$(od -An -tu4 -j$((at + 8)) -N4 $IMAGE) && [ $type -lt 32 ]; do
        bytes=$(od -An -tu8 -j$((at + 16)) -N8 $IMAGE)
        echo type $type offset $at bytes $bytes
        at=$(($at + 32 + $bytes))
      done)");
  EXPECT_EQ(list.status, 0);
  EXPECT_TRUE(list.out.starts_with("type 1 offset 44 bytes 9\ntype 2 offset 85 bytes ")) << list.out;
  EXPECT_EQ(std::count(list.out.begin(), list.out.end(), '\n'), 5);
}

}  // namespace
