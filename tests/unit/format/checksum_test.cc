// SPDX-License-Identifier: BSD-3-Clause
#include "format/checksum.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "base/random.h"

namespace udax::format {
namespace {

constexpr uint32_t kSeed = 0x12345678;

struct Case {
  Unit unit;
  uint32_t size;   // bytes
  uint32_t field;  // offset of the checksum
  const char* name;
};

constexpr Case kCases[] = {
    {Unit::kSuperblock, 4096, offsetof(Superblock, checksum), "Superblock"},
    {Unit::kGroupDesc, 64, offsetof(GroupDesc, checksum), "GroupDesc"},
    {Unit::kShard, 64, offsetof(InodeShard, checksum), "Shard"},
    {Unit::kInode, 256, offsetof(Inode, checksum), "Inode"},
    {Unit::kChunk, 256, offsetof(ChunkHeader, checksum), "Chunk"},
    {Unit::kBlock, 4096, offsetof(BlockHeader, checksum), "Block"},
};

class ChecksumOf : public testing::TestWithParam<Case> {};

TEST_P(ChecksumOf, SealedUnitIsSealedAndAnyFlippedBitShows) {
  const Case& c = GetParam();
  ASSERT_EQ(unit_size(c.unit), c.size);
  std::vector<std::byte> bytes(c.size);
  Random random(7);
  random.fill(bytes.data(), bytes.size());
  seal(kSeed, c.unit, bytes.data());
  EXPECT_TRUE(is_sealed(kSeed, c.unit, bytes.data()));
  for (uint32_t bit = 0; bit < c.size * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    bytes[bit / 8] ^= mask;
    ASSERT_FALSE(is_sealed(kSeed, c.unit, bytes.data())) << "bit " << bit;
    bytes[bit / 8] ^= mask;
  }
  EXPECT_TRUE(is_sealed(kSeed, c.unit, bytes.data()));
}

TEST_P(ChecksumOf, IsThatOfTheUnitWithItsFieldZero) {
  const Case& c = GetParam();
  std::vector<std::byte> bytes(c.size);
  Random random(8);
  random.fill(bytes.data(), bytes.size());
  seal(kSeed, c.unit, bytes.data());
  le32 stored;
  std::memcpy(&stored, bytes.data() + c.field, sizeof stored);
  std::memset(bytes.data() + c.field, 0, sizeof stored);
  const uint32_t seed = c.unit == Unit::kSuperblock ? ~0U : kSeed;
  EXPECT_EQ(stored.get(), crc32c(seed, bytes.data(), bytes.size()));
}

TEST_P(ChecksumOf, BelongsToOnePool) {
  const Case& c = GetParam();
  std::vector<std::byte> bytes(c.size, std::byte{1});
  seal(kSeed, c.unit, bytes.data());
  // The superblock is read before the uuid is known: its seed is the same everywhere.
  EXPECT_EQ(is_sealed(kSeed + 1, c.unit, bytes.data()), c.unit == Unit::kSuperblock);
}

INSTANTIATE_TEST_SUITE_P(Units, ChecksumOf, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

TEST(Checksum, RawUnitsHaveNone) {
  std::vector<std::byte> bytes(4096, std::byte{3});
  const std::vector<std::byte> before = bytes;
  seal(kSeed, Unit::kRaw, bytes.data());
  EXPECT_EQ(bytes, before);
  EXPECT_TRUE(is_sealed(kSeed, Unit::kRaw, bytes.data()));
}

TEST(Checksum, SeedIsThatOfTheUuid) {
  uint8_t uuid[16] = {};
  EXPECT_EQ(checksum_seed(uuid), crc32c(~0U, uuid, sizeof uuid));
  const uint32_t zero = checksum_seed(uuid);
  uuid[15] = 1;
  EXPECT_NE(checksum_seed(uuid), zero);
}

TEST(Checksum, BitmapsAreSummedWhole) {
  std::vector<std::byte> bits(4096);
  const uint32_t zero = bitmap_checksum(kSeed, bits.data());
  EXPECT_EQ(zero, crc32c(kSeed, bits.data(), bits.size()));
  bits[4095] = std::byte{0x80};
  EXPECT_NE(bitmap_checksum(kSeed, bits.data()), zero);
}

}  // namespace
}  // namespace udax::format
