#include "proto/reader.h"

#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>

#include "base/random.h"
#include "proto/hash.h"
#include "proto/verify.h"
#include "tests/proto/image_fixture.h"
#include "tests/support/support.h"

namespace {

using namespace fixture;
using base::Code;
using image::SectionType;
using support::ReadFile;
using support::WriteFile;

Code OpenCode(const std::string& path) {
  const auto reader = image::Reader::Open(path);
  if (reader) return Code::kExpectation;  // Stands for "no error".
  EXPECT_TRUE(reader.error().what.starts_with(path + ": ")) << reader.error().what;
  return reader.error().code;
}

Code VerifyCode(const std::string& path) {
  const auto report = image::Verify(path);
  if (report) return Code::kExpectation;
  EXPECT_TRUE(report.error().what.starts_with(path + ": ")) << report.error().what;
  return report.error().code;
}

const std::vector<PageRun>& SmallRuns() {
  static const std::vector<PageRun> runs{MakeRun(PageRun::STORED, kAnonFirst, 2),
                                         MakeRun(PageRun::SAME, kAnonFirst, 2, 0, kMm2),
                                         MakeRun(PageRun::ZERO, 5, 3, 0, kShmem, PageRun::SHMEM)};
  return runs;
}

class ImageReader : public testing::Test {
 protected:
  // An image by hand, and what Open and Verify say of it.
  void Expect(const RawImage& raw, Code open, Code verify, const std::string& words) {
    WriteFile(path_, raw.Build());
    const auto reader = image::Reader::Open(path_);
    ASSERT_FALSE(reader) << words;
    EXPECT_EQ(reader.error().code, open) << reader.error().what;
    EXPECT_NE(reader.error().what.find(words), std::string::npos) << reader.error().what;
    const auto report = image::Verify(path_);
    ASSERT_FALSE(report) << words;
    EXPECT_EQ(report.error().code, verify) << report.error().what;
  }

  const support::TempDir folder_;
  const std::string path_ = folder_ / "image";
};

TEST_F(ImageReader, an_image_by_hand_is_good) {
  WriteFile(path_, MakeRaw(SmallMachine(), {SmallRuns()}).Build());
  const auto pages = ReadAll(path_);
  ASSERT_TRUE(pages) << pages.error().what;
  EXPECT_TRUE(*pages == Expected(SmallRuns()));
  EXPECT_TRUE(image::Verify(path_));
  // And the writer makes the same one.
  ASSERT_TRUE(Write(folder_ / "written", SmallMachine(), SmallRuns()));
  const auto by_hand = image::Reader::Open(path_);
  const auto written = image::Reader::Open(folder_ / "written");
  EXPECT_EQ((*by_hand)->stored_pages(), (*written)->stored_pages());
  EXPECT_EQ((*written)->version(), image::kVersion);
}

TEST_F(ImageReader, not_an_image) {
  EXPECT_EQ(OpenCode(folder_ / "nothing"), Code::kNotFound);
  EXPECT_EQ(VerifyCode(folder_ / "nothing"), Code::kNotFound);
  EXPECT_EQ(OpenCode(folder_.path()), Code::kInvalid);
  for (const std::string& bytes :
       {std::string("x"), std::string("P+"), std::string(1000, 'x'), std::string(1000, '\0'),
        Frame("a zstd file"), std::string("\x50\x2a\x4d\x18") + std::string(36, '\0'),
        std::string(1000, 'x') + "CKPTEND\n"}) {
    WriteFile(path_, bytes);
    EXPECT_EQ(OpenCode(path_), Code::kInvalid);
    EXPECT_EQ(VerifyCode(path_), Code::kInvalid);
  }
}

// What stands at its end says that it is an image.
TEST_F(ImageReader, another_start) {
  ASSERT_TRUE(Write(path_, SmallMachine(), SmallRuns()));
  const std::string whole = ReadFile(path_);
  for (const std::string& bytes : {"x" + whole.substr(1), whole.substr(1), whole.substr(whole.size() - 96),
                                   std::string(16, '\0') + whole.substr(16)}) {
    WriteFile(path_, bytes);
    EXPECT_EQ(OpenCode(path_), Code::kCorrupt) << bytes.size();
    EXPECT_EQ(VerifyCode(path_), Code::kCorrupt) << bytes.size();
  }
  WriteFile(path_, whole.substr(whole.size() - 95));
  EXPECT_EQ(OpenCode(path_), Code::kInvalid) << "a footer that is cut";
  EXPECT_EQ(VerifyCode(path_), Code::kInvalid);
}

TEST_F(ImageReader, C31_cut_at_every_length) {
  ASSERT_TRUE(Write(path_, SmallMachine(), SmallRuns()));
  const std::string whole = ReadFile(path_);
  const std::string cut = folder_ / "cut";
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    WriteFile(cut, whole.substr(0, bytes));
    EXPECT_EQ(OpenCode(cut), Code::kIncomplete) << bytes;
    EXPECT_EQ(VerifyCode(cut), Code::kIncomplete) << bytes;
  }
}

