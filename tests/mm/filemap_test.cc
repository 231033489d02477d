// read, write, writeback and invalidation of files (mm/file.h, mm/filemap.cc).
#include <gtest/gtest.h>

#include "mm/file.h"
#include "tests/mm/failing_disk.h"
#include "tests/mm/world.h"

namespace mm {
namespace {

// A file on a FailingDisk; the disk is the file's.
FilePtr FileOn(World& w, uint64_t size, FailingDisk** disk) {
  auto owned = std::make_unique<FailingDisk>();
  *disk = owned.get();
  for (Pgoff index = 0; index < base::PagesFor(size); ++index) {
    const auto letter = static_cast<char>('a' + index % 26);
    owned->pages[index] = std::string(kPage, letter);
  }
  if (size % kPage != 0) {
    owned->pages[size / kPage].resize(size % kPage);
    owned->pages[size / kPage].resize(kPage, '\0');
  }
  return w.machine().create_file("failing", size, std::move(owned));
}

TEST(Filemap, ReadStopsAtTheEnd) {
  World w;
  const FilePtr file = w.NewFile(2 * kPage + 100);
  EXPECT_BYTES(w.ReadFile(file, 0, 10), w.Original(file, 0, 10));
  EXPECT_BYTES(w.ReadFile(file, 4000, 5000), w.Original(file, 4000, 2 * kPage + 100 - 4000));
  EXPECT_BYTES(w.ReadFile(file, 2 * kPage + 100, 10), "");
  EXPECT_BYTES(w.ReadFile(file, 1 << 30, 10), "");
  EXPECT_BYTES(w.ReadFile(file, 0, 0), "");
}

TEST(Filemap, ReadingTwiceReadsTheDiskOnce) {
  World w;
  const FilePtr file = w.NewFile(2 * kPage);
  w.ReadFile(file, 0, 2 * kPage);
  EXPECT_EQ(w.machine().vmstat.pgpgin, 2u);
  w.ReadFile(file, 0, 2 * kPage);
  EXPECT_EQ(w.machine().vmstat.pgpgin, 2u);
  EXPECT_EQ(file->mapping.pages.size(), 2u);
}

TEST(Filemap, WriteIsReadBackAndOnDiskOnlyAfterFsync) {
  World w;
  const FilePtr file = w.NewFile(3 * kPage);
  EXPECT_EQ(w.WriteFile(file, 4090, "across two pages").value(), 16u);
  EXPECT_BYTES(w.ReadFile(file, 4088, 20),
               w.Original(file, 4088, 2) + "across two pages" + w.Original(file, 4106, 2));
  EXPECT_BYTES(w.OnDisk(file, 4090, 6), w.Original(file, 4090, 6));
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 2u);
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 0u);
  EXPECT_EQ(w.machine().vmstat.pgpgout, 2u);
  EXPECT_BYTES(w.OnDisk(file, 4090, 6), "across");
  EXPECT_BYTES(w.OnDisk(file, 4096, 10), " two pages");
  EXPECT_EQ(file->i_size, 3 * kPage);
}

TEST(Filemap, WriteExtendsAndHolesAreZero) {
  World w;
  const FilePtr file = w.NewFile(100);
  EXPECT_EQ(w.WriteFile(file, 3 * kPage + 5, "end").value(), 3u);
  EXPECT_EQ(file->i_size, 3 * kPage + 8);
  EXPECT_BYTES(w.ReadFile(file, 0, 4 * kPage), w.Original(file, 0, 100) + Zeros(3 * kPage + 5 - 100) + "end");
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_BYTES(w.OnDisk(file, 3 * kPage, 16), Zeros(5) + "end" + Zeros(8));
}

TEST(Filemap, WriteStopsAtTheLimit) {
  World w;
  const FilePtr file = w.NewFile(10);
  EXPECT_EQ(w.WriteFile(file, 0, "0123456789ABCDEF", 12).value(), 12u);
  EXPECT_EQ(file->i_size, 12u);
  EXPECT_EQ(w.WriteFile(file, 12, "x", 12).error(), (SysError{EFBIG, SIGXFSZ}));
  EXPECT_EQ(w.WriteFile(file, 100, "x", 12).error(), (SysError{EFBIG, SIGXFSZ}));
  EXPECT_BYTES(w.ReadFile(file, 0, 100), "0123456789AB");
  EXPECT_EQ(w.WriteFile(file, 12, "", 12).value(), 0u) << "writing nothing is no error";
}

