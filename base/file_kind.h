// What kind of file a name leads to, in words for error lines.
#pragma once

#include <sys/stat.h>

namespace base {

// "a directory", "a pipe": by S_IFMT of st_mode.
const char* FileKindName(mode_t mode);

}  // namespace base
