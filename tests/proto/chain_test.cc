// Chains of images: what a child holds is what its memory was, by whatever way it was found out; ancestors
// that are missing or others; and what merge makes of a chain.
#include "proto/chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "base/random.h"
#include "proto/merge.h"
#include "proto/parent_pages.h"
#include "proto/verify.h"
#include "tests/proto/image_fixture.h"
#include "tests/support/support.h"

namespace {

using base::Code;
using fixture::kAnonFirst;
using fixture::kMm;
using fixture::kPageSize;
using fixture::MakeRun;
using fixture::PageRun;
using testing::HasSubstr;

// Private pages of the first mm of the small machine, by page; each writes down when it was written.
class Memory final : public image::PageBytes {
 public:
  base::Result<void> Read(const PageRun& run, std::span<std::byte> out) const override {
    for (uint64_t i = 0; i < run.count(); ++i)
      std::memcpy(out.data() + i * kPageSize, pages.at(run.first() + i).data(), kPageSize);
    return {};
  }
  std::vector<PageRun> Runs() const {
    std::vector<PageRun> runs;
    for (const auto& [page, bytes] : pages) runs.push_back(MakeRun(PageRun::STORED, page, 1));
    return runs;
  }
  std::map<fixture::MemorySink::Key, std::string> Expected() const {
    std::map<fixture::MemorySink::Key, std::string> expected;
    for (const auto& [page, bytes] : pages) expected[{kMm, page}] = bytes;
    return expected;
  }
  void Put(uint64_t page, uint64_t content) {
    std::string bytes(kPageSize, '\0');
    base::Random random(content);
    for (size_t i = 0; content != 0 && i < kPageSize; i += 64) {
      const uint64_t word = random.Next();
      std::memcpy(bytes.data() + i, &word, sizeof word);
    }
    pages[kAnonFirst + page] = bytes;
  }

  std::map<uint64_t, std::string> pages;
};

base::Result<image::Summary> Write(const std::string& path, const Memory& memory,
                                   const std::vector<PageRun>& runs,
                                   const image::ParentPages* parent = nullptr,
                                   image::WriteOptions options = {}) {
  options.parent = parent;
  const auto writer = TRY(image::Writer::Create(path, memory, options));
  TRY_VOID(fixture::AddMetadata(*writer, fixture::SmallMachine()));
  if (parent != nullptr) TRY_VOID(writer->AddSection(image::SectionType::kParent, parent->Record(path)));
  for (const PageRun& run : runs) TRY(writer->AddRun(run));
  return writer->Commit({});
}

std::unique_ptr<image::ParentPages> Parent(const std::string& path, image::ParentPages::By by) {
  const auto image = image::Reader::Open(path);
  EXPECT_TRUE(image.has_value()) << image.error().what;
  auto pages = image::ParentPages::Load(**image, by);
  EXPECT_TRUE(pages.has_value()) << pages.error().what;
  return *std::move(pages);
}

class ChainTest : public testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_ / name; }
  void Reads(const std::string& path, const Memory& memory) const {
    const auto pages = fixture::ReadAll(path, 2);
    ASSERT_TRUE(pages.has_value()) << pages.error().what;
    EXPECT_TRUE(*pages == memory.Expected()) << path;
    EXPECT_TRUE(image::Verify(path).has_value()) << path;
  }
  // base <- child, the second page of three written.
  void Two() {
    for (uint64_t page = 0; page < 3; ++page) memory_.Put(page, 1 + page);
    ASSERT_TRUE(Write(Path("base"), memory_, memory_.Runs()));
    memory_.Put(1, 100);
    const auto parent = Parent(Path("base"), image::ParentPages::By::kContent);
    const auto child = Write(Path("child"), memory_, memory_.Runs(), parent.get());
    ASSERT_TRUE(child.has_value()) << child.error().what;
    EXPECT_EQ(child->stored_pages, 1u);
    EXPECT_EQ(child->totals.in_parent(), 2u);
  }

  const support::TempDir folder_;
  Memory memory_;
};

TEST_F(ChainTest, AChildStoresWhatChanged) {
  Two();
  Reads(Path("child"), memory_);
  const auto image = image::Reader::Open(Path("child"));
  ASSERT_TRUE(image.has_value()) << image.error().what;
  ASSERT_NE((*image)->chain(), nullptr);
  ASSERT_EQ((*image)->chain()->links().size(), 2u);
  EXPECT_EQ((*image)->chain()->links()[0].path, Path("base"));
  EXPECT_EQ((*image)->metadata().parent.path(), "base");
  EXPECT_EQ((*image)->metadata().parent.stored(), 3u);
}

