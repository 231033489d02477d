// ModelSink: a MemorySink that builds a modelled machine.
//
// Private pages are installed as anonymous pages, dirty, without reading the file under them, and
// whatever the protection of their vma (C30). Pages that were shared come back shared, with the same
// mapcounts. Where memory has no room the rest goes to swap, as it was. VM_LOCKED vmas are locked again, and
// brought in (C37). Pages of shared objects are dirty, so that reclaim cannot lose them (C29).
//
// An image of scope MACHINE becomes the machine that it was (guest.h), but for what was dropped.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "mm/machine.h"
#include "restore/guest.h"
#include "restore/sink.h"

namespace restore {

class ModelSink final : public MemorySink {
 public:
  // The machine that `recorded` describes, with nothing in it. `disk_dir`: as in RestoreOptions.
  // `guest`, of scope MACHINE, must outlive the sink.
  static base::Result<std::unique_ptr<ModelSink>> Create(const ckpt_pb::Machine& recorded,
                                                         std::string disk_dir,
                                                         const ckpt_pb::Guest* guest = nullptr);

  base::Result<void> CreateFile(const ckpt_pb::File& file) override;
  base::Result<void> CreateMm(const ckpt_pb::Mm& mm) override;
  base::Result<void> CreateProcess(const ckpt_pb::Process& process) override;
  base::Result<void> Map(uint32_t mm, const ckpt_pb::Vma& vma) override;
  base::Result<void> MapNonlinear(uint32_t mm, const ckpt_pb::NonlinearRun& run) override;
  base::Result<void> Place(const ckpt_pb::PageRun& run, std::vector<std::span<std::byte>>& pieces) override;
  base::Result<void> Same(const ckpt_pb::PageRun& run) override;
  base::Result<void> Zero(const ckpt_pb::PageRun& run) override;
  base::Result<void> PutGuest() override;
  base::Result<void> Seal() override;

  mm::Machine& machine() { return *machine_; }
  // The finished machine. Requires: Seal() succeeded.
  std::unique_ptr<mm::Machine> TakeMachine();

 private:
  explicit ModelSink(std::string disk_dir) : disk_dir_(std::move(disk_dir)) {}
  base::Result<void> PlaceMm(const ckpt_pb::PageRun& run, std::vector<std::span<std::byte>>& pieces);
  base::Result<void> PlaceObject(const ckpt_pb::PageRun& run, std::vector<std::span<std::byte>>& pieces);
  base::Result<void> PlaceGuest(const ckpt_pb::PageRun& run, std::vector<std::span<std::byte>>& pieces);
  base::Result<void> PlaceDisk(const ckpt_pb::PageRun& run, std::vector<std::span<std::byte>>& pieces);
  // Where a stored page was put: a frame, or a swap slot.
  struct Stored {
    mm::Pfn pfn = mm::kNoPfn;
    mm::SwpEntry slot = mm::kNoSlot;
  };
  void BringInLocked(mm::MmStruct& mm);
  base::Result<Stored> NewPage(mm::Fill fill);
  std::byte* BytesOf(const Stored& page);
  void NoteStored(uint64_t number, const Stored& page);

  std::string disk_dir_;
  std::unique_ptr<mm::Machine> machine_;
  uint64_t host_bytes_ = 0;  // of the host underneath, once all is in its place; 0: as much as the machine
  std::map<uint32_t, mm::FilePtr> files_;
  std::map<uint32_t, std::shared_ptr<mm::MmStruct>> mms_;
  std::vector<Stored> stored_;  // by number, for SAME runs
  const ckpt_pb::Guest* guest_ = nullptr;
  std::map<uint32_t, mm::FileId> file_ids_;  // of a guest
  std::unique_ptr<GuestBuilder> builder_;    // last: it may empty the machine
};

}  // namespace restore
