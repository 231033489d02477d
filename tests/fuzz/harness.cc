#include "tests/fuzz/harness.h"

#include <google/protobuf/stubs/logging.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/check.h"
#include "tests/support/support.h"

namespace {

bool g_running = false;

// Only errors say what is wrong with an input. What mutators try is nobody's affair.
void Heard(google::protobuf::LogLevel, const char*, int, const std::string& message) {
  CHECK_MSG(!g_running, "protobuf prints: " + message);
}

}  // namespace

extern "C" {
size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  g_running = true;
  fuzz::Run(std::string_view(reinterpret_cast<const char*>(data), size));
  g_running = false;
  return 0;
}

int LLVMFuzzerInitialize(int* argc, char*** argv) {
  google::protobuf::SetLogHandler(Heard);
  if (*argc != 3 || std::strcmp((*argv)[1], "--make-corpus") != 0) return 0;
  for (const auto& [name, bytes] : fuzz::Seeds()) {
    support::WriteFile(std::filesystem::path((*argv)[2]) / name, bytes);
  }
  std::exit(0);
}
}

namespace fuzz {

size_t Put(const std::string& changed, uint8_t* data, size_t size_max) {
  const size_t size = std::min(changed.size(), size_max);
  std::memcpy(data, changed.data(), size);
  return size;
}

std::string ChangedBytes(const std::string& bytes, size_t size_max) {
  std::vector<uint8_t> room(std::max({size_max, bytes.size(), size_t{1}}));
  std::memcpy(room.data(), bytes.data(), bytes.size());
  const size_t size = LLVMFuzzerMutate(room.data(), bytes.size(), room.size());
  return {reinterpret_cast<const char*>(room.data()), std::min(size, size_max)};
}

std::map<std::string, std::string> FilesOf(const std::string& folder, const std::string& ending) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_SOURCE_DIR "/" + folder)) {
    if (entry.path().extension() != ending) continue;
    files[entry.path().filename()] = support::ReadFile(entry.path());
  }
  CHECK(!files.empty());
  return files;
}

const std::string& GoldenImage(size_t number) {
  static const std::vector<std::string> images = [] {
    std::vector<std::string> read;
    for (const char* name : {"truncate_after_write", "fork", "nonlinear", "hole_punch", "shared_memory",
                             "truncate_then_extend_guest", "nonlinear_guest", "fork_guest"}) {
      read.push_back(
          support::ReadFile(CKPT_SOURCE_DIR "/tests/golden/accept/" + std::string(name) + ".ckpt"));
      CHECK_MSG(!read.back().empty(), name);
    }
    return read;
  }();
  return images[number % images.size()];
}

MemoryFile::MemoryFile() : fd_(memfd_create("input", MFD_CLOEXEC)) {
  CHECK(fd_ >= 0);
  path_ = "/proc/self/fd/" + std::to_string(fd_);
}

void MemoryFile::Set(std::string_view bytes) {
  CHECK(ftruncate(fd_, 0) == 0);
  CHECK(pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
}

}  // namespace fuzz
