#include "workload/script.h"

#include <gtest/gtest.h>

#include "tests/support/support.h"

namespace workload {
namespace {

struct BadScript {
  const char* text;
  const char* error;
};

void PrintTo(const BadScript& bad, std::ostream* out) { *out << bad.text; }

class BadScriptTest : public testing::TestWithParam<BadScript> {};

TEST_P(BadScriptTest, SaysWhereAndWhat) {
  const auto script = Script::Parse("w", GetParam().text);
  ASSERT_FALSE(script.has_value());
  std::string expected = GetParam().error;
  std::string what = script.error().what;
  if (expected.ends_with("...")) {  // the rest is a list that grows
    expected.resize(expected.size() - 3);
    what.resize(std::min(what.size(), expected.size()));
  }
  EXPECT_EQ(what, expected);
  EXPECT_EQ(script.error().code, base::Code::kInvalid);
}

const BadScript kBadScripts[] = {
    BadScript{R"raw(step { exit {})raw", R"raw(w:1:15: Expected identifier, got: the end of the file)raw"},
    BadScript{R"raw(step { exit {} } })raw", R"raw(w:1:18: Expected identifier, got: })raw"},
    BadScript{
        R"raw(steep { exit {} })raw",
        R"raw(w:1:1: there is no field 'steep' in Workload; there are name, seed, machine, file, process, step)raw"},
    BadScript{R"raw(step { stroe { region: "r" } })raw",
              R"raw(w:1:8: there is no field 'stroe' in Step; there are ...)raw"},
    BadScript{
        R"raw(step { map { region: "r" lenght: "4k" } })raw",
        R"raw(w:1:26: there is no field 'lenght' in Map; there are region, addr, offset, length, file, prot, shared, fixed, growsdown, populate, nonblock, noreserve)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: 4096 } })raw",
        R"raw(w:1:34: Expected string, got: 4096; sizes and addresses are written in quotes ("64KiB"))raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4 apples" } })raw",
        R"raw(w:1:26: length: '4 apples' is not a size: write a number of bytes, or one with KiB, MiB, GiB or TiB)raw"},
    BadScript{R"raw(step { map { region: "r" length: "1024T" } })raw",
              R"raw(w:1:26: length: '1024T' is too large: at most 128TiB)raw"},
    BadScript{R"raw(step { map { region: "r" length: "4k" shared: maybe } })raw",
              R"raw(w:1:47: Invalid value for boolean field "shared". Value: "maybe")raw"},
    BadScript{R"raw(step { map { region: "r" length: "4k" region: "q" } })raw",
              R"raw(w:1:39: Non-repeated field "region" is specified multiple times)raw"},
    BadScript{
        R"raw(step { exit {} fork { child: "c" } })raw",
        R"raw(w:1:16: Field "fork" is specified along with field "exit", another member of oneof "op")raw"},
    BadScript{R"raw(step { repeat { times: -1 step { exit {} } } })raw",
              R"raw(w:1:24: Expected integer, got: -)raw"},
    BadScript{
        R"raw(step { madvise { region: "r" advice: FREE } })raw",
        R"raw(w:1:38: Unknown enumeration value of "FREE" for field "advice"; there are NORMAL, DONTNEED, DONTFORK, DOFORK and PAGEOUT)raw"},
    BadScript{R"raw(step { exit {} } # a comment
step { })raw",
              R"raw(w:2:1: a step that does nothing; expected one of exec, map, ...)raw"},
    BadScript{R"raw(name: "none")raw", R"raw(w:1:1: a workload without steps; expected at least one)raw"},
    BadScript{R"raw(name: "caf\xe9" step { exit {} })raw",
              R"raw(w:1:1: 'caf\xe9' is not printable UTF-8 text)raw"},
    BadScript{R"raw(name: "line\nbreak" step { exit {} })raw",
              R"raw(w:1:1: 'line\x0abreak' is not printable UTF-8 text)raw"},
    BadScript{R"raw(machine { memory: "4k" } step { exit {} })raw",
              R"raw(w:1:11: memory: 4.0 KiB; expected 64.0 KiB to 1.0 TiB)raw"},
    BadScript{R"raw(machine { memory: "1MiB" host: "2MiB" } step { exit {} })raw",
              R"raw(w:1:26: host: 2.0 MiB; expected 256.0 KiB to the 1.0 MiB of the machine)raw"},
    BadScript{
        R"raw(machine { generation: "k99" } step { exit {} })raw",
        R"raw(w:1:11: there is no generation 'k99': the presets are k34, k32, k24, k18, k11, hva2005, gph2006, gph2007, gph2009)raw"},
    BadScript{R"raw(machine { semantics: "hole_punch_cow=eaten" } step { exit {} })raw",
              R"raw(w:1:11: switch 'hole_punch_cow' has no value 'eaten': it takes one of kept, zapped)raw"},
    BadScript{R"raw(machine { semantics: "hole_punch_cow" } step { exit {} })raw",
              R"raw(w:1:11: switch 'hole_punch_cow' needs a value: it takes one of kept, zapped)raw"},
    BadScript{R"raw(machine { semantics: "" } step { exit {} })raw",
              R"raw(w:1:11: the switch has no name: the switches are ...)raw"},
    BadScript{R"raw(machine {
  semantics: "reuse_rule=count"
  semantics: "no_such=1"
} step { exit {} })raw",
              R"raw(w:3:3: there is no switch 'no_such': the switches are ...)raw"},
    BadScript{R"raw(machine { swap: "100" } step { exit {} })raw",
              R"raw(w:1:11: swap: 100 B; expected 4.0 KiB to 1.0 TiB)raw"},
    BadScript{R"raw(machine { memory: "1MiB" swap: "2TiB" } step { exit {} })raw",
              R"raw(w:1:26: swap: 2.0 TiB; expected 4.0 KiB to 1.0 TiB)raw"},
    BadScript{R"raw(machine { vdso_start: "100" } step { exit {} })raw",
              R"raw(w:1:11: vdso_start: not a multiple of 4KiB)raw"},
    BadScript{R"raw(process { name: "a" } process { name: "a" } step { exit {} })raw",
              R"raw(w:1:33: there is a process 'a' already)raw"},
    BadScript{
        R"raw(process { name: "a b" } step { exit {} })raw",
        R"raw(w:1:11: name: 'a b' is not a name; expected up to 64 letters, digits, '_', '-' and '.')raw"},
    BadScript{R"raw(process { } step { exit {} })raw",
              R"raw(w:1:1: name is missing: what steps call the process)raw"},
    BadScript{R"raw(file { name: "f" size: "4k" }
file { name: "f" size: "4k" } step { exit {} })raw",
              R"raw(w:2:8: there is a file 'f' already)raw"},
    BadScript{
        R"raw(file { name: "../f" size: "4k" } step { exit {} })raw",
        R"raw(w:1:8: name: '../f' is not a name; expected up to 64 letters, digits, '_', '-' and '.')raw"},
    BadScript{R"raw(file { size: "4k" } step { exit {} })raw",
              R"raw(w:1:1: name is missing: what steps call the file)raw"},
    BadScript{R"raw(file { name: "f" generator: "noise" size: "4k" } step { exit {} })raw",
              R"raw(w:1:18: generator: there is no 'noise'; there are random, text, counter)raw"},
    BadScript{R"raw(file { name: "f" generator: "text" } step { exit {} })raw",
              R"raw(w:1:1: size is missing: how much is generated)raw"},
    BadScript{R"raw(file { name: "f" real: "etc/passwd" } step { exit {} })raw",
              R"raw(w:1:18: real: 'etc/passwd' is not an absolute path)raw"},
    BadScript{R"raw(file { name: "f" real: "/etc/passwd" size: "4k" } step { exit {} })raw",
              R"raw(w:1:18: real with size, generator or seed; expected one way to make the file)raw"},
    BadScript{R"raw(step { process: "ghost" exit {} })raw",
              R"raw(w:1:8: there is no process 'ghost' at this step; there are main)raw"},
    BadScript{R"raw(step { touch { region: "r" } })raw",
              R"raw(w:1:16: there is no region 'r' at this step; there are none)raw"},
    BadScript{R"raw(step { touch { } })raw",
              R"raw(w:1:8: region is missing; expected the name of a region, or addr)raw"},
    BadScript{R"raw(step { touch { region: "r" addr: "0x1000" } })raw",
              R"raw(w:1:8: region and addr together; expected one of them)raw"},
    BadScript{R"raw(step { touch { addr: "0x1000" } })raw",
              R"raw(w:1:8: length is missing: a range at an addr has no other end)raw"},
    BadScript{R"raw(step { touch { addr: "0x1000" offset: "1" length: "1" } })raw",
              R"raw(w:1:31: offset without a region; addr stands alone)raw"},
    BadScript{R"raw(step { map { region: "r" length: "4k" } }
step { unmap { region: "r" } }
step { touch { region: "r" } })raw",
              R"raw(w:3:16: there is no region 'r' at this step; there are none)raw"},
    BadScript{R"raw(step { map { region: "r" length: "4k" } }
step { map { region: "r" length: "4k" } })raw",
              R"raw(w:2:14: there is a region 'r' already; expected a new name)raw"},
    BadScript{R"raw(step { map { region: "heap" length: "4k" } })raw",
              R"raw(w:1:14: there is a region 'heap' already; expected a new name)raw"},
    BadScript{R"raw(step { map { region: "r" } })raw",
              R"raw(w:1:8: length is missing: anonymous memory has no other end)raw"},
    BadScript{R"raw(step { map { length: "4k" } })raw",
              R"raw(w:1:8: region is missing: the name that later steps use)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" prot: "rwz" } })raw",
        R"raw(w:1:39: prot: 'rwz' is not a protection; expected three of r, w, x or '-', such as "rw-")raw"},
    BadScript{R"raw(step { map { region: "r" length: "4k" fixed: true } })raw",
              R"raw(w:1:8: addr is missing: a fixed mapping needs its place)raw"},
    BadScript{R"raw(step { map { region: "r" file: "f" } })raw",
              R"raw(w:1:26: there is no file 'f' at this step; there are /dev/zero)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" } } step { protect { region: "r" } })raw",
        R"raw(w:1:50: prot: '' is not a protection; expected three of r, w, x or '-', such as "rw-")raw"},
    BadScript{R"raw(step { map { region: "r" length: "4k" } } step { remap { region: "r" } })raw",
              R"raw(w:1:50: a remap that changes nothing; expected new_length, to, or both)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" } } step { store { region: "r" fill { byte: 256 } } })raw",
        R"raw(w:1:77: byte: 256 is not a byte; expected 0 to 255)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" } } step { store { region: "r" fill { } } })raw",
        R"raw(w:1:70: a fill of no kind; expected one of random, text, counter, zeros, byte, repeat)raw"},
    BadScript{R"raw(step { map { region: "r" length: "4k" } } step { store { region: "r" size: "8" } })raw",
              R"raw(w:1:70: size without stride or pattern; the range has a length)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" } } step { store { region: "r" stride: "8" size: "16" } })raw",
        R"raw(w:1:82: size: 16; expected 1 to the stride of 8)raw"},
    BadScript{R"raw(step { map { region: "r" length: "4k" } } step { store { region: "r" stride: "0" } })raw",
              R"raw(w:1:70: stride: 0; expected at least 1)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" } } step { store { region: "r" pattern { random { } } } })raw",
        R"raw(w:1:80: random: count is missing: how many accesses)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" } } step { store { region: "r" pattern { zipf { count: 1 exponent: -2 } } } })raw",
        R"raw(w:1:80: zipf: exponent -2; expected more than 0 and at most 20)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" } } step { store { region: "r" pattern { every { } } } })raw",
        R"raw(w:1:80: every: nth is missing; expected 1 or more)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" } } step { load { region: "r" equals { random {} } } })raw",
        R"raw(w:1:69: equals without a seed; expected the seed that the bytes were made from)raw"},
    BadScript{R"raw(step { mlock { } })raw",
              R"raw(w:1:8: region is missing; expected the name of a region, or addr)raw"},
    BadScript{R"raw(step { munlock { addr: "0x1000" } })raw",
              R"raw(w:1:8: length is missing: a range at an addr has no other end)raw"},
    BadScript{R"raw(step { mlock { region: "r" } })raw",
              R"raw(w:1:16: there is no region 'r' at this step; there are none)raw"},
    BadScript{R"raw(step { remap_file_pages { page: 3 } })raw",
              R"raw(w:1:8: region is missing; expected the name of a region, or addr)raw"},
    BadScript{
        R"raw(step { map { region: "r" length: "4k" } } step { remap_file_pages { region: "r" prot: "none" } })raw",
        R"raw(w:1:81: prot: 'none' is not a protection; expected three of r, w, x or '-', such as "rw-")raw"},
    BadScript{R"raw(step { remap_file_pages { region: "r" page: "3" } })raw",
              R"raw(w:1:45: Expected integer, got: "3")raw"},
    BadScript{R"raw(step { reclaim { pages: -1 } })raw", R"raw(w:1:25: Expected integer, got: -)raw"},
    BadScript{R"raw(step { swapon { size: "1GiB" } })raw",
              R"raw(w:1:17: there is no field 'size' in Swapon; there are none)raw"},
    BadScript{R"raw(step { exit {} expect { swap: 1 } })raw",
              R"raw(w:1:16: counts of a process that exited)raw"},
    BadScript{R"raw(step { exit {} expect { locked: 1 } })raw",
              R"raw(w:1:16: counts of a process that exited)raw"},
    BadScript{R"raw(step { exec { } })raw",
              R"raw(w:1:8: path is missing; expected the path of a program, or file)raw"},
    BadScript{R"raw(step { exec { path: "bin/sh" } })raw", R"raw(w:1:15: path: 'bin/sh' is not absolute)raw"},
    BadScript{R"raw(step { brk { grow: "4k" shrink: "4k" } })raw",
              R"raw(w:1:8: brk needs exactly one of grow, shrink and addr)raw"},
    BadScript{
        R"raw(step { rlimit { fsize: "lots" } })raw",
        R"raw(w:1:17: fsize: 'lots' is not a size: write a number of bytes, or one with KiB, MiB, GiB or TiB)raw"},
    BadScript{R"raw(step { truncate { file: "f" size: "0" } })raw",
              R"raw(w:1:19: there is no file 'f' at this step; there are /dev/zero)raw"},
    BadScript{R"raw(step { truncate { size: "0" } })raw",
              R"raw(w:1:8: file is missing: the name of a file)raw"},
    BadScript{R"raw(file { name: "f" } step { truncate { file: "f" } })raw",
              R"raw(w:1:27: size is missing: where the file ends from now on)raw"},
    BadScript{R"raw(file { name: "f" } step { write { file: "f" } })raw",
              R"raw(w:1:27: length is missing: how much is written)raw"},
    BadScript{R"raw(file { name: "f" } step { unlink { file: "f" } } step { read { file: "f" } })raw",
              R"raw(w:1:64: there is no file 'f' at this step; there are /dev/zero)raw"},
    BadScript{R"raw(step { create { file { name: "f" } } } step { create { file { name: "f" } } })raw",
              R"raw(w:1:63: there is a file 'f' already)raw"},
    BadScript{R"raw(step { unlink { file: "/dev/zero" } })raw",
              R"raw(w:1:17: /dev/zero cannot be unlinked)raw"},
    BadScript{R"raw(step { fork { } })raw", R"raw(w:1:8: child is missing: the name of the new process)raw"},
    BadScript{R"raw(step { fork { child: "main" } })raw",
              R"raw(w:1:15: there is a process 'main' already; expected a new name)raw"},
    BadScript{
        R"raw(step { fork { child: "c" } } step { process: "c" exit {} } step { process: "c" exit {} })raw",
        R"raw(w:1:67: there is no process 'c' at this step; there are main)raw"},
    BadScript{R"raw(step { repeat { times: 2 step { fork { child: "c" } } } })raw",
              R"raw(w:1:40: there is a process 'c' already; expected a new name)raw"},
    BadScript{R"raw(step { repeat { times: 0 step { exit {} } } })raw",
              R"raw(w:1:17: times: 0; expected 1 to 1000000000)raw"},
    BadScript{R"raw(step { repeat { times: 5 } })raw", R"raw(w:1:8: a repeat of no steps)raw"},
    BadScript{
        R"raw(step { process: "main" repeat { times: 5 step { touch { addr: "1" length: "1" } } } })raw",
        R"raw(w:1:8: a repeat has no process and no expect; its steps have)raw"},
    BadScript{R"raw(step { repeat { times: 2 step { checkpoint { label: "a" } } } })raw",
              R"raw(w:1:33: a checkpoint inside a repeat; expected it outside: labels are unique)raw"},
    BadScript{
        R"raw(step { repeat { times: 1 step { repeat { times: 1 step { repeat { times: 1 step { repeat { times: 1 step { repeat { times: 1 step { exit {} } } } } } } } } } } })raw",
        R"raw(w:1:101: repeat inside more than 3 others)raw"},
    BadScript{R"raw(step { checkpoint { } })raw",
              R"raw(w:1:8: label is missing: what the checkpoint is called)raw"},
    BadScript{R"raw(step { checkpoint { label: "end" } })raw",
              R"raw(w:1:21: label: 'end' is taken; it means after the last step)raw"},
    BadScript{R"raw(step { checkpoint { label: "a" } }
step { checkpoint { label: "a" } })raw",
              R"raw(w:2:21: there is a checkpoint 'a' already; expected a new label)raw"},
    BadScript{R"raw(step { checkpoint { label: "a" process: "main" process: "" } })raw",
              R"raw(w:1:48: the name of a process is missing; there are main)raw"},
    BadScript{R"raw(step { checkpoint { label: "a" process: "main" process: "ghost" } })raw",
              R"raw(w:1:48: there is no process 'ghost' at this step; there are main)raw"},
    BadScript{
        R"raw(step { exit {} expect { outcome: "SIGPIPE" } })raw",
        R"raw(w:1:25: outcome: there is no 'SIGPIPE'; there are ok, SIGBUS, SIGSEGV, OOM, SIGXFSZ, ENOENT, EIO, E2BIG, ENOEXEC, EBADF, EAGAIN, ENOMEM, EACCES, EFAULT, EBUSY, EEXIST, ENODEV, EINVAL, ETXTBSY, EFBIG, ENOSPC, ENOSYS, EPERM, EOVERFLOW, ENOMSG)raw"},
    BadScript{R"raw(step { exit {} expect { rss: 1 } })raw",
              R"raw(w:1:16: counts of a process that exited)raw"},
    BadScript{R"raw(step { fork { child: "c" } expect { at: "0" } })raw",
              R"raw(w:1:37: at: only where a load, store, touch or grow_stack is expected to end early)raw"},
    BadScript{R"raw(step { fork { child: "c" } expect { bytes: "0" } })raw",
              R"raw(w:1:37: bytes: only read and write count what they moved)raw"},
    BadScript{R"raw(step { fork { child: "c" } expect { file { name: "f" } } })raw",
              R"raw(w:1:44: there is no file 'f' at this step; there are /dev/zero)raw"},
};

