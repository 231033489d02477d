#include "tests/proto/image_fixture.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/random.h"
#include "proto/hash.h"
#include "proto/validate.h"

namespace fixture {

using image::SectionType;

namespace {

void AddVma(ckpt_pb::Vmas& vmas, uint64_t first, uint64_t pages, uint64_t flags, ckpt_pb::Vma::Kind kind,
            uint32_t file = 0) {
  ckpt_pb::Vma& vma = *vmas.add_vma();
  vma.set_start(first * kPageSize);
  vma.set_end((first + pages) * kPageSize);
  vma.set_flags(flags);
  vma.set_kind(kind);
  vma.set_file_objref(file);
}

}  // namespace

image::Metadata SmallMachine() {
  image::Metadata metadata;
  metadata.machine.set_page_size(kPageSize);
  metadata.machine.set_label("base");
  const struct {
    uint32_t objref;
    ckpt_pb::File::Kind kind;
    uint64_t pages;
    const char* name;
  } files[] = {{kFile, ckpt_pb::File::REGULAR, 16, "data"},
               {kShmem, ckpt_pb::File::SHMEM, 64, "shared"},
               {kZero, ckpt_pb::File::DEV_ZERO, 0, "zero"}};
  for (const auto& entry : files) {
    ckpt_pb::File& file = *metadata.files.add_file();
    file.set_objref(entry.objref);
    file.set_kind(entry.kind);
    file.set_size(entry.pages * kPageSize);
    file.set_name(entry.name);
  }
  for (const uint32_t objref : {kMm, kMm2}) {
    ckpt_pb::Vmas& vmas = metadata.vmas[objref];
    vmas.set_mm_objref(objref);
    AddVma(vmas, kAnonFirst, kAnonPages, 0x73, ckpt_pb::Vma::ANON);
    AddVma(vmas, kAnonFirst + kAnonPages, 16, 0x73, ckpt_pb::Vma::FILE_PRIVATE, kFile);
    AddVma(vmas, 0x100000, 64, 0xfb, ckpt_pb::Vma::SHM_ANON, kShmem);
    AddVma(vmas, 0x200000, 16, 0xfb, ckpt_pb::Vma::FILE_SHARED, kFile);
    ckpt_pb::Mm& mm = *metadata.processes.add_mm();
    mm.set_objref(objref);
    mm.set_word_bytes(8);
    mm.set_map_count(4);
    mm.set_exe_objref(kFile);
    ckpt_pb::Auxv& entry = *mm.add_auxv();
    entry.set_type(6);
    entry.set_value(kPageSize);
    mm.add_auxv();
    ckpt_pb::Process& process = *metadata.processes.add_process();
    process.set_pid(100 + objref);
    process.set_mm_objref(objref);
  }
  return metadata;
}

PageRun MakeRun(PageRun::Kind kind, uint64_t first, uint64_t count, uint64_t stored, uint32_t objref,
                PageRun::Owner owner) {
  PageRun run;
  run.set_owner(owner);
  run.set_objref(objref);
  run.set_first(first);
  run.set_count(count);
  run.set_kind(kind);
  run.set_stored(stored);
  return run;
}

std::string PageOf(uint32_t objref, uint64_t page) {
  std::string bytes(kPageSize, '\0');
  base::Random random(base::Mix64(objref) ^ page);
  for (size_t i = 0; i < kPageSize / 2; i += 8) {
    const uint64_t word = random.Next();
    std::memcpy(bytes.data() + i, &word, sizeof word);
  }
  return bytes;
}

base::Result<void> FakePages::Read(const PageRun& run, std::span<std::byte> out) const {
  CHECK(out.size() == run.count() * kPageSize && run.kind() == PageRun::STORED);
  for (uint64_t i = 0; i < run.count(); ++i) {
    if (run.first() + i == fail_at_page) return base::Fail(base::Code::kIo, "page %d cannot be read", 42);
    std::memcpy(out.data() + i * kPageSize, PageOf(run.objref(), run.first() + i).data(), kPageSize);
  }
  return {};
}

base::Result<void> AddMetadata(image::Writer& writer, const image::Metadata& metadata) {
  TRY_VOID(writer.AddSection(SectionType::kMachine, metadata.machine));
  TRY_VOID(writer.AddSection(SectionType::kFiles, metadata.files));
  TRY_VOID(writer.AddSection(SectionType::kProcesses, metadata.processes));
  for (const auto& [objref, vmas] : metadata.vmas) TRY_VOID(writer.AddVmas(vmas));
  if (!metadata.workload_state.empty()) TRY_VOID(writer.AddWorkloadState(metadata.workload_state));
  return {};
}

base::Result<image::Summary> Write(const std::string& path, const image::Metadata& metadata,
                                   const std::vector<PageRun>& runs, image::WriteOptions options,
                                   const FakePages& pages) {
  const auto writer = TRY(image::Writer::Create(path, pages, std::move(options)));
  TRY_VOID(AddMetadata(*writer, metadata));
  for (const PageRun& run : runs) TRY(writer->AddRun(run));
  return writer->Commit({});
}

base::Result<void> MemorySink::Place(const PageRun& run, std::vector<std::span<std::byte>>& pieces) {
  CHECK(pieces.empty() && run.stored() == stored_.size());
  if (pieces_ == Pieces::kContiguous) buffers_.emplace_back(run.count() * kPageSize);
  for (uint64_t i = 0; i < run.count(); ++i) {
    if (pieces_ == Pieces::kScattered) buffers_.emplace_back(kPageSize);
    std::byte* page = buffers_.back().data() + (pieces_ == Pieces::kContiguous ? i * kPageSize : 0);
    pieces.emplace_back(page, kPageSize);
    number_[{run.objref(), run.first() + i}] = stored_.size();
    stored_.push_back(page);
  }
  return {};
}

base::Result<void> MemorySink::Same(const PageRun& run) {
  CHECK(run.stored() + run.count() <= stored_.size());
  for (uint64_t i = 0; i < run.count(); ++i) number_[{run.objref(), run.first() + i}] = run.stored() + i;
  return {};
}

base::Result<void> MemorySink::Zero(const PageRun& run) {
  if (run.owner() != PageRun::DISK) {
    std::vector<std::span<std::byte>> pieces;
    TRY_VOID(Place(run, pieces));
    for (const std::span<std::byte> piece : pieces) std::ranges::fill(piece, std::byte{0});
    return {};
  }
  for (uint64_t i = 0; i < run.count(); ++i) number_[{run.objref(), run.first() + i}] = ~uint64_t{0};
  return {};
}

std::map<MemorySink::Key, std::string> MemorySink::Pages() const {
  std::map<Key, std::string> pages;
  for (const auto& [key, number] : number_) {
    pages[key] = number == ~uint64_t{0}
                     ? std::string(kPageSize, '\0')
                     : std::string(reinterpret_cast<const char*>(stored_[number]), kPageSize);
  }
  return pages;
}

std::map<MemorySink::Key, std::string> Expected(const std::vector<PageRun>& runs) {
  std::map<MemorySink::Key, std::string> pages;
  std::vector<std::string> stored;
  for (const PageRun& run : runs) {
    for (uint64_t i = 0; i < run.count(); ++i) {
      std::string& page = pages[{run.objref(), run.first() + i}];
      if (run.kind() == PageRun::STORED) {
        page = PageOf(run.objref(), run.first() + i);
        stored.push_back(page);
      } else {
        page = run.kind() == PageRun::SAME ? stored.at(run.stored() + i) : std::string(kPageSize, '\0');
        if (run.kind() == PageRun::ZERO && run.owner() != PageRun::DISK) stored.push_back(page);
      }
    }
  }
  return pages;
}

base::Result<std::map<MemorySink::Key, std::string>> ReadAll(const std::string& path, unsigned threads) {
  const auto reader = TRY(image::Reader::Open(path));
  MemorySink sink;
  TRY_VOID(reader->ReadPages(sink, {.threads = threads}));
  return sink.Pages();
}

std::string Frame(const std::string& bytes, Checksum checksum) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum == Checksum::kYes ? 1 : 0);
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress2(context, out.data(), out.size(), bytes.data(), bytes.size()));
  ZSTD_freeCCtx(context);
  return out;
}

