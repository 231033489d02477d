#include "workload/outcome.h"

#include <array>
#include <utility>

namespace workload {
namespace {

constexpr std::pair<int, std::string_view> kErrnos[] = {
    {ENOENT, "ENOENT"}, {EIO, "EIO"},       {E2BIG, "E2BIG"},   {ENOEXEC, "ENOEXEC"},     {EBADF, "EBADF"},
    {EAGAIN, "EAGAIN"}, {ENOMEM, "ENOMEM"}, {EACCES, "EACCES"}, {EFAULT, "EFAULT"},       {EBUSY, "EBUSY"},
    {EEXIST, "EEXIST"}, {ENODEV, "ENODEV"}, {EINVAL, "EINVAL"}, {ETXTBSY, "ETXTBSY"},     {EFBIG, "EFBIG"},
    {ENOSPC, "ENOSPC"}, {ENOSYS, "ENOSYS"}, {EPERM, "EPERM"},   {EOVERFLOW, "EOVERFLOW"}, {ENOMSG, "ENOMSG"},
};
constexpr std::string_view kOthers[] = {kOk, "SIGBUS", "SIGSEGV", "OOM", "SIGXFSZ"};

}  // namespace

bool IsOutcome(std::string_view name) {
  for (const std::string_view other : kOthers) {
    if (name == other) return true;
  }
  for (const auto& [number, text] : kErrnos) {
    if (name == text) return true;
  }
  return false;
}

std::string OutcomeNames() {
  std::string all;
  for (const std::string_view other : kOthers) all += std::string(other) + ", ";
  for (const auto& [number, text] : kErrnos) all += std::string(text) + ", ";
  all.resize(all.size() - 2);
  return all;
}

std::string ErrnoName(int error_number) {
  for (const auto& [number, text] : kErrnos) {
    if (number == error_number) return std::string(text);
  }
  return base::Format("errno %d", error_number);
}

std::string_view OutcomeName(mm::Outcome outcome) {
  switch (outcome) {
    case mm::Outcome::kOk: return kOk;
    case mm::Outcome::kSigsegv: return "SIGSEGV";
    case mm::Outcome::kSigbus: return "SIGBUS";
    case mm::Outcome::kOom: return "OOM";
  }
  return "unknown";
}

std::string OutcomeName(mm::SysError error) {
  if (error.sig == SIGXFSZ) return "SIGXFSZ";
  return ErrnoName(error.err);
}

std::string OutcomeName(const base::Error& error) {
  switch (error.code) {
    case base::Code::kInvalid: return "ENOEXEC";
    case base::Code::kNotFound:
    case base::Code::kUnsupported:
    case base::Code::kBusy:
    case base::Code::kWrongType:
    case base::Code::kTooBig:
    case base::Code::kNoMemory:
    case base::Code::kFault: return std::string(base::CodeName(error.code));
    case base::Code::kIo:
    case base::Code::kCorrupt:
    case base::Code::kIncomplete:
    case base::Code::kChanged:
    case base::Code::kExpectation:
    case base::Code::kInterrupted: break;
  }
  return "";
}

}  // namespace workload
