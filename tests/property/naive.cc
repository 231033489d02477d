#include "tests/property/naive.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace naive {
namespace {

constexpr PageBytes kZeros{};
constexpr uint64_t kTaskSize = 0x7ffffffff000;
constexpr uint64_t kMmapMin = 0x10000;
constexpr uint64_t kStackMax = uint64_t{8} << 20;

uint64_t Up(uint64_t value) { return (value + kPage - 1) / kPage * kPage; }
bool Aligned(uint64_t value) { return value % kPage == 0; }

bool Mapped(const Memory& memory, uint64_t start, uint64_t end) {
  const auto first = memory.pages.lower_bound(start / kPage);
  return first != memory.pages.end() && first->first < end / kPage;
}

void Erase(Memory& memory, uint64_t start, uint64_t end) {
  memory.pages.erase(memory.pages.lower_bound(start / kPage), memory.pages.lower_bound(end / kPage));
}

}  // namespace

const PageBytes& Object::page(uint64_t index) const {
  const auto found = pages.find(index);
  return found == pages.end() ? kZeros : found->second;
}

void Object::Zero(uint64_t from, uint64_t to) {
  for (auto it = pages.lower_bound(from / kPage); it != pages.end() && it->first * kPage < to; ++it) {
    const uint64_t start = it->first * kPage;
    const uint64_t low = std::max(from, start) - start;
    const uint64_t high = std::min(to, start + kPage) - start;
    std::memset(it->second.data() + low, 0, high - low);
  }
}

const PageBytes& Page::bytes() const {
  if (copy != nullptr) return *copy;
  return object != nullptr ? object->page(index) : kZeros;
}

// ---- mappings ----

int Model::Map(Memory& memory, const MapCall& call) {
  if (call.length == 0 || !Aligned(call.offset)) return EINVAL;
  if (call.fixed && !Aligned(call.addr)) return EINVAL;
  if (call.grows_down && (call.shared || call.is_file)) return EINVAL;
  const uint64_t length = Up(call.length);
  Erase(memory, call.addr, call.addr + length);
  Page page;
  page.prot = call.prot;
  page.shared = call.shared;
  page.grows_down = call.grows_down;
  page.object = call.object;
  for (uint64_t i = 0; i < length / kPage; ++i) {
    page.index = page.linear = call.offset / kPage + i;
    memory.pages.emplace(call.addr / kPage + i, page);
  }
  if (!call.populate || call.prot == PROT_NONE) return 0;
  // Linux's populate breaks COW of a writable private mapping, and stops at the first page it cannot have.
  const bool write = (call.prot & PROT_WRITE) != 0 && !call.shared;
  for (uint64_t i = 0; i < length / kPage; ++i) {
    if (Touch(memory.pages.at(call.addr / kPage + i), write) != Outcome::kOk) break;
  }
  return 0;
}

int Model::Unmap(Memory& memory, uint64_t addr, uint64_t length) {
  if (!Aligned(addr) || length == 0) return EINVAL;
  Erase(memory, addr, addr + Up(length));
  return 0;
}

// Visits the mapped pages of the range; true if there were holes.
template <class Visit>
bool Model::ForEach(Memory& memory, uint64_t addr, uint64_t length, Visit&& visit) {
  const uint64_t first = addr / kPage;
  const uint64_t end = (addr + Up(length)) / kPage;
  uint64_t visited = 0;
  for (auto it = memory.pages.lower_bound(first); it != memory.pages.end() && it->first < end; ++it) {
    visit(it->second);
    ++visited;
  }
  return visited != end - first;
}

int Model::Protect(Memory& memory, uint64_t addr, uint64_t length, int prot) {
  if (!Aligned(addr)) return EINVAL;
  for (uint64_t at = addr; at < addr + Up(length); at += kPage) {
    Page* page = Find(memory, at);
    if (page == nullptr) return ENOMEM;
    page->prot = prot;
  }
  return 0;
}

