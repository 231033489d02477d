#include "proto/validate.h"

#include <cinttypes>
#include <string>
#include <unordered_set>

#include "base/units.h"

namespace image {
namespace {

using base::Code;
using base::Fail;
using base::IsPageAligned;
using base::kPageSize;

constexpr uint64_t kFileBytesMax = uint64_t{1} << 63;  // loff_t is signed.
constexpr uint64_t kPgoffMax = uint64_t{1} << 52;
constexpr uint64_t kSwapBytesMax = uint64_t{1} << 40;
constexpr uint64_t kFilePteMax = uint64_t{1} << 46;
constexpr size_t kPathBytesMax = 4096;
constexpr int kAuxvMax = 256;

class Validator {
 public:
  explicit Validator(const Metadata& metadata) : metadata_(metadata) {}

  base::Result<void> Run() {
    TRY_VOID(CheckMachine(metadata_.machine));
    for (const ckpt_pb::File& file : metadata_.files.file()) TRY_VOID(CheckFile(file));
    for (const ckpt_pb::Mm& mm : metadata_.processes.mm()) TRY_VOID(AddObject(mm.objref(), nullptr));
    for (const ckpt_pb::Mm& mm : metadata_.processes.mm()) TRY_VOID(CheckMm(mm));
    for (const auto& [objref, vmas] : metadata_.vmas) TRY_VOID(CheckVmas(objref, vmas));
    for (const ckpt_pb::Process& process : metadata_.processes.process()) TRY_VOID(CheckProcess(process));
    return CheckParent(metadata_.parent);
  }

 private:
  base::Result<void> CheckMachine(const ckpt_pb::Machine& machine);
  base::Result<void> CheckFile(const ckpt_pb::File& file);
  base::Result<void> CheckRecipe(const ckpt_pb::File& file);
  base::Result<void> CheckMm(const ckpt_pb::Mm& mm);
  base::Result<void> CheckAuxv(const ckpt_pb::Mm& mm);
  base::Result<void> CheckVmas(uint32_t mm_objref, const ckpt_pb::Vmas& vmas);
  base::Result<void> CheckNonlinear(uint32_t mm_objref, const ckpt_pb::Vmas& vmas);
  base::Result<void> CheckVma(const ckpt_pb::Vma& vma);
  base::Result<void> CheckVmaKind(const ckpt_pb::Vma& vma);
  base::Result<void> CheckProcess(const ckpt_pb::Process& process);
  base::Result<void> CheckParent(const ckpt_pb::Parent& parent) const;

  base::Result<void> AddObject(uint32_t objref, const ckpt_pb::File* file) {
    if (objref == 0 || objref > kObjrefMax) {
      return Fail(Code::kInvalid, "objref %" PRIu32 " of %s is not positive", objref,
                  file != nullptr ? "a file" : "an mm");
    }
    if (!objects_.emplace(objref, file).second)
      return Fail(Code::kInvalid, "objref %" PRIu32 " twice", objref);
    return {};
  }

  // The file that an objref names, for a reference in `from`.
  base::Result<const ckpt_pb::File*> FindFile(uint32_t objref, const std::string& from) const {
    const auto found = objects_.find(objref);
    if (found == objects_.end()) {
      return Fail(Code::kInvalid, "%s: no object has objref %" PRIu32, from.c_str(), objref);
    }
    if (found->second == nullptr) {
      return Fail(Code::kWrongType, "%s: objref %" PRIu32 " is an mm, not a file", from.c_str(), objref);
    }
    return found->second;
  }

  base::Result<void> FindMm(uint32_t objref, const std::string& from) const {
    const auto found = objects_.find(objref);
    if (found == objects_.end()) {
      return Fail(Code::kInvalid, "%s: no object has objref %" PRIu32, from.c_str(), objref);
    }
    if (found->second != nullptr) {
      return Fail(Code::kWrongType, "%s: objref %" PRIu32 " is a file, not an mm", from.c_str(), objref);
    }
    return {};
  }

