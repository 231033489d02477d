// Scenarios G01 to G19 of page hinting: what the guest asks, what the host does, and what an access meets.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "mm/page_states.h"
#include "tests/mm/bare_host.h"
#include "tests/support/support.h"

namespace mm {
namespace {

using enum PageState;
constexpr Pfn kPfn{5};

// A page of a file, X, that a process can map.
struct OnePage {
  explicit OnePage(const Semantics& semantics = Hinted()) : w(semantics) {}
  // X is cached, known to nobody else, and stable.
  Pfn Stable() {
    const Pfn pfn = w.ReadIn(file, 0);
    EXPECT_TRUE(page_set_stable_if_present(w.frames(), pfn));
    EXPECT_EQ(w.state(pfn), Sr);
    return pfn;
  }
  // A page of an object, which is mapped writable when it is read: potentially volatile, and not changed. (A
  // file's page is dirty as soon as it has a writable pte.)
  Pfn Writable() {
    EXPECT_BYTES(w.Load(p, of_object, 4), Zeros(4));
    const Pfn pfn = w.PfnAt(p, of_object);
    EXPECT_TRUE(pte_write(w.PteAt(p, of_object)));
    page_make_volatile(w.frames(), pfn, 1);
    EXPECT_EQ(w.state(pfn), Pr);
    return pfn;
  }
  std::string Disk(size_t length) { return w.Original(file, 0, length); }