int Model::Remap(Memory& memory, const RemapCall& call) {
  if (call.fixed && !call.may_move) return EINVAL;
  if (!Aligned(call.addr) || call.new_length == 0) return EINVAL;
  const uint64_t old_length = Up(call.old_length);
  const uint64_t new_length = Up(call.new_length);
  if (call.fixed) {
    if (!Aligned(call.new_addr)) return EINVAL;
    if (call.addr + old_length > call.new_addr && call.new_addr + new_length > call.addr) return EINVAL;
    if (old_length == 0 && call.addr == call.new_addr) return EINVAL;  // as 2.6.34
  }
  const Page* page = Find(memory, call.addr);
  if (page == nullptr) return EFAULT;
  if (old_length == 0 && !page->shared) return EINVAL;  // since 4.14; before, a new empty mapping
  const bool shrinks = old_length >= new_length && old_length > 0;
  const uint64_t in_one_vma = shrinks ? new_length : old_length;
  // A shrink without a move looks at nothing but the first page; what goes may be several vmas or holes.
  const bool only_unmaps = shrinks && !call.fixed;
  if (!only_unmaps && call.addr + in_one_vma > call.vma_end) return EFAULT;
  if (call.fixed) return RemapMoved(memory, call, old_length, new_length);
  if (shrinks) {
    Erase(memory, call.addr + new_length, call.addr + old_length);
    return 0;
  }
  const uint64_t end = call.addr + old_length;
  if (old_length > 0 && end == call.vma_end && !Mapped(memory, end, call.addr + new_length)) {
    for (uint64_t at = end; at < call.addr + new_length; at += kPage) {
      Page more = *page;
      more.linear += (at - call.addr) / kPage;
      more.index = more.linear;
      more.copy = nullptr;
      more.bad_pte = false;
      memory.pages.emplace(at / kPage, std::move(more));
    }
    if (page->locked) Populate(memory, end, call.addr + new_length);
    return 0;
  }
  return call.may_move ? RemapMoved(memory, call, old_length, new_length) : ENOMEM;
}

// The mapping goes to new_addr, with the pages it has; what it grows by follows in the same object.
int Model::RemapMoved(Memory& memory, const RemapCall& call, uint64_t old_length, uint64_t new_length) {
  Page first = *Find(memory, call.addr);
  std::map<uint64_t, Page> moved;
  for (uint64_t i = 0; i < new_length / kPage; ++i) {
    Page page = first;
    page.linear += i;
    page.index = page.linear;
    page.copy = nullptr;
    page.bad_pte = false;
    if (i * kPage < old_length) page = *Find(memory, call.addr + i * kPage);
    moved.emplace(call.new_addr / kPage + i, std::move(page));
  }
  Erase(memory, call.addr, call.addr + old_length);
  Erase(memory, call.new_addr, call.new_addr + new_length);
  memory.pages.merge(moved);
  if (first.locked) Populate(memory, call.new_addr + old_length, call.new_addr + new_length);
  return 0;
}

uint64_t Model::Brk(Memory& memory, uint64_t brk) {
  if (brk < memory.start_brk) return memory.brk;
  const uint64_t old_end = Up(memory.brk);
  const uint64_t new_end = Up(brk);
  if (new_end < old_end) Erase(memory, new_end, old_end);
  if (new_end > old_end) {
    if (Mapped(memory, old_end, new_end + kPage)) return memory.brk;
    Page page;
    page.prot = PROT_READ | PROT_WRITE;
    for (uint64_t at = old_end; at < new_end; at += kPage) memory.pages.emplace(at / kPage, page);
  }
  return memory.brk = brk;
}

