#include "proto/writer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/random.h"
#include "proto/verify.h"
#include "tests/proto/image_fixture.h"
#include "tests/support/support.h"

namespace {

using namespace fixture;
using base::Code;
using image::WriteOptions;

std::vector<std::string> Names(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  return names;
}

// Writes, verifies, reads in both ways, compares.
image::VerifyReport RoundTrip(const std::vector<PageRun>& runs, unsigned threads = 2) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  const auto summary = Write(path, SmallMachine(), runs, {.threads = threads});
  EXPECT_TRUE(summary) << summary.error().what;
  if (!summary) return {};
  const auto report = image::Verify(path, {.threads = threads});
  EXPECT_TRUE(report) << report.error().what;
  if (!report) return {};
  EXPECT_EQ(report->digest, summary->digest);
  EXPECT_EQ(report->bytes, std::filesystem::file_size(path));
  EXPECT_EQ(summary->bytes, report->bytes);
  EXPECT_EQ(report->stored_pages, summary->stored_pages);
  const auto reader = image::Reader::Open(path);
  EXPECT_TRUE(reader) << reader.error().what;
  if (!reader) return {};
  EXPECT_EQ((*reader)->digest(), summary->digest);
  EXPECT_EQ((*reader)->totals().stored(), summary->stored_pages);
  for (const auto pieces : {MemorySink::Pieces::kContiguous, MemorySink::Pieces::kScattered}) {
    MemorySink sink(pieces);
    const auto read = (*reader)->ReadPages(sink, {.threads = threads});
    EXPECT_TRUE(read) << read.error().what;
    EXPECT_TRUE(sink.Pages() == Expected(runs));
  }
  return *report;
}

TEST(ImageWriter, zero_pages) {
  const auto report = RoundTrip({});
  EXPECT_EQ(report.chunks, 0u);
  EXPECT_EQ(report.stored_pages, 0u);
}

TEST(ImageWriter, all_kinds_and_owners) {
  const auto report =
      RoundTrip({MakeRun(PageRun::STORED, kAnonFirst + 5, 300), MakeRun(PageRun::ZERO, kAnonFirst + 400, 7),
                 MakeRun(PageRun::SAME, kAnonFirst + 5, 299, 0, kMm2),
                 MakeRun(PageRun::STORED, kAnonFirst + 304, 3, 0, kMm2),
                 MakeRun(PageRun::STORED, 3, 5, 0, kShmem, PageRun::SHMEM),
                 MakeRun(PageRun::ZERO, 9, 1, 0, kShmem, PageRun::SHMEM),
                 MakeRun(PageRun::STORED, 0, 16, 0, kFile, PageRun::DISK)});
  EXPECT_EQ(report.stored_pages, 300u + 3 + 5 + 16);
}

TEST(ImageWriter, only_same_and_zero_has_a_chunk_without_frame) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  ASSERT_TRUE(Write(path, SmallMachine(),
                    {MakeRun(PageRun::STORED, kAnonFirst, 256), MakeRun(PageRun::ZERO, kAnonFirst + 300, 9),
                     MakeRun(PageRun::SAME, kAnonFirst, 256, 0, kMm2)}));
  std::vector<ckpt_pb::Chunk> chunks;
  const auto reader = image::Reader::Open(path);
  ASSERT_TRUE(reader) << reader.error().what;
  ASSERT_TRUE((*reader)->ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    chunks.push_back(chunk);
    return {};
  }));
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_GT(chunks[0].frame_bytes(), 0u);
  EXPECT_EQ(chunks[1].frame_bytes(), 0u);
  EXPECT_EQ(chunks[1].run_size(), 2);
}

TEST(ImageWriter, C16_chunk_boundaries) {
  for (const uint64_t pages : {1, 255, 256, 257, 511, 512, 513, 8192, 8193}) {
    const auto report = RoundTrip({MakeRun(PageRun::STORED, kAnonFirst, pages)});
    EXPECT_EQ(report.chunks, (pages + 255) / 256) << pages;
    EXPECT_EQ(report.stored_pages, pages);
  }
}

