// SPDX-License-Identifier: BSD-3-Clause
#include "media/memory_medium.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

namespace udax::media {
namespace {

TEST(MemoryMediumTest, IsRoundedDownAndZero) {
  MemoryMedium medium(3 * kBlockSize + 17);
  EXPECT_EQ(medium.size(), 3 * kBlockSize);
  EXPECT_EQ(medium.block_count(), 3U);
  EXPECT_FALSE(medium.read_only());
  for (uint64_t i = 0; i < medium.size(); ++i) ASSERT_EQ(*medium.at(i), std::byte{0});
}

TEST(MemoryMediumTest, StoresAreSeenAtOnce) {
  MemoryMedium medium(4 * kBlockSize);
  const std::array<char, 5> text = {'h', 'e', 'l', 'l', 'o'};
  medium.store(4094, text.data(), text.size());
  EXPECT_EQ(std::memcmp(medium.at(4094), text.data(), text.size()), 0);
  const uint64_t word = 0x0123456789abcdef;
  medium.store_nt(8, &word, sizeof word);
  EXPECT_EQ(*medium.as<uint64_t>(8), word);
  medium.zero_nt(4095, 2);
  EXPECT_EQ(*medium.at(4094), std::byte{'h'});
  EXPECT_EQ(*medium.at(4095), std::byte{0});
  EXPECT_EQ(*medium.at(4096), std::byte{0});
  EXPECT_EQ(*medium.at(4097), std::byte{'l'});
}

TEST(MemoryMediumTest, CountsCallsBytesAndLines) {
  MemoryMedium medium(4 * kBlockSize);
  std::vector<char> bytes(200, 'x');
  medium.store(0, bytes.data(), 200);
  medium.flush(60, 10);  // two lines
  medium.store_nt(128, bytes.data(), 64);
  EXPECT_TRUE(medium.drain());
  const Counters c = medium.counters();
  EXPECT_EQ(c.stores, 2U);
  EXPECT_EQ(c.stored_bytes, 264U);
  EXPECT_EQ(c.flushed_lines, 3U);
  EXPECT_EQ(c.drains, 1U);
}

TEST(MemoryMediumTest, CopyReplacesWhatWasThere) {
  MemoryMedium source(4 * kBlockSize);
  const int value = 42;
  source.store(2 * kBlockSize + 4, &value, sizeof value);
  MemoryMedium target(6 * kBlockSize);
  const int old = 7;
  target.store(0, &old, sizeof old);
  target.store(5 * kBlockSize, &old, sizeof old);
  target.copy_from(source);
  EXPECT_EQ(std::memcmp(target.at(0), source.at(0), source.size()), 0);
  EXPECT_EQ(*target.as<int>(5 * kBlockSize), 0);
}

TEST(MemoryMediumTest, LargeOnesCostWhatIsTouched) {
  MemoryMedium medium(uint64_t{1} << 36);
  const int value = 42;
  medium.store(medium.size() - sizeof value, &value, sizeof value);
  EXPECT_EQ(*medium.as<int>(medium.size() - sizeof value), value);
}

TEST(MemoryMediumDeathTest, StorePastTheEndIsABug) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  MemoryMedium medium(kBlockSize);
  const int value = 42;
  EXPECT_DEATH(medium.store(kBlockSize - 3, &value, sizeof value), "broken invariant");
  EXPECT_DEATH(medium.zero_nt(~uint64_t{0}, 2), "broken invariant");
}

}  // namespace
}  // namespace udax::media
