// Images that are good, restored into a small machine of the model: the machine is whole afterwards, and its
// own image holds the same memory; or the image was refused with an error and nothing is left of the machine.
#include <unistd.h>

#include <filesystem>

#include "base/check.h"
#include "base/units.h"
#include "ckpt/dump.h"
#include "ckpt/model_source.h"
#include "mm/validate.h"
#include "proto/reader.h"
#include "restore/diff.h"
#include "restore/model_sink.h"
#include "restore/restore.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/image_mutator.h"

namespace fuzz {
namespace {

constexpr uint64_t kMemoryMax = uint64_t{16} << 20;
constexpr uint64_t kPagesMax = 4096;
constexpr uint64_t kNonlinearMax = 65536;
constexpr uint64_t kMappedMax = 65536;

// Whether a restart takes a moment, and looks at no file of the system.
bool IsSmall(const image::Reader& image) {
  const ckpt_pb::Machine& machine = image.machine();
  if (machine.memory_bytes() > kMemoryMax || machine.swap_bytes() > kMemoryMax) return false;
  if (image.stored_pages() > kPagesMax) return false;
  for (const ckpt_pb::File& file : image.files().file()) {
    const auto kind = file.recipe().kind();
    if (kind == ckpt_pb::Recipe::REAL || kind == ckpt_pb::Recipe::FOLDER) return false;
  }
  uint64_t nonlinear = 0;
  for (const ckpt_pb::Mm& mm : image.processes().mm()) {
    for (const ckpt_pb::NonlinearRun& run : image.vmas(mm.objref()).nonlinear()) nonlinear += run.count();
  }
  return nonlinear <= kNonlinearMax;
}

base::Result<std::unique_ptr<mm::Machine>> Restored(const image::Reader& image, restore::DropPastEof drop) {
  auto sink = TRY(restore::ModelSink::Create(image.machine(), "", &image.guest()));
  restore::RestoreOptions options;
  options.read.threads = 1;
  options.plan.drop_past_eof = drop;
  TRY(restore::Restore(image, *sink, options));
  std::unique_ptr<mm::Machine> machine = sink->TakeMachine();
  const auto broken = mm::Validate(*machine, mm::Depth::kDeep);
  CHECK_MSG(!broken, "restored, and it breaks " + broken.value_or(""));
  return machine;
}

uint64_t MappedPages(const image::Reader& image) {
  uint64_t bytes = 0;
  for (const ckpt_pb::Mm& mm : image.processes().mm()) {
    for (const ckpt_pb::Vma& vma : image.vmas(mm.objref()).vma()) bytes += vma.end() - vma.start();
  }
  return bytes / base::kPageSize;
}

// The machine's own image, if it has one, holds the same memory.
void SaveAndCompare(mm::Machine& machine, ckpt_pb::Machine::Scope scope) {
  static const std::string path =
      std::filesystem::temp_directory_path() / ("restore_fuzz-" + std::to_string(getpid()));
  {
    ckpt::ModelSource source(machine, {.pids = {}, .label = "again", .scope = scope});
    ckpt::DumpOptions options;
    options.write.threads = 1;
    options.write.sync = image::Sync::kNo;
    if (!ckpt::Dump(source, path, options)) return;
  }
  const auto image = image::Reader::Open(path);
  CHECK_MSG(image.has_value(), "saved, and not opened: " + image.error().what);
  const auto again = Restored(**image, restore::DropPastEof::kNo);
  std::filesystem::remove(path);
  if (!again && again.error().code == base::Code::kNoMemory) return;
  CHECK_MSG(again.has_value(), "saved, and not restored: " + again.error().what);
  ckpt::ModelSource before(machine, {});
  ckpt::ModelSource after(**again, {});
  if (!before.Prepare()) return;
  CHECK(after.Prepare());
  const auto report = restore::Diff(before, after, {});
  CHECK_MSG(report.has_value(), report.error().what);
  CHECK_MSG(report->same(), "saved and restored, and differs: " + report->differences.front().what);
}

}  // namespace

void Run(std::string_view input) {
  static MemoryFile file;
  file.Set(input);
  const auto image = image::Reader::Open(file.path());
  if (!image || !IsSmall(**image)) return;
  const bool drop = (*image)->digest().front() % 2 == 0;
  const auto machine = Restored(**image, drop ? restore::DropPastEof::kYes : restore::DropPastEof::kNo);
  if (machine && MappedPages(**image) <= kMappedMax) SaveAndCompare(**machine, (*image)->machine().scope());
}

std::map<std::string, std::string> Seeds() {
  std::map<std::string, std::string> seeds = FilesOf("tests/golden/accept", ".ckpt");
  for (auto& [name, image] : seeds) image = WithMemory(image, kMemoryMax);
  return seeds;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max, unsigned seed) {
  const ImageLimits limits{.bytes_max = size_max, .memory_max = kMemoryMax};
  return Put(ChangedImage({reinterpret_cast<const char*>(data), size}, seed, limits), data, size_max);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* one, size_t one_size, const uint8_t* two,
                                            size_t two_size, uint8_t* out, size_t size_max, unsigned seed) {
  const ImageLimits limits{.bytes_max = size_max, .memory_max = kMemoryMax};
  const std::string other(reinterpret_cast<const char*>(two), two_size);
  return Put(CrossedImage({reinterpret_cast<const char*>(one), one_size}, other, seed, limits), out,
             size_max);
}

}  // namespace fuzz
