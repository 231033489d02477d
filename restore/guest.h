// The guest of an image of scope MACHINE, put back into a modelled machine whose files, processes and vmas
// are there already: frames, page tables, caches, lists, swap map and host (ckpt/guest.h says what was
// saved).
//
// The image is not trusted: every number is judged before it is used, what can be recounted is, and in the
// end the machine must pass mm::Validate().
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "base/error.h"
#include "mm/machine.h"
#include "proto/image.pb.h"

namespace restore {

class GuestBuilder {
 public:
  using Files = std::map<uint32_t, mm::FilePtr>;
  using Mms = std::map<uint32_t, std::shared_ptr<mm::MmStruct>>;

  // All must outlive it; nothing of the machine's memory is used yet.
  GuestBuilder(mm::Machine& machine, const ckpt_pb::Guest& guest, const Files& files, const Mms& mms)
      : machine_(machine), guest_(guest), files_(files), mms_(mms) {}
  // Unless Finish() succeeded, the machine is emptied, so that it can be destroyed whatever the image said.
  ~GuestBuilder();
  GuestBuilder(const GuestBuilder&) = delete;
  GuestBuilder& operator=(const GuestBuilder&) = delete;

  // Everything but the bytes. kCorrupt: which number cannot be.
  base::Result<void> Build();
  // Where the bytes of a page that the image stores go. kCorrupt: there is no such page.
  base::Result<std::byte*> Place(ckpt_pb::PageRun::Owner owner, uint64_t page);
  // All bytes are there: what was on the host's paging store goes there, and the host has `host_bytes` of
  // memory (0: as much as the machine). kCorrupt: an invariant does not hold.
  base::Result<void> Finish(uint64_t host_bytes);

  // The id that each file had, by objref. kCorrupt: two have the same, or one has none.
  static base::Result<std::map<uint32_t, mm::FileId>> FileIds(const ckpt_pb::Guest& guest);

 private:
  base::Result<void> CheckColumns() const;
  base::Result<void> BuildStates();
  base::Result<void> BuildFree();
  base::Result<void> BuildPages();
  base::Result<void> BuildPage(int at, mm::Pfn pfn);
  base::Result<void> BuildChain(mm::Page& page, int first, int end);
  base::Result<void> BuildSwap();
  base::Result<void> BuildMm(const ckpt_pb::GuestMm& in);
  base::Result<void> BuildPte(mm::MmStruct& mm, mm::Vaddr addr, mm::Pte pte);
  base::Result<void> BuildFile(const ckpt_pb::GuestFile& in);
  base::Result<void> BuildOrder(mm::File& file);
  base::Result<void> BuildLists();
  base::Result<void> BuildLru(const google::protobuf::RepeatedField<uint32_t>& list, mm::Lru lru);
  base::Result<void> BuildDiscarded();
  base::Result<void> BuildCounters();
  void Forget();

  base::Result<mm::Pfn> Used(uint64_t number, const char* what) const;
  base::Result<mm::MmStruct*> MmOf(uint32_t objref) const;
  base::Result<mm::Vma*> VmaOf(uint32_t mm, uint64_t start, const mm::File& file) const;

  mm::Machine& machine_;
  const ckpt_pb::Guest& guest_;
  const Files& files_;
  const Mms& mms_;
  std::vector<bool> used_;             // by frame: a page in use
  std::vector<mm::Pfn> preserved_;     // on the host's paging store
  std::map<uint32_t, uint64_t> leaf_;  // by mm: the last leaf table, and
  std::map<uint32_t, uint64_t> page_;  // the last entry that was read
  uint64_t leaves_ = 0;
  uint64_t listed_ = 0;  // pages that say they are on a list of reclaim
  // By file: its vmas in order, from all parts.
  struct Order {
    std::vector<mm::Vma*> vmas[3];
  };
  std::map<mm::File*, Order> orders_;
  bool finished_ = false;
};

}  // namespace restore
