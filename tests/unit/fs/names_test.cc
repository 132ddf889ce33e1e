// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>
#include <gtest/gtest.h>

#include "format/checksum.h"
#include "media/memory_medium.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using test::kRoot;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;

template <typename T>
Error error_of(const Result<T>& r) {
  EXPECT_FALSE(r);
  return r ? Error::kIo : r.error();
}

TEST(Names, MakeLookupListRemove) {
  TestPool pool(64 * kMiB);
  const uint64_t before = pool.free_blocks();
  const Ino dir = pool.mkdir(kRootIno, "dir");
  const Ino file = pool.file(dir, "file", "hello");
  EXPECT_EQ(pool.content(file), "hello");
  EXPECT_EQ(pool->lookup(dir, "file")->ino, file);
  EXPECT_EQ(pool->lookup(dir, "..")->ino, kRootIno);
  EXPECT_EQ(pool->lookup(dir, ".")->ino, dir);
  EXPECT_EQ(pool->getattr(kRootIno)->nlink, 3U);
  EXPECT_EQ(pool.list(dir), std::vector<std::string>{"file"});
  pool.remount();
  EXPECT_EQ(pool.content(file), "hello");
  EXPECT_EQ(error_of(pool->rmdir(kRootIno, "dir")), Error::kNotEmpty);
  EXPECT_EQ(error_of(pool->unlink(kRootIno, "dir")), Error::kIsDirectory);
  EXPECT_EQ(error_of(pool->rmdir(dir, "file")), Error::kNotDirectory);
  EXPECT_TRUE(pool->unlink(dir, "file"));
  EXPECT_EQ(error_of(pool->lookup(dir, "file")), Error::kNotFound);
  EXPECT_TRUE(pool->rmdir(kRootIno, "dir"));
  EXPECT_EQ(pool->getattr(kRootIno)->nlink, 2U);
  EXPECT_EQ(pool.free_blocks(), before);
}

TEST(Names, BadNamesAreRefused) {
  TestPool pool(64 * kMiB);
  const auto make = [&](std::string_view name) {
    return error_of(pool->make(kRootIno, name, 0100644, 0, 0, kRoot));
  };
  EXPECT_EQ(make(""), Error::kInvalid);
  EXPECT_EQ(make("."), Error::kInvalid);
  EXPECT_EQ(make("a/b"), Error::kInvalid);
  EXPECT_EQ(make(std::string(256, 'x')), Error::kNameTooLong);
  EXPECT_TRUE(pool->make(kRootIno, std::string(255, 'x'), 0100644, 0, 0, kRoot));
  EXPECT_EQ(make(std::string(255, 'x')), Error::kExists);
}

TEST(Names, LinksShareOneInode) {
  TestPool pool(64 * kMiB);
  const Ino file = pool.file(kRootIno, "a", "x");
  EXPECT_EQ(pool->link(file, kRootIno, "b")->nlink, 2U);
  EXPECT_TRUE(pool->unlink(kRootIno, "a"));
  EXPECT_EQ(pool->getattr(file)->nlink, 1U);
  EXPECT_EQ(pool.content(pool->lookup(kRootIno, "b")->ino), "x");
  EXPECT_EQ(error_of(pool->link(pool.mkdir(kRootIno, "d"), kRootIno, "e")), Error::kPermission);
}

TEST(Names, SymlinksOfEveryLength) {
  TestPool pool(64 * kMiB);
  for (const size_t size : {1U, 127U, 128U, 129U, 4095U}) {
    const std::string target(size, 't');
    const auto made = pool->symlink(kRootIno, "l" + std::to_string(size), target, kRoot);
    ASSERT_TRUE(made);
    EXPECT_EQ(*pool->readlink(made->ino), target);
    EXPECT_EQ(made->size, size);
  }
  EXPECT_EQ(error_of(pool->symlink(kRootIno, "long", std::string(4096, 't'), kRoot)), Error::kNameTooLong);
  pool.remount();
  EXPECT_EQ(*pool->readlink(pool->lookup(kRootIno, "l4095")->ino), std::string(4095, 't'));
}

TEST(Names, UnlinkedWhileOpenLivesUntilReleased) {
  TestPool pool(64 * kMiB);
  const uint64_t before = pool.free_blocks();
  const Ino ino = pool.file(kRootIno, "f", std::string(100000, 'x'));
  {
    auto file = pool->open(ino, O_RDWR, false);
    ASSERT_TRUE(file);
    ASSERT_TRUE(pool->unlink(kRootIno, "f"));
    EXPECT_EQ(pool->getattr(ino)->nlink, 0U);
    EXPECT_EQ(test::read_file(pool.fs(), **file, 99990, 100)->size(), 10U);
  }
  EXPECT_EQ(pool.free_blocks(), before);
}

