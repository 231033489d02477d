// Scope MACHINE: a whole guest saved by its host and started again (C40's other half, A14). Every workload
// that is shipped, under every preset and platform of page hinting, with a host that is short of memory: the
// machine comes back as it was, but for the pages that hinting let the checkpoint drop; those are discarded,
// and the rest of the workload brings them back.
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "ckpt/guest.h"
#include "tests/scenarios/engine_fixture.h"
#include "tests/scenarios/hinting_fixture.h"
#include "workload/elf_file.h"
#include "workload/executor.h"

namespace mm {
namespace {

using ckpt_pb::PageRun;
using workload::CheckpointRequest;
using workload::Executor;
using workload::Next;
using workload::Script;

// What a checkpoint and a restart do to a guest, done to it by its host: whatever the image drops is taken,
// and what was changed of the potentially volatile is stable.
void Drop(Machine& machine) {
  if (machine.host == nullptr) return;
  for (uint32_t frame = 0; frame < machine.host->known(); ++frame) {
    const Pfn pfn{frame};
    if (ckpt::guest_drops(machine, pfn)) {
      (void)machine.host->take(pfn);
    } else if (UsageOf(machine.host->state(pfn)) != Usage::kStable) {
      machine.host->restore_state(pfn, PageState::Sr);
    }
  }
}

// What a text dump does not show: the order of lists, of pte chains and of the vmas of files, pins, and where
// the host and reclaim go on. Not what the host counted on the way.
ckpt_pb::Guest Described(Machine& machine) {
  Trip trip;
  trip.scope = ckpt_pb::Machine::MACHINE;
  EXPECT_TRUE(trip.TrySave(machine).has_value());
  EXPECT_TRUE(trip.Open());
  ckpt_pb::Guest guest = trip.image().guest();
  guest.clear_host_stat();
  return guest;
}

// The first line that differs.
std::string FirstDifference(const ckpt_pb::Guest& a, const ckpt_pb::Guest& b) {
  std::string text;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&text);
  return differencer.Compare(a, b) ? "" : text.substr(0, text.find('\n'));
}

struct Setup {
  const char* name;
  const char* generation;
  std::vector<std::string> switches;
  const char* host;
};

// The sanitizers, which take ten times as long, see the first three.
constexpr size_t kSetupsRun = support::kSanitized ? 3 : 10;
const Setup kSetups[] = {
    {"nobody", "", {}, ""},
    {"gph2009", "gph2009", {}, "half"},
    {"base", "", {"hints=base", "dirty_bits=page"}, "half"},
    {"off", "", {"hints=off"}, "half"},
    {"writable_page", "", {"hints=writable", "dirty_bits=page"}, "half"},
    {"writable_pte", "", {"hints=writable", "dirty_bits=pte"}, "half"},
    {"hva2005", "hva2005", {}, "half"},
    {"gph2006", "gph2006", {}, "half"},
    {"gph2007", "gph2007", {}, "half"},
    {"gph2009_pte", "gph2009", {"dirty_bits=pte"}, ""},
};
static_assert(kSetupsRun <= std::size(kSetups));

Script Prepared(const std::string& example, const Setup& setup) {
  const auto original =
      Script::Load(std::string(CKPT_SOURCE_DIR "/workload/examples/") + example + ".textproto");
  EXPECT_TRUE(original.has_value());
  ckpt_pb::Workload changed = original->workload();
  auto& machine = *changed.mutable_machine();
  machine.set_generation(setup.generation);
  for (const std::string& assignment : setup.switches) machine.add_semantics(assignment);
  if (std::string_view(setup.host) == "half") {
    // Whatever the examples expect of their machine, its host has a quarter of it.
    const std::string memory = machine.memory().empty() ? "1GiB" : machine.memory();
    const uint64_t bytes = base::ParseSize(memory).value();
    machine.set_host(std::to_string(std::max<uint64_t>(bytes / 4 / kPage * kPage, 64 * kPage)));
  }
  auto script = Script::Parse(example, changed.DebugString());
  EXPECT_TRUE(script.has_value()) << script.error().what;
  return std::move(*script);
}

class GuestTest : public testing::TestWithParam<std::tuple<std::string, size_t>> {};

TEST_P(GuestTest, ComesBackAndRunsOn) {
  const Script script = Prepared(std::get<0>(GetParam()), kSetups[std::get<1>(GetParam())]);
  Trip trip;
  trip.scope = ckpt_pb::Machine::MACHINE;
  trip.options.build_id = workload::ReadBuildId;
  std::string state;
  auto original = Executor::Start(script, {});
  ASSERT_TRUE(original.has_value()) << original.error().what;
  const auto ran = (*original)->Run([&](Machine& machine, const CheckpointRequest& request) {
    if (request.label != "base") return Next::kGoOn;
    state = request.state;
    const std::string before = TextDump(machine);
    EXPECT_TRUE(trip.TrySave(machine).has_value());
    EXPECT_EQ(TextDump(machine), before) << "the checkpoint changed the guest";
    Drop(machine);
    return Next::kStop;
  });
  ASSERT_TRUE(ran.has_value()) << ran.error().what;
  ASSERT_TRUE(trip.Open());
  ASSERT_TRUE(image::Verify(trip.path()).has_value());
  std::unique_ptr<Box> box = trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(TextDump(box->machine()), TextDump((*original)->machine()));
  EXPECT_EQ(FirstDifference(Described((*original)->machine()), Described(box->machine())), "");

  auto resumed = Executor::Resume(script, box->Take(), state, {});
  ASSERT_TRUE(resumed.has_value()) << resumed.error().what;
  const auto go_on = [](Machine&, const CheckpointRequest&) { return Next::kGoOn; };
  const auto resumed_ran = (*resumed)->Run(go_on);
  EXPECT_TRUE(resumed_ran.has_value()) << resumed_ran.error().what;
  auto uninterrupted = Executor::Start(script, {});
  const auto whole = (*uninterrupted)->Run(go_on);
  EXPECT_TRUE(whole.has_value()) << whole.error().what;
  for (const auto* end : {&*resumed, &*uninterrupted}) {
    const auto broken = Validate((*end)->machine(), Depth::kDeep);
    EXPECT_FALSE(broken.has_value()) << *broken;
  }
  Trip::ExpectSame((*uninterrupted)->machine(), (*resumed)->machine());
}

std::vector<std::string> Examples() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_SOURCE_DIR "/workload/examples"))
    if (entry.path().extension() == ".textproto") names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Each, GuestTest,
                         testing::Combine(testing::ValuesIn(Examples()),
                                          testing::Range(size_t{0}, kSetupsRun)),
                         [](const auto& param) {
                           return std::get<0>(param.param) + "_" + kSetups[std::get<1>(param.param)].name;
                         });

}  // namespace
}  // namespace mm
