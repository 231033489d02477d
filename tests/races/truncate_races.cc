// Truncates and hole punches against all that looks for what they take away.
#include "tests/races/race_world.h"

namespace races {
namespace {

constexpr char kZero[] = {'\0', '\0'};
const std::string kNothing(kZero, 1);

// A file of two pages, mapped private by process 0 and shared by process 1. pfn is page 1.
void TwoMappings(World& w) {
  w.file = w.NewFile(2);
  w.MapPrivate(w.Spawn(), kBase, 2, w.file);
  w.MapShared(w.Spawn(), kBase, 2, w.file);
  (void)w.Load(w.p(0), kBase + kPage);
  (void)w.Load(w.p(1), kBase + kPage);
  w.pfn = w.PfnAt(w.p(1), kBase + kPage);
}
// Process 0 has a private copy of page 1, process 1 has stored to the file's.
void Stored(World& w) {
  TwoMappings(w);
  w.Store(w.p(0), kBase + kPage, 'c');
  w.Store(w.p(1), kBase + kPage, 's');
}

void Cut(World& w) { w.Truncate(w.file, kPage); }
void CutAndExtend(World& w) {
  w.Truncate(w.file, kPage);
  w.Truncate(w.file, 2 * kPage);
}
void PunchPage1(World& w) { w.Punch(w.file, 1, 1); }

// After a truncate to one page nothing is mapped behind it; extended again, page 1 is zero.
void IsCut(World& w) {
  const auto look = [&](const std::string& allowed) {
    for (size_t i = 0; i < w.process_count(); ++i) {
      if (w.alive(i)) w.ExpectByte(w.p(i), kBase + kPage, allowed);
    }
  };
  look("!?");
  w.Truncate(w.file, 2 * kPage);
  look(kNothing + "?");
  w.Expect(w.Read(w.file, kPage) == '\0', "what was cut off is back");
}
// The file's own page 1 is zero, in memory and on disk.
void IsPunched(World& w) {
  w.ExpectByte(w.p(1), kBase + kPage, kNothing);
  w.Expect(w.Read(w.file, kPage) == '\0', "the punched page is in the cache");
  w.Fsync(w.file);
  while (!w.m().processes().empty()) w.m().exit(w.m().processes().begin()->first);
  w.DropCaches(w.file);
  w.Expect(w.Read(w.file, kPage) == '\0', "the punched page is on disk");
}

void AddMaps(std::vector<Spec>* races) {
  races->push_back(Against("truncate_against_fork", Stored, Cut, [](World& w) { w.Fork(w.p(0)); }, IsCut));
  races->push_back(
      Against("truncate_against_fork_shared", Stored, Cut, [](World& w) { w.Fork(w.p(1)); }, IsCut));
  const Action move = [](World& w) {
    for (size_t i = 0; i < 2; ++i) {
      (void)mm::sys_mremap(*w.p(i).mm, kBase, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                           kBase + 16 * kPage);
    }
  };
  races->push_back(Against("truncate_against_mremap", Stored, Cut, move, [](World& w) {
    w.ExpectByte(w.p(0), kBase + 17 * kPage, "!");
    w.ExpectByte(w.p(1), kBase + 17 * kPage, "!");
    IsCut(w);
    w.ExpectByte(w.p(0), kBase + 17 * kPage, kNothing);
  }));
  races->push_back(Against(
      "truncate_against_split",
      [](World& w) {
        w.file = w.NewFile(3);
        w.MapPrivate(w.Spawn(), kBase, 3, w.file);
        w.MapShared(w.Spawn(), kBase, 3, w.file);
        for (size_t i = 0; i < 2; ++i) w.Store(w.p(i), kBase + 2 * kPage, 'x');
      },
      Cut,
      [](World& w) {
        for (size_t i = 0; i < 2; ++i) w.Unmap(w.p(i), kBase + kPage, 1);
      },
      [](World& w) {
        for (size_t i = 0; i < 2; ++i) {
          w.ExpectByte(w.p(i), kBase, "a");
          w.ExpectByte(w.p(i), kBase + kPage, "?");
          w.ExpectByte(w.p(i), kBase + 2 * kPage, "!");
        }
      }));
  races->push_back(Against(
      "truncate_against_split_and_merge", Stored, Cut,
      [](World& w) {
        (void)mm::sys_mprotect(*w.p(0).mm, kBase + kPage, kPage, PROT_READ);
        (void)mm::sys_mprotect(*w.p(0).mm, kBase + kPage, kPage, kReadWrite);
      },
      IsCut));
}

void AddUnmaps(std::vector<Spec>* races) {
  races->push_back(Against(
      "truncate_against_munmap", Stored, Cut,
      [](World& w) {
        w.Unmap(w.p(0), kBase, 2);
        w.Unmap(w.p(1), kBase, 2);
      },
      IsCut));
  races->push_back(Against(
      "truncate_against_exit", Stored, Cut,
      [](World& w) {
        if (w.alive(0)) w.Exit(w.p(0));
      },
      IsCut));
  races->push_back(Against(
      "truncate_against_mmap", TwoMappings, Cut,
      [](World& w) {
        w.MapShared(w.p(0), kBase + 32 * kPage, 2, w.file);
        (void)w.Load(w.p(0), kBase + 33 * kPage);
      },
      IsCut));
  races->push_back(Against(
      "truncate_against_mlock", Stored, Cut,
      [](World& w) {
        (void)mm::sys_mlock(*w.p(0).mm, kBase, 2 * kPage);
        (void)mm::sys_mlock(*w.p(1).mm, kBase, 2 * kPage);
      },
      IsCut));
}

// Page 1 moves into a vma that a truncate looks at before the one that it comes from.
void AddMove(std::vector<Spec>* races) {
  races->push_back(Against(
      "truncate_against_mremap_into_a_vma",
      [](World& w) {
        w.file = w.NewFile(2);
        w.MapPrivate(w.Spawn(), kBase + 16 * kPage, 1, w.file);
        w.MapPrivate(w.p(0), kBase + kPage, 1, w.file, 1);
        w.Store(w.p(0), kBase + kPage, 'c');
      },
      Cut,
      [](World& w) {
        (void)mm::sys_mremap(*w.p(0).mm, kBase + kPage, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                             kBase + 17 * kPage);
      },
      [](World& w) { w.ExpectByte(w.p(0), kBase + 17 * kPage, "!"); }));
  races->back().semantics.truncate_passes = mm::TruncatePasses::kOne;
}

void AddContents(std::vector<Spec>* races) {
  races->push_back(Against(
      "truncate_against_cow_break", TwoMappings, Cut, [](World& w) { w.Store(w.p(0), kBase + kPage, 'x'); },
      IsCut));
  races->push_back(
      Against("truncate_against_reclaim", Stored, Cut, [](World& w) { w.Reclaim(w.pfn); }, IsCut));
  races->push_back(Against("truncate_against_fsync", Stored, Cut, [](World& w) { w.Fsync(w.file); }, IsCut));
  races->push_back(Against("truncate_against_truncate", Stored, Cut, CutAndExtend, [](World& w) {
    w.Truncate(w.file, 2 * kPage);
    w.ExpectByte(w.p(0), kBase + kPage, kNothing);
    w.Expect(w.Read(w.file, kPage) == '\0', "what was cut off is back");
  }));
  races->push_back(Against(
      "truncate_against_swap_out_of_the_copy",
      [](World& w) {
        Stored(w);
        w.pfn = w.PfnAt(w.p(0), kBase + kPage);
      },
      Cut, [](World& w) { w.Reclaim(w.pfn); }, IsCut));
  races->back().swap_pages = 4;
  races->push_back(Against(
      "truncate_and_extend_against_read", [](World& w) { w.file = w.NewFile(2); }, CutAndExtend,
      [](World& w) {
        const char byte = w.Read(w.file, kPage);
        w.Expect(byte == 'b' || byte == '!' || byte == '\0', "read something else");
      },
      [](World& w) { w.Expect(w.Read(w.file, kPage) == '\0', "what was cut off is back"); }));
  races->push_back(Against(
      "truncate_and_extend_against_load", TwoMappings, CutAndExtend,
      [](World& w) {
        w.ExpectByte(w.p(0), kBase + kPage, "b!" + kNothing);
        w.ExpectByte(w.p(1), kBase + kPage, "b!" + kNothing);
      },
      [](World& w) { w.ExpectByte(w.p(0), kBase + kPage, kNothing); }));
  races->push_back(Against(
      "truncate_and_extend_against_write", TwoMappings, CutAndExtend,
      [](World& w) { w.Write(w.file, kPage + 1, 'w'); },
      [](World& w) {
        w.Expect(w.Read(w.file, kPage) == '\0', "what was cut off is back");
        w.ExpectByte(w.p(1), kBase + kPage + 1, "w" + kNothing);
      }));
  races->push_back(Against(
      "truncate_of_a_tail_against_store", Stored, [](World& w) { w.Truncate(w.file, kPage + 8); },
      [](World& w) { w.Store(w.p(1), kBase + kPage + 1, 'y'); },
      [](World& w) {
        w.Truncate(w.file, 2 * kPage);
        w.ExpectByte(w.p(1), kBase + kPage + 1, "y");
        w.ExpectByte(w.p(1), kBase + kPage + 8, kNothing);
      }));
  races->push_back(Against(
      "truncate_of_a_tail_against_reclaim_and_load", Stored, [](World& w) { w.Truncate(w.file, kPage + 8); },
      [](World& w) {
        w.Reclaim(w.pfn);
        (void)w.Load(w.p(1), kBase + kPage);
      },
      [](World& w) {
        w.Truncate(w.file, 2 * kPage);
        w.ExpectByte(w.p(1), kBase + kPage, "s");
        w.ExpectByte(w.p(1), kBase + kPage + 8, kNothing);
      }));
}

void AddPunches(std::vector<Spec>* races) {
  races->push_back(Against(
      "punch_against_load", TwoMappings, PunchPage1, [](World& w) { (void)w.Load(w.p(1), kBase + kPage); },
      IsPunched));
  races->push_back(Against(
      "punch_against_private_store", TwoMappings, PunchPage1,
      [](World& w) { w.Store(w.p(0), kBase + kPage + 1, 'x'); },
      [](World& w) {
        w.ExpectByte(w.p(0), kBase + kPage + 1, "x");
        IsPunched(w);
      }));
  races->push_back(
      Against("punch_against_fsync", Stored, PunchPage1, [](World& w) { w.Fsync(w.file); }, IsPunched));
  races->push_back(Against(
      "punch_against_fsync_and_drop_caches", Stored, PunchPage1,
      [](World& w) {
        w.Fsync(w.file);
        w.DropCaches(w.file);
      },
      IsPunched));
  races->push_back(Against(
      "punch_against_reclaim_and_read", Stored, PunchPage1,
      [](World& w) {
        w.Reclaim(w.pfn);
        (void)w.Read(w.file, kPage);
      },
      IsPunched));
  races->push_back(Against(
      "punch_against_read",
      [](World& w) {
        w.file = w.NewFile(2);
        w.Spawn();
        w.MapShared(w.Spawn(), kBase, 2, w.file);
      },
      PunchPage1, [](World& w) { (void)w.Read(w.file, kPage); }, IsPunched));
  races->push_back(Against(
      "punch_of_a_part_against_fsync", Stored,
      [](World& w) { (void)mm::punch_hole(w.m(), *w.file, kPage, 8); }, [](World& w) { w.Fsync(w.file); },
      IsPunched));
}

}  // namespace

void AddTruncateRaces(std::vector<Spec>* races) {
  AddMaps(races);
  AddUnmaps(races);
  AddMove(races);
  AddContents(races);
  AddPunches(races);
}

}  // namespace races
