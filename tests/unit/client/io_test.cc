// SPDX-License-Identifier: BSD-3-Clause
//
// Which reads and writes are copies, and which are left to the kernel, by what a board says before and after; against a daemon of the
// test's own. Its files are not of a kind that descriptors can be proved of, so that step is left out (a knob; direct_io.sh has it).
#include "client/io_table.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <memory>
#include <string>

#include "base/sync_point.h"
#include "tests/unit/client/fake_daemon.h"

#ifdef UDAX_SYNC_POINTS
namespace udax::client {
namespace {

using client_test::FakeDaemon;
using client_test::g_daemon;
using sync_point::ScopedHandler;
using sync_point::ScopedKnob;

constexpr uint64_t kSize = 100000;

uint64_t tick() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

class IoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* const why = client_test::why_no_client(); why != nullptr) GTEST_SKIP() << why;
    daemon_ = std::make_unique<FakeDaemon>();
    g_daemon = daemon_.get();
    file_ = ::memfd_create("file", MFD_CLOEXEC);
    ASSERT_EQ(::ftruncate(file_, kSize), 0);
    std::memset(daemon_->bytes(), 'p', kSize);
    slot().size = kSize;
    slot().rights = direct::kBoardRead | direct::kBoardWrite | direct::kBoardNoAtime;
    table().turn_on(0);
    table().forget(file_);
  }
  void TearDown() override {
    table().forget(file_);
    table().turn_on(-1);
    if (daemon_) daemon_->die();
    ::close(file_);
  }
  static IoTable& table() { return IoTable::get(); }
  direct::BoardSlot& slot() { return daemon_->slot(); }

  ssize_t read(int64_t offset, size_t size) {
    got_.assign(size, '-');
    const iovec part{got_.data(), size};
    return table().read_at(file_, std::span(&part, 1), offset);
  }
  /// The first call takes the descriptor on.
  void take_on() {
    EXPECT_EQ(read(0, 1), IoTable::kKernel);
    EXPECT_EQ(read(0, 1), 1);
    EXPECT_EQ(daemon_->opens, 1);
  }
  /// As after a write(2) of this tick.
  uint64_t settle_times() {
    const uint64_t now = tick();
    slot().mtime_ns = slot().ctime_ns = now;
    table().wrote(file_, now);
    return now;
  }
  ssize_t write(int64_t offset, std::string bytes) {
    const iovec part{bytes.data(), bytes.size()};
    uint64_t ignored = 0;
    return table().write_at(file_, std::span(&part, 1), offset, &ignored);
  }
  /// Within a tick, whenever this machine lets it.
  ssize_t timely_write(int64_t offset, const std::string& bytes) {
    for (;;) {
      const uint64_t now = settle_times();
      const ssize_t done = write(offset, bytes);
      if (done != IoTable::kKernel || tick() == now) return done;
    }
  }

  const ScopedKnob no_proof_{"client.io.no_proof"};
  std::unique_ptr<FakeDaemon> daemon_;
  int file_ = -1;
  std::string got_;
};

TEST_F(IoTest, ReadsAreThePoolsBytesUpToTheEnd) {
  take_on();
  EXPECT_EQ(read(10, 5), 5);
  EXPECT_EQ(got_, "ppppp");
  EXPECT_EQ(read(kSize - 3, 5), 3);
  EXPECT_EQ(got_, "ppp--");
  EXPECT_EQ(read(kSize, 5), 0);
  EXPECT_EQ(read(kSize + 100, 5), 0);
  EXPECT_EQ(read(-1, 5), IoTable::kKernel);
  EXPECT_EQ(read(0, 0), IoTable::kKernel);
}

TEST_F(IoTest, WhatTheSequenceSaysIsNotTheFilesIsNotTaken) {
  take_on();
  slot().sequence = 1;
  EXPECT_EQ(read(0, 5), IoTable::kKernel);
  slot().sequence = 2;
  EXPECT_EQ(read(0, 5), 5);
  const ScopedHandler changes("client.io.copied", [&] { slot().sequence += 2; });
  EXPECT_EQ(read(0, 5), IoTable::kKernel);
  EXPECT_EQ(timely_write(0, "x"), IoTable::kKernel);
  const ScopedKnob no_second_look("client.io.no_second_look");
  EXPECT_EQ(read(0, 5), 5);
}

TEST_F(IoTest, RightsAreKept) {
  take_on();
  slot().rights = direct::kBoardRead | direct::kBoardNoAtime;
  EXPECT_EQ(read(0, 5), 5);
  EXPECT_EQ(timely_write(0, "x"), IoTable::kKernel);
  slot().rights = 0;
  EXPECT_EQ(read(0, 5), IoTable::kKernel);
  EXPECT_EQ(daemon_->bytes()[0], 'p');
}