TEST_F(ImageReader, every_flipped_bit_is_found) {
  const std::vector<PageRun> runs{MakeRun(PageRun::STORED, kAnonFirst, 1),
                                  MakeRun(PageRun::SAME, kAnonFirst, 1, 0, kMm2)};
  ASSERT_TRUE(Write(path_, SmallMachine(), runs));
  uint64_t frame_bytes = 0;
  ASSERT_TRUE(
      (*image::Reader::Open(path_))->ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
        frame_bytes += chunk.frame_bytes();
        return {};
      }));
  const std::string whole = ReadFile(path_);
  std::string bytes = whole;
  uint64_t opened = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int mask : {0xff, 0x01, 0x10, 0x80}) {
      if (support::kSanitized && mask != 0xff) break;  // which are here for the code, not for the format
      bytes[i] = static_cast<char>(static_cast<unsigned char>(whole[i]) ^ mask);
      WriteFile(path_, bytes);
      EXPECT_FALSE(image::Verify(path_, {.threads = 1})) << "byte " << i << " ^ " << mask;
      EXPECT_FALSE(ReadAll(path_, 1)) << "byte " << i << " ^ " << mask;
      opened += OpenCode(path_) == Code::kExpectation ? 1 : 0;
    }
    bytes[i] = whole[i];
  }
  EXPECT_EQ(opened, (support::kSanitized ? 1 : 4) *
                        frame_bytes);  // Open finds all but what is inside of a page frame.
}

TEST_F(ImageReader, damage_is_corrupt_or_incomplete_behind_the_envelope) {
  ASSERT_TRUE(Write(path_, SmallMachine(), SmallRuns()));
  const std::string whole = ReadFile(path_);
  for (size_t i = image::kEnvelopeBytes; i < whole.size(); ++i) {
    std::string bytes = whole;
    bytes[i] = static_cast<char>(static_cast<unsigned char>(bytes[i]) ^ 4);
    WriteFile(path_, bytes);
    EXPECT_EQ(VerifyCode(path_), Code::kCorrupt) << i;
  }
}

TEST_F(ImageReader, random_damage_of_a_larger_image) {
  std::vector<PageRun> runs;
  for (uint64_t page = 0; page < 3000; page += 3)
    runs.push_back(MakeRun(PageRun::STORED, kAnonFirst + page, 2));
  ASSERT_TRUE(Write(path_, SmallMachine(), runs));
  const std::string whole = ReadFile(path_);
  base::Random random(7);
  for (int i = 0; i < 60; ++i) {
    std::string bytes = whole;
    const size_t at = random.Below(bytes.size());
    const size_t count = 1 + random.Below(std::min<size_t>(64, bytes.size() - at));
    for (size_t j = at; j < at + count; ++j) bytes[j] = static_cast<char>(random.Next());
    if (bytes == whole) continue;
    WriteFile(path_, bytes);
    EXPECT_NE(VerifyCode(path_), Code::kExpectation) << at;
    EXPECT_FALSE(ReadAll(path_)) << at;
  }
}

TEST_F(ImageReader, bytes_behind_the_footer) {
  ASSERT_TRUE(Write(path_, SmallMachine(), SmallRuns()));
  const std::string whole = ReadFile(path_);
  for (const std::string& more : {std::string("x"), std::string(200, '\0'), whole}) {
    WriteFile(path_, whole + more);
    EXPECT_NE(OpenCode(path_), Code::kExpectation);
    EXPECT_NE(VerifyCode(path_), Code::kExpectation);
  }
}

std::string EnvelopeWith(size_t offset, uint32_t value) {
  std::string envelope = image::EncodeEnvelope();
  std::string bytes;
  image::AppendU32(bytes, value);
  envelope.replace(offset, 4, bytes);
  std::string checksum;
  image::AppendU64(checksum, image::Xxh3(std::string_view(envelope).substr(8, envelope.size() - 16)));
  return envelope.substr(0, envelope.size() - 8) + checksum;
}

