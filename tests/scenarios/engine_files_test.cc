// Files that change between checkpoint and restart: what is accepted with a notice, and what is
// refused with both identities (docs/image-format.md; seed 004's scenarios 2 and 3).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "mm/folder_disk.h"
#include "tests/scenarios/engine_fixture.h"

namespace mm {
namespace {

namespace fs = std::filesystem;
using restore::AcceptChanged;
using restore::DropPastEof;

std::string Pattern(size_t length) {
  std::string bytes(length, '\0');
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<char>('a' + (i / 64 + i) % 26);
  return bytes;
}

void SetMtime(const fs::path& path, time_t seconds) {
  const timespec times[2] = {{.tv_sec = seconds, .tv_nsec = 5}, {.tv_sec = seconds, .tv_nsec = 5}};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

std::string InodeText(const fs::path& path) {
  struct stat st = {};
  EXPECT_EQ(stat(path.c_str(), &st), 0);
  return "inode " + std::to_string(st.st_ino);
}

// A process with a private mapping, one page longer than the file, of a real file of three pages.
class RealFileTest : public testing::Test {
 protected:
  RealFileTest() {
    support::WriteFile(path_, bytes_);
    SetMtime(path_, 1'000'000'000);
    process_ = &w_.Spawn();
    file_ = MakeFile("");
    a_ = w_.Private(*process_, file_, 4);
  }
  FilePtr MakeFile(std::string build_id) {
    Recipe recipe;
    recipe.kind = Recipe::Kind::kReal;
    recipe.path = path_;
    recipe.build_id = std::move(build_id);
    OpenedContent opened = OpenContent(recipe).value();
    const uint64_t size = opened.recipe.size;
    return w_.machine().create_file(recipe.build_id.empty() ? "real" : "elf", size,
                                    std::make_unique<OverlayDisk>(std::move(opened)));
  }
  void StoreAndSave(uint64_t page) {
    ASSERT_EQ(w_.Store(*process_, a_ + page * kPage, "mine"), Outcome::kOk);
    ASSERT_TRUE(trip_.Save(w_.machine()));
  }
  std::unique_ptr<Box> RestoreWithNotice() {
    std::unique_ptr<Box> box = trip_.Restore();
    EXPECT_EQ(trip_.restored().notices.size(), 1u);
    if (!trip_.restored().notices.empty()) ExpectBothIdentities(trip_.restored().notices[0]);
    return box;
  }
  void ExpectBothIdentities(const std::string& text) {
    EXPECT_NE(text.find(path_), std::string::npos) << text;
    EXPECT_NE(text.find(std::to_string(bytes_.size()) + " bytes"), std::string::npos) << text;
    EXPECT_NE(text.find("inode"), text.rfind("inode")) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
  void ExpectRefused(Code code) {
    const base::Error error = trip_.RestoreError();
    EXPECT_EQ(error.code, code) << error.what;
    ExpectBothIdentities(error.what);
  }
  void Replace(const std::string& bytes) {
    support::WriteFile(trip_.dir() / "new", bytes);
    fs::rename(trip_.dir() / "new", path_);
    SetMtime(path_, 1'000'000'000);
  }

  const std::string bytes_ = Pattern(3 * kPage);
  World w_;
  Trip trip_;
  const std::string path_ = (trip_.dir() / "real").string();
  FilePtr file_;
  Process* process_ = nullptr;
  Vaddr a_ = 0;
};

TEST_F(RealFileTest, Unchanged) {
  StoreAndSave(1);
  const auto box = trip_.Through(w_.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_TRUE(trip_.restored().notices.empty());
  EXPECT_EQ(trip_.Saved(a_), "1");
  EXPECT_BYTES(box->Load(a_, 3 * kPage), bytes_.substr(0, kPage) + "mine" + bytes_.substr(kPage + 4));
  EXPECT_EQ(box->TryLoad(a_ + 3 * kPage), Outcome::kSigbus);
  EXPECT_BYTES(support::ReadFile(path_), bytes_) << "a real file is never written";
}

TEST_F(RealFileTest, C11_truncated_between) {
  StoreAndSave(0);
  fs::resize_file(path_, kPage);
  const auto box = RestoreWithNotice();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a_, kPage), "mine" + bytes_.substr(4, kPage - 4));
  EXPECT_EQ(box->TryLoad(a_ + kPage), Outcome::kSigbus);
  EXPECT_EQ(box->machine().find_file("real")->i_size, kPage);
}

TEST_F(RealFileTest, C11_truncated_below_a_modified_page) {
  StoreAndSave(2);
  fs::resize_file(path_, kPage);
  const base::Error error = trip_.RestoreError();
  EXPECT_EQ(error.code, Code::kFault) << error.what;
  EXPECT_NE(error.what.find("real"), std::string::npos) << error.what;
  trip_.options.plan.drop_past_eof = DropPastEof::kYes;
  const auto box = RestoreWithNotice();
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip_.restored().dropped, 1u);
  EXPECT_EQ(box->TryLoad(a_ + 2 * kPage), Outcome::kSigbus);
  EXPECT_BYTES(box->Load(a_, kPage), bytes_.substr(0, kPage));
  box->Truncate("real", 3 * kPage);
  EXPECT_BYTES(box->Load(a_ + kPage, 2 * kPage), Zeros(2 * kPage)) << "a fresh page";
}

// The file ends inside the modified page: it has a place.
TEST_F(RealFileTest, C11_truncated_to_mid_page) {
  StoreAndSave(1);
  fs::resize_file(path_, kPage + 2);
  const auto box = RestoreWithNotice();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a_, 2 * kPage),
               bytes_.substr(0, kPage) + "mine" + bytes_.substr(kPage + 4, kPage - 4));
  EXPECT_EQ(box->TryLoad(a_ + 2 * kPage), Outcome::kSigbus);
}

// Page 1 was written to the modelled file; what lies past the new end must not come back.
TEST_F(RealFileTest, C11_truncated_inside_an_overlay_page) {
  ASSERT_TRUE(w_.WriteFile(file_, kPage, std::string(2 * kPage, 'w')).has_value());
  StoreAndSave(0);
  EXPECT_EQ(trip_.SavedOfFile("real"), "1-2");
  fs::resize_file(path_, kPage + 100);
  const auto box = RestoreWithNotice();
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(box->machine().find_file("real")->i_size, kPage + 100);
  EXPECT_BYTES(box->Load(a_ + kPage, kPage), std::string(100, 'w') + Zeros(kPage - 100));
  EXPECT_EQ(box->TryLoad(a_ + 2 * kPage), Outcome::kSigbus);
  box->Truncate("real", 3 * kPage);
  EXPECT_BYTES(box->Load(a_ + kPage, 2 * kPage), std::string(100, 'w') + Zeros(2 * kPage - 100));
}

TEST_F(RealFileTest, C11_extended_between) {
  StoreAndSave(2);
  fs::resize_file(path_, 4 * kPage);
  const auto box = RestoreWithNotice();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a_ + kPage, 3 * kPage),
               bytes_.substr(kPage, kPage) + "mine" + bytes_.substr(2 * kPage + 4) + Zeros(kPage));
}

