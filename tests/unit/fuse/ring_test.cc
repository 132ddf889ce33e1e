// SPDX-License-Identifier: BSD-3-Clause
//
// What FUSE over io_uring adds to the dispatcher: entries, the worker, the guess at what is slow. The kernel's side of the
// ring is in tests/integration/transports.sh.
#include <gmock/gmock.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "base/clock.h"
#include "fuse/call.h"
#include "fuse/ring_entry.h"
#include "fuse/slow_guess.h"
#include "fuse/worker.h"
#include "media/memory_medium.h"
#include "tests/unit/fuse/wire_harness.h"

namespace udax::fuse::test {
namespace {

class RingEntryTest : public ::testing::Test {
 protected:
  // As the kernel fills an entry.
  void arrive(uint32_t opcode, uint64_t commit_id, std::string_view arguments, std::string_view payload) {
    auto& a = area();
    std::memset(&a, 0, sizeof(a));
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof(header) + arguments.size() + payload.size());
    header.opcode = opcode;
    header.unique = 77;
    std::memcpy(a.in_out, &header, sizeof(header));
    std::memcpy(a.arguments, arguments.data(), arguments.size());
    std::memcpy(entry->buffers()[1].iov_base, payload.data(), payload.size());
    a.info.commit_id = commit_id;
    a.info.payload_size = static_cast<uint32_t>(payload.size());
  }
  wire::RingHeaderArea& area() { return *static_cast<wire::RingHeaderArea*>(entry->buffers()[0].iov_base); }
  [[nodiscard]] std::string payload() {
    return {static_cast<const char*>(entry->buffers()[1].iov_base), area().info.payload_size};
  }
  static Delivery reply(ReplyChannel& to, std::string_view text) {
    const iovec piece = Call::piece_of(std::as_bytes(std::span(text)));
    return to.send({static_cast<uint32_t>(sizeof(fuse_out_header) + text.size()), 0, 77}, std::span(&piece, 1));
  }

  media::MemoryMedium medium{8U << 20};
  std::vector<RingEntry*> announced;
  std::shared_ptr<RingEntry> entry =
      std::make_shared<RingEntry>(medium, [this](RingEntry& e) { announced.push_back(&e); });
};

TEST_F(RingEntryTest, BodyIsInOnePieceAndDataAtAPage) {
  arrive(FUSE_WRITE, 5, "ARGUMENTS", "data of a write");
  const auto request = entry->request();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->header->opcode, static_cast<uint32_t>(FUSE_WRITE));
  EXPECT_EQ(request->header->unique, 77U);
  const std::string body(reinterpret_cast<const char*>(request->body.data()), request->body.size());
  EXPECT_EQ(body, "ARGUMENTSdata of a write");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(request->body.data() + 9) % 4096, 0U);
  EXPECT_EQ(entry->commit_id(), 5U);
}

TEST_F(RingEntryTest, ReplyLeavesInTheEntry) {
  arrive(FUSE_READ, 6, "x", "");
  ASSERT_TRUE(entry->request());
  const std::string one = "one ";
  const std::string two = "two";
  const std::array<iovec, 2> pieces{Call::piece_of(std::as_bytes(std::span(one))),
                                    Call::piece_of(std::as_bytes(std::span(two)))};
  EXPECT_EQ(entry->send({16 + 7, 0, 77}, pieces), Delivery::kDelivered);
  EXPECT_EQ(payload(), "one two");
  fuse_out_header header{};
  std::memcpy(&header, area().in_out, sizeof(header));
  EXPECT_EQ(header.len, 23U);
  EXPECT_EQ(header.unique, 77U);
  EXPECT_TRUE(entry->is_attached());
  EXPECT_TRUE(announced.empty());
}

TEST_F(RingEntryTest, LateReplyIsAnnounced) {
  arrive(FUSE_FSYNC, 7, "x", "");
  ASSERT_TRUE(entry->request());
  {
    const auto later = entry->detach();
    EXPECT_FALSE(entry->is_attached());
    std::thread([&later] { EXPECT_EQ(reply(*later, "late"), Delivery::kDelivered); }).join();
  }
  ASSERT_THAT(announced, ::testing::ElementsAre(entry.get()));
  EXPECT_EQ(payload(), "late");
  // The next request is this thread's again.
  arrive(FUSE_FSYNC, 8, "x", "");
  ASSERT_TRUE(entry->request());
  EXPECT_TRUE(entry->is_attached());
}