TEST_F(ImageReader, a_newer_version_is_refused_by_number) {
  RawImage raw = MakeRaw(SmallMachine(), {SmallRuns()});
  raw.envelope = EnvelopeWith(20, 7);  // min reader version
  Expect(raw, Code::kUnsupported, Code::kUnsupported, "needs a reader of version 7; this one reads up to 2");
  raw.envelope = EnvelopeWith(24, 2);
  Expect(raw, Code::kUnsupported, Code::kUnsupported, "unknown digest algorithm 2");
  raw.envelope = EnvelopeWith(28, 8192);
  Expect(raw, Code::kUnsupported, Code::kUnsupported, "page size 8192");
  raw.envelope = EnvelopeWith(32, 1);
  Expect(raw, Code::kUnsupported, Code::kUnsupported, "reserved");
  raw.envelope = EnvelopeWith(16, 0);
  Expect(raw, Code::kInvalid, Code::kCorrupt, "version 0");
  // A newer version that this reader may read.
  raw.envelope = EnvelopeWith(16, 9);
  WriteFile(path_, raw.Build());
  EXPECT_EQ(OpenCode(path_), Code::kExpectation);
  EXPECT_EQ(VerifyCode(path_), Code::kExpectation);
}

TEST_F(ImageReader, unknown_sections) {
  RawImage raw = MakeRaw(SmallMachine(), {SmallRuns()});
  raw.metadata.insert(raw.metadata.begin(), {20, 1, "from the future"});
  raw.metadata.push_back({21, 0xffff0001, std::string(100000, 'x')});  // Unused flags are ignored.
  WriteFile(path_, raw.Build());
  EXPECT_EQ(OpenCode(path_), Code::kExpectation);
  EXPECT_EQ(VerifyCode(path_), Code::kExpectation);
  EXPECT_TRUE(*ReadAll(path_) == Expected(SmallRuns()));
  raw.metadata[0].flags = 0;
  Expect(raw, Code::kUnsupported, Code::kUnsupported, "section type 20 at offset 44");
  raw.metadata[0].flags = 3;
  Expect(raw, Code::kUnsupported, Code::kUnsupported, "unknown flags 0x3");
}

// Ignorable or not: types from that of chunk runs on are none of metadata.
TEST_F(ImageReader, sections_that_are_no_metadata_stand_elsewhere) {
  for (const SectionType type : {SectionType::kTotals, SectionType::kIndex, SectionType{77}}) {
    RawImage raw = MakeRaw(SmallMachine(), {SmallRuns()});
    raw.metadata.push_back({static_cast<uint32_t>(type), image::kFlagIgnorable, ""});
    Expect(raw, Code::kInvalid, Code::kCorrupt, "out of order");
  }
}

TEST_F(ImageReader, a_text_that_is_none_is_told_in_one_line) {
  RawImage raw = MakeRaw(SmallMachine(), {SmallRuns()});
  ckpt_pb::Machine machine;
  ASSERT_TRUE(machine.ParseFromString(raw.metadata[0].payload));
  machine.set_label("xy");
  std::string& payload = raw.metadata[0].payload = image::Serialize(machine);
  payload[payload.find("xy")] = '\xff';
  testing::internal::CaptureStderr();
  Expect(raw, Code::kCorrupt, Code::kCorrupt, "not a ckpt_pb.Machine message");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "protobuf keeps quiet";
}

TEST_F(ImageReader, what_a_later_version_adds_to_runs_is_ignored) {
  RawImage raw = MakeRaw(SmallMachine(), {SmallRuns()});
  *raw.chunks[0].index.mutable_run() = raw.chunks[0].runs.run();
  PageRun& run = *raw.chunks[0].index.mutable_run(0);
  run.GetReflection()->MutableUnknownFields(&run)->AddVarint(1000, 1);
  WriteFile(path_, raw.Build());
  EXPECT_TRUE(*ReadAll(path_) == Expected(SmallRuns()));
  EXPECT_EQ(VerifyCode(path_), Code::kExpectation);
}

