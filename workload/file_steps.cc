// Steps on files: read, write, truncate, hole punch, fsync, unlink, create.
#include <algorithm>
#include <cstring>
#include <vector>

#include "mm/folder_disk.h"
#include "workload/files.h"
#include "workload/fill.h"
#include "workload/session.h"

namespace workload {
namespace {

constexpr size_t kPieceBytes = 64 * base::kPageSize;  // moved between two looks at the stop flag

}  // namespace

base::Result<StepResult> DoRead(StepContext& context, const ckpt_pb::Step::Read& op) {
  const mm::FilePtr file = TRY(FindFile(context, op.file()));
  const uint64_t offset = SizeOr(op.offset(), 0);
  const uint64_t rest = file->i_size > offset ? file->i_size - offset : 0;
  StepResult result;
  result.bytes = 0;
  result.bytes_wanted = SizeOr(op.length(), rest);
  std::optional<Filler> filler;
  if (op.has_equals()) filler.emplace(op.equals(), 0, offset);
  std::vector<std::byte> got(std::min<uint64_t>(kPieceBytes, result.bytes_wanted));
  std::vector<std::byte> wanted(got.size());
  while (*result.bytes < result.bytes_wanted) {
    TRY_VOID(CheckStop(context.session));
    const uint64_t at = offset + *result.bytes;
    const auto piece =
        std::span(got).first(std::min<uint64_t>(got.size(), result.bytes_wanted - *result.bytes));
    const auto moved = generic_file_read(context.machine(), *file, at, piece);
    context.Tell({Call::Op::kPread, {at, piece.size()}, file.get(), piece, AnswerOf(moved)});
    if (!moved && *result.bytes == 0) return Failed(moved.error());
    if (!moved || *moved == 0) break;
    *result.bytes += *moved;
    if (!filler) continue;
    filler->Make(at, std::span(wanted).first(*moved));
    if (std::memcmp(got.data(), wanted.data(), *moved) == 0) continue;
    const auto differ = std::mismatch(got.begin(), got.end(), wanted.begin());
    result.mismatch = base::Format(
        "the byte at %#llx of file '%s' is 0x%02x, expected 0x%02x",
        static_cast<unsigned long long>(at) + static_cast<unsigned long long>(differ.first - got.begin()),
        op.file().c_str(), std::to_integer<unsigned>(*differ.first),
        std::to_integer<unsigned>(*differ.second));
    return result;
  }
  return result;
}

base::Result<StepResult> DoWrite(StepContext& context, const ckpt_pb::Step::Write& op) {
  const mm::FilePtr file = TRY(FindFile(context, op.file()));
  const uint64_t offset = SizeOr(op.offset(), 0);
  StepResult result;
  result.bytes = 0;
  result.bytes_wanted = SizeOr(op.length(), 0);
  Filler filler(op.fill(), context.SeedFor(1), offset);
  std::vector<std::byte> bytes(std::min<uint64_t>(kPieceBytes, result.bytes_wanted));
  while (*result.bytes < result.bytes_wanted) {
    TRY_VOID(CheckStop(context.session));
    const uint64_t at = offset + *result.bytes;
    const auto piece =
        std::span(bytes).first(std::min<uint64_t>(bytes.size(), result.bytes_wanted - *result.bytes));
    filler.Make(at, piece);
    const auto moved = generic_file_write(context.machine(), *file, at, piece, context.process.rlimit_fsize);
    context.Tell({Call::Op::kPwrite, {at, piece.size()}, file.get(), piece, AnswerOf(moved)});
    if (!moved && *result.bytes == 0) return Failed(moved.error());
    if (!moved || *moved == 0) break;
    *result.bytes += *moved;
  }
  return result;
}

base::Result<StepResult> DoTruncate(StepContext& context, const ckpt_pb::Step::Truncate& op) {
  const mm::FilePtr file = TRY(FindFile(context, op.file()));
  const uint64_t size = SizeOr(op.size(), 0);
  const auto done = vmtruncate(context.machine(), *file, size, context.process.rlimit_fsize);
  context.Tell({Call::Op::kFtruncate, {size}, file.get(), {}, AnswerOf(done)});
  return ResultOf(done);
}

base::Result<StepResult> DoPunchHole(StepContext& context, const ckpt_pb::Step::PunchHole& op) {
  const mm::FilePtr file = TRY(FindFile(context, op.file()));
  const uint64_t offset = SizeOr(op.offset(), 0);
  const uint64_t length = SizeOr(op.length(), 0);
  const auto done = punch_hole(context.machine(), *file, offset, length);
  context.Tell({Call::Op::kPunchHole, {offset, length}, file.get(), {}, AnswerOf(done)});
  return ResultOf(done);
}

base::Result<StepResult> DoFsync(StepContext& context, const ckpt_pb::Step::Fsync& op) {
  const mm::FilePtr file = TRY(FindFile(context, op.file()));
  const auto done = vfs_fsync(context.machine(), *file);
  context.Tell({Call::Op::kFsync, {}, file.get(), {}, AnswerOf(done)});
  return ResultOf(done);
}

base::Result<StepResult> DoUnlink(StepContext& context, const ckpt_pb::Step::Unlink& op) {
  const mm::FilePtr file = TRY(FindFile(context, op.file()));
  if (auto* disk = dynamic_cast<mm::FolderDisk*>(file->disk())) {
    const auto gone = disk->Unlink();
    if (!gone) return Failed(gone.error());
  }
  context.machine().unlink(file);
  context.Tell({.op = Call::Op::kUnlink, .file = file.get()});
  return StepResult{};
}

base::Result<StepResult> DoCreate(StepContext& context, const ckpt_pb::Step::Create& op) {
  const mm::FilePtr file = TRY(MakeFile(context.machine(), op.file(), context.session.disk_dir));
  context.Tell({.op = Call::Op::kCreate, .file = file.get()});
  return StepResult{};
}

}  // namespace workload
