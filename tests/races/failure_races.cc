// Memory that fails while it is used, pages that are pinned while they are taken away.
#include "mm/follow_page.h"
#include "mm/memory_failure.h"
#include "tests/races/race_world.h"

namespace races {
namespace {

// An anonymous page of process 0 and its child 1 that begins with 'o'; pfn.
void SharedPage(World& w) {
  w.MapAnon(w.Spawn(), kBase, 1);
  w.Store(w.p(0), kBase, 'o');
  w.pfn = w.PfnAt(w.p(0), kBase);
  w.Fork(w.p(0));
}
// A clean page of a file, mapped by processes 0 and 1; pfn.
void FilePage(World& w) {
  w.file = w.NewFile(1);
  for (int i = 0; i < 2; ++i) w.MapShared(w.Spawn(), kBase, 1, w.file);
  for (size_t i = 0; i < 2; ++i) (void)w.Load(w.p(i), kBase);
  w.pfn = w.PfnAt(w.p(0), kBase);
}

void Fails(World& w) { (void)mm::memory_failure(w.m(), w.pfn); }

Spec Against(std::string name, Action setup, Action cpu1, Action check) {
  Spec spec{.name = std::move(name),
            .setup = std::move(setup),
            .cpus = {Fails, cpu1},
            .check = std::move(check),
            .swap_pages = 4,
            .poisons = true};
  spec.others = {cpu1};
  return spec;
}

void AddFailures(std::vector<Spec>* races) {
  races->push_back(Against(
      "memory_failure_against_store", SharedPage, [](World& w) { w.Store(w.p(0), kBase, 'x'); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "x!");
        w.ExpectByte(w.p(1), kBase, "o!");
      }));
  races->push_back(Against(
      "memory_failure_against_munmap", SharedPage, [](World& w) { w.Unmap(w.p(1), kBase, 1); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "o!");
        w.ExpectByte(w.p(1), kBase, "?");
      }));
  races->push_back(Against(
      "memory_failure_against_exit", SharedPage,
      [](World& w) {
        if (w.alive(1)) w.Exit(w.p(1));
      },
      [](World& w) { w.ExpectByte(w.p(0), kBase, "o!"); }));
  races->push_back(Against(
      "memory_failure_against_fork", SharedPage, [](World& w) { w.Fork(w.p(1)); },
      [](World& w) {
        for (size_t i = 0; i < w.process_count(); ++i) w.ExpectByte(w.p(i), kBase, "o!");
      }));
  races->push_back(Against(
      "memory_failure_against_reclaim", SharedPage, [](World& w) { w.Reclaim(w.pfn); },
      [](World& w) {
        for (size_t i = 0; i < w.process_count(); ++i) w.ExpectByte(w.p(i), kBase, "o!");
      }));
  races->push_back(Against(
      "memory_failure_of_a_file_page_against_load", FilePage,
      [](World& w) { w.ExpectByte(w.p(1), kBase, "a!"); },
      [](World& w) { w.ExpectByte(w.p(0), kBase, "a!"); }));
  races->push_back(Against(
      "memory_failure_of_a_file_page_against_truncate", FilePage, [](World& w) { w.Truncate(w.file, 0); },
      [](World& w) { w.ExpectByte(w.p(0), kBase, "!"); }));
  races->push_back(Against(
      "memory_failure_of_a_file_page_against_read", FilePage,
      [](World& w) { w.Expect(w.Read(w.file, 0) == 'a', "read something else"); }, nullptr));
}

// A page that is pinned for I/O, by a thread of process 0 that stores to it by that pin.
void AddPins(std::vector<Spec>* races) {
  const Action pin = [](World& w) {
    auto pages = mm::get_user_pages(*w.p(0).mm, kBase, 1, mm::Write::kYes, mm::Force::kNo);
    w.Expect(pages.has_value(), "no page");
    if (!pages) return;
    mm::uses(w.m().frames.bytes(pages->front()), true);
    w.m().frames.bytes(pages->front())[1] = std::byte{'i'};
    mm::set_page_dirty(w.m(), pages->front());
    mm::unpin_user_pages(w.m(), *pages);
  };
  const Action pin_locked = [pin](World& w) {
    mm::ReadGuard guard(w.p(0).mm->mmap_sem);
    pin(w);
  };
  const auto add = [&](const char* name, Action cpu1, Action check) {
    Spec spec{.name = name,
              .setup = SharedPage,
              .cpus = {pin_locked, std::move(cpu1)},
              .check = check,
              .swap_pages = 4};
    races->push_back(std::move(spec));
  };
  const Action check = [](World& w) {
    w.ExpectByte(w.p(0), kBase, "o");
    w.ExpectByte(w.p(0), kBase + 1, "i");
    w.ExpectByte(w.p(1), kBase + 1, std::string(1, '\0'));
  };
  add("pin_against_reclaim", [](World& w) { w.Reclaim(w.pfn); }, check);
  add(
      "pin_against_reclaim_of_the_copy",
      [](World& w) {
        const mm::Pte pte = *w.p(0).mm->pgtable.find(kBase);
        if (mm::pte_present(pte)) w.Reclaim(mm::pte_pfn(pte));
      },
      check);
  add(
      "pin_against_cow_break", [](World& w) { w.Store(w.p(1), kBase, 'y'); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase, "o");
        w.ExpectByte(w.p(0), kBase + 1, "i");
        w.ExpectByte(w.p(1), kBase, "y");
      });
}

}  // namespace

void AddFailureRaces(std::vector<Spec>* races) {
  AddFailures(races);
  AddPins(races);
}

}  // namespace races
