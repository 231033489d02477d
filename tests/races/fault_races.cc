// Faults against faults, truncates and forks.
#include "tests/races/race_world.h"

namespace races {
namespace {

using mm::Semantics;

Semantics K18Truncate() {
  Semantics semantics;
  semantics.truncate_race = mm::TruncateRace::kTruncateCount;
  return semantics;
}

// Two threads store to one page that nobody touched: both bytes are there.
Spec FaultAgainstFaultAnon() {
  return {.name = "fault_against_fault_anonymous",
          .setup =
              [](World& w) {
                w.Thread(w.Spawn());
                w.MapAnon(w.p(0), kBase, 1);
              },
          .cpus = {[](World& w) { w.Store(w.p(0), kBase, 'x'); },
                   [](World& w) { w.Store(w.p(1), kBase + 1, 'y'); }},
          .check =
              [](World& w) {
                w.ExpectByte(w.p(0), kBase, "x");
                w.ExpectByte(w.p(0), kBase + 1, "y");
              }};
}

Spec FaultAgainstFaultPrivate() {
  return {.name = "fault_against_fault_private_file",
          .setup =
              [](World& w) {
                w.file = w.NewFile(2);
                w.Thread(w.Spawn());
                w.MapPrivate(w.p(0), kBase, 2, w.file);
              },
          .cpus = {[](World& w) { w.Store(w.p(0), kBase, 'x'); },
                   [](World& w) { w.Store(w.p(1), kBase + 1, 'y'); }},
          .check =
              [](World& w) {
                w.ExpectByte(w.p(0), kBase, "x");
                w.ExpectByte(w.p(0), kBase + 1, "y");
                w.ExpectByte(w.p(0), kBase + 2, "a");
              }};
}

Spec FaultAgainstFaultShared() {
  return {.name = "fault_against_fault_shared_file",
          .setup =
              [](World& w) {
                w.file = w.NewFile(2);
                w.MapShared(w.Spawn(), kBase, 2, w.file);
                w.MapShared(w.Spawn(), kBase, 2, w.file);
              },
          .cpus = {[](World& w) { w.Store(w.p(0), kBase, 'x'); },
                   [](World& w) { w.Store(w.p(1), kBase + 1, 'y'); }},
          .check =
              [](World& w) {
                w.ExpectByte(w.p(0), kBase + 1, "y");
                w.ExpectByte(w.p(1), kBase, "x");
              }};
}

// A load or store of a page that is cut off at that time: it sees the old page, or SIGBUS; and what is mapped
// behind the end afterwards is nothing.
Spec FaultAgainstTruncate(std::string name, Semantics semantics, bool is_private, bool is_write) {
  return {.name = std::move(name),
          .setup =
              [is_private](World& w) {
                w.file = w.NewFile(2);
                w.Spawn();
                if (is_private) {
                  w.MapPrivate(w.p(0), kBase, 2, w.file);
                } else {
                  w.MapShared(w.p(0), kBase, 2, w.file);
                }
              },
          .cpus = {[is_write](World& w) {
                     if (is_write) {
                       w.seen[0] += w.Store(w.p(0), kBase + kPage, 'x') == Outcome::kOk ? '.' : '!';
                     } else {
                       w.seen[0] += w.Load(w.p(0), kBase + kPage);
                     }
                   },
                   [](World& w) { (void)mm::vmtruncate(w.m(), *w.file, kPage, mm::RLIM_INFINITY_BYTES); }},
          .check =
              [is_write](World& w) {
                // The pages behind the new end are zero before they are gone: a load that looked at the size
                // before the truncate, and where no page lock makes it look again, can see that.
                std::string allowed = is_write ? ".!" : "b!";
                if (w.m().sem().truncate_race == mm::TruncateRace::kTruncateCount) allowed += '\0';
                w.Expect(w.seen[0].find_first_not_of(allowed) == std::string::npos, "saw " + w.seen[0]);
                w.ExpectByte(w.p(0), kBase + kPage, "!");
                // Extended again, it is zero.
                (void)mm::vmtruncate(w.m(), *w.file, 2 * kPage, mm::RLIM_INFINITY_BYTES);
                w.ExpectByte(w.p(0), kBase + kPage, std::string(1, '\0'));
              },
          .semantics = semantics};
}

Spec CowAgainstFork() {
  return {.name = "cow_break_against_fork",
          .setup =
              [](World& w) {
                w.Spawn();
                w.MapAnon(w.p(0), kBase, 1);
                w.Store(w.p(0), kBase, 'o');
                w.Fork(w.p(0));
                w.Thread(w.p(0));
              },
          .cpus = {[](World& w) { w.Store(w.p(0), kBase, 'x'); }, [](World& w) { w.Fork(w.p(2)); }},
          .check =
              [](World& w) {
                w.ExpectByte(w.p(0), kBase, "x");
                w.ExpectByte(w.p(1), kBase, "o");
                w.ExpectByte(w.p(3), kBase, "ox");
                w.Store(w.p(0), kBase, 'z');
                w.ExpectByte(w.p(3), kBase, "ox");
              }};
}

Action StoreBy(size_t process, Vaddr addr, char byte) {
  return [=](World& w) { w.Store(w.p(process), addr, byte); };
}

// Process 0, its child 1 and its thread 2 share a page that begins with 'o'.
void SharedPage(World& w) {
  w.MapAnon(w.Spawn(), kBase, 1);
  w.Store(w.p(0), kBase, 'o');
  w.pfn = w.PfnAt(w.p(0), kBase);
  w.Fork(w.p(0));
  w.Thread(w.p(0));
}

// The child may write the old page in place as soon as the parent is said not to map it any more. Before that
// nobody may come to it through the parent's pte.
Spec CowOrder(std::string name, mm::CowRmapOrder order) {
  Semantics semantics;
  semantics.cow_rmap_order = order;
  Spec spec = Against(
      std::move(name), SharedPage, StoreBy(0, kBase + 1, 'x'),
      [](World& w) {
        w.Store(w.p(1), kBase, 'y');
        w.ExpectByte(w.p(2), kBase, "o");
      },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "o");
        w.ExpectByte(w.p(0), kBase + 1, "x");
        w.ExpectByte(w.p(1), kBase, "y");
      },
      semantics);
  spec.broken = order == mm::CowRmapOrder::kBeforePte;
  return spec;
}