TEST_F(ImageReader, sections_that_are_missing_twice_out_of_order_or_broken) {
  const RawImage good = MakeRaw(SmallMachine(), {SmallRuns()});
  for (size_t i = 0; i < 3; ++i) {
    RawImage raw = good;
    raw.metadata.erase(raw.metadata.begin() + static_cast<ptrdiff_t>(i));
    Expect(raw, Code::kInvalid, Code::kCorrupt, "no section ");
    raw = good;
    raw.metadata.insert(raw.metadata.begin() + static_cast<ptrdiff_t>(i), raw.metadata[i]);
    Expect(raw, Code::kInvalid, Code::kCorrupt, "a second one");
    raw = good;
    std::swap(raw.metadata[i], raw.metadata[i + 1]);
    Expect(raw, Code::kInvalid, Code::kCorrupt, "out of order");
  }
  RawImage raw = good;
  raw.metadata[1].payload = "\xff\xff";
  Expect(raw, Code::kCorrupt, Code::kCorrupt, "section files at offset");
  raw = good;
  raw.metadata[1].payload.clear();
  for (uint64_t i = 0; i <= image::kObjectsMax; ++i) raw.metadata[1].payload += std::string("\x0a\x00", 2);
  Expect(raw, Code::kTooBig, Code::kCorrupt, "more than 262144 records");
  raw = good;
  raw.metadata[0].payload.resize(image::kSmallSectionBytesMax + 1);
  Expect(raw, Code::kCorrupt, Code::kCorrupt, "over the cap");
}

TEST_F(ImageReader, lies_in_the_footer_and_the_index) {
  const RawImage good =
      MakeRaw(SmallMachine(), {SmallRuns(), {MakeRun(PageRun::STORED, kAnonFirst + 9, 3, 2)}});
  const std::vector<std::function<void(RawImage&)>> lies{
      [](RawImage& raw) { raw.totals_offset_lie = 8; },
      [](RawImage& raw) { raw.totals_offset_lie = 1 << 20; },
      [](RawImage& raw) { raw.totals_offset_lie = -(1 << 20); },
      [](RawImage& raw) { raw.totals_offset_lie = int64_t{1} << 62; },
      [](RawImage& raw) { raw.index_offset_lie = 32; },
      [](RawImage& raw) { raw.index_offset_lie = -32; },
      [](RawImage& raw) { raw.index_offset_lie = int64_t{1} << 62; },
      [](RawImage& raw) { raw.index_sections_lie = 1; },
      [](RawImage& raw) { raw.index_sections_lie = -1; },
      [](RawImage& raw) { raw.index_sections_lie = int64_t{1} << 40; },
      [](RawImage& raw) { raw.stored_pages += 1; },
      [](RawImage& raw) { raw.totals.set_stored(4); },
      [](RawImage& raw) { raw.chunks[0].offset_lie = 1; },
      [](RawImage& raw) { raw.chunks[1].offset_lie = int64_t{1} << 62; },
      [](RawImage& raw) { raw.chunks[0].frame_bytes_lie = 1; },
      [](RawImage& raw) { raw.chunks[0].frame_bytes_lie = int64_t{1} << 40; },
      [](RawImage& raw) { raw.chunks[1].frame_bytes_lie = 1; },
      [](RawImage& raw) { raw.chunks[1].frame_bytes_lie = -1; },
      [](RawImage& raw) { raw.chunks.pop_back(); },
      [](RawImage& raw) { raw.chunks[0].frame.clear(); },
      [](RawImage& raw) {  // A hash of no frame.
        raw.chunks.emplace_back().xxh3_lie = 1;
        *raw.chunks.back().runs.add_run() = MakeRun(PageRun::ZERO, 20, 1, 0, kShmem, PageRun::SHMEM);
      },
      [](RawImage& raw) {
        raw.chunks[0].index = {};
        for (const PageRun& run : SmallRuns()) *raw.chunks[0].index.add_run() = run;
        raw.chunks[0].index.mutable_run(2)->set_first(6);
      },
  };
  for (size_t i = 0; i < lies.size(); ++i) {
    RawImage raw = good;
    lies[i](raw);
    WriteFile(path_, raw.Build());
    EXPECT_NE(OpenCode(path_), Code::kExpectation) << i;
    EXPECT_EQ(VerifyCode(path_), Code::kCorrupt) << i;
  }
}

