// Scenarios M25, M26 of the memory model: follow_page and get_user_pages.
#include "mm/follow_page.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "tests/mm/world.h"

namespace mm {
namespace {

TEST(Scenario, M25_forced_write_to_a_read_only_private_mapping) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2, 0, PROT_READ);
  EXPECT_EQ(w.TryLoad(p, a + kPage), Outcome::kOk);  // page 1 is present, page 0 is not
  SysResult<std::vector<Pfn>> pages = get_user_pages(*p.mm, a, 2, Write::kYes, Force::kYes);
  w.Check();
  ASSERT_TRUE(pages.has_value() && pages->size() == 2);
  for (uint64_t i = 0; i < 2; ++i) {
    const Vaddr addr = a + i * kPage;
    EXPECT_EQ((*pages)[i], w.PfnAt(p, addr));
    EXPECT_TRUE(PageAnon(w.PageAt(p, addr))) << "COW is broken";
    EXPECT_FALSE(pte_write(w.PteAt(p, addr))) << "the user's pte stays read-only";
    std::memcpy(w.machine().frames.bytes((*pages)[i]), "poke", 4);
    EXPECT_BYTES(w.Load(p, addr, 8), "poke" + w.Original(file, i * kPage + 4, 4));
    EXPECT_BYTES(w.ReadFile(file, i * kPage, 8), w.Original(file, i * kPage, 8));
    EXPECT_EQ(w.TryStore(p, addr), Outcome::kSigsegv);
    EXPECT_TRUE(w.IsDirty(p, addr));
  }
  unpin_user_pages(w.machine(), *pages);
  std::vector<Pfn> again = get_user_pages(*p.mm, a, 1, Write::kYes, Force::kYes).value();
  EXPECT_EQ(again[0], w.PfnAt(p, a)) << "the copy is not copied again";
  unpin_user_pages(w.machine(), again);
  w.Check();
}

// ---- M26 ----

constexpr Pfn kRawPfn{0x123456};  // no such frame in the machine

enum class Kind { kNoTable, kNone, kFile, kSwap, kReadOnly, kReadWrite, kZero, kRawReadOnly, kRawReadWrite };

Pte PlantedPte(Kind kind, Pfn page) {
  switch (kind) {
    case Kind::kNoTable:
    case Kind::kNone: return {};
    case Kind::kFile: return pgoff_to_pte(0);
    case Kind::kSwap: return swp_entry_to_pte(0);
    case Kind::kReadOnly: return mk_pte(page, kPteYoung);
    case Kind::kReadWrite: return mk_pte(page, kPteYoung | kPteWrite | kPteDirty);
    case Kind::kZero: return mk_pte(kZeroPfn, kPteSpecial);
    case Kind::kRawReadOnly: return mk_pte(kRawPfn, kPteSpecial);
    case Kind::kRawReadWrite: return mk_pte(kRawPfn, kPteSpecial | kPteWrite);
  }
  return {};
}

// P: the page. Z: the zero page. N: NULL, to be faulted in. E: EFAULT.
// One letter for each of: no flags, WRITE, DUMP, DUMP | DIRTY.
struct Row {
  const char* name;
  Kind kind;
  const char* anon;
  const char* file;
};
constexpr Row kMatrix[] = {
    {"no table", Kind::kNoTable, "NNEE", "NNNE"},
    {"none", Kind::kNone, "NNEE", "NNNE"},
    {"file", Kind::kFile, "NNNE", "NNNE"},
    {"swap", Kind::kSwap, "NNNN", "NNNN"},
    {"present ro", Kind::kReadOnly, "PNPP", "PNPP"},
    {"present rw", Kind::kReadWrite, "PPPP", "PPPP"},
    {"zero", Kind::kZero, "ZNEE", "ZNEE"},
    {"raw pfn ro", Kind::kRawReadOnly, "ENEE", "ENEE"},
    {"raw pfn rw", Kind::kRawReadWrite, "EEEE", "EEEE"},
};
constexpr std::array<unsigned, 4> kFlags = {0, FOLL_WRITE, FOLL_DUMP, FOLL_DUMP | FOLL_DIRTY};

char Letter(const Followed& followed, Pfn page) {
  if (followed.kind == Followed::Kind::kNull) return 'N';
  if (followed.kind == Followed::Kind::kEfault) return 'E';
  if (followed.pfn == page) return 'P';
  return followed.pfn == kZeroPfn ? 'Z' : '?';
}

// The four answers of one row, each asked for without and with a reference.
std::string Answers(World& w, Process& p, Vaddr addr, Kind kind) {
  Frames& frames = w.machine().frames;
  const Pfn page = frames.alloc_page(Fill::kZero);
  const uint64_t tables = p.mm->pgtable.nr_ptes();
  Pte* entry = kind == Kind::kNoTable ? nullptr : p.mm->pgtable.alloc(addr);
  const Pte planted = PlantedPte(kind, page);
  if (entry != nullptr) *entry = planted;
  std::string letters;
  for (const unsigned flags : kFlags) {
    const Followed plain = follow_page(w.VmaAt(p, addr), addr, flags);
    letters += Letter(plain, page);
    const Followed got = follow_page(w.VmaAt(p, addr), addr, flags | FOLL_GET);
    EXPECT_EQ(got, plain);
    if (got.kind == Followed::Kind::kPage) {
      EXPECT_EQ(frames.at(got.pfn).count, 2) << "its own reference and ours";
      frames.put_page(got.pfn);
    }
    EXPECT_EQ(frames.at(page).count, 1);
    EXPECT_TRUE(entry == nullptr || *entry == planted) << "looking changes nothing";
  }
  EXPECT_TRUE(entry != nullptr || p.mm->pgtable.nr_ptes() == tables) << "nor does it make tables";
  if (entry != nullptr) *entry = {};
  frames.put_page(page);
  return letters;
}

TEST(Scenario, M26_follow_page_matrix) {
  for (const Row& row : kMatrix) {
    for (const bool anon : {true, false}) {
      SCOPED_TRACE(testing::Message() << row.name << (anon ? ", anonymous vma" : ", file vma"));
      World w;
      Process& p = w.Spawn();
      const FilePtr file = w.NewFile(kPage);
      const Vaddr a = anon ? w.Anon(p, 1) : w.Private(p, file, 1);
      EXPECT_EQ(Answers(w, p, a, row.kind), anon ? row.anon : row.file);
      w.Check();
    }
  }
}

// The same of a page of the file itself, which nobody planted.
TEST(Scenario, M26_real_pages) {
  World w;
  Process& p = w.Spawn();
  const FilePtr file = w.NewFile(2 * kPage);
  const Vaddr a = w.Private(p, file, 2);
  EXPECT_EQ(w.TryLoad(p, a), Outcome::kOk);
  EXPECT_EQ(w.TryStore(p, a + kPage), Outcome::kOk);
  for (const unsigned flags : kFlags) {
    EXPECT_EQ(follow_page(w.VmaAt(p, a + kPage), a + kPage, flags).pfn, w.PfnAt(p, a + kPage));
    const Followed clean = follow_page(w.VmaAt(p, a), a, flags);
    EXPECT_EQ(Letter(clean, file->mapping.pages.at(0)), flags == FOLL_WRITE ? 'N' : 'P');
  }
}

}  // namespace
}  // namespace mm
