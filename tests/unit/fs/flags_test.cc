// SPDX-License-Identifier: BSD-3-Clause
//
// What append-only and immutable forbid (ioctl_iflags(2), chattr(1)), who may set flags, and what is inherited.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "tests/support/pool.h"

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::kUser;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;
constexpr uint32_t kImmutable = format::kFlagImmutable;
constexpr uint32_t kAppend = format::kFlagAppend;

class Flags : public testing::Test {
 protected:
  void set(Ino ino, uint32_t flags) { ASSERT_TRUE(pool_->set_flags(ino, flags, flags, {}, kRoot)); }
  void clear(Ino ino, uint32_t flags) { ASSERT_TRUE(pool_->set_flags(ino, 0, flags, {}, kRoot)); }
  Error change(Ino ino, uint32_t flags, uint32_t mask, const fs::Caller& caller,
               std::optional<uint32_t> project = {}) {
    const Status done = pool_->set_flags(ino, flags, mask, project, caller);
    return done ? kFine : done.error();
  }
  Error setattr(Ino ino, const fs::SetAttr& s) {
    const auto done = pool_->setattr(ino, s, kRoot);
    return done ? kFine : done.error();
  }
  /// Stands for success where errors are listed.
  static constexpr Error kFine = Error::kNoTty;
  template <typename R>
  static Error outcome(const R& result) {
    return result ? kFine : result.error();
  }

  TestPool pool_{32 * kMiB};
};

TEST_F(Flags, AnImmutableFileDoesNotChange) {
  const Ino f = pool_.file(kRootIno, "f", std::string(9000, 'x'));
  const Ino other = pool_.file(kRootIno, "other", "y");
  auto before = pool_->open(f, O_RDWR, false);
  auto source = pool_->open(other, O_RDWR, false);
  set(f, kImmutable);
  EXPECT_EQ(outcome(pool_->open(f, O_WRONLY, false)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->open(f, O_RDONLY | O_TRUNC, false)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->open(f, O_RDONLY, false)), kFine);
  EXPECT_EQ(outcome(pool_->write(**before, 0, bytes("z"), false, false)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->write(**before, 20000, bytes("z"), false, false)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->write(**before, 0, bytes("z"), true, false)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->fallocate(**before, 0, 0, 100000)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->fallocate(**before, fs::kFallocZeroRange, 0, 100)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->copy_range(**source, 0, **before, 0, 1)), Error::kPermission);
  fs::SetAttr s;
  s.mode = 0600;
  EXPECT_EQ(setattr(f, s), Error::kPermission);
  s = {};
  s.atime_now = s.mtime_now = true;
  EXPECT_EQ(setattr(f, s), Error::kPermission);
  s = {};
  s.size = 0;
  EXPECT_EQ(setattr(f, s), Error::kPermission);
  EXPECT_EQ(outcome(pool_->setxattr(f, "user.x", bytes("1"), 0, false, kRoot)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->removexattr(f, "user.x", kRoot)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->link(f, kRootIno, "g")), Error::kPermission);
  EXPECT_EQ(outcome(pool_->unlink(kRootIno, "f")), Error::kPermission);
  EXPECT_EQ(outcome(pool_->rename(kRootIno, "f", kRootIno, "g", 0)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->rename(kRootIno, "other", kRootIno, "f", 0)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->rename(kRootIno, "other", kRootIno, "f", fs::kRenameExchange)), Error::kPermission);
  EXPECT_EQ(change(f, format::kFlagNoDump, format::kFlagNoDump, kRoot), Error::kPermission);
  EXPECT_EQ(change(f, 0, 0, kRoot, 7), Error::kPermission);
  EXPECT_EQ(change(f, kImmutable, kImmutable, kRoot), kFine) << "nothing changes";
  EXPECT_EQ(pool_.content(f), std::string(9000, 'x'));
  clear(f, kImmutable);
  EXPECT_EQ(outcome(pool_->unlink(kRootIno, "f")), kFine);
}

