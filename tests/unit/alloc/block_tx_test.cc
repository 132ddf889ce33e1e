// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <set>

#include "base/sync_point.h"
#include "journal/limits.h"
#include "pool_fixture.h"

namespace udax::alloc {
namespace {

using format::kGroupBlocks;

TEST(BlockTx, CommitPutsARunIntoUse) {
  PinnedPool pool(64 * Pool::kMiB);
  const SpaceStats before = pool.allocator().stats();
  BlockTx tx(pool.allocator());
  const Result<DeviceRun> run = tx.allocate(data_request(10));
  ASSERT_TRUE(run);
  EXPECT_EQ(run->count, 10U);
  EXPECT_TRUE(pool.geometry().is_data(run->start, run->count));
  EXPECT_TRUE(pool.all_on_medium(*run, false));
  ASSERT_TRUE(tx.commit());
  EXPECT_TRUE(pool.all_on_medium(*run, true));
  EXPECT_EQ(pool.allocator().stats().blocks_free, before.blocks_free - 10);
  pool.remount(false);
  EXPECT_TRUE(pool.all_on_medium(*run, true));
  EXPECT_EQ(pool.allocator().stats().blocks_free, before.blocks_free - 10);
}

TEST(BlockTx, AbortGivesBack) {
  PinnedPool pool(64 * Pool::kMiB);
  const SpaceStats before = pool.allocator().stats();
  DeviceRun first;
  {
    BlockTx tx(pool.allocator());
    const Result<DeviceRun> run = tx.allocate(data_request(100));
    ASSERT_TRUE(run);
    first = *run;
    EXPECT_EQ(pool.allocator().stats().blocks_free, before.blocks_free - 100);
  }
  EXPECT_EQ(pool.allocator().stats().blocks_free, before.blocks_free);
  EXPECT_EQ(take(pool, data_request(100)), first);
}

TEST(BlockTx, EmptyCommitsToNothing) {
  PinnedPool pool(64 * Pool::kMiB);
  const Lsn head = pool.journal().head();
  BlockTx tx(pool.allocator());
  EXPECT_TRUE(tx.commit());
  EXPECT_EQ(pool.journal().head(), head);
}

TEST(BlockTx, ReservedBlocksAreNobodyElses) {
  PinnedPool pool(64 * Pool::kMiB);
  BlockTx one(pool.allocator());
  BlockTx two(pool.allocator());
  std::set<uint64_t> seen;
  for (int i = 0; i < 50; ++i) {
    for (BlockTx* tx : {&one, &two}) {
      const Result<DeviceRun> run = tx->allocate(data_request(3, 3));
      ASSERT_TRUE(run);
      for (uint64_t b = 0; b < run->count; ++b) EXPECT_TRUE(seen.insert(run->start.value + b).second);
    }
  }
  EXPECT_TRUE(one.commit());
  EXPECT_TRUE(two.commit());
}

TEST(BlockTx, FreeOfWhatItTookGoesBackAtOnce) {
  PinnedPool pool(64 * Pool::kMiB);
  const uint64_t free = pool.allocator().stats().blocks_free;
  BlockTx tx(pool.allocator());
  const Result<DeviceRun> run = tx.allocate(data_request(20, 20));
  ASSERT_TRUE(run);
  // The middle, an end, and then the rest in one go, over the holes.
  ASSERT_TRUE(tx.free({run->start + 5, 5}));
  EXPECT_EQ(pool.allocator().stats().blocks_free, free - 15);
  EXPECT_EQ(pool.allocator().stats().blocks_pending, 0U);
  ASSERT_TRUE(tx.free({run->start + 18, 2}));
  EXPECT_EQ(pool.allocator().stats().blocks_free, free - 13);
  ASSERT_TRUE(tx.commit());
  EXPECT_TRUE(pool.all_on_medium({run->start, 5}, true));
  EXPECT_TRUE(pool.all_on_medium({run->start + 5, 5}, false));
  EXPECT_TRUE(pool.all_on_medium({run->start + 10, 8}, true));
  EXPECT_TRUE(pool.all_on_medium({run->start + 18, 2}, false));
  pool.remount(true);
  EXPECT_EQ(pool.allocator().stats().blocks_free, free - 13);
}

TEST(BlockTx, FreeOverTakenAndCommittedBlocks) {
  PinnedPool pool(64 * Pool::kMiB);
  const uint64_t free = pool.allocator().stats().blocks_free;
  const DeviceRun old = take(pool, data_request(10, 10));
  BlockTx tx(pool.allocator());
  const Result<DeviceRun> on = tx.allocate(data_request(10, 10, old.end()));
  ASSERT_TRUE(on);
  ASSERT_EQ(on->start, old.end());
  ASSERT_TRUE(tx.free({old.start + 5, 10}));  // half of each
  EXPECT_EQ(pool.allocator().stats().blocks_free, free - 15);
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(pool.allocator().stats().blocks_free, free - 10);
  EXPECT_EQ(pool.allocator().stats().blocks_pending, 5U);
  EXPECT_TRUE(pool.all_on_medium({old.start, 5}, true));
  EXPECT_TRUE(pool.all_on_medium({old.start + 5, 10}, false));
  EXPECT_TRUE(pool.all_on_medium({old.start + 15, 5}, true));
}

TEST(BlockTx, FreedBlocksWaitForTheTail) {
  PinnedPool pool(16 * Pool::kMiB);
  std::vector<DeviceRun> runs;
  for (;;) {
    const DeviceRun run = take(pool, must_succeed(64));
    if (run.count == 0) break;
    runs.push_back(run);
  }
  ASSERT_EQ(pool.allocator().stats().blocks_free, 0U);
  const DeviceRun victim = runs[runs.size() / 2];
  BlockTx tx(pool.allocator());
  ASSERT_TRUE(tx.free(victim));
  const Result<Lsn> lsn = tx.commit();
  ASSERT_TRUE(lsn);
  EXPECT_EQ(pool.allocator().stats().blocks_free, victim.count);
  // All that is free is this run, so that whoever gets a block gets one of it: not before the tail has passed.
  const DeviceRun again = take(pool, must_succeed(1));
  ASSERT_EQ(again.count, 1U);
  EXPECT_GE(again.start, victim.start);
  EXPECT_LT(again.start, victim.end());
  EXPECT_GT(pool.journal().tail(), *lsn);
}

TEST(BlockTx, PendingBlocksAreNotHandedOutWhileThereAreOthers) {
  PinnedPool pool(64 * Pool::kMiB);
  const DeviceRun run = take(pool, data_request(8, 8));
  const Lsn lsn = give(pool, run);
  ASSERT_LE(pool.journal().tail(), lsn);
  EXPECT_EQ(pool.allocator().stats().blocks_pending, 8U);
  for (int i = 0; i < 20; ++i) {
    const DeviceRun other = take(pool, data_request(8, 8, run.start));
    if (pool.journal().tail() > lsn) break;
    EXPECT_TRUE(other.end() <= run.start || other.start >= run.end());
  }
  ASSERT_TRUE(pool.allocator().reclaim());
  EXPECT_GT(pool.journal().tail(), lsn);
  EXPECT_EQ(pool.allocator().stats().blocks_pending, 0U);
  EXPECT_EQ(take(pool, data_request(8, 8, run.start)), run);
}

// The negative control of the two above: without the safeguard they would see what they look for.
TEST(BlockTx, PendingBlocksAreHandedOutWhenTheTailIsIgnored) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "built without knobs";
  const sync_point::ScopedKnob knob("alloc.ignore_tail");
  PinnedPool pool(64 * Pool::kMiB);
  const DeviceRun run = take(pool, data_request(8, 8));
  const Lsn lsn = give(pool, run);
  EXPECT_EQ(take(pool, data_request(8, 8, run.start)), run);
  EXPECT_LE(pool.journal().tail(), lsn);
}

TEST(BlockTx, MuchPendingMovesTheTail) {
  PinnedPool pool(64 * Pool::kMiB);
  const uint64_t free = pool.allocator().stats().blocks_free;
  const DeviceRun run = take(pool, data_request(free / 4, free / 4));
  ASSERT_GT(run.count, 0U);
  give(pool, run);
  EXPECT_EQ(pool.allocator().stats().blocks_pending, 0U);
  EXPECT_EQ(pool.allocator().stats().blocks_free, free);
}

TEST(BlockTx, DoubleFreeIsCorruptionAndChangesNothing) {
  PinnedPool pool(64 * Pool::kMiB);
  const DeviceRun run = take(pool, data_request(8, 8));
  const SpaceStats before = pool.allocator().stats();
  BlockTx tx(pool.allocator());
  const Result<DeviceRun> other = tx.allocate(data_request(4));
  ASSERT_TRUE(other);
  ASSERT_TRUE(tx.free({run.start, 4}));
  ASSERT_TRUE(tx.free({run.start + 3, 2}));
  const Result<Lsn> lsn = tx.commit();
  ASSERT_FALSE(lsn);
  EXPECT_EQ(lsn.error(), Error::kCorrupted);
  EXPECT_EQ(pool.allocator().stats().blocks_free, before.blocks_free);
  EXPECT_EQ(pool.allocator().stats().blocks_pending, 0U);
  EXPECT_TRUE(pool.all_on_medium(run, true));
  EXPECT_TRUE(pool.all_on_medium(*other, false));
  give(pool, run);  // the group still works
}

TEST(BlockTx, FreeOutOfBoundsIsCorruption) {
  PinnedPool pool(64 * Pool::kMiB);
  BlockTx tx(pool.allocator());
  const media::Geometry& g = pool.geometry();
  for (const DeviceRun run : {DeviceRun{DeviceBlock(0), 1}, DeviceRun{g.data_start - 1, 2},
                              DeviceRun{g.replica(), 1}, DeviceRun{g.replica() - 1, 2}, DeviceRun{g.data_start, 0},
                              DeviceRun{g.data_start, ~uint64_t{0}}, DeviceRun{DeviceBlock(~uint64_t{0}), 5}}) {
    const Status freed = tx.free(run);
    ASSERT_FALSE(freed);
    EXPECT_EQ(freed.error(), Error::kCorrupted);
  }
}

TEST(BlockTx, FreesMetadataWithItsShadow) {
  PinnedPool pool(64 * Pool::kMiB);
  BlockTx tx(pool.allocator());
  const Result<DeviceBlock> b = tx.allocate_block(Purpose::kMetadata, kNoBlock);
  ASSERT_TRUE(b);
  ASSERT_TRUE(tx.tx().create_block(*b, format::kKindXattr, 1));
  ASSERT_TRUE(tx.free_metadata(*b));
  ASSERT_TRUE(tx.commit());
  EXPECT_FALSE(pool.used_on_medium(*b));
  EXPECT_FALSE(pool.meta().read(*b, format::kKindXattr, 1));
}

TEST(BlockTx, FreeGivesAgainWhenItsGroupsAreTooMany) {
  constexpr uint64_t kGroups = journal::kGroupsPerTx + 4;
  PinnedPool pool(kGroups * 128 * Pool::kMiB);
  std::vector<DeviceRun> runs;
  for (uint64_t g = 1; g < kGroups; ++g) {
    runs.push_back(take_region(pool, g));
  }
  BlockTx tx(pool.allocator());
  for (uint64_t i = 0; i < journal::kGroupsPerTx; ++i) ASSERT_TRUE(tx.free({runs[i].start, 4}));
  EXPECT_TRUE(tx.nearly_full());
  const Status more = tx.free(runs[journal::kGroupsPerTx]);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error(), Error::kAgain);
  // What is within the groups it has goes on.
  EXPECT_TRUE(tx.free({runs[0].start + 4, 508}));
  const Result<DeviceRun> within =
      tx.allocate(data_request(4, 4, DeviceBlock((kGroups - 1) * kGroupBlocks + 600)));
  ASSERT_TRUE(within);
  EXPECT_LT(within->start.value / kGroupBlocks, 1 + journal::kGroupsPerTx);
  ASSERT_TRUE(tx.commit());
  EXPECT_TRUE(pool.all_on_medium(runs[0], false));
  EXPECT_TRUE(pool.all_on_medium(runs[journal::kGroupsPerTx], true));
}

