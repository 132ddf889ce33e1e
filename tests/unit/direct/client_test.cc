// SPDX-License-Identifier: BSD-3-Clause
//
// A client of the server's half, its other half played by the test (played_client.h).
#include "direct/client.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "base/sync_point.h"
#include "tests/unit/direct/played_client.h"

namespace udax::direct {
namespace {

using ClientTest = PlayedClient;

TEST_F(ClientTest, MapsDataAheadAndTakesItBackBeforeTheCallReturns) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  const Reply mapped = map(1, kProtRead);
  ASSERT_EQ(mapped.error, 0U);
  EXPECT_EQ(mapped.value[0], 16 * kBlockSize);
  wait_for(OpType::kMap);  // it is on its way when the reply comes
  hold_mapper();
  std::atomic<bool> is_back{false};
  std::thread other([&] {
    EXPECT_TRUE(revoke());
    is_back = true;
  });
  wait_for(OpType::kHole);
  EXPECT_FALSE(is_back.load()) << "the mapper has not done it";
  let_mapper_go_on();
  other.join();
  EXPECT_EQ(client_->begin_revoke(attr_.ino, {}, Client::Revoke::kAll), 0U) << "nothing is left to take";
}

#if defined(UDAX_SYNC_POINTS)
TEST_F(ClientTest, ControlViewsStayWhereTheHoleIsLeftOut) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  const sync_point::ScopedKnob knob("direct.revoke.skip_hole");
  EXPECT_TRUE(revoke());
  EXPECT_EQ(seen(OpType::kHole), 0);
}
#endif

TEST_F(ClientTest, WhatIsNotOpenForItIsRefused) {
  const Reply opened = open_file(O_RDONLY);
  ASSERT_EQ(opened.error, 0U);
  EXPECT_EQ(opened.value[1], kOpenReadable);
  EXPECT_EQ(map(opened.value[0], kProtRead | kProtWrite).error, static_cast<uint32_t>(EACCES));
  EXPECT_EQ(map(77, kProtRead).error, static_cast<uint32_t>(EBADF));
  ASSERT_EQ(map(opened.value[0], kProtRead).error, 0U);
  EXPECT_EQ(map(opened.value[0], kProtRead).error, static_cast<uint32_t>(EEXIST));
  Request forged;
  forged.type = static_cast<uint32_t>(RequestType::kOpen);
  forged.cookie[0] = 1;
  EXPECT_EQ(ask(forged).error, static_cast<uint32_t>(EACCES));
}

TEST_F(ClientTest, OneThatDoesNotAnswerIsKilledAndItsViewsAreGone) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  hold_mapper();
  EXPECT_TRUE(revoke()) << "in the end, its memory is gone";
  EXPECT_TRUE(client_->is_killed());
  EXPECT_TRUE(client_->is_gone());
  EXPECT_EQ(counters_.cut_offs.load(), 1U);
  int status = 0;
  ASSERT_EQ(::waitpid(process_.pid, &status, 0), process_.pid);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

// It may be in the kernel, waiting for a page that whoever takes the views back keeps: then neither waits for ever.
TEST_F(ClientTest, OneThatIsLateIsNotWaitedForAndNotKilledBeforeTheDeadline) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  hold_mapper();
  const uint64_t sequence = client_->begin_revoke(attr_.ino, {}, Client::Revoke::kAll);
  ASSERT_NE(sequence, 0U);
  EXPECT_FALSE(client_->has_revoked(sequence, OpStream::Clock::now() + Client::kPatience));
  EXPECT_FALSE(client_->is_killed());
  let_mapper_go_on();
  EXPECT_TRUE(client_->finish_revoke(sequence, OpStream::Clock::now() + std::chrono::seconds(60)));
  EXPECT_FALSE(client_->is_killed());
}