// Bytes behind the end that a shared mapping stored must never become part of the file.
TEST(Filemap, GarbageBehindTheEndIsZeroedByAnExtendingWrite) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(100);
  const Vaddr a = w.Shared(p, file, 1);
  ASSERT_EQ(w.Store(p, a + 100, std::string(1000, 'g')), Outcome::kOk);
  EXPECT_EQ(w.WriteFile(file, 200, "w").value(), 1u);
  EXPECT_BYTES(w.ReadFile(file, 0, 300), w.Original(file, 0, 100) + Zeros(100) + "w");
  ASSERT_EQ(w.Store(p, a + 201, "gg"), Outcome::kOk);
  EXPECT_EQ(w.WriteFile(file, 201, "W").value(), 1u) << "from exactly the end";
  EXPECT_EQ(w.WriteFile(file, 5000, "z").value(), 1u);
  EXPECT_BYTES(w.ReadFile(file, 100, 200), Zeros(100) + "wW" + Zeros(98));
}

TEST(Filemap, WritebackZeroesTheTail) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage + 50);
  const Vaddr a = w.Shared(p, file, 2);
  ASSERT_EQ(w.Store(p, a + kPage + 40, std::string(100, 't')), Outcome::kOk);
  EXPECT_BYTES(w.Load(p, a + kPage + 60, 3), "ttt");
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_BYTES(w.OnDisk(file, kPage + 40, 30), std::string(10, 't') + Zeros(20));
  EXPECT_BYTES(w.Load(p, a + kPage + 45, 30), std::string(5, 't') + Zeros(25));
}

TEST(Filemap, ASharedStoreAfterWritebackIsNoticed) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Shared(p, file, 1);
  ASSERT_EQ(w.Store(p, a, "one"), Outcome::kOk);
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_BYTES(w.OnDisk(file, 0, 3), "one");
  EXPECT_FALSE(pte_write(w.PteAt(p, a))) << "the next store has to fault";
  ASSERT_EQ(w.Store(p, a, "two"), Outcome::kOk);
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 1u);
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_BYTES(w.OnDisk(file, 0, 3), "two");
}

TEST(Filemap, ASharedStoreAfterALoadIsNoticed) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Shared(p, file, 1);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  EXPECT_FALSE(pte_write(w.PteAt(p, a)));
  ASSERT_EQ(w.TryStore(p, a), Outcome::kOk);
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 1u);
}

// INV-M11: a dirty pte that goes dirties its page. Stores to shmem are not noticed in any other way.
TEST(Filemap, DirtyPtesOfShmemDirtyThePage) {
  World w;
  Process& p = w.Spawn();
  const Vaddr a = w.Map(p, 2, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
  const FilePtr shm = w.VmaAt(p, a).file;
  EXPECT_EQ(w.machine().touch(p, a, 2 * kPage, Write::kNo).outcome, Outcome::kOk);
  ASSERT_EQ(w.Store(p, a, "stored"), Outcome::kOk);
  ASSERT_TRUE(w.Unmap(p, a, 2));
  EXPECT_TRUE(w.machine().frames.at(shm->mapping.pages.at(0)).dirty());
  EXPECT_FALSE(w.machine().frames.at(shm->mapping.pages.at(1)).dirty());
}

TEST(Filemap, StoresOutliveTheirMapping) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Shared(p, file, 2);
  ASSERT_EQ(w.Store(p, a + 10, "stored"), Outcome::kOk);
  ASSERT_TRUE(w.Unmap(p, a, 2));
  EXPECT_BYTES(w.ReadFile(file, 10, 6), "stored");
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_BYTES(w.OnDisk(file, 10, 6), "stored");
}

TEST(Filemap, ReadErrors) {
  World w;
  FailingDisk* disk = nullptr;
  const FilePtr file = FileOn(w, 3 * kPage, &disk);
  disk->bad_reads = {1};
  std::string bytes(3 * kPage, '?');
  EXPECT_EQ(generic_file_read(w.machine(), *file, 0, AsWritable(bytes)).value(), kPage)
      << "what came before the error is read";
  EXPECT_EQ(bytes.substr(0, kPage), std::string(kPage, 'a'));
  EXPECT_EQ(generic_file_read(w.machine(), *file, kPage, AsWritable(bytes)).error().err, EIO);
  EXPECT_EQ(w.WriteFile(file, kPage + 10, "x").error().err, EIO);
  EXPECT_EQ(w.WriteFile(file, kPage - 2, "abcd").value(), 2u);
  disk->bad_reads.clear();
  EXPECT_BYTES(w.ReadFile(file, kPage - 3, 6), "aabbbb");
  EXPECT_EQ(w.machine().frames.nr_free(), 4096u - 1 - file->mapping.pages.size()) << "nothing leaked";
}