TEST(Names, UnlinkedWhileOpenIsFreedAfterACrash) {
  TestPool pool(64 * kMiB);
  const uint64_t before = pool.free_blocks();
  const Ino ino = pool.file(kRootIno, "f", std::string(100000, 'x'));
  auto file = pool->open(ino, O_RDWR, false);
  ASSERT_TRUE(pool->unlink(kRootIno, "f"));
  // As a crash does: nobody releases. In sight of the leak checker, which looks after destructors of statics have run.
  static auto* const never_released = new std::vector<fs::OpenFile*>;
  never_released->push_back(file->release());
  pool.crash();
  EXPECT_EQ(pool.free_blocks(), before);
}

TEST(Names, TmpfileGetsAName) {
  TestPool pool(64 * kMiB);
  fs::Attr attr;
  auto file = pool->tmpfile(kRootIno, 0600, O_RDWR, kRoot, &attr);
  ASSERT_TRUE(file);
  EXPECT_EQ(attr.nlink, 0U);
  ASSERT_TRUE(pool->write(**file, 0, test::bytes("data"), false, false));
  EXPECT_EQ(pool->link(attr.ino, kRootIno, "named")->nlink, 1U);
  file->reset();
  pool.remount();
  EXPECT_EQ(pool.content(pool->lookup(kRootIno, "named")->ino), "data");
}

TEST(Rename, ReplacesAndMoves) {
  TestPool pool(64 * kMiB);
  const uint64_t before = pool.free_blocks();
  const Ino a = pool.mkdir(kRootIno, "a");
  const Ino b = pool.mkdir(kRootIno, "b");
  const Ino one = pool.file(a, "one", "1");
  pool.file(b, "two", std::string(50000, '2'));
  EXPECT_EQ(error_of(pool->rename(a, "one", b, "two", fs::kRenameNoReplace)), Error::kExists);
  EXPECT_TRUE(pool->rename(a, "one", b, "two", 0));
  EXPECT_EQ(pool->lookup(b, "two")->ino, one);
  EXPECT_TRUE(pool.list(a).empty());
  EXPECT_TRUE(pool->rename(kRootIno, "a", b, "a", 0));
  EXPECT_EQ(pool->lookup(a, "..")->ino, b);
  EXPECT_EQ(pool->getattr(b)->nlink, 3U);
  EXPECT_EQ(pool->getattr(kRootIno)->nlink, 3U);
  EXPECT_EQ(error_of(pool->rename(kRootIno, "b", a, "b", 0)), Error::kInvalid);
  pool.remount();
  EXPECT_EQ(pool->lookup(a, "..")->ino, b);
  EXPECT_TRUE(pool->unlink(b, "two"));
  EXPECT_TRUE(pool->rmdir(b, "a"));
  EXPECT_TRUE(pool->rmdir(kRootIno, "b"));
  EXPECT_EQ(pool.free_blocks(), before);
}

TEST(Rename, Exchanges) {
  TestPool pool(64 * kMiB);
  const Ino a = pool.mkdir(kRootIno, "a");
  const Ino b = pool.mkdir(kRootIno, "b");
  const Ino file = pool.file(a, "x", "file");
  const Ino sub = pool.mkdir(b, "y");
  EXPECT_TRUE(pool->rename(a, "x", b, "y", fs::kRenameExchange));
  EXPECT_EQ(pool->lookup(a, "x")->ino, sub);
  EXPECT_EQ(pool->lookup(b, "y")->ino, file);
  EXPECT_EQ(pool->lookup(sub, "..")->ino, a);
  EXPECT_EQ(pool->getattr(a)->nlink, 3U);
  EXPECT_EQ(pool->getattr(b)->nlink, 2U);
  EXPECT_EQ(error_of(pool->rename(a, "x", b, "nothing", fs::kRenameExchange)), Error::kNotFound);
}

TEST(Rename, TypesMustFit) {
  TestPool pool(64 * kMiB);
  pool.mkdir(kRootIno, "d");
  const Ino full = pool.mkdir(kRootIno, "full");
  pool.file(full, "f");
  pool.file(kRootIno, "f");
  EXPECT_EQ(error_of(pool->rename(kRootIno, "d", kRootIno, "f", 0)), Error::kNotDirectory);
  EXPECT_EQ(error_of(pool->rename(kRootIno, "f", kRootIno, "d", 0)), Error::kIsDirectory);
  EXPECT_EQ(error_of(pool->rename(kRootIno, "d", kRootIno, "full", 0)), Error::kNotEmpty);
  EXPECT_TRUE(pool->rename(kRootIno, "full", kRootIno, "d", 0));
  EXPECT_EQ(pool.list(kRootIno), (std::vector<std::string>{"d", "f"}));
}