TEST(ImageWriter, C17_alternating_pages_fill_chunks) {
  std::vector<PageRun> runs;
  for (uint64_t page = 0; page < 20000; page += 2)
    runs.push_back(MakeRun(PageRun::STORED, kAnonFirst + page, 1));
  const auto report = RoundTrip(runs);
  EXPECT_EQ(report.chunks,
            40u);  // Holes cost no place in a chunk: 10000 pages in 39 whole chunks and one of 16.
}

TEST(ImageWriter, C18_a_run_that_ends_with_its_chunk) {
  EXPECT_EQ(
      RoundTrip({MakeRun(PageRun::STORED, kAnonFirst, 200), MakeRun(PageRun::STORED, kAnonFirst + 300, 56)})
          .chunks,
      1u);
  // Exactly to the end of the last private vma, over the border between the two.
  EXPECT_EQ(RoundTrip({MakeRun(PageRun::STORED, kAnonFirst + kAnonPages + 16 - 256, 256)}).chunks, 1u);
}

TEST(ImageWriter, adjacent_runs_become_one) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  std::vector<PageRun> runs;
  for (uint64_t page = 0; page < 100; ++page) runs.push_back(MakeRun(PageRun::STORED, kAnonFirst + page, 1));
  for (uint64_t page = 0; page < 100; ++page)
    runs.push_back(MakeRun(PageRun::SAME, kAnonFirst + page, 1, page, kMm2));
  for (uint64_t page = 200; page < 300; ++page)
    runs.push_back(MakeRun(PageRun::ZERO, kAnonFirst + page, 1, 77, kMm2));
  runs.push_back(MakeRun(PageRun::SAME, kAnonFirst + 300, 1, 5, kMm2));
  runs.push_back(MakeRun(PageRun::SAME, kAnonFirst + 301, 1, 5, kMm2));  // Follows in place, not in number.
  ASSERT_TRUE(Write(path, SmallMachine(), runs));
  int count = 0;
  ASSERT_TRUE(
      (*image::Reader::Open(path))->ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
        count += chunk.run_size();
        return {};
      }));
  EXPECT_EQ(count, 5);
  EXPECT_TRUE(*ReadAll(path) == Expected(runs));
}

TEST(ImageWriter, many_runs_without_pages_are_cut_into_chunks) {
  std::vector<PageRun> runs{MakeRun(PageRun::STORED, kAnonFirst, 1)};
  for (uint64_t page = 0; page < 30000; page += 2)
    runs.push_back(MakeRun(PageRun::SAME, kAnonFirst + page, 1, 0, kMm2));
  EXPECT_EQ(RoundTrip(runs).chunks, (runs.size() + image::kChunkRunsMax - 1) / image::kChunkRunsMax);
}

TEST(ImageWriter, index_of_several_sections) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  std::vector<PageRun> runs{MakeRun(PageRun::STORED, kAnonFirst, 1)};
  for (uint64_t page = 0; page < kAnonPages; page += 2) {
    runs.push_back(MakeRun(PageRun::ZERO, kAnonFirst + page, 1, 0, kMm2));
    if (page > 0) runs.push_back(MakeRun(PageRun::SAME, kAnonFirst + page, 1, 0));
  }
  ASSERT_TRUE(Write(path, SmallMachine(), runs));
  const std::string bytes = support::ReadFile(path);
  const auto footer = image::DecodeFooter(std::string_view(bytes).substr(bytes.size() - image::kFooterBytes),
                                          bytes.size(), image::kEnvelopeBytes);
  ASSERT_TRUE(footer);
  EXPECT_GE(footer->index_sections, 2u);
  EXPECT_TRUE(image::Verify(path));
  EXPECT_EQ(ReadAll(path)->size(), kAnonPages);
}

