// SPDX-License-Identifier: BSD-3-Clause
//
// The table of views; what the mapper takes from the stream; descriptors.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "client/descriptor.h"
#include "client/handover.h"
#include "client/mapper.h"
#include "client/ranges.h"
#include "client/vault.h"
#include "client/views.h"

namespace udax::client {
namespace {

constexpr uint64_t kPageSize = 4096;

View view_of(const std::shared_ptr<File>& file, uint64_t end, uint64_t offset) {
  View view;
  view.end = end;
  view.prot = 3;
  view.file = file;
  view.file_offset = offset;
  return view;
}

TEST(Views, SplitKeepsOffsetsAndOneStaysOne) {
  ViewTable table;
  const auto file = std::make_shared<File>();
  table.insert(0x10000, view_of(file, 0x18000, 0x1000));
  table.split_at(0x13000);
  table.split_at(0x13000);
  table.split_at(0x18000);
  table.split_at(0x9000);
  ASSERT_EQ(table.all().size(), 2U);
  EXPECT_EQ(table.all().at(0x13000).file_offset, 0x4000U);
  EXPECT_TRUE(table.is_one(0x10000, 0x18000));
  EXPECT_TRUE(table.covers(0x11000, 0x17000));
  EXPECT_FALSE(table.covers(0x11000, 0x19000));
  table.set_prot(0x13000, 0x18000, 1);
  EXPECT_FALSE(table.is_one(0x10000, 0x18000));
  table.erase(0x10000, 0x13000);
  EXPECT_FALSE(table.overlaps(0xf000, 0x13000));
  EXPECT_TRUE(table.overlaps(0x12000, 0x13001));
  EXPECT_EQ(table.next(0), 0x13000U);
  table.set_end(0x13000, 0x18000, 0x20000);
  EXPECT_EQ(table.high(), 0x20000U);
}

TEST(Views, NeighboursOfDifferentOffsetsAreTwo) {
  ViewTable table;
  const auto file = std::make_shared<File>();
  table.insert(0x10000, view_of(file, 0x11000, 0));
  table.insert(0x11000, view_of(file, 0x12000, 0x5000));
  EXPECT_TRUE(table.covers(0x10000, 0x12000));
  EXPECT_FALSE(table.is_one(0x10000, 0x12000));
  EXPECT_TRUE(table.is_one(0x11000, 0x12000));
}

TEST(Ranges, JoinAndAreCut) {
  Ranges ranges;
  ranges.add(10, 20);
  ranges.add(20, 30);
  ranges.add(40, 50);
  uint64_t end = 100;
  ASSERT_TRUE(ranges.find(10, &end));
  EXPECT_EQ(end, 30U);
  ranges.remove(15, 45);
  end = 100;
  ASSERT_TRUE(ranges.find(12, &end));
  EXPECT_EQ(end, 15U);
  EXPECT_FALSE(ranges.find(15, &end));
  EXPECT_FALSE(ranges.find(44, &end));
  end = 48;
  ASSERT_TRUE(ranges.find(45, &end));
  EXPECT_EQ(end, 48U);
  ranges.remove(0, 100);
  EXPECT_FALSE(ranges.find(12, &end));
  EXPECT_FALSE(ranges.find(45, &end));
}

TEST(Ranges, WhatIsInTheMiddleIsTakenOut) {
  Ranges ranges;
  ranges.add(0, 100);
  ranges.remove(40, 60);
  uint64_t end = 1000;
  ASSERT_TRUE(ranges.find(0, &end));
  EXPECT_EQ(end, 40U);
  end = 1000;
  ASSERT_TRUE(ranges.find(60, &end));
  EXPECT_EQ(end, 100U);
}

TEST(HandedOver, IsTakenInOrderAndHasAnEnd) {
  HandedOver log;
  EXPECT_FALSE(log.add({0, 1})) << "before it has room";
  ASSERT_EQ(log.start(), 0);
  HandedOver::Range range;
  EXPECT_FALSE(log.peek(&range));
  uint64_t added = 0;
  while (log.add({added, added + 1})) ++added;
  EXPECT_GE(added, 2 * 16384U);
  for (uint64_t i = 0; i < added; ++i, log.pop()) {
    ASSERT_TRUE(log.peek(&range));
    ASSERT_EQ(range.begin, i);
  }
  EXPECT_FALSE(log.peek(&range));
  EXPECT_TRUE(log.add({5, 6}));
}

TEST(Shelf, FindsByHandle) {
  Shelf shelf;
  EXPECT_EQ(shelf.find(0), -1);
  shelf.put(0, 0);
  shelf.put(7, 501);
  shelf.put(8, -1);
  EXPECT_EQ(shelf.find(0), 0);
  EXPECT_EQ(shelf.find(7), 501);
  EXPECT_EQ(shelf.find(8), -1);
  shelf.remove(7);
  EXPECT_EQ(shelf.find(7), -1);
  shelf.clear();
  EXPECT_EQ(shelf.find(0), -1);
}

direct::Op op_of(direct::OpType type, uint64_t offset, uint64_t length) {
  direct::Op op;
  op.type = static_cast<uint16_t>(type);
  op.sequence = 1;
  op.offset = offset;
  op.length = length;
  return op;
}

TEST(Mapper, TakesNoMalformedOp) {
  Memory memory;
  memory.base = uint64_t{1} << 40;
  memory.size = 1 << 21;
  memory.pool_size = 16 * kPageSize;
  const auto good = op_of(direct::OpType::kMap, kPageSize, 2 * kPageSize);
  ASSERT_EQ(check_op(memory, good, 1), 0);
  EXPECT_EQ(check_op(memory, good, 2), EPROTO);
  auto bad = good;
  const auto refused = [&](auto change) {
    bad = good;
    change(bad);
    return check_op(memory, bad, 1) == EPROTO;
  };
  EXPECT_TRUE(refused([](direct::Op& op) { op.type = 0; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.type = 10; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.flags = 4; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.prot = 4; }));  // PROT_EXEC
  EXPECT_TRUE(refused([](direct::Op& op) { op.offset = 1; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.length = 0; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.length = 100; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.offset = 1 << 21; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.offset = UINT64_MAX - kPageSize + 1; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.device = 15 * kPageSize; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.device = UINT64_MAX - kPageSize + 1; }));
  bad = op_of(direct::OpType::kHole, 0, kPageSize);
  EXPECT_EQ(check_op(memory, bad, 1), 0);
  bad.device = kPageSize;
  EXPECT_EQ(check_op(memory, bad, 1), EPROTO);
  bad = op_of(direct::OpType::kHole, 0, kPageSize);
  bad.flags = direct::kOpPopulate;
  EXPECT_EQ(check_op(memory, bad, 1), EPROTO);
  EXPECT_EQ(check_op(memory, op_of(direct::OpType::kZero, 0, kPageSize), 1), 0);
  bad = op_of(direct::OpType::kZero, 0, kPageSize);
  bad.prot = direct::kProtRead;
  EXPECT_EQ(check_op(memory, bad, 1), EPROTO);
  bad = op_of(direct::OpType::kKernel, 0, kPageSize);
  bad.handle = 7;
  bad.prot = direct::kProtRead;
  bad.device = uint64_t{1} << 60;  // of the file
  EXPECT_EQ(check_op(memory, bad, 1), 0);
  bad.device = INT64_MAX - kPageSize + 1;
  EXPECT_EQ(check_op(memory, bad, 1), EPROTO);
  EXPECT_TRUE(refused([](direct::Op& op) { op.handle = 7; }));
  EXPECT_TRUE(refused([](direct::Op& op) { op.reserved = 1; }));
  EXPECT_EQ(check_op(memory, op_of(direct::OpType::kSync, 0, 0), 1), 0);
  EXPECT_EQ(check_op(memory, op_of(direct::OpType::kSync, 0, kPageSize), 1), EPROTO);
}

TEST(Mapper, EndsTheProcessAtAMalformedPacket) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  ASSERT_EQ(::send(ends[0], "garbage", 7, 0), 7);
  const std::atomic<bool> stopped{false};
  EXPECT_EXIT(run_mapper(Memory{}, ends[1], stopped), ::testing::ExitedWithCode(70), "malformed packet");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(Descriptors, AreOutOfTheWayAndKnown) {
  const int plain = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ASSERT_GE(plain, 0);
  int number = -1;
  {
    const Descriptor own(plain);
    number = own.get();
    EXPECT_TRUE(is_own_descriptor(number));
    EXPECT_EQ(::fcntl(number, F_GETFD), FD_CLOEXEC);
    if (number != plain) {
      EXPECT_GE(number, 500);
      EXPECT_EQ(::fcntl(plain, F_GETFD), -1);
    }
  }
  EXPECT_FALSE(is_own_descriptor(number));
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
  EXPECT_FALSE(is_own_descriptor(-1));
  EXPECT_FALSE(is_own_descriptor(INT32_MAX));
}

// Closing a duplicate would drop the process's POSIX locks of the file.
TEST(Vault, KeepsTheFileAndTheLocksOfTheProgram) {
  char name[] = "/tmp/udax-vault-XXXXXX";
  const int fd = ::mkstemp(name);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, "here", 4), 4);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  ASSERT_EQ(::fcntl(fd, F_SETLK, &lock), 0);
  Descriptor vault = seal(fd);
  ASSERT_TRUE(vault);
  vault = Descriptor();
  vault = seal(fd);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(fd);
    const Descriptor again = unseal(vault);
    char text[5] = {};
    const bool same = again && ::pread(again.get(), text, 4, 0) == 4 && std::string(text) == "here";
    const Descriptor twice = unseal(vault);
    struct flock probe = lock;
    const bool held = twice && ::fcntl(twice.get(), F_GETLK, &probe) == 0 && probe.l_type == F_WRLCK;
    ::_exit(same && held ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(unseal(Descriptor()));
  ::close(fd);
  ::unlink(name);
}

}  // namespace
}  // namespace udax::client
