// SPDX-License-Identifier: BSD-3-Clause
//
// Space to the last block: exhaustion, the reserve, and what is not enough.
#include <set>

#include "pool_fixture.h"

namespace udax::alloc {
namespace {

TEST(Space, ToTheLastBlockAndBack) {
  PinnedPool pool(200 * Pool::kMiB);
  const uint64_t free = pool.allocator().stats().blocks_free;
  std::vector<DeviceRun> runs;
  std::set<uint64_t> seen;
  for (uint64_t i = 0;; ++i) {
    const DeviceRun run = take(pool, must_succeed(1 + i * i % 300));
    if (run.count == 0) break;
    runs.push_back(run);
    for (uint64_t b = 0; b < run.count; ++b) ASSERT_TRUE(seen.insert(run.start.value + b).second);
  }
  EXPECT_EQ(seen.size(), free);
  EXPECT_EQ(pool.allocator().stats().blocks_free, 0U);
  EXPECT_EQ(pool.allocator().stats().blocks_available, 0U);
  BlockTx tx(pool.allocator());
  EXPECT_EQ(tx.allocate(must_succeed(1)).error(), Error::kNoSpace);
  for (const DeviceRun& run : runs) give(pool, run);
  EXPECT_EQ(pool.allocator().stats().blocks_free, free);
  ASSERT_TRUE(pool.allocator().reclaim());
  EXPECT_EQ(pool.allocator().stats().blocks_pending, 0U);
  pool.remount(true);
  EXPECT_EQ(pool.allocator().stats().blocks_free, free);
}

TEST(Space, TheReserveIsForThoseWhoMustSucceed) {
  PinnedPool pool(64 * Pool::kMiB);
  const uint64_t reserve = pool.geometry().reserved_blocks;
  ASSERT_GT(reserve, 0U);
  const uint64_t free = pool.allocator().stats().blocks_free;
  uint64_t taken = 0;
  for (;;) {
    const DeviceRun run = take(pool, data_request(100));
    if (run.count == 0) break;
    taken += run.count;
  }
  EXPECT_EQ(taken, free - reserve);
  EXPECT_EQ(pool.allocator().stats().blocks_free, reserve);
  EXPECT_EQ(pool.allocator().stats().blocks_available, 0U);
  BlockTx tx(pool.allocator());
  EXPECT_EQ(tx.allocate(data_request(1)).error(), Error::kNoSpace);
  EXPECT_EQ(tx.allocate_block(Purpose::kMetadata, kNoBlock).error(), Error::kNoSpace);
  for (uint64_t i = 0; i < reserve; ++i) ASSERT_TRUE(tx.allocate_block(Purpose::kMustSucceed, kNoBlock));
  EXPECT_EQ(tx.allocate_block(Purpose::kMustSucceed, kNoBlock).error(), Error::kNoSpace);
  tx.abort();
  EXPECT_EQ(pool.allocator().stats().blocks_free, reserve);
}

TEST(Space, GivesLessThanWantedButNotLessThanTheLeast) {
  PinnedPool pool(64 * Pool::kMiB);
  // Leaves single blocks, no two of them neighbours.
  std::vector<DeviceRun> runs;
  for (;;) {
    const DeviceRun run = take(pool, must_succeed(2));
    if (run.count == 0) break;
    runs.push_back(run);
  }
  for (const DeviceRun& run : runs) {
    if (run.start.value % 2 == 0 && run.count == 2) give(pool, {run.start, 1});
  }
  ASSERT_TRUE(pool.allocator().reclaim());
  const uint64_t free = pool.allocator().stats().blocks_free;
  ASSERT_GT(free, 1000U);
  BlockTx tx(pool.allocator());
  EXPECT_EQ(tx.allocate(data_request(2, 2)).error(), Error::kNoSpace);
  EXPECT_EQ(tx.allocate(data_request(512, 2, kNoBlock, 0)).error(), Error::kNoSpace);
  EXPECT_EQ(pool.allocator().stats().blocks_free, free);
  const Result<DeviceRun> one = tx.allocate(data_request(600, 1, kNoBlock, 0));
  ASSERT_TRUE(one);
  EXPECT_EQ(one->count, 1U);
}

TEST(Space, StatsOfAFreshPool) {
  PinnedPool pool(3 * 128 * Pool::kMiB);
  const SpaceStats s = pool.allocator().stats();
  EXPECT_EQ(s.blocks_total, pool.geometry().replica() - pool.geometry().data_start);
  EXPECT_EQ(s.blocks_free, s.blocks_total - mkfs::kBlocksUsedInData);
  EXPECT_EQ(s.blocks_available, s.blocks_free - pool.geometry().reserved_blocks);
  EXPECT_EQ(s.blocks_pending, 0U);
  EXPECT_EQ(s.groups_loaded, 0U);
  EXPECT_EQ(s.huge_free, 64U);  // the one group that is known to be all free without a look
}

TEST(Space, APoolOfThousandsOfGroupsStaysSmallInMemory) {
  // 1 TiB, of which only the descriptors and a few bitmaps are ever touched.
  PinnedPool pool(uint64_t{1} << 40);
  EXPECT_EQ(pool.geometry().group_count, 8192U);
  const DeviceRun first = take_region(pool, 1);
  for (uint64_t g = 2; g < 8000; ++g) {
    ASSERT_GT(take_region(pool, g).count, 0U);
  }
  EXPECT_LE(pool.allocator().stats().groups_loaded, 4096U + 64U);
  EXPECT_GT(pool.allocator().stats().groups_loaded, 4000U);
  // What was dropped comes back as it was.
  EXPECT_EQ(take(pool, data_request(1, 1, first.end())).start, first.end());
}

}  // namespace
}  // namespace udax::alloc
