// Temporary files: what a killed writer left is removed, what a living one writes is not.
#include "proto/temporary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>

#include "base/fd.h"
#include "proto/file.h"
#include "tests/proto/faulty_calls.h"
#include "tests/support/child.h"
#include "tests/support/support.h"

namespace {

using fixture::FaultyCalls;
using image::IsTemporaryName;
using image::OutputFile;
using testing::UnorderedElementsAre;

class Temporaries : public testing::Test {
 protected:
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      names.push_back(entry.path().filename());
    return names;
  }
  std::string Folder() const { return folder_.path(); }
  // What a writer of that name leaves that is killed.
  void Stray(const std::string& name, const std::string& bytes = "half an im") const {
    support::WriteFile(folder_ / name, bytes);
    std::filesystem::permissions(folder_ / name, std::filesystem::perms(0600));
  }
  void Clean(const std::string& name = "x.img") const {
    image::RemoveStrays(image::Calls(), folder_.path(), name);
  }

  const support::TempDir folder_;
};

TEST_F(Temporaries, AreKnownByTheirNames) {
  for (const char* name : {".x.ckpt-abcXYZ", ".x.ckpt-012345", "..ckpt-aaaaaa", ".a.ckpt-b.ckpt-abcdef"})
    EXPECT_TRUE(IsTemporaryName(name)) << name;
  for (const char* name : {"", ".", "x.ckpt-abcdef", ".x.ckpt-abcde", ".x.ckpt-abcdefg", ".x.ckpt-abc.ef",
                           ".x.ckpt_abcdef", ".ckpt-abcdef", "/.x.ckpt-abcdef", ".x.ckpt-abcd\xc3\xa9"})
    EXPECT_FALSE(IsTemporaryName(name)) << name;
}

TEST_F(Temporaries, OfKilledWritersAreRemoved) {
  Stray(".x.img.ckpt-aaaaaa");
  Stray(".x.img.ckpt-Zz0123", "");
  Clean();
  EXPECT_THAT(Names(), UnorderedElementsAre());
}

// Nothing but what a writer of this name can have left.
TEST_F(Temporaries, OthersStay) {
  Stray(".y.img.ckpt-aaaaaa");
  Stray(".x.img.ckpt-aaaaa");
  Stray(".x.img.ckpt-aaaaaaa");
  Stray(".x.img.ckpt-aa.aaa");
  Stray("x.img.ckpt-aaaaaa");
  Stray(".x.img2.ckpt-aaaaaa");
  Stray(".x.img.ckpt-shared");
  std::filesystem::permissions(folder_ / ".x.img.ckpt-shared", std::filesystem::perms(0644));
  std::filesystem::create_directory(folder_ / ".x.img.ckpt-folder");
  std::filesystem::create_symlink("x.img.ckpt-aaaaaa", folder_ / ".x.img.ckpt-symlnk");
  ASSERT_EQ(mkfifo((folder_ / ".x.img.ckpt-fifo00").c_str(), 0600), 0);
  const std::vector<std::string> before = Names();
  Clean();
  EXPECT_THAT(Names(), testing::UnorderedElementsAreArray(before));
  EXPECT_EQ(support::ReadFile(folder_ / "x.img.ckpt-aaaaaa"), "half an im");
}

TEST_F(Temporaries, ThatSomebodyHasLockedStay) {
  const auto made = image::MakeTemporary(image::Calls(), Folder(), "x.img");
  ASSERT_TRUE(made) << made.error().what;
  base::Fd fd(made->fd);
  Clean();
  EXPECT_EQ(Names().size(), 1u);
  fd.reset();
  Clean();
  EXPECT_EQ(Names().size(), 0u);
}

TEST_F(Temporaries, OfLongNamesAreTheirs) {
  const std::string name(250, 'n');
  const auto made = image::MakeTemporary(image::Calls(), Folder(), name);
  ASSERT_TRUE(made) << made.error().what;
  EXPECT_TRUE(IsTemporaryName(Names().front()));
  base::Fd(made->fd).reset();
  Clean(name);
  EXPECT_EQ(Names().size(), 0u);
}

// A removed name that came to another file meanwhile is that file's.
TEST_F(Temporaries, TheNameMustStillBeThatOfTheLockedFile) {
  Stray(".x.img.ckpt-aaaaaa", "old");
  FaultyCalls calls;
  calls.before = [&](const FaultyCalls::Call& call) {
    if (call.name != "flock") return 0;
    std::filesystem::remove(folder_ / ".x.img.ckpt-aaaaaa");
    Stray(".x.img.ckpt-aaaaaa", "new");
    return 0;
  };
  image::RemoveStrays(calls, Folder(), "x.img");
  EXPECT_EQ(support::ReadFile(folder_ / ".x.img.ckpt-aaaaaa"), "new");
}

