// SPDX-License-Identifier: BSD-3-Clause
//
// Which calls touch which times, and what is left of setuid, setgid and capabilities (chmod(2), chown(2), truncate(2),
// utimensat(2), inode(7)).
#include <fcntl.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/support/pool.h"

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::kUser;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;
constexpr format::TimeStamp kOld{1'000'000, 5};

class Attributes : public testing::Test {
 protected:
  /// Times far back, so that whatever is touched shows. ctime, too: as a kernel with a write-back cache may set it.
  void age(Ino ino) {
    fs::SetAttr s;
    s.atime = s.mtime = s.ctime = kOld;
    ASSERT_TRUE(pool_->setattr(ino, s, kRoot));
  }
  /// Which of atime, mtime and ctime moved since age(), as letters; ages again.
  std::string touched(Ino ino) {
    const auto a = pool_->getattr(ino);
    std::string letters;
    if (a->atime != kOld) letters += 'a';
    if (a->mtime != kOld) letters += 'm';
    if (a->ctime != kOld) letters += 'c';
    age(ino);
    return letters;
  }
  fs::OpenFilePtr open(Ino ino, uint32_t flags = O_RDWR) {
    auto file = pool_->open(ino, flags, false);
    EXPECT_TRUE(file);
    return std::move(*file);
  }
  Status resize(Ino ino, uint64_t size, bool kill = false) {
    fs::SetAttr s;
    s.size = size;
    s.kill_suidgid = kill;
    const auto done = pool_->setattr(ino, s, kRoot);
    return done ? Status() : Status(done.error());
  }
  Status chmod(Ino ino, uint32_t mode) {
    fs::SetAttr s;
    s.mode = mode;
    const auto done = pool_->setattr(ino, s, kRoot);
    return done ? Status() : Status(done.error());
  }
  Status chown(Ino ino, uint32_t uid, uint32_t gid) {
    fs::SetAttr s;
    s.uid = uid;
    s.gid = gid;
    const auto done = pool_->setattr(ino, s, kRoot);
    return done ? Status() : Status(done.error());
  }
  uint32_t mode(Ino ino) { return pool_->getattr(ino)->mode & 07777U; }
  void give_capability(Ino ino) {
    ASSERT_TRUE(pool_->setxattr(ino, "security.capability", bytes("cap"), 0, false, kRoot));
  }
  bool has_capability(Ino ino) { return pool_->getxattr(ino, "security.capability").has_value(); }

  TestPool pool_{32 * kMiB};
};

TEST_F(Attributes, WritingTouchesMtimeAndCtime) {
  const Ino f = pool_.file(kRootIno, "f", std::string(9000, 'x'));
  auto file = open(f);
  age(f);
  ASSERT_TRUE(pool_->write(*file, 0, bytes("over"), false, false));
  EXPECT_EQ(touched(f), "mc");
  ASSERT_TRUE(pool_->write(*file, 20000, bytes("extend"), false, false));
  EXPECT_EQ(touched(f), "mc");
  ASSERT_TRUE(pool_->write(*file, 0, {}, false, false));
  EXPECT_EQ(touched(f), "") << "a write of nothing changes nothing";
  ASSERT_TRUE(pool_->fallocate(*file, fs::kFallocPunchHole | fs::kFallocKeepSize, 0, 4096));
  EXPECT_EQ(touched(f), "mc");
  ASSERT_TRUE(pool_->fallocate(*file, 0, 0, 4096));
  EXPECT_EQ(touched(f), "mc");
}

