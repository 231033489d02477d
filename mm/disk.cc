#include "mm/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/random.h"

namespace mm {
namespace {

constexpr std::string_view kGenerators[] = {"random", "text", "counter"};

constexpr PageBytes kZeros{};

void ZeroFrom(PageSpan page, uint64_t from) {
  if (from < kPageSize) std::memset(page.data() + from, 0, kPageSize - from);
}

class EmptyContent final : public Content {
 public:
  SysResult<void> ReadPage(Pgoff, PageSpan page) const override {
    ZeroFrom(page, 0);
    return {};
  }
};

class GeneratedContent final : public Content {
 public:
  GeneratedContent(std::string_view generator, uint64_t seed, uint64_t size)
      : generator_(generator), seed_(seed), size_(size) {}

  SysResult<void> ReadPage(Pgoff index, PageSpan page) const override {
    const uint64_t start = index * kPageSize;
    if (start >= size_) {
      ZeroFrom(page, 0);
      return {};
    }
    Generate(index, page);
    ZeroFrom(page, size_ - start);
    return {};
  }
  bool never_zero() const override { return true; }

 private:
  void Generate(Pgoff index, PageSpan page) const {
    base::Random random(base::Mix64(seed_) ^ index);
    if (generator_ == "text") {
      static constexpr std::string_view kWords[] = {"page ",    "frame ", "fault ", "truncate ",
                                                    "mapping ", "index ", "clean ", "dirty ",
                                                    "swap ",    "vma ",   "rmap ",  "\n"};
      size_t at = 0;
      while (at < kPageSize) {
        const std::string_view word = kWords[random.Below(std::size(kWords))];
        const size_t length = std::min(word.size(), kPageSize - at);
        std::memcpy(page.data() + at, word.data(), length);
        at += length;
      }
      return;
    }
    for (size_t at = 0; at < kPageSize; at += 8) {
      const uint64_t word =
          generator_ == "counter" ? (index * kPageSize + at) ^ base::Mix64(seed_) : random.Next();
      std::memcpy(page.data() + at, &word, 8);
    }
  }

  std::string generator_;
  uint64_t seed_;
  uint64_t size_;
};

class RealContent final : public Content {
 public:
  RealContent(int fd, uint64_t size) : fd_(fd), size_(size) {}
  ~RealContent() override { close(fd_); }

