#include "restore/diff.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/units.h"

namespace restore {
namespace {

using base::Format;
using base::kPageSize;
using ckpt::Content;
using ckpt::ContentRun;
using ckpt::MemorySource;

unsigned long long Big(uint64_t value) { return value; }

std::map<uint32_t, const ckpt_pb::File*> FilesByRef(const MemorySource& source) {
  std::map<uint32_t, const ckpt_pb::File*> files;
  for (const ckpt_pb::File& file : source.files().file()) files.emplace(file.objref(), &file);
  return files;
}

const char* ContentName(Content content) {
  switch (content) {
    case Content::kZero: return "zeros";
    case Content::kBytes: return "data";
    case Content::kPristine: return "file data";
    case Content::kSigbus: return "SIGBUS";
  }
  return "";
}

class Differ {
 public:
  Differ(MemorySource& a, MemorySource& b, const DiffOptions& options)
      : a_(a), b_(b), options_(options), files_a_(FilesByRef(a)), files_b_(FilesByRef(b)) {}

  base::Result<DiffReport> Run() {
    std::map<uint32_t, const ckpt_pb::Process*> in_a;
    std::map<uint32_t, const ckpt_pb::Process*> in_b;
    for (const ckpt_pb::Process& process : a_.processes().process()) in_a.emplace(process.pid(), &process);
    for (const ckpt_pb::Process& process : b_.processes().process()) in_b.emplace(process.pid(), &process);
    std::map<uint32_t, uint32_t> partner_of_a;  // address spaces correspond one to one
    std::map<uint32_t, uint32_t> partner_of_b;
    for (const auto& [pid, process] : in_a) {
      const auto other = in_b.find(pid);
      if (other == in_b.end()) {
        Add({Difference::Kind::kProcess, pid, 0, 0, "only in the first"});
        continue;
      }
      CompareProcess(*process, *other->second);
      const uint32_t mm_a = process->mm_objref();
      const uint32_t mm_b = other->second->mm_objref();
      const auto [in_first, new_a] = partner_of_a.emplace(mm_a, mm_b);
      const auto [in_second, new_b] = partner_of_b.emplace(mm_b, mm_a);
      if (in_first->second != mm_b || in_second->second != mm_a) {
        Add({Difference::Kind::kLayout, pid, 0, 0, "shares its address space with other processes"});
      }
      if (new_a || new_b) TRY_VOID(CompareMm(pid, mm_a, mm_b));
    }
    for (const auto& [pid, process] : in_b) {
      if (!in_a.contains(pid)) Add({Difference::Kind::kProcess, pid, 0, 0, "only in the second"});
    }
    return std::move(report_);
  }

 private:
  void Add(Difference difference) {
    // Neighbouring pages that differ are one range, be it in the list or behind its end.
    const bool follows = difference.kind == Difference::Kind::kContent && last_.kind == difference.kind &&
                         last_.pid == difference.pid && last_.end == difference.start && last_.end > 0;
    if (follows) {
      last_.end = difference.end;
      if (report_.difference_count <= options_.differences_max)
        report_.differences.back().end = difference.end;
      return;
    }
    last_ = difference;
    ++report_.difference_count;
    if (report_.differences.size() < options_.differences_max)
      report_.differences.push_back(std::move(difference));
  }

  void CompareProcess(const ckpt_pb::Process& a, const ckpt_pb::Process& b) {
    if (a.ppid() != b.ppid() || a.name() != b.name()) {
      Add({Difference::Kind::kProcess, a.pid(), 0, 0,
           Format("parent %u name '%s' against parent %u name '%s'", a.ppid(),
                  base::Printable(a.name()).c_str(), b.ppid(), base::Printable(b.name()).c_str())});
    }
    if (a.rlimit_fsize() != b.rlimit_fsize() || a.rlimit_stack() != b.rlimit_stack()) {
      Add({Difference::Kind::kLayout, a.pid(), 0, 0, "limits differ"});
    }
  }

