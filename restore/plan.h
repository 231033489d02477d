// What a restart does, decided before step one: which files are what they were, and which pages can
// go where. Pure: facts in, decisions or one refusal out.
//
// The rules (seed 004; docs/image-format.md names the fields):
//   same file (device, inode), same size and mtime       as recorded
//   same file, another size                              accepted, with a notice: the memory behaves as
//                                                        the kernel's does after a truncate or extend
//   another file, or the same size with another mtime    refused, unless `accept_changed`
//   gone                                                 refused
//   any of these, of an image of scope MACHINE          refused, whatever the options
//   a modified page past the present end of its file     refused, unless `drop_past_eof`
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "proto/image.pb.h"
#include "proto/reader.h"

namespace restore {

enum class AcceptChanged : uint8_t { kNo, kYes };
enum class DropPastEof : uint8_t { kNo, kYes };

struct PlanOptions {
  AcceptChanged accept_changed = AcceptChanged::kNo;
  DropPastEof drop_past_eof = DropPastEof::kNo;
  // Where this machine puts "[vdso]"; nothing: wherever the image says.
  std::optional<uint64_t> vdso_start;
};

// What stands now where a recipe of kind REAL or FOLDER points.
struct FileFact {
  std::string path;  // where it was looked for, as people know it; empty: nowhere
  bool exists = false;
  std::string why_not;  // when it does not: "No such file or directory", "it is a pipe, not a regular file"
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  std::optional<std::string> build_id;  // nothing: not looked at
};

struct Plan {
  ckpt_pb::Files files;                   // with the sizes and identities to build from
  std::vector<std::string> notices;       // for people, one line each
  std::map<uint32_t, std::string> paths;  // of the facts, by objref; printable
  // First page past the end, by objref, of files whose pages behind it are dropped.
  std::map<uint32_t, uint64_t> file_ends;
};

// Decides the files. `facts` has an entry for every objref of a REAL or FOLDER recipe.
base::Result<Plan> MakePlan(const image::Reader& image, const std::map<uint32_t, FileFact>& facts,
                            const PlanOptions& options);

// The parts of a run that a restart makes. STORED runs still have to be read past: a part that is
// dropped has `keep` false.
struct Part {
  ckpt_pb::PageRun run;
  bool keep = true;
};

// Cuts runs by what the plan drops. A modified page past the end of its file is kFault without
// drop_past_eof.
class RunFilter {
 public:
  RunFilter(const image::Reader& image, const Plan& plan, const PlanOptions& options);
  base::Result<std::vector<Part>> Filter(const ckpt_pb::PageRun& run) const;

 private:
  const ckpt_pb::Vma* VmaOf(uint32_t mm, uint64_t page) const;
  std::unexpected<base::Error> PastEnd(const ckpt_pb::File& file, uint64_t page, uint64_t index) const;

  const image::Reader& image_;
  const Plan& plan_;
  PlanOptions options_;
  std::map<uint32_t, const ckpt_pb::File*> files_;
};

}  // namespace restore
