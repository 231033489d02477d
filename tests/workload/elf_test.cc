#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "mm/follow_page.h"
#include "mm/validate.h"
#include "tests/support/support.h"
#include "workload/elf_exec.h"
#include "workload/elf_file.h"
#include "workload/files.h"

namespace workload {
namespace {

using testing::HasSubstr;

// A small program, built in memory: text, data with a bss that goes on behind its last page, and a
// stack note. Tests change fields of it.
struct Program {
  Elf64_Ehdr header{};
  Elf64_Phdr phdr[3]{};

  Program() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = 0x401000;
    header.e_phoff = sizeof header;
    header.e_ehsize = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 3;
    phdr[0] = {PT_LOAD, PF_R | PF_X, 0, 0x400000, 0x400000, 0x1800, 0x1800, 0x1000};
    phdr[1] = {PT_LOAD, PF_R | PF_W, 0x2100, 0x403100, 0x403100, 0x400, 0x3000, 0x1000};
    phdr[2] = {PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16};
  }

  std::string Bytes(size_t size = 0x3000) const {
    std::string bytes(size, '\xcc');
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, phdr, sizeof phdr);
    return bytes;
  }
};

base::Result<ElfFile> Read(const std::string& bytes) {
  return ReadElf(bytes.size(), [&](uint64_t offset, uint64_t length) -> base::Result<std::string> {
    EXPECT_LE(offset, bytes.size());
    EXPECT_LE(length, bytes.size() - offset);
    return bytes.substr(offset, length);
  });
}

std::string ErrorOf(const Program& program) {
  const auto elf = Read(program.Bytes());
  return elf ? "" : elf.error().what;
}

TEST(ElfFileTest, ReadsSegments) {
  const auto elf = Read(Program().Bytes());
  ASSERT_TRUE(elf.has_value()) << elf.error().what;
  EXPECT_EQ(elf->word_bytes, 8u);
  EXPECT_FALSE(elf->movable);
  EXPECT_EQ(elf->entry, 0x401000u);
  ASSERT_EQ(elf->segments.size(), 2u);
  EXPECT_EQ(elf->segments[1].page_start(), 0x403000u);
  EXPECT_EQ(elf->segments[1].page_end(), 0x407000u);
  EXPECT_EQ(elf->span(), 0x7000u);
}

