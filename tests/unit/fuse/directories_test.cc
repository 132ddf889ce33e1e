// SPDX-License-Identifier: BSD-3-Clause
#include <cerrno>
#include <map>
#include <set>

#include "tests/unit/fuse/wire_harness.h"

namespace udax::fuse::test {
namespace {

class DirectoriesTest : public Harness {
 protected:
  DirectoriesTest() { init(); }

  struct Listed {
    std::string name;
    uint64_t ino = 0;
    uint64_t cookie = 0;
    uint32_t type = 0;
    uint64_t node = 0;  // READDIRPLUS only
  };

  Answer raw(uint32_t opcode, uint64_t node, uint64_t handle, uint64_t cookie, uint32_t size) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = cookie;
    in.size = size;
    return ask(opcode, node, Body().add(in));
  }

  static std::vector<Listed> parse(const Answer& a, bool plus) {
    std::vector<Listed> out;
    const size_t lead = plus ? sizeof(fuse_entry_out) : 0;
    for (size_t at = 0; at < a.body.size();) {
      Listed l;
      if (plus) l.node = a.as<fuse_entry_out>(at).nodeid;
      const auto ino = a.as<uint64_t>(at + lead);
      const auto length = a.as<uint32_t>(at + lead + 16);
      l.ino = ino;
      l.cookie = a.as<uint64_t>(at + lead + 8);
      l.type = a.as<uint32_t>(at + lead + 20);
      EXPECT_LE(at + lead + 24 + length, a.body.size());
      l.name.assign(reinterpret_cast<const char*>(a.body.data()) + at + lead + 24, length);
      at += (lead + 24 + length + 7) & ~size_t{7};
      out.push_back(std::move(l));
    }
    return out;
  }

  std::vector<Listed> all(uint32_t opcode, uint64_t node, uint32_t size) {
    const uint64_t handle = opendir(node);
    std::vector<Listed> out;
    uint64_t cookie = 0;
    for (;;) {
      const Answer a = raw(opcode, node, handle, cookie, size);
      EXPECT_EQ(a.error, 0);
      EXPECT_LE(a.body.size(), size);
      const auto some = parse(a, opcode == FUSE_READDIRPLUS);
      if (some.empty()) break;
      out.insert(out.end(), some.begin(), some.end());
      cookie = some.back().cookie;
    }
    EXPECT_EQ(ask(FUSE_RELEASEDIR, node, Body().add(fuse_release_in{handle, 0, 0, 0})).error, 0);
    return out;
  }
};

TEST_F(DirectoriesTest, EveryNameOnceWithAnyBuffer) {
  std::set<std::string> expected{".", ".."};
  for (int i = 0; i < 300; ++i) {
    const std::string name = "name" + std::to_string(i) + std::string(static_cast<size_t>(i % 50), 'x');
    (void)release(create(1, name));
    expected.insert(name);
  }
  for (const uint32_t size : {512U, 4096U, 131072U}) {
    for (const uint32_t opcode : {FUSE_READDIR, FUSE_READDIRPLUS}) {
      std::set<std::string> names;
      for (const Listed& l : all(opcode, 1, size)) EXPECT_TRUE(names.insert(l.name).second) << l.name;
      EXPECT_EQ(names, expected);
    }
  }
}

TEST_F(DirectoriesTest, PlusCountsWhatItTellsAndNotTheDots) {
  const uint64_t dir = mkdir(1, "dir");
  std::map<uint64_t, uint64_t> told;
  for (int i = 0; i < 20; ++i) {
    const Opened f = create(dir, std::to_string(i));
    (void)release(f);
    send(FUSE_FORGET, f.node, Body().add(fuse_forget_in{1}).bytes());
  }
  ASSERT_EQ(lookups(), 1U);
  for (const Listed& l : all(FUSE_READDIRPLUS, dir, 1024)) {
    if (l.name == "." || l.name == "..") {
      EXPECT_EQ(l.node, 0U);
      continue;
    }
    EXPECT_EQ(l.node, l.ino);
    ++told[l.node];
  }
  EXPECT_EQ(told.size(), 20U);
  EXPECT_EQ(lookups(), 21U);
  for (const auto& [node, count] : told) send(FUSE_FORGET, node, Body().add(fuse_forget_in{count}).bytes());
  EXPECT_EQ(lookups(), 1U);
}

TEST_F(DirectoriesTest, ALostPlusReplyCountsNothing) {
  (void)create(1, "file");
  const uint64_t before = lookups();
  const uint64_t handle = opendir(1);
  channel.fate = Delivery::kGone;
  fuse_read_in in{};
  in.fh = handle;
  in.size = 4096;
  send(FUSE_READDIRPLUS, 1, Body().add(in).bytes());
  EXPECT_EQ(lookups(), before);
}

TEST_F(DirectoriesTest, TooSmallABuffer) {
  const uint64_t handle = opendir(1);
  EXPECT_EQ(raw(FUSE_READDIR, 1, handle, 0, 8).error, -EINVAL);
  EXPECT_EQ(raw(FUSE_READDIRPLUS, 1, handle, 0, 100).error, -EINVAL);
  EXPECT_EQ(raw(FUSE_READDIR, 1, handle, 0, 0).error, -EINVAL);
}

TEST_F(DirectoriesTest, AnyCookieIsSafe) {
  (void)create(1, "file");
  const uint64_t handle = opendir(1);
  for (const uint64_t cookie : {uint64_t{1}, uint64_t{2}, uint64_t{3}, ~uint64_t{0}, uint64_t{1} << 63}) {
    EXPECT_EQ(raw(FUSE_READDIR, 1, handle, cookie, 4096).error, 0) << cookie;
  }
}

TEST_F(DirectoriesTest, Fsyncdir) {
  const uint64_t handle = opendir(1);
  EXPECT_EQ(ask(FUSE_FSYNCDIR, 1, Body().add(fuse_fsync_in{handle, 0, 0})).error, 0);
  EXPECT_EQ(ask(FUSE_FSYNCDIR, 1, Body().add(fuse_fsync_in{handle + 1, 0, 0})).error, -EBADF);
}

}  // namespace
}  // namespace udax::fuse::test