std::string RawSection(uint32_t type, uint32_t flags, const std::string& payload) {
  std::string hashed;
  image::AppendU32(hashed, type);
  image::AppendU32(hashed, flags);
  image::AppendU64(hashed, payload.size());
  std::string frame;
  image::AppendU32(frame, image::kSkippableMagic);
  image::AppendU32(frame, static_cast<uint32_t>(payload.size() + 24));
  frame += hashed;
  image::AppendU64(frame, image::Xxh3(hashed + payload));
  return frame + payload;
}

std::string RawImage::Build() const {
  image::Digest digest;
  std::string out = envelope;
  digest.Update(envelope);
  const auto append = [&](uint32_t type, uint32_t flags, const std::string& payload) {
    const std::string frame = RawSection(type, flags, payload);
    digest.Update(frame);
    out += frame;
  };
  for (const Section& section : metadata) append(section.type, section.flags, section.payload);
  ckpt_pb::Index index;
  for (const Chunk& chunk : chunks) {
    append(static_cast<uint32_t>(SectionType::kChunkRuns), 0, image::Serialize(chunk.runs));
    ckpt_pb::Chunk& entry = *index.add_chunk();
    entry = chunk.index;
    if (entry.run().empty()) *entry.mutable_run() = chunk.runs.run();
    entry.set_offset(out.size() + static_cast<uint64_t>(chunk.offset_lie));
    entry.set_frame_bytes(chunk.frame.size() + static_cast<uint64_t>(chunk.frame_bytes_lie));
    if (entry.page_xxh3().empty()) entry.set_page_xxh3(chunk.page_xxh3);
    entry.set_xxh3((chunk.frame.empty() ? 0 : image::Xxh3(chunk.frame)) + chunk.xxh3_lie);
    out += chunk.frame;
  }
  image::Footer footer{.totals_offset = out.size(), .stored_pages = stored_pages};
  append(static_cast<uint32_t>(SectionType::kTotals), 0, image::Serialize(totals));
  footer.index_offset = out.size();
  footer.index_sections = index.chunk().empty() ? 0 : 1;
  if (!index.chunk().empty()) append(static_cast<uint32_t>(SectionType::kIndex), 0, image::Serialize(index));
  footer.index_bytes = out.size() - footer.index_offset;
  footer.digest = digest.Get();
  footer.totals_offset += static_cast<uint64_t>(totals_offset_lie);
  footer.index_offset += static_cast<uint64_t>(index_offset_lie);
  footer.index_bytes -= static_cast<uint64_t>(index_offset_lie);
  footer.index_sections += static_cast<uint64_t>(index_sections_lie);
  return out + image::EncodeFooter(footer);
}

