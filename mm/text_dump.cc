#include <map>

#include "base/random.h"
#include "mm/machine.h"
#include "mm/validate.h"

namespace mm {
namespace {

using base::Format;

uint64_t HashPage(const std::byte* bytes) {
  uint64_t hash = 0;
  for (size_t at = 0; at < kPageSize; at += sizeof(uint64_t)) {
    uint64_t word;
    __builtin_memcpy(&word, bytes + at, sizeof word);
    hash = base::Mix64(hash ^ word);
  }
  return hash;
}

std::string StateText(const Machine& machine, Pfn pfn) {
  return machine.host == nullptr ? "" : std::string(" ") + PageStateName(machine.host->state(pfn));
}

std::string PageText(const Machine& machine, Pfn pfn) {
  const Page& page = machine.frames.at(pfn);
  std::string flags;
  static constexpr std::pair<uint32_t, const char*> kNames[] = {
      {PG_locked, "locked"},         {PG_uptodate, "uptodate"},   {PG_dirty, "dirty"},
      {PG_writeback, "writeback"},   {PG_reserved, "reserved"},   {PG_swapcache, "swapcache"},
      {PG_referenced, "referenced"}, {PG_active, "active"},       {PG_lru, "lru"},
      {PG_swapbacked, "swapbacked"}, {PG_anon, "chained"},        {PG_ksm, "ksm"},
      {PG_hwpoison, "hwpoison"},     {PG_key_dirty, "key_dirty"}, {PG_discarded, "discarded"},
      {PG_writable, "writable"},     {PG_private, "private"},     {PG_error, "error"},
      {PG_mlocked, "mlocked"}};
  for (const auto& [bit, name] : kNames) {
    if ((page.flags & bit) != 0) flags += std::string(flags.empty() ? "" : ",") + name;
  }
  return Format("page %u count %d mapcount %d index %llu %s [%s] %016llx", static_cast<unsigned>(pfn),
                page.count, page.mapcount, static_cast<unsigned long long>(page.index),
                PageAnon(page)                 ? "anon"
                : FileMapping(page) != nullptr ? "file"
                                               : "none",
                flags.c_str(), static_cast<unsigned long long>(HashPage(machine.frames.bytes(pfn)))) +
         StateText(machine, pfn);
}

std::string PteText(const Machine& machine, Pte pte) {
  if (pte_file(pte)) return Format("file %llu", static_cast<unsigned long long>(pte_to_pgoff(pte)));
  if (pte_swap(pte)) return Format("swap %llu", static_cast<unsigned long long>(pte_to_pgoff(pte)));
  if (pte_hwpoison(pte)) return Format("hwpoison pfn %u", static_cast<unsigned>(pte_pfn(pte)));
  std::string bits;
  bits += pte_write(pte) ? 'w' : '-';
  bits += pte_dirty(pte) ? 'd' : '-';
  bits += pte_young(pte) ? 'y' : '-';
  bits += pte_special(pte) ? 's' : '-';
  bits += pte_protnone(pte) ? 'n' : '-';
  if (pte_special(pte)) return Format("%s pfn %u", bits.c_str(), static_cast<unsigned>(pte_pfn(pte)));
  return bits + " " + PageText(machine, pte_pfn(pte));
}

void DumpMm(const Machine& machine, MmStruct& mm, std::string& text) {
  const MmLayout& l = mm.layout;
  text += Format("  total_vm %llu anon_rss %llu file_rss %llu nr_ptes %llu aio %u def_flags %#llx word %u\n",
                 static_cast<unsigned long long>(mm.total_vm), static_cast<unsigned long long>(mm.anon_rss),
                 static_cast<unsigned long long>(mm.file_rss),
                 static_cast<unsigned long long>(mm.pgtable.nr_ptes()), mm.nr_aio,
                 static_cast<unsigned long long>(mm.def_flags), mm.word_bytes);
  for (const Vaddr bound : {l.start_code, l.end_code, l.start_data, l.end_data, l.start_brk, l.brk,
                            l.start_stack, l.arg_start, l.arg_end, l.env_start, l.env_end}) {
    text += Format(" %#llx", static_cast<unsigned long long>(bound));
  }
  for (const AuxvEntry& entry : mm.auxv) {
    text += Format(" %llu=%#llx", static_cast<unsigned long long>(entry.type),
                   static_cast<unsigned long long>(entry.value));
  }
  text += "\n";
  for (const auto& [start, vma] : mm.vmas()) {
    text += Format("  vma %#llx-%#llx flags %#llx pgoff %llu file %u special %d anon_vma %d\n",
                   static_cast<unsigned long long>(start), static_cast<unsigned long long>(vma->end),
                   static_cast<unsigned long long>(vma->flags), static_cast<unsigned long long>(vma->pgoff),
                   vma->file == nullptr ? 0 : static_cast<unsigned>(vma->file->id()),
                   static_cast<int>(vma->special), vma->anon_vma ? 1 : 0);
  }
  mm.pgtable.walk(0, Vaddr{1} << 48, [&](Vaddr addr, const Pte& pte) {
    text += Format("  pte %#llx %s\n", static_cast<unsigned long long>(addr), PteText(machine, pte).c_str());
  });
}

void DumpPfns(const char* name, const std::vector<Pfn>& pages, std::string& text) {
  if (pages.empty()) return;
  text += Format("  %s", name);
  for (const Pfn pfn : pages) text += Format(" %u", static_cast<unsigned>(pfn));
  text += "\n";
}

// What hinting left of frames that no page table and no cache names.
void DumpHost(const Machine& machine, std::string& text) {
  if (machine.host == nullptr) return;
  text += "host";
  for (const PageState state : kAllPageStates) {
    text +=
        Format(" %s %llu", PageStateName(state), static_cast<unsigned long long>(machine.host->count(state)));
  }
  text += Format(" sign_off_mask %#x\n", machine.discarded->sign_off_mask());
  for (unsigned cpu = 0; cpu < NR_CPUS; ++cpu) {
    DumpPfns(Format("discarded on cpu %u", cpu).c_str(), machine.discarded->on_cpu(cpu), text);
  }
  DumpPfns("discarded", machine.discarded->list(), text);
  DumpPfns("discarded, to sign off", machine.discarded->sign_off(), text);
}

void DumpSwap(const Machine& machine, std::string& text) {
  if (machine.swap == nullptr) return;
  const SwapArea& area = *machine.swap;
  text += Format("swap slots %u free %u\n", area.nr_slots(), area.nr_unused());
  for (SwpEntry slot = 1; slot < area.high_water(); ++slot) {
    if (!area.valid(slot)) continue;
    PageBytes bytes;
    const bool readable = area.device().ReadPage(slot, bytes).has_value();
    text += Format("  slot %u users %u page %d %016llx\n", slot, area.count(slot),
                   area.cached(slot) == kNoPfn ? -1 : static_cast<int>(area.cached(slot)),
                   static_cast<unsigned long long>(readable ? HashPage(bytes.data()) : 0));
  }
}

void DumpDisk(const Disk& disk, std::string& text) {
  Pgoff zero_first = 0;
  Pgoff zero_end = 0;
  const auto end_zeros = [&] {
    if (zero_first == zero_end) return;
    text += Format("  disk %llu-%llu zeros\n", static_cast<unsigned long long>(zero_first),
                   static_cast<unsigned long long>(zero_end));
    zero_first = zero_end = 0;
  };
  // However the disk cuts its holes, one that is whole is one line.
  (void)disk.ForEachChanged([&](Pgoff first, uint64_t count, const std::byte* bytes) {
    if (bytes != nullptr || first != zero_end) end_zeros();
    if (bytes == nullptr) {
      if (zero_first == zero_end) zero_first = first;
      zero_end = first + count;
      return;
    }
    text += Format("  disk %llu %016llx\n", static_cast<unsigned long long>(first),
                   static_cast<unsigned long long>(HashPage(bytes)));
  });
  end_zeros();
}

}  // namespace

std::string TextDump(const Machine& machine) {
  std::string text =
      Format("memory %llu free %u\n", static_cast<unsigned long long>(machine.config().memory_bytes),
             machine.frames.nr_free());
  for (const std::string& changed : ChangedSwitches(machine.sem())) text += "semantics " + changed + "\n";
  text += "vmstat";
  for (const VmStatName& counter : VmStatNames()) {
    text += Format(" %s %llu", counter.name, static_cast<unsigned long long>(machine.vmstat.*counter.value));
  }
  text += "\n";
  DumpHost(machine, text);
  DumpSwap(machine, text);
  for (const FilePtr& file : machine.files()) {
    text += Format("file %u '%s' kind %d size %llu%s%s truncate_count %llu\n",
                   static_cast<unsigned>(file->id()), base::Printable(file->name()).c_str(),
                   static_cast<int>(file->kind()), static_cast<unsigned long long>(file->i_size),
                   file->deleted ? " deleted" : "", file->swapfile ? " swapfile" : "",
                   static_cast<unsigned long long>(file->mapping.truncate_count));
    for (const auto& [index, pfn] : file->mapping.pages) {
      text +=
          Format("  cache %llu %s\n", static_cast<unsigned long long>(index), PageText(machine, pfn).c_str());
    }
    for (const auto& [index, slot] : file->mapping.swapped) {
      text += Format("  swapped %llu slot %u\n", static_cast<unsigned long long>(index), slot);
    }
    if (file->disk() == nullptr) continue;
    DumpDisk(*file->disk(), text);
  }
  std::map<const MmStruct*, Pid> seen;
  for (const auto& [pid, process] : machine.processes()) {
    text += Format("process %u parent %u '%s'\n", pid, process->ppid, base::Printable(process->name).c_str());
    const auto [place, first] = seen.emplace(process->mm.get(), pid);
    if (first) {
      DumpMm(machine, *process->mm, text);
    } else {
      text += Format("  shares the address space of process %u\n", place->second);
    }
  }
  return text;
}

}  // namespace mm
