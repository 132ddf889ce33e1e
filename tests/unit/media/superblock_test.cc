// SPDX-License-Identifier: BSD-3-Clause
#include "media/superblock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "format/checksum.h"
#include "media/memory_medium.h"
#include "tests/unit/media/superblocks.h"

namespace udax::media {
namespace {

using testing::HasSubstr;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

class SuperblockTest : public testing::Test {
 protected:
  static constexpr uint64_t kSize = 16 << 20;

  SuperblockTest() : medium_(kSize) {
    put_superblocks(medium_);
    std::memcpy(&sb_, medium_.at(0), sizeof sb_);
  }
  /// Puts sb_, sealed, at both places.
  void write_back() {
    format::seal(0, format::Unit::kSuperblock, &sb_);
    std::memcpy(medium_.raw(), &sb_, sizeof sb_);
    std::memcpy(medium_.raw() + kSize - kBlockSize, &sb_, sizeof sb_);
  }
  void expect_load(Error error, const std::string& text) {
    std::string why;
    const auto loaded = load_superblock(medium_, &why);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error(), error);
    EXPECT_THAT(why, HasSubstr(text));
    EXPECT_FALSE(load_superblock(medium_));  // why may be left out
  }

  MemoryMedium medium_;
  format::Superblock sb_;
};

TEST_F(SuperblockTest, PrimaryIsTakenWhenGood) {
  const auto loaded = load_superblock(medium_);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->source, SuperblockSource::kPrimary);
  const auto plan = plan_geometry(kSize / kBlockSize);
  ASSERT_TRUE(plan);
  EXPECT_EQ(loaded->geometry.data_start, plan->data_start);
  EXPECT_EQ(loaded->geometry.journal_blocks, plan->journal_blocks);
  EXPECT_EQ(loaded->geometry.reserved_blocks, plan->reserved_blocks);
  EXPECT_EQ(loaded->geometry.checksum_seed, format::checksum_seed(sb_.uuid));
  EXPECT_EQ(std::memcmp(loaded->geometry.hash_key.data(), sb_.hash_key, 16), 0);
  EXPECT_FALSE(loaded->geometry.ro_compat_unknown);
}

TEST_F(SuperblockTest, EveryFlippedBitIsNoticedAndTheReplicaServes) {
  for (uint64_t bit = 0; bit < 8 * kBlockSize; ++bit) {
    std::byte& byte = medium_.raw()[bit / 8];
    byte ^= std::byte{1} << (bit % 8);
    const auto loaded = load_superblock(medium_);
    ASSERT_TRUE(loaded) << "bit " << bit;
    ASSERT_EQ(loaded->source, SuperblockSource::kReplica) << "bit " << bit;
    ASSERT_EQ(std::memcmp(&loaded->raw, &sb_, sizeof sb_), 0);
    byte ^= std::byte{1} << (bit % 8);
  }
}

TEST_F(SuperblockTest, BothBroken) {
  medium_.raw()[300] ^= std::byte{1};
  medium_.raw()[kSize - 1] ^= std::byte{1};
  expect_load(Error::kCorrupted, "no replica");
  std::memset(medium_.raw(), 0, 8);
  expect_load(Error::kNotAPool,
              "not a udaxfs pool (no superblock at block 0 or at its end); make one with mkfs.udaxfs");
}

TEST_F(SuperblockTest, EmptyMediaAreNoPools) {
  EXPECT_EQ(load_superblock(MemoryMedium(0)).error(), Error::kNotAPool);
  EXPECT_EQ(load_superblock(MemoryMedium(kBlockSize)).error(), Error::kNotAPool);
}

TEST_F(SuperblockTest, CutShortIsSaid) {
  MemoryMedium shorter(kSize - kBlockSize);
  shorter.copy_from(medium_);
  std::string why;
  const auto loaded = load_superblock(shorter, &why);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error(), Error::kCorrupted);
  EXPECT_EQ(why, "cut short: superblock says 4096 blocks, medium has 4095");
}

TEST_F(SuperblockTest, ReplicaIsFoundOnALongerMedium) {
  MemoryMedium longer(kSize + (8 << 20));
  longer.copy_from(medium_);
  ASSERT_TRUE(load_superblock(longer));
  longer.raw()[200] ^= std::byte{1};
  const auto loaded = load_superblock(longer);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->source, SuperblockSource::kReplica);
  EXPECT_EQ(loaded->geometry.block_count, kSize / kBlockSize);
}

