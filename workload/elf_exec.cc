#include "workload/elf_exec.h"

#include <elf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/random.h"
#include "workload/elf_file.h"

namespace workload {
namespace {

constexpr mm::Vaddr kStackTop = mm::TASK_SIZE;
constexpr mm::Vaddr kStackTop32 = 0xffffe000;
constexpr mm::Vaddr kMmapTop32 = 0xf7ffe000;
constexpr uint64_t kStackExtra = 128 * 1024;  // what setup_arg_pages adds below the strings

base::Result<ElfFile> ReadElfOf(mm::Machine& machine, mm::File& file, const std::string& name) {
  const ElfReader read = [&](uint64_t offset, uint64_t length) -> base::Result<std::string> {
    std::string bytes(length, '\0');
    const auto got = generic_file_read(machine, file, offset, std::as_writable_bytes(std::span(bytes)));
    if (!got && got.error().err == ENOMEM) return base::Fail(base::Code::kNoMemory, "no memory to read it");
    if (!got) return base::FailErrno(got.error().err, "read %zu bytes", bytes.size());
    if (*got != length) return base::Fail(base::Code::kInvalid, "the file is truncated");
    return bytes;
  };
  base::Result<ElfFile> elf = ReadElf(file.i_size, read);
  if (!elf) return std::unexpected(elf.error().In("exec '" + base::Printable(name) + "'"));
  return elf;
}

// Makes the new address space, piece by piece, in a process that already has it.
class Loader {
 public:
  Loader(mm::Machine& machine, mm::Process& process, const ExecRequest& request)
      : machine_(machine), process_(process), mm_(*process.mm), request_(request) {}

  base::Result<void> Load(const ElfFile& elf) {
    mm_.word_bytes = elf.word_bytes;
    mm_.exe_file = request_.file;
    wide_ = elf.word_bytes == 8;
    bias_ = elf.movable ? (wide_ ? kLoadBias : kLoadBias32) - elf.segments.front().page_start() : 0;
    if (elf.segments.front().page_start() + bias_ + elf.span() > StackLimit())
      return Fail("it reaches into the stack");
    TRY_VOID(MapSegments(elf, bias_, request_.file));
    SetBounds(elf);
    NameRegions(elf);
    entry_ = elf.entry + bias_;
    if (!elf.interpreter.empty()) TRY_VOID(LoadInterpreter(elf.interpreter));
    TRY_VOID(MapVdso());
    return BuildStack(elf);
  }

  std::vector<std::pair<std::string, Region>> TakeRegions() { return std::move(regions_); }

 private:
  std::unexpected<base::Error> Fail(const char* why) const {
    return base::Fail(base::Code::kInvalid, "exec '%s': %s", base::Printable(request_.name).c_str(), why);
  }
  std::unexpected<base::Error> NoMemory() const {
    return base::Fail(base::Code::kNoMemory, "exec '%s': no memory", base::Printable(request_.name).c_str());
  }
  mm::Vaddr StackTop() const { return wide_ ? kStackTop : kStackTop32; }
  mm::Vaddr StackLimit() const { return StackTop() - kStackExtra - 2 * kArgBytesMax; }
  void AddRegion(std::string_view name, mm::Vaddr start, mm::Vaddr end) {
    if (start < end) regions_.emplace_back(name, Region{start, end - start});
  }

  base::Result<void> MapAt(mm::Vaddr start, mm::Vaddr end, int prot, int flags, mm::FilePtr file,
                           uint64_t offset) {
    if (start >= end) return {};
    const auto mapped =
        sys_mmap(mm_, start, end - start, prot, MAP_PRIVATE | MAP_FIXED | flags, std::move(file), offset);
    return mapped ? base::Result<void>{} : NoMemory();
  }

  base::Result<void> Store(mm::Vaddr addr, std::span<const std::byte> bytes) {
    const mm::AccessResult stored = machine_.store(process_, addr, bytes);
    if (stored.outcome == mm::Outcome::kOk) return {};
    if (stored.outcome == mm::Outcome::kOom) return NoMemory();
    return base::Fail(base::Code::kInvalid, "exec '%s': it cannot be written at %#llx",
                      base::Printable(request_.name).c_str(), static_cast<unsigned long long>(stored.addr));
  }

