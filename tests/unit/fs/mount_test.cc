// SPDX-License-Identifier: BSD-3-Clause
//
// Mounting: read-only, with orphans, with a cut that an error has stopped half-way.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstring>

#include "media/memory_medium.h"
#include "mkfs/make_pool.h"
#include "tests/support/check.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;

fs::SetAttr size_of(uint64_t size) {
  fs::SetAttr s;
  s.size = size;
  return s;
}

std::unique_ptr<fs::Filesystem> mount_read_only(const std::shared_ptr<media::Medium>& medium, Error* error) {
  fs::MountOptions options;
  options.read_only = true;
  std::string why;
  auto mounted = fs::Filesystem::mount(medium, options, &why);
  if (mounted) return std::move(*mounted);
  EXPECT_FALSE(why.empty());
  *error = mounted.error();
  return nullptr;
}

TEST(ReadOnlyMount, ReadsEverythingAndStoresNothing) {
  auto medium = std::make_shared<media::MemoryMedium>(16 * kMiB);
  Ino f;
  Ino d;
  {
    TestPool pool(medium, true);
    f = pool.file(kRootIno, "f", "content");
    d = pool.mkdir(kRootIno, "d");
    ASSERT_TRUE(pool->setxattr(f, "user.x", bytes("1"), 0, false, kRoot));
  }
  media::MemoryMedium before(16 * kMiB);
  before.copy_from(*medium);
  Error error{};
  auto fs = mount_read_only(medium, &error);
  ASSERT_NE(fs, nullptr);
  {
    auto file = fs->open(f, O_RDONLY, false);
    ASSERT_TRUE(file);
    EXPECT_EQ(*test::read_file(*fs, **file, 0, 100), "content");
    EXPECT_TRUE(fs->fsync(**file, false));
    EXPECT_EQ(fs->write(**file, 0, bytes("x"), false, false).error(), Error::kReadOnly);
    EXPECT_EQ(fs->fallocate(**file, 0, 0, 1).error(), Error::kReadOnly);
    EXPECT_EQ(fs->copy_range(**file, 0, **file, 100, 1).error(), Error::kReadOnly);
  }
  fs::Attr attr;
  EXPECT_EQ(fs->open(f, O_RDWR, false).error(), Error::kReadOnly);
  EXPECT_EQ(fs->open(f, O_RDONLY | O_TRUNC, false).error(), Error::kReadOnly);
  EXPECT_EQ(fs->create(d, "n", 0644, O_RDWR, kRoot, &attr).error(), Error::kReadOnly);
  EXPECT_EQ(fs->tmpfile(d, 0644, O_RDWR, kRoot, &attr).error(), Error::kReadOnly);
  EXPECT_EQ(fs->make(d, "n", 0040755, 0, 0, kRoot).error(), Error::kReadOnly);
  EXPECT_EQ(fs->symlink(d, "n", "t", kRoot).error(), Error::kReadOnly);
  EXPECT_EQ(fs->link(f, d, "n").error(), Error::kReadOnly);
  EXPECT_EQ(fs->unlink(kRootIno, "f").error(), Error::kReadOnly);
  EXPECT_EQ(fs->rmdir(kRootIno, "d").error(), Error::kReadOnly);
  EXPECT_EQ(fs->rename(kRootIno, "f", d, "f", 0).error(), Error::kReadOnly);
  EXPECT_EQ(fs->setattr(f, size_of(0), kRoot).error(), Error::kReadOnly);
  EXPECT_EQ(fs->set_flags(f, 1, 1, {}, kRoot).error(), Error::kReadOnly);
  EXPECT_EQ(fs->setxattr(f, "user.y", bytes("1"), 0, false, kRoot).error(), Error::kReadOnly);
  EXPECT_EQ(fs->removexattr(f, "user.x", kRoot).error(), Error::kReadOnly);
  EXPECT_TRUE(fs->lookup(kRootIno, "f"));
  EXPECT_TRUE(fs->sync());
  EXPECT_TRUE(fs->unmount());
  EXPECT_EQ(std::memcmp(before.at(0), medium->at(0), medium->size()), 0);
}