  SysResult<void> ReadPage(Pgoff index, PageSpan page) const override {
    const uint64_t start = index * kPageSize;
    const size_t wanted = start < size_ ? std::min<uint64_t>(kPageSize, size_ - start) : 0;
    size_t done = 0;
    while (done < wanted) {
      const ssize_t got = pread(fd_, page.data() + done, wanted - done, static_cast<off_t>(start + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return Err(EIO);  // A file that shrank under us is not the one that was recorded.
      done += static_cast<size_t>(got);
    }
    ZeroFrom(page, done);
    return {};
  }

  Pgoff NextData(Pgoff index) const override {
    const off_t data = lseek(fd_, static_cast<off_t>(index * kPageSize), SEEK_DATA);
    if (data >= 0) return static_cast<Pgoff>(data) / kPageSize;
    // No data up to the end of the file: behind that it was cut, and cannot be read.
    struct stat st;
    if (errno != ENXIO || fstat(fd_, &st) != 0) return index;
    return std::max(index, static_cast<uint64_t>(st.st_size) / kPageSize);
  }

 private:
  int fd_;
  uint64_t size_;
};

base::Result<OpenedContent> OpenReal(const Recipe& recipe) {
  const std::string name = base::Printable(recipe.path);
  const int fd = open(recipe.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return base::FailErrno(errno, "open file '%s'", name.c_str());
  struct stat st;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    close(fd);
    return base::Fail(base::Code::kInvalid, "open file '%s': not a regular file", name.c_str());
  }
  Recipe found = recipe;
  found.size = static_cast<uint64_t>(st.st_size);
  found.device = st.st_dev;
  found.inode = st.st_ino;
  found.mtime_ns = int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
  return OpenedContent{found, std::make_unique<RealContent>(fd, found.size)};
}

}  // namespace

std::span<const std::string_view> GeneratorNames() { return kGenerators; }

base::Result<OpenedContent> OpenContent(const Recipe& recipe) {
  switch (recipe.kind) {
    case Recipe::Kind::kEmpty: return OpenedContent{recipe, std::make_unique<EmptyContent>()};
    case Recipe::Kind::kReal: return OpenReal(recipe);
    case Recipe::Kind::kFolder: break;
    case Recipe::Kind::kGenerated:
      if (std::ranges::find(kGenerators, recipe.generator) == std::end(kGenerators)) {
        return base::Fail(base::Code::kInvalid,
                          "there is no generator '%s': there are random, text and counter",
                          base::Printable(recipe.generator).c_str());
      }
      return OpenedContent{recipe,
                           std::make_unique<GeneratedContent>(recipe.generator, recipe.seed, recipe.size)};
  }
  return base::Fail(base::Code::kInvalid, "'%s' is kept in a disk folder: say which with --disk",
                    base::Printable(recipe.path).c_str());
}

OverlayDisk::OverlayDisk(OpenedContent base) : base_(std::move(base)), recipe_end_(base_.recipe.size) {}

OverlayDisk::OverlayDisk(OpenedContent base, uint64_t recipe_end)
    : base_(std::move(base)), recipe_end_(std::min(recipe_end, base_.recipe.size)) {}

SysResult<void> OverlayDisk::ReadBase(Pgoff index, PageSpan page) const {
  const uint64_t start = index * kPageSize;
  if (start >= recipe_end_) {
    ZeroFrom(page, 0);
    return {};
  }
  SYS_TRY_VOID(base_.content->ReadPage(index, page));
  ZeroFrom(page, recipe_end_ - start);
  return {};
}

SysResult<void> OverlayDisk::ReadPage(Pgoff index, PageSpan page) const {
  const auto found = pages_.find(index);
  if (found != pages_.end()) {
    std::memcpy(page.data(), found->second->data(), kPageSize);
    return {};
  }
  if (!InHole(index)) return ReadBase(index, page);
  ZeroFrom(page, 0);
  return {};
}

bool OverlayDisk::InHole(Pgoff index) const {
  const auto after = holes_.upper_bound(index);
  return after != holes_.begin() && index < std::prev(after)->second;
}

PageSpan OverlayDisk::PlacePage(Pgoff index) {
  std::unique_ptr<PageBytes>& slot = pages_[index];
  if (slot == nullptr) slot = std::make_unique<PageBytes>();
  return *slot;
}

SysResult<void> OverlayDisk::WritePage(Pgoff index, ConstPageSpan page) {
  std::memcpy(PlacePage(index).data(), page.data(), kPageSize);
  return {};
}

SysResult<void> OverlayDisk::Truncate(uint64_t size) {
  const Pgoff first_gone = base::PagesFor(size);
  pages_.erase(pages_.lower_bound(first_gone), pages_.end());
  const auto partial = pages_.find(size / kPageSize);
  if (partial != pages_.end()) ZeroFrom(*partial->second, size % kPageSize);
  recipe_end_ = std::min(recipe_end_, size);
  const Pgoff base_end = base::PagesFor(recipe_end_);
  holes_.erase(holes_.lower_bound(base_end), holes_.end());
  if (!holes_.empty()) holes_.rbegin()->second = std::min(holes_.rbegin()->second, base_end);
  return {};
}

SysResult<void> OverlayDisk::PunchHole(Pgoff first, Pgoff end) {
  if (first >= end) return {};
  pages_.erase(pages_.lower_bound(first), pages_.lower_bound(end));
  if (base_.recipe.kind == Recipe::Kind::kEmpty) return {};  // zeros already
  end = std::min(end, base::PagesFor(recipe_end_));
  if (first >= end) return {};
  auto next = holes_.upper_bound(first);
  if (next != holes_.begin() && std::prev(next)->second >= first) first = (--next)->first;
  while (next != holes_.end() && next->first <= end) {
    end = std::max(end, next->second);
    next = holes_.erase(next);
  }
  holes_.emplace(first, end);
  return {};
}

void OverlayDisk::VisitHoles(Pgoff first, Pgoff end, const ChangedFn& visit) const {
  auto hole = holes_.upper_bound(first);
  if (hole != holes_.begin()) --hole;
  const Pgoff sure_end = base_.content->never_zero() ? recipe_end_ / kPageSize : 0;
  PageBytes made;
  for (; hole != holes_.end() && hole->first < end; ++hole) {
    Pgoff index = std::max(first, hole->first);
    const Pgoff stop = std::min(end, hole->second);
    if (const Pgoff sure = std::min(stop, sure_end); index < sure) {
      visit(index, sure - index, nullptr);
      index = sure;
    }
    for (; index < stop && (index = base_.content->NextData(index)) < stop; ++index) {
      if (!ReadBase(index, made) || made != kZeros) visit(index, 1, nullptr);
    }
  }
}

SysResult<void> OverlayDisk::ForEachChanged(const ChangedFn& visit) const {
  PageBytes made;
  Pgoff next = 0;
  for (const auto& [index, page] : pages_) {
    VisitHoles(next, index, visit);
    // What cannot be read any more cannot be proved to be the same.
    if (!ReadBase(index, made) || *page != made) visit(index, 1, page->data());
    next = index + 1;
  }
  VisitHoles(next, ~Pgoff{0}, visit);
  return {};
}

}  // namespace mm
