// FolderDisk: a modelled file kept as a real file of the same name in a folder (`--disk DIR`).
//
// The file is written in place, page by page, and holds what was written back, not what is only in
// the page cache. Names are single path components: nothing outside the folder can be reached.
//
// Several checkpoints and restores may use one folder, one after the other. A run that starts makes
// its files new and refuses a name that is taken, so that it never overwrites a file that an image
// relies on; a restore opens the files that are there.
#pragma once

#include <memory>
#include <string>

#include "mm/disk.h"

namespace mm {

class FolderDisk final : public Disk {
 public:
  // Makes FOLDER/NAME with the bytes of `content`; pages of zeros stay holes. The folder is made if
  // it is missing (its parent must be there). kInvalid for a name that is not a plain file name,
  // kIo if the name is taken or the file cannot be written; then nothing new is left in the folder.
  static base::Result<std::unique_ptr<FolderDisk>> Create(const std::string& folder, const std::string& name,
                                                          const OpenedContent& content);
  // Opens a file that is there, for reading and writing. kNotFound, kIo; kInvalid for a bad name or
  // for what is not a regular file (a symbolic link is not).
  static base::Result<std::unique_ptr<FolderDisk>> Open(const std::string& folder, const std::string& name);
  ~FolderDisk() override;
  FolderDisk(const FolderDisk&) = delete;
  FolderDisk& operator=(const FolderDisk&) = delete;

  // What lies behind the end of the file reads as zero.
  SysResult<void> ReadPage(Pgoff index, PageSpan page) const override;
  // A page that reaches past the end lengthens the file up to its last byte that is not zero: the
  // caller who knows the exact length sets it with Truncate.
  SysResult<void> WritePage(Pgoff index, ConstPageSpan page) override;
  SysResult<void> Truncate(uint64_t size) override;
  // A hole where the filesystem can make one, zeros where it cannot.
  SysResult<void> PunchHole(Pgoff first, Pgoff end) override;
  SysResult<void> Sync() override;
  // kFolder with the file's name, and its identity as it is now.
  Recipe recipe() const override;
  // Nothing: the recipe is the whole file.
  SysResult<void> ForEachChanged(const ChangedFn& visit) const override;

  // Takes the name out of the folder; the open file lives on (unlink(2)).
  SysResult<void> Unlink();

 private:
  FolderDisk(int fd, std::string folder, std::string name, uint64_t size)
      : fd_(fd), folder_(std::move(folder)), name_(std::move(name)), size_(size) {}
  SysResult<void> WriteAt(uint64_t offset, std::span<const std::byte> bytes);
  SysResult<void> CopyFrom(const OpenedContent& content);

  int fd_;
  std::string folder_;
  std::string name_;
  uint64_t size_;  // the file's length
};

}  // namespace mm
