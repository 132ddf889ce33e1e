// SPDX-License-Identifier: BSD-3-Clause
//
// Groups whose structures are broken on the medium: they are left alone, and the others go on.
#include <algorithm>

#include "pool_fixture.h"

namespace udax::alloc {
namespace {

using format::kGroupBlocks;

class BrokenGroup : public ::testing::Test {
 protected:
  static constexpr uint64_t kBroken = 1;

  BrokenGroup() : pool_(4 * 128 * Pool::kMiB) {
    run_ = take_region(pool_, kBroken);
    pool_.unmount(true);
    pool_.expect_broken(kBroken);
  }
  [[nodiscard]] std::byte* desc_image() { return pool_.medium().raw() + pool_.geometry().desc_offset(kBroken); }
  [[nodiscard]] std::byte* bitmap_image() {
    return pool_.medium().raw() + offset_of(pool_.geometry().bitmap_block(kBroken));
  }
  template <typename Edit>
  void edit_desc(Edit&& edit) {
    auto* desc = reinterpret_cast<format::GroupDesc*>(desc_image());
    edit(*desc);
    format::seal(pool_.geometry().checksum_seed, format::Unit::kGroupDesc, desc);
  }

  // Nothing of the group is handed out, changed or freed; all the rest is.
  void expect_left_alone() {
    const format::GroupDesc desc = pool_.desc(kBroken);
    const std::vector<std::byte> bitmap(bitmap_image(), bitmap_image() + kBlockSize);
    EXPECT_GT(pool_.meta().corruptions(), 0U);
    BlockTx first(pool_.allocator());
    ASSERT_TRUE(first.free(run_));
    EXPECT_TRUE(first.commit());  // a file that has blocks there can be removed
    EXPECT_EQ(pool_.allocator().stats().blocks_pending, 0U);
    for (;;) {
      Request request = must_succeed(700);
      request.goal = DeviceBlock(kBroken * kGroupBlocks + 1024);
      const DeviceRun run = take(pool_, request);
      if (run.count == 0) break;
      EXPECT_NE(run.start.value / kGroupBlocks, kBroken);
    }
    EXPECT_EQ(pool_.allocator().stats().blocks_free, 0U);
    for (const uint64_t g : {0U, 2U, 3U}) EXPECT_EQ(pool_.desc(g).free_blocks, 0U);
    EXPECT_EQ(std::memcmp(desc_image(), &desc, sizeof desc), 0);
    EXPECT_TRUE(std::equal(bitmap.begin(), bitmap.end(), bitmap_image()));
  }
  // Uses the group once, so that it is found out.
  void look() {
    const DeviceRun run = take(pool_, data_request(4, 4, run_.end()));
    EXPECT_GT(run.count, 0U);
    EXPECT_NE(run.start.value / kGroupBlocks, kBroken);
  }

  Pool pool_;
  DeviceRun run_;
};

TEST_F(BrokenGroup, DescriptorWithAWrongChecksum) {
  desc_image()[5] ^= std::byte{1};
  pool_.mount();
  expect_left_alone();
}

TEST_F(BrokenGroup, DescriptorOfAnotherGroup) {
  edit_desc([](format::GroupDesc& d) { d.group = kBroken + 1; });
  pool_.mount();
  expect_left_alone();
}

TEST_F(BrokenGroup, DescriptorWithMoreFreeThanThereIs) {
  edit_desc([](format::GroupDesc& d) { d.free_blocks = kGroupBlocks + 1; });
  pool_.mount();
  expect_left_alone();
}

TEST_F(BrokenGroup, UninitButNotAllFree) {
  edit_desc([](format::GroupDesc& d) { d.flags = format::kGroupUninit; });
  pool_.mount();
  expect_left_alone();
}

TEST_F(BrokenGroup, FreeCountThatIsNotTheBitmaps) {
  edit_desc([](format::GroupDesc& d) { d.free_blocks = d.free_blocks - 1; });
  pool_.mount();
  look();
  expect_left_alone();
}

TEST_F(BrokenGroup, BitmapWithAWrongChecksum) {
  bitmap_image()[100] ^= std::byte{1};
  pool_.mount();
  look();
  expect_left_alone();
}

TEST_F(BrokenGroup, FoundOutByAFree) {
  bitmap_image()[100] ^= std::byte{1};
  pool_.mount();
  BlockTx tx(pool_.allocator());
  ASSERT_TRUE(tx.free(run_));
  EXPECT_TRUE(tx.commit());
  expect_left_alone();
}

TEST_F(BrokenGroup, DescriptorThatGoesBadWhileInUse) {
  pool_.mount();
  {
    BlockTx tx(pool_.allocator());
    const Result<DeviceRun> run = tx.allocate(data_request(4, 4, run_.end()));
    ASSERT_TRUE(run);
    ASSERT_EQ(run->start, run_.end());
    const Result<DeviceRun> other = tx.allocate(data_request(512, 512, DeviceBlock(2 * kGroupBlocks), 0));
    ASSERT_TRUE(other);
    desc_image()[5] ^= std::byte{1};
    const Result<Lsn> lsn = tx.commit();
    ASSERT_FALSE(lsn);
    EXPECT_EQ(lsn.error(), Error::kCorrupted);
  }
  expect_left_alone();
}

TEST(Corruption, FirstAndLastGroupClaimToBeUninit) {
  Pool pool(3 * 128 * Pool::kMiB);
  pool.unmount(true);
  for (const uint64_t g : {0U, 2U}) {
    auto* desc = reinterpret_cast<format::GroupDesc*>(pool.medium().raw() + pool.geometry().desc_offset(g));
    desc->flags = format::kGroupUninit;
    desc->free_blocks = kGroupBlocks;
    format::seal(pool.geometry().checksum_seed, format::Unit::kGroupDesc, desc);
  }
  pool.mount();
  EXPECT_EQ(pool.meta().corruptions(), 2U);
  EXPECT_EQ(pool.allocator().stats().blocks_free, kGroupBlocks);
  for (;;) {
    const DeviceRun run = take(pool, must_succeed(300));
    if (run.count == 0) break;
    EXPECT_EQ(run.start.value / kGroupBlocks, 1U);
  }
}

TEST(Corruption, BitmapSealedButWithMetadataBlocksFree) {
  Pool pool(64 * Pool::kMiB);
  pool.unmount(true);
  auto* image = pool.medium().raw() + offset_of(pool.geometry().bitmap_block(0));
  image[0] = std::byte{0};
  auto* desc = reinterpret_cast<format::GroupDesc*>(pool.medium().raw() + pool.geometry().desc_offset(0));
  desc->bitmap_checksum = format::bitmap_checksum(pool.geometry().checksum_seed, image);
  desc->free_blocks = desc->free_blocks + 8;
  format::seal(pool.geometry().checksum_seed, format::Unit::kGroupDesc, desc);
  pool.mount();
  EXPECT_EQ(take(pool, must_succeed(1)).count, 0U);
  EXPECT_GT(pool.meta().corruptions(), 0U);
  EXPECT_EQ(pool.allocator().stats().blocks_free, 0U);
}

}  // namespace
}  // namespace udax::alloc