// Pages come, go, move, become zero, become what others are or were: each image of a chain is its memory,
// however it was found out what is in the parent, and merging it gives the bytes of an image that never had a
// parent.
TEST_F(ChainTest, RandomChains) {
  const char* given = std::getenv("CKPT_SEED");
  for (uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : 1, end = seed + 12; seed < end;
       ++seed) {
    SCOPED_TRACE("CKPT_SEED=" + std::to_string(seed));
    base::Random random(seed);
    Memory memory;
    std::string last;
    for (int link = 0; link < 8; ++link) {
      const Memory before = memory;
      std::set<uint64_t> written;
      for (uint64_t n = link == 0 ? 900 : random.Below(120); n > 0; --n) {
        const uint64_t page = random.Below(1200);
        written.insert(kAnonFirst + page);
        if (random.Below(8) == 0) {
          memory.pages.erase(kAnonFirst + page);
        } else {
          memory.Put(page, random.Below(3) == 0 ? random.Below(20) : random.Next());
        }
      }
      const std::string path = Path(std::to_string(seed) + "." + std::to_string(link));
      image::WriteOptions options;
      options.threads = static_cast<unsigned>(1 + random.Below(3));
      if (random.Below(3) == 0) options.compression = image::Compression::kNone;
      std::vector<PageRun> runs = memory.Runs();
      std::unique_ptr<image::ParentPages> parent;
      if (link > 0) {
        const bool tracked = random.Below(2) == 0;
        parent = Parent(last, tracked ? image::ParentPages::By::kPlace : image::ParentPages::By::kContent);
        for (PageRun& run : runs) {
          if (!tracked || written.contains(run.first())) continue;
          const auto known = parent->At(PageRun::MM, kMm, run.first());
          ASSERT_TRUE(known.has_value());
          run.set_kind(known->kind());
          run.set_stored(known->stored());
        }
      }
      const auto summary = Write(path, memory, runs, parent.get(), options);
      ASSERT_TRUE(summary.has_value()) << summary.error().what;
      EXPECT_TRUE(link == 0 || summary->stored_pages <= written.size());
      Reads(path, memory);
      const auto image = image::Reader::Open(path);
      ASSERT_TRUE(image.has_value()) << image.error().what;
      const auto merged = image::Merge(**image, Path("merged"), {});
      ASSERT_TRUE(merged.has_value()) << merged.error().what;
      ASSERT_TRUE(Write(Path("alone"), memory, memory.Runs()).has_value());
      EXPECT_TRUE(support::ReadFile(Path("merged")) == support::ReadFile(Path("alone")));
      last = path;
      if (HasFailure()) return;
    }
  }
}

// A page that two processes share is one page, also where its bytes are in the parent.
TEST_F(ChainTest, SharedPagesStayShared) {
  memory_.Put(0, 1);
  const auto same = [](uint64_t page) { return MakeRun(PageRun::SAME, kAnonFirst, 1, page, fixture::kMm2); };
  ASSERT_TRUE(Write(Path("base"), memory_, {MakeRun(PageRun::STORED, kAnonFirst, 1), same(0)}));
  const auto parent = Parent(Path("base"), image::ParentPages::By::kPlace);
  const auto known = parent->At(PageRun::MM, fixture::kMm2, kAnonFirst);
  ASSERT_TRUE(known.has_value()) << "through the run that it is the same as";
  EXPECT_EQ(known->stored(), 0u);
  ASSERT_TRUE(
      Write(Path("child"), memory_, {MakeRun(PageRun::COPY, kAnonFirst, 1, 0), same(0)}, parent.get()));
  const auto pages = fixture::ReadAll(Path("child"), 1);
  ASSERT_TRUE(pages.has_value()) << pages.error().what;
  EXPECT_EQ(pages->at({fixture::kMm2, kAnonFirst}), memory_.pages.at(kAnonFirst));
}

TEST_F(ChainTest, AMissingParentIsNamed) {
  Two();
  const std::string digest = (*image::Reader::Open(Path("base")))->digest();
  std::filesystem::rename(Path("base"), Path("elsewhere"));
  const auto image = image::Reader::Open(Path("child"));
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code, Code::kNotFound);
  EXPECT_THAT(image.error().what, HasSubstr(Path("child") + ": its parent '" + Path("base") + "'"));
  EXPECT_THAT(image.error().what, HasSubstr(digest));
  EXPECT_TRUE(image::Reader::Open(Path("child"), {.also = {Path("elsewhere")}}).has_value());
  EXPECT_TRUE(image::Reader::Open(Path("child"), {.parents = image::Parents::kLeave}).has_value());
}

TEST_F(ChainTest, AParentBesideItsChildIsFound) {
  Two();
  std::filesystem::create_directories(Path("a/b"));
  const auto parent = Parent(Path("base"), image::ParentPages::By::kContent);
  ASSERT_TRUE(Write(Path("a/b/grandchild"), memory_, memory_.Runs(), parent.get()));
  const auto image = image::Reader::Open(Path("a/b/grandchild"));
  ASSERT_TRUE(image.has_value()) << image.error().what;
  EXPECT_EQ((*image)->metadata().parent.path(), "../../base");
  std::filesystem::create_directory(Path("moved"));
  std::filesystem::rename(Path("a/b/grandchild"), Path("moved/grandchild"));
  std::filesystem::copy_file(Path("base"), Path("moved/base"));
  std::filesystem::remove(Path("base"));
  EXPECT_TRUE(image::Reader::Open(Path("moved/grandchild")).has_value());
}

