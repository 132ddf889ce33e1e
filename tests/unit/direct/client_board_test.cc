// SPDX-License-Identifier: BSD-3-Clause
//
// A client that reads and writes a file by itself: where another would get SIGBUS, or lose its mapping, its slot is closed first, and
// what comes in the mapping's place is BUS: memory of its own.
#include <gtest/gtest.h>

#include "base/sync_point.h"
#include "tests/unit/direct/played_client.h"

namespace udax::direct {
namespace {

class ClientBoardTest : public PlayedClient {
 protected:
  ClientBoardTest() : PlayedClient(fs::DaxMode::kInode, kSetupNoTracking | kSetupBoard) {}
  void SetUp() override {
    PlayedClient::SetUp();
    ASSERT_TRUE(board_.is_open());
    const Reply opened = open_file(O_RDWR, kOpenOnBoard);
    ASSERT_EQ(opened.error, 0U);
    slot_ = opened.value[2];
    ASSERT_EQ(map(opened.value[0], kProtRead).error, 0U);
    ASSERT_EQ(slot().rights & (kBoardRead | kBoardWrite), kBoardRead | kBoardWrite);
  }
  BoardSlot slot() {
    BoardSlot out;
    EXPECT_EQ(::pread(board_.get(), &out, sizeof(out), static_cast<off_t>(slot_ * sizeof(out))),
              ssize_t{sizeof(out)});
    return out;
  }
  bool is_closed() { return slot().rights == kBoardClosed && slot().sequence % 2 == 0; }

  uint64_t slot_ = 0;
};

TEST_F(ClientBoardTest, ATouchBehindTheEndClosesTheSlotFirst) {
  fs::SetAttr cut;
  cut.size = kBlockSize;
  ASSERT_TRUE(fs_->setattr(attr_.ino, cut, {}));
  ASSERT_TRUE(revoke());  // the server's part
  EXPECT_EQ(slot().size, kBlockSize);
  EXPECT_FALSE(is_closed());
  hold_mapper();
  process_.touch(5 * kBlockSize);
  wait_for(OpType::kBus);
  EXPECT_TRUE(is_closed());
  let_mapper_go_on();
}

TEST_F(ClientBoardTest, AfterAFlipNothingBecomesTheKernels) {
  ASSERT_TRUE(fs_->set_flags(attr_.ino, 0, format::kFlagDax, {}, fs::Caller{}));
  ASSERT_TRUE(revoke());
  EXPECT_EQ(slot().rights & (kBoardRead | kBoardWrite), 0U);
  process_.touch(0);
  wait_for(OpType::kBus);
  EXPECT_TRUE(is_closed());
  EXPECT_EQ(seen(OpType::kKernel), 0);
}

TEST_F(ClientBoardTest, OneThatIsLateLosesItsSlot) {
  client_->close_board(Ino(attr_.ino.value + 1));
  EXPECT_FALSE(is_closed());
  client_->close_board(attr_.ino);
  EXPECT_TRUE(is_closed());
}

TEST_F(ClientBoardTest, AtTheEndNothingBecomesInaccessible) {
  client_->stop();
  wait_for(OpType::kBus);
  EXPECT_TRUE(is_closed());
  EXPECT_EQ(last(OpType::kBus).length, 16 * kBlockSize);
  server_.join();
  EXPECT_EQ(seen(OpType::kUnmap), 0);
}

#ifdef UDAX_SYNC_POINTS
TEST_F(ClientBoardTest, ControlItDoesWhereThatIsLeftOut) {
  const sync_point::ScopedKnob knob("direct.board.no_retirement");
  client_->stop();
  wait_for(OpType::kUnmap);
  server_.join();
  EXPECT_EQ(seen(OpType::kBus), 0);
}
#endif

TEST_F(ClientBoardTest, SlotsAreUsedAgain) {
  for (uint32_t i = 0; i < 3 * kBoardSlots; ++i) {
    const Reply opened = open_file(O_RDONLY, kOpenOnBoard);
    ASSERT_EQ(opened.error, 0U) << i;
    ASSERT_NE(opened.value[2], slot_);
    Request close;
    close.type = static_cast<uint32_t>(RequestType::kClose);
    close.handle = static_cast<uint32_t>(opened.value[0]);
    ASSERT_EQ(ask(close).error, 0U);
  }
}

}  // namespace
}  // namespace udax::direct