TEST(ImageWriter, random_runs) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    base::Random random(seed);
    std::vector<PageRun> runs;
    uint64_t stored = 0;
    for (const uint32_t objref : {kMm, kMm2}) {
      uint64_t page = kAnonFirst + random.Below(10);
      for (uint64_t i = 0; i < 400; ++i) {
        const uint64_t kind = random.Below(4);
        uint64_t count = 1 + random.Below(random.Below(20) == 0 ? 700 : 6);
        if (kind == 0 && stored > 0) {
          count = std::min(count, stored);
          runs.push_back(MakeRun(PageRun::SAME, page, count, random.Below(stored - count + 1), objref));
        } else if (kind == 1) {
          runs.push_back(MakeRun(PageRun::ZERO, page, count, 0, objref));
        } else {
          runs.push_back(MakeRun(PageRun::STORED, page, count, stored, objref));
          stored += count;
        }
        page += count + (random.Below(2) == 0 ? 0 : random.Below(9));
      }
    }
    EXPECT_EQ(RoundTrip(runs, static_cast<unsigned>(1 + seed % 3)).stored_pages, stored);
  }
}

TEST(ImageWriter, same_bytes_for_any_number_of_threads) {
  const support::TempDir folder;
  std::vector<PageRun> runs;
  for (uint64_t page = 0; page < 3000; page += 3)
    runs.push_back(MakeRun(PageRun::STORED, kAnonFirst + page, 2));
  std::string first;
  for (const unsigned threads : {1, 2, 4, 100}) {
    const std::string path = folder / "image";
    ASSERT_TRUE(Write(path, SmallMachine(), runs, {.threads = threads, .sync = image::Sync::kNo}));
    if (threads == 1) first = support::ReadFile(path);
    EXPECT_TRUE(support::ReadFile(path) == first) << threads;
  }
}

TEST(ImageWriter, a_long_list_of_vmas_is_cut) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  image::Metadata metadata = SmallMachine();
  metadata.workload_state = std::string("state\0of the workload", 21);
  ckpt_pb::Vmas& vmas = metadata.vmas[kMm];
  vmas.clear_vma();
  for (uint64_t i = 0; i < 60000; ++i) {
    ckpt_pb::Vma& vma = *vmas.add_vma();
    vma.set_start((kAnonFirst + 2 * i) * kPageSize);
    vma.set_end((kAnonFirst + 2 * i + 1) * kPageSize);
    vma.set_flags(0x73);
  }
  metadata.processes.mutable_mm(0)->set_map_count(60000);
  ASSERT_TRUE(Write(path, metadata, {}));
  const auto reader = image::Reader::Open(path);
  ASSERT_TRUE(reader) << reader.error().what;
  EXPECT_EQ(image::Serialize((*reader)->vmas(kMm)), image::Serialize(vmas));
  EXPECT_EQ((*reader)->vmas(kMm2).vma_size(), 4);
  EXPECT_EQ((*reader)->vmas(999).vma_size(), 0);
  EXPECT_EQ((*reader)->workload_state(), metadata.workload_state);
  EXPECT_EQ((*reader)->machine().label(), "base");
  EXPECT_EQ((*reader)->files().file_size(), 3);
  EXPECT_EQ((*reader)->processes().process_size(), 2);
  const auto report = image::Verify(path);
  ASSERT_TRUE(report);
  EXPECT_GE(report->sections, 3u + 3 + 1 + 1);
}

TEST(ImageWriter, names_need_not_be_utf8) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  image::Metadata metadata = SmallMachine();
  metadata.files.mutable_file(0)->set_name("caf\xe9");
  ASSERT_TRUE(Write(path, metadata, {}));
  EXPECT_EQ((*image::Reader::Open(path))->files().file(0).name(), "caf\xe9");
}

TEST(ImageWriter, runs_that_cannot_follow_are_refused) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  const std::vector<std::vector<PageRun>> bad{
      {MakeRun(PageRun::STORED, kAnonFirst, 0)},
      {MakeRun(PageRun::STORED, kAnonFirst + 5, 5), MakeRun(PageRun::STORED, kAnonFirst + 9, 1)},
      {MakeRun(PageRun::STORED, kAnonFirst + 5, 5), MakeRun(PageRun::ZERO, kAnonFirst, 1)},
      {MakeRun(PageRun::STORED, kAnonFirst, 5), MakeRun(PageRun::SAME, kAnonFirst, 5, 1, kMm2)},
      {MakeRun(PageRun::SAME, kAnonFirst, 1, 0)},
      {MakeRun(PageRun::ZERO, ~uint64_t{0}, 1)},
      {MakeRun(PageRun::ZERO, 1, ~uint64_t{0})}};
  for (const auto& runs : bad) {
    const auto result = Write(path, SmallMachine(), runs);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kInvalid);
    EXPECT_TRUE(Names(folder.path()).empty());
  }
}

