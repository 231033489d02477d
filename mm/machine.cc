#include "mm/machine.h"

#include <algorithm>
#include <cstring>

#include "mm/rmap.h"

namespace mm {
namespace {

constexpr VmStatName kVmStatNames[] = {{"nr_anon_pages", &VmStat::nr_anon_pages},
                                       {"nr_mapped", &VmStat::nr_mapped},
                                       {"nr_dirty", &VmStat::nr_dirty},
                                       {"pgpgin", &VmStat::pgpgin},
                                       {"pgpgout", &VmStat::pgpgout},
                                       {"pswpin", &VmStat::pswpin},
                                       {"pswpout", &VmStat::pswpout},
                                       {"pgactivate", &VmStat::pgactivate},
                                       {"pgdeactivate", &VmStat::pgdeactivate},
                                       {"pgfault", &VmStat::pgfault},
                                       {"pgmajfault", &VmStat::pgmajfault},
                                       {"pgrefill", &VmStat::pgrefill},
                                       {"pgscan", &VmStat::pgscan},
                                       {"pgsteal", &VmStat::pgsteal},
                                       {"allocstall", &VmStat::allocstall}};
static_assert(sizeof(VmStat) == std::size(kVmStatNames) * sizeof(uint64_t), "every counter has a name");

}  // namespace

std::span<const VmStatName> VmStatNames() { return kVmStatNames; }

base::Result<std::unique_ptr<Machine>> Machine::Create(const MachineConfig& config) {
  if (config.memory_bytes < kMemoryMin || config.memory_bytes > kMemoryMax) {
    return base::Fail(base::Code::kInvalid, "a machine has from %s to %s of memory, not %s",
                      base::FormatSize(kMemoryMin).c_str(), base::FormatSize(kMemoryMax).c_str(),
                      base::FormatSize(config.memory_bytes).c_str());
  }
  std::unique_ptr<Machine> machine(new Machine(config));
  if (!machine->frames.reserved()) {
    return base::Fail(base::Code::kNoMemory,
                      "a machine of %s: the system gives not that much address space (memory)",
                      base::FormatSize(config.memory_bytes).c_str());
  }
  if (config.host_bytes > 0 || config.semantics.hints != Hints::kOff) TRY_VOID(machine->MakeHost());
  if (config.swap_bytes > 0 && !config.swap_off) TRY_VOID(machine->MakeSwap());
  return machine;
}

Machine::Machine(const MachineConfig& config) : frames(config.memory_bytes / kPageSize), config_(config) {}

base::Result<void> Machine::MakeSwap() {
  if (config_.swap_bytes < kPageSize || config_.swap_bytes > kSwapMax) {
    return base::Fail(base::Code::kInvalid, "swap is from %s to %s, not %s",
                      base::FormatSize(kPageSize).c_str(), base::FormatSize(kSwapMax).c_str(),
                      base::FormatSize(config_.swap_bytes).c_str());
  }
  const uint64_t slots = config_.swap_bytes / kPageSize + 1;  // and the header
  std::unique_ptr<SwapDevice> device = config_.swap_folder.empty()
                                           ? TRY(MakeMemorySwap(slots))
                                           : TRY(MakeFileSwap(config_.swap_folder, slots));
  CHECK(sys_swapon(*this, std::move(device), slots));
  return {};
}

base::Result<void> Machine::MakeHost() {
  const uint64_t real = config_.host_bytes == 0 ? config_.memory_bytes : config_.host_bytes;
  if (config_.host_bytes != 0 && (real < kHostMemoryMin || real > config_.memory_bytes)) {
    return base::Fail(base::Code::kInvalid, "a host has from %s to the machine's %s of memory, not %s",
                      base::FormatSize(kHostMemoryMin).c_str(),
                      base::FormatSize(config_.memory_bytes).c_str(), base::FormatSize(real).c_str());
  }
  if (sem().hints == Hints::kBase && !key_dirty()) {
    return base::Fail(
        base::Code::kInvalid,
        "hints=base needs dirty_bits=page: the host could not tell which volatile pages were changed");
  }
  // A host with room for the whole machine pages out only what it is told to: no file is worth taking for
  // that.
  const bool short_of_memory = real < config_.memory_bytes;
  host = TRY(Host::Create(frames, {.semantics = sem(),
                                   .memory_frames = real / kPageSize,
                                   .store_folder = short_of_memory ? config_.swap_folder : ""}));
  discarded = std::make_unique<DiscardedPages>(frames, config_.semantics);
  frames.set_host(host.get(), discarded.get());
  return {};
}

Machine::~Machine() {
  // The youngest first: its ptes are the first on their chains.
  while (!processes_.empty()) exit(processes_.rbegin()->first);
  names_.clear();
  dev_zero_ = nullptr;
}

// ---- processes ----

std::shared_ptr<MmStruct> Machine::new_mm() {
  return {new MmStruct(*this), [](MmStruct* mm) {
            exit_mmap(*mm);
            delete mm;
          }};
}

Process& Machine::attach(Pid pid, std::string name, std::shared_ptr<MmStruct> mm) {
  auto process = std::make_unique<Process>();
  process->pid = pid;
  process->name = std::move(name);
  process->mm = std::move(mm);
  const auto [place, inserted] = processes_.emplace(pid, std::move(process));
  CHECK(inserted);
  return *place->second;
}

Process& Machine::spawn(Pid pid, std::string name) { return attach(pid, std::move(name), new_mm()); }

SysResult<Process*> Machine::fork(Pid parent, Pid child, std::string name) {
  Process* from = find_process(parent);
  CHECK(from != nullptr);
  std::unique_ptr<MmStruct> copy = SYS_TRY(dup_mm(*from->mm));
  const std::shared_ptr<MmStruct> mm(copy.release(), [](MmStruct* owned) {
    exit_mmap(*owned);
    delete owned;
  });
  Process& process = attach(child, std::move(name), mm);
  process.ppid = parent;
  process.rlimit_fsize = from->rlimit_fsize;
  process.rlimit_stack = from->rlimit_stack;
  return &process;
}

Process& Machine::clone_vm(Pid parent, Pid child, std::string name) {
  const Process* from = find_process(parent);
  CHECK(from != nullptr);
  Process& process = attach(child, std::move(name), from->mm);
  process.ppid = parent;
  process.rlimit_fsize = from->rlimit_fsize;
  process.rlimit_stack = from->rlimit_stack;
  return process;
}

void Machine::exit(Pid pid) {
  // Out of the table first: its memory goes step by step, beside what others do.
  const auto gone = processes_.extract(pid);
  CHECK(!gone.empty());
}

Process* Machine::find_process(Pid pid) {
  const auto found = processes_.find(pid);
  return found == processes_.end() ? nullptr : found->second.get();
}

// ---- files ----

FilePtr Machine::AddFile(std::string name, FileKind kind, uint64_t size, std::unique_ptr<Disk> disk) {
  const FileId id{next_file_++};
  FilePtr file(new File(id, std::move(name), kind, size, std::move(disk)), [this](File* owned) {
    evict_inode(*this, *owned);
    all_files_.erase(owned->id());
    delete owned;
  });
  all_files_.emplace(id, file);
  return file;
}

FilePtr Machine::create_file(std::string name, uint64_t size, std::unique_ptr<Disk> disk) {
  FilePtr file = AddFile(std::move(name), FileKind::kRegular, size, std::move(disk));
  CHECK(names_.emplace(file->name(), file).second);
  return file;
}

FilePtr Machine::create_deleted_file(std::string name, uint64_t size, std::unique_ptr<Disk> disk) {
  FilePtr file = AddFile(std::move(name), FileKind::kRegular, size, std::move(disk));
  file->deleted = true;
  return file;
}

FilePtr Machine::create_shmem(std::string name, uint64_t size) {
  return AddFile(std::move(name), FileKind::kShmem, size, nullptr);
}

FilePtr Machine::dev_zero() {
  if (dev_zero_ == nullptr) dev_zero_ = AddFile("/dev/zero", FileKind::kDevZero, 0, nullptr);
  return dev_zero_;
}

std::vector<FilePtr> Machine::files() const {
  std::vector<FilePtr> alive;
  for (const auto& [id, weak] : all_files_) {
    if (FilePtr file = weak.lock()) alive.push_back(std::move(file));
  }
  return alive;
}

FilePtr Machine::find_file(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : found->second;
}

void Machine::unlink(const FilePtr& file) {
  CHECK(!file->deleted);
  file->deleted = true;
  CHECK(!names_.extract(file->name()).empty());
}

// ---- loads and stores ----

Outcome Machine::do_page_fault(Process& process, Vaddr addr, Write write) {
  MmStruct& mm = *process.mm;
  if (addr >= TASK_SIZE) return Outcome::kSigsegv;
  ReadGuard guard(mm.mmap_sem);
  Vma* vma = mm.find_vma(addr);
  if (vma == nullptr) return Outcome::kSigsegv;
  if (vma->start > addr) {
    if ((vma->flags & VM_GROWSDOWN) == 0) return Outcome::kSigsegv;
    if (!expand_stack(*vma, addr, process.rlimit_stack)) return Outcome::kSigsegv;
  }
  // As on x86: any access right allows reading.
  if ((vma->flags & (write == Write::kYes ? VM_WRITE : VM_ACCESS_FLAGS)) == 0) return Outcome::kSigsegv;
  const VmFault fault = handle_mm_fault(mm, *vma, addr, write);
  if ((fault & VM_FAULT_OOM) != 0) return Outcome::kOom;
  if ((fault & VM_FAULT_SIGBUS) != 0) return Outcome::kSigbus;
  return Outcome::kOk;
}

// The access itself, by a pte that allows it. nullptr: the host had discarded the page; it is taken out now.
std::byte* Machine::Touch(Process& process, Vaddr addr, Pte& pte, Write write) {
  const Pfn pfn = pte_pfn(pte);
  if (frames.hosted()) [[unlikely]] {
    const Access access = host->access(pfn, write);
    CHECK_MSG(access != Access::kAddressingException, "INV-G11: an access to an unused page");
    if (access == Access::kDiscardFault) {
      do_discard_fault(*this, *process.mm, base::PageAlignDown(addr), pfn);
      return nullptr;
    }
  }
  pte.word |= kPteYoung | (write == Write::kYes ? pte_dirty_bit() : 0);
  if (key_dirty() && write == Write::kYes) frames.at(pfn).flags |= PG_key_dirty;
  std::byte* bytes = frames.arena_bytes(pfn);
  uses(bytes, write == Write::kYes);
  return bytes;
}

std::byte* Machine::fault_in(Process& process, Vaddr addr, Write write, Outcome* outcome) {
  // A fault that lost a race is taken again; no number of CPUs makes one access lose this often.
  constexpr int kTriesMax = 1000;
  const uint64_t needed = kPtePresent | (write == Write::kYes ? kPteWrite : 0);
  for (int tries = 0; tries < kTriesMax; ++tries) {
    Pte* pte = addr < TASK_SIZE ? process.mm->pgtable.find(addr) : nullptr;
    if (pte != nullptr && smp()) {
      if (frames.host_discards() && pte_present(*pte)) {
        racy_read(page_state_object(frames.at(pte_pfn(*pte))), kPageStateName);
        pte = process.mm->pgtable.find(addr);
      }
      racy_change(pte, "pte, as hardware");
      pte = process.mm->pgtable.find(addr);  // its table may be gone
    }
    if (pte != nullptr && (pte->word & (needed | kPteProtnone)) == needed) {
      std::byte* bytes = Touch(process, addr, *pte, write);
      if (bytes == nullptr) continue;
      *outcome = Outcome::kOk;
      return bytes;
    }
    *outcome = do_page_fault(process, addr, write);
    if (*outcome != Outcome::kOk) return nullptr;
  }
  CHECK_MSG(false, "one access faulted for ever");
  return nullptr;
}

AccessResult Machine::load(Process& process, Vaddr addr, std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    const Vaddr at = addr + done;
    const size_t piece = std::min(kPageSize - at % kPageSize, out.size() - done);
    Outcome outcome;
    const std::byte* page = fault_in(process, at, Write::kNo, &outcome);
    if (page == nullptr) return {outcome, at};
    std::memcpy(out.data() + done, page + at % kPageSize, piece);
    done += piece;
  }
  return {};
}

AccessResult Machine::store(Process& process, Vaddr addr, std::span<const std::byte> in) {
  size_t done = 0;
  while (done < in.size()) {
    const Vaddr at = addr + done;
    const size_t piece = std::min(kPageSize - at % kPageSize, in.size() - done);
    Outcome outcome;
    std::byte* page = fault_in(process, at, Write::kYes, &outcome);
    if (page == nullptr) return {outcome, at};
    std::memcpy(page + at % kPageSize, in.data() + done, piece);
    done += piece;
  }
  return {};
}

AccessResult Machine::touch(Process& process, Vaddr addr, uint64_t length, Write write) {
  for (uint64_t done = 0; done < length; done += kPageSize - (addr + done) % kPageSize) {
    const Vaddr at = addr + done;
    Outcome outcome;
    if (fault_in(process, at, write, &outcome) == nullptr) return {outcome, at};
  }
  return {};
}

}  // namespace mm
