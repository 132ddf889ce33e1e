// SPDX-License-Identifier: BSD-3-Clause
#include <linux/fs.h>

#include <cerrno>

#include "tests/unit/fuse/wire_harness.h"
#include "udax/ioctl.h"

namespace udax::fuse::test {
namespace {

constexpr uint32_t kGetFlags = 0x80086601;
constexpr uint32_t kSetFlags = 0x40086602;
constexpr uint32_t kGetXflags = 0x801c581f;
constexpr uint32_t kSetXflags = 0x401c5820;
constexpr uint32_t kDaxFl = 0x02000000;

class IoctlTest : public Harness {
 protected:
  IoctlTest() { init(); }
};

TEST_F(IoctlTest, FlagsAreFourBytesAlthoughTheNumberSaysEight) {
  const Opened f = create(1, "file");
  EXPECT_EQ(ioctl(f.node, f.handle, kSetFlags, 0, Body().add(kDaxFl | FS_NOATIME_FL)).error, 0);
  const Answer a = ioctl(f.node, f.handle, kGetFlags, 4);
  ASSERT_EQ(a.body.size(), sizeof(fuse_ioctl_out) + 4);
  EXPECT_EQ(a.as<uint32_t>(sizeof(fuse_ioctl_out)), kDaxFl | FS_NOATIME_FL);
  EXPECT_EQ(ioctl(f.node, f.handle, kGetFlags, 8).body.size(), sizeof(fuse_ioctl_out) + 4);
}

TEST_F(IoctlTest, AChangeIsAnnouncedBeforeTheReply) {
  const Opened f = create(1, "file");
  notifications.clear();
  EXPECT_EQ(ioctl(f.node, f.handle, kSetFlags, 0, Body().add(kDaxFl)).error, 0);
  ASSERT_EQ(notifications.size(), 1U);
  EXPECT_EQ(notifications[0].code, FUSE_NOTIFY_INVAL_INODE);
  EXPECT_EQ(notifications[0].replies_before, 0U);
  fuse_notify_inval_inode_out out{};
  ASSERT_EQ(notifications[0].body.size(), sizeof(out));
  std::memcpy(&out, notifications[0].body.data(), sizeof(out));
  EXPECT_EQ(out.ino, f.node);
  EXPECT_LT(out.off, 0);  // attributes only: dropping pages here could wait for ever
}

TEST_F(IoctlTest, UnknownFlagsAreRefused) {
  const Opened f = create(1, "file");
  EXPECT_EQ(ioctl(f.node, f.handle, kSetFlags, 0, Body().add(uint32_t{FS_COMPR_FL})).error, -EOPNOTSUPP);
  fsxattr x{};
  x.fsx_xflags = FS_XFLAG_REALTIME;
  EXPECT_EQ(ioctl(f.node, f.handle, kSetXflags, 0, Body().add(x)).error, -EOPNOTSUPP);
  x = {};
  x.fsx_extsize = 65536;
  EXPECT_EQ(ioctl(f.node, f.handle, kSetXflags, 0, Body().add(x)).error, -EOPNOTSUPP);
  EXPECT_TRUE(notifications.empty());
}

TEST_F(IoctlTest, Xflags) {
  const uint64_t dir = mkdir(1, "dir");
  const uint64_t handle = opendir(dir);
  fsxattr x{};
  x.fsx_xflags = FS_XFLAG_DAX | FS_XFLAG_PROJINHERIT;
  x.fsx_projid = 42;
  EXPECT_EQ(ioctl(dir, handle, kSetXflags, 0, Body().add(x), FUSE_IOCTL_DIR).error, 0);
  const Answer a = ioctl(dir, handle, kGetXflags, sizeof(x), {}, FUSE_IOCTL_DIR);
  ASSERT_EQ(a.body.size(), sizeof(fuse_ioctl_out) + 28);
  const auto got = a.as<fsxattr>(sizeof(fuse_ioctl_out));
  EXPECT_EQ(got.fsx_xflags, x.fsx_xflags);
  EXPECT_EQ(got.fsx_projid, 42U);
  // SETFLAGS leaves no room for what only xflags have, and the other way round.
  EXPECT_EQ(ioctl(dir, handle, kSetFlags, 0, Body().add(uint32_t{FS_DIRSYNC_FL}), FUSE_IOCTL_DIR).error, 0);
  x.fsx_xflags = FS_XFLAG_NODUMP;
  EXPECT_EQ(ioctl(dir, handle, kSetXflags, 0, Body().add(x), FUSE_IOCTL_DIR).error, 0);
  EXPECT_EQ(ioctl(dir, handle, kGetFlags, 4, {}, FUSE_IOCTL_DIR).as<uint32_t>(sizeof(fuse_ioctl_out)),
            uint32_t{FS_DIRSYNC_FL} | uint32_t{FS_NODUMP_FL});
}

TEST_F(IoctlTest, OnlyTheOwnerMay) {
  const Opened f = create(1, "file");
  uid = 1000;
  EXPECT_EQ(ioctl(f.node, f.handle, kSetFlags, 0, Body().add(kDaxFl)).error, -EPERM);
}

TEST_F(IoctlTest, UnknownAndMalformed) {
  const Opened f = create(1, "file");
  EXPECT_EQ(ioctl(f.node, f.handle, 0x1234, 0).error, -ENOTTY);
  EXPECT_EQ(ioctl(f.node, f.handle, kGetFlags, 3).error, -EINVAL);
  EXPECT_EQ(ioctl(f.node, f.handle, kSetFlags, 0).error, -EINVAL);
  EXPECT_EQ(ioctl(f.node, f.handle, kGetXflags, 27).error, -EINVAL);
  EXPECT_EQ(ioctl(f.node, f.handle, static_cast<uint32_t>(UDAX_IOC_STAT), 100).error, -EINVAL);
  EXPECT_EQ(ioctl(f.node, f.handle + 1, kGetFlags, 4).error, -EBADF);
}

TEST_F(IoctlTest, Info) {
  const uint64_t handle = opendir(1);
  const auto info =
      ioctl(1, handle, static_cast<uint32_t>(UDAX_IOC_INFO), sizeof(udax_ioc_info), {}, FUSE_IOCTL_DIR)
          .as<udax_ioc_info>(sizeof(fuse_ioctl_out));
  EXPECT_EQ(info.version_major, 1U);
  EXPECT_EQ(info.block_size, 4096U);
  EXPECT_EQ(info.block_count, kPoolSize / 4096);
  EXPECT_GT(info.blocks_free, 0U);
}

TEST_F(IoctlTest, StatIsAJsonText) {
  const Opened f = create(1, "file");
  const auto stat = ioctl(f.node, f.handle, static_cast<uint32_t>(UDAX_IOC_STAT), sizeof(udax_ioc_stat))
                        .as<udax_ioc_stat>(sizeof(fuse_ioctl_out));
  ASSERT_LT(stat.length, sizeof(stat.text));
  const std::string text(stat.text, stat.length);
  EXPECT_EQ(std::strlen(stat.text), stat.length);
  EXPECT_EQ(text.front(), '{');
  EXPECT_EQ(text.back(), '}');
  EXPECT_NE(text.find("\"create\":{\"count\":1,\"errors\":0,"), std::string::npos) << text;
}

TEST_F(IoctlTest, SyncFlushesDeeply) {
  const Opened f = create(1, "file");
  const auto cmd = static_cast<uint32_t>(UDAX_IOC_SYNC);
  const uint64_t before = pool.medium().counters().deep_flushes;
  EXPECT_EQ(ioctl(f.node, f.handle, cmd, 0).error, 0);
  EXPECT_EQ(pool.medium().counters().deep_flushes, before + 1);
  EXPECT_EQ(ioctl(1, opendir(1), cmd, 0, {}, FUSE_IOCTL_DIR).error, 0);
  EXPECT_EQ(pool.medium().counters().deep_flushes, before + 2);
}

TEST_F(IoctlTest, Extents) {
  const Opened f = create(1, "file");
  (void)write(f, 0, std::string(4096, 'x'));
  (void)write(f, 1U << 20, std::string(8192, 'y'));
  udax_ioc_extents in{};
  const auto cmd = static_cast<uint32_t>(UDAX_IOC_EXTENTS);
  const auto out =
      ioctl(f.node, f.handle, cmd, sizeof(in), Body().add(in)).as<udax_ioc_extents>(sizeof(fuse_ioctl_out));
  ASSERT_EQ(out.count, 2U);
  EXPECT_EQ(out.flags, UDAX_EXTENTS_LAST);
  EXPECT_EQ(out.extents[0].length, 4096U);
  EXPECT_EQ(out.extents[1].file_offset, 1U << 20);
  EXPECT_EQ(out.extents[1].length, 8192U);
  in.start = 4096;
  EXPECT_EQ(
      ioctl(f.node, f.handle, cmd, sizeof(in), Body().add(in)).as<udax_ioc_extents>(sizeof(fuse_ioctl_out)).count,
      1U);
  in.reserved = 1;
  EXPECT_EQ(ioctl(f.node, f.handle, cmd, sizeof(in), Body().add(in)).error, -EINVAL);
}

}  // namespace
}  // namespace udax::fuse::test
