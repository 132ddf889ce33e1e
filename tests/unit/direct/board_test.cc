// SPDX-License-Identifier: BSD-3-Clause
//
// What a client finds on its board when a file changes, and that it cannot write there.
#include "direct/board.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "base/sync_point.h"
#include "fs/filesystem.h"
#include "media/memory_medium.h"
#include "mkfs/make_pool.h"

namespace udax::direct {
namespace {

constexpr uint64_t kPoolSize = uint64_t{16} << 20;

class BoardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto medium = std::make_shared<media::MemoryMedium>(kPoolSize);
    mkfs::MakeOptions make;
    ASSERT_TRUE(mkfs::make_pool(*medium, make));
    auto mounted = fs::Filesystem::mount(medium, {}, nullptr);
    ASSERT_TRUE(mounted);
    fs_ = std::move(*mounted);
    auto created = fs_->create(kRootIno, "f", 0100644, O_RDWR, {}, &attr_);
    ASSERT_TRUE(created);
    file_ = std::move(*created);
    ASSERT_TRUE(fs_->set_flags(attr_.ino, format::kFlagDax, format::kFlagDax, std::nullopt, {}));
    write(0, 10000);
    auto board = Board::make();
    ASSERT_TRUE(board);
    board_ = *board;
    show({});
  }
  void TearDown() override {
    entry_.reset();
    file_.reset();
    EXPECT_TRUE(fs_->unmount());
  }
  void show(const BoardPolicy& policy) {
    entry_.reset();
    auto entry = BoardEntry::put(board_, policy, file_->inode());
    ASSERT_TRUE(entry);
    entry_ = std::move(*entry);
  }
  void write(uint64_t offset, size_t size) {
    const std::vector<std::byte> bytes(size, std::byte{7});
    ASSERT_TRUE(fs_->write(*file_, offset, bytes, false, false));
  }
  void set(const fs::SetAttr& change) { ASSERT_TRUE(fs_->setattr(attr_.ino, change, {})); }
  void set_flag(uint32_t flag, bool on) {
    ASSERT_TRUE(fs_->set_flags(attr_.ino, on ? flag : 0, flag, std::nullopt, {}));
  }
  BoardSlot& slot() { return board_->slot(entry_->index()); }
  uint64_t may() { return slot().rights & (kBoardRead | kBoardWrite | kBoardClosed); }

  std::unique_ptr<fs::Filesystem> fs_;
  fs::Attr attr_;
  fs::OpenFilePtr file_;
  std::shared_ptr<Board> board_;
  std::unique_ptr<BoardEntry> entry_;
};

