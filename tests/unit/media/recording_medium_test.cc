// SPDX-License-Identifier: BSD-3-Clause
#include "media/recording_medium.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace udax::media {
namespace {

using Kind = RecordingMedium::Kind;

constexpr uint64_t kSize = 16 * kBlockSize;

TEST(RecordingMediumTest, LogsBetweenStartAndStopOnly) {
  RecordingMedium medium(kSize);
  const uint64_t before = 1;
  const uint64_t during = 2;
  const uint64_t after = 3;
  medium.store(0, &before, sizeof before);
  medium.start();
  medium.store(8, &during, sizeof during);
  medium.flush(8, sizeof during);
  ASSERT_TRUE(medium.drain());
  medium.mark(77);
  medium.zero_nt(0, 16);
  medium.store_nt(64, &during, sizeof during);
  medium.stop();
  medium.store(16, &after, sizeof after);

  EXPECT_EQ(*medium.start_image().as<uint64_t>(0), before);
  EXPECT_EQ(*medium.start_image().as<uint64_t>(8), 0U);
  EXPECT_EQ(*medium.as<uint64_t>(16), after);
  const auto& events = medium.events();
  ASSERT_EQ(events.size(), 6U);
  const std::vector<Kind> kinds = {Kind::kStore, Kind::kFlush,   Kind::kDrain,
                                   Kind::kMark,  Kind::kStoreNt, Kind::kStoreNt};
  for (size_t i = 0; i < kinds.size(); ++i) EXPECT_EQ(events[i].kind, kinds[i]) << i;
  EXPECT_EQ(events[0].offset, 8U);
  EXPECT_EQ(events[0].size, 8U);
  EXPECT_EQ(std::memcmp(medium.data().data() + events[0].data, &during, sizeof during), 0);
  EXPECT_EQ(events[3].offset, 77U);
  EXPECT_EQ(events[4].size, 16U);
  for (uint64_t i = 0; i < 16; ++i) EXPECT_EQ(medium.data().at(events[4].data + i), std::byte{0});
}

TEST(RecordingMediumTest, ReplayingTheLogGivesThePresentContents) {
  RecordingMedium medium(kSize);
  const int value = 5;
  medium.store(100, &value, sizeof value);
  medium.start();
  for (uint64_t i = 0; i < 500; ++i) {
    const uint64_t word = i * 0x9E3779B97F4A7C15;
    medium.store(word % (kSize - sizeof word), &word, sizeof word);
    if (i % 7 == 0) medium.zero_nt(word % (kSize - 300), 300);
  }
  medium.stop();
  MemoryMedium replayed(kSize);
  replayed.copy_from(medium.start_image());
  for (const auto& event : medium.events()) {
    replayed.store(event.offset, medium.data().data() + event.data, event.size);
  }
  EXPECT_EQ(std::memcmp(replayed.at(0), medium.at(0), kSize), 0);
}

TEST(RecordingMediumTest, StartForgetsTheEarlierLog) {
  RecordingMedium medium(kSize);
  const int value = 5;
  medium.start();
  medium.store(0, &value, sizeof value);
  medium.start();
  medium.stop();
  EXPECT_TRUE(medium.events().empty());
  EXPECT_TRUE(medium.data().empty());
  EXPECT_EQ(*medium.start_image().as<int>(0), value);
}

TEST(RecordingMediumTest, TellsThreadsApart) {
  RecordingMedium medium(kSize);
  medium.start();
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&medium, t] {
      for (uint64_t i = 0; i < 100; ++i) medium.store_flush(t * kBlockSize + i * 8, &i, sizeof i);
      EXPECT_TRUE(medium.drain());
    });
  }
  for (auto& thread : threads) thread.join();
  medium.stop();
  std::set<std::pair<uint32_t, uint64_t>> pairs;  // thread, block
  for (const auto& event : medium.events()) {
    if (event.kind == Kind::kStore) pairs.emplace(event.thread, event.offset / kBlockSize);
  }
  EXPECT_EQ(pairs.size(), 4U);
  EXPECT_EQ(medium.events().size(), 4U * 201);
}

}  // namespace
}  // namespace udax::media
