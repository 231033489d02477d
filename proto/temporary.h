// Temporary files ".NAME.ckpt-XXXXXX" beside the file NAME that they become: each is locked by the one who
// writes it, so that what a killed writer left is told from what a living one is writing.
//
//   T1  A temporary file is locked (flock) before its first byte is written, until it has got its name or is
//   gone. T2  Only who holds its lock removes one, and only while its name still leads to the file that is
//   locked. T3  Its maker may find, once it has the lock, that it was removed between the two: then it makes
//   another.
//
// A file system without locks has temporary files that nobody can lock: they are written all the same, and
// none is ever removed by another.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "proto/file_calls.h"

namespace image {

struct Temporary {
  int fd = -1;
  std::string path;
};

// Whether a file of this name is taken for a temporary one.
bool IsTemporaryName(std::string_view name);

// A new one, locked, readable by its owner alone. kIo or kNotFound with the system's words alone, and nothing
// left.
base::Result<Temporary> MakeTemporary(FileCalls& calls, const std::string& folder, const std::string& name);

// Removes those of `name` that are regular files of this user with no rights for others, and that nobody has
// locked. One that cannot be removed stays.
void RemoveStrays(FileCalls& calls, const std::string& folder, const std::string& name);

}  // namespace image
