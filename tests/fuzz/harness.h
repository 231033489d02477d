// What every fuzz target has: libFuzzer calls Run with inputs that it makes from those of Seeds and from what
// it found before. Whatever the input, Run must return: a CHECK that fails, a sanitizer's finding, a line
// that protobuf prints, too much memory or too much time is a finding. A target's program is called by
// scripts/fuzz; with
// "--make-corpus FOLDER" it writes its seeds there instead.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/random.h"

namespace fuzz {

// ---- what each target defines ----

void Run(std::string_view input);
// Inputs to begin with, by the name of their file.
std::map<std::string, std::string> Seeds();

// A target that knows what its inputs mean changes them itself, by LLVMFuzzerCustomMutator of libFuzzer,
// whose words these are: `size` bytes at `data`, with room for `size_max`.
size_t Put(const std::string& changed, uint8_t* data, size_t size_max);
// Bytes changed as libFuzzer does it; at most `size_max` of them.
std::string ChangedBytes(const std::string& bytes, size_t size_max);

// ---- for their inputs ----

// The bytes of every file of a folder of the source with this ending, by name.
std::map<std::string, std::string> FilesOf(const std::string& folder, const std::string& ending);
// The images of tests/golden/accept that targets build on. Their order is part of the inputs: add behind.
const std::string& GoldenImage(size_t number);

// A file without a name whose content is changed between runs. One for the process.
class MemoryFile {
 public:
  MemoryFile();
  // Has these bytes from now on, and no others.
  void Set(std::string_view bytes);
  // What opens it.
  const std::string& path() const { return path_; }

 private:
  int fd_;
  std::string path_;
};

}  // namespace fuzz
