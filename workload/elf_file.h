// The parts of an ELF file that exec needs, read with libelf and checked.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "mm/types.h"

namespace workload {

// One PT_LOAD, as the file has it. memsz >= filesz, vaddr and offset agree modulo the page size.
struct ElfSegment {
  mm::Vaddr vaddr = 0;
  uint64_t offset = 0;
  uint64_t filesz = 0;
  uint64_t memsz = 0;
  uint32_t flags = 0;  // PF_R, PF_W, PF_X

  mm::Vaddr page_start() const { return base::PageAlignDown(vaddr); }
  mm::Vaddr page_end() const { return base::PageAlignUp(vaddr + memsz); }
};

struct ElfFile {
  unsigned word_bytes = 8;  // 4: ELFCLASS32
  bool movable = false;     // ET_DYN
  uint64_t entry = 0;
  uint64_t phoff = 0;
  uint64_t phentsize = 0;
  uint64_t phnum = 0;
  std::vector<ElfSegment> segments;  // ascending, no two on one page; at least one
  std::string interpreter;           // of PT_INTERP; empty: none
  bool exec_stack = false;           // PT_GNU_STACK asks for one

  // The bytes from the first segment's page to the end of the last one.
  uint64_t span() const { return segments.back().page_end() - segments.front().page_start(); }
};

// The bytes [offset, offset + length) of a file; fewer is an error.
using ElfReader = std::function<base::Result<std::string>(uint64_t offset, uint64_t length)>;

// Reads the header, the program headers and the interpreter's name of an ET_EXEC or ET_DYN file of
// `size` bytes. kInvalid says in one line what is wrong with it: not ELF, truncated, or a field that
// breaks a rule. Errors of `read` pass through. No error names the file: the caller does.
base::Result<ElfFile> ReadElf(uint64_t size, const ElfReader& read);

// The NT_GNU_BUILD_ID note of a real file, as bytes; empty if it is not ELF or has none. kNotFound or kIo if
// the file cannot be read.
base::Result<std::string> ReadBuildId(const std::string& path);

}  // namespace workload