TEST_F(RingEntryTest, LengthsThatDoNotFitAreRefused) {
  const auto expect_refused = [this](uint32_t length, uint32_t payload_size) {
    arrive(FUSE_WRITE, 9, "x", "y");
    auto& a = area();
    fuse_in_header header{};
    std::memcpy(&header, a.in_out, sizeof(header));
    header.len = length;
    std::memcpy(a.in_out, &header, sizeof(header));
    a.info.payload_size = payload_size;
    const auto request = entry->request();
    ASSERT_FALSE(request) << length << " " << payload_size;
    EXPECT_EQ(request.error(), Error::kInvalid);
    EXPECT_EQ(entry->header().unique, 77U);  // to be told so
  };
  expect_refused(0, 0);
  expect_refused(39, 0);
  expect_refused(40, 1);
  expect_refused(40 + 129, 0);
  expect_refused(40 + kIoMax + 1, kIoMax + 1);
  expect_refused(~0U, 0);
  expect_refused(40, ~0U);
}

TEST_F(RingEntryTest, ReplyThatDoesNotFitFails) {
  arrive(FUSE_READ, 10, "x", "");
  ASSERT_TRUE(entry->request());
  const std::vector<std::byte> half(kIoMax / 2 + 1);
  const std::array<iovec, 2> pieces{Call::piece_of(half), Call::piece_of(half)};
  EXPECT_EQ(entry->send({16 + kIoMax + 2, 0, 77}, pieces), Delivery::kFailed);
  EXPECT_EQ(reply(*entry, "an error"), Delivery::kDelivered);
}

/// Loses a page whenever it is asked.
class LosingMedium final : public media::MemoryMedium {
 public:
  using MemoryMedium::MemoryMedium;
  [[nodiscard]] uint64_t faults() const override { return faults_.fetch_add(1); }

 private:
  mutable std::atomic<uint64_t> faults_{0};
};

TEST(RingEntry, BytesThatWereLostMeanwhileAreNoReply) {
  const LosingMedium medium(8U << 20);
  const auto entry = std::make_shared<RingEntry>(medium, [](RingEntry&) {});
  EXPECT_EQ(entry->send({16, 0, 1}, {}), Delivery::kFailed);
}

TEST(SlowGuess, FollowsWhatRequestsTake) {
  SlowGuess guess;
  EXPECT_FALSE(guess.is_slow(FUSE_FSYNC));
  for (int i = 0; i < 10; ++i) guess.note(FUSE_FSYNC, 10 * SlowGuess::kSlowNs);
  EXPECT_TRUE(guess.is_slow(FUSE_FSYNC));
  EXPECT_FALSE(guess.is_slow(FUSE_READ));
  for (int i = 0; i < 40; ++i) guess.note(FUSE_FSYNC, 1000);
  EXPECT_FALSE(guess.is_slow(FUSE_FSYNC));
  guess.note(~0U, 1);
  EXPECT_FALSE(guess.is_slow(~0U));
}

class WorkerTest : public Harness {};

TEST_F(WorkerTest, FinishesWhatItTookAndRefusesTheRest) {
  std::atomic<int> done{0};
  Worker worker(dispatcher, "test", 3);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(worker.defer([&done](Worker::Thread& thread) {
      EXPECT_EQ(thread.scratch.size(), kScratchSize);
      ++done;
    }));
  }
  worker.stop();
  EXPECT_EQ(done, 100);
  EXPECT_FALSE(worker.defer_job([] {}));
}

TEST_F(WorkerTest, JobsRunBesideOneThatWaits) {
  std::atomic<bool> second{false};
  Worker worker(dispatcher, "test", 2);
  ASSERT_TRUE(worker.defer_job([&second] {
    const uint64_t limit = monotonic_ns() + 30'000'000'000;
    while (!second && monotonic_ns() < limit) std::this_thread::yield();
    EXPECT_TRUE(second);
  }));
  ASSERT_TRUE(worker.defer_job([&second] { second = true; }));
  worker.stop();
}

}  // namespace
}  // namespace udax::fuse::test
