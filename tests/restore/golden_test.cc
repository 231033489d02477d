// Images that earlier versions wrote: what is in tests/golden/accept restarts, with the bytes that it had.
// (What is in tests/golden/refuse: tests/proto/golden_test.cc.) Files there are never changed; new ones come
// with what is new in the format, and CKPT_GOLDEN=1 has this test write the texts that are missing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "ckpt/model_source.h"
#include "proto/hash.h"
#include "proto/verify.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

const std::string kAccept = CKPT_SOURCE_DIR "/tests/golden/accept";

std::vector<std::string> ImagesIn(const std::string& folder) {
  std::vector<std::string> stems;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".ckpt") stems.push_back(entry.path().stem().string());
  std::ranges::sort(stems);
  return stems;
}

bool Making() { return std::getenv("CKPT_GOLDEN") != nullptr; }

// The text that belongs to an image; made where it is missing and that is asked for.
std::string Golden(const std::string& path, const std::string& now) {
  if (Making() && !std::filesystem::exists(path)) support::WriteFile(path, now);
  return support::ReadFile(path);
}

// What a load reads of each vma, whatever else is there: it must not change with versions of the model.
std::string Summary(Machine& machine) {
  ckpt::ModelSource source(machine, {});
  EXPECT_TRUE(source.Prepare().has_value());
  std::string text;
  PageBytes bytes;
  for (const ckpt_pb::Process& process : source.processes().process()) {
    text += base::Format("process %u '%s'\n", process.pid(), process.name().c_str());
    for (const ckpt_pb::Vma& vma : source.vmas(process.mm_objref()).vma()) {
      image::Digest digest;
      uint64_t past_end = 0;
      for (uint64_t page = vma.start() / kPage; page < vma.end() / kPage; ++page) {
        const ckpt::ContentRun run = source.NextContent(process.mm_objref(), page, page + 1);
        bytes.fill(std::byte{0});
        if (run.content == ckpt::Content::kBytes || run.content == ckpt::Content::kPristine) {
          EXPECT_TRUE(source.ReadContent(process.mm_objref(), page, bytes).has_value());
        }
        if (run.content == ckpt::Content::kSigbus) ++past_end;
        digest.Update(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
      }
      text += base::Format(
          "  %llx-%llx flags %llx sigbus %llu bytes %s\n", static_cast<unsigned long long>(vma.start()),
          static_cast<unsigned long long>(vma.end()), static_cast<unsigned long long>(vma.flags()),
          static_cast<unsigned long long>(past_end), image::Hex(digest.Get()).c_str());
    }
  }
  return text;
}

class GoldenAccept : public testing::TestWithParam<std::string> {};

TEST_P(GoldenAccept, Restarts) {
  const std::string image = kAccept + "/" + GetParam() + ".ckpt";
  const auto verified = image::Verify(image);
  ASSERT_TRUE(verified.has_value()) << verified.error().what;
  Trip trip;
  // With its ancestors beside it.
  for (const std::string& stem : ImagesIn(kAccept))
    std::filesystem::copy_file(kAccept + "/" + stem + ".ckpt", trip.path(stem + ".ckpt"));
  std::filesystem::rename(trip.path(GetParam() + ".ckpt"), trip.path());
  ASSERT_TRUE(trip.Open());
  const std::unique_ptr<Box> box = trip.Restore();
  ASSERT_NE(box, nullptr);
  const std::string now = Summary(box->machine());
  EXPECT_EQ(now, Golden(kAccept + "/" + GetParam() + ".txt", now));
}

INSTANTIATE_TEST_SUITE_P(Each, GoldenAccept, testing::ValuesIn(ImagesIn(kAccept)),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace mm
