// Drawing a case, running it, and the file system's half of the calls. calls.cc has the other half.
#include "tests/property/driver.h"

#include <sys/mman.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "base/random.h"
#include "mm/follow_page.h"
#include "mm/validate.h"
#include "tests/property/soft_dirty.h"
#include "tests/property/world.h"

namespace property {
namespace {

using base::Format;
using Difference = std::optional<std::string>;

constexpr uint64_t kFilePagesMax = 12;

// How often each kind comes up in an even mixture.
constexpr std::array<uint32_t, static_cast<size_t>(Kind::kCount)> kWeights = {
    24,  // kStore
    12,  // kLoad
    4,   // kTouch
    14,  // kMmap
    4,   // kMunmap
    6,   // kMprotect
    6,   // kMremap
    3,   // kBrk
    4,   // kMadvise
    6,   // kFork
    1,   // kCloneVm
    1,   // kSpawn
    4,   // kExit
    2,   // kRead
    6,   // kWrite
    8,   // kTruncate
    4,   // kPunchHole
    3,   // kMsync
    2,   // kFsync
    5,   // kDropCache
    5,   // kGup
    2,   // kPin
    2,   // kUnpin
    1,   // kLimit
    2,   // kDirtyScan
    3,   // kMlock
    3,   // kMunlock
    5,   // kRemapFilePages
    4,   // kReclaim
    6,   // kPageOut
    1,   // kSwapoff
};

Progress g_progress;

}  // namespace

const Progress& CurrentProgress() { return g_progress; }

Case MakeCase(uint64_t seed, size_t steps) {
  base::Random random(seed);
  std::array<uint32_t, kWeights.size()> weights;
  uint64_t total = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    // A quarter of the kinds are off, the others from rare to eight times as often.
    const auto factor = static_cast<uint32_t>(random.Below(4) == 0 ? 0 : 1 << random.Below(4));
    weights[i] = i == static_cast<size_t>(Kind::kMmap) ? kWeights[i] : kWeights[i] * factor;
    total += weights[i];
  }
  Case test{.seed = seed, .ops = std::vector<Op>(steps)};
  for (Op& op : test.ops) {
    uint64_t pick = random.Below(total);
    size_t kind = 0;
    while (pick >= weights[kind]) pick -= weights[kind++];
    op.kind = static_cast<Kind>(kind);
    for (uint32_t& word : op.words) word = static_cast<uint32_t>(random.Next());
  }
  return test;
}

naive::Rules RulesOf(const mm::Semantics& semantics) {
  return {.cow_survives_truncate = semantics.cow_survives_truncate == mm::CowSurvivesTruncate::kYes,
          .punch_zaps_cow = semantics.hole_punch_cow == mm::HolePunchCow::kZapped,
          .remap_installs = semantics.remap_populate == mm::RemapPopulate::kInstall,
          .anon_read_allocates = semantics.anon_read_fault == mm::AnonReadFault::kNewPage};
}

World::World(const Options& given) : options(given), model(RulesOf(given.semantics)) {
  constexpr uint64_t kAmplePages = 4096;
  constexpr uint64_t kSmallPages = 20;
  constexpr uint64_t kTightPages = 72;
  constexpr uint64_t kSwapPages = 4096;
  mm::MachineConfig config{.semantics = given.semantics};
  config.memory_bytes = kAmplePages * naive::kPage;
  if (given.memory == Memory::kSmall) config.memory_bytes = kSmallPages * naive::kPage;
  if (given.memory == Memory::kTight) config.memory_bytes = kTightPages * naive::kPage;
  // As posted, get_dirty_page loses what is in the swap cache: that rule is for machines without swap.
  const bool swap = given.memory != Memory::kSmall && given.semantics.dirty_rule == mm::DirtyRule::kAnonymous;
  if (swap) config.swap_bytes = kSwapPages * naive::kPage;
  constexpr uint64_t kHostPages = 100;
  const bool hosted = given.host || given.semantics.hints != mm::Hints::kOff;
  if (hosted && given.memory == Memory::kAmple) config.host_bytes = kHostPages * naive::kPage;
  if (given.host && given.memory == Memory::kTight) config.host_bytes = mm::kHostMemoryMin;
  machine = std::move(mm::Machine::Create(config).value());
}

void SetUp(World& world, uint64_t seed) {
  base::Random random(base::Mix64(seed));
  for (uint64_t i = 0; i < 3; ++i) {
    const bool disk = i < 2;
    uint64_t size = random.Below(kFilePagesMax) * naive::kPage;
    if (random.Below(4) != 0) size += random.Below(naive::kPage);
    auto object = std::make_shared<naive::Object>();
    object->disk = disk;
    object->size = size;
    if (disk) {
      mm::Recipe recipe;
      recipe.kind = mm::Recipe::Kind::kGenerated;
      recipe.size = size;
      recipe.generator = "random";
      recipe.seed = seed + i;
      mm::OpenedContent opened = mm::OpenContent(recipe).value();
      for (uint64_t page = 0; page < object->size_pages(); ++page) {
        CHECK(opened.content->ReadPage(page, object->pages[page]));
      }
      world.files.push_back(world.machine->create_file(Format("file%u", static_cast<unsigned>(i)), size,
                                                       std::make_unique<mm::OverlayDisk>(std::move(opened))));
    } else {
      world.files.push_back(world.machine->create_shmem("tmpfs", size));
    }
    object->id = static_cast<uint32_t>(world.files.back()->id());
    world.objects.push_back(std::move(object));
  }
  AddProcess(world);
}

