// The bytes themselves: what docs/image-format.md shows is what is written.
#include "proto/format.h"

#include <gtest/gtest.h>

#include "proto/hash.h"
#include "tests/proto/image_fixture.h"
#include "tests/support/support.h"

namespace {

using base::Code;

std::string HexOf(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += base::Format("%02x", static_cast<unsigned char>(c));
  return text;
}

TEST(Format, envelope_bytes) {
  EXPECT_EQ(HexOf(image::EncodeEnvelope()),
            "502a4d1824000000434b5054494d470a02000000020000000100000000100000000000006f8ad71b8cad9916");
}

TEST(Format, section_bytes) {
  EXPECT_EQ(HexOf(image::EncodeSection(image::SectionType::kMachine, 0, "\x08\x80\x20")),
            "502a4d181b0000000100000000000000030000000000000042086c8799d6e480088020");
}

TEST(Format, footer_bytes) {
  image::Footer footer{.totals_offset = 0x0102,
                       .index_offset = 0x0304,
                       .index_bytes = 5,
                       .index_sections = 6,
                       .stored_pages = 7};
  for (unsigned char i = 0; i < 16; ++i) footer.digest[i] = i;
  EXPECT_EQ(
      HexOf(image::EncodeFooter(footer)),
      "502a4d1858000000434b5054464f4f54020100000000000004030000000000000500000000000000060000000000000007"
      "000000000000000000000000000000000102030405060708090a0b0c0d0e0f2dfaab6dfaaa30cb434b5054454e440a");
}

// Section 8 of docs/image-format.md. What zstd makes of a page is not ours to fix, so only up to there.
TEST(Format, the_example_of_the_documentation) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  image::Metadata metadata;
  metadata.machine.set_page_size(base::kPageSize);
  ckpt_pb::Mm& mm = *metadata.processes.add_mm();
  mm.set_objref(1);
  mm.set_word_bytes(8);
  mm.set_map_count(1);
  ckpt_pb::Process& process = *metadata.processes.add_process();
  process.set_pid(7);
  process.set_mm_objref(1);
  ckpt_pb::Vmas& vmas = metadata.vmas[1];
  vmas.set_mm_objref(1);
  ckpt_pb::Vma& vma = *vmas.add_vma();
  vma.set_start(0x10000);
  vma.set_end(0x14000);
  vma.set_flags(0x73);
  using ckpt_pb::PageRun;
  ASSERT_TRUE(
      fixture::Write(path, metadata,
                     {fixture::MakeRun(PageRun::STORED, 0x11, 1), fixture::MakeRun(PageRun::SAME, 0x13, 1)}));
  EXPECT_EQ(HexOf(support::ReadFile(path).substr(0, 254)),
            "502a4d1824000000434b5054494d470a02000000020000000100000000100000000000006f8ad71b8cad9916502a4d18"
            "1b0000000100000000000000030000000000000042086c8799d6e480088020502a4d1818000000020000000000000000"
            "000000000000005eb02f67e56acfcc502a4d182700000003000000000000000f00000000000000684a394f49f2ee870a"
            "0708011008880101120408072001502a4d182600000004000000000000000e00000000000000b195c79304d762b80801"
            "120a08808004108080051873502a4d182a00000020000000000000001200000000000000ef613d878f205eaf0a061001"
            "181120010a081001181320012801");
}

TEST(Format, footer_round_trip) {
  image::Footer footer{
      .totals_offset = 44, .index_offset = 100, .index_bytes = 900, .index_sections = 2, .stored_pages = 7};
  footer.digest[3] = 9;
  const auto decoded =
      image::DecodeFooter(image::EncodeFooter(footer), 1000 + image::kFooterBytes, image::kEnvelopeBytes);
  ASSERT_TRUE(decoded) << decoded.error().what;
  EXPECT_EQ(decoded->totals_offset, 44u);
  EXPECT_EQ(decoded->index_offset, 100u);
  EXPECT_EQ(decoded->index_bytes, 900u);
  EXPECT_EQ(decoded->index_sections, 2u);
  EXPECT_EQ(decoded->stored_pages, 7u);
  EXPECT_EQ(decoded->digest, footer.digest);
  // The same footer in a file of another length.
  EXPECT_EQ(
      image::DecodeFooter(image::EncodeFooter(footer), 1001 + image::kFooterBytes, image::kEnvelopeBytes)
          .error()
          .code,
      Code::kInvalid);
}

TEST(Format, section_lengths_that_lie) {
  const std::string good = image::EncodeSection(image::SectionType::kMachine, 0, std::string(100, 'x'));
  ASSERT_TRUE(image::DecodeSectionHeader(good, 44, 44 + good.size()));
  EXPECT_EQ(image::DecodeSectionHeader(good, 44, 43 + good.size()).error().code, Code::kCorrupt);
  EXPECT_EQ(image::DecodeSectionHeader(good, 44, 43).error().code, Code::kCorrupt);
  for (const auto& [frame_length, length] : {std::pair<uint32_t, uint64_t>{124, 101},
                                             {0, ~uint64_t{0} - 23},
                                             {23, ~uint64_t{0}},
                                             {0xffffffff, 0xffffffff - 24},
                                             {124, 100 + (uint64_t{1} << 32)}}) {
    std::string bytes;
    image::AppendU32(bytes, image::kSkippableMagic);
    image::AppendU32(bytes, frame_length);
    bytes += good.substr(8, 8);
    image::AppendU64(bytes, length);
    bytes += good.substr(24, 8);
    const auto header = image::DecodeSectionHeader(bytes, 44, uint64_t{1} << 40);
    ASSERT_FALSE(header);
    EXPECT_EQ(header.error().code, Code::kCorrupt);
  }
}

TEST(Format, names) {
  EXPECT_EQ(image::SectionName(1), "machine");
  EXPECT_EQ(image::SectionName(34), "index");
  EXPECT_EQ(image::SectionName(99), "type 99");
}

TEST(Hash, known_answers) {
  EXPECT_EQ(image::Xxh3(std::string_view()), 0x2d06800538d394c2u);
  EXPECT_EQ(image::Xxh3({"image", " ", "format"}), image::Xxh3(std::string_view("image format")));
  image::Digest digest;
  EXPECT_EQ(image::Hex(digest.Get()), "99aa06d3014798d86001c324468d497f");
  digest.Update("a");
  digest.Update("bc");
  EXPECT_EQ(image::Hex(digest.Get()), "06b05ab6733a618578af5f94892f3950");  // As xxhsum -H2 prints it.
}

}  // namespace