TEST_F(Flags, AnAppendOnlyFileGrows) {
  const Ino f = pool_.file(kRootIno, "f", "start");
  auto before = pool_->open(f, O_RDWR, false);
  set(f, kAppend);
  EXPECT_EQ(outcome(pool_->open(f, O_WRONLY, false)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->open(f, O_WRONLY | O_APPEND | O_TRUNC, false)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->open(f, O_RDONLY | O_TRUNC, false)), Error::kPermission);
  auto file = pool_->open(f, O_WRONLY | O_APPEND, false);
  ASSERT_TRUE(file);
  EXPECT_EQ(outcome(pool_->write(**file, 0, bytes(" and more"), true, false)), kFine);
  EXPECT_EQ(outcome(pool_->write(**before, 14, bytes("!"), false, false)), kFine) << "at the end";
  EXPECT_EQ(outcome(pool_->write(**before, 0, bytes("overwrite"), false, false)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->fallocate(**file, 0, 0, 100)), kFine);
  EXPECT_EQ(outcome(pool_->fallocate(**file, fs::kFallocPunchHole | fs::kFallocKeepSize, 0, 4)),
            Error::kPermission);
  fs::SetAttr s;
  s.size = 0;
  EXPECT_EQ(setattr(f, s), Error::kPermission);
  s = {};
  s.mode = 0600;
  EXPECT_EQ(setattr(f, s), Error::kPermission);
  s = {};
  s.mtime = format::TimeStamp{1, 1};
  EXPECT_EQ(setattr(f, s), Error::kPermission);
  s = {};
  s.atime_now = s.mtime_now = true;
  EXPECT_EQ(setattr(f, s), kFine);
  EXPECT_EQ(outcome(pool_->setxattr(f, "user.x", bytes("1"), 0, false, kRoot)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->unlink(kRootIno, "f")), Error::kPermission);
  EXPECT_EQ(outcome(pool_->rename(kRootIno, "f", kRootIno, "g", 0)), Error::kPermission);
  EXPECT_EQ(pool_.read(f, 0, 15), "start and more!");
}

TEST_F(Flags, DirectoriesThatOnlyGrowOrDoNotChange) {
  const Ino d = pool_.mkdir(kRootIno, "d");
  const Ino f = pool_.file(d, "f");
  static_cast<void>(pool_.mkdir(d, "sub"));
  set(d, kAppend);
  EXPECT_EQ(outcome(pool_->make(d, "new", 0100644, 0, 0, kRoot)), kFine);
  EXPECT_EQ(outcome(pool_->link(f, d, "g")), kFine);
  EXPECT_EQ(outcome(pool_->unlink(d, "f")), Error::kPermission);
  EXPECT_EQ(outcome(pool_->rmdir(d, "sub")), Error::kPermission);
  EXPECT_EQ(outcome(pool_->rename(d, "f", kRootIno, "f", 0)), Error::kPermission);
  static_cast<void>(pool_.file(kRootIno, "x"));
  EXPECT_EQ(outcome(pool_->rename(kRootIno, "x", d, "f", 0)), Error::kPermission) << "replaces a name";
  EXPECT_EQ(outcome(pool_->rename(kRootIno, "x", d, "x", 0)), kFine);
  EXPECT_EQ(outcome(pool_->rmdir(kRootIno, "d")), Error::kPermission);
  clear(d, kAppend);
  set(d, kImmutable);
  EXPECT_EQ(outcome(pool_->make(d, "newer", 0100644, 0, 0, kRoot)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->symlink(d, "newer", "t", kRoot)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->link(f, d, "newer")), Error::kPermission);
  fs::Attr attr;
  EXPECT_EQ(outcome(pool_->tmpfile(d, 0600, O_RDWR, kRoot, &attr)), Error::kPermission);
  EXPECT_EQ(outcome(pool_->unlink(d, "f")), Error::kPermission);
  EXPECT_EQ(outcome(pool_->rename(kRootIno, "d", kRootIno, "e", 0)), Error::kPermission);
  pool_.write(f, 0, "files in it are no part of it");
}

