// SPDX-License-Identifier: BSD-3-Clause
#include "base/types.h"

#include <gtest/gtest.h>

#include <concepts>
#include <limits>
#include <type_traits>
#include <unordered_set>

namespace udax {
namespace {

// What must not compile: one kind of number where another is due.
static_assert(!std::is_convertible_v<uint64_t, Ino>);
static_assert(!std::is_convertible_v<Ino, uint64_t>);
static_assert(!std::is_convertible_v<FileBlock, DeviceBlock>);
static_assert(!std::is_constructible_v<FileBlock, DeviceBlock>);
static_assert(!std::equality_comparable_with<FileBlock, DeviceBlock>);

template <typename A, typename B>
concept Subtracts = requires(A a, B b) {
  a - b;
};
template <typename A, typename B>
concept Adds = requires(A a, B b) {
  a + b;
};
static_assert(Subtracts<FileBlock, FileBlock>);
static_assert(!Subtracts<FileBlock, DeviceBlock>);
static_assert(!Adds<FileBlock, FileBlock>);
static_assert(Adds<FileBlock, uint64_t>);
static_assert(sizeof(Ino) == sizeof(uint64_t) && std::is_trivially_copyable_v<Ino>);

TEST(StrongIntTest, MovesAndMeasures) {
  const DeviceBlock a{10};
  EXPECT_EQ((a + 5).value, 15U);
  EXPECT_EQ((a - 4).value, 6U);
  EXPECT_EQ((a + 5) - a, 5U);
  DeviceBlock b = a;
  b += 3;
  EXPECT_EQ(b, DeviceBlock(13));
  b -= 13;
  EXPECT_EQ(b, kNoBlock);
}

TEST(StrongIntTest, Orders) {
  EXPECT_LT(Lsn(1), Lsn(2));
  EXPECT_GE(Lsn(2), Lsn(2));
  EXPECT_NE(kNoIno, kRootIno);
  EXPECT_EQ(Ino(), kNoIno);
}

TEST(StrongIntTest, HashTellsNeighboursApart) {
  std::unordered_set<size_t> hashes;
  for (uint64_t i = 0; i < 4096; ++i) hashes.insert(std::hash<Ino>()(Ino(i)));
  EXPECT_EQ(hashes.size(), 4096U);
}

TEST(DeviceRunTest, EndsAfterItsLastBlock) {
  const DeviceRun run{DeviceBlock(100), 28};
  EXPECT_EQ(run.end(), DeviceBlock(128));
  EXPECT_EQ(DeviceRun{}.end(), kNoBlock);
}

TEST(UnitsTest, BlocksForRoundsUpWithoutOverflow) {
  EXPECT_EQ(blocks_for(0), 0U);
  EXPECT_EQ(blocks_for(1), 1U);
  EXPECT_EQ(blocks_for(kBlockSize), 1U);
  EXPECT_EQ(blocks_for(kBlockSize + 1), 2U);
  EXPECT_EQ(blocks_for(std::numeric_limits<uint64_t>::max()), uint64_t{1} << 52);
}

TEST(UnitsTest, AlignsDownAndUp) {
  EXPECT_EQ(align_down(4097, 4096), 4096U);
  EXPECT_EQ(align_up(4097, 4096), 8192U);
  EXPECT_EQ(align_down(4096, 4096), align_up(4096, 4096));
  EXPECT_EQ(align_up(0, kHugeSize), 0U);
}

TEST(UnitsTest, ConstantsFitEachOther) {
  EXPECT_EQ(kBlockSize, 4096U);
  EXPECT_EQ(kHugeBlocks, 512U);
  EXPECT_EQ(offset_of(DeviceBlock(3)), 3U * kBlockSize);
}

}  // namespace
}  // namespace udax