  HintedWorld w;
  FilePtr file = w.NewFile(2 * kPage);
  Process& p = w.Spawn();
  Vaddr shared = w.Shared(p, file, 1);
  FilePtr object = w.machine().create_shmem("object", kPage);
  Vaddr of_object = w.Shared(p, object, 1);
};

// What the last line of the specification calls stable is so while the fault works on it: when it gives the
// page lock back, the page is volatile again.
TEST(Scenario, G01_discard_and_reload) {
  OnePage o;
  EXPECT_BYTES(o.w.Load(o.p, o.shared, 9), o.Disk(9));
  const Pfn pfn = o.w.PfnAt(o.p, o.shared);
  ASSERT_TRUE(page_set_stable_if_present(o.w.frames(), pfn));
  page_make_volatile(o.w.frames(), pfn, 1);
  ASSERT_EQ(o.w.state(pfn), Vr);
  ASSERT_TRUE(o.w.Take(pfn));
  ASSERT_EQ(o.w.state(pfn), Vz);
  EXPECT_BYTES(o.w.Load(o.p, o.shared, kPage), o.Disk(kPage));
  EXPECT_EQ(o.w.machine().host->stat().discard_faults, 1u);
  EXPECT_EQ(o.w.machine().vmstat.pgpgin, 2u) << "from disk again";
  const Pfn now = o.w.PfnAt(o.p, o.shared);
  EXPECT_NE(now, pfn) << "the discarded frame waits";
  EXPECT_EQ(o.w.state(now), Vr);
  EXPECT_EQ(find_get_page(o.w.machine(), o.file->mapping, 0), now);
  EXPECT_EQ(o.w.state(now), Sr);
  o.w.frames().put_page(now);
}

TEST(Scenario, G02_make_stable_in_time) {
  OnePage o;
  const Pfn pfn = o.Stable();
  page_make_volatile(o.w.frames(), pfn, 1);
  ASSERT_EQ(o.w.state(pfn), Vr);
  o.w.frames().get_page(pfn);
  EXPECT_TRUE(page_make_stable(o.w.frames(), pfn));
  EXPECT_EQ(o.w.state(pfn), Sr);
  EXPECT_BYTES(o.w.FrameText(pfn, 0, kPage), o.Disk(kPage));
  o.w.frames().put_page(pfn);
}

TEST(Scenario, G03_make_stable_of_a_discarded_page) {
  OnePage o;
  const Pfn pfn = o.w.ReadIn(o.file, 0);
  ASSERT_TRUE(o.w.Take(pfn));
  o.w.frames().get_page(pfn);
  EXPECT_FALSE(page_make_stable(o.w.frames(), pfn));
  EXPECT_EQ(o.w.state(pfn), Vz);
  o.w.frames().put_page(pfn);
  EXPECT_EQ(find_get_page(o.w.machine(), o.file->mapping, 0), kNoPfn);
  EXPECT_EQ(o.w.Cached(o.file, 0), kNoPfn) << "the caller discarded it";
  o.w.Check();
}

TEST(Scenario, G04_volatile_while_paged_out) {
  OnePage o;
  const Pfn pfn = o.Stable();
  o.w.host().move(HostMove::kPageOut, pfn);
  ASSERT_EQ(o.w.state(pfn), Sp);
  EXPECT_NE(o.w.host().peek(pfn)[1], std::byte{0});
  page_make_volatile(o.w.frames(), pfn, 1);
  EXPECT_EQ(o.w.state(pfn), Vz);
  for (size_t at = 0; at < kPage; ++at)
    ASSERT_EQ(o.w.host().peek(pfn)[at], std::byte{0}) << "no copy is left";
  EXPECT_EQ(o.w.host().stat().paged_in, 0u);
  EXPECT_BYTES(o.w.ReadFile(o.file, 0, kPage), o.Disk(kPage));
}

TEST(Scenario, G05_volatile_before_the_first_access) {
  BareHost b;
  b.Bring(kPfn, Sz);
  b.host().essa(kPfn, Request::kSetVolatile);
  EXPECT_EQ(b.state(kPfn), Vz);
  EXPECT_EQ(b.host().access(kPfn, Write::kNo), Access::kDiscardFault) << "though nothing was ever lost";
}

// The guest does not: what the host never backed was not read from disk yet.
TEST(Scenario, G05_the_guest_never_asks_for_that) {
  OnePage o;
  Machine& m = o.w.machine();
  const Pfn pfn = m.frames.alloc_page(Fill::kUninitialized);
  Page& page = m.frames.at(pfn);
  lock_page(page);
  ASSERT_TRUE(add_to_page_cache(m, o.file->mapping, 1, pfn));
  unlock_page(m.frames, page);
  page_cache_release(m.frames, pfn);
  page_make_volatile(m.frames, pfn, 1);
  EXPECT_EQ(page.count, 1);
  EXPECT_EQ(o.w.state(pfn), Sz);
  m.frames.get_page(pfn);
  lock_page(page);
  remove_from_page_cache(m, pfn);
  unlock_page(m.frames, page);
  m.frames.put_page(pfn);
}

TEST(Scenario, G06_potentially_volatile_before_the_first_access) {
  BareHost b;
  b.Bring(kPfn, Sz);
  b.host().essa(kPfn, Request::kSetPotentiallyVolatile);
  EXPECT_EQ(b.state(kPfn), Vz);
}

TEST(Scenario, G07_potentially_volatile_while_paged_out) {
  BareHost b;
  for (const bool changed : {false, true}) {
    b.Bring(kPfn, Sr);
    b.Byte(kPfn) = std::byte{7};
    b.host().move(HostMove::kPageOut, kPfn);
    b.SetChanged(kPfn, changed);
    b.host().essa(kPfn, Request::kSetPotentiallyVolatile);
    EXPECT_EQ(b.state(kPfn), changed ? Sp : Vz);
    EXPECT_EQ(b.host().peek(kPfn)[0], changed ? std::byte{7} : std::byte{0});
  }
}

TEST(Scenario, G08_a_changed_page_is_paged_out) {
  OnePage o;
  const Pfn pfn = o.Writable();
  ASSERT_EQ(o.w.Store(o.p, o.of_object, "stored"), Outcome::kOk);
  ASSERT_EQ(o.w.state(pfn), Pr);
  ASSERT_NE(o.w.page(pfn).flags & PG_key_dirty, 0u);
  EXPECT_FALSE(o.w.host().may_move(HostMove::kDiscardClean, pfn));
  ASSERT_TRUE(o.w.Take(pfn));
  EXPECT_EQ(o.w.state(pfn), Sp);
  EXPECT_BYTES(o.w.Load(o.p, o.of_object, 6), "stored");
  EXPECT_EQ(o.w.state(pfn), Sr);
  EXPECT_EQ(o.w.machine().host->stat().discard_faults, 0u);
}

TEST(Scenario, G09_a_clean_page_is_dropped) {
  OnePage o;
  const Pfn pfn = o.Writable();
  ASSERT_TRUE(o.w.Take(pfn));
  EXPECT_EQ(o.w.state(pfn), Vz);
  ASSERT_EQ(o.w.Store(o.p, o.of_object, "new"), Outcome::kOk);
  EXPECT_EQ(o.w.machine().host->stat().discard_faults, 1u);
  EXPECT_NE(o.w.PfnAt(o.p, o.of_object), pfn);
  EXPECT_BYTES(o.w.Load(o.p, o.of_object, 6), std::string("new\0\0\0", 6));
}

// A file's page that was written back: some pte was writable since it was mapped. The write finds it gone
// when it makes the pte writable.
TEST(Scenario, G09_a_page_that_was_written_back) {
  OnePage o;
  ASSERT_EQ(o.w.Store(o.p, o.shared, "stored"), Outcome::kOk);
  ASSERT_TRUE(o.w.Fsync(o.file));
  const Pfn pfn = o.w.PfnAt(o.p, o.shared);
  o.w.page(pfn).flags &= ~PG_private;  // as when it becomes inactive
  page_make_volatile(o.w.frames(), pfn, 1);
  ASSERT_EQ(o.w.state(pfn), Pr);
  ASSERT_TRUE(o.w.Take(pfn));
  ASSERT_EQ(o.w.state(pfn), Vz);
  ASSERT_EQ(o.w.Store(o.p, o.shared, "S"), Outcome::kOk);
  EXPECT_BYTES(o.w.Load(o.p, o.shared, 9), "Stored" + o.Disk(9).substr(6));
}

TEST(Scenario, G10_free_and_allocate) {
  OnePage o;
  const Pfn pfn = o.w.ReadIn(o.file, 0);
  ASSERT_EQ(o.w.state(pfn), Vr);
  ASSERT_TRUE(reclaim_page(o.w.machine(), pfn));
  EXPECT_EQ(o.w.state(pfn), Ur);
  ASSERT_TRUE(o.w.Take(pfn));
  EXPECT_EQ(o.w.state(pfn), Uz);
  ASSERT_EQ(o.w.frames().alloc_page(Fill::kUninitialized), pfn);
  EXPECT_EQ(o.w.state(pfn), Sz);
  EXPECT_BYTES(o.w.FrameText(pfn, 0, kPage), Zeros(kPage));
  EXPECT_EQ(o.w.state(pfn), Sr);
  o.w.frames().put_page(pfn);
}

TEST(Scenario, G11_old_bytes_never_come_back) {
  OnePage o;
  const Vaddr a = o.w.Anon(o.p, 1);
  ASSERT_EQ(o.w.Store(o.p, a, "secret"), Outcome::kOk);
  const Pfn pfn = o.w.PfnAt(o.p, a);
  ASSERT_TRUE(o.w.Take(pfn));
  ASSERT_EQ(o.w.state(pfn), Sp);
  ASSERT_TRUE(o.w.Unmap(o.p, a, 1));
  EXPECT_EQ(o.w.state(pfn), Uz);
  EXPECT_EQ(o.w.host().peek(pfn)[0], std::byte{0});
  ASSERT_EQ(o.w.frames().alloc_page(Fill::kUninitialized), pfn);
  EXPECT_BYTES(o.w.FrameText(pfn, 0, kPage), Zeros(kPage));
  o.w.frames().put_page(pfn);
}

// The machine has no raw-memory device whose user copy could come to such an address: the kernel's own way
// to a page's bytes is a CHECK there (INV-G11).
TEST(Scenario, G12_access_to_an_unused_frame) {
  BareHost b;
  for (const PageState state : {Ur, Uz}) {
    b.Bring(kPfn, state);
    for (const Write write : {Write::kNo, Write::kYes, Write::kNo}) {
      EXPECT_EQ(b.host().access(kPfn, write), Access::kAddressingException);
      EXPECT_EQ(b.state(kPfn), state);
    }
    EXPECT_DEATH((void)b.frames.bytes(kPfn), "the kernel touches page 5, which is U");
  }
}

TEST(Scenario, G13_unconditional_stable_gives_zeros) {
  BareHost b;
  b.Bring(kPfn, Vr);
  b.Byte(kPfn) = std::byte{9};
  ASSERT_TRUE(b.host().take(kPfn));
  page_set_stable(b.frames, kPfn);
  EXPECT_EQ(b.state(kPfn), Sz) << "no error";
  EXPECT_EQ(b.Byte(kPfn), std::byte{0});
}

// So nobody asks for it, but who allocates.
TEST(Scenario, G13_only_allocation_does_it) {
  std::set<std::string> users;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_SOURCE_DIR "/mm")) {
    const std::string text = support::ReadFile(entry.path());
    if (text.find("page_set_stable(") == std::string::npos &&
        text.find("Request::kSetStable)") == std::string::npos &&
        text.find("Request::kSetStable,") == std::string::npos) {
      continue;
    }
    users.insert(entry.path().filename().string());
  }
  EXPECT_EQ(users, (std::set<std::string>{"frames.cc", "page_states.cc", "page_states.h"}));
  const std::string frames = support::ReadFile(CKPT_SOURCE_DIR "/mm/frames.cc");
  const size_t first = frames.find("page_set_stable(");
  EXPECT_EQ(frames.find("page_set_stable(", first + 1), std::string::npos) << "once";
  EXPECT_LT(frames.find("Pfn Frames::alloc_page"), first);
  EXPECT_GT(frames.find("bool Frames::Take"), first);
}