Spec WpContended(std::string name, mm::WpContended contended) {
  Semantics semantics;
  semantics.wp_contended = contended;
  Spec spec = Against(
      std::move(name), SharedPage, StoreBy(0, kBase + 1, 'x'),
      [](World& w) {
        w.Reclaim(w.pfn);  // holds the page lock
        w.Store(w.p(1), kBase, 'y');
      },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "o");
        w.ExpectByte(w.p(0), kBase + 1, "x");
        w.ExpectByte(w.p(1), kBase, "y");
        w.ExpectByte(w.p(1), kBase + 1, std::string(1, '\0'));
      },
      semantics);
  spec.swap_pages = 4;
  spec.short_bound = 2;
  return spec;
}

void AddCow(std::vector<Spec>* races) {
  races->push_back(CowAgainstFork());
  races->push_back(CowOrder("M27_cow_order_after_pte", mm::CowRmapOrder::kAfterPte));
  races->push_back(CowOrder("M27_cow_order_before_pte", mm::CowRmapOrder::kBeforePte));
  races->push_back(WpContended("M18_contended_page_lock_wait", mm::WpContended::kWait));
  races->push_back(WpContended("M18_contended_page_lock_copy", mm::WpContended::kCopy));
  races->push_back(Against("cow_break_by_both_owners", SharedPage, StoreBy(0, kBase, 'x'),
                           StoreBy(1, kBase, 'y'), [](World& w) {
                             w.ExpectByte(w.p(0), kBase, "x");
                             w.ExpectByte(w.p(1), kBase, "y");
                           }));
  races->push_back(Against("cow_break_by_two_threads", SharedPage, StoreBy(0, kBase, 'x'),
                           StoreBy(2, kBase + 1, 'z'), [](World& w) {
                             w.ExpectByte(w.p(0), kBase, "x");
                             w.ExpectByte(w.p(0), kBase + 1, "z");
                             w.ExpectByte(w.p(1), kBase, "o");
                           }));
  races->push_back(Against(
      "cow_break_against_exit", SharedPage, StoreBy(0, kBase, 'x'),
      [](World& w) {
        if (w.alive(1)) w.Exit(w.p(1));
      },
      [](World& w) { w.ExpectByte(w.p(0), kBase, "x"); }));
  races->push_back(Against(
      "exit_against_exit",
      [](World& w) {
        SharedPage(w);
        w.Fork(w.p(0));
      },
      [](World& w) {
        if (w.alive(1)) w.Exit(w.p(1));
      },
      [](World& w) {
        if (w.alive(3)) w.Exit(w.p(3));
      },
      [](World& w) { w.ExpectByte(w.p(0), kBase, "o"); }));
}

