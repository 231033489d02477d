// Which pages are stored: zero-filled ones, repeated ones, those of a parent, and equal hashes of other
// bytes.
#include "proto/contents.h"

#include <gtest/gtest.h>

#include <cstring>

#include "proto/parent_pages.h"
#include "proto/verify.h"
#include "proto/writer.h"
#include "tests/proto/image_fixture.h"
#include "tests/support/support.h"

namespace {

using fixture::kAnonFirst;
using fixture::kPageSize;
using fixture::MakeRun;
using fixture::PageRun;
using image::Contents;

// Page n is full of the letter texts[n].
class Letters final : public image::PageBytes {
 public:
  explicit Letters(std::string texts) : texts_(std::move(texts)) {}
  base::Result<void> Read(const PageRun& run, std::span<std::byte> out) const override {
    for (uint64_t i = 0; i < run.count(); ++i)
      std::memset(out.data() + i * kPageSize, Letter(run.first() + i), kPageSize);
    return {};
  }
  int Letter(uint64_t page) const { return texts_[page % 0x10000] == '0' ? 0 : texts_[page % 0x10000]; }
  const std::string& texts() const { return texts_; }

 private:
  const std::string texts_;
};

// What becomes of each page: 'S' stored, 'Z' zero, or the number of what it is a copy of.
std::string Judged(const Letters& letters, bool every_page,
                   const std::function<image::PageHash(std::span<const std::byte>)>& hash,
                   PageRun::Owner owner = PageRun::MM) {
  Contents contents(letters, nullptr, 0, every_page);
  std::string text;
  std::vector<std::byte> bytes(kPageSize);
  for (uint64_t i = 0; i < letters.texts().size(); ++i) {
    const PageRun place = MakeRun(PageRun::STORED, kAnonFirst + i, 1, 0, fixture::kMm, owner);
    EXPECT_TRUE(letters.Read(place, bytes));
    const auto run =
        contents.Judge({.place = place, .bytes = bytes, .hash = hash(bytes), .zero = image::IsZero(bytes)});
    EXPECT_TRUE(run.has_value());
    EXPECT_EQ(run->first(), kAnonFirst + i);
    text += run->kind() == PageRun::STORED ? "S"
            : run->kind() == PageRun::ZERO ? "Z"
                                           : std::to_string(run->stored());
  }
  return text;
}

TEST(Contents, ZeroAndRepeatedPagesAreNotStored) {
  const Letters letters("ab0ab0ca");
  EXPECT_EQ(Judged(letters, false, image::HashPage), "SSZ01ZS0");
  EXPECT_EQ(Judged(letters, true, image::HashPage), "SSSSSSSS");
}

// Of a disk, a zero page is a page: only a hole is none. It is stored once.
TEST(Contents, ZeroPagesOfADiskAreBytes) {
  EXPECT_EQ(Judged(Letters("a00"), false, image::HashPage, PageRun::DISK), "SS1");
}

// A hash is a reason to compare, and no more.
TEST(Contents, EqualHashesOfOtherBytes) {
  const auto same = [](std::span<const std::byte>) { return image::PageHash{1, 2, 3}; };
  EXPECT_EQ(Judged(Letters("abcab"), false, same), "SSS0S") << "the first of a hash is the one that is found";
}

TEST(Contents, IsZero) {
  std::vector<std::byte> page(kPageSize);
  EXPECT_TRUE(image::IsZero(page));
  for (const size_t at : {size_t{0}, size_t{1}, size_t{2048}, kPageSize - 1}) {
    page[at] = std::byte{1};
    EXPECT_FALSE(image::IsZero(page)) << at;
    page[at] = std::byte{0};
  }
}

// The same through a writer, over windows and chunks, with and without the switch: the pages come back, and
// every kind of storage holds them.
TEST(Contents, ThroughAWriter) {
  const support::TempDir folder;
  std::string texts;
  for (int i = 0; i < 3000; ++i) texts += i % 7 == 0 ? '0' : static_cast<char>('a' + i % 5 + i / 600);
  const Letters letters(texts);
  for (const auto compression :
       {image::Compression::kZstd, image::Compression::kNone, image::Compression::kAuto}) {
    for (const bool every_page : {false, true}) {
      const std::string path = folder / "image";
      const auto writer = image::Writer::Create(
          path, letters, {.compression = compression, .every_page = every_page, .threads = 3});
      ASSERT_TRUE(writer.has_value());
      ASSERT_TRUE(fixture::AddMetadata(**writer, fixture::SmallMachine()));
      ASSERT_TRUE((*writer)->AddRun(MakeRun(PageRun::STORED, kAnonFirst, texts.size())));
      ASSERT_TRUE((*writer)->AddRun(MakeRun(PageRun::SAME, kAnonFirst, texts.size(), 0, fixture::kMm2)));
      const auto summary = (*writer)->Commit({});
      ASSERT_TRUE(summary.has_value()) << summary.error().what;
      EXPECT_EQ(summary->stored_pages, every_page ? 3000u : 9u);
      EXPECT_EQ(summary->totals.zero_filled(), every_page ? 0u : 429u);
      EXPECT_EQ(summary->totals.repeated(), every_page ? 0u : 3000u - 429 - 9);
      const auto pages = fixture::ReadAll(path, 2);
      ASSERT_TRUE(pages.has_value()) << pages.error().what;
      for (uint64_t i = 0; i < texts.size(); ++i) {
        const std::string expected(kPageSize, static_cast<char>(letters.Letter(i)));
        ASSERT_TRUE(pages->at({fixture::kMm, kAnonFirst + i}) == expected) << i;
        ASSERT_TRUE(pages->at({fixture::kMm2, kAnonFirst + i}) == expected) << i;
      }
      const auto verified = image::Verify(path);
      EXPECT_TRUE(verified.has_value()) << verified.error().what;
    }
  }
}

// Pages as they are: at page boundaries of the file, so that they can be mapped from it.
TEST(Contents, RawPagesCanBeMapped) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  ASSERT_TRUE(fixture::Write(path, fixture::SmallMachine(), {MakeRun(PageRun::STORED, kAnonFirst, 600)},
                             {.compression = image::Compression::kNone}));
  const auto image = image::Reader::Open(path);
  ASSERT_TRUE(image.has_value()) << image.error().what;
  const std::string bytes = support::ReadFile(path);
  uint64_t page = kAnonFirst;
  ASSERT_TRUE((*image)->ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    EXPECT_TRUE(chunk.raw());
    EXPECT_EQ(chunk.offset() % kPageSize, 0u);
    for (uint64_t at = chunk.offset(); at < chunk.offset() + chunk.frame_bytes(); at += kPageSize, ++page)
      EXPECT_TRUE(bytes.substr(at, kPageSize) == fixture::PageOf(fixture::kMm, page));
    return {};
  }));
  EXPECT_EQ(page, kAnonFirst + 600);
}

}  // namespace