TEST_F(Attributes, ReadingTouchesAtime) {
  const Ino f = pool_.file(kRootIno, "f", "bytes");
  const Ino d = pool_.mkdir(kRootIno, "d");
  const auto link = pool_->symlink(kRootIno, "l", "target", kRoot);
  ASSERT_TRUE(link);
  for (const Ino ino : {f, d, link->ino}) age(ino);
  EXPECT_EQ(pool_.read(f, 0, 5), "bytes");
  EXPECT_EQ(touched(f), "a");
  EXPECT_TRUE(pool_.list(d).empty());
  EXPECT_EQ(touched(d), "a");
  EXPECT_EQ(*pool_->readlink(link->ino), "target");
  EXPECT_EQ(touched(link->ino), "a");
  auto quiet = open(f, O_RDONLY | O_NOATIME);
  EXPECT_TRUE(test::read_file(pool_.fs(), *quiet, 0, 5));
  EXPECT_EQ(touched(f), "");
  ASSERT_TRUE(pool_->set_flags(f, format::kFlagNoAtime, format::kFlagNoAtime, {}, kRoot));
  age(f);
  EXPECT_EQ(pool_.read(f, 0, 5), "bytes");
  EXPECT_EQ(touched(f), "");
}

TEST_F(Attributes, RelatimeWritesOncePerChange) {
  const Ino f = pool_.file(kRootIno, "f", "bytes");
  EXPECT_EQ(pool_.read(f, 0, 5), "bytes");
  fs::SetAttr recent;
  const auto a = pool_->getattr(f);
  recent.atime = format::TimeStamp{a->ctime.seconds + 1, 0};
  recent.ctime = a->ctime;
  ASSERT_TRUE(pool_->setattr(f, recent, kRoot));
  EXPECT_EQ(pool_.read(f, 0, 5), "bytes");
  EXPECT_EQ(pool_->getattr(f)->atime, *recent.atime);
}

TEST_F(Attributes, TruncatingTouchesTimesEvenIfTheSizeStays) {
  const Ino f = pool_.file(kRootIno, "f", "0123456789");
  age(f);
  ASSERT_TRUE(resize(f, 10));
  EXPECT_EQ(touched(f), "mc") << "ftruncate(2) to the same size";
  ASSERT_TRUE(resize(f, 5));
  EXPECT_EQ(touched(f), "mc");
  ASSERT_TRUE(resize(f, 5000));
  EXPECT_EQ(touched(f), "mc");
  static_cast<void>(open(f, O_RDWR | O_TRUNC));
  EXPECT_EQ(touched(f), "mc");
  static_cast<void>(open(f, O_RDWR | O_TRUNC));
  EXPECT_EQ(touched(f), "mc") << "O_TRUNC of an empty file";
}

TEST_F(Attributes, TruncatingToTheSameSizeFreesWhatLiesBehind) {
  const Ino f = pool_.file(kRootIno, "f", "0123456789");
  auto file = open(f);
  ASSERT_TRUE(pool_->fallocate(*file, fs::kFallocKeepSize, 0, 40960));
  EXPECT_EQ(pool_->getattr(f)->blocks, 10U);
  ASSERT_TRUE(resize(f, 10));
  EXPECT_EQ(pool_->getattr(f)->blocks, 1U);
}

TEST_F(Attributes, ChangingAttributesTouchesCtimeOnly) {
  const Ino f = pool_.file(kRootIno, "f");
  age(f);
  ASSERT_TRUE(chmod(f, 0600));
  EXPECT_EQ(touched(f), "c");
  ASSERT_TRUE(chown(f, 5, 6));
  EXPECT_EQ(touched(f), "c");
  ASSERT_TRUE(chown(f, 5, 6));
  EXPECT_EQ(touched(f), "c") << "chown to the same owner";
  ASSERT_TRUE(pool_->setxattr(f, "user.x", bytes("1"), 0, false, kRoot));
  EXPECT_EQ(touched(f), "c");
  ASSERT_TRUE(pool_->removexattr(f, "user.x", kRoot));
  EXPECT_EQ(touched(f), "c");
  ASSERT_TRUE(pool_->set_flags(f, format::kFlagNoDump, format::kFlagNoDump, {}, kRoot));
  EXPECT_EQ(touched(f), "c");
  ASSERT_TRUE(pool_->link(f, kRootIno, "g"));
  EXPECT_EQ(touched(f), "c");
  ASSERT_TRUE(pool_->rename(kRootIno, "g", kRootIno, "h", 0));
  EXPECT_EQ(touched(f), "c");
  ASSERT_TRUE(pool_->unlink(kRootIno, "h"));
  EXPECT_EQ(touched(f), "c");
  fs::SetAttr times;
  times.atime_now = times.mtime_now = true;
  ASSERT_TRUE(pool_->setattr(f, times, kRoot));
  EXPECT_EQ(touched(f), "amc");
  times = {};
  times.mtime = format::TimeStamp{-5, 999'999'999};
  ASSERT_TRUE(pool_->setattr(f, times, kRoot));
  EXPECT_EQ(pool_->getattr(f)->mtime, *times.mtime) << "before 1970";
  EXPECT_EQ(touched(f), "mc");
}

