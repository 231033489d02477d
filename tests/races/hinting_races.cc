// Page hinting, with the host underneath as an adversary: it may take a page that is volatile, potentially
// volatile or unused whenever somebody looks at that page's state or changes it, twice a run.
#include <algorithm>
#include <string_view>

#include "tests/races/race_world.h"

namespace races {
namespace {

mm::Semantics Hinted(std::initializer_list<const char*> switches = {}) {
  mm::Semantics semantics;
  CHECK(mm::SetSwitch(semantics, "hints=writable"));
  CHECK(mm::SetSwitch(semantics, "dirty_bits=page"));
  for (const char* assignment : switches) CHECK(mm::SetSwitch(semantics, assignment));
  return semantics;
}

// Page 0 of a file of two is cached, and nobody's: volatile.
void Cached(World& w) {
  w.file = w.NewFile(2);
  w.Read(w.file, 0);
  w.pfn = w.file->mapping.pages.at(0);
}
// Processes 0 and 1 map it too.
void MappedTwice(World& w) {
  w.file = w.NewFile(2);
  for (size_t i = 0; i < 2; ++i) {
    w.MapShared(w.Spawn(), kBase, 1, w.file);
    w.Load(w.p(i), kBase);
  }
  w.pfn = w.PfnAt(w.p(0), kBase);
}
// Process 0 maps it privately, process 1 shared.
void MappedPrivately(World& w) {
  w.file = w.NewFile(2);
  w.MapPrivate(w.Spawn(), kBase, 1, w.file);
  w.MapShared(w.Spawn(), kBase, 1, w.file);
  for (size_t i = 0; i < 2; ++i) w.Load(w.p(i), kBase);
  w.pfn = w.PfnAt(w.p(0), kBase);
}
// An anonymous page full of 'o' of processes 0 and 1, back from swap by a load of each: in the swap cache,
// clean, and volatile.
void InSwapCache(World& w) {
  w.MapAnon(w.Spawn(), kBase, 1);
  w.Store(w.p(0), kBase, 'o');
  w.Fork(w.p(0));
  w.Reclaim(w.PfnAt(w.p(0), kBase));
  for (size_t i = 0; i < 2; ++i) w.Load(w.p(i), kBase);
  w.pfn = w.PfnAt(w.p(0), kBase);
}

Action ReadAs(char expected) {
  return [=](World& w) { w.Expect(w.Read(w.file, 0) == expected, "read(2) has another byte"); };
}
Action LoadBy(size_t process, const char* allowed) {
  return [=](World& w) {
    if (w.alive(process)) w.ExpectByte(w.p(process), kBase, allowed);
  };
}
Action StoreBy(size_t process, char byte) {
  return [=](World& w) {
    if (w.alive(process)) w.Store(w.p(process), kBase, byte);
  };
}
void LoadZeroOrX(World& w) { w.ExpectByte(w.p(0), kBase, std::string("\0x", 2)); }
void ExitOf1(World& w) {
  if (w.alive(1)) w.Exit(w.p(1));
}
// The host takes what it can, and everybody looks again.
void TakeAll(World& w) {
  for (uint32_t i = 1; i < w.m().frames.high_water(); ++i) (void)w.m().host->take(mm::Pfn{i});
}
Action AllLoad(const char* allowed) {
  return [=](World& w) {
    TakeAll(w);
    for (size_t i = 0; i < w.process_count(); ++i) LoadBy(i, allowed)(w);
  };
}

void AddLookups(std::vector<Spec>* races) {
  races->push_back(Against("G31_read_against_read", Cached, ReadAs('a'), ReadAs('a'), ReadAs('a'), Hinted()));
  races->push_back(Against("G37_read_against_load_of_a_mapped_page", MappedTwice, ReadAs('a'), LoadBy(0, "a"),
                           AllLoad("a"), Hinted()));
  races->push_back(Against(
      "G36_read_against_write", Cached, [](World& w) { w.Write(w.file, 1, 'x'); }, ReadAs('a'),
      [](World& w) {
        TakeAll(w);
        w.Expect(w.Read(w.file, 0) == 'a' && w.Read(w.file, 1) == 'x', "a byte is lost");
      },
      Hinted()));
  races->push_back(Against(
      "G45_read_against_reclaim", Cached, [](World& w) { w.Reclaim(w.pfn); }, ReadAs('a'), ReadAs('a'),
      Hinted()));
}

void AddDiscardFaults(std::vector<Spec>* races) {
  for (const char* address : {"absolute", "virtual"}) {
    races->push_back(Against(
        std::string("G43_two_discard_faults_") + address, MappedTwice, LoadBy(0, "a"), LoadBy(1, "a"),
        AllLoad("a"), Hinted({address[0] == 'a' ? "discard_address=absolute" : "discard_address=virtual"})));
  }
  races->push_back(Against(
      "G44_discard_fault_against_truncate", MappedTwice, LoadBy(0, "a!"),
      [](World& w) { w.Truncate(w.file, 0); }, AllLoad("!"), Hinted()));
  races->push_back(Against(
      "G45_discard_fault_against_reclaim", MappedTwice, LoadBy(0, "a"), [](World& w) { w.Reclaim(w.pfn); },
      AllLoad("a"), Hinted()));
  races->push_back(Against(
      "G47_reclaim_against_drop_caches", Cached, [](World& w) { w.Reclaim(w.pfn); },
      [](World& w) { w.DropCaches(w.file); }, ReadAs('a'), Hinted()));
  const auto one_maps = [](World& w) {
    Cached(w);
    for (size_t i = 0; i < 2; ++i) w.MapShared(w.Spawn(), kBase, 1, w.file);
    w.Load(w.p(0), kBase);
  };
  races->push_back(Against("G92_fault_against_discard_fault", one_maps, LoadBy(0, "a"), LoadBy(1, "a"),
                           AllLoad("a"), Hinted()));
  // Faults that take no page lock: the handler may come between their lookup and their pte.
  races->push_back(Against("G51_fault_without_page_lock_against_discard_fault", one_maps, LoadBy(0, "a"),
                           LoadBy(1, "a"), AllLoad("a"), Hinted({"truncate_race=truncate_count"})));
  races->push_back(Against(
      "G53_cow_break_against_discard_fault", MappedPrivately, StoreBy(0, 'x'), LoadBy(1, "a"),
      [](World& w) {
        TakeAll(w);
        w.ExpectByte(w.p(0), kBase, "x");
        w.ExpectByte(w.p(0), kBase + 1, "a");
        w.ExpectByte(w.p(1), kBase, "a");
      },
      Hinted()));
  races->push_back(Against(
      "G86_mlock_against_discard_fault", MappedTwice,
      [](World& w) { w.Expect(mm::sys_mlock(*w.p(0).mm, kBase, kPage).has_value(), "mlock fails"); },
      LoadBy(1, "a"), AllLoad("a"), Hinted()));
}

void AddWritable(std::vector<Spec>* races) {
  // A page of an object that is clean, and zero; its mappings may be written without a fault.
  const auto object = [](World& w) {
    w.shmem = w.m().create_shmem("object", kPage);
    for (size_t i = 0; i < 2; ++i) w.MapShared(w.Spawn(), kBase, 1, w.shmem);
  };
  const auto changed = [=](World& w) {
    object(w);
    w.Load(w.p(0), kBase);
    w.Store(w.p(0), kBase, 'x');
    w.pfn = w.PfnAt(w.p(0), kBase);
  };
  const auto unmap0 = [](World& w) { w.Unmap(w.p(0), kBase, 1); };
  const auto read_x = [](World& w) {
    TakeAll(w);
    w.Expect(w.Read(w.shmem, 0) == 'x', "what was stored is lost");
  };
  for (const bool pte : {false, true}) {
    const mm::Semantics semantics = pte ? Hinted({"dirty_bits=pte"}) : Hinted();
    const std::string bits = pte ? "_pte" : "_key";
    races->push_back(
        Against("G79_two_writable_ptes" + bits, object, LoadZeroOrX, StoreBy(1, 'x'), read_x, semantics));
    races->push_back(Against(
        "G84_last_unmap_of_a_changed_page" + bits, changed, unmap0,
        [](World& w) { w.Expect(w.Read(w.shmem, 0) == 'x', "what was stored is lost"); }, read_x, semantics));
    races->push_back(Against(
        "G78_last_unmap_against_a_writable_pte" + bits,
        [=](World& w) {
          object(w);
          w.Load(w.p(0), kBase);
        },
        unmap0, StoreBy(1, 'x'), read_x, semantics));
  }
}

void AddSwapCache(std::vector<Spec>* races) {
  std::vector<Spec> swap;
  swap.push_back(Against("G94_two_loads_of_the_swap_cache", InSwapCache, LoadBy(0, "o"), LoadBy(1, "o"),
                         AllLoad("o"), Hinted()));
  swap.push_back(
      Against("G95_exit_against_load", InSwapCache, LoadBy(0, "o"), ExitOf1, AllLoad("o"), Hinted()));
  swap.push_back(Against(
      "G97_store_against_exit", InSwapCache, StoreBy(0, 'x'), ExitOf1,
      [](World& w) {
        TakeAll(w);
        w.ExpectByte(w.p(0), kBase, "x");
      },
      Hinted()));
  swap.push_back(Against(
      "G97_store_against_load", InSwapCache, StoreBy(0, 'x'), LoadBy(1, "o"),
      [](World& w) {
        TakeAll(w);
        w.ExpectByte(w.p(0), kBase, "x");
        w.ExpectByte(w.p(1), kBase, "o");
      },
      Hinted()));
  swap.push_back(Against(
      "G49_fork_against_discard_fault", InSwapCache, [](World& w) { w.Fork(w.p(0)); }, LoadBy(1, "o"),
      AllLoad("o"), Hinted()));
  swap.push_back(Against(
      "G96_swapoff_against_load", InSwapCache, [](World& w) { w.SwapOff(); }, LoadBy(1, "o"), AllLoad("o"),
      Hinted()));
  swap.push_back(Against(
      "G94_reclaim_against_load", InSwapCache, [](World& w) { w.Reclaim(w.pfn); }, LoadBy(1, "o"),
      AllLoad("o"), Hinted()));
  // Swap is full: who swaps in gives the slot back, if it is not the only copy.
  Spec full = Against(
      "G96_swapin_that_frees_the_slot_against_load",
      [](World& w) {
        w.MapAnon(w.Spawn(), kBase, 1);
        w.Store(w.p(0), kBase, 'o');
        w.Fork(w.p(0));
        w.Reclaim(w.PfnAt(w.p(0), kBase));
        w.Load(w.p(0), kBase);
      },
      LoadBy(0, "o"), LoadBy(1, "o"), AllLoad("o"), Hinted());
  full.swap_pages = 1;
  swap.push_back(std::move(full));
  GiveSwap(swap);
  for (Spec& race : swap) races->push_back(std::move(race));
}

// A discard fault on CPU 0, while CPU 1 takes the page out and has another made: it may be in the same frame.
void AddDiscardLists(std::vector<Spec>* races) {
  constexpr std::pair<const char*, const char*> kWays[] = {{"sign_off", "discard_free=sign_off"},
                                                           {"ipi_lists", "discard_free=ipi_lists"},
                                                           {"pagevec", "discard_free=pagevec"}};
  for (const auto& [way, assignment] : kWays) {
    races->push_back(Against(
        std::string("G64_discard_fault_against_reuse_") + way,
        [](World& w) {
          MappedTwice(w);
          w.MapAnon(w.p(1), kBase + 16 * kPage, 1);
        },
        LoadBy(0, "a"),
        [](World& w) {
          w.Expect(w.Read(w.file, kPage) == 'b', "read(2) has another byte");
          w.ExpectByte(w.p(1), kBase, "a");
          (void)w.m().discarded->wait();
          w.Store(w.p(1), kBase + 16 * kPage, 'x');
          w.ExpectByte(w.p(1), kBase + 16 * kPage, "x");
        },
        [](World& w) {
          AllLoad("a")(w);
          w.ExpectByte(w.p(1), kBase + 16 * kPage, "x");
        },
        Hinted({assignment})));
  }
}

}  // namespace

void AddHintingRaces(std::vector<Spec>* races) {
  std::vector<Spec> hinting;
  AddLookups(&hinting);
  AddDiscardFaults(&hinting);
  AddWritable(&hinting);
  AddSwapCache(&hinting);
  AddDiscardLists(&hinting);
  // What takes minutes with three preemptions has two where the run may only take seconds.
  constexpr std::string_view kLong[] = {"G37", "G43", "G53", "G64", "G86", "G92", "G94", "G96", "G97"};
  for (Spec& race : hinting) {
    race.host_moves = 2;
    if (std::ranges::find(kLong, race.name.substr(0, 3)) != std::end(kLong)) race.short_bound = 2;
    races->push_back(std::move(race));
  }
}

}  // namespace races