TEST_F(SuperblockTest, ReplicaInAForeignPlaceIsNotTaken) {
  MemoryMedium longer(kSize + (8 << 20));
  std::memcpy(longer.raw() + longer.size() - kBlockSize, &sb_, sizeof sb_);
  EXPECT_EQ(load_superblock(longer).error(), Error::kNotAPool);
}

TEST_F(SuperblockTest, NewerFormatsAreRefusedByName) {
  sb_.version_major = uint16_t{2};
  sb_.version_minor = uint16_t{7};
  write_back();
  expect_load(Error::kUnsupportedFormat, "made by a newer udaxfs (format 2.7, this build knows 1.0)");
}

TEST_F(SuperblockTest, NewerMinorVersionIsTaken) {
  sb_.version_minor = uint16_t{9};
  write_back();
  EXPECT_TRUE(load_superblock(medium_));
}

TEST_F(SuperblockTest, UnknownFeatures) {
  sb_.compat = uint64_t{1} << 40;
  write_back();
  ASSERT_TRUE(load_superblock(medium_));
  EXPECT_FALSE(load_superblock(medium_)->geometry.ro_compat_unknown);
  sb_.ro_compat = uint64_t{1} << 40;
  write_back();
  ASSERT_TRUE(load_superblock(medium_));
  EXPECT_TRUE(load_superblock(medium_)->geometry.ro_compat_unknown);
  sb_.incompat = uint64_t{0x8000000000000010};
  write_back();
  expect_load(Error::kUnsupportedFormat, "needs features this build does not know: 0x8000000000000010");
}

TEST_F(SuperblockTest, SealedNonsenseIsCorruption) {
  using Sb = format::Superblock;
  const std::vector<std::function<void(Sb&)>> edits = {
      [](Sb& s) { s.block_size = 512U; },
      [](Sb& s) { s.block_count = kMax; },
      [](Sb& s) { s.block_count = uint64_t{0}; },
      [](Sb& s) { s.block_count = uint64_t{2047}; },
      [](Sb& s) { s.group_count = uint64_t{2}; },
      [](Sb& s) { s.group_count = kMax; },
      [](Sb& s) { s.desc_start = uint64_t{3}; },
      [](Sb& s) { s.desc_start = kMax; },
      [](Sb& s) { s.desc_blocks = kMax; },
      [](Sb& s) { s.desc_blocks = uint64_t{2}; },
      [](Sb& s) { s.bitmap_start = uint64_t{4}; },
      [](Sb& s) { s.bitmap_start = kMax; },
      [](Sb& s) { s.journal_start = uint64_t{5}; },
      [](Sb& s) { s.journal_start = kMax - 1; },
      [](Sb& s) { s.journal_blocks = uint64_t{255}; },
      [](Sb& s) { s.journal_blocks = kMax; },
      [](Sb& s) { s.journal_blocks = uint64_t{4095}; },
      [](Sb& s) { s.data_start = s.data_start.get() - 1; },
      [](Sb& s) { s.data_start = s.block_count.get() - 1; },
      [](Sb& s) { s.data_start = kMax; },
      [](Sb& s) { s.reserved_blocks = s.block_count.get(); },
      [](Sb& s) { s.created_ns = 1'000'000'000U; },
  };
  const Sb good = sb_;
  for (size_t i = 0; i < edits.size(); ++i) {
    sb_ = good;
    edits[i](sb_);
    write_back();
    std::string why;
    const auto loaded = load_superblock(medium_, &why);
    ASSERT_FALSE(loaded) << "edit " << i;
    EXPECT_EQ(loaded.error(), Error::kCorrupted) << "edit " << i;
    EXPECT_THAT(why, HasSubstr("makes no sense")) << "edit " << i;
  }
}

TEST_F(SuperblockTest, WhatPassesTheChecksIsSound) {
  constexpr uint64_t kSeed = 20200701;
  RecordProperty("seed", static_cast<int>(kSeed));
  Random random(kSeed);
  const format::Superblock good = sb_;
  le64* fields[] = {&sb_.block_count,    &sb_.group_count,  &sb_.desc_start,
                    &sb_.desc_blocks,    &sb_.bitmap_start, &sb_.journal_start,
                    &sb_.journal_blocks, &sb_.data_start,   &sb_.reserved_blocks};
  uint64_t accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    sb_ = good;
    for (uint64_t n = random.between(1, 3); n > 0; --n) {
      le64& field = *fields[random.below(std::size(fields))];
      switch (random.below(3)) {
        case 0: field = random.next(); break;
        case 1: field = field.get() + random.below(16) - 8; break;
        default: field = random.below(5000); break;
      }
    }
    format::seal(0, format::Unit::kSuperblock, &sb_);
    const auto g = check_superblock(sb_, kSize / kBlockSize);
    if (!g) continue;
    ++accepted;
    ASSERT_LE(g->block_count, kSize / kBlockSize);
    ASSERT_EQ(g->group_count, 1U);
    ASSERT_GE(g->desc_start.value, 4U);
    ASSERT_LE(g->desc_start.value + g->desc_blocks, g->bitmap_start.value);
    ASSERT_LE(g->bitmap_start.value + g->group_count, g->journal_start.value);
    ASSERT_LE(g->journal_start.value + g->journal_blocks, g->data_start.value);
    ASSERT_LT(g->data_start, g->replica());
    ASSERT_LE(g->reserved_blocks, g->replica() - g->data_start);
  }
  EXPECT_GT(accepted, 0U);
}

