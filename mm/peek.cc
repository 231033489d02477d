#include "mm/peek.h"

#include "mm/machine.h"
#include "mm/page_states.h"

namespace mm {
namespace {

SysResult<Peeked> PeekFrame(const Machine& machine, Pfn pfn, PageSpan buffer) {
  if (machine.host == nullptr) return Peeked{Peeked::Kind::kBytes, machine.frames.bytes(pfn)};
  SYS_TRY_VOID(read_page_content(machine, pfn, buffer));
  return Peeked{Peeked::Kind::kBytes, buffer.data()};
}

}  // namespace

SysResult<Peeked> peek_slot(const Machine& machine, uint32_t slot, PageSpan buffer) {
  const Pfn cached = machine.swap->cached(slot);
  if (cached != kNoPfn && machine.frames.at(cached).uptodate()) return PeekFrame(machine, cached, buffer);
  SYS_TRY_VOID(machine.swap->device().ReadPage(slot, buffer));
  return Peeked{Peeked::Kind::kBytes, buffer.data()};
}

SysResult<Peeked> peek_file_page(const Machine& machine, const File& file, Pgoff index, PageSpan buffer) {
  const auto cached = file.mapping.pages.find(index);
  if (cached != file.mapping.pages.end()) return PeekFrame(machine, cached->second, buffer);
  const auto swapped = file.mapping.swapped.find(index);
  if (swapped != file.mapping.swapped.end()) return peek_slot(machine, swapped->second, buffer);
  if (file.disk() == nullptr) return Peeked{};
  SYS_TRY_VOID(file.disk()->ReadPage(index, buffer));
  return Peeked{Peeked::Kind::kBytes, buffer.data()};
}

std::optional<Pgoff> file_index_at(const Vma& vma, Vaddr addr) {
  const Pte* entry = vma.mm->pgtable.find(addr);
  const Pte pte = entry == nullptr ? Pte{} : *entry;
  if (pte_file(pte)) return pte_to_pgoff(pte);
  if (pte_swap(pte)) return std::nullopt;
  if (!pte_present(pte)) return linear_page_index(vma, addr);
  const Page& page = vma.mm->machine.frames.at(pte_pfn(pte));
  if (FileMapping(page) == nullptr) return std::nullopt;
  return page.index;
}

SysResult<Peeked> peek_page(const Vma& vma, Vaddr addr, PageSpan buffer) {
  const Machine& machine = vma.mm->machine;
  const PageTable& table = vma.mm->pgtable;
  const Pte* entry = table.find(addr);
  const Pte pte = entry == nullptr ? Pte{} : *entry;
  if (pte_present(pte)) {
    if (pte_pfn(pte) == kZeroPfn) return Peeked{};
    return PeekFrame(machine, pte_pfn(pte), buffer);
  }
  if (pte_swap(pte)) return peek_slot(machine, pte_to_swp_entry(pte), buffer);
  if (pte_hwpoison(pte)) return Peeked{Peeked::Kind::kSigbus};
  if (!vma.has_fault()) return Peeked{};
  const Pgoff index = pte_file(pte) ? pte_to_pgoff(pte) : linear_page_index(vma, addr);
  if (index >= base::PagesFor(vma.file->i_size)) return Peeked{Peeked::Kind::kSigbus};
  return peek_file_page(machine, *vma.file, index, buffer);
}

}  // namespace mm
