// SPDX-License-Identifier: BSD-3-Clause
//
// The readers, over a pair of sockets that keeps messages apart as /dev/fuse does.
#include "fuse/reader_pool.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/fuse/wire_harness.h"

namespace udax::fuse::test {
namespace {

class ReaderPoolTest : public ::testing::Test {
 protected:
  ReaderPoolTest() : pool(64U << 20, options()), dispatcher(pool.fs(), {}) {
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
  }
  ~ReaderPoolTest() override {
    dispatcher.close_all();
    for (const int end : ends) ::close(end);
  }
  static fs::MountOptions options() {
    fs::MountOptions o;
    o.count_lookups = true;
    return o;
  }
  void send(uint32_t opcode, uint64_t node, const Body& body, uint64_t unique) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof(header) + body.bytes().size());
    header.opcode = opcode;
    header.nodeid = node;
    header.unique = unique;
    std::vector<std::byte> message(sizeof(header));
    std::memcpy(message.data(), &header, sizeof(header));
    message.insert(message.end(), body.bytes().begin(), body.bytes().end());
    ASSERT_EQ(::send(ends[0], message.data(), message.size(), 0), static_cast<ssize_t>(message.size()));
  }
  void send_init() { send(FUSE_INIT, 0, Body().add(fuse_init_in{7, 45, 4096, ~0U, ~0U, {}}), 1); }
  fuse_out_header receive() {
    std::vector<std::byte> message(1U << 21);
    const ssize_t n = ::recv(ends[0], message.data(), message.size(), 0);
    fuse_out_header header{};
    EXPECT_GE(n, static_cast<ssize_t>(sizeof(header)));
    std::memcpy(&header, message.data(), sizeof(header));
    EXPECT_EQ(header.len, n);
    return header;
  }
  [[nodiscard]] bool readable(int timeout_ms) const {
    pollfd p{ends[0], POLLIN, 0};
    return ::poll(&p, 1, timeout_ms) == 1;
  }
  // What the kernel sees as GETATTR of the root, answered at once.
  void expect_alive(uint64_t unique) {
    send(FUSE_GETATTR, 1, Body().add(fuse_getattr_in{}), unique);
    ASSERT_TRUE(readable(10'000));
    const fuse_out_header header = receive();
    EXPECT_EQ(header.unique, unique);
    EXPECT_EQ(header.error, 0);
  }

  udax::test::TestPool pool;
  Dispatcher dispatcher;
  int ends[2] = {-1, -1};  // the kernel's, the daemon's
};

class ReaderPoolSizeTest : public ReaderPoolTest, public ::testing::WithParamInterface<uint32_t> {};

TEST_P(ReaderPoolSizeTest, ServesAndEndsWithTheConnection) {
  ReaderPool readers(ends[1], dispatcher, GetParam());
  send_init();
  ASSERT_TRUE(readers.start());
  EXPECT_EQ(receive().unique, 1U);
  for (uint64_t i = 10; i < 500; ++i) expect_alive(i);
  ASSERT_EQ(::shutdown(ends[0], SHUT_RDWR), 0);
  pollfd p{readers.ended_fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&p, 1, 10'000), 1);
  readers.stop();
}

INSTANTIATE_TEST_SUITE_P(Threads, ReaderPoolSizeTest, ::testing::Values(1U, 2U, 4U, 16U));

TEST_F(ReaderPoolTest, StopsWhileNobodyAsks) {
  ReaderPool readers(ends[1], dispatcher, 3);
  send_init();
  ASSERT_TRUE(readers.start());
  ::usleep(20'000);  // the watcher sleeps by now
  EXPECT_EQ(receive().unique, 1U);
  expect_alive(2);
  readers.stop();
}

TEST_F(ReaderPoolTest, TooOldAKernel) {
  ReaderPool readers(ends[1], dispatcher, 2);
  for (int i = 0; i < 3; ++i) send(FUSE_INIT, 0, Body().add(fuse_init_in{7, 12, 4096, 0, 0, {}}), 1);
  const Status started = readers.start();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error(), Error::kNotSupported);
}

// One request that waits for a lock must not keep the others waiting, whatever its opcode.
TEST_F(ReaderPoolTest, AStuckLeaderLosesTheLead) {
  ReaderPool readers(ends[1], dispatcher, 3);
  send_init();
  ASSERT_TRUE(readers.start());
  EXPECT_EQ(receive().unique, 1U);
  const Ino file = pool.file(kRootIno, "file");
  auto ref = pool->open(file, 0, false);
  ASSERT_TRUE(ref);
  {
    const LockGuard hold((*ref)->inode().rwsem);
    // chmod of it: short by its kind, but it has to wait.
    fuse_setattr_in chmod{};
    chmod.valid = FATTR_MODE;
    chmod.mode = 0600;
    send(FUSE_SETATTR, file.value, Body().add(chmod), 100);
    for (uint64_t i = 200; i < 300; ++i) expect_alive(i);
    // A second one takes a second thread; the third still serves.
    send(FUSE_SETATTR, file.value, Body().add(chmod), 101);
    for (uint64_t i = 300; i < 400; ++i) expect_alive(i);
  }
  ASSERT_TRUE(readable(10'000));
  const uint64_t first = receive().unique;
  ASSERT_TRUE(readable(10'000));
  EXPECT_EQ(first + receive().unique, 201U);
  for (uint64_t i = 400; i < 500; ++i) expect_alive(i);
  readers.stop();
}

}  // namespace
}  // namespace udax::fuse::test