TEST(Rename, ADirectoryOverAnotherOneKeepsTheCounts) {
  TestPool pool(64 * kMiB);
  const Ino a = pool.mkdir(kRootIno, "a");
  const Ino b = pool.mkdir(kRootIno, "b");
  const Ino moved = pool.mkdir(a, "moved");
  pool.mkdir(b, "replaced");
  pool.mkdir(b, "sibling");
  EXPECT_TRUE(pool->rename(a, "moved", b, "replaced", 0));  // across
  EXPECT_EQ(pool->getattr(a)->nlink, 2U);
  EXPECT_EQ(pool->getattr(b)->nlink, 4U);
  EXPECT_TRUE(pool->rename(b, "replaced", b, "sibling", 0));  // within
  EXPECT_EQ(pool->getattr(b)->nlink, 3U);
  EXPECT_EQ(pool->lookup(b, "sibling")->ino, moved);
  const Ino one = pool.mkdir(a, "one");
  EXPECT_TRUE(pool->rename(a, "one", b, "sibling", fs::kRenameExchange));
  EXPECT_EQ(pool->getattr(a)->nlink, 3U);
  EXPECT_EQ(pool->getattr(b)->nlink, 3U);
  EXPECT_EQ(pool->lookup(one, "..")->ino, b);
  EXPECT_EQ(pool->lookup(moved, "..")->ino, a);
}

// --- Removed directories ---------------------------------------------------------------------------------------------

TEST(RemovedDirectory, StillOpenKnowsItselfButNoParent) {
  TestPool pool(64 * kMiB);
  const Ino dir = pool.mkdir(kRootIno, "dir");
  {
    auto open = pool->open(dir, O_RDONLY, false);
    ASSERT_TRUE(open);
    ASSERT_TRUE(pool->rmdir(kRootIno, "dir"));
    const auto self = pool->lookup(dir, ".");
    ASSERT_TRUE(self) << to_string(self.error());
    EXPECT_EQ(self->ino, dir);
    EXPECT_EQ(self->nlink, 0U);
    EXPECT_EQ(error_of(pool->lookup(dir, "..")), Error::kStale);
    EXPECT_EQ(error_of(pool->lookup(dir, "name")), Error::kNotFound);
    EXPECT_EQ(error_of(pool->make(dir, "name", 0100644, 0, 0, kRoot)), Error::kNotFound);
  }
  EXPECT_EQ(error_of(pool->lookup(dir, ".")), Error::kStale);
  EXPECT_EQ(error_of(pool->lookup(dir, "..")), Error::kStale);
}

TEST(RemovedDirectory, KnownToTheKernelIsStaleByHandle) {
  fs::MountOptions options;
  options.count_lookups = true;
  TestPool pool(64 * kMiB, options);
  const Ino dir = pool.mkdir(kRootIno, "dir");  // counts a lookup: the number is kept
  ASSERT_TRUE(pool->rmdir(kRootIno, "dir"));
  EXPECT_EQ(error_of(pool->lookup(dir, ".")), Error::kStale);
  EXPECT_EQ(error_of(pool->lookup(dir, "..")), Error::kStale);
  pool->forget(dir, 1);
  EXPECT_EQ(error_of(pool->lookup(dir, ".")), Error::kStale);
  EXPECT_EQ(error_of(pool->lookup(dir, "..")), Error::kStale);
}

TEST(RemovedDirectory, AParentRemovedLaterIsNotFoundThroughTheChild) {
  TestPool pool(64 * kMiB);
  const Ino parent = pool.mkdir(kRootIno, "parent");
  const Ino child = pool.mkdir(parent, "child");
  auto open_child = pool->open(child, O_RDONLY, false);
  auto open_parent = pool->open(parent, O_RDONLY, false);
  ASSERT_TRUE(open_child && open_parent);
  ASSERT_TRUE(pool->rmdir(parent, "child"));
  ASSERT_TRUE(pool->rmdir(kRootIno, "parent"));
  EXPECT_EQ(error_of(pool->lookup(child, "..")), Error::kStale);
  EXPECT_EQ(error_of(pool->lookup(parent, "..")), Error::kStale);
  EXPECT_TRUE(pool->lookup(parent, "."));
}

// --- Limits ----------------------------------------------------------------------------------------------------------

/// Writes link counts that would take days to come by onto the medium of an unmounted pool.
void set_nlink(media::MemoryMedium& medium, Ino ino, uint32_t nlink) {
  const uint32_t seed = format::checksum_seed(medium.as<format::Superblock>(0)->uuid);
  int found = 0;
  for (uint64_t offset = 0; offset < medium.size(); offset += format::kInodeSize) {
    auto* const image = reinterpret_cast<format::Inode*>(medium.raw() + offset);
    if (image->ino != ino.value || image->mode == 0 || !format::is_sealed(seed, format::Unit::kInode, image))
      continue;
    image->nlink = nlink;
    format::seal(seed, format::Unit::kInode, image);
    ++found;
  }
  ASSERT_GE(found, 1);
}