  base::Result<void> MapSegments(const ElfFile& elf, mm::Vaddr bias, const mm::FilePtr& file) {
    for (const ElfSegment& segment : elf.segments) {
      const int prot = ((segment.flags & PF_R) != 0 ? PROT_READ : 0) |
                       ((segment.flags & PF_W) != 0 ? PROT_WRITE : 0) |
                       ((segment.flags & PF_X) != 0 ? PROT_EXEC : 0);
      const mm::Vaddr start = bias + segment.page_start();
      const mm::Vaddr file_end = bias + segment.vaddr + segment.filesz;
      const mm::Vaddr anon_start = segment.filesz > 0 ? base::PageAlignUp(file_end) : start;
      TRY_VOID(MapAt(start, anon_start, prot, MAP_DENYWRITE, file, base::PageAlignDown(segment.offset)));
      TRY_VOID(MapAt(anon_start, bias + segment.page_end(), prot, MAP_ANONYMOUS, nullptr, 0));
      // padzero: what the file has behind the segment on its last page is not part of the program.
      if (segment.memsz > segment.filesz && (prot & PROT_WRITE) != 0 && file_end < anon_start) {
        static constexpr mm::PageBytes kZeros{};
        TRY_VOID(Store(file_end, std::span(kZeros).first(anon_start - file_end)));
      }
    }
    return {};
  }

  void SetBounds(const ElfFile& elf) {
    mm::MmLayout& layout = mm_.layout;
    layout.start_code = ~mm::Vaddr{0};
    for (const ElfSegment& segment : elf.segments) {
      const mm::Vaddr start = segment.vaddr + bias_;
      layout.start_code = std::min(layout.start_code, start);
      layout.start_data = std::max(layout.start_data, start);
      if ((segment.flags & PF_X) != 0) layout.end_code = std::max(layout.end_code, start + segment.filesz);
      layout.end_data = std::max(layout.end_data, start + segment.filesz);
    }
    layout.start_brk = layout.brk = bias_ + elf.segments.back().page_end();
  }

  void NameRegions(const ElfFile& elf) {
    const auto first_with = [&](uint32_t flag) {
      return std::ranges::find_if(elf.segments,
                                  [&](const ElfSegment& segment) { return (segment.flags & flag) != 0; });
    };
    if (const auto text = first_with(PF_X); text != elf.segments.end()) {
      AddRegion("text", bias_ + text->page_start(), bias_ + text->page_end());
    }
    if (const auto data = first_with(PF_W); data != elf.segments.end()) {
      const mm::Vaddr start = bias_ + data->page_start();
      const mm::Vaddr file_end =
          data->filesz > 0 ? base::PageAlignUp(bias_ + data->vaddr + data->filesz) : start;
      AddRegion("data", start, file_end);
      AddRegion("bss", file_end, bias_ + data->page_end());
    }
  }

  base::Result<void> LoadInterpreter(const std::string& path) {
    const std::string what = "exec '" + base::Printable(request_.name) + "': interpreter";
    const base::Result<mm::FilePtr> file = request_.open(path);
    if (!file) return std::unexpected(file.error().In(what));
    const ElfFile elf = TRY(ReadElfOf(machine_, **file, path));
    if (!elf.movable || !elf.interpreter.empty())
      return Fail("its interpreter is not a shared object that stands alone");
    if ((elf.word_bytes == 8) != wide_) return Fail("its interpreter is of another ELF class");
    mm::Vaddr start = wide_ ? 0 : kMmapTop32 - elf.span();
    if (wide_ || mm_.find_vma(start) != nullptr) {
      const auto found = get_unmapped_area(mm_, start, elf.span());
      if (!found || (!wide_ && *found > kMmapTop32)) return NoMemory();
      start = *found;
    }
    interpreter_bias_ = start - elf.segments.front().page_start();
    TRY_VOID(MapSegments(elf, interpreter_bias_, *file));
    AddRegion("interp", start, start + elf.span());
    return {};
  }

  base::Result<void> MapVdso() {
    const mm::Vaddr start = machine_.config().vdso_start;
    const uint64_t length = machine_.config().vdso_pages * base::kPageSize;
    if (start == 0 || length == 0 || !wide_) return {};
    mm::MapRequest request;
    request.start = start;
    request.end = start + length;
    request.vm_flags = mm::VM_READ | mm::VM_EXEC | mm::VM_MAY_FLAGS;
    request.special = mm::Special::kVdso;
    if (!map_region(mm_, std::move(request))) return Fail("there is no room for the vdso");
    AddRegion("vdso", start, start + length);
    vdso_ = start;
    return {};
  }

  // ---- the stack, from the top down: strings, random bytes, auxv, envp, argv, argc ----

  mm::Vaddr Push(std::string_view bytes) {
    stack_.insert(0, bytes);
    return StackTop() - stack_.size();
  }
  mm::Vaddr PushString(const std::string& text) {
    return Push(std::string_view(text.c_str(), text.size() + 1));
  }
  void PushWord(uint64_t word) {
    Push(std::string_view(reinterpret_cast<const char*>(&word), wide_ ? 8 : 4));
  }

