// execve in the model: a real ELF file becomes the address space of a modelled process.
//
// As in 2.6.34 without randomisation: the text is mapped private from the file, so is the data; what
// of the data's last page lies behind the file is zeroed by a store, which breaks COW on that page;
// bss is anonymous; the program break starts behind it. A movable program (ET_DYN) goes to
// kLoadBias, its interpreter below the other mappings, the stack to the top of user space with the
// strings, pointers and auxiliary vector that a program finds on it, and the machine's vdso to its
// place (not for 32-bit programs: it lies out of their reach). No instruction is ever run.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "mm/machine.h"

namespace workload {

inline constexpr mm::Vaddr kLoadBias = 0x555555554000;
inline constexpr mm::Vaddr kLoadBias32 = 0x56555000;
inline constexpr uint64_t kArgBytesMax = 128 * 1024;

// The regions that a program has after exec. "heap" is there in every process: it is what brk made.
inline constexpr std::string_view kHeapRegion = "heap";
inline constexpr std::string_view kStackRegion = "stack";
inline constexpr std::array<std::string_view, 6> kExecRegions = {"text",       "data", "bss",
                                                                 kStackRegion, "vdso", "interp"};

// A named piece of an address space.
struct Region {
  mm::Vaddr start = 0;
  uint64_t length = 0;  // bytes
  mm::Vaddr end() const { return start + length; }
};

struct ExecRequest {
  mm::FilePtr file;
  std::string name;  // for AT_EXECFN and for errors
  std::vector<std::string> args;
  std::vector<std::string> env;
  uint64_t seed = 0;  // of the 16 bytes at AT_RANDOM
  // Finds the interpreter that the program asks for.
  std::function<base::Result<mm::FilePtr>(const std::string& path)> open;
};

// Replaces the address space of `process`. The regions that the program has come back by name:
// "text" and "data" are the first segments that may be executed and written. On an error the process
// keeps its old address space. kInvalid: not a program that can be mapped; kTooBig: more than
// kArgBytesMax of strings; kNoMemory; errors of `open`.
base::Result<std::vector<std::pair<std::string, Region>>> Exec(mm::Machine& machine, mm::Process& process,
                                                               const ExecRequest& request);

}  // namespace workload
