// The metadata sections of an image, decoded. Parsing is done here and nowhere else; what the parts say about
// each other is checked in validate.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "proto/format.h"
#include "proto/image.pb.h"

namespace image {

struct Metadata {
  ckpt_pb::Machine machine;
  ckpt_pb::Files files;
  ckpt_pb::Processes processes;
  std::map<uint32_t, ckpt_pb::Vmas> vmas;  // By the objref of the mm, put together from all sections.
  std::string workload_state;              // Empty if there is none.
  ckpt_pb::Guest guest;                    // Put together from all sections; empty but of scope MACHINE.
  ckpt_pb::Parent parent;                  // Without a digest if there is none.

  bool is_child() const { return !parent.digest().empty(); }
};

// Takes the sections in the order of the file. Their checksums are right already.
class MetadataParser {
 public:
  // A section of a type below kChunkRuns, or of an unknown one. `frame` is the whole frame.
  base::Result<void> Add(const SectionHeader& header, std::string_view frame, uint64_t offset);
  // After the last one. kInvalid if one is missing.
  base::Result<Metadata> Finish();

 private:
  base::Result<void> AddVmas(std::string_view payload, const std::string& where);
  base::Result<void> AddGuest(std::string_view payload, const std::string& where);

  Metadata metadata_;
  uint32_t last_type_ = 0;  // Of the known types.
  uint32_t seen_ = 0;       // Bit by type.
  uint64_t bytes_ = 0;
  uint64_t vma_count_ = 0;
  uint64_t nonlinear_count_ = 0;
};

// `payload` as a message. kCorrupt: it is none. kTooBig: over `records_max` fields at the top level, found
// before anything is allocated for them (a record of two bytes in a file can be a hundred in memory).
base::Result<void> ParsePayload(std::string_view payload, uint64_t records_max, const std::string& where,
                                google::protobuf::MessageLite& message);

// The same bytes for the same message, always.
std::string Serialize(const google::protobuf::MessageLite& message);

// Whether the pages of a run get numbers, by which SAME names them.
bool IsNumbered(const ckpt_pb::PageRun& run);

// The index entry of a chunk and the section before it must say the same.
bool SameRuns(const google::protobuf::RepeatedPtrField<ckpt_pb::PageRun>& a,
              const google::protobuf::RepeatedPtrField<ckpt_pb::PageRun>& b);

}  // namespace image
