// SPDX-License-Identifier: BSD-3-Clause
//
// Mappings of a file that has ceased to be a DAX file: a touch is answered by KERNEL, the daemon forgets the mapping, and answers nothing
// before the client has done it. The test plays the client (played_client.h).
#include <fcntl.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>

#include "base/sync_point.h"
#include "tests/unit/direct/played_client.h"

namespace udax::direct {
namespace {

class Handover : public PlayedClient {
 protected:
  Handover() : PlayedClient(fs::DaxMode::kInode) {}
  void SetUp() override {
    PlayedClient::SetUp();
    ASSERT_EQ(open_file(O_RDWR).error, 0U);
    ASSERT_EQ(map(1, kProtRead | kProtWrite, kLength).error, 0U);
  }
  void flip() { ASSERT_TRUE(fs_->set_flags(attr_.ino, 0, format::kFlagDax, {}, fs::Caller{})); }
  static Request request_of(RequestType type, uint64_t offset, uint64_t length) {
    Request request;
    request.type = static_cast<uint32_t>(type);
    request.offset = offset;
    request.length = length;
    return request;
  }
  static constexpr uint64_t kLength = 16 * kBlockSize;
};

TEST_F(Handover, ATouchAfterTheFlipGivesTheWholeMappingToTheKernel) {
  flip();
  EXPECT_EQ(counters_.regions.load(), 1U) << "nobody has touched it yet";
  process_.touch(kLength + 3 * kBlockSize);
  wait_for(OpType::kKernel);
  const Op op = last(OpType::kKernel);
  EXPECT_EQ(op.offset, kLength);
  EXPECT_EQ(op.length, kLength);
  EXPECT_EQ(op.device, kLength);
  EXPECT_EQ(op.handle, 1U);
  EXPECT_EQ(op.prot, kProtRead | kProtWrite);
  EXPECT_EQ(seen(OpType::kMap), 0);
  EXPECT_EQ(counters_.regions.load(), 0U);
  // What is left to ask of it is nothing.
  const Reply query = ask(request_of(RequestType::kQuery, kLength, kLength));
  EXPECT_EQ(query.value[2], kLength);
  EXPECT_EQ(counters_.handovers.load(), 1U);
  EXPECT_EQ(ask(request_of(RequestType::kSync, kLength, kLength)).error, static_cast<uint32_t>(ENOMEM));
  EXPECT_EQ(ask(request_of(RequestType::kUnmap, kLength, kLength)).error, 0U);
  EXPECT_TRUE(unmapped().empty());
  EXPECT_EQ(map(1, kProtRead).error, static_cast<uint32_t>(EOPNOTSUPP));
}

TEST_F(Handover, NoRequestIsAnsweredBeforeTheClientHasDoneIt) {
  flip();
  hold_mapper();
  process_.touch(kLength);
  wait_for(OpType::kKernel);
  auto reply =
      std::async(std::launch::async, [&] { return ask(request_of(RequestType::kUnmap, kLength, kLength)); });
  EXPECT_EQ(reply.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  let_mapper_go_on();
  EXPECT_EQ(reply.get().error, 0U);
}

TEST_F(Handover, WhatIsMappedAheadIsNotOnceTheFlagIsGone) {
  flip();
  Request advise = request_of(RequestType::kAdvise, kLength, kLength);
  advise.flags = kAdviseWillNeed;
  const Reply reply = ask(advise);
  EXPECT_EQ(reply.error, 0U);
  EXPECT_EQ(reply.value[0], 0U);
  EXPECT_EQ(seen(OpType::kMap), 0);
}

#if defined(UDAX_SYNC_POINTS)
TEST_F(Handover, ControlTheMappingStaysDirect) {
  const sync_point::ScopedKnob knob("direct.flip.stays");
  ASSERT_EQ(map(1, kProtRead | kProtWrite, 0).error, 0U);
  flip();
  process_.touch(0);  // within the file
  wait_for(OpType::kMap);
  EXPECT_EQ(seen(OpType::kKernel), 0);
}
#endif

// What lies between them is the program's memory.
TEST_F(Handover, UnmappingSeveralLeavesWhatLiesBetween) {
  ASSERT_EQ(map(1, kProtRead, 4 * kLength).error, 0U);
  ASSERT_EQ(map(1, kProtRead, 5 * kLength).error, 0U);
  EXPECT_EQ(ask(request_of(RequestType::kUnmap, 0, kSize)).error, 0U);
  const std::vector<std::pair<uint64_t, uint64_t>> expected{{kLength, kLength}, {4 * kLength, 2 * kLength}};
  EXPECT_EQ(unmapped(), expected);
}

// As on devdax. The file's first 2 MiB are one block of the pool, what follows is less.
class Coarse : public PlayedClient {
 protected:
  static constexpr uint64_t kUnit = kHugeSize;
  static constexpr uint64_t kTail = 16 * kBlockSize;
  Coarse() : PlayedClient(fs::DaxMode::kInode, kSetupNoTracking, kUnit) {}
  void SetUp() override {
    PlayedClient::SetUp();
    fs::SetAttr cut;
    cut.size = 0;
    ASSERT_TRUE(fs_->setattr(attr_.ino, cut, fs::Caller{}));
    const std::vector<std::byte> bytes(kUnit + kTail, std::byte{7});
    ASSERT_TRUE(fs_->write(*file_, 0, bytes, false, false));
    ASSERT_EQ(open_file(O_RDWR).error, 0U);
    ASSERT_EQ(map(1, kProtRead | kProtWrite, 0, kUnit + kTail).error, 0U);
  }
};

TEST_F(Coarse, ATouchMapsTheWholeUnit) {
  process_.touch(3 * kBlockSize);
  wait_for(OpType::kMap);
  EXPECT_EQ(last(OpType::kMap).offset, 0U);
  EXPECT_EQ(last(OpType::kMap).length, kUnit);
  EXPECT_EQ(last(OpType::kMap).device % kUnit, 0U);
  EXPECT_EQ(seen(OpType::kKernel), 0);
}

TEST_F(Coarse, WhatIsLessThanAUnitIsTheKernels) {
  process_.touch(kUnit + kBlockSize);
  wait_for(OpType::kKernel);
  EXPECT_EQ(last(OpType::kKernel).offset, kUnit);
  EXPECT_EQ(last(OpType::kKernel).length, kTail);
  EXPECT_EQ(last(OpType::kKernel).device, kUnit);
  EXPECT_EQ(counters_.regions.load(), 1U) << "the rest stays";
  EXPECT_EQ(seen(OpType::kMap), 0);
}

// Two mappings of the kernel's side by side are not one for mremap(2).
TEST_F(Coarse, WhatHasNoWholeUnitIsTheKernelsAtOnce) {
  constexpr uint64_t kAt = 4 * kUnit + kUnit / 2;
  const std::vector<std::byte> bytes(kUnit, std::byte{7});
  ASSERT_TRUE(fs_->write(*file_, kAt, bytes, false, false));
  ASSERT_EQ(map(1, kProtRead | kProtWrite, kAt, kUnit).error, 0U);
  process_.touch(kAt + kBlockSize);
  wait_for(OpType::kKernel);
  EXPECT_EQ(last(OpType::kKernel).offset, kAt);
  EXPECT_EQ(last(OpType::kKernel).length, kUnit);
}

TEST_F(Coarse, WholeUnitsAreTaken) {
  process_.touch(3 * kBlockSize);
  wait_for(OpType::kMap);
  const uint64_t sequence =
      client_->begin_revoke(attr_.ino, {5 * kBlockSize, 6 * kBlockSize}, Client::Revoke::kAll);
  ASSERT_NE(sequence, 0U);
  EXPECT_TRUE(client_->finish_revoke(sequence, OpStream::Clock::now() + std::chrono::seconds(60)));
  EXPECT_EQ(last(OpType::kHole).offset, 0U);
  EXPECT_EQ(last(OpType::kHole).length, kUnit);
}

TEST_F(Coarse, WhatIsUnmappedInPartGoesWholeFirst) {
  process_.touch(3 * kBlockSize);
  wait_for(OpType::kMap);
  Request request;
  request.type = static_cast<uint32_t>(RequestType::kUnmap);
  request.offset = 8 * kBlockSize;
  request.length = kBlockSize;
  EXPECT_EQ(ask(request).error, 0U);
  EXPECT_EQ(last(OpType::kHole).length, kUnit);
  ASSERT_EQ(unmapped().size(), 1U);
  EXPECT_EQ(unmapped()[0].second, kBlockSize);
}

}  // namespace
}  // namespace udax::direct
