#include "restore/plan.h"

#include <algorithm>

#include "base/check.h"
#include "base/units.h"

namespace restore {
namespace {

using base::Code;
using base::Fail;
using base::kPageSize;
using base::Printable;
using ckpt_pb::PageRun;

unsigned long long Big(uint64_t value) { return value; }

bool OnSystem(const ckpt_pb::Recipe& recipe) {
  return recipe.kind() == ckpt_pb::Recipe::REAL || recipe.kind() == ckpt_pb::Recipe::FOLDER;
}

std::string Identity(uint64_t device, uint64_t inode, uint64_t size, int64_t mtime_ns,
                     const std::string& build_id) {
  std::string id;
  for (const char c : build_id) id += base::Format("%02x", static_cast<unsigned char>(c));
  if (!id.empty()) id = ", build-id " + id;
  return id.insert(0, base::Format("device %llu inode %llu, %llu bytes, mtime %lld.%09lld", Big(device),
                                   Big(inode), Big(size), static_cast<long long>(mtime_ns / 1'000'000'000),
                                   static_cast<long long>(mtime_ns % 1'000'000'000)));
}

// "was cut by 100 bytes since the checkpoint, from 4096 bytes to 3996 bytes".
std::string SizeChange(uint64_t before, uint64_t now) {
  const uint64_t by = now < before ? before - now : now - before;
  return base::Format("was %s by %llu byte%s since the checkpoint, from %llu bytes to %llu bytes",
                      now < before ? "cut" : "extended", Big(by), by == 1 ? "" : "s", Big(before), Big(now));
}

// Judges one file against what is there now; a changed size goes into `file`.
base::Result<void> DecideFile(ckpt_pb::File& file, const FileFact& fact, const PlanOptions& options,
                              bool guest, Plan& plan) {
  ckpt_pb::Recipe& recipe = *file.mutable_recipe();
  const std::string path = Printable(fact.path.empty() ? recipe.path() : fact.path);
  plan.paths[file.objref()] = path;
  const std::string recorded =
      Identity(recipe.device(), recipe.inode(), recipe.size(), recipe.mtime_ns(), recipe.build_id());
  if (!fact.exists) {
    return Fail(Code::kChanged, "file '%s': %s; recorded was %s", path.c_str(), fact.why_not.c_str(),
                recorded.c_str());
  }
  const std::string found =
      Identity(fact.device, fact.inode, fact.size, fact.mtime_ns, fact.build_id.value_or(""));
  const bool same_inode = fact.device == recipe.device() && fact.inode == recipe.inode();
  const bool same_size = fact.size == recipe.size();
  const bool same = same_inode && same_size && fact.mtime_ns == recipe.mtime_ns() &&
                    (recipe.build_id().empty() || !fact.build_id || *fact.build_id == recipe.build_id());
  // The guest's kernel has pages and page tables of the file as it was.
  if (!same && guest) {
    return Fail(Code::kChanged, "file '%s' is not what the guest knows of it (%s): found %s", path.c_str(),
                recorded.c_str(), found.c_str());
  }
  if (!same && (!same_inode || same_size) && options.accept_changed == AcceptChanged::kNo) {
    return Fail(Code::kChanged,
                "file '%s' is not the one that was recorded (%s): found %s. --accept-changed uses it anyway",
                path.c_str(), recorded.c_str(), found.c_str());
  }
  if (same) return {};
  // A file that the model had not resized follows the system's; one that it had keeps the model's size.
  const bool untouched = file.size() == recipe.size() && file.recipe_end() == recipe.size();
  const bool follows = untouched || recipe.kind() == ckpt_pb::Recipe::FOLDER;
  if (same_inode && !same_size) {
    const char* means = !follows                    ? "the workload had given it another size, which it keeps"
                        : fact.size < recipe.size() ? "accesses past its last page give SIGBUS"
                                                    : "what it grew by is mapped as it is there";
    plan.notices.push_back(base::Format("file '%s' %s: %s (recorded %s; found %s)", path.c_str(),
                                        SizeChange(recipe.size(), fact.size).c_str(), means, recorded.c_str(),
                                        found.c_str()));
  } else {
    plan.notices.push_back(
        base::Format("file '%s' is not the one that was recorded (%s), and is used all the same: found %s",
                     path.c_str(), recorded.c_str(), found.c_str()));
  }
  if (follows) {
    file.set_size(fact.size);
    file.set_recipe_end(fact.size);
  } else {
    file.set_recipe_end(std::min<uint64_t>(file.recipe_end(), fact.size));
  }
  recipe.set_device(fact.device);
  recipe.set_inode(fact.inode);
  recipe.set_size(fact.size);
  recipe.set_mtime_ns(fact.mtime_ns);
  if (!recipe.build_id().empty()) recipe.set_build_id(fact.build_id.value_or(""));
  plan.file_ends[file.objref()] = base::PagesFor(file.size());
  return {};
}

base::Result<void> CheckVdso(const image::Reader& image, const PlanOptions& options) {
  if (!options.vdso_start) return {};
  for (const ckpt_pb::Mm& mm : image.processes().mm()) {
    for (const ckpt_pb::Vma& vma : image.vmas(mm.objref()).vma()) {
      if (vma.kind() != ckpt_pb::Vma::VDSO || vma.start() == *options.vdso_start) continue;
      return Fail(Code::kInvalid,
                  "[vdso] was at %#llx and this machine has it at %#llx: programs hold its address (EINVAL)",
                  Big(vma.start()), Big(*options.vdso_start));
    }
  }
  return {};
}

}  // namespace

base::Result<Plan> MakePlan(const image::Reader& image, const std::map<uint32_t, FileFact>& facts,
                            const PlanOptions& options) {
  TRY_VOID(CheckVdso(image, options));
  Plan plan;
  plan.files = image.files();
  const bool guest = image.machine().scope() == ckpt_pb::Machine::MACHINE;
  for (ckpt_pb::File& file : *plan.files.mutable_file()) {
    if (!OnSystem(file.recipe())) continue;
    const auto fact = facts.find(file.objref());
    CHECK(fact != facts.end());
    TRY_VOID(DecideFile(file, fact->second, options, guest, plan));
  }
  // What would be refused in the middle is refused here.
  const RunFilter filter(image, plan, options);
  TRY_VOID(image.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    for (const PageRun& run : chunk.run()) (void)TRY(filter.Filter(run));
    return {};
  }));
  return plan;
}

RunFilter::RunFilter(const image::Reader& image, const Plan& plan, const PlanOptions& options)
    : image_(image), plan_(plan), options_(options) {
  for (const ckpt_pb::File& file : plan.files.file()) files_.emplace(file.objref(), &file);
}

const ckpt_pb::Vma* RunFilter::VmaOf(uint32_t mm, uint64_t page) const {
  const auto& vmas = image_.vmas(mm).vma();
  const auto after =
      std::upper_bound(vmas.begin(), vmas.end(), page * kPageSize,
                       [](uint64_t addr, const ckpt_pb::Vma& vma) { return addr < vma.end(); });
  CHECK(after != vmas.end());  // image::Reader has checked every run
  return &*after;
}

std::unexpected<base::Error> RunFilter::PastEnd(const ckpt_pb::File& file, uint64_t page,
                                                uint64_t index) const {
  const auto path = plan_.paths.find(file.objref());
  const std::string name = path == plan_.paths.end() ? Printable(file.name()) : path->second;
  uint64_t before = file.size();
  for (const ckpt_pb::File& recorded : image_.files().file()) {
    if (recorded.objref() == file.objref()) before = recorded.size();
  }
  const std::string why =
      file.size() == before ? base::Format("ended before it at the checkpoint, at %llu bytes: ", Big(before))
                            : SizeChange(before, file.size()) + ": extend the file again, or ";
  return Fail(Code::kFault,
              "the page at %#llx was modified, and is page %llu of file '%s', which %sdrop such pages with "
              "--drop-past-eof (EFAULT)",
              Big(page * kPageSize), Big(index), name.c_str(), why.c_str());
}

base::Result<std::vector<Part>> RunFilter::Filter(const PageRun& run) const {
  std::vector<Part> parts;
  uint64_t done = 0;
  while (done < run.count()) {
    uint64_t count = run.count() - done;
    uint64_t past_end_from = count;  // pages of this piece that have a place
    if (run.owner() == PageRun::MM) {
      const uint64_t page = run.first() + done;
      const ckpt_pb::Vma& vma = *VmaOf(run.objref(), page);
      count = std::min(count, vma.end() / kPageSize - page);
      past_end_from = count;
      const auto file = files_.find(vma.file_objref());
      if (file != files_.end() && file->second->kind() == ckpt_pb::File::REGULAR) {
        const uint64_t index = vma.pgoff() + (page - vma.start() / kPageSize);
        const uint64_t pages = base::PagesFor(file->second->size());
        past_end_from = index >= pages ? 0 : std::min(count, pages - index);
        if (past_end_from < count && options_.drop_past_eof == DropPastEof::kNo) {
          return PastEnd(*file->second, page + past_end_from, index + past_end_from);
        }
      }
    } else if (const auto end = plan_.file_ends.find(run.objref()); end != plan_.file_ends.end()) {
      const uint64_t index = run.first() + done;
      past_end_from = index >= end->second ? 0 : std::min(count, end->second - index);
    }
    const auto add = [&](uint64_t from, uint64_t pages, bool keep) {
      if (pages == 0) return;
      Part& part = parts.emplace_back(Part{run, keep});
      part.run.set_first(run.first() + done + from);
      part.run.set_count(pages);
      if (run.kind() != PageRun::ZERO || run.owner() != PageRun::DISK)
        part.run.set_stored(run.stored() + done + from);
    };
    add(0, past_end_from, true);
    add(past_end_from, count - past_end_from, false);
    done += count;
  }
  return parts;
}

}  // namespace restore