TEST(ElfFileTest, SaysWhatIsWrong) {
  const auto changed = [](auto change) {
    Program program;
    change(program);
    return ErrorOf(program);
  };
  EXPECT_EQ(ErrorOf(Program()), "");
  EXPECT_EQ(changed([](Program& p) { p.header.e_ident[0] = 'M'; }), "not an ELF file");
  EXPECT_EQ(changed([](Program& p) { p.header.e_ident[EI_CLASS] = 3; }),
            "ELF class 3; expected 1 (32 bits) or 2 (64 bits)");
  EXPECT_EQ(changed([](Program& p) { p.header.e_ident[EI_DATA] = 0; }), "ELF byte order 0; expected 1 or 2");
  EXPECT_EQ(changed([](Program& p) { p.header.e_ident[EI_VERSION] = 2; }), "ELF version 2; expected 1");
  EXPECT_EQ(changed([](Program& p) { p.header.e_version = 2; }), "ELF version 2; expected 1");
  EXPECT_EQ(changed([](Program& p) { p.header.e_type = ET_REL; }),
            "an ELF file of type 1; expected a program (2) or a shared object (3)");
  EXPECT_EQ(changed([](Program& p) { p.header.e_phentsize = 40; }),
            "program headers of 40 bytes; expected 56");
  EXPECT_EQ(changed([](Program& p) { p.header.e_phnum = 0; }), "0 program headers; expected 1 to 128");
  EXPECT_EQ(changed([](Program& p) { p.header.e_phnum = 0xffff; }),
            "65535 program headers; expected 1 to 128");
  EXPECT_THAT(changed([](Program& p) { p.header.e_phoff = ~uint64_t{0}; }),
              HasSubstr("it is truncated or damaged"));
  EXPECT_THAT(changed([](Program& p) { p.header.e_phoff = 1; }), HasSubstr("it is truncated or damaged"));
  EXPECT_EQ(changed([](Program& p) { p.phdr[0].p_type = p.phdr[1].p_type = PT_NULL; }), "no segment to load");
  EXPECT_THAT(changed([](Program& p) { p.phdr[1].p_filesz = 0x3001; }),
              HasSubstr("more bytes of file than of memory"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[1].p_offset = 0x5100; }), HasSubstr("truncated"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[1].p_offset = ~uint64_t{0} - 0xeff; }), HasSubstr("truncated"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[1].p_align = 3; }), HasSubstr("not a power of 2"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[1].p_vaddr = 0x403200; }),
              HasSubstr("do not agree within a page"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[1].p_vaddr = 0x401100; }),
              HasSubstr("it overlaps the segment before it"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[0].p_vaddr = 0; }), HasSubstr("below the lowest address"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[1].p_vaddr = uint64_t{1} << 63 | 0x100; }),
              HasSubstr("leaves user space"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[1].p_memsz = ~uint64_t{0}; }), HasSubstr("leaves user space"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[2] = {PT_INTERP, 0, 0x2000, 0, 0, 1, 1, 1}; }),
              HasSubstr("interpreter name of 1 bytes"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[2] = {PT_INTERP, 0, 0x2ff0, 0, 0, 100, 100, 1}; }),
              HasSubstr("truncated"));
  EXPECT_THAT(changed([](Program& p) { p.phdr[2] = {PT_INTERP, 0, 0x2000, 0, 0, 10, 10, 1}; }),
              HasSubstr("not an absolute path"));
}

TEST(ElfFileTest, EveryLengthOfTheFirst4KiBIsAnErrorOrAMap) {
  const std::string whole = Program().Bytes();
  for (size_t length = 0; length <= whole.size(); ++length) {
    const auto elf = Read(whole.substr(0, length));
    EXPECT_EQ(elf.has_value(), length >= 0x2500) << length;
    if (!elf) {
      EXPECT_EQ(elf.error().what.find('\n'), std::string::npos);
    }
  }
}

TEST(ElfFileTest, EveryChangedByteOfTheHeadersIsAnErrorOrAMap) {
  const std::string whole = Program().Bytes();
  for (size_t at = 0; at < sizeof(Program::header) + sizeof(Program::phdr); ++at) {
    for (const int byte : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(byte);
      const auto elf = Read(bytes);
      if (elf) {
        EXPECT_LE(elf->segments.back().page_end(), mm::TASK_SIZE);
      }
    }
  }
}