TEST_F(SuperblockTest, GarbageIsRefused) {
  Random random(4711);
  for (int round = 0; round < 200; ++round) {
    random.fill(medium_.raw(), kBlockSize);
    random.fill(medium_.raw() + kSize - kBlockSize, kBlockSize);
    if (round % 2 == 0) std::memcpy(medium_.raw(), &sb_.magic, sizeof sb_.magic);
    EXPECT_FALSE(load_superblock(medium_));
  }
}

TEST(PlanGeometryTest, AreasFollowEachOtherAtEverySize) {
  Random random(1);
  std::vector<uint64_t> sizes = {format::kPoolBlocksMin, 32767, 32768, 32769, 65536, format::kPoolBlocksMax};
  for (int i = 0; i < 1000; ++i) sizes.push_back(random.between(2048, uint64_t{1} << random.between(12, 35)));
  for (const uint64_t blocks : sizes) {
    const auto g = plan_geometry(blocks);
    ASSERT_TRUE(g) << blocks;
    EXPECT_EQ(g->block_count, blocks);
    EXPECT_EQ(g->group_count, (blocks + 32767) / 32768);
    EXPECT_EQ(g->desc_start, format::kDescStart);
    EXPECT_GE(g->desc_blocks * 64, g->group_count);
    EXPECT_EQ(g->bitmap_start, g->desc_start + g->desc_blocks);
    EXPECT_EQ(g->journal_start, g->bitmap_start + g->group_count);
    EXPECT_EQ(g->data_start, g->journal_start + g->journal_blocks);
    EXPECT_GE(g->journal_blocks, 256U);
    EXPECT_LE(g->journal_blocks, 8192U);
    EXPECT_GE(g->reserved_blocks, 64U);
    EXPECT_LE(g->reserved_blocks, 4096U);
    // Most of a pool is for its user.
    EXPECT_GE(g->replica() - g->data_start - g->reserved_blocks, blocks * 3 / 4) << blocks;
  }
}

TEST(PlanGeometryTest, LimitsAreKept) {
  EXPECT_EQ(plan_geometry(format::kPoolBlocksMin - 1).error(), Error::kInvalid);
  EXPECT_EQ(plan_geometry(format::kPoolBlocksMax + 1).error(), Error::kInvalid);
  EXPECT_EQ(plan_geometry(0).error(), Error::kInvalid);
  EXPECT_EQ(plan_geometry(kMax).error(), Error::kInvalid);
  EXPECT_EQ(plan_geometry(4096, 255).error(), Error::kInvalid);
  EXPECT_EQ(plan_geometry(4096, 4096).error(), Error::kInvalid);
  EXPECT_EQ(plan_geometry(4096, 4000).error(), Error::kInvalid);
  EXPECT_EQ(plan_geometry(4096, kMax).error(), Error::kInvalid);
  ASSERT_TRUE(plan_geometry(4096, 300));
  EXPECT_EQ(plan_geometry(4096, 300)->journal_blocks, 300U);
}

TEST(PlanGeometryTest, KnownSizes) {
  struct Row {
    uint64_t bytes, groups, desc_blocks, journal_blocks;
  };
  const Row rows[] = {
      {8ULL << 20, 1, 1, 256},  {128ULL << 20, 1, 1, 512},     {129ULL << 20, 2, 1, 516},
      {1ULL << 30, 8, 1, 4096}, {1ULL << 40, 8192, 128, 8192}, {128ULL << 40, 1 << 20, 16384, 8192},
  };
  for (const Row& row : rows) {
    const auto g = plan_geometry(row.bytes / kBlockSize);
    ASSERT_TRUE(g) << row.bytes;
    EXPECT_EQ(g->group_count, row.groups);
    EXPECT_EQ(g->desc_blocks, row.desc_blocks);
    EXPECT_EQ(g->journal_blocks, row.journal_blocks);
  }
}

}  // namespace
}  // namespace udax::media