  void FillAuxv(const ElfFile& elf, mm::Vaddr random, mm::Vaddr name, mm::Vaddr platform) {
    const ElfSegment& first = elf.segments.front();
    auto& auxv = mm_.auxv;
    if (vdso_ != 0) auxv.push_back({AT_SYSINFO_EHDR, vdso_});
    auxv.insert(auxv.end(), {{AT_HWCAP, 0},
                             {AT_PAGESZ, base::kPageSize},
                             {AT_CLKTCK, 100},
                             {AT_PHDR, bias_ + first.vaddr - first.offset + elf.phoff},
                             {AT_PHENT, elf.phentsize},
                             {AT_PHNUM, elf.phnum},
                             {AT_BASE, interpreter_bias_},
                             {AT_FLAGS, 0},
                             {AT_ENTRY, entry_},
                             {AT_UID, 0},
                             {AT_EUID, 0},
                             {AT_GID, 0},
                             {AT_EGID, 0},
                             {AT_SECURE, 0},
                             {AT_RANDOM, random},
                             {AT_EXECFN, name},
                             {AT_PLATFORM, platform},
                             {AT_NULL, 0}});
  }

  base::Result<void> BuildStack(const ElfFile& elf) {
    uint64_t bytes = request_.name.size() + 1;
    for (const std::string& text : request_.args) bytes += text.size() + 1;
    for (const std::string& text : request_.env) bytes += text.size() + 1;
    if (bytes > kArgBytesMax) {
      return base::Fail(base::Code::kTooBig,
                        "exec '%s': %llu bytes of arguments and environment; at most %llu",
                        base::Printable(request_.name).c_str(), static_cast<unsigned long long>(bytes),
                        static_cast<unsigned long long>(kArgBytesMax));
    }
    stack_.assign(8, '\0');  // the last word of user space
    const mm::Vaddr name = PushString(request_.name);
    std::vector<mm::Vaddr> env;
    mm_.layout.env_end = StackTop() - stack_.size();
    for (auto text = request_.env.rbegin(); text != request_.env.rend(); ++text)
      env.push_back(PushString(*text));
    mm_.layout.env_start = mm_.layout.arg_end = StackTop() - stack_.size();
    std::vector<mm::Vaddr> args;
    for (auto text = request_.args.rbegin(); text != request_.args.rend(); ++text)
      args.push_back(PushString(*text));
    mm_.layout.arg_start = StackTop() - stack_.size();
    const mm::Vaddr platform = PushString(wide_ ? "x86_64" : "i686");
    base::Random random(request_.seed);
    const uint64_t words[2] = {random.Next(), random.Next()};
    const mm::Vaddr random_at = Push(std::string_view(reinterpret_cast<const char*>(words), sizeof words));
    FillAuxv(elf, random_at, name, platform);

    const size_t pointers = 2 * mm_.auxv.size() + env.size() + 1 + args.size() + 1 + 1;
    const size_t total = stack_.size() + pointers * (wide_ ? 8 : 4);
    Push(std::string((16 - total % 16) % 16, '\0'));
    for (auto entry = mm_.auxv.rbegin(); entry != mm_.auxv.rend(); ++entry) {
      PushWord(entry->value);
      PushWord(entry->type);
    }
    PushWord(0);
    for (const mm::Vaddr at : env) PushWord(at);
    PushWord(0);
    for (const mm::Vaddr at : args) PushWord(at);
    PushWord(args.size());
    return MapStack(elf.exec_stack);
  }

  base::Result<void> MapStack(bool executable) {
    const mm::Vaddr sp = StackTop() - stack_.size();
    const mm::Vaddr start = base::PageAlignDown(sp) - kStackExtra;
    const mm::Vma* above = mm_.find_vma(start);
    if (above != nullptr) return Fail("there is no room for the stack");
    TRY_VOID(MapAt(start, StackTop(), PROT_READ | PROT_WRITE | (executable ? PROT_EXEC : 0),
                   MAP_ANONYMOUS | MAP_GROWSDOWN, nullptr, 0));
    AddRegion(kStackRegion, start, StackTop());
    mm_.layout.start_stack = sp;
    return Store(sp, std::as_bytes(std::span(stack_)));
  }

  mm::Machine& machine_;
  mm::Process& process_;
  mm::MmStruct& mm_;
  const ExecRequest& request_;
  bool wide_ = true;
  mm::Vaddr bias_ = 0;
  mm::Vaddr interpreter_bias_ = 0;
  mm::Vaddr entry_ = 0;
  mm::Vaddr vdso_ = 0;
  std::string stack_;  // the bytes below StackTop()
  std::vector<std::pair<std::string, Region>> regions_;
};

}  // namespace

base::Result<std::vector<std::pair<std::string, Region>>> Exec(mm::Machine& machine, mm::Process& process,
                                                               const ExecRequest& request) {
  const ElfFile elf = TRY(ReadElfOf(machine, *request.file, request.name));
  std::shared_ptr<mm::MmStruct> old = std::move(process.mm);
  process.mm = machine.new_mm();
  Loader loader(machine, process, request);
  const base::Result<void> loaded = loader.Load(elf);
  if (!loaded) {
    process.mm = std::move(old);
    return std::unexpected(loaded.error());
  }
  return loader.TakeRegions();
}

}  // namespace workload