  static const ckpt_pb::Mm& MmOf(const MemorySource& source, uint32_t objref) {
    for (const ckpt_pb::Mm& mm : source.processes().mm()) {
      if (mm.objref() == objref) return mm;
    }
    CHECK_MSG(false, "a process without its mm");
    return ckpt_pb::Mm::default_instance();
  }

  void CompareLayout(uint32_t pid, ckpt_pb::Mm a, ckpt_pb::Mm b) {
    for (ckpt_pb::Mm* mm : {&a, &b}) {
      mm->clear_objref();
      mm->clear_exe_objref();
      mm->clear_map_count();
    }
    if (a.brk() != b.brk()) {
      Add({Difference::Kind::kLayout, pid, 0, 0,
           Format("brk %#llx against %#llx", Big(a.brk()), Big(b.brk()))});
    }
    b.set_brk(a.brk());
    if (a.SerializeAsString() != b.SerializeAsString()) {
      Add({Difference::Kind::kLayout, pid, 0, 0, "bounds or auxv differ"});
    }
  }

  // What a vma is, in words that do not depend on numbers of objects.
  static std::string Describe(const ckpt_pb::Vma& vma,
                              const std::map<uint32_t, const ckpt_pb::File*>& files) {
    static constexpr const char* kKinds[] = {"anonymous", "private file", "shared anonymous", "shared file",
                                             "vdso"};
    std::string text =
        Format("%s flags %#llx pgoff %llu", kKinds[vma.kind()], Big(vma.flags()), Big(vma.pgoff()));
    const auto file = files.find(vma.file_objref());
    if (file != files.end() && file->second->kind() == ckpt_pb::File::REGULAR) {
      text += Format(" file '%s'", base::Printable(file->second->name()).c_str());
    }
    return text;
  }

  base::Result<void> CompareMm(uint32_t pid, uint32_t mm_a, uint32_t mm_b) {
    CompareLayout(pid, MmOf(a_, mm_a), MmOf(b_, mm_b));
    const auto& vmas_a = a_.vmas(mm_a).vma();
    const auto& vmas_b = b_.vmas(mm_b).vma();
    auto in_a = vmas_a.begin();
    auto in_b = vmas_b.begin();
    // The vmas whose bounds were reported: what is left of them is no difference of its own.
    const ckpt_pb::Vma* told_a = nullptr;
    const ckpt_pb::Vma* told_b = nullptr;
    while (in_a != vmas_a.end() || in_b != vmas_b.end()) {
      if (in_b == vmas_b.end() || (in_a != vmas_a.end() && in_a->end() <= in_b->start())) {
        if (told_a != &*in_a)
          Add({Difference::Kind::kVma, pid, in_a->start(), in_a->end(),
               "only in the first: " + Describe(*in_a, files_a_)});
        ++in_a;
        continue;
      }
      if (in_a == vmas_a.end() || in_b->end() <= in_a->start()) {
        if (told_b != &*in_b)
          Add({Difference::Kind::kVma, pid, in_b->start(), in_b->end(),
               "only in the second: " + Describe(*in_b, files_b_)});
        ++in_b;
        continue;
      }
      const std::string a = Describe(*in_a, files_a_);
      const std::string b = Describe(*in_b, files_b_);
      const uint64_t start = std::max(in_a->start(), in_b->start());
      const uint64_t end = std::min(in_a->end(), in_b->end());
      if (in_a->start() != in_b->start() || in_a->end() != in_b->end() || a != b) {
        told_a = &*in_a;
        told_b = &*in_b;
        Add({Difference::Kind::kVma, pid, start, end,
             Format("%#llx-%#llx %s against %#llx-%#llx %s", Big(in_a->start()), Big(in_a->end()), a.c_str(),
                    Big(in_b->start()), Big(in_b->end()), b.c_str())});
      }
      TRY_VOID(CompareContent(pid, mm_a, mm_b, start / kPageSize, end / kPageSize));
      const bool next_a = in_a->end() == end;
      const bool next_b = in_b->end() == end;
      if (next_a) ++in_a;
      if (next_b) ++in_b;
    }
    return {};
  }