TEST(ElfFileTest, BigEndianAnd32Bits) {
  Elf32_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS32;
  header.e_ident[EI_DATA] = ELFDATA2MSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = __builtin_bswap16(ET_EXEC);
  header.e_version = __builtin_bswap32(EV_CURRENT);
  header.e_phoff = __builtin_bswap32(sizeof header);
  header.e_phentsize = __builtin_bswap16(sizeof(Elf32_Phdr));
  header.e_phnum = __builtin_bswap16(1);
  Elf32_Phdr phdr{};
  phdr.p_type = __builtin_bswap32(PT_LOAD);
  phdr.p_vaddr = phdr.p_paddr = __builtin_bswap32(0x10000);
  phdr.p_filesz = phdr.p_memsz = __builtin_bswap32(0x100);
  phdr.p_flags = __builtin_bswap32(PF_R | PF_X);
  std::string bytes(4096, '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &phdr, sizeof phdr);
  const auto elf = Read(bytes);
  ASSERT_TRUE(elf.has_value()) << elf.error().what;
  EXPECT_EQ(elf->word_bytes, 4u);
  EXPECT_EQ(elf->segments[0].vaddr, 0x10000u);
}

TEST(ElfFileTest, BuildIdOfASystemProgram) {
  EXPECT_EQ(ReadBuildId("/bin/sh")->size(), 20u);
  EXPECT_EQ(ReadBuildId("/usr/share/common-licenses/GPL-3").value(), "");
  EXPECT_EQ(ReadBuildId("/dev/null").value(), "") << "nothing in it";
  EXPECT_EQ(ReadBuildId("/no/such/file").error().code, base::Code::kNotFound);
  EXPECT_EQ(ReadBuildId("/no/such/file").error().what,
            "read the build-id of '/no/such/file': No such file or directory");
  EXPECT_EQ(ReadBuildId("/bin").error().code, base::Code::kIo);
}

// ---- exec ----

class ExecTest : public testing::Test {
 protected:
  mm::FilePtr File(const std::string& name, const std::string& bytes) {
    mm::Recipe recipe;
    const mm::FilePtr file = machine_->create_file(
        name, bytes.size(), std::make_unique<mm::OverlayDisk>(std::move(*mm::OpenContent(recipe))));
    EXPECT_TRUE(
        generic_file_write(*machine_, *file, 0, std::as_bytes(std::span(bytes)), mm::RLIM_INFINITY_BYTES));
    return file;
  }
  base::Result<std::vector<std::pair<std::string, Region>>> Run(const mm::FilePtr& file) {
    ExecRequest request;
    request.file = file;
    request.name = file->name();
    request.args = {"prog", "--flag"};
    request.env = {"HOME=/root"};
    request.seed = 5;
    request.open = [&](const std::string& path) { return RealFile(*machine_, path); };
    auto result = Exec(*machine_, process_, request);
    EXPECT_EQ(mm::Validate(*machine_, mm::Depth::kDeep).value_or(""), "");
    return result;
  }
  uint64_t Word(mm::Vaddr addr) {
    uint64_t word = 0;
    EXPECT_EQ(machine_->load(process_, addr, std::as_writable_bytes(std::span(&word, 1))).outcome,
              mm::Outcome::kOk);
    return word;
  }
  std::string String(mm::Vaddr addr) {
    std::string text;
    for (std::byte byte; machine_->load(process_, addr, std::span(&byte, 1)).outcome == mm::Outcome::kOk;
         ++addr) {
      if (byte == std::byte{0}) break;
      text += static_cast<char>(byte);
    }
    return text;
  }

  std::unique_ptr<mm::Machine> machine_ =
      std::move(*mm::Machine::Create({.memory_bytes = 64 << 20, .semantics = {}, .swap_folder = {}}));
  mm::Process& process_ = machine_->spawn(1, "p");
};

TEST_F(ExecTest, TextIsCleanTheTailOfDataIsZeroedAndBssIsAnonymous) {
  const auto regions = Run(File("prog", Program().Bytes()));
  ASSERT_TRUE(regions.has_value()) << regions.error().what;
  mm::MmStruct& space = *process_.mm;
  const mm::Vma* text = space.vma_at(0x400000);
  ASSERT_NE(text, nullptr);
  EXPECT_EQ(text->end, 0x402000u);
  EXPECT_EQ(text->flags & mm::VM_ACCESS_FLAGS, mm::VM_READ | mm::VM_EXEC);
  EXPECT_NE(text->file, nullptr);
  mm::Vma* data = space.vma_at(0x403000);
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->pgoff, 2u);
  EXPECT_EQ(data->end, 0x404000u);
  const mm::Vma* bss = space.vma_at(0x404000);
  ASSERT_NE(bss, nullptr);
  EXPECT_EQ(bss->file, nullptr);
  EXPECT_EQ(bss->end, 0x407000u);
  // padzero broke COW on the one page.
  EXPECT_EQ(mm::next_dirty_run(*data, data->start, data->end, 10).pages, 1u);
  EXPECT_EQ(Word(0x403500 - 8), 0xccccccccccccccccu);
  EXPECT_EQ(Word(0x403500), 0u);
  EXPECT_EQ(Word(0x403ff8), 0u);
  EXPECT_EQ(space.layout.start_brk, 0x407000u);
  EXPECT_EQ(space.layout.brk, 0x407000u);
  EXPECT_EQ(space.layout.start_code, 0x400000u);
  EXPECT_EQ(space.layout.end_code, 0x401800u);
  EXPECT_EQ(space.layout.start_data, 0x403100u);
  EXPECT_EQ(space.layout.end_data, 0x403500u);
  EXPECT_EQ(space.exe_file->name(), "prog");
  std::vector<std::string> names;
  for (const auto& [name, region] : *regions) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"text", "data", "bss", "vdso", "stack"}));
}

