// SPDX-License-Identifier: BSD-3-Clause
#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <random>
#include <vector>

namespace udax {
namespace {

TEST(RandomTest, SameSeedSameNumbers) {
  Random a(42);
  Random b(42);
  Random c(43);
  int differing = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t x = a.next();
    ASSERT_EQ(x, b.next());
    differing += x != c.next() ? 1 : 0;
  }
  EXPECT_EQ(differing, 1000);
}

TEST(RandomTest, NumbersOfASeedNeverChange) {
  // A seed that a failing test printed last year must still find the same failure.
  // The first output follows from the state by the definition: rotl(s1 * 5, 7) * 9, and s1 is the second splitmix64
  // number of seed 0, which is published: 0x6E789E6AA1B965F4.
  const uint64_t s1 = 0x6E789E6AA1B965F4ULL;
  Random random(0);
  EXPECT_EQ(random.next(), std::rotl(s1 * 5, 7) * 9);
}

TEST(RandomTest, ZeroSeedWorks) {
  Random random(0);
  EXPECT_NE(random.next(), random.next());
}

TEST(RandomTest, BelowStaysBelowAndReachesAll) {
  Random random(7);
  std::array<int, 10> seen{};
  for (int i = 0; i < 10000; ++i) ++seen.at(random.below(10));
  for (const int n : seen) EXPECT_NEAR(n, 1000, 200);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.below(1), 0U);
}

TEST(RandomTest, BetweenIncludesBothEnds) {
  Random random(8);
  bool low = false;
  bool high = false;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t x = random.between(5, 8);
    ASSERT_GE(x, 5U);
    ASSERT_LE(x, 8U);
    low = low || x == 5;
    high = high || x == 8;
  }
  EXPECT_TRUE(low && high);
  EXPECT_EQ(random.between(9, 9), 9U);
  (void)random.between(0, Random::max());
}

TEST(RandomTest, FillsOddSizesAndNoMore) {
  Random random(9);
  std::vector<uint8_t> data(21, 0);
  random.fill(data.data(), 20);
  EXPECT_EQ(data[20], 0);
  EXPECT_GT(std::count_if(data.begin(), data.end(), [](uint8_t b) { return b != 0; }), 12);
}

TEST(RandomTest, IsAGeneratorForTheStandardLibrary) {
  static_assert(std::uniform_random_bit_generator<Random>);
  std::vector<int> values(100);
  for (int i = 0; i < 100; ++i) values[static_cast<size_t>(i)] = i;
  Random random(10);
  std::shuffle(values.begin(), values.end(), random);
  EXPECT_FALSE(std::is_sorted(values.begin(), values.end()));
}

TEST(FillRandomTest, FillsMoreThanOneSystemCallGives) {
  // getrandom(2) may stop short past 256 bytes.
  std::vector<uint8_t> a(1 << 16, 0);
  std::vector<uint8_t> b(1 << 16, 0);
  fill_random(a.data(), a.size());
  fill_random(b.data(), b.size());
  EXPECT_NE(a, b);
  // 64 zero bytes in a row come with a probability of 2^-512 a place.
  const std::vector<uint8_t> zeroes(64, 0);
  EXPECT_EQ(std::search(a.begin(), a.end(), zeroes.begin(), zeroes.end()), a.end());
}

TEST(FillRandomTest, NothingIsNothing) {
  uint8_t byte = 0x5A;
  fill_random(&byte, 0);
  EXPECT_EQ(byte, 0x5A);
}

}  // namespace
}  // namespace udax