// The workload had cut the file itself; the system's file did not change.
TEST_F(RealFileTest, C11_truncated_in_the_model) {
  ASSERT_EQ(w_.Store(*process_, a_ + 2 * kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(w_.Truncate(file_, kPage));
  const auto box = trip_.Through(w_.machine());
  ASSERT_NE(box, nullptr);
  EXPECT_TRUE(trip_.restored().notices.empty());
  EXPECT_EQ(box->TryLoad(a_ + kPage), Outcome::kSigbus);
  box->Truncate("real", 3 * kPage);
  EXPECT_BYTES(box->Load(a_ + kPage, 2 * kPage), Zeros(2 * kPage)) << "not what the real file has there";
}

// The workload had cut the file to two pages, the system's grew: the model's length holds.
TEST_F(RealFileTest, C11_truncated_in_the_model_and_extended_between) {
  ASSERT_TRUE(w_.Truncate(file_, 2 * kPage));
  ASSERT_TRUE(trip_.Save(w_.machine()));
  fs::resize_file(path_, 4 * kPage);
  const auto box = RestoreWithNotice();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a_, 2 * kPage), bytes_.substr(0, 2 * kPage));
  EXPECT_EQ(box->TryLoad(a_ + 2 * kPage), Outcome::kSigbus);
}