TEST(Scenario, G14_to_and_fro_while_resident) {
  BareHost b;
  b.Bring(kPfn, Vr);
  b.Byte(kPfn) = std::byte{4};
  b.host().essa(kPfn, Request::kSetPotentiallyVolatile);
  EXPECT_EQ(b.state(kPfn), Pr);
  b.host().essa(kPfn, Request::kSetVolatile);
  EXPECT_EQ(b.state(kPfn), Vr);
  EXPECT_EQ(b.Byte(kPfn), std::byte{4});
}

TEST(Scenario, G15_is_it_discarded) {
  BareHost b;
  for (const PageState state : kAllPageStates) {
    b.Bring(kPfn, state);
    EXPECT_EQ(page_discarded(b.frames, kPfn), state == Vz) << PageStateName(state);
    EXPECT_EQ(b.state(kPfn), state);
  }
}

// The same calls where the guest gives no hints: it is as if nobody was underneath, but for paging.
TEST(Scenario, G16_facility_off) {
  MachineConfig config;
  config.memory_bytes = 256 * kPageSize;
  config.host_bytes = 128 * kPageSize;
  config.semantics.dirty_bits = DirtyBits::kPage;
  const std::unique_ptr<Machine> m = Machine::Create(config).value();
  const FilePtr file =
      m->create_file("file", 2 * kPage,
                     std::make_unique<OverlayDisk>(OpenContent(World::CounterRecipe(2 * kPage, 1)).value()));
  Process& p = m->spawn(1, "p");
  const Vaddr a = sys_mmap(*p.mm, 0, 2 * kPage, kReadWrite, MAP_SHARED, file, 0).value();
  ASSERT_EQ(m->store(p, a, AsBytes("stored")).outcome, Outcome::kOk);
  const Pfn pfn = HintedWorld::Cached(file, 0);
  for (const int offset : {1, 2}) page_make_volatile(m->frames, pfn, offset);
  EXPECT_TRUE(page_make_stable(m->frames, pfn));
  EXPECT_TRUE(page_set_stable_if_present(m->frames, pfn));
  EXPECT_FALSE(page_discarded(m->frames, pfn));
  EXPECT_EQ(m->host->state(pfn), Sr);
  m->host->move(HostMove::kPageOut, pfn);
  EXPECT_TRUE(page_make_stable(m->frames, pfn));
  page_make_volatile(m->frames, pfn, 1);
  EXPECT_EQ(m->host->state(pfn), Sp);
  std::string got(6, '?');
  ASSERT_EQ(m->load(p, a, AsWritable(got)).outcome, Outcome::kOk);
  EXPECT_BYTES(got, "stored");
  ASSERT_TRUE(sys_munmap(*p.mm, a, 2 * kPage));
  ASSERT_TRUE(vfs_fsync(*m, *file));
  ASSERT_TRUE(reclaim_page(*m, pfn));
  EXPECT_EQ(m->host->state(pfn), Sr) << "a free frame too";
  EXPECT_EQ(m->host->stat().requests, 0u);
  EXPECT_EQ(m->host->stat().discarded, 0u);
  EXPECT_EQ(Validate(*m, Depth::kDeep), std::nullopt);
}

