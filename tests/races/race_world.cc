#include "tests/races/race_world.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/random.h"
#include "mm/disk.h"
#include "mm/validate.h"

namespace races {
namespace {

// Page i is full of 'a' + i.
class Letters : public mm::Content {
 public:
  mm::SysResult<void> ReadPage(mm::Pgoff index, mm::PageSpan page) const override {
    std::memset(page.data(), static_cast<int>('a' + index), page.size());
    return {};
  }
};

mm::MachineConfig Config(const Spec& spec) {
  mm::MachineConfig config;
  config.memory_bytes = spec.frames * kPage;
  config.swap_bytes = spec.swap_pages * kPage;
  config.semantics = spec.semantics;
  return config;
}

}  // namespace

World::World(const Spec& spec) : spec_(spec), machine_(mm::Machine::Create(Config(spec)).value()) {
  spec.setup(*this);
}

void World::Run(unsigned cpu) {
  const std::vector<Action>& own = spec_.cpus;
  if (cpu < own.size()) return own[cpu](*this);
  if (spec_.alone) return;
  const std::vector<Action>& others = spec_.others.empty() ? own : spec_.others;
  others[(cpu - own.size()) % others.size()](*this);
}

// ---- the host ----

namespace {

mm::Pfn PageOf(mm::Machine& machine, const void* object) {
  const char* flags = static_cast<const char*>(object) - 3;  // page_state_object()
  return machine.frames.pfn_of(*reinterpret_cast<const mm::Page*>(flags - offsetof(mm::Page, flags)));
}

}  // namespace

// What a stable page's bytes go through is the paging store's business alone: the guest cannot see it.
bool World::HostMay(const void* object) {
  const mm::PageState state = machine_->host->state(PageOf(*machine_, object));
  return state == mm::PageState::Vr || state == mm::PageState::Pr || state == mm::PageState::Ur;
}

void World::HostMove(const void* object) { (void)machine_->host->take(PageOf(*machine_, object)); }

// ---- processes ----

Process& World::Spawn() {
  processes_.push_back(&machine_->spawn(next_pid_++, "p"));
  return *processes_.back();
}

Process* World::Fork(Process& parent) {
  const mm::SysResult<Process*> child = machine_->fork(parent.pid, next_pid_++, "child");
  if (!child) return nullptr;
  processes_.push_back(*child);
  return *child;
}

Process& World::Thread(Process& parent) {
  processes_.push_back(&machine_->clone_vm(parent.pid, next_pid_++, "thread"));
  return *processes_.back();
}

void World::Exit(Process& process) {
  *std::ranges::find(processes_, &process) = nullptr;
  machine_->exit(process.pid);
}

// ---- files ----

FilePtr World::NewFile(uint64_t pages) {
  mm::Recipe recipe;
  recipe.kind = mm::Recipe::Kind::kGenerated;
  recipe.generator = "letters";
  recipe.size = pages * kPage;
  return machine_->create_file(
      "file" + std::to_string(next_file_++), pages * kPage,
      std::make_unique<mm::OverlayDisk>(mm::OpenedContent{recipe, std::make_unique<Letters>()}));
}

void World::Truncate(const FilePtr& which, uint64_t bytes) {
  (void)mm::vmtruncate(*machine_, *which, bytes, mm::RLIM_INFINITY_BYTES);
}

void World::Punch(const FilePtr& which, uint64_t page, uint64_t pages) {
  (void)mm::punch_hole(*machine_, *which, page * kPage, pages * kPage);
}

char World::Read(const FilePtr& which, uint64_t offset) {
  char byte = 0;
  const auto got =
      mm::generic_file_read(*machine_, *which, offset, std::as_writable_bytes(std::span(&byte, 1)));
  return !got ? '%' : *got == 0 ? '!' : byte;
}

void World::Write(const FilePtr& which, uint64_t offset, char byte) {
  (void)mm::generic_file_write(*machine_, *which, offset, std::as_bytes(std::span(&byte, 1)),
                               mm::RLIM_INFINITY_BYTES);
}

void World::Fsync(const FilePtr& which) { (void)mm::vfs_fsync(*machine_, *which); }

void World::DropCaches(const FilePtr& which) {
  mm::invalidate_mapping_pages(*machine_, which->mapping, 0, ~mm::Pgoff{0});
}

// ---- memory ----

void World::MapAnon(Process& process, Vaddr addr, uint64_t pages) {
  CHECK(mm::sys_mmap(*process.mm, addr, pages * kPage, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                     nullptr, 0));
}

void World::MapPrivate(Process& process, Vaddr addr, uint64_t pages, const FilePtr& from, uint64_t page) {
  CHECK(mm::sys_mmap(*process.mm, addr, pages * kPage, kReadWrite, MAP_PRIVATE | MAP_FIXED, from,
                     page * kPage));
}

void World::MapShared(Process& process, Vaddr addr, uint64_t pages, const FilePtr& from, uint64_t page) {
  CHECK(
      mm::sys_mmap(*process.mm, addr, pages * kPage, kReadWrite, MAP_SHARED | MAP_FIXED, from, page * kPage));
}

Outcome World::Store(Process& process, Vaddr addr, char byte) {
  return machine_->store(process, addr, std::as_bytes(std::span(&byte, 1))).outcome;
}

char World::Load(Process& process, Vaddr addr) {
  char byte = 0;
  switch (machine_->load(process, addr, std::as_writable_bytes(std::span(&byte, 1))).outcome) {
    case Outcome::kOk: return byte;
    case Outcome::kSigbus: return '!';
    case Outcome::kSigsegv: return '?';
    case Outcome::kOom: return '%';
  }
  return '\0';
}

void World::Unmap(Process& process, Vaddr addr, uint64_t pages) {
  (void)mm::sys_munmap(*process.mm, addr, pages * kPage);
}

void World::Remap(Process& process, Vaddr addr, uint64_t page) {
  (void)mm::sys_remap_file_pages(*process.mm, addr, kPage, 0, page, 0);
}

mm::Pfn World::PfnAt(Process& process, Vaddr addr) {
  const mm::Pte* pte = process.mm->pgtable.find(addr);
  CHECK(pte != nullptr && mm::pte_present(*pte));
  return mm::pte_pfn(*pte);
}

void World::PageOut(Process& process, Vaddr addr) {
  (void)mm::sys_madvise(*process.mm, addr, kPage, MADV_PAGEOUT);
}

// ---- the end ----

void World::ExpectByte(Process& process, Vaddr addr, const std::string& allowed) {
  const char byte = Load(process, addr);
  if (allowed.find(byte) != std::string::npos) return;
  Expect(false, base::Format("pid %u %#llx reads '%c', not one of \"%s\"", process.pid,
                             static_cast<unsigned long long>(addr), byte, allowed.c_str()));
}

std::string World::Leftovers() {
  while (!machine_->processes().empty()) machine_->exit(machine_->processes().rbegin()->first);
  processes_.clear();
  file = nullptr;
  shmem = nullptr;
  for (const FilePtr& one : machine_->files()) {
    if (!one->deleted && one->disk() != nullptr) machine_->unlink(one);
  }
  if (machine_->swap != nullptr) {
    for (mm::SwpEntry slot = 1; slot < machine_->swap->high_water(); ++slot) {
      if (machine_->swap->count(slot) > 0) return base::Format("slot %u is left behind", slot);
    }
    // A page whose lock somebody held just then stays in the swap cache, for reclaim to find.
    if (!mm::sys_swapoff(*machine_)) return "swap cannot be switched off";
  }
  if (machine_->discarded != nullptr) (void)machine_->discarded->wait();
  uint32_t free = machine_->frames.nr_free();
  if (machine_->discarded != nullptr) free += static_cast<uint32_t>(machine_->discarded->size());
  if (spec_.poisons && (machine_->frames.at(pfn).flags & mm::PG_hwpoison) != 0) ++free;
  if (free + 1 != machine_->frames.frame_count()) {
    return base::Format("%u pages are left behind", machine_->frames.frame_count() - 1 - free);
  }
  if (machine_->pte_chains.in_use() > 0) return "chain entries are left behind";
  return {};
}

std::optional<std::string> World::Check() {
  if (spec_.keep_state) {
    for (const char c : mm::TextDump(*machine_)) state_ = base::Mix64(state_ ^ static_cast<unsigned char>(c));
  }
  if (auto broken = mm::Validate(*machine_, mm::Depth::kDeep)) return broken;
  if (spec_.check) spec_.check(*this);
  if (!wrong_.empty()) return wrong_;
  if (auto broken = mm::Validate(*machine_, mm::Depth::kDeep)) return "after the last look: " + *broken;
  std::string left = Leftovers();
  return left.empty() ? std::nullopt : std::optional(left);
}

const std::vector<Spec>& Races() {
  static const std::vector<Spec> races = [] {
    std::vector<Spec> all;
    AddFaultRaces(&all);
    AddSwapRaces(&all);
    AddShmemRaces(&all);
    AddRmapRaces(&all);
    AddFileRaces(&all);
    AddTruncateRaces(&all);
    AddFailureRaces(&all);
    AddCheckpointRaces(&all);
    AddHintingRaces(&all);
    AddSoftDirtyRaces(&all);
    return all;
  }();
  return races;
}

const Spec& FindRace(const std::string& name) {
  const auto found = std::ranges::find(Races(), name, &Spec::name);
  CHECK_MSG(found != Races().end(), name);
  return *found;
}

}  // namespace races
