#include "ckpt/model_describe.h"

#include "mm/machine.h"

namespace ckpt {
namespace {

using base::kPageSize;
using mm::Vma;

// Vmas whose pages are not the process's alone to save: spec C2. VM_NORESERVE and non-linear file
// mappings, which the published patches refused, are saved.
struct Unsupported {
  uint64_t flag;
  const char* name;
};
constexpr Unsupported kUnsupported[] = {{mm::VM_IO, "VM_IO"},
                                        {mm::VM_HUGETLB, "VM_HUGETLB"},
                                        {mm::VM_PFNMAP, "VM_PFNMAP"},
                                        {mm::VM_RESERVED, "VM_RESERVED"},
                                        {mm::VM_MAPPED_COPY, "VM_MAPPED_COPY"},
                                        {mm::VM_INSERTPAGE, "VM_INSERTPAGE"},
                                        {mm::VM_MIXEDMAP, "VM_MIXEDMAP"},
                                        {mm::VM_SAO, "VM_SAO"}};

}  // namespace

ckpt_pb::Vma::Kind KindOf(const Vma& vma) {
  if (vma.special == mm::Special::kVdso) return ckpt_pb::Vma::VDSO;
  if (vma.file == nullptr) return ckpt_pb::Vma::ANON;
  // A shared mapping of a file that may not be written keeps only VM_MAYSHARE.
  if ((vma.flags & (mm::VM_SHARED | mm::VM_MAYSHARE)) == 0) return ckpt_pb::Vma::FILE_PRIVATE;
  return vma.file->kind() == mm::FileKind::kShmem ? ckpt_pb::Vma::SHM_ANON : ckpt_pb::Vma::FILE_SHARED;
}

ckpt_pb::File::Kind KindOf(const mm::File& file) {
  switch (file.kind()) {
    case mm::FileKind::kRegular: return ckpt_pb::File::REGULAR;
    case mm::FileKind::kShmem: return ckpt_pb::File::SHMEM;
    case mm::FileKind::kDevZero: return ckpt_pb::File::DEV_ZERO;
  }
  return ckpt_pb::File::REGULAR;
}

void DescribeRecipe(const mm::Recipe& recipe, ckpt_pb::Recipe& out) {
  out.set_kind(static_cast<ckpt_pb::Recipe::Kind>(recipe.kind));
  out.set_size(recipe.size);
  out.set_generator(recipe.generator);
  out.set_seed(recipe.seed);
  out.set_path(recipe.path);
  out.set_device(recipe.device);
  out.set_inode(recipe.inode);
  out.set_mtime_ns(recipe.mtime_ns);
  out.set_build_id(recipe.build_id);
}

void DescribeSmaps(const mm::Smaps& smaps, ckpt_pb::Smaps& out) {
  out.set_rss(smaps.rss);
  out.set_pss_bytes(smaps.pss_bytes);
  out.set_shared_clean(smaps.shared_clean);
  out.set_shared_dirty(smaps.shared_dirty);
  out.set_private_clean(smaps.private_clean);
  out.set_private_dirty(smaps.private_dirty);
  out.set_referenced(smaps.referenced);
  out.set_anonymous(smaps.anonymous);
  out.set_swap(smaps.swap);
  out.set_swap_pss_bytes(smaps.swap_pss_bytes);
  out.set_locked_pss_bytes(smaps.locked_pss_bytes);
}

base::Result<void> CheckVma(const Vma& vma, mm::Pid pid) {
  const auto start = static_cast<unsigned long long>(vma.start);
  for (const Unsupported& unsupported : kUnsupported) {
    if ((vma.flags & unsupported.flag) != 0) {
      return base::Fail(base::Code::kUnsupported,
                        "checkpoint process %u: vma at %#llx is %s, which is not saved (ENOSYS)", pid, start,
                        unsupported.name);
    }
  }
  if ((vma.flags & mm::VM_NONLINEAR) != 0 && (vma.file == nullptr || !vma.is_shared())) {
    return base::Fail(base::Code::kUnsupported,
                      "checkpoint process %u: vma at %#llx is non-linear and not a shared mapping (ENOSYS)",
                      pid, start);
  }
  if (vma.special != mm::Special::kNone && vma.special != mm::Special::kVdso) {
    return base::Fail(base::Code::kUnsupported,
                      "checkpoint process %u: vma at %#llx is a special mapping other than [vdso] (ENOSYS)",
                      pid, start);
  }
  return {};
}

void DescribeNonlinear(Vma& vma, ckpt_pb::Vmas& out) {
  vma.mm->pgtable.walk(vma.start, vma.end, [&](mm::Vaddr addr, const mm::Pte& pte) {
    uint64_t index = mm::pte_to_pgoff(pte);
    if (mm::pte_present(pte)) {
      index = vma.mm->machine.frames.at(mm::pte_pfn(pte)).index;
    } else if (!mm::pte_file(pte)) {
      return;
    }
    if (index == mm::linear_page_index(vma, addr)) return;
    ckpt_pb::NonlinearRun* last = out.nonlinear().empty() ? nullptr : &*out.mutable_nonlinear()->rbegin();
    if (last != nullptr && last->first() + last->count() == addr / kPageSize &&
        last->first() >= vma.start / kPageSize && last->pgoff() + last->count() == index) {
      last->set_count(last->count() + 1);
      return;
    }
    ckpt_pb::NonlinearRun& run = *out.add_nonlinear();
    run.set_first(addr / kPageSize);
    run.set_count(1);
    run.set_pgoff(index);
  });
}

}  // namespace ckpt