  const Metadata& metadata_;
  uint64_t nonlinear_pages_ = 0;
  std::unordered_map<uint32_t, const ckpt_pb::File*> objects_;  // Null for an mm.
  std::unordered_set<uint32_t> pids_;
};

base::Result<void> Validator::CheckMachine(const ckpt_pb::Machine& machine) {
  if (machine.page_size() != kPageSize) {
    return Fail(Code::kUnsupported, "machine: page size %" PRIu32 " instead of %zu", machine.page_size(),
                kPageSize);
  }
  if (!ckpt_pb::Machine::Scope_IsValid(machine.scope()) ||
      !ckpt_pb::Machine::Source_IsValid(machine.source())) {
    return Fail(Code::kUnsupported, "machine: unknown scope or source");
  }
  const bool is_guest = machine.scope() == ckpt_pb::Machine::MACHINE;
  if (is_guest != (metadata_.guest.ByteSizeLong() > 0)) {
    return Fail(Code::kInvalid, "machine: an image of %s",
                is_guest ? "a guest without its sections" : "processes with a guest's sections");
  }
  if (machine.swap_bytes() > kSwapBytesMax) {
    return Fail(Code::kInvalid, "machine: swap of %" PRIu64 " bytes", machine.swap_bytes());
  }
  if (!IsPageAligned(machine.vdso_start()) || machine.vdso_start() > kTaskSize ||
      machine.vdso_pages() > (kTaskSize - machine.vdso_start()) / kPageSize) {
    return Fail(Code::kInvalid, "machine: no vdso can be at 0x%" PRIx64, machine.vdso_start());
  }
  return {};
}

base::Result<void> Validator::CheckParent(const ckpt_pb::Parent& parent) const {
  if (!metadata_.is_child()) return {};
  if (parent.digest().size() != std::tuple_size_v<DigestBytes> || parent.depth() == 0 ||
      parent.depth() > kDepthMax || parent.stored() > kStoredPagesMax) {
    return Fail(Code::kInvalid, "parent: its digest, depth or number of pages is impossible");
  }
  if (parent.path().empty() || parent.path().size() > kPathBytesMax ||
      parent.path().find('\0') != std::string::npos) {
    return Fail(Code::kInvalid, "parent: impossible path");
  }
  return {};
}

// No path of an image may lead out of the folder that it is relative to.
bool IsPlainRelativePath(const std::string& path) {
  if (path.empty() || path.front() == '/') return false;
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string part = path.substr(start, end - start);
    if (part.empty() || part == "." || part == "..") return false;
    start = end + 1;
  }
  return true;
}

base::Result<void> Validator::CheckRecipe(const ckpt_pb::File& file) {
  const ckpt_pb::Recipe& recipe = file.recipe();
  if (!ckpt_pb::Recipe::Kind_IsValid(recipe.kind())) {
    return Fail(Code::kUnsupported, "file %" PRIu32 ": unknown kind of recipe", file.objref());
  }
  if (recipe.size() >= kFileBytesMax)
    return Fail(Code::kInvalid, "file %" PRIu32 ": recipe too long", file.objref());
  if (recipe.path().size() > kPathBytesMax || recipe.path().find('\0') != std::string::npos) {
    return Fail(Code::kInvalid, "file %" PRIu32 ": impossible path", file.objref());
  }
  if (recipe.kind() == ckpt_pb::Recipe::REAL && recipe.path().empty()) {
    return Fail(Code::kInvalid, "file %" PRIu32 ": a real file without a path", file.objref());
  }
  if (recipe.kind() == ckpt_pb::Recipe::FOLDER && !IsPlainRelativePath(recipe.path())) {
    return Fail(Code::kInvalid, "file %" PRIu32 ": its path leads out of its folder", file.objref());
  }
  return {};
}

base::Result<void> Validator::CheckFile(const ckpt_pb::File& file) {
  TRY_VOID(AddObject(file.objref(), &file));
  if (!ckpt_pb::File::Kind_IsValid(file.kind())) {
    return Fail(Code::kUnsupported, "file %" PRIu32 ": unknown kind", file.objref());
  }
  if (file.size() >= kFileBytesMax) return Fail(Code::kInvalid, "file %" PRIu32 ": too long", file.objref());
  if (file.name().size() > kPathBytesMax || file.name().find('\0') != std::string::npos) {
    return Fail(Code::kInvalid, "file %" PRIu32 ": impossible name", file.objref());
  }
  return CheckRecipe(file);
}

base::Result<void> Validator::CheckAuxv(const ckpt_pb::Mm& mm) {
  const int count = mm.auxv_size();
  if (count > kAuxvMax) return Fail(Code::kTooBig, "mm %" PRIu32 ": %d auxv entries", mm.objref(), count);
  const uint64_t word_max = mm.word_bytes() == 4 ? UINT32_MAX : UINT64_MAX;
  for (int i = 0; i < count; ++i) {
    const ckpt_pb::Auxv& entry = mm.auxv(i);
    if (entry.type() > word_max || entry.value() > word_max) {
      return Fail(Code::kTooBig, "mm %" PRIu32 ": auxv entry %d does not fit %" PRIu32 " bytes", mm.objref(),
                  i, mm.word_bytes());
    }
    const bool is_last = i == count - 1;
    if (is_last != (entry.type() == 0) || (is_last && entry.value() != 0)) {
      return Fail(Code::kInvalid, "mm %" PRIu32 ": auxv does not end with its one AT_NULL", mm.objref());
    }
  }
  return {};
}

base::Result<void> Validator::CheckMm(const ckpt_pb::Mm& mm) {
  const uint32_t objref = mm.objref();
  if (mm.word_bytes() != 8 && mm.word_bytes() != 4) {
    return Fail(Code::kInvalid, "mm %" PRIu32 ": a word of %" PRIu32 " bytes", objref, mm.word_bytes());
  }
  const struct {
    const char* name;
    uint64_t start;
    uint64_t end;
  } ranges[] = {{"code", mm.start_code(), mm.end_code()}, {"data", mm.start_data(), mm.end_data()},
                {"brk", mm.start_brk(), mm.brk()},        {"stack", mm.start_stack(), mm.start_stack()},
                {"arg", mm.arg_start(), mm.arg_end()},    {"env", mm.env_start(), mm.env_end()}};
  for (const auto& range : ranges) {
    if (range.start > range.end || range.end > kTaskSize) {
      return Fail(Code::kInvalid, "mm %" PRIu32 ": %s from 0x%" PRIx64 " to 0x%" PRIx64, objref, range.name,
                  range.start, range.end);
    }
  }
  if ((mm.def_flags() & ~kVmLocked) != 0) {
    return Fail(Code::kInvalid, "mm %" PRIu32 ": def_flags 0x%" PRIx64, objref, mm.def_flags());
  }
  TRY_VOID(CheckAuxv(mm));
  if (mm.exe_objref() != 0) {
    const std::string from = base::Format("exe of mm %" PRIu32, objref);
    const ckpt_pb::File* exe = TRY(FindFile(mm.exe_objref(), from));
    if (exe->kind() != ckpt_pb::File::REGULAR) {
      return Fail(Code::kWrongType, "%s: objref %" PRIu32 " is not a regular file", from.c_str(),
                  mm.exe_objref());
    }
  }
  const auto vmas = metadata_.vmas.find(objref);
  const uint64_t count = vmas == metadata_.vmas.end() ? 0 : static_cast<uint64_t>(vmas->second.vma_size());
  if (count != mm.map_count()) {
    return Fail(Code::kInvalid, "mm %" PRIu32 ": %" PRIu64 " vmas, and map_count %" PRIu64, objref, count,
                mm.map_count());
  }
  return {};
}

base::Result<void> Validator::CheckVmas(uint32_t mm_objref, const ckpt_pb::Vmas& vmas) {
  TRY_VOID(FindMm(mm_objref, "vmas"));
  uint64_t last_end = 0;
  for (const ckpt_pb::Vma& vma : vmas.vma()) {
    auto result = CheckVma(vma);
    if (result && vma.start() < last_end)
      result = Fail(Code::kInvalid, "out of order, or over the one before it");
    if (!result) {
      return std::unexpected(result.error().In(
          base::Format("mm %" PRIu32 ", vma 0x%" PRIx64 "-0x%" PRIx64, mm_objref, vma.start(), vma.end())));
    }
    last_end = vma.end();
  }
  return CheckNonlinear(mm_objref, vmas);
}

// Every run lies in one non-linear vma.
base::Result<void> Validator::CheckNonlinear(uint32_t mm_objref, const ckpt_pb::Vmas& vmas) {
  const std::string from = base::Format("mm %" PRIu32 ", non-linear pages", mm_objref);
  uint64_t last_end = 0;
  int at = 0;
  for (const ckpt_pb::NonlinearRun& run : vmas.nonlinear()) {
    while (at < vmas.vma_size() && vmas.vma(at).end() / kPageSize <= run.first()) ++at;
    if (at == vmas.vma_size() || (vmas.vma(at).flags() & kVmNonlinear) == 0 ||
        run.first() < vmas.vma(at).start() / kPageSize || run.count() == 0 ||
        run.count() > vmas.vma(at).end() / kPageSize - run.first()) {
      return Fail(Code::kInvalid, "%s 0x%" PRIx64 ": not in a non-linear vma", from.c_str(), run.first());
    }
    if (run.first() < last_end || run.pgoff() > kFilePteMax - run.count()) {
      return Fail(Code::kInvalid, "%s 0x%" PRIx64 ": out of order, or pgoff 0x%" PRIx64 " is too big",
                  from.c_str(), run.first(), run.pgoff());
    }
    nonlinear_pages_ += run.count();
    if (nonlinear_pages_ > kNonlinearPagesMax) {
      return Fail(Code::kTooBig, "%s: more than %" PRIu64, from.c_str(), kNonlinearPagesMax);
    }
    last_end = run.first() + run.count();
  }
  return {};
}

base::Result<void> Validator::CheckVma(const ckpt_pb::Vma& vma) {
  if (!IsPageAligned(vma.start()) || !IsPageAligned(vma.end()))
    return Fail(Code::kInvalid, "not page-aligned");
  if (vma.start() >= vma.end() || vma.end() > kTaskSize) return Fail(Code::kInvalid, "impossible bounds");
  if (vma.pgoff() > kPgoffMax - (vma.end() - vma.start()) / kPageSize) {
    return Fail(Code::kInvalid, "pgoff 0x%" PRIx64 " is too big", vma.pgoff());
  }
  if ((vma.flags() & kVmUnsupported) != 0) {
    return Fail(Code::kUnsupported, "flags 0x%" PRIx64 " cannot be restored", vma.flags() & kVmUnsupported);
  }
  return CheckVmaKind(vma);
}

base::Result<void> Validator::CheckVmaKind(const ckpt_pb::Vma& vma) {
  const ckpt_pb::File* file = vma.file_objref() == 0 ? nullptr : TRY(FindFile(vma.file_objref(), "file"));
  if (!ckpt_pb::Vma::Kind_IsValid(vma.kind()))
    return Fail(Code::kUnsupported, "unknown kind %d", static_cast<int>(vma.kind()));
  const bool is_shared = vma.kind() == ckpt_pb::Vma::SHM_ANON || vma.kind() == ckpt_pb::Vma::FILE_SHARED;
  // A shared mapping of a file that is open only for reading has MAYSHARE alone.
  if (((vma.flags() & (kVmShared | kVmMayShare)) != 0) != is_shared) {
    return Fail(Code::kInvalid, "kind and flags 0x%" PRIx64 " disagree about sharing", vma.flags());
  }
  if ((vma.flags() & kVmNonlinear) != 0 && !is_shared) {
    return Fail(Code::kUnsupported, "non-linear, and not shared");
  }
  const auto is_a = [&](ckpt_pb::File::Kind kind) { return file != nullptr && file->kind() == kind; };
  bool fits = false;
  switch (vma.kind()) {
    // A private mapping of /dev/zero is anonymous memory that has a file.
    case ckpt_pb::Vma::ANON: fits = file == nullptr || is_a(ckpt_pb::File::DEV_ZERO); break;
    case ckpt_pb::Vma::FILE_PRIVATE:
      fits = is_a(ckpt_pb::File::REGULAR) || is_a(ckpt_pb::File::DEV_ZERO);
      break;
    case ckpt_pb::Vma::SHM_ANON: fits = is_a(ckpt_pb::File::SHMEM); break;
    case ckpt_pb::Vma::FILE_SHARED: fits = is_a(ckpt_pb::File::REGULAR); break;
    case ckpt_pb::Vma::VDSO:
      fits = file == nullptr;
      if (metadata_.machine.vdso_pages() == 0) return Fail(Code::kInvalid, "a vdso on a machine without one");
      break;
    default: break;
  }
  if (fits) return {};
  const bool is_missing = file == nullptr || vma.kind() == ckpt_pb::Vma::VDSO;
  return Fail(is_missing ? Code::kInvalid : Code::kWrongType,
              "file %" PRIu32 " does not fit a vma of kind %s", vma.file_objref(),
              ckpt_pb::Vma::Kind_Name(vma.kind()).c_str());
}

base::Result<void> Validator::CheckProcess(const ckpt_pb::Process& process) {
  const std::string from = base::Format("process %" PRIu32, process.pid());
  if (process.pid() == 0 || process.pid() > kObjrefMax || !pids_.insert(process.pid()).second) {
    return Fail(Code::kInvalid, "%s: its pid is not positive, or not its own", from.c_str());
  }
  return FindMm(process.mm_objref(), from);
}

}  // namespace

base::Result<void> Validate(const Metadata& metadata) { return Validator(metadata).Run(); }

}  // namespace image
