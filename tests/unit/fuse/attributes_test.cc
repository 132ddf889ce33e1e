// SPDX-License-Identifier: BSD-3-Clause
#include <cerrno>

#include "tests/unit/fuse/wire_harness.h"

namespace udax::fuse::test {
namespace {

class AttributesTest : public Harness {
 protected:
  AttributesTest() { init(); }
  fuse_attr attr(uint64_t node) {
    return ask(FUSE_GETATTR, node, Body().add(fuse_getattr_in{})).as<fuse_attr_out>().attr;
  }
};

TEST_F(AttributesTest, BlocksAreOf512Bytes) {
  const Opened f = create(1, "file");
  (void)write(f, 0, std::string(10000, 'x'));
  const fuse_attr a = attr(f.node);
  EXPECT_EQ(a.size, 10000U);
  EXPECT_EQ(a.blocks, 24U);
  EXPECT_EQ(a.blksize, 4096U);
}

TEST_F(AttributesTest, StatxTellsTheBirthTime) {
  const Opened f = create(1, "file");
  const auto out = ask(wire::kOpStatx, f.node, Body().add(wire::StatxIn{0, 0, 0, 0, 0xFFF})).as<wire::StatxOut>();
  EXPECT_EQ(out.stat.mask & 0x800U, 0x800U);
  EXPECT_GT(out.stat.btime.seconds, 1'500'000'000);
  EXPECT_EQ(out.stat.ino, f.node);
  EXPECT_EQ(out.stat.mode, 0100644U);
  EXPECT_EQ(out.attr_valid, 86400U);
}

TEST_F(AttributesTest, Setattr) {
  const Opened f = create(1, "file");
  (void)write(f, 0, "0123456789");
  fuse_setattr_in in{};
  in.valid = FATTR_MODE | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME | FATTR_FH;
  in.mode = 0100600;
  in.size = 4;
  in.atime = 1000;
  in.mtime = static_cast<uint64_t>(-5);  // before 1970
  in.mtimensec = 999'999'999;
  const auto a = ask(FUSE_SETATTR, f.node, Body().add(in)).as<fuse_attr_out>().attr;
  EXPECT_EQ(a.mode, 0100600U);
  EXPECT_EQ(a.size, 4U);
  EXPECT_EQ(a.atime, 1000U);
  EXPECT_EQ(static_cast<int64_t>(a.mtime), -5);
  EXPECT_EQ(a.mtimensec, 999'999'999U);
  EXPECT_EQ(read(f, 0, 100).text(), "0123");
  in.mtimensec = 1'000'000'000;
  EXPECT_EQ(ask(FUSE_SETATTR, f.node, Body().add(in)).error, -EINVAL);
}

TEST_F(AttributesTest, SetuidGoesWhenTheKernelSaysSo) {
  const Opened f = create(1, "file", 2, 04755);
  ASSERT_EQ(attr(f.node).mode, 0104755U);
  (void)write(f, 0, "x");
  EXPECT_EQ(attr(f.node).mode, 0104755U);
  (void)write(f, 0, "x", FUSE_WRITE_KILL_SUIDGID);
  EXPECT_EQ(attr(f.node).mode, 0100755U);

  const Opened g = create(1, "other", 2, 06775);
  fuse_setattr_in in{};
  in.valid = FATTR_SIZE | FATTR_KILL_SUIDGID;
  (void)ask(FUSE_SETATTR, g.node, Body().add(in));
  EXPECT_EQ(attr(g.node).mode, 0100755U);

  const Opened h = create(1, "third", 2, 04755);
  (void)ask(FUSE_OPEN, h.node, Body().add(fuse_open_in{2 | 01000 /* O_TRUNC */, FUSE_OPEN_KILL_SUIDGID}));
  EXPECT_EQ(attr(h.node).mode, 0100755U);

  const Opened k = create(1, "fourth", 2, 04755);
  in = {};
  in.valid = FATTR_UID;
  in.uid = 5;
  (void)ask(FUSE_SETATTR, k.node, Body().add(in));
  EXPECT_EQ(attr(k.node).mode, 0100755U);

  const Opened l = create(1, "fifth", 2, 04755);
  (void)ask(FUSE_SETATTR, l.node, Body().add(fuse_setattr_in{}));  // chown(2) to nobody else
  EXPECT_EQ(attr(l.node).mode, 0100755U);
}

TEST_F(AttributesTest, TheUmaskOfTheCallerIsApplied) {
  EXPECT_EQ(attr(create(1, "file", 2, 0666).node).mode, 0100644U);
  const auto dir = ask(FUSE_MKDIR, 1, Body().add(fuse_mkdir_in{0777, 077}).text("dir")).as<fuse_entry_out>();
  EXPECT_EQ(dir.attr.mode, 0040700U);
}

TEST_F(AttributesTest, Xattrs) {
  const Opened f = create(1, "file");
  fuse_setxattr_in in{};
  in.size = 5;
  EXPECT_EQ(ask(FUSE_SETXATTR, f.node, Body().add(in).text("user.a").raw("value")).error, 0);
  in.flags = 1;  // XATTR_CREATE
  EXPECT_EQ(ask(FUSE_SETXATTR, f.node, Body().add(in).text("user.a").raw("other")).error, -EEXIST);
  EXPECT_EQ(
      ask(FUSE_GETXATTR, f.node, Body().add(fuse_getxattr_in{0, 0}).text("user.a")).as<fuse_getxattr_out>().size,
      5U);
  EXPECT_EQ(ask(FUSE_GETXATTR, f.node, Body().add(fuse_getxattr_in{4, 0}).text("user.a")).error, -ERANGE);
  EXPECT_EQ(ask(FUSE_GETXATTR, f.node, Body().add(fuse_getxattr_in{64, 0}).text("user.a")).text(), "value");
  EXPECT_EQ(ask(FUSE_GETXATTR, f.node, Body().add(fuse_getxattr_in{64, 0}).text("user.b")).error, -ENODATA);
  const Answer list = ask(FUSE_LISTXATTR, f.node, Body().add(fuse_getxattr_in{1024, 0}));
  EXPECT_NE(list.text().find(std::string("user.a\0", 7)), std::string::npos);
  EXPECT_EQ(ask(FUSE_REMOVEXATTR, f.node, Body().text("user.a")).error, 0);
  EXPECT_EQ(ask(FUSE_REMOVEXATTR, f.node, Body().text("user.a")).error, -ENODATA);
  // A value shorter than it claims.
  in.flags = 0;
  in.size = 500;
  EXPECT_EQ(ask(FUSE_SETXATTR, f.node, Body().add(in).text("user.a").raw("value")).error, -EINVAL);
}

TEST_F(AttributesTest, XattrsInTheOldLayout) {
  init(~wire::kSetxattrExt);
  const Opened f = create(1, "file");
  EXPECT_EQ(ask(FUSE_SETXATTR, f.node, Body().add(wire::SetxattrInOld{3, 0}).text("user.a").raw("old")).error, 0);
  EXPECT_EQ(ask(FUSE_GETXATTR, f.node, Body().add(fuse_getxattr_in{64, 0}).text("user.a")).text(), "old");
}

}  // namespace
}  // namespace udax::fuse::test
