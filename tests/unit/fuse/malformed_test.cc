// SPDX-License-Identifier: BSD-3-Clause
//
// Whatever comes: one reply to what wants one, no crash, and a pool that passes the check afterwards.
#include <cstdlib>
#include <set>

#include "base/random.h"
#include "tests/unit/fuse/wire_harness.h"
#include "udax/ioctl.h"

namespace udax::fuse::test {
namespace {

class MalformedTest : public Harness {
 protected:
  MalformedTest() { init(); }

  static bool wants_reply(uint32_t opcode) {
    return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT &&
           opcode != FUSE_NOTIFY_REPLY;
  }

  void expect_one_reply(uint32_t opcode, uint64_t node, const std::vector<std::byte>& body) {
    send(opcode, node, body);
    ASSERT_EQ(channel.sends, wants_reply(opcode) ? 1 : 0)
        << opcode_name(opcode) << ", " << body.size() << " bytes";
  }

  /// A good message of each opcode, for `file` and `dir`.
  std::vector<std::pair<uint32_t, Body>> samples(const Opened& file, uint64_t dir_handle) {
    fuse_write_in write{};
    write.fh = file.handle;
    write.size = 4;
    fuse_setattr_in setattr{};
    setattr.valid = FATTR_MODE;
    setattr.mode = 0644;
    fuse_read_in read{};
    read.fh = file.handle;
    read.size = 4096;
    fuse_read_in readdir = read;
    readdir.fh = dir_handle;
    fuse_ioctl_in ioctl{};
    ioctl.fh = file.handle;
    ioctl.cmd = static_cast<uint32_t>(UDAX_IOC_EXTENTS);
    ioctl.out_size = sizeof(udax_ioc_extents);
    ioctl.in_size = sizeof(udax_ioc_extents);
    const fuse_copy_file_range_in copy{file.handle, 0, file.node, file.handle, 4096, 4, 0};
    const fuse_setxattr_in setxattr{3, 0, 0, 0};
    return {
        {FUSE_LOOKUP, Body().text("file")},
        {FUSE_FORGET, Body().add(fuse_forget_in{1})},
        {FUSE_BATCH_FORGET, Body().add(fuse_batch_forget_in{1, 0}).add(fuse_forget_one{file.node, 1})},
        {FUSE_GETATTR, Body().add(fuse_getattr_in{})},
        {wire::kOpStatx, Body().add(wire::StatxIn{})},
        {FUSE_SETATTR, Body().add(setattr)},
        {FUSE_READLINK, Body()},
        {FUSE_SYMLINK, Body().text("s").text("target")},
        {FUSE_MKNOD, Body().add(fuse_mknod_in{0100644, 0, 022, 0}).text("n")},
        {FUSE_MKDIR, Body().add(fuse_mkdir_in{0755, 022}).text("d")},
        {FUSE_UNLINK, Body().text("n")},
        {FUSE_RMDIR, Body().text("d")},
        {FUSE_RENAME, Body().add(fuse_rename_in{1}).text("s").text("t")},
        {FUSE_RENAME2, Body().add(fuse_rename2_in{1, 0, 0}).text("t").text("s")},
        {FUSE_LINK, Body().add(fuse_link_in{file.node}).text("l")},
        {FUSE_OPEN, Body().add(fuse_open_in{2, 0})},
        {FUSE_CREATE, Body().add(fuse_create_in{2, 0644, 022, 0}).text("c")},
        {FUSE_TMPFILE, Body().add(fuse_create_in{2, 0644, 022, 0}).text("/")},
        {FUSE_READ, Body().add(read)},
        {FUSE_WRITE, Body().add(write).raw("data")},
        {FUSE_STATFS, Body()},
        {FUSE_RELEASE, Body().add(fuse_release_in{0, 0, 0, 0})},
        {FUSE_FSYNC, Body().add(fuse_fsync_in{file.handle, 0, 0})},
        {FUSE_SETXATTR, Body().add(setxattr).text("user.x").raw("abc")},
        {FUSE_GETXATTR, Body().add(fuse_getxattr_in{100, 0}).text("user.x")},
        {FUSE_LISTXATTR, Body().add(fuse_getxattr_in{100, 0})},
        {FUSE_REMOVEXATTR, Body().text("user.x")},
        {FUSE_FLUSH, Body().add(fuse_flush_in{file.handle, 0, 0, 0})},
        {FUSE_INIT, Body().add(fuse_init_in{7, 40, 4096, ~0U, ~0U, {}})},
        {FUSE_OPENDIR, Body().add(fuse_open_in{})},
        {FUSE_READDIR, Body().add(readdir)},
        {FUSE_READDIRPLUS, Body().add(readdir)},
        {FUSE_RELEASEDIR, Body().add(fuse_release_in{0, 0, 0, 0})},
        {FUSE_FSYNCDIR, Body().add(fuse_fsync_in{dir_handle, 0, 0})},
        {FUSE_INTERRUPT, Body().add(fuse_interrupt_in{1})},
        {FUSE_DESTROY, Body()},
        {FUSE_IOCTL, Body().add(ioctl).add(udax_ioc_extents{})},
        {FUSE_FALLOCATE, Body().add(fuse_fallocate_in{file.handle, 0, 8192, 0, 0})},
        {FUSE_LSEEK, Body().add(fuse_lseek_in{file.handle, 0, 3, 0})},
        {FUSE_COPY_FILE_RANGE, Body().add(copy)},
        {wire::kOpCopyFileRange64, Body().add(copy)},
        {FUSE_SYNCFS, Body().add(fuse_syncfs_in{})},
    };
  }
};

TEST_F(MalformedTest, EveryMessageAtEveryLength) {
  const Opened file = create(1, "file");
  const uint64_t dir = opendir(1);
  for (const auto& [opcode, body] : samples(file, dir)) {
    const uint64_t node =
        opcode == FUSE_READDIR || opcode == FUSE_READDIRPLUS || opcode == FUSE_LOOKUP ? 1 : file.node;
    const auto& bytes = body.bytes();
    for (size_t length = 0; length <= bytes.size(); ++length) {
      if (length > 300 && length + 20 < bytes.size() && length % 97 != 0) continue;  // the long one
      expect_one_reply(opcode, node, {bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length)});
      expect_one_reply(opcode, 1, {bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length)});
    }
  }
}