TEST(ReadOnlyMount, IsRefusedWhereTheJournalWaitsForReplay) {
  auto medium = std::make_shared<media::MemoryMedium>(16 * kMiB);
  media::MemoryMedium before(16 * kMiB);
  {
    TestPool pool(medium, true);
    static_cast<void>(pool.file(kRootIno, "f", "content"));
    before.copy_from(*medium);
  }
  medium->copy_from(before);
  Error error{};
  EXPECT_EQ(mount_read_only(medium, &error), nullptr);
  EXPECT_EQ(error, Error::kReadOnly);
  EXPECT_EQ(std::memcmp(before.at(0), medium->at(0), medium->size()), 0);
}

TEST(Orphans, AreRemovedByTheNextMount) {
  auto medium = std::make_shared<media::MemoryMedium>(64 * kMiB);
  media::MemoryMedium crashed(64 * kMiB);
  uint64_t before = 0;
  {
    TestPool pool(medium, true);
    static_cast<void>(pool.mkdir(kRootIno, "keep"));
    before = pool.free_blocks();
    std::vector<fs::OpenFilePtr> files;
    for (int i = 0; i < 1000; ++i) {  // more than an orphan block holds
      const std::string name = "f" + std::to_string(i);
      const Ino ino = pool.file(kRootIno, name, i % 10 == 0 ? std::string(30000, 'x') : "x");
      auto file = pool->open(ino, O_RDWR, false);
      ASSERT_TRUE(file);
      files.push_back(std::move(*file));
      ASSERT_TRUE(pool->unlink(kRootIno, name));
    }
    const Ino dir = pool.mkdir(kRootIno, "dir");
    auto open_dir = pool->open(dir, O_RDONLY, false);
    ASSERT_TRUE(open_dir && pool->rmdir(kRootIno, "dir"));
    crashed.copy_from(*medium);
  }
  medium->copy_from(crashed);
  TestPool pool(medium, false);
  EXPECT_EQ(pool->stats().evicted_orphans, 1001U);
  EXPECT_EQ(pool.list(kRootIno), std::vector<std::string>{"keep"});
  EXPECT_EQ(pool.free_blocks(), before);
}

TEST(BadMedia, AGroupWhoseBitmapIsBadHasNoRoom) {
  auto medium = std::make_shared<media::MemoryMedium>(16 * kMiB);
  { TestPool pool(medium, true); }
  media::MemoryMedium sound(16 * kMiB);
  sound.copy_from(*medium);
  const auto& super = *medium->as<format::Superblock>(0);
  medium->raw()[super.bitmap_start * kBlockSize + 1000] ^= std::byte{1};
  auto mounted = fs::Filesystem::mount(medium, {}, nullptr);
  ASSERT_TRUE(mounted);
  // The count of free blocks promised one: once this looked for it for ever.
  EXPECT_EQ((*mounted)->make(kRootIno, "d", 0040755, 0, 0, kRoot).error(), Error::kNoSpace);
  EXPECT_EQ((*mounted)->symlink(kRootIno, "l", std::string(1000, 'l'), kRoot).error(), Error::kNoSpace);
  EXPECT_TRUE((*mounted)->unmount());
}

/// A file of so many extents that cutting it takes several transactions, with a leaf near its start gone bad.
class CutShort : public testing::Test {
 protected:
  static constexpr uint64_t kPieces = 40000;

  CutShort() {
    ino_ = pool_.file(kRootIno, "f");
    auto file = pool_->open(ino_, O_RDWR, false);
    for (uint64_t i = 0; i < kPieces; ++i) {
      EXPECT_TRUE(pool_->write(**file, i * 8192, bytes("old bytes"), false, false));
    }
    file->reset();
    pool_.remount();  // nothing is known to be good any more
    spoil_first_leaf();
  }
  ~CutShort() override { restore(); }