int Model::DontNeed(Memory& memory, uint64_t addr, uint64_t length) {
  if (!Aligned(addr)) return EINVAL;
  bool locked = false;  // from the first locked page on nothing is done
  const bool hole = ForEach(memory, addr, length, [&](Page& page) {
    locked = locked || page.locked;
    if (locked) return;
    page.copy = nullptr;
    if (!page.nonlinear) page.bad_pte = false;
  });
  if (locked) return EINVAL;
  return hole ? ENOMEM : 0;
}

int Model::DontFork(Memory& memory, uint64_t addr, uint64_t length, bool dont_fork) {
  if (!Aligned(addr)) return EINVAL;
  const bool hole = ForEach(memory, addr, length, [&](Page& page) { page.dont_fork = dont_fork; });
  return hole ? ENOMEM : 0;
}

// Today's msync writes back the pages of the range (2.6.34: the whole file); no difference to contents
// but for the zeroed tail.
int Model::Sync(Memory& memory, uint64_t addr, uint64_t length) {
  if (!Aligned(addr)) return EINVAL;
  const bool hole = ForEach(memory, addr, length, [&](Page& page) {
    if (!page.shared || page.object == nullptr) return;
    if (page.nonlinear) return WriteBack(*page.object, 0, ~uint64_t{0});
    WriteBack(*page.object, page.index, page.index + 1);
  });
  return hole ? ENOMEM : 0;
}

// Pages are brought in one after the other, up to the first that cannot be had.
void Model::Populate(Memory& memory, uint64_t addr, uint64_t end) {
  for (uint64_t at = addr; at < end; at += kPage) {
    Page& page = memory.pages.at(at / kPage);
    if (page.prot == PROT_NONE) continue;
    if (Touch(page, (page.prot & PROT_WRITE) != 0 && !page.shared) != Outcome::kOk) return;
  }
}

int Model::Lock(Memory& memory, uint64_t addr, uint64_t length, bool lock) {
  const uint64_t start = addr / kPage * kPage;
  const uint64_t end = Up(addr + length);
  uint64_t stop = start;
  for (; stop < end; stop += kPage) {
    Page* page = Find(memory, stop);
    if (page == nullptr) break;
    page->locked = lock;
  }
  bool whole = stop == end;
  for (uint64_t at = start; lock && at < stop; at += kPage) {
    Page& page = memory.pages.at(at / kPage);
    const bool writes = (page.prot & PROT_WRITE) != 0 && !page.shared;
    if (page.prot != PROT_NONE && Touch(page, writes) == Outcome::kOk) continue;
    whole = false;
    break;
  }
  return whole ? 0 : ENOMEM;
}

int Model::RemapFilePages(Memory& memory, const RemapFileCall& call) {
  const uint64_t addr = call.addr / kPage * kPage;
  const uint64_t count = call.length / kPage;
  if (call.prot != 0 || count == 0 || call.vma_end == 0 || addr + count * kPage > call.vma_end) return EINVAL;
  const Page& first = *Find(memory, addr);
  if (!first.shared || first.object == nullptr) return EINVAL;
  if (!first.nonlinear && call.index == first.linear) return 0;
  for (uint64_t at = call.vma_start; at < call.vma_end; at += kPage) {
    Page& page = memory.pages.at(at / kPage);
    page.nonlinear = true;
    page.bad_pte = false;  // an entry with an offset is good now
  }
  if (rules_.remap_installs && call.index + count > first.object->size_pages()) return EINVAL;
  for (uint64_t i = 0; i < count; ++i) memory.pages.at(addr / kPage + i).index = call.index + i;
  return 0;
}

MemoryPtr Model::Fork(const Memory& parent) {
  auto child = std::make_shared<Memory>();
  child->start_brk = parent.start_brk;
  child->brk = parent.brk;
  for (const auto& [number, page] : parent.pages) {
    if (page.dont_fork) continue;
    Page mine = page;
    mine.locked = false;
    if (!mine.nonlinear)
      mine.bad_pte = false;  // entries of a shared mapping are not copied: faults make them again
    if (page.copy != nullptr) mine.copy = std::make_shared<PageBytes>(*page.copy);
    child->pages.emplace(number, std::move(mine));
  }
  return child;
}

