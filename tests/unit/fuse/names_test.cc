// SPDX-License-Identifier: BSD-3-Clause
//
// Names, and the exact count of what the kernel was told.
#include <cerrno>

#include "tests/unit/fuse/wire_harness.h"

namespace udax::fuse::test {
namespace {

class NamesTest : public Harness {
 protected:
  NamesTest() { init(); }
};

TEST_F(NamesTest, LookupTellsNodeGenerationAndTimeouts) {
  const Opened f = create(1, "file");
  const auto entry = lookup(1, "file").as<fuse_entry_out>();
  EXPECT_EQ(entry.nodeid, f.node);
  EXPECT_EQ(entry.attr.ino, f.node);
  EXPECT_EQ(entry.entry_valid, 86400U);
  EXPECT_EQ(entry.attr_valid, 86400U);
  EXPECT_EQ(entry.attr.mode, 0100644U);
}

TEST_F(NamesTest, AbsenceIsCached) {
  const Answer a = lookup(1, "nothing");
  EXPECT_EQ(a.error, 0);
  EXPECT_EQ(a.as<fuse_entry_out>().nodeid, 0U);
  EXPECT_EQ(a.as<fuse_entry_out>().entry_valid, 86400U);
  EXPECT_EQ(lookups(), 0U);
}

TEST_F(NamesTest, DotsForExport) {
  const uint64_t dir = mkdir(1, "dir");
  EXPECT_EQ(lookup(dir, ".").as<fuse_entry_out>().nodeid, dir);
  const auto root = lookup(dir, "..").as<fuse_entry_out>();
  EXPECT_EQ(root.nodeid, 1U);
  EXPECT_EQ(root.generation, 0U);  // that of the root inode which the kernel made by itself
  EXPECT_EQ(lookup(987654321, ".").error, -ESTALE);
}

TEST_F(NamesTest, BadNames) {
  EXPECT_EQ(lookup(1, "").error, -EINVAL);
  EXPECT_EQ(lookup(1, "a/b").error, -EINVAL);
  EXPECT_EQ(lookup(1, std::string(256, 'x')).error, -ENAMETOOLONG);
  EXPECT_EQ(ask(FUSE_LOOKUP, 1, Body().raw("no end")).error, -EINVAL);
}

TEST_F(NamesTest, EveryEntryIsCountedOnceAndForgotten) {
  EXPECT_EQ(lookups(), 0U);
  const uint64_t dir = mkdir(1, "dir");
  EXPECT_EQ(lookups(), 1U);
  const Opened f = create(dir, "file");
  (void)lookup(dir, "file");
  (void)lookup(dir, "file");
  EXPECT_EQ(lookups(), 2U);
  send(FUSE_FORGET, f.node, Body().add(fuse_forget_in{2}).bytes());
  EXPECT_EQ(lookups(), 2U);  // one is left
  fuse_batch_forget_in head{2, 0};
  send(FUSE_BATCH_FORGET, 0,
       Body().add(head).add(fuse_forget_one{f.node, 1}).add(fuse_forget_one{dir, 1}).bytes());
  EXPECT_EQ(lookups(), 0U);
}

TEST_F(NamesTest, ALostReplyCountsNothing) {
  const Opened f = create(1, "file");
  (void)release(f);
  ASSERT_EQ(lookups(), 1U);
  send(FUSE_FORGET, f.node, Body().add(fuse_forget_in{1}).bytes());
  ASSERT_EQ(lookups(), 0U);
  channel.fate = Delivery::kGone;
  send(FUSE_LOOKUP, 1, Body().text("file").bytes());
  EXPECT_EQ(lookups(), 0U);
  channel.fate = Delivery::kGone;
  send(FUSE_MKDIR, 1, Body().add(fuse_mkdir_in{0755, 022}).text("dir").bytes());
  EXPECT_EQ(lookups(), 0U);
  channel.fate = Delivery::kFailed;
  send(FUSE_LOOKUP, 1, Body().text("file").bytes());
  ASSERT_EQ(channel.answers.size(), 1U);
  EXPECT_EQ(channel.answers.front().error, -EIO);
  EXPECT_EQ(lookups(), 0U);
}

TEST_F(NamesTest, ALostCreateLeavesNoHandleAndNoCount) {
  channel.fate = Delivery::kGone;
  send(FUSE_CREATE, 1, Body().add(fuse_create_in{2, 0644, 022, 0}).text("file").bytes());
  EXPECT_EQ(lookups(), 0U);
  EXPECT_NE(dispatcher.stats_json().find("\"open_files\":0,"), std::string::npos);
  const auto entry = lookup(1, "file").as<fuse_entry_out>();
  channel.fate = Delivery::kGone;
  send(FUSE_OPEN, entry.nodeid, Body().add(fuse_open_in{2, 0}).bytes());
  EXPECT_NE(dispatcher.stats_json().find("\"open_files\":0,"), std::string::npos);
}

TEST_F(NamesTest, MakesNodesOfAllKinds) {
  uid = 1000;
  // 8-bit minor, 12-bit major, and the minor's upper bits, as new_encode_dev packs them.
  const uint32_t rdev = (0x345U & 0xFFU) | 0x12U << 8 | (0x345U & ~0xFFU) << 12;
  const Answer a = ask(FUSE_MKNOD, 1, Body().add(fuse_mknod_in{0020660, rdev, 027, 0}).text("char"));
  const auto entry = a.as<fuse_entry_out>();
  EXPECT_EQ(entry.attr.mode, 0020640U);
  EXPECT_EQ(entry.attr.rdev, rdev);
  EXPECT_EQ(entry.attr.uid, 1000U);
  const Answer fifo = ask(FUSE_MKNOD, 1, Body().add(fuse_mknod_in{0010644, 0, 022, 0}).text("fifo"));
  EXPECT_EQ(fifo.as<fuse_entry_out>().attr.mode, 0010644U);
}

TEST_F(NamesTest, Symlinks) {
  const Answer a = ask(FUSE_SYMLINK, 1, Body().text("link").text("to/somewhere"));
  EXPECT_EQ(a.as<fuse_entry_out>().attr.mode & 0170000U, 0120000U);
  EXPECT_EQ(ask(FUSE_READLINK, a.as<fuse_entry_out>().nodeid).text(), "to/somewhere");
  EXPECT_EQ(ask(FUSE_READLINK, 1).error, -EINVAL);
}

TEST_F(NamesTest, LinkRenameUnlink) {
  const Opened f = create(1, "a");
  const uint64_t dir = mkdir(1, "dir");
  const auto linked = ask(FUSE_LINK, dir, Body().add(fuse_link_in{f.node}).text("b")).as<fuse_entry_out>();
  EXPECT_EQ(linked.nodeid, f.node);
  EXPECT_EQ(linked.attr.nlink, 2U);
  EXPECT_EQ(ask(FUSE_RENAME, 1, Body().add(fuse_rename_in{dir}).text("a").text("c")).error, 0);
  EXPECT_EQ(ask(FUSE_RENAME2, dir, Body().add(fuse_rename2_in{dir, 1, 0}).text("b").text("c")).error, -EEXIST);
  EXPECT_EQ(ask(FUSE_RENAME2, dir, Body().add(fuse_rename2_in{dir, 64, 0}).text("b").text("c")).error, -EINVAL);
  EXPECT_EQ(ask(FUSE_RMDIR, 1, Body().text("dir")).error, -ENOTEMPTY);
  EXPECT_EQ(ask(FUSE_UNLINK, dir, Body().text("b")).error, 0);
  EXPECT_EQ(ask(FUSE_UNLINK, dir, Body().text("c")).error, 0);
  EXPECT_EQ(ask(FUSE_UNLINK, dir, Body().text("c")).error, -ENOENT);
  EXPECT_EQ(ask(FUSE_RMDIR, 1, Body().text("dir")).error, 0);
  EXPECT_EQ(release(f).error, 0);
}

// An existing name behind a name that the kernel took for free: it must look again, and check permissions.
TEST_F(NamesTest, CreateOfAnExistingName) {
  (void)create(1, "file");
  EXPECT_EQ(ask(FUSE_CREATE, 1, Body().add(fuse_create_in{2, 0644, 0, 0}).text("file")).error, -ESTALE);
  EXPECT_EQ(ask(FUSE_CREATE, 1, Body().add(fuse_create_in{2 | 0200 /* O_EXCL */, 0644, 0, 0}).text("file")).error,
            -EEXIST);
}

TEST_F(NamesTest, TmpfileHasNoName) {
  for (const char* name : {"", "/", "#17"}) {
    const Answer a = ask(FUSE_TMPFILE, 1, Body().add(fuse_create_in{2, 0600, 0, 0}).text(name));
    ASSERT_EQ(a.error, 0) << name;
    const auto entry = a.as<fuse_entry_out>();
    EXPECT_EQ(entry.attr.nlink, 0U);
    const Opened f{entry.nodeid, a.as<fuse_open_out>(sizeof(fuse_entry_out)).fh, 0};
    EXPECT_EQ(write(f, 0, "text").as<fuse_write_out>().size, 4U);
    EXPECT_EQ(read(f, 0, 100).text(), "text");
    EXPECT_EQ(release(f).error, 0);
  }
}

}  // namespace
}  // namespace udax::fuse::test
