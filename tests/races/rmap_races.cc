// The reverse map against who changes what it names: unmaps, locks, conversions, moves.
#include "tests/races/race_world.h"

namespace races {
namespace {

using mm::Semantics;

Semantics K18() {
  Semantics semantics;
  semantics.truncate_race = mm::TruncateRace::kTruncateCount;
  semantics.remap_populate = mm::RemapPopulate::kInstall;
  return semantics;
}

// A file of four pages, mapped shared by processes 0 and 1, who have touched all of it; pfn is page 1.
void Mapped(World& w) {
  w.file = w.NewFile(4);
  for (int i = 0; i < 2; ++i) w.MapShared(w.Spawn(), kBase, 4, w.file);
  for (uint64_t i = 0; i < 4; ++i) {
    (void)w.Load(w.p(0), kBase + i * kPage);
    (void)w.Load(w.p(1), kBase + i * kPage);
  }
  w.pfn = w.PfnAt(w.p(0), kBase + kPage);
}

// Page 1 where page 0 belongs.
Action RemapBy(size_t process) {
  return [=](World& w) { w.Remap(w.p(process), kBase, 1); };
}
// All that names page 1 is found: by reclaim, and by a truncate.
void AllIsFound(World& w) {
  if (const mm::Pfn found = mm::find_get_page(w.m(), w.file->mapping, 1); found != mm::kNoPfn) {
    w.m().frames.put_page(found);
    w.Reclaim(found);
    w.Expect(w.m().frames.at(found).mapcount == 0, "reclaim does not find who maps the page");
  }
  w.Truncate(w.file, kPage);
  w.Expect(w.file->mapping.pages.size() <= 1, "a page behind the end is cached");
  for (size_t i = 0; i < w.process_count(); ++i) {
    if (w.alive(i)) w.ExpectByte(w.p(i), kBase + kPage, "!?");
  }
}
Action BothSee(const char* process0, const char* process1) {
  return [=](World& w) {
    w.ExpectByte(w.p(0), kBase, process0);
    w.ExpectByte(w.p(1), kBase, process1);
    AllIsFound(w);
    if (process0[0] == 'b') w.ExpectByte(w.p(0), kBase, "!");
  };
}

// The same with pages that faults install later, and with ones that are installed at once.
void AddConversions(std::vector<Spec>* races) {
  for (const auto& [suffix, semantics] : {std::pair("", Semantics{}), std::pair("_k18", K18())}) {
    const auto add = [&](const std::string& name, Action cpu0, Action cpu1, Action check) {
      races->push_back(
          Against(name + suffix, Mapped, std::move(cpu0), std::move(cpu1), std::move(check), semantics));
    };
    add("O09_conversion_twice", RemapBy(0), RemapBy(1), BothSee("b", "b"));
    add(
        "O10_conversion_against_truncate", RemapBy(0), [](World& w) { w.Truncate(w.file, kPage); },
        [](World& w) {
          w.ExpectByte(w.p(0), kBase, "!a");
          w.ExpectByte(w.p(1), kBase, "a");
          AllIsFound(w);
        });
    add(
        "O11_conversion_against_munmap", RemapBy(0), [](World& w) { w.Unmap(w.p(1), kBase, 4); },
        BothSee("b", "?"));
    add(
        "O11_conversion_against_dontneed", RemapBy(0),
        [](World& w) { (void)mm::sys_madvise(*w.p(1).mm, kBase, 4 * kPage, MADV_DONTNEED); },
        BothSee("b", "a"));
    add("O14_conversion_against_fork", RemapBy(0), [](World& w) { w.Fork(w.p(1)); }, BothSee("b", "a"));
    add("conversion_against_reclaim", RemapBy(0), Reclaim, BothSee("b", "a"));
    add(
        "conversion_against_exit", RemapBy(0),
        [](World& w) {
          if (w.alive(1)) w.Exit(w.p(1));
        },
        [](World& w) {
          w.ExpectByte(w.p(0), kBase, "b");
          AllIsFound(w);
        });
    add(
        "conversion_against_mremap", RemapBy(0),
        [](World& w) {
          (void)mm::sys_mremap(*w.p(1).mm, kBase, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                               kBase + 16 * kPage);
        },
        [](World& w) {
          w.ExpectByte(w.p(1), kBase + 17 * kPage, "b");
          AllIsFound(w);
          w.ExpectByte(w.p(1), kBase + 17 * kPage, "!");
        });
    add(
        "conversion_against_load", RemapBy(0), [](World& w) { w.ExpectByte(w.p(1), kBase + kPage, "b"); },
        BothSee("b", "a"));
    add(
        "conversion_against_fsync", RemapBy(0),
        [](World& w) {
          w.Store(w.p(1), kBase + kPage, 'x');
          w.Fsync(w.file);
        },
        BothSee("x", "a"));
    // The second to map it finds it on a chain, which the first has to take back.
    add("O12_conversion_without_memory_against_another", RemapBy(0), RemapBy(1), [](World& w) {
      w.m().pte_chains.FailTryAlloc(0);
      w.ExpectByte(w.p(0), kBase, "ab");
      w.ExpectByte(w.p(1), kBase, "ab");
      AllIsFound(w);
    });
    races->back().setup = [](World& w) {
      Mapped(w);
      w.m().pte_chains.FailTryAlloc(1);
    };
  }
}

// Pages that are on chains already.
void AddNonlinear(std::vector<Spec>* races) {
  const Action nonlinear = [](World& w) {
    Mapped(w);
    w.Remap(w.p(0), kBase, 1);
    w.Store(w.p(0), kBase, 'n');
  };
  races->push_back(Against(
      "nonlinear_against_truncate", nonlinear, [](World& w) { w.Remap(w.p(0), kBase, 2); },
      [](World& w) { w.Truncate(w.file, kPage); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "!");
        AllIsFound(w);
      }));
  races->push_back(Against(
      "nonlinear_store_against_truncate", nonlinear, [](World& w) { w.Store(w.p(0), kBase, 'x'); },
      [](World& w) { w.Truncate(w.file, kPage); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "!");
        AllIsFound(w);
      }));
  races->push_back(Against(
      "nonlinear_store_against_fsync", nonlinear, [](World& w) { w.Store(w.p(0), kBase, 'x'); },
      [](World& w) { w.Fsync(w.file); }, BothSee("x", "a")));
  races->push_back(Against(
      "nonlinear_store_against_reclaim", nonlinear, [](World& w) { w.Store(w.p(0), kBase, 'x'); }, Reclaim,
      BothSee("x", "a")));
  races->push_back(Against(
      "nonlinear_fork_against_fsync", nonlinear,
      [](World& w) {
        Process* child = w.Fork(w.p(0));
        w.Store(*child, kBase, 'x');
      },
      [](World& w) { w.Fsync(w.file); }, BothSee("x", "a")));
  races->push_back(Against(
      "nonlinear_fork_against_reclaim", nonlinear, [](World& w) { w.Fork(w.p(0)); }, Reclaim,
      BothSee("n", "a")));
  races->push_back(Against(
      "nonlinear_dontneed_against_reclaim", nonlinear,
      [](World& w) { (void)mm::sys_madvise(*w.p(0).mm, kBase, kPage, MADV_DONTNEED); }, Reclaim,
      BothSee("n", "a")));
}

