// What comes through a pipe, as a file without a name: it is read once, from its start to its end, before
// anything is looked at, so that who reads it can start at the end, as an image is read, and a pipe that is
// cut is seen.
#pragma once

#include <atomic>

#include "base/error.h"
#include "base/fd.h"

namespace image {

// All that `fd` gives until its end. The file is in $TMPDIR, or in /tmp; in memory where that folder can have
// none without a name. A FIFO that nobody has opened for writing yet is waited for. `stop` is polled:
// kInterrupted once it is true; without one, at the first signal that is caught.
base::Result<base::Fd> Spool(int fd, const std::atomic<bool>* stop);

}  // namespace image
