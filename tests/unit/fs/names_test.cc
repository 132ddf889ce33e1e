// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace udax