TEST(ImageWriter, a_page_that_cannot_be_read_leaves_the_old_image) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  ASSERT_TRUE(Write(path, SmallMachine(), {}));
  const std::string old = support::ReadFile(path);
  FakePages pages;
  pages.fail_at_page = kAnonFirst + 3000;
  for (const unsigned threads : {1, 2, 4}) {
    const auto result = Write(path, SmallMachine(), {MakeRun(PageRun::STORED, kAnonFirst, 20000)},
                              {.threads = threads}, pages);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().what, "page 42 cannot be read");
    EXPECT_EQ(support::ReadFile(path), old);
    EXPECT_EQ(Names(folder.path()), std::vector<std::string>{"image"});
  }
}

TEST(ImageWriter, a_full_disk_leaves_the_old_image) {
  const support::TempDir folder;
  const std::string path = folder / "image";
  ASSERT_TRUE(Write(path, SmallMachine(), {}));
  const std::string old = support::ReadFile(path);
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {10, 100, 600, 5000, 400000, 3000000}) {
    struct rlimit less = before;
    less.rlim_cur = limit;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &less), 0);
    const auto result = Write(path, SmallMachine(), {MakeRun(PageRun::STORED, kAnonFirst, 2000)});
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_FALSE(result) << limit;
    EXPECT_EQ(result.error().code, Code::kIo);
    EXPECT_NE(result.error().what.find("image: cannot write at offset"), std::string::npos)
        << result.error().what;
    EXPECT_EQ(support::ReadFile(path), old);
    EXPECT_EQ(Names(folder.path()), std::vector<std::string>{"image"});
  }
  signal(SIGXFSZ, handler);
}

TEST(ImageWriter, an_error_stays) {
  const support::TempDir folder;
  FakePages pages;
  pages.fail_at_page = kAnonFirst;
  auto writer = *image::Writer::Create(folder / "image", pages, {.threads = 1});
  ASSERT_TRUE(AddMetadata(*writer, SmallMachine()));
  ASSERT_TRUE(writer->AddRun(MakeRun(PageRun::STORED, kAnonFirst, 256)));
  ASSERT_FALSE(writer->AddRun(MakeRun(PageRun::STORED, kAnonFirst + 256, 256)));
  EXPECT_EQ(writer->AddRun(MakeRun(PageRun::STORED, kAnonFirst + 512, 1)).error().what,
            "page 42 cannot be read");
  EXPECT_EQ(writer->Commit({}).error().what, "page 42 cannot be read");
}

TEST(ImageWriter, numbers_of_stored_pages) {
  const support::TempDir folder;
  const FakePages pages;
  auto writer = *image::Writer::Create(folder / "image", pages, {});
  ASSERT_TRUE(AddMetadata(*writer, SmallMachine()));
  EXPECT_EQ(*writer->AddRun(MakeRun(PageRun::STORED, kAnonFirst, 300, 999)), 0u);
  EXPECT_EQ(*writer->AddRun(MakeRun(PageRun::STORED, kAnonFirst + 300, 1, 7)), 300u);
  ASSERT_TRUE(writer->AddRun(MakeRun(PageRun::SAME, kAnonFirst, 1, 300, kMm2)));
  EXPECT_EQ(*writer->AddRun(MakeRun(PageRun::STORED, kAnonFirst + 301, 1)), 301u);
  ASSERT_TRUE(writer->Commit({}));
  EXPECT_EQ(writer->Commit({}).error().what, "already committed");
}

TEST(ImageWriter, without_commit_nothing_is_left) {
  const support::TempDir folder;
  {
    const FakePages pages;
    auto writer = *image::Writer::Create(folder / "image", pages, {});
    ASSERT_TRUE(AddMetadata(*writer, SmallMachine()));
    ASSERT_TRUE(writer->AddRun(MakeRun(PageRun::STORED, kAnonFirst, 5000)));
    EXPECT_EQ(Names(folder.path()).size(), 1u);
  }
  EXPECT_TRUE(Names(folder.path()).empty());
}