// ---- loads and stores ----

Page* Model::Find(Memory& memory, uint64_t addr) {
  const auto found = memory.pages.find(addr / kPage);
  return found == memory.pages.end() ? nullptr : &found->second;
}

// A page becomes present: for writing, a private one gets bytes of its own.
Outcome Model::Touch(Page& page, bool write) const {
  if (page.bad_pte) return Outcome::kOom;
  if (page.copy != nullptr) return Outcome::kOk;
  if (page.past_end()) return Outcome::kSigbus;
  const bool anonymous = page.object == nullptr;
  if (!page.shared && (write || (anonymous && rules_.anon_read_allocates))) {
    page.copy = std::make_shared<PageBytes>(page.bytes());
  }
  return Outcome::kOk;
}

// The page below a growsdown mapping was accessed: the mapping grows, if it leaves a page of gap to what
// lies below. (2.6.34 wants no gap, 2.6.36 one page, today 256: mm/ says one.)
bool Model::ExpandStack(Memory& memory, uint64_t page_number) {
  const auto above = memory.pages.upper_bound(page_number);
  if (above == memory.pages.end() || !above->second.grows_down) return false;
  const uint64_t grow = above->first - page_number;
  if (page_number * kPage < kMmapMin || grow * kPage > kStackMax) return false;
  if (above != memory.pages.begin() && page_number < std::prev(above)->first + 2) return false;
  Page more = above->second;
  more.copy = nullptr;
  for (uint64_t i = 0; i < grow; ++i) memory.pages.emplace(page_number + i, more);
  return true;
}

Outcome Model::Fault(Memory& memory, uint64_t addr, bool write, std::byte** bytes) {
  if (addr >= kTaskSize) return Outcome::kSigsegv;
  Page* page = Find(memory, addr);
  if (page == nullptr) {
    if (!ExpandStack(memory, addr / kPage)) return Outcome::kSigsegv;
    page = Find(memory, addr);
  }
  // On x86 a page that may be executed or written can be read.
  if ((page->prot & (write ? PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC)) == 0) {
    return Outcome::kSigsegv;
  }
  const Outcome outcome = Touch(*page, write);
  if (outcome != Outcome::kOk) return outcome;
  if (write) *bytes = page->shared ? page->object->pages[page->index].data() : page->copy->data();
  if (!write) *bytes = const_cast<std::byte*>(page->bytes().data());
  return Outcome::kOk;
}

Access Model::Load(Memory& memory, uint64_t addr, std::span<std::byte> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    std::byte* bytes = nullptr;
    const Outcome outcome = Fault(memory, addr + i, false, &bytes);
    if (outcome != Outcome::kOk) return {outcome, addr + i};
    out[i] = bytes[(addr + i) % kPage];
  }
  return {};
}

Access Model::Store(Memory& memory, uint64_t addr, std::span<const std::byte> in) {
  for (size_t i = 0; i < in.size(); ++i) {
    std::byte* bytes = nullptr;
    const Outcome outcome = Fault(memory, addr + i, true, &bytes);
    if (outcome != Outcome::kOk) return {outcome, addr + i};
    bytes[(addr + i) % kPage] = in[i];
  }
  return {};
}

Access Model::TouchRange(Memory& memory, uint64_t addr, uint64_t length, bool write) {
  for (uint64_t at = addr; at < addr + length; at = at / kPage * kPage + kPage) {
    std::byte* bytes = nullptr;
    const Outcome outcome = Fault(memory, at, write, &bytes);
    if (outcome != Outcome::kOk) return {outcome, at};
  }
  return {};
}

