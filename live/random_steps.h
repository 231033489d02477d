// RandomSteps: steps for the oracle, chosen at random by a seed, where things go wrong most: at the ends of
// pages, of files and of vmas, twice at the same address, with a fork between two stores.
//
// Swarm testing: each sequence of steps has some kinds of step switched off and the others weighted at
// random, so that rare combinations come up (a sequence without munmap fills its memory; one without fork
// never breaks COW).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "proto/workload.pb.h"
#include "workload/executor.h"

namespace live {

class RandomSteps {
 public:
  // Where the steps map, and how much: all of it is theirs.
  static constexpr uint64_t kArenaStart = 0x10000000;
  static constexpr uint64_t kArenaPages = 64;

  // `pageout`: with MADV_PAGEOUT too.
  RandomSteps(uint64_t seed, bool pageout);

  // The machine, its files and its process.
  const ckpt_pb::Workload& workload() const { return workload_; }
  // What comes next, as things stand: a step that passes the checks of a script.
  ckpt_pb::Step Next(workload::Executor& executor);

 private:
  enum class Kind : uint8_t {
    kMapAnon,
    kMapStack,
    kMapShared,
    kMapFilePrivate,
    kMapFileShared,
    kUnmap,
    kProtect,
    kRemap,
    kDontneed,
    kAdvise,
    kMsync,
    kRemapFilePages,
    kMlock,
    kMunlock,
    kMlockall,
    kBrk,
    kFork,
    kCloneVm,
    kExit,
    kLoad,
    kStore,
    kTouch,
    kGetUserPages,
    kRead,
    kWrite,
    kTruncate,
    kPunchHole,
    kFsync,
    kRlimit,
    kReclaim,
    kDropCaches,
    kCreate,
    kUnlink,
    kKinds
  };
  struct Place {
    uint64_t addr;
    uint64_t length;
  };

  bool OneIn(uint64_t n) { return random_.Below(n) == 0; }
  uint64_t Pick(uint64_t from, uint64_t to) { return from + random_.Below(to - from + 1); }
  Kind PickKind();
  bool IsOn(Kind kind) const { return weights_[static_cast<size_t>(kind)] != 0; }
  void PickProcess(workload::Executor& executor, ckpt_pb::Step& step);
  const mm::Vma* PickVma();
  uint64_t PickPage();
  uint64_t PickPages();
  Place PickRange();
  Place PickBytes();
  uint64_t PickSize(const mm::File& file);
  std::string PickFile();  // empty: there is none
  std::string PickProt();

  void MakeFile(ckpt_pb::Workload::File& file);
  void MakeMap(ckpt_pb::Step::Map& op, Kind kind);
  void MakeRemap(ckpt_pb::Step::Remap& op);
  void MakeMemoryStep(Kind kind, ckpt_pb::Step& step);
  void MakeProcessStep(Kind kind, workload::Executor& executor, ckpt_pb::Step& step);
  void MakeAccess(Kind kind, ckpt_pb::Step& step);
  void MakeFileStep(Kind kind, ckpt_pb::Step& step);
  bool IsBehindEnd(Place place) const;
  void MakeFill(ckpt_pb::Fill& fill);

  base::Random random_;
  ckpt_pb::Workload workload_;
  std::vector<unsigned> weights_;  // by kind; 0: switched off
  uint64_t weight_sum_ = 0;
  bool pageout_;
  std::vector<std::string> names_;  // of processes that were ever made
  std::vector<std::string> files_;  // the same
  uint64_t last_page_ = kArenaStart;
  Kind last_kind_ = Kind::kKinds;
  bool same_page_ = false;                // the access goes to last_page_
  const mm::Process* process_ = nullptr;  // of the step that is being made
  const mm::Machine* machine_ = nullptr;
  uint64_t made_ = 0;
  // A shared mapping was written behind the end of its file: from then on nothing is written back, since the
  // kernel's file system does not (known difference behind_the_end_of_a_file).
  bool tail_written_ = false;
};

}  // namespace live