TEST(BlockTx, FreeOfTheLargestRunFits) {
  constexpr uint64_t kGroups = journal::kGroupsPerTx + 2;
  PinnedPool pool(kGroups * 128 * Pool::kMiB);
  constexpr uint64_t kMost = uint64_t{journal::kGroupsPerTx - 1} * kGroupBlocks;
  const DeviceBlock start(kGroupBlocks + 77);
  for (uint64_t g = 1; g < kGroups; ++g) {
    DeviceBlock goal(g * kGroupBlocks);
    DeviceRun run;
    do {
      run = take(pool, data_request(kGroupBlocks, 1, goal));
    } while (run.count > 0 && run.start.value / kGroupBlocks == g && run.count < kGroupBlocks);
    ASSERT_EQ(run.start.value / kGroupBlocks, g) << "group " << g;
    if (g + 2 == kGroups) break;  // leaves room
  }
  const uint64_t free = pool.allocator().stats().blocks_free;
  BlockTx tx(pool.allocator());
  Status freed = tx.free({start, kMost + kGroupBlocks});
  ASSERT_FALSE(freed);
  EXPECT_EQ(freed.error(), Error::kAgain);
  ASSERT_TRUE(tx.free({start, kMost}));
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(pool.allocator().stats().blocks_free, free + kMost);
  EXPECT_TRUE(pool.all_on_medium({start, 1}, false));
  EXPECT_FALSE(pool.used_on_medium(start + (kMost - 1)));
  EXPECT_TRUE(pool.used_on_medium(start + kMost));
  EXPECT_TRUE(pool.used_on_medium(start - 1));
}

