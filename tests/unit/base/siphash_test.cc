// SPDX-License-Identifier: BSD-3-Clause
#include "base/siphash.h"

#include <gtest/gtest.h>

#include <bit>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/random.h"

namespace udax {
namespace {

using Key = std::array<uint64_t, 2>;

// SipHash-c-d from the paper's section 2, with the rounds as parameters, over the padded message as the paper has
// it. That it is right is shown by the paper's own vectors for 2-4; the 1-3 of src/base must then equal it.
uint64_t from_the_paper(int c, int d, const Key& key, std::vector<uint8_t> message) {
  uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
                   key[1] ^ 0x7465646279746573};
  auto rounds = [&v](int count) {
    auto half = [&v](int a, int b, int s) {
      v[a] += v[b];
      v[b] = std::rotl(v[b], s) ^ v[a];
    };
    while (count-- > 0) {
      half(0, 1, 13);
      half(2, 3, 16);
      v[0] = std::rotl(v[0], 32);
      half(2, 1, 17);
      half(0, 3, 21);
      v[2] = std::rotl(v[2], 32);
    }
  };
  const auto length = static_cast<uint8_t>(message.size());
  while (message.size() % 8 != 7) message.push_back(0);
  message.push_back(length);
  for (size_t i = 0; i < message.size(); i += 8) {
    uint64_t m = 0;
    for (size_t k = 8; k-- > 0;) m = (m << 8) | message[i + k];
    v[3] ^= m;
    rounds(c);
    v[0] ^= m;
  }
  v[2] ^= 0xFF;
  rounds(d);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

std::vector<uint8_t> counting(size_t n) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i);
  return bytes;
}

uint64_t hash(const Key& key, const std::string& name) { return siphash13(key, name.data(), name.size()); }

TEST(SiphashTest, TheReferenceOfThisTestGivesThePapersVectors) {
  const Key key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  EXPECT_EQ(from_the_paper(2, 4, key, {}), 0x726fdb47dd0e0e31U);
  EXPECT_EQ(from_the_paper(2, 4, key, counting(15)), 0xa129ca6149be45e5U);  // appendix A
}

TEST(SiphashTest, EqualsTheReference) {
  Random random(3);
  for (size_t size = 0; size <= 300; ++size) {
    const Key key = {random.next(), random.next()};
    std::vector<uint8_t> data(size);
    random.fill(data.data(), data.size());
    ASSERT_EQ(siphash13(key, data.data(), data.size()), from_the_paper(1, 3, key, data)) << size;
  }
}

TEST(SiphashTest, DependsOnBothHalvesOfTheKey) {
  const std::string name = "a name";
  EXPECT_EQ(hash({1, 2}, name), hash({1, 2}, name));
  EXPECT_NE(hash({1, 2}, name), hash({1, 3}, name));
  EXPECT_NE(hash({1, 2}, name), hash({0, 2}, name));
}

TEST(SiphashTest, LengthCounts) {
  // Zero bytes alone differ by their number only.
  std::unordered_set<uint64_t> seen;
  for (size_t n = 0; n < 256; ++n) EXPECT_TRUE(seen.insert(hash({5, 6}, std::string(n, '\0'))).second) << n;
}

TEST(SiphashTest, SimilarNamesSpread) {
  std::unordered_set<uint64_t> seen;
  std::array<int, 64> ones{};
  constexpr int kNames = 20000;
  for (int i = 0; i < kNames; ++i) {
    const uint64_t h = hash({7, 8}, "file" + std::to_string(i));
    EXPECT_TRUE(seen.insert(h).second);
    for (size_t bit = 0; bit < 64; ++bit) ones.at(bit) += static_cast<int>((h >> bit) & 1);
  }
  for (const int n : ones) EXPECT_NEAR(n, kNames * 0.5, kNames * 0.05);  // 14 standard deviations
}

}  // namespace
}  // namespace udax