void AddUnmaps(std::vector<Spec>* races) {
  races->push_back(Against(
      "munmap_against_reclaim", Mapped, [](World& w) { w.Unmap(w.p(0), kBase, 4); }, Reclaim,
      BothSee("?", "a")));
  races->push_back(Against(
      "split_against_reclaim", Mapped, [](World& w) { w.Unmap(w.p(0), kBase + kPage, 1); }, Reclaim,
      BothSee("a", "a")));
  races->push_back(Against(
      "split_and_merge_against_reclaim", Mapped,
      [](World& w) {
        (void)mm::sys_mprotect(*w.p(0).mm, kBase + kPage, kPage, PROT_READ);
        (void)mm::sys_mprotect(*w.p(0).mm, kBase + kPage, kPage, kReadWrite);
      },
      Reclaim, BothSee("a", "a")));
  races->push_back(Against(
      "mremap_against_reclaim", Mapped,
      [](World& w) {
        (void)mm::sys_mremap(*w.p(0).mm, kBase, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                             kBase + 16 * kPage);
      },
      Reclaim, [](World& w) { w.ExpectByte(w.p(0), kBase + 17 * kPage, "b"); }));
  // Once mlock has answered, the page is there and stays.
  const auto stays = [](World& w) {
    const mm::Pte* pte = w.p(0).mm->pgtable.find(kBase + kPage);
    w.Expect(pte != nullptr && mm::pte_present(*pte), "locked memory is not there");
  };
  const Action lock = [](World& w) { (void)mm::sys_mlock(*w.p(0).mm, kBase + kPage, kPage); };
  races->push_back(Against("unmap_against_mlock_of_a_file", Mapped, lock, Reclaim, stays));
  Spec anon = Against(
      "unmap_against_mlock",
      [](World& w) {
        w.MapAnon(w.Spawn(), kBase, 4);
        w.Store(w.p(0), kBase + kPage, 'o');
        w.pfn = w.PfnAt(w.p(0), kBase + kPage);
      },
      lock, Reclaim,
      [stays](World& w) {
        stays(w);
        w.ExpectByte(w.p(0), kBase + kPage, "o");
      });
  anon.swap_pages = 4;
  races->push_back(anon);
  Spec both = anon;
  both.name = "unmap_against_mlock_and_munlock";
  both.cpus[0] = [lock](World& w) {
    lock(w);
    (void)mm::sys_munlock(*w.p(0).mm, kBase + kPage, kPage);
  };
  both.check = [](World& w) { w.ExpectByte(w.p(0), kBase + kPage, "o"); };
  races->push_back(both);
  races->push_back(Against(
      "referenced_against_munmap", Mapped, [](World& w) { w.Unmap(w.p(0), kBase, 4); },
      [](World& w) { (void)mm::try_to_free_pages(w.m(), 1); }, BothSee("?", "a")));
  races->back().short_bound = 1;
  races->back().long_bound = 2;
}

}  // namespace

void AddRmapRaces(std::vector<Spec>* races) {
  AddConversions(races);
  AddNonlinear(races);
  AddUnmaps(races);
}

}  // namespace races