TEST_F(RealFileTest, Deleted) {
  StoreAndSave(0);
  fs::remove(path_);
  const base::Error error = trip_.RestoreError();
  EXPECT_EQ(error.code, Code::kChanged);
  EXPECT_NE(error.what.find(path_), std::string::npos) << error.what;
  EXPECT_NE(error.what.find("No such file"), std::string::npos) << error.what;
  EXPECT_NE(error.what.find(std::to_string(bytes_.size()) + " bytes"), std::string::npos) << error.what;
  trip_.options.plan.accept_changed = AcceptChanged::kYes;
  EXPECT_EQ(trip_.RestoreError().code, Code::kChanged) << "there is nothing to accept";
}

TEST_F(RealFileTest, ReplacedByADirectory) {
  StoreAndSave(0);
  fs::remove(path_);
  fs::create_directory(path_);
  EXPECT_EQ(trip_.RestoreError().code, Code::kChanged);
}

TEST_F(RealFileTest, ReplacedByAnotherInode) {
  StoreAndSave(0);
  const std::string old_inode = InodeText(path_);
  std::string other = bytes_;
  other[kPage] = '#';
  Replace(other);
  const std::string new_inode = InodeText(path_);
  ASSERT_NE(old_inode, new_inode);
  ExpectRefused(Code::kChanged);
  const std::string what = trip_.RestoreError().what;
  EXPECT_NE(what.find(old_inode), std::string::npos) << what;
  EXPECT_NE(what.find(new_inode), std::string::npos) << what;
  EXPECT_NE(what.find("--accept-changed"), std::string::npos) << what;
  trip_.options.plan.accept_changed = AcceptChanged::kYes;
  const auto box = RestoreWithNotice();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a_, 3 * kPage), "mine" + other.substr(4));
}

// A longer replacement is another file too, not an extended one.
TEST_F(RealFileTest, ReplacedByALongerFile) {
  StoreAndSave(0);
  Replace(Pattern(4 * kPage));
  ExpectRefused(Code::kChanged);
}

TEST_F(RealFileTest, SameSizeOtherMtime) {
  StoreAndSave(0);
  SetMtime(path_, 1'000'000'001);
  ExpectRefused(Code::kChanged);
  const std::string what = trip_.RestoreError().what;
  EXPECT_NE(what.find("1000000000."), std::string::npos) << what;
  EXPECT_NE(what.find("1000000001."), std::string::npos) << what;
  trip_.options.plan.accept_changed = AcceptChanged::kYes;
  const auto box = RestoreWithNotice();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a_, kPage), "mine" + bytes_.substr(4, kPage - 4));
}

// The system's file shrinks under the machine. What the model wrote to it is still there, and either
// comes into the image or makes the checkpoint fail; it is not left out.
TEST_F(RealFileTest, CutBeforeTheCheckpoint) {
  ASSERT_TRUE(w_.WriteFile(file_, 0, std::string(3 * kPage, 'w')).has_value());
  ASSERT_TRUE(w_.Fsync(file_));
  fs::resize_file(path_, kPage);
  const auto saved = trip_.TrySave(w_.machine());
  if (!saved) {
    EXPECT_EQ(saved.error().code, Code::kIo) << saved.error().what;
    return;
  }
  ASSERT_TRUE(trip_.Open());
  EXPECT_EQ(trip_.SavedOfFile("real"), "0-2");
}

// All else is alike: only the build-id tells, so the message must.
TEST_F(RealFileTest, OtherBuildId) {
  const FilePtr elf = MakeFile("\x12\x34");
  w_.Private(*process_, elf, 1);
  StoreAndSave(0);
  trip_.options.build_id = [](const std::string&) { return std::string("\x12\x34"); };
  EXPECT_NE(trip_.Restore(), nullptr);
  EXPECT_TRUE(trip_.restored().notices.empty());
  trip_.options.build_id = nullptr;
  EXPECT_NE(trip_.Restore(), nullptr) << "nothing was found that differs";
  trip_.options.build_id = [](const std::string& path) {
    return base::Result<std::string>(base::FailErrno(EACCES, "read the build-id of '%s'", path.c_str()));
  };
  const base::Error unread = trip_.RestoreError();
  EXPECT_EQ(unread.code, Code::kIo) << "it was not seen to change";
  EXPECT_EQ(unread.what, "read the build-id of '" + path_ + "': Permission denied");
  trip_.options.build_id = [](const std::string&) { return std::string("\xab\xcd"); };
  ExpectRefused(Code::kChanged);
  const std::string what = trip_.RestoreError().what;
  EXPECT_NE(what.find("1234"), std::string::npos) << what;
  EXPECT_NE(what.find("abcd"), std::string::npos) << what;
  trip_.options.plan.accept_changed = AcceptChanged::kYes;
  EXPECT_NE(RestoreWithNotice(), nullptr);
}