TEST_F(IoTest, AClosedSlotIsLetGoOf) {
  take_on();
  slot().rights = direct::kBoardClosed;
  slot().sequence += 2;
  EXPECT_EQ(read(0, 5), IoTable::kKernel);
  table().forget(file_);  // lets go of what nobody leads to
  EXPECT_EQ(read(0, 5), IoTable::kKernel);
  EXPECT_EQ(daemon_->unmaps, 1);
  EXPECT_EQ(daemon_->closes, 1);
}

TEST_F(IoTest, WritesChangeNoTimesAndNoSize) {
  take_on();
  EXPECT_EQ(write(0, "early"), IoTable::kKernel);
  EXPECT_EQ(timely_write(7, "xyz"), 3);
  EXPECT_EQ(std::string(daemon_->bytes() + 6, 5), "pxyzp");
  EXPECT_EQ(timely_write(kSize - 2, "xyz"), IoTable::kKernel);
  EXPECT_EQ(timely_write(kSize - 3, "xyz"), 3);
  settle_times();
  slot().mtime_ns = 5;
  EXPECT_EQ(write(0, "late"), IoTable::kKernel);
  slot().mtime_ns = slot().ctime_ns = tick();
  ::usleep(20000);
  EXPECT_EQ(write(0, "late"), IoTable::kKernel);
  EXPECT_EQ(daemon_->bytes()[0], 'p');
}

TEST_F(IoTest, AFilledHoleIsToldTheKernel) {
  take_on();
  {
    const ScopedHandler fills("client.io.copied", [&] { slot().blocks += 1; });
    EXPECT_EQ(timely_write(7, "xyz"), IoTable::kKernel);
  }
  // There are more of them, most likely; but not for ever.
  EXPECT_EQ(timely_write(7, "xyz"), IoTable::kKernel);
  int left = 1000;
  while (left > 0 && timely_write(7, "xyz") == IoTable::kKernel) --left;
  EXPECT_GT(left, 0);
  EXPECT_EQ(timely_write(7, "xyz"), 3);
}

TEST_F(IoTest, DueAccessTimesAreTheKernels) {
  take_on();
  slot().rights = direct::kBoardRead;
  slot().mtime_ns = slot().ctime_ns = tick() - 1'000'000'000;
  slot().atime_ns = slot().mtime_ns;
  EXPECT_EQ(read(0, 5), IoTable::kKernel);
  slot().atime_ns = tick() - 500'000'000;
  EXPECT_EQ(read(0, 5), 5);
  slot().rights |= direct::kBoardStrictAtime;
  EXPECT_EQ(read(0, 5), IoTable::kKernel);
  slot().rights = direct::kBoardRead;
  constexpr uint64_t kDay = 86'400'000'000'000;
  slot().mtime_ns = slot().ctime_ns = tick() - 3 * kDay;
  slot().atime_ns = tick() - 2 * kDay;
  EXPECT_EQ(read(0, 5), IoTable::kKernel);
}

TEST_F(IoTest, APositionIsMovedOnce) {
  take_on();
  const auto read_on = [&](size_t size) {
    got_.assign(size, '-');
    const iovec part{got_.data(), size};
    return table().read(file_, std::span(&part, 1));
  };
  EXPECT_EQ(read_on(10), 10);
  EXPECT_EQ(::lseek(file_, 0, SEEK_CUR), 10);
  ::lseek(file_, kSize - 4, SEEK_SET);
  EXPECT_EQ(read_on(10), 4);
  EXPECT_EQ(::lseek(file_, 0, SEEK_CUR), static_cast<off_t>(kSize));
  EXPECT_EQ(read_on(10), IoTable::kKernel);
  // What cannot be copied after all is read at its place by the kernel: this file's own bytes, in this test.
  ::lseek(file_, 100, SEEK_SET);
  const ScopedHandler changes("client.io.copied", [&] { slot().sequence += 2; });
  EXPECT_EQ(read_on(10), 10);
  EXPECT_EQ(got_, std::string(10, '\0'));
  EXPECT_EQ(::lseek(file_, 0, SEEK_CUR), 110);
}

TEST_F(IoTest, TheLimitOfSizesIsTheKernels) {
  take_on();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &low), 0);
  table().limit_changed();
  EXPECT_EQ(timely_write(999, "x"), 1);
  EXPECT_EQ(timely_write(1000, "x"), IoTable::kKernel);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  table().limit_changed();
}

TEST_F(IoTest, ADeadDaemonsFileIsTheKernels) {
  take_on();
  daemon_->die();
  for (int i = 0; i < 5000 && read(0, 5) != IoTable::kKernel; ++i) ::usleep(1000);
  EXPECT_EQ(read(0, kSize), IoTable::kKernel);
}

TEST_F(IoTest, ADaemonThatNamesNoSlotIsLeftAlone) {
  daemon_->faults.slot = direct::kBoardSlots;
  EXPECT_EQ(read(0, 1), IoTable::kKernel);
  EXPECT_EQ(read(0, 1), IoTable::kKernel);
}

}  // namespace
}  // namespace udax::client
#endif
