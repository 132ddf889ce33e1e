// SPDX-License-Identifier: BSD-3-Clause
//
// The model of what is in flight, on logs of a few stores.
#include "tests/crash/engine/in_flight.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "base/random.h"

namespace udax::crash {
namespace {

constexpr uint64_t kSize = 16 * kBlockSize;

class InFlightTest : public testing::Test {
 protected:
  void store(uint64_t offset, uint64_t value) { disk_.store(offset, &value, sizeof value); }
  [[nodiscard]] uint64_t at(uint64_t offset) const {
    uint64_t value = 0;
    std::memcpy(&value, disk_.at(offset), sizeof value);
    return value;
  }
  void begin() {
    start_ = disk_.mark();
    disk_.start_log();
  }
  /// The log; the disk is back where it began.
  Trace end() {
    Trace trace = disk_.stop_log();
    disk_.rollback(start_);
    return trace;
  }
  /// The values at `offset` that a crash after the whole log may leave.
  std::set<uint64_t> possible(const Trace& trace, uint64_t offset) {
    const auto mark = disk_.mark();
    InFlight in_flight(disk_, trace);
    for (size_t i = 0; i < trace.events.size(); ++i) in_flight.apply(i);
    const InFlight::View view = in_flight.view();
    std::set<uint64_t> out;
    for (const Subset& s : InFlight::choose(view, Budget{}, 1)) {
      const auto before = disk_.mark();
      in_flight.poke(view, InFlight::counts(view, s, 1));
      out.insert(at(offset));
      disk_.rollback(before);
    }
    disk_.rollback(mark);
    return out;
  }

  CrashMedium disk_{kSize};
  CrashMedium::Mark start_;
};

TEST_F(InFlightTest, WhatWasDrainedIsCertain) {
  begin();
  store(0, 1);
  disk_.flush(0, 8);
  ASSERT_TRUE(disk_.drain());
  const Trace trace = end();
  EXPECT_EQ(possible(trace, 0), (std::set<uint64_t>{1}));
}

TEST_F(InFlightTest, WhatWasNotFlushedMayBeThereOrNot) {
  begin();
  store(0, 1);
  ASSERT_TRUE(disk_.drain());
  const Trace trace = end();
  EXPECT_EQ(possible(trace, 0), (std::set<uint64_t>{0, 1}));
}

TEST_F(InFlightTest, AStoreAfterTheFlushIsNotCoveredByIt) {
  begin();
  store(0, 1);
  disk_.flush(0, 8);
  store(0, 2);
  ASSERT_TRUE(disk_.drain());
  const Trace trace = end();
  EXPECT_EQ(possible(trace, 0), (std::set<uint64_t>{1, 2}));
}

TEST_F(InFlightTest, AnyOfSeveralPendingValuesMayBeTheLast) {
  begin();
  store(0, 1);
  store(0, 2);
  store(0, 3);
  const Trace trace = end();
  EXPECT_EQ(possible(trace, 0), (std::set<uint64_t>{0, 1, 2, 3}));
}

TEST_F(InFlightTest, AFlushTakesTheWholeLine) {
  begin();
  store(0, 1);
  store(56, 2);
  disk_.flush(0, 8);
  ASSERT_TRUE(disk_.drain());
  const Trace trace = end();
  EXPECT_EQ(possible(trace, 56), (std::set<uint64_t>{2}));
}

TEST_F(InFlightTest, AnotherThreadsDrainProvesNothing) {
  begin();
  store(0, 1);
  disk_.flush(0, 8);
  std::thread other([this] { EXPECT_TRUE(disk_.drain()); });
  other.join();
  const Trace trace = end();
  EXPECT_EQ(possible(trace, 0), (std::set<uint64_t>{0, 1}));
}

TEST_F(InFlightTest, AnotherThreadsFlushTakesNothingBack) {
  begin();
  store(0, 1);
  disk_.flush(0, 8);
  std::thread other([this] {
    store(0, 2);
    disk_.flush(0, 8);
  });
  other.join();
  ASSERT_TRUE(disk_.drain());
  const Trace trace = end();
  EXPECT_EQ(possible(trace, 0), (std::set<uint64_t>{1, 2}));
}

TEST_F(InFlightTest, APartialStoreKeepsItsNeighbours) {
  store(0, 0x1111111111111111U);
  begin();
  const char two[2] = {0x22, 0x22};
  disk_.store_nt(3, two, 2);
  ASSERT_TRUE(disk_.drain());
  const Trace trace = end();
  EXPECT_EQ(possible(trace, 0), (std::set<uint64_t>{0x1111112222111111U}));
}

TEST_F(InFlightTest, FewUnitsAreTriedInAllCombinations) {
  begin();
  for (uint64_t i = 0; i < 5; ++i) store(i * 200, 1);
  const Trace trace = end();
  InFlight in_flight(disk_, trace);
  for (size_t i = 0; i < trace.events.size(); ++i) in_flight.apply(i);
  const InFlight::View view = in_flight.view();
  std::set<std::vector<uint32_t>> seen;
  for (const Subset& s : InFlight::choose(view, Budget{}, 1)) seen.insert(InFlight::counts(view, s, 1));
  EXPECT_EQ(seen.size(), 32U);
}

TEST(Subset, TextAndBack) {
  for (const char* text : {"n", "a", "u3", "U17", "l0", "r9", "x12345678901"}) {
    const auto subset = Subset::parse(text);
    ASSERT_TRUE(subset) << text;
    EXPECT_EQ(subset->text(), text);
  }
  for (const char* text : {"", "q1", "u-1", "u1x"}) EXPECT_FALSE(Subset::parse(text)) << text;
}

TEST(CrashMediumTest, HashesAreOfTheBytesAlone) {
  CrashMedium disk(kSize);
  Random random(5);
  const auto start = disk.mark();
  const uint64_t empty = disk.state_hash();
  for (int i = 0; i < 1000; ++i) {
    std::array<std::byte, 300> bytes{};
    random.fill(bytes.data(), bytes.size());
    disk.store(random.below(kSize - 300), bytes.data(), random.below(300));
  }
  EXPECT_NE(disk.state_hash(), empty);
  disk.zero_nt(0, kSize);
  EXPECT_EQ(disk.state_hash(), empty);
  disk.rollback(start);
  EXPECT_EQ(disk.state_hash(), empty);
  EXPECT_EQ(*disk.at(0), std::byte{0});
}

}  // namespace
}  // namespace udax::crash
