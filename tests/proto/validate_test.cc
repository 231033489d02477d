#include "proto/validate.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/proto/image_fixture.h"

namespace {

using namespace fixture;
using base::Code;
using image::Metadata;

Code CodeOf(const std::function<void(Metadata&)>& change) {
  Metadata metadata = SmallMachine();
  change(metadata);
  const auto result = image::Validate(metadata);
  EXPECT_TRUE(result || !result.error().what.empty());
  return result ? Code::kExpectation : result.error().code;  // kExpectation stands for "no error".
}

ckpt_pb::Mm& Mm(Metadata& metadata) { return *metadata.processes.mutable_mm(0); }
ckpt_pb::Vma& Vma(Metadata& metadata, int i) { return *metadata.vmas[kMm].mutable_vma(i); }
ckpt_pb::File& File(Metadata& metadata, int i = 0) { return *metadata.files.mutable_file(i); }

TEST(Validate, a_good_machine) {
  EXPECT_EQ(CodeOf([](Metadata&) {}), Code::kExpectation);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_def_flags(0x2000); }), Code::kExpectation);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).clear_auxv(); }), Code::kExpectation);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.processes.mutable_process(1)->set_mm_objref(kMm); }),
            Code::kExpectation);
}

TEST(Validate, C33_objrefs) {
  EXPECT_EQ(CodeOf([](Metadata& m) { File(m).set_objref(0); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { File(m).set_objref(0x80000000); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { File(m).set_objref(kShmem); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { File(m).set_objref(kMm); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_objref(0); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_objref(kMm2); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_exe_objref(99); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 1).set_file_objref(99); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.processes.mutable_process(0)->set_mm_objref(99); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.processes.mutable_process(0)->set_mm_objref(0); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.vmas[99] = m.vmas[kMm]; }), Code::kInvalid);
}

TEST(Validate, C27_an_objref_of_the_wrong_type) {
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_exe_objref(kMm2); }), Code::kWrongType);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_exe_objref(kShmem); }), Code::kWrongType);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 1).set_file_objref(kMm); }), Code::kWrongType);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 1).set_file_objref(kShmem); }), Code::kWrongType);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 2).set_file_objref(kFile); }), Code::kWrongType);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 3).set_file_objref(kShmem); }), Code::kWrongType);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.processes.mutable_process(0)->set_mm_objref(kFile); }),
            Code::kWrongType);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.vmas[kFile] = m.vmas[kMm]; }), Code::kWrongType);
}

// Pages of a non-linear vma stand in order, inside it, and can be named by a file pte.
TEST(Validate, C27_non_linear_pages) {
  struct Run {
    uint64_t first, count, pgoff;
  };
  const auto with = [](uint64_t flag, std::vector<Run> runs) {
    return CodeOf([&](Metadata& m) {
      Vma(m, 3).set_flags(Vma(m, 3).flags() | flag);
      for (const Run& run : runs) {
        ckpt_pb::NonlinearRun& out = *m.vmas[kMm].add_nonlinear();
        out.set_first(run.first);
        out.set_count(run.count);
        out.set_pgoff(run.pgoff);
      }
    });
  };
  const uint64_t nonlinear = 0x800000;
  const uint64_t first = 0x200000;
  EXPECT_EQ(with(nonlinear, {{first, 2, 9}, {first + 2, 14, 0}}), Code::kExpectation);
  EXPECT_EQ(with(0, {{first, 2, 9}}), Code::kInvalid) << "the vma is linear";
  EXPECT_EQ(with(nonlinear, {{first, 0, 9}}), Code::kInvalid);
  EXPECT_EQ(with(nonlinear, {{first - 1, 1, 9}}), Code::kInvalid);
  EXPECT_EQ(with(nonlinear, {{first + 15, 2, 9}}), Code::kInvalid);
  EXPECT_EQ(with(nonlinear, {{first, ~uint64_t{0}, 9}}), Code::kInvalid);
  EXPECT_EQ(with(nonlinear, {{first + 2, 1, 9}, {first, 1, 3}}), Code::kInvalid) << "out of order";
  EXPECT_EQ(with(nonlinear, {{first, 2, 9}, {first + 1, 1, 3}}), Code::kInvalid) << "twice";
  EXPECT_EQ(with(nonlinear, {{first, 1, uint64_t{1} << 46}}), Code::kInvalid);
  EXPECT_EQ(with(nonlinear, {{first, 1, ~uint64_t{0}}}), Code::kInvalid);
}

TEST(Validate, C19_unsupported_vma_flags) {
  for (const uint64_t flag :
       {0x400, 0x4000, 0x80000, 0x400000, 0x1000000, 0x2000000, 0x10000000, 0x20000000}) {
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(CodeOf([&](Metadata& m) { Vma(m, i).set_flags(Vma(m, i).flags() | flag); }),
                Code::kUnsupported);
    }
  }
  const auto with = [](int i, uint64_t flag) {
    return CodeOf([&](Metadata& m) { Vma(m, i).set_flags(Vma(m, i).flags() | flag); });
  };
  for (int i = 0; i < 4; ++i) EXPECT_EQ(with(i, 0x200000), Code::kExpectation);  // NORESERVE
  EXPECT_EQ(with(0, 0x800000), Code::kUnsupported);                              // NONLINEAR
  EXPECT_EQ(with(1, 0x800000), Code::kUnsupported);
  EXPECT_EQ(with(2, 0x800000), Code::kExpectation);
  EXPECT_EQ(with(3, 0x800000), Code::kExpectation);
}

