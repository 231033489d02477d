// Machine, and the small parts that everything stands on: find_vma, locks.
#include "mm/machine.h"

#include <gtest/gtest.h>

#include "mm/sync.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

constexpr Vaddr kBase = 0x10000000;

TEST(Machine, MemoryHasBounds) {
  const auto create = [](uint64_t bytes) {
    MachineConfig config;
    config.memory_bytes = bytes;
    return Machine::Create(config);
  };
  EXPECT_TRUE(create(kMemoryMin).has_value());
  EXPECT_EQ(create(kMemoryMin).value()->frames.frame_count(), 16u);
  EXPECT_TRUE(create(uint64_t{24} << 30).has_value()) << "memory is only reserved";
  for (const uint64_t bytes : {uint64_t{0}, kMemoryMin - 1, kMemoryMax + 1, ~uint64_t{0}}) {
    ASSERT_FALSE(create(bytes).has_value()) << bytes;
    EXPECT_EQ(create(bytes).error().code, base::Code::kInvalid);
  }
}

TEST(Machine, ProcessesByPid) {
  World w;
  Machine& m = w.machine();
  Process& p = m.spawn(7, "init");
  EXPECT_EQ(m.find_process(7), &p);
  EXPECT_EQ(m.find_process(8), nullptr);
  Process& child = **m.fork(7, 9, "child");
  EXPECT_EQ(child.pid, 9u);
  EXPECT_EQ(child.name, "child");
  m.attach(10, "thread", p.mm);
  m.exit(7);
  EXPECT_EQ(m.find_process(7), nullptr);
  EXPECT_EQ(m.processes().size(), 2u);
  w.Check();
}

TEST(Machine, FilesByName) {
  World w;
  Machine& m = w.machine();
  FilePtr file = w.NewFile(kPage);
  const std::string name = file->name();
  EXPECT_EQ(m.find_file(name), file);
  EXPECT_EQ(m.find_file("other"), nullptr);
  const FilePtr shm = m.create_shmem("shm", kPage);
  EXPECT_EQ(m.find_file("shm"), nullptr) << "objects have no name in the file system";
  EXPECT_NE(shm->id(), file->id());
  EXPECT_EQ(m.dev_zero(), m.dev_zero());
  EXPECT_EQ(m.files().size(), 3u);
  m.unlink(file);
  EXPECT_TRUE(file->deleted);
  EXPECT_EQ(m.find_file(name), nullptr);
  EXPECT_EQ(m.files().size(), 3u) << "somebody still holds it";
  file = nullptr;
  EXPECT_EQ(m.files().size(), 2u);
}

TEST(Machine, FaultInGivesTheBytes) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Anon(p, 1);
  Outcome outcome = Outcome::kOom;
  std::byte* bytes = w.machine().fault_in(p, a + 5, Write::kYes, &outcome);
  ASSERT_NE(bytes, nullptr);
  EXPECT_EQ(outcome, Outcome::kOk);
  bytes[5] = std::byte{'x'};
  EXPECT_BYTES(w.Load(p, a + 4, 3), std::string("\0x\0", 3));
  EXPECT_EQ(w.machine().fault_in(p, a + kPage, Write::kNo, &outcome), nullptr);
  EXPECT_EQ(outcome, Outcome::kSigsegv);
}

TEST(Machine, TouchIsOneAccessAPage) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 4);
  EXPECT_EQ(w.machine().touch(p, kBase + kPage - 1, 2, Write::kYes).outcome, Outcome::kOk);
  EXPECT_EQ(p.mm->anon_rss, 2u);
  EXPECT_EQ(w.machine().touch(p, kBase, 0, Write::kYes).outcome, Outcome::kOk);
  EXPECT_EQ(p.mm->anon_rss, 2u);
  const AccessResult past = w.machine().touch(p, kBase + 3 * kPage, 2 * kPage, Write::kNo);
  EXPECT_EQ(past.outcome, Outcome::kSigsegv);
  EXPECT_EQ(past.addr, kBase + 4 * kPage);
  w.Check();
}

// A range that runs past the end of the address space does not come out empty.
TEST(Machine, TouchDoesNotWrapAround) {
  World w;
  Process& p = w.Spawn();
  w.AnonAt(p, kBase, 1);
  EXPECT_EQ(w.machine().touch(p, ~Vaddr{0} - 10, 100, Write::kNo).outcome, Outcome::kSigsegv);
  EXPECT_EQ(w.machine().touch(p, kBase, ~uint64_t{0}, Write::kNo).outcome, Outcome::kSigsegv);
}

TEST(MmStruct, FindVma) {
  World w;
  Process& p = w.Spawn();
  MmStruct& mm = *p.mm;
  EXPECT_EQ(mm.find_vma(0), nullptr);
  w.AnonAt(p, kBase, 2);
  w.AnonAt(p, kBase + 4 * kPage, 1);
  Vma* low = mm.find_vma(kBase);
  Vma* high = mm.find_vma(kBase + 4 * kPage);
  ASSERT_TRUE(low != nullptr && high != nullptr && low != high);
  EXPECT_EQ(mm.find_vma(0), low) << "the first that ends above";
  EXPECT_EQ(mm.find_vma(kBase + 2 * kPage - 1), low);
  EXPECT_EQ(mm.find_vma(kBase + 2 * kPage), high);
  EXPECT_EQ(mm.find_vma(kBase + 5 * kPage), nullptr);
  EXPECT_EQ(mm.vma_at(kBase + 2 * kPage), nullptr);
  EXPECT_EQ(mm.vma_at(kBase + kPage), low);
  EXPECT_EQ(mm.next_vma(low), high);
  EXPECT_EQ(mm.next_vma(high), nullptr);
  EXPECT_EQ(mm.prev_vma(high), low);
  EXPECT_EQ(mm.prev_vma(low), nullptr);
}

TEST(MmStruct, SpecialMappings) {
  World w;
  Process& p = w.Spawn();
  MapRequest request;
  request.start = kBase;
  request.end = kBase + 2 * kPage;
  request.vm_flags = VM_READ | VM_EXEC | VM_MAYREAD | VM_MAYEXEC;
  request.special = Special::kVdso;
  ASSERT_TRUE(map_region(*p.mm, request).has_value());
  EXPECT_EQ(map_region(*p.mm, request).error().err, ENOMEM) << "the range is taken";
  w.Check();
  EXPECT_BYTES(w.Load(p, kBase, 8), Zeros(8));
  EXPECT_EQ(w.TryStore(p, kBase), Outcome::kSigsegv);
  EXPECT_FALSE(w.Protect(p, kBase, 1, kReadWrite).has_value());
  EXPECT_FALSE(w.IsDirty(p, kBase));
  Process& child = w.Fork(p);
  EXPECT_BYTES(w.Load(child, kBase + kPage, 8), Zeros(8));
}

TEST(SyncDeathTest, ALockThatWouldWaitForEverIsCaught) {
  PageTableLock lock;
  lock.lock();
  EXPECT_FALSE(lock.try_lock());
  EXPECT_DEATH(lock.lock(), "CHECK failed");
  lock.unlock();
  EXPECT_DEATH(lock.unlock(), "CHECK failed");
  MmapSem semaphore;
  semaphore.lock_shared();
  semaphore.lock_shared();
  EXPECT_DEATH(semaphore.lock(), "CHECK failed");
  semaphore.unlock_shared();
  semaphore.unlock_shared();
  semaphore.lock();
  EXPECT_DEATH(semaphore.lock_shared(), "CHECK failed");
  EXPECT_TRUE(semaphore.held());
  semaphore.unlock();
}

}  // namespace
}  // namespace mm
