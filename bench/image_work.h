// Dump and restore as the benchmarks of images and of memory call them.
#pragma once

#include <memory>
#include <string>

#include "ckpt/dump.h"
#include "mm/machine.h"

namespace bench {

// All processes of the machine, level 1 unless `options` say otherwise, --no-sync.
ckpt::DumpReport DumpTo(mm::Machine& machine, const std::string& path, ckpt::DumpOptions options = {});
std::unique_ptr<mm::Machine> RestoreFrom(const std::string& path);

}  // namespace bench
