#include "proto/metadata.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/wire_format_lite.h>

#include <cinttypes>

#include "base/check.h"

namespace image {
namespace {

using base::Code;
using base::Fail;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

std::string Where(const SectionHeader& header, uint64_t offset) {
  return base::Format("section %s at offset %" PRIu64, SectionName(header.type).c_str(), offset);
}

bool IsKnownMetadata(uint32_t type) {
  return type >= static_cast<uint32_t>(SectionType::kMachine) &&
         type <= static_cast<uint32_t>(SectionType::kParent);
}

}  // namespace

base::Result<void> ParsePayload(std::string_view payload, uint64_t records_max, const std::string& where,
                                google::protobuf::MessageLite& message) {
  CodedInputStream stream(reinterpret_cast<const uint8_t*>(payload.data()), static_cast<int>(payload.size()));
  uint64_t records = 0;
  while (const uint32_t tag = stream.ReadTag()) {
    if (!WireFormatLite::SkipField(&stream, tag)) break;
    if (++records > records_max) {
      return Fail(Code::kTooBig, "%s: more than %" PRIu64 " records", where.c_str(), records_max);
    }
  }
  const google::protobuf::LogSilencer quiet;  // the error is all that is said
  if (!message.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return Fail(Code::kCorrupt, "%s: not a %s message", where.c_str(), message.GetTypeName().c_str());
  }
  return {};
}

std::string Serialize(const google::protobuf::MessageLite& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream out(&bytes);
    google::protobuf::io::CodedOutputStream coded(&out);
    coded.SetSerializationDeterministic(true);
    CHECK(message.SerializeToCodedStream(&coded));
  }
  return bytes;
}

bool IsNumbered(const ckpt_pb::PageRun& run) {
  using ckpt_pb::PageRun;
  return run.kind() != PageRun::SAME && (run.kind() != PageRun::ZERO || run.owner() != PageRun::DISK);
}

bool SameRuns(const google::protobuf::RepeatedPtrField<ckpt_pb::PageRun>& a,
              const google::protobuf::RepeatedPtrField<ckpt_pb::PageRun>& b) {
  if (a.size() != b.size()) return false;
  for (int i = 0; i < a.size(); ++i) {
    const ckpt_pb::PageRun& x = a[i];
    const ckpt_pb::PageRun& y = b[i];
    if (x.owner() != y.owner() || x.objref() != y.objref() || x.first() != y.first() ||
        x.count() != y.count() || x.kind() != y.kind() || x.stored() != y.stored()) {
      return false;
    }
  }
  return true;
}

base::Result<void> MetadataParser::AddVmas(std::string_view payload, const std::string& where) {
  ckpt_pb::Vmas vmas;
  TRY_VOID(ParsePayload(payload, kVmasMax, where, vmas));
  vma_count_ += static_cast<uint64_t>(vmas.vma_size());
  nonlinear_count_ += static_cast<uint64_t>(vmas.nonlinear_size());
  if (nonlinear_count_ > kNonlinearRunsMax) {
    return Fail(Code::kTooBig, "%s: over %" PRIu64 " non-linear runs", where.c_str(), kNonlinearRunsMax);
  }
  if (vma_count_ > kVmasMax) return Fail(Code::kTooBig, "%s: over %" PRIu64 " vmas", where.c_str(), kVmasMax);
  const auto [place, is_new] = metadata_.vmas.try_emplace(vmas.mm_objref());
  if (is_new) {
    place->second = std::move(vmas);
  } else {
    place->second.mutable_vma()->MergeFrom(vmas.vma());
    place->second.mutable_nonlinear()->MergeFrom(vmas.nonlinear());
  }
  return {};
}

base::Result<void> MetadataParser::AddGuest(std::string_view payload, const std::string& where) {
  ckpt_pb::Guest part;
  TRY_VOID(ParsePayload(payload, kObjectsMax, where, part));
  metadata_.guest.MergeFrom(part);
  return {};
}

base::Result<void> MetadataParser::Add(const SectionHeader& header, std::string_view frame, uint64_t offset) {
  const std::string where = Where(header, offset);
  bytes_ += frame.size();
  if (bytes_ > kMetadataBytesMax) {
    return Fail(Code::kTooBig, "%s: metadata over %" PRIu64 " bytes", where.c_str(), kMetadataBytesMax);
  }
  if (header.type >= static_cast<uint32_t>(SectionType::kChunkRuns)) {
    return Fail(Code::kInvalid, "%s: out of order", where.c_str());
  }
  if (!IsKnownMetadata(header.type)) {
    if ((header.flags & kFlagIgnorable) != 0) return {};
    return Fail(Code::kUnsupported, "%s: unknown, and not marked as ignorable", where.c_str());
  }
  const auto type = static_cast<SectionType>(header.type);
  if (header.type < last_type_) return Fail(Code::kInvalid, "%s: out of order", where.c_str());
  const uint32_t bit = uint32_t{1} << header.type;
  if ((seen_ & bit) != 0 && type != SectionType::kVmas && type != SectionType::kGuest)
    return Fail(Code::kInvalid, "%s: a second one", where.c_str());
  last_type_ = header.type;
  seen_ |= bit;
  const std::string_view payload = frame.substr(kSectionHeaderBytes);
  switch (type) {
    case SectionType::kMachine: return ParsePayload(payload, kObjectsMax, where, metadata_.machine);
    case SectionType::kFiles: return ParsePayload(payload, kObjectsMax, where, metadata_.files);
    case SectionType::kProcesses: return ParsePayload(payload, kObjectsMax, where, metadata_.processes);
    case SectionType::kVmas: return AddVmas(payload, where);
    case SectionType::kWorkloadState: metadata_.workload_state = payload; return {};
    case SectionType::kGuest: return AddGuest(payload, where);
    case SectionType::kParent: return ParsePayload(payload, kObjectsMax, where, metadata_.parent);
    default: break;
  }
  CHECK(false);
}

base::Result<Metadata> MetadataParser::Finish() {
  for (const SectionType type : {SectionType::kMachine, SectionType::kFiles, SectionType::kProcesses}) {
    if ((seen_ & (uint32_t{1} << static_cast<uint32_t>(type))) == 0) {
      return Fail(Code::kInvalid, "no section %s", SectionName(static_cast<uint32_t>(type)).c_str());
    }
  }
  if ((seen_ & (uint32_t{1} << static_cast<uint32_t>(SectionType::kParent))) != 0 && !metadata_.is_child())
    return Fail(Code::kInvalid, "parent: it has no digest");
  return std::move(metadata_);
}

}  // namespace image