TEST_F(Attributes, ChangesOfNamesTouchTheDirectories) {
  const Ino a = pool_.mkdir(kRootIno, "a");
  const Ino b = pool_.mkdir(kRootIno, "b");
  age(a);
  age(b);
  const Ino f = pool_.file(a, "f");
  EXPECT_EQ(touched(a), "mc");
  ASSERT_TRUE(pool_->link(f, a, "g"));
  EXPECT_EQ(touched(a), "mc");
  ASSERT_TRUE(pool_->rename(a, "g", b, "g", 0));
  EXPECT_EQ(touched(a), "mc");
  EXPECT_EQ(touched(b), "mc");
  ASSERT_TRUE(pool_->rename(a, "f", b, "g", 0));
  EXPECT_EQ(touched(a), "") << "two names of one inode: rename(2) does nothing";
  ASSERT_TRUE(pool_->unlink(a, "f"));
  EXPECT_EQ(touched(a), "mc");
  static_cast<void>(pool_.mkdir(a, "d"));
  EXPECT_EQ(touched(a), "mc");
  ASSERT_TRUE(pool_->rmdir(a, "d"));
  EXPECT_EQ(touched(a), "mc");
  EXPECT_EQ(pool_->unlink(a, "none").error(), Error::kNotFound);
  EXPECT_EQ(pool_->make(b, "g", 0100644, 0, 0, kRoot).error(), Error::kExists);
  EXPECT_EQ(touched(a) + touched(b), "") << "what fails touches nothing";
  static_cast<void>(pool_->getattr(a));
  static_cast<void>(pool_->lookup(b, "g"));
  EXPECT_EQ(touched(a) + touched(b), "");
}

TEST_F(Attributes, ChownTakesPrivilegesAway) {
  const Ino f = pool_.file(kRootIno, "f");
  ASSERT_TRUE(chmod(f, 06755));
  give_capability(f);
  ASSERT_TRUE(chown(f, 1000, 1000));
  EXPECT_EQ(mode(f), 0755U);
  EXPECT_FALSE(has_capability(f));
  ASSERT_TRUE(chmod(f, 06745));  // the group may not execute: setgid is a lock mark
  ASSERT_TRUE(chown(f, 1001, 1000));
  EXPECT_EQ(mode(f), 02745U);
  const Ino d = pool_.mkdir(kRootIno, "d", 06755);
  ASSERT_TRUE(chown(d, 1000, 1000));
  EXPECT_EQ(mode(d), 06755U) << "a directory keeps them";
}

TEST_F(Attributes, WritingTakesPrivilegesAwayWhenAsked) {
  const Ino f = pool_.file(kRootIno, "f", "content");
  auto file = open(f);
  ASSERT_TRUE(chmod(f, 06755));
  give_capability(f);
  ASSERT_TRUE(pool_->write(*file, 0, bytes("x"), false, false));
  EXPECT_EQ(mode(f), 06755U) << "a writer with CAP_FSETID";
  EXPECT_FALSE(has_capability(f)) << "file capabilities always go";
  ASSERT_TRUE(pool_->write(*file, 0, bytes("x"), false, true));
  EXPECT_EQ(mode(f), 0755U);
  ASSERT_TRUE(chmod(f, 06755));
  ASSERT_TRUE(resize(f, 3));
  EXPECT_EQ(mode(f), 06755U);
  ASSERT_TRUE(resize(f, 3, true));
  EXPECT_EQ(mode(f), 0755U) << "to the same size, too";
  ASSERT_TRUE(chmod(f, 06755));
  ASSERT_TRUE(pool_->open(f, O_RDWR | O_TRUNC, true));
  EXPECT_EQ(mode(f), 0755U);
  ASSERT_TRUE(chmod(f, 06755));
  ASSERT_TRUE(pool_->fallocate(*file, 0, 0, 100));
  EXPECT_EQ(mode(f), 0755U);
}

