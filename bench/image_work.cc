#include "bench/image_work.h"

#include "bench/bench.h"
#include "ckpt/model_source.h"
#include "restore/model_sink.h"
#include "restore/restore.h"

namespace bench {

ckpt::DumpReport DumpTo(mm::Machine& machine, const std::string& path, ckpt::DumpOptions options) {
  ckpt::ModelSource source(machine, {});
  options.write.sync = image::Sync::kNo;
  return Must(ckpt::Dump(source, path, options));
}

std::unique_ptr<mm::Machine> RestoreFrom(const std::string& path) {
  const auto reader = Must(image::Reader::Open(path));
  const auto sink = Must(restore::ModelSink::Create(reader->machine(), ""));
  Must(restore::Restore(*reader, *sink, {}));
  return sink->TakeMachine();
}

}  // namespace bench