TEST_F(MalformedTest, EveryOpcodeWithAnyNode) {
  const Opened file = create(1, "file");
  const uint64_t dir = opendir(1);
  for (const uint64_t node : {uint64_t{0}, uint64_t{2}, uint64_t{16}, uint64_t{1} << 40, ~uint64_t{0}}) {
    for (const auto& [opcode, body] : samples(file, dir)) expect_one_reply(opcode, node, body.bytes());
  }
}

TEST_F(MalformedTest, UnknownOpcodes) {
  for (const uint32_t opcode : {0U, 7U, 19U, 54U, 55U, 100U, 4096U, 0xFFFFFFFFU}) {
    expect_one_reply(opcode, 1, std::vector<std::byte>(64));
    EXPECT_EQ(channel.answers.front().error, -ENOSYS) << opcode;
  }
}

TEST_F(MalformedTest, ExtensionsWereNotAskedFor) {
  fuse_in_header header{};
  header.opcode = FUSE_STATFS;
  header.unique = channel.unique = 77;
  header.total_extlen = 1;
  Request request;
  request.header = &header;
  request.scratch = scratch;
  channel.answers.clear();
  dispatcher.handle(request, channel);
  ASSERT_EQ(channel.answers.size(), 1U);
  EXPECT_EQ(channel.answers.front().error, -EINVAL);
}

// Good messages with bytes changed at random: lengths, handles, offsets, flags, names.
TEST_F(MalformedTest, RandomBytes) {
  const char* given = std::getenv("UDAX_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : monotonic_ns();
  std::cout << "UDAX_SEED=" << seed << "\n";
  Random random(seed);
  const Opened file = create(1, "file");
  const uint64_t dir = opendir(1);
  const auto messages = samples(file, dir);
  for (int i = 0; i < 20000; ++i) {
    const auto& [opcode, body] = messages[random.below(messages.size())];
    std::vector<std::byte> bytes = body.bytes();
    if (!random.one_in(4)) {
      for (uint64_t n = random.below(4); n > 0 && !bytes.empty(); --n) {
        bytes[random.below(bytes.size())] = static_cast<std::byte>(random.next());
      }
    }
    if (random.one_in(8)) bytes.resize(random.below(bytes.size() + 16));
    const uint64_t node = random.one_in(3) ? 1 : random.one_in(8) ? random.below(64) : file.node;
    expect_one_reply(opcode, node, bytes);
    if (HasFatalFailure()) FAIL() << "seed " << seed;
  }
}

}  // namespace
}  // namespace udax::fuse::test