TEST(ImageWriter, stop) {
  const support::TempDir folder;
  std::atomic<bool> stop = false;
  WriteOptions options;
  options.stop = &stop;
  uint64_t seen = 0;
  options.progress = [&](uint64_t pages_done) {
    seen = pages_done;
    if (pages_done >= 1024) stop = true;
  };
  const auto result =
      Write(folder / "image", SmallMachine(), {MakeRun(PageRun::STORED, kAnonFirst, 5000)}, options);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kInterrupted);
  EXPECT_EQ(seen, 1024u);
  EXPECT_TRUE(Names(folder.path()).empty());
}

// Pages whose reading is when the user asks to stop.
class StoppingPages final : public image::PageBytes {
 public:
  base::Result<void> Read(const PageRun& run, std::span<std::byte> out) const override {
    stop = true;
    ++reads;
    return FakePages().Read(run, out);
  }
  mutable std::atomic<bool> stop = false;
  mutable std::atomic<unsigned> reads = 0;
};

TEST(ImageWriter, stop_does_not_wait_for_what_was_submitted) {
  const support::TempDir folder;
  for (const unsigned threads : {1u, 4u}) {
    const StoppingPages pages;
    auto writer = *image::Writer::Create(folder / "image", pages,
                                         {.level = 19, .threads = threads, .stop = &pages.stop});
    ASSERT_TRUE(AddMetadata(*writer, SmallMachine()));
    const auto added = writer->AddRun(MakeRun(PageRun::STORED, kAnonFirst, 8 * image::kChunkPagesMax));
    const auto result = writer->Commit({});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kInterrupted);
    EXPECT_LE(pages.reads, threads) << "what had begun, and no other chunk";
    writer.reset();
    EXPECT_TRUE(Names(folder.path()).empty());
  }
}

TEST(ImageWriter, places_that_cannot_be_written) {
  const support::TempDir folder;
  const FakePages pages;
  const auto code = [&](const std::string& path) {
    const auto writer = image::Writer::Create(path, pages, {});
    EXPECT_FALSE(writer) << path;
    return writer ? Code::kBusy : writer.error().code;
  };
  std::filesystem::create_directory(folder / "folder");
  support::WriteFile(folder / "file", "");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  EXPECT_EQ(code(folder / "folder"), Code::kInvalid);
  EXPECT_EQ(code(folder / "no/image"), Code::kNotFound);
  EXPECT_EQ(code(folder / "file/image"), Code::kIo);
  EXPECT_EQ(code(folder / "dangling"), Code::kNotFound);
  EXPECT_EQ(code(std::string(folder / "x") + "/"), Code::kInvalid);
  EXPECT_EQ(code(folder / std::string(300, 'x')), Code::kIo);
  EXPECT_EQ(code(""), Code::kInvalid);
  EXPECT_EQ(code("/dev/null"), Code::kInvalid);
  EXPECT_EQ(Names(folder.path()).size(), 3u);
  EXPECT_FALSE(image::Writer::Create(folder / "image", pages, {.level = 0}));
  EXPECT_FALSE(image::Writer::Create(folder / "image", pages, {.level = 20}));
}

TEST(ImageWriter, a_symbolic_link_is_followed_and_the_image_is_private) {
  const support::TempDir folder;
  support::WriteFile(folder / "target", "old");
  std::filesystem::create_symlink("target", folder / "link");
  ASSERT_TRUE(Write(folder / "link", SmallMachine(), {}));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_TRUE(image::Verify(folder / "target"));
  struct stat status;
  ASSERT_EQ(stat((folder / "target").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST(ImageWriter, a_section_over_its_cap_is_refused) {
  const support::TempDir folder;
  image::Metadata metadata = SmallMachine();
  metadata.machine.set_label(std::string(image::kSmallSectionBytesMax, 'x'));
  const auto result = Write(folder / "image", metadata, {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kTooBig);
}

}  // namespace
