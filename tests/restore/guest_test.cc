// A guest's structures in an image, and what a restart makes of them: what is dropped, and what is refused.
// Whole workloads are in tests/scenarios/engine_guest_test.cc.
#include "restore/guest.h"

#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "base/random.h"
#include "mm/soft_dirty.h"
#include "tests/mm/hinting_world.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

using ckpt_pb::PageRun;

// ---- what is dropped ----

// A little of everything that a guest can have.
struct Guest {
  HintedWorld world{Hinted(), 2048, 256};
  FilePtr file = world.NewFile(32 * kPage);
  FilePtr object = world.machine().create_shmem("object", 8 * kPage);
  Process& process = world.Spawn();
  Vaddr anon = world.Anon(process, 16);
  Vaddr mapped = world.Private(process, file, 8);
  Vaddr shared = world.Shared(process, object, 8);
  Trip trip;

  Guest() {
    trip.scope = ckpt_pb::Machine::MACHINE;
    for (uint64_t i = 0; i < 16; ++i)
      world.Store(process, anon + i * kPage, "anonymous " + std::to_string(i));
  }
  void Fill() {
    for (Pgoff index = 0; index < 16; ++index) world.ReadIn(file, index);
    world.Load(process, mapped, 3 * kPage);
    world.Store(process, mapped + kPage, "copied");
    world.Store(process, shared, "an object's");
    world.Fork(process);
    world.PageOut(process, anon);
    world.PageOut(process, anon + kPage);
    world.Load(process, anon, 1);
  }
  bool Save() {
    const auto saved = trip.TrySave(world.machine());
    EXPECT_TRUE(saved.has_value()) << saved.error().what;
    report = *saved;
    return trip.Open();
  }
  ckpt::DumpReport report;
};

TEST(GuestBuilder, SavesStablePagesAndDropsTheOthers) {
  Guest guest;
  for (Pgoff index = 0; index < 8; ++index) guest.world.ReadIn(guest.file, index);  // volatile
  guest.world.Unmap(guest.process, guest.anon + 8 * kPage, 8);                      // unused
  ASSERT_TRUE(guest.Save());
  EXPECT_EQ(guest.trip.PagesOf(PageRun::FRAME, 0).size(), 8u);
  EXPECT_EQ(guest.report.totals.dropped(), 16u);
  EXPECT_EQ(guest.report.totals.stored(), 8u);
  const auto box = guest.trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(box->machine().host->count(PageState::Vz), 8u);
  EXPECT_EQ(box->machine().host->count(PageState::Vr), 0u);
  EXPECT_EQ(box->FileBytes(guest.file->name(), 0, kPage), guest.world.ReadFile(guest.file, 0, kPage));
}

TEST(GuestBuilder, IsTheSameBytesEachTime) {
  Guest guest;
  guest.Fill();
  const auto first = guest.trip.TrySave(guest.world.machine(), {}, 1);
  const auto second = guest.trip.TrySave(guest.world.machine(), {}, 2);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->image.digest, second->image.digest);
}

TEST(GuestBuilder, WithoutHintsEverythingIsSaved) {
  World world;
  Process& process = world.Spawn();
  const Vaddr anon = world.Anon(process, 16);
  for (uint64_t i = 0; i < 16; ++i) world.Store(process, anon + i * kPage, "anonymous");
  world.Unmap(process, anon + 8 * kPage, 8);
  Trip trip;
  trip.every_page = true;
  trip.scope = ckpt_pb::Machine::MACHINE;
  const auto saved = trip.TrySave(world.machine());
  ASSERT_TRUE(saved.has_value());
  EXPECT_EQ(saved->totals.stored(), 16u);
  EXPECT_EQ(saved->totals.dropped(), 0u);
}

// ---- what is refused ----

// Whatever the options: the guest has pages of the file as it was.
TEST(GuestBuilder, AChangedFileIsRefused) {
  Guest guest;
  const std::string path = guest.trip.path("real");
  support::WriteFile(path, std::string(2 * kPage, 'x'));
  Recipe recipe;
  recipe.kind = Recipe::Kind::kReal;
  recipe.path = path;
  OpenedContent opened = OpenContent(recipe).value();
  const uint64_t size = opened.recipe.size;
  guest.world.machine().create_file("real", size, std::make_unique<OverlayDisk>(std::move(opened)));
  ASSERT_TRUE(guest.Save());
  EXPECT_TRUE(guest.trip.TryRestore().has_value());
  for (const size_t bytes : {kPage, 3 * kPage}) {
    support::WriteFile(path, std::string(bytes, 'x'));
    for (const auto accept : {restore::AcceptChanged::kNo, restore::AcceptChanged::kYes}) {
      guest.trip.options.plan.accept_changed = accept;
      const base::Error error = guest.trip.RestoreError();
      EXPECT_EQ(error.code, Code::kChanged) << error.what;
      EXPECT_NE(error.what.find("is not what the guest knows of it"), std::string::npos) << error.what;
    }
  }
}