  // Both are what their recipes make: the same recipe makes the same bytes.
  bool SamePristine(const ContentRun& a, const ContentRun& b) const {
    if (a.content != Content::kPristine || b.content != Content::kPristine || a.index != b.index)
      return false;
    const ckpt_pb::File& file_a = *files_a_.at(a.file);
    const ckpt_pb::File& file_b = *files_b_.at(b.file);
    return file_a.recipe_end() == file_b.recipe_end() &&
           file_a.recipe().SerializeAsString() == file_b.recipe().SerializeAsString();
  }

  base::Result<void> CompareContent(uint32_t pid, uint32_t mm_a, uint32_t mm_b, uint64_t first,
                                    uint64_t end) {
    report_.pages_compared += end - first;
    while (first < end) {
      if (options_.stop != nullptr && options_.stop->load())
        return base::Fail(base::Code::kInterrupted, "diff: interrupted");
      if (options_.progress) options_.progress(report_.pages_compared - (end - first));
      const ContentRun a = a_.NextContent(mm_a, first, end);
      const ContentRun b = b_.NextContent(mm_b, first, end);
      const uint64_t count = std::min(a.count, b.count);
      CHECK(count > 0);
      if (a.content == b.content && (a.content == Content::kZero || a.content == Content::kSigbus)) {
        first += count;
      } else if (SamePristine(a, b)) {
        first += count;
      } else if (a.content == Content::kSigbus || b.content == Content::kSigbus) {
        Different(pid, first, count, Format("%s against %s", ContentName(a.content), ContentName(b.content)));
        first += count;
      } else {
        for (const uint64_t stop = first + count; first < stop; ++first) {
          TRY_VOID(ComparePage(pid, mm_a, mm_b, first, a.content, b.content));
        }
      }
    }
    return {};
  }

  base::Result<void> ComparePage(uint32_t pid, uint32_t mm_a, uint32_t mm_b, uint64_t page, Content a,
                                 Content b) {
    const auto read = [&](MemorySource& source, uint32_t mm, Content content,
                          std::span<std::byte> out) -> base::Result<void> {
      if (content != Content::kZero) return source.ReadContent(mm, page, out);
      std::memset(out.data(), 0, out.size());
      return {};
    };
    TRY_VOID(read(a_, mm_a, a, bytes_a_));
    TRY_VOID(read(b_, mm_b, b, bytes_b_));
    if (std::memcmp(bytes_a_, bytes_b_, kPageSize) == 0) return {};
    const auto [at_a, at_b] = std::mismatch(std::begin(bytes_a_), std::end(bytes_a_), std::begin(bytes_b_));
    Different(pid, page, 1,
              Format("first byte that differs at %#llx: %02x against %02x",
                     Big(page * kPageSize + static_cast<uint64_t>(at_a - bytes_a_)),
                     static_cast<unsigned>(*at_a), static_cast<unsigned>(*at_b)));
    return {};
  }

  void Different(uint32_t pid, uint64_t page, uint64_t count, std::string what) {
    report_.pages_different += count;
    Add({Difference::Kind::kContent, pid, page * kPageSize, (page + count) * kPageSize, std::move(what)});
  }

  MemorySource& a_;
  MemorySource& b_;
  DiffOptions options_;
  std::map<uint32_t, const ckpt_pb::File*> files_a_;
  std::map<uint32_t, const ckpt_pb::File*> files_b_;
  DiffReport report_;
  Difference last_{Difference::Kind::kProcess, 0, 0, 0, ""};
  std::byte bytes_a_[kPageSize];
  std::byte bytes_b_[kPageSize];
};

}  // namespace

base::Result<DiffReport> Diff(MemorySource& a, MemorySource& b, const DiffOptions& options) {
  return Differ(a, b, options).Run();
}

}  // namespace restore