TEST_F(ImageReader, frames_that_are_not_what_the_runs_say) {
  const RawImage good = MakeRaw(SmallMachine(), {{MakeRun(PageRun::STORED, kAnonFirst, 4)}});
  const std::string page = PageOf(kMm, kAnonFirst);
  const std::vector<std::pair<std::string, std::string>> frames{
      {"no checksum", Frame(page + page + page + page, Checksum::kNo)},
      {"too short", Frame(page + page + page)},
      {"too long", Frame(page + page + page + page + page)},
      {"two frames", Frame(page + page) + Frame(page + page)},
      {"a bomb", Frame(std::string(50 << 20, '\0'))},
      {"skippable behind", good.chunks[0].frame + RawSection(77, 1, "x")},
      {"not zstd", std::string(1000, 'x')},
      {"cut", good.chunks[0].frame.substr(0, good.chunks[0].frame.size() - 1)},
  };
  for (const auto& [name, frame] : frames) {
    RawImage raw = good;
    raw.chunks[0].frame = frame;
    WriteFile(path_, raw.Build());
    const auto pages = ReadAll(path_);
    ASSERT_FALSE(pages) << name;
    EXPECT_EQ(pages.error().code, Code::kCorrupt) << pages.error().what;
    EXPECT_EQ(VerifyCode(path_), Code::kCorrupt) << name;
  }
  RawImage raw = good;
  raw.chunks[0].xxh3_lie = 1;
  WriteFile(path_, raw.Build());
  EXPECT_EQ(OpenCode(path_), Code::kExpectation);
  const auto pages = ReadAll(path_);
  ASSERT_FALSE(pages);
  EXPECT_NE(pages.error().what.find("checksum mismatch"), std::string::npos);
  EXPECT_EQ(VerifyCode(path_), Code::kCorrupt);
}

TEST_F(ImageReader, the_first_bad_frame_is_named_whatever_the_threads) {
  ASSERT_TRUE(Write(path_, SmallMachine(), {MakeRun(PageRun::STORED, kAnonFirst, 5000)}));
  std::vector<uint64_t> offsets;
  ASSERT_TRUE(
      (*image::Reader::Open(path_))->ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
        offsets.push_back(chunk.offset() + chunk.frame_bytes() / 2);
        return {};
      }));
  std::string bytes = ReadFile(path_);
  for (const size_t chunk : {6, 7, 9, 15}) bytes[offsets[chunk]] = static_cast<char>(~bytes[offsets[chunk]]);
  WriteFile(path_, bytes);
  std::set<std::string> errors;
  for (int i = 0; i < 20; ++i) {
    MemorySink sink;
    const auto result =
        (*image::Reader::Open(path_))->ReadPages(sink, {.threads = static_cast<unsigned>(1 + i % 4)});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kCorrupt);
    errors.insert(result.error().what);
  }
  EXPECT_EQ(errors.size(), 1u);
}

class RefusingSink : public MemorySink {
 public:
  base::Result<void> Place(const PageRun& run, std::vector<std::span<std::byte>>& pieces) override {
    if (run.stored() >= 1000) return base::Fail(Code::kNoMemory, "no frames left");
    return MemorySink::Place(run, pieces);
  }
};

TEST_F(ImageReader, an_error_of_the_sink_is_returned_as_it_is) {
  ASSERT_TRUE(Write(path_, SmallMachine(), {MakeRun(PageRun::STORED, kAnonFirst, 5000)}));
  for (const unsigned threads : {1, 3}) {
    RefusingSink sink;
    const auto result = (*image::Reader::Open(path_))->ReadPages(sink, {.threads = threads});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kNoMemory);
    EXPECT_EQ(result.error().what, "no frames left");
  }
}

TEST_F(ImageReader, stop_and_progress) {
  ASSERT_TRUE(Write(path_, SmallMachine(), {MakeRun(PageRun::STORED, kAnonFirst, 5000)}));
  const auto reader = image::Reader::Open(path_);
  uint64_t last = 0;
  MemorySink all;
  ASSERT_TRUE((*reader)->ReadPages(
      all, {.threads = 0, .stop = nullptr, .progress = [&](uint64_t pages) { last = pages; }}));
  EXPECT_EQ(last, 5000u);
  std::atomic<bool> stop = false;
  MemorySink some;
  const auto result =
      (*reader)->ReadPages(some, {.threads = 2, .stop = &stop, .progress = [&](uint64_t pages) {
                                    if (pages > 1000) stop = true;
                                  }});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kInterrupted);
  EXPECT_EQ(image::Verify(path_, {.threads = 2, .stop = &stop, .progress = {}}).error().code,
            Code::kInterrupted);
}

