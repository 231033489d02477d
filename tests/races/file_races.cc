// Calls on files against faults and against each other: read, write, fsync, msync, drop_caches.
#include "tests/races/race_world.h"

namespace races {
namespace {

// A file of two pages, mapped shared by processes 0 and 1.
void SharedFile(World& w) {
  w.file = w.NewFile(2);
  w.MapShared(w.Spawn(), kBase, 2, w.file);
  w.MapShared(w.Spawn(), kBase, 2, w.file);
}
// Page 0 begins with 'o', and is dirty; pfn.
void DirtyFile(World& w) {
  SharedFile(w);
  w.Store(w.p(0), kBase, 'o');
  w.pfn = w.PfnAt(w.p(0), kBase);
}
// And nobody maps it.
void DirtyCache(World& w) {
  w.file = w.NewFile(2);
  w.Write(w.file, 0, 'o');
}

void StoreX(World& w) { w.Store(w.p(0), kBase, 'x'); }
void StoreY(World& w) { w.Store(w.p(1), kBase + 1, 'y'); }
void WriteX(World& w) { w.Write(w.file, 0, 'x'); }
void WriteY(World& w) { w.Write(w.file, 1, 'y'); }
void Sync(World& w) { w.Fsync(w.file); }
void Drop(World& w) { w.DropCaches(w.file); }

// What the file holds when nothing of it is in memory any more.
Action OnDisk(uint64_t offset, char byte) {
  return [=](World& w) {
    w.Expect(w.Read(w.file, offset) == byte, "the cache lost it");
    w.Fsync(w.file);
    while (!w.m().processes().empty()) w.m().exit(w.m().processes().begin()->first);
    w.DropCaches(w.file);
    w.Expect(w.file->mapping.pages.empty(), "a clean page stays in the cache");
    w.Expect(w.Read(w.file, offset) == byte, "the disk lost it");
  };
}
Action Both(Action first, Action second) {
  return [=](World& w) {
    first(w);
    second(w);
  };
}
void YIsIn(World& w) { w.Expect(w.Read(w.file, 1) == 'y', "the cache lost 'y'"); }

void AddWriteback(std::vector<Spec>* races) {
  races->push_back(Against("fsync_against_store", DirtyFile, Sync, StoreX, OnDisk(0, 'x')));
  races->push_back(Against("fsync_against_first_store", SharedFile, Sync, StoreX, OnDisk(0, 'x')));
  races->push_back(Against("fsync_against_write", DirtyCache, Sync, WriteX, OnDisk(0, 'x')));
  races->push_back(Against("fsync_against_fsync", DirtyFile, Sync, Sync, OnDisk(0, 'o')));
  races->push_back(Against("fsync_against_reclaim", DirtyFile, Sync, Reclaim, OnDisk(0, 'o')));
  races->push_back(Against(
      "fsync_against_fork", DirtyFile, Sync,
      [](World& w) {
        Process* child = w.Fork(w.p(0));
        w.Store(*child, kBase, 'x');
      },
      OnDisk(0, 'x')));
  races->push_back(Against(
      "fsync_against_munmap", DirtyFile, Sync, [](World& w) { w.Unmap(w.p(0), kBase, 1); }, OnDisk(0, 'o')));
  races->push_back(Against(
      "fsync_against_exit", DirtyFile, Sync,
      [](World& w) {
        if (w.alive(0)) w.Exit(w.p(0));
      },
      OnDisk(0, 'o')));
  races->push_back(Against(
      "msync_against_store", DirtyFile,
      [](World& w) { (void)mm::sys_msync(*w.p(0).mm, kBase, kPage, MS_SYNC); }, StoreY,
      Both(YIsIn, OnDisk(1, 'y'))));
  races->push_back(Against(
      "msync_against_mprotect", DirtyFile,
      [](World& w) { (void)mm::sys_msync(*w.p(0).mm, kBase, kPage, MS_SYNC); },
      [](World& w) {
        (void)mm::sys_mprotect(*w.p(1).mm, kBase, kPage, PROT_READ);
        (void)mm::sys_mprotect(*w.p(1).mm, kBase, kPage, kReadWrite);
        w.Store(w.p(1), kBase, 'x');
      },
      OnDisk(0, 'x')));
  races->push_back(Against("reclaim_against_store", DirtyFile, Reclaim, StoreX, OnDisk(0, 'x')));
  races->push_back(Against("reclaim_against_write", DirtyFile, Reclaim, WriteX, OnDisk(0, 'x')));
  races->push_back(Against(
      "reclaim_against_munmap_of_a_dirty_page", DirtyFile, Reclaim,
      [](World& w) { w.Unmap(w.p(0), kBase, 1); }, OnDisk(0, 'o')));
}

void AddCalls(std::vector<Spec>* races) {
  races->push_back(Against(
      "read_against_read", [](World& w) { w.file = w.NewFile(2); },
      [](World& w) { w.Expect(w.Read(w.file, 0) == 'a', "cpu 0 read something else"); },
      [](World& w) { w.Expect(w.Read(w.file, 1) == 'a', "cpu 1 read something else"); }, OnDisk(0, 'a')));
  races->push_back(Against(
      "write_against_write", [](World& w) { w.file = w.NewFile(2); }, WriteX, WriteY,
      Both(YIsIn, OnDisk(0, 'x'))));
  races->push_back(Against("write_against_store", SharedFile, WriteX, StoreY, Both(YIsIn, OnDisk(0, 'x'))));
  races->push_back(Against(
      "read_against_write", [](World& w) { w.file = w.NewFile(2); },
      [](World& w) {
        const char byte = w.Read(w.file, 0);
        w.Expect(byte == 'a' || byte == 'x', "read something else");
      },
      WriteX, OnDisk(0, 'x')));
  races->push_back(
      Against("drop_caches_against_write", DirtyCache, Both(Sync, Drop), WriteX, OnDisk(0, 'x')));
  races->push_back(
      Against("drop_caches_against_store", SharedFile, Both(Sync, Drop), StoreX, OnDisk(0, 'x')));
  races->push_back(Against(
      "drop_caches_against_read", DirtyCache, Both(Sync, Drop),
      [](World& w) { w.Expect(w.Read(w.file, 0) == 'o', "read something else"); }, OnDisk(0, 'o')));
  races->push_back(Against(
      "drop_caches_against_private_store",
      [](World& w) {
        w.file = w.NewFile(2);
        w.MapPrivate(w.Spawn(), kBase, 2, w.file);
        (void)w.Read(w.file, 0);
      },
      Drop, StoreX, Both([](World& w) { w.ExpectByte(w.p(0), kBase, "x"); }, OnDisk(0, 'a'))));
  races->push_back(Against(
      "private_store_against_store",
      [](World& w) {
        w.file = w.NewFile(2);
        w.MapPrivate(w.Spawn(), kBase, 2, w.file);
        w.MapShared(w.Spawn(), kBase, 2, w.file);
        (void)w.Load(w.p(0), kBase);
      },
      [](World& w) { w.Store(w.p(0), kBase + 1, 'p'); }, [](World& w) { w.Store(w.p(1), kBase, 'x'); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "ax");
        w.ExpectByte(w.p(0), kBase + 1, "p");
        w.ExpectByte(w.p(1), kBase + 1, "a");
        w.ExpectByte(w.p(1), kBase, "x");
      }));
}

// A fault that takes no page lock meets a page that leaves the cache.
void AddGeneration18(std::vector<Spec>* races) {
  races->push_back(
      Against("drop_caches_against_store_k18", SharedFile, Both(Sync, Drop), StoreX, OnDisk(0, 'x')));
  races->back().semantics.truncate_race = mm::TruncateRace::kTruncateCount;
  races->push_back(Against("fsync_against_store_k18", DirtyFile, Sync, StoreX, OnDisk(0, 'x')));
  races->back().semantics.truncate_race = mm::TruncateRace::kTruncateCount;
}

// Behind the end of a file of a page and a half there is nothing to read, whatever a shared mapping stored
// there.
void AddEndOfFile(std::vector<Spec>* races) {
  const Action odd = [](World& w) {
    SharedFile(w);
    w.Truncate(w.file, kPage + kPage / 2);
  };
  races->push_back(Against(
      "write_behind_the_end_against_load", odd, [](World& w) { w.Write(w.file, 3 * kPage, 'z'); },
      [](World& w) { w.ExpectByte(w.p(0), kBase + kPage, "b"); },
      Both(
          [](World& w) {
            w.Expect(w.Read(w.file, 2 * kPage) == '\0', "a hole is not zero");
            w.Expect(w.Read(w.file, 2 * kPage - 1) == '\0', "the gap is not zero");
          },
          OnDisk(3 * kPage, 'z'))));
  races->push_back(Against(
      "append_against_fsync", odd, [](World& w) { w.Write(w.file, kPage + kPage / 2, 'z'); }, Sync,
      OnDisk(kPage + kPage / 2, 'z')));
  races->push_back(Against(
      "append_against_read", odd, [](World& w) { w.Write(w.file, kPage + kPage / 2, 'z'); },
      [](World& w) {
        const char byte = w.Read(w.file, kPage + kPage / 2);
        w.Expect(byte == '!' || byte == 'z', "read something else");
      },
      OnDisk(kPage + kPage / 2, 'z')));
  races->push_back(Against(
      "append_against_reclaim", odd, [](World& w) { w.Write(w.file, kPage + kPage / 2, 'z'); },
      [](World& w) { (void)mm::try_to_free_pages(w.m(), 1); }, OnDisk(kPage + kPage / 2, 'z')));
}

}  // namespace

void AddFileRaces(std::vector<Spec>* races) {
  AddWriteback(races);
  AddCalls(races);
  AddGeneration18(races);
  AddEndOfFile(races);
}

}  // namespace races
