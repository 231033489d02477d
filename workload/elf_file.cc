#include "workload/elf_file.h"

#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "base/check.h"
#include "base/units.h"

namespace workload {
namespace {

constexpr uint64_t kPhdrsMax = 128;
constexpr uint64_t kInterpreterMax = 4096;  // PATH_MAX
constexpr mm::Vaddr kAddressMin = 0x10000;  // mmap_min_addr
constexpr mm::Vaddr kEnd32 = 0xffffe000;

struct ElfEnd {
  void operator()(Elf* elf) const { elf_end(elf); }
};
using ElfHandle = std::unique_ptr<Elf, ElfEnd>;

unsigned long long Number(uint64_t value) { return value; }

base::Result<void> CheckHeader(const GElf_Ehdr& header, size_t phentsize) {
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return base::Fail(base::Code::kInvalid,
                      "an ELF file of type %u; expected a program (2) or a shared object (3)",
                      unsigned{header.e_type});
  }
  if (header.e_version != EV_CURRENT) {
    return base::Fail(base::Code::kInvalid, "ELF version %u; expected 1", header.e_version);
  }
  if (header.e_phentsize != phentsize) {
    return base::Fail(base::Code::kInvalid, "program headers of %u bytes; expected %zu",
                      unsigned{header.e_phentsize}, phentsize);
  }
  if (header.e_phnum == 0 || header.e_phnum > kPhdrsMax) {
    return base::Fail(base::Code::kInvalid, "%u program headers; expected 1 to %llu",
                      unsigned{header.e_phnum}, Number(kPhdrsMax));
  }
  return {};
}

base::Result<void> CheckSegment(const ElfFile& file, const GElf_Phdr& header, unsigned number,
                                uint64_t size) {
  const auto bad = [&](const char* what) {
    return base::Fail(
        base::Code::kInvalid,
        "program header %u (address %#llx, offset %#llx, %llu bytes of file, %llu of memory): %s", number,
        Number(header.p_vaddr), Number(header.p_offset), Number(header.p_filesz), Number(header.p_memsz),
        what);
  };
  if (header.p_memsz < header.p_filesz) return bad("more bytes of file than of memory");
  if (header.p_offset > size || header.p_filesz > size - header.p_offset)
    return bad("the file is truncated: it ends before the segment");
  if ((header.p_align & (header.p_align - 1)) != 0) return bad("the alignment is not a power of 2");
  if (header.p_vaddr % base::kPageSize != header.p_offset % base::kPageSize) {
    return bad("address and offset do not agree within a page");
  }
  const mm::Vaddr limit = file.word_bytes == 4 ? kEnd32 : mm::TASK_SIZE;
  if (header.p_vaddr >= limit || header.p_memsz > limit - header.p_vaddr) return bad("it leaves user space");
  if (!file.movable && header.p_vaddr < kAddressMin)
    return bad("it lies below the lowest address that can be mapped");
  if (!file.segments.empty() && base::PageAlignDown(header.p_vaddr) < file.segments.back().page_end()) {
    return bad("it overlaps the segment before it, or is out of order");
  }
  return {};
}

base::Result<std::string> ReadInterpreter(const GElf_Phdr& header, uint64_t size, const ElfReader& read) {
  if (header.p_filesz < 2 || header.p_filesz > kInterpreterMax) {
    return base::Fail(base::Code::kInvalid, "an interpreter name of %llu bytes; expected 2 to %llu",
                      Number(header.p_filesz), Number(kInterpreterMax));
  }
  if (header.p_offset > size || header.p_filesz > size - header.p_offset) {
    return base::Fail(base::Code::kInvalid, "the file is truncated: it ends before the interpreter's name");
  }
  std::string name = TRY(read(header.p_offset, header.p_filesz));
  if (name.back() != '\0' || !name.starts_with('/')) {
    return base::Fail(base::Code::kInvalid,
                      "the interpreter's name '%s' is not an absolute path that ends in a zero byte",
                      base::Printable(name).c_str());
  }
  return std::string(name.c_str());
}

base::Result<void> AddHeader(ElfFile* file, const GElf_Phdr& header, unsigned number, uint64_t size,
                             const ElfReader& read) {
  switch (header.p_type) {
    case PT_LOAD:
      if (header.p_memsz == 0) return {};
      TRY_VOID(CheckSegment(*file, header, number, size));
      file->segments.push_back({.vaddr = header.p_vaddr,
                                .offset = header.p_offset,
                                .filesz = header.p_filesz,
                                .memsz = header.p_memsz,
                                .flags = header.p_flags});
      return {};
    case PT_INTERP:
      if (!file->interpreter.empty()) return base::Fail(base::Code::kInvalid, "more than one interpreter");
      file->interpreter = TRY(ReadInterpreter(header, size, read));
      return {};
    case PT_GNU_STACK: file->exec_stack = (header.p_flags & PF_X) != 0; return {};
    default: return {};
  }
}

// The file up to the end of its program headers, with no section headers: all that libelf is to see.
base::Result<std::string> ReadHead(uint64_t size, const ElfReader& read) {
  std::string ident = TRY(read(0, std::min<uint64_t>(size, EI_NIDENT)));
  if (!std::string_view(ident).starts_with(
          std::string_view(ELFMAG, std::min<size_t>(SELFMAG, ident.size()))) ||
      ident.empty()) {
    return base::Fail(base::Code::kInvalid, "not an ELF file");
  }
  if (ident.size() < EI_NIDENT)
    return base::Fail(base::Code::kInvalid, "the file is truncated: it has %llu bytes", Number(size));
  const int elf_class = ident[EI_CLASS];
  if (elf_class != ELFCLASS32 && elf_class != ELFCLASS64) {
    return base::Fail(base::Code::kInvalid, "ELF class %d; expected 1 (32 bits) or 2 (64 bits)", elf_class);
  }
  if (ident[EI_DATA] != ELFDATA2LSB && ident[EI_DATA] != ELFDATA2MSB) {
    return base::Fail(base::Code::kInvalid, "ELF byte order %d; expected 1 or 2", int{ident[EI_DATA]});
  }
  if (ident[EI_VERSION] != EV_CURRENT) {
    return base::Fail(base::Code::kInvalid, "ELF version %d; expected 1", int{ident[EI_VERSION]});
  }
  const uint64_t header_bytes = elf_class == ELFCLASS64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
  if (size < header_bytes) {
    return base::Fail(base::Code::kInvalid,
                      "the file is truncated: it has %llu bytes, and its ELF header needs %llu", Number(size),
                      Number(header_bytes));
  }
  return read(0, header_bytes);
}

void DropSections(std::string* head) {
  const auto clear = [&](size_t offset, size_t length) { std::memset(head->data() + offset, 0, length); };
  if ((*head)[EI_CLASS] == ELFCLASS64) {
    clear(offsetof(Elf64_Ehdr, e_shoff), sizeof(Elf64_Ehdr::e_shoff));
    clear(offsetof(Elf64_Ehdr, e_shnum), sizeof(Elf64_Ehdr::e_shnum) + sizeof(Elf64_Ehdr::e_shstrndx));
  } else {
    clear(offsetof(Elf32_Ehdr, e_shoff), sizeof(Elf32_Ehdr::e_shoff));
    clear(offsetof(Elf32_Ehdr, e_shnum), sizeof(Elf32_Ehdr::e_shnum) + sizeof(Elf32_Ehdr::e_shstrndx));
  }
}

base::Result<GElf_Ehdr> DecodeHeader(std::string* head) {
  CHECK(elf_version(EV_CURRENT) != EV_NONE);
  const ElfHandle elf(elf_memory(head->data(), head->size()));
  GElf_Ehdr header;
  if (elf == nullptr || gelf_getehdr(elf.get(), &header) == nullptr) {
    return base::Fail(base::Code::kInvalid, "bad ELF header: %s", elf_errmsg(-1));
  }
  TRY_VOID(CheckHeader(header, gelf_fsize(elf.get(), ELF_T_PHDR, 1, EV_CURRENT)));
  return header;
}

// The build-id in the notes of one segment; empty if it is not there.
std::string FindBuildId(Elf* elf, const GElf_Phdr& segment) {
  Elf_Data* data = elf_getdata_rawchunk(elf, static_cast<int64_t>(segment.p_offset), segment.p_filesz,
                                        segment.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
  if (data == nullptr) return "";
  GElf_Nhdr note;
  size_t name = 0;
  size_t desc = 0;
  for (size_t at = 0; (at = gelf_getnote(data, at, &note, &name, &desc)) > 0;) {
    const auto* bytes = static_cast<const char*>(data->d_buf);
    if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 || std::memcmp(bytes + name, "GNU", 4) != 0)
      continue;
    return note.n_descsz <= 64 ? std::string(bytes + desc, note.n_descsz) : "";
  }
  return "";
}

std::string FindBuildId(Elf* elf) {
  size_t count = 0;
  if (elf == nullptr || elf_kind(elf) != ELF_K_ELF || elf_getphdrnum(elf, &count) != 0) return "";
  std::string found;
  for (size_t i = 0; i < count && found.empty(); ++i) {
    GElf_Phdr phdr;
    if (gelf_getphdr(elf, static_cast<int>(i), &phdr) != nullptr && phdr.p_type == PT_NOTE)
      found = FindBuildId(elf, phdr);
  }
  return found;
}

}  // namespace