TEST(BlockTx, AllocateGivesAgainWhenItsGroupsAreFull) {
  constexpr uint64_t kGroups = journal::kGroupsPerTx + 4;
  PinnedPool pool(kGroups * 128 * Pool::kMiB);
  BlockTx tx(pool.allocator());
  for (uint64_t g = 1; g <= journal::kGroupsPerTx; ++g) {
    const Result<DeviceRun> run =
        tx.allocate(data_request(kGroupBlocks, kGroupBlocks, DeviceBlock(g * kGroupBlocks)));
    ASSERT_TRUE(run);
    ASSERT_EQ(run->count, kGroupBlocks);
  }
  const uint64_t free = pool.allocator().stats().blocks_free;
  const Result<DeviceRun> more = tx.allocate(data_request(1));
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error(), Error::kAgain);
  EXPECT_EQ(pool.allocator().stats().blocks_free, free);
  ASSERT_TRUE(tx.commit());
}

TEST(BlockTx, GroupsNeverWrittenGetTheirBitmaps) {
  PinnedPool pool(3 * 128 * Pool::kMiB);
  ASSERT_NE(pool.desc(1).flags & format::kGroupUninit, 0U);
  // What lies where the bitmap will be must not count.
  std::memset(pool.medium().raw() + offset_of(pool.geometry().bitmap_block(1)), 0xA5, kBlockSize);
  const DeviceRun run = take_region(pool, 1);
  EXPECT_EQ(pool.desc(1).flags & format::kGroupUninit, 0U);
  EXPECT_EQ(pool.desc(1).free_blocks, kGroupBlocks - 512);
  EXPECT_TRUE(pool.all_on_medium(run, true));
  EXPECT_FALSE(pool.used_on_medium(run.end()));
  pool.remount(false);
  const DeviceRun next = take(pool, data_request(5, 5, run.end()));
  EXPECT_EQ(next.start, run.end());
}

