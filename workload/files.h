// The files of a machine, made as a workload describes them.
#pragma once

#include <string>

#include "base/error.h"
#include "mm/machine.h"
#include "proto/workload.pb.h"

namespace workload {

// Makes a file of the machine. With an empty `disk_dir` what the model writes goes to an overlay in
// memory; else the file is made in that folder (mm/folder_disk.h). A real file of the system is read
// and never written, in both cases. Errors: those of mm::OpenContent and mm::FolderDisk::Create.
// Requires: `spec` was checked, and no file of the machine has its name.
base::Result<mm::FilePtr> MakeFile(mm::Machine& machine, const ckpt_pb::Workload::File& spec,
                                   const std::string& disk_dir);

// The file that stands for the real one at `path`, under that name: made on the first call, with an
// overlay. Its recipe has the build-id if it is an ELF file that has one.
base::Result<mm::FilePtr> RealFile(mm::Machine& machine, const std::string& path);

}  // namespace workload
