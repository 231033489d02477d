// Disk: the medium that a modelled file lives on. Real files of the system are only ever read.
//
// OverlayDisk keeps what the model wrote apart from how the file's first content is made again
// (its Recipe), so that an image can hold the recipe and the pages that differ from it.
// FolderDisk (folder_disk.h) keeps the file in a folder instead.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/container/btree_map.h"
#include "base/error.h"
#include "mm/types.h"

namespace mm {

using PageBytes = std::array<std::byte, kPageSize>;
using PageSpan = std::span<std::byte, kPageSize>;
using ConstPageSpan = std::span<const std::byte, kPageSize>;

// How a file's first content can be made again, and how to know that it is the same.
struct Recipe {
  enum class Kind : uint8_t { kEmpty, kGenerated, kReal, kFolder };
  Kind kind = Kind::kEmpty;
  uint64_t size = 0;      // bytes that the recipe makes; what lies behind is zero
  std::string generator;  // kGenerated: a name of GeneratorNames()
  uint64_t seed = 0;
  std::string path;  // kReal: absolute; kFolder: relative to the folder
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t mtime_ns = 0;
  std::string build_id;  // bytes of NT_GNU_BUILD_ID, empty where there is none
  friend bool operator==(const Recipe&, const Recipe&) = default;
};

// Names of the generators: "random" (incompressible), "text" (words), "counter" (each 8-byte word
// is its own offset mixed with the seed).
std::span<const std::string_view> GeneratorNames();

// What a recipe makes, page by page.
class Content {
 public:
  virtual ~Content() = default;
  // The bytes of page `index`, zero beyond the recipe's size. EIO when the source cannot be read.
  virtual SysResult<void> ReadPage(Pgoff index, PageSpan page) const = 0;
  // The first page at or behind `index` that may be other than zeros or cannot be read.
  virtual Pgoff NextData(Pgoff index) const { return index; }
  // Whether no whole page below the recipe's size is zeros: a hole in it need not be compared.
  virtual bool never_zero() const { return false; }
};

// Opens the content of a kEmpty, kGenerated or kReal recipe. A kReal recipe is opened at its path;
// the recipe comes back with the identity (device, inode, size, mtime) of what is there now.
// kNotFound, kIo, or kInvalid for an unknown generator or a path that is not a regular file.
struct OpenedContent {
  Recipe recipe;
  std::unique_ptr<Content> content;
};
base::Result<OpenedContent> OpenContent(const Recipe& recipe);

class Disk {
 public:
  // One page, or `count` pages of zeros: `bytes` is nullptr then.
  using ChangedFn = std::function<void(Pgoff first, uint64_t count, const std::byte* bytes)>;

  virtual ~Disk() = default;
  virtual SysResult<void> ReadPage(Pgoff index, PageSpan page) const = 0;
  virtual SysResult<void> WritePage(Pgoff index, ConstPageSpan page) = 0;
  // Whether Truncate(size) can be done: asked before anything of the file is given up.
  virtual SysResult<void> CanTruncate(uint64_t) const { return {}; }
  // The file ends at `size`: bytes at and above it are gone, and read as zero if it grows again.
  virtual SysResult<void> Truncate(uint64_t size) = 0;
  // Pages [first, end) read as zero from now on.
  virtual SysResult<void> PunchHole(Pgoff first, Pgoff end) = 0;
  // Makes what was written durable. EIO is what fsync would answer.
  virtual SysResult<void> Sync() { return {}; }
  // The recipe, and the offset at and above which its bytes were cut off.
  virtual Recipe recipe() const = 0;
  virtual uint64_t recipe_end() const { return recipe().size; }
  // Visits the pages that differ from the recipe cut at recipe_end(), ascending.
  virtual SysResult<void> ForEachChanged(const ChangedFn& visit) const = 0;
};

class OverlayDisk final : public Disk {
 public:
  explicit OverlayDisk(OpenedContent base);
  // As it was when an image was made: the recipe is good below `recipe_end`.
  OverlayDisk(OpenedContent base, uint64_t recipe_end);

  SysResult<void> ReadPage(Pgoff index, PageSpan page) const override;
  SysResult<void> WritePage(Pgoff index, ConstPageSpan page) override;
  SysResult<void> Truncate(uint64_t size) override;
  SysResult<void> PunchHole(Pgoff first, Pgoff end) override;
  // Room for page `index`, to be filled by the caller: how a restart puts written pages back.
  PageSpan PlacePage(Pgoff index);
  Recipe recipe() const override { return base_.recipe; }
  uint64_t recipe_end() const override { return recipe_end_; }
  SysResult<void> ForEachChanged(const ChangedFn& visit) const override;

 private:
  SysResult<void> ReadBase(Pgoff index, PageSpan page) const;
  bool InHole(Pgoff index) const;
  // Visits what holes change in [first, end), where no page was written since.
  void VisitHoles(Pgoff first, Pgoff end, const ChangedFn& visit) const;

  OpenedContent base_;
  uint64_t recipe_end_;
  // What was written, over holes as well.
  absl::btree_map<Pgoff, std::unique_ptr<PageBytes>> pages_;
  // Where the recipe was punched: first page to end, all below recipe_end_, no two touch.
  absl::btree_map<Pgoff, Pgoff> holes_;
};

}  // namespace mm
