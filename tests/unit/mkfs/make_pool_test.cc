// SPDX-License-Identifier: BSD-3-Clause
#include "mkfs/make_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <bit>
#include <cstring>
#include <memory>

#include "base/crc32c.h"
#include "format/checksum.h"
#include "media/memory_medium.h"
#include "media/recording_medium.h"
#include "media/superblock.h"

namespace udax::mkfs {
namespace {

using format::Unit;
using media::Geometry;
using media::MemoryMedium;
using testing::HasSubstr;

Geometry geometry_of(const media::Medium& medium) {
  std::string why;
  auto loaded = media::load_superblock(medium, &why);
  EXPECT_TRUE(loaded) << why;
  return loaded ? loaded->geometry : Geometry{};
}

// A terabyte of address space is more than the thread sanitizer has shadow for.
#if defined(__SANITIZE_THREAD__)
constexpr bool kHasLargeMedia = false;
#elif defined(__has_feature)
constexpr bool kHasLargeMedia = !__has_feature(thread_sanitizer);
#else
constexpr bool kHasLargeMedia = true;
#endif

class MakePoolSizeTest : public testing::TestWithParam<uint64_t> {
 protected:
  static bool is_possible() { return kHasLargeMedia || GetParam() < uint64_t{1} << 40; }
  MakePoolSizeTest() : medium_(is_possible() ? GetParam() : 0) {}
  void SetUp() override {
    if (!is_possible()) GTEST_SKIP() << "too large for the thread sanitizer";
    std::string why;
    ASSERT_TRUE(make_pool(medium_, {}, &why)) << why;
    g_ = geometry_of(medium_);
  }
  bool bit(uint64_t block) const {
    const uint64_t group = block / format::kGroupBlocks;
    const auto* words = medium_.as<le64>(offset_of(g_.bitmap_block(group)));
    const uint64_t b = block % format::kGroupBlocks;
    return (words[b / 64].get() >> (b % 64) & 1) != 0;
  }
  MemoryMedium medium_;
  Geometry g_;
};

INSTANTIATE_TEST_SUITE_P(Sizes, MakePoolSizeTest,
                         testing::Values(8ULL << 20, (8ULL << 20) + 4096, 128ULL << 20, (128ULL << 20) + 4096,
                                         (256ULL << 20) + 4096, 129ULL << 20, 1ULL << 30, 1ULL << 40,
                                         (3ULL << 40) + 12345));

TEST_P(MakePoolSizeTest, DescriptorsAndBitmapsAgree) {
  uint64_t total_free = 0;
  uint64_t with_bitmap = 0;
  for (uint64_t group = 0; group < g_.group_count; ++group) {
    const auto& desc = *medium_.as<format::GroupDesc>(g_.desc_offset(group));
    ASSERT_TRUE(format::is_sealed(g_.checksum_seed, Unit::kGroupDesc, &desc)) << group;
    ASSERT_EQ(desc.group.get(), group);
    total_free += desc.free_blocks.get();
    const DeviceBlock first(group * format::kGroupBlocks);
    if ((desc.flags.get() & format::kGroupUninit) != 0) {
      ASSERT_EQ(desc.free_blocks.get(), format::kGroupBlocks);
      ASSERT_TRUE(g_.is_data(first, format::kGroupBlocks)) << group;
      continue;
    }
    ++with_bitmap;
    const std::byte* bitmap = medium_.block(g_.bitmap_block(group));
    ASSERT_EQ(desc.bitmap_checksum.get(), format::bitmap_checksum(g_.checksum_seed, bitmap));
    uint32_t used = 0;
    for (uint32_t w = 0; w < 512; ++w) {
      used += static_cast<uint32_t>(std::popcount(reinterpret_cast<const le64*>(bitmap)[w].get()));
    }
    ASSERT_EQ(used + desc.free_blocks.get(), format::kGroupBlocks) << group;
    for (uint64_t b = first.value; b < first.value + format::kGroupBlocks; ++b) {
      const bool is_used = b < g_.data_start.value + kBlocksUsedInData || b >= g_.replica().value;
      ASSERT_EQ(bit(b), is_used) << "block " << b;
    }
  }
  EXPECT_EQ(total_free, g_.replica() - g_.data_start - kBlocksUsedInData);
  EXPECT_LE(with_bitmap, g_.data_start.value / format::kGroupBlocks + 3);  // nothing grows with free space
}

TEST_P(MakePoolSizeTest, ReplicaIsAtTheEnd) {
  EXPECT_EQ(g_.block_count, medium_.block_count());
  EXPECT_EQ(std::memcmp(medium_.block(format::kSuperblockBlock), medium_.block(g_.replica()), kBlockSize), 0);
}

TEST_P(MakePoolSizeTest, RootDirectoryIsReachable) {
  const auto& root = *medium_.as<format::RootBlock>(offset_of(format::kRootBlock));
  const uint32_t seed = g_.checksum_seed;
  const format::Inode& file = root.inode_file;
  ASSERT_TRUE(format::is_sealed(seed, Unit::kInode, &file));
  EXPECT_EQ(file.ino.get(), 0U);
  EXPECT_EQ(file.mode.get(), S_IFREG | 0600);
  ASSERT_EQ(file.payload_kind, format::kPayloadInlineExtents);
  ASSERT_EQ(file.payload_count, 1);
  format::Extent extent;
  std::memcpy(&extent, file.payload, sizeof extent);
  EXPECT_EQ(extent.file_block.get(), 0U);
  EXPECT_EQ(extent.count.get(), 1U);
  EXPECT_EQ(extent.flags.get(), 0U);
  ASSERT_TRUE(g_.is_data(DeviceBlock(extent.device_block.get()), 1));
  EXPECT_TRUE(bit(extent.device_block.get()));

  const std::byte* chunk = medium_.block(DeviceBlock(extent.device_block.get()));
  const auto& header = *reinterpret_cast<const format::ChunkHeader*>(chunk);
  ASSERT_TRUE(format::is_sealed(seed, Unit::kChunk, &header));
  EXPECT_EQ(header.magic.get(), format::kChunkMagic);
  EXPECT_EQ(header.chunk.get(), 0U);
  EXPECT_EQ(header.used_mask.get(), 3U);
  const auto* slots = reinterpret_cast<const format::Inode*>(chunk);
  ASSERT_TRUE(format::is_sealed(seed, Unit::kInode, &slots[1]));
  EXPECT_EQ(slots[1].ino.get(), 1U);
  EXPECT_EQ(slots[1].mode.get(), S_IFDIR | 0755);
  EXPECT_EQ(slots[1].nlink.get(), 2U);
  EXPECT_EQ(slots[1].parent.get(), 1U);
  EXPECT_EQ(slots[1].generation.get(), 1U);
  EXPECT_EQ(slots[1].payload_kind, format::kPayloadDirectory);
  EXPECT_NE(slots[1].btime_s.get(), 0U);
  for (uint32_t s = 2; s < format::kInodesPerChunk; ++s) EXPECT_EQ(slots[s].mode.get(), 0U);
}

TEST_P(MakePoolSizeTest, ShardsAndJournalAreReady) {
  const auto& root = *medium_.as<format::RootBlock>(offset_of(format::kRootBlock));
  for (uint32_t s = 0; s < format::kInodeShards; ++s) {
    const format::InodeShard& shard = root.shard[s];
    ASSERT_TRUE(format::is_sealed(g_.checksum_seed, Unit::kShard, &shard));
    EXPECT_EQ(shard.next_chunk.get(), s == 0 ? 1U : 0U);
    EXPECT_EQ(shard.partial_head.get(), s == 0 ? 1U : 0U);
    EXPECT_EQ(shard.inodes_used.get(), s == 0 ? 1U : 0U);
    EXPECT_EQ(shard.orphan_block.get(), 0U);
  }
  const auto& control = *medium_.as<format::JournalControl>(offset_of(format::kJournalControlBlock));
  for (const format::JournalSlot* slot : {&control.slot_a, &control.slot_b}) {
    EXPECT_EQ(slot->checksum.get(), format::checksum_without(g_.checksum_seed, slot, sizeof *slot, 0));
    EXPECT_EQ(slot->state.get(), format::kJournalClean);
    EXPECT_EQ(slot->tail.get(), 0U);
    EXPECT_NE(slot->epoch.get(), 0U);
  }
  EXPECT_EQ(control.slot_a.sequence.get(), 1U);
  EXPECT_EQ(control.slot_b.sequence.get(), 0U);
}

constexpr uint64_t kSize = 16 << 20;

MakeOptions fixed_options() {
  MakeOptions options;
  options.label = "scratch";
  options.uuid.fill(0x5A);
  options.hash_key.fill(0xA5);
  options.journal_epoch = 77;
  options.root_uid = 1000;
  options.root_gid = 100;
  options.root_mode = 01777;
  options.time = {1600000000, 123456789};
  return options;
}

TEST(MakePoolTest, GivenOptionsAreWhatThePoolHas) {
  MemoryMedium medium(kSize);
  ASSERT_TRUE(make_pool(medium, fixed_options()));
  const auto loaded = media::load_superblock(medium);
  ASSERT_TRUE(loaded);
  EXPECT_STREQ(reinterpret_cast<const char*>(loaded->raw.label), "scratch");
  EXPECT_EQ(loaded->raw.uuid[15], 0x5A);
  EXPECT_EQ(loaded->raw.created_s.get(), 1600000000U);
  EXPECT_EQ(loaded->geometry.hash_key[1], 0xA5A5A5A5A5A5A5A5U);
  const auto& root = *medium.as<format::Inode>(offset_of(loaded->geometry.data_start) + format::kInodeSize);
  EXPECT_EQ(root.uid.get(), 1000U);
  EXPECT_EQ(root.gid.get(), 100U);
  EXPECT_EQ(root.mode.get(), S_IFDIR | 01777);
  EXPECT_EQ(root.mtime_ns.get(), 123456789U);
}

TEST(MakePoolTest, SameOptionsSameBytes) {
  MemoryMedium one(kSize);
  MemoryMedium other(kSize);
  ASSERT_TRUE(make_pool(one, fixed_options()));
  ASSERT_TRUE(make_pool(other, fixed_options()));
  EXPECT_EQ(std::memcmp(one.at(0), other.at(0), kSize), 0);
}

TEST(MakePoolTest, ChosenIdentitiesDiffer) {
  MemoryMedium one(kSize);
  MemoryMedium other(kSize);
  ASSERT_TRUE(make_pool(one, {}));
  ASSERT_TRUE(make_pool(other, {}));
  const auto a = media::load_superblock(one);
  const auto b = media::load_superblock(other);
  EXPECT_NE(std::memcmp(a->raw.uuid, b->raw.uuid, 16), 0);
  EXPECT_NE(a->geometry.hash_key, b->geometry.hash_key);
  EXPECT_EQ(a->raw.uuid[6] & 0xF0, 0x40);  // a random UUID by the book
  EXPECT_EQ(a->raw.uuid[8] & 0xC0, 0x80);
}

TEST(MakePoolTest, BadOptionsAreRefusedAndNothingIsWritten) {
  const auto refused = [](uint64_t size, const MakeOptions& options, const char* text) {
    MemoryMedium medium(size);
    std::string why;
    const Status made = make_pool(medium, options, &why);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error(), Error::kInvalid);
    EXPECT_THAT(why, HasSubstr(text));
    EXPECT_EQ(medium.counters().stores, 0U);
  };
  MakeOptions options;
  refused((8 << 20) - 1, options, "at least 8 MiB");
  options.label = std::string(64, 'x');
  refused(kSize, options, "label");
  options.label = std::string("a\0b", 3);
  refused(kSize, options, "label");
  options = {};
  options.root_mode = S_IFDIR | 0755;
  refused(kSize, options, "root_mode");
  options = {};
  options.journal_blocks = 100;
  refused(kSize, options, "journal");
  options.journal_blocks = 4000;
  refused(kSize, options, "journal");
  options = {};
  options.time.nanoseconds = 1'000'000'000;
  refused(kSize, options, "time");
}

TEST(MakePoolTest, AnEarlierSmallerPoolLeavesNoReplica) {
  MemoryMedium small(8 << 20);
  ASSERT_TRUE(make_pool(small, {}));
  MemoryMedium medium(kSize);
  medium.copy_from(small);
  const DeviceBlock old_replica(small.block_count() - 1);
  ASSERT_EQ(medium.as<format::Superblock>(offset_of(old_replica))->magic.get(), format::kSuperblockMagic);
  ASSERT_TRUE(make_pool(medium, {}));
  EXPECT_EQ(medium.as<format::Superblock>(offset_of(old_replica))->magic.get(), 0U);
}

// The order that lets no crash leave half of a pool: what was there is gone for certain before anything of the new
// pool is stored, and that is there for certain before the superblocks are.
TEST(MakePoolTest, SuperblocksGoFirstAndComeLast) {
  media::RecordingMedium medium(kSize);
  ASSERT_TRUE(make_pool(medium, {}));
  medium.start();
  ASSERT_TRUE(make_pool(medium, {}));
  medium.stop();
  using Kind = media::RecordingMedium::Kind;
  uint32_t phase = 0;  // drains so far
  bool is_pending = false;
  for (const auto& event : medium.events()) {
    if (event.kind == Kind::kDrain) {
      ++phase;
      is_pending = false;
      continue;
    }
    is_pending = true;
    ASSERT_EQ(event.kind, Kind::kStoreNt);  // durable by the drain alone
    const bool is_superblock = event.offset == 0 || event.offset == kSize - kBlockSize;
    EXPECT_EQ(is_superblock, phase != 1) << "offset " << event.offset << " in phase " << phase;
    if (phase == 0) {
      EXPECT_EQ(medium.data().at(event.data + 1), std::byte{0});
    }
  }
  EXPECT_EQ(phase, 3U);
  EXPECT_FALSE(is_pending);
}

}  // namespace
}  // namespace udax::mkfs
