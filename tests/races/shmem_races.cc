// Shared memory objects: their pages between memory and swap.
#include "tests/races/race_world.h"

namespace races {
namespace {

constexpr uint64_t kPages = 2;

// An object of two pages, mapped by processes 0 and 1: page 0 begins with 'o', page 1 with 'p', and each has
// an 'e' in its middle. pfn is page 1.
void Object(World& w) {
  w.shmem = w.m().create_shmem("shm", kPages * kPage);
  for (int i = 0; i < 2; ++i) w.MapShared(w.Spawn(), kBase, kPages, w.shmem);
  w.Store(w.p(0), kBase, 'o');
  w.Store(w.p(0), kBase + kPage, 'p');
  w.Store(w.p(0), kBase + kPage / 2, 'e');
  w.Store(w.p(0), kBase + kPage + kPage / 2, 'e');
  w.pfn = w.PfnAt(w.p(0), kBase + kPage);
}
void ObjectInSwap(World& w) {
  Object(w);
  w.Reclaim(w.pfn);
}

void StoreX(World& w) { w.Store(w.p(0), kBase + kPage, 'x'); }
void StoreY(World& w) { w.Store(w.p(1), kBase + kPage + 1, 'y'); }

// Cut in the middle of page 1, and extended again: its second half is zero.
void TailIsZero(World& w) {
  w.ExpectByte(w.p(1), kBase + kPage + kPage / 2, std::string(1, '\0'));
  w.Truncate(w.shmem, 2 * kPage);
  w.ExpectByte(w.p(0), kBase + kPage, "p");
  w.ExpectByte(w.p(0), kBase + kPage + kPage / 2, std::string(1, '\0'));
}
// What was cut off or punched out.
void PageIsZero(World& w) {
  w.Truncate(w.shmem, 2 * kPage);
  w.ExpectByte(w.p(0), kBase + kPage, std::string(1, '\0'));
  w.ExpectByte(w.p(0), kBase + kPage + kPage / 2, std::string(1, '\0'));
  w.ExpectByte(w.p(0), kBase, "o");
}
Action CutTo(uint64_t bytes) {
  return [=](World& w) { w.Truncate(w.shmem, bytes); };
}
void PunchPage1(World& w) { w.Punch(w.shmem, 1, 1); }

void AddReclaim(std::vector<Spec>* races) {
  races->push_back(Against("shmem_store_against_store", Object, StoreX, StoreY, [](World& w) {
    w.ExpectByte(w.p(1), kBase + kPage, "x");
    w.ExpectByte(w.p(0), kBase + kPage + 1, "y");
  }));
  races->push_back(Against("shmem_reclaim_against_store", Object, StoreX, Reclaim,
                           [](World& w) { w.ExpectByte(w.p(1), kBase + kPage, "x"); }));
  races->push_back(Against("shmem_swapin_against_swapin", ObjectInSwap, StoreX, StoreY, [](World& w) {
    w.ExpectByte(w.p(1), kBase + kPage, "x");
    w.ExpectByte(w.p(0), kBase + kPage + 1, "y");
    w.ExpectByte(w.p(0), kBase + kPage + kPage / 2, "e");
  }));
  races->push_back(Against(
      "shmem_reclaim_against_write", Object, [](World& w) { w.Write(w.shmem, kPage, 'x'); }, Reclaim,
      [](World& w) { w.ExpectByte(w.p(1), kBase + kPage, "x"); }));
  races->push_back(Against(
      "shmem_reclaim_against_read", Object,
      [](World& w) { w.Expect(w.Read(w.shmem, kPage) == 'p', "read something else"); }, Reclaim,
      [](World& w) { w.ExpectByte(w.p(1), kBase + kPage, "p"); }));
  races->push_back(Against(
      "shmem_reclaim_against_fork", Object, [](World& w) { w.Fork(w.p(0)); }, Reclaim,
      [](World& w) {
        for (size_t i = 0; i < w.process_count(); ++i) w.ExpectByte(w.p(i), kBase + kPage, "p");
      }));
  races->push_back(Against(
      "shmem_reclaim_against_last_munmap",
      [](World& w) {
        Object(w);
        w.shmem = nullptr;
        w.Unmap(w.p(1), kBase, kPages);
        w.Unmap(w.p(0), kBase, 1);
      },
      Reclaim, [](World& w) { w.Unmap(w.p(0), kBase + kPage, 1); }, nullptr));
}

void AddTruncate(std::vector<Spec>* races) {
  races->push_back(Against("shmem_reclaim_against_truncate", Object, CutTo(kPage), Reclaim, PageIsZero));
  races->push_back(Against("shmem_reclaim_against_truncate_of_a_tail", Object, CutTo(kPage + kPage / 2),
                           Reclaim, TailIsZero));
  races->push_back(Against("shmem_swapin_against_truncate", ObjectInSwap, CutTo(kPage), StoreX, PageIsZero));
  races->push_back(Against(
      "shmem_swapin_against_truncate_of_a_tail", ObjectInSwap, CutTo(kPage + kPage / 2),
      [](World& w) { w.ExpectByte(w.p(0), kBase + kPage, "p"); }, TailIsZero));
  races->push_back(Against(
      "shmem_read_against_truncate", ObjectInSwap, CutTo(kPage),
      [](World& w) { (void)w.Read(w.shmem, kPage); }, PageIsZero));
  races->push_back(Against("shmem_reclaim_against_punch", Object, PunchPage1, Reclaim, PageIsZero));
  races->push_back(Against(
      "shmem_reclaim_and_swapin_against_punch", Object, PunchPage1,
      [](World& w) {
        w.Reclaim(w.pfn);
        (void)w.Load(w.p(0), kBase + kPage);
      },
      PageIsZero));
  races->push_back(Against(
      "shmem_swapin_against_punch", ObjectInSwap, PunchPage1,
      [](World& w) { (void)w.Load(w.p(0), kBase + kPage); }, PageIsZero));
}

void AddSwapOff(std::vector<Spec>* races) {
  const Action off = [](World& w) { w.SwapOff(); };
  races->push_back(Against("shmem_swapoff_against_store", ObjectInSwap, StoreX, off, [](World& w) {
    w.ExpectByte(w.p(1), kBase + kPage, "x");
    w.ExpectByte(w.p(1), kBase + kPage + kPage / 2, "e");
  }));
  races->push_back(Against("shmem_swapoff_against_truncate", ObjectInSwap, CutTo(kPage), off, PageIsZero));
  races->push_back(Against("shmem_swapoff_against_punch", ObjectInSwap, PunchPage1, off, PageIsZero));
  races->push_back(Against("shmem_swapoff_against_reclaim", Object, Reclaim, off,
                           [](World& w) { w.ExpectByte(w.p(0), kBase + kPage, "p"); }));
  races->push_back(Against(
      "shmem_swapoff_against_last_munmap",
      [](World& w) {
        ObjectInSwap(w);
        w.shmem = nullptr;
        w.Unmap(w.p(1), kBase, kPages);
      },
      [](World& w) { w.Unmap(w.p(0), kBase, kPages); }, off, nullptr));
}

}  // namespace

void AddShmemRaces(std::vector<Spec>* races) {
  const size_t first = races->size();
  AddReclaim(races);
  AddTruncate(races);
  AddSwapOff(races);
  GiveSwap(std::span(*races).subspan(first));
}

}  // namespace races
