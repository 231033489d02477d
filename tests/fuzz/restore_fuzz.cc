// Images that are good, restored into a small machine of the model: the machine is whole afterwards, or the
// image was refused with an error and nothing is left of the machine.
#include "base/check.h"
#include "mm/validate.h"
#include "proto/reader.h"
#include "restore/model_sink.h"
#include "restore/restore.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/image_mutator.h"

namespace fuzz {
namespace {

constexpr uint64_t kMemoryMax = uint64_t{16} << 20;
constexpr uint64_t kPagesMax = 4096;
constexpr uint64_t kNonlinearMax = 65536;

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

// What a kernel knows of its guest is judged, and what the vmas of an image say as well.
void CheckMachine(const mm::Machine& machine) {
  const auto broken = mm::Validate(machine, mm::Depth::kDeep);
  CHECK_MSG(!broken, "restored, and it breaks " + broken.value_or(""));
}

}  // namespace

void Run(std::string_view input) {
  static MemoryFile file;
  file.Set(input);
  const auto image = image::Reader::Open(file.path());
  if (!image || !IsSmall(**image)) return;
  auto sink = restore::ModelSink::Create((*image)->machine(), "", &(*image)->guest());
  if (!sink) return;
  restore::RestoreOptions options;
  options.read.threads = 1;
  if ((*image)->digest().front() % 2 == 0) options.plan.drop_past_eof = restore::DropPastEof::kYes;
  const auto report = restore::Restore(**image, **sink, options);
  if (report) CheckMachine(*(*sink)->TakeMachine());
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