TEST(Filemap, AFaultOnABadSectorIsSigbus) {
  World w;
  FailingDisk* disk = nullptr;
  const FilePtr file = FileOn(w, 2 * kPage, &disk);
  disk->bad_reads = {0};
  Process& p = w.Spawn();
  const Vaddr a = w.Private(p, file, 2);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kSigbus);
  EXPECT_EQ(w.TryStore(p, a), Outcome::kSigbus);
  EXPECT_BYTES(w.Load(p, a + kPage, 2), "bb");
  disk->bad_reads.clear();
  EXPECT_BYTES(w.Load(p, a, 2), "aa");
}

TEST(Filemap, WriteErrorsLeaveThePageDirtyAndGoOn) {
  World w;
  FailingDisk* disk = nullptr;
  const FilePtr file = FileOn(w, 3 * kPage, &disk);
  for (Pgoff index = 0; index < 3; ++index) {
    ASSERT_TRUE(w.WriteFile(file, index * kPage, "new").has_value());
  }
  disk->bad_writes = {1};
  EXPECT_EQ(w.Fsync(file).error().err, EIO);
  EXPECT_EQ(disk->pages[0].substr(0, 3), "new");
  EXPECT_EQ(disk->pages[1].substr(0, 3), "bbb");
  EXPECT_EQ(disk->pages[2].substr(0, 3), "new") << "the pages behind the bad one are written";
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 1u);
  EXPECT_BYTES(w.ReadFile(file, kPage, 3), "new");
  disk->bad_writes.clear();
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_EQ(disk->pages[1].substr(0, 3), "new");
  EXPECT_EQ(w.machine().vmstat.nr_dirty, 0u);
}

// A medium that refuses to grow: either the write did nothing, or its count says what it did.
TEST(Filemap, AnExtendingWriteOnAMediumThatCannotGrow) {
  World w;
  FailingDisk* disk = nullptr;
  const FilePtr file = FileOn(w, 100, &disk);
  disk->bad_truncate = true;
  const SysResult<uint64_t> wrote = w.WriteFile(file, 100, "more");
  EXPECT_EQ(file->i_size, wrote.has_value() ? 104u : 100u);
  EXPECT_BYTES(w.ReadFile(file, 98, 10), wrote.has_value() ? "aamore" : "aa");
}

TEST(Filemap, FsyncAnswersWhatTheDiskSays) {
  World w;
  FailingDisk* disk = nullptr;
  const FilePtr file = FileOn(w, kPage, &disk);
  ASSERT_TRUE(w.Fsync(file));
  EXPECT_EQ(disk->syncs, 1);
  disk->bad_sync = true;
  EXPECT_EQ(w.Fsync(file).error().err, EIO);
  EXPECT_TRUE(w.Fsync(w.machine().create_shmem("shm", kPage)).has_value());
}

TEST(Filemap, ARangeIsWrittenAndNothingElse) {
  World w;
  FailingDisk* disk = nullptr;
  const FilePtr file = FileOn(w, 4 * kPage, &disk);
  for (Pgoff index = 0; index < 4; ++index) {
    ASSERT_TRUE(w.WriteFile(file, index * kPage, "new").has_value());
  }
  ASSERT_TRUE(filemap_fdatawrite_range(w.machine(), *file, 1, 3));
  w.Check();
  for (Pgoff index = 0; index < 4; ++index) {
    EXPECT_EQ(disk->pages[index].substr(0, 3) == "new", index == 1 || index == 2) << index;
  }
}

TEST(Filemap, InvalidateDropsOnlyWhatNobodyNeeds) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(6 * kPage);
  w.ReadFile(file, 0, 6 * kPage);
  ASSERT_TRUE(w.WriteFile(file, 1 * kPage, "dirty").has_value());
  const Vaddr a = w.Shared(p, file, 6);
  EXPECT_EQ(w.TryLoad(p, a + 2 * kPage), Outcome::kOk);
  const Pfn held = find_get_page(w.machine(), file->mapping, 3);
  invalidate_mapping_pages(w.machine(), file->mapping, 0, 5);
  std::string kept;
  for (const auto& [index, pfn] : file->mapping.pages) kept += std::to_string(index);
  EXPECT_EQ(kept, "1235") << "dirty, mapped, referenced, out of range";
  w.machine().frames.put_page(held);
  EXPECT_BYTES(w.ReadFile(file, 0, kPage), w.Original(file, 0, kPage));
  EXPECT_BYTES(w.ReadFile(file, kPage, 5), "dirty");
}