TEST_F(BoardTest, ShowsTheFileFromTheStart) {
  EXPECT_EQ(slot().sequence % 2, 0U);
  EXPECT_EQ(slot().size, 10000U);
  EXPECT_EQ(slot().blocks, 3U);
  EXPECT_EQ(may(), kBoardRead | kBoardWrite);
  fs::SetAttr times;
  times.mtime = format::TimeStamp{5, 6};
  set(times);
  EXPECT_EQ(slot().mtime_ns, 5'000'000'006U);
}

TEST_F(BoardTest, GrowthNeedsNoSecondLook) {
  const uint64_t before = slot().sequence;
  write(9000, 20000);
  EXPECT_EQ(slot().size, 29000U);
  EXPECT_EQ(slot().blocks, 8U);
  EXPECT_EQ(slot().sequence, before);
}

TEST_F(BoardTest, WhatNarrowsRaisesTheSequence) {
  uint64_t before = slot().sequence;
  const auto is_raised = [&] {
    const bool out = slot().sequence > before && slot().sequence % 2 == 0;
    before = slot().sequence;
    return out;
  };
  fs::SetAttr cut;
  cut.size = 100;
  set(cut);
  EXPECT_TRUE(is_raised());
  EXPECT_EQ(slot().size, 100U);
  fs::SetAttr mode;
  mode.mode = 04755;
  set(mode);
  EXPECT_TRUE(is_raised());
  EXPECT_EQ(may(), kBoardRead);
  mode.mode = 0644;
  set(mode);
  EXPECT_TRUE(is_raised());
  EXPECT_EQ(may(), kBoardRead | kBoardWrite);
  const std::array<std::byte, 4> value{};
  ASSERT_TRUE(fs_->setxattr(attr_.ino, "user.x", value, 0, false, {}));
  EXPECT_TRUE(is_raised());
  EXPECT_EQ(may(), kBoardRead);
}

TEST_F(BoardTest, FlagsTakeRightsAway) {
  set_flag(format::kFlagAppend, true);
  EXPECT_EQ(may(), kBoardRead);
  set_flag(format::kFlagAppend, false);
  set_flag(format::kFlagImmutable, true);
  EXPECT_EQ(may(), kBoardRead);
  set_flag(format::kFlagImmutable, false);
  EXPECT_EQ(may(), kBoardRead | kBoardWrite);
  set_flag(format::kFlagNoAtime, true);
  EXPECT_NE(slot().rights & kBoardNoAtime, 0U);
  set_flag(format::kFlagDax, false);
  EXPECT_EQ(may(), 0U);
  set_flag(format::kFlagDax, true);
  EXPECT_EQ(may(), kBoardRead | kBoardWrite);
}

TEST_F(BoardTest, TheMountDecidesToo) {
  BoardPolicy policy;
  policy.data = fs::DataMode::kAtomic;
  show(policy);
  EXPECT_EQ(may(), 0U);
  policy = {};
  policy.is_read_only = true;
  show(policy);
  EXPECT_EQ(slot().rights, kBoardRead | kBoardNoAtime);
  policy = {};
  policy.dax = fs::DaxMode::kNever;
  show(policy);
  EXPECT_EQ(may(), 0U);
  policy = {};
  policy.atime = fs::AtimeMode::kStrict;
  show(policy);
  EXPECT_EQ(slot().rights, kBoardRead | kBoardWrite | kBoardStrictAtime);
}

TEST_F(BoardTest, ClosedStaysClosed) {
  const uint64_t before = slot().sequence;
  entry_->close();
  EXPECT_GT(slot().sequence, before);
  EXPECT_EQ(slot().sequence % 2, 0U);
  EXPECT_EQ(slot().rights, kBoardClosed);
  write(0, 20000);
  EXPECT_EQ(slot().rights, kBoardClosed);
}

TEST_F(BoardTest, AChangeThatFailsIsOver) {
  // One commit fails for want of memory or of room, after its watchers were told: nothing has changed, and they know.
  std::vector<std::byte> bytes(kPoolSize, std::byte{1});
  const uint64_t size = slot().size;
  ASSERT_TRUE(fs_->write(*file_, 0, bytes, false, false));  // as much as there is room for
  EXPECT_GT(slot().size, size);
  EXPECT_FALSE(fs_->write(*file_, slot().size + 4096, std::span(bytes).first(4096), false, false));
  EXPECT_EQ(slot().sequence % 2, 0U);
  const auto attr = fs_->getattr(attr_.ino);
  ASSERT_TRUE(attr);
  EXPECT_EQ(slot().size, attr->size);
}

// Who looks, reads, and looks again never takes bytes behind a shorter end for the file's.
TEST_F(BoardTest, SizesThatComeAndGoAreNeverMixed) {
  std::atomic<bool> is_over{false};
  std::thread changer([&] {
    for (int i = 0; i < 300; ++i) {
      fs::SetAttr cut;
      cut.size = i % 2 == 0 ? 100 : 10000;
      EXPECT_TRUE(fs_->setattr(attr_.ino, cut, {}));
    }
    is_over.store(true);
  });
  const auto load = [](uint64_t& word) { return std::atomic_ref<uint64_t>(word).load(std::memory_order_acquire); };
  uint64_t looks = 0;
  while (!is_over.load()) {
    const uint64_t before = load(slot().sequence);
    const uint64_t first = load(slot().size);
    const uint64_t second = load(slot().size);
    if (before % 2 != 0 || load(slot().sequence) != before) continue;
    // Between two equal looks it can only have grown.
    EXPECT_LE(first, second);
    ++looks;
  }
  changer.join();
  EXPECT_GT(looks, 0U);
}

TEST_F(BoardTest, SlotsRunOut) {
  std::vector<uint32_t> taken;
  for (;;) {
    const auto one = board_->take();
    if (!one) {
      EXPECT_EQ(one.error(), Error::kTooManyFiles);
      break;
    }
    taken.push_back(*one);
  }
  EXPECT_EQ(taken.size(), kBoardSlots - 1);
  board_->give_back(taken.front());
  EXPECT_TRUE(board_->take());
}

TEST_F(BoardTest, NobodyElseWrites) {
  const int fd = board_->fd();
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_EQ(errno, EPERM);
  const char byte = 1;
  EXPECT_EQ(::pwrite(fd, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_NE(::ftruncate(fd, 0), 0);
  void* const seen = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(seen, MAP_FAILED);
  EXPECT_NE(::mprotect(seen, 4096, PROT_READ | PROT_WRITE), 0);
  ::munmap(seen, 4096);
}

#ifdef UDAX_SYNC_POINTS
TEST_F(BoardTest, WithoutTheSequenceAShorterFileIsNotNoticed) {
  const sync_point::ScopedKnob knob("direct.board.keep_sequence");
  const uint64_t before = slot().sequence;
  fs::SetAttr cut;
  cut.size = 100;
  set(cut);
  EXPECT_EQ(slot().sequence, before);
}
#endif

}  // namespace
}  // namespace udax::direct