// Two take the same views: one sends the op, the other finds none any more, and must not take them for gone.
TEST_F(ClientTest, WhatIsBeingTakenAlreadyIsWaitedForToo) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  hold_mapper();
  const mapping::ByteRange head{0, 4 * kBlockSize};
  ASSERT_NE(client_->begin_revoke(attr_.ino, head, Client::Revoke::kAside), 0U);
  const uint64_t second = client_->begin_revoke(attr_.ino, {kBlockSize, 2 * kBlockSize}, Client::Revoke::kAll);
  ASSERT_NE(second, 0U);
  EXPECT_FALSE(client_->has_revoked(second, OpStream::Clock::now() + std::chrono::milliseconds(50)));
  EXPECT_EQ(client_->begin_revoke(Ino{attr_.ino.value + 1}, {}, Client::Revoke::kAll), 0U) << "another file's";
  let_mapper_go_on();
  EXPECT_TRUE(client_->finish_revoke(second, OpStream::Clock::now() + std::chrono::seconds(60)));
  EXPECT_EQ(client_->begin_revoke(attr_.ino, head, Client::Revoke::kAll), 0U) << "that is over";
}

TEST_F(ClientTest, WhatIsBeingUnmappedIsWaitedForToo) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  wait_for(OpType::kMap);  // one that is held there does not come to the next
  hold_mapper();
  std::thread other([&] {
    Request request;
    request.type = static_cast<uint32_t>(RequestType::kUnmap);
    request.length = 16 * kBlockSize;
    EXPECT_EQ(ask(request).error, 0U);
  });
  wait_for(OpType::kUnmap);
  EXPECT_NE(client_->begin_revoke(attr_.ino, {}, Client::Revoke::kAll), 0U);
  let_mapper_go_on();
  other.join();
}

#if defined(UDAX_SYNC_POINTS)
TEST_F(ClientTest, ControlWhoLooksForViewsOnlyTakesWhatIsOnItsWayForGone) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  hold_mapper();
  const sync_point::ScopedKnob knob("direct.revoke.own_ops");
  ASSERT_NE(client_->begin_revoke(attr_.ino, {}, Client::Revoke::kAll), 0U);
  EXPECT_EQ(client_->begin_revoke(attr_.ino, {}, Client::Revoke::kAll), 0U);
}
#endif

TEST_F(ClientTest, NothingIsMappedOfARangeThatIsHeld) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  holds_.add(attr_.ino, {0, 16 * kBlockSize});
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  EXPECT_EQ(client_->begin_revoke(attr_.ino, {}, Client::Revoke::kAside), 0U);
  EXPECT_EQ(seen(OpType::kMap), 0);
  holds_.remove(attr_.ino, {0, 16 * kBlockSize});
  Request advise;
  advise.type = static_cast<uint32_t>(RequestType::kAdvise);
  advise.length = 16 * kBlockSize;
  advise.flags = kAdviseWillNeed;
  ASSERT_EQ(ask(advise).error, 0U);
  wait_for(OpType::kMap);
  EXPECT_TRUE(revoke());
}

TEST_F(ClientTest, WhatHasGrownInItsPlaceMovesAsOne) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  ASSERT_EQ(map(1, kProtRead, 16 * kBlockSize).error, 0U);
  Request remap;
  remap.type = static_cast<uint32_t>(RequestType::kRemap);
  remap.length = 32 * kBlockSize;
  remap.new_offset = 64 * kBlockSize;
  remap.new_length = 48 * kBlockSize;
  EXPECT_EQ(ask(remap).error, 0U);
}

TEST_F(ClientTest, OneThatSendsGarbageIsEnded) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  Request garbage;
  garbage.type = 99;
  EXPECT_EQ(ask(garbage).error, static_cast<uint32_t>(EPROTO));
  server_.join();
  EXPECT_TRUE(client_->is_killed());
  EXPECT_TRUE(client_->is_gone());
}

TEST_F(ClientTest, TheEndOfItsProcessIsNoOffence) {
  ASSERT_EQ(open_file(O_RDONLY).error, 0U);
  ASSERT_EQ(map(1, kProtRead).error, 0U);
  ::kill(process_.pid, SIGKILL);
  server_.join();
  EXPECT_TRUE(client_->is_gone());
  EXPECT_FALSE(client_->is_killed());
  EXPECT_EQ(counters_.cut_offs.load(), 0U);
  EXPECT_EQ(counters_.regions.load(), 0U);
}

}  // namespace
}  // namespace udax::direct