TEST(Filemap, InvalidateSkipsLockedAndWriteback) {
  World w;
  const FilePtr file = w.NewFile(3 * kPage);
  w.ReadFile(file, 0, 3 * kPage);
  Page& locked = w.machine().frames.at(file->mapping.pages.at(0));
  Page& writeback = w.machine().frames.at(file->mapping.pages.at(1));
  lock_page(locked);
  writeback.flags |= PG_writeback;
  invalidate_mapping_pages(w.machine(), file->mapping, 0, 3);
  EXPECT_EQ(file->mapping.pages.size(), 2u);
  unlock_page_nocheck(locked);
  writeback.flags &= ~PG_writeback;
  invalidate_mapping_pages(w.machine(), file->mapping, 0, ~Pgoff{0});
  EXPECT_TRUE(file->mapping.pages.empty());
}

// invalidate_mapping_pages keeps private copies: they are not in the cache at all.
TEST(Filemap, InvalidateKeepsPrivateCopies) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(kPage);
  const Vaddr a = w.Private(p, file, 1);
  ASSERT_EQ(w.Store(p, a, "mine"), Outcome::kOk);
  invalidate_mapping_pages(w.machine(), file->mapping, 0, 1);
  EXPECT_TRUE(file->mapping.pages.empty());
  EXPECT_BYTES(w.Load(p, a, 4), "mine");
}

TEST(Filemap, DevZeroReadsZerosAndSwallowsWrites) {
  World w;
  const FilePtr zero = w.machine().dev_zero();
  EXPECT_BYTES(w.ReadFile(zero, 12345, 100), Zeros(100));
  EXPECT_EQ(w.WriteFile(zero, 0, "gone").value(), 4u);
  EXPECT_BYTES(w.ReadFile(zero, 0, 4), Zeros(4));
}

// Dirty pages that the disk does not take cannot be reclaimed.
TEST(Filemap, MemoryRunsOutInTheMiddle) {
  World w({}, 16);
  auto disk = std::make_unique<FailingDisk>();
  for (Pgoff index = 0; index < 32; ++index) disk->bad_writes.insert(index);
  const FilePtr file = w.machine().create_file("stuck", 32 * kPage, std::move(disk));
  const SysResult<uint64_t> wrote = w.WriteFile(file, 0, std::string(20 * kPage, 'w'));
  EXPECT_EQ(wrote.value(), 15 * kPage);
  EXPECT_EQ(w.WriteFile(file, 20 * kPage, "x").error().err, ENOMEM);
  EXPECT_BYTES(w.ReadFile(file, 0, 3), "www");
}

// Written pages go to the disk when memory is short, so a file can be larger than memory.
TEST(Filemap, AFileLargerThanMemoryIsWritten) {
  World w({}, 16);
  const FilePtr file = w.NewFile(32 * kPage);
  std::string bytes;
  for (char page = 'a'; page < 'a' + 20; ++page) bytes += std::string(kPage, page);
  EXPECT_EQ(w.WriteFile(file, 0, bytes).value(), 20 * kPage);
  EXPECT_BYTES(w.ReadFile(file, 0, 32 * kPage), bytes + w.Original(file, 20 * kPage, 12 * kPage));
}

TEST(Filemap, FilesGoWithTheirLastUser) {
  World w;
  Process& p = w.Spawn();
  const uint32_t free = w.machine().frames.nr_free();
  FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Shared(p, file, 2);
  ASSERT_EQ(w.Store(p, a, "kept"), Outcome::kOk);
  w.machine().unlink(file);
  EXPECT_EQ(w.machine().find_file(file->name()), nullptr);
  file = nullptr;
  EXPECT_BYTES(w.Load(p, a, 4), "kept") << "deleted files live while they are mapped";
  EXPECT_EQ(w.machine().files().size(), 1u);
  ASSERT_TRUE(w.Unmap(p, a, 2));
  EXPECT_TRUE(w.machine().files().empty());
  EXPECT_EQ(w.machine().frames.nr_free(), free);
}

}  // namespace
}  // namespace mm
