// SPDX-License-Identifier: BSD-3-Clause
#include "base/endian.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace udax {
namespace {

static_assert(sizeof(le16) == 2 && alignof(le16) == 2);
static_assert(sizeof(le32) == 4 && alignof(le32) == 4);
static_assert(sizeof(le64) == 8 && alignof(le64) == 8);
static_assert(std::is_trivially_copyable_v<le64> && std::is_standard_layout_v<le64>);
static_assert(std::has_unique_object_representations_v<le16>);
static_assert(std::has_unique_object_representations_v<le64>);

TEST(LittleEndianTest, LeastSignificantByteComesFirst) {
  const auto b16 = std::bit_cast<std::array<uint8_t, 2>>(le16(0x0102));
  EXPECT_EQ(b16, (std::array<uint8_t, 2>{0x02, 0x01}));
  const auto b32 = std::bit_cast<std::array<uint8_t, 4>>(le32(0x01020304));
  EXPECT_EQ(b32, (std::array<uint8_t, 4>{0x04, 0x03, 0x02, 0x01}));
  const auto b64 = std::bit_cast<std::array<uint8_t, 8>>(le64(0x0102030405060708));
  EXPECT_EQ(b64, (std::array<uint8_t, 8>{0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01}));
}

template <typename T>
void round_trip(T value) {
  LittleEndian<T> x = value;
  EXPECT_EQ(x.get(), value);
  EXPECT_EQ(static_cast<T>(x), value);
  x = static_cast<T>(~value);
  EXPECT_EQ(x.get(), static_cast<T>(~value));
}

TEST(LittleEndianTest, RoundTripsAtTheEdges) {
  round_trip<uint16_t>(0);
  round_trip<uint16_t>(0x8001);
  round_trip<uint16_t>(std::numeric_limits<uint16_t>::max());
  round_trip<uint32_t>(0x80000001);
  round_trip<uint32_t>(std::numeric_limits<uint32_t>::max());
  round_trip<uint64_t>(0x8000000000000001);
  round_trip<uint64_t>(std::numeric_limits<uint64_t>::max());
}

TEST(LittleEndianTest, StartsAtZero) { EXPECT_EQ(le64().get(), 0U); }

}  // namespace
}  // namespace udax
