#include "workload/files.h"

#include <sys/stat.h>

#include "base/file_kind.h"
#include "mm/folder_disk.h"
#include "workload/elf_file.h"
#include "workload/script.h"

namespace workload {
namespace {

base::Result<mm::OpenedContent> OpenReal(const std::string& path) {
  mm::Recipe recipe;
  recipe.kind = mm::Recipe::Kind::kReal;
  recipe.path = path;
  // The path stands in a workload, whose mistakes say what was expected.
  const auto expected = [](const base::Error& error) {
    return std::unexpected(
        base::Error{error.code, error.what + "; expected the path of a regular file that can be read"});
  };
  struct stat st;
  if (stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
    return expected(
        {base::Code::kInvalid, base::Format("open file '%s': it is %s", base::Printable(path).c_str(),
                                            base::FileKindName(st.st_mode))});
  }
  base::Result<mm::OpenedContent> opened = mm::OpenContent(recipe);
  if (!opened) return expected(opened.error());
  base::Result<std::string> build_id = ReadBuildId(path);
  if (!build_id) return expected(build_id.error());
  opened->recipe.build_id = *std::move(build_id);
  return opened;
}

base::Result<mm::OpenedContent> OpenSpec(const ckpt_pb::Workload::File& spec) {
  if (!spec.real().empty()) return OpenReal(spec.real());
  mm::Recipe recipe;
  recipe.size = SizeOr(spec.size(), 0);
  if (!spec.generator().empty()) {
    recipe.kind = mm::Recipe::Kind::kGenerated;
    recipe.generator = spec.generator();
    recipe.seed = spec.seed();
  }
  return mm::OpenContent(recipe);
}

}  // namespace

base::Result<mm::FilePtr> MakeFile(mm::Machine& machine, const ckpt_pb::Workload::File& spec,
                                   const std::string& disk_dir) {
  mm::OpenedContent content = TRY(OpenSpec(spec));
  const uint64_t size = content.recipe.size;
  if (disk_dir.empty()) {
    return machine.create_file(spec.name(), size, std::make_unique<mm::OverlayDisk>(std::move(content)));
  }
  return machine.create_file(spec.name(), size, TRY(mm::FolderDisk::Create(disk_dir, spec.name(), content)));
}

base::Result<mm::FilePtr> RealFile(mm::Machine& machine, const std::string& path) {
  if (mm::FilePtr known = machine.find_file(path)) return known;
  mm::OpenedContent content = TRY(OpenReal(path));
  const uint64_t size = content.recipe.size;
  return machine.create_file(path, size, std::make_unique<mm::OverlayDisk>(std::move(content)));
}

}  // namespace workload