class LinkLimit : public ::testing::Test {
 protected:
  void SetUp() override {
    TestPool pool(medium_, true);
    full_ = pool.mkdir(kRootIno, "full");
    sub_ = pool.mkdir(full_, "sub");
    empty_ = pool.mkdir(full_, "empty");
    pool.file(full_, "file");
    other_ = pool.mkdir(kRootIno, "other");
    pool.mkdir(other_, "dir");
    file_ = pool.file(other_, "file");
  }
  /// Mounts with `ino` at the limit. Not to be checked: the count is a lie.
  void mount_with(Ino ino, uint32_t nlink) {
    set_nlink(*medium_, ino, nlink);
    std::string why;
    auto mounted = fs::Filesystem::mount(medium_, {}, &why);
    ASSERT_TRUE(mounted) << why;
    fs_ = std::move(*mounted);
  }
  [[nodiscard]] uint32_t nlink(Ino ino) { return fs_->getattr(ino)->nlink; }
  void TearDown() override {
    if (fs_) {
      EXPECT_TRUE(fs_->unmount());
    }
  }

  std::shared_ptr<media::MemoryMedium> medium_ = std::make_shared<media::MemoryMedium>(16 * kMiB);
  std::unique_ptr<fs::Filesystem> fs_;
  Ino full_, sub_, empty_, other_, file_;
};

TEST_F(LinkLimit, AFullDirectoryTakesNoMoreSubdirectories) {
  mount_with(full_, format::kNlinkMax);
  EXPECT_EQ(error_of(fs_->make(full_, "new", 0040755, 0, 0, kRoot)), Error::kTooManyLinks);
  EXPECT_EQ(error_of(fs_->rename(other_, "dir", full_, "dir", 0)), Error::kTooManyLinks);
  EXPECT_EQ(error_of(fs_->rename(other_, "dir", full_, "file", fs::kRenameExchange)), Error::kTooManyLinks);
  EXPECT_EQ(nlink(full_), format::kNlinkMax);
  EXPECT_EQ(error_of(fs_->lookup(full_, "new")), Error::kNotFound);
  EXPECT_TRUE(fs_->lookup(other_, "dir"));
  // Anything else, it takes.
  EXPECT_TRUE(fs_->make(full_, "fifo", 0010644, 0, 0, kRoot));
  EXPECT_TRUE(fs_->rename(full_, "sub", full_, "renamed", 0));
  EXPECT_TRUE(fs_->rename(other_, "file", full_, "moved", 0));
  // One less: there is room for one.
  EXPECT_TRUE(fs_->rmdir(full_, "empty"));
  EXPECT_TRUE(fs_->make(full_, "new", 0040755, 0, 0, kRoot));
  EXPECT_EQ(error_of(fs_->make(full_, "newer", 0040755, 0, 0, kRoot)), Error::kTooManyLinks);
}

TEST_F(LinkLimit, AFullDirectoryExchangesAndReplacesSubdirectories) {
  mount_with(full_, format::kNlinkMax);
  EXPECT_TRUE(fs_->rename(other_, "dir", full_, "sub", fs::kRenameExchange));
  EXPECT_TRUE(fs_->rename(full_, "sub", other_, "dir", fs::kRenameExchange));
  EXPECT_EQ(nlink(full_), format::kNlinkMax);
  EXPECT_TRUE(fs_->rename(other_, "dir", full_, "empty", 0));
  EXPECT_EQ(nlink(full_), format::kNlinkMax);
  EXPECT_TRUE(fs_->rename(full_, "sub", full_, "empty", 0));
  EXPECT_EQ(nlink(full_), format::kNlinkMax - 1);
}

TEST_F(LinkLimit, AFullFileTakesNoMoreNames) {
  mount_with(file_, format::kNlinkMax);
  EXPECT_EQ(error_of(fs_->link(file_, full_, "new")), Error::kTooManyLinks);
  EXPECT_EQ(error_of(fs_->lookup(full_, "new")), Error::kNotFound);
  EXPECT_TRUE(fs_->rename(other_, "file", full_, "moved", 0));
  EXPECT_TRUE(fs_->unlink(full_, "moved"));
}

TEST_F(LinkLimit, MoreThanTheLimitIsCorruption) {
  mount_with(file_, format::kNlinkMax + 1);
  EXPECT_EQ(error_of(fs_->getattr(file_)), Error::kCorrupted);
}

}  // namespace
}  // namespace udax