// A forced write needs no write permission on a private mapping: it goes to a private copy. Forced
// writes to a read-only shared mapping were a bug of 2.6.34 and are EFAULT today.
int Model::Gup(Memory& memory, uint64_t addr, bool write, bool force, std::byte value) {
  if (Find(memory, addr) == nullptr && !ExpandStack(memory, addr / kPage)) return EFAULT;
  Page* page = Find(memory, addr);
  const bool allowed = write ? (page->prot & PROT_WRITE) != 0 || (force && !page->shared)
                             : (page->prot & PROT_READ) != 0 || force;
  if (!allowed) return EFAULT;
  const Outcome outcome = Touch(*page, write);
  if (outcome != Outcome::kOk) return outcome == Outcome::kOom ? ENOMEM : EFAULT;
  if (!write) return 0;
  (page->shared ? page->object->pages[page->index] : *page->copy)[addr % kPage] = value;
  return 0;
}

// ---- files ----

// Pages [first, end) leave every mapping; private copies only if asked.
void Model::DropPages(Object& object, uint64_t first, uint64_t end, bool drop_copies) {
  if (!drop_copies) return;
  for (const MemoryPtr& memory : memories) {
    for (auto& [number, page] : memory->pages) {
      if (page.object.get() != &object || page.index < first || page.index >= end) continue;
      page.copy = nullptr;
      page.bad_pte = false;
    }
  }
}

// A shrinking truncate takes the pages that are cut off as a whole out of every mapping, private copies
// too. A private copy of the page that the new end lies in stays as it is, tail and all.
int Model::Truncate(Object& object, uint64_t size, uint64_t limit) {
  if (size > object.size) {
    if (size > limit) return EFBIG;
    // What a mapping stored behind the old end must not come into the file.
    object.Zero(object.size, std::min(size, Up(object.size)));
    object.size = size;
    return 0;
  }
  if (size == object.size) return 0;  // 2.6.34 does nothing; ext4 of today zeroes the tail
  object.size = size;
  const uint64_t first_gone = object.size_pages();
  object.Zero(size, Up(size));
  object.pages.erase(object.pages.lower_bound(first_gone), object.pages.end());
  DropPages(object, first_gone, ~uint64_t{0}, !rules_.cow_survives_truncate);
  return 0;
}

int Model::PunchHole(Object& object, uint64_t offset, uint64_t length) {
  if (length == 0) return EINVAL;
  if (offset >= object.size) return 0;
  const uint64_t end = std::min(offset + length, Up(object.size));
  object.Zero(offset, end);
  const uint64_t first = Up(offset) / kPage;
  const uint64_t last = end / kPage;
  if (first < last) DropPages(object, first, last, rules_.punch_zaps_cow);
  return 0;
}

// What lies behind the end of the file is zeroed when its page is written to the medium.
void Model::WriteBack(Object& object, uint64_t first, uint64_t end) {
  if (!object.disk || object.size % kPage == 0) return;
  const uint64_t last = object.size / kPage;
  if (first <= last && last < end) object.Zero(object.size, Up(object.size));
}

uint64_t Model::ReadFile(const Object& object, uint64_t offset, std::span<std::byte> out) const {
  if (offset >= object.size) return 0;
  const uint64_t length = std::min<uint64_t>(out.size(), object.size - offset);
  for (uint64_t i = 0; i < length; ++i) out[i] = object.page((offset + i) / kPage)[(offset + i) % kPage];
  return length;
}

Written Model::WriteFile(Object& object, uint64_t offset, std::span<const std::byte> in, uint64_t limit) {
  if (in.empty()) return {};
  if (offset >= limit) return {0, EFBIG};
  const uint64_t length = std::min<uint64_t>(in.size(), limit - offset);
  // A gap between the old end and the write reads as zero.
  if (offset > object.size) object.Zero(object.size, std::min(offset, Up(object.size)));
  for (uint64_t i = 0; i < length; ++i) object.pages[(offset + i) / kPage][(offset + i) % kPage] = in[i];
  object.size = std::max(object.size, offset + length);
  return {length, 0};
}

}  // namespace naive