TEST_F(ExecTest, TheStackIsWhatAProgramFinds) {
  ASSERT_TRUE(Run(File("prog", Program().Bytes())));
  const mm::MmLayout& layout = process_.mm->layout;
  mm::Vaddr sp = layout.start_stack;
  EXPECT_EQ(sp % 16, 0u);
  EXPECT_EQ(Word(sp), 2u);
  EXPECT_EQ(String(Word(sp + 8)), "prog");
  EXPECT_EQ(String(Word(sp + 16)), "--flag");
  EXPECT_EQ(Word(sp + 24), 0u);
  EXPECT_EQ(String(Word(sp + 32)), "HOME=/root");
  EXPECT_EQ(Word(sp + 40), 0u);
  EXPECT_EQ(Word(sp + 8), layout.arg_start);
  EXPECT_EQ(Word(sp + 32), layout.env_start);
  EXPECT_EQ(layout.arg_end, layout.env_start);
  std::map<uint64_t, uint64_t> auxv;
  sp += 48;
  for (const mm::AuxvEntry& entry : process_.mm->auxv) {
    EXPECT_EQ(Word(sp), entry.type);
    EXPECT_EQ(Word(sp + 8), entry.value);
    auxv[entry.type] = entry.value;
    sp += 16;
  }
  EXPECT_EQ(process_.mm->auxv.back().type, uint64_t{AT_NULL});
  EXPECT_EQ(auxv[AT_PHDR], 0x400040u);
  EXPECT_EQ(auxv[AT_PHENT], 56u);
  EXPECT_EQ(auxv[AT_PHNUM], 3u);
  EXPECT_EQ(auxv[AT_PAGESZ], 4096u);
  EXPECT_EQ(auxv[AT_ENTRY], 0x401000u);
  EXPECT_EQ(auxv[AT_BASE], 0u);
  EXPECT_EQ(auxv[AT_SYSINFO_EHDR], machine_->config().vdso_start);
  EXPECT_NE(Word(auxv[AT_RANDOM]), 0u);
  EXPECT_EQ(String(auxv[AT_EXECFN]), "prog");
  EXPECT_EQ(String(auxv[AT_PLATFORM]), "x86_64");
}

TEST_F(ExecTest, AMovableProgramWithAnInterpreter) {
  const auto regions = Run(*RealFile(*machine_, "/bin/sh"));
  ASSERT_TRUE(regions.has_value()) << regions.error().what;
  EXPECT_NE(process_.mm->vma_at(kLoadBias), nullptr);
  bool interpreter = false;
  for (const auto& [name, region] : *regions) {
    interpreter = interpreter || name == "interp";
    EXPECT_NE(process_.mm->vma_at(region.start), nullptr) << name;
  }
  EXPECT_TRUE(interpreter);
  EXPECT_EQ(process_.mm->exe_file->disk()->recipe().build_id.size(), 20u);
  EXPECT_GT(process_.mm->layout.start_brk, kLoadBias);
}

TEST_F(ExecTest, ReplacesTheOldAddressSpace) {
  ASSERT_TRUE(Run(File("one", Program().Bytes())));
  const std::weak_ptr<mm::MmStruct> old = process_.mm;
  ASSERT_TRUE(Run(File("two", Program().Bytes())));
  EXPECT_TRUE(old.expired());
  EXPECT_EQ(process_.mm->exe_file->name(), "two");
  mm::Process& thread = machine_->clone_vm(1, 2, "t");
  ASSERT_TRUE(Run(File("three", Program().Bytes())));
  EXPECT_EQ(thread.mm->exe_file->name(), "two");
}