INSTANTIATE_TEST_SUITE_P(All, BadScriptTest, testing::ValuesIn(kBadScripts));

TEST(ScriptTest, ReadsNamesLinesAndLabels) {
  const auto script = Script::Parse("w", R"(
process { name: "a" }
process { name: "b" }
step { map { region: "r" length: "64KiB" } }
step {
  repeat {
    times: 2
    step { touch { region: "r" } }
  }
}
step { checkpoint { label: "base" process: "a" } }
)");
  ASSERT_TRUE(script.has_value()) << script.error().what;
  EXPECT_EQ(script->processes(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(script->labels(), std::vector<std::string>{"base"});
  ASSERT_EQ(script->steps().size(), 3u);
  EXPECT_EQ(script->steps()[0].place.line, 4);
  EXPECT_EQ(script->steps()[0].place.column, 1);
  ASSERT_EQ(script->steps()[1].body.size(), 1u);
  EXPECT_EQ(script->steps()[1].body[0].place.line, 8);
  EXPECT_EQ(script->steps()[1].body[0].number, 2u);
  EXPECT_EQ(script->steps()[2].number, 3u);
}

TEST(ScriptTest, DeclaresMainWhenThereIsNoProcess) {
  const auto script = Script::Parse("w", "step { exit {} }");
  ASSERT_TRUE(script.has_value()) << script.error().what;
  EXPECT_EQ(script->processes(), std::vector<std::string>{"main"});
}

TEST(ScriptTest, NamesComeBackAfterTheirThingIsGone) {
  const auto script = Script::Parse("w", R"(
file { name: "f" size: "4k" }
step { map { region: "r" length: "4k" } }
step { unmap { region: "r" } }
step { map { region: "r" length: "4k" } }
step { repeat { times: 3 step { fork { child: "c" } } step { process: "c" exit {} } } }
step { unlink { file: "f" } }
step { create { file { name: "f" } } }
step { exec { path: "/bin/sh" } }
step { map { region: "r" length: "4k" } }
step { touch { region: "text" } }
)");
  EXPECT_TRUE(script.has_value()) << script.error().what;
}

TEST(ScriptTest, AStepThatIsExpectedToFailMakesNothing) {
  EXPECT_TRUE(Script::Parse("w", R"(
step { map { region: "r" length: "4k" offset: "1" file: "/dev/zero" } expect { outcome: "EINVAL" } }
step { map { region: "r" length: "4k" } }
)"));
}

TEST(ScriptTest, HashCountsStepsAndNotLayout) {
  const auto one = Script::Parse("w", "step { exit {} } step { exit {} expect { outcome: 'EIO' } }");
  ASSERT_FALSE(one.has_value());  // the process is gone
  const auto a =
      Script::Parse("w", "step { map { region: 'r' length: '4k' } } step { touch { region: 'r' } }");
  const auto b = Script::Parse("w", "# other\nstep {\n map { length: '4k' region: 'r' } }\nstep { exit {} }");
  const auto c = Script::Parse("w", "seed: 1 step { map { region: 'r' length: '4k' } } step { exit {} }");
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(a->HashUpTo(1), b->HashUpTo(1));
  EXPECT_NE(a->HashUpTo(2), b->HashUpTo(2));
  EXPECT_NE(a->HashUpTo(1), c->HashUpTo(1));
  EXPECT_NE(a->HashUpTo(0), a->HashUpTo(1));
}

TEST(ScriptTest, FilesThatCannotBeRead) {
  const support::TempDir dir;
  const std::string missing = (dir / "none").string();
  auto script = Script::Load(missing);
  ASSERT_FALSE(script.has_value());
  EXPECT_EQ(script.error().what, "open workload '" + missing + "': No such file or directory");
  EXPECT_EQ(script.error().code, base::Code::kNotFound);

  script = Script::Load(dir.path().string());
  ASSERT_FALSE(script.has_value());
  EXPECT_EQ(script.error().what,
            "read workload '" + dir.path().string() + "': it is a directory; expected a file");

  const std::string big = (dir / "big").string();
  support::WriteFile(big, std::string(kScriptBytesMax + 1, '#'));
  script = Script::Load(big);
  ASSERT_FALSE(script.has_value());
  EXPECT_EQ(script.error().what, "read workload '" + big + "': it is larger than 16.0 MiB");

  const std::string good = (dir / "good").string();
  support::WriteFile(good, "step { exit {} }\nstep { exit {} }\n");
  script = Script::Load(good);
  ASSERT_FALSE(script.has_value());
  EXPECT_EQ(script.error().what, good + ":2:1: there is no process 'main' at this step; there are none");
}

TEST(ScriptTest, NestedDeeperThanTheParserGoes) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "step { repeat { times: 1 ";
  const auto script = Script::Parse("w", text);
  ASSERT_FALSE(script.has_value());
  EXPECT_NE(script.error().what.find("too deep"), std::string::npos) << script.error().what;
}

// Whatever the bytes, there is an answer, and a wrong one is one line that names the file.
TEST(ScriptTest, EveryPrefixAndEveryChangedByteOfAnExample) {
  const std::string whole =
      support::ReadFile(CKPT_SOURCE_DIR "/workload/examples/truncate_then_extend.textproto");
  ASSERT_FALSE(whole.empty());
  const auto check = [](const std::string& text) {
    const auto script = Script::Parse("w", text);
    if (script) return;
    EXPECT_TRUE(script.error().what.starts_with("w:")) << script.error().what;
    EXPECT_EQ(script.error().what.find('\n'), std::string::npos) << script.error().what;
  };
  for (size_t length = 0; length < whole.size(); ++length) check(whole.substr(0, length));
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const char byte : {'\0', '\xff', '{', '"', '9', '\n'}) {
      std::string text = whole;
      text[at] = byte;
      check(text);
    }
  }
}

}  // namespace
}  // namespace workload
