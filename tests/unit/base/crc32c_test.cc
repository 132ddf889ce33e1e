// SPDX-License-Identifier: BSD-3-Clause
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "base/random.h"

namespace udax {
namespace {

uint32_t sum(std::string_view text) { return ~crc32c(~0U, text.data(), text.size()); }

// Bit by bit from the definition: the reflected polynomial of RFC 3720, B.4.
uint32_t by_definition(uint32_t crc, const std::vector<uint8_t>& data) {
  for (const uint8_t byte : data) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
  }
  return crc;
}

TEST(Crc32cTest, KnownVectors) {
  EXPECT_EQ(sum("123456789"), 0xE3069283U);  // the usual check value
  EXPECT_EQ(sum(""), 0U);
  EXPECT_EQ(sum(std::string_view("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32)),
            0x8A9136AAU);  // RFC 3720, B.4
}

TEST(Crc32cTest, EqualsTheDefinition) {
  Random random(1);
  for (size_t size = 0; size < 300; ++size) {
    std::vector<uint8_t> data(size);
    random.fill(data.data(), data.size());
    const auto seed = static_cast<uint32_t>(random.next());
    ASSERT_EQ(crc32c(seed, data.data(), data.size()), by_definition(seed, data)) << size;
  }
}

TEST(Crc32cTest, Chains) {
  Random random(2);
  std::vector<uint8_t> data(4096);
  random.fill(data.data(), data.size());
  const uint32_t whole = crc32c(~0U, data.data(), data.size());
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{100}, size_t{4095}, data.size()}) {
    const uint32_t first = crc32c(~0U, data.data(), cut);
    EXPECT_EQ(crc32c(first, data.data() + cut, data.size() - cut), whole) << cut;
  }
}

TEST(Crc32cTest, DoesNotDependOnAlignment) {
  std::vector<uint8_t> data(256 + 64, 0xA5);
  const uint32_t expected = crc32c(7, data.data(), 256);
  for (size_t shift = 1; shift < 64; ++shift) EXPECT_EQ(crc32c(7, data.data() + shift, 256), expected) << shift;
}

TEST(Crc32cTest, SeesEverySingleBitFlip) {
  std::vector<uint8_t> data(64, 0);
  const uint32_t before = crc32c(~0U, data.data(), data.size());
  for (size_t bit = 0; bit < data.size() * 8; ++bit) {
    data[bit / 8] = static_cast<uint8_t>(data[bit / 8] ^ (1U << (bit % 8)));
    EXPECT_NE(crc32c(~0U, data.data(), data.size()), before) << bit;
    data[bit / 8] = static_cast<uint8_t>(data[bit / 8] ^ (1U << (bit % 8)));
  }
}

}  // namespace
}  // namespace udax