TEST(Scenario, G17_a_reserved_page) {
  OnePage o;
  ASSERT_NE(o.w.page(kZeroPfn).flags & PG_reserved, 0u);
  ASSERT_EQ(o.w.state(kZeroPfn), Sz);
  o.w.host().essa(kZeroPfn, Request::kSetVolatile);
  ASSERT_EQ(o.w.state(kZeroPfn), Vz);
  EXPECT_TRUE(page_set_stable_if_present(o.w.frames(), kZeroPfn)) << "by definition";
  EXPECT_EQ(o.w.state(kZeroPfn), Vz) << "nobody was asked";
  o.w.host().essa(kZeroPfn, Request::kSetStable);
}

TEST(Scenario, G18_moves_that_are_not_in_the_table) {
  for (const auto& [from, to] : {std::pair(Vr, Sp), {Sr, Sz}, {Vz, Vr}, {Sp, Sz}, {Uz, Ur}, {Ur, Sr}})
    EXPECT_EQ(FindHostMove(from, to), nullptr) << PageStateName(from) << PageStateName(to);
  BareHost b;
  b.Bring(kPfn, Vr);
  EXPECT_DEATH(b.host().move(HostMove::kPageOut, kPfn), "the host may not page out frame 5, which is Vr");
  EXPECT_DEATH(b.host().move(HostMove::kPreserveDirty, kPfn), "may not page out");
  b.Bring(kPfn, Sr);
  EXPECT_DEATH(b.host().move(HostMove::kDiscardVolatile, kPfn), "may not discard frame 5, which is Sr");
  b.Bring(kPfn, Vz);
  EXPECT_DEATH(b.host().move(HostMove::kPageIn, kPfn), "may not page in frame 5, which is Vz");
  EXPECT_DEATH(b.host().move(HostMove::kBack, kPfn), "may not back frame 5, which is Vz");
  b.Bring(kPfn, Pr);
  b.SetChanged(kPfn, true);
  EXPECT_DEATH(b.host().move(HostMove::kDiscardClean, kPfn), "may not discard frame 5, which is Pr");
}

// The allocator hands out single frames; the two requests take an order, as in the sources.
TEST(Scenario, G19_frames_of_an_order) {
  BareHost b;
  for (uint32_t i = 8; i < 16; ++i) b.Bring(Pfn{i}, Sr);
  page_set_unused(b.frames, Pfn{8}, 3);
  for (uint32_t i = 8; i < 16; ++i) EXPECT_EQ(b.state(Pfn{i}), Ur);
  for (uint32_t i = 8; i < 16; i += 2) ASSERT_TRUE(b.host().take(Pfn{i}));
  page_set_stable(b.frames, Pfn{8}, 3);
  for (uint32_t i = 8; i < 16; ++i) EXPECT_EQ(b.state(Pfn{i}), i % 2 == 0 ? Sz : Sr) << i;
  EXPECT_EQ(b.state(Pfn{16}), Uz);
}

}  // namespace
}  // namespace mm