TEST_F(ExecTest, AnErrorKeepsTheOldAddressSpace) {
  ASSERT_TRUE(Run(File("one", Program().Bytes())));
  Program program;
  program.phdr[2] = {PT_INTERP, 0, 0x2000, 0, 0, 14, 14, 1};
  std::string bytes = program.Bytes();
  std::memcpy(bytes.data() + 0x2000, "/no/such/ld.so", 14);
  bytes[0x200d] = '\0';
  const auto failed = Run(File("two", bytes));
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(
      failed.error().what,
      "exec 'two': interpreter: open file '/no/such/ld.s': No such file or directory; expected the path of a "
      "regular file that can be read");
  EXPECT_EQ(process_.mm->exe_file->name(), "one");
  program = {};
  program.phdr[1].p_vaddr = 0x7ffffffdf100;
  const auto high = Run(File("three", program.Bytes()));
  ASSERT_FALSE(high.has_value());
  EXPECT_EQ(high.error().what, "exec 'three': it reaches into the stack");
  program.phdr[1].p_vaddr = machine_->config().vdso_start + 0x100;
  const auto vdso = Run(File("four", program.Bytes()));
  ASSERT_FALSE(vdso.has_value());
  EXPECT_EQ(vdso.error().what, "exec 'four': there is no room for the vdso");
}

TEST_F(ExecTest, A32BitProgramStaysBelow4GiB) {
  Elf32_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS32;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_DYN;
  header.e_version = EV_CURRENT;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf32_Phdr);
  header.e_phnum = 1;
  Elf32_Phdr phdr{PT_LOAD, 0, 0, 0, 0x100, 0x3000, PF_R | PF_W, 0x1000};
  std::string bytes(4096, '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &phdr, sizeof phdr);
  const auto regions = Run(File("small", bytes));
  ASSERT_TRUE(regions.has_value()) << regions.error().what;
  EXPECT_EQ(process_.mm->word_bytes, 4u);
  for (const auto& [start, vma] : process_.mm->vmas()) EXPECT_LE(vma->end, uint64_t{1} << 32);
  EXPECT_EQ(Word(process_.mm->layout.start_stack) & 0xffffffff, 2u);
}

// As a real file on the model's disk that is cut, the way an interrupted copy is.
TEST_F(ExecTest, EveryLengthOfAProgramIsAnErrorOrAMap) {
  const std::string whole = Program().Bytes();
  const mm::FilePtr file = File("prog", whole);
  for (size_t length = 4096; length > 0; length -= length > 300 ? 7 : 1) {
    ASSERT_TRUE(vmtruncate(*machine_, *file, length, mm::RLIM_INFINITY_BYTES));
    const auto regions = Run(file);
    ASSERT_FALSE(regions.has_value());
    EXPECT_THAT(regions.error().what, testing::StartsWith("exec 'prog': "));
  }
}

TEST_F(ExecTest, NoMemoryIsAnError) {
  machine_->exit(1);
  auto small =
      std::move(*mm::Machine::Create({.memory_bytes = mm::kMemoryMin, .semantics = {}, .swap_folder = {}}));
  mm::Process& process = small->spawn(1, "p");
  ExecRequest request;
  request.file = *RealFile(*small, "/bin/sh");
  request.name = "sh";
  request.args.assign(30, std::string(4000, 'x'));
  request.open = [&](const std::string& path) { return RealFile(*small, path); };
  const auto failed = Exec(*small, process, request);
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, base::Code::kNoMemory);
  EXPECT_EQ(mm::Validate(*small).value_or(""), "");
  request.args.assign(40, std::string(4000, 'x'));
  const auto big = Exec(*small, process, request);
  ASSERT_FALSE(big.has_value());
  EXPECT_EQ(big.error().what, "exec 'sh': 160043 bytes of arguments and environment; at most 131072");
}

}  // namespace
}  // namespace workload