TEST(BlockTx, FreeInAGroupNeverWrittenIsCorruption) {
  PinnedPool pool(3 * 128 * Pool::kMiB);
  BlockTx tx(pool.allocator());
  ASSERT_TRUE(tx.free({DeviceBlock(kGroupBlocks + 9), 1}));
  const Result<Lsn> lsn = tx.commit();
  ASSERT_FALSE(lsn);
  EXPECT_EQ(lsn.error(), Error::kCorrupted);
  EXPECT_NE(pool.desc(1).flags & format::kGroupUninit, 0U);
  EXPECT_GT(take(pool, data_request(5, 5, DeviceBlock(kGroupBlocks))).count, 0U);
}

TEST(BlockTx, RefusesRequestsThatCannotBe) {
  PinnedPool pool(64 * Pool::kMiB);
  BlockTx tx(pool.allocator());
  EXPECT_EQ(tx.allocate(data_request(4, 0)).error(), Error::kInvalid);
  EXPECT_EQ(tx.allocate(data_request(4, 5)).error(), Error::kInvalid);
  EXPECT_EQ(tx.allocate(data_request(kGroupBlocks + 1, kGroupBlocks + 1)).error(), Error::kNoSpace);
  const Result<DeviceRun> anywhere = tx.allocate(data_request(4, 4, DeviceBlock(~uint64_t{0} - 7)));
  EXPECT_TRUE(anywhere);
}

}  // namespace
}  // namespace udax::alloc
