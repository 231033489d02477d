// A disk in memory whose operations fail on request, and that counts what it is asked to do.
#pragma once

#include <map>
#include <set>
#include <string>

#include "mm/disk.h"

namespace mm {

class FailingDisk final : public Disk {
 public:
  SysResult<void> ReadPage(Pgoff index, PageSpan page) const override {
    if (bad_reads.contains(index)) return Err(EIO);
    ++reads;
    const auto found = pages.find(index);
    const std::string bytes = found == pages.end() ? std::string(kPageSize, '\0') : found->second;
    std::copy_n(reinterpret_cast<const std::byte*>(bytes.data()), kPageSize, page.begin());
    return {};
  }
  SysResult<void> WritePage(Pgoff index, ConstPageSpan page) override {
    if (bad_writes.contains(index)) return Err(EIO);
    pages[index] = std::string(reinterpret_cast<const char*>(page.data()), kPageSize);
    return {};
  }
  SysResult<void> CanTruncate(uint64_t) const override {
    return bad_truncate ? SysResult<void>(Err(EIO)) : SysResult<void>();
  }
  SysResult<void> Truncate(uint64_t size) override {
    if (bad_truncate) return Err(EIO);
    pages.erase(pages.lower_bound(base::PagesFor(size)), pages.end());
    const auto partial = pages.find(size / kPageSize);
    if (partial != pages.end()) {
      partial->second.resize(size % kPageSize);
      partial->second.resize(kPageSize, '\0');
    }
    return {};
  }
  SysResult<void> PunchHole(Pgoff first, Pgoff end) override {
    if (bad_truncate) return Err(EIO);
    pages.erase(pages.lower_bound(first), pages.lower_bound(end));
    return {};
  }
  SysResult<void> Sync() override {
    ++syncs;
    if (bad_sync) return Err(EIO);
    return {};
  }
  Recipe recipe() const override { return {}; }
  SysResult<void> ForEachChanged(const ChangedFn& visit) const override {
    for (const auto& [index, bytes] : pages)
      visit(index, 1, reinterpret_cast<const std::byte*>(bytes.data()));
    return {};
  }

  std::map<Pgoff, std::string> pages;
  std::set<Pgoff> bad_reads;
  std::set<Pgoff> bad_writes;
  bool bad_truncate = false;
  bool bad_sync = false;
  mutable int reads = 0;
  int syncs = 0;
};

}  // namespace mm
