// CheckStepFields: each step by itself.
#include <cmath>

#include "base/units.h"
#include "mm/disk.h"
#include "proto/workload.pb.h"
#include "workload/outcome.h"
#include "workload/script.h"
#include "workload/script_check.h"

namespace workload {
namespace {

using ckpt_pb::Step;

bool IsProt(const std::string& prot) {
  return prot.size() == 3 && (prot[0] == 'r' || prot[0] == '-') && (prot[1] == 'w' || prot[1] == '-') &&
         (prot[2] == 'x' || prot[2] == '-');
}

base::Result<void> CheckProt(const Located& op, const std::string& prot) {
  if (IsProt(prot)) return {};
  return op.Wrong(
      "prot",
      base::Format("prot: '%s' is not a protection; expected three of r, w, x or '-', such as \"rw-\"",
                   base::Printable(prot).c_str()));
}

base::Result<void> Require(const Located& op, const std::string& value, const char* field,
                           const char* meaning) {
  if (!value.empty()) return {};
  return op.Wrong(base::Format("%s is missing: %s", field, meaning));
}

// `region` with an offset, or `addr` with a length.
template <class Op>
base::Result<void> CheckRange(const Located& located, const Op& op) {
  if (op.region().empty() == op.addr().empty()) {
    return located.Wrong(op.region().empty() ? "region is missing; expected the name of a region, or addr"
                                             : "region and addr together; expected one of them");
  }
  if (op.addr().empty()) return {};
  if (!op.offset().empty()) return located.Wrong("offset", "offset without a region; addr stands alone");
  return Require(located, op.length(), "length", "a range at an addr has no other end");
}

base::Result<void> CheckSeeds(const Located& located, const ckpt_pb::Fill& fill) {
  switch (fill.kind_case()) {
    case ckpt_pb::Fill::KIND_NOT_SET:
      return located.Wrong("a fill of no kind; expected one of random, text, counter, zeros, byte, repeat");
    case ckpt_pb::Fill::kByte:
      if (fill.byte() > 255) {
        return located.Wrong("byte", base::Format("byte: %u is not a byte; expected 0 to 255", fill.byte()));
      }
      return {};
    case ckpt_pb::Fill::kRepeat:
      if (fill.repeat().empty()) return located.Wrong("repeat", "repeat: no bytes; expected at least one");
      return {};
    default: return {};
  }
}

base::Result<void> CheckFill(const Located& op, const char* field, bool is_set, const ckpt_pb::Fill& fill) {
  return is_set ? CheckSeeds(op.Child(field), fill) : base::Result<void>{};
}

// A check needs to know its bytes: a seed of its own where there is one.
base::Result<void> CheckEquals(const Located& op, bool is_set, const ckpt_pb::Fill& fill) {
  if (!is_set) return {};
  TRY_VOID(CheckSeeds(op.Child("equals"), fill));
  const bool seedless = (fill.has_random() && !fill.random().has_seed()) ||
                        (fill.has_text() && !fill.text().has_seed()) ||
                        (fill.has_counter() && !fill.counter().has_seed());
  if (!seedless) return {};
  return op.Wrong("equals", "equals without a seed; expected the seed that the bytes were made from");
}

base::Result<void> CheckCount(const Located& pattern, const char* kind, uint64_t count, bool required) {
  if (required && count == 0) {
    return pattern.Wrong(kind, base::Format("%s: count is missing: how many accesses", kind));
  }
  if (count > kCountMax) {
    return pattern.Wrong(kind, base::Format("%s: %llu accesses are too many; at most 2^40", kind,
                                            static_cast<unsigned long long>(count)));
  }
  return {};
}

base::Result<void> CheckPattern(const Located& located, const ckpt_pb::Pattern& pattern) {
  switch (pattern.kind_case()) {
    case ckpt_pb::Pattern::KIND_NOT_SET:
      return located.Wrong(
          "a pattern of no kind; expected one of sequential, every, random, scattered, zipf");
    case ckpt_pb::Pattern::kSequential:
      return CheckCount(located, "sequential", pattern.sequential().count(), false);
    case ckpt_pb::Pattern::kEvery:
      if (pattern.every().nth() == 0)
        return located.Wrong("every", "every: nth is missing; expected 1 or more");
      return {};
    case ckpt_pb::Pattern::kRandom: return CheckCount(located, "random", pattern.random().count(), true);
    case ckpt_pb::Pattern::kScattered:
      return CheckCount(located, "scattered", pattern.scattered().count(), true);
    case ckpt_pb::Pattern::kZipf: {
      const double exponent = pattern.zipf().exponent();
      if (!(exponent > 0.0 && exponent <= 20.0)) {
        return located.Wrong(
            "zipf", base::Format("zipf: exponent %g; expected more than 0 and at most 20", exponent));
      }
      return CheckCount(located, "zipf", pattern.zipf().count(), true);
    }
  }
  return {};
}

template <class Op>
base::Result<void> CheckAccess(const Located& located, const Op& op) {
  TRY_VOID(CheckRange(located, op));
  if (op.has_pattern()) TRY_VOID(CheckPattern(located.Child("pattern"), op.pattern()));
  const bool slots = op.has_pattern() || !op.stride().empty();
  if (!slots && !op.size().empty())
    return located.Wrong("size", "size without stride or pattern; the range has a length");
  if (!slots) return {};
  const uint64_t stride = SizeOr(op.stride(), base::kPageSize);
  const uint64_t size = SizeOr(op.size(), std::min<uint64_t>(8, stride));
  if (stride == 0) return located.Wrong("stride", "stride: 0; expected at least 1");
  if (size == 0 || size > stride) {
    return located.Wrong(
        "size", base::Format("size: %llu; expected 1 to the stride of %llu",
                             static_cast<unsigned long long>(size), static_cast<unsigned long long>(stride)));
  }
  return {};
}

base::Result<void> CheckRemap(const Located& located, const Step::Remap& op) {
  TRY_VOID(CheckRange(located, op));
  if (op.new_length().empty() && op.to().empty()) {
    return located.Wrong("a remap that changes nothing; expected new_length, to, or both");
  }
  if (!op.as().empty()) TRY_VOID(CheckName(located, "as", op.as()));
  return {};
}

base::Result<void> CheckExec(const Located& located, const Step::Exec& op) {
  if (op.path().empty() == op.file().empty()) {
    return located.Wrong(op.path().empty() ? "path is missing; expected the path of a program, or file"
                                           : "path and file together; expected one of them");
  }
  if (!op.path().empty() && !op.path().starts_with('/')) {
    return located.Wrong("path",
                         base::Format("path: '%s' is not absolute", base::Printable(op.path()).c_str()));
  }
  if (op.arg_size() + op.env_size() > 4096) return located.Wrong("more than 4096 arg and env");
  return {};
}

base::Result<void> CheckMap(const Located& located, const Step::Map& op) {
  TRY_VOID(Require(located, op.region(), "region", "the name that later steps use"));
  TRY_VOID(CheckName(located, "region", op.region()));
  if (op.file().empty())
    TRY_VOID(Require(located, op.length(), "length", "anonymous memory has no other end"));
  if (op.fixed()) TRY_VOID(Require(located, op.addr(), "addr", "a fixed mapping needs its place"));
  return op.prot().empty() ? base::Result<void>{} : CheckProt(located, op.prot());
}

base::Result<void> CheckLimit(const Located& located, const char* field, const std::string& limit) {
  if (limit.empty() || limit == "unlimited") return {};
  const base::Result<uint64_t> size = base::ParseSize(limit);
  return size ? base::Result<void>{} : located.Wrong(field, std::string(field) + ": " + size.error().what);
}

base::Result<void> CheckMemoryOp(const Located& located, const Step& step) {
  switch (step.op_case()) {
    case Step::kExec: return CheckExec(located, step.exec());
    case Step::kMap: return CheckMap(located, step.map());
    case Step::kUnmap: return CheckRange(located, step.unmap());
    case Step::kProtect:
      TRY_VOID(CheckRange(located, step.protect()));
      return CheckProt(located, step.protect().prot());
    case Step::kRemap: return CheckRemap(located, step.remap());
    case Step::kBrk: {
      const Step::Brk& op = step.brk();
      const int given = !op.grow().empty() + !op.shrink().empty() + !op.addr().empty();
      return given == 1 ? base::Result<void>{}
                        : located.Wrong("brk needs exactly one of grow, shrink and addr");
    }
    case Step::kMadvise: return CheckRange(located, step.madvise());
    case Step::kMsync: return CheckRange(located, step.msync());
    case Step::kGrowStack:
      return Require(located, step.grow_stack().length(), "length", "how far the stack grows");
    case Step::kRemapFilePages:
      TRY_VOID(CheckRange(located, step.remap_file_pages()));
      return step.remap_file_pages().prot().empty() ? base::Result<void>{}
                                                    : CheckProt(located, step.remap_file_pages().prot());
    case Step::kMlock: return CheckRange(located, step.mlock());
    case Step::kMunlock: return CheckRange(located, step.munlock());
    case Step::kLoad:
      TRY_VOID(CheckAccess(located, step.load()));
      return CheckEquals(located, step.load().has_equals(), step.load().equals());
    case Step::kStore:
      TRY_VOID(CheckAccess(located, step.store()));
      return CheckFill(located, "fill", step.store().has_fill(), step.store().fill());
    case Step::kTouch: return CheckRange(located, step.touch());
    case Step::kGetUserPages:
      TRY_VOID(CheckRange(located, step.get_user_pages()));
      return CheckFill(located, "fill", step.get_user_pages().has_fill(), step.get_user_pages().fill());
    default: return {};
  }
}

base::Result<void> CheckOtherOp(const Located& located, const Step& step) {
  switch (step.op_case()) {
    case Step::kRlimit:
      TRY_VOID(CheckLimit(located, "fsize", step.rlimit().fsize()));
      return CheckLimit(located, "stack", step.rlimit().stack());
    case Step::kIoSetup:
      if (step.io_setup().count() > 1'000'000)
        return located.Wrong("count", "count: more than 1000000 contexts");
      return {};
    case Step::kRead: return CheckEquals(located, step.read().has_equals(), step.read().equals());
    case Step::kWrite:
      TRY_VOID(Require(located, step.write().length(), "length", "how much is written"));
      return CheckFill(located, "fill", step.write().has_fill(), step.write().fill());
    case Step::kTruncate:
      return Require(located, step.truncate().size(), "size", "where the file ends from now on");
    case Step::kPunchHole:
      return Require(located, step.punch_hole().length(), "length", "how long the hole is");
    case Step::kCreate:
      if (!step.create().has_file()) return located.Wrong("file is missing: what is created");
      return CheckFileSpec(located.Child("file"));
    case Step::kRepeat:
      if (step.repeat().times() == 0 || step.repeat().times() > kRepeatMax) {
        return located.Wrong("times", base::Format("times: %llu; expected 1 to %llu",
                                                   static_cast<unsigned long long>(step.repeat().times()),
                                                   static_cast<unsigned long long>(kRepeatMax)));
      }
      if (step.repeat().step_size() == 0) return located.Wrong("a repeat of no steps");
      return {};
    default: return {};
  }
}

base::Result<void> CheckExpect(const Located& located, const Step& step) {
  const ckpt_pb::Expect& expect = step.expect();
  const Located place = located.Child("expect");
  if (!expect.outcome().empty() && !IsOutcome(expect.outcome())) {
    return place.Wrong("outcome",
                       base::Format("outcome: there is no '%s'; there are %s",
                                    base::Printable(expect.outcome()).c_str(), OutcomeNames().c_str()));
  }
  const bool failed = !expect.outcome().empty() && expect.outcome() != kOk;
  const bool access = step.has_load() || step.has_store() || step.has_touch() || step.has_grow_stack();
  if (!expect.at().empty() && (!failed || !access)) {
    return place.Wrong("at", "at: only where a load, store, touch or grow_stack is expected to end early");
  }
  if (!expect.bytes().empty() && !step.has_read() && !step.has_write()) {
    return place.Wrong("bytes", "bytes: only read and write count what they moved");
  }
  const bool counts = expect.has_rss() || expect.has_anon_rss() || expect.has_file_rss() ||
                      expect.has_modified() || expect.has_total_vm() || expect.has_vmas() ||
                      expect.has_swap() || expect.has_locked();
  if (counts && step.has_exit() && !failed) return place.Wrong("counts of a process that exited");
  return {};
}

}  // namespace

base::Result<void> CheckStepFields(const Located& located) {
  const auto& step = dynamic_cast<const Step&>(located.message());
  const google::protobuf::OneofDescriptor* ops = Step::descriptor()->FindOneofByName("op");
  if (step.op_case() == Step::OP_NOT_SET) {
    std::string names;
    for (int i = 0; i < ops->field_count(); ++i) names += (i > 0 ? ", " : "") + ops->field(i)->name();
    return located.Wrong("a step that does nothing; expected one of " + names);
  }
  if (step.has_repeat() && (step.has_expect() || !step.process().empty())) {
    return located.Wrong(step.has_expect() ? "expect" : "process",
                         "a repeat has no process and no expect; its steps have");
  }
  if (step.has_expect()) TRY_VOID(CheckExpect(located, step));
  const Located op = located.Child(OpName(step).c_str());
  TRY_VOID(CheckMemoryOp(op, step));
  return CheckOtherOp(op, step);
}

base::Result<void> CheckName(const Located& located, const char* field, const std::string& name) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  bool good = !name.empty() && name.size() <= 64 && is_letter(name.front());
  for (const char c : name) good = good && (is_letter(c) || c == '-' || c == '.');
  if (good) return {};
  return located.Wrong(
      field, base::Format("%s: '%s' is not a name; expected up to 64 letters, digits, '_', '-' and '.'",
                          field, base::Printable(name, 80).c_str()));
}

base::Result<void> CheckFileSpec(const Located& located) {
  const auto& file = dynamic_cast<const ckpt_pb::Workload::File&>(located.message());
  if (file.name().empty()) return located.Wrong("name is missing: what steps call the file");
  TRY_VOID(CheckName(located, "name", file.name()));
  if (!file.real().empty()) {
    if (!file.real().starts_with('/')) {
      return located.Wrong(
          "real", base::Format("real: '%s' is not an absolute path", base::Printable(file.real()).c_str()));
    }
    if (!file.size().empty() || !file.generator().empty() || file.seed() != 0) {
      return located.Wrong("real", "real with size, generator or seed; expected one way to make the file");
    }
    return {};
  }
  if (file.generator().empty()) {
    if (file.seed() != 0) return located.Wrong("seed", "seed without a generator");
    return {};
  }
  std::string names;
  for (const std::string_view name : mm::GeneratorNames()) {
    if (name == file.generator()) return Require(located, file.size(), "size", "how much is generated");
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return located.Wrong("generator", base::Format("generator: there is no '%s'; there are %s",
                                                 base::Printable(file.generator()).c_str(), names.c_str()));
}

}  // namespace workload