RawImage MakeRaw(const image::Metadata& metadata, const std::vector<std::vector<PageRun>>& chunks) {
  RawImage raw;
  const auto add = [&raw](SectionType type, const google::protobuf::MessageLite& message) {
    raw.metadata.push_back({static_cast<uint32_t>(type), 0, image::Serialize(message)});
  };
  add(SectionType::kMachine, metadata.machine);
  add(SectionType::kFiles, metadata.files);
  add(SectionType::kProcesses, metadata.processes);
  for (const auto& [objref, vmas] : metadata.vmas) add(SectionType::kVmas, vmas);
  for (const std::vector<PageRun>& runs : chunks) {
    RawImage::Chunk chunk;
    std::string bytes;
    for (const PageRun& run : runs) {
      *chunk.runs.add_run() = run;
      for (uint64_t i = 0; run.kind() == PageRun::STORED && i < run.count() && i < 1000; ++i) {
        bytes += PageOf(run.objref(), run.first() + i);
        const auto page = std::as_bytes(std::span(bytes)).last(kPageSize);
        const image::PageHash hash = image::HashPage(page);
        chunk.page_xxh3.append(reinterpret_cast<const char*>(hash.data()), hash.size());
      }
      if (run.kind() == PageRun::STORED) raw.stored_pages += run.count();
    }
    if (!bytes.empty()) chunk.frame = Frame(bytes);
    raw.chunks.push_back(chunk);
  }
  raw.totals.set_stored(raw.stored_pages);
  return raw;
}

}  // namespace fixture
