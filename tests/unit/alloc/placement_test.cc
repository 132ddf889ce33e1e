// SPDX-License-Identifier: BSD-3-Clause
//
// Where blocks come from: contiguity, alignment, and how long whole 2 MiB regions last.
#include <cstdio>
#include <random>
#include <set>

#include "pool_fixture.h"

namespace udax::alloc {
namespace {

using format::kGroupBlocks;

bool huge_capable(DeviceRun run, uint64_t file_block) {
  return run.count >= 512 && run.start.value % 512 == file_block % 512 &&
         run.count >= (512 - file_block % 512) % 512 + 512;
}

TEST(Placement, AGrowingFileStaysInOnePiece) {
  PinnedPool pool(64 * Pool::kMiB);
  DeviceRun file = take(pool, data_request(4, 4, kNoBlock, 0));
  for (uint64_t at = 4; at < 2000; at += 4) {
    const DeviceRun more = take(pool, data_request(4, 4, file.end(), at));
    ASSERT_EQ(more.start, file.end());
    file.count += more.count;
  }
}

TEST(Placement, AGrowingFileGoesOnInTheNextGroup) {
  PinnedPool pool(3 * 128 * Pool::kMiB);
  const DeviceBlock border(2 * kGroupBlocks);
  DeviceRun last = take(pool, data_request(kGroupBlocks, kGroupBlocks, DeviceBlock(kGroupBlocks), 0));
  ASSERT_EQ(last.end(), border);
  EXPECT_EQ(take(pool, data_request(8, 8, border, kGroupBlocks)).start, border);
}

TEST(Placement, SmallRequestsShareARegion) {
  PinnedPool pool(256 * Pool::kMiB);
  take(pool, data_request(1));
  const uint64_t whole = pool.allocator().stats().huge_free;
  uint64_t taken = 0;
  for (int i = 0; i < 40; ++i) taken += take(pool, data_request(10, 10)).count;
  EXPECT_EQ(taken, 400U);
  EXPECT_GE(pool.allocator().stats().huge_free + 1, whole);
}

TEST(Placement, AGoalThatGoesOnFromNothingBreaksNoRegion) {
  PinnedPool pool(512 * Pool::kMiB);
  const DeviceRun first = take(pool, data_request(600, 600, DeviceBlock(kGroupBlocks), 0));
  ASSERT_EQ(first, (DeviceRun{DeviceBlock(kGroupBlocks), 600}));
  const uint64_t whole = pool.allocator().stats().huge_free;
  const DeviceRun second = take(pool, data_request(1, 1, first.start + 20 * 512 + 100));
  EXPECT_EQ(pool.allocator().stats().huge_free, whole);
  EXPECT_EQ(second.start, first.end());
}

TEST(Placement, LargeRequestsAreCongruent) {
  PinnedPool pool(1024 * Pool::kMiB);
  take(pool, data_request(3));
  for (const uint64_t file_block : {0U, 1U, 100U, 511U, 512U, 5000U}) {
    uint64_t at = file_block;
    const uint64_t end = file_block + 2048;
    DeviceBlock goal = kNoBlock;
    uint64_t huge = 0;
    while (at < end) {
      const DeviceRun run = take(pool, data_request(end - at, 1, goal, at));
      ASSERT_GT(run.count, 0U);
      if (huge_capable(run, at)) huge += (run.count - (512 - at % 512) % 512) / 512;
      at += run.count;
      goal = run.end();
    }
    EXPECT_EQ(huge, (end / 512) - (file_block + 511) / 512) << "file block " << file_block;
  }
}

TEST(Placement, ALargeRequestInOnePieceWithItsLead) {
  PinnedPool pool(256 * Pool::kMiB);
  const DeviceRun run = take(pool, data_request(1124, 1124, kNoBlock, 412));  // lead 100, two regions
  ASSERT_EQ(run.count, 1124U);
  EXPECT_EQ(run.start.value % 512, 412U);
}

TEST(Placement, AFileThatWasPushedAsideIsCongruentFromItsNextBorderOn) {
  PinnedPool pool(256 * Pool::kMiB);
  take(pool, data_request(1));  // what groups have is known when they have been looked at
  DeviceRun file = take(pool, data_request(256, 256, kNoBlock, 0));
  ASSERT_EQ(file.start.value % 512, 0U);
  ASSERT_EQ(take(pool, data_request(1, 1, file.end(), 256)).start, file.end());  // another file's
  file = take(pool, data_request(256, 256, file.end(), 256));
  ASSERT_NE(file.start.value % 512, 256U);
  for (uint64_t at = 512; at < 10 * 512; at += 256) {
    file = take(pool, data_request(256, 256, file.end(), at));
    EXPECT_EQ(file.start.value % 512, at % 512) << "file block " << at;
  }
}

TEST(Placement, WhatIsSureToBeLargeGetsWholeRegionsWhileThereAreAny) {
  PinnedPool pool(256 * Pool::kMiB);
  std::vector<DeviceRun> halves;
  take(pool, data_request(1));
  ASSERT_GT(pool.allocator().stats().huge_free, 8U);
  while (pool.allocator().stats().huge_free > 8) {
    const DeviceRun run = take(pool, data_request(512, 512, kNoBlock, 0));
    halves.push_back({run.start + 256, 256});
  }
  for (const DeviceRun half : halves) give(pool, half);
  ASSERT_TRUE(pool.allocator().reclaim());
  const SpaceStats before = pool.allocator().stats();
  ASSERT_LT(before.huge_free * 512, before.blocks_free / 4) << "whole regions must be few";
  // A first piece may be all there will be: it fills what is broken.
  const DeviceRun first = take(pool, data_request(256, 256, kNoBlock, 0));
  EXPECT_EQ(pool.allocator().stats().huge_free, before.huge_free);
  // Of a file of 2 MiB more is to be expected.
  const DeviceRun later = take(pool, data_request(256, 256, first.end(), 512));
  EXPECT_EQ(later.start.value % 512, 0U);
  EXPECT_EQ(pool.allocator().stats().huge_free + 1, before.huge_free);
  EXPECT_EQ(take(pool, data_request(256, 256, later.end(), 768)).start, later.end());
}

TEST(Placement, MetadataKeepsToItsRegions) {
  PinnedPool pool(256 * Pool::kMiB);
  std::set<uint64_t> metadata;
  std::set<uint64_t> data;
  for (int i = 0; i < 100; ++i) {
    BlockTx tx(pool.allocator());
    const Result<DeviceBlock> b = tx.allocate_block(Purpose::kMetadata, kNoBlock);
    const Result<DeviceRun> run = tx.allocate(data_request(4, 4));
    ASSERT_TRUE(b);
    ASSERT_TRUE(run);
    metadata.insert(b->value / 512);
    data.insert(run->start.value / 512);
    ASSERT_TRUE(tx.commit());
  }
  EXPECT_LE(metadata.size(), 2U);
  EXPECT_LE(data.size(), 3U);
}

TEST(Placement, ProcessorsKeepApartWhileThereIsRoom) {
  Pool pool(1024 * Pool::kMiB);
  std::set<uint64_t> groups[2];
  for (int round = 0; round < 100; ++round) {
    for (int cpu = 0; cpu < 2; ++cpu) {
      const PinToCpu pin(cpu);
      if (!pin.pinned()) GTEST_SKIP() << "cannot run on processor " << cpu;
      groups[cpu].insert(take(pool, data_request(8, 8)).start.value / kGroupBlocks);
    }
  }
  EXPECT_EQ(groups[0].size(), 1U);
  EXPECT_EQ(groups[1].size(), 1U);
  EXPECT_NE(groups[0], groups[1]);
}

TEST(Placement, ProcessorsShareWhenRegionsAreFew) {
  Pool pool(256 * Pool::kMiB);
  take(pool, data_request(1));  // what groups have is known when they have been looked at
  ASSERT_GT(pool.allocator().stats().huge_free, 8U);
  while (pool.allocator().stats().huge_free > 8) take(pool, data_request(512, 512, kNoBlock, 0));
  for (int round = 0; round < 40; ++round) {
    for (int cpu = 0; cpu < 2; ++cpu) {
      const PinToCpu pin(cpu);
      if (!pin.pinned()) GTEST_SKIP() << "cannot run on processor " << cpu;
      ASSERT_EQ(take(pool, data_request(4, 4)).count, 4U);
    }
  }
  EXPECT_GE(pool.allocator().stats().huge_free, 7U);
}

// A pool that is aged by small files coming and going, three quarters full, keeps most of its free space in whole
// regions, and a large file still gets aligned ones.
TEST(Placement, AnAgedPoolStillHasAlignedRuns) {
  PinnedPool pool(512 * Pool::kMiB);
  std::mt19937 random(20240501);
  std::vector<DeviceRun> live;
  uint64_t used = 0;
  const uint64_t free_at_first = pool.allocator().stats().blocks_free;
  const uint64_t fill = free_at_first * 3 / 4;
  for (int step = 0; step < 60000; ++step) {
    if (used < fill && (live.empty() || random() % 100 < 65)) {
      const DeviceRun run = take(pool, data_request(1 + random() % 32));
      ASSERT_GT(run.count, 0U);
      live.push_back(run);
      used += run.count;
    } else {
      const size_t at = random() % live.size();
      used -= live[at].count;
      give(pool, live[at]);
      live[at] = live.back();
      live.pop_back();
    }
  }
  ASSERT_TRUE(pool.allocator().reclaim());
  const SpaceStats s = pool.allocator().stats();
  const double in_whole = static_cast<double>(s.huge_free * 512) / static_cast<double>(s.blocks_free);
  RecordProperty("percent_of_free_in_whole_regions", static_cast<int>(in_whole * 100));
  RecordProperty("percent_used", static_cast<int>(used * 100 / free_at_first));
  std::printf("used %d %%, of the free space in whole regions %d %%\n",
              static_cast<int>(used * 100 / free_at_first), static_cast<int>(in_whole * 100));
  EXPECT_GE(in_whole, 0.80);

  uint64_t huge = 0;
  uint64_t want = s.huge_free * 512 / 2;
  for (uint64_t at = 0; at < want;) {
    const DeviceRun run = take(pool, data_request(want - at, 1, kNoBlock, at));
    ASSERT_GT(run.count, 0U);
    if (huge_capable(run, at)) huge += run.count / 512;
    at += run.count;
  }
  EXPECT_GE(huge, want / 512 * 95 / 100);
}

}  // namespace
}  // namespace udax::alloc