TEST_F(ImageReader, bad_metadata_is_refused_by_open) {
  image::Metadata metadata = SmallMachine();
  metadata.vmas[kMm].mutable_vma(0)->set_flags(0x73 | 0x4000);
  Expect(MakeRaw(metadata, {}), Code::kUnsupported, Code::kUnsupported, "flags 0x4000 cannot be restored");
  metadata = SmallMachine();
  metadata.processes.mutable_process(0)->set_mm_objref(kFile);
  Expect(MakeRaw(metadata, {}), Code::kWrongType, Code::kCorrupt, "is a file, not an mm");
}

TEST_F(ImageReader, C32_runs_that_lie) {
  const auto stored = [](uint64_t first, uint64_t count, uint64_t number = 0) {
    return MakeRun(PageRun::STORED, first, count, number);
  };
  const uint64_t end = kAnonFirst + kAnonPages + 16;
  const std::vector<std::vector<std::vector<PageRun>>> bad{
      {{stored(kAnonFirst - 1, 1)}},
      {{stored(kAnonFirst - 1, 2)}},
      {{stored(end, 1)}},
      {{stored(end - 1, 2)}},
      {{stored(0x100000, 1)}},  // A shared vma.
      {{stored(kAnonFirst, 0)}},
      {{stored(kAnonFirst, 257)}},
      {{stored(~uint64_t{0}, 1)}},
      {{MakeRun(PageRun::ZERO, 1, ~uint64_t{0})}},
      {{MakeRun(PageRun::ZERO, kAnonFirst, ~uint64_t{0} - kAnonFirst)}},
      {{stored(kAnonFirst, 2), stored(kAnonFirst + 1, 1, 2)}},
      {{stored(kAnonFirst + 5, 2), stored(kAnonFirst, 1, 2)}},
      {{stored(kAnonFirst, 1, 1)}},
      {{stored(kAnonFirst, 1), stored(kAnonFirst + 1, 1, 0)}},
      {{stored(kAnonFirst, 1)}, {stored(kAnonFirst, 1, 1)}},
      {{MakeRun(PageRun::SAME, kAnonFirst, 1, 0)}},
      {{stored(kAnonFirst, 2), MakeRun(PageRun::SAME, kAnonFirst + 2, 2, 1)}},
      {{stored(kAnonFirst, 2), MakeRun(PageRun::SAME, kAnonFirst + 2, 1, ~uint64_t{0})}},
      {{MakeRun(PageRun::ZERO, kAnonFirst, 1, 1)}},
      {{MakeRun(PageRun::ZERO, 0, 1, 0, 99)}},
      {{MakeRun(PageRun::ZERO, 0, 1, 0, kZero, PageRun::DISK)}},
      {{MakeRun(PageRun::ZERO, 60, 5, 0, kShmem, PageRun::SHMEM)}},
      {{MakeRun(PageRun::ZERO, 16, 1, 0, kFile, PageRun::DISK)}},
      {{}},
  };
  for (size_t i = 0; i < bad.size(); ++i) {
    WriteFile(path_, MakeRaw(SmallMachine(), bad[i]).Build());
    EXPECT_EQ(OpenCode(path_), Code::kInvalid) << i;
    EXPECT_EQ(VerifyCode(path_), Code::kCorrupt) << i;
  }
  for (const auto& [objref, owner] :
       {std::pair{kFile, PageRun::MM}, {kMm, PageRun::DISK}, {kFile, PageRun::SHMEM}}) {
    WriteFile(path_, MakeRaw(SmallMachine(), {{MakeRun(PageRun::ZERO, 0, 1, 0, objref, owner)}}).Build());
    EXPECT_EQ(OpenCode(path_), Code::kWrongType);
    EXPECT_EQ(VerifyCode(path_), Code::kCorrupt);
  }
  for (const auto& run : {MakeRun(static_cast<PageRun::Kind>(9), kAnonFirst, 1),
                          MakeRun(PageRun::ZERO, kAnonFirst, 1, 0, kMm, static_cast<PageRun::Owner>(9))}) {
    WriteFile(path_, MakeRaw(SmallMachine(), {{run}}).Build());
    EXPECT_EQ(OpenCode(path_), Code::kUnsupported);
    EXPECT_EQ(VerifyCode(path_), Code::kUnsupported);
  }
}

}  // namespace