// ---- a disk folder ----

// The same with a file that the model keeps in a folder, and may write.
class FolderFileTest : public testing::Test {
 protected:
  FolderFileTest() {
    process_ = &w_.Spawn();
    OpenedContent content = OpenContent(World::CounterRecipe(3 * kPage, 1)).value();
    original_ = Original(content);
    auto disk = FolderDisk::Create(folder_, "data", content).value();
    file_ = w_.machine().create_file("data", 3 * kPage, std::move(disk));
    a_ = w_.Private(*process_, file_, 4);
    trip_.options.disk_dir = folder_;
  }
  static std::string Original(const OpenedContent& content) {
    std::string bytes;
    PageBytes page;
    for (Pgoff index = 0; index < 3; ++index) {
      EXPECT_TRUE(content.content->ReadPage(index, page).has_value());
      bytes.append(reinterpret_cast<const char*>(page.data()), kPage);
    }
    return bytes;
  }
  fs::path OnSystem() const { return fs::path(folder_) / "data"; }

  World w_;
  Trip trip_;
  const std::string folder_ = (trip_.dir() / "disk").string();
  std::string original_;
  FilePtr file_;
  Process* process_ = nullptr;
  Vaddr a_ = 0;
};

TEST_F(FolderFileTest, Unchanged) {
  const Vaddr s = w_.Shared(*process_, file_, 3);
  ASSERT_EQ(w_.Store(*process_, s, "ours"), Outcome::kOk);
  ASSERT_EQ(w_.Store(*process_, a_ + 2 * kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(trip_.Save(w_.machine()));
  EXPECT_BYTES(support::ReadFile(OnSystem()).substr(0, 4), "ours") << "written back";
  EXPECT_EQ(trip_.SavedOfFile("data"), "") << "the folder has it";
  const auto box = trip_.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_TRUE(trip_.restored().notices.empty());
  EXPECT_BYTES(box->Load(a_, 3 * kPage),
               "ours" + original_.substr(4, 2 * kPage - 4) + "mine" + original_.substr(2 * kPage + 4));
}

TEST_F(FolderFileTest, WithoutTheFolder) {
  ASSERT_TRUE(trip_.Save(w_.machine()));
  trip_.options.disk_dir = "";
  const base::Error error = trip_.RestoreError();
  EXPECT_EQ(error.code, Code::kChanged);
  EXPECT_NE(error.what.find("--disk"), std::string::npos) << error.what;
}

// Case 2 of the seed, and C09: refused while the file is short, good once it is long again.
TEST_F(FolderFileTest, C09_survivor_and_a_file_that_is_long_again) {
  ASSERT_EQ(w_.Store(*process_, a_ + 2 * kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(trip_.Save(w_.machine()));
  fs::resize_file(OnSystem(), kPage);
  EXPECT_EQ(trip_.RestoreError().code, Code::kFault);
  fs::resize_file(OnSystem(), 2 * kPage + 1);
  const auto box = trip_.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip_.restored().notices.size(), 1u);
  EXPECT_BYTES(box->Load(a_ + 2 * kPage, kPage), "mine" + original_.substr(2 * kPage + 4));
  EXPECT_BYTES(box->Load(a_ + kPage, kPage), Zeros(kPage));
  EXPECT_EQ(box->machine().find_file("data")->i_size, 2 * kPage + 1);
}

// The file is cut by the workload, and extended on the system before the restart: the old write is
// gone where the kernel took it away, and back where seed 004 says that it survived.
TEST_F(FolderFileTest, C11_truncated_and_extended_between) {
  ASSERT_EQ(w_.Store(*process_, a_ + 2 * kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(w_.Truncate(file_, kPage));
  ASSERT_TRUE(trip_.Save(w_.machine()));
  EXPECT_EQ(trip_.Saved(a_), "");
  fs::resize_file(OnSystem(), 3 * kPage);
  const auto box = trip_.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_EQ(trip_.restored().notices.size(), 1u);
  EXPECT_BYTES(box->Load(a_, 3 * kPage), original_.substr(0, kPage) + Zeros(2 * kPage));
}

TEST(FolderFileSurvivorTest, C11_extended_between) {
  World w(WithSwitch("cow_survives_truncate=yes"));
  Trip trip;
  const std::string folder = (trip.dir() / "disk").string();
  auto disk = FolderDisk::Create(folder, "data", OpenContent(World::CounterRecipe(3 * kPage, 1)).value());
  const FilePtr file = w.machine().create_file("data", 3 * kPage, std::move(*disk));
  Process& p = w.Spawn();
  const Vaddr a = w.Private(p, file, 3);
  ASSERT_EQ(w.Store(p, a + 2 * kPage, "mine"), Outcome::kOk);
  ASSERT_TRUE(w.Truncate(file, kPage));
  const std::string old = w.Load(p, a + 2 * kPage, kPage);
  ASSERT_TRUE(trip.Save(w.machine()));
  trip.options.disk_dir = folder;
  EXPECT_EQ(trip.RestoreError().code, Code::kFault);
  fs::resize_file(folder + "/data", 3 * kPage);
  const auto box = trip.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a + 2 * kPage, kPage), old);
  EXPECT_BYTES(box->Load(a + kPage, kPage), Zeros(kPage));
}

TEST_F(FolderFileTest, ReplacedOrDeleted) {
  ASSERT_EQ(w_.Store(*process_, a_, "mine"), Outcome::kOk);
  ASSERT_TRUE(trip_.Save(w_.machine()));
  fs::rename(OnSystem(), trip_.dir() / "kept");
  EXPECT_EQ(trip_.RestoreError().code, Code::kChanged);
  support::WriteFile(OnSystem(), Pattern(3 * kPage));
  EXPECT_EQ(trip_.RestoreError().code, Code::kChanged);
  trip_.options.plan.accept_changed = AcceptChanged::kYes;
  const auto box = trip_.Restore();
  ASSERT_NE(box, nullptr);
  EXPECT_BYTES(box->Load(a_, 3 * kPage),
               "mine" + original_.substr(4, kPage - 4) + Pattern(3 * kPage).substr(kPage));
}

// ---- names ----

// A deleted file that is still mapped, and another one that has its name now, in any order.
TEST(Scenario, Deleted_file_whose_name_is_taken) {
  for (const bool deleted_first : {true, false}) {
    SCOPED_TRACE(deleted_first);
    World w;
    Process& p = w.Spawn();
    const auto make = [&](uint64_t seed) {
      return w.machine().create_file(
          "name", 2 * kPage,
          std::make_unique<OverlayDisk>(OpenContent(World::CounterRecipe(2 * kPage, seed)).value()));
    };
    const FilePtr old = make(1);
    w.machine().unlink(old);
    const FilePtr now = make(2);
    // Files are met in the order of addresses; the later mapping is the lower one.
    const Vaddr first = w.Private(p, deleted_first ? now : old, 2);
    const Vaddr second = w.Private(p, deleted_first ? old : now, 2);
    ASSERT_LT(second, first);
    ASSERT_EQ(w.Store(p, first, "mine"), Outcome::kOk);
    Trip trip;
    const auto box = trip.Through(w.machine());
    ASSERT_NE(box, nullptr);
    const std::string old_bytes = w.Original(old, kPage, kPage);
    const std::string new_bytes = w.Original(now, kPage, kPage);
    EXPECT_BYTES(box->Load(first + kPage, kPage), deleted_first ? new_bytes : old_bytes);
    EXPECT_BYTES(box->Load(second + kPage, kPage), deleted_first ? old_bytes : new_bytes);
    EXPECT_BYTES(box->FileBytes("name", kPage, kPage), new_bytes);
    EXPECT_EQ(box->Store(second, "more"), Outcome::kOk);
  }
}

}  // namespace
}  // namespace mm