TEST_F(Attributes, NewFilesFollowTheirDirectory) {
  const Ino plain = pool_.mkdir(kRootIno, "plain");
  const Ino setgid = pool_.mkdir(kRootIno, "setgid", 02777);
  ASSERT_TRUE(chown(setgid, 0, 77));
  ASSERT_TRUE(chmod(setgid, 02777));
  EXPECT_EQ(pool_->make(plain, "f", 0100666, 0, 0, kUser)->gid, 1000U);
  EXPECT_EQ(pool_->lookup(plain, "f")->mode, 0100644U) << "umask 022";
  EXPECT_EQ(pool_->make(setgid, "f", 0100666, 0, 0, kUser)->gid, 77U);
  const auto sub = pool_->make(setgid, "d", 0040777, 0, 0, kUser);
  EXPECT_EQ(sub->gid, 77U);
  EXPECT_EQ(sub->mode, 0042755U);
  EXPECT_EQ(pool_->symlink(setgid, "l", "t", kUser)->mode, 0120777U);
}

TEST_F(Attributes, SizesAtTheEndOfTheRange) {
  const Ino f = pool_.file(kRootIno, "f");
  auto file = open(f);
  constexpr uint64_t kMax = format::kFileSizeMax;
  ASSERT_TRUE(resize(f, kMax));
  EXPECT_EQ(pool_->getattr(f)->size, kMax);
  EXPECT_EQ(resize(f, kMax + 1).error(), Error::kFileTooBig);
  ASSERT_TRUE(pool_->write(*file, kMax - 3, bytes("end"), false, false));
  EXPECT_EQ(pool_.read(f, kMax - 3, 100), "end");
  EXPECT_EQ(pool_->write(*file, kMax - 2, bytes("end"), false, false).error(), Error::kFileTooBig);
  EXPECT_EQ(pool_->write(*file, 0, bytes("end"), true, false).error(), Error::kFileTooBig);
  EXPECT_EQ(*pool_->seek(*file, 0, true), kMax & ~uint64_t{4095});
  EXPECT_EQ(*pool_->seek(*file, kMax - 1, false), kMax);
  EXPECT_EQ(pool_->extents(f, 0, 10)->size(), 1U);
  EXPECT_EQ(pool_->extents(f, ~uint64_t{0}, 10)->size(), 0U);
  EXPECT_EQ(pool_->fallocate(*file, 0, kMax, 1).error(), Error::kFileTooBig);
  ASSERT_TRUE(pool_->fallocate(*file, 0, kMax - 10, 10));
  ASSERT_TRUE(pool_->fallocate(*file, fs::kFallocPunchHole | fs::kFallocKeepSize, 4096, kMax - 4096));
  EXPECT_EQ(pool_.read(f, kMax - 3, 3), std::string(3, '\0'));
  ASSERT_TRUE(resize(f, kMax - 1));
  ASSERT_TRUE(resize(f, 0));
  EXPECT_EQ(pool_->getattr(f)->blocks, 0U);
}

TEST_F(Attributes, OnlyFilesHaveASizeToSet) {
  const auto fifo = pool_->make(kRootIno, "fifo", 0010644, 0, 0, kRoot);
  EXPECT_EQ(resize(kRootIno, 0).error(), Error::kIsDirectory);
  EXPECT_EQ(resize(fifo->ino, 0).error(), Error::kInvalid);
}

}  // namespace
}  // namespace udax
