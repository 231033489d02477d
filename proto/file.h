// The two files behind an image: one that is written beside its final place and published whole, or to
// standard output; and one that is read at offsets.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/fd.h"
#include "proto/file_calls.h"

namespace image {

enum class Sync { kYes, kNo };

// The name that stands for standard output where an image is written, and for standard input where one is
// read.
inline constexpr std::string_view kStandardStream = "-";
// What an image that is read is called in messages: "standard input", or its path.
std::string InputName(const std::string& path);

// A file that appears under its name only when it is complete. Until Publish its bytes are in a temporary
// file ".NAME.ckpt-XXXXXX" in the same folder, readable by its owner alone (memory holds secrets), and the
// destructor removes it. A symbolic link is followed: the file that it names is replaced.
//
// Wherever a process ends in this, or the power: under the name there is the old file or the new one, whole,
// and what else it leaves is a temporary file that the next Create of that name removes (proto/temporary.h).
class OutputFile {
 public:
  // kInvalid if something that is not a regular file has this name, or if it is the name of a temporary file.
  static base::Result<std::unique_ptr<OutputFile>> Create(const std::string& path);
  // The error that Create would give now; nothing stays behind.
  static base::Result<void> Check(const std::string& path);

  // Standard output, where each byte goes at once: what has arrived before an error or an end is an image
  // without its footer. kInvalid for a terminal, and if it is not open for writing. `stop` is polled while a
  // reader takes its time: kInterrupted once it is true. A pipe that nobody reads any more is an error if
  // SIGPIPE is ignored.
  static base::Result<std::unique_ptr<OutputFile>> StandardOutput(const std::atomic<bool>* stop = nullptr);
  // The error that StandardOutput would give now.
  static base::Result<void> CheckStandardOutput();

  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  base::Result<void> Append(std::string_view bytes);
  uint64_t offset() const { return offset_; }

  // fsync, rename, fsync of the folder; without the fsyncs for Sync::kNo. An error of the last step leaves
  // the new file in place, and says that it is written; any other one leaves everything as it was. Of
  // standard output: fsync, where it is something that can be synced.
  base::Result<void> Publish(Sync sync);

 private:
  OutputFile() = default;
  static base::Result<std::unique_ptr<OutputFile>> Place(const std::string& path);
  int SyncAll(int fd);
  base::Result<void> Rename(Sync sync);
  base::Result<void> SyncFolder();
  base::Result<void> WaitForReader() const;

  FileCalls& calls_ = Calls();
  std::string shown_;      // The name that the user gave, for messages.
  std::string path_;       // Where it goes.
  std::string temporary_;  // Empty once published, and for standard output.
  std::string folder_;
  std::string name_;
  bool waits_ = false;                       // Bytes go to a reader, who may be slow.
  const std::atomic<bool>* stop_ = nullptr;  // of standard output
  int fd_ = -1;
  uint64_t offset_ = 0;
};

// A file that is read at offsets; several threads may.
class InputFile {
 public:
  // A regular file, or a pipe, which is read to its end before Open returns (proto/spool.h): a FIFO, what a
  // shell puts in the place of <(...), standard input. kInvalid for anything else, a terminal included. Of
  // standard input what is left of it is read: also a regular file is spooled if it is not at its start, or a
  // socket.
  static base::Result<std::unique_ptr<InputFile>> Open(const std::string& path,
                                                       const std::atomic<bool>* stop = nullptr);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  uint64_t size() const { return size_; }
  // When it was written, in nanoseconds since 1970.
  int64_t mtime_ns() const { return mtime_ns_; }
  // All of `out`, or an error: kIncomplete if the file has become shorter.
  base::Result<void> ReadAt(uint64_t offset, std::span<std::byte> out) const;
  // `count` bytes; the caller has capped it.
  base::Result<std::string> ReadAt(uint64_t offset, uint64_t count) const;

  // The first and the last bytes, as many as image::IsImage takes: it looks at them, and a file that is no
  // image is kInvalid.
  struct Ends {
    std::string head;
    std::string tail;
  };
  base::Result<Ends> ReadEnds() const;

 private:
  InputFile(base::Fd fd, uint64_t size) : fd_(std::move(fd)), size_(size) {}

  base::Fd fd_;
  uint64_t size_;
  int64_t mtime_ns_ = 0;
};

// Whether a regular file of this name begins with the magics of an image, or ends with a footer's: for the
// error of one who expected something else. Nothing is read from a pipe.
bool IsImageFile(const std::string& path);

}  // namespace image
