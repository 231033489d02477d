// Swap-out and swap-in of anonymous memory against faults, forks, exits and swapoff.
#include "tests/races/race_world.h"

namespace races {
namespace {

// One anonymous page full of 'o' at kBase of process 0; pfn is its page.
void OnePage(World& w) {
  w.MapAnon(w.Spawn(), kBase, 1);
  w.Store(w.p(0), kBase, 'o');
  w.pfn = w.PfnAt(w.p(0), kBase);
}
void OnePageInSwap(World& w) {
  OnePage(w);
  w.PageOut(w.p(0), kBase);
}
// Processes 0 and 1 share it after a fork.
void SharedPage(World& w) {
  OnePage(w);
  w.Fork(w.p(0));
}
void SharedPageInSwap(World& w) {
  SharedPage(w);
  w.Reclaim(w.pfn);
}

Action StoreBy(size_t process, Vaddr addr, char byte) {
  return [=](World& w) {
    if (w.alive(process)) w.Store(w.p(process), addr, byte);
  };
}
Action LoadBy(size_t process, const char* allowed) {
  return [=](World& w) { w.ExpectByte(w.p(process), kBase, allowed); };
}
void ExitOf1(World& w) {
  if (w.alive(1)) w.Exit(w.p(1));
}

void AddSwapIn(std::vector<Spec>* races) {
  races->push_back(Against(
      "M23_swapin_against_swapin",
      [](World& w) {
        OnePageInSwap(w);
        w.Thread(w.p(0));
      },
      LoadBy(0, "o"), LoadBy(1, "o"), LoadBy(0, "o")));
  races->push_back(Against(
      "M23_swapin_store_against_store",
      [](World& w) {
        OnePageInSwap(w);
        w.Thread(w.p(0));
      },
      StoreBy(0, kBase, 'x'), StoreBy(1, kBase + 1, 'y'),
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "x");
        w.ExpectByte(w.p(0), kBase + 1, "y");
      }));
  races->push_back(Against("M23_swapin_by_parent_and_child", SharedPageInSwap, StoreBy(0, kBase, 'x'),
                           StoreBy(1, kBase, 'y'), [](World& w) {
                             w.ExpectByte(w.p(0), kBase, "x");
                             w.ExpectByte(w.p(1), kBase, "y");
                             w.ExpectByte(w.p(0), kBase + 1, std::string(1, '\0'));
                           }));
  races->push_back(Against(
      "M23_swapin_against_dontneed", SharedPageInSwap, StoreBy(0, kBase + 1, 'x'),
      [](World& w) { (void)mm::sys_madvise(*w.p(0).mm, kBase, kPage, MADV_DONTNEED); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, std::string("o\0", 2));
        w.ExpectByte(w.p(0), kBase + 1, std::string("x\0", 2));
        w.ExpectByte(w.p(1), kBase, "o");
      }));
  races->push_back(Against(
      "swapin_against_munmap", SharedPageInSwap, StoreBy(0, kBase, 'x'),
      [](World& w) { w.Unmap(w.p(0), kBase, 1); }, [](World& w) { w.ExpectByte(w.p(1), kBase, "o"); }));
  races->push_back(
      Against("swapin_against_exit", SharedPageInSwap, StoreBy(0, kBase, 'x'), ExitOf1, LoadBy(0, "x")));
  races->push_back(Against(
      "swapin_against_fork", OnePageInSwap, StoreBy(0, kBase, 'x'), [](World& w) { w.Fork(w.p(0)); },
      [](World& w) {
        for (size_t i = 1; i < w.process_count(); ++i) w.ExpectByte(w.p(i), kBase, "ox");
        w.ExpectByte(w.p(0), kBase, "x");
      }));
  races->push_back(Against(
      "swapin_against_reclaim", SharedPageInSwap, StoreBy(0, kBase, 'x'),
      [](World& w) {
        w.ExpectByte(w.p(1), kBase, "o");
        const mm::Pte pte = *w.p(1).mm->pgtable.find(kBase);
        if (mm::pte_present(pte)) w.Reclaim(mm::pte_pfn(pte));
      },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "x");
        w.ExpectByte(w.p(1), kBase, "o");
      }));
}

// While a thread waits for the page, its entry comes to name another page in the same slot.
void AddSlotUsedAgain(std::vector<Spec>* races) {
  races->push_back(Against(
      "M23_swapin_of_a_slot_that_is_used_again",
      [](World& w) {
        SharedPageInSwap(w);
        w.Thread(w.p(0));
      },
      LoadBy(2, "ox"),
      [](World& w) {
        w.Store(w.p(0), kBase, 'x');
        ExitOf1(w);
        const mm::Pte pte = *w.p(0).mm->pgtable.find(kBase);
        if (mm::pte_present(pte)) w.Reclaim(mm::pte_pfn(pte));
      },
      LoadBy(0, "x")));
}