void AddThreads(std::vector<Spec>* races) {
  const Action two_threads = [](World& w) {
    w.Thread(w.Spawn());
    w.MapAnon(w.p(0), kBase, 1);
  };
  races->push_back(Against(
      "load_against_store", two_threads, [](World& w) { w.ExpectByte(w.p(0), kBase, std::string("\0x", 2)); },
      StoreBy(1, kBase, 'x'), [](World& w) { w.ExpectByte(w.p(0), kBase, "x"); }));
  races->push_back(Against(
      "store_against_dontneed",
      [=](World& w) {
        two_threads(w);
        w.Store(w.p(0), kBase, 'o');
      },
      StoreBy(0, kBase + 1, 'x'),
      [](World& w) { (void)mm::sys_madvise(*w.p(1).mm, kBase, kPage, MADV_DONTNEED); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, std::string("\0", 1));
        w.ExpectByte(w.p(0), kBase + 1, std::string("\0x", 2));
      }));
  races->push_back(Against(
      "store_against_munmap", two_threads, StoreBy(0, kBase, 'x'),
      [](World& w) { w.Unmap(w.p(1), kBase, 1); }, [](World& w) { w.ExpectByte(w.p(0), kBase, "?"); }));
  races->push_back(Against(
      "store_against_mprotect", two_threads, StoreBy(0, kBase, 'x'),
      [](World& w) { (void)mm::sys_mprotect(*w.p(1).mm, kBase, kPage, PROT_READ); },
      [](World& w) {
        w.Expect(w.Store(w.p(0), kBase, 'z') == Outcome::kSigsegv, "still writable");
        w.ExpectByte(w.p(0), kBase, std::string("\0x", 2));
      }));
  races->push_back(Against(
      "store_against_mremap", two_threads, StoreBy(0, kBase, 'x'),
      [](World& w) {
        (void)mm::sys_mremap(*w.p(1).mm, kBase, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                             kBase + 16 * kPage);
      },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "?");
        w.ExpectByte(w.p(0), kBase + 16 * kPage, std::string("\0x", 2));
      }));
  races->push_back(Against(
      "store_against_mmap_beside_it", two_threads, StoreBy(0, kBase, 'x'),
      [](World& w) { w.MapAnon(w.p(1), kBase + kPage, 2); },
      [](World& w) { w.ExpectByte(w.p(0), kBase, "x"); }));
  // Each fault below a stack makes it grow, with mmap_sem held for reading only.
  races->push_back(Against(
      "stack_growth_by_two_threads",
      [](World& w) {
        w.Thread(w.Spawn());
        CHECK(mm::sys_mmap(*w.p(0).mm, kBase + 64 * kPage, kPage, kReadWrite,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, nullptr, 0));
      },
      [](World& w) { w.Expect(w.Store(w.p(0), kBase + 60 * kPage, 'x') == Outcome::kOk, "no growth"); },
      [](World& w) { w.Expect(w.Store(w.p(1), kBase + 62 * kPage, 'y') == Outcome::kOk, "no growth"); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase + 60 * kPage, "x");
        w.ExpectByte(w.p(0), kBase + 62 * kPage, "y");
      }));
}

}  // namespace

void AddFaultRaces(std::vector<Spec>* races) {
  races->push_back(FaultAgainstFaultAnon());
  races->push_back(FaultAgainstFaultPrivate());
  races->push_back(FaultAgainstFaultShared());
  races->push_back(FaultAgainstTruncate("M06_load_against_truncate", {}, true, false));
  races->push_back(FaultAgainstTruncate("M05_store_against_truncate", {}, true, true));
  Semantics one_pass;
  one_pass.truncate_passes = mm::TruncatePasses::kOne;
  races->push_back(FaultAgainstTruncate("M05_store_against_truncate_in_one_pass", one_pass, true, true));
  races->back().broken = true;  // the copy that a fault was about to map survives
  races->push_back(FaultAgainstTruncate("M06_shared_load_against_truncate", {}, false, false));
  races->push_back(FaultAgainstTruncate("M06_shared_store_against_truncate", {}, false, true));
  races->push_back(FaultAgainstTruncate("M06_load_against_truncate_k18", K18Truncate(), true, false));
  races->push_back(FaultAgainstTruncate("M05_store_against_truncate_k18", K18Truncate(), true, true));
  AddCow(races);
  AddThreads(races);
}

}  // namespace races