TEST_F(ChainTest, AnotherImageIsNoParent) {
  Two();
  Memory other;
  other.Put(7, 7);
  ASSERT_TRUE(Write(Path("base"), other, other.Runs()));
  const auto image = image::Reader::Open(Path("child"));
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code, Code::kChanged);
  EXPECT_THAT(image.error().what, HasSubstr((*image::Reader::Open(Path("base")))->digest()));
}

// A child whose parent has its own name, or is behind it in the chain, is not read for ever.
TEST_F(ChainTest, NoImageIsItsOwnAncestor) {
  Two();
  std::filesystem::remove(Path("base"));
  std::filesystem::copy_file(Path("child"), Path("base"));
  const auto image = image::Reader::Open(Path("child"));
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code, Code::kChanged) << image.error().what;
}

TEST_F(ChainTest, DamageOfAnAncestorIsFound) {
  Two();
  std::string bytes = support::ReadFile(Path("base"));
  const std::string good = bytes;
  for (size_t at = 0; at < bytes.size(); at += 7) {
    bytes[at] = static_cast<char>(bytes[at] ^ 0x40);
    support::WriteFile(Path("base"), bytes);
    EXPECT_FALSE(fixture::ReadAll(Path("child"), 1).has_value() && !image::Verify(Path("base")).has_value() &&
                 *fixture::ReadAll(Path("child"), 1) != memory_.Expected())
        << at;
    bytes[at] = good[at];
  }
}

TEST_F(ChainTest, MergeKeepsWhatItDoesNotKnow) {
  Two();
  auto raw = fixture::MakeRaw(fixture::SmallMachine(), {{MakeRun(PageRun::STORED, kAnonFirst, 2)}});
  raw.metadata.push_back({29, image::kFlagIgnorable, "for a later version"});
  support::WriteFile(Path("raw"), raw.Build());
  const auto image = image::Reader::Open(Path("raw"));
  ASSERT_TRUE(image.has_value()) << image.error().what;
  ASSERT_TRUE(image::Merge(**image, Path("merged"), {}).has_value());
  const auto merged = image::Reader::Open(Path("merged"));
  ASSERT_TRUE(merged.has_value()) << merged.error().what;
  std::string found;
  ASSERT_TRUE((*merged)->ForEachMetadataSection([&](const auto& header, std::string_view payload) {
    if (header.type == 29) found = payload;
    return base::Result<void>{};
  }));
  EXPECT_EQ(found, "for a later version");
  EXPECT_TRUE(*fixture::ReadAll(Path("merged"), 1) == *fixture::ReadAll(Path("raw"), 1));
}

// What a lying child says of its parent, with checksums that are right.
TEST_F(ChainTest, LiesAboutTheParentAreRefused) {
  Two();
  const auto base = image::Reader::Open(Path("base"));
  const std::string digest((*base)->digest_bytes().begin(), (*base)->digest_bytes().end());
  const auto lie = [&](uint64_t stored, uint32_t depth, const std::string& path, const PageRun& run) {
    auto raw = fixture::MakeRaw(fixture::SmallMachine(), {{run}});
    ckpt_pb::Parent parent;
    parent.set_digest(digest);
    parent.set_path(path);
    parent.set_stored(stored);
    parent.set_depth(depth);
    raw.metadata.push_back({static_cast<uint32_t>(image::SectionType::kParent), 0, image::Serialize(parent)});
    support::WriteFile(Path("lie"), raw.Build());
    return image::Reader::Open(Path("lie")).has_value();
  };
  EXPECT_TRUE(lie(3, 1, "base", MakeRun(PageRun::COPY, kAnonFirst, 3, 0)));
  EXPECT_FALSE(lie(3, 1, "base", MakeRun(PageRun::COPY, kAnonFirst, 3, 1))) << "a number that nobody stores";
  EXPECT_FALSE(lie(4, 1, "base", MakeRun(PageRun::COPY, kAnonFirst, 3, 1))) << "nor does the parent";
  EXPECT_FALSE(lie(2, 1, "base", MakeRun(PageRun::COPY, kAnonFirst, 2, 0)));
  EXPECT_FALSE(lie(3, 2, "base", MakeRun(PageRun::COPY, kAnonFirst, 3, 0)));
  EXPECT_FALSE(lie(3, 0, "base", MakeRun(PageRun::COPY, kAnonFirst, 3, 0)));
  EXPECT_FALSE(lie(3, 1, "", MakeRun(PageRun::COPY, kAnonFirst, 3, 0)));
}

}  // namespace