void AddSwapOut(std::vector<Spec>* races) {
  races->push_back(
      Against("swap_out_against_store", OnePage, StoreBy(0, kBase, 'x'), Reclaim, LoadBy(0, "x")));
  races->push_back(
      Against("swap_out_against_cow_break", SharedPage, StoreBy(0, kBase, 'x'), Reclaim, [](World& w) {
        w.ExpectByte(w.p(0), kBase, "x");
        w.ExpectByte(w.p(1), kBase, "o");
      }));
  races->push_back(Against("swap_out_against_exit", SharedPage, Reclaim, ExitOf1, LoadBy(0, "o")));
  races->push_back(Against(
      "swap_out_against_last_exit", OnePage, Reclaim,
      [](World& w) {
        if (w.alive(0)) w.Exit(w.p(0));
      },
      nullptr));
  races->push_back(Against(
      "swap_out_against_munmap", SharedPage, Reclaim, [](World& w) { w.Unmap(w.p(1), kBase, 1); },
      LoadBy(0, "o")));
  races->push_back(Against(
      "swap_out_against_dontneed", SharedPage, Reclaim,
      [](World& w) { (void)mm::sys_madvise(*w.p(1).mm, kBase, kPage, MADV_DONTNEED); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "o");
        w.ExpectByte(w.p(1), kBase, std::string(1, '\0'));
      }));
  races->push_back(Against(
      "fork_against_swap_out", OnePage, [](World& w) { w.Fork(w.p(0)); }, Reclaim,
      [](World& w) {
        for (size_t i = 0; i < w.process_count(); ++i) w.ExpectByte(w.p(i), kBase, "o");
        w.Store(w.p(0), kBase, 'x');
        w.ExpectByte(w.p(1), kBase, "o");
      }));
  races->push_back(Against(
      "swap_out_against_mprotect", OnePage, Reclaim,
      [](World& w) {
        (void)mm::sys_mprotect(*w.p(0).mm, kBase, kPage, PROT_READ);
        (void)mm::sys_mprotect(*w.p(0).mm, kBase, kPage, kReadWrite);
        w.Store(w.p(0), kBase, 'x');
      },
      LoadBy(0, "x")));
  races->push_back(Against(
      "swap_out_against_mremap", OnePage, Reclaim,
      [](World& w) {
        (void)mm::sys_mremap(*w.p(0).mm, kBase, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                             kBase + 16 * kPage);
      },
      [](World& w) { w.ExpectByte(w.p(0), kBase + 16 * kPage, "o"); }));
  races->push_back(Against("swap_out_twice", SharedPage, Reclaim, Reclaim, LoadBy(0, "o")));
}

void AddPressure(std::vector<Spec>* races) {
  Spec both = Against(
      "reclaim_on_two_cpus",
      [](World& w) {
        SharedPage(w);
        w.MapAnon(w.p(0), kBase + kPage, 2);
        w.Store(w.p(0), kBase + kPage, 'p');
        w.Store(w.p(1), kBase, 'q');
      },
      [](World& w) { (void)mm::try_to_free_pages(w.m(), 2); },
      [](World& w) { (void)mm::try_to_free_pages(w.m(), 2); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "o");
        w.ExpectByte(w.p(0), kBase + kPage, "p");
        w.ExpectByte(w.p(1), kBase, "q");
      });
  both.short_bound = 1;
  both.long_bound = 1;
  races->push_back(both);
  Spec stores = Against(
      "stores_without_memory",
      [](World& w) {
        w.Spawn();
        w.Spawn();
        w.MapAnon(w.p(0), kBase, 8);
        w.MapAnon(w.p(1), kBase, 8);
        for (uint64_t i = 0; i < 7; ++i) {
          w.Store(w.p(0), kBase + i * kPage, static_cast<char>('a' + i));
          w.Store(w.p(1), kBase + i * kPage, static_cast<char>('A' + i));
        }
      },
      StoreBy(0, kBase + 7 * kPage, 'x'), StoreBy(1, kBase + 7 * kPage, 'y'),
      [](World& w) {
        for (uint64_t i = 0; i < 7; ++i) {
          w.ExpectByte(w.p(0), kBase + i * kPage, std::string(1, static_cast<char>('a' + i)));
          w.ExpectByte(w.p(1), kBase + i * kPage, std::string(1, static_cast<char>('A' + i)));
        }
        // Slots are left for all: who finds no frame waits for the writes of others.
        w.ExpectByte(w.p(0), kBase + 7 * kPage, "x");
        w.ExpectByte(w.p(1), kBase + 7 * kPage, "y");
      });
  stores.frames = 16;
  stores.swap_pages = 24;
  stores.short_bound = 0;
  stores.long_bound = 1;
  races->push_back(stores);
}

void AddSwapOff(std::vector<Spec>* races) {
  const Action off = [](World& w) { w.SwapOff(); };
  races->push_back(
      Against("swapoff_against_store", SharedPageInSwap, StoreBy(0, kBase, 'x'), off, [](World& w) {
        w.ExpectByte(w.p(0), kBase, "x");
        w.ExpectByte(w.p(1), kBase, "o");
      }));
  races->push_back(Against(
      "swapoff_against_fork", OnePageInSwap, [](World& w) { w.Fork(w.p(0)); }, off,
      [](World& w) {
        for (size_t i = 0; i < w.process_count(); ++i) w.ExpectByte(w.p(i), kBase, "o");
      }));
  races->push_back(Against("swapoff_against_exit", SharedPageInSwap, ExitOf1, off, LoadBy(0, "o")));
  races->push_back(Against(
      "swapoff_against_munmap", SharedPageInSwap, [](World& w) { w.Unmap(w.p(1), kBase, 1); }, off,
      LoadBy(0, "o")));
  races->push_back(Against("swapoff_against_reclaim", SharedPage, Reclaim, off, [](World& w) {
    w.ExpectByte(w.p(0), kBase, "o");
    w.ExpectByte(w.p(1), kBase, "o");
  }));
  races->push_back(Against("swapoff_twice", SharedPageInSwap, off, off, LoadBy(0, "o")));
}

}  // namespace

void AddSwapRaces(std::vector<Spec>* races) {
  const size_t first = races->size();
  AddSwapIn(races);
  AddSlotUsedAgain(races);
  AddSwapOut(races);
  AddPressure(races);
  AddSwapOff(races);
  GiveSwap(std::span(*races).subspan(first));
}

}  // namespace races