std::optional<Failure> RunCase(const Case& test, const Options& options) {
  g_progress.seed = test.seed;
  g_progress.step = 0;
  World world(options);
  SetUp(world, test.seed);
  SoftDirtyCheck soft_dirty(world);
  for (size_t step = 0; step < test.ops.size(); ++step) {
    g_progress.step = step;
    ++g_progress.steps_total;
    const bool was_synced = world.synced;
    const uint64_t stalls = world.machine->vmstat.allocstall;
    Difference difference;
    if (options.soft_dirty && world.synced) difference = soft_dirty.Before(test.ops[step]);
    if (difference) return Failure{step, *difference};
    if (options.memory == Memory::kTight) AlignFiles(world);
    if (MoveHost(world, test.ops[step])) ++g_progress.host_steps;
    difference = RunOp(world, test.ops[step]);
    // Also where the step itself made memory free again: what was written back for it is not noticed here.
    const bool made_room = options.memory == Memory::kSmall && world.machine->vmstat.allocstall != stalls;
    if (made_room || world.machine->frames.nr_free() == 0) {
      if (options.memory == Memory::kAmple) return Failure{step, "memory ran out"};
      world.synced = false;
    }
    // Once an allocation may have failed, the outcomes of this step are as unknown as the contents.
    if (difference && (was_synced && world.synced)) return Failure{step, *difference};
    if (world.synced) difference = Compare(world);
    if (world.synced && !difference && options.soft_dirty) difference = soft_dirty.After(test.ops[step]);
    if (world.synced && difference) return Failure{step, *difference};
    const bool last = step + 1 == test.ops.size();
    if (options.checks == Checks::kAll && (last || step % options.validate_every == 0)) {
      if (const Difference broken = mm::Validate(*world.machine, mm::Depth::kDeep)) {
        return Failure{step, "Validate: " + *broken};
      }
    }
  }
  for (std::vector<mm::Pfn>& pages : world.pins) mm::unpin_user_pages(*world.machine, pages);
  if (world.machine->host != nullptr) {
    g_progress.discarded += world.machine->host->stat().discarded;
    g_progress.discard_faults += world.machine->host->stat().discard_faults;
    g_progress.paged_out += world.machine->host->stat().paged_out;
  }
  g_progress.clears += soft_dirty.stat().clears;
  g_progress.clean += soft_dirty.stat().clean;
  g_progress.soft_dirty += soft_dirty.stat().soft_dirty;
  return {};
}

// ---- calls on files ----

