// Whole images: who reads one and who verifies it agree on whether it is good, and on what it is. Errors are
// one line that names the file.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "proto/reader.h"
#include "proto/verify.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/image_mutator.h"

namespace fuzz {
namespace {

using base::Code;

constexpr uint64_t kPagesMax = 4096;

// Room for so many pages, and checks that they come as image/reader.h says.
class PageStore : public image::PageSink {
 public:
  base::Result<void> Place(const ckpt_pb::PageRun& run, std::vector<std::span<std::byte>>& pieces) override {
    const bool is_stored = run.kind() == ckpt_pb::PageRun::STORED;
    CHECK(pieces.empty() && (is_stored || run.kind() == ckpt_pb::PageRun::COPY));
    CHECK(run.stored() == named_);
    if (run.count() > kPagesMax - std::min(kPagesMax, placed_ + copied_))
      return base::Fail(Code::kNoMemory, "more pages than there is room for");
    (is_stored ? placed_ : copied_) += run.count();
    named_ += run.count();
    pages_.emplace_back(run.count() * base::kPageSize);
    pieces.emplace_back(pages_.back());
    return {};
  }
  base::Result<void> Same(const ckpt_pb::PageRun& run) override {
    CHECK(run.count() <= named_ && run.stored() <= named_ - run.count());
    return {};
  }
  base::Result<void> Zero(const ckpt_pb::PageRun& run) override {
    if (run.owner() != ckpt_pb::PageRun::DISK) named_ += run.count();
    return {};
  }

  uint64_t placed() const { return placed_; }

 private:
  uint64_t placed_ = 0;
  uint64_t copied_ = 0;
  uint64_t named_ = 0;
  std::vector<std::vector<std::byte>> pages_;
};

void CheckWords(const base::Error& error, const std::string& path) {
  CHECK_MSG(error.what.starts_with(path + ": "), error.what);
  CHECK_MSG(error.what.find('\n') == std::string::npos, error.what);
  switch (error.code) {
    case Code::kInvalid:
    case Code::kWrongType:
    case Code::kTooBig:
    case Code::kUnsupported:
    case Code::kIncomplete:
    case Code::kCorrupt: return;
    default: CHECK_MSG(false, std::string(base::CodeName(error.code)) + ": " + error.what);
  }
}

}  // namespace

void Run(std::string_view input) {
  static MemoryFile file;
  file.Set(input);
  const auto verified = image::Verify(file.path(), {.threads = 1});
  if (!verified) CheckWords(verified.error(), file.path());
  const auto reader = image::Reader::Open(file.path(), {.parents = image::Parents::kLeave});
  if (!reader) {
    CheckWords(reader.error(), file.path());
    CHECK_MSG(!verified, "verified, and not opened: " + reader.error().what);
    return;
  }
  if ((*reader)->stored_pages() > kPagesMax || (*reader)->metadata().is_child()) return;
  PageStore store;
  const auto read = (*reader)->ReadPages(store, {.threads = 1});
  if (!read && read.error().code == Code::kNoMemory) return;
  if (!read) {
    CheckWords(read.error(), file.path());
    CHECK_MSG(!verified, "verified, and not read: " + read.error().what);
    return;
  }
  CHECK_MSG(verified.has_value(), "read, and not verified: " + verified.error().what);
  CHECK(verified->digest == (*reader)->digest() && verified->bytes == input.size());
  CHECK(verified->stored_pages == store.placed());
}

std::map<std::string, std::string> Seeds() {
  std::map<std::string, std::string> seeds = FilesOf("tests/golden/accept", ".ckpt");
  seeds.merge(FilesOf("tests/golden/refuse", ".ckpt"));
  return seeds;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max, unsigned seed) {
  return Put(ChangedImage({reinterpret_cast<const char*>(data), size}, seed, {.bytes_max = size_max}), data,
             size_max);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* one, size_t one_size, const uint8_t* two,
                                            size_t two_size, uint8_t* out, size_t size_max, unsigned seed) {
  const std::string other(reinterpret_cast<const char*>(two), two_size);
  return Put(
      CrossedImage({reinterpret_cast<const char*>(one), one_size}, other, seed, {.bytes_max = size_max}), out,
      size_max);
}

}  // namespace fuzz