// A process's image knows nothing of a guest, and a guest's has no pages of processes.
TEST(GuestBuilder, AGuestWithoutItsSectionsIsRefused) {
  Guest guest;
  ASSERT_TRUE(guest.Save());
  const ckpt_pb::Guest nothing;
  auto sink = restore::ModelSink::Create(guest.trip.image().machine(), "", &nothing);
  ASSERT_TRUE(sink.has_value());
  const auto restored = restore::Restore(guest.trip.image(), **sink, guest.trip.options);
  ASSERT_FALSE(restored.has_value());
  EXPECT_EQ(restored.error().code, Code::kCorrupt) << restored.error().what;
  EXPECT_TRUE(restore::GuestBuilder::FileIds(nothing).value().empty());
}

// One number of the guest is another: the restart refuses it, or makes a machine that is sound.
void Mutate(google::protobuf::Message& message, base::Random& random) {
  const auto* reflection = message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  if (fields.empty()) return;
  const auto* field = fields[random.Below(fields.size())];
  using Type = google::protobuf::FieldDescriptor;
  const uint64_t kNumbers[] = {0, 1, 2, 7, 63, 255, 4095, 65536, 0x7fffffff, 0xffffffff, ~uint64_t{0}};
  uint64_t number = kNumbers[random.Below(std::size(kNumbers))];
  if (!field->is_repeated()) {
    if (field->cpp_type() == Type::CPPTYPE_UINT64) reflection->SetUInt64(&message, field, number);
    if (field->cpp_type() == Type::CPPTYPE_UINT32)
      reflection->SetUInt32(&message, field, static_cast<uint32_t>(number));
    if (field->cpp_type() == Type::CPPTYPE_BOOL) reflection->SetBool(&message, field, (number & 1) != 0);
    return;
  }
  const int at = static_cast<int>(random.Below(static_cast<uint64_t>(reflection->FieldSize(message, field))));
  if (field->cpp_type() == Type::CPPTYPE_MESSAGE)
    return Mutate(*reflection->MutableRepeatedMessage(&message, field, at), random);
  if (random.Below(8) == 0) return reflection->RemoveLast(&message, field);
  const bool nearby = random.Below(2) == 0;
  if (field->cpp_type() == Type::CPPTYPE_UINT64) {
    if (nearby) number = reflection->GetRepeatedUInt64(message, field, at) + random.Below(5) - 2;
    reflection->SetRepeatedUInt64(&message, field, at, number);
  } else {
    if (nearby) number = reflection->GetRepeatedUInt32(message, field, at) + random.Below(5) - 2;
    reflection->SetRepeatedUInt32(&message, field, at, static_cast<uint32_t>(number));
  }
}

// Tracking ends with the machine that tracks.
TEST(GuestBuilder, TheSoftDirtyBitIsNotSaved) {
  Guest guest;
  guest.Fill();
  clear_soft_dirty(guest.world.machine());
  guest.world.Store(guest.process, guest.anon + 2 * kPage, "later");
  guest.world.PageOut(guest.process, guest.anon + 2 * kPage);
  guest.world.Store(guest.process, guest.anon + 3 * kPage, "later");
  ASSERT_TRUE(guest.Save());
  ckpt_pb::Guest saved = guest.trip.image().guest();
  ASSERT_GT(saved.mm(0).pte_size(), 0);
  for (const ckpt_pb::GuestMm& mm : saved.mm()) {
    for (const uint64_t word : mm.pte()) EXPECT_FALSE(pte_soft_dirty(Pte{word}));
  }
  const auto box = guest.trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_FALSE(box->machine().tracks_soft_dirty);

  // An image that has it is none of this version's.
  saved.mutable_mm(0)->set_pte(0, pte_mksoft_dirty(Pte{saved.mm(0).pte(0)}).word);
  auto sink = restore::ModelSink::Create(guest.trip.image().machine(), "", &saved).value();
  const auto restored = restore::Restore(guest.trip.image(), *sink, guest.trip.options);
  ASSERT_FALSE(restored.has_value());
  EXPECT_EQ(restored.error().code, Code::kCorrupt);
  EXPECT_NE(restored.error().what.find("is none that this version knows"), std::string::npos)
      << restored.error().what;
}

TEST(GuestBuilder, LiesAreRefused) {
  Guest guest;
  guest.Fill();
  ASSERT_TRUE(guest.Save());
  const char* text = std::getenv("CKPT_SEED");
  const uint64_t seed = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
  std::printf("CKPT_SEED=%llu\n", static_cast<unsigned long long>(seed));
  base::Random random(seed);
  int refused = 0;
  const int kCases = std::getenv("CKPT_LONG") != nullptr ? 20'000 : 400;
  for (int i = 0; i < kCases; ++i) {
    ckpt_pb::Guest changed = guest.trip.image().guest();
    Mutate(changed, random);
    auto sink = restore::ModelSink::Create(guest.trip.image().machine(), "", &changed);
    const auto restored = sink ? restore::Restore(guest.trip.image(), **sink, guest.trip.options)
                               : std::unexpected(sink.error());
    if (!restored) {
      EXPECT_TRUE(restored.error().code == Code::kCorrupt || restored.error().code == Code::kTooBig)
          << restored.error().what;
      ++refused;
      continue;
    }
    const auto machine = (*sink)->TakeMachine();
    const auto broken = Validate(*machine, Depth::kDeep);
    EXPECT_FALSE(broken.has_value()) << *broken << changed.DebugString();
  }
  EXPECT_GT(refused, kCases / 4);
}

}  // namespace
}  // namespace mm
