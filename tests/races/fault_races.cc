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
                w.Expect(allowed.find(w.seen[0]) != std::string::npos, "saw " + w.seen[0]);
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

}  // namespace

void AddFaultRaces(std::vector<Spec>* races) {
  races->push_back(FaultAgainstFaultAnon());
  races->push_back(FaultAgainstFaultPrivate());
  races->push_back(FaultAgainstFaultShared());
  races->push_back(FaultAgainstTruncate("M06_load_against_truncate", {}, true, false));
  races->push_back(FaultAgainstTruncate("M05_store_against_truncate", {}, true, true));
  races->push_back(FaultAgainstTruncate("M06_shared_load_against_truncate", {}, false, false));
  races->push_back(FaultAgainstTruncate("M06_shared_store_against_truncate", {}, false, true));
  races->push_back(FaultAgainstTruncate("M06_load_against_truncate_k18", K18Truncate(), true, false));
  races->push_back(FaultAgainstTruncate("M05_store_against_truncate_k18", K18Truncate(), true, true));
  races->push_back(CowAgainstFork());
}

}  // namespace races