TEST_F(Flags, WhoMaySetWhat) {
  const auto mine = pool_->make(kRootIno, "mine", 0100644, 0, 0, kUser);
  ASSERT_TRUE(mine);
  const Ino roots = pool_.file(kRootIno, "roots");
  EXPECT_EQ(change(mine->ino, format::kFlagDax, format::kFlagDax, kUser), kFine);
  EXPECT_EQ(change(roots, format::kFlagDax, format::kFlagDax, kUser), Error::kPermission);
  EXPECT_EQ(change(mine->ino, kImmutable, kImmutable, kUser), Error::kPermission);
  EXPECT_EQ(change(mine->ino, kAppend, kAppend, kUser), Error::kPermission);
  EXPECT_EQ(change(mine->ino, 0, kAppend, kUser), kFine) << "clearing what is not set";
  EXPECT_EQ(change(mine->ino, 0, 0, kUser, 9), Error::kPermission);
  EXPECT_EQ(change(mine->ino, 0, 0, kRoot, 9), kFine);
  EXPECT_EQ(change(mine->ino, 1U << 20, 1U << 20, kRoot), Error::kNotSupported);
  EXPECT_EQ(change(mine->ino, format::kFlagDirSync, format::kFlagDirSync, kRoot), Error::kNotSupported);
  const auto fifo = pool_->make(kRootIno, "fifo", 0010644, 0, 0, kRoot);
  EXPECT_EQ(change(fifo->ino, format::kFlagNoDump, format::kFlagNoDump, kRoot), Error::kNotSupported);
  EXPECT_EQ(pool_->getattr(mine->ino)->flags, format::kFlagDax);
  EXPECT_EQ(pool_->getattr(mine->ino)->project_id, 9U);
}

TEST_F(Flags, WhatIsMadeInADirectoryInherits) {
  const Ino d = pool_.mkdir(kRootIno, "d");
  const uint32_t all = format::kFlagDax | format::kFlagNoAtime | format::kFlagNoDump | format::kFlagSync |
                       format::kFlagDirSync | format::kFlagProjInherit;
  ASSERT_TRUE(pool_->set_flags(d, all, all, 33, kRoot));
  const auto f = pool_->make(d, "f", 0100644, 0, 0, kUser);
  EXPECT_EQ(f->flags, all & ~(format::kFlagDirSync | format::kFlagProjInherit));
  EXPECT_EQ(f->project_id, 33U);
  const auto sub = pool_->make(d, "sub", 0040755, 0, 0, kUser);
  EXPECT_EQ(sub->flags, all);
  EXPECT_EQ(sub->project_id, 33U);
  EXPECT_EQ(pool_->symlink(d, "l", "t", kUser)->flags, 0U);
}

TEST_F(Flags, NothingIsMovedOutOfOrIntoAProjectByName) {
  const Ino inside = pool_.mkdir(kRootIno, "inside");
  ASSERT_TRUE(pool_->set_flags(inside, format::kFlagProjInherit, format::kFlagProjInherit, 33, kRoot));
  const Ino outside = pool_.file(kRootIno, "outside");
  static_cast<void>(pool_.file(inside, "member"));
  EXPECT_EQ(outcome(pool_->link(outside, inside, "l")), Error::kCrossDevice);
  EXPECT_EQ(outcome(pool_->rename(kRootIno, "outside", inside, "o", 0)), Error::kCrossDevice);
  EXPECT_EQ(outcome(pool_->rename(inside, "member", kRootIno, "outside", fs::kRenameExchange)),
            Error::kCrossDevice)
      << "outside would come to be inside";
  EXPECT_EQ(outcome(pool_->rename(inside, "member", inside, "again", 0)), kFine);
  EXPECT_EQ(outcome(pool_->rename(inside, "again", kRootIno, "member", 0)), kFine);
}

}  // namespace
}  // namespace udax