TEST(Validate, C34_bounds_of_an_mm) {
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_start_code(1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_start_data(1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_start_brk(1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_arg_start(1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_env_start(1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_end_code(image::kTaskSize + 1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_start_stack(~uint64_t{0}); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_def_flags(0x2001); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_word_bytes(5); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).set_map_count(5); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.vmas.erase(kMm); }), Code::kInvalid);
}

TEST(Validate, C35_auxv) {
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).mutable_auxv(0)->set_value(uint64_t{1} << 32); }),
            Code::kExpectation);
  EXPECT_EQ(CodeOf([](Metadata& m) {
              Mm(m).set_word_bytes(4);
              Mm(m).mutable_auxv(0)->set_value(uint64_t{1} << 32);
            }),
            Code::kTooBig);
  EXPECT_EQ(CodeOf([](Metadata& m) {
              Mm(m).set_word_bytes(4);
              Mm(m).mutable_auxv(0)->set_value(UINT32_MAX);
            }),
            Code::kExpectation);
  EXPECT_EQ(CodeOf([](Metadata& m) {
              Mm(m).set_word_bytes(4);
              Mm(m).mutable_auxv(0)->set_type(uint64_t{1} << 32);
            }),
            Code::kTooBig);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).mutable_auxv()->RemoveLast(); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).mutable_auxv(0)->set_type(0); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Mm(m).mutable_auxv(1)->set_value(1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) {
              for (int i = 0; i < 300; ++i) *Mm(m).add_auxv() = Mm(m).auxv(0);
            }),
            Code::kTooBig);
}

TEST(Validate, vmas) {
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_start(kAnonFirst * kPageSize + 1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_end(Vma(m, 0).end() - 1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_end(Vma(m, 0).start()); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_end(Vma(m, 0).end() + kPageSize); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 3).set_end(image::kTaskSize); }), Code::kExpectation);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 3).set_end(image::kTaskSize + kPageSize); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.vmas[kMm].mutable_vma()->SwapElements(0, 1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_pgoff(~uint64_t{0}); }), Code::kInvalid);
}

TEST(Validate, kinds_of_vmas) {
  using V = ckpt_pb::Vma;
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_flags(0xfb); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 2).set_flags(0x73); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 3).set_flags(0xf1); }), Code::kExpectation);  // MAYSHARE alone
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 1).clear_file_objref(); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 2).clear_file_objref(); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_file_objref(kFile); }), Code::kWrongType);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_file_objref(kZero); }), Code::kExpectation);  // C20
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_kind(V::VDSO); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) {
              Vma(m, 0).set_kind(V::VDSO);
              m.machine.set_vdso_pages(1);
            }),
            Code::kExpectation);
  EXPECT_EQ(CodeOf([](Metadata& m) { Vma(m, 0).set_kind(static_cast<V::Kind>(9)); }), Code::kUnsupported);
}

TEST(Validate, machine_files_and_processes) {
  EXPECT_EQ(CodeOf([](Metadata& m) { m.machine.set_page_size(8192); }), Code::kUnsupported);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.machine.set_scope(static_cast<ckpt_pb::Machine::Scope>(9)); }),
            Code::kUnsupported);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.machine.set_source(static_cast<ckpt_pb::Machine::Source>(9)); }),
            Code::kUnsupported);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.machine.set_vdso_start(1); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.machine.set_vdso_pages(~uint64_t{0}); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { File(m).set_kind(static_cast<ckpt_pb::File::Kind>(9)); }),
            Code::kUnsupported);
  EXPECT_EQ(CodeOf([](Metadata& m) { File(m).set_size(~uint64_t{0}); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { File(m).set_name(std::string("a\0b", 3)); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { File(m).set_name(std::string(5000, 'x')); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.processes.mutable_process(0)->set_pid(0); }), Code::kInvalid);
  EXPECT_EQ(CodeOf([](Metadata& m) { m.processes.mutable_process(0)->set_pid(100 + kMm2); }), Code::kInvalid);
}

TEST(Validate, a_guest_and_its_sections) {
  const auto with = [](ckpt_pb::Machine::Scope scope, bool sections) {
    return CodeOf([&](Metadata& m) {
      m.machine.set_scope(scope);
      if (sections) m.guest.set_next_file(1);
    });
  };
  EXPECT_EQ(with(ckpt_pb::Machine::PROCESS, false), Code::kExpectation);
  EXPECT_EQ(with(ckpt_pb::Machine::MACHINE, true), Code::kExpectation);
  EXPECT_EQ(with(ckpt_pb::Machine::PROCESS, true), Code::kInvalid);
  EXPECT_EQ(with(ckpt_pb::Machine::MACHINE, false), Code::kInvalid);
}

TEST(Validate, recipes) {
  const auto with = [](ckpt_pb::Recipe::Kind kind, const std::string& path) {
    return CodeOf([&](Metadata& m) {
      File(m).mutable_recipe()->set_kind(kind);
      File(m).mutable_recipe()->set_path(path);
    });
  };
  EXPECT_EQ(with(ckpt_pb::Recipe::REAL, "/bin/true"), Code::kExpectation);
  EXPECT_EQ(with(ckpt_pb::Recipe::REAL, ""), Code::kInvalid);
  EXPECT_EQ(with(ckpt_pb::Recipe::REAL, std::string("/bin\0/true", 10)), Code::kInvalid);
  EXPECT_EQ(with(static_cast<ckpt_pb::Recipe::Kind>(9), "x"), Code::kUnsupported);
  EXPECT_EQ(with(ckpt_pb::Recipe::FOLDER, "a/b..c/.d"), Code::kExpectation);
  for (const char* path : {"", "/a", "..", "../a", "a/../b", "a/..", "a//b", "a/", "./a"}) {
    EXPECT_EQ(with(ckpt_pb::Recipe::FOLDER, path), Code::kInvalid) << path;
  }
}

}  // namespace