  void spoil_first_leaf() {
    for (uint64_t b = 0; b < medium_->block_count(); ++b) {
      const auto* leaf = medium_->as<format::ExtentLeaf>(b * kBlockSize);
      if (leaf->header.magic != format::kBlockMagic || leaf->header.kind != format::kKindExtentNode ||
          leaf->header.level != 0 || leaf->extents[0].file_block != 0) {
        continue;
      }
      leaf_ = b;
      flip();
    }
    ASSERT_NE(leaf_, 0U);
  }
  void flip() { medium_->raw()[leaf_ * kBlockSize + 4000] ^= std::byte{1}; }
  void restore() {
    if (leaf_ != 0) flip();
    leaf_ = 0;
  }

  std::shared_ptr<media::MemoryMedium> medium_ = std::make_shared<media::MemoryMedium>(512 * kMiB);
  TestPool pool_{medium_, true};
  Ino ino_;
  uint64_t leaf_ = 0;
};

TEST_F(CutShort, GrowingDoesNotBringOldBytesBack) {
  EXPECT_EQ(pool_->setattr(ino_, size_of(0), kRoot).error(), Error::kCorrupted);
  EXPECT_EQ(pool_->getattr(ino_)->size, 0U) << "the first transaction was whole";
  auto file = pool_->open(ino_, O_RDWR, false);
  ASSERT_TRUE(file);
  EXPECT_EQ(pool_->setattr(ino_, size_of(1 << 20), kRoot).error(), Error::kCorrupted);
  EXPECT_EQ(pool_->write(**file, 1 << 20, bytes("x"), false, false).error(), Error::kCorrupted);
  EXPECT_EQ(pool_->fallocate(**file, 0, 0, 1 << 20).error(), Error::kCorrupted);
  EXPECT_EQ(pool_->getattr(ino_)->size, 0U);
  restore();
  ASSERT_TRUE(pool_->setattr(ino_, size_of(1 << 20), kRoot));
  EXPECT_EQ(pool_.content(ino_), std::string(1 << 20, '\0'));
  EXPECT_EQ(pool_->getattr(ino_)->blocks, 0U);
}

TEST_F(CutShort, TheFileCanBeUnlinkedWhileOpen) {
  EXPECT_EQ(pool_->setattr(ino_, size_of(0), kRoot).error(), Error::kCorrupted);
  {
    auto file = pool_->open(ino_, O_RDWR, false);
    ASSERT_TRUE(file);
    ASSERT_TRUE(pool_->unlink(kRootIno, "f"));
    restore();
  }
  EXPECT_TRUE(pool_.list(kRootIno).empty());
}

TEST_F(CutShort, TheFileCanBeUnlinkedOnceItIsReadable) {
  EXPECT_EQ(pool_->setattr(ino_, size_of(0), kRoot).error(), Error::kCorrupted);
  EXPECT_EQ(pool_->unlink(kRootIno, "f").error(), Error::kCorrupted);
  restore();
  ASSERT_TRUE(pool_->unlink(kRootIno, "f"));
}

TEST_F(CutShort, ANamelessFileIsFinishedBeforeItGetsAName) {
  auto file = pool_->open(ino_, O_RDWR, false);
  ASSERT_TRUE(file && pool_->unlink(kRootIno, "f"));
  EXPECT_EQ(pool_->setattr(ino_, size_of(0), kRoot).error(), Error::kCorrupted);
  EXPECT_EQ(pool_->link(ino_, kRootIno, "g").error(), Error::kCorrupted);
  restore();
  ASSERT_TRUE(pool_->link(ino_, kRootIno, "g"));
  ASSERT_TRUE(pool_->setattr(ino_, size_of(50000), kRoot));
  EXPECT_EQ(pool_.content(ino_), std::string(50000, '\0'));
}

}  // namespace
}  // namespace udax