// T3, at both moments: another has the lock, and another has removed it.
TEST_F(Temporaries, OneThatIsTakenBeforeItIsLockedIsMadeAgain) {
  for (const bool removed : {false, true}) {
    base::Fd other;
    FaultyCalls calls;
    uint64_t locks = 0;
    calls.before = [&](const FaultyCalls::Call& call) {
      if (call.name != "flock" || ++locks > 1) return 0;
      if (removed) return Clean(), 0;
      other = base::Fd(open((folder_ / Names().front()).c_str(), O_RDWR | O_CLOEXEC));
      return flock(other.get(), LOCK_EX | LOCK_NB);
    };
    const auto made = image::MakeTemporary(calls, Folder(), "x.img");
    ASSERT_TRUE(made) << made.error().what;
    EXPECT_EQ(locks, 2u);
    struct stat named;
    struct stat written;
    ASSERT_EQ(stat(made->path.c_str(), &named), 0);
    ASSERT_EQ(fstat(made->fd, &written), 0);
    EXPECT_EQ(named.st_ino, written.st_ino);
    EXPECT_EQ(Names().size(), removed ? 1u : 2u);
    other.reset();
    base::Fd(made->fd).reset();
    Clean();
    EXPECT_EQ(Names().size(), 0u);
  }
}

TEST_F(Temporaries, WhoRemovesThemAllTheTimeIsTold) {
  FaultyCalls calls;
  calls.before = [](const FaultyCalls::Call& call) { return call.name == "flock" ? EWOULDBLOCK : 0; };
  const auto made = image::MakeTemporary(calls, Folder(), "x.img");
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, base::Code::kIo);
}

TEST_F(Temporaries, AFileSystemWithoutLocksDoes) {
  Stray(".x.img.ckpt-aaaaaa");
  FaultyCalls calls;
  calls.before = [](const FaultyCalls::Call& call) { return call.name == "flock" ? ENOLCK : 0; };
  const image::ReplacedCalls replaced(calls);
  const auto file = OutputFile::Create(folder_ / "x.img");
  ASSERT_TRUE(file) << file.error().what;
  ASSERT_TRUE((*file)->Append("new"));
  ASSERT_TRUE((*file)->Publish(image::Sync::kYes));
  EXPECT_THAT(Names(), UnorderedElementsAre("x.img", ".x.img.ckpt-aaaaaa"));
}

// A child that writes `name` until it is told to go on or is killed.
class Writer {
 public:
  explicit Writer(const std::string& path) {
    int ready[2];
    int go_on[2];
    CHECK(pipe2(ready, O_CLOEXEC) == 0 && pipe2(go_on, O_CLOEXEC) == 0);
    child_ = support::Fork([&] {
      const auto file = OutputFile::Create(path);
      if (!file || !(*file)->Append("of the child")) return 1;
      char byte = 'r';
      if (write(ready[1], &byte, 1) != 1) return 2;
      close(go_on[1]);
      if (read(go_on[0], &byte, 1) != 1) return 3;
      return (*file)->Publish(image::Sync::kYes) ? 0 : 4;
    });
    close(ready[1]);
    close(go_on[0]);
    char byte = 0;
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    go_on_ = go_on[1];
  }
  ~Writer() { close(go_on_); }
  int Finish() {
    CHECK(write(go_on_, "g", 1) == 1);
    return support::WaitFor(child_);
  }
  int Kill() {
    kill(child_, SIGKILL);
    return support::WaitFor(child_);
  }

 private:
  pid_t child_ = -1;
  int go_on_ = -1;
};

void WriteWhole(const std::string& path, const std::string& bytes) {
  const auto file = OutputFile::Create(path);
  ASSERT_TRUE(file) << file.error().what;
  ASSERT_TRUE((*file)->Append(bytes));
  const auto published = (*file)->Publish(image::Sync::kYes);
  ASSERT_TRUE(published) << published.error().what;
}

TEST_F(Temporaries, OfALivingProcessStayAndThoseOfAKilledOneGo) {
  const std::string path = folder_ / "x.img";
  Writer living(path);
  Writer killed(path);
  EXPECT_EQ(Names().size(), 2u);
  killed.Kill();
  EXPECT_EQ(Names().size(), 2u);
  WriteWhole(path, "of the parent");
  EXPECT_EQ(support::ReadFile(path), "of the parent");
  EXPECT_EQ(Names().size(), 2u) << "that of the living one is still there, that of the killed one is not";
  EXPECT_EQ(living.Finish(), 0);
  EXPECT_EQ(support::ReadFile(path), "of the child");
  EXPECT_THAT(Names(), UnorderedElementsAre("x.img"));
}

// Each cleans up behind the others while they write: nobody loses a file.
TEST_F(Temporaries, ManyWritersOfOneName) {
  const std::string path = folder_ / "x.img";
  std::vector<pid_t> children;
  for (int writer = 0; writer < 6; ++writer) {
    children.push_back(support::Fork([&] {
      for (int i = 0; i < 150; ++i) {
        const auto file = OutputFile::Create(path);
        if (!file || !(*file)->Append("whole")) return 1;
        if (!(*file)->Publish(image::Sync::kNo)) return 2;
        if (support::ReadFile(path) != "whole") return 3;
      }
      return 0;
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(support::WaitFor(child), 0);
  EXPECT_THAT(Names(), UnorderedElementsAre("x.img"));
}

}  // namespace
