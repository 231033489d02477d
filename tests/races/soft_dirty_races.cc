// Soft-dirty tracking (mm/soft_dirty.h): stores, which are noticed, against what carries the bit elsewhere;
// and the clear, for which all processes stand still, against what the kernel does by itself.
#include "mm/soft_dirty.h"
#include "tests/races/race_world.h"

namespace races {
namespace {

// One anonymous page at kBase of process 0, 'o', with a second thread. Cleared; pfn is its page.
void OneCleanPage(World& w) {
  w.MapAnon(w.Spawn(), kBase, 1);
  w.Thread(w.p(0));
  w.Store(w.p(0), kBase, 'o');
  w.pfn = w.PfnAt(w.p(0), kBase);
  mm::clear_soft_dirty(w.m());
}
void OneCleanPageInSwap(World& w) {
  OneCleanPage(w);
  w.PageOut(w.p(0), kBase);
}
// The same, stored to since.
void OneSoftDirtyPage(World& w) {
  OneCleanPage(w);
  w.Store(w.p(0), kBase, 'x');
}
void OneSoftDirtyPageInSwap(World& w) {
  OneSoftDirtyPage(w);
  w.PageOut(w.p(0), kBase);
}

bool IsSoft(World& w, size_t process) { return mm::soft_dirty(*w.p(process).mm, kBase); }

// A checkpoint: what it found, and what may have been written later is soft-dirty.
void Clear(World& w) {
  mm::Guard freeze(w.m().freezer);
  w.seen[0] = std::string(1, w.Load(w.p(0), kBase));
  mm::clear_soft_dirty(w.m());
}
void StoreX(World& w) {
  mm::ReadGuard call(w.m().freezer);
  w.Store(w.p(1), kBase, 'x');
}
void LoadX(World& w) { w.ExpectByte(w.p(1), kBase, "x"); }
void SwapOff(World& w) { w.SwapOff(); }
void Fork(World& w) { w.Fork(w.p(0)); }

void StoreIsSeen(World& w) {
  w.Expect(IsSoft(w, 0), "a store is not seen");
  w.ExpectByte(w.p(0), kBase, "x");
  w.Expect(IsSoft(w, 0), "a load makes the page clean");
}

void AddStores(std::vector<Spec>* races) {
  races->push_back(Against("soft_dirty_store_against_reclaim", OneCleanPage, StoreX, Reclaim, StoreIsSeen));
  races->push_back(Against("soft_dirty_store_of_swapped_against_swapoff", OneCleanPageInSwap, StoreX, SwapOff,
                           StoreIsSeen));
  races->push_back(
      Against("soft_dirty_store_against_store", OneCleanPageInSwap, StoreX, StoreX, StoreIsSeen));
  races->push_back(Against("soft_dirty_load_against_reclaim", OneSoftDirtyPage, LoadX, Reclaim, StoreIsSeen));
  races->push_back(
      Against("soft_dirty_load_against_swapoff", OneSoftDirtyPageInSwap, LoadX, SwapOff, StoreIsSeen));
  // The child has the page as it was, or as it is with the bit.
  Spec fork = Against("soft_dirty_store_against_fork", OneCleanPage, StoreX, Fork, [](World& w) {
    StoreIsSeen(w);
    for (size_t i = 2; i < w.process_count(); ++i) {
      const bool soft = IsSoft(w, i);
      w.Expect(soft || w.Load(w.p(i), kBase) == 'o', "a child has what was written, and does not say so");
    }
  });
  fork.others = {Reclaim};
  races->push_back(std::move(fork));
  races->push_back(Against("soft_dirty_fork_against_reclaim", OneSoftDirtyPage, Fork, Reclaim, [](World& w) {
    StoreIsSeen(w);
    for (size_t i = 2; i < w.process_count(); ++i) w.Expect(IsSoft(w, i), "a child has lost the bit");
  }));
}

void AddClears(std::vector<Spec>* races) {
  Spec store = Against("soft_dirty_clear_against_store", OneCleanPage, Clear, StoreX, [](World& w) {
    const bool later = w.seen[0] == "o";
    w.Expect(IsSoft(w, 0) == later, later ? "a store is not seen" : "the page was not stored to since");
    w.ExpectByte(w.p(0), kBase, "x");
  });
  store.others = {Reclaim};
  races->push_back(std::move(store));
  const auto is_clean = [](World& w) {
    w.Expect(!IsSoft(w, 0), "the clear has missed the page");
    w.ExpectByte(w.p(0), kBase, "x");
    w.Expect(!IsSoft(w, 0), "a load makes the page soft-dirty");
    w.Store(w.p(0), kBase, 'y');
    w.Expect(IsSoft(w, 0), "a store is not seen");
  };
  Spec reclaim = Against("soft_dirty_clear_against_reclaim", OneSoftDirtyPage, Clear, Reclaim, is_clean);
  reclaim.others = {Reclaim};
  races->push_back(std::move(reclaim));
}

}  // namespace

void AddSoftDirtyRaces(std::vector<Spec>* races) {
  const size_t first = races->size();
  AddStores(races);
  AddClears(races);
  GiveSwap(std::span(*races).subspan(first));
}

}  // namespace races