namespace {

unsigned long long Hex(uint64_t value) { return value; }

void Trace(const World& world, const std::string& call) {
  if (world.options.trace) std::fprintf(stderr, "  %zu: %s\n", g_progress.step, call.c_str());
}

// An offset in the file, or around its end, or around the end of a page.
uint64_t PickOffset(Draw& draw, const naive::Object& object) {
  const uint64_t page = draw.Below(kFilePagesMax + 1) * naive::kPage;
  switch (draw.Below(7)) {
    case 0: return page;
    case 1: return page + 1;
    case 2: return page > 0 ? page - 1 : 0;
    case 3: return std::min(object.size + draw.Below(3), kFilePagesMax * naive::kPage);
    case 4: return object.size > 0 ? object.size - 1 : 0;
    case 5: return object.size - std::min(object.size, draw.Below(3) * naive::kPage + draw.Below(2));
    default: return page + draw.Below(naive::kPage);
  }
}

uint64_t PickCount(Draw& draw) {
  constexpr uint64_t kCounts[] = {1, 2, 100, naive::kPage, naive::kPage + 1, 2 * naive::kPage};
  return kCounts[draw.Below(std::size(kCounts))];
}

Difference DoRead(World& world, size_t file, Draw& draw) {
  const uint64_t offset = PickOffset(draw, *world.objects[file]);
  std::vector<std::byte> real(PickCount(draw));
  std::vector<std::byte> expected(real.size());
  Trace(world, Format("read(file%zu, %#llx, %zu)", file, Hex(offset), real.size()));
  const mm::SysResult<uint64_t> count =
      mm::generic_file_read(*world.machine, *world.files[file], offset, real);
  if (!world.synced) return {};
  const uint64_t wanted = world.model.ReadFile(*world.objects[file], offset, expected);
  if (!count) return Format("read fails with errno %d", count.error().err);
  if (*count != wanted) return Format("read answers %llu, expected %llu", Hex(*count), Hex(wanted));
  if (real != expected) return "read has other bytes";
  return {};
}

Difference DoWrite(World& world, size_t file, uint64_t limit, Draw& draw) {
  const uint64_t offset = PickOffset(draw, *world.objects[file]);
  std::vector<std::byte> bytes(PickCount(draw));
  const uint64_t value = 1 + draw.Below(255);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(value + i * 7);
  Trace(world, Format("write(file%zu, %#llx, %zu) limit %#llx", file, Hex(offset), bytes.size(), Hex(limit)));
  const mm::SysResult<uint64_t> count =
      mm::generic_file_write(*world.machine, *world.files[file], offset, bytes, limit);
  if (!world.synced) return {};
  const naive::Written wanted = world.model.WriteFile(*world.objects[file], offset, bytes, limit);
  const naive::Written got{count.value_or(0), count ? 0 : count.error().err};
  if (got.count == wanted.count && got.err == wanted.err) return {};
  return Format("write answers %llu errno %d, expected %llu errno %d", Hex(got.count), got.err,
                Hex(wanted.count), wanted.err);
}

Difference SameErrno(const char* call, const mm::SysResult<void>& real, int expected) {
  const int err = real ? 0 : real.error().err;
  if (err == expected) return {};
  return Format("%s answers errno %d, expected %d", call, err, expected);
}

Difference DoTruncate(World& world, size_t file, uint64_t limit, Draw& draw) {
  const uint64_t size = PickOffset(draw, *world.objects[file]);
  Trace(world, Format("truncate(file%zu, %#llx) limit %#llx", file, Hex(size), Hex(limit)));
  const mm::SysResult<void> real = mm::vmtruncate(*world.machine, *world.files[file], size, limit);
  if (!world.synced) return {};
  if (!real && (real.error().sig == SIGXFSZ) != (real.error().err == EFBIG)) return "EFBIG without SIGXFSZ";
  return SameErrno("truncate", real, world.model.Truncate(*world.objects[file], size, limit));
}

Difference DoPunchHole(World& world, size_t file, Draw& draw) {
  const uint64_t offset = PickOffset(draw, *world.objects[file]);
  const uint64_t length = draw.OneIn(30) ? 0 : draw.Below(3) * naive::kPage + PickCount(draw);
  Trace(world, Format("punch_hole(file%zu, %#llx, %#llx)", file, Hex(offset), Hex(length)));
  const mm::SysResult<void> real = mm::punch_hole(*world.machine, *world.files[file], offset, length);
  if (!world.synced) return {};
  return SameErrno("punch_hole", real, world.model.PunchHole(*world.objects[file], offset, length));
}

// What reclaim does to a file's clean pages; half of the time after their shared mappings let go of them.
// Contents must come back from the disk, and what was stored must have been noticed as dirty.
void DropCache(World& world, Draw& draw) {
  const std::vector<mm::FilePtr> files = world.machine->files();
  mm::File& file = *files[draw.Below(files.size())];
  const bool unmap = draw.OneIn(2);
  Trace(world, Format("drop_cache(file %u)%s", static_cast<unsigned>(file.id()), unmap ? ", unmapped" : ""));
  for (Proc& proc : world.procs) {
    for (const auto& [start, vma] : world.mm(proc).vmas()) {
      if (!unmap || vma->file.get() != &file || !vma->is_shared()) continue;
      const uint64_t length = vma->end - start;
      const bool dropped = mm::sys_madvise(world.mm(proc), start, length, MADV_DONTNEED).has_value();
      const bool expected = !world.synced || world.model.DontNeed(*proc.memory, start, length) == 0;
      CHECK(!world.synced || dropped == expected);  // not where memory is locked
    }
  }
  mm::invalidate_mapping_pages(*world.machine, file.mapping, 0, ~mm::Pgoff{0});
}

}  // namespace

std::optional<std::string> RunFileOp(World& world, const Op& op) {
  Draw draw(op);
  const size_t file = draw.Below(world.files.size());
  Proc& proc = world.procs[draw.Below(world.procs.size())];
  const uint64_t limit = world.process(proc).rlimit_fsize;
  switch (op.kind) {
    case Kind::kRead: return DoRead(world, file, draw);
    case Kind::kWrite: return DoWrite(world, file, limit, draw);
    case Kind::kTruncate: return DoTruncate(world, file, limit, draw);
    case Kind::kPunchHole: return DoPunchHole(world, file, draw);
    case Kind::kFsync: {
      Trace(world, Format("fsync(file%zu)", file));
      const mm::SysResult<void> real = mm::vfs_fsync(*world.machine, *world.files[file]);
      world.model.WriteBack(*world.objects[file], 0, ~uint64_t{0});
      return SameErrno("fsync", real, 0);
    }
    case Kind::kDropCache:
      DropCache(world, draw);
      NoteWriteBack(world);
      return {};
    case Kind::kLimit:
      world.process(proc).rlimit_fsize =
          draw.OneIn(2) ? mm::RLIM_INFINITY_BYTES : PickOffset(draw, *world.objects[file]);
      return {};
    default: return {};
  }
}

}  // namespace property