base::Result<ElfFile> ReadElf(uint64_t size, const ElfReader& read) {
  std::string head = TRY(ReadHead(size, read));
  DropSections(&head);
  const GElf_Ehdr header = TRY(DecodeHeader(&head));
  const uint64_t table_bytes = uint64_t{header.e_phnum} * header.e_phentsize;
  if (header.e_phoff < head.size() || header.e_phoff > size || table_bytes > size - header.e_phoff) {
    return base::Fail(
        base::Code::kInvalid,
        "program headers at %#llx to %#llx; the file has %llu bytes: it is truncated or damaged",
        Number(header.e_phoff), Number(header.e_phoff + table_bytes), Number(size));
  }
  // libelf reads them from a copy in which the table follows the header.
  head += TRY(read(header.e_phoff, table_bytes));
  ElfFile file;
  file.word_bytes = head[EI_CLASS] == ELFCLASS64 ? 8 : 4;
  const size_t header_bytes = head.size() - table_bytes;
  const bool swapped = head[EI_DATA] == ELFDATA2MSB;
  const size_t word = file.word_bytes;
  const size_t phoff_at = word == 8 ? offsetof(Elf64_Ehdr, e_phoff) : offsetof(Elf32_Ehdr, e_phoff);
  for (size_t i = 0; i < word; ++i) {
    head[phoff_at + (swapped ? word - 1 - i : i)] = static_cast<char>((header_bytes >> (8 * i)) & 0xff);
  }
  file.movable = header.e_type == ET_DYN;
  file.entry = header.e_entry;
  file.phoff = header.e_phoff;
  file.phentsize = header.e_phentsize;
  file.phnum = header.e_phnum;
  const ElfHandle elf(elf_memory(head.data(), head.size()));
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    GElf_Phdr phdr;
    if (elf == nullptr || gelf_getphdr(elf.get(), static_cast<int>(i), &phdr) == nullptr) {
      return base::Fail(base::Code::kInvalid, "program header %u cannot be read: %s", i, elf_errmsg(-1));
    }
    TRY_VOID(AddHeader(&file, phdr, i, size, read));
  }
  if (file.segments.empty()) return base::Fail(base::Code::kInvalid, "no segment to load");
  return file;
}

base::Result<std::string> ReadBuildId(const std::string& path) {
  CHECK(elf_version(EV_CURRENT) != EV_NONE);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  char byte = 0;
  if (fd < 0 || pread(fd, &byte, 1, 0) < 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return base::FailErrno(error, "read the build-id of '%s'", base::Printable(path).c_str());
  }
  std::string found = FindBuildId(ElfHandle(elf_begin(fd, ELF_C_READ, nullptr)).get());
  close(fd);
  return found;
}

}  // namespace workload
